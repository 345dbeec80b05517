"""Draw the votes behind a prediction, and the filters that add most to it."""

from collections.abc import Sequence
from pathlib import Path

from support.cli import UserError, clean
from support.figures.report import write_figure
from support.figures.style import (
    CLIPPED,
    GREY,
    SIGNED,
    WIDTH,
    Figured,
    as_image,
    drawable,
    drawing,
    percent,
    picture,
    report_missing_glyphs,
)
from support.figures.subject import sign_note
from support.image_shape import SIDE
from support.network.filters import filter_weights
from support.network.votes import Explanation, explain

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# One colour per filter: Okabe & Ito's, which colour-blind readers tell apart. Each has its number
# next to it.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7")
CLASSES = 3  # the likeliest ones, which are shown
DPI = 200


def write_votes(
    network,
    image: np.ndarray,
    names: Sequence[str],
    path: Path,
    *,
    label: int | None = None,
    against: int | None = None,
    background: np.ndarray | None = None,
) -> Explanation:
    """Draw an image's votes into `path`, a .png file, with the caption in a .txt file next to it.

    The arguments are those of `draw_votes`. Returns the Explanation, whose equations can be
    printed.
    """
    explanation = explained(network, image, against, background)
    report_missing_glyphs(names)
    with drawing():
        figure, caption = draw_explanation(network, image, names, explanation, label)
        write_figure(figure, caption, path, DPI)
    return explanation


def draw_votes(
    network,
    image: np.ndarray,
    names: Sequence[str],
    *,
    label: int | None = None,
    against: int | None = None,
    background: np.ndarray | None = None,
) -> Figured:
    """Draw why a network predicts what it does for an image (3072,), with a caption.

    names: of the classes. label: the image's class, if it is known. against: a class that the
    predicted one is compared with. background: images (N, 3072), for Shapley values instead of
    votes. Raises UserError if the network's numbers overflow, or if it sees the whole image and
    there is a background.
    """
    explanation = explained(network, image, against, background)
    with drawing():
        return draw_explanation(network, image, names, explanation, label)


def explained(network, image, against=None, background=None) -> Explanation:
    """Return `explain`'s Explanation. Raises UserError if there is none."""
    try:
        return explain(network, image, against, background, len(COLOURS))
    except ValueError as error:
        raise UserError(error) from None


def draw_explanation(
    network, image: np.ndarray, names: Sequence[str], explanation: Explanation, label: int | None
) -> Figured:
    """Draw an Explanation, WIDTH inches wide.

    On top are the picture and the probabilities of the likeliest classes. In the middle is a map of
    votes for each panel of the Explanation, red for and blue against, with its sum. Below are the
    filters that add most, and the patch for which each is largest, which a frame of the same number
    marks in the picture.
    """
    caption = _caption(network, [clean(name, 60) for name in names], explanation, label)
    network = network.one_sided()  # as `explain` numbers the units
    names = [drawable(name, 15) for name in names]
    panels = explanation.panels(names, CLASSES)
    whole = network.window.whole
    heights = (1.4, 2.15, 1.25 if whole else 1.95)
    figure = Figure((WIDTH, sum(heights)), layout="constrained", dpi=DPI)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
    left, right = top.subplots(1, 2, width_ratios=(1, 1.35))
    _draw_picture(left, network, image, explanation.filters)
    if label is not None:
        left.set_title(f"label: {names[label]}", pad=8)  # a frame's number may be on the edge
    likeliest = explanation.likeliest[:CLASSES]
    if explanation.against is not None and explanation.against not in likeliest:
        likeliest.append(explanation.against)
    _draw_probabilities(right, explanation.probabilities[likeliest], [names[c] for c in likeliest])
    _draw_maps(middle, network, panels, explanation.sums(names, CLASSES))
    _draw_filters(bottom, network, image, explanation.filters, panels)
    return figure, caption


def _caption(network, names: list[str], explanation: Explanation, label: int | None) -> str:
    predicted = names[explanation.predicted]
    p = explanation.probabilities[explanation.predicted]
    what = "pixel" if network.window.whole else "position"
    image = "this image" if label is None else f"this image, labelled {names[label]},"
    text = f"Why the network takes {image} for {predicted} ({percent(p)}). "
    if explanation.against is not None:
        against = names[explanation.against]
        text += (
            f"The maps show what each {what} adds to the logit of {predicted} and of {against}, "
            "and the difference of the two, whose sum is the logarithm of the ratio of their "
            "probabilities (log-odds). "
        )
    else:
        text += f"The maps show what each {what} adds to the logits of the likeliest classes. "
    text += "Red is for the class, blue against it, all on one scale"
    text += ", which ends at the largest 1 %. " if network.window.whole else ". "
    if explanation.rest_name == "bias":
        text += "With the bias the votes sum to the logit exactly. "
    else:
        text += (
            "They are Shapley values of the positions: votes less their mean over background "
            "images. With the average logit of these images they sum to the logit exactly. "
        )
    lead = predicted
    if explanation.against is not None:
        lead = f"the lead of {predicted} over {against}"
    text += f"Below are the filters that add most to {lead}, with the number of the hidden unit"
    if not network.window.whole:
        text += ", and the patch for which each is largest, framed in the image"
    return f"{text}.{sign_note(network)}"


# ---- The picture and the probabilities -----------------------------------------------------------


def _draw_picture(axes, network, image: np.ndarray, filters: list) -> None:
    """Draw the image, with a numbered frame around each patch for which a filter is largest."""
    axes.imshow(as_image(image), extent=(0, SIDE, SIDE, 0))
    axes.set_axis_off()
    if network.window.whole:
        return
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(filters):
        numbers.setdefault(each.position, []).append(number)
    size, taken = network.window.size, []
    for position, here in numbers.items():
        y, x = (network.window.stride * step for step in position)
        colour = COLOURS[here[0]]
        frame = {"fill": False, "clip_on": False}
        axes.add_patch(Rectangle((x, y), size, size, edgecolor="black", linewidth=2, **frame))
        axes.add_patch(Rectangle((x, y), size, size, edgecolor=colour, linewidth=1.2, **frame))
        spot = _free_spot(x, y, size, taken)
        taken.append(spot)
        box = {"boxstyle": "square,pad=0.1", "facecolor": colour, "edgecolor": "black"}
        text = ",".join(str(number + 1) for number in here)
        axes.text(*spot, text, ha="center", va="center", bbox=box | {"linewidth": 0.4})


def _free_spot(x: float, y: float, size: int, taken: list) -> tuple[float, float]:
    """Return the first corner, or middle of a side, of a frame that no other number is near."""
    spots = []
    for down in (0, 2, 1):
        for across in (0, 2, 1):
            spots.append((x + size * across / 2, y + size * down / 2))
    spots = spots[:8]  # the ninth is the middle of the patch

    def room(spot) -> float:
        distances = [max(abs(np.subtract(spot, other))) for other in taken]
        return min([3.5, *distances])  # further away is no better

    return max(spots, key=room)


def _draw_probabilities(axes, y: np.ndarray, names: list[str]) -> None:
    rows = np.arange(len(y))
    axes.barh(rows, y, height=0.32, color=GREY)
    for row, (name, p) in enumerate(zip(names, y, strict=True)):
        axes.text(0, row - 0.22, f"{name}  {percent(p)}", va="bottom")
    axes.set(xlim=(0, 1), ylim=(len(y) - 0.5, -0.85))
    axes.set_axis_off()


# ---- The maps ------------------------------------------------------------------------------------


def _draw_maps(figure, network, panels: list, sums: list) -> None:
    """Draw maps of votes where their positions are in the image, each above its sum."""
    window, edge = network.window, 0.0
    if not window.whole:
        edge = (window.size - window.stride) / 2  # a position's cell is its window's middle
    sizes = np.abs([votes for _, votes, _ in panels])
    limit = float(sizes.max()) or 1.0
    extend = "neither"
    if window.whole:  # a few pixels at the border would make all others grey
        limit = float(np.quantile(sizes, CLIPPED)) or limit
        extend = "both"
    axes_of_maps = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, votes, _), terms in zip(axes_of_maps, panels, sums, strict=True):
        extent = (edge, SIDE - edge, SIDE - edge, edge)
        shown = axes.imshow(votes, SIGNED, vmin=-limit, vmax=limit, extent=extent)
        axes.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=[], yticks=[], facecolor="#EEEEEE")
        axes.set_title(name.replace(" − ", "\n− ") if len(name) > 16 else name)
        axes.spines[:].set(visible=True, linewidth=0.5)
        total, pro, contra, bias = (term.replace("-", "−") for term in terms)
        axes.set_xlabel(f"{total} = {pro}\n{contra}\n{bias}")
    options = {"location": "bottom", "aspect": 40, "fraction": 0.06, "pad": 0.03, "extend": extend}
    bar = figure.colorbar(shown, ax=list(axes_of_maps), **options)
    what = "pixel" if window.whole else "position"
    bar.set_label(f"what a {what} adds to the logit: against < 0 < for")
    bar.ax.tick_params(length=2)
    bar.locator.set_params(nbins=5)
    bar.update_ticks()


# ---- The filters ---------------------------------------------------------------------------------


def _draw_filters(figure, network, image: np.ndarray, filters: list, panels: list) -> None:
    """Draw the filters side by side, each above the patch for which it is largest."""
    name = panels[0][0]
    if panels[-1][0].startswith(f"{name} − "):
        name = panels[-1][0]
    lead = "filters that add most to" if filters else "no filter adds to"
    figure.suptitle(f"{lead} {name}", fontsize=8)
    whole = network.window.whole
    plots = figure.subplots(1 if whole else 2, len(COLOURS), squeeze=False)
    for axes in plots.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_visible(False)
    size, stride = network.window.size, network.window.stride
    for column, each in enumerate(filters):
        y, x = each.position[0] * stride, each.position[1] * stride
        patch = as_image(image)[y : y + size, x : x + size]
        weights = filter_weights(network, [each.unit])[:, 0]
        if each.mirrored:
            weights = weights[network.window.flip]
        colour = "black" if whole else COLOURS[column]
        for axes, shown in zip(plots[:, column], (picture(weights, CLIPPED), patch), strict=False):
            axes.set_visible(True)
            axes.imshow(shown)
            axes.spines[:].set(visible=True, edgecolor=colour, linewidth=1.5)
        adds = f"{each.adds:+.2f}" if each.adds < 1e4 else f"{each.adds:+.1e}"
        plots[0, column].set_title(f"{column + 1}: {adds}\nunit {each.unit}", pad=3, linespacing=1)
    if not whole and filters:
        plots[0, 0].set_ylabel("filter")
        plots[1, 0].set_ylabel("patch")
