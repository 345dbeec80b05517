"""Figures of merit, computed from log-probabilities log y^ (N, C) and labels (N,) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from support.image_shape import CHANNELS, SIDE

import numpy as np
from tqdm import tqdm

BINS = 15  # of the calibration error, as in Guo et al. 2017
Z_95 = 1.959964  # a standard normal variable lies within +-Z_95 with probability 95 %
BATCH = 1000  # images whose logits are computed between two steps of the progress bar


@dataclass(frozen=True)
class Measures:
    """The figures of merit of one network on one set of images.

    Shares are in 0..1. A list has one entry per class.
    """

    loss: float  # mean cross-entropy, nats
    accuracy: float
    interval: tuple[float, float]  # 95 % interval of the accuracy
    balanced_accuracy: float  # mean recall of the classes that occur
    top2: float  # share of images whose label is among the two likeliest classes
    calibration_error: float
    precision: list[float]
    recall: list[float]
    f1: list[float]
    support: list[int]  # images of the class
    confusion: list[list[int]]  # [i][j]: images of class i that were predicted as class j

    @property
    def uneven(self) -> bool:
        """Whether the classes have different numbers of images."""
        return min(self.support) != max(self.support)


def formatted(m: Measures) -> dict[str, str]:
    """Return the figures of merit as text, by their names."""
    low, high = m.interval
    texts = {
        "accuracy": f"{m.accuracy:.2%}",
        "95 % interval (Wilson)": f"{low:.2%} to {high:.2%}",
    }
    if m.uneven:  # with as many images of each class it is the accuracy
        texts["balanced accuracy"] = f"{m.balanced_accuracy:.2%}"
    texts["top-2 accuracy"] = f"{m.top2:.2%}"
    texts["cross-entropy, nats"] = f"{m.loss:.4f}"
    texts[f"calibration error, {BINS} bins"] = f"{m.calibration_error:.2%}"
    return texts


def measure(log_y: np.ndarray, labels: np.ndarray) -> Measures:
    """Compute all figures of merit of log-probabilities (N, C).

    precision_c = correct_c / predicted_c       recall_c = correct_c / support_c
    F1_c = 2 correct_c / (support_c + predicted_c), the harmonic mean of the two

    A ratio 0/0 counts as 0, such as the precision of a class that is never predicted. If logits
    overflow, the loss and the calibration error are not finite; all other figures are.
    """
    n, classes = log_y.shape
    predictions = log_y.argmax(axis=1)
    log_y_of_label = log_y[np.arange(n), labels]

    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predictions), 1)
    correct = np.diag(confusion)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    recall = correct / np.maximum(support, 1)

    # Classes that are at least as likely as the label's; "not <=" also counts a NaN.
    likelier = (~(log_y <= log_y_of_label[:, None])).sum(axis=1)

    return Measures(
        loss=float(-log_y_of_label.mean()),
        accuracy=float(correct.sum() / n),
        interval=wilson(int(correct.sum()), n),
        balanced_accuracy=float(recall[support > 0].mean()),
        top2=float((likelier < 2).mean()),
        calibration_error=calibration_error(log_y, labels),
        precision=(correct / np.maximum(predicted, 1)).tolist(),
        recall=recall.tolist(),
        f1=(2 * correct / np.maximum(support + predicted, 1)).tolist(),
        support=support.tolist(),
        confusion=confusion.tolist(),
    )


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share p = correct / n (Wilson 1927).

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96
    """
    z, p = Z_95, correct / n
    centre = p + z * z / (2 * n)
    half_width = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    return float((centre - half_width) / scale), float((centre + half_width) / scale)


def calibration(log_y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sort predictions by confidence into BINS equal bins of (0, 1].

    The confidence is the probability of the predicted class. Returns (BINS, 3), a row per bin: how
    many images, their mean confidence, their accuracy. An empty bin is a row of zeros.
    """
    confidence = np.exp(log_y.max(axis=1))
    correct = log_y.argmax(axis=1) == labels
    bins = np.ceil(np.nan_to_num(confidence) * BINS).astype(int) - 1
    bins = np.clip(bins, 0, BINS - 1)

    count = np.bincount(bins, minlength=BINS)
    at_least_1 = np.maximum(count, 1)
    mean_confidence = np.bincount(bins, confidence, BINS) / at_least_1
    accuracy = np.bincount(bins, correct, BINS) / at_least_1
    return np.stack([count, mean_confidence, accuracy], axis=1)


def calibration_error(log_y: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error: sum_bins count/N |accuracy - confidence|."""
    count, confidence, accuracy = calibration(log_y, labels).T
    return float(np.sum(count * np.abs(accuracy - confidence)) / len(labels))


def confusions(matrix: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return (label, prediction, images) of every kind of mistake made, the most frequent first."""
    kinds = []
    for label, row in enumerate(matrix):
        for prediction, images in enumerate(row):
            if label != prediction and images > 0:
                kinds.append((label, prediction, images))
    return sorted(kinds, key=lambda kind: -kind[2])


# ---- Log-probabilities ---------------------------------------------------------------------------


def log_probabilities(
    network, images: np.ndarray, tta: bool = False, progress: bool = True
) -> np.ndarray:
    """Return log y^ (N, C), float64, of a `model.Network` in inference mode, images (N, 3072).

    tta: test-time augmentation, the log-probabilities of the mean of the logits of each image and
    its mirror image. progress: draw a bar on a terminal's stderr if it takes over two seconds.
    """
    z2 = np.empty((len(images), network.classes))
    hidden = None if progress else True  # None: hidden unless stderr is a terminal
    bar = tqdm(total=len(images), unit=" images", delay=2, leave=False, disable=hidden)
    with bar:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            z2[start : start + BATCH] = _logits(network, batch, tta)
            bar.update(len(batch))
    return log_softmax(z2)


def _logits(network, images: np.ndarray, tta: bool) -> np.ndarray:
    """Return the logits (m, C), float64."""
    z2 = network.logits(images).astype(np.float64)
    if not tta:
        return z2
    with np.errstate(invalid="ignore"):  # logits that overflowed
        z2 += network.logits(mirror_images(images))
    return z2 / 2


def log_softmax(z2: np.ndarray) -> np.ndarray:
    """Return log y^ = z2 - log sum_c exp(z2_c) (8), NaN if logits overflowed."""
    with np.errstate(invalid="ignore"):
        return z2 - np.logaddexp.reduce(z2, axis=1, keepdims=True)


def mirror_images(images: np.ndarray) -> np.ndarray:
    """Return the images (N, 3072) with left and right exchanged."""
    square = images.reshape(-1, CHANNELS, SIDE, SIDE)
    return square[..., ::-1].reshape(len(images), -1)


def mean_probability(log_ys: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean of several networks' probabilities.

    log_ys: the log-probabilities of each network, (N, C).
    """
    with np.errstate(invalid="ignore"):  # logits that overflowed
        return np.logaddexp.reduce(log_ys) - np.log(len(log_ys))
