"""Synthetic images: coloured shapes in ten classes, in the layout of CIFAR-10, for where that can't be had."""

import sys
from collections.abc import Callable
from pathlib import Path

from data.folders import META, TEST, TRAIN, whole_folder, write_batch, write_meta
from data.pickles import DataError
from support.cli import shorter

import numpy as np
from tqdm import tqdm

# Each class is a function that is positive inside its shape, within about [-1, 1]^2.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: 0.85 - np.hypot(x, y),
    "ring": lambda x, y: 0.25 - abs(np.hypot(x, y) - 0.75),
    "square": lambda x, y: 0.75 - np.maximum(abs(x), abs(y)),
    "frame": lambda x, y: 0.18 - abs(np.maximum(abs(x), abs(y)) - 0.75),
    "triangle": lambda x, y: np.minimum(0.7 - y, 0.5 + 0.5 * y - abs(x)),
    "cross": lambda x, y: np.minimum(
        0.25 - np.minimum(abs(x), abs(y)), 0.95 - np.maximum(abs(x), abs(y))
    ),
    "star": lambda x, y: 0.65 + 0.35 * np.cos(5 * np.arctan2(x, -y)) - np.hypot(x, y),
    "stripes": lambda x, y: np.minimum(0.25 * np.cos(8 * x), 0.95 - np.maximum(abs(x), abs(y))),
    "bars": lambda x, y: np.minimum(0.25 * np.cos(8 * y), 0.95 - np.maximum(abs(x), abs(y))),
    "checkers": lambda x, y: np.minimum(
        0.4 * np.sin(5 * x) * np.sin(5 * y), 0.95 - np.maximum(abs(x), abs(y))
    ),
}


def synthetic(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) uint8 of coloured shapes and their labels (n,) int64, the classes of `SHAPES` equally often.

    Place, size, angle, colours, light, background, an occluding bar and noise vary, and none tells the class.
    """
    labels = rng.permutation(np.arange(n) % 10)
    images = np.empty((n, 3072), np.uint8)
    for start in range(0, n, 500):  # small enough to stay in the cache
        rows = slice(start, start + 500)
        images[rows] = _draw(labels[rows], rng)
    return images, labels


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image (3072,) uint8 for each label, (n, 3072)."""
    n = len(labels)

    def uniform(low: float, high: float, channels: int = 1) -> np.ndarray:
        return rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32)

    def turned(
        angle: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # coordinates along and across, (n, 1, 32, 32)
        return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x

    grid = np.linspace(-1, 1, 32, dtype=np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")

    size = uniform(0.45, 0.8)
    u, v = turned(uniform(-0.35, 0.35))
    u, v = (u - uniform(-0.25, 0.25)) / size, (v - uniform(-0.25, 0.25)) / size
    inside = np.empty_like(u)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        inside[rows] = shape(u[rows], v[rows])
    inside = np.clip(inside * size * 12 + 0.5, 0, 1)

    # The shape is lighter than its ground in most images, not all: a linear classifier gets that far.
    lighter = np.where(rng.random((n, 1, 1, 1)) < 0.85, 1, -1).astype(np.float32)
    ground, contrast = uniform(0.3, 0.7, 3), lighter * uniform(0.1, 0.5, 3)
    wave = uniform(0, 0.15) * np.sin(uniform(2, 9) * turned(uniform(0, 6.3))[0] + uniform(0, 6.3))
    image = ground + wave - contrast / 2 + contrast * inside

    across = turned(uniform(0, 6.3))[0] - uniform(-1.5, 1.5)
    hidden = np.clip((uniform(0, 0.2) - abs(across)) * 16 + 0.5, 0, 1)
    image += hidden * (uniform(0, 1, 3) - image)
    image *= 1 + uniform(0, 0.3) * turned(uniform(0, 6.3))[0]
    image += uniform(0.01, 0.1) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8).reshape(n, 3072)


def write_synthetic(
    folder: str | Path, train: int = 50_000, test: int = 10_000, seed: int = 0
) -> None:
    """Draw `train` + `test` synthetic images into the new folder `folder`, in the layout of CIFAR-10.

    Does nothing if the folder is there. DataError if one of the six batches would be empty, or the disk refuses.
    """
    folder = Path(folder)
    if train < 5 or test < 1:
        raise DataError(
            f"{folder}: {train} training and {test} test images are too few; ask for 5 and 1"
        )
    with whole_folder(folder) as new:
        if new is None:
            return
        print(f"drawing {train + test:,} synthetic images into {shorter(folder)}", file=sys.stderr)
        rng = np.random.default_rng(seed)
        rows = [len(part) for part in np.array_split(np.arange(train), 5)] + [test]
        titles = [f"training batch {i} of 5" for i in range(1, 6)] + ["testing batch 1 of 1"]
        files = tqdm((*TRAIN, TEST), "draw", unit=" files", disable=None)
        for file, n, title in zip(files, rows, titles, strict=True):
            images, labels = synthetic(n, rng)
            names = [f"{list(SHAPES)[c]}_s_{row:06d}.png" for row, c in enumerate(labels)]
            write_batch(new / file, title, images, labels, names, "synthetic")
        write_meta(new / META, tuple(SHAPES), rows[0])
