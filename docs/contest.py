"""Check the submissions to a contest: one ReLU layer, trained within a time, chosen by validation.

  python docs/contest.py A.npz B.npz                    a table, and who breaks a rule
  python docs/contest.py A.npz --minutes 10 --json contest.json
  python docs/contest.py A.npz --data-dir FOLDER        also measure validation accuracy anew

A submission is a checkpoint of train.py. The rules: it loads here, so it has one hidden layer; its
history says at most --minutes of training; its validation accuracy is what its history says. The
test images are never read: test the winner once, with test.py. Minutes are what the file says, and
can be edited: train the winner again.
"""

import json
import math
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
import train
from data import cifar10
from support import cli, files, runs
from support.checkpoints import trained_on
from support.cli import UserError, clean, shorter

import numpy as np

ROUNDING = 0.002  # of an accuracy, between machines and by weights stored as float16


@dataclass
class Entry:
    """What is known of a submission. Accuracies are in 0..1; None if unknown."""

    checkpoint: str
    units: int = 0
    parameters: int = 0
    minutes: float | None = None
    validation: float | None = None  # as its history says
    measured: float | None = None  # as measured here
    images: int | None = None  # that it was measured on
    broken: list[str] = field(default_factory=list)  # rules, in words


def read_entry(path: Path, minutes: float, data: cifar10.Dataset | None, threads: int) -> Entry:
    """Return what a checkpoint says of itself, and which rules it breaks."""
    entry = Entry(clean(shorter(path), 60))
    try:
        network, info = model.load(path, threads=threads)
    except files.FileError as error:
        entry.broken.append(f"is no network with one hidden layer ({error})")
        return entry
    entry.units = network.hidden_size
    entry.parameters = sum(array.size for array in network.velocity.values())
    read_history(entry, info, minutes)
    if data is not None:
        measure(entry, network, info, data)
    return entry


def read_history(entry: Entry, info: dict, minutes: float) -> None:
    """Fill in time and accuracy by the history. Nothing in it is trusted."""
    try:
        columns = runs.checked_history(info, ("seconds", "val_accuracy"))
    except (files.Fault, KeyError, TypeError):
        entry.broken.append("its history is missing or damaged: submit what train.py wrote")
        return
    entry.minutes = sum(columns["seconds"]) / 60
    entry.validation = max(columns["val_accuracy"])
    if not math.isfinite(entry.minutes) or entry.minutes > minutes:
        entry.broken.append(f"trained for {entry.minutes:.1f} minutes; {minutes:g} are allowed")


def measure(entry: Entry, network: model.Network, info: dict, data: cifar10.Dataset) -> None:
    """Measure validation accuracy anew, on the rows that the run kept for it."""
    said = trained_on(info)
    if said.get("fingerprint") != data.fingerprint:
        entry.broken.append(f"was trained on other images than these ({data.name})")
        return
    if network.classes != len(data.class_names):
        entry.broken.append(
            f"has {network.classes} classes, and the images {len(data.class_names)}"
        )
        return
    rows, count = said.get("validation_rows"), len(data.train_labels)
    valid = isinstance(rows, list) and len(rows) == len(set(map(str, rows))) > 0
    if not valid or not all(type(row) is int and 0 <= row < count for row in rows):
        entry.broken.append("doesn't say which images it kept for validation")
        return
    entry.images = len(rows)
    if len(rows) < count // 10:
        entry.broken.append(f"kept only {len(rows):,} images for validation; a tenth is asked")
    labels = data.train_labels[rows].astype(np.int64)
    settings = info.get("settings")
    is_balanced = isinstance(settings, dict) and settings.get("class_weight") == "balanced"
    weights = train.balanced_weights(labels) if is_balanced else None
    _, entry.measured = network.evaluate(data.train_images[rows], labels, weights)
    if entry.validation is not None and not abs(entry.measured - entry.validation) <= ROUNDING:
        entry.broken.append(f"its history says {entry.validation:.2%}")


def table(entries: list[Entry]) -> str:
    """Return the entries in the order of their validation accuracy; those that break rules last."""

    def key(entry: Entry):
        accuracy = entry.measured if entry.measured is not None else entry.validation
        return bool(entry.broken), -(accuracy or 0)

    width = max(10, *(len(entry.checkpoint) for entry in entries))
    lines = [
        f"{'checkpoint':<{width}}  units   parameters  minutes  validation  measured  images  rules"
    ]
    for entry in sorted(entries, key=key):
        minutes = "" if entry.minutes is None else f"{entry.minutes:.1f}"
        validation = "" if entry.validation is None else f"{entry.validation:.2%}"
        measured = "" if entry.measured is None else f"{entry.measured:.2%}"
        images = "" if entry.images is None else f"{entry.images:,}"
        rules = "; ".join(entry.broken) or "kept"
        lines.append(
            f"{entry.checkpoint:<{width}}  {entry.units:<6,}  {entry.parameters:>10,}  "
            f"{minutes:>7}  {validation:>10}  {measured:>8}  {images:>6}  {rules}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser(prog="contest.py", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=cli.user_path, metavar="NET.npz")
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="training allowed")
    parser.add_argument("--json", type=cli.output_path, metavar="FILE", help="also write the table")
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 < args.minutes < 1e6:
        raise UserError(f"--minutes {args.minutes:g}: must be above 0")
    submissions = [os.path.realpath(path) for path in args.checkpoints]
    if len(set(submissions)) < len(submissions):
        raise UserError("a checkpoint is named twice; name each once")
    if args.json and os.path.realpath(args.json) in submissions:
        raise UserError(f"--json {shorter(args.json)}: is a submission; choose another name")
    source = cifar10.Source.of(args)
    data = cifar10.load_from(source) if source.typed() else None
    entries = [read_entry(path, args.minutes, data, args.threads) for path in args.checkpoints]
    print(table(entries))
    if data is None:
        print("accuracies are what the files say: give --data-dir to measure them anew")
    if args.json:
        with files.write_whole(args.json) as file:
            file.write(json.dumps([asdict(entry) for entry in entries], indent=1).encode())
        print(f"written to {shorter(args.json)}")
    return 1 if any(entry.broken for entry in entries) else 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
