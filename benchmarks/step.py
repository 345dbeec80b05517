"""A training step of ours, of PyTorch and of scikit-learn, against the floor: the step's two large products alone.

    python benchmarks/step.py                                       all sizes, some ten minutes on a quiet machine
    python benchmarks/step.py --batch 128 --hidden 1024 4096 --threads 2
    python benchmarks/step.py --windows --batch 128 --threads 2     8x8 windows in steps of 2, 95 dims, 3x3 regions
    python benchmarks/step.py --peers                               ours and the floor only

What is timed stands in contenders.py, how in timing.py. Prints Markdown; exit code 1 if our step or the floor could not
be measured.
"""

import contextlib
import importlib.metadata
import itertools
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timing
from contenders import CONTENDERS, PEERS, SIZE, STRIDE, WHOLE_ONLY, WINDOWS_ONLY, Case

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # for imports within functions, see contenders.py


def describe_machine(exchange: Callable) -> None:
    """In a worker: answer by the processor, the libraries and their BLAS, a Markdown list."""
    from support.threads import default_threads

    import numpy as np

    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (
        found := re.search(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE)
    ):
        cpu = found[1]
    lines = [
        f"{cpu}, {default_threads()} cores, {platform.system()}, Python {platform.python_version()}"
    ]
    blas, kernel = np.show_config("dicts").get("Build Dependencies", {}).get("blas", {}), "unknown"
    with contextlib.suppress(ImportError, StopIteration):
        from threadpoolctl import threadpool_info

        kernel = next(
            each.get("architecture") for each in threadpool_info() if "numpy" in each["filepath"]
        )
    lines.append(
        f"NumPy {np.__version__}, {blas.get('name', 'BLAS')} {blas.get('version', '')}, kernel {kernel}"
    )
    with contextlib.suppress(ImportError):  # PackageNotFoundError is one, too
        import torch

        found = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        lines.append(f"PyTorch {torch.__version__}, BLAS {found[1] if found else 'unknown'}")
        lines.append(f"scikit-learn {importlib.metadata.version('scikit-learn')}")
    if kernel := os.environ.get("OPENBLAS_CORETYPE"):
        lines.append(
            f"OPENBLAS_CORETYPE={kernel} is set: NumPy's products use that kernel, not the processor's own"
        )
    if (load := os.getloadavg()[0]) > 0.3:
        lines.append(
            f"load {load:.1f} when this began: something else is, or was just now, running"
        )
    exchange("\n".join(f"- {line}" for line in lines))


def counted(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def compare(case: Case, peers: list[str], rounds: int, steps: int) -> bool:
    """Print a case's table and the two ratios that count; whether ours and the floor are in it."""
    left_out = {*PEERS} - {*peers} | {*(WHOLE_ONLY if case.windows else WINDOWS_ONLY)}
    starts = {
        name: partial(timing.Worker, timing.serve, make, case, threads=case.threads)
        for name, (_, make) in CONTENDERS.items()
        if name not in left_out
    }
    times, memory, lost = timing.race(starts, rounds, steps)
    every = {name: [each for some in found for each in some] for name, found in times.items()}

    def fastest(kind: str) -> str:
        names = (name for name in every if name.startswith(kind))
        return min(names, key=lambda name: statistics.median(every[name]), default="")

    floor, torch = fastest("floor"), fastest("torch")
    seen = f"{SIZE}x{SIZE} windows in steps of {STRIDE}, " if case.windows else ""
    print(f"\n### {seen}batch {case.batch}, {case.hidden:,} units, {counted(case.threads)}\n")
    print(
        "| step | ms (10-90 %) | / floor (rounds) | / ours (rounds) | peak MB |\n|---|--:|--:|--:|--:|"
    )
    for name, found in times.items():
        ratios = [
            timing.ratio(found, times[other]) if other in times else "" for other in (floor, "ours")
        ]
        print(
            f"| {CONTENDERS[name][0]} | {timing.middle(every[name])} | {' | '.join(ratios)} | {memory[name]:,.0f} |"
        )
    for name, why in lost.items():
        print(f"\n{CONTENDERS[name][0]}: skipped, {why}")
    if complete := "ours" in times and bool(floor):
        print(
            f"\nours / floor: **{timing.ratio(times['ours'], times[floor])}**",
            end="\n" if not torch else ", ",
        )
        if torch:
            print(f"{CONTENDERS[torch][0]} / ours: **{timing.ratio(times[torch], times['ours'])}**")
    sys.stdout.flush()
    return complete


def main() -> int:
    from support import cli

    parser, few, many = (
        cli.ArgumentParser(description=__doc__),
        cli.integer(2, 10**5),
        cli.integer(1, 10**6),
    )
    one, several = {"metavar": "N"}, {"metavar": "N", "nargs": "+"}
    parser.add_argument(
        "--windows", action="store_true", help="units that see windows, in place of the whole image"
    )
    parser.add_argument(
        "--batch", type=few, default=[128, 512], help="images in a batch", **several
    )
    parser.add_argument("--hidden", type=many, default=[1024, 4096], help="hidden units", **several)
    parser.add_argument(
        "--threads",
        type=cli.integer(1, 1024),
        default=[1, 2],
        help="threads that compute",
        **several,
    )
    parser.add_argument("--rounds", type=many, default=8, help="turns of each contender", **one)
    parser.add_argument("--steps", type=few, default=24, help="steps of a turn", **one)
    parser.add_argument(
        "--images", type=many, default=60_000, help="images that batches are drawn from", **one
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=PEERS, help="who else is timed, if anybody"
    )
    args = parser.parse_args()
    print(timing.once(describe_machine), flush=True)
    sizes = itertools.product(args.batch, args.hidden, args.threads)
    cases = [Case(*size, args.windows, args.images) for size in sizes]
    complete = [compare(case, args.peers, args.rounds, args.steps) for case in cases]
    return 0 if all(complete) else 1


if __name__ == "__main__":
    from support import cli

    sys.exit(cli.command(main))
