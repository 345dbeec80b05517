"""Who does the tasks of a long job: processes of this machine, or the workers of a Dask cluster.

Both are context managers that yield `submit`, which hands a task to a worker: a dict of plain values, and what comes
back is what the function makes of it.
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

from tqdm import tqdm

Submit = Callable[[dict], Future]


class WorkerError(UserError):
    """Workers that can't be had, or that die: one line with the cause and the remedy."""


def finished(submit: Submit, tasks: dict[Hashable, dict]) -> Iterator[tuple[Hashable, dict]]:
    """Have all tasks done; yield each one's key with its result as it ends. WorkerError if a worker dies."""
    kept = "what is finished is kept: go on with --resume"
    try:
        futures = {submit(task): key for key, task in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        time.sleep(
            0.2
        )  # a signal to the whole process group may reach a worker first: it has the say
        raise WorkerError(
            f"a worker process was killed, perhaps for lack of memory; {kept}, --jobs lower"
        ) from None
    except (UserError, GeneratorExit):
        raise
    except Exception as error:
        raise WorkerError(
            f"a worker can't do its work ({type(error).__name__}: {error}); {kept}"
        ) from None


# ---- Processes of this machine --------------------------------------------------------------------------------------


@contextlib.contextmanager
def local_workers(function: Callable[[dict], dict], jobs: int) -> Iterator[Submit]:
    """Up to `jobs` processes. All have ended when the block is left, in the midst of a task if it is left by an error.
    WorkerError where one can't be started."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=start_worker)
    resource_tracker.ensure_running()  # which multiprocessing would do later, and let Ctrl-C through by it

    def submit(task):
        # The pool starts a process here, which inherits that Ctrl-C is held back: it would end Python's start, and the
        # import of numpy, with a traceback for each process.
        try:
            with interrupts_held_back():
                return pool.submit(function, task)
        except OSError as error:
            raise WorkerError(
                f"a worker process can't be started ({error.strerror}); lower --jobs"
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
    """Prepare a process of the pool: the main process alone answers Ctrl-C, and when it dies, so does this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    warnings.simplefilter(
        "ignore", RuntimeWarning
    )  # a run that diverges is a result, not a dozen warnings
    tqdm.set_lock(
        threading.RLock()
    )  # its own one is shared with other processes, and left behind by one that is ended

    def follow_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


# ---- Dask -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dask_workers(function: Callable[[dict], dict], address: str) -> Iterator[Submit]:
    """The workers of a Dask cluster; they must see the function's file under the same path. WorkerError where there is
    no Dask, or no scheduler."""
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
            f"--dask {address}: no scheduler answers there ({error}); start one with 'dask scheduler', and workers "
            "with 'dask worker ADDRESS'"
        ) from None
    script, name = Path(inspect.getfile(function)).resolve(), function.__name__
    folder, module = str(script.parent), script.stem

    def call(task):
        # Dask sends a nested function itself, not its name: a worker needs nothing of ours on its path to load it.
        import importlib
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        return getattr(importlib.import_module(module), name)(task)

    executor = client.get_executor()
    try:
        if not client.scheduler_info()["workers"]:
            print(f"waiting for workers; start one with: dask worker {address}", file=sys.stderr)
        yield lambda task: executor.submit(call, task)
    finally:
        client.close()  # which also takes back what no worker has begun
