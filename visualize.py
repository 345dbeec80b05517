"""Draw what a network learned, from its checkpoint alone; or what a search found, from its CSV.

  python visualize.py checkpoints/NET.npz      all figures, and report.html, in figures/NET/
  python visualize.py                          those of checkpoints/cifar10-best.npz, or else the newest checkpoint
  python visualize.py NET.npz --only filters features --format pdf
  python visualize.py A.npz B.npz C.npz        the curves of several runs in one figure, and the settings that differ
  python visualize.py checkpoints/search-cifar10/results.csv              search.py's trials

Each figure has its caption beside it, in NAME.txt. report.html shows all of them and needs no other file.
Figures: {names}.
"""

import argparse
import datetime
import os
import shlex
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent)
)  # python -P leaves out the folder of the script

import model
import train
from data import cifar10, synthetic
from data.augmentation import augment
from support import cli, files, locks
from support.checkpoints import default_checkpoint, trained_on
from support.cli import UserError, clean, shorter
from support.figures import images as image_figures
from support.figures import report as page
from support.figures import weights as weight_figures
from support.figures.demo.demo import about_run, write_demo
from support.figures.demo.drawings import opening
from support.figures.report import paragraph, table
from support.figures.searches import SEARCH_FIGURES, best_trials, read_search
from support.figures.style import GREY, Figured, LeftOut, class_colours, drawable, grid, style
from support.network import metrics
from support.network.filters import active_share
from support.settings import format_value
from support.threads import slices

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

# ---- What is drawn --------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    """A checkpoint, and all that its figures share, each computed when a figure first asks for it."""

    path: Path
    network: model.Network
    info: dict
    data: cifar10.Dataset | None
    no_data: str = ""  # why data is None
    per_class: int = 1000  # test images of a class that means are taken over, at most

    @cached_property
    def norms(self) -> np.ndarray:
        """|W1[:, h]| of each hidden unit, (H,): in whitened dimensions, where the network has such."""
        W1 = self.network.weights["W1"]
        return np.concatenate(
            [
                np.linalg.norm(W1[:, some].astype(float), axis=0)
                for some in slices(W1.shape[1], 4096)
            ]
        )

    @cached_property
    def W2(self) -> np.ndarray:
        """W2 as (q, H, C), float64."""
        return (
            self.network.weights["W2"]
            .reshape(self.network.window.q, -1, self.network.classes)
            .astype(float)
        )

    @cached_property
    def log_y(self) -> np.ndarray:
        """log y^ of the test images, (N, C)."""
        log_y = metrics.log_probabilities(self.network, self.images)
        if not np.isfinite(log_y).all():
            raise LeftOut("the network's numbers overflow")
        return log_y

    @cached_property
    def measures(self) -> metrics.Measures:
        return metrics.measure(self.log_y, self.labels)

    @cached_property
    def surest_mistakes(self) -> np.ndarray:
        """The test images that are called wrong, the most confident first."""
        wrong = np.flatnonzero(self.log_y.argmax(axis=1) != self.labels)
        return wrong[np.argsort(-self.log_y[wrong].max(axis=1), kind="stable")]

    @property
    def images(self) -> np.ndarray:
        """The test images, (N, 3072) uint8. LeftOut without data."""
        return self.needed_data.test_images

    @property
    def labels(self) -> np.ndarray:
        """Their classes, (N,). LeftOut without data."""
        return self.needed_data.test_labels

    @property
    def needed_data(self) -> cifar10.Dataset:
        """LeftOut without data."""
        if self.data is None:
            raise LeftOut(self.no_data)
        return self.data

    @cached_property
    def names(self) -> list[str]:
        """The classes' names."""
        if self.data is not None:
            return [clean(name, 60) for name in self.data.class_names]
        return cifar10.class_names(trained_on(self.info), self.network.classes)

    def name(self, c: int, limit: int = 12) -> str:
        """A class's name as it can be drawn."""
        return drawable(self.names[c], limit)

    @cached_property
    def colours(self) -> list[str]:
        """A colour for each class; of more than ten, those that some figure shows, and grey for the others."""
        colours = [GREY] * self.network.classes
        shown = self.shown(20)
        for c, colour in zip(shown, class_colours(len(shown)), strict=True):
            colours[c] = colour
        return colours

    def shown(self, limit: int = 10) -> list[int]:
        """The classes that a figure with room for `limit` shows: all, or the worst and the best half of that, by
        recall; without test images, the first."""
        if self.network.classes <= limit:
            return list(range(self.network.classes))
        order = self.by_recall
        return order if len(order) <= limit else order[: limit // 2] + order[-(limit // 2) :]

    @cached_property
    def by_recall(self) -> list[int]:
        """The classes with test images, the lowest recall first; without predictions all, in their order."""
        try:
            recall, support = self.measures.recall, self.measures.support
        except LeftOut:
            return list(range(self.network.classes))
        return [c for c in np.argsort(recall, kind="stable").tolist() if support[c]]

    def some(self, limit: int = 10) -> str:
        """What a caption says of `shown`."""
        if self.network.classes <= limit:
            return ""
        return f" Of {self.network.classes} classes it shows the {limit // 2} with the lowest recall and the highest."

    @cached_property
    def firing(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], np.ndarray]:
        """`active_share` of the test images of each class `shown`; the last one for all of them, (N,)."""
        above, between, lit = {}, {}, []
        for c in self.shown():
            own = self.images[self.labels == c][: self.per_class]
            above[c], between[c], each = active_share(self.network, own)
            lit.append(each)
        return above, between, np.concatenate(lit)

    @property
    def note(self) -> str:
        """What a figure of images says where they are no photographs."""
        return "synthetic images" if self.data is not None and self.data.name == "synthetic" else ""


def effective(info: dict) -> dict:
    """The settings with an effect of a checkpoint's run; all of them, where they aren't train.py's; {} without any."""
    settings = info.get("settings")
    if not isinstance(settings, dict):
        return {}
    try:
        return train.effective(settings)
    except (TypeError, ValueError, OverflowError, KeyError, UserError):
        return settings


# ---- Figures that know how train.py works, and the list of all ------------------------------------------------------


def augmentation(s: Subject) -> Figured:
    settings = s.info.get("settings")
    if not isinstance(settings, dict):
        raise LeftOut("the file doesn't say how the training images were augmented")
    flip, shift, jitter = (settings.get(name, 0) for name in ("flip", "shift", "jitter"))
    flip = flip is True and settings.get("mirror") is not True  # it would change nothing
    known = (
        type(shift) is int
        and 0 <= shift <= 16
        and type(jitter) in (int, float)
        and 0 <= jitter <= 1
    )
    if not known or not (flip or shift or jitter):
        raise LeftOut("training images were not augmented")
    rng, images = np.random.default_rng(0), s.needed_data.train_images
    first = [np.flatnonzero(s.data.train_labels == c)[:1] for c in range(s.network.classes)]
    rows = np.concatenate(first)[:4]
    figure, axes = grid(len(rows), 5, 0.72 * len(rows) + 0.15)
    for line, row in zip(axes, rows, strict=True):
        image_figures.titled(line[0], images[row], "original" if row == rows[0] else "", "black")
        line[0].set_ylabel(s.name(s.data.train_labels[row]))
        for k, ax in enumerate(line[1:]):
            drawn = augment(images[row : row + 1].copy(), rng, flip, shift, jitter)[0]
            image_figures.titled(ax, drawn, f"draw {k + 1}" if row == rows[0] else "")
    figure.supxlabel(s.note, fontsize=8)
    ways = ["mirrored with probability 1/2"] * flip
    ways += [
        f"moved by up to {shift} pixels in each direction, the border mirrored into the gap"
    ] * bool(shift)
    ways += ["with other contrast, brightness and colours"] * bool(jitter)
    return figure, (
        f"Training images (left, framed), and four draws of what an epoch may show in place of each: {'; '.join(ways)}."
    )


FIGURES: dict[str, Callable] = {
    "curves": weight_figures.curves,
    "filters": weight_figures.filters,
    "output-weights": weight_figures.output_weights,
    "top-neurons": weight_figures.top_neurons,
    "weights": weight_figures.weights,
    "batchnorm": weight_figures.batchnorm,
    "features": weight_figures.features,
    "activations": image_figures.activations,
    "firing": image_figures.firing,
    "confusion": image_figures.confusion,
    "examples": image_figures.examples,
    "mistakes": image_figures.mistakes,
    **{f"evidence-{i + 1}": partial(image_figures.evidence, which=i) for i in range(3)},
    "reliability": image_figures.reliability,
    "augmentation": augmentation,
}
LEGEND = 30  # characters of a name in a legend
NEED_NO_DATA = ("curves", "filters", "output-weights", "top-neurons", "weights", "batchnorm")


def demo(s: Subject, path: Path) -> None:
    """Write demo.html, which runs the network in a browser, on drawn pictures and test images."""
    images, labels = synthetic.synthetic(10, np.random.default_rng(1))
    shapes = {list(synthetic.SHAPES)[c]: image for c, image in zip(labels, images, strict=True)}
    test = (s.data.test_images, s.data.test_labels) if s.data is not None else ()
    first = opening(s.names, shapes, *test)
    about = {"Checkpoint": s.path.stem, **about_run(s.info)}
    try:
        write_demo(
            s.network,
            s.names,
            path,
            first.pictures,
            first.labels,
            captions=first.captions,
            about=about,
        )
    except ValueError as error:
        raise LeftOut(str(error)) from None


# ---- Several runs ---------------------------------------------------------------------------------------------------


def compared(runs: dict[str, dict]) -> Figured:
    """The curves of several runs, whose infos are given by name."""
    figure, axes = grid(2, 1, 4.2 + 0.16 * len(runs), sharex=True)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(runs)))
    dashes = ("-", "--", "-.", ":")
    for i, (name, info) in enumerate(runs.items()):
        history = weight_figures.history_of(info)
        epochs = np.arange(1, len(history["val_loss"]) + 1)
        best = int(history["val_accuracy"].argmax())
        for ax, curve in zip(
            axes[:, 0], (history["val_loss"], 100 * history["val_accuracy"]), strict=True
        ):
            ax.plot(epochs, curve, color=colours[i], ls=dashes[i % 4], label=drawable(name, LEGEND))
            ax.plot(epochs[best], curve[best], "o", color=colours[i], mec="black", ms=5)
    weight_figures.without_first(
        axes[0, 0], [weight_figures.history_of(info)["val_loss"] for info in runs.values()]
    )
    axes[0, 0].set(ylabel="validation loss (nats)")
    axes[1, 0].set(ylabel="validation accuracy (%)", xlabel="epoch")
    axes[1, 0].xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center")
    return figure, (
        f"Validation cross-entropy in nats and validation accuracy in per cent of {len(runs)} runs after each epoch; a "
        "dot is the epoch whose weights were kept. A first loss that towers above all others lies above the axis."
    )


def differing(runs: dict[str, dict]) -> list[list[str]]:
    """What tells runs apart, as a table: a column a run, a row for its result and each setting that differs."""
    histories = [weight_figures.history_of(info) for info in runs.values()]
    rows = [["", *runs]]
    rows.append(
        [
            "best validation accuracy",
            *(f"{history['val_accuracy'].max():.2%}" for history in histories),
        ]
    )
    rows.append(["epochs trained", *(f"{len(history['val_accuracy'])}" for history in histories)])
    rows.append(["training time, h:mm:ss", *(duration(info) for info in runs.values())])
    rows.append(["data", *(clean(trained_on(info).get("name", ""), 40) for info in runs.values())])
    settings = [effective(info) for info in runs.values()]
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [shown_value(each[name]) if name in each else "" for each in settings]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


def compare(paths: list[Path], args: argparse.Namespace) -> int:
    """Draw the curves of several checkpoints' runs, with a table of what tells them apart."""
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise UserError("a checkpoint is named twice; name each once")
    short = len({path.stem for path in paths}) == len(paths)
    names = [clean(path.stem if short else path, 60) for path in paths]
    if len({drawable(name, LEGEND) for name in names}) < len(
        names
    ):  # what tells them apart is cut out
        names = [f"{i} {name}" for i, name in enumerate(names, 1)]
    runs = {name: model.load(path)[1] for name, path in zip(names, paths, strict=True)}
    for path, info in zip(paths, runs.values(), strict=True):
        try:
            weight_figures.history_of(info)
        except LeftOut as why:
            raise UserError(
                f"{clean(shorter(path), 120)}: has no curves, as {why}; leave it out"
            ) from None
    out = args.out or cli.ROOT / "figures" / "+".join(runs)[:80].replace("/", "_")
    drawn, _ = draw(runs, {"curves": compared}, out, args)
    finish(out, "Comparison", args, drawn, first={"Runs": table(differing(runs))})
    return 0


# ---- The report -----------------------------------------------------------------------------------------------------


def shown_value(value: object) -> str:
    """A setting's value as a table shows it."""
    return clean(
        format_value(value) if isinstance(value, bool | int | float | str) else repr(value), 80
    )


def duration(info: dict) -> str:
    """How long a checkpoint's run took, as far as its history says: h:mm:ss."""
    try:
        seconds = sum(float(each) for each in info["history"]["seconds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
    if not 0 <= seconds < 1e9:
        return ""
    return str(datetime.timedelta(seconds=round(seconds)))


def merit(s: Subject) -> dict[str, str]:
    """The figures of merit as parts of the page."""
    try:
        m = s.measures
    except LeftOut as why:
        return {"Test": paragraph(f"Not tested: {why}.")}
    rows = [
        ["on the test split", f"{s.data.name}, {len(s.labels):,} images"],
        *map(list, metrics.formatted(m).items()),
    ]
    classes = [["class", "precision", "recall", "F1", "images"]]
    shown = s.shown(20)
    for c in shown:
        shares = (f"{each[c]:.1%}" for each in (m.precision, m.recall, m.f1))
        classes.append([clean(s.names[c], 20), *shares, f"{m.support[c]:,}"])
    some = paragraph(s.some(20).strip()) if s.some(20) else ""
    return {
        "Test": table(rows, True),
        "Classes": table(classes, True, [s.colours[c] for c in shown]) + some,
    }


def configuration(s: Subject) -> dict[str, str]:
    """The run and its settings as parts of the page."""
    trained, command = trained_on(s.info), s.info.get("command")
    rows = [["", ""], ["checkpoint", shorter(s.path)], ["network", repr(s.network)]]
    rows += [["command", command]] if isinstance(command, str) and command else []
    rows += [
        [key.replace("_", " "), s.info[key]] for key in ("recipe", "best_epoch") if key in s.info
    ]
    rows += [["training time, h:mm:ss", duration(s.info)]] if duration(s.info) else []
    rows += [["machine", s.info["machine"]]] if "machine" in s.info else []
    rows += [[f"data {key}", trained[key]] for key in ("name", "fingerprint") if key in trained]
    parts = {"Training": table(rows)}
    if settings := effective(s.info):
        values = [[clean(name, 40), shown_value(value)] for name, value in settings.items()]
        parts["Settings"] = table([["setting", "value"], *values[:100]])
        parts["Settings"] += paragraph("Settings without effect in this run are left out.")
    return parts


def finish(
    out: Path, title: str, args: argparse.Namespace, drawn: dict[str, page.Drawn], **parts: dict
) -> None:
    """Write report.html, if all figures were asked for, and say what was written. parts: `page.report`'s, by title."""
    count = f"{len(drawn)} figure{'s' * (len(drawn) != 1)}"
    if args.only:
        print(f"{count} in {shorter(out)}")
        return
    with files.write_whole(out / "report.html") as file:
        file.write(page.report(title, figures=drawn, **({"first": {}, "last": {}} | parts)))
    print(f"{count} in {shorter(out)}; open {shorter(out / 'report.html')} to see them all")


# ---- The command line -----------------------------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    names = textwrap.wrap(", ".join(FIGURES), 100, subsequent_indent="  ", break_on_hyphens=False)
    parser = cli.ArgumentParser(
        prog="visualize.py", description=__doc__.format(names="\n".join(names))
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="CHECKPOINT.npz|RESULTS.csv",
        help="what to draw (default: checkpoints/cifar10-best.npz, or else the newest checkpoint there)",
    )
    parser.add_argument(
        "--model-path", type=Path, metavar="FILE", help="another way to name the checkpoint"
    )
    parser.add_argument(
        "--out",
        "--output-dir",
        type=cli.output_folder,
        metavar="FOLDER",
        help="where to write (default: figures/NAME beside the scripts)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[*FIGURES, *SEARCH_FIGURES],
        help="these figures, and no report.html",
    )
    parser.add_argument(
        "--format", choices=("png", "pdf", "svg"), default="png", help="of the figures' files"
    )
    parser.add_argument(
        "--dpi",
        type=cli.integer(20, 1200),
        default=300,
        metavar="N",
        help="pixels per inch; a figure is 3.4 wide",
    )
    parser.add_argument("--show", action="store_true", help="show the figures in windows, too")
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    return parser


def draw(subject, figures: dict[str, Callable], out: Path, args: argparse.Namespace):
    """Write the figures; returns {name: what the page shows} and {name: why it is left out}."""
    drawn, left_out = {}, {}
    with (
        matplotlib.rc_context(style()),
        np.errstate(over="ignore", invalid="ignore"),
        tqdm(figures.items(), unit=" figures", delay=2, leave=False, disable=None) as bar,
    ):
        for name, function in bar:
            if args.only and name not in args.only:
                continue
            try:
                figure, caption = function(subject)
            except LeftOut as why:
                if args.only:
                    raise UserError(
                        f"--only {name}: can't be drawn, as {why}; leave it out"
                    ) from None
                left_out[name] = str(why)
                continue
            drawn[name] = page.write_figure(
                figure, caption, out / f"{name}.{args.format}", args.dpi
            )
            if not args.show:
                plt.close(figure)
    for name, why in left_out.items():
        print(f"left out {name}: {why}")
    return drawn, left_out


def data_flags(args: argparse.Namespace) -> str:
    """The flags given that say which images to take, as they were typed; "" for none."""
    given = [
        (flag, getattr(args, flag)) for flag in ("dataset", "data_dir", "data_url", "data_md5")
    ]
    return shlex.join(
        word
        for flag, value in given
        if value not in (None, "auto")
        for word in (f"--{flag.replace('_', '-')}", value)
    )


def load_subject(path: Path, args: argparse.Namespace) -> Subject:
    """The checkpoint with the images that its figures need. Where none were asked for and none can be had, it goes
    without them."""
    network, info = model.load(path, threads=args.threads)
    asked = data_flags(args)
    if args.only and all(name in NEED_NO_DATA for name in args.only):
        if asked:
            print(
                f"{clean(asked, 100)}: without effect, as these figures need no images",
                file=sys.stderr,
            )
        return Subject(path, network, info, None, "no images were asked for")
    try:
        data = cifar10.load_for(args, trained_on(info))
        if len(data.class_names) != network.classes:
            raise cifar10.DataError(
                f"{clean(shorter(data.folder), 100)}: has {len(data.class_names)} classes, and the network "
                f"{network.classes}; give another --data-dir"
            )
    except cifar10.DataError as error:
        if asked:
            raise
        return Subject(path, network, info, None, f"there are no images ({error})")
    cifar10.warn_of_other_data(path, trained_on(info), data)
    return Subject(path, network, info, data)


def main(argv: list[str] | None = None) -> int:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.show and plt.get_backend().lower() == "agg":
        parser.error("--show: there is no window system here; leave it out, and open report.html")
    if not args.show:
        matplotlib.use("Agg")
    paths = args.files + [args.model_path] * bool(args.model_path)
    if not paths:
        paths = [default_checkpoint(cli.ROOT / "checkpoints")]
        print(f"no checkpoint named; this is {shorter(paths[0])}")
    searches = [path for path in paths if path.suffix.lower() == ".csv"]
    if searches and len(paths) > 1:
        parser.error(
            f"{searches[0]}: a search's results are drawn by themselves; name no other file"
        )
    figures = SEARCH_FIGURES if searches else FIGURES if len(paths) == 1 else {"curves": compared}
    for name in args.only or []:
        if name not in figures:
            parser.error(
                f"--only {name}: is no figure of {', '.join(map(str, paths))}; there are {', '.join(figures)}"
            )
    if (searches or len(paths) > 1) and (flags := data_flags(args)):
        print(
            f"{clean(flags, 100)}: without effect, as these figures need no images", file=sys.stderr
        )
    if len(paths) > 1:
        compare(paths, args)
    elif searches:
        search = read_search(paths[0])
        if holder := locks.holder(paths[0].parent):
            folder = clean(shorter(paths[0].parent), 90)
            print(
                f"{folder}: in use by {holder}; these are its trials until now, draw again later",
                file=sys.stderr,
            )
        out = args.out or cli.ROOT / "figures" / paths[0].stem
        drawn, left_out = draw(search, figures, out, args)
        title = f"The best of {len(search.trials):,} trials"
        last = {title: table(best_trials(search), True)} | reasons(left_out)
        finish(out, paths[0].stem, args, drawn, last=last)
    else:
        subject = load_subject(paths[0], args)
        out = args.out or cli.ROOT / "figures" / paths[0].stem
        drawn, left_out = draw(subject, figures, out, args)
        parts = (
            {}
            if args.only
            else {"first": merit(subject), "last": configuration(subject) | reasons(left_out)}
        )
        finish(out, paths[0].stem, args, drawn, **parts)
        if not args.only:
            try:
                demo(subject, out / "demo.html")
                print(f"page {shorter(out / 'demo.html')}")
            except LeftOut as why:
                print(f"left out demo.html: {why}")
    if args.show:
        plt.show()
    return 0


def reasons(left_out: dict[str, str]) -> dict[str, str]:
    """The figures that couldn't be drawn, as a part of the page."""
    return (
        {"Left out": table([["figure", "why"], *map(list, left_out.items())])} if left_out else {}
    )


if __name__ == "__main__":
    sys.exit(cli.command(main))
