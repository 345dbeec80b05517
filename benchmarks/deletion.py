"""Do the maps of votes mean something? Accuracy on test images without the places that speak most for the prediction.

    python benchmarks/deletion.py checkpoints/cifar10-best.npz checkpoints/cifar10-report.npz

Deletion (Samek et al. 2017): of each test image, the tenth of the places with the highest votes for the class that the
network predicts is blanked; for comparison as many places drawn at random, and those with the lowest votes. Windows
overlap, so scattered places cover more pixels than those with the highest votes, which lie together: the same places
moved by a random distance, around the edges, are the control that blanks as many. (The mean of DRAWS draws each.) The
share of pixels that is blank stands beside each accuracy.

A place is all pixels of its window. Of a network that sees the whole image it is a pixel, and its votes are gradient
times input. Blanked pixels get the image's mean colour, as black or grey would be new edges in most images. Votes are
of the intact image. Reads the test split, as test.py does; nothing is chosen by it. Prints a Markdown table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
from data import cifar10
from support import cli
from support.checkpoints import trained_on
from support.network.votes import votes

import numpy as np
from tqdm import tqdm

DELETED = 0.1  # of the places
DRAWS = 5  # of places at random, and of distances
BATCH = 200  # images
WAYS = ("intact", "highest votes", "highest votes, moved", "random", "lowest votes")


def pixels_of_places(network: model.Network) -> np.ndarray:
    """Which of the 1024 pixels each place covers, (places, 1024) float32, 0 or 1."""
    if network.window.whole:
        return np.eye(1024, dtype=np.float32)
    window = network.window
    covered = np.zeros((window.positions, 1024), np.float32)
    red = window.patches(np.arange(model.PIXELS)[None])[
        :, : window.size**2
    ]  # numbers of the pixels, in red
    np.put_along_axis(covered, red, 1, axis=1)
    return covered


def blanked(images: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """The images (m, 3072) uint8 with each image's mean colour where `blank` (m, 1024) is true."""
    planes = images.reshape(len(images), 3, 1024)
    colour = np.round(planes.mean(axis=2, keepdims=True)).astype(np.uint8)
    return np.where(blank[:, None], colour, planes).reshape(len(images), -1)


def choices(maps: np.ndarray, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """For each way of choosing places by votes (m, side, side) its draws, (m, side^2) float32, 1 where chosen."""
    m, side, _ = maps.shape
    count = max(1, round(DELETED * side**2))

    def highest(scores: np.ndarray) -> np.ndarray:
        chosen = np.zeros((m, side**2), np.float32)
        np.put_along_axis(
            chosen, scores.reshape(m, -1).argsort(axis=1, kind="stable")[:, -count:], 1, axis=1
        )
        return chosen

    def moved(chosen: np.ndarray) -> np.ndarray:
        distances = rng.integers(0, side, (m, 2))
        squares = chosen.reshape(m, side, side)
        return np.stack(
            [np.roll(each, by, (0, 1)) for each, by in zip(squares, distances, strict=True)]
        ).reshape(m, -1)

    most = highest(maps)
    draws = (
        [moved(most) for _ in range(DRAWS)],
        [highest(rng.random(maps.shape)) for _ in range(DRAWS)],
    )
    return dict(zip(WAYS, ([np.zeros_like(most)], [most], *draws, [highest(-maps)]), strict=True))


def deletion(
    network: model.Network, images: np.ndarray, labels: np.ndarray, seed: int = 0
) -> dict[str, np.ndarray]:
    """(accuracy, share of blank pixels) for each of WAYS."""
    rng, covers = np.random.default_rng(seed), pixels_of_places(network)
    sums = {way: np.zeros(2) for way in WAYS}
    for start in tqdm(
        range(0, len(images), BATCH), "delete", unit=" batches", leave=False, disable=None
    ):
        some, y = images[start : start + BATCH], labels[start : start + BATCH]
        maps, rest = votes(network, some)
        predicted = (maps.sum(axis=(2, 3)) + rest).argmax(axis=1)
        for way, draws in choices(maps[np.arange(len(some)), predicted], rng).items():
            for chosen in draws:
                blank = chosen @ covers > 0
                right = network.predict(blanked(some, blank)) == y
                sums[way] += np.array([right.sum(), blank.mean(axis=1).sum()]) / len(draws)
    return {way: total / len(images) for way, total in sums.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.ArgumentParser(prog="deletion.py", description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", type=cli.user_path, metavar="CHECKPOINT", help=".npz files"
    )
    parser.add_argument(
        "--count", type=cli.integer(1, 10**9), metavar="N", help="test images (default: all)"
    )
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    args = parser.parse_args(argv)
    print(f"Accuracy (and share of blank pixels) without {DELETED:.0%} of the places.\n")
    print(f"| checkpoint | places | {' | '.join(WAYS)} |\n|---|{'---|' * (1 + len(WAYS))}")
    for path in args.checkpoints:
        network, info = model.load(path, threads=args.threads)
        data = cifar10.load_for(args, trained_on(info))
        if network.classes != len(data.class_names):
            raise cli.UserError(
                f"{path}: was trained on other classes than those of {data.name}; give its --dataset"
            )
        cifar10.warn_of_other_data(path, trained_on(info), data)
        found = deletion(network, data.test_images[: args.count], data.test_labels[: args.count])
        places = "1,024 pixels" if network.window.whole else f"{network.window.positions:,} windows"
        figures = " | ".join(f"{right:.2%} ({blank:.0%})" for right, blank in found.values())
        print(f"| {path.name} | {places} | {figures} |", flush=True)


if __name__ == "__main__":
    sys.exit(cli.command(main))
