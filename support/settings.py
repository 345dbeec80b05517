"""Settings: a dataclass whose fields say what is allowed, and the flags made of them."""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import Field, field, fields
from functools import partial

from support.cli import UserError, clean

# ---- Errors --------------------------------------------------------------------------------------


class SettingError(UserError):
    """A setting with an invalid value.

    name, value and problem say which, and why. A remedy may mention other settings, as {name} or
    as {no_name}, spelled --no-name and name=False.
    The text names the parameter as Python spells it. A command line shows `command_line_text`.
    """

    def __init__(self, name: str, value, problem: str, remedy: str = "") -> None:
        self.name = name
        self.value = value
        self.problem = problem
        self.remedy = remedy
        super().__init__(self.python_text())

    def __reduce__(self):  # so that it survives the way back from a worker process
        return type(self), (self.name, self.value, self.problem, self.remedy)

    def python_text(self, names: dict[str, str] | None = None) -> str:
        """Return the error in Python's spelling. names: parameters that are called otherwise."""
        names = names or {}

        def spell(name: str) -> str:
            if name.startswith("no_"):
                return f"{name.removeprefix('no_')}=False"
            return names.get(name, name)

        # A value from a file may be of any length, and hold control characters.
        shown = clean(repr(self.value), 80)
        return f"{spell(self.name)}={shown} {self._rest(spell)}"

    def command_line_text(self) -> str:
        """Return the error in the spelling of the command line."""
        return f"{typed(self.name, self.value)} {self._rest(flag)}"

    def _rest(self, spell: Callable[[str], str]) -> str:
        if not self.remedy:
            return self.problem
        remedy = re.sub(r"\{(\w+)\}", lambda match: spell(match[1]), self.remedy)
        return f"{self.problem}: {remedy}"


def flag(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def typed(name: str, value) -> str:
    """Return a setting as it is typed on a command line."""
    if value is False:
        return flag(f"no_{name}")
    if value is True:
        return flag(name)
    return f"{flag(name)} {clean(format_value(value), 80)}"


# ---- Fields --------------------------------------------------------------------------------------


def setting(
    default,
    help: str,
    *,
    group: str,
    low=None,
    high=None,
    below=None,
    choices=None,
    aliases: tuple[str, ...] = (),
    rare: bool = False,
):
    """Return a field of a settings class.

    group: its subject, a heading of --help. Allowed are low <= value <= high, value < below, and
    the choices. aliases: other names of the flag. rare: only --help-all shows the flag.
    """
    metadata = {
        "help": help,
        "group": group,
        "low": low,
        "high": high,
        "below": below,
        "choices": choices,
        "aliases": aliases,
        "rare": rare,
    }
    return field(default=default, metadata=metadata)


def check(settings) -> None:
    """Check every field of a frozen settings object, and turn ints for floats into floats.

    Raises SettingError for the first invalid one.
    """
    for option in fields(settings):
        value = allowed(option, getattr(settings, option.name))
        # A frozen object refuses assignment, and __post_init__ is the last moment to change it.
        object.__setattr__(settings, option.name, value)


def allowed(option: Field, value):
    """Return the value of a setting, an int for a float as a float.

    Raises SettingError if it is invalid.
    """
    refuse = partial(SettingError, option.name, value)
    if isinstance(option.default, float) and type(value) is int:
        # float() raises OverflowError for an int of hundreds of digits.
        if abs(value) > 1e300:
            raise refuse("is too large")
        value = float(value)
    # isinstance would take True for an int.
    if type(value) is not type(option.default):
        raise refuse(f"must be {KINDS[type(option.default)]}")
    limits = option.metadata
    if limits["choices"] and value not in limits["choices"]:
        raise refuse(f"must be one of {', '.join(limits['choices'])}")
    # A NaN would pass the limits below, as every comparison with it is false.
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("must be finite")
    if limits["low"] is not None and value < limits["low"]:
        raise refuse(f"must be at least {limits['low']}")
    if limits["high"] is not None and value > limits["high"]:
        raise refuse(f"must be at most {limits['high']}")
    if limits["below"] is not None and value >= limits["below"]:
        raise refuse(f"must be below {limits['below']}")
    return value


# ---- Values on the command line ------------------------------------------------------------------


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
METAVARS = {bool: "true|false", int: "N", float: "X", str: "TEXT"}


def parse_value(kind: type, text: str):
    """Return the value of a setting that a text stands for.

    Raises argparse.ArgumentTypeError if it stands for none.
    """
    try:
        if kind is bool:
            # bool("false") is True.
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        shown = clean(text, 60)
        raise argparse.ArgumentTypeError(f"{shown!r} is not {KINDS[kind]}") from None


def format_value(value) -> str:
    """Return the value of a setting as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- Flags ---------------------------------------------------------------------------------------


def add_setting_arguments(
    parser: argparse.ArgumentParser,
    options: list[Field],
    recipes: dict[str, dict],
    rare: bool = True,
) -> dict:
    """Add a flag for every setting, grouped by subject. Return the groups by title.

    A flag that isn't given isn't in the namespace, so that a recipe can fill it. rare: whether
    --help shows the rare flags.
    """
    groups = {}
    for option in options:
        title = option.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        words = {"dest": option.name, "default": argparse.SUPPRESS}
        words["help"] = argparse.SUPPRESS
        if rare or not option.metadata["rare"]:
            words["help"] = _help(option, recipes)
        names = (option.name, *option.metadata["aliases"])
        for name in names:
            _add_flag(groups[title], name, option, words)
            words = words | {"help": argparse.SUPPRESS}  # --help shows no aliases
    return groups


def _help(option: Field, recipes: dict[str, dict]) -> str:
    """Return a setting's line in --help, with its default or those of the recipes."""
    defaults = {}
    for name, recipe in recipes.items():
        defaults[name] = format_value(recipe.get(option.name, option.default))
    if len(set(defaults.values())) == 1:
        shown = f"default: {format_value(option.default)}"
    else:
        shown = ", ".join(f"{name}: {value}" for name, value in defaults.items())
    # argparse formats help texts with %.
    return f"{option.metadata['help']} ({shown})".replace("%", "%%")


def _metavar(option: Field) -> str:
    choices = option.metadata["choices"]
    return "|".join(choices) if choices else METAVARS[type(option.default)]


def _add_flag(group, name: str, option: Field, words: dict) -> None:
    """Add a flag that takes one value."""
    kind = type(option.default)
    if kind is bool:
        group.add_argument(flag(name), action=argparse.BooleanOptionalAction, **words)
        return
    choices = option.metadata["choices"]
    parse = partial(parse_value, kind)
    group.add_argument(flag(name), type=parse, choices=choices, metavar=_metavar(option), **words)


# What does the work of the report's --mode.
SCRIPTS = {
    "train": "train.py",
    "test": "test.py",
    "grid_search": "search.py",
    "visualize": "visualize.py",
}


def add_report_arguments(parser: argparse.ArgumentParser, mode: str, rare: bool = True):
    """Add the other flags of the report's own commands; return their group.

    mode: the value of --mode that stands for this script. rare: whether --help shows the flags.
    """
    group = parser.add_argument_group("the report's own flags, which its commands need")

    def shown(text: str) -> str:
        return text if rare else argparse.SUPPRESS

    def parse_mode(text: str) -> str:
        if text != mode:
            script = SCRIPTS.get(text, "another script")
            raise argparse.ArgumentTypeError(f"{clean(text, 40)!r} is done by {script}")
        return text

    group.add_argument(
        "--use-dropout",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help=shown("--no-use-dropout is --dropout 0"),
    )
    others = [f"{script} is {name}" for name, script in SCRIPTS.items() if name != mode]
    text = shown(f"{mode}; {', '.join(others)}")
    group.add_argument("--mode", type=parse_mode, metavar=mode, help=text)
    group.add_argument("--activation", choices=("relu",), help=shown("ReLU is the only one"))
    text = shown("no effect: results are always saved")
    group.add_argument("--save-results", action="store_true", help=text)
    return group


def check_use_dropout(args: argparse.Namespace, *used) -> None:
    """Raise SettingError if --use-dropout was typed, and the values of dropout used are all 0."""
    if getattr(args, "use_dropout", False) and not any(used):
        raise SettingError("dropout", 0, "contradicts --use-dropout: give one such as 0.5")


def drops_nothing(args: argparse.Namespace, *given) -> bool:
    """Return whether --no-use-dropout was typed. given: the values of --dropout.

    Raises SettingError if one of them is not 0.
    """
    if getattr(args, "use_dropout", True):
        return False
    if any(given):
        shown = " ".join(map(format_value, given))
        problem = "contradicts --no-use-dropout: leave one of them out"
        raise SettingError("dropout", shown, problem)
    return True
