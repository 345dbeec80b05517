"""Draw what a network learned, from its checkpoint alone; or what a search found, from its CSV.

  python visualize.py checkpoints/NET.npz      all figures, and report.html, in figures/NET/
  python visualize.py                          those of the newest checkpoint
  python visualize.py NET.npz --only filters features --format pdf
  python visualize.py checkpoints/search-cifar10/results.csv              search.py's trials

report.html shows all figures with what is to be seen in them; it is one file that needs nothing else.
Figures: {names}.
"""

import argparse
import base64
import csv
import html
import io
import itertools
import math
import sys
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import model
import test
from data import cifar10
from model import CLASS_COUNT, PIXELS
from train import HISTORY, augment

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.transforms import ScaledTranslation
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
WIDTH = 5.6  # inches of every figure: 10 pt are legible in it on a phone's screen too
STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.interpolation": "nearest",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
}
# A colour a class, in the order of the labels: Paul Tol's muted scheme, made for colour-blind readers, and black.
# Names stand beside the colours everywhere.
CLASS_COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
                 "#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222")  # fmt: skip
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # of Okabe & Ito's, likewise
SIGNED = "RdBu_r"  # of a scale with 0 in the middle


class LeftOut(Exception):
    """Why a figure can't be drawn of this checkpoint."""


class FigureError(ValueError):
    """A file or flag that can't be used: one line."""

    one_line = True


# ---- What is drawn --------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    """A checkpoint, and all that its figures share, each computed when a figure first asks for it."""

    path: Path
    network: model.Network
    info: dict
    data: cifar10.Dataset | None
    no_data: str = ""  # why data is None

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The network in the report's arrays: W1 (3072, H), ...; H counts mirrored twins."""
        return self.network.plain()

    @property
    def units(self) -> int:
        """Hidden units without their twins, which are the second half of `arrays`."""
        return self.network.hidden_size

    @property
    def shares(self) -> bool:
        """Whether the places of a receptive field learned from each other, see SGD's share in model.py."""
        settings = self.info.get("settings")
        return isinstance(settings, dict) and bool(settings.get("share"))

    @cached_property
    def norms(self) -> np.ndarray:
        """|W1[:, h]| of each hidden unit, (units,)."""
        W1 = self.arrays["W1"][:, : self.units]
        return np.sqrt(np.einsum("ij,ij->j", W1, W1))

    @cached_property
    def log_y(self) -> np.ndarray:
        """log y^ of the test images, (N, 10)."""
        return test.log_probabilities(self.network, self.images)

    @property
    def images(self) -> np.ndarray:
        """The test images, (N, 3072) uint8. LeftOut without data."""
        if self.data is None:
            raise LeftOut(self.no_data)
        return self.data.test_images

    @property
    def labels(self) -> np.ndarray:
        return self.data.test_labels

    @cached_property
    def names(self) -> list[str]:
        return list(self.data.class_names) if self.data else test.class_names(self.info)

    @property
    def history(self) -> dict[str, list[float]]:
        """The curves of the run. LeftOut where the checkpoint has none."""
        history = self.info.get("history")
        if history is None:
            raise LeftOut("the file holds weights only, not the history of a run")
        try:
            curves = {name: np.array(history[name], float) for name in HISTORY}
            epochs = len(curves["val_loss"])
            if not epochs or any(curve.shape != (epochs,) for curve in curves.values()):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise LeftOut("the file's history is not one of train.py's") from None
        return curves


def picture(weights: np.ndarray) -> np.ndarray:
    """Signed weights of pixels (3072,) as an RGB picture (n, n, 3): 0 is mid-grey, the largest |weight| 0 or 1 in its
    channel. Of a receptive field it is the window alone."""
    square = weights.reshape(3, 32, 32).transpose(1, 2, 0)
    rows, columns = np.any(square, axis=(1, 2)).nonzero()[0], np.any(square, axis=(0, 2)).nonzero()[0]
    if len(rows) and len(columns):
        square = square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return 0.5 + 0.5 * square / max(float(np.abs(square).max()), 1e-30)


def as_image(row: np.ndarray) -> np.ndarray:
    """(3072,) uint8 -> (32, 32, 3)."""
    return row.reshape(3, 32, 32).transpose(1, 2, 0)


def active_share(arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """For how many of the images (N, 3072) uint8 each hidden unit is above zero: (H,), in 0..1."""
    count, dtype = np.zeros(arrays["W1"].shape[1]), arrays["W1"].dtype
    for start in range(0, len(images), 250):
        z1 = np.multiply(images[start : start + 250], 1 / 255, dtype=dtype, casting="unsafe") @ arrays["W1"]
        z1 += arrays["b1"]
        if "gamma1" in arrays:
            z1 -= arrays["running_mean1"]
            z1 *= arrays["gamma1"] / np.sqrt(arrays["running_var1"] + dtype.type(model.BN_EPS))
            z1 += arrays["beta1"]
        count += (z1 > 0).sum(axis=0)
    return count / len(images)


def mean_gradient(arrays: dict[str, np.ndarray], images: np.ndarray, c: int) -> np.ndarray:
    """The gradient of logit c with respect to the pixels (in [0, 1]), averaged over images (N, 3072) uint8: (3072,).

    dz2_c/dx = W1 (1[z1^ > 0] * gamma / sqrt(var + eps) * W2[:, c]) in inference mode. Only the mask depends on the
    image, so the mean over images is that of the masks.
    """
    through = active_share(arrays, images) * arrays["W2"][:, c]
    if "gamma1" in arrays:
        through *= (arrays["gamma1"] / np.sqrt(arrays["running_var1"] + model.BN_EPS))[0]
    return arrays["W1"] @ through.astype(arrays["W1"].dtype)


def normality(values: np.ndarray) -> dict[str, float]:
    """How values are spread, and how far from normal: skewness and excess kurtosis, both 0 of a normal distribution,
    and the Kolmogorov-Smirnov distance from the normal with their mean and standard deviation (0..1;
    0.06 of a uniform and of a Laplace distribution)."""
    values = np.sort(values.astype(np.float64))
    mean, std = values.mean(), max(values.std(), 1e-30)
    z = (values - mean) / std
    grid = np.linspace(-5, 5, 2001)
    fitted = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in grid])
    return {
        "mean": mean,
        "median": np.median(values),
        "std": std,
        "skewness": (z**3).mean(),
        "excess kurtosis": (z**4).mean() - 3,
        "KS distance": np.abs(np.searchsorted(z, grid, side="right") / len(z) - fitted).max(),
    }


def thinned(array: np.ndarray, limit: int = 2_000_000) -> np.ndarray:
    """The entries that aren't 0, as zeros stand outside receptive fields; of many, every k-th."""
    flat = array.ravel()
    flat = flat[:: max(1, flat.size // limit) | 1]
    return flat[flat != 0]


# ---- Figures of a checkpoint: each returns the figure and its caption -----------------------------------------------


def grid(rows: int, columns: int, height: float, **options):
    """A figure with rows x columns axes; the axes as an array of that shape."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)


def bare(ax, title: str = "", size: float = 9) -> None:
    """Leave an axes without ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=size)


def curves(s: Subject):
    history = s.history
    epochs = np.arange(1, len(history["val_loss"]) + 1)
    best = int(history["val_accuracy"].argmax())
    figure, axes = grid(3, 1, 6.4, sharex=True, height_ratios=[3, 3, 1.6])
    panels = ("loss", 1, "loss (nats)"), ("accuracy", 100, "accuracy (%)")
    for ax, (name, factor, unit) in zip(axes[:2, 0], panels, strict=True):
        marker = "o" if len(epochs) == 1 else None
        ax.plot(epochs, factor * history[f"train_{name}"], color=BLUE, ls="--", marker=marker, label="training")
        ax.plot(epochs, factor * history[f"val_{name}"], color=ORANGE, marker=marker, label="validation")
        value = factor * history[f"val_{name}"][best]
        ax.plot(epochs[best], value, "o", color=ORANGE, mec="black", zorder=3)
        ax.axvline(epochs[best], color=GREY, lw=1, ls=":")
        ax.set_ylabel(unit)
        ax.legend(title=f"best epoch {epochs[best]}: {value:.4g}", frameon=False, loc="best")
    axes[2, 0].plot(epochs, history["learning_rate"], color="black", drawstyle="steps-mid")
    axes[2, 0].set(xlabel="epoch", ylabel="learning rate")
    axes[2, 0].axvline(epochs[best], color=GREY, lw=1, ls=":")
    rates = history["learning_rate"]
    if (rates > 0).all() and rates.max() > 20 * rates.min():
        axes[2, 0].set_yscale("log")
    axes[2, 0].xaxis.get_major_locator().set_params(integer=True)
    return figure, (
        "Cross-entropy in nats and accuracy in per cent after each epoch, and the learning rate. Training figures are "
        "averages over the epoch, with dropout and augmentation where the run has them, validation figures are taken "
        "after it without them. The dotted line is the epoch whose weights were kept."
    )


def filters(s: Subject):
    sizes, start = {}, 0
    for field in s.network.fields:
        units = np.arange(start, start + len(field.corners) * field.units).reshape(-1, field.units)
        start += units.size
        if s.shares:  # a unit looks much the same at every place: the strongest stands for all
            units = units[s.norms[units].argmax(axis=0), np.arange(field.units)]
        sizes.setdefault(field.size, []).extend(units.ravel())
    chosen = []
    for units in (np.array(each) for each in sizes.values()):
        chosen += units[np.argsort(-s.norms[units], kind="stable")[: max(6, 36 // len(sizes))]].tolist()
    figure, axes = grid(-(-len(chosen) // 6), 6, 1.12 * -(-len(chosen) // 6))
    for ax in axes.flat:
        bare(ax)
    for ax, unit in zip(axes.flat, chosen, strict=False):
        ax.imshow(picture(s.arrays["W1"][:, unit]))
        bare(ax, f"{unit}: {s.norms[unit]:.2g}", 9.5)
    several = ", as many of each window size" if len(sizes) > 1 else ""
    windows = " A unit that sees only a window of the image is drawn as that window." if min(sizes) < 32 else ""
    windows += " Its places learned together; it is drawn where it is strongest." if s.shares else ""
    return figure, (
        f"The {len(chosen)} hidden units with the largest weight vectors{several}: each one's column of W1 as a "
        "picture, with its number and norm. Grey is weight 0, brighter in a colour is positive, darker is negative; "
        f"each picture has its own scale, up to its largest weight.{windows}"
    )


def output_weights(s: Subject):
    W2 = s.arrays["W2"][: s.units]
    rows = np.argsort(-np.abs(W2).max(axis=1), kind="stable")[:1024]
    W2 = W2[rows]
    favourite = W2.argmax(axis=1)
    W2 = W2[np.lexsort((-W2.max(axis=1), favourite))]
    limit = max(float(np.quantile(np.abs(W2), 0.995)), 1e-30)
    figure, axes = grid(1, 1, 7.6)
    image = axes[0, 0].imshow(W2, aspect="auto", cmap=SIGNED, vmin=-limit, vmax=limit)
    name_classes(axes[0, 0].xaxis, s.names)
    ends = np.cumsum(np.bincount(favourite, minlength=CLASS_COUNT))
    for c, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        axes[0, 0].plot([-0.62, -0.62], [start, end - 0.5], color=CLASS_COLOURS[c], lw=5, clip_on=False,
                        solid_capstyle="butt")  # fmt: skip
    axes[0, 0].set(ylabel=f"{len(W2):,} hidden units, by their favourite class", xlim=(-0.5, 9.5))
    axes[0, 0].tick_params(axis="y", pad=8)
    figure.colorbar(image, ax=axes[0, 0], label="weight in W2", shrink=0.5, extend="both")
    some = f" Of {s.units:,} units it shows the 1,024 with the largest weight." if s.units > 1024 else ""
    counts = np.bincount(favourite, minlength=CLASS_COUNT)
    return figure, (
        "W2, from hidden units (rows) to classes (columns): red speaks for a class, blue against it, white is 0. Rows "
        "are sorted by the class that they speak for most, strongest first, and a bar at the left has that class's "
        f"colour. Each class is the favourite of {counts.min()} to {counts.max()} units.{some}"
    )


def name_classes(axis, names: list[str]) -> None:
    """Class names along an axis, each with a square of its colour."""
    horizontal = axis.axis_name == "x"
    axis.set_ticks(range(CLASS_COUNT), names, rotation=45 if horizontal else 0, ha="right", rotation_mode="anchor",
                   va="center_baseline" if horizontal else "center")  # fmt: skip
    axis.set_tick_params(length=0, pad=13)
    ax, shift = axis.axes, (0, -7) if horizontal else (-7, 0)  # points
    along = ax.get_xaxis_transform() if horizontal else ax.get_yaxis_transform()
    beside = along + ScaledTranslation(*(points / 72 for points in shift), ax.figure.dpi_scale_trans)
    places = np.arange(CLASS_COUNT), np.zeros(CLASS_COUNT)
    ax.scatter(*(places if horizontal else places[::-1]), color=CLASS_COLOURS, marker="s", s=30, clip_on=False,
               transform=beside, zorder=3)  # fmt: skip


def top_neurons(s: Subject, top: int = 5):
    W1, W2 = s.arrays["W1"], s.arrays["W2"][: s.units]
    top = min(top, s.units)
    figure = plt.figure(figsize=(WIDTH, 10))
    panels = figure.subfigures(5, 2)
    chosen = []
    for c, panel in enumerate(panels.T.flat):
        units = np.argsort(-W2[:, c], kind="stable")[:top]
        chosen.append(units)
        above, below = panel.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
        above.bar(range(top), W2[units, c], color=CLASS_COLOURS[c], width=0.7, edgecolor="black", lw=0.5)
        above.set_title(s.names[c])
        above.set_ylim(min(0, W2[:, c].max()), max(W2.max() * 1.05, 1e-30))
        above.tick_params(axis="y", labelsize=9)
        above.tick_params(axis="x", length=0)
        for i, unit in enumerate(units):
            below.imshow(picture(W1[:, unit]), extent=(i - 0.45, i + 0.45, 0, 0.9))
        below.set(xlim=(-0.5, top - 0.5), ylim=(0, 0.9), yticks=[], anchor="N")
        below.set_xticks(range(top), units, fontsize=9)
        below.tick_params(axis="x", length=0)
        below.spines[:].set_visible(False)
    return figure, (
        f"For each class the {top} hidden units with the largest weights to its logit: bars are the weights in W2, on "
        "one scale, and under each is the unit's column of W1 as in the picture of filters, with its number. "
        f"{len(np.unique(chosen))} of the {np.size(chosen)} are different units."
    )


def weights(s: Subject):
    W1, W2 = s.arrays["W1"][:, : s.units], s.arrays["W2"][: s.units]
    panels = {
        "W1, weights of pixels": thinned(W1),
        "W2, weights of hidden units": thinned(W2),
        "norms of W1's columns, one a hidden unit": s.norms,
        "norms of W2's rows, one a hidden unit": np.sqrt(np.square(W2).sum(axis=1)),
    }
    figure, axes = grid(4, 1, 9.2)
    for ax, (title, values) in zip(axes.flat, panels.items(), strict=True):
        if not len(values):
            bare(ax, f"{title}: all are 0")
            continue
        shape = normality(values)
        mean, std = shape["mean"], shape["std"]
        low, high = max(values.min(), mean - 5 * std), min(values.max(), mean + 5 * std)
        high = high if high > low else low + 1e-6
        ax.hist(values, bins=80, range=(low, high), density=True, color=BLUE, alpha=0.6)
        x = np.linspace(low, high, 400)
        normal = np.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
        if title.startswith("W"):
            ax.plot(x, normal, color="black", lw=1.2)
        ax.axvline(mean, color=ORANGE)
        ax.axvline(shape["median"], color="black", ls=":")
        names = [name for name in shape if title.startswith("W") or name in ("mean", "median", "std")]
        lines = [f"{name} {shape[name]:.3g}" for name in names]
        ax.text(1.01, 0.98, "\n".join(lines), transform=ax.transAxes, va="top", fontsize=9)
        ax.set(title=title, yticks=[], ylabel="density")
        ax.locator_params(axis="x", nbins=6)
        ax.spines["left"].set_visible(False)
    zeros = " without the zeros outside their windows" if any(f.size < 32 for f in s.network.fields) else ""
    return figure, (
        f"How weights and norms are spread{zeros}, up to 5 standard deviations; orange is the mean, dotted the median, "
        "the curve the normal distribution with the same mean and standard deviation. Skewness and excess kurtosis are "
        "0 for a normal one (Laplace: 0 and 3); the Kolmogorov-Smirnov (KS) distance is the largest gap between the "
        "two cumulative distributions (Laplace: 0.06)."
    )


def batchnorm(s: Subject):
    if not s.network.batchnorm:
        raise LeftOut("the network has no batch normalisation")
    figure, axes = grid(2, 1, 4.8)
    for ax, name, start in ((axes[0, 0], "gamma1", 1), (axes[1, 0], "beta1", 0)):
        values = s.arrays[name][0, : s.units]
        ax.hist(values, bins=60, color=BLUE, alpha=0.7)
        ax.axvline(values.mean(), color=ORANGE)
        ax.axvline(start, color="black", ls=":")
        ax.text(1.01, 0.98, f"mean {values.mean():.3g}\nmedian {np.median(values):.3g}\nstd {values.std():.3g}\n"
                f"below 0: {(values < 0).mean():.1%}", transform=ax.transAxes, va="top", fontsize=9)  # fmt: skip
        ax.set(ylabel="hidden units", title={"gamma1": "gamma, the factor", "beta1": "beta, the shift"}[name])
    return figure, (
        "Batch normalisation's learned factor gamma and shift beta of each hidden unit, in standard deviations of the "
        "unit's input; orange is their mean, the dotted line where training began."
    )


def features(s: Subject):
    arrays, W1, W2 = s.arrays, s.arrays["W1"], s.arrays["W2"]
    maps, gradients = [W1 @ W2[:, c] for c in range(CLASS_COUNT)], []
    caption = "The report's picture of each class, W1 W2[:, c], which passes over ReLU and batch normalisation"
    if s.data is not None:
        # At 40,000 units all test images would take a minute.
        count = max(1, int(4e11 / (2 * W1.size * CLASS_COUNT)))
        for c in range(CLASS_COUNT):
            own = s.images[s.labels == c][:count]
            gradients.append(mean_gradient(arrays, own, c) if len(own) else np.zeros(PIXELS, W1.dtype))
        largest = min(count, int(np.bincount(s.labels).max()))
    rows = 2 if gradients else 1
    figure, axes = grid(2 * rows, 5, 1.3 * 2 * rows)
    for c in range(CLASS_COUNT):
        for i, each in enumerate([maps[c], gradients[c]] if gradients else [maps[c]]):
            ax = axes[c // 5 * rows + i, c % 5]
            ax.imshow(picture(each))
            bare(ax, "" if i else s.names[c], 10)
            if not i:
                ax.plot([0, 1], [1.02, 1.02], color=CLASS_COLOURS[c], lw=4, transform=ax.transAxes, clip_on=False,
                        solid_capstyle="butt")  # fmt: skip
            if c % 5 == 0:
                ax.set_ylabel(("W1 W2[:, c]", "mean gradient")[i], fontsize=9)
    if gradients:
        cosines = [cosine(a, b) for a, b in zip(maps, gradients, strict=True)]
        scale = max(float(np.abs(g).max()) for g in gradients)
        caption += (
            f". Under it the gradient of the class's logit with respect to the pixels, averaged over up to {largest:,} "
            "test images of the class: what the network really responds to. The two agree by a cosine of "
            f"{min(cosines):.2f} to {max(cosines):.2f}; at the most a logit changes by {scale:.2g} as one "
            "channel of a pixel goes from 0 to 1"
        )
    return figure, caption + (
        ("" if gradients else "; the mean gradient beside it needs test images")
        + ". Grey is 0, brighter in a colour speaks for the class, darker against it; each picture has its own scale."
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def confusion(s: Subject):
    matrix = np.array(test.measure(s.log_y, s.labels).confusion)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = grid(1, 1, 5.4)
    ax = axes[0, 0]
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        shade = "white" if share[i, j] > 0.5 else "black"
        ax.text(j, i, matrix[i, j], ha="center", va="center", fontsize=9, color=shade)
    name_classes(ax.xaxis, s.names)
    name_classes(ax.yaxis, s.names)
    ax.set(xlabel="prediction", ylabel="label")
    ax.spines[:].set_visible(False)
    return figure, (
        f"How many of the {matrix.sum():,} test images of each class (rows) were taken for which class (columns); the "
        "diagonal is right. The darker, the larger the share of the row."
    )


def examples(s: Subject, side: int = 5):
    log_y = s.log_y
    prediction, confidence = log_y.argmax(axis=1), np.exp(log_y.max(axis=1))
    wrong = prediction != s.labels
    order = np.lexsort((-confidence, ~wrong))[: side * side]
    figure, axes = grid(side, side, 1.42 * side)
    for ax in axes.flat:
        bare(ax)
    for ax, i in zip(axes.flat, order, strict=False):
        ax.imshow(as_image(s.images[i]))
        mark = "" if wrong[i] else "\N{CHECK MARK} "
        bare(ax, f"{mark}{s.names[s.labels[i]]}\n{s.names[prediction[i]]} {confidence[i]:.0%}", 9)
        ax.spines[:].set(visible=True, color=CLASS_COLOURS[prediction[i]], lw=3)
    right = "" if wrong[order].all() else "; after the mistakes come the surest of the right ones, with a check mark"
    return figure, (
        "Test images with their label (above) and the prediction with its probability (below), whose class's colour "
        f"is in the frame. The most confident of the {wrong.sum():,} mistakes come first{right}."
    )


def reliability(s: Subject):
    log_y = s.log_y
    count, confidence, accuracy = test.calibration(log_y, s.labels).T
    error = test.measure(log_y, s.labels).calibration_error
    figure, axes = grid(2, 1, 6.2, sharex=True, height_ratios=[3, 1])
    middle = (np.arange(test.BINS) + 0.5) / test.BINS
    filled = count > 0
    bars = {"width": 1 / test.BINS, "edgecolor": "white"}
    axes[0, 0].bar(middle[filled], accuracy[filled], color=BLUE, label="accuracy", **bars)
    axes[0, 0].plot(confidence[filled], accuracy[filled], "o", color="black", ms=4, label="at its mean confidence")
    axes[0, 0].plot([0, 1], [0, 1], color=ORANGE, ls="--", label="perfect calibration")
    axes[0, 0].set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].legend(frameon=False, title=f"calibration error {error:.1%}", loc="upper left")
    axes[1, 0].bar(middle, count, color=GREY, **bars)
    axes[1, 0].set(xlabel="confidence: the probability of the predicted class", ylabel="images")
    return figure, (
        f"Whether probabilities can be believed: the test images in {test.BINS} bins by confidence, and the share of "
        "each bin that is right. Bars below the dashed line are overconfident, above it too modest. The expected "
        "calibration error is the mean gap between confidence and accuracy, over the images."
    )


def augmentation(s: Subject):
    settings = s.info.get("settings")
    if not isinstance(settings, dict):
        raise LeftOut("the file doesn't say how the training images were augmented")
    mirrored = bool(settings.get("mirror", False))
    flip, shift = bool(settings.get("flip", False)) and not mirrored, settings.get("shift", 0)
    if not isinstance(shift, int) or not 0 <= shift <= 16 or not (flip or shift):
        twins = " (its mirrored twins see both sides of each image)" if mirrored else ""
        raise LeftOut(f"training images were not augmented{twins}")
    if s.data is None:
        raise LeftOut(s.no_data)
    rng, images = np.random.default_rng(0), s.data.train_images
    first = [np.flatnonzero(s.data.train_labels == c)[:1] for c in range(CLASS_COUNT)]
    rows = np.concatenate(first)[:4]
    figure, axes = grid(len(rows), 6, 1.12 * len(rows))
    for line, row in zip(axes, rows, strict=True):
        line[0].imshow(as_image(images[row]))
        bare(line[0], s.names[s.data.train_labels[row]], 10)
        for ax in line[1:]:
            ax.imshow(as_image(augment(images[row : row + 1].copy(), flip, shift, rng)[0]))
            bare(ax)
    ways = ["mirrored with probability 1/2"] * flip
    ways += [f"moved by up to {shift} pixels in each direction, the border mirrored into the gap"] * bool(shift)
    return figure, (
        f"Training images (left), and five draws of what an epoch may show in place of each: {' and '.join(ways)}."
    )


FIGURES = {
    "curves": curves,
    "filters": filters,
    "output-weights": output_weights,
    "top-neurons": top_neurons,
    "weights": weights,
    "batchnorm": batchnorm,
    "features": features,
    "confusion": confusion,
    "examples": examples,
    "reliability": reliability,
    "augmentation": augmentation,
}
NEED_DATA = ("features", "confusion", "examples", "reliability", "augmentation")


# ---- Figures of a search --------------------------------------------------------------------------------------------


@dataclass
class Search:
    """The rows of search.py's CSV: settings, those with more than one value; trials, dicts of text."""

    settings: list[str]
    trials: list[dict[str, str]]

    def scored(self) -> list[dict[str, str]]:
        """The trials with a validation accuracy."""
        return [trial for trial in self.trials if number(trial["val_accuracy"]) is not None]


def number(text: str) -> float | None:
    """The finite number in a field of the CSV, None if there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_search(path: Path) -> Search:
    """search.py's results. FigureError if the file is something else."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            trials = [{name: value for name, value in row.items() if name} for row in reader]
            columns = reader.fieldnames or []
    except FileNotFoundError:
        raise FigureError(f"{path}: no such file; 'python search.py' writes one") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FigureError(f"{path}: not a CSV file ({error})") from None
    for name in ("trial", "repeat", "status", "val_accuracy", "seconds"):
        if name not in columns:
            raise FigureError(f"{path}: has no column '{name}'; name the results.csv of search.py")
    if any("$" in str(text) for trial in trials for name, text in trial.items() if name != "reason"):
        raise FigureError(f"{path}: has a '$' in it, which search.py never writes; name the results.csv of search.py")
    between = columns[columns.index("trial") + 1 : columns.index("repeat")]
    settings = [name for name in between if len({trial[name] for trial in trials}) > 1]
    search = Search(settings, trials)
    if not search.scored():
        raise FigureError(f"{path}: no trial in it has a validation accuracy yet; draw it when one has ended")
    return search


def ordered(values) -> list[str]:
    """Different values of a setting, numbers by size."""
    return sorted(set(values), key=lambda text: (number(text) is None, number(text) or 0, text))


def search_grid(s: Search):
    if not s.settings:
        raise LeftOut("no setting has more than one value")
    means = {}
    for trial in s.scored():
        means.setdefault(tuple(trial[name] for name in s.settings), []).append(100 * number(trial["val_accuracy"]))
    means = {key: float(np.mean(each)) for key, each in means.items()}
    pairs = list(itertools.combinations(range(len(s.settings)), 2)) or [(0, 0)]
    columns = 1 if len(pairs) <= 3 else 2
    figure, axes = grid(-(-len(pairs) // columns), columns, 3.4 * -(-len(pairs) // columns))
    low, high = min(means.values()), max(means.values())
    high = high if high > low else low + 1
    for ax in list(axes.flat)[len(pairs) :]:
        bare(ax)
    for ax, (i, j) in zip(axes.flat, pairs, strict=False):
        across, up = ordered(key[i] for key in means), ordered(key[j] for key in means)
        best = {}
        for key, mean in means.items():
            best[key[i], key[j]] = max(mean, best.get((key[i], key[j]), -1))
        ax.set(xlabel=s.settings[i], ylabel=s.settings[j] if i != j else "validation accuracy (%)")
        many = max(len(across), len(up)) > 8
        if i == j or many:
            x, y = [place(key[0], across) for key in best], [place(key[1], up) for key in best]
            y = list(best.values()) if i == j else y
            dots = ax.scatter(x, y, c=list(best.values()), vmin=low, vmax=high, cmap="viridis", s=50, edgecolor="black",
                              lw=0.5)  # fmt: skip
            for axis, places, values in ((ax.xaxis, x, across), (ax.yaxis, y, up)):
                if all(number(value) is not None for value in values) and (axis is ax.xaxis or i != j):
                    if min(places) > 0 and max(places) > 20 * min(places):
                        (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)("log")
                elif axis is ax.xaxis or i != j:
                    axis.set_ticks(range(len(values)), values)
            image = dots
        else:
            table = np.array([[best.get((a, b), np.nan) for a in across] for b in up])
            image = ax.imshow(table, vmin=low, vmax=high, cmap="viridis", aspect="auto", origin="lower")
            ax.set_xticks(range(len(across)), across)
            ax.set_yticks(range(len(up)), up)
            for (row, column), value in np.ndenumerate(table):
                shade = "white" if value < (low + high) / 2 else "black"
                text = "none" if np.isnan(value) else f"{value:.2f}"
                ax.text(column, row, text, ha="center", va="center", color="black" if text == "none" else shade)
    figure.colorbar(image, ax=axes, label="validation accuracy (%)", shrink=0.8 if len(pairs) == 1 else 0.4)
    return figure, (
        "Validation accuracy in per cent over each pair of the settings searched: the mean over repeats, and of all "
        "trials with these two values the best over the other settings. Test images play no part in it."
    )


def place(text: str, values: list[str]) -> float:
    """Where a setting's value stands on an axis: numbers at themselves, words in their order."""
    return number(text) if all(number(value) is not None for value in values) else values.index(text)


def search_cost(s: Search):
    figure, axes = grid(1, 1, 4.2)
    ax, scored = axes[0, 0], s.scored()
    timed = [trial for trial in scored if number(trial["seconds"]) is not None]
    if not timed:
        raise LeftOut("no trial says how long it took")
    first = s.settings[0] if s.settings else "status"
    values = ordered(trial[first] for trial in timed)
    if len(values) > 8:
        first, values = "status", ordered(trial["status"] for trial in timed)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(values)))
    for value, colour, marker in zip(values, colours, itertools.cycle("os^Dv<>P"), strict=False):
        some = [trial for trial in timed if trial[first] == value]
        ax.plot([number(t["seconds"]) for t in some], [100 * number(t["val_accuracy"]) for t in some], marker, ls="",
                color=colour, mec="black", mew=0.5, ms=7, label=value)  # fmt: skip
    lost = [number(t["seconds"]) for t in s.trials if number(t["val_accuracy"]) is None]
    drawn = [seconds for seconds in lost if seconds is not None]
    if drawn:
        bottom = 100 * min(number(t["val_accuracy"]) for t in scored) - 1
        ax.plot(drawn, [bottom] * len(drawn), "x", color=ORANGE, mew=2, label="failed")
    seconds = [number(t["seconds"]) for t in timed]
    if min(seconds) > 0 and max(seconds) > 20 * min(seconds):
        ax.set_xscale("log")
    else:
        ax.set_xlim(left=0)
    ax.set(xlabel="training time of the trial (s)", ylabel="validation accuracy (%)")
    ax.legend(title=first, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    failed = f" {len(lost)} of {len(s.trials)} trials have no accuracy: crosses, at no height." * bool(lost)
    return figure, (
        f"Each trial's validation accuracy in per cent against its training time in seconds: what a better result "
        f"costs.{failed}"
    )


SEARCH_FIGURES = {"search-grid": search_grid, "search-cost": search_cost}


# ---- Files ----------------------------------------------------------------------------------------------------------


def rendered(figure, caption: str, kind: str, dpi: int) -> tuple[bytes, bytes]:
    """The figure with its caption as a file's content, and without it as a PNG."""
    from PIL import Image

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the axes stand; to arrange them again would take most of a drawing's time
    bottom = figure.get_tightbbox().y0
    text = "\n".join(textwrap.wrap(caption, 84, break_on_hyphens=False))
    figure.text(0.02, (bottom - 0.12) / figure.get_figheight(), text, va="top", fontsize=9, linespacing=1.35)
    box = figure.get_tightbbox().padded(0.1)

    def content(kind):
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=dpi, bbox_inches=box)
        return file.getvalue()

    png, bare = content("png"), io.BytesIO()
    image = Image.open(io.BytesIO(png))
    image.crop((0, 0, image.width, round((box.y1 - bottom + 0.06) * dpi))).save(bare, "png")
    return png if kind == "png" else content(kind), bare.getvalue()


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; padding: 0 8px 3em;
  max-width: 1240px }}
h1 {{ font-size: 1.5em; overflow-wrap: anywhere }} h2 {{ font-size: 1.2em; margin-top: 2em }}
main, .pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 2em }}
figure {{ margin: 0 }} img {{ width: 100%; max-width: 620px; height: auto }} figcaption {{ max-width: 620px }}
h3 {{ font-size: 1em; margin: 0 0 .4em }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: .2em .6em .2em 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
  overflow-wrap: anywhere }}
.numbers td, .numbers th {{ white-space: nowrap }} .numbers td + td, .numbers th + th {{ text-align: right }}
@media (max-width: 480px) {{ .numbers {{ font-size: .85em }} }}
i {{ display: inline-block; width: .8em; height: .8em; margin-right: .5em }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def table(rows: list[list[str]], numbers: bool = False, colours: tuple[str, ...] = ()) -> str:
    """An HTML table, its first row the head; colours: a square before the first cell of each other row."""
    lines = []
    for i, row in enumerate(rows):
        tag = "th" if i == 0 else "td"
        cells = [html.escape(str(cell)) for cell in row]
        if colours and i:
            cells[0] = f'<i style="background:{colours[i - 1]}"></i>{cells[0]}'
        lines.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>")
    return f'<div class="wide"><table{" class=numbers" * numbers}>\n' + "\n".join(lines) + "\n</table></div>"


def page(title: str, head: str, drawn: dict[str, tuple[bytes, str]], left_out: dict[str, str], tail: str) -> bytes:
    """report.html: figures as PNG bytes with captions between `head` and `tail`, which are HTML."""
    parts = [head, "<h2>Figures</h2>\n<main>"]
    for name, (png, caption) in drawn.items():
        data, text = base64.b64encode(png).decode(), html.escape(caption)
        parts.append(f'<figure><h3>{name}</h3><img alt="{text}" src="data:image/png;base64,{data}">'
                     f"<figcaption>{text}</figcaption></figure>")  # fmt: skip
    parts.append("</main>")
    if left_out:
        parts.append("<h2>Left out</h2>\n" + table([["figure", "why"], *map(list, left_out.items())]))
    return PAGE.format(title=html.escape(title), body="\n".join([*parts, tail])).encode()


def checkpoint_head(s: Subject) -> str:
    """The figures of merit as HTML."""
    if s.data is None:
        return f"<p>Not tested: {html.escape(s.no_data)}.</p>"
    m = test.measure(s.log_y, s.labels)
    rows = [
        ["on the test split", f"{s.data.name}, {len(s.labels):,} images"],
        ["accuracy", f"{m.accuracy:.2%}"],
        ["95 % interval (Wilson)", f"{m.interval[0]:.2%} to {m.interval[1]:.2%}"],
        ["top-2 accuracy", f"{m.top2:.2%}"],
        ["cross-entropy, nats", f"{m.loss:.4f}"],
        [f"calibration error, {test.BINS} bins", f"{m.calibration_error:.2%}"],
    ]
    classes = [["class", "precision", "recall", "F1", "images"]]
    for name, *shares, support in zip(s.names, m.precision, m.recall, m.f1, m.support, strict=True):
        classes.append([name, *(f"{share:.1%}" for share in shares), f"{support:,}"])
    return (f'<div class="pair"><section><h2>Test</h2>\n{table(rows, True)}</section>\n'
            f"<section><h2>Classes</h2>\n{table(classes, True, CLASS_COLOURS)}</section></div>")  # fmt: skip


def checkpoint_tail(s: Subject) -> str:
    """The configuration as HTML."""
    settings, trained = s.info.get("settings"), test.trained_on(s.info)
    rows = [["", ""], ["checkpoint", s.path], ["network", test.describe(s.network)]]
    rows += [[key, s.info[key]] for key in ("recipe", "best_epoch") if key in s.info]
    rows += [[f"data {key}", trained[key]] for key in ("name", "fingerprint") if key in trained]
    rows += [[key, value] for key, value in settings.items()] if isinstance(settings, dict) else []
    return f"<h2>Configuration</h2>\n{table([['name', 'value'], *rows[1:]])}"


def search_tail(s: Search) -> str:
    """The best trials as HTML."""
    best = sorted(s.scored(), key=lambda trial: -number(trial["val_accuracy"]))[:20]
    rows = [["trial", *s.settings, "validation accuracy", "seconds"]]
    for trial in best:
        seconds = number(trial["seconds"])
        rows.append([trial["trial"], *(trial[name] for name in s.settings), f"{number(trial['val_accuracy']):.2%}",
                     "" if seconds is None else f"{seconds:.0f}"])  # fmt: skip
    return f"<h2>The best trials</h2>\n{table(rows, True)}"


# ---- The command line -----------------------------------------------------------------------------------------------


def make_parser() -> cifar10.ArgumentParser:
    names = ", ".join(FIGURES)
    description = __doc__.format(names="\n".join(textwrap.wrap(names, 100, subsequent_indent="  ")))
    parser = cifar10.ArgumentParser(prog="visualize.py", description=description)
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="CHECKPOINT.npz|RESULTS.csv",
        help="what to draw (default: the newest checkpoint in checkpoints/)",
    )
    parser.add_argument("--model-path", type=Path, metavar="FILE", help="another way to name the checkpoint")
    parser.add_argument(
        "--out",
        "--output-dir",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: figures/NAME beside the scripts)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[*FIGURES, *SEARCH_FIGURES],
        help="these figures, and no report.html",
    )
    parser.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of the figures' files")
    parser.add_argument("--dpi", type=int, default=200, metavar="N", help="pixels to the inch; figures are 5.6 in wide")
    parser.add_argument("--show", action="store_true", help="show the figures in windows, too")
    parser.add_argument(
        "--threads", type=int, default=model.default_threads(), metavar="N", help="threads that compute"
    )
    cifar10.add_arguments(parser)
    return parser


def draw(subject, figures: dict, only: list[str] | None, out: Path, kind: str, dpi: int, show: bool):
    """Write the figures; returns {name: (PNG without caption, caption)} and {name: why it is left out}."""
    drawn, left_out = {}, {}
    plt.rcParams.update(STYLE)
    with tqdm(figures.items(), unit=" figures", delay=2, leave=False, disable=None) as bar:
        for name, function in bar:
            if only and name not in only:
                continue
            try:
                figure, caption = function(subject)
            except LeftOut as why:
                if only:
                    raise FigureError(f"--only {name}: can't be drawn, as {why}") from None
                left_out[name] = str(why)
                continue
            content, png = rendered(figure, caption, kind, dpi)
            drawn[name] = png, caption
            with model.write_whole(out / f"{name}.{kind}") as file:
                file.write(content)
            if not show:
                plt.close(figure)
    return drawn, left_out


def asks_for_data(args: argparse.Namespace) -> bool:
    """Whether a flag says which images to take."""
    typed = args.data_dir, args.dataset, args.data_url, args.data_md5
    return typed != (None, "auto", cifar10.URL, cifar10.MD5)


def load_subject(path: Path, args: argparse.Namespace) -> Subject:
    """The checkpoint with the images that its figures need. Where none were asked for and none can be had, it goes
    without them."""
    network, info = model.load(path, threads=args.threads)
    asked = asks_for_data(args)
    if args.only and not any(name in NEED_DATA for name in args.only):
        if asked:
            raise FigureError(f"--only {' '.join(args.only)}: needs no images; leave --data-dir and the like out")
        return Subject(path, network, info, None, "no images were asked for")
    try:
        data = test.load_data(args, info)
    except cifar10.DataError as error:
        if asked:
            raise
        return Subject(path, network, info, None, f"there are no images ({error})")
    test.warn_of_other_data(path, info, data)
    return Subject(path, network, info, data)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.file and args.model_path:
        parser.error(f"{args.file} and --model-path {args.model_path}: name one file")
    if args.threads < 1:
        parser.error("--threads must be at least 1")
    if not 20 <= args.dpi <= 1200:
        parser.error(f"--dpi {args.dpi}: must be 20 to 1200")
    if args.show and plt.get_backend().lower() == "agg":
        parser.error("--show: there is no window system here; leave it out, and open report.html")
    if not args.show:
        matplotlib.use("Agg")
    path = args.file or args.model_path or test.default_checkpoint()
    out = args.out or HERE / "figures" / path.stem
    is_search = path.suffix.lower() == ".csv"
    figures = SEARCH_FIGURES if is_search else FIGURES
    for name in args.only or []:
        if name not in figures:
            parser.error(f"--only {name}: is no figure of {path}; there are {', '.join(figures)}")
    if is_search:
        if asks_for_data(args):
            parser.error("--data-dir and the like do nothing with a search's results: leave them out")
        subject = read_search(path)
    else:
        subject = load_subject(path, args)
    drawn, left_out = draw(subject, figures, args.only, out, args.format, args.dpi, args.show)
    count = f"{len(drawn)} figure{'s' * (len(drawn) != 1)}"
    for name, why in left_out.items():
        print(f"left out {name}: {why}")
    if args.only:
        print(f"{count} in {out}")
    else:
        if is_search:
            content = page(path.stem, f"<p>{len(subject.trials)} trials</p>", drawn, left_out, search_tail(subject))
        else:
            content = page(path.stem, checkpoint_head(subject), drawn, left_out, checkpoint_tail(subject))
        with model.write_whole(out / "report.html") as file:
            file.write(content)
        print(f"{count} in {out}; open {out / 'report.html'} to see them all")
    if args.show:
        plt.show()
    return 0


if __name__ == "__main__":
    sys.exit(cifar10.command(main))
