"""Figures of merit: how good predictions are, from log-probabilities log y^ (N, C) and labels (N,) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

BINS = 15  # of the calibration error, as in Guo et al. 2017


@dataclass(frozen=True)
class Measures:
    """How good predictions are. Shares are in 0..1; the lists have an entry a class, and confusion[i][j] counts the
    images of class i that were taken for class j."""

    loss: float  # mean cross-entropy, nats
    accuracy: float
    interval: tuple[float, float]  # 95 %, of the accuracy
    top2: float  # share of images with their label among the two likeliest classes
    calibration_error: float
    precision: list[float]
    recall: list[float]
    f1: list[float]
    support: list[int]  # images of the class
    confusion: list[list[int]]


def told(m: Measures) -> dict[str, str]:
    """The figures of merit as text, by their names."""
    return {
        "accuracy": f"{m.accuracy:.2%}",
        "95 % interval (Wilson)": f"{m.interval[0]:.2%} to {m.interval[1]:.2%}",
        "top-2 accuracy": f"{m.top2:.2%}",
        "cross-entropy, nats": f"{m.loss:.4f}",
        f"calibration error, {BINS} bins": f"{m.calibration_error:.2%}",
    }


def measure(log_y: np.ndarray, labels: np.ndarray) -> Measures:
    """All figures of merit. A ratio of 0/0, as the precision of a class that was never predicted, counts as 0.

    Of a network whose numbers overflow, the loss and the calibration error are not finite; all others are.
    """
    (n, classes), predictions = log_y.shape, log_y.argmax(axis=1)
    own = log_y[np.arange(n), labels]
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predictions), 1)
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    count, confidence, accuracy = calibration(log_y, labels).T
    return Measures(
        loss=float(-own.mean()),
        accuracy=float(hits.sum() / n),
        interval=wilson(int(hits.sum()), n),
        top2=float(((~(log_y <= own[:, None])).sum(axis=1) < 2).mean()),  # NaN is above everything
        calibration_error=float(np.sum(count * np.abs(accuracy - confidence)) / n),
        precision=(hits / np.maximum(predicted, 1)).tolist(),
        recall=(hits / np.maximum(support, 1)).tolist(),
        f1=(2 * hits / np.maximum(support + predicted, 1)).tolist(),
        support=support.tolist(),
        confusion=confusion.tolist(),
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share right/n (Wilson 1927):

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96.
    """
    z, p = 1.959964, right / n
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def calibration(log_y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The predictions sorted by confidence, the probability of the likeliest class, into BINS equal bins of (0, 1].

    Returns (BINS, 3): images, their mean confidence and their accuracy; an empty bin is a row of zeros. The expected
    calibration error is the mean of |accuracy - confidence| over the images (Guo et al. 2017).
    """
    confidence, right = np.exp(log_y.max(axis=1)), log_y.argmax(axis=1) == labels
    bins = np.clip(np.ceil(np.nan_to_num(confidence) * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights, BINS) for weights in (confidence, right)]
    return np.stack([count, *(each / np.maximum(count, 1) for each in sums)], axis=1)


def confusions(matrix: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """(label, prediction, images) of every kind of mistake that was made, the most frequent first."""
    kinds = [(i, j, n) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n]
    return sorted(kinds, key=lambda kind: -kind[2])


# ---- Log-probabilities ----------------------------------------------------------------------------------------------


def log_probabilities(network, images: np.ndarray, tta: bool = False) -> np.ndarray:
    """log y^ (N, C), float64, of a `model.Network` in inference mode, for images (N, 3072).

    With tta they are those of the mean of the logits of image and mirror image. A bar on stderr, if that is a
    terminal, for what takes over two seconds.
    """
    z2 = np.empty((len(images), network.classes))
    bar = tqdm(total=len(images), unit=" images", delay=2, leave=False, disable=None)
    with bar, np.errstate(invalid="ignore"):  # of logits that overflow
        for start in range(0, len(images), 1000):
            batch = images[start : start + 1000]
            z2[start : start + 1000] = network.logits(batch)
            if tta:
                z2[start : start + 1000] += network.logits(mirrored(batch))
            bar.update(len(batch))
        z2 = z2 / 2 if tta else z2
        return z2 - np.logaddexp.reduce(z2, axis=1, keepdims=True)  # (8)


def mirrored(images: np.ndarray) -> np.ndarray:
    """The mirror images, left and right exchanged: (N, 3072) -> (N, 3072)."""
    return images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(len(images), -1)


def mean_probability(log_ys: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of probabilities that are given as logarithms, (N, C) each."""
    with np.errstate(invalid="ignore"):  # where logits overflowed
        return np.logaddexp.reduce(log_ys) - np.log(len(log_ys))
