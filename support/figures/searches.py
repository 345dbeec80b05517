"""Figures of a search's results.csv: accuracy over the settings, and against training time."""

import csv
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

from support.cli import UserError, clean, shorter
from support.figures.style import GREY, ORANGE, Figured, LeftOut, drawable, grid
from support.files import error_context, read_file

import numpy as np
from matplotlib import pyplot as plt

MAX_BYTES = 64 << 20
LARGEST = 1e30  # numbers beyond it can't be drawn, and mean nothing here
PANELS = 6  # pairs of settings in a figure, at most


@dataclass(frozen=True)
class Search:
    """The rows of search.py's CSV: settings, those with more than one value; trials, dicts of text."""

    settings: list[str]
    trials: list[dict[str, str]]

    def scored(self) -> list[dict[str, str]]:
        """The trials with a validation accuracy, 0..1."""
        return [trial for trial in self.trials if 0 <= number(trial["val_accuracy"], -1) <= 1]

    def failed(self) -> list[dict[str, str]]:
        """The trials without one."""
        return [trial for trial in self.trials if not 0 <= number(trial["val_accuracy"], -1) <= 1]


def number(text: str, otherwise: float | None = None) -> float | None:
    """The finite number in a field of the CSV, or `otherwise`."""
    try:
        value = float(text)
    except ValueError:
        return otherwise
    return value if abs(value) < LARGEST else otherwise


def read_search(path: Path) -> Search:
    """search.py's results. UserError if the file is something else."""
    with error_context(path, "name the results.csv of search.py", UserError):
        text = read_file(path, MAX_BYTES).decode()
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        trials = [{name: value for name, value in row.items() if name} for row in reader]
        columns = list(reader.fieldnames or [])
    shown = clean(shorter(path), 120)
    for name in ("trial", "repeat", "status", "val_accuracy", "seconds"):
        if name not in columns:
            raise UserError(f"{shown}: has no column '{name}'; name the results.csv of search.py")
    between = columns[columns.index("trial") + 1 : columns.index("repeat")]
    settings = [name for name in between if name and len({trial[name] for trial in trials}) > 1]
    search = Search(settings, trials)
    if not search.scored():
        raise UserError(
            f"{shown}: no trial in it has a validation accuracy yet; draw it when one has ended"
        )
    return search


def ordered(values) -> list[str]:
    """Different values of a setting, numbers by size."""
    return sorted(set(values), key=lambda text: (number(text) is None, number(text, 0), text))


def label(value: str) -> str:
    return drawable(value, 12) or "empty"


# ---- Accuracy over settings -----------------------------------------------------------------------------------------


def search_grid(s: Search) -> Figured:
    if not s.settings:
        raise LeftOut("no setting has more than one value")
    means: dict[tuple[str, ...], list[float]] = {}
    for trial in s.scored():
        means.setdefault(tuple(trial[name] for name in s.settings), []).append(
            100 * number(trial["val_accuracy"])
        )
    mean = {key: float(np.mean(each)) for key, each in means.items()}
    few = sorted(sorted(range(len(s.settings)), key=lambda i: -effect(mean, i))[:4])
    pairs = list(itertools.combinations(few, 2))[:PANELS] or [(0, 0)]
    figure, axes = grid(len(pairs), 1, 1.7 * len(pairs) + 0.6)
    low, high = min(mean.values()), max(mean.values())
    high = high if high > low else low + 1
    for ax, (i, j) in zip(axes.flat, pairs, strict=True):
        best: dict[tuple[str, str], float] = {}
        for key, value in mean.items():
            best[key[i], key[j]] = max(value, best.get((key[i], key[j]), -1))
        across, up = ordered(key[i] for key in mean), ordered(key[j] for key in mean)
        ax.set(
            xlabel=drawable(s.settings[i]),
            ylabel=drawable(s.settings[j]) if i != j else "validation accuracy (%)",
        )
        draw = draw_dots if i == j or max(len(across), len(up)) > 6 else draw_table
        image = draw(ax, best, across, up, (low, high), one=i == j)
    figure.colorbar(
        image, ax=axes, label="validation accuracy (%)", location="bottom", aspect=40, pad=0.02
    )
    left_out = len(s.settings) - len(few)
    some = f" Left out are {left_out} settings of the smallest effect." if left_out else ""
    return figure, (
        "Validation accuracy in per cent over each pair of the settings searched: the mean over repeats, and of all "
        f"trials with these two values the best over the other settings.{some} Test images play no part in it."
    )


def effect(mean: dict[tuple[str, ...], float], i: int) -> float:
    """By how much the best accuracy differs between the values of the i-th setting."""
    best: dict[str, float] = {}
    for key, value in mean.items():
        best[key[i]] = max(value, best.get(key[i], -1))
    return max(best.values()) - min(best.values())


def place(text: str, values: list[str]) -> float:
    """Where a setting's value stands on an axis: numbers at themselves, words in their order."""
    return (
        number(text) if all(number(value) is not None for value in values) else values.index(text)
    )


def draw_dots(
    ax, best: dict, across: list[str], up: list[str], limits: tuple[float, float], one: bool
):
    """A dot for each pair of values, coloured by its accuracy; of one setting the accuracy is the height."""
    x = [place(a, across) for a, _ in best]
    y = list(best.values()) if one else [place(b, up) for _, b in best]
    colours = {"c": list(best.values()), "vmin": limits[0], "vmax": limits[1], "cmap": "viridis"}
    for axis, places, values in [(ax.xaxis, x, across)] + [(ax.yaxis, y, up)] * (not one):
        if all(number(value) is not None for value in values):
            if min(places) > 0 and max(places) > 20 * min(places):
                (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)("log")
        else:
            axis.set_ticks(
                range(len(values))[:: -(-len(values) // 12)],
                map(label, values[:: -(-len(values) // 12)]),
            )
            ax.tick_params(axis=axis.axis_name, rotation=45 if axis is ax.xaxis else 0)
    return ax.scatter(x, y, s=36, edgecolor="black", lw=0.5, **colours)


def draw_table(
    ax, best: dict, across: list[str], up: list[str], limits: tuple[float, float], one: bool
):
    """A cell for each pair of values, with its accuracy."""
    cells = np.array([[best.get((a, b), np.nan) for a in across] for b in up])
    image = ax.imshow(
        cells, vmin=limits[0], vmax=limits[1], cmap="viridis", aspect="auto", origin="lower"
    )
    ax.set_xticks(range(len(across)), map(label, across), rotation=0 if len(across) < 5 else 45)
    ax.set_yticks(range(len(up)), map(label, up))
    for (row, column), value in np.ndenumerate(cells):
        dark = not np.isnan(value) and value < sum(limits) / 2
        text = "none" if np.isnan(value) else f"{value:.1f}"
        ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    return image


# ---- Accuracy against time ------------------------------------------------------------------------------------------

MARKERS = "os^Dv<>Ph*"


def blank() -> plt.Line2D:
    """A gap in a legend."""
    return plt.Line2D([], [], ls="", label=" ")


def search_cost(s: Search) -> Figured:
    scored = s.scored()
    timed = [trial for trial in scored if number(trial["seconds"], -1) >= 0]
    if not timed:
        raise LeftOut("no trial says how long it took")
    kinds = [name for name in s.settings if 1 < len(ordered(trial[name] for trial in timed)) <= 8][
        :2
    ]
    figure, axes = grid(
        1, 1, 3 + 0.16 * max((len(ordered(t[name] for t in timed)) for name in kinds), default=0)
    )
    ax = axes[0, 0]
    shown = {name: ordered(trial[name] for trial in timed) for name in kinds}
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, 8))
    looks: dict[tuple[int, ...], list[dict]] = {}
    for trial in timed:
        looks.setdefault(tuple(shown[name].index(trial[name]) for name in kinds), []).append(trial)
    for where, some in looks.items():
        x, y = [number(t["seconds"]) for t in some], [100 * number(t["val_accuracy"]) for t in some]
        colour = colours[where[0] * 7 // (len(shown[kinds[0]]) - 1)] if where else GREY
        marker = MARKERS[where[1]] if len(where) > 1 else "o"
        ax.plot(x, y, marker, ls="", color=colour, mec="black", mew=0.5, ms=6)
    lost = s.failed()
    drawn = [seconds for trial in lost if (seconds := number(trial["seconds"], -1)) >= 0]
    if drawn:
        bottom = 100 * min(number(trial["val_accuracy"]) for trial in scored) - 1
        ax.plot(drawn, [bottom] * len(drawn), "x", color=ORANGE, mew=1.5)
    seconds = [number(trial["seconds"]) for trial in timed] + drawn
    if min(seconds) > 0 and max(seconds) > 20 * min(seconds):
        ax.set_xscale("log")
    else:
        ax.set_xlim(left=0)
    ax.set(xlabel="training time of the trial (s)", ylabel="validation accuracy (%)")
    parts = []  # of the legend, a column each: one setting is told by the colour, the other one by the shape
    for i, name in enumerate(kinds):
        part = [plt.Line2D([], [], ls="", label=drawable(name, 20))]
        for k, value in enumerate(shown[name]):
            colour = colours[k * 7 // (len(shown[name]) - 1)] if i == 0 else "white"
            looks_like = {
                "marker": "o" if i == 0 else MARKERS[k],
                "mfc": colour,
                "mec": "black",
                "mew": 0.5,
            }
            part.append(plt.Line2D([], [], ls="", label=label(value), **looks_like))
        parts.append(part)
    if drawn:
        parts.append([plt.Line2D([], [], ls="", marker="x", color=ORANGE, mew=1.5, label="failed")])
    longest = max(map(len, parts), default=0)
    handles = [each for part in parts for each in part + [blank()] * (longest - len(part))]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(parts), handletextpad=0.1
        )
    told = " and ".join(
        f"{how} tells {name}" for how, name in zip(("colour", "shape"), kinds, strict=False)
    )
    failed = (
        f" {len(lost)} of {len(s.trials)} trials have no accuracy: crosses, at no height."
        * bool(lost)
    )
    return figure, (
        "Each trial's validation accuracy in per cent against its training time in seconds: what a better result "
        f"costs.{f' The {clean(told, 200)}.' * bool(told)}{failed}"
    )


SEARCH_FIGURES = {"search-grid": search_grid, "search-cost": search_cost}


def best_trials(s: Search, limit: int = 20) -> list[list[str]]:
    """The trials of the best validation accuracy as rows of a table, its head first."""
    rows = [["trial", "accuracy", "seconds", *s.settings]]
    for trial in sorted(s.scored(), key=lambda trial: -number(trial["val_accuracy"]))[:limit]:
        seconds = number(trial["seconds"])
        settings = [clean(trial[name], 40) for name in s.settings]
        accuracy = f"{number(trial['val_accuracy']):.2%}"
        rows.append(
            [
                clean(trial["trial"], 40),
                accuracy,
                "" if seconds is None else f"{seconds:.6g}",
                *settings,
            ]
        )
    return rows
