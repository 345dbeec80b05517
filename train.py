"""Train a network with one hidden layer on CIFAR-10 and leave a checkpoint.

  python train.py                          the report's network: 1024 units, batch normalisation, dropout, SGD
  python train.py --recipe quick           the better network that is there before the coffee is
  python train.py --recipe best            the best network that we know
  python train.py --hidden-size 512 --learning-rate 0.005 --seed 3
  python train.py --resume                 go on with a run that was stopped, with the same flags as before

Weights are chosen by validation accuracy; the test split isn't looked at here: that is what test.py is for.
"""

import argparse
import glob
import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import model
from data import cifar10
from model import MAX_UNITS, SGD, Field, Network, default_threads

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent


# ---- Settings -------------------------------------------------------------------------------------------------------


def setting(default, help, *, low=None, high=None, below=None, choices=None, aliases=()):
    """A field of Settings: its default, what --help says, and which values are allowed (low and high are; below is
    not). aliases: other names of the flag."""
    allowed = {"low": low, "high": high, "below": below, "choices": choices}
    return field(default=default, metadata={"help": help, "aliases": aliases} | allowed)


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides the data; the names are the flags. ValueError for a value that isn't allowed."""

    hidden_size: int = setting(1024, "hidden units that see the whole image", low=1, high=MAX_UNITS)
    receptive_fields: str = setting(
        "",
        "in place of --hidden-size: hidden units in groups that see only windows of the image, as a list of "
        "SIZE/STRIDExUNITS@DIMS in one string, such as '32x512@256 12/4x60@96': 512 units that see the whole image in "
        "256 whitened dimensions, and 60 at each place of a 12x12 window that moves in steps of 4 pixels",
    )
    mirror: bool = setting(False, "tie to each unit a twin that sees the mirrored image (2H units; replaces --flip)")
    batchnorm: bool = setting(True, "batch normalisation before the ReLU", aliases=("use-batchnorm",))
    dropout: float = setting(
        0.5,
        "probability that a hidden unit is dropped, kept to the nearest 1/256",
        low=0,
        below=0.998,  # above 255.5 / 256, the nearest 1/256 is 1
        aliases=("dropout-rate",),
    )
    preprocess: str = setting(
        "none",
        "pixels in [0, 1] as they are, standardized per channel, or whitened by principal components",
        choices=("none", "standardize", "whiten"),
    )
    whiten_dims: int = setting(256, "principal components that a field without @DIMS keeps", low=1, high=model.PIXELS)
    whiten_eps: float = setting(
        0.01, "added to a component's variance before whitening, in units of the mean variance of a component", low=0
    )
    flip: bool = setting(True, "mirror every other training image, at random")
    shift: int = setting(0, "move training images by up to this many pixels in each direction", low=0, high=16)
    epochs: int = setting(100, "passes over the training images, at most", low=1)
    batch_size: int = setting(128, "images in a mini-batch", low=1)
    learning_rate: float = setting(0.01, "learning rate of the first epoch, or the highest with a warm-up", low=0)
    schedule: str = setting(
        "report",
        "learning rate over the epochs: the report's two rules of decay together, half a cosine to 0, or constant",
        choices=("report", "cosine", "constant"),
    )
    lr_decay: float = setting(0.9, "report schedule: factor after every epoch", low=0, high=1)
    step_decay: float = setting(0.5, "report schedule: another factor after every tenth epoch", low=0, high=1)
    warmup_epochs: float = setting(0.0, "epochs over which the learning rate rises from 0", low=0)
    momentum: float = setting(0.9, "momentum of SGD", low=0, below=1)
    lambda_reg: float = setting(0.01, "L2: lambda/2 (|W1|^2 + |W2|^2) is added to the loss", low=0)
    output_lr_scale: float = setting(1.0, "the learning rate of W2 and b2 is this many times higher", low=0)
    share: float = setting(
        0.0,
        "how much the places of a receptive field learn from each other: to the step of each is added this / sqrt(G) "
        "times the sum of the steps of all G; they start alike, then",
        low=0,
    )
    output_init: float = setting(1.0, "factor on the first values of W2", low=0)
    bn_lr_scale: float = setting(
        128.0, "the learning rate of BN's gamma and beta is this many times higher, as in the report's code", low=0
    )
    label_smoothing: float = setting(0.0, "share of each label that is spread over all classes", low=0, below=1)
    ema: float = setting(
        0.0, "average the weights over the steps with this decay, and validate and keep the average", low=0, below=1
    )
    patience: int = setting(
        10,
        "stop after this many epochs without a better validation accuracy; 0: never",
        low=0,
        aliases=("early-stopping",),
    )
    validation_share: float = setting(0.1, "share of the training split that is kept for validation", low=0, below=1)
    seed: int = setting(0, "where all randomness starts: split, weights, order, augmentation, dropout", low=0)

    def __post_init__(self):
        for option in fields(self):
            value, allowed = getattr(self, option.name), option.metadata
            if isinstance(option.default, float) and not isinstance(value, bool):
                object.__setattr__(self, option.name, value := float(value))
            low, high, below, choices = (allowed[key] for key in ("low", "high", "below", "choices"))
            if type(value) is not type(option.default):
                raise SettingError(option.name, value, f"must be of type {type(option.default).__name__}")
            if choices and value not in choices:
                raise SettingError(option.name, value, f"must be one of {', '.join(choices)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingError(option.name, value, "must be finite")
            if low is not None and value < low:
                raise SettingError(option.name, value, f"must be at least {low}")
            if high is not None and value > high:
                raise SettingError(option.name, value, f"must be at most {high}")
            if below is not None and value >= below:
                raise SettingError(option.name, value, f"must be below {below}")
        if self.batchnorm and self.batch_size < 2:
            raise SettingError("batch_size", self.batch_size, "must be at least 2, or give --no-batchnorm")
        try:
            self.fields()
        except ValueError as error:
            raise SettingError("receptive_fields", self.receptive_fields, f"can't be: {error}") from None

    def fields(self) -> list[Field]:
        """The hidden layer: the receptive fields, or one that is the whole image."""
        dims = self.whiten_dims if self.preprocess == "whiten" else None
        written = [Field.parse(text) for text in self.receptive_fields.split()]
        if dims is None and any(each.dims for each in written):
            raise ValueError("@DIMS needs --preprocess whiten")
        return [
            replace(each, dims=each.dims or (dims and min(dims, each.pixels)))
            for each in written or [Field(units=self.hidden_size)]
        ]


class SettingError(ValueError):
    """A setting that isn't allowed: one line that names it as a flag."""

    one_line = True

    def __init__(self, name, value, problem):
        flag = name.replace("_", "-")
        typed = f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"
        super().__init__(f"{typed} {problem}")


class TrainingError(RuntimeError):
    """A run that can't start or go on: one line with the cause and the remedy."""

    one_line = True


class Diverged(TrainingError):
    """A run whose loss is no longer finite."""


RECIPES = {"report": {}}
RECIPES["quick"] = {
    "receptive_fields": "8/2x100@64",
    "batchnorm": False,
    "dropout": 0.05,
    "preprocess": "whiten",
    "whiten_eps": 1.0,
    "shift": 2,
    "epochs": 12,
    "batch_size": 256,
    "learning_rate": 0.2,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "lambda_reg": 5e-4,
    "output_lr_scale": 0.25,
    "share": 3.0,
    "output_init": 0.07,
    "ema": 0.999,
    "patience": 0,
}
RECIPES["best"] = RECIPES["quick"] | {
    "receptive_fields": "8/2x400@64",
    "mirror": True,
    "dropout": 0.2,
    "shift": 3,
    "epochs": 75,
    "batch_size": 128,
    "warmup_epochs": 2.0,
    "lambda_reg": 8e-4,
    "output_lr_scale": 0.06,
    "label_smoothing": 0.1,
    "validation_share": 0.02,  # 0.1 while these settings were chosen; then more images to learn from
}

# Settings that do something only where others let them, and what to do about it; given in vain, they are refused.
NEEDS = {
    "hidden_size": (lambda s: not s.receptive_fields, "give --receptive-fields ''"),
    "share": (lambda s: any(len(each.corners) > 1 for each in s.fields()), "give --receptive-fields with many places"),
    "whiten_dims": (
        lambda s: s.preprocess == "whiten" and not all("@" in each for each in s.receptive_fields.split() or [""]),
        "give --preprocess whiten and a field without @DIMS",
    ),
    "whiten_eps": (lambda s: s.preprocess == "whiten", "give --preprocess whiten"),
    "lr_decay": (lambda s: s.schedule == "report", "give --schedule report"),
    "step_decay": (lambda s: s.schedule == "report", "give --schedule report"),
    "bn_lr_scale": (lambda s: s.batchnorm, "give --batchnorm"),
    "flip": (lambda s: not s.mirror, "give --no-mirror"),
}


def resolve(given: dict, recipe: str = "report") -> Settings:
    """The Settings of a recipe with the given ones in place of its own. SettingError where a given one does nothing."""
    settings = Settings(**(RECIPES[recipe] | given))
    for name, (needed, remedy) in NEEDS.items():
        off = given.get(name, False) is False or (name == "share" and not given[name])
        if not off and not needed(settings):
            raise SettingError(name, given[name], f"does nothing here: leave it out, or {remedy}")
    return settings


# ---- Batches --------------------------------------------------------------------------------------------------------


def fit_map(images: np.ndarray, seen: Field, preprocess: str, eps: float):
    """The linear map through which a field sees its patches: None, or (mean, P) for X = (patch - mean) P.

    images (N, 3072) uint8, the training split's; mean (3 size^2,) in [0, 1]. standardize: P (3 size^2,) is 1 / std of
    the pixel's channel. whiten: P (3 size^2, dims) holds the leading principal components of the patches at all
    places, each divided by sqrt(variance + eps v), v the mean variance of all components, and then all scaled to give
    X a mean variance of 1; mirror images count as well, so that no side is preferred.
    """
    if preprocess == "none":
        return None
    channels = images.reshape(len(images), 3, -1)
    if preprocess == "standardize":
        mean = channels.mean(axis=(0, 2)) / 255
        std = np.array([channels[:, c].std(dtype=np.float64) for c in range(3)]) / 255
        area = seen.size**2
        return np.repeat(mean, area), np.repeat(1 / np.maximum(std, 1e-3), area)
    wanted = -(-WHITENING_PATCHES // len(seen.corners))
    square = images[:: max(1, len(images) // wanted)].reshape(-1, 3, 32, 32)
    total, product = np.zeros(seen.pixels), np.zeros((seen.pixels, seen.pixels))
    for row, column in seen.corners:
        patches = square[:, :, row : row + seen.size, column : column + seen.size]
        patches = np.multiply(patches.reshape(-1, seen.pixels), 1 / 255, dtype=np.float32)
        total += patches.sum(axis=0, dtype=np.float64)
        product += patches.T @ patches
    mirrored = np.arange(seen.pixels).reshape(3, seen.size, seen.size)[:, :, ::-1].ravel()
    count = len(square) * len(seen.corners)
    mean = (total + total[mirrored]) / (2 * count)
    covariance = (product + product[np.ix_(mirrored, mirrored)]) / (2 * count) - np.outer(mean, mean)
    variances, components = np.linalg.eigh(covariance.astype(np.float32))
    variances, components = np.maximum(variances[::-1], 1e-8), components[:, ::-1]
    scale = 1 / np.sqrt(variances + eps * variances.mean())[: seen.dims]
    scale /= np.sqrt(np.mean(variances[: seen.dims] * scale**2))
    return mean, components[:, : seen.dims] * scale


WHITENING_PATCHES = 100_000  # enough for every covariance, and a second's work


def augment(images: np.ndarray, flip: bool, shift: int, rng: np.random.Generator) -> np.ndarray:
    """Move each image by up to `shift` pixels in both directions, its border mirrored into the gap, and mirror every
    other one: (m, 3072) uint8 -> the same, drawn anew for each image. May overwrite `images`."""
    square = images.reshape(-1, 3, 32, 32)
    if shift:
        padded = np.pad(square, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="reflect")
        down, right = rng.integers(0, 2 * shift + 1, (2, len(square)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(2, 3))
        square = windows[np.arange(len(square)), :, down, right]
    if flip:
        chosen = rng.random(len(square)) < 0.5
        square[chosen] = square[chosen, :, :, ::-1]
    return square.reshape(-1, model.PIXELS)


def batches(images, labels, rows, settings: Settings, rng: np.random.Generator) -> Iterator[tuple]:
    """One epoch: the given rows in random order, as augmented uint8 mini-batches (m, 3072) with their labels (m,)."""
    rows = rng.permutation(rows)
    for start in range(0, len(rows), settings.batch_size):
        batch = rows[start : start + settings.batch_size]
        if settings.batchnorm and len(batch) == 1:
            continue  # BN has no statistics of one image; another one is left over in the next epoch
        yield augment(images[batch], settings.flip and not settings.mirror, settings.shift, rng), labels[batch]


def learning_rate(settings: Settings, epoch: int, progress: float = 0.0) -> float:
    """The rate in an epoch (from 0), at a progress within it in 0..1: the report's rules change between epochs, the
    cosine (Loshchilov & Hutter 2017) and the warm-up at every step."""
    time, rate = epoch + progress, settings.learning_rate
    if settings.schedule == "report":
        rate *= settings.lr_decay**epoch * settings.step_decay ** (epoch // 10)
    elif settings.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * time / settings.epochs)) / 2
    return rate * min(1.0, time / settings.warmup_epochs) if settings.warmup_epochs else rate


# ---- A run ----------------------------------------------------------------------------------------------------------


class Run:
    """All that a run is made of between two epochs, on disk and in memory: network and velocities, averaged weights,
    best weights, generator and history."""

    def __init__(self, settings: Settings, data: cifar10.Dataset, threads: int, recipe: str = "report"):
        self.settings, self.recipe = settings, recipe
        self.rng = np.random.default_rng(settings.seed)
        self.train_rows, self.validation_rows = cifar10.split(
            len(data.train_labels), settings.validation_share, self.rng
        )
        self.data = {"name": data.name, "fingerprint": data.fingerprint, "class_names": list(data.class_names)}
        train_images = data.train_images[self.train_rows] if settings.preprocess != "none" else None
        hidden = settings.fields()
        self.network = Network(
            fields=hidden,
            batchnorm=settings.batchnorm,
            dropout=settings.dropout,
            mirror=settings.mirror,
            maps=[fit_map(train_images, each, settings.preprocess, settings.whiten_eps) for each in hidden],
            same_places=settings.share > 0,
            output_init=settings.output_init,
            seed=self.rng,
            threads=threads,
        )
        self.averaged = self.network.copy() if settings.ema else self.network
        self.best = self.network.copy()
        self.step = 0
        self.history = {name: [] for name in HISTORY}

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history["val_accuracy"])

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the best validation accuracy, the first of equals; 0 before the first."""
        accuracy = self.history["val_accuracy"]
        return 1 + max(range(len(accuracy)), key=accuracy.__getitem__) if accuracy else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        patience = self.settings.patience
        return self.epoch >= self.settings.epochs or bool(patience and self.epoch - self.best_epoch >= patience)

    def info(self) -> dict:
        """What the checkpoint says of the run besides the weights."""
        return {
            "recipe": self.recipe,
            "settings": asdict(self.settings),
            "data": self.data | {"validation_rows": self.validation_rows.tolist()},
            "history": self.history,
            "best_epoch": self.best_epoch,
        }

    def save_state(self, path: Path) -> None:
        """Write everything that going on needs."""
        arrays = {f"weights.{name}": array for name, array in self.network.arrays().items()}
        arrays |= {f"velocity.{name}": array for name, array in self.network.velocity_arrays().items()}
        arrays |= {f"best.{name}": array for name, array in self.best.arrays().items()}
        if self.settings.ema:
            arrays |= {f"averaged.{name}": array for name, array in self.averaged.arrays().items()}
        state = {"state": {"step": self.step, "generator": self.rng.bit_generator.state}}
        model.write_npz(path, arrays, self.info() | state)

    def load_state(self, path: Path) -> None:
        """Go on from a state file. CheckpointError if it is broken, TrainingError if it is of another run."""
        arrays, info = model.read_npz(path)
        try:
            theirs, mine = info["settings"], asdict(self.settings)
            for name in mine:
                if name not in ("epochs", "patience") and mine[name] != theirs[name]:
                    raise SettingError(name, mine[name], f"differs from the run in {path}, which has {theirs[name]}")
            if info["data"]["fingerprint"] != self.data["fingerprint"]:
                raise TrainingError(f"{path}: its run had other images ({info['data']['name']}); give --data-dir")
            if info["settings"]["schedule"] == "cosine" and mine["epochs"] != theirs["epochs"]:
                raise SettingError("epochs", mine["epochs"], f"changes the cosine of the run in {path}; it must stay")
            targets = [("weights", self.network.arrays()), ("velocity", self.network.velocity_arrays())]
            targets += [("best", self.best.arrays())]
            targets += [("averaged", self.averaged.arrays())] if self.settings.ema else []
            for prefix, target in targets:
                for name, array in target.items():
                    stored = arrays[f"{prefix}.{name}"]
                    if stored.shape != array.shape:
                        raise ValueError(f"array {prefix}.{name} has shape {stored.shape}, not {array.shape}")
                    array[...] = stored
            self.history = {name: list(info["history"][name]) for name in HISTORY}
            rows = zip(*self.history.values(), strict=True)
            if not all(type(value) in (int, float) and math.isfinite(value) for row in rows for value in row):
                raise ValueError("its history is damaged")
            self.step = int(info["state"]["step"])
            self.rng.bit_generator.state = info["state"]["generator"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if getattr(error, "one_line", False):
                raise
            raise model.CheckpointError(
                f"{path}: no state of a run to go on with ({error}); start again with --overwrite"
            ) from None


HISTORY = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")


def state_path(output: Path) -> Path:
    """Where the state of the run that writes the checkpoint `output` is kept."""
    return output.with_suffix(".state.npz")


def train(
    settings: Settings,
    data: cifar10.Dataset,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    threads: int = 1,
    stop_after: int | None = None,
    show: bool = False,
    recipe: str = "report",
    storage=None,
) -> Run:
    """Train a network and leave its best weights, by validation accuracy, in the checkpoint `output`.

    After each epoch the whole state is in state_path(output); with resume, a run goes on from there if it is there, and
    ends in the same bits as one that was never stopped. stop_after: pause after this epoch, the schedule unchanged.
    show: a table on stdout, and bars if stderr is a terminal. storage: the checkpoint's dtype, see model.save.

    TrainingError where a run's files are in the way, or where the loss is no longer finite; the last good checkpoint
    stays. CheckpointError or SettingError where the state doesn't fit. OSError where a file can't be written.
    """
    output = Path(output)
    state = state_path(output)
    run = Run(settings, data, threads, recipe)
    if resume and state.exists():
        run.load_state(state)
    elif not overwrite and (existing := [path for path in (output, state) if path.exists()]):
        going_on = f"{state}, to go on from, is missing; " if resume else "go on with it by --resume, "
        raise TrainingError(
            f"{existing[0]}: there is a run already; {going_on}replace it by --overwrite, or choose another --output"
        )
    elif overwrite:
        state.unlink(missing_ok=True)  # else --resume after Ctrl-C in the first epoch would go on with the old run
    for path in (output, state):
        for leftover in output.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            leftover.unlink(missing_ok=True)
    if show:
        print(f"{'epoch':>5}  {'rate':>8}  {'train loss':>10} {'acc':>6}  {'val loss':>8} {'acc':>6}  {'images/s':>8}")
        for epoch in range(run.epoch):
            print(table_row(run, epoch))
    images, labels = data.train_images, data.train_labels.astype(np.int64)
    validation = images[run.validation_rows], labels[run.validation_rows]
    steps = -(-len(run.train_rows) // settings.batch_size)
    if settings.ema and steps * settings.epochs < EMA_EVERY:
        raise SettingError("ema", settings.ema, f"averages nothing in fewer than {EMA_EVERY} steps: give more --epochs")
    while not run.finished and (stop_after is None or run.epoch < stop_after):
        epoch, started = run.epoch, time.perf_counter()
        loss_sum = right = seen = 0
        bar = tqdm(total=len(run.train_rows), desc=f"epoch {epoch + 1}", unit=" images", leave=False,
                   disable=None if show else True)  # fmt: skip
        for step, (X, y) in enumerate(batches(images, labels, run.train_rows, settings, run.rng)):
            rate = learning_rate(settings, epoch, (step + 1) / steps)
            sgd = SGD(rate, settings.momentum, settings.lambda_reg, settings.bn_lr_scale, settings.output_lr_scale,
                      settings.share)  # fmt: skip
            loss, correct = run.network.train_batch(X, y, sgd, smoothing=settings.label_smoothing)
            if not math.isfinite(loss):
                bar.close()
                raise Diverged(diverged(settings, rate, epoch, step, loss, output))
            run.step += 1
            if settings.ema:
                average(run.averaged, run.network, settings.ema, run.step)
            loss_sum, right, seen = loss_sum + loss * len(y), right + correct, seen + len(y)
            bar.update(len(y))
        bar.close()
        seconds = time.perf_counter() - started
        val_loss, val_accuracy = run.averaged.evaluate(*validation)
        if not math.isfinite(val_loss):
            raise Diverged(diverged(settings, rate, epoch, step, val_loss, output))
        rate = learning_rate(settings, epoch, 1 / steps)
        row = rate, loss_sum / seen, right / seen, val_loss, val_accuracy, seconds
        for name, value in zip(HISTORY, row, strict=True):
            run.history[name].append(value)
        if run.best_epoch == run.epoch:
            run.best.load_arrays(run.averaged.arrays())
        run.save_state(state)  # first, as a checkpoint without a state could not be gone on with
        if run.best_epoch == run.epoch:
            save_best(run, output, storage)
        if show:
            print(table_row(run, epoch, seen / seconds), flush=True)
    save_best(run, output, storage)
    return run


def average(averaged: Network, network: Network, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's (Polyak & Juditsky 1992), exponentially: every EMA_EVERY steps,
    as it costs as much memory traffic as an update; at first with less decay, to forget where the weights began."""
    if step % EMA_EVERY:
        return
    keep = min(decay**EMA_EVERY, step / (step + 10 * EMA_EVERY))
    for mean, weights in zip(averaged.arrays().values(), network.arrays().values(), strict=True):
        mean *= mean.dtype.type(keep)
        mean += weights * weights.dtype.type(1 - keep)


EMA_EVERY = 8


def diverged(settings: Settings, rate: float, epoch: int, step: int, loss: float, output: Path) -> str:
    """The line that a run ends with when its loss is no longer a number."""
    kept = f"the best weights until then are in {output}" if epoch else "no weights were saved"
    cause = "images or weights" if rate < 1e-3 else f"a learning rate of {rate:.3g}"
    return (
        f"loss {loss} in epoch {epoch + 1}, step {step + 1}, most likely from {cause} too high: "
        f"lower --learning-rate (now {settings.learning_rate:g}); {kept}"
    )


def save_best(run: Run, output: Path, storage=None) -> None:
    """Write the checkpoint: the best weights, and the history so far."""
    try:
        model.save(output, run.best, run.info(), storage)
    except ValueError as error:
        raise TrainingError(f"{output}: {error}; give --storage float32") from None


def table_row(run: Run, epoch: int, speed: float | None = None) -> str:
    """The table's line of an epoch, a star behind the best so far."""
    rate, loss, accuracy, val_loss, val_accuracy, _ = (run.history[name][epoch] for name in HISTORY)
    best = val_accuracy > max(run.history["val_accuracy"][:epoch], default=-1)
    images = f"{speed:8,.0f}" if speed else " " * 8
    row = f"{epoch + 1:5d}  {rate:8.6f}  {loss:10.4f} {accuracy:6.2%}  {val_loss:8.4f} {val_accuracy:6.2%}  {images}"
    return row + ("  *" if best else "")


# ---- The command line -----------------------------------------------------------------------------------------------


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting. What isn't given isn't in the namespace, so that a recipe can fill it."""
    group = parser.add_argument_group("settings")
    for option in fields(Settings):
        flags = [f"--{name.replace('_', '-')}" for name in (option.name, *option.metadata["aliases"])]
        values = {name: recipe.get(option.name, option.default) for name, recipe in RECIPES.items()}
        shown = ", ".join(f"{name}: {value}" for name, value in values.items())
        if len(set(values.values())) == 1:
            shown = f"default: {option.default}"
        text = f"{option.metadata['help']} ({shown})".replace("%", "%%")
        kind = {"dest": option.name, "default": argparse.SUPPRESS, "help": text}
        if isinstance(option.default, bool):
            kind["action"] = argparse.BooleanOptionalAction
        else:
            kind |= {"type": type(option.default), "choices": option.metadata["choices"]}
            kind["metavar"] = None if kind["choices"] else {int: "N", float: "X", str: "FIELDS"}[kind["type"]]
        group.add_argument(*flags, **kind)
    group.add_argument("--use-dropout", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
                       help="--no-use-dropout is --dropout 0")  # fmt: skip


def given_settings(args: argparse.Namespace) -> dict:
    """The settings that were typed. SettingError where two of them contradict each other."""
    given = {option.name: getattr(args, option.name) for option in fields(Settings) if hasattr(args, option.name)}
    if not getattr(args, "use_dropout", True):
        if given.get("dropout"):
            raise SettingError("dropout", given["dropout"], "does nothing with --no-use-dropout: leave one of them out")
        given["dropout"] = 0.0
    return given


def main(argv: list[str] | None = None) -> int:
    parser = cifar10.ArgumentParser(prog="train.py", description=__doc__)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="report", help="settings to start from")
    add_setting_arguments(parser)
    run_group = parser.add_argument_group("run")
    place = run_group.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE.npz", help="the checkpoint to write "
                       "(default: checkpoints/DATASET-RECIPE-seedN.npz)")  # fmt: skip
    place.add_argument("--output-dir", type=Path, metavar="FOLDER", help="a folder for it in place of checkpoints/")
    run_group.add_argument("--storage", choices=("float32", "float16"), default="float32",
                           help="numbers in the checkpoint; float16 halves the file, and rounds")  # fmt: skip
    exclusive = run_group.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true", help="go on where the run with these flags was stopped")
    exclusive.add_argument("--overwrite", action="store_true", help="replace the checkpoint and state of another run")
    run_group.add_argument("--threads", type=int, default=default_threads(), metavar="N",
                           help="threads that compute; the result is the same with any number")  # fmt: skip
    cifar10.add_arguments(parser)
    args = parser.parse_args(argv)
    settings = resolve(given_settings(args), args.recipe)
    if args.threads < 1:
        parser.error("--threads must be at least 1")
    if args.output and args.output.suffix != ".npz":
        parser.error(f"--output {args.output}: a checkpoint's name ends in .npz")
    data = cifar10.load_from(args)
    name = f"{data.name}-{args.recipe}-seed{settings.seed}.npz"
    output = args.output or (args.output_dir or HERE / "checkpoints") / name
    output = shorter(output)
    try:
        run = train(
            settings, data, output, resume=args.resume, overwrite=args.overwrite, threads=args.threads, show=True,
            recipe=args.recipe, storage=args.storage,
        )  # fmt: skip
    except KeyboardInterrupt:
        typed = [word for word in (sys.argv[1:] if argv is None else argv) if word not in ("--resume", "--overwrite")]
        raise KeyboardInterrupt(
            f"stopped; go on from the last whole epoch with: python train.py {shlex.join([*typed, '--resume'])}"
        ) from None
    best = run.best_epoch
    accuracy, seconds = run.history["val_accuracy"][best - 1], sum(run.history["seconds"])
    print(f"best epoch {best} of {run.epoch}, validation accuracy {accuracy:.2%}, in {seconds:.0f} s of training")
    print(f"checkpoint {output}; test it with: python test.py {shlex.quote(str(output))}")
    return 0


def shorter(path: Path) -> Path:
    """The path as seen from the working directory, where it is below it."""
    path = Path(path).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(cifar10.command(main))
