"""Figures of a search's results.csv: learning curves, effects of the settings, cost."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from support.cli import UserError, clean, shorter
from support.figures.style import GREY, ORANGE, Figured, LeftOut, drawable, grid
from support.files import error_context, read_file

import numpy as np
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import MaxNLocator

MAX_BYTES = 64 << 20  # of results.csv
MAX_CURVE = 16 << 20  # bytes of a trial's CSV
LARGEST = 1e30  # matplotlib fails on greater numbers
NEEDED = ("trial", "repeat", "status", "val_accuracy", "seconds")
PANELS = 8  # settings in a figure, at most
COLOURED = 40  # trials whose lines of parallel coordinates can be told apart
FEW = 6  # values of a setting that are drawn at equal distances
ACCURACY = "validation accuracy (%)"
# Viridis without its yellow, which is hard to see on white.
COLOURS = LinearSegmentedColormap.from_list(
    "accuracy", colormaps["viridis"](np.linspace(0, 0.85, 64))
)

# ---- Reading ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A row of results.csv."""

    name: str
    values: dict[str, str]  # of the settings that differ between trials
    status: str
    accuracy: float | None  # validation accuracy in percent; None without a network
    seconds: float | None
    curve: np.ndarray | None  # validation accuracy in percent after each epoch


@dataclass(frozen=True)
class Search:
    """The trials of a search, and the names of the settings that differ between them."""

    settings: list[str]
    trials: list[Trial]

    @property
    def scored(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.accuracy is not None]

    @property
    def failed(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.accuracy is None]

    @property
    def best(self) -> Trial:
        return max(self.scored, key=lambda trial: trial.accuracy)

    def values_of(self, name: str) -> list[str]:
        """Return the different values of a setting, numbers by size."""
        values = {trial.values[name] for trial in self.trials}
        return sorted(values, key=lambda text: (number(text) is None, number(text) or 0, text))


def number(text: str) -> float | None:
    """Return the number in a cell; None if there is none that can be drawn."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < LARGEST else None


def read_search(path: Path) -> Search:
    """Return the search of a results.csv. Raises UserError if the file is something else."""
    with error_context(path, "name the results.csv of search.py", UserError):
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")  # a spreadsheet may add a mark
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        rows = list(reader)
        columns = list(reader.fieldnames or [])
    shown = clean(shorter(path), 120)
    for name in NEEDED:
        if name not in columns:
            raise UserError(f"{shown}: has no column '{name}'; name the results.csv of search.py")
    for row_number, row in enumerate(rows, 1):
        cell = row["val_accuracy"]
        accuracy = number(cell)
        if cell and (accuracy is None or not 0 <= accuracy <= 1):
            raise UserError(
                f"{shown}: has val_accuracy {clean(cell, 40)!r} in row {row_number}, not a number "
                "from 0 to 1; give it as search.py wrote it"
            )
    for name, count in Counter(row["trial"] for row in rows).items():
        if count > 1:
            raise UserError(f"{shown}: has trial {clean(name, 40)} twice; delete one of the rows")
    between = columns[columns.index("trial") + 1 : columns.index("repeat")]
    settings = [name for name in between if name and len({row[name] for row in rows}) > 1]
    search = Search(settings, [trial_of(row, settings, path.parent) for row in rows])
    if not search.scored:
        raise UserError(
            f"{shown}: no trial in it has a validation accuracy yet; draw it when one has ended"
        )
    return search


def trial_of(row: dict[str, str], settings: list[str], folder: Path) -> Trial:
    accuracy = number(row["val_accuracy"])
    seconds = number(row["seconds"])
    if seconds is not None and seconds < 0:
        seconds = None
    return Trial(
        name=row["trial"],
        values={name: row[name] for name in settings},
        status=row["status"],
        accuracy=None if accuracy is None else 100 * accuracy,
        seconds=seconds,
        curve=None if accuracy is None else read_curve(folder, row["trial"]),
    )


def read_curve(folder: Path, trial: str) -> np.ndarray | None:
    """Return the validation accuracy in percent after each epoch, from TRIAL.csv.

    None if the file is missing or isn't such a table.
    """
    if not re.fullmatch("[0-9a-f]{10}", trial):
        return None
    try:
        text = read_file(folder / f"{trial}.csv", MAX_CURVE).decode()
        rows = csv.DictReader(io.StringIO(text, newline=""))
        curve = np.array([float(row["val_accuracy"]) for row in rows])
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return None
    if not len(curve) or not ((curve >= 0) & (curve <= 1)).all():
        return None
    return 100 * curve


def best_trials(search: Search, limit: int = 20) -> list[list[str]]:
    """Return the trials with the highest validation accuracy as a table, headings first."""
    rows = [["trial", "accuracy", "seconds", *search.settings]]
    for trial in sorted(search.scored, key=lambda trial: -trial.accuracy)[:limit]:
        seconds = "" if trial.seconds is None else f"{trial.seconds:.6g}"
        values = [clean(trial.values[name], 40) for name in search.settings]
        rows.append([clean(trial.name, 40), f"{trial.accuracy:.2f}%", seconds, *values])
    return rows


# ---- Comparing trials -------------------------------------------------------------------------


def comparable(search: Search) -> tuple[Search, str]:
    """Return the search with accuracies that can be compared, and a sentence about them.

    After successive halving the trials have different numbers of epochs. Their accuracy is then
    the best of the first epochs, of as many as all have.
    """
    if all(trial.status != "stopped" for trial in search.scored):
        return search, ""
    if any(trial.curve is None for trial in search.scored):
        return search, " Trials that successive halving stopped had fewer epochs."
    epochs = min(len(trial.curve) for trial in search.scored)
    trials = []
    for trial in search.trials:
        if trial.accuracy is not None:
            trial = replace(trial, accuracy=float(trial.curve[:epochs].max()))
        trials.append(trial)
    sentence = (
        f" Accuracies are the best within {plural(epochs, 'epoch')}, which all trials have had."
    )
    return Search(search.settings, trials), sentence


def effect(search: Search, name: str) -> float:
    """Return how much the mean accuracy differs between values of a setting, in percent.

    Many values are taken in groups of neighbours, as single ones differ by chance.
    """
    means = [group.mean for group in groups_of(search, name)]
    return max(means) - min(means) if means else 0.0


@dataclass(frozen=True)
class Group:
    """Trials with the same value of a setting, or with neighbouring values."""

    position: float
    mean: float
    std: float


def groups_of(search: Search, name: str, axis: "ValueAxis | None" = None) -> list[Group]:
    """Return the groups of a setting's trials: one for each value, or five of equal size."""
    axis = axis or ValueAxis(search.values_of(name))
    points = sorted((axis.position(t.values[name]), t.accuracy) for t in search.scored)
    positions, accuracies = np.array(points).T
    if axis.few:
        parts = [np.flatnonzero(positions == each) for each in np.unique(positions)]
    else:
        parts = np.array_split(np.arange(len(points)), min(5, len(points)))
    groups = []
    for part in parts:
        own = accuracies[part]
        groups.append(Group(float(np.median(positions[part])), own.mean(), own.std()))
    return groups


def strongest(search: Search, limit: int = PANELS) -> list[str]:
    """Return the settings of the largest effects, in the order of the table."""
    order = sorted(search.settings, key=lambda name: -effect(search, name))
    return [name for name in search.settings if name in order[:limit]]


def left_out(search: Search, shown: list[str]) -> str:
    count = len(search.settings) - len(shown)
    if not count:
        return ""
    return f" Left out: {plural(count, 'setting')} with a smaller effect."


def failures(search: Search, mark: str = "") -> str:
    if not search.failed:
        return ""
    return f" {len(search.failed)} of {len(search.trials)} trials left no network{mark}."


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# ---- The values of a setting along an axis ----------------------------------------------------


class ValueAxis:
    """Positions of a setting's values: a few at equal distances, many numbers to scale."""

    def __init__(self, values: list[str]):
        self.values = values
        numbers = [number(value) for value in values]
        self.few = len(values) <= FEW or None in numbers
        self.log = not self.few and min(numbers) > 0 and max(numbers) > 20 * min(numbers)

    def position(self, value: str) -> float:
        if self.few:
            return self.values.index(value)
        return math.log10(number(value)) if self.log else number(value)

    @property
    def limits(self) -> tuple[float, float]:
        """The positions of the first and the last value."""
        positions = [self.position(value) for value in self.values]
        return min(positions), max(positions)

    def ticks(self, count: int = 4) -> tuple[list[float], list[str]]:
        """Return the positions of ticks, and their labels."""
        low, high = self.limits
        if self.few:
            step = math.ceil(len(self.values) / 12)
            shown = self.values[::step]
            return [self.position(value) for value in shown], [label(value) for value in shown]
        if self.log:
            whole = range(math.ceil(low - 0.01), math.floor(high + 0.01) + 1)
            if len(whole) >= 2:
                step = math.ceil(len(whole) / count)
                return list(whole)[::step], [f"$10^{{{each}}}$" for each in whole[::step]]
            return [low, high], [f"{10**low:.2g}", f"{10**high:.2g}"]
        ticks = MaxNLocator(count, steps=[1, 2, 5, 10]).tick_values(low, high)
        inside = [tick for tick in ticks if low <= tick <= high] or [low, high]
        return inside, [f"{tick:g}" for tick in inside]


def label(value: str) -> str:
    """Return a value as a tick's label."""
    return drawable(value, 12) or "empty"


def spread(axis: ValueAxis, trials: list[Trial], name: str) -> list[float]:
    """Return the positions of trials, those with the same value next to each other."""
    positions = [axis.position(trial.values[name]) for trial in trials]
    if not axis.few:
        return positions
    # Multiples of the golden ratio are even without being a pattern.
    return [x + 0.4 * (i * 0.618 % 1 - 0.5) for i, x in enumerate(positions)]


def visible(labels: list[str]) -> int:
    """Return the number of characters that are drawn, of powers without their markup."""
    return sum(len(label.translate(str.maketrans("", "", "${}^"))) for label in labels)


def words(name: str) -> str:
    """Return a setting's name as an axis's label."""
    return drawable(name.replace("_", " "), 24)


# ---- Learning curves --------------------------------------------------------------------------


def search_curves(search: Search) -> Figured:
    drawn = [trial for trial in search.scored if trial.curve is not None]
    if not drawn:
        raise LeftOut("no history of a trial (TRIAL.csv) is next to the table")
    best = max(drawn, key=lambda trial: trial.accuracy)
    alike = [trial for trial in drawn if trial.values == best.values and trial is not best]
    figure, axes = grid(1, 1, 2.6)
    ax = axes[0, 0]
    alpha = min(0.6, 0.1 + 25 / len(drawn))
    for trial in drawn:
        draw_curve(ax, trial.curve, GREY, 0.7, alpha)
        if trial.status == "stopped":
            ax.plot(len(trial.curve), trial.curve[-1], "o", color=GREY, ms=2.5)
    for trial in alike:
        draw_curve(ax, trial.curve, ORANGE, 0.9, 0.6)
    draw_curve(ax, best.curve, ORANGE, 1.8, 1)
    epoch = int(best.curve.argmax())
    ax.plot(epoch + 1, best.curve[epoch], "o", color=ORANGE, mec="black", ms=5, zorder=4)
    ax.set(xlabel="epoch", ylabel=ACCURACY)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if max(len(trial.curve) for trial in drawn) == 1:
        ax.set_xlim(0, 2)
    repeats = " (thin: its repeats with other seeds)" if alike else ""
    stopped = ""
    if any(trial.status == "stopped" for trial in drawn):
        stopped = " A grey dot ends a trial that successive halving stopped."
    return figure, (
        f"Validation accuracy in per cent after each epoch of {plural(len(drawn), 'trial')}. "
        f"Orange is the best trial, {clean(best.name, 20)}{repeats}; its dot is the epoch whose "
        "weights were kept."
        f"{stopped}{failures(search)}"
    )


def draw_curve(ax, curve: np.ndarray, colour: str, width: float, alpha: float) -> None:
    marker = "o" if len(curve) == 1 else None
    epochs = np.arange(1, len(curve) + 1)
    ax.plot(epochs, curve, color=colour, lw=width, alpha=alpha, marker=marker, ms=3)


# ---- The effect of each setting ---------------------------------------------------------------


def search_effects(search: Search) -> Figured:
    if not search.settings:
        raise LeftOut("no setting has more than one value")
    search, sentence = comparable(search)
    names = strongest(search)
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure, axes = grid(rows, columns, 1.75 * rows + 0.3, sharey=True)
    for ax, name in zip(axes.flat, names, strict=False):
        draw_effect(ax, search, name)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    figure.supylabel(ACCURACY, fontsize=8)
    return figure, (
        "The effect of each setting: a grey dot is a trial, orange the best one. Black: mean and "
        "standard deviation of the trials with a value, over all other settings and repeats; of "
        "many values, those of five groups of equal size."
        f"{sentence}{left_out(search, names)}{failures(search, ' (crosses at the bottom)')}"
    )


def draw_effect(ax, search: Search, name: str) -> None:
    axis = ValueAxis(search.values_of(name))
    best = search.best
    others = [trial for trial in search.scored if trial is not best]
    heights = [trial.accuracy for trial in others]
    ax.plot(spread(axis, others, name), heights, "o", color=GREY, ms=3, alpha=0.5, mew=0)
    ax.plot(axis.position(best.values[name]), best.accuracy, "o", color=ORANGE, ms=4, zorder=3)
    groups = groups_of(search, name, axis)
    ax.errorbar(
        [group.position for group in groups],
        [group.mean for group in groups],
        [group.std for group in groups],
        color="black",
        lw=1,
        capsize=3,
        marker="_",
        ms=8,
    )
    crosses = spread(axis, search.failed, name)
    ax.plot(
        crosses, [0.03] * len(crosses), "x", color=ORANGE, ms=4, transform=ax.get_xaxis_transform()
    )
    low, high = axis.limits
    margin = 0.5 if axis.few or high == low else 0.06 * (high - low)
    ax.set_xlim(low - margin, high + margin)
    ticks, labels = axis.ticks()
    ax.set_xticks(ticks, labels, rotation=45 if visible(labels) > 14 else 0)
    ax.set_xlabel(words(name))


# ---- Two settings -----------------------------------------------------------------------------


def search_grid(search: Search) -> Figured:
    if len(search.settings) < 2:
        raise LeftOut("fewer than two settings have several values")
    search, sentence = comparable(search)
    first, second = strongest(search, 2)
    across, up = (ValueAxis(search.values_of(name)) for name in (first, second))
    figure, axes = grid(1, 1, 2.9)
    ax = axes[0, 0]
    if max(len(across.values), len(up.values)) <= FEW:
        image = draw_cells(ax, search, first, second)
        what = "Mean validation accuracy in per cent of the trials with the same"
    else:
        image = draw_dots(ax, search, first, second)
        what = "Validation accuracy in per cent of each trial, at its"
    label_axes(ax, across, up)
    ax.set(xlabel=words(first), ylabel=words(second))
    figure.colorbar(image, ax=axes, label=ACCURACY, location="bottom", aspect=40, pad=0.02)
    return figure, (
        f"{what} {clean(first, 40)} and {clean(second, 40)}, whatever the other settings and the "
        f"seed are.{sentence}{left_out(search, [first, second])}{failures(search)}"
    )


def colour_scale(accuracies: list[float]) -> Normalize:
    low, high = min(accuracies), max(accuracies)
    return Normalize(low, max(high, low + 0.1))


def draw_cells(ax, search: Search, first: str, second: str):
    """Draw a cell for each pair of values, with its mean accuracy."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for trial in search.scored:
        pair = trial.values[first], trial.values[second]
        pairs.setdefault(pair, []).append(trial.accuracy)
    means = {pair: float(np.mean(accuracies)) for pair, accuracies in pairs.items()}
    cells = []
    for up in search.values_of(second):
        cells.append([means.get((across, up), np.nan) for across in search.values_of(first)])
    scale = colour_scale(list(means.values()))
    image = ax.imshow(cells, norm=scale, cmap=COLOURS, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(cells):
        text = "-" if np.isnan(value) else f"{value:.1f}"
        colour = "black" if np.isnan(value) or scale(value) > 0.6 else "white"
        ax.text(column, row, text, ha="center", va="center", color=colour)
    return image


def draw_dots(ax, search: Search, first: str, second: str):
    """Draw a dot for each trial, coloured by its accuracy."""
    # The best last, so that they are on top.
    trials = sorted(search.scored, key=lambda trial: trial.accuracy)
    x = spread(ValueAxis(search.values_of(first)), trials, first)
    y = spread(ValueAxis(search.values_of(second)), trials, second)
    colours = [trial.accuracy for trial in trials]
    look = {"norm": colour_scale(colours), "cmap": COLOURS, "edgecolor": "black", "lw": 0.5}
    return ax.scatter(x, y, c=colours, s=36 if len(trials) < 100 else 20, **look)


def label_axes(ax, across: ValueAxis, up: ValueAxis) -> None:
    ticks, labels = across.ticks(6)
    ax.set_xticks(ticks, labels, rotation=45 if visible(labels) > 34 else 0)
    ax.set_yticks(*up.ticks(6))


# ---- All settings at once ---------------------------------------------------------------------


def search_parallel(search: Search) -> Figured:
    if len(search.settings) < 3:
        raise LeftOut("fewer than three settings have several values")
    search, sentence = comparable(search)
    names = strongest(search, 5)
    axes_of = {name: ValueAxis(search.values_of(name)) for name in names}
    # The best last, so that their lines are on top.
    trials = sorted(search.scored, key=lambda trial: trial.accuracy)
    scale = colour_scale([trial.accuracy for trial in trials])
    figure, axes = grid(1, 1, 3.2)
    ax = axes[0, 0]
    for i, trial in enumerate(trials):
        heights = [height(axes_of[name], trial.values[name]) for name in names]
        heights.append(scale(trial.accuracy))
        if i == len(trials) - 1:
            look = {"color": ORANGE, "lw": 2}
        elif i >= len(trials) - COLOURED:
            look = {"color": COLOURS(scale(trial.accuracy)), "lw": 0.9, "alpha": 0.8}
        else:
            look = {"color": GREY, "lw": 0.5, "alpha": 0.2}
        ax.plot(heights, **look)
    for x, name in enumerate(names):
        ticks, labels = axes_of[name].ticks(3)
        limits = Normalize(*axes_of[name].limits)
        draw_scale(ax, x, [float(limits(tick)) for tick in ticks], labels)
    middle = (scale.vmin + scale.vmax) / 2
    labels = [f"{each:.1f}" for each in (scale.vmin, middle, scale.vmax)]
    draw_scale(ax, len(names), [0, 0.5, 1], labels)
    titles = [*map(words, names), "accuracy (%)"]
    ax.set_xticks(range(len(titles)), titles, rotation=30, ha="right", rotation_mode="anchor")
    ax.set(yticks=[], xlim=(-0.35, len(names) + 0.35), ylim=(-0.05, 1.05))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    grey = ""
    if len(trials) > COLOURED:
        grey = f" Trials other than the best {COLOURED} are grey."
    return figure, (
        "Each trial is a line through its values of the settings, to its validation accuracy on "
        f"the right; light lines are better, orange is the best.{grey}"
        f"{sentence}{left_out(search, names)}{failures(search)}"
    )


def height(axis: ValueAxis, value: str) -> float:
    """Return the position of a value between the axis's ends, 0..1."""
    low, high = axis.limits
    return (axis.position(value) - low) / (high - low) if high > low else 0.5


def draw_scale(ax, x: float, heights: list[float], labels: list[str]) -> None:
    """Draw a vertical axis with labels, on a ground that keeps them legible."""
    ax.axvline(x, color="black", lw=0.8, zorder=3)
    ground = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for y, text in zip(heights, labels, strict=True):
        ax.plot(x, y, "_", color="black", ms=5, zorder=3)
        ax.annotate(
            text, (x, y), (3, 0), textcoords="offset points", va="center", zorder=4, bbox=ground
        )


# ---- Accuracy against time --------------------------------------------------------------------

MARKERS = "os^Dv<>P"


def search_cost(search: Search) -> Figured:
    timed = [trial for trial in search.scored if trial.seconds is not None]
    if not timed:
        raise LeftOut("no trial says how long it took")
    few = [name for name in strongest(search) if len(search.values_of(name)) <= len(MARKERS)]
    looks = Looks(search, *few[:2])
    figure, axes = grid(1, 1, 2.8)
    ax = axes[0, 0]
    for trial in timed:
        marker, colour = looks.of(trial)
        ax.plot(trial.seconds, trial.accuracy, marker, color=colour, mec="black", mew=0.5, ms=5.5)
    crosses = [trial.seconds for trial in search.failed if trial.seconds is not None]
    bottom = [0.03] * len(crosses)
    ax.plot(crosses, bottom, "x", color=ORANGE, transform=ax.get_xaxis_transform())
    scale_seconds(ax, [trial.seconds for trial in timed] + crosses)
    ax.set(xlabel="training time of the trial (s)", ylabel=ACCURACY)
    handles = looks.legend()
    if handles:
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.1)
    mark = " (crosses at the bottom)" if crosses else ""
    return figure, (
        "Validation accuracy in per cent of each trial against its training time in seconds: the "
        f"cost of a better result.{failures(search, mark)}"
    )


class Looks:
    """Markers of trials: one setting is shown by the colour, another one by the shape."""

    def __init__(self, search: Search, by_colour: str | None = None, by_shape: str | None = None):
        self.by_colour = by_colour
        self.by_shape = by_shape
        self.colours = {}
        self.shapes = {}
        if by_colour:
            values = search.values_of(by_colour)
            shades = COLOURS(np.linspace(0, 1, len(values)))
            self.colours = dict(zip(values, shades, strict=True))
        if by_shape:
            self.shapes = dict(zip(search.values_of(by_shape), MARKERS, strict=False))

    def of(self, trial: Trial) -> tuple:
        """Return a trial's marker and colour."""
        marker = self.shapes[trial.values[self.by_shape]] if self.by_shape else "o"
        colour = self.colours[trial.values[self.by_colour]] if self.by_colour else GREY
        return marker, colour

    def legend(self) -> list[plt.Line2D]:
        lines = []
        if self.by_colour:
            lines.append(plt.Line2D([], [], ls="", label=words(self.by_colour)))
        for value, colour in self.colours.items():
            lines.append(key("o", colour, value))
        if self.by_shape:
            lines.append(plt.Line2D([], [], ls="", label=words(self.by_shape)))
        for value, marker in self.shapes.items():
            lines.append(key(marker, "white", value))
        return lines


def scale_seconds(ax, seconds: Iterable[float]) -> None:
    if min(seconds) > 0 and max(seconds) > 20 * min(seconds):
        ax.set_xscale("log")
    else:
        ax.set_xlim(left=0)


def key(marker: str, colour, value: str) -> plt.Line2D:
    """Return the line of a legend that explains a marker."""
    look = {"marker": marker, "mfc": colour, "mec": "black", "mew": 0.5}
    return plt.Line2D([], [], ls="", label=label(value), **look)
