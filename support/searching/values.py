"""The values of searched settings: parsed from the command line, checked, counted and drawn."""

import argparse
import hashlib
import json
import math
from dataclasses import Field
from functools import partial

from support.cli import clean
from support.settings import SettingError, allowed, flag, format_value, parse_value

# The values of each given setting by its name: a list of values, or of a single Range.
Values = dict[str, list]

UNCOUNTABLE = 10**9  # stands for the number of fractions in a range


class Range:
    """LOW:HIGH on the command line: the numbers from low to high, drawn log-uniformly."""

    def __init__(self, low: float, high: float, kind: type):
        self.low = low
        self.high = high
        self.kind = kind

    def draw(self, *key) -> int | float:
        """Return the number that belongs to the key: an integer, or three significant digits."""
        share = fingerprint(*key) / 2**256
        low, high = math.log(self.low), math.log(self.high)
        value = math.exp(low + share * (high - low))
        value = round(value) if self.kind is int else float(f"{value:.3g}")
        # Rounding may leave the range.
        return min(max(value, self.low), self.high)

    def __str__(self):
        return f"{self.low:g}:{self.high:g}"


def fingerprint(*parts) -> int:
    """Return the SHA-256 of JSON values as a number, the same on every machine."""
    text = json.dumps(parts, sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def is_searched(values: list) -> bool:
    """Whether a setting with these values differs between trials."""
    return len(values) > 1 or isinstance(values[0], Range)


def typed_values(values: list) -> str:
    """Return the values of a setting as they are typed."""
    return " ".join(map(format_value, values))


def count(values: list) -> int:
    """Return how many values these are."""
    if not isinstance(values[0], Range):
        return len(values)
    if values[0].kind is int:
        return values[0].high - values[0].low + 1
    return UNCOUNTABLE


def draw(values: list, *key):
    """Return the value that belongs to the key, the same on every machine."""
    if isinstance(values[0], Range):
        return values[0].draw(*key)
    return values[fingerprint(*key) % len(values)]


def ends(values: list) -> list:
    """Return the values, and of a range both ends."""
    if isinstance(values[0], Range):
        return [values[0].low, values[0].high]
    return values


def check_values(given: Values, options: dict[str, Field], ranges: bool) -> None:
    """Check the values of all settings; ranges: whether a range may be among them.

    Raises SettingError, which names the first setting with a value that isn't allowed.
    """
    for name, values in given.items():
        has_range = any(isinstance(value, Range) for value in values)
        if has_range and not ranges:
            problem = "is a range: give --random N, or several values"
            raise SettingError(name, typed_values(values), problem)
        if has_range and len(values) > 1:
            problem = "mixes a range with more values: give one or the other"
            raise SettingError(name, typed_values(values), problem)
        for value in ends(values):
            allowed(options[name], value)


# ---- On the command line ----------------------------------------------------------------------


def parse_value_or_range(kind: type, text: str):
    """Return a value of a setting, or a Range.

    Raises argparse.ArgumentTypeError if the text is neither.
    """
    low, colon, high = text.partition(":")
    if not colon or kind not in (int, float):
        return parse_value(kind, text)
    try:
        low, high = kind(low), kind(high)
    except ValueError:
        low = high = 0
    if not 0 < low < high < 1e300:
        raise argparse.ArgumentTypeError(
            f"{clean(text, 60)}: a range is LOW:HIGH with 0 < LOW < HIGH, such as 1e-4:1e-1"
        )
    return Range(low, high, kind)


def add_value_arguments(parser: argparse.ArgumentParser, options: dict[str, Field]) -> None:
    """Add a flag for every setting, which takes several values.

    A setting that isn't given isn't in the namespace. --help lists the flags in two columns;
    train.py's --help explains them.
    """
    about = (
        "One value or several, of which all combinations are tried; with --random also\n"
        "a range LOW:HIGH. In brackets: the default of --recipe report. Booleans take\n"
        "true and false. 'python train.py --help' explains the settings.\n\n"
    )
    listed = [setting_in_help(name, option) for name, option in options.items()]
    group = parser.add_argument_group("settings of train.py", about + in_columns(listed))
    for option in options.values():
        add_value_argument(group, option)


def add_value_argument(group, option: Field) -> None:
    kind = type(option.default)
    names = [option.name, *option.metadata["aliases"]]
    flags = [flag(name) for name in names]
    words = {
        "dest": option.name,
        "default": argparse.SUPPRESS,
        "help": argparse.SUPPRESS,
    }
    parse = partial(parse_value_or_range, kind)
    # A boolean flag without a value means true, as in train.py.
    at_least = "*" if kind is bool else "+"
    group.add_argument(*flags, nargs=at_least, type=parse, metavar=metavar(option), **words)
    if kind is bool:
        negated = [flag(f"no_{name}") for name in names]
        group.add_argument(*negated, action="store_const", const=[False], **words)


def metavar(option: Field) -> str:
    """Return what stands for a value of the setting in --help."""
    if option.metadata["choices"]:
        return "|".join(option.metadata["choices"])
    return {bool: "", int: "N", float: "X", str: "TEXT"}[type(option.default)]


def setting_in_help(name: str, option: Field) -> str:
    usage = f"{flag(name)} {metavar(option)}".strip()
    return f"{usage} ({format_value(option.default)})"


def in_columns(items: list[str], width: int = 38) -> str:
    """Return the items in two columns; one that is wider than a column has its own line."""
    lines = []
    open_line = None
    for item in items:
        if len(item) > width - 2:
            lines.append(item)
        elif open_line is None:
            open_line = item
        else:
            lines.append(f"{open_line:{width}}{item}")
            open_line = None
    if open_line is not None:
        lines.append(open_line)
    return "\n".join(lines)
