"""Write folders of batches in the layout of CIFAR-10, complete or not at all."""

import contextlib
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.pickles import DataError
from support.cli import clean, shorter
from support.files import write_whole_folder
from support.image_shape import PIXELS
from support.locks import locked

import numpy as np

TRAIN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST = "test_batch"
META = "batches.meta"
# Protocol 2 is the official files', but in it Python 3 writes bytes as calls.
PROTOCOL = 3


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path | None]:
    """Yield a new folder that becomes `folder` if the block ends without an error.

    Other processes wait. If one of them has made `folder` in the meantime, yield None.
    Raises DataError if the disk refuses, also in the block.
    """
    try:
        with locked(folder, f"making {clean(folder.name, 60)}", wait=True):
            if folder.exists():
                yield None
                return
            with write_whole_folder(folder) as new:
                yield new
    except OSError as error:
        shown = clean(shorter(error.filename or folder), 120)
        raise DataError(
            f"{shown}: cannot be written ({error.strerror}); free some space, "
            "change its permissions, or give another folder (--data-dir, --out)"
        ) from error


def write_batch(
    path: Path, title: str, images: np.ndarray, labels: np.ndarray, names: Sequence[str], kind: str
) -> None:
    """Write images (n, 3072) uint8, labels (n,) and the images' file names.

    kind: "synthetic" or "pictures"; `data.batches.read_batch` finds it in the batch's label.
    """
    content = {
        b"batch_label": f"{title}, {kind}".encode(),
        b"labels": labels.tolist(),
        b"data": images,
        b"filenames": [name.encode("utf-8", "replace") for name in names],
    }
    _write(path, content)


def write_meta(path: Path, class_names: Sequence[str], rows: int) -> None:
    """Write batches.meta: class names in the order of the labels, and the first batch's rows."""
    names = [name.encode() for name in class_names]
    _write(path, {b"num_cases_per_batch": rows, b"num_vis": PIXELS, b"label_names": names})


def _write(path: Path, content: dict[bytes, object]) -> None:
    with open(path, "wb") as file:
        pickle.dump(content, file, PROTOCOL)
