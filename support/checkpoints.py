"""What is to be known of a checkpoint before it is used: which one to take, and what its info says of its run."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from support import files, npz
from support.cli import clean, shorter

import numpy as np


def default_checkpoint(folder: Path) -> Path:
    """The checkpoint for who names none: cifar10-best.npz, or else the newest in `folder` whose run is finished, or
    else the newest. FileError if there is none."""
    if (best := folder / "cifar10-best.npz").is_file():
        return best
    found = [
        path
        for path in folder.glob("*.npz")
        if path.is_file() and not path.name.endswith(".state.npz")
    ]
    if not found:
        raise files.FileError(
            f"no checkpoint named, and none in {clean(shorter(folder), 120)}: 'python train.py' writes one"
        )
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in found if not _is_unfinished(path)), found[0])


def _is_unfinished(path: Path) -> bool:
    if not os.path.exists(state_path(path)):
        return False
    with contextlib.suppress(files.FileError):
        return unfinished(path, npz.read_npz(path)[1]) is not None
    return True


def state_path(path: Path) -> Path:
    """Where train.py keeps the state of the run that writes the checkpoint `path`."""
    return path.with_suffix(".state.npz")


def remove_run(path: Path) -> None:
    """Delete the state from which the run that writes `path` would be resumed."""
    state_path(path).unlink(missing_ok=True)


def unfinished(path: Path, info: dict) -> str | None:
    """How far the run came that a checkpoint is from ("epoch 3 of 15"), None if it is finished.

    It isn't where its state lies beside it and its history is shorter than its epochs, unless validation accuracy had
    stopped improving for `patience` epochs. Nothing in info is trusted.
    """
    settings, history = (
        found if isinstance(found := info.get(key), dict) else {} for key in ("settings", "history")
    )
    planned, patience, accuracy = (
        settings.get("epochs"),
        settings.get("patience"),
        history.get("val_accuracy"),
    )
    if not (
        os.path.exists(state_path(path)) and type(planned) is int and isinstance(accuracy, list)
    ):
        return None
    done = len(accuracy)
    if done >= planned:
        return None
    if (
        type(patience) is int
        and 0 < patience < done
        and all(isinstance(each, int | float) for each in accuracy)
    ):
        stopped = done - 1 - int(np.argmax(accuracy)) >= patience
        return None if stopped else f"epoch {done} of {planned}"
    return f"epoch {done} of {planned}"


def trained_on(info: dict) -> dict:
    """What a checkpoint's info says of its images: name, fingerprint, class_names; {} if it doesn't."""
    found = info.get("data")
    return found if isinstance(found, dict) else {}


def history(info: dict, columns: Iterable[str]) -> dict[str, list]:
    """These columns of the history in a checkpoint's info, an entry an epoch. Fault, or another error, if it has none,
    or numbers that no run has."""
    found = {name: list(info["history"][name]) for name in columns}
    for name, column in found.items():
        high = 1 if name.endswith("accuracy") else 1e100
        if not column or not all(
            type(value) in (int, float) and 0 <= value <= high for value in column
        ):
            raise files.Fault("has a damaged history")
    if len(set(map(len, found.values()))) > 1 or min(found.get("seconds", [1])) <= 0:
        raise files.Fault("has a damaged history")
    return found


def position(info: dict, columns: Iterable[str], steps: int) -> tuple[dict[str, list], int, dict]:
    """Where a state's run stands: its history, see above, its step, at most `steps` an epoch, and its generator. Fault,
    or another error, for what can't be."""
    found, step, generator = (
        history(info, columns),
        info["state"]["step"],
        info["state"]["generator"],
    )
    if type(step) is not int or not 0 <= step <= steps * len(found["seconds"]):
        raise files.Fault("has a step that doesn't fit its history")
    if generator["state"]["inc"] % 2 == 0:
        raise files.Fault("has a generator that would repeat itself")
    return found, step, generator
