"""Test whether the maps of votes mean something: accuracy without the most decisive positions.

    python benchmarks/deletion.py checkpoints/cifar10-best.npz checkpoints/cifar10-report.npz

Deletion (Samek et al. 2017): in each test image, the tenth of the positions with the highest votes
for the predicted class is blanked. For comparison: as many random positions, and those with the
lowest votes. Windows overlap, so scattered positions cover more pixels than those with the highest
votes, which lie together. Those same positions, moved by a random distance around the edges, are
the control that blanks as many pixels. Where there is a draw, the figure is the mean of DRAWS.

A position is all pixels of its window. If the network sees the whole image, it is a pixel, and its
votes are gradient times input. Blanked pixels get the image's mean colour, as black or grey would
be new edges in most images. Votes are of the intact image. This reads the test split, as test.py
does; nothing is chosen by it. Prints a Markdown table with the share of blank pixels in brackets.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
from data import cifar10
from support import cli
from support.checkpoints import trained_on
from support.image_shape import CHANNELS, PIXELS, SIDE
from support.network.votes import votes

import numpy as np
from tqdm import tqdm

DELETED = 0.1  # share of the positions
DRAWS = 5  # of random positions, and of random distances
BATCH = 200  # images
WAYS = ("intact", "highest votes", "highest votes, moved", "random", "lowest votes")


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


def highest(scores: np.ndarray) -> np.ndarray:
    """Return (m, n) float32 with 1 at the tenth of the positions with the highest scores (m, n)."""
    count = max(1, round(DELETED * scores.shape[1]))
    order = scores.argsort(axis=1, kind="stable")
    chosen = np.zeros(scores.shape, np.float32)
    np.put_along_axis(chosen, order[:, -count:], 1, axis=1)
    return chosen


def moved(chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `chosen` (m, side^2) with each image's positions moved by a random distance."""
    side = round(chosen.shape[1] ** 0.5)
    distances = rng.integers(0, side, (len(chosen), 2))
    squares = chosen.reshape(-1, side, side)
    pairs = zip(squares, distances, strict=True)
    return np.stack([np.roll(square, by, (0, 1)) for square, by in pairs]).reshape(chosen.shape)


def choices(maps: np.ndarray, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Return the draws of each way to choose positions by votes (m, side, side).

    A draw is (m, side^2) float32, 1 at the chosen positions.
    """
    scores = maps.reshape(len(maps), -1)
    most = highest(scores)
    return {
        "intact": [np.zeros_like(most)],
        "highest votes": [most],
        "highest votes, moved": [moved(most, rng) for _ in range(DRAWS)],
        "random": [highest(rng.random(scores.shape)) for _ in range(DRAWS)],
        "lowest votes": [highest(-scores)],
    }


def deletion(
    network: model.Network, images: np.ndarray, labels: np.ndarray, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return (accuracy, share of blank pixels) for each of WAYS."""
    rng = np.random.default_rng(seed)
    covers = pixels_of_positions(network)
    sums = {way: np.zeros(2) for way in WAYS}
    starts = range(0, len(images), BATCH)
    for start in tqdm(starts, "delete", unit=" batches", leave=False, disable=None):
        some, y = images[start : start + BATCH], labels[start : start + BATCH]
        maps, rest = votes(network, some)
        predicted = (maps.sum(axis=(2, 3)) + rest).argmax(axis=1)
        for way, draws in choices(maps[np.arange(len(some)), predicted], rng).items():
            for chosen in draws:
                blank = chosen @ covers > 0
                correct = network.predict(blanked(some, blank)) == y
                sums[way] += np.array([correct.sum(), blank.mean(axis=1).sum()]) / len(draws)
    return {way: total / len(images) for way, total in sums.items()}


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(prog="deletion.py", description=__doc__)
    text = ".npz files"
    parser.add_argument(
        "checkpoints", nargs="+", type=cli.user_path, metavar="CHECKPOINT", help=text
    )
    text = "test images (default: all)"
    parser.add_argument("--count", type=cli.integer(1, 10**9), metavar="N", help=text)
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    print(f"Accuracy (and share of blank pixels) without {DELETED:.0%} of the positions.\n")
    print(f"| checkpoint | positions | {' | '.join(WAYS)} |")
    print(f"|---|---|{'---|' * len(WAYS)}")
    for path in args.checkpoints:
        network, info = model.load(path, threads=args.threads)
        data = cifar10.load_for(args, trained_on(info))
        if network.classes != len(data.class_names):
            raise cli.UserError(
                f"{path}: was trained on other classes than those of {data.name}; "
                "give its --dataset"
            )
        cifar10.warn_of_other_data(path, trained_on(info), data)
        results = deletion(network, data.test_images[: args.count], data.test_labels[: args.count])
        kind = "1,024 pixels" if network.window.whole else f"{network.window.positions:,} windows"
        cells = [f"{accuracy:.2%} ({blank:.0%})" for accuracy, blank in results.values()]
        print(f"| {path.name} | {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(cli.command(main))
