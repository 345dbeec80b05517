# ruff: noqa: E501
"""The folder of a search: its table, what --resume compares, and what a search that was stopped leaves half-done."""

import contextlib
import itertools
import json
import os
import re
from dataclasses import Field
from pathlib import Path

from support import cli, files, locks, npz, runs
from support.searching import tables
from support.settings import SettingError, format_value

import numpy as np

TRIAL_FILE = re.compile(rf"{tables.TRIAL}(\.npz|\.state\.npz|\.csv)")
REMEDY = "give --overwrite or another --output-dir"

# The images are written once into the folder of results, and all workers map these files: the operating system keeps
# the pages of a mapped file in memory once for all processes of a machine. Unlike shared memory that outlives a search
# killed by force, they lie where the next --resume finds and replaces them; and other machines see them too.
IMAGES, LABELS = ".images.bin", ".labels.bin"


class SearchError(cli.UserError):
    """A search that can't start or go on: one line with the cause and the remedy."""


class Results:
    """The rows of a search, and its folder. results.csv is written again, whole, with every new row."""

    def __init__(self, folder: Path, searched: list[str], rows: list[tables.Row]):
        self.folder, self.searched = folder, searched
        self.rows = {row["trial"]: row for row in rows}

    def __repr__(self):
        return f"<Results: {len(self.rows)} trials in {self.folder}>"

    def add(self, trial: str, repeat: int, settings: dict, result: dict) -> tables.Row:
        """Add the row of a trial that is done. result: its status and reason, and the history if there is one."""
        row = {"trial": trial, **{name: format_value(settings[name]) for name in self.searched}}
        row |= dict.fromkeys(tables.COLUMNS, "") | {
            "repeat": str(repeat),
            "seed": str(settings["seed"]),
        }
        row |= {"status": result["status"], "reason": result["reason"]}
        if history := result.get("history"):
            best = history["val_accuracy"].index(max(history["val_accuracy"]))
            row |= {name: repr(history[name][best]) for name in ("val_accuracy", "val_loss")}
            row |= {"best_epoch": str(best + 1), "epochs": str(len(history["val_accuracy"]))}
            row |= {"seconds": f"{sum(history['seconds']):.1f}", "checkpoint": f"{trial}.npz"}
        self.rows[trial] = row
        self.write()
        return row

    def ranked(self) -> list[list[tables.Row]]:
        """The rows of each setting, the best setting first."""
        return tables.ranked(self.rows.values(), self.searched)

    def best(self) -> tables.Row | None:
        """The row of the best trial of the best setting; None if there is none that ended well."""
        rows = [row for row in next(iter(self.ranked()), []) if row["val_accuracy"]]
        return max(rows, key=lambda row: float(row["val_accuracy"]), default=None)

    def write(self) -> None:
        rows = itertools.chain.from_iterable(self.ranked())
        tables.write_rows(self.folder / "results.csv", self.searched, rows)

    def history(self, trial: str) -> dict[str, list[float]] | None:
        """The validation accuracy and loss of each epoch, from the trial's checkpoint; None where it has none."""
        if not self.rows[trial]["checkpoint"]:
            return None
        path = self.folder / self.rows[trial]["checkpoint"]
        _, info = npz.read_npz(path)
        with files.error_context(
            path, "delete its row in results.csv, and --resume trains it again"
        ):
            return runs.checked_history(info, ("val_accuracy", "val_loss"))


def open_results(
    folder: Path,
    definition: dict,
    options: dict[str, Field],
    asked: dict,
    resume: bool,
    overwrite: bool,
) -> Results:
    """The folder of a search with the rows that are there already: none, unless it goes on with the search there.

    definition: what search.json holds: settings (those of one value, wherever they have an effect), searched (the
    names of the others), seed, data, halving. options: all settings, by name. asked: the settings (train.Settings) of
    each trial that the search now wants, by the trial's name. SearchError or SettingError where the folder holds a
    search and it isn't this one.
    """
    path, table = folder / "search.json", folder / "results.csv"
    present = [
        file
        for file in (table, path, folder / "results.md", folder / "best.npz")
        if os.path.lexists(file)
    ]
    if present and not (resume or overwrite):
        raise SearchError(
            f"{present[0]}: there is a search already; go on with it by --resume, replace it by --overwrite, "
            "or choose another --output-dir"
        )
    rows: list[tables.Row] = []
    if present and resume:
        with files.error_context(path, REMEDY, SearchError):
            old = files.parse_object(files.read_file(path, 1 << 20).decode())
            if unknown := [
                name for name in (*old["searched"], *old["settings"]) if name not in options
            ]:
                raise files.Fault(
                    f"has {cli.clean(unknown[0], 40)}, which is no setting of train.py"
                )
        if os.path.lexists(table):
            with files.error_context(table, REMEDY, SearchError):
                columns, rows = tables.read_rows(table, options)
                if not set(columns) >= set(old["searched"]):
                    raise files.Fault("has other columns than search.json says")
                old["searched"] = (
                    columns  # more, if the search was killed just as it grew by a setting
                )
        with files.error_context(path, REMEDY, SearchError):
            definition, added = merge(old, definition, options, folder)
        # A trial that failed may do better in other circumstances. Halving has chosen without it, and that stands.
        rows = [row | added for row in rows if row["status"] != "failed" or definition["halving"]]
        for row in rows:  # a setting that is new to the search and has no effect in this trial has a value of its own
            if settings := asked.get(row["trial"]):
                row |= {
                    name: format_value(getattr(settings, name)) for name in definition["searched"]
                }
    elif present:
        trials = [file for file in folder.iterdir() if TRIAL_FILE.fullmatch(file.name)]
        for file in (*present, *trials):
            file.unlink()
    clear(folder)
    results = Results(folder, definition["searched"], rows)
    if rows:
        results.write()
    with files.write_whole(path) as file:
        file.write(json.dumps(definition, indent=2).encode())
    return results


def merge(
    old: dict, new: dict, options: dict[str, Field], folder: Path
) -> tuple[dict, dict[str, str]]:
    """The definition of a search that goes on with a changed grid, and what its old rows have to say of the settings
    that weren't searched before. SearchError or SettingError if it is another search."""
    if old["data"]["fingerprint"] != new["data"]["fingerprint"]:
        name = cli.clean(old["data"]["name"], 40)
        raise SearchError(
            f"{folder}: a search on other images ({name}); give their --data-dir or another --output-dir"
        )
    if old["seed"] != new["seed"]:
        seed = cli.clean(old["seed"], 40)
        raise SearchError(
            f"--seed {new['seed']} differs from the search in {folder}, which has {seed}; {REMEDY}"
        )
    if old["halving"] != new["halving"]:
        raise SearchError(
            f"--halving: what is stopped depends on all the trials, and the search in {folder} has others, or another "
            f"--eta, or none; give the flags that it was started with, --overwrite or another --output-dir"
        )
    searched = [name for name in options if name in old["searched"] or name in new["searched"]]
    shared = {name: option.default for name, option in options.items()} | old["settings"]
    for name, value in new["settings"].items():
        if name not in searched and old["settings"].get(name, value) != value:
            has = cli.clean(format_value(shared[name]), 40)
            raise SettingError(
                name, value, f"differs from the search in {folder}, which has {has}; {REMEDY}"
            )
    added = {name: format_value(shared[name]) for name in searched if name not in old["searched"]}
    settings = {
        name: value
        for name, value in (old["settings"] | new["settings"]).items()
        if name not in searched
    }
    return new | {"searched": searched, "settings": settings}, added


def clear(folder: Path) -> None:
    """Delete the images, and what workers that were killed have left half-done."""
    files.remove_leftovers(folder)
    for name in (IMAGES, LABELS):
        (folder / name).unlink(missing_ok=True)
    for lock in folder.glob("*.lock"):
        if re.match(tables.TRIAL, lock.name):
            with (
                contextlib.suppress(files.FileError),
                locks.locked(lock.with_suffix(""), "a search"),
            ):
                pass  # which deletes it, if nobody holds it


# ---- The images -----------------------------------------------------------------------------------------------------


def share_images(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images (N, 3072) uint8 and labels (N,) int64 into the folder, where workers map them, until `clear`."""
    for name, array in ((IMAGES, images), (LABELS, labels)):
        with files.write_whole(folder / name) as file:
            file.write(np.ascontiguousarray(array))


def mapped_images(folder: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, pixels) and labels (N,) that `share_images` has left in the folder."""
    images, labels = (
        np.memmap(folder / n, t, "r").view(np.ndarray) for n, t in ((IMAGES, "u1"), (LABELS, "i8"))
    )
    return images.reshape(-1, pixels), labels
