"""The folder of a search: its table, its definition for --resume, and the images for workers."""

import contextlib
import itertools
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import Field
from pathlib import Path

from support import cli, files, locks, npz, runs
from support.searching import tables
from support.settings import flag, format_value

import numpy as np

TABLE, DEFINITION, BEST = "results.csv", "search.json", "best.npz"
TRIAL_FILE = re.compile(rf"{tables.TRIAL}(\.npz|\.state\.npz|\.csv)")
TRIAL_LOCK = re.compile(rf"{tables.TRIAL}(\.npz)?\.lock")
REMEDY = "give --overwrite or another --output-dir"
MAX_DEFINITION = 1 << 20  # bytes

# The images are written once into the folder and mapped by all workers. The operating system then
# holds them in memory once per machine. Unlike shared memory, the files don't outlive a killed
# search unnoticed: the next --resume finds and replaces them. Dask workers on other machines read
# them through the shared file system.
IMAGES, LABELS = ".images.bin", ".labels.bin"


class SearchError(cli.UserError):
    """A search that can't start or continue: one line with the cause and the remedy."""


class Results:
    """The rows of a search and its folder. Each new row rewrites results.csv as a whole."""

    def __init__(self, folder: Path, searched: Iterable[str], rows: list[tables.Row]):
        self.folder = folder
        self.searched = list(searched)
        self.rows = {row["trial"]: row for row in rows}

    def __repr__(self):
        return f"<Results: {len(self.rows)} trials in {self.folder}>"

    def add(self, trial: str, repeat: int, settings: dict, result: dict) -> tables.Row:
        """Add and return the row of a trial that ended.

        result: its status and reason, and its history if it left a network.
        """
        row = dict.fromkeys(["trial", *self.searched, *tables.COLUMNS], "")
        row["trial"] = trial
        for name in self.searched:
            row[name] = format_value(settings[name])
        row["repeat"] = str(repeat)
        row["seed"] = str(settings["seed"])
        row["status"] = result["status"]
        row["reason"] = result["reason"]
        if result.get("history"):
            row |= self._cells(trial, result["history"])
        self.rows[trial] = row
        self.write()
        return row

    def _cells(self, trial: str, history: dict[str, list]) -> tables.Row:
        best = runs.best_epoch(history)
        return {
            "val_accuracy": repr(history["val_accuracy"][best - 1]),
            "val_loss": repr(history["val_loss"][best - 1]),
            "best_epoch": str(best),
            "epochs": str(runs.epochs_done(history)),
            "seconds": f"{sum(history['seconds']):.1f}",
            "checkpoint": f"{trial}.npz",
        }

    def ranked(self) -> list[list[tables.Row]]:
        """Return the rows of each setting, the best setting first."""
        return tables.ranked(self.rows.values(), self.searched)

    def best(self) -> tables.Row | None:
        """Return the row of the best trial of the best setting, None if no trial left a network."""
        groups = self.ranked()
        rows = [row for row in groups[0] if row["val_accuracy"]] if groups else []
        return max(rows, key=lambda row: float(row["val_accuracy"]), default=None)

    def delete_state(self, trial: str) -> None:
        """Delete the state from which the trial would be resumed."""
        runs.state_path(self.folder / f"{trial}.npz").unlink(missing_ok=True)

    def write(self) -> None:
        rows = itertools.chain.from_iterable(self.ranked())
        tables.write_rows(self.folder / TABLE, self.searched, rows)

    def history(self, trial: str) -> dict[str, list[float]] | None:
        """Return the validation accuracy and loss of each epoch from the trial's checkpoint.

        None if the trial left no network. Raises FileError if the checkpoint is damaged.
        """
        if not self.rows[trial]["checkpoint"]:
            return None
        path = self.folder / self.rows[trial]["checkpoint"]
        _, info = npz.read_npz(path)
        remedy = f"delete its row in {TABLE}, and --resume trains it again"
        with files.error_context(path, remedy):
            return runs.checked_history(info, ("val_accuracy", "val_loss"))


# ---- Opening a folder -------------------------------------------------------------------------


def open_results(
    folder: Path,
    definition: dict,
    searched: dict[str, Field],
    trials: set[str],
    resume: bool,
    overwrite: bool,
) -> Results:
    """Return the results in a folder: those of the same search on resume, otherwise none.

    definition: the content of search.json. searched: the searched settings by name. trials: the
    names of all trials. Raises SearchError if the folder holds a search that may not be touched,
    or on resume another one.
    """
    present = our_files(folder)
    check_regular(present)
    rows: list[tables.Row] = []
    if present and resume:
        compare_definition(folder, definition)
        rows = read_table(folder / TABLE, searched, trials)
        # A trial that failed may end well in other circumstances. Successive halving has already
        # chosen without it.
        if not definition["halving"]:
            rows = [row for row in rows if row["status"] != "failed"]
    elif present and overwrite:
        delete_files(present)
    elif present:
        raise SearchError(
            f"{present[0]}: there is a search already; continue it by --resume, "
            "replace it by --overwrite, or choose another --output-dir"
        )
    clear(folder)
    with files.write_whole(folder / DEFINITION) as file:
        file.write(json.dumps(definition, indent=2).encode())
    return Results(folder, searched, rows)


def compare_definition(folder: Path, definition: dict) -> None:
    """Check that search.json has the definition. Raises SearchError, with the flag that differs."""
    path = folder / DEFINITION
    with files.error_context(path, REMEDY, SearchError):
        old = files.parse_object(files.read_file(path, MAX_DEFINITION).decode())
        same = old.keys() == definition.keys()
        if not same or old["settings"].keys() != definition["settings"].keys():
            raise files.Fault("was written by another version of search.py")
        other_images = old["data"]["fingerprint"] != definition["data"]["fingerprint"]
        old_images = cli.clean(old["data"]["name"], 40)
    if other_images:
        raise SearchError(
            f"{folder}: a search on other images ({old_images}); "
            "give their --data-dir, or another --output-dir"
        )
    for name in definition["settings"]:
        compare_flag(name, old["settings"][name], definition["settings"][name], folder)
    for name in ("recipe", "random", "halving", "repeats", "seed"):
        compare_flag(name, old[name], definition[name], folder)
    if old["trials"] != definition["trials"]:
        raise SearchError(f"{path}: was written by another version of train.py; {REMEDY}")


def compare_flag(name: str, old, new, folder: Path) -> None:
    """Raise SearchError if a flag differs from that of the search in the folder."""
    if old != new:
        now = "none" if new is None else cli.clean(new, 40)
        before = "none" if old is None else cli.clean(old, 40)
        raise SearchError(
            f"{flag(name)} {now} differs from the search in {folder}, which has {before}; {REMEDY}"
        )


def read_table(path: Path, searched: dict[str, Field], trials: set[str]) -> list[tables.Row]:
    """Return the rows of results.csv; [] if the search was stopped before its first row.

    Raises SearchError if the file is damaged.
    """
    if not path.exists():
        return []
    with files.error_context(path, REMEDY, SearchError):
        rows = tables.read_rows(path, searched)
        for row in rows:
            if row["trial"] not in trials:
                raise files.Fault(f"has a trial {row['trial']}, which isn't of this search")
    return rows


# ---- The files in it --------------------------------------------------------------------------


def our_files(folder: Path) -> list[Path]:
    """Return the entries of the folder that have the name of a search's file."""
    ours = [TABLE, DEFINITION, BEST, IMAGES, LABELS]
    found = [folder / name for name in ours if os.path.lexists(folder / name)]
    if folder.is_dir():
        found += [path for path in folder.iterdir() if TRIAL_FILE.fullmatch(path.name)]
    return found


def check_regular(paths: list[Path]) -> None:
    """Check that the search's files are regular files.

    Links could lead to the user's own files, and a FIFO would block. Raises SearchError.
    """
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO"}
    for path in paths:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = kinds.get(stat.S_IFMT(mode), "a device")
            raise SearchError(
                f"{path}: is {kind}, not a file of a search; "
                "move it away, or choose another --output-dir"
            )


def delete_files(paths: list[Path]) -> None:
    """Delete the files of a search.

    Raises SearchError before anything is deleted if one of them isn't a search's.
    """
    for path in paths:
        if not begins_as_ours(path):
            raise SearchError(
                f"{path}: isn't a search's file; move it away, or choose another --output-dir"
            )
    for path in paths:
        path.unlink()


def begins_as_ours(path: Path) -> bool:
    """Return whether a file with the name of a search's file begins like one."""
    if path.name in (IMAGES, LABELS):
        # They have no beginning of their own, and come after search.json.
        return path.with_name(DEFINITION).exists()
    if path.suffix == ".npz":
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return "meta.npy" in archive.namelist()
        return False
    start = {TABLE: b"trial,", DEFINITION: b"{"}.get(path.name, b"epoch,")
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def clear(folder: Path) -> None:
    """Delete the images, and temporary files and locks of killed workers."""
    files.remove_leftovers(folder)
    for name in (IMAGES, LABELS):
        (folder / name).unlink(missing_ok=True)
    for lock in folder.glob("*.lock"):
        if TRIAL_LOCK.fullmatch(lock.name):
            # A lock that nobody holds is deleted when it is released.
            with (
                contextlib.suppress(files.FileError, OSError),
                locks.locked(lock.with_suffix(""), "a search"),
            ):
                pass


# ---- The images -------------------------------------------------------------------------------


def share_images(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images (N, 3072) uint8 and labels (N,) int64 into the folder for workers to map."""
    for name, array in ((IMAGES, images), (LABELS, labels)):
        with files.write_whole(folder / name) as file:
            file.write(np.ascontiguousarray(array))


def mapped_images(folder: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, pixels) uint8 and labels (N,) int64 that `share_images` has written."""
    images = np.memmap(folder / IMAGES, np.uint8, "r").view(np.ndarray)
    labels = np.memmap(folder / LABELS, np.int64, "r").view(np.ndarray)
    return images.reshape(-1, pixels), labels
