"""Read and write .npz archives. Nothing in a file that is read is trusted: headers are checked before any data is."""

import io
import json
import math
import os
import re
import zipfile

from support.cli import clean, shorter
from support.files import Fault, FileError, error_context, open_regular, parse_object, write_whole

import numpy as np

MAX_BYTES = 4 << 30  # of all arrays of a file
MAX_META = 16 << 20  # bytes of the array `meta`, four for each character
MAX_MEMBERS = 1000
MAX_HEADER = 4096  # bytes
MAX_RATIO = 1100  # deflate's best is 1032:1
MAX_GAIN = 200  # of what unpacks to over 64 MB; weights hardly gain anything
CHUNK = 1 << 20  # bytes read at a time


# ---- Writing ---------------------------------------------------------------------------------------


def write_npz(
    path: str | os.PathLike, arrays: dict[str, np.ndarray], meta: dict | None = None
) -> None:
    """Write arrays and, as JSON in the array `meta`, a dict to one .npz, whole or not at all.

    OSError if the system refuses, FileError for what `read_npz` would not read: too much, or NaN in the dict.
    """
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise FileError(
            f"{shorter(path)}: would have {size / 2**30:,.1f} GB of arrays, and {MAX_BYTES >> 30} GB is the limit; "
            "choose fewer hidden units"
        )
    if meta is not None:
        try:
            text = json.dumps(meta, allow_nan=False)
        except ValueError as error:
            raise FileError(
                f"{shorter(path)}: its description can't be written ({error}); report this"
            ) from None
        if 4 * len(text) > MAX_META:
            raise FileError(
                f"{shorter(path)}: its description has {len(text):,} characters; choose fewer epochs"
            )
        arrays = arrays | {"meta": np.array(text)}
    # Not np.savez: where the disk is full, some versions leave a half-open archive that complains when it is collected.
    with write_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


# ---- Reading ---------------------------------------------------------------------------------------

# A header is a Python dict in the order in which NumPy writes it. Nothing but this is parsed, so nothing can nest.
_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?(?:f[248]|[iu][1248]|U[0-9]{1,8}))'\s*,\s*"
    r"'fortran_order'\s*:\s*(?P<order>True|False)\s*,\s*"
    r"'shape'\s*:\s*\((?P<shape>\s*|\s*[0-9]{1,12}L?\s*,\s*|\s*[0-9]{1,12}L?(?:\s*,\s*[0-9]{1,12}L?){1,7}\s*,?\s*)\)"
    r"\s*,?\s*\}\s*",
    re.ASCII,
)


class _Member:
    """An array in an archive: its header, read and judged, and how to get at its data."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.archive, self.info = archive, info
        self.label = clean(info.filename, 60)
        with archive.open(info) as file:
            self.dtype, self.shape, self.fortran, self.start = self._header(file)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        if math.prod(max(n, 1) for n in self.shape) * self.dtype.itemsize > MAX_BYTES:
            raise Fault(
                f"says that {self.label} has shape {clean(self.shape, 60)}, over {MAX_BYTES >> 30} GB"
            )
        if info.file_size != self.start + self.nbytes:
            raise Fault(
                f"has {info.file_size:,} bytes of {self.label}, not the {self.start + self.nbytes:,} of its header"
            )

    def _header(self, file: zipfile.ZipExtFile) -> tuple[np.dtype, tuple[int, ...], bool, int]:
        """(dtype, shape, whether in Fortran order, bytes before the data)"""
        magic = file.read(8)
        if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
            raise Fault(f"holds {self.label}, which is no NumPy array")
        width = 2 if magic[6] == 1 else 4
        size = int.from_bytes(file.read(width), "little")
        if size > MAX_HEADER:
            raise Fault(f"has a header of {size:,} bytes in {self.label}")
        text = file.read(size).decode("latin1")
        found = _HEADER.fullmatch(text)
        if len(text) < size or not found:
            raise Fault(
                f"has a header in {self.label} that describes no array of numbers: {clean(text, 60)}"
            )
        shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"]))
        return np.dtype(found["dtype"]), shape, found["order"] == "True", 8 + width + size

    def fill(self, view: memoryview) -> None:
        """Read the data into `view`, which has room for it and no more."""
        with self.archive.open(self.info) as file:
            file.read(self.start)
            position = 0
            while count := file.readinto(view[position : position + CHUNK]):
                position += count
            # The last read compares the checksum, too.
            if position < len(view) or file.read(1):
                raise Fault(f"is truncated in {self.label}")

    def array(self) -> np.ndarray:
        """The array, native byte order. Fault unless it is finite."""
        array = np.empty(self.shape[::-1] if self.fortran else self.shape, self.dtype)
        self.fill(memoryview(array.reshape(-1).view(np.uint8)))
        if not self.dtype.isnative:
            array = array.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        if (
            array.size
            and self.dtype.kind == "f"
            and not np.isfinite([array.min(), array.max()]).all()
        ):
            raise Fault(f"has entries in {self.label} that are not finite")
        return array.T if self.fortran else array

    def meta(self) -> dict:
        """The JSON object in the text that this array is."""
        if self.dtype.kind != "U" or self.shape != ():
            raise Fault("has an array 'meta' that is no text")
        if self.nbytes > MAX_META:
            raise Fault(f"has {self.nbytes:,} bytes in its array 'meta'")
        content = bytearray(self.nbytes)
        self.fill(memoryview(content))
        order = (
            "be" if self.dtype.str[0] == ">" else "le"
        )  # NumPy itself fails for code points beyond Unicode
        try:
            text = content.decode(f"utf-32-{order}").rstrip("\0")
        except UnicodeDecodeError:
            raise Fault("has an array 'meta' that is no Unicode text") from None
        return parse_object(text, "its array 'meta'")


class _File(io.FileIO):
    """An archive's file: zipfile reads its whole directory at once, which is small in what we write."""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > CHUNK:
            raise Fault("has an enormous directory of members")
        return super().read(size)


def _members(file: io.FileIO) -> dict[str, _Member]:
    """The arrays of an archive by name, judged by the archive's directory and their headers; no data is read."""
    size = os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(_File(file.fileno(), closefd=False))
    except zipfile.BadZipFile:
        raise Fault("is not a readable .npz") from None
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise Fault(f"has {len(infos):,} members")
    if sum(info.compress_size for info in infos) > size:
        raise Fault("has members that overlap")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_BYTES + MAX_META:
        raise Fault(f"unpacks to more than {MAX_BYTES >> 30} GB")
    if unpacked > max(64 << 20, MAX_GAIN * size):
        raise Fault(f"unpacks to {unpacked:,} bytes from {size:,}, as no network does")
    members = {}
    for info in infos:
        label = clean(info.filename, 60)
        name = info.filename.removesuffix(".npy")
        if (
            name == info.filename
            or not name.isprintable()
            or len(name) > 100
            or "/" in name
            or name in members
        ):
            raise Fault(f"holds {label!r}, which is no array, or twice there")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Fault(f"has {label} compressed by other than deflate")
        if info.file_size > MAX_RATIO * info.compress_size:
            raise Fault(f"says that {label} unpacks to {info.file_size:,} bytes, which can't be")
        members[name] = _Member(archive, info)
        if name != "meta" and members[name].dtype.kind == "U":
            raise Fault(f"holds text in {label}, not numbers")
    return members


def read_npz(
    path: str | os.PathLike, kind: str = "checkpoint"
) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the meta dict ({} where there is none) of an .npz, stored or deflated.

    kind: what the file is, for errors. FileError for anything but a regular file with finite numeric arrays, which
    together have at most MAX_BYTES. Headers are judged before any data is read, and each array is read straight into
    its place. Nothing in the file is executed.
    """
    try:
        with (
            error_context(path, f"restore the {kind}, or make it anew"),
            open_regular(path) as file,
        ):
            members = _members(file)
            meta = members.pop("meta").meta() if "meta" in members else {}
            return {name: member.array() for name, member in members.items()}, meta
    except FileError as error:
        if not os.path.lexists(path):
            hint = "; 'python train.py' writes one" if kind == "checkpoint" else "; check the path"
            raise FileError(f"{clean(shorter(path), 120)}: no such {kind}{hint}") from error
        raise


def check_arrays(arrays: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> None:
    """Fault unless the arrays have just the names and shapes of `like`, and fit into its dtypes."""
    if missing := [name for name in like if name not in arrays]:
        raise Fault(f"array {missing[0]} is missing")
    if extra := [name for name in arrays if name not in like]:
        raise Fault(f"array {extra[0]} doesn't belong to this network")
    for name, array in arrays.items():
        if array.shape != like[name].shape:
            raise Fault(f"array {name} has shape {array.shape} instead of {like[name].shape}")
        if np.abs(array).max(initial=0) > np.finfo(like[name].dtype).max:
            raise Fault(f"array {name} has entries too large for {like[name].dtype}")


def cast(arrays: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """The arrays in another floating dtype. ValueError where an entry would not be finite in it."""
    with np.errstate(over="ignore"):
        arrays = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"a weight is too large for {np.dtype(dtype)}")
    return arrays
