"""A classifier of images with scikit-learn's conventions, which doesn't need scikit-learn.

A subclass says how to train and how to read a checkpoint: `Classifier` in train.py.
"""

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

from support import files
from support.arrays import check_images, check_labels, check_lengths
from support.cli import UserError
from support.image_shape import PIXELS

import numpy as np


class NotFitted(ValueError, AttributeError):
    """A prediction was asked for before `fit`."""


class Estimator:
    """A classifier of images.

    The parameters of the constructor are those of a training, by name and with their defaults.
    The seed is called random_state; None draws another one in each `fit`. `threads` is the
    number of threads.

    After `fit`:
        classes_            the labels in order
        n_features_in_      3072
        network_            the network, with the weights of the best epoch
        best_epoch_         this epoch, counted from 1
        loss_curve_         training loss of each epoch
        validation_scores_  validation accuracy of each epoch
        info_               what a checkpoint says of the training

    A subclass is declared with the dataclass of its settings, `class C(Estimator, settings=S)`,
    and defines `_train` and `_read`.
    """

    _estimator_type = "classifier"
    _defaults: ClassVar[dict] = {}  # the constructor's parameters

    def _train(
        self, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
    ) -> tuple[object, dict]:
        """Return the trained network and its info.

        images (N, 3072) uint8; labels (N,) int64, from 0 to C - 1; names of the C classes.
        Raises UserError if a setting is invalid or the training diverges.
        """
        raise NotImplementedError

    @classmethod
    def _read(cls, path: str | Path, threads: int) -> tuple[object, dict]:
        """Return the network of a checkpoint and its info. Raises FileError if it is unusable."""
        raise NotImplementedError

    # ---- Parameters ------------------------------------------------------------------------------

    def __init_subclass__(cls, settings: type | None = None, **others):
        """Make a constructor whose signature lists every parameter, as scikit-learn asks for."""
        super().__init_subclass__(**others)
        if settings is None:
            return
        known = {option.name: option.default for option in fields(settings)}
        defaults = {"random_state": known.pop("seed"), **known, "threads": 1}

        def __init__(self, **parameters):
            unknown = parameters.keys() - defaults.keys()
            if unknown:
                known = ", ".join(defaults)
                raise TypeError(f"{cls.__name__} has no parameter {min(unknown)!r}; it has {known}")
            vars(self).update(defaults | parameters)

        signature = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        for name, default in defaults.items():
            kind = inspect.Parameter.KEYWORD_ONLY
            signature.append(inspect.Parameter(name, kind, default=default))
        __init__.__signature__ = inspect.Signature(signature)
        cls.__init__ = __init__
        cls._defaults = defaults

    def get_params(self, deep: bool = True) -> dict:
        """Return the constructor's parameters. `deep` has no effect: there are no nested ones."""
        return {name: getattr(self, name) for name in self._defaults}

    def set_params(self, **parameters) -> "Estimator":
        """Change parameters; the next `fit` checks them. Raises ValueError for an unknown name."""
        for name, value in parameters.items():
            if name not in self._defaults:
                known = ", ".join(self._defaults)
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {known}")
            setattr(self, name, value)
        return self

    def settings(self) -> dict:
        """Return the settings of a training, with a seed drawn if random_state is None."""
        given = self.get_params()
        del given["threads"]
        for name, value in given.items():
            if isinstance(value, np.generic):  # a grid's parameters are often NumPy's numbers
                given[name] = value.item()
        seed = given.pop("random_state")
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        return given | {"seed": seed}

    def __repr__(self):
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(self._defaults[name])
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self):
        """Return scikit-learn's description of this estimator; only scikit-learn calls this."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(positive_only=True),
        )

    # ---- Fitting and predicting ------------------------------------------------------------------

    def fit(self, X, y) -> "Estimator":
        """Train on images X with labels y (N,): text, whole numbers or truth values.

        X has the shape (N, 3072), channel by channel: 1024 numbers of red, then green, then blue,
        each row by row. (N, 32, 32, 3) and (N, 3, 32, 32) are understood also. Pixels are whole
        numbers from 0 to 255, or floats in [0, 1], which are rounded to 256 levels. Writes no
        file. Raises ValueError or TypeError if an argument or a parameter is invalid.
        """
        images = self._images(X)
        y = check_labels(y)
        check_lengths(images, y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y holds only one class, {classes[0]!r}; pass at least two")
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
        """Return the likeliest label of each image, (N,). X as for `fit`."""
        self._check_fitted()
        return self.classes_[self.network_.predict(self._images(X))]

    def predict_proba(self, X) -> np.ndarray:
        """Return the probability of each label of `classes_`, (N, C). X as for `fit`."""
        self._check_fitted()
        return self.network_.predict_proba(self._images(X))

    def score(self, X, y, sample_weight=None) -> float:
        """Return the accuracy, from 0 to 1. X and y as for `fit`."""
        predicted = self.predict(X)
        y = check_labels(y)
        check_lengths(predicted, y)
        return float(np.average(predicted == y, weights=sample_weight))

    def _keep(self, network, info: dict, classes: np.ndarray) -> None:
        """Set the attributes of a fitted classifier."""
        history = info.get("history", {})
        self.network_ = network
        self.info_ = info
        self.classes_ = classes
        self.n_features_in_ = PIXELS
        self.loss_curve_ = list(history.get("train_loss", ()))
        self.validation_scores_ = list(history.get("val_accuracy", ()))
        self.best_epoch_ = info.get("best_epoch", 0)

    def _check_fitted(self) -> None:
        """Raise NotFittedError, scikit-learn's own if it is loaded, unless `fit` was called."""
        if self.__sklearn_is_fitted__():
            return
        theirs = sys.modules.get("sklearn.exceptions")
        error = getattr(theirs, "NotFittedError", NotFitted)
        raise error(f"this {type(self).__name__} isn't fitted yet; call fit first")

    def _images(self, X) -> np.ndarray:
        """Return X as images (N, 3072) uint8. A test replaces this to pass other data."""
        return check_images(X)

    # ---- Files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the fitted network as a checkpoint, which `load` and all scripts read.

        Raises OSError if the file can't be written.
        """
        self._check_fitted()
        self.network_.save(path, self.info_ | {"classes": self.classes_.tolist()})

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> "Estimator":
        """Return the classifier of a checkpoint that `save` or train.py wrote.

        The labels of train.py's are 0 to C - 1. Raises FileError if the file is unusable.
        """
        network, info = cls._read(path, threads)
        with files.error_context(path, "restore the file, or fit again"):
            settings = dict(info.get("settings", {}))
            seed = settings.pop("seed", cls._defaults["random_state"])
            classes = np.array(info.pop("classes", range(network.classes)))
            different = len(set(classes.tolist()))
            if classes.dtype.kind not in "biufU" or different != network.classes:
                raise files.Fault(f"doesn't say what its {network.classes} classes are")
            fitted = cls(**settings, random_state=seed, threads=threads)
            fitted._keep(network, info, classes)
        return fitted
