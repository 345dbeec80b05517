"""Search for good settings of train.py; leave a table and the best checkpoint.

  python search.py                 the report's grid: 8 settings, its Table 1
  python search.py --report-test   also test every trial at the end
  python search.py --hidden-size 256 512 --batchnorm true false --epochs 20
  python search.py --random 30 --learning-rate 1e-3:1e-1 --lambda-reg 1e-5:1e-1
  python search.py --repeats 5 --dropout 0.3 0.5   5 seeds for each setting
  python search.py --resume ...    continue a stopped search, with its flags

A setting with several values is searched; all combinations are tried. Settings
are ranked by validation accuracy. Only the best network is tested, after the
choice is made. In the folder of results: results.csv, a row for each trial;
TRIAL.npz and TRIAL.csv, its checkpoint and history; best.npz.
"""

import argparse
import itertools
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import model
import train
from data import cifar10
from support import cli, files, locks
from support.checkpoints import CHECKPOINTS
from support.image_shape import PIXELS
from support.searching import tables, workers
from support.searching.results import (
    BEST,
    DEFINITION,
    TABLE,
    Results,
    SearchError,
    clear,
    mapped_images,
    open_results,
    share_images,
)
from support.searching.values import (
    Values,
    add_value_arguments,
    check_values,
    count,
    draw,
    ends,
    fingerprint,
    is_searched,
    typed_values,
)
from support.settings import (
    SettingError,
    add_report_arguments,
    check_use_dropout,
    drops_nothing,
    flag,
    typed,
)
from support.threads import default_threads

import numpy as np
from tqdm import tqdm

REPORT_GRID = {
    "hidden_size": [512, 1024],
    "learning_rate": [0.005, 0.01],
    "lambda_reg": [0.005, 0.01],
}
OPTIONS = {option.name: option for option in fields(train.Settings) if option.name != "seed"}
MAX_TRIALS = 10_000  # these are planned, ranked and written within seconds
# The smallest allowed numbers of a Task.
LOWEST = {"random": 1, "eta": 2, "repeats": 1, "seed": 0, "jobs": 1, "threads": 1}


@dataclass(frozen=True)
class Task:
    """The search that the command line asks for. Raises SettingError for an invalid value."""

    values: Values  # of the settings that were given
    source: cifar10.Source  # of the images
    recipe: str = "report"
    random: int | None = None  # settings to draw; None: a grid
    eta: int | None = None  # of successive halving; None: every trial is trained to its end
    repeats: int = 1
    seed: int = 0
    report_test: bool = False
    output_dir: Path | None = None
    resume: bool = False
    overwrite: bool = False
    jobs: int = 1
    dask: str | None = None  # the scheduler's address
    threads: int | None = None

    def __post_init__(self):
        for name, low in LOWEST.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < low):
                raise SettingError(name, value, f"must be a whole number from {low}")
        check_values(self.values, OPTIONS, ranges=self.random is not None)

    def threads_of_each(self, trials: int) -> int:
        """Return the threads of each of so many trials."""
        if self.threads:
            return self.threads
        if self.dask:
            return 1
        return max(1, default_threads() // min(self.jobs, trials))


# ---- The plan ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A run of train.py: its settings, with its seed, and the repeat of the settings, from 1."""

    settings: train.Settings
    repeat: int
    name: str  # ten hexadecimal digits

    @classmethod
    def of(cls, settings: train.Settings, repeat: int, seed: int) -> "Trial":
        """Return the trial of a search with this seed.

        Name and seed follow from the settings that differ from train.py's defaults, so they stay
        the same when train.py gets another setting.
        """
        key = {}
        for name, option in OPTIONS.items():
            value = getattr(settings, name)
            if value != option.default:
                key[name] = value
        trial_seed = fingerprint("seed", seed, key, repeat) % 2**31
        name = f"{fingerprint('trial', key, repeat):064x}"[:10]
        return cls(replace(settings, seed=trial_seed), repeat, name)

    def command(self, recipe: str, source: cifar10.Source) -> str:
        """Return the command line that trains the same network."""
        usual = asdict(train.resolve({}, recipe))
        words = ["python train.py --recipe", recipe]
        for name, value in asdict(self.settings).items():
            if value != usual[name]:
                words.append(typed(name, value))
        return " ".join([*words, source.typed()]).strip()


@dataclass(frozen=True)
class Plan:
    """The trials of a search, and the names of the settings that differ between them."""

    searched: list[str]
    trials: list[Trial]
    notes: list[SettingError]  # about values without effect that do no harm


def make_plan(task: Task) -> Plan:
    """Return the plan of a task. Raises SettingError or SearchError if it is no search."""
    searched = [name for name in OPTIONS if is_searched(task.values.get(name, [None]))]
    if task.eta and "epochs" in searched:
        problem = "must be one value with --halving"
        raise SettingError("epochs", typed_values(task.values["epochs"]), problem)
    tried = random_points(task) if task.random else grid_points(task)
    notes = idle_values(task.values, tried)
    trials = []
    for point in tried:
        for repeat in range(1, task.repeats + 1):
            trials.append(Trial.of(point, repeat, task.seed))
    if len(trials) < 2:
        raise SearchError(
            "nothing to search: this is a single trial; give a setting several values, "
            "such as --learning-rate 0.005 0.01, or give --repeats"
        )
    if task.eta and len(tried) < 2:
        raise SearchError(
            "--halving does nothing with a single setting: give several values, or leave it out"
        )
    return Plan(searched, trials, notes)


def grid_points(task: Task) -> list[train.Settings]:
    """Return all combinations of the given values, each once."""
    check_number(math.prod(map(count, task.values.values())), task)
    unique = {}  # a dict, as a set has no order
    for values in itertools.product(*task.values.values()):
        point = dict(zip(task.values, values, strict=True))
        unique[settings_of_point(point, task.recipe)] = None
    return list(unique)


def random_points(task: Task) -> list[train.Settings]:
    """Return different settings drawn from the given values and ranges, task.random of them."""
    check_number(task.random, task)
    possible = math.prod(map(count, task.values.values()))
    if possible < task.random:
        raise too_few_settings(task.random, possible)
    unique = {}  # a dict, as a set has no order
    tried = set()
    misses = 0
    for number in itertools.count():
        if len(unique) == task.random:
            return list(unique)
        # So many draws in a row without a new setting: there are most likely no others.
        if misses > max(1000, 20 * len(unique)):
            raise too_few_settings(task.random, len(unique))
        misses += 1
        point = {}
        for name, values in task.values.items():
            point[name] = draw(values, "random", task.seed, number, name)
        values = tuple(point.values())
        if values in tried:
            continue
        tried.add(values)
        settings = settings_of_point(point, task.recipe)
        if settings not in unique:
            unique[settings] = None
            misses = 0


def check_number(settings: int, task: Task) -> None:
    """Raise SettingError if these are too many trials."""
    trials = settings * task.repeats
    if trials > MAX_TRIALS:
        problem = (
            f"makes {trials:,} trials of {settings:,} settings, and {MAX_TRIALS:,} is the limit"
        )
        if task.random:
            raise SettingError("random", task.random, problem, "ask for fewer")
        raise SettingError("repeats", task.repeats, problem, "ask for fewer, or give fewer values")


def too_few_settings(random: int, found: int) -> SettingError:
    problem = f"is too many: the given values make only {found} different settings"
    remedy = "ask for fewer, or give more values or wider ranges"
    return SettingError("random", random, problem, remedy)


def settings_of_point(point: dict, recipe: str) -> train.Settings:
    """Return the settings of a combination of values.

    A value that has no effect next to the others is replaced by the recipe's: with --batchnorm
    false, all values of --bn-lr-scale train the same network, and are a single trial.
    """
    whole = train.resolve({}, train.RECIPES[recipe] | point)
    effective = train.effective(whole)
    used = {name: value for name, value in point.items() if name in effective}
    settings = train.resolve(used, recipe)
    # Kept if the recipe's value would have an effect that the given one has not (--patience).
    for name in train.effective(settings).keys() - effective.keys():
        if name in point:
            used[name] = point[name]
    settings = train.resolve(used, recipe)
    if settings.test_stride == settings.stride:  # 0 says the same
        settings = replace(settings, test_stride=0)
    return settings


def idle_values(values: Values, tried: list[train.Settings]) -> list[SettingError]:
    """Return notes about the given settings that have no effect in any of the tried ones.

    Raises SettingError for such a setting if it was meant to have an effect, as in train.py.
    """
    effective = set()
    for each in tried:
        effective.update(train.effective(each))
    notes = []
    for name in values:
        if name not in effective:
            for value in ends(values[name]):
                settings = replace(tried[-1], **{name: value})
                for need, error in train.idle_settings({name: value}, settings):
                    if not need.harmless:
                        raise error
                    notes.append(error)
    return notes


# ---- A trial, in a worker's process -----------------------------------------------------------


def run_trial(job: dict) -> dict:
    """Train a trial, from its saved state if there is one; return what its row needs.

    job: folder, trial, settings (train.Settings as a dict), recipe, command, threads, stop_after,
    and the data's name, fingerprint and class_names. These are plain values, as a Dask worker has
    to read them before it knows the folder of this module. An error that stops the trial is its
    status and reason. Raises OSError or ValueError if reading the images fails.
    """
    folder = Path(job["folder"])
    images, labels = mapped_images(folder, PIXELS)
    data = cifar10.Dataset(
        name=job["name"],
        train_images=images,
        train_labels=labels,
        test_images=images[:0],
        test_labels=labels[:0],
        class_names=tuple(job["class_names"]),
        fingerprint=job["fingerprint"],
        folder=folder,
    )
    try:
        # After a stopped search a Dask worker may still be busy with this trial. Its state is
        # complete when it ends.
        with locks.locked(folder / job["trial"], "a search's worker", wait=True):
            run = train.train(
                train.Settings(**job["settings"]),
                data,
                folder / f"{job['trial']}.npz",
                resume=True,
                overwrite=True,
                threads=job["threads"],
                stop_after=job["stop_after"],
                recipe=job["recipe"],
                command=job["command"],
            )
    except Exception as error:
        status = "diverged" if isinstance(error, train.Diverged) else "failed"
        # The other trials go on. The row says what became of this one.
        return {"status": status, "reason": reason_of(error, folder)}
    status = "ok" if run.finished else "stopped"
    return {"status": status, "reason": "", "history": run.history}


def reason_of(error: Exception, folder: Path) -> str:
    """Return the error in one line, without the folder: the table is the same in every folder."""
    if isinstance(error, cli.UserError):
        text = error.command_line_text()
    elif isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {error}"
    return cli.clean(text.replace(f"{folder}{os.sep}", ""))


# ---- All trials -------------------------------------------------------------------------------


class Runner:
    """Trains trials in workers and records their results, with a bar on a terminal."""

    def __init__(
        self,
        task: Task,
        trials: list[Trial],
        results: Results,
        submit: workers.Submit,
        common: dict,
    ):
        """submit: hands a job to a worker. common: the part of run_trial's jobs that all share."""
        self.task = task
        self.trials = trials
        self.results = results
        self.submit = submit
        self.common = common
        self.repeated = any(trial.repeat > 1 for trial in trials)
        # Histories of trials by name; None for a trial that failed.
        self.histories: dict[str, dict | None] = {}
        done = sum(self.is_done(trial) for trial in trials)
        self.bar = tqdm(
            total=len(trials), initial=done, desc="search", unit=" trials", disable=None
        )
        self.show_best()

    def is_done(self, trial: Trial) -> bool:
        return trial.name in self.results.rows

    def say(self, line: str) -> None:
        self.bar.write(tables.wrapped(line), file=sys.stdout)
        sys.stdout.flush()

    def show_best(self) -> None:
        best = None if self.bar.disable else self.results.best()
        if best:
            self.bar.set_postfix_str(f"best validation {float(best['val_accuracy']):.2%}")

    def train(
        self, trials: list[Trial], stop_after: int | None = None
    ) -> Iterator[tuple[Trial, dict]]:
        """Train the trials without a row, up to an epoch; yield each with its result as it ends."""
        pending = [trial for trial in trials if not self.is_done(trial)]
        threads = self.task.threads_of_each(len(pending) or 1)
        jobs = {}
        for trial in pending:
            jobs[trial] = self.common | {
                "trial": trial.name,
                "settings": asdict(trial.settings),
                "recipe": self.task.recipe,
                "command": trial.command(self.task.recipe, self.task.source),
                "threads": threads,
                "stop_after": stop_after,
            }
        return workers.finished(self.submit, jobs)

    def finish(self, trial: Trial, result: dict) -> None:
        """Record the result of a trial, and print a line."""
        row = self.results.add(trial.name, trial.repeat, asdict(trial.settings), result)
        # A trial that failed may be resumed from its state.
        if row["status"] != "failed":
            self.results.delete_state(trial.name)
        self.bar.update()
        self.show_best()
        names = [f"{name.replace('_', ' ')} {row[name]}" for name in self.results.searched]
        if self.repeated:
            names.append(f"repeat {trial.repeat}")
        done = sum(map(self.is_done, self.trials))
        self.say(f"[{done}/{len(self.trials)}] {', '.join(names)}: {outcome(row)}")

    def run(self) -> None:
        """Train every trial to its end."""
        for trial, result in self.train(self.trials):
            self.finish(trial, result)

    # ---- Successive halving (Jamieson & Talwalkar 2016)

    def halve(self, eta: int) -> None:
        """Train all settings for a few epochs, the best 1/eta of them eta times as long, and so on.

        Each rung continues from the saved states. After a kill all rungs are repeated, and choose
        alike: the epochs of each trial are in its state or checkpoint, so nothing is trained twice.
        """
        groups = same_settings(self.trials)
        rungs = halving_rungs(len(groups), self.trials[0].settings.epochs, eta)
        if rungs[-1].settings > 1 and not self.results.rows:
            self.say_that_several_survive(rungs, eta)
        for i, rung in enumerate(rungs):
            if i > 0:
                groups.sort(key=partial(self.score, rungs[i - 1].epochs))
                self.stop(groups[rung.settings :])
                groups = groups[: rung.settings]
            if not all(map(self.is_done, trials_in(groups))):
                self.say(
                    f"rung {i + 1} of {len(rungs)}: {len(groups)} of {rungs[0].settings} "
                    f"settings, up to epoch {rung.epochs}"
                )
            self.train_rung(groups, rung.epochs)

    def say_that_several_survive(self, rungs: list["Rung"], eta: int) -> None:
        first, last = rungs[0], rungs[-1]
        # With enough epochs there are as many rungs as it takes to leave one setting.
        choices = len(halving_rungs(first.settings, sys.maxsize, eta)) - 1
        self.say(
            f"{last.settings} of the {first.settings} settings will be trained to the end: "
            f"{last.epochs} epochs are enough for {len(rungs) - 1} choices; "
            f"--epochs {eta**choices} would leave one"
        )

    def train_rung(self, groups: list[list[Trial]], epochs: int) -> None:
        """Train the trials up to an epoch, and record those that ended."""
        for trial, result in self.train(trials_in(groups), stop_after=epochs):
            self.histories[trial.name] = result.get("history")
            if result["status"] != "stopped":
                self.finish(trial, result)

    def stop(self, groups: list[list[Trial]]) -> None:
        """Record the trials as they are."""
        for trial in trials_in(groups):
            if not self.is_done(trial):
                history = self.histories[trial.name]
                self.finish(trial, {"status": "stopped", "reason": "", "history": history})

    def score(self, epochs: int, group: list[Trial]) -> tuple:
        """Return the sort key of a setting as it was after that many epochs."""
        scores = []
        for trial in group:
            if trial.name not in self.histories:
                self.histories[trial.name] = self.results.history(trial.name)
            scores.append(best_of(self.histories[trial.name], epochs))
        return tables.rank(scores), group[0].name


def outcome(row: tables.Row) -> str:
    """Return the result of a trial in words."""
    if not row["val_accuracy"]:
        return f"{row['status']}: {row['reason']}"
    text = f"validation {float(row['val_accuracy']):.2%} in epoch {row['best_epoch']} "
    text += f"of {row['epochs']}, {float(row['seconds']):.0f} s"
    if row["status"] == "stopped":
        text += ", stopped"
    return text


def same_settings(trials: list[Trial]) -> list[list[Trial]]:
    """Return the trials in groups whose settings differ in the seed alone."""
    groups: dict[train.Settings, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(replace(trial.settings, seed=0), []).append(trial)
    return list(groups.values())


def trials_in(groups: list[list[Trial]]) -> list[Trial]:
    return list(itertools.chain.from_iterable(groups))


def best_of(history: dict | None, epochs: int) -> tuple[float, float] | None:
    """Return (accuracy, loss) of the best of the first epochs; None without any."""
    if not history:
        return None
    rows = list(zip(history["val_accuracy"], history["val_loss"], strict=True))
    return max(rows[:epochs], key=lambda row: row[0], default=None)


class Rung(NamedTuple):
    """A rung of successive halving."""

    epochs: int  # up to which it trains
    settings: int  # that are left


def halving_rungs(count: int, epochs: int, eta: int) -> list[Rung]:
    """Return the rungs of `count` settings.

    The last rung trains all epochs, each other rung 1/eta of the next. There are enough rungs
    to leave one setting, or fewer if the first would have no epoch.
    """
    counts = [count]
    while counts[-1] > 1 and epochs // eta ** len(counts) >= 1:
        counts.append(math.ceil(counts[-1] / eta))
    last = len(counts) - 1
    return [Rung(epochs // eta ** (last - i), left) for i, left in enumerate(counts)]


# ---- The whole search -------------------------------------------------------------------------


def definition_of(task: Task, plan: Plan, data: cifar10.Dataset) -> dict:
    """Return the content of search.json; a search is resumed only with the same definition."""
    usual = asdict(train.resolve({}, task.recipe))
    values = {name: task.values.get(name, [usual[name]]) for name in OPTIONS}
    return {
        "settings": {name: typed_values(each) for name, each in values.items()},
        "recipe": task.recipe,
        "random": task.random,
        "halving": f"--eta {task.eta}" if task.eta else None,
        "repeats": task.repeats,
        "seed": task.seed,
        "trials": f"{fingerprint(sorted(trial.name for trial in plan.trials)):064x}",
        "data": {"name": data.name, "fingerprint": data.fingerprint},
    }


def run_search(task: Task, plan: Plan, data: cifar10.Dataset, folder: Path) -> Results:
    """Train the trials that the folder has no rows of, in workers; return all results."""
    if task.dask:
        pool = workers.dask_workers(run_trial, task.dask)
    else:
        pool = workers.local_workers(run_trial, task.jobs)
    results = None
    try:
        # The workers come first: if they fail to start, the folder stays as it is.
        with pool as submit:
            results = open_results(
                folder,
                definition_of(task, plan, data),
                {name: OPTIONS[name] for name in plan.searched},
                {trial.name for trial in plan.trials},
                task.resume,
                task.overwrite,
            )
            # A search may have been killed just as it had written a row.
            for name in results.rows:
                results.delete_state(name)
            if results.rows:
                table = folder / TABLE
                done = f"{len(results.rows)} of {len(plan.trials)} trials"
                print(f"{done} are in {table} already", flush=True)
            if len(results.rows) < len(plan.trials):
                train_all(task, plan, data, results, submit)
    finally:
        # When the workers have ended, and if the folder turned out to be the search's.
        if results is not None:
            clear(folder)
    return results


def train_all(
    task: Task, plan: Plan, data: cifar10.Dataset, results: Results, submit: workers.Submit
) -> None:
    """Train the trials without a row, and record them in the results."""
    # Once for all workers, see results.py.
    share_images(results.folder, data.train_images, data.train_labels)
    common = {
        "folder": str(results.folder.absolute()),
        "name": data.name,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
    }
    runner = Runner(task, plan.trials, results, submit, common)
    with runner.bar:
        if task.eta:
            runner.halve(task.eta)
        else:
            runner.run()


# ---- The conclusion ---------------------------------------------------------------------------


def conclude(results: Results, data: cifar10.Dataset, report_test: bool) -> None:
    """Print the ranking, choose and test the best network, and copy it to best.npz.

    report_test: also test all others, for the table. Raises SearchError if no trial left a network.
    """
    folder = results.folder
    best = results.best()  # before any test, which can't have a say in it
    if report_test:
        test_all(results, data)
    print(tables.ranking(results.ranked(), results.searched))
    # After the ranking, which shows what became of the trials.
    if best is None:
        raise SearchError(
            f"no trial has left a network; the column 'reason' of {folder / TABLE} says why"
        )
    checkpoint = folder / best["checkpoint"]
    validation = float(best["val_accuracy"])
    test = test_accuracy(checkpoint, data)
    line = f"best trial {best['trial']}: validation accuracy {validation:.2%}, "
    line += f"test accuracy {test:.2%} on {len(data.test_labels):,} images"
    print(tables.wrapped(line))
    with files.open_regular(checkpoint) as source, files.write_whole(folder / BEST) as target:
        shutil.copyfileobj(source, target)
    figures = shlex.join([*cli.script("visualize.py"), str(folder / TABLE)])
    print(tables.wrapped(f"results in {folder}: {BEST}, {TABLE}"))
    print(f"draw them with: {figures}")  # whole, to be copied


def test_all(results: Results, data: cifar10.Dataset) -> None:
    """Add the test accuracy to each row with a network."""
    rows = results.rows.values()
    for row in tqdm(rows, desc="test", unit=" trials", leave=False, disable=None):
        if row["checkpoint"] and not row["test_accuracy"]:
            row["test_accuracy"] = repr(test_accuracy(results.folder / row["checkpoint"], data))
    results.write()


def test_accuracy(checkpoint: Path, data: cifar10.Dataset) -> float:
    network, _ = model.load(checkpoint, default_threads())
    if network.classes != len(data.class_names):
        raise SearchError(
            f"{checkpoint}: has {network.classes} classes, the images {len(data.class_names)}; "
            "restore the file"
        )
    _, accuracy = network.evaluate(data.test_images, data.test_labels)
    return accuracy


# ---- The command line -------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="search.py",
        description=__doc__,
        usage="python search.py [--SETTING VALUE ...] [options]",
    )
    parser.add_argument(
        "--recipe", choices=tuple(train.RECIPES), default="report", help="settings to start from"
    )
    add_value_arguments(parser, OPTIONS)
    add_search_arguments(parser)
    add_run_arguments(parser)
    cifar10.add_arguments(parser)
    add_report_arguments(parser, "grid_search")
    parser.add_argument("--model-path", help=argparse.SUPPRESS)
    return parser


def add_search_arguments(parser: cli.ArgumentParser) -> None:
    grid = " ".join(f"{flag(name)} {typed_values(values)}" for name, values in REPORT_GRID.items())
    amount = cli.integer(1, 10**18)
    group = parser.add_argument_group(
        "search", f"If no setting has several values, --recipe report means\n{grid}"
    )
    group.add_argument(
        "--random",
        type=amount,
        metavar="N",
        help="try N settings drawn from the values and ranges, not all combinations",
    )
    group.add_argument(
        "--halving",
        action="store_true",
        help="successive halving (Jamieson & Talwalkar 2016): train all settings for a few "
        "epochs, continue the better half for twice as many, and so on",
    )
    group.add_argument(
        "--eta",
        type=cli.integer(2, 1000),
        metavar="N",
        help="with --halving: keep one in N, for N times as many epochs (default: 2)",
    )
    group.add_argument(
        "--repeats",
        type=amount,
        metavar="K",
        default=1,
        help="train each setting with K seeds, and rank by the mean",
    )
    group.add_argument(
        "--seed",
        type=cli.integer(0, 2**63),
        metavar="N",
        default=0,
        help="seed of the trials' seeds and the random draws",
    )
    group.add_argument(
        "--report-test",
        action="store_true",
        help="at the end, test every trial; not used for the choice",
    )


def add_run_arguments(parser: cli.ArgumentParser) -> None:
    group = parser.add_argument_group("run", "No flag of this group changes the results.")
    group.add_argument(
        "--output-dir",
        type=cli.output_folder,
        metavar="FOLDER",
        help="of the results (default: a folder search-DATASET in checkpoints/)",
    )
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--resume",
        action="store_true",
        help="continue the search in the folder; failed trials are trained again",
    )
    exclusive.add_argument(
        "--overwrite", action="store_true", help="delete the search in the folder first"
    )
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--jobs",
        # Windows waits for 61 processes at most.
        type=cli.integer(1, 61 if os.name == "nt" else 1000),
        metavar="N",
        help="train N trials at a time, each in a process (default: one per core)",
    )
    exclusive.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="train on a Dask cluster, such as tcp://10.0.0.1:8786; see docs/search.md",
    )
    group.add_argument(
        "--threads",
        type=cli.integer(1, cli.MAX_THREADS),
        metavar="N",
        help="threads of each trial (default: cores / jobs; 1 with --dask)",
    )


def parse(argv: list[str] | None = None) -> Task:
    """Return the task of a command line. An error in it ends the process with one line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.eta and not args.halving:
        parser.error(f"--eta {args.eta} does nothing without --halving: give both, or none")
    note_report_flags(args)
    return Task(
        values=given_values(args),
        source=cifar10.Source.of(args),
        recipe=args.recipe,
        random=args.random,
        eta=(args.eta or 2) if args.halving else None,
        repeats=args.repeats,
        seed=args.seed,
        report_test=args.report_test,
        output_dir=args.output_dir,
        resume=args.resume,
        overwrite=args.overwrite,
        jobs=args.jobs or default_threads(),
        dask=args.dask,
        threads=args.threads,
    )


def note_report_flags(args: argparse.Namespace) -> None:
    """Print a line on stderr for each flag of the report's commands that has no effect here."""
    notes = {
        "--save-results": args.save_results and "the results are always saved",
        "--model-path": args.model_path and "a search trains networks of its own",
    }
    for name, reason in notes.items():
        if reason:
            cli.note(f"{name} has no effect here: {reason}")


def given_values(args: argparse.Namespace) -> Values:
    """Return the different values of each setting that was given, or of the report's grid."""
    given = {}
    for name in OPTIONS:
        if hasattr(args, name):
            # A boolean flag without a value means true, as in train.py.
            values = getattr(args, name) or [True]
            given[name] = list(dict.fromkeys(values))
    if drops_nothing(args, *given.get("dropout", [])):
        given["dropout"] = [0.0]
    check_use_dropout(args, *given.get("dropout", [train.resolve({}, args.recipe).dropout]))
    if args.recipe == "report" and not any(map(is_searched, given.values())):
        given = REPORT_GRID | given
    return given


def check_splits(plan: Plan, data: cifar10.Dataset) -> None:
    """Check that there are enough images for every trial.

    Raises SettingError or DataError if not, before anything is trained.
    """
    # Trials differ in few of these, and a split takes a while.
    splits = {(trial.settings.limit, trial.settings.validation_share) for trial in plan.trials}
    rng = np.random.default_rng(0)
    for limit, share in sorted(splits):
        labels = data.train_labels
        if limit:
            labels = labels[train.limited_rows(labels, limit, rng)]
        cifar10.split(labels, share, rng)


def main(argv: list[str] | None = None) -> int:
    task = parse(argv)
    plan = make_plan(task)
    for each in plan.notes:
        cli.note(each.command_line_text())
    data = cifar10.load_from(task.source)
    check_splits(plan, data)
    folder = task.output_dir or CHECKPOINTS / f"search-{data.title}"
    folder = cli.shorter(folder)
    try:
        with locks.locked(folder, "a search"):
            results = run_search(task, plan, data, folder)
            conclude(results, data, task.report_test)
    except KeyboardInterrupt:
        table = folder / TABLE
        kept = f"; what is done is in {table}" if table.is_file() else ""
        text = cli.stopped("search.py", folder / DEFINITION, argv, kept)
        raise KeyboardInterrupt(text) from None
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
