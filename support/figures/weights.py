"""Figures of a run and of its weights: functions from visualize.py's Subject to a figure and its caption."""

import itertools

from support.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    SIGNED,
    WIDTH,
    Figured,
    LeftOut,
    bare,
    beside,
    grid,
    histogram,
    name_classes,
    picture,
    spread,
    thinned,
)
from support.network.filters import box_mean, class_picture, cosine, filter_weights, mean_gradient

import numpy as np
from matplotlib import pyplot as plt

CURVES = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy")

# ---- The run --------------------------------------------------------------------------------------------------------


def history_of(info: dict) -> dict[str, np.ndarray]:
    """The curves of a run. LeftOut where the checkpoint has none."""
    if info.get("history") is None:
        raise LeftOut("the file holds weights only, not the history of a run")
    try:
        curves = {name: np.array(info["history"][name], float) for name in CURVES}
        epochs = len(curves["val_loss"])
        if not epochs or any(
            each.shape != (epochs,) or not (abs(each) < 1e30).all() for each in curves.values()
        ):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise LeftOut("the file's history is not one of train.py's") from None
    return curves


def curves(s) -> Figured:
    history = history_of(s.info)
    epochs = np.arange(1, len(history["val_loss"]) + 1)
    best = int(history["val_accuracy"].argmax())
    figure, axes = grid(3, 1, 5, sharex=True, height_ratios=[3, 3, 1.8])
    panels = ("loss", 1, "loss (nats)", "{:.3g}"), ("accuracy", 100, "accuracy (%)", "{:.2f} %")
    for ax, (name, factor, unit, form) in zip(axes[:2, 0], panels, strict=True):
        marker = "o" if len(epochs) == 1 else None
        training, validation = (factor * history[f"{split}_{name}"] for split in ("train", "val"))
        ax.plot(epochs, training, color=BLUE, ls="--", marker=marker, ms=4, label="training")
        ax.plot(epochs, validation, color=ORANGE, marker=marker, ms=4, label="validation")
        kept = {"label": f"best epoch, {epochs[best]}", "zorder": 3, "ls": ""}
        ax.plot(epochs[best], validation[best], "o", color=ORANGE, mec="black", ms=5, **kept)
        ax.set_title(f"at the best epoch {form.format(validation[best])}", loc="right")
        ax.axvline(epochs[best], color=GREY, lw=1, ls=":")
        ax.set_ylabel(unit)
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=3, columnspacing=1, handlelength=1.6)
    cut = without_first(axes[0, 0], [history["train_loss"], history["val_loss"]])
    rates = history["learning_rate"]
    axes[2, 0].plot(epochs, rates, color="black", drawstyle="steps-mid", marker=marker, ms=4)
    axes[2, 0].set(xlabel="epoch", ylabel="learning rate")
    axes[2, 0].axvline(epochs[best], color=GREY, lw=1, ls=":")
    if (rates > 0).all() and rates.max() > 20 * rates.min():
        axes[2, 0].set_yscale("log")
    axes[2, 0].xaxis.get_major_locator().set_params(integer=True)
    if len(epochs) == 1:
        axes[2, 0].set_xlim(0, 2)
    return figure, (
        "Cross-entropy in nats and accuracy in per cent after each epoch, and the epoch's mean learning rate. Training "
        "figures are averages over the epoch, with dropout, augmentation and smoothed labels where the run has them; "
        f"validation figures are taken after it, without.{cut} The dotted line is the epoch whose weights were kept."
    )


def without_first(ax, losses: list[np.ndarray]) -> str:
    """Let a first loss that towers above all others leave the axes, and say so for the caption."""
    first, later = (
        max(each[0] for each in losses),
        max((each[1:].max() for each in losses if len(each) > 1), default=0),
    )
    if not first > 1.5 * later > 0:
        return ""
    low = min(each.min() for each in losses)
    ax.set_ylim(low - 0.05 * (later - low), later + 0.1 * (later - low) + 1e-9 * later)
    return f" The first epoch's loss, up to {first:.3g}, lies above the axis."


# ---- The weights ----------------------------------------------------------------------------------------------------


def filters(s) -> Figured:
    chosen = np.argsort(-s.norms, kind="stable")[:30]
    rows = -(-len(chosen) // 5)
    figure, axes = grid(rows, 5, 0.82 * rows)
    for ax in axes.flat:
        bare(ax)
    for ax, unit in zip(axes.flat, chosen, strict=False):
        ax.imshow(picture(filter_weights(s.network, [unit])[:, 0]))
        bare(ax, f"unit {unit}")
    what = "column of W1 as a picture"
    if s.network.window.P is not None:
        what = "weights of the pixels that it sees, P W1 with the map P to what the units see, as a picture"
    mirrored = ", as it is and mirrored" * s.network.window.mirror
    places = (
        ""
        if s.network.window.whole
        else f" The same filter looks at {s.network.window.positions} places of an image{mirrored}."
    )
    return figure, (
        f"The {len(chosen)} hidden units with the largest columns of W1 (norms of {s.norms[chosen[0]]:.3g} to "
        f"{s.norms[chosen[-1]]:.3g}), by their numbers: each one's {what}. Grey is weight 0, brighter in a colour is "
        f"positive, darker is negative; each picture has its own scale, up to its largest weight.{places}"
    )


def output_weights(s) -> Figured:
    classes = s.shown(20)
    q, W2 = s.network.window.q, s.W2[:, :, classes]
    rows = np.argsort(-np.abs(W2).max(axis=(0, 2)), kind="stable")[:1024]
    total = W2[:, rows].sum(axis=0)
    largest = total.argmax(axis=1)
    order = np.lexsort((-total.max(axis=1), largest))
    shown = (
        W2[:, rows[order]].transpose(1, 2, 0).reshape(len(rows), -1)
    )  # a class's regions side by side
    limit = max(float(np.quantile(np.abs(shown), 0.995)), 1e-30)
    figure, axes = grid(1, 1, 5.4)
    ax = axes[0, 0]
    image = ax.imshow(shown, aspect="auto", cmap=SIGNED, vmin=-limit, vmax=limit)
    middles = q * np.arange(len(classes)) + (q - 1) / 2
    name_classes(ax.xaxis, [s.name(c) for c in classes], [s.colours[c] for c in classes], middles)
    counts = np.bincount(largest, minlength=len(classes))
    for c, (start, end) in zip(classes, itertools.pairwise([0, *np.cumsum(counts)]), strict=True):
        options = {
            "clip_on": False,
            "solid_capstyle": "butt",
            "transform": ax.get_yaxis_transform(),
        }
        ax.plot([-0.02, -0.02], [start - 0.5, end - 0.5], color=s.colours[c], lw=3, **options)
    for edge in q * np.arange(1, len(classes)) - 0.5 if q > 1 else ():
        ax.axvline(edge, color="black", lw=0.4)
    ax.set(
        ylabel=f"{len(shown):,} hidden units, by the class of their largest weight",
        ylim=(len(shown) - 0.5, -0.5),
    )
    ax.tick_params(axis="y", pad=6)
    bar = figure.colorbar(
        image, ax=ax, label="weight in W2", location="bottom", extend="both", aspect=30, pad=0.02
    )
    bar.ax.locator_params(nbins=5)
    some = (
        f" Of {s.network.hidden_size:,} units it shows the {len(rows):,} with the largest weight."
    )
    some *= len(rows) < s.network.hidden_size
    regions = (
        f" Each class has {q} columns, one for each region, row by row of the image."
        if q > 1
        else ""
    )
    sums = "sum over the regions" if q > 1 else "weight"
    return figure, (
        f"W2, from hidden units (rows) to classes (columns): red is positive, blue negative, white 0.{regions} Rows "
        f"are sorted by the class with their largest {sums}, largest first; a bar at the left has that class's colour. "
        f"{counts.min()} to {counts.max()} units have their largest {sums} for the same class.{some}{s.some(20)}"
    )


def top_neurons(s, top: int = 5) -> Figured:
    total, classes = s.W2.sum(axis=0), s.shown()
    figure = plt.figure(figsize=(WIDTH, 1.32 * -(-len(classes) // 2)))
    panels = figure.subfigures(-(-len(classes) // 2), 2, squeeze=False, width_ratios=(1.08, 1))
    highest, chosen = max(total[:, classes].max() * 1.05, 1e-30), []
    for i, (c, panel) in enumerate(zip(classes, panels.flat, strict=False)):
        units = np.argsort(-total[:, c], kind="stable")[:top]
        units = units[total[units, c] > 0]
        chosen += units.tolist()
        above, below = panel.subplots(
            2, 1, sharex=True, height_ratios=[1.5, 1], gridspec_kw={"hspace": 0.02}
        )
        above.bar(
            range(len(units)),
            total[units, c],
            color=s.colours[c],
            width=0.7,
            edgecolor="black",
            lw=0.5,
        )
        above.set_title(s.name(c, 20), pad=3)
        above.set(ylim=(0, highest), xlim=(-0.5, top - 0.5))
        above.locator_params(axis="y", nbins=3)
        above.tick_params(axis="x", length=0)
        if i % 2:
            above.tick_params(
                axis="y", labelcolor="none"
            )  # not left out: all panels are to have one size
        else:
            above.set_ylabel("weight")
        for place, unit in enumerate(units):
            shown = picture(filter_weights(s.network, [unit])[:, 0])
            below.imshow(shown, extent=(place - 0.46, place + 0.46, 0, 0.92))
        below.set(xlim=(-0.5, top - 0.5), ylim=(0, 0.92), yticks=[], anchor="N")
        below.set_xticks(
            range(len(units)), units, rotation=0 if s.network.hidden_size <= 1000 else 40
        )
        below.tick_params(axis="x", length=0, pad=1)
        below.spines[:].set_visible(False)
        if not i % 2:
            below.set_ylabel("unit", rotation=0, ha="right", va="center")
    how = (
        "sums over the regions of their weights in W2"
        if s.network.window.q > 1
        else "weights in W2"
    )
    return figure, (
        f"For each class the up to {top} hidden units with the largest positive weights to its logit. Bars are the "
        f"{how}, all on one scale; under each is the unit's filter as in the figure 'filters', and the unit's number. "
        f"{len(set(chosen))} of the {len(chosen)} are different units.{s.some()}"
    )


def weights(s) -> Figured:
    W1, rows = thinned(s.network.weights["W1"]), np.linalg.norm(s.W2, axis=(0, 2))
    figure, axes = grid(4, 1, 6.2)
    names = "mean", "median", "std", "skewness", "excess kurtosis", "KS distance"
    panels = ("W1", W1, "weight in W1"), ("W2", thinned(s.W2), "weight in W2")
    for ax, (array, values, label) in zip(axes[:2, 0], panels, strict=True):
        beside(ax, spread(histogram(ax, values, f"weights of {array}", curve=True), *names))
        ax.set_xlabel(label)
    panels = (s.norms, "norm of a unit's column of W1"), (rows, "norm of a unit's weights in W2")
    for ax, (values, label) in zip(axes[2:, 0], panels, strict=True):
        beside(ax, spread(histogram(ax, values, "units"), *names[:3]))
        ax.set_xlabel(label)
    return figure, (
        "How weights, and their norms for each unit, are distributed, up to 5 standard deviations from the mean. "
        "Orange is the mean, dotted the median, the curve the normal distribution with the same mean and standard "
        "deviation. Skewness and excess kurtosis (ex. kurt.) are 0 for a normal distribution (Laplace: 0 and 3); the "
        "Kolmogorov-Smirnov distance (KS) is the largest gap between the two cumulative distributions (Laplace: 0.06)."
    )


def batchnorm(s) -> Figured:
    if not s.network.batchnorm:
        raise LeftOut("the network has no batch normalisation")
    figure, axes = grid(2, 1, 3.2)
    for ax, name, start in ((axes[0, 0], "gamma1", 1), (axes[1, 0], "beta1", 0)):
        values = s.network.weights[name][0].astype(float)
        shape = histogram(ax, values, "units", start=start)
        beside(ax, [*spread(shape, "mean", "median", "std"), f"below 0: {(values < 0).mean():.0%}"])
        ax.set_xlabel({"gamma1": "gamma, the factor", "beta1": "beta, the shift"}[name])
    return figure, (
        "Batch normalisation's learned factor gamma and shift beta of each hidden unit, in standard deviations of the "
        "unit's input; orange is their mean, the dotted line where training began."
    )


def features(s) -> Figured:
    classes, gradients = s.shown(), {}
    maps = {c: class_picture(s.network, c) for c in classes}
    if s.data is not None:
        gradients = {c: mean_gradient(s.network, share, c) for c, share in s.firing[1].items()}
    kinds = [("W1 W2", maps)] + [("gradient", gradients)] * bool(gradients)
    columns, blocks = min(5, len(classes)), -(-len(classes) // 5)
    figure, axes = grid(blocks * len(kinds), columns, (0.72 * len(kinds) + 0.12) * blocks)
    for ax in axes.flat:
        bare(ax)
    for (i, c), (k, (label, pictures)) in itertools.product(enumerate(classes), enumerate(kinds)):
        ax = axes[i // 5 * len(kinds) + k, i % 5]
        ax.imshow(picture(box_mean(pictures[c], s.network.window.stride)))
        bare(ax)
        if not k:
            ax.set_title(s.name(c, 10), pad=5)
            options = {"transform": ax.transAxes, "clip_on": False, "solid_capstyle": "butt"}
            ax.plot([0, 1], [1.03, 1.03], color=s.colours[c], lw=3, **options)
        if i % 5 == 0:
            ax.set_ylabel(label)
    caption = "The report's picture of each class, W1 W2[:, c], which passes over ReLU and batch normalisation"
    if gradients:
        cosines = [cosine(maps[c], gradients[c]) for c in classes]
        largest = min(s.per_class, int(np.bincount(s.labels).max()))
        scale = max(float(np.abs(each).max()) for each in gradients.values())
        caption += (
            f". Under it the gradient of the class's logit with respect to the pixels, averaged over up to {largest:,} "
            f"test images of the class: what the network really responds to. The two agree by a cosine of "
            f"{min(cosines):.2f} to {max(cosines):.2f}; on average a logit changes by at most {scale:.2g} times the "
            "change of one channel of a pixel, which is 0 to 1"
        )
    else:
        caption += "; the mean gradient beside it needs test images"
    stride = s.network.window.stride
    steps = f" Drawn are means over {stride}x{stride} pixels, as the grid of the window's steps would hide all else."
    steps *= stride > 1
    return figure, (
        f"{caption}. Grey is 0, brighter in a colour is positive for the class, darker negative; each picture has its "
        f"own scale.{steps}{s.some()}"
    )
