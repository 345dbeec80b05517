"""The table of a search: results.csv, whose content is checked, and the ranking in the terminal."""

import csv
import io
import itertools
import os
import re
import shutil
import statistics
import textwrap
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from dataclasses import Field

from support.cli import clean
from support.csv_text import safe
from support.files import Fault, read_file, write_whole
from support.settings import SettingError, allowed, format_value, parse_value

# A row is text, as in the file. The searched settings are between `trial` and these columns.
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
PATTERNS = {
    "trial": TRIAL,
    "repeat": "[1-9][0-9]{0,5}",
    "seed": "[0-9]{1,10}",
    "status": "|".join(STATUSES),
}
LIMITS = {
    "val_accuracy": 1,
    "val_loss": 1e100,
    "best_epoch": 1e6,
    "epochs": 1e6,
    "seconds": 1e12,
    "test_accuracy": 1,
}
# A trial that left a network has all of these, any other trial none.
OF_A_NETWORK = ("val_accuracy", "val_loss", "best_epoch", "epochs", "seconds", "checkpoint")
MAX_BYTES = 16 << 20
MAX_REASON = 300  # characters
UNBROKEN = "\u00a0"  # a space at which no line ends
MAX_LINES = 40  # settings in the printed ranking
# Columns that a narrow terminal does without, in this order.
DISPENSABLE = ("seconds", "best epoch", "epochs", "runs", "test")

Row = dict[str, str]

# ---- The file ---------------------------------------------------------------------------------


def write_rows(path: str | os.PathLike, searched: list[str], rows: Iterable[Row]) -> None:
    """Write the rows as a results.csv, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["trial", *searched, *COLUMNS])
    writer.writeheader()
    for row in rows:
        # A reason may begin like a spreadsheet's formula.
        writer.writerow({name: safe(cell) for name, cell in row.items()})
    with write_whole(path) as file:
        file.write(text.getvalue().encode())


def read_rows(path: str | os.PathLike, searched: dict[str, Field]) -> list[Row]:
    """Return the rows of a results.csv; searched: the settings that it has columns for.

    The checkpoints named in it have been found. Raises Fault, OSError or another ValueError if
    the file is anything else.
    """
    text = read_file(path, MAX_BYTES).decode()
    try:
        head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise Fault(f"is no table ({clean(error, 60)})") from None
    if head != ["trial", *searched, *COLUMNS]:
        raise Fault("has other columns than search.json says")
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        if len(line) != len(head):
            raise Fault(f"has {len(line)} columns in row {number}, not {len(head)}")
        row = dict(zip(head, line, strict=True))
        try:
            check_row(row, searched, os.path.dirname(path))
        except (ValueError, SettingError, ArgumentTypeError) as error:
            raise Fault(f"has a damaged row {number} ({clean(error, 80)})") from None
        if row["trial"] in rows:
            raise Fault(f"has trial {row['trial']} twice")
        rows[row["trial"]] = row
    return list(rows.values())


def check_row(row: Row, searched: dict[str, Field], folder: str) -> None:
    """Check that a search could have left this row in the folder, and spell its settings alike.

    Raises ValueError, SettingError or ArgumentTypeError if not.
    """
    for name, pattern in PATTERNS.items():
        if not re.fullmatch(pattern, row[name]):
            raise Fault(f"{name} {clean(row[name], 40)!r}")
    for name, option in searched.items():
        # A spreadsheet may have changed true to TRUE, or 1e-05 to 0.00001.
        row[name] = format_value(allowed(option, parse_value(type(option.default), row[name])))
    for name, high in LIMITS.items():
        if row[name] and not 0 <= float(row[name]) <= high:
            raise Fault(f"{name} {clean(row[name], 40)}")
    if not row["reason"].isprintable() or len(row["reason"]) > MAX_REASON:
        raise Fault("its reason")
    filled = [bool(row[name]) for name in OF_A_NETWORK]
    if any(filled) and not all(filled):
        raise Fault("an empty cell")
    if row["test_accuracy"] and not row["checkpoint"]:
        raise Fault("a test without a checkpoint")
    if row["checkpoint"]:
        check_checkpoint(row, folder)


def check_checkpoint(row: Row, folder: str) -> None:
    name = row["checkpoint"]
    if name != f"{row['trial']}.npz":
        raise Fault(f"checkpoint {clean(name, 40)!r}, which isn't the trial's")
    if not os.path.isfile(os.path.join(folder, name)):
        raise Fault(f"{name} is missing or no file; delete the row to train it again")


# ---- The ranking ------------------------------------------------------------------------------


def rank(scores: list[tuple[float, float] | None]) -> tuple[bool, float, float]:
    """Return the sort key of a setting from the (accuracy, loss) of its trials, best first.

    A score is None if the trial left no network. Settings with such a trial come last, then the
    highest mean accuracy is first, then the lowest mean loss.
    """
    good = [score for score in scores if score is not None]
    incomplete = len(good) < len(scores)
    if not good:
        return incomplete, 0.0, 0.0
    accuracy = statistics.fmean(score[0] for score in good)
    loss = statistics.fmean(score[1] for score in good)
    return incomplete, -accuracy, loss


def score_of(row: Row) -> tuple[float, float] | None:
    """Return a row's validation (accuracy, loss), None if the trial left no network."""
    if not row["val_accuracy"]:
        return None
    return float(row["val_accuracy"]), float(row["val_loss"])


def ranked(rows: Iterable[Row], searched: list[str]) -> list[list[Row]]:
    """Return the rows of each setting, the best setting first."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (int(row["repeat"]), row["trial"])):
        setting = tuple(row[name] for name in searched)
        groups.setdefault(setting, []).append(row)

    def key(setting):
        # Equal scores are ordered by the values, so that the table is always the same.
        return rank([score_of(row) for row in groups[setting]]), setting

    return [groups[setting] for setting in sorted(groups, key=key)]


def mean(rows: list[Row], name: str) -> str:
    """Return the rounded mean of a column."""
    values = [float(row[name]) for row in rows if row[name]]
    if not values:
        return "-"
    return f"{statistics.fmean(values):.0f}"


def mean_percent(rows: list[Row], name: str) -> str:
    """Return the mean of an accuracy in percent, with the sample standard deviation if repeated."""
    values = [100 * float(row[name]) for row in rows if row[name]]
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}%"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}%"


# ---- The ranking in the terminal --------------------------------------------------------------


def ranking(groups: list[list[Row]], searched: list[str]) -> str:
    """Return the ranked settings as a table with notes, as wide as the terminal at most.

    groups: the result of `ranked`. If the settings don't fit next to their results, each has
    lines of its own below them.
    """
    shown = groups[:MAX_LINES]
    ranks = [["rank"], *([str(i)] for i in range(1, len(shown) + 1))]
    settings = [[name.replace("_", " ") for name in searched]]
    settings += [[group[0][name] for name in searched] for group in shown]
    lines = aligned(ranks, settings, result_cells(shown))
    if len(lines[0]) > terminal_width():
        head, *lines = narrow(ranks, shown)
        names, *values = settings
        lines = [head, *with_settings_below(lines, names, values)]
    return "\n".join([*lines, *map(wrapped, notes(groups))])


def narrow(ranks: list[list[str]], groups: list[list[Row]]) -> list[str]:
    """Return the lines without settings, and with as many of the results as fit."""
    for count in range(len(DISPENSABLE) + 1):
        lines = aligned(ranks, result_cells(groups, DISPENSABLE[:count]))
        if len(lines[0]) <= terminal_width():
            break
    return lines


def with_settings_below(
    lines: list[str], names: list[str], values: list[list[str]]
) -> Iterator[str]:
    """Yield each line, then the values of its settings."""
    for line, own in zip(lines, values, strict=True):
        yield line
        pairs = [f"{name} {value}" for name, value in zip(names, own, strict=True)]
        # A line may end after a pair, not in it.
        joined = ", ".join(pair.replace(" ", UNBROKEN) for pair in pairs)
        yield wrapped(joined, indent="      ").replace(UNBROKEN, " ")


def result_cells(groups: list[list[Row]], without: tuple[str, ...] = ()) -> list[list[str]]:
    """Return the cells of each setting's results, headings first, without some columns."""
    repeated = any(len(group) > 1 for group in groups)
    tested = any(row["test_accuracy"] for group in groups for row in group)
    columns = {"validation": lambda group: mean_percent(group, "val_accuracy")}
    if repeated:
        columns["runs"] = lambda group: str(len(group))
    columns["best epoch"] = lambda group: mean(group, "best_epoch")
    columns["epochs"] = lambda group: mean(group, "epochs")
    columns["seconds"] = lambda group: mean(group, "seconds")
    if tested:
        columns["test"] = lambda group: mean_percent(group, "test_accuracy")
    columns["status"] = statuses
    for name in without:
        columns.pop(name, None)
    lines = [[column(group) for column in columns.values()] for group in groups]
    return [list(columns), *lines]


def statuses(group: list[Row]) -> str:
    return ", ".join(dict.fromkeys(row["status"] for row in group))


def aligned(*parts: list[list[str]]) -> list[str]:
    """Return the cells of all parts, next to each other, as lines of right-aligned columns."""
    rows = [list(itertools.chain(*cells)) for cells in zip(*parts, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells))
    return lines


def terminal_width() -> int:
    """Return the characters in a line of the terminal; many if standard output is no terminal."""
    return shutil.get_terminal_size((1000, 24)).columns


def wrapped(text: str, indent: str = "") -> str:
    """Return the text in lines of the terminal's width, broken between words."""
    return textwrap.fill(
        text,
        max(terminal_width(), 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def notes(groups: list[list[Row]]) -> list[str]:
    """Return what a reader of the ranking has to know."""
    rows = [row for group in groups for row in group]
    lines = []
    if len(groups) > MAX_LINES:
        rest = len(groups) - MAX_LINES
        lines.append(f"{rest} settings more are in results.csv.")
    if any(len(group) > 1 for group in groups):
        lines.append("Mean over the runs of a setting ± standard deviation between them.")
    if any(row["status"] == "stopped" for row in rows):
        lines.append("stopped: successive halving ended the trial early.")
    if any(row["test_accuracy"] for row in rows):
        lines.append("test: not used for the choice, which is by validation accuracy alone.")
    return lines
