"""A classifier of images with scikit-learn's conventions, which doesn't need scikit-learn.

A subclass says how to train and how to read a checkpoint: `Classifier` in train.py.
"""

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import ClassVar

from support import files
from support.cli import UserError, clean
from support.image_shape import PIXELS
from support.settings import SettingError
from support.training.arrays import (
    check_images,
    check_labels,
    check_lengths,
    check_same_kind,
    check_weights,
    class_factors,
)

import numpy as np


class NotFitted(ValueError, AttributeError):
    """A prediction was asked for before `fit`."""


class Estimator:
    """A classifier of images.

    The parameters of the constructor are the settings of a training, with the same names and
    defaults, but for these:
        random_state    the seed: a whole number, a RandomState or a Generator, from which each
                        `fit` draws one, or None for another one in each `fit`
        class_weight    "balanced", a dict of label: weight (others have 1), or None or "none"
        threads         the number of threads
        verbose         True prints what train.py prints: a summary and one line per epoch
        warm_start      True begins a second `fit` with the weights and the whitening map of the
                        first; momentum, learning rate and epochs begin anew, and the validation
                        images are drawn again: the same ones for the same y and random_state

    After `fit`:
        classes_                the labels in order
        n_features_in_          3072
        network_                the network, with the weights of the best epoch
        best_epoch_             this epoch, counted from 1
        loss_curve_             training loss of each epoch of the last `fit`
        validation_loss_curve_  validation loss of each epoch
        validation_scores_      validation accuracy of each epoch
        info_                   what a checkpoint says of the training

    A subclass is declared with the dataclass of its settings, `class C(Estimator, settings=S)`,
    and defines `_train` and `_read`.
    """

    _estimator_type = "classifier"
    _defaults: ClassVar[dict] = {}  # the constructor's parameters
    _shape_settings: ClassVar[tuple] = ()  # what warm_start can't change

    def _train(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        names: tuple[str, ...],
        weights: np.ndarray | None,
        start,
    ) -> tuple[object, dict]:
        """Return the trained network and its info.

        images (N, 3072) uint8; labels (N,) int64, from 0 to C - 1; names of the C classes.
        weights (N,): factors of the losses, or None if all are 1. start: the network to begin
        with, or None. Raises UserError if a setting is invalid or the training diverges.
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
        defaults = {
            "random_state": known.pop("seed"),
            **known,
            "threads": 1,
            "verbose": False,
            "warm_start": False,
        }

        def __init__(self, **parameters):
            unknown = parameters.keys() - defaults.keys()
            if unknown:
                raise TypeError(self._no_parameter(min(unknown)))
            vars(self).update(defaults | parameters)

        signature = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        for name, default in defaults.items():
            kind = inspect.Parameter.KEYWORD_ONLY
            signature.append(inspect.Parameter(name, kind, default=default))
        __init__.__qualname__ = f"{cls.__name__}.__init__"
        __init__.__signature__ = inspect.Signature(signature)
        cls.__init__ = __init__
        cls._defaults = defaults
        cls._shape_settings = tuple(
            option.name for option in fields(settings) if option.metadata.get("group") == "network"
        )

    def get_params(self, deep: bool = True) -> dict:
        """Return the constructor's parameters. `deep` has no effect: there are no nested ones."""
        return {name: getattr(self, name) for name in self._defaults}

    def set_params(self, **parameters) -> "Estimator":
        """Change parameters; the next `fit` checks them. Raises ValueError for an unknown name."""
        for name, value in parameters.items():
            if name not in self._defaults:
                raise ValueError(self._no_parameter(name))
            setattr(self, name, value)
        return self

    def _no_parameter(self, name: str) -> str:
        """Return the text of the error that there is no such parameter."""
        hint = " (the seed is called random_state)" if name == "seed" else ""
        known = ", ".join(self._defaults)
        return f"{type(self).__name__} has no parameter {name!r}{hint}; it has {known}"

    def settings(self) -> dict:
        """Return the settings of a training, with a seed that may be drawn just now."""
        given = {
            # a grid's parameters are often NumPy's numbers
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
        }
        for name in ("threads", "verbose", "warm_start"):
            del given[name]
        if not isinstance(given["class_weight"], str):
            given["class_weight"] = "none"  # a dict reaches the training as weights of images
        return given | {"seed": draw_seed(given.pop("random_state"))}

    def _check_own_parameters(self) -> None:
        """Raise ValueError if a parameter that isn't a setting is invalid."""
        threads = self.threads
        whole = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
        if not whole or threads < 1:
            raise ValueError(f"threads={threads!r} must be a whole number of at least 1")
        for name in ("verbose", "warm_start"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_ | int | np.integer):
                raise ValueError(f"{name}={value!r} must be True or False")
        if not isinstance(self.class_weight, str | dict | None):
            raise ValueError(
                f"class_weight={self.class_weight!r} must be 'balanced', a dict of label: weight, "
                "or None"
            )

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

    def fit(self, X, y, sample_weight=None) -> "Estimator":
        """Train on images X with labels y (N,): text, whole numbers or truth values.

        X has the shape (N, 3072), channel by channel: 1024 numbers of red, then green, then blue,
        each row by row. (N, 32, 32, 3) and (N, 3, 32, 32) are understood also. Pixels are whole
        numbers from 0 to 255, or floats in [0, 1], which are rounded to 256 levels.

        sample_weight (N,) are factors of the images' losses, in training and in validation; only
        their ratios count, and an image of weight 0 is left out.

        Ctrl-C ends the training with a warning and keeps the best weights so far; before the end
        of the first epoch it raises KeyboardInterrupt. Writes no file. Raises ValueError or
        TypeError if an argument or a parameter is invalid.
        """
        images = self._images(X)
        y = check_labels(y)
        check_lengths(images, y)
        weights = check_weights(sample_weight, len(images))
        self._check_own_parameters()
        classes, labels = np.unique(y, return_inverse=True)
        labels = labels.reshape(-1).astype(np.int64)
        factors = None
        if isinstance(self.class_weight, dict):
            factors = class_factors(self.class_weight, classes)
            weights = weights * factors[labels]
        used = weights > 0
        if len(np.unique(labels[used])) < 2:
            raise ValueError("y holds only one class with weights above 0; pass at least two")
        if not used.all():
            images, labels, weights = images[used], labels[used], weights[used]
        weights = None if np.ptp(weights) == 0 else weights / weights.mean()
        try:
            start = self._network_to_start_from(classes)
            names = tuple(map(str, classes))
            network, info = self._train(images, labels, names, weights, start)
        except UserError as error:
            raise ValueError(in_python(error)) from None
        if factors is not None:
            info["class_weights"] = factors.tolist()  # in the order of classes_
        self._keep(network, info, classes)
        return self

    def _network_to_start_from(self, classes: np.ndarray):
        """Return the fitted network if warm_start says so, else None.

        Raises ValueError if training can't continue with these parameters or classes.
        """
        if not self.warm_start or not self.__sklearn_is_fitted__():
            return None
        remedy = "set warm_start=False to begin anew"
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"y holds the classes {classes.tolist()}, and with warm_start=True they must stay "
                f"{self.classes_.tolist()}; {remedy}"
            )
        before = self.info_.get("settings", {})
        for name in self._shape_settings:
            value = getattr(self, name)
            if name in before and before[name] != value:
                raise ValueError(
                    f"{name}={value!r} must stay {before[name]!r} with warm_start=True; {remedy}"
                )
        return self.network_

    @property
    def partial_fit(self):
        """Raise AttributeError, so that hasattr says that there is none."""
        raise AttributeError(
            f"{type(self).__name__} has no partial_fit: learning rate, early stopping and the "
            "choice of the best epoch need whole epochs; use warm_start=True and fit again"
        )

    def predict(self, X) -> np.ndarray:
        """Return the likeliest label of each image, (N,). X as for `fit`."""
        self._check_fitted()
        return self.classes_[self.network_.predict(self._images(X))]

    def predict_proba(self, X) -> np.ndarray:
        """Return the probability of each label of `classes_`, (N, C). X as for `fit`."""
        self._check_fitted()
        return self.network_.predict_proba(self._images(X))

    def score(self, X, y, sample_weight=None) -> float:
        """Return the accuracy, from 0 to 1, weighted by sample_weight. Arguments as for `fit`."""
        self._check_fitted()
        y = check_labels(y)
        check_same_kind(y, self.classes_)
        predicted = self.predict(X)
        check_lengths(predicted, y)
        weights = check_weights(sample_weight, len(predicted))
        return float(np.average(predicted == y, weights=weights))

    def _keep(self, network, info: dict, classes: np.ndarray) -> None:
        """Set the attributes of a fitted classifier."""
        history = info.get("history", {})
        self.network_ = network
        self.info_ = info
        self.classes_ = classes
        self.n_features_in_ = PIXELS
        self.loss_curve_ = list(history.get("train_loss", ()))
        self.validation_loss_curve_ = list(history.get("val_loss", ()))
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

        Raises OSError if writing fails.
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
            if "class_weights" in info:
                pairs = zip(classes.tolist(), info["class_weights"], strict=True)
                settings["class_weight"] = dict(pairs)
            fitted = cls(**settings, random_state=seed, threads=threads)
            fitted._keep(network, info, classes)
        return fitted


# ---- Between the words of scikit-learn and those of train.py -------------------------------------


def draw_seed(random_state) -> int:
    """Return the seed that a random_state stands for. Raises ValueError for another kind."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, bool) or not isinstance(random_state, int):
        shown = clean(repr(random_state), 80)
        raise ValueError(
            f"random_state={shown} must be a whole number, None, a RandomState or a Generator"
        )
    return random_state


def in_python(error: UserError) -> str:
    """Return the text of an error with parameters instead of flags."""
    if isinstance(error, SettingError):
        return error.python_text({"seed": "random_state"})
    return re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), str(error))
