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
TRIAL.npz and TRIAL.csv, the checkpoint of each trial and its epochs; best.npz, a copy of the best checkpoint;
search.json, what --resume compares.
"""

import argparse
import itertools
import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent)
)  # python -P leaves out the folder of the script

import model
import train
from data import cifar10
from support import cli, files, locks, settings
from support.searching import tables, workers
from support.searching.results import (
    Results,
    SearchError,
    clear,
    mapped_images,
    open_results,
    share_images,
)
from support.settings import Range, SettingError, add_setting_arguments, fingerprint, format_value
from support.threads import default_threads

import numpy as np
from tqdm import tqdm

REPORT_GRID = {
    "hidden_size": [512, 1024],
    "learning_rate": [0.005, 0.01],
    "lambda_reg": [0.005, 0.01],
}
OPTIONS = {option.name: option for option in fields(train.Settings) if option.name != "seed"}
MAX_TRIALS = 10_000  # as many as are planned, ranked and written within seconds
PATIENCE = 1000  # draws that bring nothing new, or 20 for each setting found, before a random search gives up

# ---- What is searched -----------------------------------------------------------------------------------------------


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
        return cls(
            replace(settings, seed=trial_seed),
            repeat,
            f"{fingerprint('trial', key, repeat):064x}"[:10],
        )

    def command(self, recipe: str, data_flags: list[str]) -> str:
        """The command line that trains the same network."""
        start = asdict(train.resolve({}, recipe))
        own = [
            settings.typed(name, value)
            for name, value in asdict(self.settings).items()
            if value != start[name]
        ]
        return " ".join(["python train.py --recipe", recipe, *own, shlex.join(data_flags)]).strip()


def plan(args: argparse.Namespace) -> tuple[list[str], dict, list[Trial]]:
    """The names of the searched settings, the values of all others, and the trials. SearchError or SettingError if that
    makes no search."""
    # A boolean without a value is true, as in train.py.
    given = {
        name: list(dict.fromkeys(getattr(args, name) or [True]))
        for name in OPTIONS
        if hasattr(args, name)
    }
    if not getattr(args, "use_dropout", True):
        if any(given.get("dropout", ())):
            raise SettingError(
                "dropout", shown(given["dropout"]), "contradicts --no-use-dropout: leave one out"
            )
        given["dropout"] = [0.0]

    def searched():
        return [
            name
            for name in OPTIONS
            if len(given.get(name, ())) > 1 or isinstance(given.get(name, [0])[0], Range)
        ]

    if not searched() and args.recipe == "report":
        given = REPORT_GRID | given
    if args.halving and "epochs" in searched():
        raise SettingError("epochs", shown(given["epochs"]), "must be one value with --halving")
    tried = points(given, args)
    trials = [
        Trial.of(each, repeat, args.seed) for each in tried for repeat in range(1, args.repeats + 1)
    ]
    if len(trials) < 2:
        raise SearchError(
            "nothing to search: this is a single trial; give a setting several values, such as --learning-rate 0.005 "
            "0.01, or give --repeats"
        )
    if args.halving and len(tried) < 2:
        raise SearchError(
            "--halving does nothing with a single setting: give several values, or leave it out"
        )
    asked = asdict(train.resolve({}, args.recipe)) | {
        name: values[0] for name, values in given.items()
    }
    effective = {name for trial in trials for name in train.effective(trial.settings)}
    return (
        searched(),
        {name: asked[name] for name in OPTIONS if name in effective and name not in searched()},
        trials,
    )


def points(given: dict[str, list], args: argparse.Namespace) -> list[train.Settings]:
    """The settings to try: all combinations of the given values, or args.random draws from them; each once.

    Where a value has no effect beside the others (--batchnorm false and --bn-lr-scale), the recipe's stands for it, so
    that combinations fall together. SettingError for a value that isn't allowed, or has no effect in any combination;
    SearchError where the draws can't be that many.
    """
    random, recipe = args.random, args.recipe
    for name, values in given.items():
        ranges = [value for value in values if isinstance(value, Range)]
        for end in (end for each in ranges for end in (each.low, each.high)):
            settings.allowed(OPTIONS[name], end)
        if ranges and random is None:
            raise SettingError(
                name, shown(values), "is a range: give --random N, or several values"
            )
        if ranges and len(values) > 1:
            raise SettingError(
                name, shown(values), "mixes a range with more values: give one or the other"
            )
    possible = math.prod(map(count, given.values()))
    if (trials := (random or possible) * args.repeats) > MAX_TRIALS:
        what = f"{random or possible:,} settings with --repeats {args.repeats:,}"
        raise SearchError(
            f"{what}: {trials:,} trials, and {MAX_TRIALS:,} is the limit; ask for fewer"
        )
    if random and possible < random:
        raise too_few(random, possible)
    found: dict[train.Settings, None] = {}
    seen, idle, waited = set(), dict.fromkeys(given, True), 0
    for values in drawn(given, args.seed) if random else itertools.product(*given.values()):
        if random and (
            len(found) == random or (waited := waited + 1) > max(PATIENCE, 20 * len(found))
        ):
            break
        if values in seen:
            continue
        seen.add(values)
        point = dict(zip(given, values, strict=True))
        effective = train.effective(train.resolve({}, train.RECIPES[recipe] | point))
        idle = {name: alone and name not in effective for name, alone in idle.items()}
        kept = {name: value for name, value in point.items() if name in effective}
        tried = train.resolve(kept, recipe)
        waited = waited if tried in found else 0
        found[tried] = None
    for name in (name for name, alone in idle.items() if alone):
        for value in given[name]:
            for each in (value.low, value.high) if isinstance(value, Range) else (value,):
                train.resolve(
                    {name: each}, train.RECIPES[recipe] | point
                )  # refuses what isn't the default
    if random and len(found) < random:
        raise too_few(random, len(found))
    return list(found)


def too_few(random: int, found: int) -> SearchError:
    return SearchError(
        f"--random {random}: the values given make only {found} different settings; ask for fewer, or give more "
        "values or wider ranges"
    )


def drawn(given: dict[str, list], seed: int) -> Iterator[tuple]:
    """Random combinations of the given values, without end."""
    for draw in itertools.count():
        yield tuple(
            draw_value(values, "random", seed, draw, name) for name, values in given.items()
        )


def draw_value(values: list, *key):
    """The value that belongs to the key, on every machine the same."""
    return (
        values[0].draw(*key)
        if isinstance(values[0], Range)
        else values[fingerprint(*key) % len(values)]
    )


def count(values: list) -> int:
    """How many values these are; a range of fractions counts as more than can be tried."""
    if not isinstance(values[0], Range):
        return len(values)
    return values[0].high - values[0].low + 1 if values[0].kind is int else 10**9


def shown(values: list) -> str:
    """The values of a setting as they are typed."""
    return " ".join(map(format_value, values))


# ---- A trial, in the process of a worker ----------------------------------------------------------------------------


def run_trial(task: dict) -> dict:
    """Train what `task` says, from its saved state if there is one; return what a row needs. Plain values go in and
    come out, as a Dask worker can't load this module before it knows where it is.

    task: folder, trial, settings (train.Settings as a dict), recipe, command, threads, stop_after, and the data's name,
    fingerprint and class_names. OSError or ValueError where the images can't be read; whatever stops the trial itself
    is its status and reason.
    """
    folder = Path(task["folder"])
    images, labels = mapped_images(folder, model.PIXELS)
    about = tuple(task["class_names"]), task["fingerprint"]
    data = cifar10.Dataset(task["name"], images, labels, images[:0], labels[:0], *about, folder)
    options = {name: task[name] for name in ("recipe", "command", "threads", "stop_after")}
    try:
        # A worker on another machine may still be busy with the trial for a search that was stopped: go on after it.
        with locks.locked(folder / task["trial"], "a search's worker", wait=True):
            output = folder / f"{task['trial']}.npz"
            run = train.train(
                train.Settings(**task["settings"]),
                data,
                output,
                resume=True,
                overwrite=True,
                **options,
            )
    except Exception as error:
        reason = (
            str(error) if isinstance(error, cli.UserError) else f"{type(error).__name__}: {error}"
        )
        reason = cli.clean(
            reason.replace(f"{folder}{os.sep}", "")
        )  # the table is the same in every folder
        return {
            "status": "diverged" if isinstance(error, train.Diverged) else "failed",
            "reason": reason,
        }
    return {"status": "ok" if run.finished else "stopped", "reason": "", "history": run.history}


# ---- Running trials -------------------------------------------------------------------------------------------------


class TrialRunner:
    """Runs trials and records their results, with a bar over them."""

    def __init__(
        self,
        trials: list[Trial],
        results: Results,
        task: Callable[[Trial], dict],
        submit: workers.Submit,
        threads: Callable[[int], int],
    ):
        """task: most of what run_trial takes. submit: hands it to a worker. threads: for each of so many trials."""
        self.trials, self.results, self.task, self.submit, self.threads = (
            trials,
            results,
            task,
            submit,
            threads,
        )
        done = sum(trial.name in results.rows for trial in trials)
        self.histories: dict[
            str, dict | None
        ] = {}  # of trials by name; None where a trial has failed
        self.bar = tqdm(
            total=len(trials), initial=done, desc="search", unit=" trials", disable=None
        )
        self.show_best()

    def say(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def show_best(self) -> None:
        if not self.bar.disable and (best := self.results.best()):
            self.bar.set_postfix_str(f"best validation {float(best['val_accuracy']):.2%}")

    def finish(self, trial: Trial, result: dict) -> None:
        """Make a row of the trial, and say so."""
        row = self.results.add(trial.name, trial.repeat, asdict(trial.settings), result)
        if row["status"] != "failed":  # which may be tried again, from its state
            train.state_path(self.results.folder / f"{trial.name}.npz").unlink(missing_ok=True)
        self.bar.update()
        self.show_best()
        what = ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in self.results.searched)
        what += f", repeat {trial.repeat}" if any(each.repeat > 1 for each in self.trials) else ""
        if row["val_accuracy"]:
            found = f"validation {float(row['val_accuracy']):.2%} in epoch {row['best_epoch']} of {row['epochs']}"
            found += f", {float(row['seconds']):.0f} s" + (
                ", stopped" if row["status"] == "stopped" else ""
            )
        else:
            found = f"{row['status']}: {row['reason']}"
        done = sum(each.name in self.results.rows for each in self.trials)
        self.say(f"[{done}/{len(self.trials)}] {what}: {found}")

    def train(
        self, trials: list[Trial], stop_after: int | None = None
    ) -> Iterator[tuple[Trial, dict]]:
        """Train those of the trials that have no row, up to an epoch; yield each with its result as it ends."""
        pending = [trial for trial in trials if trial.name not in self.results.rows]
        how = {"stop_after": stop_after, "threads": self.threads(len(pending) or 1)}
        return workers.finished(self.submit, {trial: self.task(trial) | how for trial in pending})

    def run(self) -> None:
        """Train every trial without a row."""
        for trial, result in self.train(self.trials):
            self.finish(trial, result)

    def halve(self, eta: int) -> None:
        """Successive halving (Jamieson & Talwalkar 2016): train all settings for a few epochs, keep the best 1/eta of
        them, train those eta times as long, and so on. Survivors go on from their state.

        After a kill it runs again from the first rung on: what was trained has its epochs in a state or, with a row, in
        a checkpoint, so that each rung makes the same choice from the same numbers without training anew.
        """
        groups: dict[train.Settings, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(replace(trial.settings, seed=0), []).append(trial)
        left = list(groups.values())
        rungs = halving_rungs(len(left), self.trials[0].settings.epochs, eta)
        if rungs[-1][1] > 1 and not self.results.rows:
            enough = eta ** (len(halving_rungs(len(left), sys.maxsize, eta)) - 1)
            self.say(
                f"{rungs[-1][1]} of the {len(left)} settings will be trained to the end: {rungs[-1][0]} epochs have "
                f"room for {len(rungs) - 1} choices; --epochs {enough} would leave one"
            )
        for rung, (epochs, _) in enumerate(rungs, 1):
            if any(trial.name not in self.results.rows for group in left for trial in group):
                self.say(
                    f"rung {rung} of {len(rungs)}: {len(left)} of {len(groups)} settings, up to epoch {epochs}"
                )
            for trial, result in self.train([trial for group in left for trial in group], epochs):
                self.histories[trial.name] = result.get("history")
                if result["status"] != "stopped":
                    self.finish(trial, result)
            if rung < len(rungs):
                keep = rungs[rung][1]
                left.sort(key=partial(self.score, epochs))
                for trial in (trial for group in left[keep:] for trial in group):
                    if trial.name not in self.results.rows:
                        self.finish(
                            trial,
                            {
                                "status": "stopped",
                                "reason": "",
                                "history": self.histories[trial.name],
                            },
                        )
                left = left[:keep]

    def score(self, epochs: int, group: list[Trial]) -> tuple:
        """The sort key of a setting as it was after that many epochs."""
        scores: list[tuple[float, float] | None] = []
        for trial in group:
            if trial.name not in self.histories:
                self.histories[trial.name] = self.results.history(trial.name)
            history = self.histories[trial.name]
            rows = (
                list(zip(history["val_accuracy"], history["val_loss"], strict=True))[:epochs]
                if history
                else []
            )
            scores.append(max(rows, key=lambda row: row[0], default=None))
        return tables.rank(scores), group[0].name


def halving_rungs(count: int, epochs: int, eta: int) -> list[tuple[int, int]]:
    """Successive halving's rungs of `count` settings: (the epoch up to which it trains, how many settings). The last
    trains all epochs, those before a 1/eta of its successor's; so many that one setting is left, if there are epochs
    enough for that."""
    counts = [count]
    while counts[-1] > 1 and epochs // eta ** len(counts) >= 1:
        counts.append(-(-counts[-1] // eta))
    return [(epochs // eta ** (len(counts) - 1 - rung), left) for rung, left in enumerate(counts)]


# ---- The command line -----------------------------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(prog="search.py", description=__doc__)
    parser.add_argument(
        "--recipe", choices=tuple(train.RECIPES), default="report", help="settings to start from"
    )
    grid = {name: f"; the report's grid: {shown(values)}" for name, values in REPORT_GRID.items()}
    add_setting_arguments(parser, list(OPTIONS.values()), train.RECIPES, several=grid)
    amount = cli.integer(1, 10**18)
    group = parser.add_argument_group(
        "search",
        "If no setting has several values or a range, --recipe report searches the report's grid.",
    )
    drawn = "try N settings drawn from the values and ranges, not all combinations"
    group.add_argument("--random", type=amount, metavar="N", help=drawn)
    group.add_argument(
        "--halving",
        action="store_true",
        help="successive halving (Jamieson & Talwalkar 2016): train all settings for a few epochs, go on with the "
        "better half for twice as many, and so on; one of N settings goes all the way, or more if --epochs is below N",
    )
    keep = "with --halving: keep one in N, for N times as many epochs (default: 2, as in the paper)"
    group.add_argument("--eta", type=cli.integer(2, 1000), metavar="N", help=keep)
    group.add_argument(
        "--repeats",
        type=amount,
        metavar="K",
        default=1,
        help="train each setting with K seeds, and rank by the mean; each seed also has its own validation images",
    )
    group.add_argument(
        "--seed",
        type=cli.integer(0, 2**63),
        metavar="N",
        default=0,
        help="where the seeds of the trials and the random draws come from; the results are the same whatever --jobs, "
        "--threads and --dask are",
    )
    every = "at the end, test every trial, not only the best one; not used for the choice"
    group.add_argument("--report-test", action="store_true", help=every)
    group = parser.add_argument_group("run")
    place = "the folder of results (default: checkpoints/search-DATASET beside the scripts)"
    group.add_argument("--output-dir", type=cli.output_folder, metavar="FOLDER", help=place)
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--resume",
        action="store_true",
        help="go on with the search in the folder: what is finished isn't repeated, what was going on goes on from its "
        "last epoch, what has failed is tried again (not with --halving), and if the values were changed, what is new "
        "is added",
    )
    exclusive.add_argument(
        "--overwrite", action="store_true", help="delete the search in the folder and start anew"
    )
    exclusive = group.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--jobs",
        type=cli.integer(1, 61 if os.name == "nt" else 1000),
        metavar="N",
        help=f"trials side by side, each in a process (default: as many as cores, here {default_threads()})",
    )
    exclusive.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="train on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786; its workers must see these "
        "scripts and the folder of results under the same paths",
    )
    group.add_argument(
        "--threads",
        type=cli.integer(1, cli.MAX_THREADS),
        metavar="N",
        help="threads of each trial (default: the cores divided by the trials side by side; 1 with --dask)",
    )
    cifar10.add_arguments(parser)
    settings.add_report_arguments(parser, "grid_search", "train.py trains, test.py tests")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; what is wrong with it ends the process with one line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.eta and not args.halving:
        parser.error(f"--eta {args.eta} does nothing without --halving: give both, or none")
    args.eta = args.eta or 2
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    searched, shared, trials = plan(args)
    data = cifar10.load_from(args)
    for share in dict.fromkeys(trial.settings.validation_share for trial in trials):
        cifar10.split(data.train_labels, share, np.random.default_rng(0))
    folder = cli.shorter(args.output_dir or cli.ROOT / "checkpoints" / f"search-{data.title}")
    names = sorted(trial.name for trial in trials)
    definition = {
        "searched": searched,
        "settings": shared,
        "seed": args.seed,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "halving": {"eta": args.eta, "trials": f"{fingerprint(names):064x}"}
        if args.halving
        else None,
    }
    try:
        with locks.locked(folder, "a search"):
            results = run_search(args, folder, definition, trials, data)
            conclude(results, data, args.report_test)
    except KeyboardInterrupt:
        again = cli.resumed("search.py", folder / "search.json", argv)
        done = f"what is done is in {folder / 'results.csv'}"
        raise KeyboardInterrupt(f"stopped; {done}; go on with: {again}") from None
    return 0


def threads_of_each(args: argparse.Namespace, trials: int) -> int:
    """The threads of each of so many trials."""
    cores = default_threads()
    return args.threads or (1 if args.dask else max(1, cores // min(args.jobs or cores, trials)))


def run_search(
    args: argparse.Namespace,
    folder: Path,
    definition: dict,
    trials: list[Trial],
    data: cifar10.Dataset,
) -> Results:
    """Train the trials that aren't in the folder yet, in workers."""
    jobs = args.jobs or default_threads()
    data_flags = [
        "--dataset",
        args.dataset,
        *(["--data-dir", args.data_dir] if args.data_dir else []),
    ]
    common = {"folder": str(folder.absolute()), "recipe": args.recipe, "name": data.name}
    common |= {"fingerprint": data.fingerprint, "class_names": list(data.class_names)}

    def task(trial: Trial) -> dict:
        command = trial.command(args.recipe, data_flags)
        return common | {
            "trial": trial.name,
            "settings": asdict(trial.settings),
            "command": command,
        }

    try:
        with (
            workers.dask_workers(run_trial, args.dask)
            if args.dask
            else workers.local_workers(run_trial, jobs) as to
        ):
            asked = {trial.name: trial.settings for trial in trials}
            results = open_results(folder, definition, OPTIONS, asked, args.resume, args.overwrite)
            for (
                trial
            ) in results.rows:  # a search may have been killed just as it had written the row
                train.state_path(folder / f"{trial}.npz").unlink(missing_ok=True)
            done = sum(trial.name in results.rows for trial in trials)
            if done:
                print(
                    f"{done} of {len(trials)} trials are in {folder / 'results.csv'} already",
                    flush=True,
                )
            if done < len(trials):
                share_images(folder, data.train_images, data.train_labels)
                runner = TrialRunner(trials, results, task, to, partial(threads_of_each, args))
                with runner.bar:
                    runner.halve(args.eta) if args.halving else runner.run()
    finally:
        if folder.is_dir():
            clear(folder)
    return results


def conclude(results: Results, data: cifar10.Dataset, report_test: bool) -> None:
    """Choose the best trial, test it, or all of them, and leave and print the tables. SearchError if none is left."""
    folder, best = results.folder, results.best()

    def test(row):
        path = folder / row["checkpoint"]
        network, _ = model.load(path, default_threads())
        if network.classes != len(data.class_names):
            raise SearchError(
                f"{path}: has {network.classes} classes, the images {len(data.class_names)}; restore it"
            )
        return network.evaluate(data.test_images, data.test_labels)[1]

    if report_test:
        for row in tqdm(
            results.rows.values(), desc="test", unit=" trials", leave=False, disable=None
        ):
            if row["checkpoint"] and not row["test_accuracy"]:
                row["test_accuracy"] = repr(test(row))
        results.write()
    groups = results.ranked()
    table, notes = tables.table(groups, results.searched), tables.notes(groups)
    print(tables.as_text(table), *notes, sep="\n")
    if best is None:
        raise SearchError(
            f"no trial has left a network; the column 'reason' of {folder / 'results.csv'} says why"
        )
    outcome = (
        f"best trial {best['trial']}: validation accuracy {float(best['val_accuracy']):.2%}, "
        f"test accuracy {test(best):.2%} on {len(data.test_labels):,} images"
    )
    print(outcome)
    with files.write_whole(folder / "results.md") as file:
        file.write("\n\n".join([tables.as_markdown(table), *notes, outcome]).encode() + b"\n")
    with (
        files.open_regular(folder / best["checkpoint"]) as source,
        files.write_whole(folder / "best.npz") as file,
    ):
        shutil.copyfileobj(source, file)
    draw = "draw them with: " + shlex.join(
        [*cli.script("visualize.py"), str(folder / "results.csv")]
    )
    print(f"results in {folder}: best.npz, results.csv, results.md; {draw}")


if __name__ == "__main__":
    sys.exit(cli.command(main))
