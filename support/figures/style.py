"""Share the style of all figures: settings, colours, fonts, axes, pictures, histograms."""

import contextlib
import functools
import math
import statistics
import sys
import unicodedata
from collections.abc import Iterable, Iterator

from support.cli import clean
from support.image_shape import CHANNELS, SIDE
from support.threads import eigh

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
# One colour per class, in the order of the labels: Paul Tol's muted scheme, made for colour-blind
# readers, and black. Names stand next to the colours everywhere.
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
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # Okabe & Ito's, also for colour-blind readers
SIGNED = "RdBu_r"  # a scale with 0 in the middle
# Quantile of |weight| or |vote| that ends a scale, if a few extremes would make the rest grey.
CLIPPED = 0.99


class LeftOut(Exception):
    """The reason why this file has no such figure."""


# ---- Settings of matplotlib ----------------------------------------------------------------------


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw from matplotlib's defaults and our style alone, not from a user's matplotlibrc.

    Only the user's font comes along, as a figure may hold names in any script. Figures are created
    and saved inside.
    """
    ours = style()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        yield


def style() -> dict:
    """Return the settings of matplotlib that all figures are drawn with."""
    return STYLE | {"font.family": list(fonts(users_families()))}


# ---- Fonts and text ------------------------------------------------------------------------------

# Fonts of other scripts, those that systems come with. matplotlib takes a character from the first
# font that has it. Emoji fonts of coloured bitmaps are missing, as matplotlib can't draw them.
MORE_FONTS = (
    # Chinese, Japanese, Korean
    "Noto Sans CJK SC",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "AR PL UMing CN",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "PingFang HK",
    "Heiti TC",
    "STHeiti",
    "Hiragino Sans",
    "Hiragino Sans GB",
    "IPAGothic",
    "IPAexGothic",
    "TakaoPGothic",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "NanumGothic",
    "UnDotum",
    # Arabic and Hebrew
    "Noto Sans Arabic",
    "Noto Naskh Arabic",
    "Noto Sans Hebrew",
    "Geeza Pro",
    "Segoe UI",
    "Tahoma",
    # India, Thailand
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Thai",
    "Lohit Devanagari",
    "Kohinoor Devanagari",
    "Devanagari MT",
    "Nirmala UI",
    "Mangal",
    "Leelawadee UI",
    "Thonburi",
    # Symbols and emoji with outlines
    "Noto Emoji",
    "Noto Sans Symbols",
    "Noto Sans Symbols 2",
    "Noto Sans Symbols2",
    "Symbola",
    "Segoe UI Emoji",
    "Segoe UI Symbol",
    "Apple Symbols",
    # Many scripts in one font
    "Arial Unicode MS",
    "FreeSans",
    "FreeSerif",
    "Unifont",
)
OWN_FONT = "DejaVu Sans"  # comes with matplotlib


def users_families() -> tuple[str, ...]:
    """Return the names of the fonts that matplotlib is set to, the user's own if there are such."""
    names = []
    for family in matplotlib.rcParams["font.family"]:
        generic = matplotlib.rcParams.get(f"font.{family}")  # such as font.sans-serif
        names += generic if isinstance(generic, list) else [family]
    return tuple(names)


@functools.cache
def fonts(families: tuple[str, ...] = ()) -> dict[str, FT2Font]:
    """Return the installed fonts by name, in the order in which a character is looked up.

    First the `families`, then matplotlib's own font, then MORE_FONTS.
    """
    installed = {each.name: each.fname for each in font_manager.fontManager.ttflist}
    installed[OWN_FONT] = font_manager.findfont(OWN_FONT)
    loaded = {}
    for name in (*families, OWN_FONT, *MORE_FONTS):
        if name in installed and name not in loaded:
            with contextlib.suppress(OSError, RuntimeError):  # a file that was removed or is broken
                loaded[name] = font_manager.get_font(installed[name])
    return loaded


def drawable(text: object, limit: int = 40) -> str:
    """Return the text as matplotlib can draw it.

    It is one line, cut in the middle to `limit` characters, without mathematics, with '?' for
    missing glyphs.
    """
    shown = "".join("?" if is_missing(c) else c for c in _plain(text, limit))
    return shown.replace("$", r"\$")


def _plain(text: object, limit: int) -> str:
    """Return the text in a line, accents joined to letters, without emoji's selectors."""
    joined = unicodedata.normalize("NFC", str(text))
    kept = "".join(c for c in joined if not "\ufe00" <= c <= "\ufe0f")
    return clean(kept, limit)


def percent(p: float, decimals: int = 1) -> str:
    """Return a probability as text: "98.3 %", below a tenth always with one decimal, "<0.1 %"."""
    if p < 0.0005:
        return "<0.1 %"
    return f"{100 * p:.{decimals if p >= 0.1 else 1}f} %"


def is_missing(character: str) -> bool:
    """Return whether no font has the character."""
    known = fonts(users_families()).values()
    return not any(font.get_char_index(ord(character)) for font in known)


def report_missing_glyphs(texts: Iterable[str]) -> None:
    """Print a line on stderr, once, if characters of the texts will be drawn as '?'."""
    missing = {c: None for text in texts for c in _plain(text, 200) if is_missing(c)}
    if missing:
        _report_missing("".join(missing))


@functools.cache
def _report_missing(characters: str) -> None:
    shown = characters[:12] + "…" * (len(characters) > 12)
    print(
        f"figures: no font on this computer has {shown}, drawn as '?'; install one, such as "
        f"{suggested_font(characters[0])}",
        file=sys.stderr,
    )


def suggested_font(character: str) -> str:
    """Return the name of a font that has the character."""
    if unicodedata.category(character) == "So":
        return "Noto Emoji"
    script = unicodedata.name(character, "").split(" ")[0]  # of "DEVANAGARI LETTER KA"
    if script in ("", "CJK", "HANGUL", "HIRAGANA", "KATAKANA"):
        return "Noto Sans CJK"
    return f"Noto Sans {script.title()}"


# ---- Figures and axes ----------------------------------------------------------------------------


def grid(rows: int, columns: int, height: float, **options) -> tuple[Figure, np.ndarray]:
    """Return a figure with rows x columns axes; the axes are an array of that shape."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)


def bare(ax, title: str = "") -> None:
    """Remove the ticks and the frame of an axes."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, pad=2, linespacing=1.05)


def class_colours(count: int) -> list[str]:
    """Return a colour for each class; of more than ten, neighbours look alike."""
    if count <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS[:count])
    scale = plt.get_cmap("turbo")(np.linspace(0.03, 0.97, count))
    return [matplotlib.colors.to_hex(colour) for colour in scale]


def name_classes(axis, names: list[str], colours: list[str], positions=None) -> None:
    """Write class names along an axis, each with a square of its colour."""
    ax = axis.axes
    if positions is None:
        positions = np.arange(len(names))
    zeros = np.zeros(len(names))
    if axis.axis_name == "x":
        slope = 45 if len(names) <= 10 else 90  # upright if they are closer than a line's height
        options = {"rotation": slope, "va": "center_baseline"}
        along, shift = ax.get_xaxis_transform(), (0, -5)  # points
        squares = positions, zeros
    else:
        options = {"rotation": 0, "va": "center"}
        along, shift = ax.get_yaxis_transform(), (-5, 0)
        squares = zeros, positions
    axis.set_ticks(positions, names, ha="right", rotation_mode="anchor", **options)
    axis.set_tick_params(length=0, pad=9)
    inches = [points / 72 for points in shift]
    outside = along + ScaledTranslation(*inches, ax.figure.dpi_scale_trans)
    look = {"color": colours, "marker": "s", "s": 16, "zorder": 3}
    ax.scatter(*squares, **look, clip_on=False, transform=outside)


def lines_right_of(ax, lines: list[str]) -> None:
    """Write lines of text to the right of an axes."""
    text = "\n".join(lines)
    ax.annotate(text, (1.03, 1), xycoords="axes fraction", va="top", linespacing=1.3)


# ---- Pictures ------------------------------------------------------------------------------------


def picture(weights: np.ndarray, quantile: float = 1.0) -> np.ndarray:
    """Return signed weights of a patch's pixels (3 n^2,) as an RGB picture (n, n, 3).

    A weight of 0 is mid-grey. The scale ends at this quantile of |weight|, by default the largest:
    there a channel is 0 or 1, and beyond it too.
    """
    n = math.isqrt(len(weights) // CHANNELS)
    square = weights.astype(np.float64).reshape(CHANNELS, n, n).transpose(1, 2, 0)
    sizes = np.abs(square)
    end = float(np.quantile(sizes, quantile)) or float(sizes.max())
    if not 0 < end < math.inf:
        return np.full(square.shape, 0.5)
    return np.clip(0.5 + 0.5 * square / end, 0, 1)


def as_image(row: np.ndarray) -> np.ndarray:
    """Return an image (3072,) uint8 as (32, 32, 3)."""
    return row.reshape(CHANNELS, SIDE, SIDE).transpose(1, 2, 0)


# ---- Distributions -------------------------------------------------------------------------------


def thinned(array: np.ndarray, limit: int = 2_000_000) -> np.ndarray:
    """Return the entries (n,) float64; of more than `limit`, every k-th."""
    flat = array.ravel()
    step = (
        max(1, -(-flat.size // limit)) | 1
    )  # odd, so that it doesn't meet the same column of a matrix only
    return flat[::step].astype(np.float64)


def normality(values: np.ndarray) -> dict[str, float]:
    """Return how values are spread, and how far from normal they are.

    Skewness and excess kurtosis are 0 for a normal distribution. "KS distance" is the
    Kolmogorov-Smirnov distance from the normal distribution with their mean and standard deviation
    (0..1; 0.06 for a uniform and for a Laplace distribution). Equal values count as normal.
    """
    values = np.sort(values.astype(np.float64))
    mean, std = float(values.mean()), float(values.std())
    shape = {"mean": mean, "median": float(np.median(values)), "std": std}
    if not std > 1e-12 * np.abs(values).max():  # all are equal, but for rounding
        return shape | {"skewness": 0.0, "excess kurtosis": 0.0, "KS distance": 0.0}
    z, points = (values - mean) / std, np.linspace(-5, 5, 2001)
    normal = statistics.NormalDist()
    fitted = np.array([normal.cdf(x) for x in points])
    share_below = np.searchsorted(z, points, side="right") / len(z)
    return shape | {
        "skewness": float((z**3).mean()),
        "excess kurtosis": float((z**4).mean() - 3),
        "KS distance": float(np.abs(share_below - fitted).max()),
    }


def histogram(ax, values: np.ndarray, what: str, bins: int = 60, curve: bool = False) -> dict:
    """Draw the distribution of `what`, up to 5 standard deviations from the mean, as shares in %.

    The mean is an orange line, the median a dotted one; with `curve` the normal distribution with
    the same mean and deviation is drawn also. Draws whatever finite numbers there are: all equal,
    all huge, all zero. Returns what `normality` does.
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
        z = (x - mean) / std
        density = np.exp(-(z**2) / 2) / (std * math.sqrt(2 * math.pi))
        ax.plot(x, 100 * (high - low) / bins * density, "k", lw=1, label="normal")
    ax.axvline(mean, color=ORANGE, label="mean")
    ax.axvline(shape["median"], color="black", ls=":", label="median")
    ax.set(ylabel=f"{what} (%)")
    ax.locator_params(axis="x", nbins=5)
    ax.ticklabel_format(axis="x", scilimits=(-3, 4))
    return shape


def name_lines(figure) -> None:
    """Write a legend of the lines in the figure's axes on top of it, each line once."""
    lines = {}
    for ax in figure.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            lines.setdefault(name, handle)
    options = {"ncols": len(lines), "columnspacing": 1, "handlelength": 1.6}
    figure.legend(list(lines.values()), list(lines), loc="outside upper center", **options)


def spread(shape: dict[str, float], *names: str) -> list[str]:
    """Return lines such as 'mean 0.012' of what `normality` found, for `lines_right_of`."""
    short = {"excess kurtosis": "ex. kurt.", "KS distance": "KS"}
    return [f"{short.get(name, name)} {shape[name]:.2g}" for name in names]


def principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of rows (N, d).

    They are values (N, 2) and shares of the variance (2,).
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    # (N, N) rather than (d, d): there are fewer rows than columns, or few enough.
    values, vectors = eigh(centred @ centred.T)
    values, vectors = np.maximum(values[:-3:-1], 0), vectors[:, :-3:-1]
    total = max(float(np.einsum("ij,ij->", centred, centred)), 1e-300)
    # A sign that doesn't depend on the library.
    vectors = vectors * np.where(vectors.sum(axis=0) < 0, -1, 1)
    return vectors * np.sqrt(values), values / total
