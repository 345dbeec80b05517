"""Recognise files and folders that are given instead of CIFAR-10's Python version."""

import os
from pathlib import Path

from support.cli import clean
from support.image_shape import PIXELS

GET_PYTHON = "get the Python version (cifar-10-python.tar.gz)"
# The first bytes of a file, and what it then is.
SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file: run git lfs pull"),
    (b"/annex/objects/", "is a git-annex pointer, not the file: run git annex get"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"BZh", "is compressed with bzip2: unpack it"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it"),
    (b"PK\x03\x04", "is a zip archive: unpack it"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it"),
    (b"Rar!", "is a rar archive: unpack it"),
    (b"MATLAB", f"is the version for MATLAB: {GET_PYTHON}"),
    (b"\x89HDF", f"is an HDF5 file: {GET_PYTHON}"),
    (b"\x93NUMPY", f"is a NumPy array: {GET_PYTHON}"),
    (b"PAR1", f"is a Parquet file: {GET_PYTHON}"),
    (b"SQLite format 3", f"is a database: {GET_PYTHON}"),
    (b"\x89PNG", "is a PNG picture"),
    (b"\xff\xd8\xff", "is a JPEG picture"),
    (b"%PDF", "is a PDF document"),
)
MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")
OTHER_DATA = (".parquet", ".arrow", ".h5", ".hdf5", ".npz", ".npy", ".tfrecord", ".pt", ".lmdb")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def file_fault(content: bytes) -> str | None:
    """Return what a file is, by its content; None if it isn't recognised."""
    if not content:
        return "is empty"
    for start, fault in SIGNATURES:
        if content.startswith(start):
            return fault
    text = content[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(MARKUP):
        return "is a web page, not the file"
    if content[257:262] == b"ustar":
        return "is a tar archive: unpack it"
    if not content.strip(b"\0"):
        return "is full of zeros: its download or copy was cut"
    if _is_binary_version(content):
        return f"is the binary version: {GET_PYTHON}"
    return None


def _is_binary_version(content: bytes) -> bool:
    """Return whether the file holds rows of one label, or two, and the pixels."""
    for row in (1 + PIXELS, 2 + PIXELS):
        if len(content) % row == 0:
            labels = content[::row]
            return max(labels) < 20  # CIFAR-10's classes, CIFAR-100's superclasses
    return False


def folder_fault(path: Path) -> str:
    """Return what a folder without batches holds, or what a file is that was given as a folder."""
    if path.is_file():
        with open(path, "rb") as file:
            fault = file_fault(file.read(1 << 16)) or "is a file"
        return f"{fault.partition(':')[0]}, which --data-url may take"
    if not path.is_dir():
        return "is not a folder"
    names = sorted(os.listdir(path))
    if not names:
        return "is empty"
    for name in names:
        fault = _name_fault(name)
        if fault:
            return fault
    picture = _picture_below(path)
    if picture:
        return f"holds pictures, {clean(picture, 50)}, for which there is data/pictures.py"
    shown = clean(", ".join(names[:3]), 60)
    return f"holds {shown}" + (" and more" if len(names) > 3 else "")


def _name_fault(name: str) -> str | None:
    """Return what a folder holds if a file in it has this name; None if it doesn't tell."""
    low = name.lower()
    shown = clean(name, 50)
    if low in ("trainlabels.csv", "train.7z", "test.7z", "samplesubmission.csv"):
        return f"holds Kaggle's pictures, {shown}, not the Python version"
    if low.endswith(".mat"):
        return f"holds the version for MATLAB, {shown}, not for Python"
    if low.endswith(".bin") or low == "batches.meta.txt":
        return f"holds the binary version, {shown}, not the one for Python"
    if low.endswith(OTHER_DATA):
        return f"holds {shown}, which is another version of the data"
    if low.endswith((".tar.gz", ".tgz", ".tar", ".tar.bz2")):
        return f"holds an archive, {shown}, which --data-url may take"
    if low.endswith((".zip", ".7z", ".rar", ".gz")):
        return f"holds an archive, {shown}, to be unpacked first"
    if low.startswith(("data_batch_", "test_batch", "batches.meta")):
        return f"holds {shown}, but the files' names have no ending: data_batch_1"
    return None


def _picture_below(folder: Path) -> str | None:
    """Return the path of a picture in the folder or up to two folders deeper."""
    for pattern in ("*", "*/*", "*/*/*"):
        for path in folder.glob(pattern):
            if path.suffix.lower() in PICTURES:
                return path.relative_to(folder).as_posix()
    return None
