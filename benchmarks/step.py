"""A training step of ours, of PyTorch and of scikit-learn, against the floor: the step's two large products alone.

    python benchmarks/step.py                                       all sizes, some ten minutes on a quiet machine
    python benchmarks/step.py --batch 128 --hidden 1024 4096 --threads 2
    python benchmarks/step.py --windows --batch 128 --threads 2     8x8 windows in steps of 2, 95 dims, 3x3 regions
    python benchmarks/step.py --peers                               ours and the floor only

What is timed stands in contenders.py, how in timing.py. Prints Markdown; exit code 1 if our step or the floor could not
be measured.
"""

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
from contenders import CONTENDERS, PEERS, SIZE, STRIDE, WHOLE_ONLY, Case

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for imports within functions, see contenders.py


def describe_machine(exchange: Callable) -> None:
    """In a worker: answer by the processor, the libraries and their BLAS, a Markdown list."""
    from support.threads import default_threads

    import numpy as np

    info, found = Path("/proc/cpuinfo"), None
    if info.exists():
        found = re.search(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE)
    cpu = found[1] if found else platform.processor() or platform.machine()
    lines = [f"{cpu}, {default_threads()} cores, {platform.system()}, Python {platform.python_version()}"]
    blas = np.show_config("dicts").get("Build Dependencies", {}).get("blas", {})
    lines.append(f"NumPy {np.__version__}, {blas.get('name', 'BLAS')} {blas.get('version', '')}, kernel unknown")
    try:
        from threadpoolctl import threadpool_info

        kernel = next(each.get("architecture") for each in threadpool_info() if "numpy" in each["filepath"])
        lines[-1] = lines[-1].replace("unknown", kernel or "unknown")
    except (ImportError, StopIteration):
        lines[-1] += " without threadpoolctl"
    try:
        import torch

        found = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        lines.append(f"PyTorch {torch.__version__}, {found[1] if found else 'unknown BLAS'}")
        lines.append(f"scikit-learn {importlib.metadata.version('scikit-learn')}")
    except ImportError as error:  # PackageNotFoundError is one, too
        lines.append(f"{error.name} is not installed")
    if kernel := os.environ.get("OPENBLAS_CORETYPE"):
        lines.append(f"OPENBLAS_CORETYPE={kernel} is set: NumPy's products use that kernel, not the processor's own")
    if (load := os.getloadavg()[0]) > 0.3:
        lines.append(f"load {load:.1f} when this began: something else is, or was just now, running")
    exchange("\n".join(f"- {line}" for line in lines))


def compare(case: Case, peers: list[str], rounds: int, steps: int) -> bool:
    """Print a case's table and the two ratios that count; whether ours and the floor are in it."""
    left_out = {*PEERS} - {*peers} | ({*WHOLE_ONLY} if case.windows else set())
    starts = {
        name: partial(timing.Worker, timing.serve, make, case, threads=case.threads)
        for name, (_, make) in CONTENDERS.items()
        if name not in left_out
    }
    times, memory, lost = timing.race(starts, rounds, steps)
    every = {name: [each for some in found for each in some] for name, found in times.items()}
    floor, torch = (
        min(
            (name for name in every if name.startswith(kind)),
            key=lambda name: statistics.median(every[name]),
            default="",
        )
        for kind in ("floor", "torch")
    )
    seen = f"{SIZE}x{SIZE} windows in steps of {STRIDE}, " if case.windows else ""
    print(f"\n### {seen}batch {case.batch}, {case.hidden:,} units, {case.threads} thread{'s' * (case.threads > 1)}\n")
    print("| step | ms (10-90 %) | / floor (rounds) | / ours (rounds) | peak MB |\n|---|--:|--:|--:|--:|")
    for name, found in times.items():
        ratios = [timing.ratio(found, times[other]) if other in times else "" for other in (floor, "ours")]
        print(f"| {CONTENDERS[name][0]} | {timing.middle(every[name])} | {' | '.join(ratios)} | {memory[name]:,.0f} |")
    for name, why in lost.items():
        print(f"\n{CONTENDERS[name][0]}: skipped, {why}")
    complete = "ours" in times and bool(floor)
    if complete:
        line = f"\nours / floor: **{timing.ratio(times['ours'], times[floor])}**"
        print(
            line
            + (f", {CONTENDERS[torch][0]} / ours: **{timing.ratio(times[torch], times['ours'])}**" if torch else "")
        )
    sys.stdout.flush()
    return complete


def main() -> int:
    from support import cli

    parser, many = cli.ArgumentParser(description=__doc__), {"nargs": "+", "metavar": "N"}
    parser.add_argument("--windows", action="store_true", help="units that see windows, in place of the whole image")
    parser.add_argument("--batch", type=cli.integer(2, 10**5), default=[128, 512], help="images in a batch", **many)
    parser.add_argument("--hidden", type=cli.integer(1, 10**6), default=[1024, 4096], help="hidden units", **many)
    parser.add_argument("--threads", type=cli.integer(1, 1024), default=[1, 2], help="threads that compute", **many)
    parser.add_argument("--rounds", type=cli.integer(1, 1000), default=8, metavar="N", help="turns of each contender")
    parser.add_argument("--steps", type=cli.integer(2, 10**5), default=24, metavar="N", help="steps of a turn")
    parser.add_argument(
        "--images", type=cli.integer(1, 10**6), default=60_000, metavar="N", help="to draw batches from"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=PEERS, help="who else is timed; none named: nobody"
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
