"""Train a network with one hidden layer on CIFAR-10 and leave a checkpoint.

  python train.py                          the report's network: 1024 units, batch normalisation, dropout, SGD
  python train.py --recipe quick           a much better one in a few minutes: units that see windows, and are pooled
  python train.py --recipe best            the best network that we know
  python train.py --hidden-size 512 --learning-rate 0.005 --seed 3
  python train.py --like NET.npz --seed 1  another run with a checkpoint's settings
  python train.py --resume                 go on with a run that was stopped, with the same flags as before

Weights are chosen by validation accuracy; the test split isn't looked at here: that is what test.py is for.
"""

import argparse
import math
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent)
)  # python -P leaves out the folder of the script

import model
from data import cifar10
from data.augmentation import augment
from model import MAX_UNITS, PIXELS, SGD, Network
from support import checkpoints, cli, files, locks, npz, progress
from support.checkpoints import remove_run, state_path
from support.estimator import Estimator
from support.network.window import Window
from support.settings import (
    SettingError,
    add_report_arguments,
    add_setting_arguments,
    check,
    setting,
)
from support.threads import Threads, default_threads, slices

import numpy as np
from tqdm import tqdm

# ---- Settings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides the data; the names are the flags. SettingError for a value that isn't allowed."""

    hidden_size: int = setting(
        1024, "hidden units (filters, where they see windows)", low=1, high=MAX_UNITS
    )
    window: int = setting(
        32, "pixels in a row of the window that a unit sees; 32: the whole image", low=1, high=32
    )
    stride: int = setting(1, "pixels between two places of the window", low=1, high=31)
    regions: int = setting(
        1, "N x N regions of places, in each of which a unit's activations are averaged", low=1
    )
    mirror: bool = setting(
        False, "units stand mirrored at each place, too: an image and its mirror image are alike"
    )
    preprocess: str = setting(
        "none",
        "pixels in [0, 1] as they are, or patches whitened by principal components",
        choices=("none", "whiten"),
    )
    whiten_dims: int = setting(
        256, "principal components that whitening keeps, at most", low=1, high=PIXELS
    )
    whiten_eps: float = setting(
        0.1, "added to components' variances, in units of their mean", low=0, high=1e6
    )
    init: str = setting(
        "he",
        "first weights: normal (He et al. 2015); or patches: each filter a random patch of a training image, and W2, "
        "zero at first, moves as if the pooled activations were standardised",
        choices=("he", "patches"),
    )
    batchnorm: bool = setting(
        True, "batch normalisation before the ReLU", aliases=("use-batchnorm",)
    )
    cap: float = setting(
        0.0, "upper limit of a hidden unit's activation (6 in ReLU6); 0: none", low=0, high=1e6
    )
    dropout: float = setting(
        0.5,
        "probability that a hidden unit is dropped, kept to the nearest 1/256",
        low=0,
        below=0.998,  # above 255.5 / 256, the nearest 1/256 is 1
        aliases=("dropout-rate",),
    )
    flip: bool = setting(True, "mirror every other training image, at random")
    shift: int = setting(
        0, "move training images by up to this many pixels in each direction", low=0, high=16
    )
    jitter: float = setting(
        0.0, "deviation of random changes of contrast, brightness and colours", low=0, high=1
    )
    epochs: int = setting(100, "passes over the training images, at most", low=1, high=10**6)
    batch_size: int = setting(128, "images in a mini-batch", low=1, high=10**6)
    learning_rate: float = setting(
        0.01,
        "learning rate of the first epoch, or the highest with a warm-up",
        low=0,
        aliases=("lr",),
    )
    schedule: str = setting(
        "report",
        "learning rate over the epochs: the report's two rules of decay together, half a cosine to 0, or constant",
        choices=("report", "cosine", "constant"),
    )
    lr_decay: float = setting(0.9, "report schedule: factor after every epoch", low=0, high=1)
    step_decay: float = setting(
        0.5, "report schedule: another factor after every tenth epoch", low=0, high=1
    )
    warmup_epochs: float = setting(0.0, "epochs over which the learning rate rises from 0", low=0)
    momentum: float = setting(0.9, "momentum of SGD", low=0, below=1)
    lambda_reg: float = setting(
        0.01, "L2: lambda/2 (|W1|^2 + |W2|^2) in the loss; --init patches: std W2", low=0
    )
    hidden_lambda_scale: float = setting(1.0, "multiplier of lambda for W1", low=0)
    output_lr_scale: float = setting(1.0, "learning-rate multiplier of W2 and b2", low=0)
    bn_lr_scale: float = setting(
        128.0, "learning-rate multiplier of gamma and beta; 128: as the report's code", low=0
    )
    label_smoothing: float = setting(
        0.0, "share of each label that is spread over all classes", low=0, below=1
    )
    ema: float = setting(
        0.0,
        "average the weights over the steps with this decay, and validate and keep the average",
        low=0,
        below=1,
    )
    patience: int = setting(
        10,
        "stop after this many epochs without a better validation accuracy; 0: never",
        low=0,
        aliases=("early-stopping",),
    )
    validation_share: float = setting(
        0.1, "share of the training split that is kept for validation", low=0, below=1
    )
    seed: int = setting(
        0, "where all randomness starts: split, weights, batches, dropout", low=0, high=2**63
    )

    def __post_init__(self):
        check(self)
        try:
            self.seen()
        except ValueError as error:
            raise SettingError("window", self.window, f"can't be: {error}") from None
        if self.batchnorm and self.batch_size < 2:
            raise SettingError(
                "batch_size", self.batch_size, "must be at least 2, or give --no-batchnorm"
            )

    def seen(self) -> Window:
        """The window, without its map. stride and regions have no effect where it is the whole image."""
        return (
            Window(self.window, self.stride, self.regions, mirror=self.mirrors)
            if self.window < 32
            else Window()
        )

    @property
    def mirrors(self) -> bool:
        """Whether units stand mirrored, too."""
        return self.mirror and self.window < 32 and self.preprocess == "whiten"

    @property
    def inputs(self) -> int:
        """k, the numbers that a unit sees."""
        pixels = 3 * self.window**2
        return min(self.whiten_dims, pixels) if self.preprocess == "whiten" else pixels


RECIPES: dict[str, dict] = {"report": {}}
RECIPES["quick"] = {
    "window": 8,
    "stride": 3,
    "regions": 3,
    "mirror": True,
    "preprocess": "whiten",
    "whiten_dims": 95,
    "init": "patches",
    "batchnorm": False,
    "cap": 1.0,
    "dropout": 0.0,
    "shift": 2,
    "epochs": 12,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "lambda_reg": 5e-4,
    "hidden_lambda_scale": 0.0,
    "output_lr_scale": 0.006,
    "ema": 0.999,
    "patience": 0,
}
# Four times the units, each of which has a quarter of the say: W1's rate is 4 times, W2's a quarter of that above.
RECIPES["best"] = RECIPES["quick"] | {
    "hidden_size": 4096,
    "stride": 2,
    "learning_rate": 2.0,
    "output_lr_scale": 0.000375,
    "epochs": 20,
    "shift": 3,
    "jitter": 0.15,
    "lambda_reg": 3e-3,
    "label_smoothing": 0.1,
    "validation_share": 0.02,  # fewer images for validation, more to learn from
}

# Settings that have an effect only where others let them, and what to do about it; given without one, they are refused.
NEEDS = {
    "stride": (lambda s: s.window < 32, "give --window below 32"),
    "regions": (lambda s: s.window < 32, "give --window below 32"),
    "whiten_dims": (lambda s: s.preprocess == "whiten", "give --preprocess whiten"),
    "whiten_eps": (lambda s: s.preprocess == "whiten", "give --preprocess whiten"),
    "mirror": (
        lambda s: s.window < 32 and s.preprocess == "whiten",
        "give --window below 32 and --preprocess whiten",
    ),
    "flip": (lambda s: not s.mirrors, "give --no-mirror"),
    "lr_decay": (lambda s: s.schedule == "report", "give --schedule report"),
    "step_decay": (
        lambda s: s.schedule == "report" and s.epochs > 10,
        "give --schedule report and --epochs above 10",
    ),
    "bn_lr_scale": (lambda s: s.batchnorm, "give --batchnorm"),
    "hidden_lambda_scale": (lambda s: s.lambda_reg > 0, "give --lambda-reg above 0"),
    "patience": (lambda s: s.patience < s.epochs, "give more --epochs"),
}


def resolve(given: dict, recipe: str | dict = "report") -> Settings:
    """The Settings of a recipe, or of a dict of settings, with the given ones in place of its own. SettingError where
    a given one has no effect."""
    settings = Settings(**((RECIPES[recipe] if isinstance(recipe, str) else recipe) | given))
    defaults = Settings()
    for name, (needed, remedy) in NEEDS.items():
        if name in given and given[name] != getattr(defaults, name) and not needed(settings):
            raise SettingError(name, given[name], f"has no effect here: leave it out, or {remedy}")
    return settings


def effective(settings: Settings | dict) -> dict:
    """The settings of a run without those that have no effect in it."""
    settings = settings if isinstance(settings, Settings) else Settings(**settings)
    return {
        name: value
        for name, value in asdict(settings).items()
        if name not in NEEDS or NEEDS[name][0](settings)
    }


# ---- What the units see ---------------------------------------------------------------------------------------------


def fit_window(images: np.ndarray, settings: Settings, threads: Threads | None = None) -> Window:
    """The window of a network with the map to what its units see, from images (N, 3072) uint8, the training split's."""
    window = settings.seen()
    if settings.preprocess == "whiten":
        return window.whitening(images, settings.inputs, settings.whiten_eps, threads or Threads())
    return window


def start_from_patches(network: Network, images: np.ndarray, rng: np.random.Generator) -> None:
    """First weights by example (Coates, Lee & Ng 2011): each column of W1 is a random patch of the images (N, 3072), as
    the units see it, with norm sqrt(2), so that a unit fires for what is like it; b1 is -2 to 0, at random, so that
    some fire early and some late; W2 is 0."""
    window, H = network.window, network.hidden_size
    rows, places = rng.integers(0, len(images), H), rng.integers(0, window.positions, H)
    patches = np.empty((H, window.inputs), network.dtype)
    for units in slices(H, 64):
        X = model.layer_input(images[rows[units]], window, network.dtype)
        X = X.reshape(-1, window.positions, X.shape[1])[..., : window.inputs]
        patches[units] = X[np.arange(len(X)), places[units]]
    patches *= np.sqrt(2) / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-6)
    network.weights["W1"][...] = patches.T
    network.weights["b1"][...] = rng.uniform(-2, 0, H)
    network.weights["W2"][...] = 0
    network.precondition(images[:1024])


# ---- Batches --------------------------------------------------------------------------------------------------------


def batches(images, labels, rows, settings: Settings, rng: np.random.Generator) -> Iterator[tuple]:
    """One epoch: the given rows in random order, as augmented uint8 mini-batches (m, 3072) with their labels (m,)."""
    rows = rng.permutation(rows)
    flip = settings.flip and not settings.mirrors
    for start in range(0, len(rows), settings.batch_size):
        batch = rows[start : start + settings.batch_size]
        if settings.batchnorm and len(batch) == 1 < len(rows):
            continue  # BN has no statistics of one image; another one is left over in the next epoch
        yield augment(images[batch], rng, flip, settings.shift, settings.jitter), labels[batch]


def learning_rate(settings: Settings, epoch: int, progress: float = 0.0) -> float:
    """The rate in an epoch (from 0), at a progress within it in 0..1: the report's rules change between epochs, the
    cosine (Loshchilov & Hutter 2017) and the warm-up at every step."""
    done, rate = epoch + progress, settings.learning_rate
    if settings.schedule == "report":
        rate *= settings.lr_decay**epoch * settings.step_decay ** (epoch // 10)
    elif settings.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * done / settings.epochs)) / 2
    return rate * min(1.0, done / settings.warmup_epochs) if settings.warmup_epochs else rate


# ---- A run ----------------------------------------------------------------------------------------------------------

HISTORY = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
EMA_EVERY = 8  # steps
ESTIMATED = 100  # the step after which a run says how long it will take
SGD_SETTINGS = [option.name for option in fields(SGD) if option.name != "learning_rate"]


class TrainingError(cli.UserError):
    """A run that can't start or go on: one line with the cause and the remedy."""


class Diverged(TrainingError):
    """A run whose loss is no longer finite."""


class Run:
    """All that a run is made of between two epochs, on disk and in memory: network and velocities, averaged weights,
    best weights, generator and history."""

    def __init__(
        self,
        settings: Settings,
        data: cifar10.Dataset,
        threads: int = 1,
        recipe: str = "report",
        command: str = "",
    ):
        self.settings, self.recipe, self.command = settings, recipe, command
        self.rng = np.random.default_rng(settings.seed)
        self.train_rows, self.validation_rows = cifar10.split(
            data.train_labels, settings.validation_share, self.rng
        )
        if settings.batchnorm and len(self.train_rows) < 2:
            raise TrainingError(
                f"{data.folder or data.name}: one training image is too few for --batchnorm; give more"
            )
        if settings.ema and self.steps * settings.epochs < EMA_EVERY:
            problem = f"averages nothing in fewer than {EMA_EVERY} steps: give more --epochs"
            raise SettingError("ema", settings.ema, problem)
        self.data = {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
        }
        seen = settings.preprocess != "none" or settings.init == "patches"
        images = data.train_images[self.train_rows if seen else self.train_rows[:0]]
        options = {name: getattr(settings, name) for name in ("batchnorm", "dropout", "cap")}
        options |= {"classes": len(data.class_names), "seed": self.rng, "threads": threads}
        window = fit_window(images, settings, Threads(threads))
        self.network = Network(settings.hidden_size, window, **options)
        if settings.init == "patches":
            start_from_patches(self.network, images, self.rng)
        self.averaged = self.network.copy() if settings.ema else self.network
        self.best = self.network.copy()
        self.step = 0
        self.history: dict[str, list] = {name: [] for name in HISTORY}

    def __repr__(self):
        done = f"epoch {self.epoch} of at most {self.settings.epochs}"
        return f"<Run: {self.network!r}, on {self.data['name']}, {done}>"

    @property
    def steps(self) -> int:
        """The steps of an epoch, see `batches`: BN leaves out a last one of a single image."""
        n, size = len(self.train_rows), self.settings.batch_size
        return -(-n // size) - (self.settings.batchnorm and n % size == 1 < n)

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
        return self.epoch >= self.settings.epochs or bool(
            patience and self.epoch - self.best_epoch >= patience
        )

    def info(self) -> dict:
        """What the checkpoint says of the run besides the weights."""
        return {
            "recipe": self.recipe,
            "command": self.command,
            "machine": f"{platform.machine()}, {default_threads()} cores, NumPy {np.__version__}",
            "settings": asdict(self.settings),
            "data": self.data | {"validation_rows": self.validation_rows.tolist()},
            "history": self.history,
            "best_epoch": self.best_epoch,
        }

    def parts(self) -> dict[str, dict[str, np.ndarray]]:
        """The arrays that change from step to step, by what they are."""
        parts = {
            "weights": self.network.weights,
            "velocity": self.network.velocity,
            "best": self.best.weights,
        }
        if self.settings.ema:
            parts["averaged"] = self.averaged.weights
        if self.network.preconditioner is not None:
            parts["preconditioner"] = {"s": self.network.preconditioner}
        return parts

    def save_state(self, path: Path) -> None:
        """Write everything that going on needs."""
        arrays = {
            f"{part}.{name}": a
            for part, arrays in self.parts().items()
            for name, a in arrays.items()
        }
        state = {"state": {"step": self.step, "generator": self.rng.bit_generator.state}}
        npz.write_npz(path, arrays, self.info() | state)

    def load_state(self, path: Path) -> None:
        """Go on from a state file. FileError if it is broken, TrainingError if it is of another run."""
        arrays, info = npz.read_npz(path, "state")
        with files.error_context(path, "start again with --overwrite"):
            theirs, mine = info["settings"], asdict(self.settings)
            if theirs.keys() != mine.keys():
                raise files.Fault("is of another version of train.py")
            for name in mine:
                if name not in ("epochs", "patience") and mine[name] != theirs[name]:
                    raise SettingError(
                        name,
                        mine[name],
                        f"differs from the run in {path}, which has {theirs[name]}",
                    )
            if info["data"]["fingerprint"] != self.data["fingerprint"]:
                raise TrainingError(
                    f"{path}: its run had other images ({info['data']['name']}); give --data-dir"
                )
            if mine["schedule"] == "cosine" and mine["epochs"] != theirs["epochs"]:
                raise SettingError(
                    "epochs",
                    mine["epochs"],
                    f"changes the cosine of the run in {path}; it must stay",
                )
            here = {
                f"{part}.{name}": a
                for part, those in self.parts().items()
                for name, a in those.items()
            }
            npz.check_arrays(arrays, like=here)
            if any(
                (array < 0).any() for name, array in arrays.items() if name.endswith("running_var1")
            ):
                raise files.Fault("has negative variances")
            self.history, self.step, self.rng.bit_generator.state = checkpoints.position(
                info, HISTORY, self.steps
            )
            for name, array in here.items():
                array[...] = arrays[name]


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
    command: str = "",
    storage=None,
) -> Run:
    """Train a network and leave its best weights, by validation accuracy, in the checkpoint `output`.

    After each epoch the whole state is in state_path(output); with resume, a run goes on from there if it is there, and
    ends in the same bits as one that was never stopped. Beside it stands a CSV with a row an epoch. stop_after: pause after this epoch, the
    schedule unchanged. show: a table on stdout, and bars on a terminal. recipe and command: what the checkpoint shall
    say of itself. storage: its dtype, see Network.save.

    TrainingError where a run's files are in the way, or where the loss is no longer finite; the last good checkpoint
    stays. FileError or SettingError where the state doesn't fit, or where another process trains onto `output`. OSError
    where a file can't be written.
    """
    output = Path(output)
    with locks.locked(output, "a training"):
        state, table = state_path(output), output.with_suffix(".csv")
        left = output, state, table
        run = Run(settings, data, threads, recipe, command)
        if resume and state.exists():
            run.load_state(state)
        elif not overwrite and (existing := [path for path in left if path.exists()]):
            going_on = (
                f"{state}, to go on from, is missing; " if resume else "go on with it by --resume, "
            )
            remedy = "replace it by --overwrite, or choose another --output"
            raise TrainingError(f"{existing[0]}: there is a run already; {going_on}{remedy}")
        elif overwrite:
            remove_run(
                output
            )  # else --resume after Ctrl-C in the first epoch would go on with the old run
        for path in left:
            files.remove_leftovers(path)
        if show:
            print(
                progress.summary(run, data, effective(run.settings), asdict(Settings())), flush=True
            )
        for _ in epochs(run, data, output, stop_after, show):
            run.save_state(
                state
            )  # first, as a checkpoint without a state could not be gone on with
            if run.best_epoch == run.epoch:
                save(run.best, run, output, storage)
            progress.write_csv(run.history, table)
            if show:
                print(progress.table_row(run, run.epoch - 1), flush=True)
        save(run.best, run, output, storage)
        progress.write_csv(run.history, table)
    return run


def epochs(
    run: Run, data: cifar10.Dataset, output: Path | None, stop_after: int | None = None, show=False
) -> Iterator:
    """Train a run to its end, or to the epoch stop_after; yields after each epoch. Writes nothing: output is where the
    best weights are kept, if they are, for the words of `Diverged`."""
    labels = data.train_labels.astype(np.int64)
    while not run.finished and (stop_after is None or run.epoch < stop_after):
        train_epoch(run, data.train_images, labels, output, show)
        if run.best_epoch == run.epoch:
            run.best.load_weights(run.averaged.weights)
        yield


def train_epoch(
    run: Run, images: np.ndarray, labels: np.ndarray, output: Path | None, show: bool = False
) -> None:
    """One epoch of a run: its steps, then validation, and a row of the history. Diverged if a loss isn't finite."""
    settings, epoch, started = run.settings, run.epoch, time.perf_counter()
    loss_sum, right, seen, rates = 0.0, 0, 0, []
    with tqdm(
        total=len(run.train_rows),
        desc=f"epoch {epoch + 1}",
        unit=" images",
        leave=False,
        disable=None if show else True,
    ) as bar:
        for step, (X, y) in enumerate(batches(images, labels, run.train_rows, settings, run.rng)):
            rates.append(learning_rate(settings, epoch, (step + 1) / run.steps))
            sgd = SGD(rates[-1], **{name: getattr(settings, name) for name in SGD_SETTINGS})
            loss, correct = run.network.train_batch(X, y, sgd, smoothing=settings.label_smoothing)
            if not math.isfinite(loss):
                raise Diverged(
                    progress.diverged(
                        run, effective(run.settings), rates[-1], f"step {step + 1}", output
                    )
                )
            run.step += 1
            if settings.ema:
                average(run.averaged, run.network, settings.ema, run.step)
            loss_sum, right, seen = loss_sum + loss * len(y), right + correct, seen + len(y)
            if show and run.step == min(ESTIMATED, run.steps):
                with bar.external_write_mode():
                    print(progress.estimate(run, time.perf_counter() - started, seen), flush=True)
            bar.update(len(y))
            bar.set_postfix_str(f"loss {loss_sum / seen:.3f}", refresh=False)
    seconds = time.perf_counter() - started
    val_loss, val_accuracy = run.averaged.evaluate(
        images[run.validation_rows], labels[run.validation_rows]
    )
    if not math.isfinite(val_loss) or not all(
        np.isfinite(w).all() for w in run.averaged.weights.values()
    ):
        raise Diverged(
            progress.diverged(run, effective(run.settings), rates[-1], "validation", output)
        )
    row = sum(rates) / len(rates), loss_sum / seen, right / seen, val_loss, val_accuracy, seconds
    for name, value in zip(HISTORY, row, strict=True):
        run.history[name].append(value)


def average(averaged: Network, network: Network, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's (Polyak & Juditsky 1992), exponentially: every EMA_EVERY steps,
    as it costs as much memory traffic as an update; at first with less decay, to forget where the weights began."""
    if step % EMA_EVERY:
        return
    keep = min(decay**EMA_EVERY, step / (step + 10 * EMA_EVERY))
    for name, mean in averaged.weights.items():
        mean *= mean.dtype.type(keep)
        mean += network.weights[name] * mean.dtype.type(1 - keep)


# ---- What a run leaves ----------------------------------------------------------------------------------------------


def save(network: Network, run: Run, path: Path, storage=None) -> None:
    """Write a checkpoint: weights of the run, and its history so far."""
    try:
        network.save(path, run.info(), storage)
    except ValueError as error:
        raise TrainingError(f"{path}: {error}; give --storage float32") from None


# ---- From Python ----------------------------------------------------------------------------------------------------


class Classifier(Estimator, settings=Settings):
    """These networks by scikit-learn's conventions, see `Estimator`: `fit` gives the bits of `train` with the same
    settings and images, and writes nothing. With a recipe's settings: Classifier(**RECIPES["quick"])."""

    def _train(
        self, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
    ) -> tuple[Network, dict]:
        data = cifar10.Dataset(
            "arrays", images, labels, images[:0], labels[:0], names, fingerprint=""
        )
        run = Run(Settings(**self.settings()), data, self.threads)
        for _ in epochs(run, data, output=None):
            pass
        del run.data[
            "fingerprint"
        ]  # the images' own has their test split, too, which isn't known here
        return run.best, run.info()

    _read = staticmethod(model.load)


# ---- The command line -----------------------------------------------------------------------------------------------


def given_settings(args: argparse.Namespace) -> dict:
    """The settings that were typed. SettingError where two of them contradict each other."""
    given = {
        option.name: getattr(args, option.name)
        for option in fields(Settings)
        if hasattr(args, option.name)
    }
    if not getattr(args, "use_dropout", True):
        if given.get("dropout"):
            raise SettingError(
                "dropout", given["dropout"], "contradicts --no-use-dropout: leave one of them out"
            )
        given["dropout"] = 0.0
    return given


def like(path: Path) -> dict:
    """The settings of a checkpoint's run. FileError if it says none."""
    _, info = npz.read_npz(path)
    with files.error_context(path, "give --like a checkpoint of train.py"):
        if "settings" not in info:
            raise files.Fault("doesn't say with which settings it was trained")
        try:
            return asdict(Settings(**info["settings"]))
        except SettingError as error:
            raise files.Fault(f"has a wrong setting: {error}") from None


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(prog="train.py", description=__doc__)
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--recipe", choices=tuple(RECIPES), default="report", help="settings to start from"
    )
    start.add_argument(
        "--like", type=Path, metavar="NET.npz", help="start from the settings of a checkpoint's run"
    )
    add_setting_arguments(parser, fields(Settings), RECIPES)
    group = parser.add_argument_group("run")
    place = group.add_mutually_exclusive_group()
    text = "the checkpoint to write (default: checkpoints/DATASET-RECIPE-seedN.npz)"
    place.add_argument("--output", type=cli.output_path, metavar="FILE.npz", help=text)
    text = "a folder for it in place of checkpoints/"
    place.add_argument("--output-dir", type=cli.output_folder, metavar="FOLDER", help=text)
    text = "precision of the saved weights; float16 halves the files, and rounds"
    group.add_argument("--storage", choices=("float32", "float16"), default="float32", help=text)
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--resume", action="store_true", help="go on where the run with these flags was stopped"
    )
    exclusive.add_argument(
        "--overwrite", action="store_true", help="replace the checkpoint and state of another run"
    )
    cli.add_threads(group)
    cifar10.add_arguments(parser)
    add_report_arguments(parser, "train", "test.py tests, search.py searches")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    settings = resolve(given_settings(args), like(args.like) if args.like else args.recipe)
    if args.output and args.output.suffix != ".npz":
        parser.error(f"--output {args.output}: a checkpoint's name ends in .npz")
    data = cifar10.load_from(args)
    recipe = args.like.stem.removeprefix(f"{data.title}-") if args.like else args.recipe
    name = f"{data.title}-{recipe}-seed{settings.seed}.npz"
    output = cli.shorter(
        args.output or cli.user_path((args.output_dir or cli.ROOT / "checkpoints") / name)
    )
    typed = [
        word
        for word in (sys.argv[1:] if argv is None else argv)
        if word not in ("--resume", "--overwrite")
    ]
    command = f"python train.py {shlex.join(typed)}".strip()
    options = {name: getattr(args, name) for name in ("resume", "overwrite", "threads", "storage")}
    try:
        run = train(settings, data, output, show=True, recipe=recipe, command=command, **options)
    except KeyboardInterrupt:
        again = cli.resumed("train.py", state_path(output), argv)
        raise KeyboardInterrupt(f"stopped; go on from the last whole epoch with: {again}") from None
    best = run.best_epoch
    accuracy, seconds = run.history["val_accuracy"][best - 1], sum(run.history["seconds"])
    print(
        f"best epoch {best} of {run.epoch}, validation accuracy {accuracy:.2%}, in {seconds:.0f} s of training"
    )
    words = [
        *cli.script("test.py"),
        str(output),
        *(["--data-dir", str(args.data_dir)] if args.data_dir else []),
    ]
    print(f"checkpoint {output}; test it with: {shlex.join(words)}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
