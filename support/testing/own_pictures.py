"""Classify pictures of one's own, a batch at a time, and explain each one by its votes."""

import contextlib
import difflib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.cli import UserError, clean, note, shorter
from support.files import write_whole
from support.image_shape import PIXELS
from support.network.metrics import log_probabilities, mean_probability
from support.testing.predictions import PictureCsv, PictureJson, Submission

import numpy as np
from tqdm import tqdm

BATCH = 100  # pictures that are read and classified at a time
LIKELIEST = 3  # classes printed for a picture
LISTED = 20  # pictures printed if they are in a file as well, and files that are none
SHORT = 24  # characters of a class's name in front of a sum
BACKGROUND = 200  # pictures at most whose votes are averaged, for each picture explained

ReadPicture = Callable[[Path], np.ndarray]  # (3072,) uint8; raises UserError for what is none


@dataclass(frozen=True)
class PictureJob:
    """The pictures to classify, and the files to write."""

    paths: tuple[Path, ...]
    faults: tuple[str, ...]  # names that stand for no file, a line each
    passed_over: int  # other files in the folders
    # Files to write
    predictions: Path | None
    submission: Path | None
    json: Path | None
    # The explanation
    explain: Path | None  # the folder of the figures
    against: str | None  # the class to compare the predicted one with; None: the runner-up
    background: tuple[Path, ...]  # pictures whose mean votes are subtracted

    @property
    def outputs(self) -> list[Path]:
        """The files to write."""
        paths = (self.predictions, self.submission, self.json)
        return [path for path in paths if path is not None]


def classify_pictures(
    job: PictureJob, networks: list, names: Sequence[str], tta: bool, read_picture: ReadPicture
) -> int:
    """Print, write and explain what the networks' mean probabilities say of each picture.

    Returns the exit code: 2 if a file was left out.
    """
    printer = PicturePrinter(job)
    reader = PictureReader(read_picture, networks[0].threads, printer)
    explainer = Explainer(job, networks[0], names, reader) if job.explain else None
    for fault in job.faults:
        printer.leave_out(fault)
    with contextlib.ExitStack() as stack:
        writers = open_writers(job, names, stack)
        bar = tqdm(total=len(job.paths), unit=" pictures", delay=2, disable=None)
        stack.enter_context(bar)
        for start in range(0, len(job.paths), BATCH):
            some = job.paths[start : start + BATCH]
            paths, images = reader.read(some)
            ys = probabilities(networks, images, tta)
            for path, image, y in zip(paths, images, ys, strict=True):
                printer.add(path, y, names)
                for writer in writers:
                    writer.add(path, y)
                if explainer:
                    for line in explainer.explain(path, image, y):
                        printer.show(f"  {line}")
            bar.update(len(some))
        for writer in writers:
            writer.finish(printer.left_out, job.passed_over)
    printer.finish()
    return 2 if printer.left_out else 0


def probabilities(networks: list, images: np.ndarray, tta: bool) -> np.ndarray:
    """Return y^ (m, C), the mean of the networks' probabilities."""
    log_ys = [log_probabilities(network, images, tta, progress=False) for network in networks]
    return np.exp(mean_probability(log_ys))


def open_writers(job: PictureJob, names: Sequence[str], stack: contextlib.ExitStack) -> list:
    """Open the files asked for, which appear whole when the stack is closed."""
    kinds = [
        (job.predictions, PictureCsv),
        (job.submission, Submission),
        (job.json, PictureJson),
    ]
    writers = []
    for path, kind in kinds:
        if path:
            file = stack.enter_context(write_whole(path))
            writers.append(kind(file, names))
    return writers


# ---- Reading and printing ------------------------------------------------------------------------


class PicturePrinter:
    """Prints a line per picture, and a line on stderr per file that is left out."""

    def __init__(self, job: PictureJob) -> None:
        self.job = job
        self.classified = 0
        self.left_out: list[str] = []  # why, a line per file
        names = [clean(path, 120) for path in job.paths]
        self.width = max(len(name) for name in names)
        # If the rows are in a file, a long list on the screen serves nobody.
        self.in_file = bool(job.outputs)

    def add(self, path: Path, y: np.ndarray, names: Sequence[str]) -> None:
        """Print the likeliest classes of a picture. y: probabilities (C,)."""
        self.classified += 1
        if self.in_file and self.classified > LISTED:
            return
        likeliest = np.argsort(-y, kind="stable")[:LIKELIEST]
        classes = ", ".join(f"{names[c]} {y[c]:.1%}" for c in likeliest)
        self.show(f"{clean(path, 120):<{self.width}}  {classes}")

    def leave_out(self, fault: str) -> None:
        """Note a file that is left out; print the first ones on stderr."""
        self.left_out.append(fault)
        if len(self.left_out) <= LISTED:
            line = clean(f"test.py: error: {fault}; left out")
            tqdm.write(line, file=sys.stderr)

    def show(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line, file=sys.stdout)

    def finish(self) -> None:
        """Print what was not printed one by one, and the counts."""
        if len(self.left_out) > LISTED:
            more = len(self.left_out) - LISTED
            print(f"test.py: error: {more:,} more files left out", file=sys.stderr)
        if self.in_file and self.classified > LISTED:
            print(f"... {self.classified - LISTED:,} more")
        counts = [f"{self.classified:,} classified"]
        if self.left_out:
            counts.append(f"{len(self.left_out):,} left out")
        if self.job.passed_over:
            passed_over = f"{self.job.passed_over:,} passed over"
            counts.append(f"{passed_over} (hidden, or not named as pictures are)")
        if self.classified != 1 or len(counts) > 1 or self.in_file:
            print(f"pictures: {', '.join(counts)}{self.written()}")

    def written(self) -> str:
        """Return which files were written, as the end of a line."""
        if not self.job.outputs:
            return ""
        return f"; written: {', '.join(str(path) for path in self.job.outputs)}"


class PictureReader:
    """Reads pictures on several threads. What is no picture is reported and left out."""

    def __init__(self, read_picture: ReadPicture, threads, printer: PicturePrinter) -> None:
        self.read_picture, self.threads, self.printer = read_picture, threads, printer

    def read(self, paths: Sequence[Path]) -> tuple[list[Path], np.ndarray]:
        """Return the paths of the pictures, and the images (m, 3072) uint8."""
        with warnings.catch_warnings():  # read_picture's own are not safe on several threads
            warnings.simplefilter("ignore")
            results = self.threads.each(self.read_or_error, paths)
        pictures, images = [], np.empty((len(paths), PIXELS), np.uint8)
        for path, image in zip(paths, results, strict=True):
            if isinstance(image, UserError):
                self.printer.leave_out(str(image))
            else:
                images[len(pictures)] = image
                pictures.append(path)
        return pictures, images[: len(pictures)]

    def read_or_error(self, path: Path) -> np.ndarray | UserError:
        try:
            return self.read_picture(path)
        except UserError as error:
            return error


# ---- Why this class ------------------------------------------------------------------------------


class Explainer:
    """Writes each picture's logit, that of another class, and their difference as sums of votes."""

    def __init__(
        self, job: PictureJob, network, names: Sequence[str], reader: PictureReader
    ) -> None:
        self.job, self.network, self.names = job, network, names
        self.short_names = [clean(name, SHORT) for name in names]
        self.against = None if job.against is None else class_named(job.against, names)
        self.background = self.read_background(reader) if job.background else None
        # Files that no figure may replace. Those of an earlier command may be replaced.
        self.taken = {os.path.realpath(path) for path in (*job.paths, *job.outputs)}

    def read_background(self, reader: PictureReader) -> np.ndarray:
        """Return at most BACKGROUND of the pictures, evenly spread, as images (N, 3072)."""
        if self.network.window.whole:
            raise UserError(
                "--background: needs filters smaller than the image, as only their votes are "
                "independent; leave it out"
            )
        files = self.job.background
        if len(files) > BACKGROUND:
            note(f"--background: {BACKGROUND} of the {len(files):,} files are used, evenly spread")
            files = [files[i] for i in np.linspace(0, len(files) - 1, BACKGROUND).astype(int)]
        _, images = reader.read(files)
        if len(images) == 0:
            raise UserError("--background: none of these files is a picture; name others")
        return images

    def explain(self, picture: Path, image: np.ndarray, y: np.ndarray) -> list[str]:
        """Draw an image's votes, image (3072,), probabilities y (C,). Return the sums, as lines."""
        from support.figures.votes import write_votes

        # `write_votes` takes the runner-up if the class to compare with is the predicted one.
        against = int(y.argmax()) if self.against is None else self.against
        path = self.figure_path(picture)
        explanation = write_votes(
            self.network, image, self.names, path, against=against, background=self.background
        )
        sums = explanation.equations(self.short_names)
        return [*sums, self.odds(explanation), f"drawn in {shorter(path)}"]

    def odds(self, explanation) -> str:
        """Return what the difference of the two logits means: e to it is a ratio."""
        first, second = explanation.predicted, explanation.against
        y = explanation.probabilities
        with np.errstate(divide="ignore"):
            ratio = y[first] / y[second]
        times = f"{ratio:,.0f}" if 1000 <= ratio < 1e9 else f"{ratio:.3g}"
        return (
            f"{self.short_names[first]} is {times} times as likely as {self.short_names[second]}: "
            "e to the power of the difference"
        )

    def figure_path(self, picture: Path) -> Path:
        """Return --explain's folder/NAME-votes.png, with a number if that is taken.

        The figure's caption is in NAME-votes.txt, which may not be taken either.
        """
        stem = clean(picture.stem).encode()[:200].decode(errors="ignore")
        path = self.job.explain / f"{stem}-votes.png"
        number = 1
        while self.is_taken(path) or self.is_taken(path.with_suffix(".txt")):
            number += 1
            path = self.job.explain / f"{stem}-votes-{number}.png"
        self.taken.add(os.path.realpath(path))
        return path

    def is_taken(self, path: Path) -> bool:
        return os.path.realpath(path) in self.taken


def class_named(name: str, names: Sequence[str]) -> int:
    """Return the number of the class of --against. Raises UserError if there is none."""
    lower = [each.casefold() for each in names]
    if name in names:
        return list(names).index(name)
    if name.casefold() in lower:
        return lower.index(name.casefold())
    near = difflib.get_close_matches(name.casefold(), lower, 1)
    hint = f"did you mean {names[lower.index(near[0])]}?" if near else ""
    known = hint or f"there are {clean(', '.join(names), 150)}"
    raise UserError(f"--against {clean(name, 60)}: is no class of this network; {known}")
