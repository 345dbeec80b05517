"""Fair times: each contender is a process of its own, and they take turns, round after round.

One runs at a time, a few steps in its turn, so that a machine that becomes slower does so for all. The first third of a
turn isn't counted: the caches still hold another one's arrays. A ratio is taken within each round, where both sides had
the same machine, and given as the median over the rounds with the spread of the middle 80 %.
"""

import contextlib
import math
import multiprocessing
import os
import resource
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
PAUSE = 0.05  # seconds before a turn, until the last one's idle BLAS threads have stopped spinning


class Lost(Exception):
    """A process that can't start or go on: why, in a few words."""


class Worker:
    """A process that runs function(exchange, *arguments) with so many BLAS threads. Lost if it fails.

    In it, exchange(answer) sends an answer and waits for the next question; the first answer is `first` here.
    """

    def __init__(self, function: Callable, *arguments, threads: int = 1):
        context = multiprocessing.get_context(
            "spawn"
        )  # a fresh Python, where BLAS isn't loaded yet
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_run, args=(theirs, threads, function, arguments), daemon=True
        )
        self.process.start()
        theirs.close()
        self.first = self._receive()

    def ask(self, question: object = None):
        """The answer to a question. Lost if there is none."""
        with contextlib.suppress(BrokenPipeError):  # a process that is gone: _receive says so
            self.pipe.send(question)
        return self._receive()

    def _receive(self):
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            answer = Lost(f"died with exit code {self.process.exitcode}")
        if isinstance(answer, Lost):
            raise answer
        return answer

    def close(self) -> None:
        """End the process, which stops by itself when nobody asks any more."""
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


def _run(pipe, threads: int, function: Callable, arguments: tuple) -> None:
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = (
        "1"  # helpers that compile would stay, idle, until the end
    )

    def exchange(answer):
        pipe.send(answer)
        return pipe.recv()

    try:
        function(exchange, *arguments)
    except (EOFError, BrokenPipeError):  # nobody asks any more
        pass
    except (
        Exception
    ) as error:  # a compiler alone fails in a dozen ways, and the others are to go on
        pipe.send(Lost(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))


def once(function: Callable, *arguments, threads: int = 1):
    """What a function answers first in a process of its own."""
    worker = Worker(function, *arguments, threads=threads)
    worker.close()
    return worker.first


def peak_memory() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def serve(exchange: Callable, make: Callable, *arguments) -> None:
    """In a worker: do as many steps of make(*arguments), a function that may return a loss, as is asked for; answer by
    their milliseconds and the peak memory. ArithmeticError for a loss that isn't finite: such a step is cut short."""
    step, count = make(*arguments), WARM_UP
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
    """The milliseconds of a turn's steps but the first third, and the worker's peak memory in MB."""
    time.sleep(PAUSE)
    times, memory = worker.ask(steps)
    return times[max(1, steps // 3) :], memory


def race(
    starts: dict[str, Callable[[], Worker]], rounds: int, steps: int
) -> tuple[dict, dict, dict]:
    """Start workers and let them take turns: (milliseconds, a list for each round; peak memory; why some are lost)."""
    workers, times, memory, lost = {}, {}, {}, {}
    with contextlib.ExitStack() as stack:
        for i in range(1 + rounds):
            for name in [name for name in starts if name not in lost]:
                try:
                    if i == 0:
                        workers[name] = starts[name]()
                        stack.callback(workers[name].close)
                    else:
                        counted, memory[name] = turn(workers[name], steps)
                        times.setdefault(name, []).append(counted)
                except Lost as error:
                    lost[name] = str(error)
                    times.pop(name, None)
    return times, memory, lost


def middle(values: list[float]) -> str:
    """The median of values, and the spread of the middle 80 % of them."""
    low, high = (sorted(values)[round(share * (len(values) - 1))] for share in (0.1, 0.9))
    return f"{statistics.median(values):.2f} ({low:.2f}-{high:.2f})"


def ratio(rounds: list[list[float]], others: list[list[float]]) -> str:
    """How many times as long as the others' these steps take."""
    return middle(
        [statistics.median(a) / statistics.median(b) for a, b in zip(rounds, others, strict=True)]
    )
