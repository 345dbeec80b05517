"""The table of a search: results.csv, of which nothing is believed before it is checked, and the ranking for people."""

import csv
import io
import os
import re
import statistics
from argparse import ArgumentTypeError
from collections.abc import Iterable
from dataclasses import Field

from support.cli import clean
from support.files import Fault, read_file, write_whole
from support.settings import SettingError, allowed, parse_value

# A row holds text, as it is in the file. The searched settings stand after the trial.
COLUMNS = (
    "repeat",
    "seed",
    "status",
    "val_accuracy",
    "val_loss",
    "best_epoch",
    "epochs",
    "seconds",
    "test_accuracy",
    "checkpoint",
    "reason",
)
TRIAL = "[0-9a-f]{10}"
STATUSES = ("ok", "stopped", "diverged", "failed")
LIMITS = {
    "val_accuracy": 1,
    "val_loss": 1e100,
    "best_epoch": 1e6,
    "epochs": 1e6,
    "seconds": 1e12,
    "test_accuracy": 1,
}
MAX_BYTES = 16 << 20

Row = dict[str, str]

# ---- The file -------------------------------------------------------------------------------------------------------


def write_rows(path: str | os.PathLike, searched: list[str], rows: Iterable[Row]) -> None:
    """Write the rows as a results.csv, whole."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["trial", *searched, *COLUMNS])
    writer.writeheader()
    writer.writerows(rows)
    with write_whole(path) as file:
        file.write(text.getvalue().encode())


def read_rows(path: str | os.PathLike, options: dict[str, Field]) -> tuple[list[str], list[Row]]:
    """The names of the searched settings, which are among `options`, and the rows of a results.csv.

    Fault, OSError or another ValueError for anything else. A checkpoint is the one in the folder with the trial's name,
    and is there.
    """
    text = read_file(path, MAX_BYTES).decode()
    try:
        head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise Fault(f"is no table ({clean(error, 60)})") from None
    searched = head[1 : -len(COLUMNS)]
    if head != ["trial", *searched, *COLUMNS] or len(set(searched)) < len(searched):
        raise Fault("has other columns than a search's table")
    if unknown := [name for name in searched if name not in options]:
        raise Fault(f"has a column {clean(unknown[0], 40)}, which is no setting of train.py")
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        if len(line) != len(head):
            raise Fault(f"has {len(line)} columns in row {number}, not {len(head)}")
        row = dict(zip(head, line, strict=True))
        try:
            check_row(row, {name: options[name] for name in searched}, os.path.dirname(path))
        except (ValueError, SettingError, ArgumentTypeError) as error:
            raise Fault(f"has a broken row {number} ({clean(error, 80)})") from None
        if row["trial"] in rows:
            raise Fault(f"has trial {row['trial']} twice")
        rows[row["trial"]] = row
    return searched, list(rows.values())


def check_row(row: Row, options: dict[str, Field], folder: str | os.PathLike) -> None:
    """ValueError, SettingError or ArgumentTypeError unless a search may have left this row in the folder."""
    if not re.fullmatch(TRIAL, row["trial"]):
        raise Fault(f"trial {clean(row['trial'], 40)!r}")
    for name, option in options.items():
        allowed(option, parse_value(type(option.default), row[name]))
    for name, pattern in {
        "repeat": "[1-9][0-9]{0,5}",
        "seed": "[0-9]{1,10}",
        "status": "|".join(STATUSES),
    }.items():
        if not re.fullmatch(pattern, row[name]):
            raise Fault(f"{name} {clean(row[name], 40)!r}")
    for name, high in LIMITS.items():
        if row[name] and not 0 <= float(row[name]) <= high:
            raise Fault(f"{name} {clean(row[name], 40)}")
    if row["checkpoint"] not in ("", f"{row['trial']}.npz"):
        raise Fault(f"checkpoint {clean(row['checkpoint'], 40)!r}, which isn't the trial's")
    there = {
        bool(row[name])
        for name in ("val_accuracy", "val_loss", "best_epoch", "epochs", "seconds", "checkpoint")
    }
    if len(there) > 1 or (row["test_accuracy"] and not row["checkpoint"]):
        raise Fault("gaps")
    if row["checkpoint"] and not os.path.isfile(os.path.join(folder, row["checkpoint"])):
        raise Fault(
            f"{row['checkpoint']} is missing or no file; without the row, it is trained again"
        )
    if not row["reason"].isprintable() or len(row["reason"]) > 300:
        raise Fault("its reason")


# ---- The ranking ----------------------------------------------------------------------------------------------------


def rank(scores: list[tuple[float, float] | None]) -> tuple[bool, float, float]:
    """The sort key of a setting from its trials' (accuracy, loss), None for one without: complete first, then the
    highest mean accuracy, then the lowest mean loss."""
    good = [score for score in scores if score is not None]
    accuracy, loss = (
        (statistics.fmean(values) for values in zip(*good, strict=True)) if good else (0.0, 0.0)
    )
    return len(good) < len(scores), -accuracy, loss


def ranked(rows: Iterable[Row], searched: list[str]) -> list[list[Row]]:
    """The rows of each setting, the best setting first, see `rank`."""
    settings: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (int(row["repeat"]), row["trial"])):
        settings.setdefault(tuple(row[name] for name in searched), []).append(row)

    def key(setting):
        scored = [(row["val_accuracy"], row["val_loss"]) for row in settings[setting]]
        return rank(
            [(float(accuracy), float(loss)) if accuracy else None for accuracy, loss in scored]
        ), setting

    return [settings[setting] for setting in sorted(settings, key=key)]


def mean(rows: list[Row], name: str) -> str:
    """The rounded mean of a number."""
    values = [float(row[name]) for row in rows if row[name]]
    return f"{statistics.fmean(values):.0f}" if values else "-"


def mean_percent(rows: list[Row], name: str) -> str:
    """The mean of an accuracy in percent, ± the sample standard deviation of several."""
    values = [100 * float(row[name]) for row in rows if row[name]]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}%" if values else "-"


def table(groups: list[list[Row]], searched: list[str]) -> list[list[str]]:
    """The table for people, a line for each setting, headings first. groups: what `ranked` gives."""
    repeated = any(len(group) > 1 for group in groups)
    tested = any(row["test_accuracy"] for group in groups for row in group)
    head = ["rank", *(name.replace("_", " ") for name in searched), "validation"]
    head += ["runs"] if repeated else []
    head += ["best epoch", "epochs", "seconds", *(["test (not used)"] if tested else []), "status"]
    lines = [head]
    for place, group in enumerate(groups, 1):
        line = [
            str(place),
            *(group[0][name] for name in searched),
            mean_percent(group, "val_accuracy"),
        ]
        line += [str(len(group))] if repeated else []
        line += [mean(group, name) for name in ("best_epoch", "epochs", "seconds")]
        line += [mean_percent(group, "test_accuracy")] if tested else []
        line += [", ".join(dict.fromkeys(row["status"] for row in group))]
        lines.append(line)
    return lines


def notes(groups: list[list[Row]]) -> list[str]:
    """What a reader of the table has to know."""
    rows, lines = [row for group in groups for row in group], []
    if any(len(group) > 1 for group in groups):
        lines.append("The mean over the runs of a setting, ± the standard deviation between them.")
    if any(row["status"] == "stopped" for row in rows):
        lines.append("stopped: successive halving ended the trial early.")
    if any(row["test_accuracy"] for row in rows):
        lines.append(
            "Test accuracy: not used for the choice, which is by validation accuracy alone."
        )
    return lines


def as_text(lines: list[list[str]]) -> str:
    """A table in columns for the terminal, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def as_markdown(lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(
        f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    )
