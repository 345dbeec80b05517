"""Measure every number of "The report's claims" in docs/figures.md.

    python benchmarks/claims.py checkpoints/cifar10-report-seed0.npz

Takes a checkpoint of train.py's report recipe. This reads the test split, as test.py does; nothing
is chosen by it. The claims are in the order of that page, and each number is a line. Each function
says how its numbers are measured. A unit is "quiet" if its row of W2 has a norm below 0.03, else
it is "in use".
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
import train
from data import cifar10, of_checkpoint
from support import cli
from support.checkpoints import trained_on
from support.cli import UserError, clean, shorter
from support.figures.style import normality
from support.image_shape import CHANNELS, SIDE
from support.network import metrics
from support.network.filters import active_share, class_picture, cosine, mean_gradient

import numpy as np

QUIET = 0.03  # norm of a row of W2 below which a unit is quiet
LARGEST = 36  # columns of W1
SMOOTH = 4  # cycles per image, in each direction
ORIENTED = 0.4  # coherence; that of white noise is 0.06
TOP = 50  # units of a class that are removed
DRAWS = 5  # sets of random units that are removed


class Subject:
    """A network, the images that it is measured on, and what several claims need."""

    def __init__(self, path: Path, network: model.Network, info: dict, data: cifar10.Dataset):
        self.name = clean(shorter(path), 120)
        self.network = network
        self.settings = info.get("settings")
        self.data = data
        self.W1 = network.weights["W1"]
        self.W2 = network.weights["W2"]
        self.lengths = np.linalg.norm(self.W1, axis=0)  # of the columns of W1
        self.norms = np.linalg.norm(self.W2, axis=1)  # of the rows of W2
        self.quiet = self.norms < QUIET
        self.images = data.test_images
        self.labels = data.test_labels
        self.names = data.class_names
        self.classes = network.classes
        self.check()
        self.whole = self.measures_without(np.array([], int))

    def check(self) -> None:
        """Raise UserError if this network or these images don't have what the claims are about."""
        network, in_use = self.network, int((~self.quiet).sum())
        pixels = network.window.whole and network.window.P is None
        if not (pixels and network.batchnorm):
            raise UserError(
                f"{self.name}: the claims are about units that see the pixels of the whole image, "
                "with batch normalisation; name a checkpoint of 'python train.py'"
            )
        if in_use < max(TOP, LARGEST):
            raise UserError(
                f"{self.name}: only {in_use} units are in use, and the claims need {TOP}; "
                "train it longer"
            )
        if np.bincount(self.labels, minlength=self.classes).min() == 0:
            raise UserError(
                f"{self.data.folder}: the test split has no image of some class; "
                "give another --data-dir"
            )

    def measures_without(self, units: np.ndarray) -> metrics.Measures:
        """Return the measures on the test images with these units' rows of W2 set to 0."""
        network = self.network.copy()
        network.weights["W2"][units] = 0
        return metrics.measure(metrics.log_probabilities(network, self.images), self.labels)

    def first_W1(self) -> np.ndarray:
        """Return W1 as it was before training, from the run's settings and seed."""
        try:
            run = train.Run(train.Settings(**self.settings), self.data, threads=1)
            W1 = run.network.weights["W1"]
            if W1.shape != self.W1.shape:
                raise ValueError
            return W1
        except (TypeError, ValueError, UserError):
            problem = "lacks the settings of its run, from which W1 is drawn again; train it anew"
            raise UserError(f"{self.name}: {problem}") from None


# ---- Filters: functions of columns of W1, F (3072, n) --------------------------------------------


def spectrum(F: np.ndarray) -> np.ndarray:
    """Return the Fourier transform of each filter's channels, (n, 3, 32, 32)."""
    return np.fft.fft2(F.T.reshape(-1, CHANNELS, SIDE, SIDE))


def is_low(cycles: int) -> np.ndarray:
    """Return which frequencies have at most `cycles` per image in each direction, (32, 32)."""
    low = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE)) <= cycles
    return low[:, None] & low


def smoothness(F: np.ndarray) -> np.ndarray:
    """Return the share of each filter's energy at low frequencies, (n,)."""
    energy = np.abs(spectrum(F)) ** 2
    return energy[:, :, is_low(SMOOTH)].sum(axis=(1, 2)) / energy.sum(axis=(1, 2, 3))


def colourfulness(F: np.ndarray) -> np.ndarray:
    """Return the share of the energy at low frequencies that isn't in the channels' mean, (n,)."""
    smooth = spectrum(F)[:, :, is_low(SMOOTH)]
    brightness = 3 * (np.abs(smooth.mean(axis=1)) ** 2).sum(axis=1)
    return 1 - brightness / (np.abs(smooth) ** 2).sum(axis=(1, 2))


def orientation(F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coherence of each filter's orientations and the orientation in degrees, (n,) each.

    Both are of the mean of exp(2i angle) over frequencies of up to 6 cycles per image, weighted by
    energy. Its length is the coherence, 1 if all waves run in one direction. Half its angle is 0
    for vertical bars and +-90 for horizontal ones.
    """
    frequency = np.fft.fftfreq(SIDE, 1 / SIDE)
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    radius = np.hypot(fx, fy)
    chosen = (radius <= 6) & (radius > 0)
    direction = np.exp(2j * np.arctan2(fy, fx)[chosen])
    energy = (np.abs(spectrum(F)) ** 2).sum(axis=1)[:, chosen]
    mean = (energy * direction).sum(axis=1) / energy.sum(axis=1)
    return np.abs(mean), np.degrees(np.angle(mean)) / 2


def extent(F: np.ndarray) -> np.ndarray:
    """Return the share of the 1024 pixels that each filter spreads over, (n,).

    It is the participation ratio of the energy e over pixels, (sum e)^2 / sum e^2.
    """
    energy = (F.T.reshape(-1, CHANNELS, SIDE * SIDE) ** 2).sum(axis=1)
    return energy.sum(axis=1) ** 2 / (energy**2).sum(axis=1) / (SIDE * SIDE)


def count_bars(F: np.ndarray) -> str:
    """Return as text how many filters have a coherence above ORIENTED, by kind of bar."""
    coherence, angle = orientation(F)
    angle = np.abs(angle[coherence > ORIENTED])
    horizontal = (angle > 67.5).sum()
    vertical = (angle < 22.5).sum()
    oblique = len(angle) - horizontal - vertical
    return f"{len(angle)}: {horizontal} horizontal, {vertical} vertical, {oblique} oblique"


# ---- The claims: each function prints its lines --------------------------------------------------


def heading(text: str) -> None:
    print(f"\n{text}")


def line(text: str, value) -> None:
    print(f"  {text:<86} {value}", flush=True)


def span(values: np.ndarray, form: str = ".2f") -> str:
    """Return the lowest and the highest value as text."""
    return f"{min(values):{form}} to {max(values):{form}}"


def detectors(s: Subject) -> None:
    """Describe the largest columns of W1."""
    heading("First-layer weights form edge and colour detectors")
    largest = s.W1[:, np.argsort(-s.lengths)[:LARGEST]]
    line(
        f"energy at up to {SMOOTH} cycles per image, median of the {LARGEST} largest columns of W1",
        f"{np.median(smoothness(largest)):.0%}",
    )
    line("  the same of random weights", f"{is_low(SMOOTH).mean():.0%}")
    line(
        f"of the {LARGEST}, have one clear orientation (coherence above {ORIENTED})",
        count_bars(largest),
    )
    line(
        f"of the {LARGEST}, are mostly colour in their smooth part",
        (colourfulness(largest) > 0.5).sum(),
    )
    line(
        f"share of the picture that one spreads over, median of the {LARGEST}",
        f"{np.median(extent(largest)):.0%}",
    )
    coherence, _ = orientation(s.W1[:, ~s.quiet])
    line("units in use with one clear orientation", f"{(coherence > ORIENTED).mean():.0%}")


def idle_units(s: Subject) -> None:
    """Compare the columns of W1 of quiet units with the same columns before training."""
    heading("Units that do nothing")
    quiet, count = s.quiet, f"{s.quiet.sum()} of {len(s.quiet):,}"
    line(f"rows of W2 with a norm below {QUIET}: the quiet units", count)
    line("median norm of the other rows", f"{np.median(s.norms[~quiet]):.3f}")
    before = s.first_W1()
    if not quiet.any():
        return
    gamma = np.abs(s.network.weights["gamma1"][0])
    line("quiet units with |gamma| below 0.4", (gamma[quiet] < 0.4).sum())
    first_lengths = np.linalg.norm(before, axis=0)
    cosines = (s.W1 * before).sum(axis=0) / (s.lengths * first_lengths)
    line(
        "cosine of their columns of W1 with those before training, median",
        f"{np.median(cosines[quiet]):.3f}",
    )
    line("  the same of units in use", f"{np.median(cosines[~quiet]):.3f}")
    line(
        "length of their columns, as a share of the first one, mean",
        f"{(s.lengths / first_lengths)[quiet].mean():.0%}",
    )
    line("test accuracy", f"{s.whole.accuracy:.2%}")
    line("  without the quiet units", f"{s.measures_without(quiet).accuracy:.2%}")


def near_normal(s: Subject) -> None:
    """Compare the weights with the normal distribution of their mean and standard deviation.

    Tails are weights further than 3 standard deviations from the mean. The distance is that of
    Kolmogorov and Smirnov.
    """
    heading("Weights are near normal")
    W1, quiet = s.W1, s.quiet
    first = normality(W1.ravel())
    p = (np.arange(100_000) + 0.5) / 100_000
    laplace = normality(-np.sign(p - 0.5) * np.log(1 - 2 * np.abs(p - 0.5)))
    each = (W1 - W1.mean(axis=0)) / W1.std(axis=0)
    kurtosis = (each**4).mean(axis=0) - 3
    beyond = np.abs(W1 - W1.mean()) > 3 * W1.std()
    line("W1: skewness", f"{first['skewness']:.2f}")
    line("W1: excess kurtosis", f"{first['excess kurtosis']:.2f}")
    line("W1: beyond 3 standard deviations", f"{beyond.mean():.2%}")
    line("  the same of a normal distribution", f"{math.erfc(3 / math.sqrt(2)):.2%}")
    line("W1: Kolmogorov-Smirnov distance", f"{first['KS distance']:.3f}")
    line("  the same of a Laplace distribution", f"{laplace['KS distance']:.3f}")
    line(
        "W1: excess kurtosis within one unit in use, median",
        f"{np.median(kurtosis[~quiet]):.2f}",
    )
    if quiet.any():
        silent = normality(W1[:, quiet].ravel())
        line(
            "W1: excess kurtosis of all weights of quiet units", f"{silent['excess kurtosis']:.2f}"
        )
    second = normality(s.W2.ravel())
    line("W2: Kolmogorov-Smirnov distance", f"{second['KS distance']:.3f}")


def different_neurons(s: Subject) -> None:
    """Compare the strongest units of the classes, and remove them.

    A class's strongest units have the largest weights in its column of W2. Removed units have
    their rows of W2 set to 0. Changes of recall are in points.
    """
    heading("Classes rely on different hidden neurons")
    order = np.argsort(-s.W2, axis=0)
    pairs = [(a, b) for a in range(s.classes) for b in range(a)]
    shared_neurons(s, order, pairs)
    removed_neurons(s, order)
    correlation, confused = np.corrcoef(s.W2.T), np.array(s.whole.confusion)
    a, b = max(pairs, key=lambda pair: correlation[pair])
    value = f"{s.names[b]} and {s.names[a]}, {correlation[a, b]:.2f}"
    line("most similar columns of W2, correlation", value)
    mutual = confused + confused.T
    a, b = max(pairs, key=lambda pair: mutual[pair])
    line("most confused pair, images", f"{s.names[b]} and {s.names[a]}, {mutual[a, b]}")


def shared_neurons(s: Subject, order: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    """Count the strongest units that two classes have in common."""
    line(
        "the 5 strongest units of each class: different ones",
        f"{len(np.unique(order[:5]))} of {5 * s.classes}",
    )
    strongest = [set(order[:TOP, c]) for c in range(s.classes)]
    shared = {(a, b): len(strongest[a] & strongest[b]) / TOP for a, b in pairs}
    mean = np.mean(list(shared.values()))
    line(f"the {TOP} strongest of two classes: in common, mean", f"{mean:.1%}")
    line("  by chance", f"{TOP / len(s.W2):.1%}")
    a, b = max(shared, key=shared.get)
    line("  largest", f"{s.names[b]} and {s.names[a]}, {shared[a, b]:.0%}")


def removed_neurons(s: Subject, order: np.ndarray) -> None:
    """Measure what it costs to remove the strongest units of a class, or random ones."""
    recall = np.array([s.measures_without(order[:TOP, c]).recall for c in range(s.classes)])
    change = 100 * (recall - s.whole.recall)
    own, others = change.diagonal(), change[~np.eye(s.classes, dtype=bool)]
    least, most = own.argmax(), own.argmin()
    line(f"recall of a class without its {TOP} strongest units, mean change", f"{own.mean():+.0f}")
    value = f"{s.names[least]} {own[least]:+.0f}, {s.names[most]} {own[most]:+.0f}"
    line("  least and most", value)
    line("  of the other classes, mean", f"{others.mean():+.1f}")

    rng = np.random.default_rng(0)
    in_use = np.flatnonzero(~s.quiet)
    accuracy = []
    for _ in range(DRAWS):
        units = rng.choice(in_use, TOP, replace=False)
        accuracy.append(s.measures_without(units).accuracy)
    line(
        f"accuracy without {TOP} random units in use, change in {DRAWS} draws",
        span(100 * (np.array(accuracy) - s.whole.accuracy), "+.1f"),
    )


def class_pictures(s: Subject) -> None:
    """Compare a class's picture, W1 W2[:, c], with its mean image and its mean gradient.

    Pictures and mean training images are compared less the mean of all classes. As templates: the
    scores <picture, image> are standardised over every fifth training image, and the largest is
    the answer. The gradient is filters.mean_gradient over the test images of the class.
    """
    heading("Class pictures hint at shapes")
    pictures = np.stack([class_picture(s.network, c) for c in range(s.classes)])
    mirrored = pictures.reshape(-1, CHANNELS, SIDE, SIDE)[..., ::-1].reshape(pictures.shape)
    symmetry = [np.corrcoef(a, b)[0, 1] for a, b in zip(pictures, mirrored, strict=True)]
    line("correlation of a picture with its mirror image", span(symmetry))

    images, labels = s.data.train_images, s.data.train_labels
    means = np.stack([images[labels == c].mean(axis=0) for c in range(s.classes)])
    means -= means.mean(axis=0)
    templates = pictures - pictures.mean(axis=0)
    cosines = [cosine(a, b) for a, b in zip(templates, means, strict=True)]
    line("cosine of a picture with the class's mean image", span(cosines))

    known = images[::5].astype(np.float32) @ templates.T
    scores = (s.images.astype(np.float32) @ templates.T - known.mean(axis=0)) / known.std(axis=0)
    accuracy = (scores.argmax(axis=1) == s.labels).mean()
    line("test accuracy of the pictures as templates", f"{accuracy:.0%}")
    line("  of the network", f"{s.whole.accuracy:.0%}")

    cosines = []
    for c in range(s.classes):
        share = active_share(s.network, s.images[s.labels == c])[1]
        cosines.append(cosine(pictures[c], mean_gradient(s.network, share, c)))
    line("cosine of a picture with the mean input gradient", span(cosines))


# ---- The command line ----------------------------------------------------------------------------


def main() -> int:
    parser = cli.ArgumentParser(prog="claims.py", description=__doc__)
    text = "a .npz file of train.py"
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=text)
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    args = parser.parse_args()
    network, info = model.load(args.checkpoint, threads=args.threads)
    data = of_checkpoint.load_for(cifar10.Source.of(args), trained_on(info))
    of_checkpoint.warn_of_other_data(args.checkpoint, trained_on(info), data)
    if len(data.class_names) != network.classes:
        raise UserError(
            f"{data.folder}: has {len(data.class_names)} classes, and the network "
            f"{network.classes}; give another --data-dir"
        )
    s = Subject(args.checkpoint, network, info, data)
    print(f"{s.name}: {network!r}; {data.name}, {len(s.labels):,} test images")
    for claim in (detectors, idle_units, near_normal, different_neurons, class_pictures):
        claim(s)
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
