"""Hidden units in pixels: filters, influence, top patches, gradients."""

import model
from support.network import filters
from support.network.window import Window

import numpy as np
import pytest
from networks import make_window

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 3072), np.uint8)


def network_of(kind, dtype=np.float64):
    """Return a small network in which no weight, bias or statistic has its first value."""
    rng = np.random.default_rng(1)
    options = {"seed": 0, "dtype": dtype}
    if kind == "whole":
        network = model.Network(12, **options)
    elif kind == "windows":
        network = model.Network(10, Window(8, 4, 3), **options)
    elif kind == "whole, mirrored":
        network = model.Network(10, make_window(dims=20, mirror=True), cap=2, **options)
    else:
        views = {"mirror": True}
        if kind == "two-sided":
            views |= {"two_sided": True, "bilinear": True}
        window = Window(8, 4, 3, **views).whitening(IMAGES, 30, 0.1, model.Threads())
        network = model.Network(10, window, batchnorm=False, cap=0.3, **options)
    for name, array in network.weights.items():
        if name == "running_var1":
            array += rng.random(array.shape)
        else:
            array += 0.3 * rng.standard_normal(array.shape)
    return network


KINDS = ["whole", "windows", "mirrored", "whole, mirrored", "two-sided"]


def without_unit(network, unit):
    """Return a copy of the network in which a unit adds nothing."""
    other = network.copy()
    W2 = other.weights["W2"].reshape(network.window.q, -1, network.classes)
    W2[:, unit] = 0
    return other


@pytest.mark.parametrize("kind", KINDS)
def test_influence_is_how_much_the_logits_change_without_a_unit(kind):
    network = network_of(kind)
    found = filters.influence(network, IMAGES)
    for unit in (0, 7):
        change = network.logits(IMAGES) - without_unit(network, unit).logits(IMAGES)
        change -= change.mean(axis=1, keepdims=True)  # changes no probability
        assert found[unit] == pytest.approx(np.sqrt((change**2).mean()), rel=1e-6)


def test_a_unit_that_adds_the_same_to_all_classes_has_no_influence():
    network = network_of("whole")
    network.weights["W2"][3] = 5.0
    found = filters.influence(network, IMAGES)
    assert found[3] == pytest.approx(0, abs=1e-9)
    assert found[2] > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_top_patches_are_where_a_unit_is_largest(kind):
    network = network_of(kind)
    units = [4, 11 if kind == "two-sided" else 1]  # 11: filter 1 with its sign reversed
    found = filters.top_patches(network, IMAGES, units, count=3)
    a1 = network.one_sided().hidden(IMAGES, capped=False)  # (N, rows, H)
    for unit, patches in zip(units, found, strict=True):
        best = a1[:, :, unit].max(axis=1)
        activations = [patch.activation for patch in patches]
        expected = np.sort(best[best > 0])[::-1][:3]
        np.testing.assert_allclose(activations, expected, rtol=1e-6)
        assert len({patch.image for patch in patches}) == len(expected) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_gives_its_filter_its_activation(kind):
    network = network_of(kind)
    ((patch, *_),) = filters.top_patches(network, IMAGES, [2], count=3)
    pixels = filters.patch_pixels(network, IMAGES, patch) / 255
    window = network.window
    X = pixels if window.P is None else (pixels - window.mean) @ window.P
    z1 = X @ network.weights["W1"][:, 2] + network.weights["b1"][0, 2]
    row = np.zeros((1, network.hidden_size))
    row[0, 2] = z1
    assert network.normalized(row)[0, 2] == pytest.approx(patch.activation, rel=1e-5)


def test_a_unit_that_is_never_on_has_no_patch():
    network = network_of("windows")
    network.weights["beta1"][0, 2] = -1e6
    assert filters.top_patches(network, IMAGES, [2]) == [[]]


@pytest.mark.parametrize("kind", KINDS)
def test_input_gradient_is_that_of_finite_differences(kind):
    network = network_of(kind)
    c, rng = 3, np.random.default_rng(0)
    _, share, _ = filters.active_share(network, IMAGES)
    gradient = filters.mean_gradient(network, share, c)
    assert gradient.shape == (3072,)
    for pixel in rng.integers(0, 3072, 6):
        logits = []
        for step in (1e-6, -1e-6):
            moved = IMAGES / 255
            moved[:, pixel] += step
            logits.append(network.logits(moved)[:, c].mean())
        difference = (logits[0] - logits[1]) / 2e-6
        assert difference == pytest.approx(gradient[pixel], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_active_shares_are_those_of_the_activations(kind):
    network = network_of(kind)
    above, between, of_images = filters.active_share(network, IMAGES)
    a1 = network.hidden(IMAGES)
    np.testing.assert_allclose(above, (a1 > 0).mean(axis=0))
    np.testing.assert_allclose(of_images, (a1 > 0).mean(axis=(1, 2)))
    assert (between < above).any() == (network.cap > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_filters_and_class_pictures_are_those_of_the_plain_network(kind):
    network = network_of(kind)
    network.cap = 0  # with a cap the picture of a plain network is zero
    plain, window = network.plain(), network.window
    expected = plain["W1"] @ plain["W2"][:, 4]
    np.testing.assert_allclose(filters.class_picture(network, 4), expected, atol=1e-7)
    first = window.patches(np.arange(3072)[None])[0]  # the pixels of the first position
    found = filters.filter_weights(network, [5])[:, 0]
    np.testing.assert_allclose(found, plain["W1"][first, 5], atol=1e-12)
