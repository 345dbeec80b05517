"""The evidence for a prediction as a figure: where votes for the likeliest classes are, and the strongest filters."""

from collections.abc import Sequence

from support.cli import UserError
from support.figures.style import GREY, SIGNED, WIDTH, as_image, drawable, picture, style
from support.network.filters import filter_weights
from support.network.votes import strongest, terms, votes

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Of the five filters; Okabe & Ito's, which the colour-blind keep apart. Each has its number beside it.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7")
CLASSES = 3  # the likeliest ones, which are explained


def draw_evidence(
    network, image: np.ndarray, names: Sequence[str], label: int | None = None
) -> Figure:
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
        raise UserError(
            "the network's numbers overflow, so that there is no evidence to draw; train it anew"
        )
    names = [drawable(name, 15) for name in names]
    heights = (1.4, 2.15, 1.05 if network.window.whole else 1.75)
    with matplotlib.rc_context(style()):
        figure = Figure((WIDTH, sum(heights)), layout="constrained", dpi=200)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05)
        top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
        left, right = top.subplots(1, 2, width_ratios=(1, 1.35))
        _draw_picture(left, network, image, filters)
        if label is not None:
            left.set_title(
                f"label: {names[label]}", pad=8
            )  # a frame's number may stand on the edge
        _draw_probabilities(right, y[likeliest], [names[c] for c in likeliest])
        _draw_maps(
            middle, network, maps[likeliest], rest[likeliest], [names[c] for c in likeliest], limit
        )
        _draw_filters(bottom, network, image, filters, names[likeliest[0]])
    return figure


def _draw_picture(axes, network, image: np.ndarray, filters: list) -> None:
    axes.imshow(as_image(image), extent=(0, 32, 32, 0))
    axes.set_axis_off()
    if network.window.whole:
        return
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(filters):
        numbers.setdefault(each.place, []).append(number)
    size, taken = network.window.size, []
    for place, found in numbers.items():
        (y, x), colour = (network.window.stride * step for step in place), COLOURS[found[0]]
        axes.add_patch(
            Rectangle((x, y), size, size, fill=False, edgecolor="black", linewidth=2, clip_on=False)
        )
        axes.add_patch(
            Rectangle(
                (x, y), size, size, fill=False, edgecolor=colour, linewidth=1.2, clip_on=False
            )
        )
        # The first corner, or middle of a side, that no other number is near.
        spots = [
            (x + size * across / 2, y + size * down / 2)
            for down in (0, 2, 1)
            for across in (0, 2, 1)
        ][:8]
        spot = max(
            spots,
            key=lambda spot: min([3.5, *(max(abs(np.subtract(spot, other))) for other in taken)]),
        )
        taken.append(spot)
        box = {
            "boxstyle": "square,pad=0.1",
            "facecolor": colour,
            "edgecolor": "black",
            "linewidth": 0.4,
        }
        text = ",".join(str(number + 1) for number in found)
        axes.text(*spot, text, ha="center", va="center", bbox=box)


def _draw_probabilities(axes, y: np.ndarray, names: list[str]) -> None:
    places = np.arange(len(y))
    axes.barh(places, y, height=0.32, color=GREY)
    for place, (name, p) in enumerate(zip(names, y, strict=True)):
        axes.text(0, place - 0.22, f"{name}  {p:.1%}", va="bottom")
    axes.set(xlim=(0, 1), ylim=(len(y) - 0.5, -0.85))
    axes.set_axis_off()


def _draw_maps(
    figure, network, maps: np.ndarray, rest: np.ndarray, names: list[str], limit: float
) -> None:
    """The votes of each class, where their places lie in the image, above their sum."""
    window, edge = network.window, 0.0
    if not network.window.whole:
        edge = (
            window.size - window.stride
        ) / 2  # a place's own cell lies in the middle of its window
    plots = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, votes_of, rest_of, name in zip(plots, maps.astype(float), rest, names, strict=True):
        extent = (edge, 32 - edge, 32 - edge, edge)
        shown = axes.imshow(votes_of, SIGNED, vmin=-limit, vmax=limit, extent=extent)
        axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], facecolor="#EEEEEE")
        axes.set_title(name)
        axes.spines[:].set(visible=True, linewidth=0.5)
        total, pro, contra, bias = (term.replace("-", "−") for term in terms(votes_of, rest_of))
        axes.set_xlabel(f"{total} = {pro}\n{contra}\n{bias}")
    bar = figure.colorbar(
        shown, ax=list(plots), location="bottom", aspect=40, fraction=0.06, pad=0.03
    )
    bar.set_label(
        f"what a {'pixel' if network.window.whole else 'place'} adds to the logit: against < 0 < for"
    )
    bar.ax.tick_params(length=2)
    bar.locator.set_params(nbins=5)
    bar.update_ticks()


def _draw_filters(figure, network, image: np.ndarray, filters: list, name: str) -> None:
    """The filters side by side, each above the patch where it fires most, if it doesn't see the whole image."""
    figure.suptitle(
        f"filters that add most to {name}" if filters else f"no filter adds to {name}", fontsize=8
    )
    rows = 1 if network.window.whole else 2
    plots = figure.subplots(rows, len(COLOURS), squeeze=False)
    for axes in plots.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_visible(False)
    size, stride = network.window.size, network.window.stride
    for column, each in enumerate(filters):
        y, x = each.place[0] * stride, each.place[1] * stride
        patch = as_image(image)[y : y + size, x : x + size]
        weights = filter_weights(network, [each.unit])[:, 0]
        pictures = [picture(weights[network.window.flip] if each.mirrored else weights), patch]
        for axes, shown in zip(plots[:, column], pictures, strict=False):
            axes.set_visible(True)
            axes.imshow(shown)
            axes.spines[:].set(
                visible=True,
                edgecolor="black" if network.window.whole else COLOURS[column],
                linewidth=1.5,
            )
        adds = f"{each.adds:+.2f}" if each.adds < 1e4 else f"{each.adds:+.1e}"
        plots[0, column].set_title(f"{column + 1}: {adds}", pad=3)
    if not network.window.whole and filters:
        plots[0, 0].set_ylabel("filter")
        plots[1, 0].set_ylabel("fires at")
