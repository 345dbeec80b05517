"""Prepare the process before NumPy loads, and once right after it.

No other import of ours has an effect. BLAS gets one thread: our own threads run side by side, and
BLAS's would fight them for the cores and cut sums differently on different machines.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts
SCRIPT_FOLDERS = (ROOT, ROOT / "data", ROOT / "docs", ROOT / "benchmarks")
# BLAS libraries read these names once, while numpy loads.
BLAS_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def report_interrupt(kind, error, trace) -> None:
    """Report Ctrl-C in one line: a sys.excepthook while a script imports its modules."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"\n{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def runs_a_script() -> bool:
    """Return whether this process runs one of our scripts, not a notebook or another program."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is not None and Path(main).resolve().parent in SCRIPT_FOLDERS


def check_data_package() -> None:
    """Raise ImportError if the caller has imported another package called data before ours."""
    other = getattr(sys.modules.get("data"), "__file__", None)
    if other and Path(other).resolve().parent != ROOT / "data":
        raise ImportError(f"{other} is another package called data: import this project first")


def load_numpy() -> None:
    """Import numpy while Ctrl-C waits: interrupted, numpy reports a broken installation.

    numpy.random, which numpy loads at its first use, would even lose the interrupt.
    """
    masks = hasattr(signal, "pthread_sigmask")  # Windows has none
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else None
    try:
        import numpy.random  # noqa: F401
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def openblas_libraries() -> set[str]:
    """Return the paths of the OpenBLAS libraries that numpy has loaded, or may have loaded."""
    if sys.platform == "linux":
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {line.split()[-1] for line in lines if "openblas" in line}
    import numpy

    package = Path(numpy.__file__).parent
    folders = (package / ".dylibs", package.parent / "numpy.libs")
    return {str(path) for folder in folders for path in folder.glob("*openblas*")}


def set_one_blas_thread() -> bool:
    """Give a BLAS that is loaded already one thread; return whether it obeyed.

    It is loaded in a notebook that imported numpy first.
    """
    numbers = []
    for path in openblas_libraries():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            return False
        for name in (
            "openblas_{}_num_threads",
            "openblas_{}_num_threads64_",
            "scipy_openblas_{}_num_threads64_",
        ):
            if hasattr(library, name.format("set")):
                getattr(library, name.format("set"))(1)
                numbers.append(getattr(library, name.format("get"))())
    return bool(numbers) and set(numbers) == {1}


def keep_freed_memory() -> None:
    """Make glibc keep freed memory, by freeing a block of nearly 32 MB once.

    Otherwise it returns large blocks to the system and takes them again page by page, which costs a
    sixth of a training step of filters.
    """
    import numpy

    numpy.empty(31 << 20, numpy.uint8)


users_backend = ""  # the MPLBACKEND of --show
if runs_a_script():
    sys.excepthook = report_interrupt
    if "--show" not in sys.argv:
        # matplotlib draws into files, whatever backend a notebook left to its child processes. It
        # reads this name as it loads, and fails on the spot if the backend is not installed.
        os.environ["MPLBACKEND"] = "Agg"
    else:
        # visualize.py loads this backend itself, where a failure becomes one line.
        users_backend = os.environ.pop("MPLBACKEND", "")
check_data_package()
numpy_came_first = "numpy" in sys.modules
variables_were_set = all(os.environ.get(name) == "1" for name in BLAS_VARIABLES)
os.environ |= dict.fromkeys(BLAS_VARIABLES, "1")
load_numpy()
keep_freed_memory()
# Whether BLAS computes on one thread, which the bits of a factorisation depend on (threads.eigh).
ONE_BLAS_THREAD = not numpy_came_first or variables_were_set or set_one_blas_thread()
