"""The figures of a checkpoint, against the arrays that they show."""

import re
import warnings
from dataclasses import asdict, replace
from functools import partial

import model
import train
import visualize
from support.figures import curves, images, style, weights
from support.figures.style import LeftOut
from support.figures.subject import Subject
from support.network import metrics
from support.network.filters import influence
from support.network.votes import explain

import matplotlib
import numpy as np
import pytest
from figures import HISTORY, info_of, save_networks, whitened

augmentation = visualize.augmentation
# A network with mirrored filters, whose images are therefore not flipped.
MIRRORED = {"mirror": True, "preprocess": "whiten", "flip": True, "shift": 0}


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    return save_networks(tmp_path_factory.mktemp("nets"), data)


def load(nets, data, name):
    """Return the Subject of one of the networks."""
    network, info = model.load(nets / f"{name}.npz")
    return Subject(network, info, data.class_names, data)


@pytest.fixture
def subject(nets, data):
    return load(nets, data, "bn")


@pytest.fixture
def windows(nets, data):
    return load(nets, data, "windows")


@pytest.fixture(autouse=True)
def drawing():
    with style.drawing():
        yield
    style.plt.close("all")


# ---- Curves --------------------------------------------------------------------------------------


def test_curves_are_the_history(subject):
    figure, _ = curves.curves(subject)
    loss, accuracy, rate = figure.axes
    drawn = [list(line.get_ydata()) for line in loss.lines[:2]]
    assert drawn == [HISTORY["train_loss"], HISTORY["val_loss"]]
    expected = 100 * np.array(HISTORY["val_accuracy"])
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), expected)
    assert list(rate.lines[0].get_ydata()) == HISTORY["learning_rate"]


def test_curves_name_the_best_epoch(subject):
    figure, _ = curves.curves(subject)
    loss, accuracy, _ = figure.axes
    assert loss.lines[2].get_xdata()[0] == 2
    assert "best epoch, 2" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert accuracy.get_title(loc="right") == "at the best epoch 38.00%"


def test_a_first_loss_far_above_the_others_leaves_the_axis(subject):
    figure, caption = curves.curves(subject)
    assert figure.axes[0].get_ylim()[1] < 2.5
    assert "up to 6.5, lies above the axis" in caption


def test_the_best_epoch_stays_inside_if_it_is_the_first(subject):
    subject.info["history"] = HISTORY | {"val_accuracy": [0.5, 0.4, 0.3]}
    figure, caption = curves.curves(subject)
    assert figure.axes[0].get_ylim()[1] > 6.5
    assert "above the axis" not in caption


def test_a_loss_of_smoothed_labels_has_a_scale_of_its_own(subject):
    subject.info["settings"]["label_smoothing"] = 0.1
    figure, caption = curves.curves(subject)
    loss, own = figure.axes[0], figure.axes[-1]
    assert [list(line.get_ydata()) for line in own.lines] == [HISTORY["train_loss"]]
    assert list(loss.lines[0].get_ydata()) == HISTORY["val_loss"]
    assert "smoothed labels" in caption


def test_a_run_of_one_epoch_is_drawn(subject):
    subject.info["history"] = {name: column[:1] for name, column in HISTORY.items()}
    curves.curves(subject)[0].draw_without_rendering()


def test_several_runs_in_one_figure(data):
    runs = {"a": info_of(data), "b": info_of(data), "c": info_of(data)}
    figure, _ = curves.compared(runs)
    assert list(figure.axes[0].lines[0].get_ydata()) == HISTORY["val_loss"]
    colours = {figure.axes[0].lines[i].get_color() for i in (0, 2, 4)}
    assert len(colours) == 3


# ---- Weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn", "windows", "mirrored"])
def test_filters_are_in_the_order_of_their_influence(nets, data, name):
    s = load(nets, data, name)
    figure, caption = weights.filters(s, patches=False)
    order = np.argsort(-influence(s.network, data.test_images), kind="stable")[:30]
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [f"unit {unit}" for unit in order]
    assert "logits of 200 test images would change" in caption


def test_filters_have_their_top_patches_next_to_them(windows):
    figure, caption = weights.filters(windows)
    pictures = [ax.images[0].get_array().shape for ax in figure.axes if ax.images]
    assert pictures == [(8, 8, 3), (26, 26, 3)] * 24
    assert "among 1,000 training images" in caption
    assert "49 positions" in caption


def test_without_images_filters_are_in_a_stated_order(nets, data):
    network, info = model.load(nets / "windows.npz")
    s = Subject(network, info, data.class_names)
    figure, caption = weights.filters(s)
    W2 = np.sqrt((s.W2**2).sum(axis=(0, 2)))
    order = np.argsort(-s.norms * W2, kind="stable")
    assert figure.axes[0].get_title() == f"unit {order[0]}"
    assert "norm of their column of W1 times the norm of their weights in W2" in caption


@pytest.mark.parametrize("name", ["bn", "windows"])
def test_top_neurons_are_those_of_W2(nets, data, name):
    s = load(nets, data, name)
    total = s.W2.sum(axis=0)
    figure, caption = weights.top_neurons(s)
    bars = [ax for ax in figure.axes if ax.patches]
    assert [ax.get_title() for ax in bars] == list(s.names)
    for c, ax in enumerate(bars):
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, np.sort(total[:, c])[::-1][:3])
        colours = {matplotlib.colors.to_hex(bar.get_facecolor()) for bar in ax.patches}
        assert colours == {style.CLASS_COLOURS[c].lower()}
    different = len({unit for c in range(10) for unit in np.argsort(-total[:, c])[:3]})
    assert f"{different} of the 30 are different units" in caption


@pytest.mark.parametrize("name", ["bn", "windows"])
def test_output_weights_are_W2_sorted_by_class(nets, data, name):
    s = load(nets, data, name)
    figure, caption = weights.output_weights(s)
    shown = figure.axes[0].images[0].get_array()
    rows = s.W2.transpose(1, 2, 0).reshape(s.network.hidden_size, -1)
    assert sorted(map(tuple, shown.tolist())) == sorted(map(tuple, rows.tolist()))
    largest = shown.reshape(len(shown), 10, -1).sum(axis=2).argmax(axis=1)
    assert (np.diff(largest) >= 0).all()
    measure = "largest sum over the regions" if name == "windows" else "largest weight"
    assert measure in figure.axes[0].get_ylabel()
    assert measure in caption


# ---- Predictions ---------------------------------------------------------------------------------


def test_confusion_is_that_of_the_predictions(subject, data):
    log_y = metrics.log_probabilities(subject.network, data.test_images)
    m = metrics.measure(log_y, data.test_labels)
    figure, _ = images.confusion(subject)
    shares = 100 * np.array(m.confusion) / np.array(m.support)[:, None]
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn == [f"{share:.0f}" for share in shares.ravel()]
    mistakes = shares - np.diag(shares.diagonal())
    assert figure.axes[0].images[0].get_clim()[1] == pytest.approx(mistakes.max())


def test_examples_are_the_surest_mistakes(subject, data):
    y = np.exp(subject.log_y)
    names, labels, predicted = subject.names, data.test_labels, y.argmax(axis=1)
    titles = [ax.get_title() for ax in images.examples(subject)[0].axes]
    expected = []
    for i in subject.surest_mistakes[:12]:
        called, true = predicted[i], labels[i]
        first = f"{names[called]} {style.percent(y[i, called], 0)}"
        expected.append(f"{first}\nis {names[true]} {style.percent(y[i, true])}")
    assert titles == expected


def test_reliability_is_the_calibration(subject, data):
    figure, _ = images.reliability(subject)
    error = f"calibration error {subject.measures.calibration_error:.1%}"
    assert figure.axes[0].get_title(loc="right") == error
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 200
    low, high = figure.axes[0].collections[0].get_segments()[-1][:, 1]
    filled = [row for row in metrics.calibration(subject.log_y, data.test_labels) if row[0]]
    count, _, accuracy = filled[-1]
    assert (low, high) == pytest.approx(metrics.wilson(round(accuracy * count), int(count)))


def test_the_worst_mistakes_of_each_class(subject, data):
    figure, _ = images.mistakes(subject)
    own = subject.log_y[np.arange(200), data.test_labels]
    wrong = subject.log_y.argmax(axis=1) != data.test_labels
    axes = np.array(figure.axes).reshape(5, 5)
    for c in range(10):
        rows = np.flatnonzero(wrong & (data.test_labels == c))
        worst = rows[np.argsort(own[rows], kind="stable")][:2]
        first = c % 2 * 3
        shown = [ax.images[0] for ax in axes[c // 2, first : first + 2] if ax.images]
        assert len(shown) == len(worst)
        for image, i in zip(shown, worst, strict=True):
            np.testing.assert_array_equal(image.get_array(), style.as_image(data.test_images[i]))


def test_votes_are_of_the_surest_mistakes(subject):
    i = subject.surest_mistakes[1]
    figure, caption = images.votes(subject, 1)
    assert f"test image {i}." in caption
    assert figure.get_figwidth() == pytest.approx(style.WIDTH)


def test_votes_of_a_mistake_have_the_true_class(subject):
    i = subject.surest_mistakes[0]
    figure, _ = images.votes(subject, 0)
    titles = [ax.get_title() for ax in figure.axes]
    assert subject.names[subject.labels[i]] in titles


def test_votes_with_a_background_are_shapley_values(windows, data):
    s = replace(windows, background_size=50)
    assert len(s.background) == 50
    _, caption = images.votes(s, 0)
    assert "Shapley values" in caption
    average = windows.network.logits(s.background).mean(axis=0)
    explanation = explain(s.network, s.images[0], background=s.background)
    np.testing.assert_allclose(explanation.rest, average, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("draw", [partial(images.votes, which=0), images.examples])
def test_without_mistakes_there_is_nothing_to_draw(subject, draw):
    s = replace(subject)
    s.__dict__["log_y"] = model.log_softmax(np.eye(10)[s.labels] * 20)
    with pytest.raises(LeftOut, match="predicted"):
        draw(s)


# ---- The hidden layer ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn", "mirrored", "dense"])
def test_firing_counts_dead_units(nets, data, name):
    s = load(nets, data, name)
    bias = s.network.weights["beta1" if name == "bn" else "b1"]
    bias[0, 7], bias[0, 8] = -1e6, 1e6
    caption = images.firing(s)[1]
    dead, always = re.search(r"(\d+) of the .* are dead, .* and (\d+) are above", caption).groups()
    assert int(dead) >= 1
    assert int(always) >= 1


def test_firing_is_the_share_of_activations_above_zero(windows, data):
    on = windows.network.hidden(data.test_images) > 0
    np.testing.assert_allclose(windows.firing.above, on.mean(axis=0))


def test_activations_are_what_the_output_layer_takes(windows, data):
    figure, caption = images.activations(windows)
    a1 = windows.network.hidden(data.test_images)
    points, _ = style.principal((windows.network.window.R @ a1).reshape(200, -1))
    dots = figure.axes[0].collections[3].get_offsets()
    np.testing.assert_allclose(dots, points[data.test_labels == 3], rtol=1e-3, atol=1e-5)
    assert f"{9 * 24:,} outputs" in caption


def test_the_means_of_the_classes_are_named(windows):
    figure, _ = images.activations(windows)
    assert {text.get_text() for text in figure.axes[1].texts} == set(windows.names)


# ---- Augmentation --------------------------------------------------------------------------------


def test_augmentation_shows_what_training_does(subject, data):
    figure, caption = augmentation(subject)
    first = figure.axes[0].images[0].get_array()
    row = np.flatnonzero(data.train_labels == 0)[0]
    np.testing.assert_array_equal(first, style.as_image(data.train_images[row]))
    assert figure.axes[0].get_title() == "original"
    assert any((ax.images[0].get_array() != first).any() for ax in figure.axes[1:5])
    assert "flipped with" in caption
    assert "by up to 2 pixels" in caption


def test_augmentation_with_mirror_has_no_flip(nets, data):
    s = load(nets, data, "mirrored")
    s.info["settings"] |= MIRRORED | {"jitter": 0.1}
    caption = augmentation(s)[1]
    assert "contrast" in caption
    assert "flipped" not in caption


def test_augmentation_flips_if_mirror_has_no_effect_without_whitening(nets, data):
    s = load(nets, data, "bn")
    settings = asdict(train.resolve({"preprocess": "none"}, "quick"))
    s.info["settings"] = settings
    caption = augmentation(s)[1]
    assert "flipped with probability 1/2" in caption


def test_no_augmentation_is_left_out(nets, data):
    s = load(nets, data, "mirrored")
    s.info["settings"] |= MIRRORED
    with pytest.raises(LeftOut, match="were not augmented"):
        augmentation(s)


# ---- All figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn", "mirrored", "dense"])
def test_all_text_is_legible_in_a_column(nets, data, name):
    s = load(nets, data, name)
    for kind in visualize.FIGURES.values():
        if kind.draw is weights.batchnorm and not s.network.batchnorm:
            continue
        figure, _ = kind.draw(s)
        assert figure.get_size_inches()[0] == 3.4
        assert min(text.get_fontsize() for text in figure.findobj(matplotlib.text.Text)) >= 8


@pytest.mark.parametrize(
    "draw",
    [
        partial(weights.filters, patches=False),
        weights.top_neurons,
        weights.weights,
        weights.output_weights,
        images.firing,
        partial(images.votes, which=0),
    ],
)
def test_numbers_of_two_sided_units_are_explained(nets, data, draw):
    _, caption = draw(load(nets, data, "mirrored"))
    assert "Unit 24 + h is unit h with the sign of its filter reversed." in caption
    _, caption = draw(load(nets, data, "windows"))
    assert "reversed" not in caption


def test_norms_are_those_of_the_units_in_the_file(nets, data):
    s = load(nets, data, "mirrored")
    np.testing.assert_allclose(s.norms, np.linalg.norm(s.loaded.weights["W1"], axis=0), rtol=1e-6)


def test_the_log_probabilities_are_those_of_the_checkpoint(nets, data):
    s = load(nets, data, "mirrored")
    np.testing.assert_allclose(s.log_y, metrics.log_probabilities(s.network, s.images), atol=1e-4)


@pytest.fixture(scope="module")
def hundred(data):
    """A Subject with a hundred classes, two test images each."""
    labels = np.arange(200) % 100
    names = tuple(f"kind {i}" for i in range(100))
    train_labels = np.arange(1000) % 100
    many = replace(data, test_labels=labels, train_labels=train_labels, class_names=names)
    return Subject(model.Network(16, classes=100, seed=0), {}, names, many)


def test_of_many_classes_the_worst_and_the_best_are_shown(hundred):
    recall, shown = np.array(hundred.measures.recall), hundred.shown(20)
    assert len(shown) == 20
    assert recall[shown[:10]].max() <= recall[shown[10:]].min()


def test_confusion_of_many_classes_is_their_recall(hundred):
    recall = np.array(hundred.measures.recall)[hundred.shown(20)]
    figure, caption = images.confusion(hundred)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx(100 * recall)
    assert "of 100 classes the 10 with the lowest recall" in caption


@pytest.mark.parametrize(
    "draw", [weights.output_weights, weights.top_neurons, images.activations, images.mistakes]
)
def test_figures_of_many_classes_say_so(hundred, draw):
    figure, caption = draw(hundred)
    figure.draw_without_rendering()
    assert "Of 100 classes" in caption


def test_without_images_some_classes_are_shown_in_their_order(hundred):
    s = replace(hundred, data=None)
    assert s.shown(4) == [0, 1, 98, 99]
    assert "the first 2 and the last 2" in s.some(4)


def test_the_report_has_a_row_for_each_class_shown(hundred):
    assert visualize.merit(hundred)["Classes"].count("<tr>") == 21


@pytest.mark.parametrize(
    "draw",
    [
        images.confusion,
        images.reliability,
        weights.features,
        weights.top_neurons,
        partial(images.votes, which=0),
    ],
)
def test_two_classes_are_drawn(data, draw):
    two = replace(data, test_labels=data.test_labels % 2, train_labels=data.train_labels % 2)
    s = Subject(model.Network(16, classes=2, seed=0), {}, ("a", "b"), two)
    draw(s)[0].draw_without_rendering()


WHOLE, WINDOWS = None, whitened()


@pytest.mark.parametrize(
    ("value", "window"),
    [(0.0, WINDOWS), (-1e30, WHOLE), (3e38, WHOLE), (3e38, WINDOWS)],
    ids=["0, windows", "-1e30, whole", "3e38, whole", "3e38, windows"],
)
def test_extreme_weights_are_drawn_or_refused(data, value, window):
    network = model.Network(8, window, batchnorm=window is None, seed=0)
    for name, array in network.weights.items():
        array[...] = abs(value) if "var" in name else value
    s = Subject(network, {}, data.class_names, data)
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("error")
        for name in ("output-weights", "weights", "features", "firing", "filters", "top-neurons"):
            visualize.FIGURES[name].draw(s)[0].draw_without_rendering()
        for name in ("confusion", "reliability", "activations", "votes-1"):
            try:
                visualize.FIGURES[name].draw(s)
            except LeftOut as why:
                assert "overflow" in str(why)
