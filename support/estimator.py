"""A classifier of images by scikit-learn's conventions, without scikit-learn: parameters, input checks, predictions.

A subclass says how to train and how to read a checkpoint: train.py's `Classifier`.
"""

import inspect
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

from support import files
from support.cli import UserError
from support.threads import slices

import numpy as np

PIXELS = 3072


class NotFitted(ValueError, AttributeError):
    """A prediction was asked for before `fit`."""


class Estimator:
    """A classifier of images. The constructor takes a training's settings by name, with their defaults, but
    random_state for the seed (None: another one in each `fit`), and `threads`.

    A subclass names the class of the settings, Classifier(Estimator, settings=Settings), and has `_train` and `_read`.
    After `fit`: `classes_`, the labels in order; `n_features_in_`; `loss_curve_`, the training loss of each epoch;
    `validation_scores_`, its validation accuracy; `best_epoch_`, from 1, the one whose weights are kept; `network_`,
    with these weights; and `info_`, what its checkpoint says besides.
    """

    _estimator_type = "classifier"
    _defaults: ClassVar[dict] = {}  # of the constructor's parameters

    def _train(
        self, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
    ) -> tuple[object, dict]:
        """The trained network and its info, from images (N, 3072) uint8 and labels (N,) int64, 0 to C - 1. names: the
        classes'. UserError for settings that can't be."""
        raise NotImplementedError

    @classmethod
    def _read(cls, path: str | Path, threads: int) -> tuple[object, dict]:
        """The network of a checkpoint and its info. FileError if it can't be read."""
        raise NotImplementedError

    # ---- Parameters -------------------------------------------------------------------------------------------------

    def __init_subclass__(cls, settings: type | None = None, **others):
        super().__init_subclass__(**others)
        if settings is None:
            return
        known = {option.name: option.default for option in fields(settings)}
        defaults = cls._defaults = {"random_state": known.pop("seed")} | known | {"threads": 1}

        def __init__(self, **parameters):
            if unknown := parameters.keys() - defaults.keys():
                raise TypeError(
                    f"{cls.__name__} has no parameter {min(unknown)!r}; it has {', '.join(defaults)}"
                )
            vars(self).update(defaults | parameters)

        kind = inspect.Parameter
        by_name = [kind(name, kind.KEYWORD_ONLY, default=value) for name, value in defaults.items()]
        __init__.__signature__ = inspect.Signature(
            [kind("self", kind.POSITIONAL_OR_KEYWORD), *by_name]
        )
        cls.__init__ = __init__

    def get_params(self, deep: bool = True) -> dict:
        """The constructor's parameters; deep, for estimators within this one, has no effect."""
        return {name: getattr(self, name) for name in self._defaults}

    def set_params(self, **parameters) -> "Estimator":
        """Change parameters, for the next `fit`, which checks them. ValueError for one that there isn't."""
        for name, value in parameters.items():
            if name not in self._defaults:
                known = ", ".join(self._defaults)
                raise ValueError(
                    f"Invalid parameter {name!r} for {type(self).__name__}; valid are {known}"
                )
            setattr(self, name, value)
        return self

    def settings(self) -> dict:
        """The training's settings, NumPy's numbers, which a grid may have, as Python's."""
        given = {
            name: v.item() if isinstance(v, np.generic) else v
            for name, v in self.get_params().items()
        }
        del given["threads"]
        seed = given.pop("random_state")
        return given | {
            "seed": int(np.random.default_rng().integers(2**31)) if seed is None else seed
        }

    def __repr__(self):
        changed = {
            name: v
            for name, v in self.get_params().items()
            if repr(v) != repr(self._defaults[name])
        }
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self):
        """What scikit-learn, which alone calls this, is to know."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(positive_only=True),
        )

    # ---- Fitting and predicting -------------------------------------------------------------------------------------

    def fit(self, X, y) -> "Estimator":
        """Train on images X, (N, 3072) or (N, 32, 32, 3), uint8 or floats in [0, 1], with labels y (N,), names or whole
        numbers; nothing is written. Floats are rounded to 256 levels. ValueError or TypeError for what can't be."""
        y = check_labels(y)
        images = self._images(X)
        check_lengths(images, y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes; y holds only one class"
            )
        labels = labels.reshape(-1).astype(np.int64)
        if type(self.threads) is not int or self.threads < 1:
            raise ValueError(f"threads must be a whole number of at least 1, not {self.threads!r}")
        try:
            network, info = self._train(images, labels, tuple(map(str, classes)))
        except UserError as error:
            raise ValueError(str(error)) from None
        self._keep(network, info, classes)
        return self

    def predict(self, X) -> np.ndarray:
        """The likeliest label of each image, (N,)."""
        self._check_fitted()
        return self.classes_[self.network_.predict(self._images(X))]

    def predict_proba(self, X) -> np.ndarray:
        """The probabilities of the labels, in the order of `classes_`, (N, C)."""
        self._check_fitted()
        return self.network_.predict_proba(self._images(X))

    def score(self, X, y, sample_weight=None) -> float:
        """Accuracy in 0..1."""
        predicted, y = self.predict(X), check_labels(y)
        check_lengths(predicted, y)
        return float(np.average(predicted == y, weights=sample_weight))

    def _keep(self, network, info: dict, classes: np.ndarray) -> None:
        """Set the fitted attributes."""
        history = info.get("history", {})
        self.network_, self.info_, self.classes_, self.n_features_in_ = (
            network,
            info,
            classes,
            PIXELS,
        )
        self.loss_curve_ = list(history.get("train_loss", ()))
        self.validation_scores_ = list(history.get("val_accuracy", ()))
        self.best_epoch_ = info.get("best_epoch", 0)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            text = f"this {type(self).__name__} isn't fitted yet; call fit first"
            raise theirs("NotFittedError", NotFitted)(text)

    def _images(self, X) -> np.ndarray:
        """X as images (N, 3072) uint8."""
        return to_images(check_numbers(X), type(self).__name__)

    # ---- Files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the fitted network as a checkpoint, which `load` and all scripts read. OSError where that fails."""
        self._check_fitted()
        self.network_.save(path, self.info_ | {"classes": self.classes_.tolist()})

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> "Estimator":
        """The classifier of a checkpoint, of `save` or of train.py, whose labels are 0 to C - 1. FileError if it can't
        be read."""
        network, info = cls._read(path, threads)
        with files.error_context(path, "restore the file, or fit again"):
            settings = dict(info.get("settings", {}))
            settings |= {
                "random_state": settings.pop("seed", cls._defaults["random_state"]),
                "threads": threads,
            }
            classes = np.array(info.pop("classes", range(network.classes)))
            if classes.dtype.kind not in "biufU" or len(set(classes.tolist())) != network.classes:
                raise files.Fault(f"doesn't say what its {network.classes} classes are")
            fitted = cls(**settings)
            fitted._keep(network, info, classes)
        return fitted


# ---- Input checks: what they refuse, they refuse in the words that scikit-learn's own checks look for ---------------


def theirs(name: str, ours: type) -> type:
    """scikit-learn's exception or warning of this name where it is loaded, else our own."""
    return getattr(sys.modules.get("sklearn.exceptions"), name, ours)


def check_numbers(X) -> np.ndarray:
    """X as an array of at least one row of finite numbers. ValueError or TypeError if it can't be."""
    if hasattr(X, "toarray"):
        raise TypeError("X is a sparse matrix, and images must be dense; pass X.toarray()")
    X = np.asarray(X)
    if X.dtype.kind == "c":
        raise ValueError("Complex data not supported: images are real numbers")
    if X.dtype.kind not in "buif":
        try:
            X = X.astype(np.float64)
        except TypeError as error:
            raise TypeError(f"{error}; argument must be a string or a number") from None
    if X.ndim < 2:
        raise ValueError(
            f"X must be rows of images, not of shape {X.shape}. Reshape your data by X.reshape(1, -1)"
        )
    if not len(X):
        raise ValueError(
            f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required."
        )
    if X[0].size == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
        )
    if X.dtype.kind == "f" and not np.isfinite(X.sum()) and not np.isfinite(X).all():
        raise ValueError("Input X contains NaN or infinity.")
    if X.dtype.kind in "if" and X.min() < 0:
        raise ValueError("Negative values in data: pixels are 0 to 255, or floats in [0, 1]")
    return X


def to_images(X: np.ndarray, name: str = "the network") -> np.ndarray:
    """Images (N, 3072) uint8, channel by channel, from (N, 3072), or (N, 32, 32, 3), of integers in 0..255 or floats in
    [0, 1], which are rounded to the nearest of 256 levels: uint8 / 255 gives the uint8 again. ValueError if not."""
    if X.ndim == 4 and X.shape[1:] == (32, 32, 3):
        X = X.transpose(0, 3, 1, 2)
    elif X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; images are (N, {PIXELS}) or (N, 32, 32, 3)")
    elif X.shape[1] != PIXELS:
        raise ValueError(
            f"X has {X.shape[1]} features, but {name} is expecting {PIXELS} features as input: 3 x 32 x 32 pixels"
        )
    if X.dtype != np.uint8:
        highest = 1 if X.dtype.kind == "f" else 255
        if X.max() > highest:
            remedy = "divide by 255, or pass uint8" if highest == 1 else "pass uint8"
            raise ValueError(f"X has values up to {X.max():g}, above {highest}; {remedy}")
        images = np.empty((len(X), *X.shape[1:]), np.uint8)
        for rows in slices(len(X), 1000):
            images[rows] = np.rint(X[rows] * (255 / highest))
        X = images
    return X.reshape(len(X), PIXELS)


def check_labels(y) -> np.ndarray:
    """y as labels (N,). ValueError if it isn't."""
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        text = "A column-vector y was passed when a 1d array was expected; it is taken for its only column."
        warnings.warn(theirs("DataConversionWarning", UserWarning)(text), stacklevel=3)
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"y should be a 1d array of labels, got an array of shape {y.shape} instead"
        )
    if y.dtype.kind == "T":  # NumPy 2's text
        y = y.astype(object)
    if y.dtype.kind == "c":
        raise ValueError("Complex data not supported: labels can't be complex")
    if y.dtype.kind == "O" and len({isinstance(label, str) for label in y}) > 1:
        raise ValueError("Unknown label type: y holds text and numbers together")
    if y.dtype.kind == "O" and len(y) and not isinstance(y[0], str):
        y = np.array(y.tolist())
        if y.ndim != 1 or y.dtype.kind == "O":
            raise ValueError(
                "Unknown label type: a classifier's labels are names or whole numbers below 2**64"
            )
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        if (y != np.rint(y)).any():
            raise ValueError(
                "Unknown label type: continuous. A classifier's labels are names or whole numbers"
            )
    if y.dtype.kind not in "biufUO":
        raise ValueError(
            f"Unknown label type: {y.dtype}. A classifier's labels are names or whole numbers"
        )
    return y


def check_lengths(images: np.ndarray, y: np.ndarray) -> None:
    """ValueError unless there is one label for each image."""
    if len(images) != len(y):
        raise ValueError(
            f"X has {len(images)} images, and y {len(y)} labels: inconsistent numbers of samples"
        )
