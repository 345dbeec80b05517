"""Say how good a checkpoint is: figures of merit on the test split, which is never used for model selection.

  python test.py checkpoints/cifar10-report.npz
  python test.py                                     checkpoints/cifar10-best.npz, or else the newest finished one
  python test.py NET.npz --tta --json NET.json       each image together with its mirror image; figures for a program
  python test.py NET.npz --stride 1                  units at every place of an image, whatever training had time for
  python test.py NET.npz --stride 1 --validation     on the validation images of its training: to choose by
  python test.py A.npz B.npz C.npz --ensemble        compared in one table, with the mean of their probabilities
  python test.py NET.npz --images cat.png truck.jpg  what it sees in pictures of your own, of any size
  python test.py NET.npz --images cat.png --explain why/      and, as a figure, why

The checkpoint knows its architecture and the images that it was trained on, so no flag is needed for either.
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
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent)
)  # python -P leaves out the folder of the script

import model
from data import cifar10
from data.pictures import PictureError, read_picture
from model import Network
from support import cli, files, npz
from support.checkpoints import default_checkpoint, trained_on, unfinished
from support.cli import UserError, clean, shorter
from support.network import unfold
from support.network.metrics import (
    Measures,
    confusions,
    log_probabilities,
    mean_probability,
    measure,
    mirrored,
    told,
)
from support.network.onnx_export import check_onnx, write_onnx

import numpy as np

CHECKPOINTS = cli.ROOT / "checkpoints"
ALONE, BOTH = "image alone", "with mirror image"  # the ways of testing
EXTREMES = 10  # classes at each end of the table, where there are more than twice as many


def note(text: str) -> None:
    """A line on stderr about something that needs no action."""
    print(clean(f"note: {text}"), file=sys.stderr)


# ---- What is printed ------------------------------------------------------------------------------------------------


def figures_table(columns: dict[str, Measures]) -> str:
    """The figures of merit, a column for each way of testing."""
    columns = {title: told(each) for title, each in columns.items()}
    lines = [" " * 25 + "".join(f"{title:>22}" for title in columns)] if len(columns) > 1 else []
    for name in next(iter(columns.values())):
        title = f"  {name}" if "interval" in name else name
        lines.append(f"{title:<25}" + "".join(f"{each[name]:>22}" for each in columns.values()))
    return "\n".join(lines)


def class_table(m: Measures, names: Sequence[str]) -> str:
    """Precision, recall, F1 and support of each class; of many classes, those with the highest and lowest F1."""
    rows = list(zip(names, m.precision, m.recall, m.f1, m.support, strict=True))
    gap = len(rows)
    if len(rows) > 2 * EXTREMES:
        rows = sorted(rows, key=lambda row: -row[3])
        gap = EXTREMES
        rows = rows[:EXTREMES] + rows[-EXTREMES:]
    width = max(len("class"), *(len(name) for name, *_ in rows))
    lines = [f"{'class':<{width}}  precision   recall       F1  images"]
    lines += [
        "{:<{width}}  {:9.2%}  {:7.2%}  {:7.2%}  {:6,}".format(*row, width=width) for row in rows
    ]
    if gap < len(rows):
        lines.insert(
            1 + gap,
            f"... {len(names) - 2 * EXTREMES:,} more, with an F1 between these; --json has them all",
        )
    return "\n".join(lines)


def comparison_table(rows: dict[str, tuple[dict[str, Measures], float | None]]) -> str:
    """A row for each checkpoint: its measures without (and with) mirror images, and its images per second."""
    width = max(map(len, [*rows, "checkpoint"]))
    with_tta = any(BOTH in columns for columns, _ in rows.values())
    head = f"{'checkpoint':<{width}}  accuracy     95 % interval    top-2  cross-entropy  calibration error  images/s"
    lines = [head + "  accuracy, mirror image too" * with_tta]
    for name, (columns, speed) in rows.items():
        m, *tta = columns.values()
        low, high = m.interval
        lines.append(
            f"{name:<{width}}  {m.accuracy:8.2%}  {low:.2%} to {high:.2%}  {m.top2:6.2%}  {m.loss:13.4f}  "
            f"{m.calibration_error:17.2%}  {f'{speed:,.0f}' if speed else '':>8}"
            + "".join(f"  {each.accuracy:26.2%}" for each in tta)
        )
    return "\n".join(lines)


def confusion_lines(m: Measures, names: Sequence[str], most: int = 8) -> str:
    """The most frequent kinds of mistakes, a line each."""
    return "\n".join(
        f"  {n:5,}  {names[i]} taken for {names[j]} ({n / m.support[i]:.1%} of its images)"
        for i, j, n in confusions(m.confusion)[:most]
    )


# ---- What is written ------------------------------------------------------------------------------------------------


def write_predictions(
    path: Path, log_y: np.ndarray, indices: Sequence[int], labels: np.ndarray, names: Sequence[str]
) -> None:
    """A CSV with a row for each image: its index in its split, label and prediction as names, and the probability of
    each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", *names])
    for i, row, label in zip(indices, log_y, labels, strict=True):
        writer.writerow([i, names[label], names[row.argmax()], *(f"{p:.6g}" for p in np.exp(row))])
    with files.write_whole(path) as file:
        file.write(text.getvalue().encode())


def write_json(
    path: Path,
    data: cifar10.Dataset,
    rows: dict[str, tuple[dict[str, Measures], float | None]],
    split: str,
    images: int,
    stride: int | None,
) -> None:
    """All figures, how many images of which split and the --stride that they are of. What isn't finite, which JSON
    can't say, is null."""
    described = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "class_names": data.class_names,
    }
    report = {
        "data": described | {"split": split, "images": images},
        "stride": stride,
        "results": [
            {"checkpoint": name, "images_per_second": speed}
            | {way: asdict(m) for way, m in columns.items()}
            for name, (columns, speed) in rows.items()
        ],
    }

    def finite(value):
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [finite(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with files.write_whole(path) as file:
        file.write(json.dumps(finite(report), indent=1, allow_nan=False).encode())


# ---- Pictures of one's own ------------------------------------------------------------------------------------------


def classify(args: argparse.Namespace, networks: list[Network], names: list[str]) -> int:
    """Print the three likeliest classes of each picture, and why. The exit code: 2 if a file was no picture."""
    shown = {path: clean(path, 120) for path in args.images}
    width, code = max(map(len, shown.values())), 0
    taken = {os.path.realpath(path) for path in args.images if os.path.lexists(path)}
    for path in args.images:
        try:
            image = read_picture(path)
        except PictureError as error:
            print(clean(f"test.py: error: {error}; left out"), file=sys.stderr)
            code = 2
            continue
        log_ys = [log_probabilities(network, image[None], args.tta) for network in networks]
        y = np.exp(mean_probability(log_ys))[0]
        likeliest = np.argsort(-y, kind="stable")[:3]
        print(f"{shown[path]:<{width}}  {', '.join(f'{names[c]} {y[c]:.1%}' for c in likeliest)}")
        if args.explain:
            explain(networks[0], image, names, likeliest, figure_path(path, args.explain, taken))
    return code


def figure_path(picture: Path, folder: Path, taken: set[str]) -> Path:
    """folder/NAME-evidence.png, numbered where that is in `taken`, to which it is added."""
    stem = clean(picture.stem).encode()[:200].decode(errors="ignore")
    for number in range(1, len(taken) + 2):
        path = folder / f"{stem}-evidence{f'-{number}' if number > 1 else ''}.png"
        if os.path.realpath(path) not in taken:
            break
    taken.add(os.path.realpath(path))
    return path


def explain(
    network: Network, image: np.ndarray, names: list[str], classes: Sequence[int], path: Path
) -> None:
    """Print each class's logit as a sum, and write the evidence as a figure."""
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


# ---- Testing --------------------------------------------------------------------------------------------------------


def validation_rows(
    paths: Sequence[Path], infos: Sequence[dict], data: cifar10.Dataset
) -> np.ndarray:
    """The rows of the training split that the runs of these checkpoints kept for validation: (N,) int64. UserError
    where one doesn't say, or had other images or rows than these."""
    first = clean(shorter(paths[0]), 120)
    rows = trained_on(infos[0]).get("validation_rows")
    for path, info in zip(paths, infos, strict=True):
        shown, said = clean(shorter(path), 120), trained_on(info)
        if "validation_rows" not in said:
            raise UserError(
                f"{shown}: doesn't say which images its run kept for validation; leave --validation out"
            )
        if said.get("fingerprint") != data.fingerprint:
            raise UserError(
                f"{shown}: its validation images are not among these ({data.name}); give its --data-dir"
            )
        if said["validation_rows"] != rows:
            raise UserError(
                f"{shown}: had other validation images than {first}; name runs of one --seed and share"
            )
    whole = isinstance(rows, list) and all(
        type(row) is int and 0 <= row < len(data.train_labels) for row in rows
    )
    if not (whole and 0 < len(rows) == len(set(rows))):
        raise UserError(
            f"{first}: its list of validation images is damaged; leave --validation out"
        )
    return np.array(rows)


def test(
    args: argparse.Namespace,
    networks: Sequence[Network],
    info: dict,
    data: cifar10.Dataset,
    kept: np.ndarray | None,
    folded: Network | None,
) -> None:
    """Test the networks of args.checkpoints on the test split, or on the `kept` rows of the training split, print the
    figures, and write the files asked for."""
    split, indices, images, labels = (
        "test",
        range(len(data.test_labels)),
        data.test_images,
        data.test_labels,
    )
    if kept is not None:
        split, indices, images, labels = (
            "validation",
            kept,
            data.train_images[kept],
            data.train_labels[kept],
        )
    names = [clean(name, 40) for name in data.class_names]
    if len(networks) == 1:
        print(f"checkpoint   {args.checkpoints[0]}\nnetwork      {networks[0]}")
    elif args.stride:
        print(f"networks     with units in steps of {args.stride}, whatever they were in training")
    print(
        f"data         {data.name}, {len(labels):,} {split} images from {clean(data.folder, 150)}"
    )
    ways = [ALONE, BOTH] if args.tta else [ALONE]
    rows: dict[str, tuple[dict[str, Measures], float | None]] = {}
    log_ys: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for path, network in zip(args.checkpoints, networks, strict=True):
        columns, speed = {}, None
        for way in ways:
            started = time.perf_counter()
            log_ys[way].append(log_probabilities(network, images, tta=way == BOTH))
            speed = speed or len(labels) / (
                time.perf_counter() - started
            )  # of the first way, the image alone
            columns[way] = measure(log_ys[way][-1], labels)
        rows[str(path)] = columns, speed
    final = log_ys[ways[-1]][-1]
    if args.ensemble:
        means = {way: mean_probability(log_ys[way]) for way in ways}
        rows["ensemble"] = {way: measure(means[way], labels) for way in ways}, None
        final = means[ways[-1]]

    if len(networks) > 1:
        print(comparison_table(rows))
    else:
        settled, aside = columns[ways[-1]], " (with mirror image)" * args.tta
        threads = f"{args.threads} thread{'s' * (args.threads > 1)}"
        print(f"speed        {speed:,.0f} images/s on {threads}\n\n{figures_table(columns)}\n")
        print(f"per class{aside}\n{class_table(settled, names)}\n\nmost frequent confusions{aside}")
        print(confusion_lines(settled, names) or "      none: every image is called right")
    written = []
    if args.json:
        write_json(args.json, data, rows, split, len(labels), args.stride)
        written.append(f"figures in {args.json}")
    if args.predictions:
        write_predictions(args.predictions, final, indices, labels, names)
        written.append(f"predictions in {args.predictions}")
    if args.export:
        if args.export.suffix == ".onnx":
            write_onnx(args.export, networks[0], data.class_names)
            written.append(f"the network as ONNX in {args.export}")
        else:
            npz.write_npz(args.export, networks[0].plain())
            written.append(f"the report's arrays in {args.export}")
    if args.fold_mirror:
        folded.save(args.fold_mirror, info)
        units = f"{folded.hidden_size:,} hidden units"
        written.append(
            f"checkpoint with the mirror image folded in, {units}, in {args.fold_mirror}"
        )
    if written:
        print("\n" + "; ".join(written))


# ---- The command line -----------------------------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(prog="test.py", description=__doc__)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        type=cli.user_path,
        metavar="CHECKPOINT",
        help="one or more .npz files, of train.py or with the report's arrays (default: cifar10-best.npz in "
        "checkpoints/, or else the newest whose run is finished)",
    )
    parser.add_argument(
        "--model-path", type=cli.user_path, metavar="FILE", help="another way to name a checkpoint"
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: also average logits over image and mirror image",
    )
    parser.add_argument(
        "--stride",
        type=cli.integer(1, 31),
        metavar="N",
        help="let units that see windows stand N pixels apart; fewer than in training are slower, and may be more "
        "accurate: see with --validation (default: as in training)",
    )
    parser.add_argument(
        "--validation",
        action="store_true",
        help="figures of the validation images that the checkpoint's run kept, not of the test split: to choose a "
        "--stride, or --tta, or a checkpoint, and then to test only that",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="of several checkpoints: also the mean of their probabilities",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="PICTURE",
        help="classify these picture files instead of testing; name the checkpoint before",
    )
    parser.add_argument(
        "--explain",
        type=cli.output_folder,
        metavar="FOLDER",
        help="with --images: draw there, for each picture, what in it speaks for which class and against it",
    )
    cli.add_threads(parser)
    parser.add_argument(
        "--mode",
        choices=["test"],
        help="no effect; accepted, as is --save-results, as the report's commands have it",
    )
    parser.add_argument("--save-results", action="store_true", help=argparse.SUPPRESS)
    out = parser.add_argument_group("files to write")
    out.add_argument(
        "--json", type=cli.output_path, metavar="FILE", help="all figures, for a program to read"
    )
    out.add_argument(
        "--predictions",
        type=cli.output_path,
        metavar="FILE.csv",
        help="a row for each image: index, label, prediction, probability of each class; with --tta and --ensemble, "
        "theirs",
    )
    out.add_argument(
        "--export",
        type=cli.output_path,
        metavar="FILE",
        help="for other code to read: .onnx, the network as an ONNX graph (needs the package onnx); .npz, the same "
        "network in the report's arrays alone, float32, which the report's own code reads with its --use_batchnorm",
    )
    out.add_argument(
        "--fold-mirror",
        type=cli.output_path,
        metavar="FILE.npz",
        help="a checkpoint of twice the hidden units that gives by itself what --tta gives",
    )
    cifar10.add_arguments(parser)
    return parser


def check(args: argparse.Namespace, parser: cli.ArgumentParser) -> None:
    """Refuse what can't be done and files that would replace each other; note what has no effect."""
    paths, several = (
        [os.path.realpath(path) for path in args.checkpoints],
        len(args.checkpoints) > 1,
    )
    if len(set(paths)) < len(paths):
        parser.error("a checkpoint is named twice; name each once")
    if args.ensemble and not several:
        parser.error("--ensemble needs at least two checkpoints; name another one")
    for flag in ("predictions", "images"):
        if several and not args.ensemble and getattr(args, flag):
            parser.error(f"--{flag} is for one checkpoint, or for several with --ensemble")
    for flag in ("export", "fold_mirror", "explain"):
        if several and getattr(args, flag):
            parser.error(f"--{flag.replace('_', '-')} is for one checkpoint; name only one")
    if args.explain and not args.images:
        parser.error("--explain needs --images, the pictures to explain")

    if args.validation and args.images:
        parser.error("--validation does nothing with --images: leave it out")

    used = set(paths)
    for flag in ("json", "predictions", "export", "fold_mirror"):
        path, name = getattr(args, flag), f"--{flag.replace('_', '-')}"
        if path is None:
            continue
        if args.images:
            parser.error(
                f"{name} does nothing with --images, where no test split is read: leave it out"
            )
        if os.path.exists(path) and not path.is_file():
            continue  # a device or a pipe, which takes anything
        suffixes = {"export": (".npz", ".onnx"), "fold_mirror": (".npz",)}.get(flag)
        if suffixes and path.suffix not in suffixes:
            parser.error(f"{name} {path}: the name must end in {' or '.join(suffixes)}")
        if os.path.realpath(path) in used:
            parser.error(f"{name} {path}: would replace another file of this command; rename it")
        used.add(os.path.realpath(path))
    data_flags = {
        "--data-dir": args.data_dir,
        "--data-url": args.data_url,
        "--data-md5": args.data_md5,
    }
    data_flags["--dataset"] = args.dataset != "auto"
    for flag, value in data_flags.items():
        if args.images and value:
            note(f"{flag} has no effect with --images, where no test split is read")
    if args.save_results:
        note("--save-results has no effect here; --json FILE writes all figures")


def at_stride(network: Network, stride: int | None) -> Network:
    """The network with its units so many pixels apart, and the same weights: means over more places, or fewer, of the
    same regions. UserError where that can't be."""
    if stride is None:
        return network
    if network.window.whole:
        raise UserError(
            f"--stride {stride}: units see the whole image, which is one place; leave it out"
        )
    try:
        return network.copy(window=replace(network.window, stride=stride))
    except ValueError as error:
        raise UserError(f"--stride {stride}: {error}; give another one") from None


def sees_mirrored_alike(network: Network) -> bool:
    """Whether logits are the same for an image and its mirror image, as after --fold-mirror: tried on noise."""
    images = np.random.default_rng(0).integers(0, 256, (4, model.PIXELS), np.uint8)
    z2 = network.logits(images)
    with np.errstate(invalid="ignore"):
        return bool(
            np.abs(z2 - network.logits(mirrored(images))).max()
            <= 1e-4 * max(1e-30, np.abs(z2).max())
        )


def prepare(args: argparse.Namespace, networks: list[Network]) -> Network | None:
    """Note or refuse what can't be known before the networks are loaded. Returns what --fold-mirror asks for."""
    asked = [
        flag for flag, given in (("--tta", args.tta), ("--fold-mirror", args.fold_mirror)) if given
    ]
    if asked and all(map(sees_mirrored_alike, networks)):
        note(
            f"{' and '.join(asked)} changes nothing: the logits are those of image and mirror image together already"
        )
    if args.export and args.export.suffix == ".onnx":
        check_onnx(args.export, networks[0])
    elif args.export:
        units, size = unfold.plain_shape(networks[0].weights, networks[0].window, networks[0].cap)
        if size > npz.MAX_BYTES:
            raise UserError(
                f"--export {args.export}: the report's arrays of this network, with {units:,} units, would take "
                f"{size / 2**30:,.1f} GB, and {npz.MAX_BYTES >> 30} GB is the limit; leave --export out"
            )
    if args.fold_mirror or (args.explain and args.tta):
        flag, out = (
            (f"--fold-mirror {args.fold_mirror}", "it")
            if args.fold_mirror
            else ("--explain", "--tta")
        )
        try:
            return networks[0].fold_mirror()
        except ValueError as error:
            raise UserError(f"{flag}: {error}; leave {out} out") from None
    return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    args.checkpoints += [args.model_path] if args.model_path else []
    if not args.checkpoints:
        args.checkpoints = [default_checkpoint(CHECKPOINTS)]
        print(f"no checkpoint named; this is {shorter(args.checkpoints[0])}")
    check(args, parser)
    networks, infos = zip(
        *(model.load(path, threads=args.threads) for path in args.checkpoints), strict=True
    )
    networks = [at_stride(network, args.stride) for network in networks]
    for path, info in zip(args.checkpoints, infos, strict=True):
        if progress := unfinished(path, info):
            note(
                f"{clean(shorter(path), 120)}: its run isn't finished; these are its best weights until {progress}"
            )
    folded = prepare(args, networks)
    if args.images:
        counts = {network.classes for network in networks}
        if len(counts) > 1:
            raise UserError(
                f"--ensemble: these networks tell {sorted(counts)} classes apart; name those of one data set"
            )
        names = cifar10.class_names(trained_on(infos[0]), networks[0].classes)
        if args.explain and folded:  # its votes are those of both images
            networks, args.tta = [folded], False
        return classify(args, networks, names)

    data = cifar10.load_for(args, trained_on(infos[0]))
    kept = validation_rows(args.checkpoints, infos, data) if args.validation else None
    for path, network, info in zip(args.checkpoints, networks, infos, strict=True):
        if network.classes != len(data.class_names):
            raise UserError(
                f"{clean(shorter(path), 120)}: tells {network.classes:,} classes apart, and these images "
                f"({data.name}) have {len(data.class_names):,}; give the right --dataset or --data-dir"
            )
        cifar10.warn_of_other_data(path, trained_on(info), data)
    test(args, networks, infos[0], data, kept, folded)
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
