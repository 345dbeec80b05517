"""Work spread over threads, with the same bits whatever their number.

NumPy lets go of Python's lock while it computes, so threads of our own run side by side; BLAS has one thread in each.
"""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from support import startup

import numpy as np


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """`count` threads that share work, the calling one among them."""

    def __init__(self, count: int = 1):
        self.count = count
        self._helpers = ThreadPoolExecutor(count - 1) if count > 1 else None
        self._inside = threading.local()

    def __reduce__(self):  # a deep copy, or one for another process, has threads of its own
        return Threads, (self.count,)

    def each(self, function: Callable, items: Iterable) -> list:
        """[function(item) for item in items], on all threads; an item is one thread's work from begin to end.

        The results stand in the items' order, so that a sum over them has the same bits with any number of threads.
        Called from within another `each` of several items, it is a plain loop. What overflows gives no warning here:
        it surfaces as a loss that isn't finite.
        """
        items = list(items)
        results: list = [None] * len(items)
        queue = iter(range(len(items)))

        def drain():
            with np.errstate(over="ignore", invalid="ignore"):
                try:
                    for i in queue:
                        results[i] = function(items[i])
                except BaseException:
                    for _ in queue:  # nothing is left for the other threads to begin
                        pass
                    raise

        if self._helpers is None or len(items) < 2 or getattr(self._inside, "busy", False):
            drain()
            return results

        def help_out():
            self._inside.busy = True
            drain()

        helpers = [self._helpers.submit(help_out) for _ in items[1 : self.count]]
        self._inside.busy = True
        try:
            drain()
        finally:
            self._inside.busy = False
            wait(helpers)  # until no thread writes any more, even where one has failed
            for helper in helpers:
                helper.result()
        return results


class LazyProduct:
    """X^T dz, (rows of X, k) by (rows, H), as its two factors. Indexing by rows multiplies these rows out.

    dL/dW1 of the whole image is as large as W1. Multiplied block by block where it is used, it never goes to memory.
    """

    def __init__(self, X: np.ndarray, dz: np.ndarray):
        self.X, self.dz = X, dz

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.X[:, rows].T @ self.dz


def add(dicts: Iterable[dict]) -> dict:
    """The sum of dicts of arrays, in their order, in the first one's arrays."""
    dicts = iter(dicts)
    total = next(dicts)
    for each in dicts:
        for name, array in each.items():
            total[name] += array
    return total


def slices(n: int, size: int) -> list[slice]:
    """range(n) cut into slices of `size`, the last one shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


# ---- How work is cut: into what a core's cache can hold, and alike for any number of threads ------------------------

UNIT_BLOCK = 512  # hidden units that a thread takes at a time, where they see the whole image
WINDOW_UNIT_BLOCK = 256  # the same, where they see windows
WINDOW_IMAGES = 8  # images that a thread takes at a time, where units see windows; fewer where they have more than
WINDOW_ROWS = 1400  # rows of z1 together
LANES = 8  # groups of such images whose gradients are summed apart: the most threads that can share a batch
WEIGHT_BLOCK = 2**18  # numbers of W1 between the product that makes their gradient and their update


def unit_blocks(units: int, whole: bool) -> list[slice]:
    """The hidden units in blocks; whole: they see the whole image."""
    return slices(units, UNIT_BLOCK if whole else WINDOW_UNIT_BLOCK)


def few_images(images: int, rows: int) -> list[slice]:
    """Images that see windows, each with so many rows of z1, a few at a time."""
    return slices(images, max(1, min(WINDOW_IMAGES, WINDOW_ROWS // rows)))


def image_lanes(images: int, rows: int) -> list[list[slice]]:
    """A batch's images in lanes, each a list of a few images at a time."""
    few = few_images(images, rows)
    length = -(-len(few) // LANES)
    return [few[i : i + length] for i in range(0, len(few), length)]


def weight_blocks(weights: np.ndarray) -> list[slice]:
    """The rows of a matrix in blocks."""
    return slices(len(weights), max(16, WEIGHT_BLOCK // weights.shape[1]))


# ---- Linear algebra -------------------------------------------------------------------------------------------------


def eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """numpy.linalg.eigh with one BLAS thread, whose bits don't depend on the machine's number of cores.

    Where numpy was imported before this module, as in a notebook, BLAS has its threads already, and a process of its
    own computes the result.
    """
    if startup.ONE_BLAS_THREAD:
        return np.linalg.eigh(matrix)
    sent = io.BytesIO()
    np.save(sent, matrix)
    script = (
        "import io, sys; from support.threads import np; values, vectors = np.linalg.eigh(np.load(io.BytesIO("
        "sys.stdin.buffer.read()))); np.save(sys.stdout.buffer, values); np.save(sys.stdout.buffer, vectors)"
    )
    command = [sys.executable, "-c", script]
    folder = Path(__file__).resolve().parent.parent
    answer = io.BytesIO(
        subprocess.run(command, input=sent.getvalue(), stdout=-1, check=True, cwd=folder).stdout
    )
    return np.load(answer), np.load(answer)
