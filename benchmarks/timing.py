"""Fair times: each contender runs in its own process, and they take turns, round after round.

One contender runs at a time, for a few steps, so that a machine that slows down does so for all.
The first third of a turn isn't counted: the caches still hold another contender's arrays. A ratio
is taken within each round, in which both sides had the same machine. It is given as the median
over the rounds, with the spread of the middle 80 %.
"""

import contextlib
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
WARM_UP = 3  # steps before the first turn: buffers, compilation
PAUSE = 0.05  # seconds before a turn, until idle BLAS threads of the last one have stopped spinning


class Lost(Exception):
    """A process that can't start or continue; the text says why in a few words."""


class Worker:
    """A process that runs function(exchange, *arguments) with a number of BLAS threads.

    In the process, exchange(answer) sends an answer and waits for the next question. The first
    answer is the attribute `first`. Raises Lost if the process fails.
    """

    def __init__(self, function: Callable, *arguments, threads: int = 1):
        # A fresh Python, in which BLAS isn't loaded yet.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = (theirs, threads, function, arguments)
        self.process = context.Process(target=_run, args=given, daemon=True)
        self.process.start()
        theirs.close()
        self.first = self._receive()

    def ask(self, question: object = None):
        """Return the answer to a question. Raises Lost if there is none."""
        with contextlib.suppress(BrokenPipeError):  # a dead process; _receive says so
            self.pipe.send(question)
        return self._receive()

    def _receive(self):
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Lost(f"died with exit code {self.process.exitcode}") from None
        if isinstance(answer, Lost):
            raise answer
        return answer

    def close(self) -> None:
        """End the process; it stops by itself once the pipe is closed."""
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


def _run(pipe, threads: int, function: Callable, arguments: tuple) -> None:
    """Run a worker's function; the process's entry point."""
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    # Helper processes that compile would stay, idle, until the end.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

    def exchange(answer):
        pipe.send(answer)
        return pipe.recv()

    try:
        function(exchange, *arguments)
    except (EOFError, BrokenPipeError):
        pass  # the pipe was closed
    except Exception as error:  # a compiler fails in a dozen ways, and the others continue
        reason = " ".join(str(error).split())[:200]
        pipe.send(Lost(f"{type(error).__name__}: {reason}"))


def once(function: Callable, *arguments, threads: int = 1):
    """Return the first answer of a function that runs in its own process."""
    worker = Worker(function, *arguments, threads=threads)
    worker.close()
    return worker.first


def peak_memory() -> float:
    """Return the most memory that this process has had, in MB; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return math.nan
    units_per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mb


def serve(exchange: Callable, make: Callable, *arguments) -> None:
    """In a worker: do as many steps as are asked for.

    make(*arguments) returns a function that does a step and may return its loss. An answer is
    (milliseconds of each step, peak memory in MB). Raises ArithmeticError for a loss that isn't
    finite, as such a step is cut short.
    """
    step = make(*arguments)
    count = WARM_UP
    while True:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            loss = step()
            times.append(1e3 * (time.perf_counter() - began))
            if loss is not None and not math.isfinite(loss):
                raise ArithmeticError(f"loss {loss}")
        count = exchange((times, peak_memory()))


def turn(worker: Worker, steps: int) -> tuple[list[float], float]:
    """Return the milliseconds of a turn's steps, without the first third, and the peak MB."""
    time.sleep(PAUSE)
    times, memory = worker.ask(steps)
    return times[max(1, steps // 3) :], memory


def race(
    starts: dict[str, Callable[[], Worker]], rounds: int, steps: int
) -> tuple[dict, dict, dict]:
    """Start workers by name and let them take turns.

    Returns three dicts by name: a list of milliseconds for each round, the peak memory in MB, and
    for the contenders that failed, why.
    """
    workers: dict[str, Worker] = {}
    times: dict[str, list] = {}
    memory: dict[str, float] = {}
    lost: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name, start in starts.items():
            try:
                workers[name] = start()
                stack.callback(workers[name].close)
            except Lost as error:
                lost[name] = str(error)
        for _ in range(rounds):
            for name in [name for name in workers if name not in lost]:
                try:
                    counted, memory[name] = turn(workers[name], steps)
                    times.setdefault(name, []).append(counted)
                except Lost as error:
                    lost[name] = str(error)
                    times.pop(name, None)
    return times, memory, lost


def middle(values: list[float]) -> str:
    """Return the median of values, and the spread of the middle 80 % of them, as text."""
    ordered = sorted(values)
    low = ordered[round(0.1 * (len(values) - 1))]
    high = ordered[round(0.9 * (len(values) - 1))]
    return f"{statistics.median(values):.2f} ({low:.2f}-{high:.2f})"


def ratio(rounds: list[list[float]], others: list[list[float]]) -> str:
    """Return how many times as long as the others' these steps take, as text."""
    pairs = zip(rounds, others, strict=True)
    return middle([statistics.median(a) / statistics.median(b) for a, b in pairs])
