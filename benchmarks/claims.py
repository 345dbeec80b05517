"""Measure every number of "The report's claims" in docs/figures.md on a checkpoint of train.py's default kind.

    python benchmarks/claims.py checkpoints/cifar10-report-seed0.npz

Reads the test split, as test.py does; nothing is chosen by it. It goes through the claims that the report reads from
its figures, in that page's order, and prints a line for each number. Every function below says how its own is
measured. A unit is "quiet" if its row of W2 has a norm below 0.03, else it is "in use".
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import model  # noqa: E402
import train  # noqa: E402
from data import cifar10  # noqa: E402
from support import cli  # noqa: E402
from support.checkpoints import trained_on  # noqa: E402
from support.cli import UserError, clean, shorter  # noqa: E402
from support.figures.style import normality, thinned  # noqa: E402
from support.network import metrics
from support.network.filters import active_share, class_picture, cosine, mean_gradient  # noqa: E402

import numpy as np  # noqa: E402

QUIET = 0.03  # a row of W2 with a smaller norm
LARGEST = 36  # columns of W1
SMOOTH = 4  # cycles an image, in each direction
ORIENTED = 0.4  # coherence, of which white noise has 0.06
TOP = 50  # units of a class that are removed
DRAWS = 5  # of random units that are removed


@dataclass
class Subject:
    """A network and the images that it is measured on."""

    path: Path
    network: model.Network
    info: dict
    data: cifar10.Dataset

    def __post_init__(self):
        self.W1, self.W2 = self.network.weights["W1"], self.network.weights["W2"]
        self.norms = np.linalg.norm(self.W1, axis=0)
        self.images, self.labels = self.data.test_images, self.data.test_labels
        self.names, self.classes = self.data.class_names, self.network.classes


# ---- Filters: from columns of W1, F (3072, n) -----------------------------------------------------------------------


def spectrum(F: np.ndarray) -> np.ndarray:
    """The Fourier transform of each filter's three colours: (n, 3, 32, 32)."""
    return np.fft.fft2(F.T.reshape(-1, 3, 32, 32))


def low(cycles: int) -> np.ndarray:
    """Which frequencies have at most so many cycles an image in each direction: (32, 32)."""
    frequency = np.abs(np.fft.fftfreq(32, 1 / 32)) <= cycles
    return frequency[:, None] & frequency


def smoothness(F: np.ndarray) -> np.ndarray:
    """Which share of each filter's energy lies at low frequencies: (n,)."""
    energy = np.abs(spectrum(F)) ** 2
    return energy[:, :, low(SMOOTH)].sum(axis=(1, 2)) / energy.sum(axis=(1, 2, 3))


def colourfulness(F: np.ndarray) -> np.ndarray:
    """Which share of the energy at low frequencies is colour, i.e. not in the mean of the three channels: (n,)."""
    smooth = spectrum(F)[:, :, low(SMOOTH)]
    brightness = 3 * (np.abs(smooth.mean(axis=1)) ** 2).sum(axis=1)
    return 1 - brightness / (np.abs(smooth) ** 2).sum(axis=(1, 2))


def orientation(F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the energy at up to 6 cycles an image has one orientation, and which: (n,) each.

    The mean of exp(2i angle) over frequencies, weighted by energy: its length, the coherence, is 1 if all waves run
    in one direction; half its angle, in degrees, is 0 for vertical bars and +-90 for horizontal ones.
    """
    frequency = np.fft.fftfreq(32, 1 / 32)
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    chosen = (np.hypot(fx, fy) <= 6) & (np.hypot(fx, fy) > 0)
    energy = (np.abs(spectrum(F)) ** 2).sum(axis=1)[:, chosen]
    mean = (energy * np.exp(2j * np.arctan2(fy, fx)[chosen])).sum(axis=1) / energy.sum(axis=1)
    return np.abs(mean), np.degrees(np.angle(mean)) / 2


def extent(F: np.ndarray) -> np.ndarray:
    """The participation ratio of each filter's energy e over pixels, (sum e)^2 / sum e^2, as a share of the 1,024."""
    energy = (F.T.reshape(-1, 3, 1024) ** 2).sum(axis=1)
    return energy.sum(axis=1) ** 2 / (energy**2).sum(axis=1) / 1024


def bars(F: np.ndarray) -> str:
    """How many filters have a coherence above ORIENTED, and what kind of bars they are."""
    coherence, angle = orientation(F)
    angle = np.abs(angle[coherence > ORIENTED])
    horizontal, vertical = (angle > 67.5).sum(), (angle < 22.5).sum()
    return f"{len(angle)}: {horizontal} horizontal, {vertical} vertical, {len(angle) - horizontal - vertical} oblique"


# ---- Tests: what units are worth ------------------------------------------------------------------------------------


def without(s: Subject, units: np.ndarray) -> metrics.Measures:
    """How good the network is on the test images after the rows of W2 of these units are set to 0."""
    network = s.network.copy()
    network.weights["W2"][units] = 0
    return metrics.measure(metrics.log_probabilities(network, s.images), s.labels)


def start(s: Subject) -> np.ndarray:
    """W1 as it was before training, from the checkpoint's settings and seed."""
    settings = s.info.get("settings")
    try:
        W1 = train.Run(train.Settings(**settings), s.data, threads=1).network.weights["W1"]
        if W1.shape != s.W1.shape:
            raise ValueError
        return W1
    except (TypeError, ValueError, UserError):
        problem = "lacks the settings of its run, which say where training began; train it anew"
        raise UserError(f"{clean(shorter(s.path), 120)}: {problem}") from None


# ---- The claims: each prints its lines ------------------------------------------------------------------------------


def heading(text: str) -> None:
    print(f"\n{text}")


def line(what: str, value) -> None:
    print(f"  {what:<86} {value}", flush=True)


def span(values: np.ndarray, form: str = ".2f") -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def detectors(s: Subject, quiet: np.ndarray) -> None:
    heading("First-layer weights form edge and colour detectors")
    W1 = s.W1
    largest, used = W1[:, np.argsort(-s.norms)[:LARGEST]], W1[:, ~quiet]
    line(
        f"energy at up to {SMOOTH} cycles an image, median of the {LARGEST} largest columns of W1",
        f"{np.median(smoothness(largest)):.0%}",
    )
    line("  the same of random weights", f"{low(SMOOTH).mean():.0%}")
    line(
        f"of the {LARGEST}, have one clear orientation (coherence above {ORIENTED})", bars(largest)
    )
    line(
        f"of the {LARGEST}, are mostly colour in their smooth part",
        (colourfulness(largest) > 0.5).sum(),
    )
    line(
        f"share of the picture that one spreads over, median of the {LARGEST}",
        f"{np.median(extent(largest)):.0%}",
    )
    line(
        "units in use with one clear orientation", f"{(orientation(used)[0] > ORIENTED).mean():.0%}"
    )


def idle_units(s: Subject, quiet: np.ndarray, whole: metrics.Measures, before: np.ndarray) -> None:
    """A unit's column of W1 is compared with the same column before training, by their cosine and by their lengths."""
    heading("Units that do nothing")
    W1, gamma = s.W1, np.abs(s.network.weights["gamma1"][0])
    norms = np.linalg.norm(s.W2, axis=1)
    line(
        f"rows of W2 with a norm below {QUIET}: the quiet units", f"{quiet.sum()} of {len(quiet):,}"
    )
    line("median norm of the other rows", f"{np.median(norms[~quiet]):.3f}")
    if not quiet.any():
        return
    line("quiet units with |gamma| below 0.4", (gamma[quiet] < 0.4).sum())
    lengths = np.linalg.norm(before, axis=0)
    cosines = (W1 * before).sum(axis=0) / (s.norms * lengths)
    line(
        "cosine of their columns of W1 with those before training, median",
        f"{np.median(cosines[quiet]):.3f}",
    )
    line("  the same of units in use", f"{np.median(cosines[~quiet]):.3f}")
    line(
        "length of their columns, as a share of the first one, mean",
        f"{(s.norms / lengths)[quiet].mean():.0%}",
    )
    line("test accuracy", f"{whole.accuracy:.2%}")
    line("  without the quiet units", f"{without(s, quiet).accuracy:.2%}")


def near_normal(s: Subject, quiet: np.ndarray) -> None:
    """Tails count weights further than 3 standard deviations from the mean; the distance is Kolmogorov-Smirnov's from
    the normal distribution with the same mean and standard deviation."""
    heading("Weights are near normal")
    W1, W2 = s.W1, s.W2
    first, second = normality(thinned(W1)), normality(thinned(W2))
    p = (np.arange(100_000) + 0.5) / 100_000
    laplace = normality(-np.sign(p - 0.5) * np.log(1 - 2 * np.abs(p - 0.5)))
    each = (W1 - W1.mean(axis=0)) / W1.std(axis=0)
    kurtosis = (each**4).mean(axis=0) - 3
    line("W1: skewness", f"{first['skewness']:.2f}")
    line("W1: excess kurtosis", f"{first['excess kurtosis']:.2f}")
    line(
        "W1: beyond 3 standard deviations", f"{(np.abs(W1 - W1.mean()) > 3 * W1.std()).mean():.2%}"
    )
    line("  the same of a normal distribution", f"{math.erfc(3 / math.sqrt(2)):.2%}")
    line("W1: Kolmogorov-Smirnov distance", f"{first['KS distance']:.3f}")
    line("  the same of a Laplace distribution", f"{laplace['KS distance']:.3f}")
    line("W1: excess kurtosis within one unit in use, median", f"{np.median(kurtosis[~quiet]):.2f}")
    if quiet.any():
        line(
            "W1: excess kurtosis of all weights of quiet units",
            f"{normality(thinned(W1[:, quiet]))['excess kurtosis']:.2f}",
        )
    line("W2: Kolmogorov-Smirnov distance", f"{second['KS distance']:.3f}")


def different_neurons(s: Subject, quiet: np.ndarray, whole: metrics.Measures) -> None:
    """A class's strongest units are those with the largest weights in its column of W2. Removing units is setting
    their rows of W2 to 0; changes of recall are in points."""
    heading("Classes rely on different hidden neurons")
    W2, names = s.W2, s.names
    order = np.argsort(-W2, axis=0)
    line(
        "the 5 strongest units of each class: different ones",
        f"{len(np.unique(order[:5]))} of {5 * s.classes}",
    )

    chosen = [set(order[:TOP, c]) for c in range(s.classes)]
    pairs = [(a, b) for a in range(s.classes) for b in range(a)]
    shared = {(a, b): len(chosen[a] & chosen[b]) / TOP for a, b in pairs}
    a, b = max(shared, key=shared.get)
    line(
        f"the {TOP} strongest of two classes: in common, mean",
        f"{np.mean(list(shared.values())):.1%}",
    )
    line("  by chance", f"{TOP / len(W2):.1%}")
    line("  largest", f"{names[b]} and {names[a]}, {shared[a, b]:.0%}")

    change = np.array([without(s, order[:TOP, c]).recall for c in range(s.classes)]) - whole.recall
    own, others = 100 * change.diagonal(), 100 * change[~np.eye(s.classes, dtype=bool)]
    least, most = own.argmax(), own.argmin()
    line(f"recall of a class without its {TOP} strongest units, mean change", f"{own.mean():+.0f}")
    line("  least and most", f"{names[least]} {own[least]:+.0f}, {names[most]} {own[most]:+.0f}")
    line("  of the other classes, mean", f"{others.mean():+.1f}")
    rng, used = np.random.default_rng(0), np.flatnonzero(~quiet)
    random = [without(s, rng.choice(used, TOP, replace=False)).accuracy for _ in range(DRAWS)]
    line(
        f"accuracy without {TOP} random units in use, change in {DRAWS} draws",
        span(100 * (np.array(random) - whole.accuracy), "+.1f"),
    )

    correlation, confused = np.corrcoef(W2.T), np.array(whole.confusion)
    a, b = max(pairs, key=lambda pair: correlation[pair])
    line(
        "most similar columns of W2, correlation",
        f"{names[b]} and {names[a]}, {correlation[a, b]:.2f}",
    )
    a, b = max(pairs, key=lambda pair: confused[pair] + confused.T[pair])
    line(
        "most confused pair, images",
        f"{names[b]} and {names[a]}, {confused[a, b] + confused[b, a]}",
    )


def class_pictures(s: Subject, whole: metrics.Measures) -> None:
    """A class's picture is W1 W2[:, c]. It is compared, less the mean of all, with the class's mean training image
    less the mean of all. As templates: the scores <picture, image>, each standardised over every fifth training
    image; the largest is the answer. The gradient is pixels.mean_gradient, over the test images of the class."""
    heading("Class pictures hint at shapes")
    pictures = np.stack([class_picture(s.network, c) for c in range(s.classes)])
    mirrored = pictures.reshape(-1, 3, 32, 32)[..., ::-1].reshape(pictures.shape)
    line(
        "correlation of a picture with its mirror image",
        span([np.corrcoef(a, b)[0, 1] for a, b in zip(pictures, mirrored, strict=True)]),
    )

    images, labels = s.data.train_images, s.data.train_labels
    means = np.stack([images[labels == c].mean(axis=0) for c in range(s.classes)])
    templates = pictures - pictures.mean(axis=0)
    pairs = zip(templates, means - means.mean(axis=0), strict=True)
    line("cosine of a picture with the class's mean image", span([cosine(a, b) for a, b in pairs]))
    known = images[::5].astype(np.float32) @ templates.T
    scores = (s.images.astype(np.float32) @ templates.T - known.mean(axis=0)) / known.std(axis=0)
    line(
        "test accuracy of the pictures as templates",
        f"{(scores.argmax(axis=1) == s.labels).mean():.0%}",
    )
    line("  of the network", f"{whole.accuracy:.0%}")
    shares = [active_share(s.network, s.images[s.labels == c])[1] for c in range(s.classes)]
    gradients = [mean_gradient(s.network, share, c) for c, share in enumerate(shares)]
    line(
        "cosine of a picture with the mean input gradient",
        span([cosine(a, b) for a, b in zip(pictures, gradients, strict=True)]),
    )


# ---- The command line -----------------------------------------------------------------------------------------------


def check(s: Subject, quiet: np.ndarray) -> None:
    """Refuse a network that the claims can't be measured on."""
    name = clean(shorter(s.path), 120)
    if not (s.network.window.whole and s.network.window.P is None and s.network.batchnorm):
        raise UserError(
            f"{name}: the claims are about units that see the pixels of the whole image, with batch normalisation; "
            "name a checkpoint of 'python train.py'"
        )
    if (~quiet).sum() < max(TOP, LARGEST):
        raise UserError(
            f"{name}: only {(~quiet).sum()} units are in use, and the claims need {TOP}; train it longer"
        )
    if np.bincount(s.labels, minlength=s.classes).min() == 0:
        raise UserError(
            f"{s.data.folder}: the test split has no image of some class; give another --data-dir"
        )


def main() -> int:
    parser = cli.ArgumentParser(prog="claims.py", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a .npz file of train.py"
    )
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    args = parser.parse_args()
    network, info = model.load(args.checkpoint, threads=args.threads)
    data = cifar10.load_for(args, trained_on(info))
    cifar10.warn_of_other_data(args.checkpoint, trained_on(info), data)
    if len(data.class_names) != network.classes:
        raise UserError(
            f"{data.folder}: has {len(data.class_names)} classes, and the network {network.classes}; give another "
            "--data-dir"
        )
    s = Subject(args.checkpoint, network, info, data)
    quiet = np.linalg.norm(s.W2, axis=1) < QUIET
    check(s, quiet)
    before, whole = (
        start(s),
        metrics.measure(metrics.log_probabilities(network, s.images), s.labels),
    )
    print(f"{clean(shorter(s.path), 120)}: {network!r}; {data.name}, {len(s.labels):,} test images")
    detectors(s, quiet)
    idle_units(s, quiet, whole, before)
    near_normal(s, quiet)
    different_neurons(s, quiet, whole)
    class_pictures(s, whole)
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
