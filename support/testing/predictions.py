"""Files of predictions: CSV and JSON, of a test's images and of own pictures.

Pictures may be more than fit into memory, so their rows are written as they come.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from support.csv_text import csv_row
from support.files import write_whole

import numpy as np


def probability_cells(y: np.ndarray) -> list[str]:
    """Return probabilities (C,) as the cells of a CSV row."""
    return [f"{p:.6g}" for p in y]


def write_predictions(
    path: Path,
    log_y: np.ndarray,
    indices: Iterable[int],
    labels: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Write a CSV with a row per image: index, label, prediction, probability of each class.

    log_y: log-probabilities (N, C). indices: the images' rows in their split. labels: (N,).
    """
    with write_whole(path) as file:
        file.write(csv_row(["index", "label", "prediction", *class_names]))
        for index, row, label in zip(indices, log_y, labels, strict=True):
            words = [index, class_names[label], class_names[row.argmax()]]
            file.write(csv_row(words + probability_cells(np.exp(row))))


def finite(value):
    """Return the value with None for every number that JSON lacks: NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_text(value, indent: int | None = None) -> str:
    """Return the value as JSON, with null for numbers that are not finite."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


# ---- Own pictures, a row at a time ---------------------------------------------------------------


class PictureCsv:
    """--predictions FILE.csv: name, prediction, probability of each class."""

    def __init__(self, file: BinaryIO, class_names: Sequence[str]) -> None:
        self.file, self.class_names = file, class_names
        file.write(csv_row(["name", "prediction", *class_names]))

    def add(self, path: Path, y: np.ndarray) -> None:
        words = [str(path), self.class_names[y.argmax()]]
        self.file.write(csv_row(words + probability_cells(y)))

    def finish(self, left_out: list[str], passed_over: int) -> None:
        pass


class Submission:
    """--submission FILE.csv: id (the name without .png) and label, as Kaggle takes them."""

    def __init__(self, file: BinaryIO, class_names: Sequence[str]) -> None:
        self.file, self.class_names = file, class_names
        file.write(csv_row(["id", "label"]))

    def add(self, path: Path, y: np.ndarray) -> None:
        self.file.write(csv_row([path.stem, self.class_names[y.argmax()]]))

    def finish(self, left_out: list[str], passed_over: int) -> None:
        pass


class PictureJson:
    """--json FILE: an object with the classes' names, each picture, and what was left out."""

    def __init__(self, file: BinaryIO, class_names: Sequence[str]) -> None:
        self.file, self.class_names = file, class_names
        self.first = True
        file.write(f'{{\n"class_names": {json_text(class_names)},\n"pictures": ['.encode())

    def add(self, path: Path, y: np.ndarray) -> None:
        entry = {
            "name": str(path),
            "class": self.class_names[y.argmax()],
            "probabilities": y.tolist(),
        }
        comma = "" if self.first else ","
        self.first = False
        self.file.write(f"{comma}\n{json_text(entry)}".encode())

    def finish(self, left_out: list[str], passed_over: int) -> None:
        """Close the object. left_out: a line per file that is no picture."""
        rest = f'"left_out": {json_text(left_out)},\n"passed_over": {passed_over}'
        self.file.write(f"\n],\n{rest}\n}}\n".encode())
