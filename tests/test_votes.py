"""Evidence: logits as exact sums over places and filters, the figure of it, and whether it means something."""

import model
from support.cli import UserError
from support.figures import style as plots
from support.figures import votes as evidence_figure
from support.network import votes as evidence
from support.network.window import Window

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.text import Text

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (11, 3072), np.uint8)


def window_of(size, stride, regions, map_kind):
    """A window with no map, or a whitening map of random, mirror-symmetric patches."""
    pixels = 3 * size**2
    if map_kind is None:
        return Window(size, stride, regions)
    half = rng.random((200, 3, size, size))
    patches = np.concatenate([half, half[..., ::-1]]).reshape(400, pixels)
    mean = patches.mean(axis=0)
    if map_kind == "mirror":
        some = rng.integers(0, 256, (30, 3072), np.uint8)
        return Window(size, stride, regions, mirror=True).whitening(some, 20, 0.1, model.Threads())
    if size == 32:
        return Window(size, stride, regions, mean, rng.standard_normal((pixels, 20)) / 50)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    keep = slice(-min(20, pixels), None)
    return Window(size, stride, regions, mean, vectors[:, keep] / np.sqrt(values[keep] + 0.1))


def network_of(window, batchnorm=True, dtype=np.float64, classes=10, hidden=13):
    """A network with no weight, bias or statistic at its first value."""
    network = model.Network(hidden, window, classes=classes, batchnorm=batchnorm, dtype=dtype)
    for name, array in network.weights.items():
        array += (
            0.3 * rng.standard_normal(array.shape)
            if name != "running_var1"
            else rng.random(array.shape)
        )
    return network


WINDOWS = [(32, 1, 1, None), (32, 1, 1, "whiten"), (8, 2, 3, None), (8, 2, 3, "whiten")]
WINDOWS += [(16, 16, 2, None), (6, 1, 1, "whiten"), (8, 2, 3, "mirror")]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("cap", [0, 0.3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_votes_and_rest_sum_to_the_logits(window, cap, batchnorm, dtype):
    network = network_of(window_of(*window), batchnorm, dtype)
    network.cap = cap
    z2 = network.logits(IMAGES)
    votes, rest = evidence.votes(network, IMAGES)
    side = 32 if window[0] == 32 else (32 - window[0]) // window[1] + 1
    assert (
        votes.shape == (11, 10, side, side)
        and rest.shape == (11, 10)
        and votes.dtype == rest.dtype == dtype
    )
    terms = (
        np.abs(votes).sum(axis=(2, 3)).max() + np.abs(rest).max()
    )  # rounding is relative to these
    bound = (4e-6 if dtype == np.float32 else 1e-13) * terms
    np.testing.assert_allclose(votes.sum(axis=(2, 3)) + rest, z2, rtol=0, atol=bound)
    if window[0] < 32:
        np.testing.assert_array_equal(rest, np.repeat(network.weights["b2"], 11, axis=0))


def test_votes_of_windows_are_those_of_each_place():
    """Against a loop over places, regions and units."""
    network = network_of(Window(16, 8, 3), hidden=3, classes=2)
    votes, _ = evidence.votes(network, IMAGES[:2])
    a1, W2 = network.hidden(IMAGES[:2]), network.weights["W2"].reshape(9, 3, 2)
    for row in range(3):
        for column in range(3):
            place = 3 * row + column  # each is a region of its own
            np.testing.assert_allclose(
                votes[:, :, row, column], a1[:, place] @ W2[place], rtol=1e-6
            )


def test_votes_of_the_whole_image_are_gradient_times_input():
    network, x = network_of(Window(), classes=3), IMAGES[:1] / 255
    votes, _ = evidence.votes(network, x)
    for pixel in (0, 517, 1023):
        expected = 0
        for channel in range(3):
            step = np.zeros((1, 3072))
            step[0, 1024 * channel + pixel] = 1e-6
            gradient = (network.logits(x + step) - network.logits(x - step)) / 2e-6
            expected = expected + x[0, 1024 * channel + pixel] * gradient[0]
        np.testing.assert_allclose(
            votes[0, :, pixel // 32, pixel % 32], expected, rtol=1e-5, atol=1e-9
        )
    assert not evidence.votes(network, np.zeros((1, 3072)))[0].any()  # black has no vote


@pytest.mark.parametrize(
    "window", [(32, 1, 1, None), (8, 2, 3, "whiten"), (8, 4, 3, None)], ids=str
)
def test_votes_of_a_folded_network_are_those_of_both_images(window):
    network = network_of(window_of(*window))
    mirrored = IMAGES.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    votes, rest = evidence.votes(network.fold_mirror(), IMAGES)
    (alone, its_rest), (other, other_rest) = (
        evidence.votes(network, images) for images in (IMAGES, mirrored)
    )
    np.testing.assert_allclose(votes, (alone + other[..., ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(rest, (its_rest + other_rest) / 2, atol=1e-6)


def test_standardised_steps_leave_their_constant_in_the_bias():
    network = network_of(Window(8, 8, 1), batchnorm=False, dtype=np.float32)
    network.precondition(IMAGES)
    network.train_batch(IMAGES, np.arange(11) % 10)
    votes, rest = evidence.votes(network, IMAGES)
    np.testing.assert_allclose(
        votes.sum(axis=(2, 3)) + rest, network.logits(IMAGES), rtol=1e-4, atol=1e-4
    )


def test_any_number_of_images_and_threads():
    for window in (Window(), Window(8, 8, 1)):
        network = network_of(window, dtype=np.float32)
        none, rest = evidence.votes(network, IMAGES[:0])
        assert none.shape[:2] == rest.shape == (0, 10)
        votes, _ = evidence.votes(network, IMAGES)
        network.threads = model.Threads(3)
        np.testing.assert_array_equal(evidence.votes(network, IMAGES)[0], votes)


@pytest.mark.parametrize("cap", [0, 50])
@pytest.mark.parametrize(
    "window", [(32, 1, 1, None), (8, 2, 3, "whiten"), (8, 2, 3, "mirror")], ids=str
)
def test_the_strongest_filters_add_what_their_absence_takes(window, cap):
    network, image = network_of(window_of(*window)), IMAGES[3]
    network.cap = cap
    found = evidence.strongest(network, image, 4)
    assert 1 <= len(found) <= 5 and [each.adds for each in found] == sorted(
        (f.adds for f in found), reverse=True
    )
    z2, W2 = (
        network.logits(image[None])[0, 4],
        network.weights["W2"].reshape(network.window.q, -1, 10),
    )
    effects = []
    for unit in range(13):
        kept = W2[:, unit].copy()
        W2[:, unit] = 0
        effects.append(z2 - network.logits(image[None])[0, 4])
        W2[:, unit] = kept
    np.testing.assert_allclose(
        [each.adds for each in found], sorted(effects, reverse=True)[: len(found)], atol=1e-6
    )
    for each in found:
        side, at = network.window.side, (int(each.mirrored), *each.place)
        a1, free = (
            network.hidden(image[None], capped)[0, :, each.unit].reshape(-1, side, side)
            for capped in (1, 0)
        )
        assert a1[at] == a1.max() and free[at] == free.max()
        assert effects[each.unit] == pytest.approx(each.adds)
    network.weights["W2"][:, 4] = -1
    assert evidence.strongest(network, image, 4) == []


@pytest.mark.parametrize(
    ("votes", "rest", "text"),
    [
        ([[5.3, -1.0]], -0.2, "4.1 = 5.3 for - 1.0 against - 0.2 bias"),
        ([[0.0, -7.25]], 0.0, "-7.2 = 0.0 for - 7.2 against + 0.0 bias"),
        ([[0.02, -0.04]], 0.0, "0.0 = 0.0 for - 0.0 against + 0.0 bias"),
        ([[2e20, -1.0]], 3e7, "2e+20 = 2e+20 for - 1.0 against + 3e+07 bias"),
    ],
)
def test_the_sum_in_a_line(votes, rest, text):
    assert evidence.equation(np.array(votes), rest) == text


# ---- The figure -----------------------------------------------------------------------------------------------------


def texts(figure):
    """Every text in a figure."""
    return [each.get_text() for each in figure.findobj(Text) if each.get_text()]


def test_the_figure_says_the_sum_and_fits_a_column(tmp_path):
    for window, rows in ((Window(), 1), (window_of(8, 2, 3, "whiten"), 2)):
        network = network_of(window, dtype=np.float32)
        figure = evidence_figure.draw_evidence(
            network, IMAGES[0], [f"class {c}" for c in range(10)], label=7
        )
        figure.savefig(tmp_path / "figure.png")
        assert figure.get_size_inches()[0] == 3.4 and "label: class 7" in texts(figure)
        found = texts(figure)
        c = network.predict(IMAGES[:1])[0]
        (votes,), (rest,) = evidence.votes(network, IMAGES[:1])
        shown = " ".join(next(text for text in found if " for\n" in text).split()).replace("−", "-")
        assert shown == evidence.equation(votes[c], rest[c])
        filters = evidence.strongest(network, IMAGES[0], c)
        assert sum(text.startswith(tuple("12345")) and ": +" in text for text in found) == len(
            filters
        )
        pictures = [axes for axes in figure.get_axes() if axes.images and axes.get_visible()]
        assert len(pictures) >= 4 + rows * len(filters)


def test_two_classes_and_no_filter_and_names_that_the_font_lacks(tmp_path, recwarn):
    network = network_of(Window(8, 8, 1), classes=2)
    network.weights["W2"][...] = -1
    figure = evidence_figure.draw_evidence(
        network, IMAGES[0], ["猫 $x$", "ein sehr langer Name einer Klasse"]
    )
    figure.savefig(tmp_path / "figure.png")
    for name in ("猫 $x$", "ein sehr langer Name einer Klasse"):
        assert any(text.startswith(plots.drawable(name, 15)) for text in texts(figure))
    assert not recwarn.list
    assert plots.drawable("Käfer $1") == r"Käfer \$1"
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8


def test_networks_of_extreme_weights(tmp_path, recwarn):
    network = network_of(Window(8, 8, 1), batchnorm=False, dtype=np.float32)
    network.weights["W1"] *= 1e18
    evidence_figure.draw_evidence(network, IMAGES[0], [*"abcdefghij"]).savefig(
        tmp_path / "figure.png"
    )
    network.weights["W1"] *= 1e18
    network.weights["W2"] *= 1e18
    with pytest.raises(UserError, match="overflow"):
        evidence_figure.draw_evidence(network, IMAGES[0], [*"abcdefghij"])
    for array in network.weights.values():
        array[...] = 0
    evidence_figure.draw_evidence(network, IMAGES[0], [*"abcdefghij"]).savefig(
        tmp_path / "figure.png"
    )
    assert not recwarn.list


# ---- Deletion -------------------------------------------------------------------------------------------------------


def test_deletion_blanks_the_places_with_the_highest_votes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import deletion

    network = network_of(Window(8, 4, 1), classes=2)
    covers = deletion.pixels_of_positions(network)
    assert covers.shape == (49, 1024) and (covers.sum(axis=1) == 64).all()
    place = covers[2 * 7 + 3].reshape(32, 32)  # row 2, column 3
    assert place[8:16, 12:20].all() and place.sum() == 64
    maps = rng.random((3, 7, 7))
    maps[:, 4, 1:6] += 1
    for way, draws in deletion.choices(maps, np.random.default_rng(0)).items():
        assert all(
            ((chosen > 0).sum(axis=1) == (0 if way == "intact" else 5)).all() for chosen in draws
        )
        if way == "highest votes":
            assert draws[0].reshape(3, 7, 7)[:, 4, 1:6].all()
    blank = np.zeros((1, 1024), bool)
    blank[0, 5] = True
    planes = deletion.blanked(IMAGES[:1], blank).reshape(3, 1024)
    assert planes[:, 5].tolist() == IMAGES[0].reshape(3, 1024).mean(axis=1).round().tolist()
    assert (np.delete(planes, 5, 1) == np.delete(IMAGES[0].reshape(3, 1024), 5, 1)).all()


def test_deletion_prints_a_row_for_each_checkpoint(run, tmp_path, synthetic_dir):
    network_of(Window(8, 8, 1)).save(tmp_path / "a.npz")
    network_of(Window()).save(tmp_path / "b.npz")
    flags = "--data-dir", synthetic_dir, "--threads", 1, "--count", 40
    done = run("benchmarks/deletion.py", "a.npz", "b.npz", *flags)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if ".npz |" in line]
    assert [row[0] for row in rows] == ["| a.npz", "| b.npz"] and all(len(row) == 7 for row in rows)
    network_of(Window(), classes=3).save(tmp_path / "c.npz")
    wrong = run("benchmarks/deletion.py", "c.npz", *flags)
    assert (
        wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "other classes" in wrong.stderr
    )
