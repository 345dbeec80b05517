"""Search for good hyperparameters: train a grid of train.py's settings, leave a ranked table and the best checkpoint.

  python search.py                                the report's grid: 8 settings, its Table 1 among them
  python search.py --report-test                  ... with the test accuracy of each beside it
  python search.py --hidden-size 256 512 --batchnorm true false --epochs 20
  python search.py --random 30 --learning-rate 1e-3:1e-1 --lambda-reg 1e-5:1e-1 --halving
  python search.py --repeats 5 --dropout 0.3 0.5  each setting with 5 seeds, ranked by the mean
  python search.py --resume                       go on with a search that was stopped, with the same flags as before

A setting of train.py with several values is searched; one with a single value is the same in all trials. The best
network is the one with the best validation accuracy; the test split is looked at once that choice is made.

In the folder of results: results.csv with a row for each trial, as soon as it is done; results.md, the ranked table;
TRIAL.npz, the checkpoint of each trial; best.npz, a copy of the best one; search.json, what --resume compares.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import statistics
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import model
import train
from data import cifar10

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
REPORT_GRID = {"hidden_size": [512, 1024], "learning_rate": [0.005, 0.01], "lambda_reg": [0.005, 0.01]}
OPTIONS = {option.name: option for option in fields(train.Settings) if option.name != "seed"}


class SearchError(RuntimeError):
    """A search that can't start or go on: one line with the cause and the remedy."""

    one_line = True


# ---- What is searched -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """LOW:HIGH on the command line: numbers between the two, ends included, log-uniform."""

    low: float
    high: float
    kind: type

    def draw(self, *key) -> int | float:
        """The number that belongs to the key; to three digits, or rounded to an integer."""
        share = fingerprint(*key) / 2**256
        value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        value = round(value) if self.kind is int else float(f"{value:.3g}")
        return min(max(value, self.low), self.high)


def fingerprint(*parts) -> int:
    """SHA-256 of what JSON can write, as a number: on every machine, in every order of trials the same."""
    return int(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), 16)


def parse_value(kind: type, text: str):
    """A value of a setting, or a Range, from the command line. argparse.ArgumentTypeError if it is neither."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float) and ":" in text:
            low, high = (kind(end) for end in text.split(":"))
            if not 0 < low < high < math.inf:
                raise argparse.ArgumentTypeError(f"{text}: a range is LOW:HIGH with 0 < LOW < HIGH, such as 1e-4:1e-1")
            return Range(low, high, kind)
        return kind(text)
    except (ValueError, KeyError):
        known = {bool: "true or false", int: "a whole number or LOW:HIGH", float: "a number or LOW:HIGH"}
        raise argparse.ArgumentTypeError(f"{text!r} is not {known[kind]}") from None


def format_value(value) -> str:
    """A setting's value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag that takes one value or several for each of train.py's settings."""
    group = parser.add_argument_group(
        "settings",
        "One value or several: all combinations are tried. With --random, a number may be a range, LOW:HIGH.\n"
        "If no setting has several values or a range, --recipe report searches the report's grid.",
    )
    for name, option in OPTIONS.items():
        kind, choices = type(option.default), option.metadata["choices"]
        recipes = {each: recipe.get(name, option.default) for each, recipe in train.RECIPES.items()}
        default = ", ".join(f"{recipe}: {format_value(value) or 'none'}" for recipe, value in recipes.items())
        if len(set(recipes.values())) == 1:
            default = f"default: {format_value(option.default) or 'none'}"
        if name in REPORT_GRID:
            default += f"; the report's grid: {' '.join(map(str, REPORT_GRID[name]))}"
        metavar = "|".join(choices) if choices else {bool: "true|false", int: "N", float: "X", str: "FIELDS"}[kind]
        flags = [each.replace("_", "-") for each in (name, *option.metadata["aliases"])]
        group.add_argument(*(f"--{flag}" for flag in flags), dest=name, nargs="*" if kind is bool else "+",
                           type=functools.partial(parse_value, kind), metavar=metavar, default=argparse.SUPPRESS,
                           help=f"{option.metadata['help']} ({default})".replace("%", "%%"))  # fmt: skip
        if kind is bool:
            group.add_argument(*(f"--no-{flag}" for flag in flags), dest=name, action="store_const", const=[False],
                               default=argparse.SUPPRESS, help=f"as in train.py: --{flags[0]} false")  # fmt: skip


def points(given: dict[str, list], recipe: str, random: int | None, seed: int) -> list[train.Settings]:
    """The settings to try: all combinations of the given values, or `random` draws from them; each once.

    SettingError for a value that train.py would refuse, SearchError where the draws can't be that many.
    """
    for name, values in given.items():
        if any(isinstance(value, Range) for value in values):
            if random is None:
                raise train.SettingError(name, shown(values), "is a range: give --random N, or several values")
            if len(values) > 1:
                raise train.SettingError(name, shown(values), "mixes a range with more values: give one or the other")
    if random is None:
        drawn = (dict(zip(given, combination, strict=True)) for combination in itertools.product(*given.values()))
        return list(dict.fromkeys(train.resolve(point, recipe) for point in drawn))
    found: dict[train.Settings, None] = {}
    for draw in range(100 * random):
        point = {}
        for name, values in given.items():
            key = "random", seed, draw, name
            point[name] = (
                values[0].draw(*key) if isinstance(values[0], Range) else values[fingerprint(*key) % len(values)]
            )
        found[train.resolve(point, recipe)] = None
        if len(found) == random:
            return list(found)
    raise SearchError(
        f"--random {random}: the values given make only {len(found)} different settings; "
        "ask for fewer, or give more values or wider ranges"
    )


def shown(values: list) -> str:
    """The values of a setting as they are typed."""
    return " ".join(f"{v.low:g}:{v.high:g}" if isinstance(v, Range) else format_value(v) for v in values)


@dataclass(frozen=True)
class Trial:
    """A setting, with its seed in it, and which repeat of the setting it is, from 1."""

    settings: train.Settings
    repeat: int
    name: str  # ten hexadecimal digits

    @classmethod
    def of(cls, settings: train.Settings, repeat: int, seed: int) -> "Trial":
        """The trial of a search with this seed. Name and seed follow from the settings that differ from train.py's
        defaults, so that they stay when train.py gets another setting."""
        key = {name: getattr(settings, name) for name, option in OPTIONS.items()}
        key = {name: value for name, value in key.items() if value != OPTIONS[name].default}
        trial_seed = fingerprint("seed", seed, key, repeat) % 2**31
        return cls(replace(settings, seed=trial_seed), repeat, f"{fingerprint('trial', key, repeat):064x}"[:10])

    def text(self, name: str) -> str:
        """The value of a setting as it is typed."""
        return format_value(getattr(self.settings, name))


# ---- A trial, in the process of a worker ----------------------------------------------------------------------------

# The images are written once into the folder of results, and all workers map these files: the operating system keeps
# the pages of a mapped file in memory once for all processes of a machine. Unlike shared memory that outlives a search
# killed by force, they lie where the next --resume finds and replaces them; and other machines see them too.
IMAGES, LABELS = ".images.npy", ".labels.npy"


def start_worker() -> None:
    """Prepare a process of the pool: the main process alone answers Ctrl-C, and when it dies, so does this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore", RuntimeWarning)  # a trial that diverges is a row, not a dozen warnings
    tqdm.set_lock(threading.RLock())  # its own one is shared with other processes, and left behind by one that is ended

    def follow_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def run_trial(task: dict) -> dict:
    """Train what `task` says, from its saved state if there is one; return what a row needs. Plain values go in and
    come out, as a Dask worker can't load this module before it knows where it is.

    task: folder, trial, settings (train.Settings as a dict), recipe, threads, stop_after, and the data's name,
    fingerprint and class_names. OSError or ValueError where the images can't be read; whatever stops the trial itself
    is its status and reason.
    """
    folder = Path(task["folder"])
    images, labels = (np.load(folder / file, mmap_mode="r").view(np.ndarray) for file in (IMAGES, LABELS))
    data = cifar10.Dataset(
        task["name"], images, labels, images[:0], labels[:0], tuple(task["class_names"]), task["fingerprint"]
    )
    try:
        run = train.train(
            train.Settings(**task["settings"]), data, folder / f"{task['trial']}.npz", resume=True, overwrite=True,
            threads=task["threads"], stop_after=task["stop_after"], recipe=task["recipe"],
        )  # fmt: skip
    except Exception as error:
        reason = str(error) if getattr(error, "one_line", False) else f"{type(error).__name__}: {error}"
        reason = reason.replace(f"{folder}{os.sep}", "")  # the table is the same in every folder
        return {"status": "diverged" if isinstance(error, train.Diverged) else "failed", "reason": reason}
    return {"status": "ok" if run.finished else "stopped", "reason": "", "history": run.history}


@contextlib.contextmanager
def local_workers(jobs: int) -> Iterator[Callable[[dict], Future]]:
    """Processes on this machine: what is yielded hands a task to one of them."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=start_worker)

    def submit(task):
        # The pool starts a process here. It inherits that Ctrl-C is ignored: until numpy is loaded, start_worker can't
        # see to it, and Ctrl-C would print a traceback for each process.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return pool.submit(run_trial, task)
        finally:
            signal.signal(signal.SIGINT, before)

    try:
        yield submit
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def dask_workers(address: str) -> Iterator[Callable[[dict], Future]]:
    """The workers of a Dask cluster; they must see this folder and that of the results under the same paths."""
    try:
        from distributed import Client
    except ImportError:
        raise SearchError('--dask needs Dask; install it with: pip install "dask[distributed]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise SearchError(
            f"--dask {address}: no scheduler answers there ({error}); start one with 'dask scheduler', and workers "
            "with 'dask worker ADDRESS'"
        ) from None
    folder = str(HERE)

    def call(task):
        # Dask sends a nested function itself, not its name: a worker needs no search.py on its path to load it.
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        import search

        return search.run_trial(task)

    executor = client.get_executor()
    try:
        if not client.scheduler_info()["workers"]:
            print(f"waiting for workers; start one with: dask worker {address}", file=sys.stderr)
        yield lambda task: executor.submit(call, task)
    finally:
        client.close()  # which also takes back what no worker has begun


# ---- The results ----------------------------------------------------------------------------------------------------

# A row holds text, as it is in the file. The searched settings stand after the trial.
COLUMNS = ("repeat", "seed", "status", "val_accuracy", "val_loss", "best_epoch", "epochs", "seconds", "test_accuracy",
           "checkpoint", "reason")  # fmt: skip


class Results:
    """The rows of a search, and its folder. results.csv is written again, whole, with every new row."""

    def __init__(self, folder: Path, searched: list[str], rows: list[dict[str, str]]):
        self.folder, self.searched = folder, searched
        self.rows = {row["trial"]: row for row in rows}

    def add(self, trial: Trial, result: dict) -> dict[str, str]:
        """Add the row of a trial that is done. Its state isn't needed any more, unless it may be tried again."""
        row = {"trial": trial.name} | {name: trial.text(name) for name in self.searched} | dict.fromkeys(COLUMNS, "")
        row |= {"repeat": str(trial.repeat), "seed": str(trial.settings.seed), "status": result["status"]}
        row["reason"] = " ".join(result["reason"].split())
        checkpoint = self.folder / f"{trial.name}.npz"
        if history := result.get("history"):
            best = history["val_accuracy"].index(max(history["val_accuracy"]))
            row |= {name: repr(history[name][best]) for name in ("val_accuracy", "val_loss")}
            row |= {"best_epoch": str(best + 1), "epochs": str(len(history["val_accuracy"]))}
            row |= {"seconds": f"{sum(history['seconds']):.1f}", "checkpoint": checkpoint.name}
        self.rows[trial.name] = row
        self.write()
        if row["status"] != "failed":
            train.state_path(checkpoint).unlink(missing_ok=True)
        return row

    def groups(self) -> list[list[dict[str, str]]]:
        """The rows of each setting, the best setting first: by mean validation accuracy, then by mean loss. A setting
        with a trial that failed comes after all others."""
        settings: dict[tuple, list] = {}
        for row in sorted(self.rows.values(), key=lambda row: (int(row["repeat"]), row["trial"])):
            settings.setdefault(tuple(row[name] for name in self.searched), []).append(row)
        return [settings[key] for key in sorted(settings, key=lambda key: (rank(settings[key]), key))]

    def best(self) -> dict[str, str] | None:
        """The row of the best trial of the best setting; None if there is none that ended well."""
        rows = [row for row in next(iter(self.groups()), []) if row["val_accuracy"]]
        return max(rows, key=lambda row: float(row["val_accuracy"]), default=None)

    def write(self) -> None:
        """Write results.csv, ranked."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["trial", *self.searched, *COLUMNS])
        writer.writeheader()
        writer.writerows(row for group in self.groups() for row in group)
        with model.write_whole(self.folder / "results.csv") as file:
            file.write(text.getvalue().encode())

    def table(self) -> list[list[str]]:
        """The ranked table for people, a line for each setting, headings first."""
        groups = self.groups()
        repeated = any(len(group) > 1 for group in groups)
        tested = any(row["test_accuracy"] for row in self.rows.values())
        head = ["rank", *(name.replace("_", " ") for name in self.searched), "validation"]
        head += ["runs"] if repeated else []
        head += ["best epoch", "epochs", "seconds", *(["test (not used)"] if tested else []), "status"]
        lines = [head]
        for place, group in enumerate(groups, 1):
            line = [str(place), *(group[0][name] for name in self.searched), percent(group, "val_accuracy")]
            line += [str(len(group))] if repeated else []
            line += [average(group, name) for name in ("best_epoch", "epochs", "seconds")]
            line += [percent(group, "test_accuracy")] if tested else []
            statuses = [row["status"] for row in group]
            line += [", ".join(dict.fromkeys(statuses))]
            lines.append(line)
        return lines

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        lines = []
        if any(len(group) > 1 for group in self.groups()):
            lines.append("The mean over the runs of a setting, +- the standard deviation between them.")
        if any(row["status"] == "stopped" for row in self.rows.values()):
            lines.append("stopped: successive halving ended the trial early.")
        if any(row["test_accuracy"] for row in self.rows.values()):
            lines.append("Test accuracy: not used for the choice, which is by validation accuracy alone.")
        return lines


def rank(rows: list[dict[str, str]]) -> tuple:
    """The sort key of a setting: complete first, then the highest mean accuracy, then the lowest mean loss."""
    good = [row for row in rows if row["val_accuracy"]]
    accuracy, loss = (
        statistics.fmean(float(row[name]) for row in good) if good else 0.0 for name in ("val_accuracy", "val_loss")
    )
    return len(good) < len(rows), -accuracy, loss


def percent(rows: list[dict[str, str]], name: str) -> str:
    """The mean of an accuracy in percent, +- the sample standard deviation of several."""
    values = [100 * float(row[name]) for row in rows if row[name]]
    spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}%" if values else "-"


def average(rows: list[dict[str, str]], name: str) -> str:
    """The rounded mean of a number."""
    values = [float(row[name]) for row in rows if row[name]]
    return f"{statistics.fmean(values):.0f}" if values else "-"


def as_text(table: list[list[str]]) -> str:
    """A table in columns for the terminal, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table)


def as_markdown(table: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("+-", "±")


def read_rows(path: Path, expected: list[str]) -> list[dict[str, str]]:
    """The rows of a results.csv with these searched settings. SearchError if it is another file."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != ["trial", *expected, *COLUMNS]:
                raise ValueError("other columns than search.json says")
            rows = list(reader)
        for row in rows:
            if None in row or None in row.values() or not re.fullmatch(TRIAL_NAME, row["trial"]):
                raise ValueError(f"a broken row {row['trial']!r}")
            for name in COLUMNS[3:9]:
                float(row[name] or 0)
            int(row["repeat"])
    except (ValueError, csv.Error) as error:
        raise SearchError(
            f"{path}: not a table of this search ({error}); give --overwrite or another --output-dir"
        ) from None
    return rows


TRIAL_NAME = "[0-9a-f]{10}"


# ---- The folder of results ------------------------------------------------------------------------------------------


def open_results(folder: Path, definition: dict, resume: bool, overwrite: bool) -> Results:
    """The folder of a search with the rows that are there already: none, unless it goes on with the search there.

    definition: what search.json holds: settings (those that all trials share), searched (the names of the others),
    seed, data, halving. SearchError where the folder holds a search and it isn't this one.
    """
    path, table = folder / "search.json", folder / "results.csv"
    present = [file for file in (table, path, folder / "results.md", folder / "best.npz") if file.exists()]
    if present and not (resume or overwrite):
        raise SearchError(
            f"{present[0]}: there is a search already; go on with it by --resume, replace it by --overwrite, "
            "or choose another --output-dir"
        )
    rows = []
    if present and resume:
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            definition, added = merge(old, definition, folder)
            rows = read_rows(table, old["searched"]) if table.exists() else []
        except (FileNotFoundError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError):
            raise SearchError(
                f"{path}: missing or damaged, so nothing says what search is in {folder}; give --overwrite or another "
                "--output-dir"
            ) from None
        # A trial that failed may do better in other circumstances. Halving has chosen without it, and that stands.
        rows = [row | added for row in rows if row["status"] != "failed" or definition["halving"]]
    elif present:
        trials = [file for file in folder.iterdir() if re.fullmatch(rf"{TRIAL_NAME}(\.state)?\.npz", file.name)]
        for file in (*trials, *present):
            file.unlink()
    for leftover in (*folder.glob(".*.tmp"), folder / IMAGES, folder / LABELS):
        leftover.unlink(missing_ok=True)
    with model.write_whole(path) as file:
        file.write(json.dumps(definition, indent=2).encode())
    results = Results(folder, definition["searched"], rows)
    for row in rows:
        train.state_path(folder / f"{row['trial']}.npz").unlink(missing_ok=True)
    if rows:
        results.write()
    return results


def merge(old: dict, new: dict, folder: Path) -> tuple[dict, dict[str, str]]:
    """The definition of a search that goes on with a changed grid, and what its old rows have to say of the settings
    that weren't searched before. SearchError or SettingError if it is another search."""
    remedy = "; give --overwrite or another --output-dir"
    if old["data"]["fingerprint"] != new["data"]["fingerprint"]:
        raise SearchError(
            f"{folder}: a search on other images ({old['data']['name']}); give their --data-dir or another --output-dir"
        )
    if old["seed"] != new["seed"]:
        raise SearchError(f"--seed {new['seed']} differs from the search in {folder}, which has {old['seed']}{remedy}")
    if old["halving"] != new["halving"]:
        raise SearchError(
            f"--halving: what is stopped depends on all the trials, and the search in {folder} has others, or another "
            f"--eta, or none; give the flags that it was started with, --overwrite or another --output-dir"
        )
    searched = [name for name in OPTIONS if name in old["searched"] or name in new["searched"]]
    shared = {name: OPTIONS[name].default for name in OPTIONS} | old["settings"]
    for name, value in new["settings"].items():
        if name not in searched and shared[name] != value:
            raise train.SettingError(
                name, value, f"differs from the search in {folder}, which has {format_value(shared[name])}{remedy}"
            )
    added = {name: format_value(shared[name]) for name in searched if name not in old["searched"]}
    settings = {name: value for name, value in new["settings"].items() if name not in searched}
    return new | {"searched": searched, "settings": settings}, added


# ---- The search -----------------------------------------------------------------------------------------------------


class Search:
    """Trials on their way to rows, with a bar over them."""

    def __init__(
        self,
        trials: list[Trial],
        results: Results,
        data: cifar10.Dataset,
        recipe: str,
        submit: Callable[[dict], Future],
        threads: Callable[[int], int],
    ):
        """submit: hands a task of run_trial to a worker. threads: how many each of so many trials may use."""
        self.trials, self.results, self.submit, self.threads = trials, results, submit, threads
        self.task = {"folder": str(results.folder.absolute()), "recipe": recipe, "name": data.name}
        self.task |= {"fingerprint": data.fingerprint, "class_names": list(data.class_names)}
        done = sum(trial.name in results.rows for trial in trials)
        self.histories: dict[str, dict | None] = {}  # of trials by name; None where a trial has failed
        self.bar = tqdm(total=len(trials), initial=done, desc="search", unit=" trials", disable=None)
        self.show_best()

    def say(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def show_best(self) -> None:
        if best := self.results.best():
            self.bar.set_postfix_str(f"best validation {float(best['val_accuracy']):.2%}")

    def finish(self, trial: Trial, result: dict) -> None:
        """Make a row of the trial, and say so."""
        row = self.results.add(trial, result)
        self.bar.update()
        self.show_best()
        what = ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in self.results.searched)
        what += f", repeat {trial.repeat}" if any(each.repeat > 1 for each in self.trials) else ""
        if row["val_accuracy"]:
            found = f"validation {float(row['val_accuracy']):.2%} in epoch {row['best_epoch']} of {row['epochs']}"
            found += f", {float(row['seconds']):.0f} s" + (", stopped" if row["status"] == "stopped" else "")
        else:
            found = f"{row['status']}: {row['reason']}"
        count = sum(each.name in self.results.rows for each in self.trials)
        self.say(f"[{count}/{len(self.trials)}] {what}: {found}")

    def train(self, trials: list[Trial], stop_after: int | None = None) -> Iterator[tuple[Trial, dict]]:
        """Train the trials, up to an epoch; yield each with its result as it ends. SearchError if a worker dies."""
        task = self.task | {"stop_after": stop_after, "threads": self.threads(len(trials) or 1)}
        futures = {
            self.submit(task | {"trial": trial.name, "settings": asdict(trial.settings)}): trial for trial in trials
        }
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenProcessPool:
                raise SearchError(
                    "a worker process was killed, perhaps for lack of memory; what is finished is kept: go on with "
                    "--resume, and with fewer --jobs"
                ) from None
            except Exception as error:
                raise SearchError(
                    f"a worker can't do its work ({type(error).__name__}: {error}); see that it can use "
                    f"{task['folder']}; what is finished is kept: go on with --resume"
                ) from None
            yield futures[future], result

    def run(self) -> None:
        """Train every trial without a row."""
        for trial, result in self.train([trial for trial in self.trials if trial.name not in self.results.rows]):
            self.finish(trial, result)

    def halve(self, eta: int) -> None:
        """Successive halving (Jamieson & Talwalkar 2016): train all settings for a few epochs, keep the best 1/eta of
        them, train those eta times as long, and so on. Survivors go on from their state.

        After a kill it runs again from the first rung on: what was trained has its epochs in a state or, with a row, in
        a checkpoint, so that each rung makes the same choice from the same numbers without training anew.
        """
        settings: dict[train.Settings, list[Trial]] = {}
        for trial in self.trials:
            settings.setdefault(replace(trial.settings, seed=0), []).append(trial)
        left = list(settings.values())
        rungs = halving_rungs(len(left), self.trials[0].settings.epochs, eta)
        for rung, epochs in enumerate(rungs, 1):
            pending = [trial for group in left for trial in group if trial.name not in self.results.rows]
            if pending:
                self.say(f"rung {rung} of {len(rungs)}: {len(left)} of {len(settings)} settings, up to epoch {epochs}")
            for trial, result in self.train(pending, epochs):
                self.histories[trial.name] = result.get("history")
                if result["status"] != "stopped":
                    self.finish(trial, result)
            if epochs < rungs[-1]:
                left.sort(key=functools.partial(self.score, epochs))
                keep = -(-len(left) // eta)
                for trial in (trial for group in left[keep:] for trial in group):
                    if trial.name not in self.results.rows:
                        self.finish(trial, {"status": "stopped", "reason": "", "history": self.histories[trial.name]})
                left = left[:keep]

    def score(self, epochs: int, group: list[Trial]) -> tuple:
        """The sort key of a setting as `rank` says, as it was after that many epochs."""
        rows = []
        for trial in group:
            if trial.name not in self.histories:
                checkpoint = self.results.rows[trial.name]["checkpoint"]
                _, info = model.read_npz(self.results.folder / checkpoint) if checkpoint else (None, {})
                self.histories[trial.name] = info.get("history")
            history = self.histories[trial.name] or {"val_accuracy": [""], "val_loss": [""]}
            accuracies = history["val_accuracy"][:epochs]
            best = accuracies.index(max(accuracies))
            rows.append({"val_accuracy": accuracies[best], "val_loss": history["val_loss"][best]})
        return rank(rows), group[0].name


def halving_rungs(count: int, epochs: int, eta: int) -> list[int]:
    """The epochs after which successive halving chooses, the last of all included: E, E/eta, E/eta^2, ..., so many
    that of `count` settings one is left."""
    rungs = {epochs}
    while count > 1:
        count, epochs = -(-count // eta), max(1, epochs // eta)
        rungs.add(epochs)
    return sorted(rungs)


# ---- The command line -----------------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what is wrong with it ends the process with one line."""
    parser = cifar10.ArgumentParser(prog="search.py", description=__doc__)
    parser.add_argument("--recipe", choices=tuple(train.RECIPES), default="report", help="settings to start from")
    add_search_arguments(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--random", type=int, metavar="N",
                       help="try N settings drawn from the values and ranges, instead of all combinations")
    group.add_argument("--halving", action="store_true",
                       help="successive halving (Jamieson & Talwalkar 2016): train all settings for a few epochs, go "
                       "on with the better half for twice as many, and so on; the last one goes all the way")
    group.add_argument("--eta", type=int, metavar="N",
                       help="with --halving: keep one in N, for N times as many epochs (default: 2, as in the paper)")
    group.add_argument("--repeats", type=int, metavar="K", default=1,
                       help="train each setting with K seeds, and rank by the mean; each seed also has its own "
                       "validation images")
    group.add_argument("--seed", type=int, metavar="N", default=0,
                       help="where the seeds of the trials and the random draws come from; the results are the same "
                       "whatever --jobs, --threads and --dask are")
    group.add_argument("--report-test", action="store_true",
                       help="at the end, test every trial, not only the best one; not used for the choice")
    group = parser.add_argument_group("run")
    group.add_argument("--output-dir", type=Path, metavar="FOLDER",
                       help="the folder of results (default: checkpoints/search-DATASET beside the scripts)")
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument("--resume", action="store_true",
                           help="go on with the search in the folder: what is finished isn't repeated, what was going "
                           "on goes on from its last epoch, what has failed is tried again (not with --halving), and "
                           "if the values were changed, what is new is added")
    exclusive.add_argument("--overwrite", action="store_true", help="delete the search in the folder and start anew")
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument("--jobs", type=int, metavar="N",
                           help="trials side by side, each in a process "
                           f"(default: as many as cores, here {model.default_threads()})")
    exclusive.add_argument("--dask", metavar="ADDRESS",
                           help="train on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786; its "
                           "workers must see these scripts and the folder of results under the same paths")
    group.add_argument("--threads", type=int, metavar="N",
                       help="threads of each trial (default: the cores divided by the trials side by side; 1 with "
                       "--dask)")
    cifar10.add_arguments(parser)
    args = parser.parse_args(argv)
    for name in ("random", "repeats", "jobs", "threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: must be at least 0")
    if args.eta is not None and not args.halving:
        parser.error(f"--eta {args.eta} does nothing without --halving: give both, or none")
    args.eta = 2 if args.eta is None else args.eta
    if args.eta < 2:
        parser.error(f"--eta {args.eta}: must be at least 2")
    return args


def plan(args: argparse.Namespace) -> tuple[list[str], list[Trial]]:
    """The names of the searched settings, and the trials. SearchError or SettingError if that makes no search."""
    # A boolean without a value is true, as in train.py.
    given = {name: list(dict.fromkeys(getattr(args, name) or [True])) for name in OPTIONS if hasattr(args, name)}

    def searched():
        return [name for name in OPTIONS if len(given.get(name, ())) > 1 or isinstance(given.get(name, [0])[0], Range)]

    if not searched() and args.recipe == "report":
        given = REPORT_GRID | given
    if args.halving and "epochs" in searched():
        raise train.SettingError("epochs", shown(given["epochs"]), "must be one value with --halving")
    settings = points(given, args.recipe, args.random, args.seed)
    trials = [Trial.of(each, repeat, args.seed) for each in settings for repeat in range(1, args.repeats + 1)]
    if len(trials) < 2:
        raise SearchError(
            "nothing to search: this is a single trial; give a setting several values, such as --learning-rate 0.005 "
            "0.01, or give --repeats"
        )
    if args.halving and len(settings) < 2:
        raise SearchError("--halving does nothing with a single setting: give several values, or leave it out")
    return searched(), trials


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    searched, trials = plan(args)
    data = cifar10.load_from(args)
    for share in dict.fromkeys(trial.settings.validation_share for trial in trials):
        cifar10.split(len(data.train_labels), share, np.random.default_rng(0))
    folder = train.shorter(args.output_dir or HERE / "checkpoints" / f"search-{data.name}")
    definition = {
        "searched": searched,
        "settings": {name: getattr(trials[0].settings, name) for name in OPTIONS if name not in searched},
        "seed": args.seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "halving": None,
    }
    if args.halving:
        names = sorted(trial.name for trial in trials)
        definition["halving"] = {"eta": args.eta, "trials": f"{fingerprint(names):064x}"}
    cores = model.default_threads()
    jobs = args.jobs or cores

    def threads(count: int) -> int:
        return args.threads or (1 if args.dask else max(1, cores // min(jobs, count)))

    try:
        with dask_workers(args.dask) if args.dask else local_workers(jobs) as submit:
            results = open_results(folder, definition, args.resume, args.overwrite)
            done = sum(trial.name in results.rows for trial in trials)
            if done:
                print(f"{done} of {len(trials)} trials are in {folder / 'results.csv'} already", flush=True)
            if done < len(trials):
                with shared_images(folder, data):
                    data = replace(data, train_images=data.test_images[:0], train_labels=data.test_labels[:0])
                    search = Search(trials, results, data, args.recipe, submit, threads)
                    with search.bar:
                        search.halve(args.eta) if args.halving else search.run()
    except KeyboardInterrupt:
        typed = [word for word in (sys.argv[1:] if argv is None else argv) if word not in ("--resume", "--overwrite")]
        raise KeyboardInterrupt(
            f"stopped; what is done is in {folder / 'results.csv'}; go on with: "
            f"python search.py {shlex.join([*typed, '--resume'])}"
        ) from None
    conclude(results, data, args.report_test)
    return 0


@contextlib.contextmanager
def shared_images(folder: Path, data: cifar10.Dataset) -> Iterator[None]:
    """Keep the training images in the folder, where the workers map them, for the time of the search."""
    try:
        for name, array in ((IMAGES, data.train_images), (LABELS, data.train_labels)):
            with model.write_whole(folder / name) as file:
                np.save(file, array)
        del data, array
        yield
    finally:
        for name in (IMAGES, LABELS):
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def conclude(results: Results, data: cifar10.Dataset, report_test: bool) -> None:
    """Choose the best trial, test it, or all of them, and leave and print the tables. SearchError if none is left."""

    def test(row):
        network, _ = model.load(folder / row["checkpoint"], model.default_threads())
        return network.evaluate(data.test_images, data.test_labels)[1]

    folder, best = results.folder, results.best()
    if report_test:
        for row in tqdm(results.rows.values(), desc="test", unit=" trials", leave=False, disable=None):
            if row["checkpoint"] and not row["test_accuracy"]:
                row["test_accuracy"] = repr(test(row))
        results.write()
    table, notes = results.table(), results.notes()
    print(as_text(table), *notes, sep="\n")
    if best is None:
        raise SearchError(f"no trial has left a network; the column 'reason' of {folder / 'results.csv'} says why")
    outcome = (
        f"best trial {best['trial']}: validation accuracy {float(best['val_accuracy']):.2%}, "
        f"test accuracy {test(best):.2%} on {len(data.test_labels):,} images"
    )
    print(outcome)
    with model.write_whole(folder / "results.md") as file:
        file.write("\n\n".join([as_markdown(table), *notes, outcome]).replace("+-", "±").encode() + b"\n")
    with model.write_whole(folder / "best.npz") as file, open(folder / best["checkpoint"], "rb") as source:
        shutil.copyfileobj(source, file)
    draw = f"draw them with: python visualize.py {shlex.quote(str(folder / 'results.csv'))}"
    print(f"results in {folder}: best.npz, results.csv, results.md; {draw}")


if __name__ == "__main__":
    sys.exit(cifar10.command(main))
