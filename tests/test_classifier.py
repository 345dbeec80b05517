"""`train.Classifier`: the bits of train.py, with scikit-learn's conventions."""

import os
import pickle
import re
import signal
import subprocess
import sys
import warnings

import model
import train
from data.cifar10 import Dataset
from support.files import FileError
from support.training.arrays import check_numbers
from support.training.interrupts import interrupts_wait
from train import Classifier

import numpy as np
import pytest
from helpers import ROOT, line_of
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

SMALL = {"hidden_size": 16, "epochs": 2, "batch_size": 64}
WINDOWS = train.RECIPES["quick"] | {
    "hidden_size": 12,
    "epochs": 2,
    "stride": 4,
    "whiten_dims": 20,
    "batch_size": 32,
}


@pytest.fixture(scope="module")
def images(data):
    """200 images and their labels, all ten classes."""
    return data.train_images[:200], data.train_labels[:200]


@pytest.fixture(scope="module")
def fitted(images):
    """A classifier of `images`; not to be changed."""
    return Classifier(**SMALL).fit(*images)


def same_weights(a, b):
    """Check that two classifiers have the same bits."""
    for name, array in a.network_.weights.items():
        np.testing.assert_array_equal(array, b.network_.weights[name], strict=True)


# ---- Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, WINDOWS], ids=["report", "quick"])
def test_fit_gives_the_bits_of_train(tmp_path, images, data, settings):
    net = Classifier(random_state=3, threads=2, **settings).fit(*images)
    X, y = images
    same = Dataset("synthetic", X, y, X[:0], y[:0], data.class_names, "0" * 64, tmp_path)
    train.train(train.resolve(settings | {"seed": 3}), same, tmp_path / "net.npz")
    network, info = model.load(tmp_path / "net.npz")
    for name, array in network.weights.items():
        np.testing.assert_array_equal(net.network_.weights[name], array, strict=True)
    assert net.loss_curve_ == info["history"]["train_loss"]
    assert net.validation_scores_ == info["history"]["val_accuracy"]
    assert net.best_epoch_ == info["best_epoch"]


def test_fit_writes_no_file(tmp_path, monkeypatch, images):
    monkeypatch.chdir(tmp_path)
    Classifier(**SMALL).fit(*images)
    assert not list(tmp_path.iterdir())


def test_fit_accepts_squares_of_floats(fitted, images):
    X, y = images
    square = X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    same_weights(Classifier(**SMALL).fit(square / 255, y), fitted)


def test_rows_flattened_by_pixel_are_warned_about_at_every_door(fitted, images):
    X, y = images
    rows = X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).reshape(len(X), -1)
    for call in (
        lambda: Classifier(**SMALL).fit(rows, y),
        lambda: fitted.predict(rows),
        lambda: fitted.predict_proba(rows[:1] / 255),
        lambda: fitted.score(rows, y),
    ):
        with pytest.warns(UserWarning, match=r"reshape\(-1, 32, 32, 3\)"):
            call()


def test_probabilities_of_each_image_sum_to_1(fitted, images):
    probabilities = fitted.predict_proba(images[0])
    assert probabilities.shape == (200, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_predicted_label_is_the_likeliest(fitted, images):
    likeliest = fitted.predict_proba(images[0]).argmax(axis=1)
    np.testing.assert_array_equal(fitted.predict(images[0]), fitted.classes_[likeliest])


def test_the_order_of_images_does_not_matter(fitted, images):
    X = images[0]
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = fitted.predict_proba(X[order])
    np.testing.assert_allclose(shuffled, fitted.predict_proba(X)[order], atol=1e-6)


def test_the_other_images_do_not_matter(fitted, images):
    X = images[0][:20]
    alone = np.concatenate([fitted.predict_proba(image[None]) for image in X])
    np.testing.assert_allclose(alone, fitted.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        np.array([f"class {i}" for i in range(10)]),
        np.arange(10) * 7 - 3,
        np.arange(10.0),
        np.arange(10).astype(object),
    ],
    ids=["text", "whole numbers", "floats", "objects"],
)
def test_labels_of_any_kind(fitted, images, names):
    X, y = images
    net = Classifier(**SMALL).fit(X, names[y])
    np.testing.assert_array_equal(net.classes_, np.sort(names))
    np.testing.assert_array_equal(net.predict(X), names[fitted.predict(X)])
    assert net.score(X, names[y]) == fitted.score(X, y)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs NumPy 2")
def test_labels_in_numpys_own_text(images, tmp_path):
    X, y = images
    names = np.array([f"class {i}" for i in range(10)])[y]
    net = Classifier(**SMALL).fit(X, names.astype(np.dtypes.StringDType()))
    np.testing.assert_array_equal(net.predict(X), Classifier(**SMALL).fit(X, names).predict(X))
    net.save(tmp_path / "net.npz")
    again = Classifier.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_two_classes(images):
    X, y = images
    net = Classifier(**SMALL).fit(X, y > 4)
    assert net.classes_.tolist() == [False, True]
    assert net.predict_proba(X).shape == (200, 2)


def test_one_class_is_refused(images):
    with pytest.raises(ValueError, match="y holds only one class"):
        Classifier(**SMALL).fit(images[0], np.ones(200))


def test_the_score_is_the_accuracy(fitted, images):
    X, y = images
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)


def test_a_score_needs_a_label_for_each_image(fitted, images):
    X, y = images
    for labels in (y[:1], y[:-1]):
        with pytest.raises(ValueError, match=f"200 images, and y has {len(labels)} labels"):
            fitted.score(X, labels)


def test_settings_without_effect_are_ignored_as_in_scikit_learn(fitted, images, tmp_path):
    path = tmp_path / "net.npz"
    Classifier(stride=2, **SMALL).fit(*images).save(path)
    same_weights(Classifier.load(path).fit(*images), fitted)


def test_a_random_state_of_none_is_another_one_in_each_fit(images):
    net = Classifier(**SMALL | {"epochs": 1}, random_state=None)
    seeds = [net.fit(*images).info_["settings"]["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]
    assert net.random_state is None


@pytest.mark.parametrize("kind", [np.random.SeedSequence, np.random.PCG64, str])
def test_another_random_state_is_named_in_one_line(images, kind):
    with pytest.raises(ValueError) as caught:
        Classifier(random_state=kind(5), **SMALL).fit(*images)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("random_state=")


def test_a_validation_share_that_leaves_nothing_is_named_as_in_python(images):
    for changes in ({"limit": 10}, {"validation_share": 0}):
        with pytest.raises(ValueError, match=r"^validation_share 0"):
            Classifier(**SMALL | changes).fit(*images)


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_each_fit_draws_a_seed_of_a_generator(images, kind):
    nets = []
    for _ in range(2):
        net = Classifier(random_state=kind(5), **SMALL)
        nets.append([net.fit(*images).info_["settings"]["seed"] for _ in range(2)])
    assert nets[0] == nets[1]
    assert nets[0][0] != nets[0][1]


def test_the_validation_loss_is_an_attribute(fitted):
    assert fitted.validation_loss_curve_ == fitted.info_["history"]["val_loss"]
    assert len(fitted.validation_loss_curve_) == 2


# ---- Weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1, 1e-3, 7.0, True], ids=str)
def test_equal_weights_of_any_size_change_no_bit(fitted, images, weight):
    weights = np.full(200, weight)
    same_weights(Classifier(**SMALL).fit(*images, sample_weight=weights), fitted)


def test_only_the_ratios_of_weights_count(images):
    weights = np.random.default_rng(0).integers(1, 5, 200)
    nets = [Classifier(**SMALL).fit(*images, sample_weight=w) for w in (weights, weights / 1024)]
    same_weights(*nets)


def test_weights_of_any_type_are_understood(images):
    weights = np.arange(200) % 3
    net = Classifier(**SMALL).fit(*images, sample_weight=weights)
    for form in (list, lambda w: w.astype(np.float16), lambda w: w.astype(object)):
        same_weights(Classifier(**SMALL).fit(*images, sample_weight=form(weights)), net)


def test_an_image_of_weight_0_is_left_out(images):
    X, y = images
    used = np.arange(200) % 3 > 0
    net = Classifier(**SMALL).fit(X, y, sample_weight=used)
    same_weights(net, Classifier(**SMALL).fit(X[used], y[used]))


def test_a_class_of_weight_0_stays_a_class(images):
    X, y = images
    net = Classifier(**SMALL).fit(X, y, sample_weight=y != 3)
    assert net.classes_.tolist() == list(range(10))


def test_a_class_with_larger_weights_is_predicted_more_often(images):
    X, y = images
    plain = Classifier(**SMALL).fit(X, y).predict(X)
    weighted = Classifier(**SMALL).fit(X, y, sample_weight=np.where(y == 3, 100, 1)).predict(X)
    assert (weighted == 3).sum() > (plain == 3).sum()


@pytest.mark.parametrize(
    "weights, fault",
    [
        (np.ones(199), "199 values, and X has 200"),
        (np.ones((200, 1)), "shape"),
        (2.0, "shape"),
        (np.zeros(200), "zero everywhere"),
        (np.r_[np.ones(199), -1], "negative value: -1 at 199"),
        (np.r_[np.nan, np.ones(199)], "NaN or infinity: nan at 0"),
        (np.r_[np.inf, np.ones(199)], "NaN or infinity"),
        (np.full(200, "1"), "numbers"),
        (np.full(200, 1j), "numbers"),
        ([None] * 200, "NaN"),
        (np.ma.array(np.ones(200), mask=np.arange(200) == 5), "masked"),
    ],
    ids=str,
)
def test_invalid_weights_are_refused_by_fit_and_score(fitted, images, weights, fault):
    for call in (Classifier(**SMALL).fit, fitted.score):
        with pytest.raises(ValueError) as caught:
            call(*images, sample_weight=weights)
        assert "sample_weight" in str(caught.value)
        assert fault in str(caught.value)


def test_weights_that_leave_one_class_are_refused(images):
    with pytest.raises(ValueError, match="one class"):
        Classifier(**SMALL).fit(*images, sample_weight=images[1] == 3)


def test_a_score_is_weighted(fitted, images):
    X, y = images
    correct = fitted.predict(X) == y
    assert fitted.score(X, y, sample_weight=correct) == 1
    assert fitted.score(X, y, sample_weight=~correct) == 0
    weights = np.arange(200.0)
    expected = np.average(correct, weights=weights)
    assert fitted.score(X, y, sample_weight=weights) == pytest.approx(expected)


def test_balanced_classes_are_those_of_the_setting(images, data, tmp_path):
    X, y = images
    uneven = np.flatnonzero((y > 0) | (np.arange(200) < 100))
    settings = SMALL | {"class_weight": "balanced"}
    net = Classifier(**settings).fit(X[uneven], y[uneven])
    none = X[:0], y[:0]
    same = Dataset("uneven", X[uneven], y[uneven], *none, data.class_names, "0" * 64, tmp_path)
    run = train.train(train.resolve(settings), same, None)
    np.testing.assert_array_equal(net.network_.weights["W1"], run.best.weights["W1"])


@pytest.mark.parametrize("names", [np.arange(10), np.array(list("abcdefghij"))], ids=str)
def test_a_dict_of_class_weights_is_a_weight_for_each_image(images, names):
    X, y = images
    by_class = Classifier(class_weight={names[3]: 5, names[4]: 0.5}, **SMALL).fit(X, names[y])
    factors = np.ones(10)
    factors[[3, 4]] = 5, 0.5
    same_weights(by_class, Classifier(**SMALL).fit(X, names[y], sample_weight=factors[y]))


def test_class_weights_and_sample_weights_multiply(images):
    X, y = images
    both = Classifier(class_weight={3: 5}, **SMALL).fit(X, y, sample_weight=1 + y % 2)
    factors = np.where(y == 3, 5, 1) * (1 + y % 2)
    same_weights(both, Classifier(**SMALL).fit(X, y, sample_weight=factors))


def test_no_class_weight_is_none(fitted, images):
    same_weights(Classifier(class_weight=None, **SMALL).fit(*images), fitted)


@pytest.mark.parametrize(
    "class_weight, fault",
    [
        ({"cat": 2}, "label 'cat'"),
        ({3: "much"}, "number"),
        ({3: -1}, "negative"),
        ({3: np.nan}, "NaN"),
        (dict.fromkeys(range(10), 0), "zero everywhere"),
    ],
    ids=str,
)
def test_invalid_class_weights_are_refused(images, class_weight, fault):
    with pytest.raises(ValueError) as caught:
        Classifier(class_weight=class_weight, **SMALL).fit(*images)
    assert "class_weight" in str(caught.value)
    assert fault in str(caught.value)


def test_class_weights_are_saved_and_loaded(images, tmp_path):
    net = Classifier(class_weight={3: 5.0}, **SMALL).fit(*images)
    net.set_params(class_weight="balanced").save(tmp_path / "net.npz")  # the next fit's
    again = Classifier.load(tmp_path / "net.npz")
    assert again.class_weight == {label: 5.0 if label == 3 else 1.0 for label in range(10)}
    same_weights(again.fit(*images), net)


# ---- Warm start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, WINDOWS], ids=["report", "quick"])
def test_a_warm_start_begins_with_the_weights_of_the_last_fit(images, settings):
    net = Classifier(warm_start=True, **settings).fit(*images)
    first = net.network_
    net.set_params(learning_rate=0.0, ema=0.0, momentum=0.0).fit(*images)
    for name in ("W1", "b1", "W2", "b2"):
        weights = net.network_.weights[name]
        np.testing.assert_allclose(weights, first.weights[name], rtol=1e-5, atol=1e-7)
    for name, array in first.window.map.items():
        np.testing.assert_array_equal(net.network_.window.map[name], array)


def test_a_warm_start_learns_further(images):
    net = Classifier(warm_start=True, **SMALL).fit(*images)
    before = net.loss_curve_[0]
    assert net.fit(*images).loss_curve_[0] < before
    assert len(net.loss_curve_) == 2


def test_a_warm_start_on_other_images_keeps_the_whitening_map(images):
    X, y = images
    net = Classifier(warm_start=True, **WINDOWS).fit(X[:150], y[:150])
    P = net.network_.window.P
    np.testing.assert_array_equal(net.fit(X[50:], y[50:]).network_.window.P, P)


def test_without_warm_start_a_second_fit_begins_anew(fitted, images):
    net = Classifier(**SMALL).fit(*images)
    same_weights(net.fit(*images), fitted)


def test_a_checkpoint_is_trained_further(images, tmp_path, fitted):
    fitted.save(tmp_path / "net.npz")
    net = Classifier.load(tmp_path / "net.npz").set_params(warm_start=True).fit(*images)
    assert net.loss_curve_[0] < fitted.loss_curve_[0]


@pytest.mark.parametrize(
    "name, value", [("hidden_size", 8), ("batchnorm", False), ("cap", 1.0), ("window", 8)]
)
def test_a_warm_start_keeps_the_network(images, name, value):
    net = Classifier(warm_start=True, **SMALL).fit(*images)
    with pytest.raises(ValueError, match=f"{name}={value}.* must stay .*warm_start"):
        net.set_params(**{name: value}).fit(*images)


def test_a_warm_start_keeps_the_classes(images):
    X, y = images
    net = Classifier(warm_start=True, **SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"classes .*warm_start"):
        net.fit(X, y % 5)


def test_there_is_no_partial_fit_and_the_error_says_what_to_use(fitted):
    assert not hasattr(fitted, "partial_fit")
    with pytest.raises(AttributeError, match="warm_start"):
        fitted.partial_fit(1, 2)


# ---- Progress and Ctrl-C -------------------------------------------------------------------------


def test_a_verbose_fit_prints_a_line_per_epoch(images, capsys):
    Classifier(verbose=True, **SMALL).fit(*images)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_verbose_fit_needs_no_console(stream, images, monkeypatch):
    monkeypatch.setattr(sys, stream, None)  # as in a program without a window
    assert Classifier(verbose=True, **SMALL).fit(*images).best_epoch_ > 0


def test_a_fit_is_silent_by_default(images, capsys):
    Classifier(**SMALL).fit(*images)
    assert capsys.readouterr() == ("", "")


def interrupt_in(monkeypatch, epoch):
    """Make the training stop as by Ctrl-C in this epoch, from 1."""
    rate = train.learning_rate

    def interrupted(settings, done, within):
        if done == epoch - 1 and within > 0.5:
            raise KeyboardInterrupt
        return rate(settings, done, within)

    monkeypatch.setattr(train, "learning_rate", interrupted)


def test_an_interrupted_fit_keeps_the_best_weights_and_warns(images, monkeypatch):
    settings = SMALL | {"epochs": 3, "schedule": "constant"}
    interrupt_in(monkeypatch, 3)
    with pytest.warns(UserWarning, match="interrupted in epoch 3"):
        net = Classifier(**settings).fit(*images)
    assert len(net.loss_curve_) == 2
    same_weights(net, Classifier(**settings | {"epochs": 2}).fit(*images))


def test_a_fit_that_is_interrupted_in_its_first_epoch_has_nothing_to_keep(images, monkeypatch):
    net = Classifier(**SMALL)
    interrupt_in(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*images)
    assert not hasattr(net, "network_")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_real_ctrl_c_keeps_the_best_weights(tmp_path):
    code = (
        "import sys; from train import Classifier; import numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "X, y = rng.integers(256, size=(200, 3072)), np.arange(200) % 2\n"
        "net = Classifier(hidden_size=16, epochs=10**5, patience=0, verbose=True).fit(X, y)\n"
        "print('best', net.best_epoch_, net.predict(X).shape, flush=True)"
    )
    command = [sys.executable, "-c", code]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **options) as process:
        for line in process.stdout:
            if line.split()[:1] == ["3"]:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "interrupted in epoch" in err
    assert out.splitlines()[-1].startswith("best ")


def test_ctrl_c_waits_for_the_end_of_what_is_stored():
    stored = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        stored.append("all")
    assert stored == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_passes_a_block_in_which_ctrl_c_waits():
    with pytest.raises(ZeroDivisionError), interrupts_wait():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---- Parameters ----------------------------------------------------------------------------------


def test_an_unknown_parameter_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match="no parameter 'epoch'; it has random_state, hidden_size"):
        Classifier(epoch=3)
    with pytest.raises(ValueError, match="no parameter 'epoch'; it has random_state, hidden_size"):
        Classifier().set_params(epoch=3)


def test_the_seed_is_called_random_state():
    with pytest.raises(TypeError, match="random_state"):
        Classifier(seed=3)


@pytest.mark.parametrize(
    "name, value, fault",
    [
        ("hidden_size", 0, "at least 1"),
        ("hidden_size", "16", "whole number"),
        ("learning_rate", None, "number"),
        ("init", "random", "one of"),
        ("batchnorm", 1, "true or false"),
        ("batch_size", 1, "batchnorm=False"),
        ("window", 40, "at most 32"),
        ("limit", 1000, "200 training images"),
        ("random_state", 1.5, "whole number"),
        ("random_state", "0", "Generator"),
        ("random_state", True, "whole number"),
        ("random_state", -1, "at least 0"),
        ("threads", 0, "whole number"),
        ("threads", 1.5, "whole number"),
        ("verbose", "yes", "True or False"),
        ("warm_start", None, "True or False"),
        ("class_weight", "equal", "one of"),
        ("class_weight", [1, 2], "a dict"),
    ],
)
def test_an_invalid_parameter_is_named_as_in_python(images, name, value, fault):
    with pytest.raises(ValueError) as caught:
        Classifier(**{name: value}).fit(*images)
    text = str(caught.value)
    assert text.startswith(f"{name}={value!r} ")
    assert fault in text
    assert "--" not in text


def test_a_training_that_diverges_is_an_error(images):
    with pytest.raises(ValueError, match=r"loss not finite in epoch 1.* learning_rate 1e.30"):
        Classifier(learning_rate=1e30, batchnorm=False, **SMALL).fit(*images)


def test_numpys_numbers_are_parameters(images):
    net = Classifier(epochs=np.int64(1), learning_rate=np.float64(0.01), threads=np.int64(2))
    settings = net.fit(*images).info_["settings"]
    assert type(settings["epochs"]) is int
    assert type(settings["learning_rate"]) is float
    assert net.predict(images[0]).shape == (200,)


def test_repr_shows_the_parameters_that_were_changed():
    net = Classifier(epochs=3, window=8, stride=4)
    assert repr(net) == "Classifier(window=8, stride=4, epochs=3)"
    assert repr(net.set_params(epochs=100, window=32)) == "Classifier(stride=4)"
    assert repr(Classifier()) == "Classifier()"


# ---- Files ---------------------------------------------------------------------------------------


@pytest.fixture
def named(images):
    """A classifier of cats and dogs."""
    X, y = images
    return Classifier(random_state=2, **SMALL).fit(X, np.array(["cat", "dog"])[y % 2])


def test_a_saved_classifier_is_loaded(tmp_path, named, images):
    path = tmp_path / "new" / "net.npz"
    named.save(path)
    again = Classifier.load(path, threads=2)
    assert again.get_params() == named.get_params() | {"threads": 2}
    assert again.classes_.tolist() == ["cat", "dog"]
    assert again.n_features_in_ == 3072
    assert again.loss_curve_ == named.loss_curve_
    assert again.best_epoch_ == named.best_epoch_
    np.testing.assert_array_equal(again.predict_proba(images[0]), named.predict_proba(images[0]))


def test_a_saved_classifier_is_a_checkpoint(tmp_path, named):
    named.save(tmp_path / "net.npz")
    _, info = model.load(tmp_path / "net.npz")
    assert info["data"]["class_names"] == ["cat", "dog"]
    assert "fingerprint" not in info["data"]
    assert info["settings"]["seed"] == 2


def test_the_labels_of_a_checkpoint_of_train_are_numbers(tmp_path, named):
    named.network_.save(tmp_path / "net.npz", named.info_)
    assert Classifier.load(tmp_path / "net.npz").classes_.tolist() == [0, 1]


@pytest.mark.parametrize(
    "broken",
    [
        {"classes": ["a"]},
        {"classes": [[1], [2]]},
        {"settings": {"x": 1}},
        {"settings": 3},
        {"history": 3},
    ],
    ids=str,
)
def test_a_broken_checkpoint_is_one_line(tmp_path, named, broken):
    named.network_.save(tmp_path / "broken.npz", named.info_ | broken)
    with pytest.raises(FileError) as caught:
        Classifier.load(tmp_path / "broken.npz")
    line_of(caught, "broken.npz", "fit again")


def test_only_a_fitted_classifier_is_saved(tmp_path):
    with pytest.raises(NotFittedError):
        Classifier().save(tmp_path / "none.npz")


def test_a_pickled_classifier_predicts_the_same(images):
    net = Classifier(**SMALL, threads=2).fit(*images)
    again = pickle.loads(pickle.dumps(net))
    assert again.network_.threads.count == 2
    np.testing.assert_array_equal(again.predict_proba(images[0]), net.predict_proba(images[0]))


def test_scikit_learn_is_not_imported():
    code = (
        "import sys; from train import Classifier; import numpy as np\n"
        "assert not [name for name in sys.modules if name.startswith('sklearn')]\n"
        "try: Classifier().predict(np.zeros((1, 3072)))\n"
        "except (ValueError, AttributeError) as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "NotFitted" in done.stdout, done.stderr


def test_the_examples_of_the_page_run(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    page = (ROOT / "docs" / "python.md").read_text()
    X, y = images
    names = {"X": X, "y": y, "X_test": X[:20], "y_test": y[:20]}
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) > 3
    for example in examples:
        exec(example, names)


def test_it_is_imported_from_a_folder_with_a_data_package_of_its_own(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").touch()
    script = tmp_path / "mine.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom train import Classifier\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, timeout=120)
    assert done.returncode == 0


# ---- With scikit-learn ---------------------------------------------------------------------------


def test_a_clone_has_the_parameters_and_is_not_fitted(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "classes_")


def test_cross_validation_gives_the_scores_of_its_parts(images):
    X, y = images
    scores = cross_val_score(Classifier(**SMALL), X, y, cv=2)
    parts = StratifiedKFold(2).split(X, y)
    assert list(scores) == [Classifier(**SMALL).fit(X[a], y[a]).score(X[b], y[b]) for a, b in parts]


def test_a_pipeline_changes_the_images(images):
    X, y = images
    darker = make_pipeline(FunctionTransformer(lambda X: X / 510), Classifier(**SMALL)).fit(X, y)
    assert darker.score(X, y) == Classifier(**SMALL).fit(X / 510, y).score(X / 510, y)


def test_a_scaler_whose_results_exceed_1_by_rounding_errors(images):
    X, y = images
    net = make_pipeline(MinMaxScaler(), Classifier(**SMALL)).fit(X / 255, y)
    assert MinMaxScaler().fit_transform(X / 255).max() > 1
    assert net.predict(X / 255).shape == (200,)


def test_a_grid_in_two_processes_gives_the_scores_of_one(images):
    grid = {"hidden_size": np.array([4, 8]), "learning_rate": np.array([0.01])}
    net = Classifier(epochs=1, batch_size=50, threads=2)
    search = GridSearchCV(net, grid, n_jobs=2, cv=2, error_score="raise").fit(*images)
    alone = GridSearchCV(net, grid, cv=2, error_score="raise").fit(*images)
    scores = [list(each.cv_results_["mean_test_score"]) for each in (search, alone)]
    assert scores[0] == scores[1]
    same_weights(search.best_estimator_, alone.best_estimator_)


def test_boosting_weights_the_images(images):
    X, y = images
    weak = Classifier(
        hidden_size=16, epochs=6, batch_size=16, bn_lr_scale=1.0, dropout=0.0, flip=False
    )
    boosted = AdaBoostClassifier(weak, n_estimators=4, random_state=0).fit(X, y)
    assert len(boosted.estimators_) == 4
    assert boosted.score(X, y) > 0.2  # chance is 0.1


class Rows(Classifier):
    """A Classifier of rows of any length, drawn as bands into images.

    scikit-learn's checks pass rows of 1 to 20 numbers.
    """

    def fit(self, X, y, sample_weight=None):
        vars(self).pop("n_features_in_", None)
        super().fit(X, y, sample_weight)
        self.n_features_in_ = check_numbers(X).shape[1]
        return self

    def _images(self, X):
        X = check_numbers(X)
        expected = getattr(self, "n_features_in_", X.shape[-1])
        if X.ndim != 2 or X.shape[1] != expected:
            raise ValueError(
                f"X has {X.shape[-1]} features, but Rows is expecting {expected} features as input"
            )
        bands = np.repeat(X / (1.0 + X), -(-3072 // X.shape[1]), axis=1)
        return np.rint(255 * bands[:, :3072]).astype(np.uint8)


# Checks that a classifier of images fails, and why that is right.
FLOAT32 = "wants 1e-7 of float32, and the order of images moves probabilities by 2e-7"
WORDS = "looks for scikit-learn's own words, and ours say the same in others"
DEVIATIONS = {
    "check_methods_sample_order_invariance": FLOAT32,
    "check_methods_subset_invariance": FLOAT32,
    "check_estimators_empty_data_messages": WORDS,
    "check_dtype_object": WORDS,
    "check_positive_only_tag_during_fit": WORDS,
    "check_sample_weight_equivalence_on_dense_data": "wants a weight of 2 to be the image twice, "
    "and the random batches are others then",
    "check_supervised_y_2d": "wants a warning for a column of labels, which has one meaning only",
}


def failures(estimator, expected):
    """Return the names of scikit-learn's checks that this estimator fails unexpectedly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it doesn't inherit from BaseEstimator
        results = check_estimator(
            estimator, expected_failed_checks=expected, on_fail=None, on_skip=None
        )
    assert len(results) > 40
    return {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}


def test_all_of_scikit_learns_checks_pass_if_rows_are_drawn_as_images():
    net = Rows(
        hidden_size=16,
        batch_size=16,
        epochs=10,
        learning_rate=0.02,
        schedule="cosine",
        dropout=0.0,
        flip=False,
        bn_lr_scale=1.0,
        lambda_reg=0.0,
        patience=0,
    )
    assert failures(net, DEVIATIONS) == {}


def test_a_classifier_of_images_fails_no_check_but_those_with_other_features():
    found = failures(Classifier(hidden_size=8, epochs=1), {})
    others = {name for name, error in found.items() if "images have the shape" not in causes(error)}
    assert others <= DEVIATIONS.keys()


def causes(error):
    """Return the texts of an exception and of those that caused it."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(texts)
