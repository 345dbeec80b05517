"""What hidden units see and do, in pixels: filters, class pictures and mean gradients of a `model.Network`."""

from support.network.votes import batchnorm_line, relu_slope
from support.threads import slices

import numpy as np

PIXELS = 3072
FEW = 8  # images at a time


def filter_weights(network, units) -> np.ndarray:
    """What units multiply the pixels of their window with, (3 size^2, units) float64: with a map, (x - mean) P W1 is
    x (P W1) and a constant."""
    W1, P = network.weights["W1"][:, units].astype(float), network.window.P
    return W1 if P is None else P.astype(float) @ W1


def fold(network, weights: np.ndarray) -> np.ndarray:
    """The sum over places and units of weights (n, H), with mirrored units (2 n, H), times the unit's filter where that
    place lies in the image: (3072,), float64."""
    patches = np.zeros((len(weights), network.window.pixels))
    for units in slices(network.hidden_size, 1024):
        patches += weights[:, units] @ filter_weights(network, units).T
    if network.window.mirror:
        patches = patches[: len(patches) // 2] + patches[len(patches) // 2 :, network.window.flip]
    pixels = network.window.patches(
        np.arange(PIXELS)[None]
    )  # (n, 3 size^2): which pixel each number is
    return np.bincount(pixels.ravel(), patches.ravel(), PIXELS)


def place_weights(network, c: int) -> np.ndarray:
    """What a unit's activation at a place is multiplied with in the logit of class c, (n, H) or with mirrored units
    (2 n, H): its region's weight in W2, by the places of the region, over which the pool takes the mean."""
    window = network.window
    W2 = network.weights["W2"].reshape(window.q, -1, network.classes)[
        :, :, c
    ] * window.share.astype(float)
    return W2[window.region_of_row]


def active_share(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For how many of the images (N, 3072) each unit is above zero at each place, and for how many above zero and below
    its cap, both (n, H), with mirrored units (2 n, H), in 0..1; and for each image the share of units and places that
    are above zero, (N,)."""
    shape = 2, network.window.rows, network.hidden_size

    def count(rows: slice) -> tuple[np.ndarray, list[float]]:
        total, lit = np.zeros(shape, np.int32), []
        for few in slices(rows.stop - rows.start, FEW):
            a1 = network.hidden(images[rows][few])
            on = a1 > 0
            total += on.sum(axis=0, dtype=np.int32)
            total[1] -= (on > relu_slope(a1, network.cap)).sum(axis=0, dtype=np.int32)
            lit += on.mean(axis=(1, 2)).tolist()
        return total, lit

    total, lit = np.zeros(shape, np.int32), []
    for rows in slices(len(images), 32 * FEW):
        quarters = [
            slice(rows.start + part.start, rows.start + part.stop)
            for part in slices(len(images[rows]), 64)
        ]
        for part, its_lit in network.threads.each(count, quarters):
            total += part
            lit += its_lit
    return *(total / max(len(images), 1)), np.array(lit)


def mean_gradient(network, share: np.ndarray, c: int) -> np.ndarray:
    """The gradient of logit c with respect to the pixels (in [0, 1]), averaged over the images of which the second of
    `active_share`, (n, H), is given: (3072,).

    In inference mode dz2_c/dz1 is ReLU'(z1^), 0 or 1, times `place_weights` times the slope of (3). Only ReLU'
    depends on the image, so that the mean over images is that of ReLU', and folding is linear.
    """
    slope, _ = batchnorm_line(network)
    return fold(network, share * slope * place_weights(network, c))


def class_picture(network, c: int) -> np.ndarray:
    """The report's picture of a class, W1 W2[:, c], (3072,): as if every unit were above zero, and below its
    cap, at every place."""
    return fold(network, place_weights(network, c))


def box_mean(pixels: np.ndarray, size: int) -> np.ndarray:
    """The mean over size x size pixels to the right of and below each one: (3072,) -> (3072,)."""
    padded = np.pad(pixels.reshape(3, 32, 32), ((0, 0), (0, size - 1), (0, size - 1)), mode="edge")
    return (
        np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
        .mean(axis=(3, 4))
        .ravel()
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two vectors; 0 where one is zero."""
    a, b = (each / max(float(np.abs(each).max()), 1e-300) for each in (a, b))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))
