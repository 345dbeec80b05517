"""Run jobs in local processes or on a Dask cluster.

Both are context managers that yield `submit`, which hands a job to a worker. A job is a dict of
plain values; its result is what the workers' function returns for it.
"""

import contextlib
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path

from support.cli import UserError
from support.training.interrupts import interrupts_wait

from tqdm import tqdm

Submit = Callable[[dict], Future]


class WorkerError(UserError):
    """Workers that fail to start, or that die: one line with the cause and the remedy."""


def finished(submit: Submit, jobs: dict[Hashable, dict]) -> Iterator[tuple[Hashable, dict]]:
    """Run all jobs; yield the key of each with its result as it ends.

    Raises WorkerError if a worker dies.
    """
    kept = "what is finished is kept; continue with --resume"
    try:
        futures = {submit(job): key for key, job in jobs.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        # Ctrl-C for the whole process group may reach a worker first: let it interrupt us instead.
        time.sleep(0.2)
        raise WorkerError(
            f"a worker process was killed, perhaps for lack of memory; {kept} and lower --jobs"
        ) from None
    except (UserError, GeneratorExit):
        raise
    except Exception as error:
        raise WorkerError(f"a worker failed ({type(error).__name__}: {error}); {kept}") from None


# ---- Processes of this machine ----------------------------------------------------------------


@contextlib.contextmanager
def local_workers(function: Callable[[dict], dict], jobs: int) -> Iterator[Submit]:
    """Start up to `jobs` processes, which have ended when the block is left.

    A block left by an error kills them. Raises WorkerError if a process fails to start.
    """
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=start_worker)
    if os.name == "posix":  # Windows has no such process
        # multiprocessing would start it later, and would then let Ctrl-C through.
        resource_tracker.ensure_running()

    def submit(job):
        # The pool starts a process here, which inherits the blocked Ctrl-C. Otherwise Ctrl-C would
        # interrupt the start of Python or the import of numpy, with a traceback per process. The
        # pool's own threads may receive Ctrl-C all the same, so its handler waits as well.
        try:
            with interrupts_wait(), interrupts_held_back():
                return pool.submit(function, job)
        except OSError as error:
            raise WorkerError(
                f"a worker process fails to start ({error.strerror}); lower --jobs"
            ) from None

    try:
        yield submit
    except BaseException:
        with interrupts_held_back():
            for process in multiprocessing.active_children():
                process.kill()
                process.join()
        raise
    finally:
        with interrupts_held_back():
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Deliver Ctrl-C and SIGTERM only after the block; processes started in it never get Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker() -> None:
    """Prepare a process of the pool: it ignores Ctrl-C, and ends when the main process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    # A run that diverges is a result, not a dozen warnings.
    warnings.simplefilter("ignore", RuntimeWarning)
    # tqdm's own lock is shared between processes, and a killed process would leave it behind.
    tqdm.set_lock(threading.RLock())

    def follow_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


# ---- Dask -------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_workers(function: Callable[[dict], dict], address: str) -> Iterator[Submit]:
    """Use the workers of a Dask cluster, which must see the function's file under the same path.

    Raises WorkerError if Dask isn't installed, or if no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise WorkerError(
            '--dask needs Dask; install it with: pip install "dask[distributed]"'
        ) from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise WorkerError(
            f"--dask {address}: no scheduler answers there ({error}); "
            "start one with 'dask scheduler', and workers with 'dask worker ADDRESS'"
        ) from None
    script, name = Path(inspect.getfile(function)).resolve(), function.__name__
    folder, module = str(script.parent), script.stem

    def call(job):
        # Dask sends the code of a nested function instead of its name, so that a worker can load
        # it before our folder is on its path.
        import importlib
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        return getattr(importlib.import_module(module), name)(job)

    executor = client.get_executor()
    try:
        if not client.scheduler_info()["workers"]:
            print(f"waiting for workers; start one with: dask worker {address}", file=sys.stderr)
        yield lambda job: executor.submit(call, job)
    finally:
        client.close()  # this also cancels jobs that no worker has begun
