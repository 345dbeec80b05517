"""support/network/metrics.py: figures of merit against scikit-learn's and by their definitions."""

import model
from support.network import metrics as ours

import numpy as np
import pytest
from sklearn import metrics

CLASSES = range(10)
NEVER_PREDICTED = 4


def log_y_of(seed, n=400):
    """Return log-probabilities (n, 10) that never predict one class, and labels."""
    rng = np.random.default_rng(seed)
    z2 = 3 * rng.standard_normal((n, 10))
    z2[:, NEVER_PREDICTED] = -20
    labels = np.where(rng.random(n) < 0.6, z2.argmax(axis=1), rng.integers(0, 10, n))
    return model.log_softmax(z2), labels


@pytest.fixture(params=[0, 1])
def predicted(request):
    """Log-probabilities, labels, predictions and their measures."""
    log_y, labels = log_y_of(request.param)
    return log_y, labels, log_y.argmax(axis=1), ours.measure(log_y, labels)


def test_accuracy_is_that_of_scikit_learn(predicted):
    _, labels, predictions, m = predicted
    assert m.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))


def test_the_loss_is_that_of_scikit_learn(predicted):
    log_y, labels, _, m = predicted
    assert m.loss == pytest.approx(metrics.log_loss(labels, np.exp(log_y), labels=CLASSES))


def test_top_2_accuracy_is_that_of_scikit_learn(predicted):
    log_y, labels, _, m = predicted
    theirs = metrics.top_k_accuracy_score(labels, np.exp(log_y), k=2, labels=CLASSES)
    assert m.top2 == pytest.approx(theirs)


def test_the_confusion_matrix_is_that_of_scikit_learn(predicted):
    _, labels, predictions, m = predicted
    theirs = metrics.confusion_matrix(labels, predictions, labels=CLASSES)
    assert m.confusion == theirs.tolist()


def test_the_figures_of_each_class_are_those_of_scikit_learn(predicted):
    _, labels, predictions, m = predicted
    theirs = metrics.precision_recall_fscore_support(
        labels, predictions, labels=CLASSES, zero_division=0
    )
    for mine, their in zip((m.precision, m.recall, m.f1, m.support), theirs, strict=True):
        np.testing.assert_allclose(mine, their)


def test_the_precision_of_a_class_that_is_never_predicted_is_0(predicted):
    assert predicted[-1].precision[NEVER_PREDICTED] == 0


def test_balanced_accuracy_is_that_of_scikit_learn(predicted):
    _, labels, predictions, m = predicted
    theirs = metrics.balanced_accuracy_score(labels, predictions)
    assert m.balanced_accuracy == pytest.approx(theirs)


def test_balanced_accuracy_leaves_out_classes_without_images():
    log_y, labels = log_y_of(3)
    kept = labels != 7
    theirs = metrics.recall_score(
        labels[kept], log_y[kept].argmax(axis=1), average=None, labels=[0, 1, 2, 3, 4, 5, 6, 8, 9]
    )
    assert ours.measure(log_y[kept], labels[kept]).balanced_accuracy == pytest.approx(theirs.mean())


def test_balanced_accuracy_is_printed_only_if_classes_are_uneven():
    log_y, labels = log_y_of(4)
    assert "balanced accuracy" in ours.formatted(ours.measure(log_y, labels))
    even = np.arange(400) % 10
    assert "balanced accuracy" not in ours.formatted(ours.measure(log_y, even))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(5, 10, 0.23659, 0.76341), (0, 10, 0, 0.27753), (5812, 10_000, 0.57150, 0.59083)],
)
def test_wilson_interval(correct, n, low, high):
    assert ours.wilson(correct, n) == pytest.approx((low, high), abs=1e-5)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    log_y, labels = log_y_of(2, 300)
    confidence = np.exp(log_y).max(axis=1)
    correct = log_y.argmax(axis=1) == labels
    error = 0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            error += inside.mean() * gap
    assert ours.measure(log_y, labels).calibration_error == pytest.approx(error)


def test_a_confidence_of_1_is_in_the_last_bin():
    sure = np.full((4, 10), -np.inf)
    sure[:, 3] = 0
    table = ours.calibration(sure, np.array([3, 3, 3, 5]))
    assert table[-1].tolist() == [4, 1, 0.75]
    assert not table[:-1].any()


def test_confusions_are_listed_most_frequent_first():
    matrix = [[5, 1, 0], [3, 9, 0], [0, 2, 4]]
    assert ours.confusions(matrix) == [(1, 0, 3), (2, 1, 2), (0, 1, 1)]
