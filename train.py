"""Train a network with one hidden layer on CIFAR-10 and save it as a checkpoint.

  python train.py                          the network of the course report
  python train.py --recipe quick           a better one: 8x8 filters, pooling
  python train.py --recipe best            the best one known here
  python train.py --recipe dense           every unit sees every pixel
  python train.py --hidden-size 512 --learning-rate 0.005 --seed 3
  python train.py --like NET.npz --seed 1  with the settings of a checkpoint
  python train.py --resume                 continue a run that was stopped

The weights of the epoch with the best validation accuracy are kept. Training
never looks at the test images: test.py does.
"""

# From top to bottom: settings and recipes, first weights, images, batches and rate, moving average,
# a run, the loop (`train_epochs`, to be read first), Classifier, command line.

import argparse
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import model
from data import cifar10
from data.augmentation import augment
from model import MAX_UNITS, SGD, Network
from support import cli, files, npz, runs
from support.checkpoints import CHECKPOINTS
from support.image_shape import CHANNELS, PIXELS, SIDE
from support.network.window import Window
from support.runs import HISTORY, RunFiles, TrainingError, state_path
from support.settings import (
    SettingError,
    add_report_arguments,
    add_setting_arguments,
    check,
    check_use_dropout,
    drops_nothing,
    setting,
)
from support.threads import Threads, slices
from support.training import progress
from support.training.estimator import Estimator
from support.training.interrupts import interrupts_wait

import numpy as np

# ---- Settings ------------------------------------------------------------------------------------


# The headings of --help. A rare setting is shown by --help-all.
_network = partial(setting, group="network")
_images = partial(setting, group="training images")
_optimisation = partial(setting, group="optimisation")
_regularisation = partial(setting, group="regularisation")
_run = partial(setting, group="run")


@dataclass(frozen=True)
class Settings:
    """The settings of a run. With the images they determine it. The names are those of the flags.

    Raises SettingError for an invalid value.
    """

    hidden_size: int = _network(1024, "hidden units, or filters", low=1, high=MAX_UNITS)
    window: int = _network(
        SIDE, "side of the filters in pixels; 32: the whole image", low=1, high=SIDE
    )
    stride: int = _network(
        1, "pixels between neighbouring positions of a filter", low=1, high=SIDE - 1
    )
    test_stride: int = _network(
        0,
        "stride in validation and of the saved network, with --ema; 0: as in training",
        low=0,
        high=SIDE - 1,
        rare=True,
    )
    regions: int = _network(1, "average pooling over N x N regions", low=1)
    bilinear: bool = _network(False, "regions blend into each other", rare=True)
    mirror: bool = _network(False, "also apply each filter left-right flipped", rare=True)
    two_sided: bool = _network(False, "also take each filter with its sign reversed", rare=True)
    preprocess: str = _network(
        "none", "whiten: principal components of the patches", choices=("none", "whiten")
    )
    whiten_dims: int = _network(
        256, "principal components that are kept, at most", low=1, high=PIXELS, rare=True
    )
    whiten_eps: float = _network(
        0.1, "added to their variances, in units of the mean variance", low=0, high=1e6, rare=True
    )
    init: str = _network(
        "he", "first filters: normal, or patches of training images", choices=("he", "patches")
    )
    batchnorm: bool = _network(
        True, "batch normalisation before the ReLU", aliases=("use-batchnorm",)
    )
    cap: float = _network(
        0.0, "upper limit of an activation, as 6 in ReLU6; 0: none", low=0, high=1e6, rare=True
    )

    limit: int = _images(0, "use only N images, of all classes; 0: all", low=0)
    flip: bool = _images(True, "flip half of the images left-right, at random")
    shift: int = _images(0, "shift images by up to N pixels, at random", low=0, high=16)
    jitter: float = _images(
        0.0, "std of random changes of contrast, brightness, colours", low=0, high=1, rare=True
    )
    validation_share: float = _images(0.1, "share that is kept for validation", low=0, below=1)
    class_weight: str = _images(
        "none",
        "balanced: rare classes count as much as frequent ones",
        choices=("none", "balanced"),
    )

    epochs: int = _optimisation(100, "passes over the images, at most", low=1, high=10**6)
    batch_size: int = _optimisation(128, "images in a mini-batch", low=1, high=10**6)
    learning_rate: float = _optimisation(
        0.01,
        "the highest rate; schedule report: that of the first epoch",
        low=0,
        aliases=("lr",),
    )
    schedule: str = _optimisation(
        "report",
        "the rate decays, follows half a cosine, or stays",
        choices=("report", "cosine", "constant"),
    )
    lr_decay: float = _optimisation(0.9, "schedule report: factor per epoch", low=0, high=1)
    step_decay: float = _optimisation(
        0.5, "schedule report: factor per ten epochs", low=0, high=1, rare=True
    )
    warmup_epochs: float = _optimisation(
        0.0, "epochs in which the rate rises from 0", low=0, rare=True
    )
    momentum: float = _optimisation(0.9, "momentum of SGD", low=0, below=1)
    output_lr_scale: float = _optimisation(
        1.0, "factor of the rate for W2 and b2", low=0, rare=True
    )
    damped: int = _optimisation(
        0,
        "with --init patches: directions in which W2's gradient is damped; 0: none",
        low=0,
        high=512,
        rare=True,
    )
    # The report's code divides all gradients by the batch size, 128, except those of gamma and
    # beta.
    bn_lr_scale: float = _optimisation(
        128.0, "factor of the rate for gamma and beta; the report's is 128", low=0, rare=True
    )

    dropout: float = _regularisation(
        0.5,
        "probability of dropping a hidden unit, rounded to 1/256",
        low=0,
        below=0.998,  # above 255.5 / 256, the nearest 1/256 is 1
        aliases=("dropout-rate",),
    )
    lambda_reg: float = _regularisation(0.01, "L2: lambda/2 (|W1|^2 + |W2|^2)", low=0)
    hidden_lambda_scale: float = _regularisation(1.0, "factor of lambda for W1", low=0, rare=True)
    label_smoothing: float = _regularisation(
        0.0, "share of each label that is spread over all classes", low=0, below=1, rare=True
    )
    ema: float = _regularisation(
        0.0, "decay of a moving average of the weights; 0: none", low=0, below=1, rare=True
    )
    patience: int = _regularisation(
        10,
        "stop after N epochs without improvement; 0: never",
        low=0,
        aliases=("early-stopping",),
    )

    seed: int = _run(0, "seed of everything random", low=0, high=2**63)

    def __post_init__(self):
        check(self)
        # Window knows its own limits, so making one is the check.
        try:
            window = self.make_window()
        except ValueError as error:
            problem = f"is invalid: {error}"
            if (SIDE - self.window) % self.stride:
                remedy = "give another one, or another {stride}"
                raise SettingError("window", self.window, problem, remedy) from None
            raise SettingError("regions", self.regions, problem) from None
        try:
            self.test_window(window)
        except ValueError as error:
            raise SettingError("test_stride", self.test_stride, f"is invalid: {error}") from None
        if self.batchnorm and self.batch_size < 2:
            problem = "is too small for batch normalisation"
            remedy = "give at least 2, or {no_batchnorm}"
            raise SettingError("batch_size", self.batch_size, problem, remedy)

    def make_window(self) -> Window:
        """Return the window of the network, without the whitening map."""
        views = {"mirror": self.uses_mirror, "two_sided": self.two_sided}
        if self.whole:
            return Window(**views)  # stride and regions have no effect, whatever they are
        return Window(self.window, self.stride, self.regions, bilinear=self.bilinear, **views)

    def test_window(self, window: Window) -> Window:
        """Return the window of the network that is validated and saved, from that in training."""
        if not unmet_needs("test_stride", self) and self.test_stride:
            return replace(window, stride=self.test_stride)
        return window

    @property
    def whole(self) -> bool:
        """Whether a filter covers the whole image, as `Window.whole`."""
        return self.window == SIDE

    @property
    def whitens(self) -> bool:
        """Whether patches are whitened."""
        return self.preprocess == "whiten"

    @property
    def uses_mirror(self) -> bool:
        """Whether each filter is also applied flipped."""
        return self.mirror and self.whitens

    @property
    def uses_flip(self) -> bool:
        """Whether images are flipped. A mirrored network gives both the same logits."""
        return self.flip and not self.uses_mirror

    @property
    def damps(self) -> bool:
        """Whether directions of W2 are damped, in the coordinates of `start_from_patches`."""
        return self.damped > 0 and self.init == "patches"

    @property
    def whitened_inputs(self) -> int:
        """The length of a whitened patch."""
        return min(self.whiten_dims, CHANNELS * self.window**2)


# ---- Recipes: settings to start from -------------------------------------------------------------

RECIPES: dict[str, dict] = {"report": {}}  # the defaults are the report's
RECIPES["quick"] = {
    # a convolutional layer of 8x8 filters on whitened patches, pooled around 3 x 3 points
    "window": 8,
    "stride": 3,
    "test_stride": 1,
    "regions": 3,
    "bilinear": True,
    "mirror": True,
    "two_sided": True,
    "preprocess": "whiten",
    "whiten_dims": 95,
    "init": "patches",
    "batchnorm": False,
    "cap": 1.0,
    # the training images
    "shift": 2,
    "validation_share": 0.05,  # few images for validation, more to learn from
    # optimisation
    "epochs": 6,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "output_lr_scale": 0.006,
    "damped": 256,
    # regularisation
    "dropout": 0.0,
    "lambda_reg": 3e-3,
    "hidden_lambda_scale": 0.0,
    "label_smoothing": 0.1,
    "ema": 0.999,
    "patience": 0,
}
# Four times the units, each with a quarter of the influence: the rate of W1 is 4 times that of
# quick, the rate of W2 a quarter.
RECIPES["best"] = RECIPES["quick"] | {
    "hidden_size": 4096,
    "learning_rate": 2.0,
    "output_lr_scale": 0.000375,
    "epochs": 20,
    "shift": 3,
    "jitter": 0.1,
    "validation_share": 0.02,
    "lambda_reg": 5e-3,
}
# As in the report, every unit sees every pixel.
RECIPES["dense"] = {
    "hidden_size": 2048,
    "mirror": True,
    "two_sided": True,
    "preprocess": "whiten",
    "whiten_dims": 384,
    "batchnorm": False,
    "cap": 1.0,
    "shift": 2,
    "validation_share": 0.02,
    "epochs": 120,
    "learning_rate": 0.2,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "output_lr_scale": 0.04,
    "dropout": 0.3,
    "lambda_reg": 3e-3,
    "hidden_lambda_scale": 0.25,
    "ema": 0.9995,
    "patience": 0,
}


@dataclass(frozen=True)
class Need:
    """A condition without which a setting has no effect, and how to meet it.

    harmless: the run is what the user wants all the same.
    """

    setting: str
    is_met: Callable[[Settings], bool]
    remedy: str
    harmless: bool = False


STEP_EPOCHS = 10  # --step-decay applies once in so many epochs

NEEDS = (
    Need("stride", lambda s: not s.whole, "give {window} below 32"),
    Need("regions", lambda s: not s.whole, "give {window} below 32"),
    Need("bilinear", lambda s: not s.whole, "give {window} below 32"),
    Need("test_stride", lambda s: not s.whole, "give {window} below 32"),
    Need("test_stride", lambda s: s.ema > 0, "give {ema}"),
    Need("damped", lambda s: s.init == "patches", "give {init} patches"),
    Need("mirror", lambda s: s.whitens, "give {preprocess} whiten"),
    Need("whiten_dims", lambda s: s.whitens, "give {preprocess} whiten"),
    Need("whiten_eps", lambda s: s.whitens, "give {preprocess} whiten"),
    Need("flip", lambda s: not s.uses_mirror, "give {no_mirror}"),
    Need("lr_decay", lambda s: s.schedule == "report", "give {schedule} report"),
    Need("step_decay", lambda s: s.schedule == "report", "give {schedule} report"),
    Need("step_decay", lambda s: s.epochs > STEP_EPOCHS, "give {epochs} above 10", harmless=True),
    Need("bn_lr_scale", lambda s: s.batchnorm, "give {batchnorm}", harmless=True),
    Need("hidden_lambda_scale", lambda s: s.lambda_reg > 0, "give {lambda_reg}", harmless=True),
    Need("patience", lambda s: s.patience < s.epochs, "give more {epochs}", harmless=True),
)


def unmet_needs(name: str, settings: Settings) -> list[Need]:
    """Return the reasons why a setting has no effect with the others as they are."""
    return [need for need in NEEDS if need.setting == name and not need.is_met(settings)]


def idle_settings(given: dict, settings: Settings) -> Iterator[tuple[Need, SettingError]]:
    """Yield the given settings that have no effect: why, and the error or note about it."""
    defaults = Settings()
    for name, value in given.items():
        if value == getattr(defaults, name):
            continue  # a default may always be typed
        for need in unmet_needs(name, settings):
            remedy = f"leave it out, or {need.remedy}"
            yield need, SettingError(name, value, "has no effect here", remedy)


def resolve(given: dict, recipe: str | dict = "report") -> Settings:
    """Return the Settings of a recipe, or of a dict of settings, changed by the given ones.

    Raises SettingError if a given setting is invalid, or has no effect but was meant to have one.
    """
    start = RECIPES[recipe] if isinstance(recipe, str) else recipe
    settings = Settings(**start | given)
    for need, error in idle_settings(given, settings):
        if not need.harmless:
            raise error
    return settings


def effective(settings: Settings | dict) -> dict:
    """Return the settings that have an effect."""
    if isinstance(settings, dict):
        settings = Settings(**settings)
    active = {}
    for name, value in asdict(settings).items():
        if not unmet_needs(name, settings):
            active[name] = value
    return active


# ---- The first weights ---------------------------------------------------------------------------

PRECONDITION_IMAGES = 1024  # enough for the mean and the deviation of every activation
LEADING_IMAGES = 1024  # in which the leading directions are found: twice the largest `damped`


def fit_window(images: np.ndarray, settings: Settings, threads: Threads | None = None) -> Window:
    """Return the window of a network, whitened by the patches of images (N, 3072) uint8."""
    window = settings.make_window()
    if not settings.whitens:
        return window
    dims = settings.whitened_inputs
    return window.whitening(images, dims, settings.whiten_eps, threads or Threads())


def start_from_patches(network: Network, images: np.ndarray, rng: np.random.Generator) -> None:
    """Set the first weights by example (Coates, Lee & Ng 2011), from images (N, 3072) uint8.

    Each column of W1 is a random patch of the images, scaled to norm sqrt(2), so that a unit
    responds to what resembles it. b1 is uniform in [-2, 0], so that some units respond to little
    and others to a close match only. W2 is 0.
    """
    window = network.window
    H = network.hidden_size
    rows = rng.integers(0, len(images), H)
    positions = rng.integers(0, window.positions, H)
    patches = np.empty((H, window.inputs), network.dtype)
    for units in slices(H, 64):  # few at a time: all patches of these images are in memory
        X = model.layer_input(images[rows[units]], window, network.dtype)
        X = X.reshape(-1, window.positions, X.shape[1])
        X = X[..., : window.inputs]  # without the column of ones
        patches[units] = X[np.arange(len(X)), positions[units]]
    # With equal norms no unit is larger than another only since its patch had more contrast. The
    # limit is for patches of one colour, whose norm is 0.
    norms = np.linalg.norm(patches, axis=1, keepdims=True)
    patches *= np.sqrt(2) / np.maximum(norms, 1e-6)
    network.weights["W1"][...] = patches.T
    network.weights["b1"][...] = rng.uniform(-2, 0, H)
    network.weights["W2"][...] = 0
    # By the activations of these filters, not of those that Network began with.
    network.precondition(images[:PRECONDITION_IMAGES])
    # A low cap, or images that are all alike: no gradient would reach the filters.
    means, deviations = network.preconditioner
    if deviations.max() <= 1e-4 * means.max():  # equal but for the rounding of float32
        problem = "gives every image the same activations"
        remedy = "give {preprocess} whiten, a higher {cap} or other images"
        raise SettingError("init", "patches", problem, remedy)


def first_network(
    settings: Settings,
    data: cifar10.Dataset,
    rows: np.ndarray,
    rng: np.random.Generator,
    threads: int,
) -> Network:
    """Return a network with its first weights. rows: the training images that it may see."""
    images = data.train_images[:0]
    # Indexing copies the images, so it is done only if their patches are needed.
    if settings.whitens or settings.init == "patches":
        images = data.train_images[rows]
    # Before the network: its number of inputs is that of the whitened dimensions.
    window = fit_window(images, settings, Threads(threads))
    classes = len(data.class_names)
    check_memory(settings, window, classes)
    network = Network(
        settings.hidden_size,
        window,
        classes=classes,
        batchnorm=settings.batchnorm,
        dropout=settings.dropout,
        cap=settings.cap,
        seed=rng,
        threads=threads,
    )
    if settings.init == "patches":
        start_from_patches(network, images, rng)
    return network


def check_memory(settings: Settings, window: Window, classes: int) -> None:
    """Raise SettingError if the weights of a run don't fit into this machine's memory.

    A typed zero too many should end in one line, not in a process that the system kills.
    """
    if not hasattr(os, "sysconf"):  # Windows, which refuses by itself
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    numbers = settings.hidden_size * (window.inputs + window.q * classes)
    copies = 4 if settings.ema else 3  # weights, velocity, best weights, moving average
    needed = numbers * copies * np.dtype(np.float32).itemsize
    if needed > memory:
        gigabytes = f"{needed / 2**30:,.0f} GB of {memory / 2**30:,.0f} GB"
        problem = f"needs {gigabytes} of memory; choose a smaller one"
        raise SettingError("hidden_size", settings.hidden_size, problem)


# ---- The images of a run, and their weights ------------------------------------------------------


def limited_rows(labels: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `limit` rows, sorted. Every class has its share of them, and at least one."""
    classes, sizes = np.unique(labels, return_counts=True)
    if limit > len(labels):
        raise SettingError("limit", limit, f"is more than the {len(labels):,} training images")
    if limit < len(classes):
        raise SettingError(
            "limit", limit, f"is less than an image for each of {len(classes)} classes"
        )
    shares = sizes * limit / len(labels)
    counts = np.maximum(np.floor(shares).astype(int), 1)
    # Rounded down, they leave some images to give away: to the classes furthest below their share.
    while counts.sum() < limit:
        counts[np.argmax(shares - counts)] += 1
    # One image for every class may make too many: classes furthest above their share give back.
    while counts.sum() > limit:
        excess = np.where(counts > 1, counts - shares, -np.inf)
        counts[np.argmax(excess)] -= 1
    drawn = []
    for label, count in zip(classes, counts, strict=True):
        rows = np.flatnonzero(labels == label)
        drawn.append(rng.permutation(rows)[:count])
    return np.sort(np.concatenate(drawn))


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """Return n / (C n_c) for each label: every class gets the same sum, and the mean is 1."""
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(classes) * counts))[index]


def image_weights(
    settings: Settings,
    labels: np.ndarray,
    splits: tuple[np.ndarray, np.ndarray],
    sample_weight: np.ndarray | None,
) -> np.ndarray | None:
    """Return a factor of the loss for every image, (N,), or None if all count alike.

    splits: the rows for training and for validation. The mean over the training images is 1.
    """
    if sample_weight is None and settings.class_weight == "none":
        return None
    weights = np.ones(len(labels))
    if sample_weight is not None:
        weights *= sample_weight
    for rows, purpose in zip(splits, ("training", "validation"), strict=True):
        if settings.class_weight == "balanced":
            weights[rows] *= balanced_weights(labels[rows])
        # Not "<= 0", which would let a NaN pass.
        if not weights[rows].sum() > 0:
            raise TrainingError(f"sample_weight: is 0 for all images for {purpose}")
    return weights / weights[splits[0]].mean()


# ---- Batches and the learning rate ---------------------------------------------------------------


def batches(rows: np.ndarray, settings: Settings, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the rows of the training images in random order, a mini-batch at a time."""
    rows = rng.permutation(rows)
    for start in range(0, len(rows), settings.batch_size):
        batch = rows[start : start + settings.batch_size]
        # Batch normalisation needs two images. A last batch of one is skipped; the next epoch's
        # order is another, so that image is not lost for good.
        if settings.batchnorm and len(batch) == 1 < len(rows):
            continue
        yield batch


def augmented(images: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Return images (m, 3072) uint8 changed at random, as the settings say."""
    return augment(images, rng, settings.uses_flip, settings.shift, settings.jitter)


def steps_per_epoch(images: int, settings: Settings) -> int:
    """Return the number of mini-batches that `batches` makes of so many images."""
    whole, left = divmod(images, settings.batch_size)
    if left == 0 or (settings.batchnorm and left == 1 < images):
        return whole
    return whole + 1


def learning_rate(settings: Settings, epoch: int, within: float = 0.0) -> float:
    """Return the learning rate at a point of the training.

    epoch: counted from 0. within: the share of the epoch that is done, 0..1. The report's rules
    change the rate between epochs. The cosine (Loshchilov & Hutter 2017) and the warm-up change it
    at every step.
    """
    done = epoch + within
    rate = settings.learning_rate
    if settings.schedule == "report":
        rate *= settings.lr_decay**epoch * settings.step_decay ** (epoch // STEP_EPOCHS)
    elif settings.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * done / settings.epochs)) / 2
    if settings.warmup_epochs:
        rate *= min(1.0, done / settings.warmup_epochs)
    return rate


# ---- The moving average of the weights -----------------------------------------------------------

EMA_EVERY = 8  # steps: an average costs as much memory traffic as an update


def average(averaged: Network, network: Network, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's (Polyak & Juditsky 1992)."""
    if step % EMA_EVERY:
        return
    # At first the average moves faster, to forget the first weights.
    keep = min(decay**EMA_EVERY, step / (step + 10 * EMA_EVERY))
    for name, mean in averaged.weights.items():
        mean *= mean.dtype.type(keep)
        mean += network.weights[name] * mean.dtype.type(1 - keep)


# ---- A run ---------------------------------------------------------------------------------------


class Diverged(TrainingError):
    """A run whose loss isn't finite."""


class Totals:
    """Sums over the steps of an epoch."""

    def __init__(self):
        self.images = 0
        self.loss = 0.0  # over the images
        self.correct = 0
        self.rates = []
        self.seconds = 0.0

    def add(self, images: int, loss: float, correct: int, rate: float) -> None:
        """Add a step on so many images with this mean loss."""
        self.images += images
        self.loss += loss * images
        self.correct += correct
        self.rates.append(rate)


class Run:
    """The state of a run between two epochs: networks, generator, history."""

    def __init__(
        self,
        settings: Settings,
        data: cifar10.Dataset,
        threads: int = 1,
        recipe: str = "report",
        command: str = "",
        sample_weight: np.ndarray | None = None,
    ):
        """sample_weight: a factor of the loss for every training image, (N,); None: 1."""
        self.settings = settings
        self.recipe = recipe
        self.command = command
        self.data = {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
        }
        # One generator draws everything, in this order: limit, split, first weights; then in each
        # epoch the images of `find_leading` and their changes, the order of all images, and for
        # each batch its changes and dropout.
        self.rng = np.random.default_rng(settings.seed)
        labels = data.train_labels
        rows = np.arange(len(labels))
        if settings.limit:
            rows = limited_rows(labels, settings.limit, self.rng)
        splits = cifar10.split(labels[rows], settings.validation_share, self.rng)
        self.train_rows, self.validation_rows = (rows[split] for split in splits)
        splits = self.train_rows, self.validation_rows
        self.image_weights = image_weights(settings, labels, splits, sample_weight)
        self.steps = steps_per_epoch(len(self.train_rows), settings)
        if settings.batchnorm and len(self.train_rows) < 2:
            problem = "needs at least two training images"
            raise SettingError("batchnorm", True, problem, "give more images, or {no_batchnorm}")
        if settings.ema and self.steps * settings.epochs < EMA_EVERY:
            problem = f"averages nothing in fewer than {EMA_EVERY} steps"
            raise SettingError("ema", settings.ema, problem, "give more {epochs}")
        self.network = first_network(settings, data, self.train_rows, self.rng, threads)
        self._copy_network()
        self.step = 0
        self.history: dict[str, list] = {name: [] for name in HISTORY}

    def __repr__(self):
        done = f"epoch {self.epoch} of at most {self.settings.epochs}"
        return f"<Run: {self.network!r}, on {self.data['name']}, {done}>"

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return runs.epochs_done(self.history)

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights are kept; 0 before the first."""
        return runs.best_epoch(self.history)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        return runs.is_finished(asdict(self.settings), self.history)

    def start_from(self, network: Network, images: np.ndarray) -> None:
        """Begin with the weights and the whitening map of a network instead of new ones.

        images: the training images. Raises ValueError if the weights have other shapes.
        """
        self.network.load_weights(network.weights)
        # The weights belong to this map: under another one the same filters see other patches. The
        # stride stays: a saved network has that of validation.
        mean, P = network.window.mean, network.window.P  # None without whitening
        self.network.window = replace(self.network.window, mean=mean, P=P)
        if self.network.preconditioner is not None:
            self.network.precondition(images[self.train_rows[:PRECONDITION_IMAGES]])
        self._copy_network()

    def _copy_network(self) -> None:
        """Set the networks that follow the one in training."""
        window = self.settings.test_window(self.network.window)
        # The network that is validated: the moving average, or the network itself if ema is 0.
        self.averaged = self.network.copy(window=window) if self.settings.ema else self.network
        # A copy: training changes the network's own arrays.
        self.best = self.network.copy(window=window)

    def find_leading(self, images: np.ndarray) -> None:
        """Find the directions that are damped in this epoch, from images like those to come.

        With fewer training images than twice `damped`, half as many directions as images are
        damped.
        """
        count = min(LEADING_IMAGES, len(self.train_rows))
        rows = self.rng.choice(self.train_rows, count, replace=False)
        some = augmented(images[rows], self.settings, self.rng)
        self.network.find_leading(some, min(self.settings.damped, count // 2))

    def record(self, totals: Totals, val_loss: float, val_accuracy: float) -> None:
        """Add an epoch to the history, and keep its weights if it is the best."""
        row = {
            "learning_rate": sum(totals.rates) / len(totals.rates),
            "train_loss": totals.loss / totals.images,
            "train_accuracy": totals.correct / totals.images,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "seconds": totals.seconds,
        }
        # Ctrl-C waits, so that history and best weights agree.
        with interrupts_wait():
            for name, value in row.items():
                self.history[name].append(value)
            if self.best_epoch == self.epoch:
                self.best.load_weights(self.averaged.weights)

    def image_weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the weights of some images, or None if all images count alike."""
        return None if self.image_weights is None else self.image_weights[rows]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that change from step to step, as PART.NAME."""
        parts = {
            "weights": self.network.weights,
            "velocity": self.network.velocity,
            "best": self.best.weights,
        }
        if self.settings.ema:
            parts["averaged"] = self.averaged.weights
        if self.network.preconditioner is not None:
            parts["preconditioner"] = {"s": self.network.preconditioner}
        arrays = {}
        for part, named in parts.items():
            for name, array in named.items():
                arrays[f"{part}.{name}"] = array
        return arrays


# ---- The loop ------------------------------------------------------------------------------------


def train(
    settings: Settings,
    data: cifar10.Dataset,
    output: str | Path | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    threads: int = 1,
    stop_after: int | None = None,
    show: bool = False,
    recipe: str = "report",
    command: str = "",
    storage=None,
    sample_weight: np.ndarray | None = None,
) -> Run:
    """Train a network, and write its best weights to the checkpoint `output`.

    output: next to it are the state for `resume` and a CSV, see support/runs.py. None: nothing is
    written. stop_after: the epoch after which to pause, the schedule unchanged. show: print a
    table, and bars on a terminal. recipe, command: what the checkpoint says of its origin.
    storage: the dtype in the checkpoint, see Network.save. sample_weight: see Run.

    Raises TrainingError if a run's files are in the way, or Diverged if the loss isn't finite: the
    last good checkpoint stays. Raises FileError or SettingError if the state doesn't fit, or if
    another process trains onto `output`, and OSError if writing fails.
    """
    run_files = RunFiles(Path(output) if output else None, storage)
    with run_files.locked():
        run = Run(settings, data, threads, recipe, command, sample_weight)
        resumed = run_files.start(run, resume, overwrite)
        if show and resume and output and not resumed:
            cli.note(f"--resume has no effect: {state_path(output)} isn't there; a new run begins")
        train_epochs(run, data, run_files, stop_after, show)
        run_files.finish(run)
    return run


@np.errstate(over="ignore", invalid="ignore")  # what overflows becomes a loss that isn't finite
def train_epochs(
    run: Run,
    data: cifar10.Dataset,
    run_files: RunFiles,
    stop_after: int | None = None,
    show: bool = False,
) -> None:
    """Train a run to its end, or to the epoch stop_after. The arguments are those of `train`."""
    settings = run.settings
    images = data.train_images  # (N, 3072) uint8
    labels = data.train_labels.astype(np.int64)
    sgd = SGD(
        momentum=settings.momentum,
        lambda_reg=settings.lambda_reg,
        bn_lr_scale=settings.bn_lr_scale,
        output_lr_scale=settings.output_lr_scale,
        hidden_lambda_scale=settings.hidden_lambda_scale,
    )
    display = progress.Display(show)
    display.start(run, data, effective(settings), asdict(Settings()))

    # A run is finished after its last epoch, or earlier if validation stops improving.
    while not run.finished and (stop_after is None or run.epoch < stop_after):
        totals = Totals()
        started = time.perf_counter()
        if settings.damps:
            run.find_leading(images)
        with display.epoch(run) as show_step:
            for step, rows in enumerate(batches(run.train_rows, settings, run.rng), 1):
                # Random changes: no two epochs show an image in the same way.
                X = augmented(images[rows], settings, run.rng)

                # The rate at the end of the step, so that a warm-up doesn't begin at 0.
                sgd.learning_rate = learning_rate(settings, run.epoch, step / run.steps)

                # Forward, backward, update. The loss is that before the update.
                loss, correct = run.network.train_batch(
                    X,
                    labels[rows],
                    sgd,
                    smoothing=settings.label_smoothing,
                    image_weights=run.image_weights_of(rows),
                )
                if not math.isfinite(loss):
                    raise diverged(run, sgd.learning_rate, f"step {step}", run_files.output)
                run.step += 1
                if settings.ema:
                    average(run.averaged, run.network, settings.ema, run.step)

                totals.add(len(rows), loss, correct, sgd.learning_rate)
                show_step(totals.images, totals.loss / totals.images)
        totals.seconds = time.perf_counter() - started

        # Validation: images unchanged, labels without smoothing. For balanced classes both
        # are means over the classes, so that a rare class counts as much as the others.
        rows = run.validation_rows
        val_loss, val_accuracy = run.averaged.evaluate(
            images[rows], labels[rows], run.image_weights_of(rows)
        )
        if not math.isfinite(val_loss) or not all_finite(run.averaged.weights):
            raise diverged(run, sgd.learning_rate, "validation", run_files.output)

        # In memory first, so that what is saved holds this epoch.
        run.record(totals, val_loss, val_accuracy)

        # After every epoch: a crash or a power cut costs one epoch at most.
        run_files.save(run)
        display.end_epoch(run)


def all_finite(weights: dict[str, np.ndarray]) -> bool:
    """Return whether all weights are finite numbers."""
    return all(np.isfinite(array).all() for array in weights.values())


def diverged(run: Run, rate: float, when: str, output: Path | None) -> Diverged:
    """Return the error of a run whose loss isn't finite."""
    recipe = RECIPES.get(run.recipe, {})
    text = progress.diverged_text(run, effective(run.settings), recipe, rate, when, output)
    return Diverged(text)


# ---- From Python ---------------------------------------------------------------------------------


class Classifier(Estimator, settings=Settings):
    """A network by scikit-learn's conventions, see `Estimator`.

    `fit` gives the same bits as `train` with the same settings and images, and writes nothing.
    Classifier(**RECIPES["quick"]) has a recipe's settings.
    """

    def _train(self, images, labels, names, weights, start) -> tuple[Network, dict]:
        settings = Settings(**self.settings())
        no_images, no_labels = images[:0], labels[:0]
        # There is no test split: `score` takes one of its own.
        data = cifar10.Dataset(
            "arrays", images, labels, no_images, no_labels, names, fingerprint=""
        )
        run = Run(settings, data, self.threads, sample_weight=weights)
        if start is not None:
            run.start_from(start, images)
        try:
            train_epochs(run, data, RunFiles(None), show=bool(self.verbose))
        except KeyboardInterrupt:
            # Without a finished epoch there are no weights to keep.
            if run.epoch == 0:
                raise
            text = f"interrupted in epoch {run.epoch + 1}; the best weights until then are kept"
            warnings.warn(text, stacklevel=3)
        info = runs.describe(run)
        del info["data"]["fingerprint"]  # of both splits, and there is no test split here
        return run.best, info

    _read = staticmethod(model.load)


# ---- The command line ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """The checked command line."""

    settings: Settings
    recipe: str  # or the name of the checkpoint of --like
    data: cifar10.Dataset
    source: cifar10.Source  # of the data
    output: Path
    storage: str
    threads: int
    resume: bool
    overwrite: bool
    command: str  # the command line itself, for the checkpoint


MODEL_PATH_REASON = "training starts anew, and --output names the result"


class HelpAll(argparse.Action):
    """--help-all: --help with the rarely used flags."""

    def __call__(self, parser, *_):
        make_parser(rare=True).print_help()
        parser.exit()


def make_parser(rare: bool = False) -> cli.ArgumentParser:
    """Return the parser. rare: whether its help shows the rarely used flags."""
    parser = cli.ArgumentParser(
        prog="train.py", usage="python train.py [FLAG ...]", description=__doc__
    )
    text = "also show the rarely used flags"
    parser.add_argument("--help-all", action=HelpAll, nargs=0, help=text)
    start = parser.add_mutually_exclusive_group()
    text = "settings to start from"
    start.add_argument("--recipe", choices=tuple(RECIPES), default="report", help=text)
    text = "start from the settings of a checkpoint"
    start.add_argument("--like", type=Path, metavar="NET.npz", help=text)

    groups = add_setting_arguments(parser, fields(Settings), RECIPES, rare=rare)

    group = groups["run"]
    names = group.add_mutually_exclusive_group()
    text = "the checkpoint (default: checkpoints/DATASET-RECIPE-seedN.npz)"
    names.add_argument("--output", type=cli.output_path, metavar="FILE.npz", help=text)
    text = "a folder for it, instead of checkpoints/"
    names.add_argument("--output-dir", type=cli.output_folder, metavar="FOLDER", help=text)
    text = "precision of the saved weights; float16 halves the files"
    group.add_argument("--storage", choices=("float32", "float16"), default="float32", help=text)
    existing = group.add_mutually_exclusive_group()
    text = "continue a stopped run, given with the same flags"
    existing.add_argument("--resume", action="store_true", help=text)
    text = "replace the files of another run"
    existing.add_argument("--overwrite", action="store_true", help=text)
    cli.add_threads(group)
    cifar10.add_arguments(parser)
    report = add_report_arguments(parser, "train", rare=rare)
    text = f"no effect: {MODEL_PATH_REASON}" if rare else argparse.SUPPRESS
    report.add_argument("--model-path", metavar="FILE", help=text)
    return parser


def parse(typed: list[str]) -> Task:
    """Return what a command line asks for. This reads the images.

    Raises UserError, such as a SettingError, if the command line or the images are invalid.
    """
    args = make_parser().parse_args(typed)
    if args.output and args.output.suffix != ".npz":
        raise cli.UserError(f"--output {args.output}: the name of a checkpoint ends in .npz")
    start = settings_in_checkpoint(args.like) if args.like else args.recipe
    given = given_settings(args)
    settings = resolve(given, start)
    check_use_dropout(args, settings.dropout)
    note_idle_flags(args, given, settings)
    source = cifar10.Source.of(args)
    data = cifar10.load_from(source)
    recipe = args.recipe
    if args.like:
        recipe = args.like.stem.removeprefix(f"{data.title}-")
        # The best.npz of a search has other settings than the recipe best, and gets another name.
        if recipe in RECIPES and start | {"seed": 0} != asdict(resolve({}, recipe)):
            recipe = f"like-{recipe}"
    output = args.output
    if not output:
        folder = args.output_dir or CHECKPOINTS
        output = cli.user_path(folder / f"{data.title}-{recipe}-seed{settings.seed}.npz")
    # Now, as a refusal after hours of training would be too late.
    cli.check_writable(output.parent, "--output-dir")
    # The command that makes the checkpoint from nothing, wherever this run resumed.
    own = [word for word in typed if word not in ("--resume", "--overwrite")]
    return Task(
        settings=settings,
        recipe=recipe,
        data=data,
        source=source,
        output=cli.shorter(output),
        storage=args.storage,
        threads=args.threads,
        resume=args.resume,
        overwrite=args.overwrite,
        command=f"python train.py {shlex.join(own)}".strip(),
    )


def note_idle_flags(args: argparse.Namespace, given: dict, settings: Settings) -> None:
    """Print a line on stderr for every flag that has no effect."""
    for _, idle in idle_settings(given, settings):
        cli.note(idle.command_line_text())
    if args.model_path:
        cli.note(f"--model-path has no effect: {MODEL_PATH_REASON}")


def given_settings(args: argparse.Namespace) -> dict:
    """Return the settings that were typed. Raises SettingError if two contradict each other."""
    given = {}
    for option in fields(Settings):
        if hasattr(args, option.name):
            given[option.name] = getattr(args, option.name)
    if drops_nothing(args, given.get("dropout", 0.0)):
        given["dropout"] = 0.0
    return given


def settings_in_checkpoint(path: Path) -> dict:
    """Return the settings of a checkpoint's run. Raises FileError if it says none."""
    _, info = npz.read_npz(path)
    with files.error_context(path, "give --like a checkpoint of train.py"):
        if "settings" not in info:
            raise files.Fault("doesn't say with which settings it was trained")
        if "class_weights" in info:
            raise files.Fault("was trained with weights of its classes that no flag can give")
        try:
            return asdict(Settings(**info["settings"]))
        except SettingError as error:
            raise files.Fault(f"has an invalid setting: {error}") from None


def main(argv: list[str] | None = None) -> int:
    typed = sys.argv[1:] if argv is None else argv
    task = parse(typed)
    try:
        run = train(
            task.settings,
            task.data,
            task.output,
            resume=task.resume,
            overwrite=task.overwrite,
            threads=task.threads,
            show=True,
            recipe=task.recipe,
            command=task.command,
            storage=task.storage,
        )
    except KeyboardInterrupt:
        state = state_path(task.output)
        raise KeyboardInterrupt(cli.stopped("train.py", state, argv)) from None
    print_result(run, task)
    return 0


def print_result(run: Run, task: Task) -> None:
    """Print the best epoch, and the command that tests the checkpoint."""
    best = run.best_epoch
    accuracy = run.history["val_accuracy"][best - 1]
    kind = "validation" if run.settings.class_weight == "none" else "balanced validation"
    seconds = sum(run.history["seconds"])
    print(
        f"best epoch {best} of {run.epoch}, {kind} accuracy {accuracy:.2%}, "
        f"in {seconds:.0f} s of training"
    )
    test = [*cli.script("test.py"), str(task.output)]
    if task.source.data_dir:
        # The folder above may hold several data sets.
        is_it = task.data.folder.resolve() == cli.user_path(task.source.data_dir).resolve()
        folder = task.source.data_dir if is_it else str(cli.shorter(task.data.folder))
        test += ["--data-dir", folder]
    print(f"checkpoint {task.output}")
    print(f"test it with: {shlex.join(test)}")  # whole, to be copied


if __name__ == "__main__":
    sys.exit(cli.command(main))
