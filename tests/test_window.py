"""network/window.py and unfold.py: patches, regions, and a network written out in other arrays."""

import itertools
import tracemalloc
from dataclasses import replace

import model
from model import Network
from support.network import unfold
from support.network.window import Window, mirror_components

import numpy as np
import pytest
from networks import batch, error, make, make_window

WINDOWS = [(8, 2), (8, 8), (12, 10), (24, 8), (31, 1), (1, 31), (32, 1)]


def mirrored(images):
    return images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)


def symmetric_window(size, stride, regions, kind):
    """A window whose map sees mirror images alike."""
    flip = mirror_of(size)
    mean = np.random.default_rng(1).random(3 * size**2)
    mean = (mean + mean[flip]) / 2
    cosines = np.cos(np.arange(3 * size**2)[:, None] * np.arange(1, 10) * 0.37)
    P = np.hstack([cosines[:, :6] + cosines[flip, :6], cosines[:, 6:] - cosines[flip, 6:]])
    return Window(size, stride, regions, mean, P @ np.random.default_rng(2).normal(size=(9, 9)))


def mirror_of(size):
    return np.arange(3 * size**2).reshape(3, size, size)[:, :, ::-1].ravel()


# ---- Places and regions ------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride"), WINDOWS)
def test_patches_are_what_stands_in_the_window(size, stride):
    window, (images, _) = Window(size, stride), batch(2)
    patches = window.patches(images)
    assert patches.shape == (2 * window.positions, window.pixels)
    assert window.positions == window.side**2
    square, found = images.reshape(2, 3, 32, 32), iter(patches)
    for image in square:
        for row, column in itertools.product(range(0, 33 - size, stride), repeat=2):
            assert np.array_equal(
                next(found), image[:, row : row + size, column : column + size].ravel()
            )


@pytest.mark.parametrize(
    ("side", "regions"), [(13, 3), (13, 1), (13, 13), (5, 3), (4, 2), (4, 3), (12, 4), (2, 1)]
)
def test_regions_lie_symmetrically_and_pool_means(side, regions):
    window = Window(32 - (side - 1) * 2, 2, regions)
    assert window.side == side
    square = window.region_of_row.reshape(side, side)
    assert np.array_equal(np.unique(square), np.arange(window.q))
    rows, columns = np.divmod(square, regions)
    assert np.array_equal(columns, rows.T)
    assert np.array_equal(
        columns[:, ::-1], regions - 1 - columns
    )  # the mirror image of the map is the mirrored map
    assert (np.diff(rows, axis=0) >= 0).all()
    counts = np.bincount(square.ravel())
    assert counts.max() <= counts.min() * 4
    assert window.R.shape == (window.q, window.positions)
    np.testing.assert_allclose(window.R.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(window.share[:, 0], 1 / counts, rtol=1e-7)
    assert ((window.R > 0) == (window.region_of_row == np.arange(window.q)[:, None])).all()


def test_thirteen_positions_are_cut_into_four_five_and_four():
    assert Window(8, 2, 3).region_of_row[:13].tolist() == [0] * 4 + [1] * 5 + [2] * 4


def test_the_whole_image_is_one_place():
    window = Window()
    assert (window.positions, window.q, window.pixels, window.inputs, window.side) == (
        1,
        1,
        3072,
        3072,
        1,
    )
    assert str(window) == "the whole image"
    assert str(Window(8, 2, 3)) == "8x8 filters at 169 positions 2 apart, 3x3 regions"


def test_a_network_says_what_its_hidden_units_are():
    assert "3072 -> 7 hidden units -> 10;" in repr(make())
    views = {"mirror": True, "two_sided": True}
    dense = make(make_window(dims=9, **views))
    assert "3072 -> 7 hidden units, also mirrored, two-sided -> 10;" in repr(dense)
    assert "; 220 parameters" in repr(dense)
    filters = make(make_window(8, 8, 3, dims=9, bilinear=True, **views))
    text = "7 8x8 filters at 16 positions 8 apart, 3x3 regions, also mirrored, two-sided, bilinear"
    assert text in repr(filters)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((12, 3), "filters of 12 pixels, 3 apart, can't end at the edge of 32 pixels"),
        ((33, 1), "filters of 33 pixels, 1 apart, can't end"),
        ((0, 1), "filters of 0 pixels"),
        ((-8, 1), "filters of -8 pixels"),
        ((8, 0), "8 pixels, 0 apart"),
        ((8, -2), "8 pixels, -2 apart"),
        ((8, 2, 0), "regions must be 1 to 13"),
        ((8, 2, 14), "regions must be 1 to 13"),
        ((32, 1, 2), "regions must be 1 to 1,"),
        ((8, 2, 2), "2 regions can't lie symmetrically in 13 positions"),
        ((8, 2, 1, None, None, False, False, True), "bilinear regions must be at least 2"),
        ((8, 8, 1, np.zeros(192)), "mean and P belong together"),
        ((8, 8, 1, None, np.zeros((192, 3))), "mean and P belong together"),
        ((8, 8, 1, np.zeros(192), np.zeros((191, 3))), r"P \(191, 3\) don't fit patches of 192"),
        ((8, 8, 1, np.zeros(191), np.zeros((192, 3))), r"mean \(191,\) and P"),
        ((8, 8, 1, np.zeros((192, 1)), np.zeros((192, 3))), "don't fit"),
        ((8, 8, 1, np.zeros(192), np.zeros((192, 3, 1))), "don't fit"),
        ((8, 8, 1, np.zeros(192), np.zeros(())), "don't fit"),
        ((8, 8, 1, np.zeros(192), np.zeros((192, 0))), "don't fit"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Window(*arguments)


@pytest.mark.parametrize("dims", [None, 9])
@pytest.mark.parametrize("size", [8, 32])
def test_layer_input_is_the_map_of_the_patches(size, dims):
    window, rng = make_window(size, 8 if size == 8 else 1, 1, dims), np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
    X = window.patches(images / 255)
    if dims is not None:
        X = (X - window.mean) * window.P if dims == 0 else (X - window.mean) @ window.P
    found = model.layer_input(images, window, np.float64)
    assert window.inputs == X.shape[1]
    assert error(found[:, : window.inputs], X) < 1e-14
    assert found.shape[1] - window.inputs == (size < 32)
    assert (found[:, window.inputs :] == 1).all()
    assert model.layer_input(images, window, np.float32).dtype == np.float32


# ---- The same network in other arrays ----------------------------------------------------------

VIEWS = {
    "whole, mirrored": {"dims": 9, "mirror": True},
    "whole, two-sided": {"two_sided": True},
    "whole, both": {"dims": 9, "mirror": True, "two_sided": True},
    "windows, two-sided": {"size": 8, "stride": 8, "regions": 2, "two_sided": True},
    "windows, all": {
        "size": 8,
        "stride": 6,
        "regions": 4,
        "dims": 9,
        "mirror": True,
        "two_sided": True,
        "bilinear": True,
    },
}


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("kind", VIEWS)
def test_all_views_are_written_out_in_other_arrays(kind, batchnorm):
    network, (images, _) = make(make_window(**VIEWS[kind]), 5, batchnorm=batchnorm, cap=1), batch(4)
    z2, window = network.logits(images), network.window
    one_sided = network.one_sided()
    assert not one_sided.window.two_sided
    assert error(one_sided.logits(images), z2) < 1e-12
    if window.mirror:
        assert error(network.logits(mirrored(images)), z2) < 1e-12
    if window.mirror or window.P is None:
        both = (z2 + network.logits(mirrored(images))) / 2
        assert error(network.fold_mirror().logits(images), both) < 1e-9
    plain, units = network.plain(), 2 * 5 * window.rows
    assert unfold.plain_shape(network.weights, window, 1)[0] == units == plain["W1"].shape[1]
    same = Network(units, batchnorm=batchnorm, dropout=0, dtype=np.float64)
    same.load_weights(plain)
    assert error(same.logits(images), z2) < 1e-9


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize(("stride", "regions"), [(8, 1), (8, 2), (6, 3)])
def test_mirrored_units_see_an_image_and_its_mirror_image_alike(stride, regions, batchnorm):
    network, (images, _) = (
        make(make_window(8, stride, regions, 9, mirror=True), 5, batchnorm=batchnorm),
        batch(4),
    )
    z2 = network.logits(images)
    assert error(network.logits(mirrored(images)), z2) < 1e-12
    one_sided = network.copy(window=replace(network.window, mirror=False))
    assert error((one_sided.logits(images) + one_sided.logits(mirrored(images))) / 2, z2) < 1e-12
    assert np.ptp(z2, axis=0).min() > 1e-3  # it does tell images apart
    written_out = network.fold_mirror()
    assert (written_out.hidden_size, written_out.window.mirror) == (10, False)
    assert error(written_out.logits(images), z2) < 1e-12
    plain, units = network.plain(), 2 * 5 * network.window.positions
    assert unfold.plain_shape(network.weights, network.window)[0] == units == plain["W1"].shape[1]
    same = Network(units, batchnorm=batchnorm, dropout=0, dtype=np.float64)
    same.load_weights(plain)
    assert error(same.logits(images), z2) < 1e-9


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        (lambda: replace(make_window(8, 8, 2, 9), mirror=True), "odd, then even"),
        (lambda: replace(symmetric_window(8, 8, 2, "whiten"), mirror=True), "odd, then even"),
        (lambda: turned(make_window(8, 8, 2, 9, mirror=True)), "odd, then even"),
        (lambda: Network(3, Window(8, 8, 2, mirror=True)), "need a map"),
    ],
)
def test_mirrored_units_that_cannot_be_are_refused(window, complaint):
    with pytest.raises(ValueError, match=complaint):
        window()


def turned(window):
    return replace(window, P=window.P[:, ::-1])


@pytest.mark.parametrize("size", [1, 3, 4])
def test_components_of_a_symmetric_covariance(size):
    flip, rng = mirror_of(size), np.random.default_rng(0)
    patches = rng.normal(size=(100, 3 * size**2)) @ rng.normal(size=(3 * size**2, 3 * size**2))
    C = np.cov(np.concatenate([patches, patches[:, flip]]).T).reshape(len(flip), len(flip))
    variances, components = mirror_components(C, flip)
    np.testing.assert_allclose(np.sort(variances), np.linalg.eigvalsh(C), rtol=1e-3)
    np.testing.assert_allclose(components.T @ components, np.eye(len(C)), atol=1e-5)
    np.testing.assert_allclose(
        components.T @ C @ components, np.diag(variances), atol=1e-4 * variances.max()
    )
    odd = 3 * size * (size // 2)
    assert np.array_equal(components[flip, :odd], -components[:, :odd])
    assert np.array_equal(components[flip, odd:], components[:, odd:])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cap", [0, 0.3])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_units_with_a_cap_are_written_out_as_two_without(batchnorm, cap, dtype):
    network = make(
        make_window(8, 8, 2, 9, mirror=True), 5, batchnorm=batchnorm, cap=cap, dtype=dtype
    )
    images, _ = batch(4)
    hidden = network.hidden(images)
    limit = hidden.dtype.type(cap or np.inf)
    assert hidden.max() <= limit
    assert cap == 0 or (hidden == limit).mean() > 0.1
    units = 5 * 2 * 16 * (2 if cap else 1)
    plain = network.plain()
    size = pytest.approx(sum(array.nbytes for array in plain.values()), rel=1e-3)
    assert unfold.plain_shape(network.weights, network.window, cap) == (units, size)
    assert {array.dtype for array in plain.values()} == {network.dtype}
    same = Network(units, batchnorm=batchnorm, dropout=0, dtype=dtype)
    same.load_weights(plain)
    assert error(same.logits(images), network.logits(images)) < (
        1e-9 if dtype == np.float64 else 1e-4
    )


def test_plain_arrays_take_little_more_memory_than_they_are():
    network = Network(64, make_window(8, 4, 3, 9, mirror=True), batchnorm=False, cap=1)
    tracemalloc.start()
    size = sum(array.nbytes for array in network.plain().values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 50e6 and peak < 1.1 * size


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("dims", [None, 9])
@pytest.mark.parametrize(
    ("size", "stride", "regions"), [(32, 1, 1), (8, 8, 1), (8, 8, 2), (24, 4, 3)]
)
def test_plain_arrays_are_the_same_function_in_the_reports_shapes(
    size, stride, regions, dims, batchnorm
):
    network = make(make_window(size, stride, regions, dims), 5, batchnorm=batchnorm, classes=4)
    (images, _), units = batch(4), 5 * network.window.positions
    plain = network.plain()
    shapes = {"W1": (3072, units), "W2": (units, 4), "b2": (1, 4)}
    assert {name: a.shape for name, a in plain.items()} == {
        name: shapes.get(name, (1, units)) for name in plain
    }
    assert plain.keys() == network.weights.keys()
    size = pytest.approx(sum(array.nbytes for array in plain.values()), rel=1e-3)
    assert unfold.plain_shape(network.weights, network.window) == (units, size)
    same = Network(units, batchnorm=batchnorm, dropout=0, dtype=np.float64, classes=4)
    same.load_weights(plain)
    assert error(same.logits(images), network.logits(images)) < 1e-9
    assert error(same.hidden(images)[:, 0], network.hidden(images).reshape(4, -1)) < 1e-9


def test_units_of_a_window_have_no_weights_outside_it():
    W1 = make(make_window(16, 8), 5).plain()["W1"].reshape(3, 32, 32, 9, 5)
    assert (W1[:, :16, 8:24, 1] != 0).all()  # the second place: rows 0 to 15, columns 8 to 23
    assert not W1[:, 16:, :, 1].any()
    assert not W1[:, :, :8, 1].any()
    assert not W1[:, :, 24:, 1].any()


def test_plain_arrays_are_not_the_networks_own():
    network, (images, _) = make(batchnorm=True), batch(3)
    expected = network.logits(images)
    for array in network.plain().values():
        array[...] = 7
    assert np.array_equal(network.logits(images), expected)


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("kind", ["none", "whiten"])
@pytest.mark.parametrize(
    ("size", "stride", "regions"), [(32, 1, 1), (8, 8, 1), (8, 8, 2), (8, 6, 3)]
)
def test_folding_the_mirror_image_averages_the_logits(size, stride, regions, kind, batchnorm):
    window = (
        Window(size, stride, regions)
        if kind == "none"
        else symmetric_window(size, stride, regions, kind)
    )
    network, (images, _) = make(window, 5, batchnorm=batchnorm), batch(4)
    expected = (network.logits(images) + network.logits(mirrored(images))) / 2
    folded = network.fold_mirror()
    assert folded.hidden_size == 10
    assert error(folded.logits(images), expected) < 1e-9
    assert error(folded.logits(mirrored(images)), expected) < 1e-9
    twice = folded.fold_mirror()
    assert twice.hidden_size == 20
    assert error(twice.logits(images), expected) < 1e-9
    units = folded.window.positions * 10
    plain = Network(units, batchnorm=batchnorm, dtype=np.float64)
    plain.load_weights(folded.plain())
    assert error(plain.logits(images), expected) < 1e-9


def test_an_asymmetric_map_is_refused():
    window = make_window(8, 8, 2, 9)
    with pytest.raises(ValueError, match="its map is not symmetric"):
        make(window).fold_mirror()
    mean = window.mean + np.linspace(0, 1, 192)
    P = symmetric_window(8, 8, 2, "whiten").P
    with pytest.raises(ValueError, match="its map is not symmetric"):  # for its mean alone
        make(Window(8, 8, 2, mean, P)).fold_mirror()
