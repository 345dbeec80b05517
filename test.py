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
import csv
import io
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# The folder of this script, which python -P leaves out.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import model
from data import cifar10
from data.pictures import PictureError, read_picture
from model import Network
from support import cli, files
from support.checkpoints import default_checkpoint, trained_on, unfinished
from support.cli import UserError, clean, shorter
from support.image_shape import PIXELS
from support.network import convert
from support.network.metrics import (
    Measures,
    confusions,
    formatted,
    log_probabilities,
    mean_probability,
    measure,
    mirrored,
)

import numpy as np

CHECKPOINTS = cli.ROOT / "checkpoints"
ALONE, BOTH = "image alone", "with mirror image"  # the ways of testing an image
EXTREMES = 10  # classes printed at each end of the table if there are more than twice as many
CONFUSIONS = 8  # kinds of mistakes printed
LIKELIEST = 3  # classes printed for a picture


def main(argv: Sequence[str] | None = None) -> int:
    task = parse(argv)
    checkpoints = load_checkpoints(task)
    conversions = prepare_conversions(task, checkpoints)
    if task.images:
        return classify(task, checkpoints)
    test(task, checkpoints, conversions)
    return 0


# ---- The command line ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What the command line asks for. It is filled once, by `parse`, which checks it."""

    checkpoints: tuple[Path, ...]
    threads: int
    # What is computed
    tta: bool  # also with mirror images
    ensemble: bool  # also the mean of the networks' probabilities
    stride: int | None  # None: as in training
    validation: bool  # on the validation images instead of the test split
    # Own pictures instead of a data set
    images: tuple[Path, ...]
    explain: Path | None  # the folder of the figures
    # Files to write
    json: Path | None
    predictions: Path | None
    export: Path | None
    fold_mirror: Path | None
    # Which data set, see data/cifar10.py
    dataset: str
    data_dir: str | None
    data_url: str | None
    data_md5: str | None

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
            "--export": self.export,
            "--fold-mirror": self.fold_mirror,
        }
        return {flag: path for flag, path in paths.items() if path is not None}


# The report's own commands also have these; a checkpoint answers them, so they have no effect.
REPORT_VALUES = ("--hidden-size", "--dropout-rate", "--batch-size", "--output-dir")
REPORT_SWITCHES = ("--use-batchnorm", "--use-dropout")


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="test.py", description=__doc__, usage="test.py [CHECKPOINT ...] [options]"
    )
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
        type=cli.integer(1, 31),
        metavar="N",
        help="apply the filters every N pixels; choose N by --validation (default: as in training)",
    )
    add(
        "--validation",
        action="store_true",
        help="use the checkpoint's validation images instead of the test split",
    )
    cli.add_threads(parser)

    add = parser.add_argument_group("your own pictures").add_argument
    add(
        "--images",
        nargs="+",
        type=Path,
        metavar="PICTURE",
        help="classify these instead of testing; name the checkpoint before this flag",
    )
    add(
        "--explain",
        type=cli.output_folder,
        metavar="FOLDER",
        help="draw there what in each picture votes for which class",
    )

    add = parser.add_argument_group("files to write").add_argument
    add("--json", type=cli.output_path, metavar="FILE", help="all figures, for a program to read")
    add(
        "--predictions",
        type=cli.output_path,
        metavar="FILE.csv",
        help="a row per image: label, prediction and the probability of each class",
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
        help="a checkpoint of twice the units that gives by itself what --tta gives",
    )
    cifar10.add_arguments(parser)

    hidden = {"help": argparse.SUPPRESS}
    parser.add_argument("--model-path", type=cli.user_path, **hidden)  # names a checkpoint
    parser.add_argument("--mode", choices=["test"], **hidden)
    parser.add_argument("--save-results", action="store_true", **hidden)
    for flag in REPORT_VALUES:
        parser.add_argument(flag, **hidden)
    for flag in REPORT_SWITCHES:
        parser.add_argument(flag, action="store_true", **hidden)
    return parser


def parse(argv: Sequence[str] | None) -> Task:
    """Return the checked task of a command line. Exits with one line if it is refused."""
    parser = make_parser()
    args = parser.parse_args(argv)
    checkpoints = list(args.checkpoints)
    if args.model_path:
        checkpoints.append(args.model_path)
    if not checkpoints:
        checkpoints.append(default_checkpoint(CHECKPOINTS))
        print(f"no checkpoint named; this is {shorter(checkpoints[0])}")

    task = Task(
        checkpoints=tuple(checkpoints),
        threads=args.threads,
        tta=args.tta,
        ensemble=args.ensemble,
        stride=args.stride,
        validation=args.validation,
        images=tuple(args.images or ()),
        explain=args.explain,
        json=args.json,
        predictions=args.predictions,
        export=args.export,
        fold_mirror=args.fold_mirror,
        dataset=args.dataset,
        data_dir=args.data_dir,
        data_url=args.data_url,
        data_md5=args.data_md5,
    )
    fault = combination_fault(task) or output_fault(task)
    if fault:
        parser.error(fault)
    note_report_flags(args)
    if task.images:
        note_data_flags(task)
    return task


def combination_fault(task: Task) -> str | None:
    """Return what is wrong with flags that don't go together, None if nothing is."""
    several = len(task.checkpoints) > 1
    if len({os.path.realpath(path) for path in task.checkpoints}) < len(task.checkpoints):
        return "a checkpoint is named twice; name each once"
    if task.ensemble and not several:
        return "--ensemble needs at least two checkpoints; name another one"
    if several and not task.ensemble:
        for flag, value in (("--predictions", task.predictions), ("--images", task.images)):
            if value:
                return f"{flag} is for one checkpoint, or for several with --ensemble"
    if several:
        one_only = {
            "--export": task.export,
            "--fold-mirror": task.fold_mirror,
            "--explain": task.explain,
        }
        for flag, value in one_only.items():
            if value:
                return f"{flag} is for one checkpoint; name only one"

    if task.explain and not task.images:
        return "--explain needs --images, the pictures to explain"
    if task.images and task.validation:
        return "--validation has no use with --images: leave it out"
    if task.images and task.outputs:
        flag = next(iter(task.outputs))
        return f"{flag} has no use with --images, which reads no test split: leave it out"
    return None


def output_fault(task: Task) -> str | None:
    """Return what is wrong with the names of files to write, None if nothing is."""
    suffixes = {"--export": (".npz", ".onnx"), "--fold-mirror": (".npz",)}
    used = {os.path.realpath(path) for path in task.checkpoints}
    for flag, path in task.outputs.items():
        if os.path.exists(path) and not path.is_file():
            continue  # a device or a pipe, which takes anything
        if flag in suffixes and path.suffix not in suffixes[flag]:
            return f"{flag} {path}: the name must end in {' or '.join(suffixes[flag])}"
        if os.path.realpath(path) in used:
            return f"{flag} {path}: would replace another file of this command; rename it"
        used.add(os.path.realpath(path))
    return None


def note(text: str) -> None:
    """Print a line on stderr that asks for no action."""
    print(clean(f"note: {text}"), file=sys.stderr)


def note_report_flags(args: argparse.Namespace) -> None:
    """Note the flags of the report's commands that have no effect here."""
    if args.save_results:
        note("--save-results has no effect here; --json FILE writes all figures")
    for flag in REPORT_VALUES + REPORT_SWITCHES:
        if getattr(args, flag[2:].replace("-", "_")):
            note(f"{flag} has no effect here; the checkpoint says what the network is")


def note_data_flags(task: Task) -> None:
    """Note the flags of the data set, which --images doesn't read."""
    given = {
        "--data-dir": task.data_dir,
        "--data-url": task.data_url,
        "--data-md5": task.data_md5,
        "--dataset": task.dataset != "auto",
    }
    for flag, value in given.items():
        if value:
            note(f"{flag} has no effect with --images, which reads no test split")


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
            note(
                f"{each.shown}: its run isn't finished; these are its best weights until {progress}"
            )
    return loaded


def at_stride(network: Network, stride: int | None) -> Network:
    """Return the network with its filters applied every `stride` pixels, and the same weights.

    Each region is then the mean over more, or fewer, positions. Raises UserError if the filters
    can't be applied so.
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


def prepare_conversions(task: Task, checkpoints: list[Checkpoint]) -> list[convert.Conversion]:
    """Return the conversions to write, and note --tta and --fold-mirror if they change nothing."""
    asked = []
    if task.tta:
        asked.append("--tta")
    if task.fold_mirror:
        asked.append("--fold-mirror")
    if asked and all(is_mirror_invariant(each.network) for each in checkpoints):
        note(
            f"{' and '.join(asked)} changes nothing: an image and its mirror image have the same "
            "logits already"
        )

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
        difference = np.abs(z2 - network.logits(mirrored(images))).max()
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
        return [clean(name, 40) for name in self.data.class_names]


@dataclass(frozen=True)
class Result:
    """The figures of one checkpoint, or of the ensemble."""

    name: str
    columns: dict[str, Measures]  # by the way of testing
    log_ys: dict[str, np.ndarray]  # log-probabilities (N, C), by the way of testing
    speed: float | None  # images per second, each image alone; None for the ensemble


def test(task: Task, checkpoints: list[Checkpoint], conversions: list[convert.Conversion]) -> None:
    """Test the networks, print the figures, and write the files asked for."""
    split = load_split(task, checkpoints)
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
        write_predictions(task.predictions, results[-1].log_ys[task.ways[-1]], split)
        written.append(f"predictions in {task.predictions}")
    for conversion in conversions:
        conversion.write(split.data.class_names)
        written.append(conversion.description)
    if written:
        print("\n" + "; ".join(written))


def load_split(task: Task, checkpoints: list[Checkpoint]) -> Split:
    """Return the images to test on. Raises UserError if the networks can't be tested on them."""
    data = cifar10.load_for(task, trained_on(checkpoints[0].info))
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
                f"({data.name}) have {len(data.class_names):,}; give the right --dataset or "
                "--data-dir"
            )
        cifar10.warn_of_other_data(each.path, trained_on(each.info), data)
    return split


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
        if way == ALONE:
            speed = len(split.labels) / seconds
        columns[way] = measure(log_ys[way], split.labels)
    return Result(str(checkpoint.path), columns, log_ys, speed)


def evaluate_ensemble(results: list[Result], split: Split, ways: list[str]) -> Result:
    """Test the mean of the networks' probabilities."""
    columns, log_ys = {}, {}
    for way in ways:
        log_ys[way] = mean_probability([result.log_ys[way] for result in results])
        columns[way] = measure(log_ys[way], split.labels)
    return Result("ensemble", columns, log_ys, None)


# ---- Printing a test -----------------------------------------------------------------------------


def print_header(task: Task, checkpoints: list[Checkpoint], split: Split) -> None:
    """Print which network is tested on which images."""
    if len(checkpoints) == 1:
        print(f"checkpoint   {checkpoints[0].path}")
        print(f"network      {checkpoints[0].network}")
    elif task.stride:
        print(f"networks     with filters every {task.stride} pixels, whatever it was in training")
    images = f"{len(split.labels):,} {split.name} images"
    print(f"data         {split.data.name}, {images} from {clean(split.data.folder, 150)}")


def print_report(task: Task, result: Result, names: Sequence[str]) -> None:
    """Print the figures of one network."""
    m = result.columns[task.ways[-1]]
    aside = " (with mirror image)" if task.tta else ""
    threads = "1 thread" if task.threads == 1 else f"{task.threads} threads"
    print(f"speed        {result.speed:,.0f} images/s on {threads}")
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
    head = (
        f"{'checkpoint':<{width}}  accuracy     95 % interval    top-2  cross-entropy  "
        "calibration error  images/s"
    )
    if with_tta:
        head += "  accuracy, mirror image too"
    lines = [head]
    for result in results:
        m = result.columns[ALONE]
        low, high = m.interval
        speed = "" if result.speed is None else f"{result.speed:,.0f}"
        line = (
            f"{result.name:<{width}}  {m.accuracy:8.2%}  {low:.2%} to {high:.2%}  "
            f"{m.top2:6.2%}  {m.loss:13.4f}  {m.calibration_error:17.2%}  {speed:>8}"
        )
        if with_tta:
            line += f"  {result.columns[BOTH].accuracy:26.2%}"
        lines.append(line)
    return "\n".join(lines)


# ---- Writing a test ------------------------------------------------------------------------------


def write_predictions(path: Path, log_y: np.ndarray, split: Split) -> None:
    """Write a CSV with a row per image: index, label, prediction, probability of each class."""
    names = split.class_names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", *names])
    for index, row, label in zip(split.indices, log_y, split.labels, strict=True):
        probabilities = [f"{p:.6g}" for p in np.exp(row)]
        writer.writerow([index, names[label], names[row.argmax()], *probabilities])
    with files.write_whole(path) as file:
        file.write(text.getvalue().encode())


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
        entry = {"checkpoint": result.name, "images_per_second": result.speed}
        for way, m in result.columns.items():
            entry[way] = asdict(m)
        report["results"].append(entry)
    with files.write_whole(path) as file:
        file.write(json.dumps(finite(report), indent=1, allow_nan=False).encode())


def finite(value):
    """Return the value with None for every number that JSON lacks: NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ---- Own pictures --------------------------------------------------------------------------------


def classify(task: Task, checkpoints: list[Checkpoint]) -> int:
    """Print the likeliest classes of each picture. Return the exit code: 2 if one was left out."""
    networks = [each.network for each in checkpoints]
    classes = sorted({network.classes for network in networks})
    if len(classes) > 1:
        raise UserError(
            f"--ensemble: these networks have {classes} classes; name those of one data set"
        )
    tta = task.tta
    if task.explain and tta:  # the votes of the folded network are those of both images
        networks = [convert.fold_mirror(networks[0], "--explain", "--tta")]
        tta = False
    names = cifar10.class_names(trained_on(checkpoints[0].info), classes[0])

    shown = {path: clean(path, 120) for path in task.images}
    width = max(len(text) for text in shown.values())
    taken = {os.path.realpath(path) for path in task.images if os.path.lexists(path)}
    code = 0
    for path in task.images:
        try:
            image = read_picture(path)
        except PictureError as error:
            print(clean(f"test.py: error: {error}; left out"), file=sys.stderr)
            code = 2
            continue
        log_ys = [log_probabilities(network, image[None], tta) for network in networks]
        y = np.exp(mean_probability(log_ys))[0]
        likeliest = np.argsort(-y, kind="stable")[:LIKELIEST]
        print(f"{shown[path]:<{width}}  {', '.join(f'{names[c]} {y[c]:.1%}' for c in likeliest)}")
        if task.explain:
            figure = figure_path(path, task.explain, taken)
            explain(networks[0], image, names, likeliest, figure)
    return code


def figure_path(picture: Path, folder: Path, taken: set[str]) -> Path:
    """Return folder/NAME-evidence.png, with a number if that is in `taken`, and add it there."""
    stem = clean(picture.stem).encode()[:200].decode(errors="ignore")
    path = folder / f"{stem}-evidence.png"
    number = 1
    while os.path.realpath(path) in taken:
        number += 1
        path = folder / f"{stem}-evidence-{number}.png"
    taken.add(os.path.realpath(path))
    return path


def explain(
    network: Network, image: np.ndarray, names: list[str], classes: Sequence[int], path: Path
) -> None:
    """Print each class's logit as a sum of votes, and draw the votes into the file `path`."""
    from support.figures.votes import draw_evidence
    from support.network.votes import equation, votes

    (maps,), (rest,) = votes(network, image[None])
    width = max(len(names[c]) for c in classes)
    figure = draw_evidence(network, image, names)
    with files.write_whole(path) as file:
        figure.savefig(file, format="png")
    for c in classes:
        print(f"  {names[c]:<{width}}  {equation(maps[c], rest[c])}")
    print(f"  drawn in {shorter(path)}")


if __name__ == "__main__":
    sys.exit(cli.command(main))
