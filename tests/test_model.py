"""model.py: gradients against central differences, steps of SGD, inference, refusals."""

import copy
import itertools
import pickle

import model
from model import SGD, Network
from support.network import blocks
from support.network.window import Window

import numpy as np
import pytest
from networks import batch, error, make, make_window, normal

STEP = 1e-5  # of central differences
TOLERANCE = 1e-7  # relative, in float64


# ---- Pairs of forward and backward -------------------------------------------------------------


def numeric(function, x, dout):
    """d sum(function(x) * dout) / dx by central differences."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += STEP
        below[index] -= STEP
        gradient[index] = ((function(above) - function(below)) * dout).sum() / (2 * STEP)
    return gradient


def test_linear():
    X, W, b, dz = normal(5, 4), normal(4, 3, seed=1), normal(1, 3, seed=2), normal(5, 3, seed=3)
    z, cache = model.linear_forward(X, W, b)
    np.testing.assert_allclose(z, X @ W + b, rtol=1e-14, atol=1e-14)
    dX, dW, db = model.linear_backward(dz, cache)
    assert error(dX, numeric(lambda X: model.linear_forward(X, W, b)[0], X, dz)) < TOLERANCE
    assert error(dW, numeric(lambda W: model.linear_forward(X, W, b)[0], W, dz)) < TOLERANCE
    assert error(db, numeric(lambda b: model.linear_forward(X, W, b)[0], b, dz)) < TOLERANCE


@pytest.mark.parametrize("window", [Window(), Window(16, 16)], ids=str)
def test_filters(window):
    X, dz = model.layer_input(batch(2)[0], window, np.float64), normal(2 * window.rows, 3, seed=3)
    W, b = normal(window.inputs, 3, seed=1), normal(1, 3, seed=2)
    z, cache = model.filters_forward(X, np.vstack([W, b]), window)
    np.testing.assert_allclose(z, X[:, : len(W)] @ W + b, rtol=1e-12, atol=1e-12)
    dW, db = model.filters_backward(dz, cache)
    np.testing.assert_allclose(dW[:], X[:, : len(W)].T @ dz, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dW[1:3], X[:, 1:3].T @ dz, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(db, dz.sum(axis=0, keepdims=True), rtol=1e-12, atol=1e-12)


FORWARD_VIEWS = [
    make_window(24, 8, 1, dims=7, mirror=True),
    make_window(24, 8, 1, dims=7, mirror=True, two_sided=True),
    make_window(24, 8, 2, dims=7, two_sided=True),
    make_window(16, 16, 2, two_sided=True),
    make_window(dims=7, mirror=True),
    make_window(two_sided=True),
]


@pytest.mark.parametrize("window", FORWARD_VIEWS, ids=str)
def test_views(window):
    """Of the upright, the flipped and, with reversed sign, both filters."""
    W, b = normal(window.inputs, 3), normal(1, 3, seed=1)
    images = batch(2)[0]
    flipped = images.reshape(2, 3, 32, 32)[..., ::-1].reshape(2, 3072)
    side = window.side
    expected = []
    for each in (images, flipped) if window.mirror else (images,):
        X = model.layer_input(each, window, np.float64)
        expected.append((X[:, : len(W)] @ W).reshape(2, side, side, 3))
    if window.mirror:  # a position of the mirror image is opposite
        expected[1] = expected[1][:, :, ::-1]
    expected = np.stack(expected, axis=1).reshape(2, -1, 3)
    if window.two_sided:
        expected = np.concatenate([expected, -expected], axis=1)

    X = model.layer_input(images, window, np.float64)
    z, _ = model.filters_forward(X, np.vstack([W, b]), window)
    np.testing.assert_allclose(z.reshape(expected.shape), expected + b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", FORWARD_VIEWS, ids=str)
def test_the_gradient_of_views(window):
    W, b = normal(window.inputs, 2), normal(1, 2, seed=1)
    X = model.layer_input(batch(2)[0], window, np.float64)
    _, cache = model.filters_forward(X, np.vstack([W, b]), window)
    dz = normal(2 * window.rows, 2, seed=3)
    dW, db = model.filters_backward(dz.copy(), cache)

    def of_W(some):  # a few rows: a whole image has 3,072
        changed = W.copy()
        changed[:7] = some
        return model.filters_forward(X, np.vstack([changed, b]), window)[0]

    assert error(dW[:7], numeric(of_W, W[:7], dz)) < TOLERANCE
    expected = numeric(lambda b: model.filters_forward(X, np.vstack([W, b]), window)[0], b, dz)
    assert error(db, expected) < TOLERANCE


def test_batchnorm_in_training():
    z, gamma, beta, dout = (
        normal(6, 3),
        normal(1, 3, seed=1),
        normal(1, 3, seed=2),
        normal(6, 3, seed=3),
    )
    mean, var = normal(1, 3, seed=4), normal(1, 3, seed=5) ** 2
    running = mean.copy(), var.copy()
    out, cache = model.batchnorm_forward(z.copy(), gamma, beta, *running, train=True)
    expected = gamma * (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + model.BN_EPS) + beta
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    assert np.array_equal(running, (mean, var))
    np.testing.assert_allclose(cache[-2], z.mean(axis=0, keepdims=True), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cache[-1], z.var(axis=0, keepdims=True), rtol=1e-12)
    found = model.batchnorm_backward(dout.copy(), cache)
    for i, (gradient, x) in enumerate(zip(found, (z, gamma, beta), strict=True)):

        def forward(x, i=i):
            arguments = [z, gamma, beta]
            arguments[i] = x
            return model.batchnorm_forward(
                arguments[0].copy(), *arguments[1:], *running, train=True
            )[0]

        assert error(gradient, numeric(forward, x, dout)) < TOLERANCE


def test_batchnorm_in_inference():
    z, (gamma, beta, mean, var) = normal(6, 3), normal(4, 1, 3, seed=1) ** 2
    running = mean.copy(), var.copy()
    out, _ = model.batchnorm_forward(z.copy(), gamma, beta, *running, train=False)
    np.testing.assert_allclose(
        out, gamma * (z - mean) / np.sqrt(var + model.BN_EPS) + beta, rtol=1e-12
    )
    assert np.array_equal(running, (mean, var))


@pytest.mark.parametrize("cap", [0, 0.625])
def test_relu(cap):
    z, dout = normal(6, 5), normal(6, 5, seed=1)
    z[(np.abs(z) < 1e-3) | (np.abs(z - cap) < 1e-3)] += 0.01  # away from the kinks
    a1, cache = model.relu_forward(z.copy(), cap)
    assert np.array_equal(a1, np.minimum(np.maximum(z, 0), cap or np.inf))
    assert cap == 0 or 0 < (a1 == cap).sum() < (a1 > 0).sum()
    found = model.relu_backward(dout.copy(), cache)
    assert (
        error(found, numeric(lambda z: model.relu_forward(z.copy(), cap)[0], z, dout)) < TOLERANCE
    )


@pytest.mark.parametrize("cap", [0, 0.625])
def test_relu_hides_no_number_that_is_not_finite(cap):
    a1, active = model.relu_forward(np.array([np.nan, np.inf, -np.inf], np.float32), cap)
    np.testing.assert_array_equal(a1, [np.nan, cap or np.inf, 0])
    assert a1.dtype == np.float32 and not active[0]


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("stride", "regions"), [(8, 1), (8, 2), (8, 3), (12, 3), (24, 1)])
def test_pool(stride, regions, mirror, two_sided):
    window = Window(8, stride, regions, mirror=mirror, two_sided=two_sided)
    rows = window.rows
    a1, ds = normal(2 * rows, 3), normal(2, window.q, 3, seed=1)
    s, cache = model.pool_forward(a1, window)
    for image, region in np.ndindex(2, window.q):
        positions = np.flatnonzero(window.region_of_row == region) + image * rows
        np.testing.assert_allclose(
            s[image, region], a1[positions].mean(axis=0), rtol=1e-6
        )  # share is float32
    assert (
        error(
            model.pool_backward(ds, cache),
            numeric(lambda a: model.pool_forward(a, window)[0], a1, ds),
        )
        < 1e-7
    )


@pytest.mark.parametrize(("stride", "regions"), [(3, 3), (4, 2), (4, 7), (24, 2)])
def test_bilinear_pooling_is_the_mean_under_interpolated_weights(stride, regions):
    window = Window(8, stride, regions, bilinear=True)
    a1 = normal(2 * window.rows, 3)
    s, _ = model.pool_forward(a1, window)
    side = window.side
    squares = a1.reshape(2, side, side, 3)
    at = np.linspace(0, regions - 1, side)
    for row, column in itertools.product(range(regions), repeat=2):
        corner = np.eye(regions)[row], np.eye(regions)[column]
        down, right = (np.interp(at, np.arange(regions), each) for each in corner)
        weights = np.outer(down, right)[None, :, :, None]
        expected = (squares * weights).sum(axis=(1, 2)) / weights.sum()
        np.testing.assert_allclose(s[:, regions * row + column], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_bilinear_pool_backward(mirror, two_sided):
    window = Window(8, 6, 3, mirror=mirror, two_sided=two_sided, bilinear=True)
    a1, ds = normal(2 * window.rows, 2), normal(2, window.q, 2, seed=1)
    _, cache = model.pool_forward(a1, window)
    expected = numeric(lambda a: model.pool_forward(a, window)[0], a1, ds)
    assert error(model.pool_backward(ds, cache), expected) < TOLERANCE


def test_pooling_one_place_copies_nothing():
    a1, window = normal(4, 3), Window()
    s, _ = model.pool_forward(a1, window)
    assert s.shape == (4, 1, 3)
    assert s.base is a1
    assert np.array_equal(model.pool_backward(s, window), a1)


def test_dropout():
    s, ds, keep = normal(4, 2, 3), normal(4, 2, 3, seed=1), normal(4, 3, seed=2) > 0
    out, cache = model.dropout_forward(s.copy(), keep, 0.25)
    assert np.array_equal(out, s * keep[:, None] * (1 / 0.75))  # the same units at all positions
    found = model.dropout_backward(ds.copy(), cache)
    assert (
        error(found, numeric(lambda s: model.dropout_forward(s.copy(), keep, 0.25)[0], s, ds))
        < TOLERANCE
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(smoothing):
    z2, labels = 3 * normal(6, 5), np.arange(6) % 5
    y = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    losses, cache = model.cross_entropy_forward(z2, labels, smoothing)
    softmax = np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses, -(y * np.log(softmax)).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(model.log_softmax(z2), np.log(softmax), rtol=1e-12)
    found = model.cross_entropy_backward(6, cache)
    np.testing.assert_allclose(found, (softmax - y) / 6, rtol=1e-12, atol=1e-15)
    assert (
        error(
            found,
            numeric(lambda z: model.cross_entropy_forward(z, labels, smoothing)[0], z2, 1 / 6),
        )
        < TOLERANCE
    )


def test_cross_entropy_of_extreme_logits_is_finite():
    z2 = np.array([[1e4, -1e4] + [0.0] * 8, [-1e4] * 10])
    losses, cache = model.cross_entropy_forward(z2, np.array([1, 3]))
    np.testing.assert_allclose(losses, [2e4, np.log(10)])
    assert np.isfinite(model.cross_entropy_backward(2, cache)).all()


# ---- The gradients of a network ----------------------------------------------------------------


def gradients_of(network, images, labels, rng=None, smoothing=0.0, weights=None):
    """The loss, the correct count and the gradients of a step that isn't taken."""
    caught = []
    step = network._step
    network._step = lambda gradients, sgd: caught.append(gradients)
    try:
        loss, correct = network.train_batch(images, labels, None, rng, smoothing, weights)
    finally:
        network._step = step
    gradients = {name: gradient for name, gradient in caught[0].items() if name in network.velocity}
    return loss, correct, gradients


def check_gradients(network, m, smoothing, monkeypatch, factors=None):
    """Compare a few entries of each gradient with central differences.

    None of the differences crosses a kink of the ReLU.

    Of a network with a cap some units are above it.
    """
    images, labels = batch(m)
    labels %= network.classes
    relu, active = model.relu_forward, []

    def watched(z1, cap, train):
        a1, mask = relu(z1, cap, train)
        assert (mask < (a1 > 0)).any() == (cap > 0)
        active.append(mask.tobytes())
        return a1, mask

    monkeypatch.setattr(model, "relu_forward", watched)

    def objective():
        active.clear()
        rng = np.random.default_rng(5)
        loss, _, _ = gradients_of(network, images, labels, rng, smoothing, factors)
        return loss, tuple(active)

    rng = np.random.default_rng(5)
    _, _, gradients = gradients_of(network, images, labels, rng, smoothing, factors)
    assert set(gradients) == set(network.velocity)
    rng = np.random.default_rng(3)
    for name, gradient in gradients.items():
        weights, gradient, pairs = network.weights[name], gradient[:], []
        assert gradient.shape == weights.shape
        candidates = np.argsort(
            -np.abs(gradient), axis=None
        ).tolist()  # a few of the largest, a few by chance
        while candidates and len(pairs) < 6:
            flat = candidates.pop(0 if len(pairs) < 3 else rng.integers(len(candidates)))
            index = np.unravel_index(flat, weights.shape)
            kept = weights[index]
            weights[index] = kept + STEP
            above, here = objective()
            weights[index] = kept - STEP
            below, there = objective()
            weights[index] = kept
            if here == there:
                pairs.append(((above - below) / (2 * STEP), gradient[index]))
        expected, found = np.array(pairs).T
        if (
            name == "b1" and network.batchnorm
        ):  # BN takes away what b1 adds: both are 0 up to rounding
            assert np.abs(found - expected).max() < 1e-9
        else:
            assert error(found, expected) < TOLERANCE, name


NETWORKS = {
    "whole": {},
    "whole, BN, dropout": {"batchnorm": True, "dropout": 0.5},
    "whole, whitened": {"dims": 20},
    "whole, whitened, BN, dropout": {"dims": 20, "batchnorm": True, "dropout": 0.25},
    "windows": {"size": 8, "stride": 8},
    "windows, whitened": {"size": 8, "stride": 8, "dims": 9},
    "windows, 2x2 regions": {"size": 8, "stride": 8, "dims": 9, "regions": 2},
    "windows, 3x3 regions": {"size": 8, "stride": 6, "dims": 9, "regions": 3},
    "windows, BN": {"size": 8, "stride": 8, "dims": 9, "regions": 2, "batchnorm": True},
    "windows, dropout": {"size": 8, "stride": 8, "dims": 9, "regions": 3, "dropout": 0.5},
    "windows, BN, dropout": {
        "size": 8,
        "stride": 8,
        "regions": 3,
        "batchnorm": True,
        "dropout": 0.5,
    },
    "windows, mirrored": {"size": 8, "stride": 8, "dims": 9, "regions": 2, "mirror": True},
    "windows, mirrored, BN, dropout": {
        **{
            "size": 8,
            "stride": 6,
            "dims": 9,
            "regions": 3,
            "mirror": True,
            "batchnorm": True,
            "dropout": 0.5,
        }
    },
    "whole, BN, capped": {"batchnorm": True, "cap": 0.5},
    "windows, mirrored, capped": {
        "size": 8,
        "stride": 8,
        "dims": 9,
        "regions": 2,
        "mirror": True,
        "cap": 0.2,
    },
    "windows, two-sided": {"size": 8, "stride": 8, "regions": 2, "two_sided": True},
    "windows, two-sided, mirrored, capped": {
        "size": 8,
        "stride": 8,
        "dims": 9,
        "regions": 2,
        "mirror": True,
        "two_sided": True,
        "cap": 0.2,
    },
    "windows, two-sided, mirrored, bilinear, BN, dropout": {
        "size": 8,
        "stride": 8,
        "dims": 9,
        "regions": 3,
        "mirror": True,
        "two_sided": True,
        "bilinear": True,
        "batchnorm": True,
        "dropout": 0.5,
    },
    "whole, mirrored": {"dims": 20, "mirror": True},
    "whole, two-sided": {"two_sided": True},
    "whole, mirrored, two-sided, whitened, dropout": {
        "dims": 20,
        "mirror": True,
        "two_sided": True,
        "dropout": 0.5,
    },
    "whole, mirrored, BN": {"dims": 20, "mirror": True, "batchnorm": True},
    "overlapping windows": {"size": 24, "stride": 4, "dims": 30, "regions": 3},
    "two classes": {"size": 16, "stride": 16, "classes": 2},
    "a hundred classes": {"size": 16, "stride": 16, "classes": 100, "dropout": 0.5},
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_agree_with_central_differences(kind, monkeypatch):
    options = dict(NETWORKS[kind])
    window = make_window(
        **{
            name: options.pop(name)
            for name in ("size", "stride", "regions", "dims", "mirror", "two_sided", "bilinear")
            if name in options
        }
    )
    monkeypatch.setattr(blocks, "WHOLE_UNITS", 3)
    monkeypatch.setattr(blocks, "FILTERS", 3)
    check_gradients(make(window, **options), 7, 0.1 if "whitened" in kind else 0.0, monkeypatch)


@pytest.mark.parametrize("window", [Window(), make_window(16, 16, 2, dims=6)], ids=str)
def test_gradients_of_weighted_losses(window, monkeypatch):
    weights = np.array([0.0, 3.0, 0.5, 1.0, 2.0, 0.1, 1.0])
    check_gradients(make(window, 4), 7, 0.1, monkeypatch, weights)


@pytest.mark.parametrize("weights", [np.ones(3), np.full(4, np.nan), -np.ones(4), np.ones((4, 1))])
def test_weights_that_fit_no_batch_are_refused(weights):
    with pytest.raises(ValueError, match="image_weights must be"):
        make().train_batch(*batch(4), image_weights=weights)


def test_weights_multiply_the_losses():
    network, (images, labels) = make(), batch(4)
    losses, _ = model.cross_entropy_forward(network.logits(images), labels)
    loss, _ = network.train_batch(images, labels, image_weights=np.array([1.0, 0.0, 2.0, 0.5]))
    assert loss == pytest.approx((losses * [1.0, 0.0, 2.0, 0.5]).sum() / 4)


def test_evaluation_with_weights_is_a_weighted_mean():
    network, (images, labels) = make(), batch(4)
    losses, _ = model.cross_entropy_forward(network.logits(images), labels)
    correct = network.predict(images) == labels
    found = network.evaluate(images, labels, np.array([1.0, 0.0, 2.0, 1.0]))
    expected = [(each * [1, 0, 2, 1]).sum() / 4 for each in (losses, correct)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 9, 70, 131])
def test_gradients_of_batches_cut_in_lanes(m, monkeypatch):
    check_gradients(make(make_window(16, 16, 2, dims=6), 4, dropout=0.25), m, 0.1, monkeypatch)


def test_gradients_of_a_single_image(monkeypatch):
    check_gradients(make(dropout=0.25), 1, 0.0, monkeypatch)


@pytest.mark.parametrize(
    "window",
    [Window(), make_window(16, 16, 2, dims=6), make_window(16, 16, 2, dims=6, mirror=True)],
    ids=str,
)
def test_how_a_batch_is_cut_changes_nothing_but_rounding(window, monkeypatch):
    images, labels = batch(20)
    found = []
    for few, lanes, units in ((8, 8, 512), (3, 2, 2), (1, 1, 1), (50, 8, 3)):
        monkeypatch.setattr(blocks, "IMAGES", few)
        monkeypatch.setattr(blocks, "LANES", lanes)
        monkeypatch.setattr(blocks, "WHOLE_UNITS", units)
        monkeypatch.setattr(blocks, "FILTERS", units)
        network, rng = make(window, dropout=0.5), np.random.default_rng(5)
        loss, correct, gradients = gradients_of(network, images, labels, rng)
        found.append(
            {name: gradient[:] for name, gradient in gradients.items()}
            | {"loss": loss, "correct": correct}
        )
    for other in found[1:]:
        for name in other:
            np.testing.assert_allclose(other[name], found[0][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_a_loss_that_is_not_finite_leaves_all_weights_as_they_were(batchnorm):
    network, (images, labels) = make(Window(), batchnorm=batchnorm), batch(9)
    before = {name: array.copy() for name, array in network.weights.items()}
    images = images / 255
    images[3, 5] = np.nan
    assert np.isnan(network.train_batch(images, labels)[0])
    for name, array in before.items():
        np.testing.assert_array_equal(network.weights[name], array)


# ---- The update --------------------------------------------------------------------------------


def test_a_step_of_sgd():
    sgd = SGD(
        0.1,
        momentum=0.9,
        lambda_reg=0.02,
        bn_lr_scale=3,
        output_lr_scale=0.5,
        hidden_lambda_scale=0.25,
    )
    rates = {"W1": 0.1, "b1": 0.1, "W2": 0.05, "b2": 0.05, "gamma1": 0.3, "beta1": 0.3}
    for name, rate in rates.items():
        w, v, gradient = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
        decay = {"W1": 0.005, "W2": 0.02}.get(name, 0.0)
        expected_v = 0.9 * v - rate * (gradient + decay * w)
        expected_w = w + expected_v
        sgd(name, w, v, gradient)
        np.testing.assert_allclose(v, expected_v, rtol=1e-13)
        np.testing.assert_allclose(w, expected_w, rtol=1e-13)


@pytest.mark.parametrize("window", [Window(), make_window(16, 16, 2, dims=6)], ids=str)
def test_a_training_step_is_sgd_on_the_gradients(window, monkeypatch):
    monkeypatch.setattr(blocks, "WEIGHTS", 64)  # several blocks
    network, (images, labels) = make(window, batchnorm=True), batch(9)
    sgd = SGD(learning_rate=0.1, momentum=0.8, lambda_reg=0.02, bn_lr_scale=3)
    weights = {name: network.weights[name].copy() for name in network.velocity}
    velocity = {name: np.zeros_like(array) for name, array in weights.items()}
    for _ in range(3):
        loss, correct, gradients = gradients_of(network, images, labels, smoothing=0.1)
        assert network.train_batch(images, labels, sgd, smoothing=0.1) == (loss, correct)
        for name, gradient in gradients.items():
            decay = 0.02 if name in ("W1", "W2") else 0.0
            rate = 0.3 if name in ("gamma1", "beta1") else 0.1
            velocity[name] = 0.8 * velocity[name] - rate * (gradient[:] + decay * weights[name])
            weights[name] += velocity[name]
            np.testing.assert_allclose(
                network.weights[name], weights[name], rtol=1e-9, atol=1e-12, err_msg=name
            )
            np.testing.assert_allclose(
                network.velocity[name], velocity[name], rtol=1e-9, atol=1e-12, err_msg=name
            )


@pytest.mark.parametrize("batchnorm", [False, True])
def test_precondition_is_sgd_on_the_standardised_network(batchnorm):
    network, (images, labels) = make(make_window(8, 8, 2, dims=9), batchnorm=batchnorm), batch(12)
    network.precondition(images)
    pooled = model.pool_forward(network.hidden(images).reshape(-1, 7), network.window)[0].reshape(
        12, -1
    )
    variance = pooled.var(axis=0)
    mean, std = pooled.mean(axis=0), np.sqrt(variance + 1e-3 * variance.mean())
    np.testing.assert_allclose(network.preconditioner, [mean, std], rtol=1e-9)
    sgd = SGD(learning_rate=0.05, momentum=0.9, lambda_reg=0.02, output_lr_scale=0.5)
    V, c = (
        std[:, None] * network.weights["W2"],
        network.weights["b2"] + mean @ network.weights["W2"],
    )
    vV, vc = np.zeros_like(V), np.zeros_like(c)
    for _ in range(5):
        before = network.copy()
        z2, (_, _, (s, _)) = before.forward(images, train=True)
        standard = (s - mean) / std
        np.testing.assert_allclose(standard @ V + c, z2, rtol=1e-9, atol=1e-9)
        dz2 = (np.exp(model.log_softmax(z2)) - np.eye(10)[labels]) / 12
        vV = 0.9 * vV - 0.025 * (standard.T @ dz2 + 0.02 * V)
        vc = 0.9 * vc - 0.025 * dz2.sum(axis=0)
        V, c = V + vV, c + vc
        network.train_batch(images, labels, sgd)
        np.testing.assert_allclose(network.weights["W2"], V / std[:, None], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            network.weights["b2"], c - mean @ (V / std[:, None]), rtol=1e-9, atol=1e-12
        )
    assert not np.array_equal(
        network.weights["W1"], make(make_window(8, 8, 2, dims=9)).weights["W1"]
    )


def standardised_components(network, images):
    """The standardised s, (N, q H), its principal components in columns, their variances."""
    s = network.pooled(images)
    standardised = (s - s.mean(axis=0)) / network.preconditioner[1]
    e, U = np.linalg.eigh(standardised.T @ standardised / len(s))
    return U[:, ::-1], e[::-1]


def test_leading_directions_are_principal_components():
    network, (images, _) = make(make_window(8, 8, 2, dims=9)), batch(30)
    network.precondition(images)
    network.find_leading(images, 6)
    U, damping = network.leading
    components, e = standardised_components(network, images)
    overlap = np.abs(U.T @ components[:, :6])
    np.testing.assert_allclose(overlap, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(damping[:, 0], 1 - e[6] / e[:6], rtol=1e-6)


def test_a_damped_step_divides_the_gradient_along_leading_directions():
    network, (images, labels) = make(make_window(8, 8, 2, dims=9)), batch(30)
    network.precondition(images)
    undamped = network.copy()
    undamped.preconditioner = network.preconditioner
    network.find_leading(images, 6)
    sgd = SGD(learning_rate=0.05)
    components, e = standardised_components(network, images)
    before = network.weights["W2"].copy()
    network.train_batch(images, labels, sgd)
    undamped.train_batch(images, labels, sgd)
    std = network.preconditioner[1][:, None]
    damped, plain = (
        components.T @ (std * (each.weights["W2"] - before)) for each in (network, undamped)
    )
    factor = np.ones((len(e), 1))
    factor[:6, 0] = e[6] / e[:6]
    np.testing.assert_allclose(damped, factor * plain, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("b1", [np.nan, -1e6])  # diverged; all activations are 0
def test_without_directions_nothing_is_damped(b1):
    network, (images, _) = make(make_window(8, 8, 2, dims=9)), batch(30)
    network.precondition(images)
    network.find_leading(images, 6)
    network.weights["b1"][...] = b1
    network.find_leading(images, 6)
    assert network.leading is None


def test_directions_without_variance_are_damped_to_nothing_and_stay_finite():
    network, (images, labels) = make(make_window(8, 8, 2, dims=9)), batch(6)
    network.precondition(images)
    network.find_leading(images, 5)  # six images span five directions
    network.train_batch(images, labels, SGD(learning_rate=0.05))
    assert all(np.isfinite(array).all() for array in network.weights.values())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copied_or_pickled_network_trains_as_the_first(copied):
    network, (images, labels) = make(make_window(16, 16, 2)), batch(5)
    other = copied(network)
    for each in (network, other):
        each.train_batch(images, labels, SGD(0.1))
    np.testing.assert_array_equal(network.logits(images), other.logits(images))
    np.testing.assert_array_equal(network.weights["W1"], other.weights["W1"])


def test_a_replaced_array_is_refused_as_it_would_change_nothing():
    network, (images, _) = make(), batch(2)
    network.weights["b1"] = np.ones((1, 7))
    with pytest.raises(ValueError, match=r"weights: b1 was replaced.*write into it"):
        network.logits(images)


# ---- Training and prediction -------------------------------------------------------------------


def test_the_loss_is_the_mean_cross_entropy_and_right_counts_hits():
    network, (images, labels) = make(), batch(9)
    w = network.weights
    logits = np.maximum(images @ w["W1"] + w["b1"], 0) @ w["W2"] + w["b2"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network.predict_proba(images), probabilities, rtol=1e-9)
    assert np.array_equal(network.predict(images), logits.argmax(axis=1))
    loss, correct = network.train_batch(images, labels)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(9), labels]).mean())
    assert correct == (logits.argmax(axis=1) == labels).sum()


@pytest.mark.parametrize("window", [Window(), make_window(16, 8, 3)], ids=str)
def test_batchnorm_follows_the_batches_and_inference_uses_what_it_followed(window):
    network, (images, labels) = make(window, batchnorm=True), batch(8)
    w = {name: array.copy() for name, array in network.weights.items()}
    z1 = window.patches(images) @ w["W1"] + w["b1"]
    network.train_batch(images, labels, SGD(learning_rate=0))
    mean, variance = (
        0.9 * w["running_mean1"] + 0.1 * z1.mean(axis=0),
        0.9 * w["running_var1"] + 0.1 * z1.var(axis=0),
    )
    np.testing.assert_allclose(network.weights["running_mean1"], mean, rtol=1e-9)
    np.testing.assert_allclose(network.weights["running_var1"], variance, rtol=1e-9)
    a1 = np.maximum((z1 - mean) / np.sqrt(variance + model.BN_EPS) * w["gamma1"] + w["beta1"], 0)
    a1 = a1.reshape(8, window.positions, 7)
    np.testing.assert_allclose(network.hidden(images), a1, rtol=1e-9, atol=1e-12)
    s = (window.R @ a1).reshape(8, -1)
    np.testing.assert_allclose(network.logits(images), s @ w["W2"] + w["b2"], rtol=1e-9)


@pytest.mark.parametrize("window", [Window(), make_window(16, 8, 3, dims=6)], ids=str)
def test_inference_leaves_the_network_as_it_was_and_does_not_depend_on_the_batch(window):
    network, (images, labels) = make(window, batchnorm=True, dropout=0.5), batch(30)
    before = {name: array.copy() for name, array in network.weights.items()}
    whole = network.logits(images)
    np.testing.assert_allclose(
        np.concatenate([network.logits(images[:1]), network.logits(images[1:])]), whole
    )
    loss, accuracy = network.evaluate(images, labels)
    assert loss == pytest.approx(model.cross_entropy_forward(whole, labels)[0].mean())
    assert accuracy == (whole.argmax(axis=1) == labels).mean()
    assert all(np.array_equal(array, before[name]) for name, array in network.weights.items())
    assert network.logits(images[:0]).shape == (0, 10)
    assert network.predict(images[:0]).shape == (0,)


def test_bytes_are_fractions_of_255():
    network, rng = make(make_window(16, 8, 3, dims=6)), np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
    np.testing.assert_allclose(network.logits(images), network.logits(images / 255), rtol=1e-12)


@pytest.mark.parametrize(("p", "drawn"), [(0.25, 64 / 256), (0.3, 77 / 256), (0.997, 255 / 256)])
def test_dropout_drops_its_share(p, drawn):
    network, (images, labels) = make(hidden_size=400, dropout=p), batch(64)
    shares, forward = [], network.forward

    def watched(images, train, mask):
        shares.append(mask.mean())
        z2, cache = forward(images, train, mask)
        np.testing.assert_allclose(
            np.unique(cache[1]), [0, 1 / (1 - drawn)]
        )  # the mask / (1 - p) of (6)
        return z2, cache

    network.forward = watched
    for _ in range(10):
        gradients_of(network, images, labels)
    assert np.mean(shares) == pytest.approx(
        1 - drawn, abs=4 * np.sqrt(drawn * (1 - drawn) / (640 * 400))
    )


def test_the_expectation_of_the_logits_with_dropout_is_their_value_without():
    network, (images, _) = make(hidden_size=64, dropout=0.5), batch(4)
    rng = np.random.default_rng(0)
    z2 = [network.forward(images, True, rng.random((4, 64)) < 0.5)[0] for _ in range(2000)]
    np.testing.assert_allclose(
        np.mean(z2, axis=0), network.logits(images), atol=5 * np.std(z2, axis=0).max() / 2000**0.5
    )


def test_dropout_draws_from_the_networks_generator_or_another():
    images, labels = batch(4)
    losses = [make(dropout=0.5).train_batch(images, labels)[0] for _ in range(2)]
    other = make(dropout=0.5).train_batch(images, labels, rng=np.random.default_rng(8))[0]
    assert losses[0] == losses[1] != other


@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_network_learns_a_batch_by_heart(batchnorm):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 3072), dtype=np.uint8), rng.integers(0, 10, 50)
    network = Network(64, batchnorm=batchnorm, dropout=0)
    for _ in range(60):
        network.train_batch(images, labels, SGD(learning_rate=0.02))
    assert np.array_equal(network.predict(images), labels)
    assert network.weights["W1"].dtype == np.float32


def test_arrays_have_the_reports_names_and_shapes():
    shapes = {name: array.shape for name, array in Network(9).weights.items()}
    expected = {"W1": (3072, 9), "b1": (1, 9), "W2": (9, 10), "b2": (1, 10)}
    assert shapes == expected | dict.fromkeys(
        ("gamma1", "beta1", "running_mean1", "running_var1"), (1, 9)
    )
    assert set(Network(9).velocity) == {"W1", "b1", "W2", "b2", "gamma1", "beta1"}
    shapes = {
        name: array.shape
        for name, array in make(make_window(8, 4, 3, dims=20), classes=4).weights.items()
    }
    assert shapes == {"W1": (20, 7), "b1": (1, 7), "W2": (9 * 7, 4), "b2": (1, 4)}
    W1, W2 = Network(100).weights["W1"], Network(300, classes=100).weights["W2"]
    assert W1.std() == pytest.approx(np.sqrt(2 / 3072), rel=0.01)
    assert W2.std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)


def test_networks_say_what_they_are():
    assert (
        str(Network(9))
        == "3072 -> 9 hidden units -> 10; batch normalisation, dropout 0.5, 27,775 parameters"
    )
    text = repr(make(make_window(8, 8, 2, dims=20), classes=3))
    assert text == "3072 -> 7 8x8 filters at 16 positions 8 apart, 2x2 regions -> 3; 234 parameters"


def test_a_copy_is_another_network():
    network, (images, labels) = make(make_window(8, 8, 2, dims=9), batchnorm=True), batch(5)
    copy, expected = network.copy(), network.logits(images)
    assert np.array_equal(copy.logits(images), expected)
    network.train_batch(images, labels)
    assert np.array_equal(copy.logits(images), expected)


# ---- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.zeros(2, int), "labels must be"),
        (np.zeros(3), "labels must be"),
        (np.zeros((3, 1), int), "labels must be"),
        (np.array([0, 1, 10]), "0 to 9"),
        (np.array([0, 1, -1]), "0 to 9"),
    ],
)
def test_batches_that_cannot_be_are_refused(labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        Network(4).train_batch(np.zeros((3, 3072), np.uint8), labels)


def test_a_batch_of_one_image_needs_another_for_batchnorm_or_several_positions():
    images, labels = batch(1)
    with pytest.raises(ValueError, match="at least 2 images"):
        make(batchnorm=True).train_batch(images, labels)
    with pytest.raises(ValueError, match="at least one"):
        make().train_batch(images[:0], labels[:0])
    make(make_window(16, 16), batchnorm=True).train_batch(images, labels)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dropout": 1}, "dropout"),
        ({"dropout": 0.999}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": np.nan}, "dropout"),
        ({"cap": -1}, "cap must be"),
        ({"cap": np.inf}, "cap must be"),
        ({"cap": np.nan}, "cap must be"),
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"hidden_size": 10**6 + 1}, "1 to 1,000,000"),
        ({"classes": 1}, "2 to 1,000"),
        ({"classes": 1001}, "2 to 1,000"),
    ],
)
def test_networks_that_cannot_be_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Network(**options)


def test_a_loss_that_is_not_finite_leaves_the_weights():
    for window, batchnorm in itertools.product((Window(), make_window(16, 16)), (False, True)):
        network, (images, labels) = make(window, dtype=np.float32, batchnorm=batchnorm), batch(4)
        network.weights["W1"][0, 0] = np.inf
        before = {name: network.weights[name].copy() for name in network.velocity}
        with np.errstate(invalid="ignore"):
            loss, _ = network.train_batch(images, labels)
        assert not np.isfinite(loss)
        assert all(np.array_equal(network.weights[name], array) for name, array in before.items())
