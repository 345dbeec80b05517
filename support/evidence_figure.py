"""The evidence for a prediction as a figure: where votes for the likeliest classes are, and the strongest filters."""

from collections.abc import Sequence

from support.cli import UserError
from support.evidence import strongest, terms, votes

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

WIDTH = 3.4  # inches, a column of a paper
SMALL, NORMAL = 6.5, 7.5  # points
# Of the five filters; Okabe & Ito's, which the colour-blind keep apart. Each has its number beside it.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7")
CLASSES = 3  # the likeliest ones, which are explained


def draw_evidence(network, image: np.ndarray, names: Sequence[str], label: int | None = None) -> Figure:
    """Why a `model.Network` takes an image (3072,) for what it does, WIDTH inches wide.

    The picture, the probabilities of the three likeliest classes, for each of them the map of votes on one signed
    scale (red for, blue against) with its sum, and the five filters that add most to the likeliest: as weights of
    pixels, with the patch where each fires most, whose place is a frame of the same number in the picture. label: the
    picture's class, if it is known. UserError where the network's numbers overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        (maps,), (rest,) = votes(network, image[None])
        y = network.predict_proba(image[None])[0].astype(float)
        likeliest = np.argsort(-y, kind="stable")[:CLASSES]
        filters = strongest(network, image, likeliest[0])
    limit = float(np.abs(maps[likeliest]).max()) or 1.0
    if not np.isfinite([limit, *y, *rest]).all():
        raise UserError("the network's numbers overflow, so that there is no evidence to draw; train it anew")
    names = [drawable(name) for name in names]

    figure = Figure((WIDTH, 4.4 if network.whole else 5.0), layout="constrained", dpi=200)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.25, 2.1, 0.95 if network.whole else 1.5))
    left, right = top.subplots(1, 2, width_ratios=(1, 1.35))
    _draw_picture(left, network, image, filters)
    if label is not None:
        left.set_title(f"label: {_short(names[label])}", fontsize=NORMAL)
    _draw_probabilities(right, y[likeliest], [names[c] for c in likeliest])
    _draw_maps(middle, network, maps[likeliest], rest[likeliest], [names[c] for c in likeliest], limit)
    _draw_filters(bottom, network, image, filters, names[likeliest[0]])
    return figure


def drawable(text: str) -> str:
    """The text without what matplotlib can't draw as it is: glyphs that its font lacks are escaped, and so is $."""
    font = get_font(findfont(FontProperties()))
    shown = (c if font.get_char_index(ord(c)) else c.encode("unicode_escape", "replace").decode() for c in text)
    return "".join(shown).replace("$", r"\$")


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _draw_picture(axes, network, image: np.ndarray, filters: list) -> None:
    axes.imshow(_pixels(image, 32), extent=(0, 32, 32, 0), interpolation="nearest")
    axes.set_axis_off()
    if network.whole:
        return
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(filters):
        numbers.setdefault(each.place, []).append(number)
    size, taken = network.window.size, []
    for place, found in numbers.items():
        (y, x), colour = (network.window.stride * step for step in place), COLOURS[found[0]]
        axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor="black", linewidth=2, clip_on=False))
        axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=1.2, clip_on=False))
        # The first corner, or middle of a side, that no other number is near.
        spots = [(x + size * across / 2, y + size * down / 2) for down in (0, 2, 1) for across in (0, 2, 1)][:8]
        spot = max(spots, key=lambda spot: min([3.5, *(max(abs(np.subtract(spot, other))) for other in taken)]))
        taken.append(spot)
        box = {"boxstyle": "square,pad=0.1", "facecolor": colour, "edgecolor": "black", "linewidth": 0.4}
        text = ",".join(str(number + 1) for number in found)
        axes.text(*spot, text, fontsize=SMALL, ha="center", va="center", bbox=box)


def _draw_probabilities(axes, y: np.ndarray, names: list[str]) -> None:
    places = np.arange(len(y))
    axes.barh(places, y, height=0.32, color="#777777")
    for place, (name, p) in enumerate(zip(names, y, strict=True)):
        axes.text(0, place - 0.22, f"{_short(name)}  {p:.1%}", fontsize=NORMAL, va="bottom")
    axes.set(xlim=(0, 1), ylim=(len(y) - 0.5, -0.85))
    axes.set_axis_off()


def _draw_maps(figure, network, maps: np.ndarray, rest: np.ndarray, names: list[str], limit: float) -> None:
    """The votes of each class, where their places lie in the image, above their sum."""
    window, edge = network.window, 0.0
    if not network.whole:
        edge = (window.size - window.stride) / 2  # a place's own cell lies in the middle of its window
    figure.suptitle("what speaks for, and against", fontsize=NORMAL)
    plots = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, votes_of, rest_of, name in zip(plots, maps.astype(float), rest, names, strict=True):
        extent = (edge, 32 - edge, 32 - edge, edge)
        shown = axes.imshow(
            votes_of, "RdBu_r", vmin=-limit, vmax=limit, extent=extent, interpolation="nearest", aspect="equal"
        )
        axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], facecolor="#EEEEEE")
        axes.set_title(_short(name), fontsize=NORMAL)
        total, pro, contra, bias = (term.replace("-", "−") for term in terms(votes_of, rest_of))
        axes.set_xlabel(f"{total} = {pro}\n{contra}\n{bias}", fontsize=SMALL)
    bar = figure.colorbar(shown, ax=list(plots), location="bottom", aspect=40, fraction=0.06, pad=0.03)
    bar.set_label(
        f"what a {'pixel' if network.whole else 'place'} adds to the logit: against < 0 < for", fontsize=SMALL
    )
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.locator.set_params(nbins=5)
    bar.update_ticks()


def _draw_filters(figure, network, image: np.ndarray, filters: list, name: str) -> None:
    """The filters side by side, each above the patch where it fires most, if it doesn't see the whole image."""
    title = f"filters that add most to {_short(name)}" if filters else f"no filter adds to {_short(name)}"
    figure.suptitle(title, fontsize=NORMAL)
    rows = 1 if network.whole else 2
    plots = figure.subplots(rows, len(COLOURS), squeeze=False)
    for axes in plots.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_visible(False)
    size, stride = network.window.size, network.window.stride
    for column, each in enumerate(filters):
        y, x = each.place[0] * stride, each.place[1] * stride
        pictures = [filter_picture(network, each.unit), _pixels(image, 32)[y : y + size, x : x + size]]
        for axes, picture in zip(plots[:, column], pictures, strict=False):
            axes.set_visible(True)
            axes.imshow(picture, interpolation="nearest")
            for spine in axes.spines.values():
                spine.set(edgecolor="black" if network.whole else COLOURS[column], linewidth=1.5)
        adds = f"{each.adds:+.2f}" if each.adds < 1e4 else f"{each.adds:+.1e}"
        plots[0, column].set_title(f"{column + 1}: {adds}", fontsize=SMALL, pad=2)
    if not network.whole and filters:
        plots[0, 0].set_ylabel("filter", fontsize=SMALL)
        plots[1, 0].set_ylabel("fires at", fontsize=SMALL)


def _pixels(image: np.ndarray, size: int) -> np.ndarray:
    """An image (3 size^2,) as (size, size, 3)."""
    return image.reshape(3, size, size).transpose(1, 2, 0)


def filter_picture(network, unit: int) -> np.ndarray:
    """What a unit multiplies the pixels with, as a picture (size, size, 3): 0 is mid-grey, the largest |weight| 0 or
    1 in its channel."""
    window, weights = network.window, network.weights["W1"][:, unit].astype(float)
    if window.P is not None:
        weights = window.P * weights if window.P.ndim == 1 else window.P @ weights
    largest = np.abs(weights).max() or 1.0
    return 0.5 + 0.5 * _pixels(weights / largest, window.size)
