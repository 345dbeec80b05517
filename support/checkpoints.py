"""Checkpoints: which one to take by default, and what one says of its run and its images."""

import os
from collections.abc import Sequence
from pathlib import Path

from support import files, npz
from support.cli import ROOT, UserError, clean, shorter
from support.runs import checked_history, is_finished, state_path

CHECKPOINTS = ROOT / "checkpoints"  # the folder of checkpoints and searches, by default
# The shipped checkpoints that are taken by default, in this order.
SHIPPED = ("cifar10-quick.npz", "cifar10-best.npz")


def named(files: Sequence[Path], model_path: Path | None) -> list[Path]:
    """Return the files that a command line names, --model-path last; else a checkpoint.

    That checkpoint is printed. Raises UserError if a file is named twice, or FileError if there is
    no checkpoint.
    """
    paths = list(files)
    if model_path:
        paths.append(model_path)
    if not paths:
        paths.append(default_checkpoint(CHECKPOINTS))
        print(f"no checkpoint named; this is {shorter(paths[0])}")
    # Links count as the files that they lead to.
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise UserError("a checkpoint is named twice; name each once")
    return paths


def default_checkpoint(folder: Path) -> Path:
    """Return the checkpoint to use when none is named.

    It is the first of SHIPPED in the folder, else the newest one whose run is finished, else the
    newest one. Raises files.FileError if there is none.
    """
    for name in SHIPPED:
        if (folder / name).is_file():
            return folder / name
    paths = []
    for path in folder.glob("*.npz"):
        if path.is_file() and not path.name.endswith(".state.npz"):
            paths.append(path)
    if not paths:
        name = clean(shorter(folder), 120)
        raise files.FileError(
            f"no checkpoint named, and none in {name}: 'python train.py' writes one"
        )
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    finished = (path for path in paths if _has_finished(path))
    return next(finished, paths[0])


def _has_finished(path: Path) -> bool:
    if not os.path.exists(state_path(path)):
        return True
    try:
        _, info = npz.read_npz(path)
    except files.FileError:
        return False
    return unfinished(path, info) is None


def unfinished(path: Path, info: dict) -> str | None:
    """Return how far the run of a checkpoint has come, such as "epoch 3 of 15", or None.

    None: the run is finished, or unknown. A run is unfinished if its state lies next to the
    checkpoint and more epochs are to come. Nothing in info is trusted.
    """
    settings = info.get("settings")
    history = info.get("history")
    if not isinstance(settings, dict) or not isinstance(history, dict):
        return None
    planned = settings.get("epochs")
    accuracy = history.get("val_accuracy")
    if type(planned) is not int or not isinstance(accuracy, list):
        return None
    if not os.path.exists(state_path(path)) or len(accuracy) >= planned:
        return None
    try:
        if is_finished(settings, checked_history(info, history)):
            return None
    except (files.Fault, KeyError, TypeError):
        pass  # a damaged history, or no patience: the number of epochs is all that is known
    return f"epoch {len(accuracy)} of {planned}"


def trained_on(info: dict) -> dict:
    """Return what a checkpoint's info says of its images: name, fingerprint, class_names."""
    data = info.get("data")
    return data if isinstance(data, dict) else {}
