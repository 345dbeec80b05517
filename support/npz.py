"""Read and write .npz archives of numeric arrays.

Nothing in a file that is read is trusted: headers are checked before any data is read, and nothing
in it is executed.
"""

import io
import json
import math
import os
import re
import zipfile
from pathlib import Path

from support.cli import clean, shorter
from support.files import Fault, FileError, error_context, open_regular, parse_object, write_whole

import numpy as np

MAX_BYTES = 4 << 30  # of all arrays of a file
MAX_META = 16 << 20  # bytes of the array `meta`, four for each character
MAX_MEMBERS = 1000
MAX_HEADER = 4096  # bytes
MAX_SMALL = 64 << 20  # bytes that any file may unpack to
MAX_GAIN = 200  # compression of what unpacks to more; weights hardly compress at all
CHUNK = 1 << 20  # bytes read at a time


# ---- Writing -------------------------------------------------------------------------------


def write_npz(
    path: str | os.PathLike, arrays: dict[str, np.ndarray], meta: dict | None = None
) -> None:
    """Write arrays and, as JSON in the array `meta`, a dict to one .npz, whole or not at all.

    Raises FileError for anything that `read_npz` would refuse: too many bytes, or NaN in the dict.
    Raises OSError if the system refuses.
    """
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise FileError(
            f"{shorter(path)}: would have {size / 2**30:,.1f} GB of arrays, and "
            f"{MAX_BYTES >> 30} GB is the limit; choose fewer hidden units"
        )
    if meta is not None:
        arrays = arrays | {"meta": _meta_array(path, meta)}
    # np.savez isn't used: on a full disk, some versions leave a half-open archive, which complains
    # when it is collected.
    with write_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _meta_array(path: str | os.PathLike, meta: dict) -> np.ndarray:
    """Return the dict as an array of JSON text."""
    try:
        text = json.dumps(meta, allow_nan=False)
    except ValueError as error:
        raise FileError(
            f"{shorter(path)}: its description is not valid JSON ({error}); report this"
        ) from None
    if 4 * len(text) > MAX_META:
        raise FileError(
            f"{shorter(path)}: its description has {len(text):,} characters; choose fewer epochs"
        )
    return np.array(text)


# ---- Reading -------------------------------------------------------------------------------


def read_npz(
    path: str | os.PathLike, kind: str = "checkpoint"
) -> tuple[dict[str, np.ndarray], dict]:
    """Return the arrays and the meta dict ({} if there is none) of an .npz, stored or deflated.

    kind: what the file is, for errors. Each array is read straight into its own memory.

    Raises FileError for anything but a regular file of finite numeric arrays, which together have
    at most MAX_BYTES.
    """
    if not os.path.lexists(path):
        hint = _other_checkpoints(path) if kind == "checkpoint" else "check the path"
        raise FileError(f"{clean(shorter(path), 120)}: no such {kind}; {hint}")
    with error_context(path, f"restore the {kind}, or make it anew"), open_regular(path) as file:
        members = _members(file)
        meta = {}
        if "meta" in members:
            meta = members.pop("meta").meta()
        return {name: member.array() for name, member in members.items()}, meta


def _other_checkpoints(path: str | os.PathLike) -> str:
    """Return a hint that names the checkpoints, at most three, in the folder of a missing one."""
    names = []
    for other in sorted(Path(path).parent.glob("*.npz")):
        if not other.name.endswith(".state.npz"):
            names.append(clean(other.name, 40))
    if not names:
        return "'python train.py' writes one"
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"its folder has {', '.join(names[:3])}{more}"


class _File(io.FileIO):
    """An archive's file. zipfile reads the whole directory at once, which is small in ours."""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > CHUNK:
            raise Fault("has an enormous directory of members")
        return super().read(size)


def _members(file: io.FileIO) -> dict[str, "_Member"]:
    """Return the arrays of an archive by name. Their headers are checked, no data is read."""
    try:
        archive = zipfile.ZipFile(_File(file.fileno(), closefd=False))
    except zipfile.BadZipFile:
        raise Fault("is not a readable .npz") from None
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise Fault(f"has {len(infos):,} members")
    size = os.fstat(file.fileno()).st_size
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_BYTES + MAX_META:
        raise Fault(f"unpacks to more than {MAX_BYTES >> 30} GB")
    if unpacked > max(MAX_SMALL, MAX_GAIN * size):
        raise Fault(f"unpacks to {unpacked:,} bytes from {size:,}, as no network does")
    members = {}
    for info in infos:
        name = _array_name(info)
        if name in members:
            raise Fault(f"holds {clean(info.filename, 60)} twice")
        members[name] = _Member(archive, info)
        if name != "meta" and members[name].dtype.kind == "U":
            raise Fault(f"holds text in {clean(info.filename, 60)}, not numbers")
    return members


def _array_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member's array. Raises Fault for any other kind of member."""
    label = clean(info.filename, 60)
    name = info.filename.removesuffix(".npy")
    is_name = name.isprintable() and len(name) <= 100 and "/" not in name
    if name == info.filename or not is_name:
        raise Fault(f"holds {label!r}, which is no array")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Fault(f"has {label} compressed by other than deflate")
    return name


# The header of an .npy file is a Python dict, in the order in which NumPy writes it. Nothing but
# this is parsed, so nothing can nest.
_NUMBER = r"\s*[0-9]{1,12}L?\s*"
_SHAPE = rf"\s*|{_NUMBER},\s*|{_NUMBER}(?:,{_NUMBER}){{1,7}},?\s*"
_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?(?:f[248]|[iu][1248]|U[0-9]{1,8}))'\s*,"
    r"\s*'fortran_order'\s*:\s*(?P<order>True|False)\s*,"
    rf"\s*'shape'\s*:\s*\((?P<shape>{_SHAPE})\)\s*,?\s*\}}\s*",
    re.ASCII,
)


class _Member:
    """An array in an archive: its header, which is read and checked, and access to its data."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.archive = archive
        self.info = info
        self.label = clean(info.filename, 60)
        with archive.open(info) as file:
            self._read_header(file)
        itemsize = self.dtype.itemsize
        # NumPy refuses enormous shapes also if a 0 in them makes the array empty.
        if math.prod(max(n, 1) for n in self.shape) * itemsize > MAX_BYTES:
            shape = clean(self.shape, 60)
            raise Fault(f"says that {self.label} has shape {shape}, over {MAX_BYTES >> 30} GB")
        self.nbytes = math.prod(self.shape) * itemsize
        expected = self.start + self.nbytes
        if info.file_size != expected:
            raise Fault(
                f"has {info.file_size:,} bytes of {self.label}, not the {expected:,} of its header"
            )

    def _read_header(self, file: zipfile.ZipExtFile) -> None:
        """Set dtype, shape, fortran (the order), and start: the bytes before the data."""
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
                f"has a header in {self.label} that describes no array of numbers: "
                f"{clean(text, 60)}"
            )
        self.dtype = np.dtype(found["dtype"])
        self.shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"]))
        self.fortran = found["order"] == "True"
        self.start = len(magic) + width + size

    def _read_into(self, view: memoryview) -> None:
        """Read the data into `view`, which has exactly its size."""
        with self.archive.open(self.info) as file:
            file.read(self.start)
            position = 0
            while count := file.readinto(view[position : position + CHUNK]):
                position += count
            # The last read also compares the checksum.
            if position < len(view) or file.read(1):
                raise Fault(f"is truncated in {self.label}")

    def array(self) -> np.ndarray:
        """Return the array in native byte order. Raises Fault unless it is finite."""
        shape = self.shape[::-1] if self.fortran else self.shape
        array = np.empty(shape, self.dtype)
        self._read_into(memoryview(array.reshape(-1).view(np.uint8)))
        if not self.dtype.isnative:
            array = array.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        # The extremes tell: a NaN anywhere is both of them.
        has_extremes = array.size > 0 and self.dtype.kind == "f"
        if has_extremes and not np.isfinite([array.min(), array.max()]).all():
            raise Fault(f"has entries in {self.label} that are not finite")
        return array.T if self.fortran else array

    def meta(self) -> dict:
        """Return the JSON object in the text that this array holds."""
        if self.dtype.kind != "U" or self.shape != ():
            raise Fault("has an array 'meta' that is no text")
        if self.nbytes > MAX_META:
            raise Fault(f"has {self.nbytes:,} bytes in its array 'meta'")
        content = bytearray(self.nbytes)
        self._read_into(memoryview(content))
        # Decoded here, as NumPy itself fails for code points beyond Unicode.
        encoding = "utf-32-be" if self.dtype.str[0] == ">" else "utf-32-le"
        try:
            text = content.decode(encoding).rstrip("\0")
        except UnicodeDecodeError:
            raise Fault("has an array 'meta' that is no Unicode text") from None
        return parse_object(text, "its array 'meta'")


# ---- Arrays of a network -------------------------------------------------------------------


def check_arrays(arrays: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> None:
    """Raise Fault unless the arrays have the names and shapes of `like`, and fit its dtypes."""
    for name in like:
        if name not in arrays:
            raise Fault(f"array {name} is missing")
    for name, array in arrays.items():
        if name not in like:
            raise Fault(f"array {name} doesn't belong to this network")
        if array.shape != like[name].shape:
            raise Fault(f"array {name} has shape {array.shape} instead of {like[name].shape}")
        if np.abs(array).max(initial=0) > np.finfo(like[name].dtype).max:
            raise Fault(f"array {name} has entries too large for {like[name].dtype}")


def cast(arrays: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """Return the arrays in another floating dtype.

    Raises ValueError if an entry would not be finite in it.
    """
    with np.errstate(over="ignore"):
        arrays = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"a weight is too large for {np.dtype(dtype)}")
    return arrays
