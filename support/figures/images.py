"""Figures of test images: functions from visualize.py's Subject to a figure and its caption."""

from support.cli import UserError, clean
from support.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    Figured,
    LeftOut,
    as_image,
    bare,
    beside,
    grid,
    histogram,
    name_classes,
    principal,
)
from support.figures.votes import draw_evidence
from support.network import metrics

import numpy as np

DOTS = 1500  # images in the plane of principal components, at most


def activations(s) -> Figured:
    classes = s.shown()
    rows = np.flatnonzero(np.isin(s.labels, classes))
    rows = rows[:: -(-len(rows) // DOTS)]
    pooled = s.network.pooled(s.images[rows])
    if not np.isfinite(pooled).all() or len(rows) < 3:
        raise LeftOut(
            "the network's numbers overflow" if len(rows) > 2 else "there are too few test images"
        )
    places, shares = principal(pooled)
    figure, axes = grid(1, 1, 4)
    labels = s.labels[rows]
    for c in classes:
        own = places[labels == c]
        axes[0, 0].scatter(*own.T, color=s.colours[c], s=4, lw=0, alpha=0.6)
        if len(own):
            axes[0, 0].plot(
                *own.mean(axis=0),
                "o",
                color=s.colours[c],
                mec="black",
                ms=7,
                label=s.name(c),
                zorder=3,
            )
    for axis, share, name in zip(
        (axes[0, 0].xaxis, axes[0, 0].yaxis), shares, ("first", "second"), strict=True
    ):
        axis.set_label_text(f"{name} principal component ({share:.0%} of the variance)")
    axes[0, 0].set(xticks=[], yticks=[])
    figure.legend(loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=0.8)
    return figure, (
        f"The hidden layer's {pooled.shape[1]:,} outputs for {len(rows):,} test images, as what W2 is multiplied with, "
        "in their two principal components: a dot an image, in its class's colour, and a large dot for the mean of "
        f"each class. W2 separates the classes in all {pooled.shape[1]:,} dimensions; two of them show a part of it."
        f"{s.some()}"
    )


def firing(s) -> Figured:
    shares, _, lit = s.firing
    counts = np.array([min(s.per_class, int((s.labels == c).sum())) for c in shares])
    if not counts.sum():
        raise LeftOut("there are no test images of these classes")
    each = np.einsum("c,cnh->nh", counts / counts.sum(), np.stack([*shares.values()]))
    units, dead = 100 * each.mean(axis=0), int((each.max(axis=0) == 0).sum())
    always = int((each.min(axis=0) >= 1 - 1e-12).sum())
    figure, axes = grid(2, 1, 3.4)
    histogram(axes[0, 0], units, "units")
    at = "images" if s.network.window.whole else "images and places"
    axes[0, 0].set_xlabel(f"share of {at} where the unit fires (%)")
    histogram(axes[1, 0], 100 * lit, "images")
    axes[1, 0].set_xlabel(
        f"share of units{'' if s.network.window.whole else ' and places'} that fire (%)"
    )
    beside(axes[0, 0], [f"{dead:,} dead", f"{always:,} always on", f"of {len(units):,} units"])
    return figure, (
        f"How sparse the hidden layer is, on {counts.sum():,} test images: for each unit at how many of the {at} it is "
        f"above zero, and for each image how many of the activations are. Orange is the mean, {units.mean():.1f} %, "
        f"dotted the median. {dead:,} of the {len(units):,} units are dead, never above zero, and {always:,} are above "
        f"zero everywhere, as if there were no ReLU.{s.some()}"
    )


def confusion(s) -> Figured:
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
    for i, j in np.ndindex(matrix.shape) if count <= 10 else ():
        dark = i != j and share[i, j] > 0.65 * limit
        ax.text(
            j, i, f"{share[i, j]:.0f}", ha="center", va="center", color="white" if dark else "black"
        )
    names, colours = [s.name(c) for c in classes], [s.colours[c] for c in classes]
    name_classes(ax.xaxis, names, colours)
    name_classes(ax.yaxis, names, colours)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    figure.colorbar(
        image,
        ax=ax,
        label="mistakes: share of the true class (%)",
        location="bottom",
        aspect=30,
        pad=0.02,
    )
    return figure, (
        f"Of the {matrix.sum():,} test images, how many of each true class (rows) were taken for which class "
        "(columns), in per cent of the row. The grey diagonal is right; colours tell the mistakes, up to the most "
        "frequent one."
    )


def recalls(s, share: np.ndarray, classes: list[int]) -> Figured:
    """`confusion` of so many classes that a matrix can't be read: some classes, each with its most frequent mistake."""
    figure, axes = grid(1, 1, 0.21 * len(classes) + 0.5)
    ax, right = axes[0, 0], share.diagonal()
    mistakes = np.where(np.eye(len(share), dtype=bool), -1, share)
    ax.barh(range(len(classes)), right[classes], color=BLUE, height=0.7)
    for i, c in enumerate(classes):
        other = int(mistakes[c].argmax())
        text = f"{s.name(other)} {share[c, other]:.0f} %" if share[c, other] else "no mistake"
        ax.annotate(text, (1.04, i), xycoords=ax.get_yaxis_transform(), va="center")
    name_classes(ax.yaxis, [s.name(c) for c in classes], [s.colours[c] for c in classes])
    ax.set(xlabel="recall (%)", xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5))
    ax.axhline(len(classes) / 2 - 0.5, color=GREY, lw=0.8, ls=":")
    ax.annotate("taken for", (1.04, -1), xycoords=ax.get_yaxis_transform(), va="center")
    return figure, (
        f"How many of each class's test images are called right, in per cent, and which class most of its others are "
        f"taken for: of {len(share)} classes the {len(classes) // 2} with the lowest recall, and the "
        f"{len(classes) - len(classes) // 2} with the highest."
    )


def titled(ax, image: np.ndarray, title: str, colour: str | None = None) -> None:
    """An image under its title, in a frame of a class's colour."""
    ax.imshow(as_image(image))
    bare(ax)
    ax.set_title(title, pad=4, linespacing=1.05)
    if colour:
        ax.spines[:].set(visible=True, color=colour, lw=2)


def examples(s) -> Figured:
    sure = s.surest_mistakes[:12]
    if not len(sure):
        raise LeftOut("no test image is called wrong")
    rows = -(-len(sure) // 3)
    figure, axes = grid(rows, 3, 1.45 * rows)
    for ax in axes.flat:
        bare(ax)
    for ax, i in zip(axes.flat, sure, strict=False):
        c = int(s.log_y[i].argmax())
        title = f"{s.name(s.labels[i], 10)}, called\n{s.name(c, 10)} {np.exp(s.log_y[i, c]):.0%}"
        titled(ax, s.images[i], title, s.colours[c])
    figure.supxlabel(s.note, fontsize=8)
    return figure, (
        f"The most confident of the network's {len(s.surest_mistakes):,} mistakes on {len(s.labels):,} test images, "
        "the most confident first: the true class, and what the network says, with its probability; the frame has that "
        f"class's colour. {f'They are {s.note}.' * bool(s.note)}"
    ).rstrip()


def mistakes(s, columns: int = 4) -> Figured:
    classes = s.shown()
    own = s.log_y[np.arange(len(s.labels)), s.labels]
    wrong = s.log_y.argmax(axis=1) != s.labels
    figure, axes = grid(
        len(classes), columns + 1, 0.93 * len(classes), width_ratios=[0.25] + columns * [1]
    )
    for ax in axes.flat:
        bare(ax)
    for line, c in zip(axes, classes, strict=True):
        line[0].text(0.5, 0.5, s.name(c, 10), rotation=90, ha="center", va="center")
        line[0].axvline(1, color=s.colours[c], lw=4)
        rows = np.flatnonzero(wrong & (s.labels == c))
        for ax, i in zip(line[1:], rows[np.argsort(own[rows], kind="stable")], strict=False):
            other = int(s.log_y[i].argmax())
            titled(ax, s.images[i], f"{s.name(other, 10)}\n{np.exp(own[i]):.1%}", s.colours[other])
        if not len(rows):
            line[1].text(0, 0.5, "no mistake", va="center")
    figure.suptitle("true class: predicted class, probability of the true one", fontsize=8)
    figure.supxlabel(s.note, fontsize=8)
    return figure, (
        "The worst mistakes of each true class (left): the test images whose own class got the lowest probability. "
        "Above each is what the network says instead, whose colour is in the frame, and the probability that it gave "
        f"the true class.{s.some()}"
    )


def evidence(s, which: int) -> Figured:
    if len(s.surest_mistakes) <= which:
        raise LeftOut(f"only {len(s.surest_mistakes)} test images are called wrong")
    i = s.surest_mistakes[which]
    try:
        figure = draw_evidence(s.network, s.images[i], s.names, int(s.labels[i]))
    except UserError as error:
        raise LeftOut(clean(error)) from None
    c = int(s.log_y[i].argmax())
    place = "pixel" if s.network.window.whole else "place of the window"
    return figure, (
        f"Why the network takes this {s.names[s.labels[i]]} for '{s.names[c]}' ({np.exp(s.log_y[i, c]):.1%}), its "
        f"number {which + 1} of {len(s.surest_mistakes):,} mistakes by confidence: test image {i}. The maps are exact: "
        f"what each {place} adds to the logit of a class, red for it and blue against it, on one scale; with the bias "
        "they sum to the logit. Below are the filters that add most to the logit of the predicted class. "
        f"{f'It is one of the {s.note}.' * bool(s.note)}"
    ).rstrip()


def reliability(s) -> Figured:
    count, confidence, accuracy = metrics.calibration(s.log_y, s.labels).T
    figure, axes = grid(2, 1, 4.4, sharex=True, height_ratios=[3, 1])
    filled = count > 0
    n = count[filled].astype(int)
    ends = np.array(
        [metrics.wilson(round(p * k), k) for p, k in zip(accuracy[filled], n, strict=True)]
    )
    ax = axes[0, 0]
    ax.plot([0, 1], [0, 1], color=ORANGE, ls="--", label="perfect calibration")
    ax.vlines(confidence[filled], *ends.T, color=BLUE, lw=1.5, label="95 % interval (Wilson)")
    ax.plot(
        confidence[filled],
        accuracy[filled],
        "o",
        color=BLUE,
        ms=4,
        clip_on=False,
        label="accuracy of a bin",
    )
    ax.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    ax.legend(
        loc="upper left",
        title=f"calibration error {s.measures.calibration_error:.1%}",
        alignment="left",
    )
    middles = (np.arange(metrics.BINS) + 0.5) / metrics.BINS
    axes[1, 0].bar(middles, count, color=GREY, width=1 / metrics.BINS, edgecolor="white")
    axes[1, 0].set(xlabel="confidence: probability of the predicted class", ylabel="images")
    return figure, (
        f"Whether probabilities can be believed: the test images in {metrics.BINS} bins by confidence, and the share "
        "of each bin that is right, at its mean confidence. Dots below the dashed line are overconfident, above it "
        "underconfident. The expected calibration error is the mean gap between confidence and accuracy, over the "
        "images."
    )
