"""Time a training step of ours, of PyTorch and of scikit-learn against a floor.

    python benchmarks/step.py                                       all sizes, some ten minutes
    python benchmarks/step.py --batch 128 --hidden 1024 4096 --threads 2
    python benchmarks/step.py --windows --batch 128 --threads 2     8x8 windows
    python benchmarks/step.py --recipe quick best --threads 2       what the recipes train
    python benchmarks/step.py --peers                               ours and the floor only

The floor is the step's two large matrix products alone. The windows are 8x8 pixels at every
second position, whitened to 95 components, pooled over 3x3 regions. contenders.py has the steps,
timing.py the way they are timed. Stop other programs first: this one waits a minute for that, and
says how busy they were. Prints Markdown. The exit code is 1 if our step or the floor could not be
measured.
"""

import itertools
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine
import timing
from contenders import (
    CONTENDERS,
    OF_RECIPES,
    PEERS,
    SIZE,
    STRIDE,
    WHOLE_ONLY,
    WINDOWS_ONLY,
    Case,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The modules of `support` load NumPy. A worker imports this file before it sets the number of
# BLAS threads, so whatever loads NumPy is imported within functions.

HEADER = """\
| step | ms (10-90 %) | / floor (rounds) | / ours (rounds) | peak MB |
|---|--:|--:|--:|--:|"""


def contenders_of(case: Case, peers: list[str]) -> list[str]:
    """Return the names of the contenders of a case: ours, the floor and the given peers."""
    if case.recipe:
        return list(OF_RECIPES)
    left_out = set(PEERS) - set(peers)
    left_out |= set(WHOLE_ONLY if case.windows else WINDOWS_ONLY)
    return [name for name in CONTENDERS if name not in left_out]


def fastest(times: dict[str, list], kind: str) -> str:
    """Return the fastest contender whose name starts with `kind`, or ''."""
    medians = {
        name: statistics.median(itertools.chain(*rounds))
        for name, rounds in times.items()
        if name.startswith(kind)
    }
    return min(medians, key=medians.get, default="")


def compare(case: Case, peers: list[str], rounds: int, steps: int) -> bool:
    """Print a case's table and the two ratios that count.

    Returns whether ours and the floor are in the table.
    """
    starts = {}
    for name in contenders_of(case, peers):
        _, make = CONTENDERS[name]
        starts[name] = partial(timing.Worker, timing.serve, make, case, threads=case.threads)
    others = machine.Others()
    times, memory, lost = timing.race(starts, rounds, steps)
    busy = others.cores()

    floor, torch = fastest(times, "floor"), fastest(times, "torch")
    layer = f"{SIZE}x{SIZE} windows in steps of {STRIDE}, " if case.windows else ""
    if case.recipe:
        layer = f"recipe {case.recipe}, "
    threads = machine.count_threads(case.threads)
    print(f"\n### {layer}batch {case.batch}, {case.hidden:,} units, {threads}\n")
    print(HEADER)
    for name in times:
        cells = [CONTENDERS[name][0], timing.middle(list(itertools.chain(*times[name])))]
        for other in (floor, "ours"):
            cells.append(timing.ratio(times[name], times[other]) if other in times else "")
        print(f"| {' | '.join(cells)} | {memory[name]:,.0f} |")
    for name, why in lost.items():
        print(f"\n{CONTENDERS[name][0]}: skipped, {why}")

    if busy > machine.QUIET:
        print(f"\n**Disturbed**: other programs kept {busy:.2f} cores busy meanwhile.")

    complete = "ours" in times and bool(floor)
    if complete:
        line = f"\nours / floor: **{timing.ratio(times['ours'], times[floor])}**"
        if torch:
            ratio = timing.ratio(times[torch], times["ours"])
            line += f", {CONTENDERS[torch][0]} / ours: **{ratio}**"
        print(line)
    sys.stdout.flush()
    return complete


def make_parser():
    """Return the parser of the command line."""
    from support import cli
    from train import RECIPES

    parser = cli.ArgumentParser(description=__doc__)
    few, many = cli.integer(2, 10**5), cli.integer(1, 10**6)
    one = {"metavar": "N"}
    several = {"metavar": "N", "nargs": "+"}

    text = "a convolutional layer instead of units that see the whole image"
    parser.add_argument("--windows", action="store_true", help=text)
    text = "the networks of recipes of train.py instead"
    parser.add_argument("--recipe", nargs="+", choices=tuple(RECIPES), default=[], help=text)
    text = "images in a batch (default: 128 512, or the recipe's)"
    parser.add_argument("--batch", type=few, help=text, **several)
    text = "hidden units (default: 1024 4096, or the recipe's)"
    parser.add_argument("--hidden", type=many, help=text, **several)
    text, threads = "threads that compute", cli.integer(1, 1024)
    parser.add_argument("--threads", type=threads, default=[1, 2], help=text, **several)
    text = "turns of each contender"
    parser.add_argument("--rounds", type=many, default=8, help=text, **one)
    text = "steps of a turn"
    parser.add_argument("--steps", type=few, default=24, help=text, **one)
    text = "images that batches are drawn from"
    parser.add_argument("--images", type=many, default=60_000, help=text, **one)
    text = "which others are timed (default: all); none if empty"
    parser.add_argument("--peers", nargs="*", choices=PEERS, help=text)
    text = "seconds to wait, at most, until other programs rest"
    parser.add_argument("--wait", type=cli.integer(0, 10**5), default=60, help=text, **one)
    return parser


def cases(args) -> Iterator[Case]:
    """Yield the cases of a command line."""
    from train import resolve

    if not args.recipe:
        sizes = itertools.product(args.batch or [128, 512], args.hidden or [1024, 4096])
        for (batch, hidden), threads in itertools.product(sizes, args.threads):
            yield Case(batch, hidden, threads, args.windows, args.images)
    for recipe in args.recipe:
        settings = resolve({}, recipe)
        batches = args.batch or [settings.batch_size]
        hidden_sizes = args.hidden or [settings.hidden_size]
        for batch, hidden, threads in itertools.product(batches, hidden_sizes, args.threads):
            yield Case(batch, hidden, threads, images=args.images, recipe=recipe)


def main() -> int:
    parser = make_parser()
    args = parser.parse_args()
    if args.recipe and args.windows:
        parser.error("--windows: the window is the recipe's; leave out --windows or --recipe")
    if args.recipe and args.peers:
        parser.error("--peers: recipes are timed without others; leave out --peers or --recipe")
    idle = set(args.peers or ()) & set(WHOLE_ONLY if args.windows else WINDOWS_ONLY)
    if idle:
        kind = "the whole image" if args.windows else "windows"
        parser.error(
            f"--peers {' '.join(sorted(idle))}: can be timed with {kind} only; leave it out"
        )
    peers = PEERS if args.peers is None else args.peers
    print(timing.once(machine.describe), flush=True)
    print(machine.wait_until_quiet(args.wait), flush=True)
    complete = True
    for case in cases(args):
        complete &= compare(case, peers, args.rounds, args.steps)
    return 0 if complete else 1


if __name__ == "__main__":
    from support import cli

    sys.exit(cli.command(main))
