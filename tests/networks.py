"""Small networks for tests, in float64, and how much two arrays differ."""

from model import Network
from support.network.window import Window

import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def batch(m, seed=2):
    """Images (m, 3072) in [0, 1] and labels (m,)."""
    rng = np.random.default_rng(seed)
    return rng.random((m, 3072)), rng.integers(0, 10, m)


def make_window(
    size=32, stride=1, regions=1, dims=None, mirror=False, two_sided=False, bilinear=False
):
    """A window with a random map to `dims` numbers. mirror: two thirds of the
    columns are even, and filters are also applied flipped."""
    mean, P = normal(3 * size**2, seed=1), None
    if dims is not None:
        P = normal(3 * size**2, dims, seed=2) / size
    if mirror:
        flip = Window(size).flip
        mean, sign = mean + mean[flip], np.where(np.arange(dims) < dims // 3, -1, 1)
        P = P + P[flip] * sign
    if dims is None:
        mean = None
    views = {"mirror": mirror, "two_sided": two_sided, "bilinear": bilinear}
    return Window(size, stride, regions, mean, P, **views)


def make(window=None, hidden_size=7, dtype=np.float64, **options):
    """A small network, its biases and BN's arrays away from the values they start with."""
    network = Network(
        hidden_size,
        window,
        dtype=dtype,
        **{"seed": 1, "dropout": 0.0, "batchnorm": False} | options,
    )
    rng = np.random.default_rng(3)
    for name, array in network.weights.items():
        if name not in ("W1", "W2"):
            array += 0.1 * np.abs(rng.normal(size=array.shape))
    return network


def error(found, expected):
    """The largest difference, relative to the largest entries."""
    return np.abs(found - expected).max() / (np.abs(found).max() + np.abs(expected).max())
