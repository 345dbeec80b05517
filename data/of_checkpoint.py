"""The images of a checkpoint: those that it was trained on, a warning about others, class names.

trained: name, fingerprint and class_names in a checkpoint. They come from a file, so any of them
may be missing or of another type.
"""

import os
import sys
from dataclasses import replace

from data.cifar10 import Dataset, Source, find_folder, given_folder, layout_in, load_from
from data.layouts import CIFAR100, CIFAR100_COARSE, CLASSES, LAYOUTS, Layout
from data.pickles import DataError
from support.cli import clean, shorter

# The fingerprint of the copy of CIFAR-10 that the networks in checkpoints/ were trained on.
JPEG_COPY = "6b55dc94622b047b51744dc8d2c3a3f334468b58e024de2fa52bf78b786294ff"


def load_for(source: Source, trained: dict) -> Dataset:
    """Return the `Dataset` of a source; `auto` takes the one that a checkpoint was trained on.

    trained: name, fingerprint and class_names in the checkpoint, which may be of any type.
    """
    name = trained.get("name")
    is_open = source.dataset == "auto" and source.data_dir is None
    if is_open and name == "pictures":
        raise DataError(
            "this checkpoint was trained on pictures of your own; give their folder by --data-dir"
        )
    dataset = source.dataset
    is_known = isinstance(name, str) and name in LAYOUTS
    if dataset == "auto" and is_known and (is_open or _may_hold(source.data_dir, LAYOUTS[name])):
        dataset = name
    return load_from(replace(source, dataset=dataset))


def _may_hold(data_dir: str | os.PathLike, layout: Layout) -> bool:
    """Return whether a folder holds the data set by the names of its folders and files."""
    folder = given_folder(data_dir)
    if (folder / layout.folder).is_dir():
        return True
    return layout is CIFAR100_COARSE and layout_in(find_folder("auto", folder)) is CIFAR100


def warn_of_other_data(path: str | os.PathLike, trained: dict, dataset: Dataset) -> None:
    """Print a line on stderr unless the checkpoint `path` was trained on these images."""
    shown = clean(shorter(path), 100)
    fingerprint = trained.get("fingerprint")
    if fingerprint == dataset.fingerprint:
        return
    if "fingerprint" not in trained:
        text = f"{shown}: doesn't say which images it was trained on; these are {dataset.name}"
    elif fingerprint == JPEG_COPY and dataset.name == "cifar10":
        text = (
            f"note: {shown}: the network was trained on a JPEG-compressed copy of CIFAR-10; "
            "these are other files of it, such as the original ones"
        )
    else:
        text = (
            f"WARNING: {shown}: was trained on other images ({clean(trained.get('name'), 40)}, "
            f"fingerprint {clean(fingerprint)[:8]}) than these "
            f"({dataset.name}, {dataset.fingerprint[:8]})"
        )
    print(text, file=sys.stderr)


def class_names(trained: dict, count: int) -> list[str]:
    """Return the names of a checkpoint's `count` classes, each printable and different.

    They are the checkpoint's own, whatever they are; unprintable characters become '?'. If it has
    none they are those of CIFAR-10 for ten classes, else numbers.
    """
    names = trained.get("class_names")
    if names is None and count == len(CLASSES):
        return list(CLASSES)
    if not isinstance(names, list) or len(names) != count:
        return [f"class {i}" for i in range(count)]
    shown: list[str] = []
    for i, name in enumerate(names):
        text = clean(name, 60) if isinstance(name, str) else ""
        if not text:
            text = f"class {i}"
        if text in shown:  # long names that differ in what is cut out, or doubled ones
            text = f"{clean(text, 50)} ({i})"
        shown.append(text)
    return shown
