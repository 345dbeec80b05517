"""Draw a network's weights: functions from a Subject to a figure and its caption."""

import itertools

from support.figures.style import (
    CLIPPED,
    SIGNED,
    WIDTH,
    Figured,
    LeftOut,
    bare,
    grid,
    histogram,
    lines_right_of,
    name_classes,
    name_lines,
    picture,
    spread,
    thinned,
)
from support.network.filters import (
    box_mean,
    class_picture,
    cosine,
    filter_weights,
    patch_pixels,
    top_patches,
)

import numpy as np
from matplotlib import pyplot as plt

PATCH_IMAGES = 5000  # training images among which the patches of a filter are looked for, at most
PATCHES = 9  # of a filter
FILTERS = 30  # in a figure of filters alone
FILTERS_WITH_PATCHES = 24
OUTPUT_ROWS = 1024  # hidden units in the picture of W2, at most
TOP = 3  # hidden units of a class

# ---- Filters -------------------------------------------------------------------------------------


def filters(s, patches: bool = True) -> Figured:
    """Draw the most influential filters, with top patches if there are training images."""
    if patches and s.data is not None:
        return _filters_with_patches(s)
    chosen = np.argsort(-s.influence, kind="stable")[:FILTERS]
    rows = -(-len(chosen) // 5)
    figure, axes = grid(rows, 5, 0.82 * rows)
    for ax in axes.flat:
        bare(ax)
    for ax, unit in zip(axes.flat, chosen, strict=False):
        ax.imshow(_filter_picture(s, unit))
        bare(ax, f"unit {unit}")
    missing = " Their top patches need training images." if patches else ""
    return figure, f"{_chosen_filters(s, len(chosen))}{missing} {_filter_scale(s)}{s.sign_note}"


def _filters_with_patches(s) -> Figured:
    chosen = np.argsort(-s.influence, kind="stable")[:FILTERS_WITH_PATCHES]
    images = s.data.train_images
    images = images[:: -(-len(images) // PATCH_IMAGES)]
    found = top_patches(s.network, images, chosen, PATCHES)
    rows = -(-len(chosen) // 3)
    ratios = [1, 1, 0.12, 1, 1, 0.12, 1, 1]  # filter, patches, gap
    figure, axes = grid(rows, len(ratios), 0.74 * rows, width_ratios=ratios)
    for ax in axes.flat:
        bare(ax)
    for i, unit in enumerate(chosen):
        left, right = axes[i // 3, i % 3 * 3], axes[i // 3, i % 3 * 3 + 1]
        left.imshow(_filter_picture(s, unit))
        bare(left, f"unit {unit}")
        right.imshow(_mosaic([patch_pixels(s.network, images, patch) for patch in found[i]]))
        bare(right)
    what = "patches, from different images,"
    if s.network.window.whole:
        what = "images"
    flipped = ""
    if s.network.window.mirror:
        flipped = " Patches for which the flipped filter is largest are shown flipped."
    return figure, (
        f"{_chosen_filters(s, len(chosen))} Right of each filter are the {PATCHES} {what} for "
        f"which the unit is largest, among {len(images):,} training images (Zeiler & Fergus "
        f"2014): what the filter looks for.{flipped} {_filter_scale(s)}{s.sign_note}"
    )


def _chosen_filters(s, count: int) -> str:
    """Say which filters a figure shows."""
    return (
        f"The filters of the {count} most influential of {s.network.hidden_size:,} hidden units, "
        f"in order: {s.influence_measure}."
    )


def _filter_picture(s, unit: int) -> np.ndarray:
    return picture(filter_weights(s.network, [unit])[:, 0], CLIPPED)


def _filter_scale(s) -> str:
    """Say how filters are drawn."""
    window = s.network.window
    what = "its column of W1" if window.P is None else "what the unit multiplies pixels with, P W1"
    text = (
        f"A filter is {what} as a picture: grey is weight 0, brighter in a colour is positive, "
        "darker is negative. Each has its own scale, which ends at the largest 1 % of its "
        "weights."
    )
    if not window.whole:
        text += f" The same filter is applied at {window.positions} positions of an image"
        text += ", as it is and flipped." if window.mirror else "."
    elif window.mirror:
        text += " It is applied as it is and flipped."
    return text


def _mosaic(patches: list[np.ndarray]) -> np.ndarray:
    """Return patches (3 n^2,) uint8 as one picture of 3 x 3, with white lines between them."""
    n = 1 if not patches else round((len(patches[0]) / 3) ** 0.5)
    gap = max(1, n // 16)
    mosaic = np.full((3 * n + 2 * gap, 3 * n + 2 * gap, 3), 255, np.uint8)
    for i, patch in enumerate(patches):
        top, left = i // 3 * (n + gap), i % 3 * (n + gap)
        mosaic[top : top + n, left : left + n] = patch.reshape(3, n, n).transpose(1, 2, 0)
    return mosaic


# ---- The output layer ----------------------------------------------------------------------------


def output_weights(s) -> Figured:
    """Draw W2 as a picture, hidden units sorted by the class that they speak for most."""
    classes = s.shown(20)
    q, W2 = s.network.window.q, s.W2[:, :, classes]
    rows = np.argsort(-np.abs(W2).max(axis=(0, 2)), kind="stable")[:OUTPUT_ROWS]
    total = W2[:, rows].sum(axis=0)
    largest = total.argmax(axis=1)
    order = np.lexsort((-total.max(axis=1), largest))
    # The regions of a class side by side.
    shown = W2[:, rows[order]].transpose(1, 2, 0).reshape(len(rows), -1)
    limit = max(float(np.quantile(np.abs(shown), 0.995)), 1e-30)
    figure, axes = grid(1, 1, 5.4)
    ax = axes[0, 0]
    image = ax.imshow(shown, aspect="auto", cmap=SIGNED, vmin=-limit, vmax=limit)
    middles = q * np.arange(len(classes)) + (q - 1) / 2
    name_classes(ax.xaxis, [s.name(c) for c in classes], [s.colours[c] for c in classes], middles)
    counts = np.bincount(largest, minlength=len(classes))
    ends = itertools.pairwise([0, *np.cumsum(counts)])
    line = {"clip_on": False, "solid_capstyle": "butt", "lw": 3}
    line["transform"] = ax.get_yaxis_transform()
    for c, (start, end) in zip(classes, ends, strict=True):
        ax.plot([-0.02, -0.02], [start - 0.5, end - 0.5], color=s.colours[c], **line)
    if q > 1:
        for edge in q * np.arange(1, len(classes)) - 0.5:
            ax.axvline(edge, color="black", lw=0.4)
    measure = "largest sum over the regions" if q > 1 else "largest weight"
    ax.set_ylabel(f"{len(shown):,} hidden units, by the class of their {measure}")
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.tick_params(axis="y", pad=6)
    options = {"location": "bottom", "extend": "both", "aspect": 30, "pad": 0.02}
    bar = figure.colorbar(image, ax=ax, label="weight in W2", **options)
    bar.ax.locator_params(nbins=5)
    some = regions = ""
    if len(rows) < s.network.hidden_size:
        some = (
            f" Of {s.network.hidden_size:,} units it shows the {len(rows):,} with the largest "
            "weight."
        )
    if q > 1:
        regions = f" Each class has {q} columns, one for each region, row by row of the image."
    return figure, (
        "W2, from hidden units (rows) to classes (columns): red is positive, blue negative, "
        f"white 0.{regions} Rows are sorted by the class with their {measure}, largest first; a "
        f"bar at the left has that class's colour. For each class, {counts.min()} to "
        f"{counts.max()} units have their {measure}.{some}{s.sign_note}{s.some(20)}"
    )


def top_neurons(s) -> Figured:
    """Draw, for each class, the units with the largest weights to its logit, and their filters."""
    total, classes = s.W2.sum(axis=0), s.shown()
    lines = -(-len(classes) // 2)
    figure = plt.figure(figsize=(WIDTH, 1.42 * lines))
    panels = figure.subfigures(lines, 2, squeeze=False, width_ratios=(1.08, 1))
    highest = max(total[:, classes].max() * 1.05, 1e-30)
    chosen = []
    for i, (c, panel) in enumerate(zip(classes, panels.flat, strict=False)):
        units = np.argsort(-total[:, c], kind="stable")[:TOP]
        units = units[total[units, c] > 0]
        chosen += units.tolist()
        options = {"height_ratios": [1, 1.25], "gridspec_kw": {"hspace": 0.02}}
        bars, below = panel.subplots(2, 1, sharex=True, **options)
        look = {"color": s.colours[c], "width": 0.7, "edgecolor": "black", "lw": 0.5}
        bars.bar(range(len(units)), total[units, c], **look)
        bars.set_title(s.name(c, 20), pad=3)
        bars.set(ylim=(0, highest), xlim=(-0.5, TOP - 0.5))
        bars.locator_params(axis="y", nbins=3)
        bars.tick_params(axis="x", length=0)
        if i % 2:  # invisible rather than removed: all panels have the same size
            bars.tick_params(axis="y", labelcolor="none")
        else:
            bars.set_ylabel("weight")
        for x, unit in enumerate(units):
            below.imshow(_filter_picture(s, unit), extent=(x - 0.46, x + 0.46, 0, 0.92))
        below.set(xlim=(-0.5, TOP - 0.5), ylim=(0, 0.92), yticks=[], anchor="N")
        below.set_xticks(range(len(units)), units)
        below.tick_params(axis="x", length=0, pad=1)
        below.spines[:].set_visible(False)
        if not i % 2:
            below.set_ylabel("unit", rotation=0, ha="right", va="center")
    how = "weights in W2"
    if s.network.window.q > 1:
        how = "sums over the regions of their weights in W2"
    return figure, (
        f"For each class the up to {TOP} hidden units with the largest positive weights to its "
        f"logit. Bars are the {how}, all on one scale; under each is the unit's filter as in the "
        f"figure of filters, and the unit's number. {len(set(chosen))} of the {len(chosen)} are "
        f"different units.{s.sign_note}{s.some()}"
    )


# ---- Distributions -------------------------------------------------------------------------------


def weights(s) -> Figured:
    """Draw how weights are distributed, and their norms for each unit."""
    # Of the network in the file: `s.network` would hold each number of W1 and its negative.
    W1, rows = thinned(s.loaded.weights["W1"]), np.linalg.norm(s.W2, axis=(0, 2))
    figure, axes = grid(4, 1, 6.4)
    names = "mean", "median", "std", "skewness", "excess kurtosis", "KS distance"
    panels = ("W1", W1, "weight in W1"), ("W2", thinned(s.W2), "weight in W2")
    for ax, (array, values, label) in zip(axes[:2, 0], panels, strict=True):
        shape = histogram(ax, values, f"weights of {array}", curve=True)
        lines_right_of(ax, spread(shape, *names))
        ax.set_xlabel(label)
    panels = (s.norms, "norm of a unit's column of W1"), (rows, "norm of a unit's weights in W2")
    for ax, (values, label) in zip(axes[2:, 0], panels, strict=True):
        lines_right_of(ax, spread(histogram(ax, values, "units"), *names[:3]))
        ax.set_xlabel(label)
    name_lines(figure)
    return figure, (
        "How weights, and their norms for each unit, are distributed, up to 5 standard "
        "deviations from the mean. The curve is the normal distribution with the same mean and "
        "standard deviation. Skewness and excess kurtosis (ex. kurt.) are 0 for a normal "
        "distribution (Laplace: 0 and 3); the Kolmogorov-Smirnov distance (KS) is the largest "
        "gap between the two cumulative distributions (Laplace: 0.06)."
        f"{s.sign_note}"
    )


def batchnorm(s) -> Figured:
    """Draw how batch normalisation's factor and shift are distributed."""
    if not s.network.batchnorm:
        raise LeftOut("the network has no batch normalisation")
    figure, axes = grid(2, 1, 3.4)
    panels = ("gamma1", "gamma, the factor", 1), ("beta1", "beta, the shift", 0)
    for ax, (name, label, start) in zip(axes[:, 0], panels, strict=True):
        values = s.loaded.weights[name][0].astype(float)
        shape = histogram(ax, values, "units")
        ax.axvline(start, color="black", ls="--", lw=1, label="start of training")
        lines_right_of(
            ax, [*spread(shape, "mean", "median", "std"), f"below 0: {(values < 0).mean():.0%}"]
        )
        ax.set_xlabel(label)
    name_lines(figure)
    return figure, (
        "Batch normalisation's learned factor gamma and shift beta of each hidden unit, in "
        "standard deviations of the unit's input. Training started with gamma 1 and beta 0."
    )


# ---- Classes -------------------------------------------------------------------------------------


def features(s) -> Figured:
    """Draw W1 W2[:, c] for each class c, and under it the mean gradient of its logit."""
    classes, gradients = s.shown(), {}
    maps = {c: class_picture(s.network, c) for c in classes}
    if s.data is not None:
        gradients = s.firing.gradients
    kinds = [("W1 W2", maps)]
    if gradients:
        kinds.append(("gradient", gradients))
    stride = s.network.window.stride
    columns, blocks = min(5, len(classes)), -(-len(classes) // 5)
    figure, axes = grid(blocks * len(kinds), columns, (0.72 * len(kinds) + 0.12) * blocks)
    for ax in axes.flat:
        bare(ax)
    line = {"clip_on": False, "solid_capstyle": "butt", "lw": 3}
    for i, c in enumerate(classes):
        for k, (label, pictures) in enumerate(kinds):
            ax = axes[i // 5 * len(kinds) + k, i % 5]
            ax.imshow(picture(box_mean(pictures[c], stride), CLIPPED))
            bare(ax)
            if i % 5 == 0:
                ax.set_ylabel(label)
        top = axes[i // 5 * len(kinds), i % 5]
        top.set_title(s.name(c, 10), pad=5)
        top.plot([0, 1], [1.03, 1.03], color=s.colours[c], transform=top.transAxes, **line)
    caption = (
        "The report's picture of each class, W1 W2[:, c], which leaves out ReLU and batch "
        "normalisation"
    )
    if gradients:
        cosines = [cosine(maps[c], gradients[c]) for c in classes]
        largest = max(s.firing.counts.values())
        scale = max(float(np.abs(each).max()) for each in gradients.values())
        caption += (
            ". Under it the gradient of the class's logit with respect to the pixels, averaged "
            f"over up to {largest:,} test images of the class: what the network really responds "
            f"to. The two agree by a cosine of {min(cosines):.2f} to {max(cosines):.2f}; on "
            f"average a logit changes by at most {scale:.2g} times the change of one channel of a "
            "pixel, which is 0 to 1"
        )
    else:
        caption += "; the mean gradient under it needs test images"
    steps = ""
    if stride > 1:
        steps = (
            f" Drawn are means over {stride}x{stride} pixels, as the grid of the window's steps "
            "would hide all else."
        )
    return figure, (
        f"{caption}. Grey is 0, brighter in a colour is positive for the class, darker negative. "
        "Each picture has its own scale, which ends at the largest 1 % of its "
        f"numbers.{steps}{s.some()}"
    )
