"""Say how good a checkpoint is: figures of merit on the test split, which no other script chooses anything by.

  python test.py checkpoints/cifar10-report-seed0.npz
  python test.py                                     the newest checkpoint
  python test.py NET.npz --tta --json NET.json       each image together with its mirror image; figures for a program
  python test.py A.npz B.npz C.npz --ensemble        compared in one table, with the mean of their probabilities
  python test.py NET.npz --images cat.png truck.jpg  what it sees in pictures of your own, of any size

The checkpoint knows its architecture and the images that it was trained on, so no flag is needed for either.
"""

import argparse
import csv
import io
import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import model
from data import cifar10
from model import CLASS_COUNT, Network

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
BINS = 15  # of the calibration error, as in Guo et al. 2017


# ---- Figures of merit: from log-probabilities (N, 10) and labels (N,) -----------------------------------------------


@dataclass(frozen=True)
class Measures:
    """How good predictions are. Shares are in 0..1; the lists have an entry a class, and confusion[i][j] counts the
    images of class i that were taken for class j."""

    loss: float  # mean cross-entropy, nats
    accuracy: float
    interval: tuple[float, float]  # 95 %, of the accuracy
    top2: float  # share of images with their label among the two likeliest classes
    calibration_error: float
    precision: list[float]
    recall: list[float]
    f1: list[float]
    support: list[int]  # images of the class
    confusion: list[list[int]]


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share right/n (Wilson 1927):

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96.
    """
    z, p = 1.959964, right / n
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def calibration(log_y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The predictions sorted by confidence, the probability of the likeliest class, into BINS equal bins of (0, 1].

    Returns (BINS, 3): images, their mean confidence and their accuracy; an empty bin is a row of zeros. The expected
    calibration error is the mean of |accuracy - confidence| over the images (Guo et al. 2017).
    """
    confidence, right = np.exp(log_y.max(axis=1)), log_y.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights, BINS) for weights in (confidence, right)]
    return np.stack([count, *(each / np.maximum(count, 1) for each in sums)], axis=1)


def measure(log_y: np.ndarray, labels: np.ndarray) -> Measures:
    """All figures of merit. A ratio of 0/0, as the precision of a class that was never predicted, counts as 0."""
    n, predictions = len(labels), log_y.argmax(axis=1)
    own = log_y[np.arange(n), labels]
    confusion = np.zeros((CLASS_COUNT, CLASS_COUNT), int)
    np.add.at(confusion, (labels, predictions), 1)
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    count, confidence, accuracy = calibration(log_y, labels).T
    return Measures(
        loss=float(-own.mean()),
        accuracy=float(hits.sum() / n),
        interval=wilson(int(hits.sum()), n),
        top2=float(((log_y > own[:, None]).sum(axis=1) < 2).mean()),
        calibration_error=float(np.sum(count * np.abs(accuracy - confidence)) / n),
        precision=(hits / np.maximum(predicted, 1)).tolist(),
        recall=(hits / np.maximum(support, 1)).tolist(),
        f1=(2 * hits / np.maximum(support + predicted, 1)).tolist(),
        support=support.tolist(),
        confusion=confusion.tolist(),
    )


def log_probabilities(network: Network, images: np.ndarray, tta: bool = False) -> np.ndarray:
    """log y^ (N, 10), float64, in inference mode; with tta of the mean of the logits of image and mirror image.
    A bar on stderr, if that is a terminal, for what takes over two seconds."""
    z2 = np.empty((len(images), CLASS_COUNT))
    with tqdm(total=len(images), unit=" images", delay=2, leave=False, disable=None) as bar:
        for start in range(0, len(images), 1000):
            batch = images[start : start + 1000]
            z2[start : start + 1000] = network.logits(batch)
            if tta:
                mirrored = batch.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, model.PIXELS)
                z2[start : start + 1000] += network.logits(mirrored)
            bar.update(len(batch))
    return model.log_softmax(z2 / 2 if tta else z2)


def mean_probability(log_ys: list[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of probabilities that are given as logarithms, (N, 10) each."""
    return np.logaddexp.reduce(log_ys) - np.log(len(log_ys))


def confusions(matrix: list[list[int]]) -> list[tuple[int, int, int]]:
    """(label, prediction, images) of every kind of mistake that was made, the most frequent first."""
    kinds = [(i, j, n) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n]
    return sorted(kinds, key=lambda kind: -kind[2])


# ---- Checkpoints, and the images that they are tested on ------------------------------------------------------------


def default_checkpoint() -> Path:
    """The checkpoint for who names none: the newest in checkpoints/, right after a clone the one that comes with it."""
    folder = HERE / "checkpoints"
    found = [path for path in folder.glob("*.npz") if not path.name.endswith(".state.npz")]
    if not found:
        raise model.CheckpointError(f"no checkpoint named, and none in {folder}: 'python train.py' writes one")
    path = max(found, key=lambda path: path.stat().st_mtime)
    print(f"no checkpoint named; this is {path}")
    return path


def trained_on(info: dict) -> dict:
    """What a checkpoint's info says of its images: name, fingerprint, class_names; {} if it doesn't."""
    found = info.get("data")
    return found if isinstance(found, dict) else {}


def class_names(info: dict) -> list[str]:
    """The names of the checkpoint's classes, CIFAR-10's if it has none."""
    names = trained_on(info).get("class_names")
    usable = isinstance(names, list) and len(names) == CLASS_COUNT
    # The names go to the terminal, and to matplotlib, to which a $ is mathematics.
    usable = usable and all(isinstance(name, str) and name.isprintable() and "$" not in name for name in names)
    return names if usable else list(cifar10.CLASSES)


def load_data(args: argparse.Namespace, info: dict) -> cifar10.Dataset:
    """The images that the flags ask for; where they leave it open, those that the checkpoint was trained on."""
    name = trained_on(info).get("name")
    known = args.dataset == "auto" and name in tuple(cifar10.FOLDERS)
    if known and (args.data_dir is None or (Path(args.data_dir) / cifar10.FOLDERS[name]).is_dir()):
        args.dataset = name
    return cifar10.load_from(args)


def warn_of_other_data(path: Path, info: dict, data: cifar10.Dataset) -> None:
    """A line on stderr where the images aren't known to be those that the checkpoint was trained on."""
    trained = trained_on(info)
    if "fingerprint" not in trained:
        print(f"{path}: doesn't say which images it was trained on; these are {data.name}", file=sys.stderr)
    elif trained["fingerprint"] != data.fingerprint:
        print(
            f"WARNING: {path}: was trained on other images ({cifar10.DataError(str(trained.get('name')))}, fingerprint "
            f"{trained['fingerprint']!s:.8}) than these ({data.name}, {data.fingerprint:.8})",
            file=sys.stderr,
        )


def describe(network: Network) -> str:
    """A network in one line."""
    whole = network.is_plain
    hidden = f"{network.hidden_size:,}" if whole else f"{network.hidden_size:,} in {' '.join(map(str, network.fields))}"
    parts = [f"dropout {network.dropout:g}"] if network.dropout else []
    parts = ["batch normalisation"] * network.batchnorm + ["mirrored twins"] * network.mirror + parts
    arrays = network.arrays().items()
    parameters = sum(array.size for name, array in arrays if not name.endswith(model.STATISTICS))
    return f"{model.PIXELS} -> {hidden} -> {CLASS_COUNT}; {', '.join([*parts, f'{parameters:,} parameters'])}"


# ---- Pictures -------------------------------------------------------------------------------------------------------


def shrink(square: np.ndarray) -> np.ndarray:
    """(n, n, 3) -> (32, 32, 3), float: each new pixel is the mean of the area that it covers, to fractions of a pixel;
    with n below 32 it is the pixel under it."""
    n = len(square)
    edges, pixels = np.linspace(0, n, 33)[:, None], np.arange(n)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    share = np.maximum(overlap, 0) * (32 / n)
    return np.einsum("ri,ijc->rjc", share, np.einsum("cj,ijk->ick", share, square, optimize=True), optimize=True)


def read_picture(path: str | Path) -> np.ndarray:
    """A picture of any size as the network's input, (3072,) uint8: turned upright, set on white where it is
    transparent, cropped to the square in its middle, and averaged down. PictureError if it is none."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                side = min(picture.size)
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                picture = picture.crop((left, top, left + side, top + side))
        if picture.mode.startswith("I"):  # grey with 16 bits, which convert() would clip, not scale
            picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
        picture = picture.convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        detail = " ".join(str(error).split())
        raise PictureError(f"{path}: no picture that can be read ({detail})") from None
    return np.round(shrink(np.asarray(on_white, np.float32))).astype(np.uint8).transpose(2, 0, 1).reshape(-1)


class PictureError(ValueError):
    """A file that is no picture: one line."""

    one_line = True


def classify(paths: list[Path], networks: list[Network], tta: bool, names: list[str]) -> int:
    """Print the three likeliest classes of each picture. Returns the exit code: 2 if a file was no picture."""
    width, code = max(len(str(path)) for path in paths), 0
    for path in paths:
        try:
            image = read_picture(path)[None]
        except PictureError as error:
            print(f"test.py: error: {error}; left out", file=sys.stderr)
            code = 2
            continue
        y = np.exp(mean_probability([log_probabilities(network, image, tta) for network in networks]))[0]
        likeliest = [f"{names[c]} {y[c]:.1%}" for c in np.argsort(-y)[:3]]
        print(f"{path!s:<{width}}  {', '.join(likeliest)}")
    return code


# ---- What is printed ------------------------------------------------------------------------------------------------


def figures_table(columns: dict[str, Measures]) -> str:
    """The figures of merit, a column for each way of testing."""
    rows = {
        "accuracy": lambda m: f"{m.accuracy:.2%}",
        "  95 % interval (Wilson)": lambda m: f"{m.interval[0]:.2%} to {m.interval[1]:.2%}",
        "top-2 accuracy": lambda m: f"{m.top2:.2%}",
        "cross-entropy, nats": lambda m: f"{m.loss:.4f}",
        f"calibration error, {BINS} bins": lambda m: f"{m.calibration_error:.2%}",
    }
    lines = [" " * 25 + "".join(f"{title:>22}" for title in columns)] if len(columns) > 1 else []
    for title, show in rows.items():
        lines.append(f"{title:<25}" + "".join(f"{show(each):>22}" for each in columns.values()))
    return "\n".join(lines)


def class_table(m: Measures, names: tuple[str, ...]) -> str:
    """Precision, recall, F1 and support of each class."""
    width = max(map(len, names))
    lines = [f"{'class':<{width}}  precision   recall       F1  images"]
    for row in zip(names, m.precision, m.recall, m.f1, m.support, strict=True):
        lines.append("{:<{width}}  {:9.2%}  {:7.2%}  {:7.2%}  {:6,}".format(*row, width=width))
    return "\n".join(lines)


def comparison_table(rows: dict[str, tuple[dict[str, Measures], float | None]]) -> str:
    """A row for each checkpoint: its measures without (and with) mirror images, and its images per second."""
    width = max(map(len, [*rows, "checkpoint"]))
    with_tta = any("with mirror image" in columns for columns, _ in rows.values())
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


def write_predictions(path: Path, log_y: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """A CSV with a row for each image: index, label and prediction as names, and the probability of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", *names])
    for i, (row, label) in enumerate(zip(log_y, labels, strict=True)):
        writer.writerow([i, names[label], names[row.argmax()], *(f"{p:.6g}" for p in np.exp(row))])
    with model.write_whole(path) as file:
        file.write(text.getvalue().encode())


# ---- The command line -----------------------------------------------------------------------------------------------


def make_parser() -> cifar10.ArgumentParser:
    parser = cifar10.ArgumentParser(prog="test.py", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT",
                        help="one or more .npz files, of train.py or with the report's arrays "
                        "(default: the newest in checkpoints/)")  # fmt: skip
    parser.add_argument("--model-path", type=Path, metavar="FILE", help="another way to name a checkpoint")
    parser.add_argument("--tta", action="store_true",
                        help="test-time augmentation: also average logits over image and mirror image")  # fmt: skip
    parser.add_argument("--ensemble", action="store_true",
                        help="of several checkpoints: also the mean of their probabilities")  # fmt: skip
    parser.add_argument("--images", nargs="+", type=Path, metavar="PICTURE",
                        help="classify these picture files instead of testing; name the checkpoint before")  # fmt: skip
    parser.add_argument("--threads", type=int, default=model.default_threads(), metavar="N",
                        help="threads that compute; the result is the same with any number")  # fmt: skip
    out = parser.add_argument_group("files to write")
    out.add_argument("--json", type=Path, metavar="FILE", help="all figures, for a program to read")
    out.add_argument("--predictions", type=Path, metavar="FILE.csv",
                     help="a row for each image: index, label, prediction, probability of each class; "
                     "with --tta and --ensemble, theirs")  # fmt: skip
    out.add_argument("--export", type=Path, metavar="FILE.npz",
                     help="the same network in the report's arrays alone, float32, for other code to read")  # fmt: skip
    out.add_argument("--fold-mirror", type=Path, metavar="FILE.npz",
                     help="a checkpoint of twice the hidden units that gives by itself what --tta gives")  # fmt: skip
    cifar10.add_arguments(parser)
    return parser


def check(args: argparse.Namespace, parser: cifar10.ArgumentParser) -> None:
    """Refuse flags that would do nothing, and files that would replace each other."""
    several = len(args.checkpoints) > 1
    if args.threads < 1:
        parser.error("--threads must be at least 1")
    if len(set(args.checkpoints)) < len(args.checkpoints):
        parser.error("a checkpoint is named twice")
    if args.ensemble and not several:
        parser.error("--ensemble needs at least two checkpoints")
    if several and not args.ensemble and (args.predictions or args.images):
        flag = "--predictions" if args.predictions else "--images"
        parser.error(f"{flag} is for one checkpoint, or for several with --ensemble")
    for flag, path in (("--export", args.export), ("--fold-mirror", args.fold_mirror)):
        if path and several:
            parser.error(f"{flag} is for one checkpoint; name only one")
        if path and path.suffix != ".npz":
            parser.error(f"{flag} {path}: the name must end in .npz")
    used = {path.resolve() for path in args.checkpoints}
    for flag in ("json", "predictions", "export", "fold_mirror"):
        if path := getattr(args, flag):
            if path.resolve() in used:
                name = f"--{flag.replace('_', '-')} {path}"
                parser.error(f"{name}: would replace another file of this command; rename it")
            used.add(path.resolve())
    if args.images:
        unused = [flag for flag, value in (
            ("--json", args.json), ("--predictions", args.predictions), ("--export", args.export),
            ("--fold-mirror", args.fold_mirror), ("--data-dir", args.data_dir),
            ("--dataset", args.dataset != "auto"), ("--data-url", args.data_url != cifar10.URL),
            ("--data-md5", args.data_md5 != cifar10.MD5),
        ) if value]  # fmt: skip
        if unused:
            parser.error(f"{unused[0]} does nothing with --images, where no test split is read: leave it out")


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    args.checkpoints += [args.model_path] if args.model_path else []
    if not args.checkpoints:
        args.checkpoints = [default_checkpoint()]
    check(args, parser)
    paths = args.checkpoints
    loaded = [model.load(path, threads=args.threads) for path in paths]
    networks, (info, *_) = [network for network, _ in loaded], [info for _, info in loaded]
    for flag in ("--tta" * args.tta, "--fold-mirror" * bool(args.fold_mirror)):
        if flag and all(network.mirror for network in networks):
            parser.error(f"{flag} does nothing: the network has mirrored twins already, its logits are those of both")
    if args.images:
        return classify(args.images, networks, args.tta, class_names(info))

    data = load_data(args, info)
    images, labels, names = data.test_images, data.test_labels, data.class_names
    for path, (_, its_info) in zip(paths, loaded, strict=True):
        warn_of_other_data(path, its_info, data)
    if len(paths) == 1:
        print(f"checkpoint   {paths[0]}\nnetwork      {describe(networks[0])}")
    print(f"data         {data.name}, {len(labels):,} test images from {data.folder}")
    ways = ["image alone", "with mirror image"] if args.tta else ["image alone"]
    rows, log_ys = {}, {way: [] for way in ways}
    for path, network in zip(paths, networks, strict=True):
        columns = {}
        for way in ways:
            started = time.perf_counter()
            log_ys[way].append(log_probabilities(network, images, tta=way != "image alone"))
            columns[way] = measure(log_ys[way][-1], labels)
            if way == "image alone":
                speed = len(images) / (time.perf_counter() - started)
        rows[str(path)] = columns, speed
    final = log_ys[ways[-1]][-1]
    if args.ensemble:
        means = {way: mean_probability(log_ys[way]) for way in ways}
        rows["ensemble"] = {way: measure(means[way], labels) for way in ways}, None
        final = means[ways[-1]]

    if len(paths) > 1:
        print(comparison_table(rows))
    else:
        columns, speed = rows[str(paths[0])]
        settled = columns[ways[-1]]
        print(f"speed        {speed:,.0f} images/s on {args.threads} threads\n\n{figures_table(columns)}\n")
        aside = " (with mirror image)" * args.tta
        print(f"per class{aside}\n{class_table(settled, names)}\n\nmost frequent confusions{aside}")
        for label, prediction, count in confusions(settled.confusion)[:8]:
            share = count / settled.support[label]
            print(f"  {count:5,}  {names[label]} taken for {names[prediction]} ({share:.1%} of its images)")
    written = []
    if args.json:
        report = {
            "data": {"name": data.name, "fingerprint": data.fingerprint, "class_names": names, "images": len(labels)},
            "results": [
                {"checkpoint": name, "images_per_second": speed} | {way: asdict(m) for way, m in columns.items()}
                for name, (columns, speed) in rows.items()
            ],
        }
        with model.write_whole(args.json) as file:
            file.write(json.dumps(report, indent=1).encode())
        written.append(f"figures in {args.json}")
    if args.predictions:
        write_predictions(args.predictions, final, labels, names)
        written.append(f"predictions in {args.predictions}")
    if args.export:
        model.write_npz(args.export, networks[0].plain())
        written.append(f"the report's arrays in {args.export}")
    if args.fold_mirror:
        folded = model.fold_mirror(networks[0])
        model.save(args.fold_mirror, folded, info)
        units = 2 * folded.hidden_size
        written.append(f"checkpoint with mirrored twins, {units:,} hidden units, in {args.fold_mirror}")
    if written:
        print("\n" + "; ".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(cifar10.command(main))
