"""Cut work into pieces that a core's cache can hold, and join their results.

The pieces, and the order in which results are added, depend on the network alone, never on the
number of threads: any number of threads gives the same bits.
"""

from collections.abc import Callable, Iterable

from support.network.window import Window
from support.threads import Threads, slices

import numpy as np

WHOLE_UNITS = 512  # hidden units that a thread takes at a time, if a unit sees the whole image
FILTERS = 256  # the same, if hidden units are filters of smaller windows
IMAGES = 8  # images that a thread takes at a time, if hidden units are filters
ROWS = 2800  # the most rows of z1 in such a group: many positions mean fewer images
WHOLE_IMAGES = 256  # images that a thread takes at a time in inference, for whole images
LANES = 8  # partial sums of gradients in a batch; at most so many threads share it
WEIGHTS = 2**18  # numbers of a weight matrix that a thread takes at a time
GRADIENT_ROWS = 256  # rows of dL/dW1 that are multiplied at a time, or more if they are short
PIECE = 2**17  # numbers of a weight matrix that are updated at a time


def of_units(units: int, window: Window) -> list[slice]:
    """Return the hidden units in blocks."""
    if window.whole:
        return staggered(units, WHOLE_UNITS)
    return slices(units, FILTERS)


def of_images(images: int, window: Window) -> list[slice]:
    """Cut the images into groups. A group goes through the network at once, on one thread."""
    if window.whole:
        return slices(images, WHOLE_IMAGES)
    return slices(images, max(1, min(IMAGES, ROWS // window.rows)))


def of_weights(weights: np.ndarray) -> list[slice]:
    """Return the rows of a matrix in blocks."""
    return slices(len(weights), max(16, WEIGHTS // weights.shape[1]))


def of_gradient(weights: np.ndarray) -> list[slice]:
    """Return the rows of a matrix in blocks, whose gradients are multiplied at once.

    A product of few rows would spend its time on copying dz to where BLAS wants it.
    """
    return staggered(len(weights), max(GRADIENT_ROWS, WEIGHTS // weights.shape[1]))


def of_update(weights: np.ndarray) -> list[slice]:
    """Return the rows of a block in pieces, which stay in a core's cache from pass to pass."""
    return slices(len(weights), max(1, PIECE // weights.shape[1]))


def staggered(n: int, size: int) -> list[slice]:
    """Cut range(n) into slices of `size`, the first one half as long, unless one holds all.

    A block is one long product, then many short passes. If all blocks were equal, the threads would
    do their passes at the same time, and wait for Python's lock and for memory.
    """
    if n <= size:
        return [slice(0, n)]
    half = -(-size // 2)
    rest = slices(n - half, size)
    return [slice(0, half)] + [slice(half + each.start, half + each.stop) for each in rest]


def in_lanes(groups: list[slice]) -> list[list[slice]]:
    """Return the groups in at most LANES lists of consecutive ones."""
    length = -(-len(groups) // LANES)
    return [groups[i : i + length] for i in range(0, len(groups), length)]


def sum_over(groups: list[slice], function: Callable, threads: Threads):
    """Return function(group) summed over all groups by `+=`, on all threads."""

    def sum_of(items: Iterable):
        items = iter(items)
        total = next(items)
        for item in items:
            total += item
        return total

    def sum_of_lane(lane: list[slice]):
        return sum_of(function(group) for group in lane)

    return sum_of(threads.each(sum_of_lane, in_lanes(groups)))


class LazyProduct:
    """The matrix X^T dz, (k, H), as its factors X (rows, k) and dz (rows, H).

    Indexing by a slice of rows multiplies these rows out. The gradient of W1 for whole images is as
    large as W1: multiplied block by block while W1 is updated, it never travels to memory and back,
    which would take 14 to 20 % of a training step.
    """

    def __init__(self, X: np.ndarray, dz: np.ndarray):
        self.X, self.dz = X, dz

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.X[:, rows].T @ self.dz


def join_units(parts: list[dict]) -> dict:
    """Return the arrays of blocks of hidden units joined along their columns, name by name."""
    joined = {}
    for name, first in parts[0].items():
        arrays = [part[name] for part in parts]
        if isinstance(first, LazyProduct):
            joined[name] = LazyProduct(first.X, np.hstack([each.dz for each in arrays]))
        else:
            joined[name] = np.hstack(arrays)
    return joined
