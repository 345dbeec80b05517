"""What figures share: style, colours, text that can be drawn, axes of class names, pictures of weights, histograms."""

import functools
import math
import statistics

from support.cli import clean

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.transforms import ScaledTranslation

Figured = tuple[Figure, str]  # a figure and its caption

WIDTH = 3.4  # inches of every figure: a column of a paper, and about a phone's screen
STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.interpolation": "nearest",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.hashsalt": "visualize",  # the same figure gives the same file
}
# A colour a class, in the order of the labels: Paul Tol's muted scheme, made for colour-blind readers, and black.
# Names stand beside the colours everywhere.
CLASS_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#222222",
)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # of Okabe & Ito's, likewise
SIGNED = "RdBu_r"  # of a scale with 0 in the middle
# Fonts with the characters that matplotlib's own lacks, on one system or another.
MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
)


class LeftOut(Exception):
    """Why a figure can't be drawn of this file."""


# ---- Text -----------------------------------------------------------------------------------------------------------


@functools.cache
def fonts() -> dict[str, FT2Font]:
    """matplotlib's own font, and those of MORE_FONTS that are installed, by their names."""
    installed = {each.name: each.fname for each in font_manager.fontManager.ttflist}
    own = {"DejaVu Sans": font_manager.findfont("DejaVu Sans")}
    found = own | {name: installed[name] for name in MORE_FONTS if name in installed}
    return {name: font_manager.get_font(path) for name, path in found.items()}


def drawable(text: object, limit: int = 40) -> str:
    """The text as matplotlib can draw it: one line, without mathematics, '?' for what no font has, and cut in the
    middle to `limit` characters."""
    known = (
        c if any(font.get_char_index(ord(c)) for font in fonts().values()) else "?"
        for c in clean(text, limit)
    )
    return "".join(known).replace("$", r"\$")


def style() -> dict:
    """The settings of matplotlib that all figures are drawn with."""
    return STYLE | {"font.family": list(fonts())}


# ---- Figures and axes -----------------------------------------------------------------------------------------------


def grid(rows: int, columns: int, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure with rows x columns axes; the axes as an array of that shape."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)


def bare(ax, title: str = "") -> None:
    """Leave an axes without ticks and frame."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, pad=2, linespacing=1.05)


def class_colours(count: int) -> list[str]:
    """A colour for each of `count` classes. Of more than ten, neighbours look alike: they serve beside names."""
    if count <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS[:count])
    return [
        matplotlib.colors.to_hex(colour)
        for colour in plt.get_cmap("turbo")(np.linspace(0.03, 0.97, count))
    ]


def name_classes(axis, names: list[str], colours: list[str], places=None) -> None:
    """Class names along an axis, each with a square of its colour."""
    horizontal = axis.axis_name == "x"
    places = np.arange(len(names)) if places is None else places
    slope = 45 if len(names) <= 10 else 90  # upright where they stand closer than a line's height
    options = (
        {"rotation": slope, "va": "center_baseline"}
        if horizontal
        else {"rotation": 0, "va": "center"}
    )
    axis.set_ticks(places, names, ha="right", rotation_mode="anchor", **options)
    axis.set_tick_params(length=0, pad=9)
    ax, shift = axis.axes, (0, -5) if horizontal else (-5, 0)  # points
    along = ax.get_xaxis_transform() if horizontal else ax.get_yaxis_transform()
    beside = along + ScaledTranslation(
        *(points / 72 for points in shift), ax.figure.dpi_scale_trans
    )
    squares = (places, np.zeros(len(names))) if horizontal else (np.zeros(len(names)), places)
    ax.scatter(*squares, color=colours, marker="s", s=16, clip_on=False, transform=beside, zorder=3)


def beside(ax, lines: list[str]) -> None:
    """Lines of text to the right of an axes."""
    ax.annotate("\n".join(lines), (1.03, 1), xycoords="axes fraction", va="top", linespacing=1.3)


# ---- Pictures -------------------------------------------------------------------------------------------------------


def picture(weights: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Signed weights of the pixels of a window (3 n^2,) as an RGB picture (n, n, 3): 0 is mid-grey, a weight of
    `largest`, by default the largest |weight|, 0 or 1 in its channel."""
    n = math.isqrt(len(weights) // 3)
    square = weights.astype(np.float64).reshape(3, n, n).transpose(1, 2, 0)
    largest = float(np.abs(square).max()) if largest is None else largest
    return 0.5 + 0.5 * square / largest if 0 < largest < math.inf else np.full(square.shape, 0.5)


def as_image(row: np.ndarray) -> np.ndarray:
    """(3072,) uint8 -> (32, 32, 3)."""
    return row.reshape(3, 32, 32).transpose(1, 2, 0)


# ---- Distributions --------------------------------------------------------------------------------------------------


def thinned(array: np.ndarray, limit: int = 2_000_000) -> np.ndarray:
    """The entries (n,) float64; of more than `limit`, every k-th."""
    flat = array.ravel()
    return flat[:: max(1, -(-flat.size // limit)) | 1].astype(np.float64)


def normality(values: np.ndarray) -> dict[str, float]:
    """How values are spread, and how far from normal: skewness and excess kurtosis, both 0 of a normal distribution,
    and the Kolmogorov-Smirnov distance from the normal with their mean and standard deviation (0..1;
    0.06 of a uniform and of a Laplace distribution). Equal values count as normal."""
    values = np.sort(values.astype(np.float64))
    mean, std = float(values.mean()), float(values.std())
    shape = {"mean": mean, "median": float(np.median(values)), "std": std}
    if not std > 1e-12 * np.abs(values).max():  # all are equal, but for rounding
        return shape | {"skewness": 0.0, "excess kurtosis": 0.0, "KS distance": 0.0}
    z, points = (values - mean) / std, np.linspace(-5, 5, 2001)
    normal = statistics.NormalDist()
    fitted = np.array([normal.cdf(x) for x in points])
    return shape | {
        "skewness": float((z**3).mean()),
        "excess kurtosis": float((z**4).mean() - 3),
        "KS distance": float(
            np.abs(np.searchsorted(z, points, side="right") / len(z) - fitted).max()
        ),
    }


def histogram(
    ax,
    values: np.ndarray,
    what: str,
    bins: int = 60,
    start: float | None = None,
    curve: bool = False,
):
    """The distribution of `what`, up to 5 standard deviations from the mean, as shares in %: mean in orange, median
    dotted, or, if given, where training started; with `curve` the normal distribution of the same mean and deviation.

    Draws whatever finite numbers there are: all equal, all huge, all zero.
    """
    shape = normality(values)
    mean, std = shape["mean"], shape["std"]
    low, high = max(float(values.min()), mean - 5 * std), min(float(values.max()), mean + 5 * std)
    least = max(1e-3 * max(abs(low), abs(high)), 1e-9)
    if high - low < least:
        low, high = low - least, high + least
    shares = np.full(len(values), 100 / len(values))
    ax.hist(values, bins=bins, range=(low, high), weights=shares, color=BLUE, alpha=0.6)
    if curve and std > 0.01 * (high - low):
        x = np.linspace(low, high, 400)
        width = (high - low) / bins
        ax.plot(
            x,
            100 * width * np.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi)),
            "k",
            lw=1,
        )
    ax.axvline(mean, color=ORANGE)
    ax.axvline(shape["median"] if start is None else start, color="black", ls=":")
    ax.set(ylabel=f"{what} (%)")
    ax.locator_params(axis="x", nbins=5)
    ax.ticklabel_format(axis="x", scilimits=(-3, 4))
    return shape


def spread(shape: dict[str, float], *names: str) -> list[str]:
    """Lines such as 'mean 0.012', of what `normality` found, for `beside`."""
    short = {"excess kurtosis": "ex. kurt.", "KS distance": "KS"}
    return [f"{short.get(name, name)} {shape[name]:.2g}" for name in names]


def principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of rows (N, d): their values (N, 2), and the shares of the variance."""
    from support.threads import eigh

    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    values, vectors = eigh(
        centred @ centred.T
    )  # (N, N): the rows are fewer than what they hold, or few enough
    values, vectors = np.maximum(values[:-3:-1], 0), vectors[:, :-3:-1]
    total = max(float(np.einsum("ij,ij->", centred, centred)), 1e-300)
    vectors = vectors * np.where(
        vectors.sum(axis=0) < 0, -1, 1
    )  # a sign that doesn't depend on the library
    return vectors * np.sqrt(values), values / total
