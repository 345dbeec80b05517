"""Synthetic images: ten kinds of drawn shapes, in the layout of CIFAR-10.

They show that everything works without a network. Accuracies on them say nothing about CIFAR-10.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from data.folders import META, TEST, TRAIN, whole_folder, write_batch, write_meta
from data.pickles import DataError
from support.cli import shorter
from support.image_shape import CHANNELS, PIXELS, SIDE

import numpy as np
from tqdm import tqdm

BLOCK = 500  # images that are drawn at a time; these stay in the cache

# Each class is a function that is positive inside its shape, within about [-1, 1]^2.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: 0.85 - np.hypot(x, y),
    "ring": lambda x, y: 0.25 - abs(np.hypot(x, y) - 0.75),
    "square": lambda x, y: _in_square(x, y, 0.75),
    "frame": lambda x, y: 0.18 - abs(_in_square(x, y, 0.75)),
    "triangle": lambda x, y: np.minimum(0.7 - y, 0.5 + 0.5 * y - abs(x)),
    "cross": lambda x, y: np.minimum(0.25 - np.minimum(abs(x), abs(y)), _in_square(x, y, 0.95)),
    "star": lambda x, y: 0.65 + 0.35 * np.cos(5 * np.arctan2(x, -y)) - np.hypot(x, y),
    "stripes": lambda x, y: np.minimum(0.25 * np.cos(8 * x), _in_square(x, y, 0.95)),
    "bars": lambda x, y: np.minimum(0.25 * np.cos(8 * y), _in_square(x, y, 0.95)),
    "checkers": lambda x, y: np.minimum(
        0.4 * np.sin(5 * x) * np.sin(5 * y), _in_square(x, y, 0.95)
    ),
}


def _in_square(x: np.ndarray, y: np.ndarray, half: float) -> np.ndarray:
    return half - np.maximum(abs(x), abs(y))


def synthetic(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw n images (n, 3072) uint8 and their labels (n,) int64, all classes equally often.

    Position, size, angle, colours, light, background, an occluding bar and noise vary; none of
    them depends on the class.
    """
    labels = rng.permutation(np.arange(n) % len(SHAPES))
    images = np.empty((n, PIXELS), np.uint8)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        images[rows] = _draw(labels[rows], rng)
    return images, labels


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an image for each label (n,); return (n, 3072) uint8."""
    n = len(labels)
    grid = np.linspace(-1, 1, SIDE, dtype=np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")  # (32, 32) each

    def uniform(low: float, high: float, channels: int = 1) -> np.ndarray:
        return rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32)

    def turned(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates along and across a direction, (n, 1, 32, 32) each."""
        along = np.cos(angle) * x + np.sin(angle) * y
        across = np.cos(angle) * y - np.sin(angle) * x
        return along, across

    # The shape
    size = uniform(0.45, 0.8)
    u, v = turned(uniform(-0.35, 0.35))
    u = (u - uniform(-0.25, 0.25)) / size
    v = (v - uniform(-0.25, 0.25)) / size
    inside = np.empty_like(u)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        inside[rows] = shape(u[rows], v[rows])
    inside = np.clip(inside * size * 12 + 0.5, 0, 1)  # with a soft edge

    # Most shapes are lighter than the background: so much a linear classifier can use.
    lighter = np.where(rng.random((n, 1, 1, 1)) < 0.85, 1, -1).astype(np.float32)
    background = uniform(0.3, 0.7, CHANNELS)
    contrast = lighter * uniform(0.1, 0.5, CHANNELS)
    wave = uniform(0, 0.15) * np.sin(uniform(2, 9) * turned(uniform(0, 6.3))[0] + uniform(0, 6.3))
    image = background + wave - contrast / 2 + contrast * inside

    # An occluding bar, light from one side, and noise
    distance = turned(uniform(0, 6.3))[0] - uniform(-1.5, 1.5)
    hidden = np.clip((uniform(0, 0.2) - abs(distance)) * 16 + 0.5, 0, 1)
    image += hidden * (uniform(0, 1, CHANNELS) - image)
    image *= 1 + uniform(0, 0.3) * turned(uniform(0, 6.3))[0]
    image += uniform(0.01, 0.1) * rng.standard_normal(image.shape, np.float32)

    pixels = (np.clip(image, 0, 1) * 255).round()
    return pixels.astype(np.uint8).reshape(n, PIXELS)


def write_synthetic(
    folder: str | Path, train: int = 50_000, test: int = 10_000, seed: int = 0
) -> None:
    """Draw a data set of `train` + `test` images into the new folder `folder`.

    Does nothing if the folder exists. Raises DataError if one of the six batches would be empty,
    or the disk refuses.
    """
    folder = Path(folder)
    if train < 5 or test < 1:
        raise DataError(
            f"{folder}: {train} training and {test} test images are too few; ask for 5 and 1"
        )
    with whole_folder(folder) as new:
        if new is None:
            return
        print(
            f"drawing {train + test:,} images of ten kinds of shapes into {shorter(folder)}",
            file=sys.stderr,
        )
        rng = np.random.default_rng(seed)
        rows = [len(part) for part in np.array_split(np.arange(train), len(TRAIN))]
        titles = [f"training batch {i} of {len(TRAIN)}" for i in range(1, len(TRAIN) + 1)]
        rows.append(test)
        titles.append("testing batch 1 of 1")
        files = tqdm((*TRAIN, TEST), "draw", unit=" files", disable=None)
        for file, title, n in zip(files, titles, rows, strict=True):
            images, labels = synthetic(n, rng)
            write_batch(new / file, title, images, labels, _file_names(labels), "synthetic")
        write_meta(new / META, tuple(SHAPES), rows[0])


def _file_names(labels: np.ndarray) -> list[str]:
    classes = list(SHAPES)
    return [f"{classes[label]}_s_{row:06d}.png" for row, label in enumerate(labels)]
