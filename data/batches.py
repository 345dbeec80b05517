"""Read a batch, a pickle with images and labels, and check all that is in it."""

import re
from dataclasses import dataclass
from pathlib import Path

from data.layouts import CIFAR100, MAX_CLASSES, Layout
from data.pickles import Call, array, read_pickle, text
from support.cli import clean
from support.files import Fault
from support.image_shape import PIXELS

import numpy as np

MAKERS = ("synthetic", "pictures")  # our own folders; each batch's label ends with its maker


@dataclass(frozen=True, eq=False)
class Batch:
    """A checked batch."""

    images: np.ndarray  # (n, 3072) uint8
    labels: np.ndarray  # (n,) int64
    maker: str  # "synthetic", "pictures", or "" for an official batch
    count: int  # the number of training batches in its folder


def read_batch(path: Path, layout: Layout, classes: int) -> Batch:
    """Return the batch in the file `path`. Raises Fault or OSError if it isn't one."""
    content = read_pickle(path, "data", layout.labels)
    images = _images(content["data"])
    labels = read_labels(content[layout.labels], classes)
    if len(images) != len(labels):
        raise Fault(f"has {len(images):,} images but {len(labels):,} labels")
    title = text(content.get("batch_label", ""))
    if layout.meta != CIFAR100.meta:
        _check_not_swapped(title, path.name, layout)
    maker = _maker(title)
    count = _count(title, layout) if maker else len(layout.train)
    return Batch(images, labels, maker, count)


def _images(value: object) -> np.ndarray:
    if not isinstance(value, Call):
        raise Fault(f"has data of type {type(value).__name__}, not an array")
    images = array(value)
    if images.dtype != np.uint8:
        raise Fault(f"has images of dtype {images.dtype}, not uint8")
    if images.ndim != 2 or images.shape[1] != PIXELS or len(images) == 0:
        raise Fault(f"has images of shape {images.shape}, not (rows, {PIXELS})")
    return images


# ---- Labels --------------------------------------------------------------------------------------


def read_labels(value: object, classes: int) -> np.ndarray:
    """Return labels (n,) int64 of a list, a tuple or an array.

    Whole floats, columns (n, 1) and rows (1, n) are accepted: people save labels in these forms.
    Raises Fault unless each label is a whole number from 0 to classes - 1.
    """
    if isinstance(value, Call):
        labels = _label_column(array(value)).tolist()
    elif isinstance(value, list | tuple):
        if len(value) == 1 and isinstance(value[0], list | tuple):
            value = value[0]
        labels = [_plain(label) for label in value]
    else:
        raise Fault(f"has labels of type {type(value).__name__}, not a list or an array")
    for row, label in enumerate(labels):
        if type(label) not in (int, float):  # bool isn't a number here
            raise Fault(f"has a label that is not an integer in row {row}: {_shown(label)}")
        if not 0 <= label < classes:  # nor is NaN
            raise Fault(f"has label {_shown(label)} in row {row}, outside 0..{classes - 1}")
        if label != int(label):
            raise Fault(f"has a label that is not an integer in row {row}: {_shown(label)}")
    return np.array(labels, np.int64)


def _label_column(labels: np.ndarray) -> np.ndarray:
    """Return labels (n,) of an array (n,), (n, 1) or (1, n)."""
    if labels.ndim == 2 and 1 in labels.shape:
        return labels.ravel()
    if labels.ndim != 1:
        hint = "; for one-hot labels save labels.argmax(1)" if labels.ndim == 2 else ""
        raise Fault(f"has labels of shape {labels.shape}, not (rows,){hint}")
    return labels


def _plain(label: object) -> object:
    """Return a label as a number of Python if it is one of NumPy, or alone in a list."""
    if isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    if isinstance(label, Call):
        number = array(label)
        return number.item() if number.size == 1 else number
    return label


def _shown(label: object) -> str:
    if isinstance(label, int | float | str):
        return clean(repr(label), 40)
    return f"a {type(label).__name__}"  # printing nested values may take for ever


# ---- A batch's own title -------------------------------------------------------------------------


def _title(title: str) -> tuple[str, str, str] | None:
    """Return split, number and count of a title such as "training batch 1 of 5"."""
    match = re.match(r"(training|testing) batch (\d{1,4}) of (\d{1,4})", title, re.ASCII)
    return match.groups() if match else None


def _check_not_swapped(title: str, file: str, layout: Layout) -> None:
    """Check that the title doesn't contradict the file's name. Raises Fault if it does.

    Only a clear contradiction counts: there are copies that number their batches from 0.
    """
    match = _title(title)
    if not match:
        return
    split, number, count = match
    other_split = (split == "testing") != (file == layout.test)
    other_number = (
        split == "training" and f"data_batch_{number}" in layout.train and not file.endswith(number)
    )
    if other_split or other_number:
        raise Fault(f"is swapped: it says that it is '{split} batch {number} of {count}'")


def _maker(title: str) -> str:
    for maker in MAKERS:
        if title.endswith(f", {maker}"):
            return maker
    return ""


def _count(title: str, layout: Layout) -> int:
    """Return the number of training batches: our own folders have one to five."""
    match = _title(title)
    if not match:
        return len(layout.train)
    return min(max(int(match[2]), 1), len(layout.train))


# ---- The classes ---------------------------------------------------------------------------------


def read_class_names(path: Path, layout: Layout) -> tuple[str, ...]:
    """Return the class names in the file `path`. Raises Fault or OSError if there are none."""
    names = read_pickle(path, layout.names)[layout.names]
    if not isinstance(names, list | tuple) or not 2 <= len(names) <= MAX_CLASSES:
        raise Fault(f"has no list of 2 to {MAX_CLASSES:,} {layout.names}")
    names = tuple(text(name) for name in names)
    if not all(_is_usable(name) for name in names):
        raise Fault(f"has {layout.names} that are empty, too long or not printable")
    if len(set(names)) < len(names):
        raise Fault(f"has {layout.names} that are doubled")
    return names


def _is_usable(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name) <= 255
