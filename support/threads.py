"""Spread work over threads, with the same bits whatever their number.

NumPy releases Python's lock while it computes, so our threads run side by side. Each of them calls
BLAS with one thread of its own, see startup.py.
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
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads:
    """A team of `count` threads that share work; the calling thread is one of them."""

    def __init__(self, count: int = 1):
        self.count = count
        self._helpers = ThreadPoolExecutor(count - 1) if count > 1 else None
        self._inside = threading.local()  # whether this thread is already in `each`

    def __reduce__(self):
        """Let a deep copy, or one in another process, have threads of its own."""
        return Threads, (self.count,)

    def each(self, function: Callable, *iterables: Iterable) -> list:
        """Return [function(*items) for items in zip(*iterables)], computed on all threads.

        One thread does an item from beginning to end, and the results keep the order of the items.
        So a sum over them has the same bits with any number of threads. Inside another `each` of
        several items this is a plain loop. Overflow gives no warning here: it shows up as a loss
        that is not finite.
        """
        items = list(zip(*iterables, strict=True))
        alone = self._helpers is None or len(items) < 2
        if alone or getattr(self._inside, "busy", False):
            with np.errstate(over="ignore", invalid="ignore"):
                return [function(*each) for each in items]
        job = _Job(function, items)
        helpers = [self._helpers.submit(self._work, job) for _ in items[1 : self.count]]
        try:
            self._work(job)
        finally:
            wait(helpers)  # also after an error: no thread may go on writing
        for helper in helpers:
            helper.result()  # raises what a helper raised
        return job.results

    def _work(self, job: "_Job") -> None:
        self._inside.busy = True
        try:
            job.work()
        finally:
            self._inside.busy = False


class _Job:
    """Items that several threads take one by one, and their results."""

    def __init__(self, function: Callable, items: list):
        self.function, self.items = function, items
        self.results: list = [None] * len(items)
        self.left = iter(range(len(items)))  # shared: each thread takes the next number

    def work(self) -> None:
        """Do items until none is left."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                for i in self.left:
                    self.results[i] = self.function(*self.items[i])
        except BaseException:
            for _ in self.left:  # leave nothing for the other threads to begin
                pass
            raise


def slices(n: int, size: int) -> list[slice]:
    """Cut range(n) into slices of `size`; the last one may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numpy.linalg.eigh(matrix), computed by BLAS on one thread.

    With more threads its bits would depend on the machine's number of cores. If numpy was imported
    before this project, as in a notebook, BLAS may already have several: then a process of its own
    computes the result.
    """
    if startup.ONE_BLAS_THREAD:
        return np.linalg.eigh(matrix)
    script = (
        "import io, sys\n"
        "from support.threads import np\n"
        "matrix = np.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "for result in np.linalg.eigh(matrix):\n"
        "    np.save(sys.stdout.buffer, result)\n"
    )
    sent = io.BytesIO()
    np.save(sent, matrix)
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=sent.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    answer = io.BytesIO(done.stdout)
    return np.load(answer), np.load(answer)
