"""Settings as a dataclass whose fields say what is allowed, and the command-line flags that follow from them."""

import argparse
import hashlib
import json
import math
from dataclasses import Field, field, fields
from functools import partial

from support.cli import UserError, clean


class SettingError(UserError):
    """A setting that isn't allowed: one line that names it as a flag."""

    def __init__(self, name: str, value, problem: str):
        super().__init__(f"{typed(name, value)} {problem}")


def typed(name: str, value) -> str:
    """A setting as it stands on a command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{flag}"
    return f"--{flag} {clean(format_value(value), 80)}"


def setting(
    default,
    help: str,
    *,
    low=None,
    high=None,
    below=None,
    choices=None,
    aliases: tuple[str, ...] = (),
):
    """A field of a settings class: its default, what --help says, and which values are allowed, low <= value <= high
    and value < below. aliases: other names of the flag."""
    allowed = {"low": low, "high": high, "below": below, "choices": choices}
    return field(default=default, metadata={"help": help, "aliases": aliases} | allowed)


def check(settings) -> None:
    """SettingError unless every field of a (frozen) settings object is allowed; ints for floats become floats."""
    for option in fields(settings):
        object.__setattr__(settings, option.name, allowed(option, getattr(settings, option.name)))


def allowed(option: Field, value):
    """The value, an int for a float as a float. SettingError unless the setting may have it."""
    refuse = partial(SettingError, option.name, value)
    if isinstance(option.default, float) and type(value) is int:
        if abs(value) > 1e300:
            raise refuse("is too large")
        value = float(value)
    low, high, below, choices = (
        option.metadata[key] for key in ("low", "high", "below", "choices")
    )
    if type(value) is not type(option.default):
        raise refuse(f"must be of type {type(option.default).__name__}")
    if choices and value not in choices:
        raise refuse(f"must be one of {', '.join(choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("must be finite")
    if low is not None and value < low:
        raise refuse(f"must be at least {low}")
    if high is not None and value > high:
        raise refuse(f"must be at most {high}")
    if below is not None and value >= below:
        raise refuse(f"must be below {below}")
    return value


# ---- Values on the command line -------------------------------------------------------------------------------------


class Range:
    """LOW:HIGH on the command line: numbers between the two, ends included, log-uniform."""

    def __init__(self, low: float, high: float, kind: type):
        self.low, self.high, self.kind = low, high, kind

    def draw(self, *key) -> int | float:
        """The number that belongs to the key; to three digits, or rounded to an integer."""
        share = fingerprint(*key) / 2**256
        value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        value = round(value) if self.kind is int else float(f"{value:.3g}")
        return min(max(value, self.low), self.high)

    def __str__(self):
        return f"{self.low:g}:{self.high:g}"


def fingerprint(*parts) -> int:
    """SHA-256 of what JSON can write, as a number: on every machine, in every order of trials the same."""
    return int(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), 16)


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def parse_value(kind: type, text: str, ranges: bool = False):
    """A value of a setting, or with ranges a Range. argparse.ArgumentTypeError if it is neither."""
    low, colon, high = text.partition(":")
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if not (ranges and colon and kind in (int, float)):
            return kind(text)
        ends = kind(low), kind(high)
        if 0 < ends[0] < ends[1] < 1e300:
            return Range(*ends, kind)
    except (ValueError, KeyError):
        also = " or LOW:HIGH" if ranges and kind in (int, float) else ""
        raise argparse.ArgumentTypeError(
            f"{clean(text, 60)!r} is not {KINDS[kind]}{also}"
        ) from None
    raise argparse.ArgumentTypeError(
        f"{clean(text, 60)}: a range is LOW:HIGH with 0 < LOW < HIGH, such as 1e-4:1e-1"
    )


def format_value(value) -> str:
    """A setting's value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def add_setting_arguments(
    parser: argparse.ArgumentParser,
    options: list[Field],
    recipes: dict[str, dict],
    several: dict | None = None,
) -> None:
    """Add a flag for every setting. What isn't given isn't in the namespace, so that a recipe can fill it.

    several: for a search, where a flag takes one value or more, or a range; by name what its help says besides.
    """
    about = (
        None
        if several is None
        else "One value or several: all combinations are tried. A range is LOW:HIGH."
    )
    group = parser.add_argument_group("settings", about)
    for option in options:
        kind, choices = type(option.default), option.metadata["choices"]
        flags = [
            f"--{name.replace('_', '-')}" for name in (option.name, *option.metadata["aliases"])
        ]
        values = {
            name: format_value(recipe.get(option.name, option.default))
            for name, recipe in recipes.items()
        }
        shown = ", ".join(f"{name}: {value}" for name, value in values.items())
        if len(set(values.values())) == 1:
            shown = f"default: {format_value(option.default)}"
        shown += (several or {}).get(option.name, "")
        words = {"dest": option.name, "default": argparse.SUPPRESS}
        words["help"] = f"{option.metadata['help']} ({shown})".replace("%", "%%")
        metavar = (
            "|".join(choices)
            if choices
            else {bool: "true|false", int: "N", float: "X", str: "TEXT"}[kind]
        )
        if several is not None:
            value = partial(parse_value, kind, ranges=True)
            group.add_argument(
                *flags, nargs="*" if kind is bool else "+", type=value, metavar=metavar, **words
            )
            if kind is bool:
                words |= {"action": "store_const", "const": [False], "help": f"{flags[0]} false"}
                group.add_argument(*(f"--no-{flag[2:]}" for flag in flags), **words)
        elif kind is bool:
            group.add_argument(*flags, action=argparse.BooleanOptionalAction, **words)
        else:
            group.add_argument(
                *flags, type=partial(parse_value, kind), choices=choices, metavar=metavar, **words
            )


def add_report_arguments(parser: argparse.ArgumentParser, mode: str, others: str) -> None:
    """Add the flags that the report's own commands have besides. others: which scripts do what --mode names there."""
    group = parser.add_argument_group("the report's own flags", "Its commands work as they are.")
    words = {"action": argparse.BooleanOptionalAction, "default": argparse.SUPPRESS}
    group.add_argument("--use-dropout", help="--no-use-dropout is --dropout 0", **words)
    group.add_argument("--mode", choices=(mode,), help=others)
    group.add_argument("--activation", choices=("relu",), help="ReLU is the only one")
    group.add_argument(
        "--save-results", action="store_true", help="no effect: results are always saved"
    )
