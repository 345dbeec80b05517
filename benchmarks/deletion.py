"""Test whether the maps of votes mean something: delete or insert positions in their order.

    python benchmarks/deletion.py checkpoints/cifar10-quick.npz --count 500 --figure deletion.png

Deletion: in each test image, the positions with the highest votes for the predicted class are
blanked first, more and more of them (Samek et al. 2017). Insertion: in a blank image, the same
positions are shown first (Petsiuk et al. 2018). If the votes mean something, accuracy falls early
as positions are deleted, and rises early as they are inserted.

Two controls have another order: *random*, and *moved*, the order of the votes moved by a random
distance around the edges, which keeps the shape of the map. Of both, the figures are the mean of
DRAWS draws. Windows overlap, so as many positions can cover more or fewer pixels. Therefore
accuracy is drawn against the share of blank pixels, not of positions.

A position is all pixels of its window. If the network sees the whole image, it is a pixel, and its
votes are gradient times input. Blank pixels have the image's mean colour, as black or grey would be
new edges in most images. Votes are of the intact image. This reads the test split, as test.py does;
nothing is chosen by it. Prints the mean accuracy over all shares of pixels, as a Markdown table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
from data import cifar10, of_checkpoint
from support import cli
from support.checkpoints import trained_on
from support.figures.report import write_figure
from support.figures.style import BLUE, GREY, ORANGE, Figured, drawing, grid
from support.image_shape import CHANNELS, PIXELS, SIDE
from support.network.votes import votes

import numpy as np
from tqdm import tqdm

SHARES = (0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1)  # of the positions
DRAWS = 3  # of random orders, and of random distances
BATCH = 200  # images
MODES = ("deletion", "insertion")
WAYS = ("highest votes", "moved", "random")
LOOKS = {"highest votes": (BLUE, "-"), "moved": (ORANGE, "--"), "random": (GREY, ":")}

# Of each mode and way: the share of blank pixels, and the accuracy, at each of SHARES.
Curves = dict[tuple[str, str], np.ndarray]

# ---- Blank pixels --------------------------------------------------------------------------------


def pixels_of_positions(network: model.Network) -> np.ndarray:
    """Return which of the 1024 pixels each position covers, (positions, 1024) float32, 0 or 1."""
    if network.window.whole:
        return np.eye(SIDE * SIDE, dtype=np.float32)
    window = network.window
    covered = np.zeros((window.positions, SIDE * SIDE), np.float32)
    numbers = window.patches(np.arange(PIXELS)[None])
    red = numbers[:, : window.size**2]  # the red channel comes first
    np.put_along_axis(covered, red, 1, axis=1)
    return covered


def blanked(images: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Return images (m, 3072) uint8 with their mean colour wherever `blank` (m, 1024) is true."""
    planes = images.reshape(len(images), CHANNELS, SIDE * SIDE)
    colour = np.round(planes.mean(axis=2, keepdims=True)).astype(np.uint8)
    return np.where(blank[:, None], colour, planes).reshape(len(images), -1)


# ---- Orders of positions -------------------------------------------------------------------------


def moved(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return maps (m, side, side), each moved by a random distance around the edges."""
    distances = rng.integers(0, maps.shape[1], (len(maps), 2))
    pairs = zip(maps, distances, strict=True)
    return np.stack([np.roll(each, by, (0, 1)) for each, by in pairs])


def scores(maps: np.ndarray, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Return the draws of each of WAYS: scores (m, side, side); the highest go first."""
    return {
        "highest votes": [maps],
        "moved": [moved(maps, rng) for _ in range(DRAWS)],
        "random": [rng.random(maps.shape) for _ in range(DRAWS)],
    }


def highest(scores: np.ndarray, share: float) -> np.ndarray:
    """Return (m, n) float32 with 1 at this share of the n positions, the highest scores."""
    flat = scores.reshape(len(scores), -1)
    count = round(share * flat.shape[1])
    order = (-flat).argsort(axis=1, kind="stable")
    chosen = np.zeros(flat.shape, np.float32)
    np.put_along_axis(chosen, order[:, :count], 1, axis=1)
    return chosen


# ---- Curves --------------------------------------------------------------------------------------


def measured(network, images: np.ndarray, labels: np.ndarray, seed: int = 0) -> Curves:
    """Return the Curves of test images (N, 3072) uint8 with labels (N,)."""
    rng = np.random.default_rng(seed)
    covers = pixels_of_positions(network)
    sums = {(mode, way): np.zeros((len(SHARES), 2)) for mode in MODES for way in WAYS}
    bar = tqdm(total=len(images), desc="delete", unit=" images", leave=False, disable=None)
    with bar:
        for start in range(0, len(images), BATCH):
            some, y = images[start : start + BATCH], labels[start : start + BATCH]
            maps, rest = votes(network, some)
            predicted = (maps.sum(axis=(2, 3)) + rest).argmax(axis=1)
            of_prediction = maps[np.arange(len(some)), predicted]
            for way, draws in scores(of_prediction, rng).items():
                for draw in draws:
                    for mode in MODES:
                        points = points_of(network, some, y, draw, covers, mode)
                        sums[mode, way] += points / len(draws)
            bar.update(len(some))
    return {key: total / len(images) for key, total in sums.items()}


def points_of(network, images, labels, scores, covers, mode: str) -> np.ndarray:
    """Return the sums over images of (share of blank pixels, correct predictions) at SHARES."""
    points = []
    for share in SHARES:
        covered = highest(scores, share) @ covers > 0
        blank = covered if mode == "deletion" else ~covered
        correct = network.predict(blanked(images, blank)) == labels
        points.append((blank.mean(axis=1).sum(), correct.sum()))
    return np.array(points, float)


def area(points: np.ndarray) -> float:
    """Return the mean accuracy over the shares of blank pixels from 0 to 1."""
    blank, accuracy = points[np.argsort(points[:, 0], kind="stable")].T
    steps = np.diff(blank) * (accuracy[1:] + accuracy[:-1]) / 2
    return float(steps.sum() / (blank[-1] - blank[0]))


def draw(curves: dict[str, Curves]) -> Figured:
    """Draw the Curves of each checkpoint, a row each."""
    figure, axes = grid(len(curves), 2, 2.1 * len(curves) + 0.5, sharex=True, sharey="row")
    for row, (name, each) in zip(axes, curves.items(), strict=True):
        for ax, mode in zip(row, MODES, strict=True):
            for way in WAYS:
                blank, accuracy = 100 * each[mode, way].T
                shown = blank if mode == "deletion" else 100 - blank
                colour, style = LOOKS[way]
                ax.plot(shown, accuracy, style, color=colour, label=way)
            ax.set_title(mode)
        row[0].set_ylabel(f"{name}\naccuracy (%)")
    for ax, what in zip(axes[-1], ("blank", "shown"), strict=True):
        ax.set_xlabel(f"{what} pixels (%)")
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=3, columnspacing=1)
    return figure, (
        "Accuracy on test images of which more and more is blanked (deletion) or shown "
        "(insertion): first the positions with the highest votes for the predicted class, in "
        "that order moved around the edges, or in random order."
    )


# ---- The script ----------------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(prog="deletion.py", description=__doc__)
    text = ".npz files"
    parser.add_argument(
        "checkpoints", nargs="+", type=cli.user_path, metavar="CHECKPOINT", help=text
    )
    text = "test images (default: all)"
    parser.add_argument("--count", type=cli.integer(1, 10**9), metavar="N", help=text)
    text = "draw the curves into this .png file"
    parser.add_argument("--figure", type=cli.output_path, metavar="FILE", help=text)
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    return parser


def curves_of(path: Path, args) -> tuple[model.Network, Curves]:
    """Return a checkpoint's network and its Curves on the test images."""
    network, info = model.load(path, threads=args.threads)
    data = of_checkpoint.load_for(cifar10.Source.of(args), trained_on(info))
    if network.classes != len(data.class_names):
        raise cli.UserError(
            f"{path}: was trained on other classes than those of {data.name}; give its --dataset"
        )
    of_checkpoint.warn_of_other_data(path, trained_on(info), data)
    images, labels = data.test_images[: args.count], data.test_labels[: args.count]
    return network, measured(network, images, labels)


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.figure and args.figure.suffix != ".png":
        parser.error(f"--figure {args.figure}: is no .png file; choose such a name")
    heads = [f"{mode}: {way}" for mode in MODES for way in WAYS]
    print("Mean accuracy while 0 to 100 % of the pixels are blank.\n")
    print(f"| checkpoint | positions | {' | '.join(heads)} |")
    print(f"|---|---|{'---|' * len(heads)}")
    curves = {}
    stems = [path.stem for path in args.checkpoints]
    for path in args.checkpoints:
        label = path.stem if stems.count(path.stem) == 1 else str(path)
        network, curves[label] = curves_of(path, args)
        kind = "1,024 pixels" if network.window.whole else f"{network.window.positions:,} windows"
        cells = [f"{area(points):.1%}" for points in curves[label].values()]
        print(f"| {path.name} | {kind} | {' | '.join(cells)} |", flush=True)
    if args.figure:
        with drawing():
            write_figure(*draw(curves), args.figure, 200)


if __name__ == "__main__":
    sys.exit(cli.command(main))
