"""Draw what a network learned, from its checkpoint, or what a search found.

  python visualize.py NET.npz             all figures, report.html and demo.html
  python visualize.py                     the same for a file in checkpoints/
  python visualize.py NET.npz --only filters features --format pdf
  python visualize.py A.npz B.npz C.npz   learning curves and settings compared
  python visualize.py checkpoints/search-cifar10/results.csv   a search's trials

Each figure has its caption next to it, in NAME.txt. report.html shows all of
them and needs no other file. Names for --only: report, demo,
{names}.
"""

import datetime
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import model
import train
from data import cifar10, of_checkpoint, synthetic
from data.augmentation import augment
from data.download import Unreachable
from support import cli, files, locks, startup
from support.checkpoints import named, trained_on
from support.cli import UserError, clean, shorter
from support.figures import curves, images, searches, weights
from support.figures.demo.demo import about_run, quicker, write_demo
from support.figures.demo.drawings import opening
from support.figures.report import (
    Drawn,
    demo_link,
    paragraph,
    rendered,
    report,
    table,
    write_figure,
)
from support.figures.style import LeftOut, drawable, drawing, report_missing_glyphs
from support.figures.subject import Subject, training_note
from support.network import metrics
from support.settings import format_value

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

# ---- The figures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of figure: its title in the report, and the function that draws it."""

    title: str
    draw: Callable
    uses_images: bool = True  # whether it shows more with images, or nothing without
    only_with_images: str = ""  # what is missing if it is drawn without images


def augmentation_of(info: dict) -> tuple[bool, int, float] | None:
    """Return how a checkpoint's run changed its images: flip, shift, jitter.

    It is None if the checkpoint doesn't say, or has no settings of train.py.
    """
    try:
        settings = train.Settings(**info["settings"])
    except (KeyError, TypeError, ValueError, OverflowError, UserError):
        return None
    return settings.uses_flip, settings.shift, settings.jitter


augmentation = partial(images.augmentation, augment=augment, changes_of=augmentation_of)
FIGURES = {
    "curves": Kind("Training", curves.curves, uses_images=False),
    "filters": Kind("What hidden units look for", weights.filters, only_with_images="patches"),
    "output-weights": Kind(
        "From hidden units to classes", weights.output_weights, uses_images=False
    ),
    "top-neurons": Kind(
        "The strongest units of each class", weights.top_neurons, uses_images=False
    ),
    "weights": Kind("How weights are distributed", weights.weights, uses_images=False),
    "batchnorm": Kind("Batch normalisation", weights.batchnorm, uses_images=False),
    "features": Kind(
        "What a class looks like to the network", weights.features, only_with_images="gradients"
    ),
    "activations": Kind("How the hidden layer separates classes", images.activations),
    "firing": Kind("How many units are on", images.firing),
    "confusion": Kind("Which classes are confused", images.confusion),
    "examples": Kind("The most confident mistakes", images.examples),
    "mistakes": Kind("The worst mistakes of each class", images.mistakes),
    "votes-1": Kind("Why? The most confident mistake", partial(images.votes, which=0)),
    "votes-2": Kind("Why? The second mistake", partial(images.votes, which=1)),
    "votes-3": Kind("Why? The third mistake", partial(images.votes, which=2)),
    "reliability": Kind("Can probabilities be believed?", images.reliability),
    "augmentation": Kind("How training images vary", augmentation),
}
COMPARISON = {"curves": Kind("Learning curves", curves.compared, uses_images=False)}
SEARCH = {
    "search-curves": Kind(
        "Learning curves of all trials", searches.search_curves, uses_images=False
    ),
    "search-effects": Kind(
        "The effect of each setting", searches.search_effects, uses_images=False
    ),
    "search-grid": Kind("The two strongest settings", searches.search_grid, uses_images=False),
    "search-parallel": Kind("All settings at once", searches.search_parallel, uses_images=False),
    "search-cost": Kind("Accuracy against training time", searches.search_cost, uses_images=False),
}
PAGES = ("report", "demo")


# ---- What one call does --------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """The files to draw, and how."""

    paths: tuple[Path, ...]  # checkpoints, or one results.csv
    kinds: dict[str, Kind]  # the figures that such files can have
    out: Path
    only: tuple[str, ...]  # names of figures and PAGES; () for all
    format: str
    dpi: int
    background: int  # training images that votes are compared with; 0: none
    show: bool
    threads: int
    source: cifar10.Source  # of the images

    @property
    def is_search(self) -> bool:
        """Whether the file is a search's results."""
        return self.paths[0].suffix.lower() == ".csv"

    def wants(self, name: str) -> bool:
        """Return whether the file of a figure, or a page, is to be written."""
        return not self.only or name in self.only

    @property
    def drawn(self) -> dict[str, Kind]:
        """The figures to draw: the report shows all of them, even those that get no file."""
        if self.wants("report"):
            return self.kinds
        return {name: kind for name, kind in self.kinds.items() if self.wants(name)}


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    lines = textwrap.wrap(", ".join(FIGURES), 78, break_on_hyphens=False)
    description = __doc__.format(names="\n".join(lines))
    usage = "visualize.py [FILE ...] [--only NAME ...] [--out FOLDER] [other flags]"
    parser = cli.ArgumentParser(prog="visualize.py", usage=usage, description=description)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="checkpoints, NAME.npz, or a search's results.csv",
    )
    parser.add_argument("--model-path", type=Path, metavar="FILE", help="also a checkpoint")
    parser.add_argument(
        "--out",
        "--output-dir",
        type=cli.output_folder,
        metavar="FOLDER",
        help="where to write (default: figures/NAME next to the scripts)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="write these figures or pages, nothing else"
    )
    parser.add_argument(
        "--format", choices=("png", "pdf", "svg"), help="of the figures' files (default: png)"
    )
    parser.add_argument(
        "--dpi",
        type=cli.integer(20, 1200),
        default=300,
        metavar="N",
        help="pixels per inch; a figure is 3.4 inches wide",
    )
    parser.add_argument(
        "--background",
        type=cli.integer(1, 10**6),
        default=0,
        metavar="N",
        help="votes-1 to 3: Shapley values, against N training images",
    )
    parser.add_argument("--show", action="store_true", help="also show the figures in windows")
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    return parser


def parse(argv: list[str] | None) -> Task:
    """Return the Task of a command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    paths = named(args.files, args.model_path)
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if tables and len(paths) > 1:
        parser.error(f"{tables[0]}: a search is drawn alone; name no other file")

    if tables:
        kinds = SEARCH
    elif len(paths) > 1:
        kinds = COMPARISON
    else:
        kinds = FIGURES
    pages = PAGES if kinds is FIGURES else ("report",)
    for name in args.only or []:
        if name not in kinds and name not in pages:
            parser.error(
                f"--only {name}: not found for {', '.join(map(str, paths))}; choose from "
                f"{', '.join([*pages, *kinds])}"
            )
    name = paths[0].stem
    if tables:
        # Every search's table is called alike, so it is the folder's name that tells them apart.
        name = Path(os.path.abspath(tables[0])).parent.name or name
    if len(paths) > 1:
        # The names may be paths, and this is the name of one folder.
        name = "+".join(run_names(paths))[:80].replace("/", "_")
    out = args.out or cli.ROOT / "figures" / name
    # Now, as a refusal after all figures are computed would be too late.
    cli.check_writable(out, "--out")
    task = Task(
        paths=tuple(paths),
        kinds=kinds,
        out=out,
        only=tuple(args.only or ()),
        format=args.format or "png",
        dpi=args.dpi,
        background=args.background,
        show=args.show,
        threads=args.threads,
        source=cifar10.Source.of(args),
    )
    if args.format and not any(map(task.wants, task.drawn)):
        parser.error("--format: no figure gets a file of its own here; leave it out")
    if task.background and not any(name.startswith("votes-") for name in task.drawn):
        parser.error("--background: only votes-1 to 3 use it, none of which is drawn; leave it out")
    return task


# ---- Drawing -------------------------------------------------------------------------------------


def draw(task: Task, subject) -> tuple[dict[str, Drawn], dict[str, str]]:
    """Draw the task's figures from a subject: a Subject, a search, or several runs.

    Writes the files that are wanted. Returns what the page shows, and why other figures are left
    out, both by name.
    """
    drawn, left_out = {}, {}
    bar = tqdm(task.drawn.items(), unit=" figures", delay=2, leave=False, disable=None)
    # A checkpoint may hold numbers that overflow: figures that can't show them are left out.
    with drawing(), np.errstate(over="ignore", invalid="ignore"), bar:
        for name, kind in bar:
            asked = name in task.only
            try:
                figure, caption = kind.draw(subject)
            except LeftOut as why:
                if asked:
                    raise UserError(
                        f"--only {name}: has nothing to draw: {why}; leave it out"
                    ) from None
                left_out[name] = str(why)
                continue
            note = note_of(subject, kind)
            if note:
                figure.supxlabel(note, fontsize=8)
                caption = f"{caption} ({note.capitalize()}: drawn shapes, no photographs.)"
            drawn[name] = write(task, name, figure, caption)
            if not task.show:
                # Matplotlib keeps a figure in memory until it is closed.
                plt.close(figure)
    for why, names in by_reason(left_out).items():
        print(f"left out {', '.join(names)}: {why}")
    return drawn, left_out


def note_of(subject, kind: Kind) -> str:
    """Return what a figure says if it shows, or depends on, images that are drawn; else ""."""
    if isinstance(subject, Subject):
        shows_images = kind.uses_images and subject.images_note
        return subject.images_note if shows_images else training_note(subject.info)
    if isinstance(subject, dict):  # several runs
        notes = [training_note(info) for info in subject.values()]
        return notes[0] if all(notes) else ""
    return ""


def write(task: Task, name: str, figure, caption: str) -> Drawn:
    """Write a figure and its caption, if their files are wanted; return what the page shows."""
    title = task.kinds[name].title
    if not task.wants(name):
        return Drawn(title, rendered(figure, "png", task.dpi), caption)
    content = write_figure(figure, caption, task.out / f"{name}.{task.format}", task.dpi)
    if task.format != "png":  # browsers show no PDF as an image
        content = rendered(figure, "png", task.dpi) if task.wants("report") else b""
    return Drawn(title, content, caption)


def finish(task: Task, title: str, drawn: dict[str, Drawn], **parts) -> None:
    """Write report.html, if it is wanted, and say what was written. parts: `report`'s."""
    written = [name for name in drawn if task.wants(name)]
    if written:
        count = f"{len(written)} figure{'s' if len(written) != 1 else ''}"
        print(f"{count} in {shorter(task.out)}")
    if task.wants("report"):
        path = task.out / "report.html"
        with files.write_whole(path) as file:
            file.write(report(title, drawn, **parts))
        print(f"report in {shorter(path)}")


def by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of the figures that are left out for each reason."""
    names: dict[str, list[str]] = {}
    for name, why in left_out.items():
        names.setdefault(why, []).append(name)
    return names


def reasons(left_out: dict[str, str]) -> dict[str, str]:
    """Return the figures that couldn't be drawn as a part of the page; {} for none."""
    if not left_out:
        return {}
    rows = [[", ".join(names), why] for why, names in by_reason(left_out).items()]
    return {"Left out": table([["figures", "why"], *rows])}


# ---- One checkpoint ------------------------------------------------------------------------------


def draw_checkpoint(task: Task) -> None:
    """Draw the figures of one checkpoint, and write its pages."""
    path = task.paths[0]
    subject = load_subject(task)
    report_missing_glyphs(subject.names)
    # First, as the report begins with a link to it.
    lead = write_demo_page(task, subject)
    if task.only == ("demo",):
        return
    drawn, left_out = draw(task, subject)
    report_missing_parts(task, subject, drawn)
    first, last = {}, {}
    if task.wants("report"):
        lead = note_of_drawn_images(subject) + lead
        first = merit(subject)
        last = configuration(path, subject) | reasons(left_out)
    finish(task, path.stem, drawn, first=first, last=last, lead=lead)


def load_subject(task: Task) -> Subject:
    """Return the checkpoint with the images that its figures need.

    If no images were asked for and none can be had, it goes without them.
    """
    path, asked = task.paths[0], task.source.typed()
    network, info = model.load(path, threads=task.threads)
    if task.background and network.window.whole:
        raise UserError(
            "--background: this network sees the whole image, so it has no positions; leave it out"
        )
    trained = trained_on(info)
    own_names = tuple(of_checkpoint.class_names(trained, network.classes))
    needed = any(kind.uses_images for kind in task.drawn.values())
    # The demo also shows test images, but a download only for them would be too much.
    if not needed and not (asked and task.wants("demo")):
        if asked:
            report_idle_flags(asked)
        return Subject(network, info, own_names, None, "no images were asked for")
    source = task.source
    if not asked and not isinstance(trained.get("name"), str):
        # Nothing says which images fit. CIFAR-10's may; drawn shapes, the way out of "auto", don't.
        source = cifar10.Source("cifar10")
    try:
        data = of_checkpoint.load_for(source, trained)
        if len(data.class_names) != network.classes:
            raise cifar10.DataError(
                f"{clean(shorter(data.folder), 100)}: has {len(data.class_names)} classes, and "
                f"the network {network.classes}; give another --data-dir"
            )
    except cifar10.DataError as error:
        if asked:
            raise
        return Subject(network, info, own_names, None, why_no_images(error))
    of_checkpoint.warn_of_other_data(path, trained, data)
    names = tuple(clean(name, 60) for name in data.class_names)
    return Subject(network, info, names, data, background_size=task.background)


def why_no_images(error: cifar10.DataError) -> str:
    """Return why a checkpoint is drawn without images, in few words."""
    fault = "none could be fetched"
    if not isinstance(error, Unreachable):
        fault = clean(str(error).partition("; ")[0], 100)  # without the remedies
    return f"there are no images ({fault}; see --data-dir)"


def report_missing_parts(task: Task, subject: Subject, drawn: dict[str, Drawn]) -> None:
    """Print which figures show less than with images, if there are none."""
    if subject.data is not None:
        return
    parts = []
    for name in drawn:
        missing = task.kinds[name].only_with_images
        if missing and task.wants(name):
            parts.append(f"{name} without {missing}")
    if parts:
        print(f"{', '.join(parts)}: {subject.no_data}")


def write_demo_page(task: Task, subject: Subject) -> str:
    """Write demo.html, if it is wanted, and return a link to it; "" if there is none."""
    if not task.wants("demo"):
        return ""
    path = task.out / "demo.html"
    # Drawn shapes for the page to open on: it has pictures even without a test split.
    images, labels = synthetic.synthetic(10, np.random.default_rng(1))
    shapes = {list(synthetic.SHAPES)[c]: image for c, image in zip(labels, images, strict=True)}
    test = ()
    if subject.data is not None:
        test = subject.data.test_images, subject.data.test_labels
    first = opening(subject.names, shapes, *test)
    about = {"Checkpoint": task.paths[0].stem, **about_run(subject.info)}
    network, note = quicker(subject.loaded), ""
    if network is not subject.loaded:
        strides = f"every {network.window.stride} pixels, in the checkpoint every"
        about["Filters"] = f"{strides} {subject.loaded.window.stride}, which takes a browser longer"
        note = f"; its filters are applied {about['Filters']}"
    options = {"captions": first.captions, "about": about}
    try:
        write_demo(network, subject.names, path, first.pictures, first.labels, **options)
    except ValueError as error:
        if "demo" in task.only:
            raise UserError(f"--only demo: {error}; leave it out") from None
        print(f"left out demo.html: {error}")
        return ""
    print(f"demo in {shorter(path)}{note}")
    return demo_link(path.name)


def note_of_drawn_images(subject: Subject) -> str:
    """Return a paragraph that says that images are drawn, if they are; else ""."""
    notes = [note for note in (training_note(subject.info), subject.images_note) if note]
    if not notes:
        return ""
    return paragraph(f"{', '.join(notes).capitalize()}: drawn shapes, no photographs.", "note")


def merit(s: Subject) -> dict[str, str]:
    """Return the figures of merit as parts of the page."""
    try:
        m = s.measures
    except LeftOut as why:
        return {"Test": paragraph(f"Not tested: {why}.")}
    rows = [["on the test split", f"{s.data.name}, {len(s.labels):,} images"]]
    rows += [list(pair) for pair in metrics.formatted(m).items()]
    classes = [["class", "precision", "recall", "F1", "images"]]
    shown = s.shown(20)
    for c in shown:
        shares = [f"{each[c]:.1%}" for each in (m.precision, m.recall, m.f1)]
        classes.append([clean(s.names[c], 20), *shares, f"{m.support[c]:,}"])
    of_classes = table(classes, "numbers", [s.colours[c] for c in shown])
    if s.some(20):
        of_classes += paragraph(s.some(20).strip())
    return {"Test": table(rows, "numbers"), "Classes": of_classes}


def configuration(path: Path, s: Subject) -> dict[str, str]:
    """Return the run and its settings as parts of the page."""
    trained, command = trained_on(s.info), s.info.get("command")
    rows = [["", ""], ["checkpoint", shorter(path)], ["network", repr(s.loaded)]]
    if isinstance(command, str) and command:
        rows.append(["command", command])
    for key in ("recipe", "best_epoch"):
        if key in s.info:
            rows.append([key.replace("_", " "), s.info[key]])
    if run_duration(s.info):
        rows.append(["training time, h:mm:ss", run_duration(s.info)])
    if "machine" in s.info:
        rows.append(["machine", s.info["machine"]])
    for key in ("name", "fingerprint"):
        if key in trained:
            rows.append([f"data {key}", trained[key]])
    parts = {"The run": table(rows, "long")}
    settings = shown_settings(s.info)
    if settings:
        # The file may be of any origin, and have any number of settings.
        values = [[clean(name, 40), shown_value(value)] for name, value in settings.items()]
        parts["Settings"] = table([["setting", "value"], *values[:100]], "long")
        parts["Settings"] += paragraph("Settings without effect in this run are left out.")
    return parts


def shown_settings(info: dict) -> dict:
    """Return the settings that affect a run, or all, if they aren't train.py's."""
    settings = info.get("settings")
    if not isinstance(settings, dict):
        return {}
    try:
        return train.effective(settings)
    except (TypeError, ValueError, OverflowError, KeyError, UserError):
        return settings


def shown_value(value: object) -> str:
    """Return a setting's value as a table shows it."""
    plain = isinstance(value, bool | int | float | str)
    return clean(format_value(value) if plain else repr(value), 80)


def run_duration(info: dict) -> str:
    """Return how long a checkpoint's run took, h:mm:ss; "" if its history doesn't say."""
    try:
        seconds = sum(float(each) for each in info["history"]["seconds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
    # No training takes thirty years; this also refuses a NaN.
    if not 0 <= seconds < 1e9:
        return ""
    return str(datetime.timedelta(seconds=round(seconds)))


# ---- Several runs --------------------------------------------------------------------------------


def run_names(paths: list[Path]) -> list[str]:
    """Return a name for each checkpoint: its file's, or its path if files share a name."""
    short = len({path.stem for path in paths}) == len(paths)
    names = [clean(path.stem if short else path, 60) for path in paths]
    # Legends cut long names.
    if len({drawable(name, curves.LEGEND) for name in names}) < len(names):
        # What tells them apart is cut out.
        names = [f"{i} {name}" for i, name in enumerate(names, 1)]
    return names


def compare(task: Task) -> None:
    """Draw the curves of several checkpoints' runs, with a table of what tells them apart."""
    names = run_names(task.paths)
    runs = {}
    for name, path in zip(names, task.paths, strict=True):
        runs[name] = model.load(path)[1]
        try:
            curves.history_of(runs[name])
        except LeftOut as why:
            shown = clean(shorter(path), 120)
            raise UserError(f"{shown}: has no curves, as {why}; leave it out") from None
    report_missing_glyphs(names)
    drawn, _ = draw(task, runs)
    finish(task, "Comparison", drawn, first={"Runs": table(differing(runs))}, last={})


def differing(runs: dict[str, dict]) -> list[list[str]]:
    """Return a table of runs: a column a run, a row for each setting that differs."""
    histories = [curves.history_of(info) for info in runs.values()]
    best = [f"{history['val_accuracy'].max():.2%}" for history in histories]
    rows = [["", *runs], ["best validation accuracy", *best]]
    rows.append(["epochs trained", *(f"{len(history['val_accuracy'])}" for history in histories)])
    rows.append(["training time, h:mm:ss", *(run_duration(info) for info in runs.values())])
    rows.append(["data", *(clean(trained_on(info).get("name", ""), 40) for info in runs.values())])
    settings = [shown_settings(info) for info in runs.values()]
    names = {name: None for each in settings for name in each}
    for name in names:
        values = [shown_value(each[name]) if name in each else "" for each in settings]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


# ---- A search ------------------------------------------------------------------------------------


def draw_search(task: Task) -> None:
    """Draw a search's results."""
    path = task.paths[0]
    search = searches.read_search(path)
    holder = locks.holder(path.parent)
    if holder:
        folder = clean(shorter(path.parent), 90)
        print(
            f"{folder}: in use by {holder}; these are its trials until now, draw again later",
            file=sys.stderr,
        )
    drawn, left_out = draw(task, search)
    title = f"The best of {len(search.trials):,} trials"
    last = {title: table(searches.best_trials(search), "numbers")} | reasons(left_out)
    finish(task, f"A search of {len(search.trials):,} trials", drawn, first={}, last=last)


# ---- The script ----------------------------------------------------------------------------------


def report_idle_flags(flags: str) -> None:
    """Say on stderr that the flags for images have no effect."""
    text = f"{clean(flags, 100)}: without effect, as these figures need no images"
    print(text, file=sys.stderr)


def use_backend(show: bool) -> None:
    """Draw into files, whatever MPLBACKEND says, or into windows."""
    if not show:
        matplotlib.use("Agg")
        return
    backend = startup.users_backend or os.environ.get("MPLBACKEND")
    if backend:
        try:
            plt.switch_backend(backend)
        except (ImportError, ValueError, AttributeError) as error:
            raise UserError(
                f"MPLBACKEND={clean(backend, 40)}: matplotlib can't show windows by it "
                f"({clean(error, 80)}); unset it, or leave out --show"
            ) from None
    if plt.get_backend().lower() == "agg":
        raise UserError(
            "--show: there is no window system here; leave it out, and open report.html"
        )


def main(argv: list[str] | None = None) -> int:
    task = parse(argv)
    use_backend(task.show)
    flags = task.source.typed()
    if flags and task.kinds is not FIGURES:
        report_idle_flags(flags)
    if task.is_search:
        draw_search(task)
    elif len(task.paths) > 1:
        compare(task)
    else:
        draw_checkpoint(task)
    if task.show:
        plt.show()
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
