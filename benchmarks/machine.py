"""Describe the machine that a benchmark runs on, and see whether other programs disturb it."""

import contextlib
import importlib.metadata
import math
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

QUIET = 0.1  # cores that other programs keep busy on a quiet machine, at most


def describe(exchange: Callable) -> None:
    """In a worker of timing.py: answer with the processor and the libraries, a Markdown list."""
    from support.threads import default_threads

    import numpy as np

    system = f"{platform.system()}, Python {platform.python_version()}"
    lines = [f"{processor()}, {default_threads()} cores, {system}"]
    blas = np.show_config("dicts").get("Build Dependencies", {}).get("blas", {})
    library = f"{blas.get('name', 'BLAS')} {blas.get('version', '')}"
    lines.append(f"NumPy {np.__version__}, {library}, kernel {blas_kernel()}")
    lines += peers()
    forced = os.environ.get("OPENBLAS_CORETYPE")
    if forced:
        lines.append(
            f"OPENBLAS_CORETYPE={forced} is set: NumPy's products use that kernel, "
            "not the processor's own"
        )
    exchange("\n".join(f"- {line}" for line in lines))


class Others:
    """The processor time of other programs since this object was made.

    It is that of all programs less our own. Our child processes count once they have ended.
    """

    def __init__(self):
        self.began = time.monotonic()
        self.before = self._seconds()

    def cores(self) -> float:
        """Return how many cores they kept busy on average; NaN if the system doesn't say."""
        return (self._seconds() - self.before) / (time.monotonic() - self.began)

    @staticmethod
    def _seconds() -> float:
        counters = Path("/proc/stat")
        if not counters.exists():
            return math.nan
        # cpu, then ticks: user, nice, system, idle, waiting, irq, softirq, taken by other machines
        ticks = [int(word) for word in counters.read_text().split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]
        ours = sum(os.times()[:4])
        return busy / os.sysconf("SC_CLK_TCK") - ours


def wait_until_quiet(seconds: float) -> str:
    """Wait until other programs rest, at most so many seconds; return a line that says if they do.

    A wait of 0 looks once.
    """
    deadline = time.monotonic() + seconds
    while True:
        others = Others()
        time.sleep(min(1.0, 0.1 + seconds))
        cores = others.cores()
        if math.isnan(cores):
            return "- whether other programs run can't be seen on this system: stop them first"
        if cores <= QUIET:
            return f"- quiet: other programs keep {cores:.2f} cores busy"
        if time.monotonic() >= deadline:
            waited = f", after {seconds:.0f} s of waiting" if seconds else ""
            return f"- **not quiet**: other programs keep {cores:.2f} cores busy{waited}"


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = re.search(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE)
        if name:
            return name[1]
    return platform.processor() or platform.machine()


def blas_kernel() -> str:
    """Return the kernel of NumPy's BLAS if threadpoolctl is installed, else 'unknown'."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown"
    for library in threadpool_info():
        if "numpy" in library["filepath"]:
            return str(library.get("architecture"))
    return "unknown"


def peers() -> list[str]:
    """Return a line each for PyTorch and scikit-learn, if they are installed."""
    lines = []
    with contextlib.suppress(ImportError):
        import torch

        blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        lines.append(f"PyTorch {torch.__version__}, BLAS {blas[1] if blas else 'unknown'}")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        lines.append(f"scikit-learn {importlib.metadata.version('scikit-learn')}")
    return lines


def count_threads(threads: int) -> str:
    """Return '1 thread' or '2 threads'."""
    return f"{threads} thread{'s' if threads > 1 else ''}"
