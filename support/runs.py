"""A training run: what its history says, the files that it leaves, and how it is resumed.

NAME.npz          the checkpoint: the best weights so far, the settings, the history
NAME.csv          the history, one row per epoch
NAME.state.npz    everything that --resume needs to end in the same bits
"""

import csv
import io
import os
import platform
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from support import files, locks, npz
from support.cli import UserError, clean
from support.settings import SettingError
from support.threads import default_threads

import numpy as np

# The columns of a history. Each is a list with one number per epoch.
HISTORY = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")


class TrainingError(UserError):
    """A run that can't start or continue: one line with the cause and the remedy."""


# ---- Histories -----------------------------------------------------------------------------------


def epochs_done(history: dict[str, list]) -> int:
    """Return the number of epochs in a history."""
    return len(history["val_accuracy"])


def best_epoch(history: dict[str, list]) -> int:
    """Return the epoch, from 1, with the best validation accuracy, the first of equals.

    It is 0 before the first epoch.
    """
    scores = history["val_accuracy"]
    return scores.index(max(scores)) + 1 if scores else 0


def is_finished(settings: dict, history: dict[str, list]) -> bool:
    """Return whether all epochs are done, or `patience` epochs brought no improvement."""
    done = epochs_done(history)
    if done >= settings["epochs"]:
        return True
    return 0 < settings["patience"] <= done - best_epoch(history)


def checked_history(info: dict, columns: Iterable[str] = HISTORY) -> dict[str, list]:
    """Return these columns of the history in a checkpoint's info.

    Raises files.Fault, or another error, if there is none or its numbers are those of no run.
    """
    history = {name: list(info["history"][name]) for name in columns}
    for name, column in history.items():
        # Numbers up to 1e100 can be added and divided without an overflow.
        highest = 1 if name.endswith("accuracy") else 1e100
        numbers = all(type(value) in (int, float) for value in column)
        if not column or not numbers or not 0 <= min(column) <= max(column) <= highest:
            raise files.Fault("has a damaged history")
    if len({len(column) for column in history.values()}) > 1:
        raise files.Fault("has a damaged history")
    if "seconds" in history and min(history["seconds"]) <= 0:
        raise files.Fault("has a damaged history")
    return history


def write_csv(history: dict[str, list], path: Path) -> None:
    """Write a history as a table, one row per epoch."""
    # The csv module writes line ends itself.
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["epoch", *history])
    for epoch, row in enumerate(zip(*history.values(), strict=True), 1):
        table.writerow([epoch, *row])
    with files.write_whole(path) as file:
        file.write(text.getvalue().encode())


# ---- What a checkpoint says of its run -----------------------------------------------------------


def describe(run) -> dict:
    """Return what the checkpoint of a run (train.Run) says apart from its weights."""
    cores = default_threads()
    return {
        "recipe": run.recipe,
        "command": run.command,
        # Other processors and versions of NumPy may round sums in another way.
        "machine": f"{platform.machine()}, {cores} cores, NumPy {np.__version__}",
        "settings": asdict(run.settings),
        "data": run.data | {"validation_rows": run.validation_rows.tolist()},
        "history": run.history,
        "best_epoch": best_epoch(run.history),
    }


# ---- The state from which a run is resumed -------------------------------------------------------


def state_path(checkpoint: Path) -> Path:
    """Return the path of the state of the run that writes this checkpoint."""
    return checkpoint.with_suffix(".state.npz")


def save_state(run, path: Path) -> None:
    """Write everything that resuming needs: weights, velocities, generator, step, history."""
    generator = run.rng.bit_generator.state
    info = describe(run) | {"state": {"step": run.step, "generator": generator}}
    npz.write_npz(path, run.arrays(), info)


def load_state(run, path: Path) -> None:
    """Set a new run to the state in the file.

    Raises files.FileError if the file is damaged, TrainingError or SettingError if it belongs to
    another run. The run is unchanged then.
    """
    arrays, info = npz.read_npz(path, "state")
    with files.error_context(path, "start again with --overwrite"):
        _check_same_run(run, info, path)
        npz.check_arrays(arrays, like=run.arrays())
        for name, array in arrays.items():
            # Their square root is taken.
            if name.endswith("running_var1") and (array < 0).any():
                raise files.Fault("has negative variances")
        history = checked_history(info, run.history)
        if run.settings.epochs < epochs_done(history):
            problem = f"is below the {epochs_done(history)} that the run in {path} has done"
            raise SettingError("epochs", run.settings.epochs, problem)
        step = info["state"]["step"]
        # The moving average follows from the step, see train.average.
        if type(step) is not int or not 0 <= step <= run.steps * epochs_done(history):
            raise files.Fault("has a step that doesn't fit its history")
        generator = info["state"]["generator"]
        # PCG64 needs an odd increment: with an even one its numbers repeat.
        if generator["state"]["inc"] % 2 == 0:
            raise files.Fault("has a generator that would repeat itself")
        # The last check: NumPy refuses a state of other types. Nothing of the run has changed yet.
        run.rng.bit_generator.state = generator
    run.history = history
    run.step = step
    for name, array in run.arrays().items():
        # In place: these are the networks' own arrays.
        array[...] = arrays[name]


def _check_same_run(run, info: dict, path: Path) -> None:
    """Raise an error unless the state is of a run with the same settings and images."""
    theirs = info["settings"]
    mine = asdict(run.settings)
    if theirs.keys() != mine.keys():
        raise files.Fault("is of another version of train.py")
    # A longer training, or a more patient one, continues a shorter one.
    free = ("epochs", "patience")
    for name, value in mine.items():
        if name not in free and value != theirs[name]:
            problem = f"differs from the run in {path}, which has {theirs[name]}"
            raise SettingError(name, value, problem)
    if info["data"]["fingerprint"] != run.data["fingerprint"]:
        other = info["data"]["name"]
        raise TrainingError(
            f"{path}: its run had other images ({clean(other, 60)}); give its --data-dir or "
            "--dataset"
        )
    # The cosine depends on the number of epochs, so its past would be another one.
    if mine["schedule"] == "cosine" and mine["epochs"] != theirs["epochs"]:
        problem = f"changes the cosine of the run in {path}; it must stay {theirs['epochs']}"
        raise SettingError("epochs", mine["epochs"], problem)


def _check_replaceable(path: Path) -> None:
    """Raise TrainingError if a file that a run would replace is certainly not of a run.

    It may be damaged, so only its beginning counts. The user chose one name, and the others
    follow from it: --output data.npz must not cost a data.csv.
    """
    start = b"epoch," if path.suffix == ".csv" else b"PK"
    found = start
    if path.is_file():  # a device or a FIFO is written to, not replaced
        with open(path, "rb") as file:
            found = file.read(len(start))
    if path.is_dir() or found not in (b"", start):
        raise TrainingError(
            f"{path}: isn't a file of a training; move it away, or choose another --output"
        )


# ---- All files of a run --------------------------------------------------------------------------


class RunFiles:
    """The files of one run. Without an output every method does nothing."""

    def __init__(self, output: Path | None, storage=None):
        """storage: the dtype of the weights in the checkpoint, see Network.save."""
        self.output = output
        self.storage = storage

    def locked(self) -> AbstractContextManager:
        """Return a context in which no other process can train onto the same output."""
        if self.output is None:
            return nullcontext()
        return locks.locked(self.output, "a training")

    def start(self, run, resume: bool, overwrite: bool) -> bool:
        """Resume the run from its state if that is asked for, or make room for a new one.

        Returns whether it is resumed. Raises TrainingError if the files of a run are in the way.
        """
        if self.output is None:
            return False
        state = state_path(self.output)
        left = (self.output, state, self._table())
        existing = [path for path in left if os.path.exists(path)]
        resumed = resume and state in existing
        if resumed:
            load_state(run, state)
        elif existing and not overwrite:
            how = f"{state}, to resume from, is missing" if resume else "resume it with --resume"
            raise TrainingError(
                f"{existing[0]}: there is a run already; {how}, replace it with --overwrite, "
                "or choose another --output"
            )
        elif overwrite:
            for path in existing:
                _check_replaceable(path)
            # Otherwise --resume after Ctrl-C in the first epoch would resume the old run.
            state.unlink(missing_ok=True)
        for path in left:
            files.remove_leftovers(path)
        return resumed

    def save(self, run) -> None:
        """Write the files after an epoch."""
        if self.output is None:
            return
        # The state comes first: a checkpoint without a state could not be resumed.
        save_state(run, state_path(self.output))
        if best_epoch(run.history) == epochs_done(run.history):
            self._save_best(run)
        write_csv(run.history, self._table())

    def finish(self, run) -> None:
        """Write the best weights with the whole history. This also completes a killed run."""
        if self.output is None:
            return
        self._save_best(run)
        write_csv(run.history, self._table())

    def _table(self) -> Path:
        return self.output.with_suffix(".csv")

    def _save_best(self, run) -> None:
        try:
            run.best.save(self.output, describe(run), self.storage)
        except ValueError as error:
            raise TrainingError(f"{self.output}: {error}; give --storage float32") from None
