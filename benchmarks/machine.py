"""Describe the machine that a benchmark runs on."""

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

QUIET = 0.3  # load average up to which the machine counts as idle


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
    load = os.getloadavg()[0]
    if load > QUIET:
        lines.append(f"load {load:.1f} at the start: another program is, or just was, running")
    exchange("\n".join(f"- {line}" for line in lines))


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
