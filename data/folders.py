"""Folders of batches that we make ourselves: whole or not at all, in the layout of CIFAR-10."""

import contextlib
import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.pickles import DataError
from support.cli import clean, shorter
from support.locks import locked

import numpy as np

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
META = "batches.meta"


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path | None]:
    """Yield a new folder that becomes `folder` when the block ends without an error.

    Other processes wait. Where one of them has made `folder` in the meantime, None is yielded instead. DataError if the
    disk refuses, in the block too.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        with locked(folder, f"making {clean(folder.name, 60)}", wait=True):
            try:
                if folder.exists():
                    yield None
                else:
                    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
                    partial.mkdir()
                    yield partial
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{clean(shorter(error.filename or folder), 120)}: cannot be written ({error.strerror}); free some space, "
            "change its permissions, or name another folder"
        ) from error


def write_batch(
    path: Path, title: str, images: np.ndarray, labels: np.ndarray, names: Sequence[str], kind: str
) -> None:
    """Write a batch: images (n, 3072) uint8, labels (n,), a file name for each image; kind: who made it, which
    `data.cifar10.read` finds in the batch's label."""
    content = {
        b"batch_label": f"{title}, {kind}".encode(),
        b"labels": labels.tolist(),
        b"data": images,
        b"filenames": [name.encode("utf-8", "replace") for name in names],
    }
    _write(path, content)


def write_meta(path: Path, class_names: Sequence[str], rows: int) -> None:
    """Write batches.meta: the names of the classes in the order of the labels, and the images of the first batch."""
    names = [name.encode() for name in class_names]
    _write(path, {b"num_cases_per_batch": rows, b"num_vis": 3072, b"label_names": names})


def _write(path: Path, content: dict[bytes, object]) -> None:
    with open(path, "wb") as file:
        pickle.dump(
            content, file, protocol=3
        )  # in protocol 2, the official one, Python 3 has no bytes
