"""A training step of ours, of PyTorch and of scikit-learn, against the floor: the step's two large products alone.

    python benchmarks/step.py                                       all sizes, some ten minutes on a quiet machine
    python benchmarks/step.py --batch 128 --hidden 1024 4096 --threads 2
    python benchmarks/step.py --windows --batch 128 --threads 2     8x8 windows in steps of 2, 95 dims, 3x3 regions
    python benchmarks/step.py --peers                               ours and the floor only
    python benchmarks/step.py --profile                             where the time of our step goes, on one thread

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
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timing
from contenders import CONTENDERS, SIZE, STRIDE, Case, our_network

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # for imports within: a worker sets BLAS's threads first

PEERS = ("torch", "torch-fused", "torch-compile", "sklearn")
STAGES = (
    "see",
    *(
        f"{name}_{way}"
        for name in ("linear", "batchnorm", "relu", "pool", "dropout")
        for way in ("forward", "backward")
    ),
    *("cross_entropy_forward", "cross_entropy_backward", "Product.__getitem__", "SGD.__call__"),
)


def describe_machine(exchange: Callable) -> None:
    """In a worker: the processor, the libraries and their BLAS, as a Markdown list."""
    from support.threads import default_threads

    import numpy as np

    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    found = info.exists() and re.search(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE)
    lines = [f"{found[1] if found else cpu}, {default_threads()} cores, Python {platform.python_version()}"]
    blas = np.show_config("dicts").get("Build Dependencies", {}).get("blas", {})
    lines.append(f"NumPy {np.__version__}, {blas.get('name', 'BLAS')} {blas.get('version', '')}")
    try:
        from threadpoolctl import threadpool_info

        kernels = [each for each in threadpool_info() if each["user_api"] == "blas" and "numpy" in each["filepath"]]
        lines[-1] += "".join(f", kernel {each.get('architecture', 'unknown')}" for each in kernels)
    except ImportError:
        lines[-1] += " (its kernel is unknown without threadpoolctl)"
    try:
        import torch

        found = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
        lines.append(f"PyTorch {torch.__version__}, {found[1] if found else 'unknown BLAS'}")
        lines.append(f"scikit-learn {importlib.metadata.version('scikit-learn')}")
    except ImportError as error:  # PackageNotFoundError is one, too
        lines.append(f"not installed: {error.name}")
    if kernel := os.environ.get("OPENBLAS_CORETYPE"):
        lines.append(f"OPENBLAS_CORETYPE={kernel} is set: NumPy's products use that kernel, not the processor's own")
    if (load := os.getloadavg()[0]) > 0.3:
        lines.append(f"load {load:.1f} when this began: something else is, or was just now, running")
    exchange("\n".join(f"- {line}" for line in lines))


def once(function: Callable, *arguments):
    """What the function answers first in a process of its own."""
    worker = timing.Worker(function, *arguments)
    worker.close()
    return worker.first


def table(times: dict, memory: dict, floor: str) -> list[str]:
    """The Markdown table of one case."""
    lines = ["| step | ms (10-90 %) | / floor (rounds) | / ours (rounds) | peak MB |", "|---|--:|--:|--:|--:|"]
    for name, rounds in times.items():
        ratios = [timing.ratio(rounds, times[other]) if other in times else "" for other in (floor, "ours")]
        milliseconds = timing.middle([each for some in rounds for each in some])
        lines.append(f"| {CONTENDERS[name][0]} | {milliseconds} | {' | '.join(ratios)} | {memory[name]:,.0f} |")
    return lines


def compare(case: Case, peers: tuple[str, ...], rounds: int, steps: int) -> bool:
    """Print the table of a case and its two ratios that count; whether ours and the floor are in it."""
    names = [name for name in CONTENDERS if name not in PEERS or name in peers]
    starts = {
        name: partial(timing.Worker, timing.serve, CONTENDERS[name][1], case, threads=case.threads)
        for name in names
        if CONTENDERS[name][2] or not case.windows
    }
    times, memory, lost = timing.race(starts, rounds, steps)
    speed = {name: statistics.median(each for some in found for each in some) for name, found in times.items()}
    floor = min((name for name in speed if name.startswith("floor")), key=speed.get, default="")
    torch = min((name for name in speed if name.startswith("torch")), key=speed.get, default="")
    seen = f"{SIZE}x{SIZE} windows in steps of {STRIDE}, " if case.windows else ""
    print(f"\n### {seen}batch {case.batch}, {case.hidden:,} units, {case.threads} thread{'s' * (case.threads > 1)}\n")
    print("\n".join(table(times, memory, floor)))
    for name, why in lost.items():
        print(f"\n{CONTENDERS[name][0]}: skipped, {why}")
    complete = "ours" in times and floor != ""
    if complete:
        print(f"\nours / floor {timing.ratio(times['ours'], times[floor])}", end="")
        print(
            f", {CONTENDERS[torch][0]} / ours {timing.ratio(times[torch], times['ours'])}" if torch else "", flush=True
        )
    return complete


# ---- Where our step's time goes -------------------------------------------------------------------------------------


def profile(exchange: Callable, case: Case, steps: int) -> None:
    """In a worker: a Markdown table of the milliseconds of a step that the functions of model.py take."""
    import model

    def timed(name: str, function: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            began = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += 1e3 * (time.perf_counter() - began)
            return result

        return wrapped

    for name in STAGES:
        *owner, last = name.split(".")
        holder = getattr(model, owner[0]) if owner else model
        setattr(holder, last, timed(name, getattr(holder, last)))
    records, spent = [], Counter()
    net, sgd, stream = our_network(case)
    for _ in range(timing.WARM_UP + steps):
        spent = Counter()
        timed("the whole step", lambda: net.train_batch(*timed("batch", next)(stream), sgd))()
        spent["the rest"] = 2 * spent["the whole step"] - spent.total()
        records.append(spent)
    median = {name: statistics.median(each[name] for each in records[timing.WARM_UP :]) for name in records[-1]}
    whole = median["the whole step"]
    rows = [f"| {name} | {value:.2f} | {value / whole:.0%} |" for name, value in median.items()]
    exchange("\n".join(["| function | median ms | of the whole step |", "|---|--:|--:|", *rows]))


# ---- The command line -----------------------------------------------------------------------------------------------


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
    parser.add_argument("--profile", action="store_true", help="show where our step's time goes, on one thread")
    args = parser.parse_args()
    print(once(describe_machine), flush=True)
    complete = True
    for batch, hidden, threads in itertools.product(args.batch, args.hidden, [1] if args.profile else args.threads):
        case = Case(batch, hidden, threads, args.windows, args.images)
        if args.profile:
            print(f"\n### Batch {batch}, {hidden:,} units\n\n{once(profile, case, args.steps)}", flush=True)
        else:
            complete &= compare(case, args.peers, args.rounds, args.steps)
    return 0 if complete else 1


if __name__ == "__main__":
    from support import cli

    sys.exit(cli.command(main))
