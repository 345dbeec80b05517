"""`train.Classifier`: the bits of train.py, and scikit-learn's conventions as scikit-learn itself checks them."""

import pickle
import subprocess
import sys
import warnings
from datetime import date

import model
import train
from data.cifar10 import Dataset
from support.estimator import check_numbers
from support.files import FileError
from train import Classifier

import numpy as np
import pytest
from conftest import ROOT, line_of
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
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
    return Classifier(**SMALL).fit(*images)


# ---- Training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMALL, WINDOWS], ids=["report", "quick"])
def test_fit_gives_the_bits_of_train(tmp_path, monkeypatch, images, data, settings):
    monkeypatch.chdir(tmp_path)
    found = Classifier(random_state=3, threads=2, **settings).fit(*images)
    assert not list(tmp_path.iterdir())
    X, y = images
    same = Dataset("synthetic", X, y, X[:0], y[:0], data.class_names, "0" * 64, tmp_path)
    train.train(train.resolve(settings | {"seed": 3}), same, tmp_path / "net.npz")
    network, info = model.load(tmp_path / "net.npz")
    for name, array in network.weights.items():
        np.testing.assert_array_equal(found.network_.weights[name], array, strict=True)
    assert found.loss_curve_ == info["history"]["train_loss"] and len(found.loss_curve_) == 2
    assert found.validation_scores_ == info["history"]["val_accuracy"]
    assert found.best_epoch_ == info["best_epoch"]


def test_one_image_in_every_form_is_the_same_image(fitted, images):
    X = images[0][:50]
    expected = fitted.predict_proba(X)
    assert expected.shape == (50, 10) and np.allclose(expected.sum(axis=1), 1)
    square = X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for form in (
        X.astype(np.int64),
        X / 255,
        (X / 255).astype(np.float32),
        square,
        square / 255,
        X[:, :].tolist(),
    ):
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[expected.argmax(axis=1)])
    again = Classifier(**SMALL).fit(
        images[0].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255, images[1]
    )
    np.testing.assert_array_equal(again.predict_proba(X), expected)


@pytest.mark.parametrize(
    "names", [np.array([f"class {i}" for i in range(10)]), np.arange(10) * 7 - 3, np.arange(10.0)]
)
def test_labels_of_any_kind(fitted, images, names):
    X, y = images
    found = Classifier(**SMALL).fit(X, names[y].tolist())
    np.testing.assert_array_equal(found.classes_, np.sort(names))
    np.testing.assert_array_equal(found.predict(X), names[fitted.predict(X)])
    assert found.score(X, names[y]) == fitted.score(X, y) == np.mean(fitted.predict(X) == y)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs NumPy 2")
def test_labels_in_numpys_own_text(images, tmp_path):
    X, y = images
    names = np.array([f"class {i}" for i in range(10)])[y]
    found = Classifier(**SMALL).fit(X, names.astype(np.dtypes.StringDType()))
    np.testing.assert_array_equal(found.predict(X), Classifier(**SMALL).fit(X, names).predict(X))
    found.save(tmp_path / "net.npz")
    np.testing.assert_array_equal(
        Classifier.load(tmp_path / "net.npz").predict(X), found.predict(X)
    )


def test_settings_without_effect_are_ignored_as_in_scikit_learn(images, tmp_path):
    path = tmp_path / "net.npz"
    Classifier(stride=2, **SMALL).fit(*images).save(path)
    again = Classifier.load(path).fit(*images)
    np.testing.assert_array_equal(
        again.network_.weights["W1"], Classifier(**SMALL).fit(*images).network_.weights["W1"]
    )


def test_labels_that_cant_be_kept_and_too_few_of_them_are_refused(images):
    X, y = images
    with pytest.raises(ValueError, match=r"Unknown label type: .*names or whole numbers"):
        Classifier(**SMALL).fit(X, y.astype("S1"))
    for labels in (
        [date(2020, 1, 1 + i) for i in y],
        [2**70 + int(i) for i in y],
        [(int(i), 1) for i in y],
    ):
        objects = np.empty(len(y), object)
        objects[:] = labels
        with pytest.raises(ValueError, match=r"Unknown label type: .*names or whole numbers"):
            Classifier(**SMALL).fit(X, objects)
    fitted = Classifier(**SMALL).fit(X, y)
    for labels in (y[:1], y[:-1]):
        with pytest.raises(ValueError, match=f"X has {len(X)} images, and y {len(labels)} labels"):
            fitted.score(X, labels)


def test_two_classes_and_weights_of_a_score(images):
    X, y = images
    two = Classifier(**SMALL).fit(X, y > 4)
    assert two.classes_.tolist() == [False, True] and two.predict_proba(X).shape == (200, 2)
    right = two.predict(X) == (y > 4)
    assert two.score(X, y > 4, sample_weight=right + 1e-9) == pytest.approx(1, abs=1e-6)


def test_a_random_state_of_none_is_another_one_in_each_fit(images):
    nets = [Classifier(**SMALL | {"epochs": 1}, random_state=None).fit(*images) for _ in range(2)]
    assert nets[0].info_["settings"]["seed"] != nets[1].info_["settings"]["seed"]
    assert nets[0].random_state is None


def test_parameters_are_checked_by_fit(images):
    with pytest.raises(
        TypeError, match="has no parameter 'epoch'; it has random_state, hidden_size"
    ):
        Classifier(epoch=3)
    with pytest.raises(ValueError, match="--hidden-size 0 must be at least 1"):
        Classifier(hidden_size=0).fit(*images)
    with pytest.raises(ValueError, match="threads must be a whole number"):
        Classifier(threads=0).fit(*images)
    with pytest.raises(
        ValueError, match="Invalid parameter 'epoch' for Classifier; valid are random_state"
    ):
        Classifier().set_params(epoch=3)
    with pytest.raises(
        ValueError, match=r"loss not finite in epoch 1, step .*no weights were saved"
    ):
        Classifier(learning_rate=1e30, batchnorm=False, **SMALL).fit(*images)
    grid = Classifier(epochs=np.int64(1), learning_rate=np.float64(0.01), hidden_size=4).fit(
        *images
    )
    assert type(grid.info_["settings"]["learning_rate"]) is float


@pytest.mark.parametrize(
    "X, y, part",
    [
        (np.zeros((4, 3, 32, 32)), [0, 1, 0, 1], "images are (N, 3072) or (N, 32, 32, 3)"),
        (
            np.zeros((4, 3000)),
            [0, 1, 0, 1],
            "X has 3000 features, but Classifier is expecting 3072",
        ),
        (np.full((4, 3072), 200.0), [0, 1, 0, 1], "values up to 200, above 1; divide by 255"),
        (np.full((4, 3072), 300), [0, 1, 0, 1], "values up to 300, above 255; pass uint8"),
        (np.full((4, 3072), -1.0), [0, 1, 0, 1], "Negative values"),
        (np.full((4, 3072), np.nan), [0, 1, 0, 1], "NaN"),
        (np.zeros((0, 3072)), [], "0 sample(s)"),
        (np.zeros(3072), [0], "Reshape your data"),
        (np.zeros((4, 3072)), [0, 1, 0], "4 images, and y 3 labels"),
        (np.zeros((4, 3072)), [0.5, 1, 2, 3], "continuous"),
        (np.zeros((4, 3072)), [0, 1, np.nan, 3], "y contains NaN"),
        (np.zeros((4, 3072)), ["a", 1, "b", 3], None),
        (np.zeros((4, 3072)), np.array(["a", 1, "b", 3], object), "text and numbers"),
        (np.zeros((4, 3072)), [1, 1, 1, 1], "only one class"),
        (np.zeros((4, 3072)), None, "y is None"),
    ],
)
def test_inputs_that_cannot_be(X, y, part):
    with pytest.raises(ValueError) as caught:
        Classifier(**SMALL).fit(X, y)
    assert part is None or part in str(caught.value)


def test_saved_and_loaded(tmp_path, fitted, images):
    X, y = images
    named = Classifier(random_state=2, **SMALL).fit(X, np.array(["cat", "dog"])[y % 2])
    named.save(tmp_path / "new" / "net.npz")
    again = Classifier.load(tmp_path / "new" / "net.npz", threads=2)
    assert again.get_params() == named.get_params() | {"threads": 2}
    assert again.classes_.tolist() == ["cat", "dog"] and again.n_features_in_ == 3072
    assert (again.loss_curve_, again.best_epoch_) == (named.loss_curve_, named.best_epoch_)
    np.testing.assert_array_equal(again.predict_proba(X), named.predict_proba(X))
    _, info = model.load(tmp_path / "new" / "net.npz")
    assert info["data"]["class_names"] == ["cat", "dog"] and "fingerprint" not in info["data"]
    assert info["settings"]["seed"] == 2

    del info["classes"]
    named.network_.save(tmp_path / "of train.npz", info)
    assert Classifier.load(tmp_path / "of train.npz").classes_.tolist() == [0, 1]
    for broken in (
        {"classes": ["a"]},
        {"classes": [[1], [2]]},
        {"settings": {"x": 1}},
        {"settings": 3},
        {"history": 3},
    ):
        named.network_.save(tmp_path / "broken.npz", info | broken)
        with pytest.raises(FileError) as caught:
            Classifier.load(tmp_path / "broken.npz")
        line_of(caught, "broken.npz", "fit again")
    with pytest.raises(NotFittedError):
        Classifier().save(tmp_path / "none.npz")


def test_no_scikit_learn_is_imported_and_none_is_needed():
    code = (
        "import sys; from train import Classifier; import numpy as np\n"
        "assert not [name for name in sys.modules if name.startswith('sklearn')]\n"
        "try: Classifier().predict(np.zeros((1, 3072)))\n"
        "except (ValueError, AttributeError) as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "NotFitted this Classifier isn't fitted yet; call fit first\n", (
        done.stderr
    )


# ---- With scikit-learn ----------------------------------------------------------------------------------------------


def test_repr_parameters_and_clone(fitted):
    net = Classifier(epochs=3, **{"window": 8, "stride": 4})
    assert (
        repr(net) == "Classifier(window=8, stride=4, epochs=3)"
        and repr(Classifier()) == "Classifier()"
    )
    assert net.set_params(epochs=100, window=32) is net and repr(net) == "Classifier(stride=4)"
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "classes_")


def test_cross_validation_and_a_pipeline(images):
    X, y = images
    scores = cross_val_score(Classifier(**SMALL), X, y, cv=2)
    by_hand = [Classifier(**SMALL).fit(X[a], y[a]).score(X[b], y[b]) for a, b in folds(y)]
    assert scores.tolist() == by_hand
    darker = make_pipeline(FunctionTransformer(lambda X: X / 510), Classifier(**SMALL)).fit(X, y)
    assert darker.score(X, y) == Classifier(**SMALL).fit(X / 510, y).score(X / 510, y)


def folds(y):
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(2).split(y, y)


def test_a_grid_in_two_processes(images):
    grid = {"hidden_size": np.array([4, 8]), "learning_rate": np.array([0.01])}
    net = Classifier(epochs=1, batch_size=50, threads=2)
    search = GridSearchCV(net, grid, n_jobs=2, cv=2, error_score="raise").fit(*images)
    alone = GridSearchCV(net, grid, cv=2, error_score="raise").fit(*images)
    assert (
        search.cv_results_["mean_test_score"].tolist()
        == alone.cv_results_["mean_test_score"].tolist()
    )
    np.testing.assert_array_equal(search.predict_proba(images[0]), alone.predict_proba(images[0]))
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert again.network_.threads.count == 2
    np.testing.assert_array_equal(again.predict_proba(images[0]), search.predict_proba(images[0]))


def test_a_column_of_labels_is_taken_with_scikit_learns_warning(images):
    with pytest.warns(DataConversionWarning, match="A column-vector y"):
        Classifier(**SMALL | {"epochs": 1}).fit(images[0], images[1][:, None])


class Rows(Classifier):
    """A Classifier of rows of any length, drawn as bands into images: what scikit-learn's checks give it."""

    def fit(self, X, y):
        vars(self).pop("n_features_in_", None)
        super().fit(X, y)
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


# These give rows of 1 to 20 features, and images have 3,072.
NOT_IMAGES = {
    "check_array_api_input",
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_train",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_readonly_memmap_input",
    "check_supervised_y_2d",
}


def checked(estimator) -> dict[str, set]:
    """scikit-learn's checks by their result: passed, failed, skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it doesn't inherit from BaseEstimator
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    return {
        status: {r["check_name"] for r in results if r["status"] == status}
        for status in ("passed", "failed")
    }


def test_scikit_learns_checks_pass_but_for_those_of_other_features():
    found = checked(Classifier(hidden_size=8, epochs=1))
    assert found["failed"] <= NOT_IMAGES, found["failed"] - NOT_IMAGES
    assert not found["passed"] & NOT_IMAGES


def test_all_of_scikit_learns_checks_pass_where_rows_are_drawn_as_images():
    settings = {
        "hidden_size": 16,
        "batch_size": 16,
        "epochs": 10,
        "learning_rate": 0.02,
        "schedule": "cosine",
    }
    settings |= {
        "dropout": 0.0,
        "flip": False,
        "bn_lr_scale": 1.0,
        "lambda_reg": 0.0,
        "patience": 0,
    }
    found = checked(Rows(**settings))
    assert found["failed"] == set()
    assert {"check_classifiers_train", "check_estimators_pickle", "check_fit_idempotent"} <= found[
        "passed"
    ]
