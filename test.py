"""Test checkpoints on the test split, or classify pictures of your own.

  python test.py                              a network in checkpoints/
  python test.py NET.npz --tta                with mirror images as well
  python test.py A.npz B.npz --ensemble       compared, and averaged
  python test.py NET.npz --validation         on images to choose by
  python test.py NET.npz --images cat.png     what it sees in your own pictures
  python test.py NET.npz --images cat.png --explain why/

The test split is never used to choose anything. A checkpoint knows its
architecture and its images: neither needs a flag.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import model
from data import cifar10, of_checkpoint
from data.decoding import read_picture
from data.download import Unreachable
from data.picture_files import PictureList, find_pictures
from model import Network
from support import cli, files
from support.checkpoints import named, trained_on, unfinished
from support.cli import UserError, clean, shorter
from support.image_shape import PIXELS, SIDE
from support.network.metrics import (
    Measures,
    confusions,
    formatted,
    log_probabilities,
    mean_probability,
    measure,
    mirror_images,
)
from support.testing import convert
from support.testing.own_pictures import PictureJob, classify_pictures
from support.testing.predictions import json_text, write_predictions

import numpy as np

ALONE, BOTH = "image alone", "with mirror image"  # the ways of testing an image
EXTREMES = 10  # classes printed at each end of the table if there are more than twice as many
CONFUSIONS = 8  # kinds of mistakes printed


def main(argv: Sequence[str] | None = None) -> int:
    task = parse(argv)
    checkpoints = load_checkpoints(task)
    note_mirror(task, checkpoints)
    if task.pictures:
        return classify(task, checkpoints)
    conversions = prepare_conversions(task, checkpoints)
    test(task, checkpoints, conversions)
    return 0


# ---- The command line ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """The checked command line."""

    checkpoints: tuple[Path, ...]
    threads: int
    # What is computed
    tta: bool  # also with mirror images
    ensemble: bool  # also the mean of the networks' probabilities
    stride: int | None  # None: the checkpoint's own
    validation: bool  # on the validation images instead of the test split
    # Own pictures instead of a data set
    pictures: PictureList | None
    explain: Path | None  # the folder of the figures
    against: str | None  # the class to compare the predicted one with; None: the runner-up
    background: PictureList | None  # pictures whose mean votes are subtracted
    # Files to write
    json: Path | None
    predictions: Path | None
    submission: Path | None
    export: Path | None
    fold_mirror: Path | None
    # Which data set
    source: cifar10.Source

    @property
    def ways(self) -> list[str]:
        """The ways in which each image is tested, the one that counts last."""
        return [ALONE, BOTH] if self.tta else [ALONE]

    @property
    def outputs(self) -> dict[str, Path]:
        """The files to write, by their flags."""
        paths = {
            "--json": self.json,
            "--predictions": self.predictions,
            "--submission": self.submission,
            "--export": self.export,
            "--fold-mirror": self.fold_mirror,
        }
        return {flag: path for flag, path in paths.items() if path is not None}


# Flags of the report's own commands. The checkpoint says what they say, so they have no effect.
REPORT_VALUES = (
    "--hidden-size",
    "--dropout-rate",
    "--batch-size",
    "--epochs",
    "--learning-rate",
    "--lr-decay",
    "--lambda-reg",
    "--momentum",
    "--early-stopping",
)
REPORT_SWITCHES = ("--use-batchnorm", "--use-dropout")


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="test.py", description=__doc__, usage="test.py [CHECKPOINT ...] [options]"
    )
    add_test_arguments(parser)
    add_picture_arguments(parser)
    add_file_arguments(parser)
    cifar10.add_arguments(parser)
    add_report_arguments(parser)
    return parser


def add_test_arguments(parser: cli.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "checkpoints",
        nargs="*",
        type=cli.user_path,
        metavar="CHECKPOINT",
        help=".npz files of train.py or with the report's arrays (default: one in checkpoints/)",
    )
    add("--tta", action="store_true", help="also average logits over image and mirror image")
    add(
        "--ensemble",
        action="store_true",
        help="also average the probabilities of several checkpoints",
    )
    add(
        "--stride",
        type=cli.integer(1, SIDE - 1),
        metavar="N",
        help="apply the filters every N pixels; choose N by --validation (default: the file's)",
    )
    add(
        "--validation",
        action="store_true",
        help="use the checkpoint's validation images instead of the test split",
    )
    cli.add_threads(parser)


def add_picture_arguments(parser: cli.ArgumentParser) -> None:
    add = parser.add_argument_group("your own pictures").add_argument
    add(
        "--images",
        nargs="+",
        metavar="PICTURE",
        help="classify these files, folders or patterns such as 'pics/*.png' instead of testing; "
        "name the checkpoint before this flag",
    )
    add(
        "--explain",
        type=cli.output_folder,
        metavar="FOLDER",
        help="draw there what in each picture votes for its class and for the runner-up",
    )
    add("--against", metavar="CLASS", help="explain by this class instead of the runner-up")
    add(
        "--background",
        nargs="+",
        metavar="PICTURE",
        help="explain by votes less their mean over these pictures (Shapley values)",
    )


def add_file_arguments(parser: cli.ArgumentParser) -> None:
    add = parser.add_argument_group("files to write").add_argument
    add("--json", type=cli.output_path, metavar="FILE", help="all figures, for a program to read")
    add(
        "--predictions",
        type=cli.output_path,
        metavar="FILE.csv",
        help="a row per image: label, prediction and the probability of each class",
    )
    add(
        "--submission",
        type=cli.output_path,
        metavar="FILE.csv",
        help="with --images: columns id and label, as Kaggle takes them",
    )
    add(
        "--export",
        type=cli.output_path,
        metavar="FILE",
        help="FILE.onnx: an ONNX graph; FILE.npz: one dense layer in the report's arrays",
    )
    add(
        "--fold-mirror",
        type=cli.output_path,
        metavar="FILE.npz",
        help="a checkpoint of twice the units (four times if two-sided) that gives by itself what "
        "--tta gives",
    )


def add_report_arguments(parser: cli.ArgumentParser) -> None:
    """Add the flags of the report's own commands, which --help doesn't show."""
    hidden = {"help": argparse.SUPPRESS}
    parser.add_argument("--model-path", type=cli.user_path, **hidden)  # names a checkpoint
    parser.add_argument("--mode", choices=["test"], **hidden)
    parser.add_argument("--save-results", action="store_true", **hidden)
    parser.add_argument("--output-dir", **hidden)
    for flag in REPORT_VALUES:
        parser.add_argument(flag, **hidden)
    for flag in REPORT_SWITCHES:
        parser.add_argument(flag, action="store_true", **hidden)


def parse(argv: Sequence[str] | None) -> Task:
    """Return the checked task of a command line. Exits with one line if it is refused."""
    parser = make_parser()
    args = parser.parse_args(argv)
    task = Task(
        checkpoints=tuple(named(args.checkpoints, args.model_path)),
        threads=args.threads,
        tta=args.tta,
        ensemble=args.ensemble,
        stride=args.stride,
        validation=args.validation,
        pictures=find_pictures(args.images) if args.images else None,
        explain=args.explain,
        against=args.against,
        background=find_pictures(args.background) if args.background else None,
        json=args.json,
        predictions=args.predictions,
        submission=args.submission,
        export=args.export,
        fold_mirror=args.fold_mirror,
        source=cifar10.Source.of(args),
    )
    fault = combination_fault(task) or output_fault(task)
    if fault:
        parser.error(fault)
    note_report_flags(args)
    if task.pictures:
        note_data_flags(task)
    return task


def combination_fault(task: Task) -> str | None:
    """Return what is wrong with flags that don't go together, None if nothing is."""
    fault = checkpoints_fault(task)
    if fault:
        return fault
    return without_pictures_fault(task) if task.pictures is None else pictures_fault(task)


def checkpoints_fault(task: Task) -> str | None:
    """Return what is wrong with the number of checkpoints."""
    several = len(task.checkpoints) > 1
    if task.ensemble and not several:
        return "--ensemble needs at least two checkpoints; name another one"
    if not several:
        return None

    one_only = {
        "--export": task.export,
        "--fold-mirror": task.fold_mirror,
        "--explain": task.explain,
    }
    flag = first_given(one_only)
    if flag:
        return f"{flag} is for one checkpoint; name only one"
    flag = first_given({"--predictions": task.predictions, "--images": task.pictures})
    if flag and not task.ensemble:
        return f"{flag} is for one checkpoint, or for several with --ensemble"
    return None


def first_given(flags: dict[str, object]) -> str | None:
    """Return the first of the flags that has a value, None if none has."""
    for flag, value in flags.items():
        if value:
            return flag
    return None


def without_pictures_fault(task: Task) -> str | None:
    """Return which flag needs --images."""
    pictures_only = {
        "--explain": task.explain,
        "--against": task.against,
        "--background": task.background,
        "--submission": task.submission,
    }
    flag = first_given(pictures_only)
    return f"{flag} needs --images, the pictures" if flag else None


def pictures_fault(task: Task) -> str | None:
    """Return what is wrong with --images and the flags given with it."""
    for flag, pictures in (("--images", task.pictures), ("--background", task.background)):
        if pictures and not pictures.paths:
            return f"{flag} {no_picture(pictures)}"
    flag = first_given({"--against": task.against, "--background": task.background})
    if flag and not task.explain:
        return f"{flag} needs --explain, the folder of the figures"
    test_only = {
        "--validation": task.validation,
        "--export": task.export,
        "--fold-mirror": task.fold_mirror,
    }
    flag = first_given(test_only)
    if flag:
        return f"{flag} has no use with --images, which runs no test: leave it out"
    return submission_fault(task.pictures) if task.submission else None


def submission_fault(pictures: PictureList) -> str | None:
    """Return which pictures would have the same id in --submission."""
    by_id: dict[str, Path] = {}
    for path in pictures.paths:
        other = by_id.setdefault(path.stem, path)
        if other is not path:
            return (
                f"--submission needs pictures of different names, and {clean(other, 60)} and "
                f"{clean(path, 60)} are both {clean(path.stem, 60)}; classify one folder at a time"
            )
    return None


def no_picture(pictures: PictureList) -> str:
    """Return why there is no picture to classify."""
    if pictures.faults:
        return pictures.faults[0]
    return f"found no picture file; {pictures.passed_over:,} other files were passed over"


def output_fault(task: Task) -> str | None:
    """Return what is wrong with the names of files to write, None if nothing is."""
    suffixes = {"--export": (".npz", ".onnx"), "--fold-mirror": (".npz",)}
    # A link counts as the file that it leads to.
    used = {os.path.realpath(path) for path in task.checkpoints}
    if task.pictures and task.outputs:
        used.update(os.path.realpath(path) for path in task.pictures.paths)
    for flag, path in task.outputs.items():
        if os.path.exists(path) and not path.is_file():
            continue  # a device or a pipe, which takes anything
        if flag in suffixes and path.suffix not in suffixes[flag]:
            return f"{flag} {path}: the name must end in {' or '.join(suffixes[flag])}"
        if os.path.realpath(path) in used:
            return f"{flag} {path}: would replace another file of this command; rename it"
        used.add(os.path.realpath(path))
    return None


def note_report_flags(args: argparse.Namespace) -> None:
    """Note the flags of the report's commands that have no effect here."""
    for flag, value in (("--save-results", args.save_results), ("--output-dir", args.output_dir)):
        if value:
            cli.note(f"{flag} has no effect here; --json FILE writes all figures")
    given = []
    for flag in REPORT_VALUES + REPORT_SWITCHES:
        if getattr(args, flag.removeprefix("--").replace("-", "_")):
            given.append(flag)
    if given:
        cli.note(f"no effect here, as the checkpoint says what the network is: {', '.join(given)}")


def note_data_flags(task: Task) -> None:
    """Note the flags of the data set, which --images doesn't read."""
    for flag in task.source.given:
        cli.note(f"{flag} has no effect with --images, which reads no test split")


# ---- Checkpoints ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path
    network: Network
    info: dict  # what the file says of its run; any of it may be missing or wrong

    @property
    def shown(self) -> str:
        """The path in messages."""
        return clean(shorter(self.path), 120)


def load_checkpoints(task: Task) -> list[Checkpoint]:
    """Load the networks, at the stride asked for, and note the unfinished ones."""
    loaded = []
    for path in task.checkpoints:
        network, info = model.load(path, threads=task.threads)
        loaded.append(Checkpoint(path, at_stride(network, task.stride), info))
    for each in loaded:
        progress = unfinished(each.path, each.info)
        if progress:
            cli.note(
                f"{each.shown}: its run isn't finished; these are its best weights until {progress}"
            )
    return loaded


def at_stride(network: Network, stride: int | None) -> Network:
    """Return the network with its filters applied every `stride` pixels, and the same weights.

    Each region is then the mean over more, or fewer, positions. Raises UserError if the filters
    don't fit.
    """
    if stride is None:
        return network
    if network.window.whole:
        raise UserError(
            f"--stride {stride}: filters of the whole image have one position; leave it out"
        )
    try:
        return network.copy(window=replace(network.window, stride=stride))
    except ValueError as error:
        raise UserError(f"--stride {stride}: {error}; give another one") from None


def note_mirror(task: Task, checkpoints: list[Checkpoint]) -> None:
    """Note --tta and --fold-mirror if they change nothing."""
    asked = []
    if task.tta:
        asked.append("--tta")
    if task.fold_mirror:
        asked.append("--fold-mirror")
    if asked and all(is_mirror_invariant(each.network) for each in checkpoints):
        cli.note(
            f"{' and '.join(asked)} changes nothing: an image and its mirror image have the same "
            "logits already"
        )


def prepare_conversions(task: Task, checkpoints: list[Checkpoint]) -> list[convert.Conversion]:
    """Return the conversions to write. Raises UserError if one is impossible.

    They are prepared before the test, which may take minutes, and written after it.
    """
    conversions = []
    first = checkpoints[0]  # and the only one, if anything is converted
    if task.export and task.export.suffix == ".onnx":
        conversions.append(convert.to_onnx(task.export, first.network, model.BN_EPS))
    elif task.export:
        conversions.append(convert.to_plain(task.export, first.network))
    if task.fold_mirror:
        conversions.append(convert.to_folded(task.fold_mirror, first.network, first.info))
    return conversions


def is_mirror_invariant(network: Network) -> bool:
    """Return whether an image and its mirror image have the same logits; tried on noise."""
    images = np.random.default_rng(0).integers(0, 256, (4, PIXELS), np.uint8)
    z2 = network.logits(images)
    with np.errstate(invalid="ignore"):  # logits that overflowed
        difference = np.abs(z2 - network.logits(mirror_images(images))).max()
        # Rounding differs, as a mirrored patch is summed in another order.
        return bool(difference <= 1e-4 * max(1e-30, np.abs(z2).max()))


# ---- Testing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """The images of a test, and what they are."""

    data: cifar10.Dataset
    name: str  # "test" or "validation"
    indices: Sequence[int]  # (N,) rows of the split that the images are from
    images: np.ndarray  # (N, 3072) uint8
    labels: np.ndarray  # (N,)

    @property
    def class_names(self) -> list[str]:
        """The names as they are printed and written to CSV files."""
        names = list(self.data.class_names)
        return of_checkpoint.class_names({"class_names": names}, len(names))


@dataclass(frozen=True)
class Result:
    """The figures of one checkpoint, or of the ensemble."""

    name: str
    network: str | None  # what it is, as tested; None for the ensemble
    columns: dict[str, Measures]  # by the way of testing
    log_ys: dict[str, np.ndarray]  # log-probabilities (N, C), by the way of testing
    speed: float | None  # images per second, each image alone; None for the ensemble


def test(task: Task, checkpoints: list[Checkpoint], conversions: list[convert.Conversion]) -> None:
    """Test the networks, print the figures, and write the files asked for."""
    try:
        split = load_split(task, checkpoints)
    except MissingData:
        # Conversions need no images.
        first = checkpoints[0]
        names = of_checkpoint.class_names(trained_on(first.info), first.network.classes)
        for conversion in conversions:
            conversion.write(names)
            print(conversion.description)
        raise
    print_header(task, checkpoints, split)
    results = [evaluate(each, split, task.ways) for each in checkpoints]
    if task.ensemble:
        results.append(evaluate_ensemble(results, split, task.ways))

    if len(checkpoints) > 1:
        print(comparison_table(results))
    else:
        print_report(task, results[0], split.class_names)

    written = []
    if task.json:
        write_json(task.json, split, results, task.stride)
        written.append(f"figures in {task.json}")
    if task.predictions:
        # Of the ensemble, which is last, or else of the only checkpoint.
        log_y = results[-1].log_ys[task.ways[-1]]
        write_predictions(task.predictions, log_y, split.indices, split.labels, split.class_names)
        written.append(f"predictions in {task.predictions}")
    for conversion in conversions:
        conversion.write(split.data.class_names)
        written.append(conversion.description)
    if written:
        print("\n" + "; ".join(written))


def load_split(task: Task, checkpoints: list[Checkpoint]) -> Split:
    """Return the images to test on. Raises UserError if the networks don't fit them."""
    data = load_data(task.source, trained_on(checkpoints[0].info))
    if task.validation:
        rows = validation_rows(checkpoints, data)
        split = Split(data, "validation", rows, data.train_images[rows], data.train_labels[rows])
    else:
        rows = range(len(data.test_labels))
        split = Split(data, "test", rows, data.test_images, data.test_labels)

    for each in checkpoints:
        if each.network.classes != len(data.class_names):
            raise UserError(
                f"{each.shown}: has {each.network.classes:,} classes, and these images "
                f"({data.name}) have {len(data.class_names):,}; give the --dataset that it was "
                "trained on, or its --data-dir"
            )
        of_checkpoint.warn_of_other_data(each.path, trained_on(each.info), data)
    return split


class MissingData(UserError):
    """Images that are neither on this machine nor at any address."""


def load_data(source: cifar10.Source, trained: dict) -> cifar10.Dataset:
    """Return the data set. Raises MissingData, with what works without it, if it is missing."""
    name = trained.get("name")
    is_known = isinstance(name, str) and name in (*cifar10.LAYOUTS, "pictures")
    if source.dataset == "auto" and source.data_dir is None and not is_known:
        # For want of CIFAR-10 `auto` means drawn images, which this network has not seen.
        source = replace(source, dataset="cifar10")
    try:
        return of_checkpoint.load_for(source, trained)
    except Unreachable:
        if source.url:
            raise
        if source.dataset != "auto":
            name = source.dataset
        flag = "" if name == "cifar10" else f" --dataset {name}"
        raise MissingData(
            f"{name} is missing and could not be fetched; once online run: "
            f"python data/cifar10.py{flag}; without it try: python test.py --images YOUR.png, or "
            "python train.py --dataset synthetic and python test.py with the file that it writes"
        ) from None


def validation_rows(checkpoints: list[Checkpoint], data: cifar10.Dataset) -> np.ndarray:
    """Return the training images that the checkpoints' runs kept for validation, (N,) int64 rows.

    Raises UserError if a checkpoint doesn't say, or if its run had other images or other rows.
    """
    first = checkpoints[0]
    rows = trained_on(first.info).get("validation_rows")
    for each in checkpoints:
        described = trained_on(each.info)
        if "validation_rows" not in described:
            raise UserError(
                f"{each.shown}: doesn't say which images its run kept for validation; "
                "leave --validation out"
            )
        if described.get("fingerprint") != data.fingerprint:
            raise UserError(
                f"{each.shown}: its validation images are not among these ({data.name}); "
                "give its --data-dir"
            )
        if described["validation_rows"] != rows:
            raise UserError(
                f"{each.shown}: had other validation images than {first.shown}; "
                "name runs of one --seed and share"
            )
    if not are_rows(rows, len(data.train_labels)):
        raise UserError(
            f"{first.shown}: its list of validation images is damaged; leave --validation out"
        )
    return np.array(rows)


def are_rows(rows: object, count: int) -> bool:
    """Return whether this is a list of different integers of 0..count - 1, and not empty."""
    if not isinstance(rows, list) or not rows:
        return False
    for row in rows:
        # isinstance would take True for an int.
        if type(row) is not int or not 0 <= row < count:
            return False
    return len(set(rows)) == len(rows)


def evaluate(checkpoint: Checkpoint, split: Split, ways: list[str]) -> Result:
    """Test one network in each way."""
    columns, log_ys, speed = {}, {}, None
    for way in ways:
        started = time.perf_counter()
        log_ys[way] = log_probabilities(checkpoint.network, split.images, tta=way == BOTH)
        seconds = time.perf_counter() - started
        # The speed of one pass; with mirror images there are two.
        if way == ALONE:
            speed = len(split.labels) / seconds
        columns[way] = measure(log_ys[way], split.labels)
    return Result(str(checkpoint.path), repr(checkpoint.network), columns, log_ys, speed)


def evaluate_ensemble(results: list[Result], split: Split, ways: list[str]) -> Result:
    """Test the mean of the networks' probabilities."""
    columns, log_ys = {}, {}
    for way in ways:
        log_ys[way] = mean_probability([result.log_ys[way] for result in results])
        columns[way] = measure(log_ys[way], split.labels)
    return Result("ensemble", None, columns, log_ys, None)


# ---- Printing a test -----------------------------------------------------------------------------


def print_header(task: Task, checkpoints: list[Checkpoint], split: Split) -> None:
    """Print which network is tested on which images."""
    if len(checkpoints) == 1:
        print(cli.labelled("checkpoint", str(shorter(checkpoints[0].path))))
        print(cli.labelled("network", str(checkpoints[0].network)))
    elif task.stride:
        print(f"networks    with filters every {task.stride} pixels, whatever the checkpoints say")
    images = f"{split.data.name}, {len(split.labels):,} {split.name} images"
    print(cli.labelled("data", f"{images} from {clean(shorter(split.data.folder), 150)}"))


def print_report(task: Task, result: Result, names: Sequence[str]) -> None:
    """Print the figures of one network."""
    m = result.columns[task.ways[-1]]
    aside = " (with mirror image)" if task.tta else ""
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    print(f"speed       {result.speed:,.0f} images/s on {threads}")
    print()
    print(figures_table(result.columns))
    print()
    print(f"per class{aside}")
    print(class_table(m, names))
    print()
    print(f"most frequent confusions{aside}")
    print(confusion_lines(m, names))


def figures_table(columns: dict[str, Measures]) -> str:
    """Return the figures of merit, a column for each way of testing."""
    texts = {way: formatted(m) for way, m in columns.items()}
    lines = []
    if len(columns) > 1:
        lines.append(" " * 25 + "".join(f"{way:>22}" for way in texts))
    for name in texts[ALONE]:
        title = f"  {name}" if "interval" in name else name
        cells = "".join(f"{column[name]:>22}" for column in texts.values())
        lines.append(f"{title:<25}{cells}")
    return "\n".join(lines)


def class_table(m: Measures, names: Sequence[str]) -> str:
    """Return precision, recall, F1 and number of images of each class.

    Of many classes, those with the highest and those with the lowest F1.
    """
    rows = list(zip(names, m.precision, m.recall, m.f1, m.support, strict=True))
    left_out = len(rows) - 2 * EXTREMES
    if left_out > 0:
        rows.sort(key=lambda row: -row[3])
        rows = rows[:EXTREMES] + rows[-EXTREMES:]

    width = max(len(name) for name in ("class", *(row[0] for row in rows)))
    lines = [f"{'class':<{width}}  precision   recall       F1  images"]
    for name, precision, recall, f1, images in rows:
        lines.append(f"{name:<{width}}  {precision:9.2%}  {recall:7.2%}  {f1:7.2%}  {images:6,}")
    if left_out > 0:
        gap = f"... {left_out:,} more, with an F1 between these; --json has them all"
        lines.insert(1 + EXTREMES, gap)
    return "\n".join(lines)


def confusion_lines(m: Measures, names: Sequence[str]) -> str:
    """Return the most frequent kinds of mistakes, a line each."""
    lines = []
    for i, j, count in confusions(m.confusion)[:CONFUSIONS]:
        share = f"{count / m.support[i]:.1%} of its images"
        lines.append(f"  {count:5,}  {names[i]} taken for {names[j]} ({share})")
    if not lines:
        return "      none: every image is classified correctly"
    return "\n".join(lines)


def comparison_table(results: list[Result]) -> str:
    """Return a row for each checkpoint and for the ensemble."""
    width = max(len(name) for name in ("checkpoint", *(result.name for result in results)))
    with_tta = BOTH in results[0].columns
    uneven = results[0].columns[ALONE].uneven
    head = f"{'checkpoint':<{width}}  accuracy   95 % interval    top-2    nats  calibr.  images/s"
    if with_tta:
        head += "     --tta"
    if uneven:
        head += "  balanced"
    lines = [head]
    for result in results:
        m = result.columns[ALONE]
        low, high = m.interval
        speed = "" if result.speed is None else f"{result.speed:,.0f}"
        line = (
            f"{result.name:<{width}}  {m.accuracy:8.2%}  {low:.2%} to {high:.2%}  "
            f"{m.top2:6.2%}  {m.loss:6.4f}  {m.calibration_error:7.2%}  {speed:>8}"
        )
        if with_tta:
            line += f"  {result.columns[BOTH].accuracy:8.2%}"
        if uneven:
            line += f"  {m.balanced_accuracy:8.2%}"
        lines.append(line.rstrip())
    lines.append("nats: cross-entropy; calibr.: calibration error; --tta: accuracy with it")
    if uneven:
        lines.append("balanced: balanced accuracy, the mean recall of the classes")
    return "\n".join(lines)


# ---- Writing a test ------------------------------------------------------------------------------


def write_json(path: Path, split: Split, results: list[Result], stride: int | None) -> None:
    """Write all figures, with the split and the --stride that they are of."""
    data = split.data
    report = {
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "class_names": data.class_names,
            "split": split.name,
            "images": len(split.labels),
        },
        "stride": stride,
        "results": [],
    }
    for result in results:
        entry = {
            "checkpoint": result.name,
            "network": result.network,
            "images_per_second": result.speed,
        }
        for way, m in result.columns.items():
            entry[way] = asdict(m)
        report["results"].append(entry)
    with files.write_whole(path) as file:
        file.write(json_text(report, indent=1).encode())


# ---- Own pictures, see support/testing/own_pictures.py ------------------------------------------


def classify(task: Task, checkpoints: list[Checkpoint]) -> int:
    """Classify pictures instead of testing. Return the exit code: 2 if something was left out."""
    networks, tta = [each.network for each in checkpoints], task.tta
    class_counts = sorted({network.classes for network in networks})
    if len(class_counts) > 1:
        raise UserError(
            f"--ensemble: these networks have {class_counts} classes; name those of one data set"
        )
    if task.explain and tta:
        if not is_mirror_invariant(networks[0]):  # the folded network's votes are of both images
            networks = [convert.fold_mirror(networks[0], "--explain", "--tta")]
        tta = False
    # Weights alone, as --export writes them, don't name their classes.
    naming = [each for each in checkpoints if trained_on(each.info).get("class_names") is not None]
    first, *others = naming or checkpoints
    names = of_checkpoint.class_names(trained_on(first.info), class_counts[0])
    for other in others:
        other_names = of_checkpoint.class_names(trained_on(other.info), class_counts[0])
        for i, (name, other_name) in enumerate(zip(names, other_names, strict=True)):
            if name != other_name:
                raise UserError(
                    f"--ensemble: class {i} is {name} in {first.shown}, and {other_name} in "
                    f"{other.shown}; name networks of one data set"
                )
    background = task.background or PictureList((), (), 0)
    job = PictureJob(
        paths=task.pictures.paths,
        faults=task.pictures.faults + background.faults,
        passed_over=task.pictures.passed_over,
        predictions=task.predictions,
        submission=task.submission,
        json=task.json,
        explain=task.explain,
        against=task.against,
        background=background.paths,
    )
    return classify_pictures(job, networks, names, tta, read_picture)


if __name__ == "__main__":
    sys.exit(cli.command(main))
