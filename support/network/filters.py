"""Show what hidden units look for: filters, influence, top patches, gradients."""

from dataclasses import dataclass

from support.image_shape import CHANNELS, PIXELS, SIDE
from support.network import blocks
from support.network.votes import batchnorm_line, relu_slope
from support.threads import slices

import numpy as np
from tqdm import tqdm

# ---- Filters -------------------------------------------------------------------------------------


def filter_weights(network, units) -> np.ndarray:
    """Return what units multiply the pixels of a patch with, (3 size^2, units) float64.

    With a map the patch is multiplied by P first: (x - mean) P W1 is x (P W1) and a constant, so it
    is P W1.
    """
    W1, P = network.weights["W1"][:, units].astype(float), network.window.P
    return W1 if P is None else P.astype(float) @ W1


def onto_pixels(network, weights: np.ndarray) -> np.ndarray:
    """Return sum over positions and units of weights (rows, H) times the filter there, (3072,).

    Rows are those of z1: of filters, then of flipped ones; the same with reversed sign follow.
    """
    window = network.window
    if window.two_sided:
        upright, reversed_sign = np.split(weights, 2)
        weights = upright - reversed_sign
    patches = np.zeros((len(weights), window.pixels))
    for units in slices(network.hidden_size, 1024):
        patches += weights[:, units] @ filter_weights(network, units).T
    if window.mirror:
        half = len(patches) // 2
        patches = patches[:half] + patches[half:, window.flip]
    # The number of the image's pixel that each number of a patch is, (positions, 3 size^2).
    pixels = window.patches(np.arange(PIXELS)[None])
    return np.bincount(pixels.ravel(), patches.ravel(), PIXELS)


def position_weights(network, c: int) -> np.ndarray:
    """Return the weight of each activation a1 in the logit of class c, (rows, H).

    It is R^T W2: by R each position takes part in the means of its regions.
    """
    window = network.window
    W2 = network.weights["W2"].reshape(window.q, -1, network.classes)[:, :, c]
    return window.R.astype(float).T @ W2


# ---- Influence -----------------------------------------------------------------------------------


def influence(network, images: np.ndarray) -> np.ndarray:
    """Return how much the logits of images (N, 3072) would change without each unit, (H,) float64.

    Unit h adds d[i, c] = sum_r s[i, r, h] W2[r h, c] to logit c of image i. What it adds to all
    classes alike changes no probability, so the mean over classes is taken out. The influence is
    the root of the mean of d^2 over images and classes.
    """
    window, C = network.window, network.classes
    W2 = network.weights["W2"].reshape(window.q, -1, C).astype(float)
    W2 -= W2.mean(axis=2, keepdims=True)
    # The mean of d^2 over images needs only the products of two regions: sum_rt (W2_r W2_t) (mean
    # of s_r s_t).
    products = np.zeros((network.hidden_size, window.q, window.q))
    bar = tqdm(
        total=len(images), desc="influence", unit=" images", delay=2, leave=False, disable=None
    )
    with bar:
        for some in slices(len(images), 64):
            s = network.pooled(images[some]).reshape(-1, window.q, network.hidden_size)
            s = s.transpose(2, 1, 0).astype(float)  # (H, q, images)
            products += s @ s.transpose(0, 2, 1)
            bar.update(some.stop - some.start)
    of_units = W2.transpose(1, 0, 2)  # (H, q, C)
    weights = of_units @ of_units.transpose(0, 2, 1)
    total = (weights * products).sum(axis=(1, 2))
    return np.sqrt(np.maximum(total, 0) / (max(len(images), 1) * C))


def stated_size(network) -> np.ndarray:
    """Return a stand-in for the influence that needs no images, (H,) float64: |W1[:, h]| |W2[h]|.

    With batch normalisation (3) sets the size of an activation, so |gamma[h]| is used instead
    of |W1[:, h]|.
    """
    weights = network.weights
    W2 = weights["W2"].reshape(network.window.q, -1, network.classes).astype(float)
    output = np.sqrt((W2**2).sum(axis=(0, 2)))
    if network.batchnorm:
        return np.abs(weights["gamma1"][0].astype(float)) * output
    return column_norms(weights["W1"]) * output


def column_norms(W1: np.ndarray) -> np.ndarray:
    """Return the norm of each column of W1 (k, H), (H,) float64."""
    columns = slices(W1.shape[1], 4096)  # a few at a time, as float64 takes twice the room
    return np.concatenate([np.linalg.norm(W1[:, some].astype(float), axis=0) for some in columns])


# ---- Top patches ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patch:
    """A patch of an image for which a unit is large."""

    image: int  # a row of the images
    position: tuple[int, int]  # row and column among the positions
    mirrored: bool  # whether it is the flipped filter that is large here
    activation: float  # (4), without the cap


def top_patches(network, images: np.ndarray, units, count: int = 9) -> list[list[Patch]]:
    """Return, for each of the units, the patches for which it is largest, largest first.

    This is how Zeiler & Fergus (2014) show units. images (N, 3072); at most `count` patches a unit,
    each from another image. Patches for which the unit is 0 are left out. The cap is not applied,
    as it would make many patches equal. The units of a two-sided network are numbered as
    `Network.one_sided` does.
    """
    window, units = network.window, np.asarray(units)
    few = only_units(network.one_sided(), units)
    largest = np.full((len(images), len(units)), -np.inf)
    rows = np.zeros((len(images), len(units)), int)

    def look(some: slice) -> None:
        a1 = few.hidden(images[some], capped=False)  # (m, rows, units)
        rows[some] = a1.argmax(axis=1)
        largest[some] = a1.max(axis=1)

    bar = tqdm(
        total=len(images), desc="top patches", unit=" images", delay=2, leave=False, disable=None
    )
    with bar:
        for some in slices(len(images), 512):
            parts = slices(some.stop - some.start, 32)
            shifted = [slice(some.start + part.start, some.start + part.stop) for part in parts]
            few.threads.each(look, shifted)
            bar.update(some.stop - some.start)

    patches = []
    for column in range(len(units)):
        best = np.argsort(-largest[:, column], kind="stable")[:count]
        of_unit = []
        for i in best[largest[best, column] > 0]:
            mirrored, position = divmod(int(rows[i, column]), window.positions)
            at = divmod(position, window.side)
            of_unit.append(Patch(int(i), at, bool(mirrored), float(largest[i, column])))
        patches.append(of_unit)
    return patches


def only_units(network, units: np.ndarray):
    """Return a network with these hidden units only."""
    weights = {}
    for name, array in network.weights.items():
        weights[name] = array if name in ("W2", "b2") else array[:, units]
    W2 = network.weights["W2"].reshape(network.window.q, -1, network.classes)[:, units]
    weights["W2"] = W2.reshape(-1, network.classes)
    return network.copy(weights)


def patch_pixels(network, images: np.ndarray, patch: Patch) -> np.ndarray:
    """Return a patch (3 size^2,) as its unit's filter sees it: flipped for the flipped filter."""
    size, stride = network.window.size, network.window.stride
    row, column = (stride * step for step in patch.position)
    square = images[patch.image].reshape(CHANNELS, SIDE, SIDE)
    square = square[:, row : row + size, column : column + size]
    return (square[..., ::-1] if patch.mirrored else square).ravel()


# ---- Class pictures and gradients ----------------------------------------------------------------


def active_share(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often units are on, for images (N, 3072), all in 0..1:

    the share of images for which each unit is above zero at each position, (rows, H);
    the share for which it is above zero and below its cap, (rows, H);
    for each image the share of units and positions that are above zero, (N,).
    """
    shape = 2, network.window.rows, network.hidden_size

    def count(rows: slice) -> tuple[np.ndarray, list[float]]:
        total, of_images = np.zeros(shape, np.int32), []
        for few in blocks.of_images(rows.stop - rows.start, network.window):
            a1 = network.hidden(images[rows][few])
            on = a1 > 0
            total[0] += on.sum(axis=0, dtype=np.int32)
            total[1] += relu_slope(a1, network.cap).sum(axis=0, dtype=np.int32)
            of_images += on.mean(axis=(1, 2)).tolist()
        return total, of_images

    total, of_images = np.zeros(shape, np.int32), []
    for rows in slices(len(images), 256):
        parts = slices(rows.stop - rows.start, 64)
        quarters = [slice(rows.start + part.start, rows.start + part.stop) for part in parts]
        for part, its_images in network.threads.each(count, quarters):
            total += part
            of_images += its_images
    above, between = total / max(len(images), 1)
    return above, between, np.array(of_images)


def mean_gradient(network, share: np.ndarray, c: int) -> np.ndarray:
    """Return the mean gradient of logit c with respect to the pixels (in [0, 1]), (3072,).

    share: the second result of `active_share` for the images of the mean. In inference mode
    dz2_c/dz1 is ReLU'(z1^), 0 or 1, times `position_weights` times the slope of (3). Only ReLU'
    depends on the image, and `onto_pixels` is linear, so the mean over images is that of ReLU'.
    """
    slope, _ = batchnorm_line(network)
    return onto_pixels(network, share * slope * position_weights(network, c))


def class_picture(network, c: int) -> np.ndarray:
    """Return the report's picture of a class, W1 W2[:, c], (3072,).

    It is the gradient of the logit if every unit were above zero, and below its cap, at every
    position.
    """
    return onto_pixels(network, position_weights(network, c))


def box_mean(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the mean over size x size pixels right of and below each one, (3072,)."""
    square = pixels.reshape(CHANNELS, SIDE, SIDE)
    padded = np.pad(square, ((0, 0), (0, size - 1), (0, size - 1)), mode="edge")
    boxes = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return boxes.mean(axis=(3, 4)).ravel()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two vectors; 0 if one of them is zero."""
    a, b = (each / max(float(np.abs(each).max()), 1e-300) for each in (a, b))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))
