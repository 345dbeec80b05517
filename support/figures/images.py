"""Draw what a network does with images: functions from a Subject to a figure and its caption."""

from collections.abc import Callable

from support.cli import UserError, clean
from support.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    Figured,
    LeftOut,
    as_image,
    bare,
    grid,
    histogram,
    lines_right_of,
    name_classes,
    name_lines,
    percent,
    principal,
)
from support.figures.votes import draw_votes
from support.network import metrics

import numpy as np

DOTS = 1500  # images in the plane of principal components, at most
NUMBERS = 10**8  # in the matrix whose components they are, at most
EXAMPLES = 12  # mistakes of all classes
WORST = 2  # mistakes of a class

# ---- The hidden layer ----------------------------------------------------------------------------


def activations(s) -> Figured:
    """Draw the pooled activations of test images in their two principal components."""
    classes = s.shown()
    rows = np.flatnonzero(np.isin(s.labels, classes))
    most = min(DOTS, NUMBERS // len(s.loaded.weights["W2"]))
    rows = rows[:: max(1, -(-len(rows) // most))]
    if len(rows) < 3:
        raise LeftOut("there are too few test images")
    pooled = s.loaded.pooled(s.images[rows])
    if not np.isfinite(pooled).all():
        raise LeftOut("the network's numbers overflow")
    points, shares = principal(pooled)
    labels = s.labels[rows]
    figure, axes = grid(2, 1, 6)
    dots, means = axes[:, 0]
    centres = {}
    for c in classes:
        own = points[labels == c]
        dots.scatter(*own.T, color=s.colours[c], s=4, lw=0, alpha=0.6)
        if len(own):
            centres[c] = own.mean(axis=0)
            means.plot(*centres[c], "o", color=s.colours[c], mec="black", ms=6, clip_on=False)
    for ax in (dots, means):
        ax.set_xlabel(f"first principal component ({100 * shares[0]:.0f} % of the variance)")
        ax.set_ylabel(f"second ({100 * shares[1]:.0f} %)")
        ax.set(xticks=[], yticks=[])
    dots.set_title("images", loc="left")
    means.set_title("means of the classes, enlarged", loc="left")
    means.margins(x=0.25, y=0.12)
    _name_points(means, [s.name(c) for c in centres], list(centres.values()))
    return figure, (
        f"The hidden layer's {pooled.shape[1]:,} outputs, which W2 is multiplied with, for "
        f"{len(rows):,} test images, in their two principal components. Above, each dot is an "
        "image, in its class's colour. Below are the means of the classes, on a larger scale. W2 "
        f"separates the classes in all {pooled.shape[1]:,} dimensions; two of them show a part of "
        f"it.{s.some()}"
    )


def _name_points(ax, names: list[str], points: list[np.ndarray]) -> None:
    """Write names right of points, moved apart, each with a line to its point."""
    if not points:
        return
    ax.figure.draw_without_rendering()  # places the axes, which pixels depend on
    height = 11 * ax.figure.dpi / 72  # of a line of text, in pixels
    width = 55 * ax.figure.dpi / 72
    pixels = ax.transData.transform(np.array(points))
    taken: list[np.ndarray] = []
    for i in np.argsort(-pixels[:, 1], kind="stable"):
        spot = pixels[i].copy()
        while _hides(spot, width, height, taken, pixels):
            spot[1] -= 1
        taken.append(spot)
        down = (spot[1] - pixels[i, 1]) * 72 / ax.figure.dpi  # points
        arrow = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
        options = {"textcoords": "offset points", "va": "center", "arrowprops": arrow}
        ax.annotate(names[i], points[i], (8, down), annotation_clip=False, **options)


def _hides(spot, width: float, height: float, names: list, points: np.ndarray) -> bool:
    """Return whether a name written right of `spot` would hide another name, or a point."""
    near_name = any(abs(spot[0] - x) < width and abs(spot[1] - y) < height for x, y in names)
    near_point = any(1 < x - spot[0] < width and abs(spot[1] - y) < height for x, y in points)
    return near_name or near_point


def firing(s) -> Figured:
    """Draw how often units are above zero, and how many of them an image activates."""
    each, of_images = s.firing.above, s.firing.of_images
    if not len(of_images):
        raise LeftOut("there are no test images of these classes")
    units, dead = 100 * each.mean(axis=0), int((each.max(axis=0) == 0).sum())
    always = int((each.min(axis=0) >= 1 - 1e-12).sum())
    if s.network.window.whole:
        images, activities = "images", "units"
        if s.network.window.mirror:
            images = "images, as they are and flipped"
    else:
        images, activities = "images and positions", "units and positions"
    figure, axes = grid(2, 1, 3.6)
    histogram(axes[0, 0], units, "units")
    axes[0, 0].set_xlabel("how often a unit is on (%)")
    histogram(axes[1, 0], 100 * of_images, "images")
    axes[1, 0].set_xlabel("units that are on in an image (%)")
    lines_right_of(
        axes[0, 0], [f"{dead:,} dead", f"{always:,} always on", f"of {len(units):,} units"]
    )
    name_lines(figure)
    return figure, (
        f"How sparse the hidden layer is, on {len(of_images):,} test images. A unit is on if it is "
        f"above zero. Above: for each unit the share of {images}; the mean is {units.mean():.1f} "
        f"%. Below: for each image the share of {activities}. {dead:,} of the {len(units):,} "
        f"units are dead, never above zero, and {always:,} are above zero everywhere, as if there "
        f"were no ReLU.{s.sign_note}{s.some()}"
    )


# ---- Predictions ---------------------------------------------------------------------------------


def confusion(s) -> Figured:
    """Draw the confusion matrix; of many classes, recall and the most frequent mistake."""
    matrix = np.array(s.measures.confusion)
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = s.shown(20)
    if s.network.classes > len(classes):
        return recalls(s, share, classes)
    count = len(classes)
    figure, axes = grid(1, 1, 3.9)
    ax = axes[0, 0]
    mistakes = np.where(np.eye(count, dtype=bool), np.nan, share)
    limit = max(float(np.nanmax(mistakes)), 1.0)
    image = ax.imshow(np.ma.masked_invalid(mistakes), cmap="Oranges", vmin=0, vmax=limit)
    ax.set_facecolor("#dddddd")
    if count <= 10:  # more numbers have no room
        for i, j in np.ndindex(matrix.shape):
            dark = i != j and share[i, j] > 0.65 * limit
            colour = "white" if dark else "black"
            ax.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=colour)
    names, colours = [s.name(c) for c in classes], [s.colours[c] for c in classes]
    name_classes(ax.xaxis, names, colours)
    name_classes(ax.yaxis, names, colours)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    label = "mistakes: share of the true class (%)"
    figure.colorbar(image, ax=ax, label=label, location="bottom", aspect=30, pad=0.02)
    return figure, (
        f"Of the {matrix.sum():,} test images, how many of each true class (rows) were taken for "
        "which class (columns), in per cent of the row. The grey diagonal is correct; colours "
        "show the mistakes, up to the most frequent one."
    )


def recalls(s, share: np.ndarray, classes: list[int]) -> Figured:
    """Draw recall and the most frequent mistake, of too many classes for a matrix."""
    figure, axes = grid(1, 1, 0.21 * len(classes) + 0.5)
    ax, recall = axes[0, 0], share.diagonal()
    mistakes = np.where(np.eye(len(share), dtype=bool), -1, share)
    ax.barh(range(len(classes)), recall[classes], color=BLUE, height=0.7)
    outside = {"xycoords": ax.get_yaxis_transform(), "va": "center"}
    for i, c in enumerate(classes):
        other = int(mistakes[c].argmax())
        text = "no mistake"
        if share[c, other]:
            text = f"{s.name(other)} {share[c, other]:.0f} %"
        ax.annotate(text, (1.04, i), **outside)
    name_classes(ax.yaxis, [s.name(c) for c in classes], [s.colours[c] for c in classes])
    ax.set(xlabel="recall (%)", xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5))
    ax.axhline(len(classes) / 2 - 0.5, color=GREY, lw=0.8, ls=":")
    ax.annotate("taken for", (1.04, -1), **outside)
    half = len(classes) // 2
    return figure, (
        "The share of each class's test images that are predicted correctly, in per cent, and "
        f"which class most of the others are taken for: of {len(share)} classes the {half} with "
        f"the lowest recall, above the dotted line, and the {len(classes) - half} with the "
        "highest."
    )


def reliability(s) -> Figured:
    """Draw accuracy against confidence."""
    count, confidence, accuracy = metrics.calibration(s.log_y, s.labels).T
    filled = count > 0
    n = count[filled].astype(int)
    bins = zip(accuracy[filled], n, strict=True)
    ends = np.array([metrics.wilson(round(p * k), k) for p, k in bins])
    figure, axes = grid(2, 1, 4.8, sharex=True, height_ratios=[3, 1])
    ax, below = axes[:, 0]
    ax.plot([0, 1], [0, 1], color=ORANGE, ls="--", label="perfect calibration")
    ax.vlines(confidence[filled], *ends.T, color=BLUE, lw=1.5, label="95 % interval (Wilson)")
    dots = {"color": BLUE, "ms": 4, "clip_on": False, "label": "accuracy of a bin"}
    ax.plot(confidence[filled], accuracy[filled], "o", **dots)
    ax.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    ax.set_title(f"calibration error {s.measures.calibration_error:.1%}", loc="right")
    # Outside, as an interval may be anywhere inside.
    figure.legend(loc="outside upper left", ncols=2, columnspacing=1, handlelength=1.6)
    middles = (np.arange(metrics.BINS) + 0.5) / metrics.BINS
    below.bar(middles, count, color=GREY, width=1 / metrics.BINS, edgecolor="white")
    below.set(xlabel="confidence: probability of the predicted class", ylabel="images")
    below.yaxis.get_major_locator().set_params(integer=True)
    return figure, (
        f"Whether probabilities can be believed: the {len(s.labels):,} test images in "
        f"{metrics.BINS} bins by confidence, and the share of each bin that is correct, at its "
        "mean confidence. Dots below the dashed line are overconfident, above it underconfident. "
        "The expected calibration error is the mean gap between confidence and accuracy, over "
        "the images."
    )


# ---- Mistakes ------------------------------------------------------------------------------------


def draw_mistake(s, ax, i: int, name_label: bool = True) -> None:
    """Draw test image i under the probabilities of its predicted and its true class.

    The frame has the predicted class's colour.
    """
    predicted, label = int(s.predicted[i]), int(s.labels[i])
    called, own = percent(np.exp(s.log_y[i, predicted]), 0), percent(np.exp(s.log_y[i, label]))
    title = f"{s.name(predicted, 10)}\n{called.removesuffix(' %')} / {own}"
    if name_label:
        title = f"{s.name(predicted, 10)} {called}\nis {s.name(label, 10)} {own}"
    titled(ax, s.images[i], title, s.colours[predicted])


def titled(ax, image: np.ndarray, title: str, colour: str | None = None) -> None:
    """Draw an image under its title, in a frame of that colour if there is one."""
    ax.imshow(as_image(image))
    bare(ax)
    ax.set_title(title, pad=4, linespacing=1.05)
    if colour:
        ax.spines[:].set(visible=True, color=colour, lw=2)


def examples(s) -> Figured:
    """Draw the most confident mistakes of all classes."""
    surest = s.surest_mistakes[:EXAMPLES]
    if not len(surest):
        raise LeftOut("every test image is predicted correctly")
    rows = -(-len(surest) // 3)
    figure, axes = grid(rows, 3, 1.45 * rows)
    for ax in axes.flat:
        bare(ax)
    for ax, i in zip(axes.flat, surest, strict=False):
        draw_mistake(s, ax, i)
    return figure, (
        f"The most confident of the network's {len(s.surest_mistakes):,} mistakes on "
        f"{len(s.labels):,} test images. Above each image are the predicted class, whose colour "
        "is in the frame, and what the image is, both with the probability that the network gave "
        "them."
    )


def mistakes(s) -> Figured:
    """Draw the worst mistakes of each class, two classes in a row."""
    classes = s.shown()
    own = s.log_y[np.arange(len(s.labels)), s.labels]
    wrong = s.predicted != s.labels
    lines = -(-len(classes) // 2)
    ratios = [1] * WORST + [0.1] + [1] * WORST
    figure, axes = grid(lines, len(ratios), 1.22 * lines, width_ratios=ratios)
    for ax in axes.flat:
        bare(ax)
    for i, c in enumerate(classes):
        first = i % 2 * (WORST + 1)
        own_axes = axes[i // 2, first : first + WORST]
        rows = np.flatnonzero(wrong & (s.labels == c))
        worst = rows[np.argsort(own[rows], kind="stable")]
        for ax, row in zip(own_axes, worst, strict=False):
            draw_mistake(s, ax, row, name_label=False)
        own_axes[0].set_ylabel(s.name(c, 10))
        if not len(rows):
            own_axes[0].text(0.5, 0.5, "no mistake", ha="center", va="center")
    return figure, (
        f"The {WORST} worst mistakes of each class, two classes in a row: the test images whose "
        "own class got the lowest probability. Above each image are the predicted class, whose "
        "colour is in the frame, its probability, and that of the true class, which is at the "
        f"left.{s.some()}"
    )


def votes(s, which: int) -> Figured:
    """Draw why the network made its `which`-th most confident mistake."""
    if len(s.surest_mistakes) <= which:
        raise LeftOut(f"only {len(s.surest_mistakes)} test images are predicted wrongly")
    i = s.surest_mistakes[which]
    label = int(s.labels[i])
    try:
        options = {"label": label, "against": label, "background": s.background}
        figure, caption = draw_votes(s.loaded, s.images[i], s.names, **options)
    except UserError as error:
        raise LeftOut(clean(error)) from None
    return figure, (
        f"Number {which + 1} of the network's {len(s.surest_mistakes):,} mistakes by confidence, "
        f"test image {i}. {caption}"
    )


# ---- Augmentation --------------------------------------------------------------------------------


def augmentation(
    s,
    augment: Callable[..., np.ndarray],
    changes_of: Callable[[dict], tuple[bool, int, float] | None],
) -> Figured:
    """Draw training images as training changes them.

    augment(images, rng, flip, shift, jitter): returns a batch as training changes it.
    changes_of(info): returns the run's (flip, shift, jitter), or None if they are unknown.
    """
    changes = changes_of(s.info)
    if changes is None:
        raise LeftOut("the file doesn't say how the training images were augmented")
    flip, shift, jitter = changes
    if not (flip or shift or jitter):
        raise LeftOut("training images were not augmented")
    rng, images = np.random.default_rng(0), s.needed_data.train_images
    labels = s.data.train_labels
    first = [np.flatnonzero(labels == c)[:1] for c in range(s.network.classes)]
    rows = np.concatenate(first)[:4]
    figure, axes = grid(len(rows), 5, 0.72 * len(rows) + 0.15)
    for i, (line, row) in enumerate(zip(axes, rows, strict=True)):
        titled(line[0], images[row], "original" if i == 0 else "", "black")
        line[0].set_ylabel(s.name(labels[row]))
        for k, ax in enumerate(line[1:]):
            drawn = augment(images[row : row + 1].copy(), rng, flip, shift, jitter)[0]
            titled(ax, drawn, f"draw {k + 1}" if i == 0 else "")
    ways = []
    if flip:
        ways.append("flipped with probability 1/2")
    if shift:
        ways.append(
            f"moved by up to {shift} pixels in each direction, with the border mirrored into the "
            "gap"
        )
    if jitter:
        ways.append("with other contrast, brightness and colours")
    return figure, (
        "Training images (left, framed), and four draws of what an epoch may show instead of each: "
        f"{'; '.join(ways)}."
    )
