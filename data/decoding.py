"""Decode one picture file into the network's input: 32x32 pixels, whatever its size and kind.

A file is trusted with nothing: its format is one of a short list, and the memory that decoding
needs is computed from its header first. Transparent pictures are set on white. Of animations, of
pages and of several resolutions the first is taken.
"""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.cli import UserError, clean, shorter
from support.files import Fault, error_context, read_file
from support.image_shape import SIDE

import numpy as np

MAX_FILE = 1 << 28  # bytes
MAX_BYTES = 1 << 28  # of memory that decoding takes, beyond the file
MAX_PIXELS = 50_000_000  # which take a second or two
MAX_JPEG = 250_000_000  # pixels; those of a JPEG are decoded at a smaller size
MAX_SLOW = 1 << 21  # pixels of a format that Pillow decodes in Python, at a microsecond each
SLOW_DECODERS = ("bmp_rle", "qoi", "ppm", "ppm_plain")
MAX_SCANNED = 1_000_000_000  # pixels times passes over them, in a progressive JPEG
ENOUGH = 8 * SIDE  # the smaller side of a JPEG isn't decoded at less than this
STRIP = 1 << 20  # pixels that are averaged at a time

QUIET = logging.NullHandler()  # for Pillow's own words on damaged files; added once, not per file
CONVERT = "convert it to JPEG or PNG"


# Tags of TIFF, and of EXIF, which is made like it.
BITS_PER_SAMPLE = 258
COMPRESSION = 259
PHOTOMETRIC = 262
ORIENTATION = 274
SAMPLES_PER_PIXEL = 277
ROWS_PER_STRIP = 278
LARGEST_VALUE = 281
TILE_WIDTH = 322
TILE_HEIGHT = 323
SAMPLE_FORMAT = 339
SIGNED = 2


class PictureError(UserError):
    """A file that isn't used as a picture, in one line. reason: the kind of fault, for counts."""

    reason = "unreadable"


class PictureFault(Fault):
    """What is wrong with a picture. reason: the kind of fault, in few words, for counts."""

    def __init__(self, fault: str, reason: str, remedy: str = "give another picture") -> None:
        super().__init__(fault)
        self.reason = reason
        self.remedy = remedy


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Return a picture as the network's input, (3072,) uint8.

    It is turned upright, set on white if it is transparent, cropped to the square in its middle,
    and averaged down. Raises PictureError if the file is not a readable picture.
    """
    try:
        if os.path.islink(path) and not os.path.exists(path):
            raise PictureFault("is a link to nothing", "links to nothing")
        if _is_missing(path):
            raise PictureFault("not found", "missing", remedy="")
        with error_context(path, "give another picture", PictureError):
            # From memory, as from a file Pillow would read as many bytes as a header says.
            content = read_file(path, MAX_FILE)
        return _decode(content, Path(path).suffix.lower())
    except PictureError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise _picture_error(path, error) from None


def _is_missing(path: str | os.PathLike) -> bool:
    """Return whether there is no such file. Whatever else is wrong, reading it tells."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _picture_error(path: str | os.PathLike, error: Exception) -> PictureError:
    """Return the error that names the file, from one that was raised while it was decoded."""
    if isinstance(error, PictureFault):
        fault = error
    elif isinstance(error, MemoryError):
        fault = PictureFault("needs more memory than there is", "too large")
    else:
        text = f"no picture that can be read ({clean(error, 80)})"
        fault = PictureFault(text, "damaged")
    remedy = f"; {fault.remedy}" if fault.remedy else ""
    named = PictureError(f"{clean(shorter(path), 120)}: {fault}{remedy}")
    named.reason = fault.reason
    return named


# ---- The kind of a file --------------------------------------------------------------------

# Pillow's names of the formats that are read. It has more, which few people have: some start other
# programs (EPS), and some hold pictures of other sizes than their header says (ICO).
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "TIFF",
    "BMP",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "PCX",
    "DIB",
    "QOI",
)

# Kinds of files that people take for pictures: the fault, the remedy.
KINDS = {
    "HEIC": ("is a HEIC picture, as phones make them", CONVERT),
    "AVIF": ("is an AVIF picture, which this Pillow doesn't read", f"{CONVERT}, or update Pillow"),
    "JPEG XL": ("is a JPEG XL picture", CONVERT),
    "RAW": ("is a camera's raw picture", "develop it to JPEG or PNG"),
    "PDF": ("is a PDF document", "export its pages as PNG"),
    "PostScript": ("is a program in PostScript", "export it as PNG"),
    "SVG": ("is an SVG drawing", "export it as PNG"),
    "Photoshop": ("is a Photoshop document", "export it as JPEG or PNG"),
    "video": ("is a video", "export some frames as JPEG or PNG"),
    "Git LFS": ("is a pointer of Git LFS, not the picture itself", "run 'git lfs pull'"),
    "HTML": ("is a web page", "download the picture itself"),
}
_SIGNATURES = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"FUJIFILMCCD-RAW": "RAW",
    b"IIU\0": "RAW",  # Panasonic
    b"IIRO": "RAW",  # Olympus
    b"IIRS": "RAW",
    b"MMOR": "RAW",
    b"\0MRM": "RAW",  # Minolta
    b"FOVb": "RAW",  # Sigma
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"8BPS": "Photoshop",
    b"\x1a\x45\xdf\xa3": "video",  # Matroska and WebM
    b"version https://git-lfs": "Git LFS",
}
# Most raw pictures are TIFF files whose first page is a thumbnail.
_RAW_NAMES = (
    ".3fr",
    ".arw",
    ".cr2",
    ".dcr",
    ".dng",
    ".erf",
    ".iiq",
    ".kdc",
    ".mef",
    ".mos",
    ".nef",
    ".nrw",
    ".pef",
    ".raw",
    ".rwl",
    ".sr2",
    ".srf",
    ".srw",
)


def _kind(content: bytes, suffix: str) -> str | None:
    """Return the key in KINDS of a file, None if it is of any other kind."""
    for start, kind in _SIGNATURES.items():
        if content.startswith(start):
            return kind
    if content[4:8] == b"ftyp":
        return _kind_by_brand(content[8:64])
    if content.startswith((b"II*\0", b"MM\0*")) and suffix in _RAW_NAMES:
        return "RAW"
    if content.startswith(b"RIFF") and content[8:12] == b"AVI ":
        return "video"
    text = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if text.startswith(b"<") and b"<svg" in text:
        return "SVG"
    return None


def _kind_by_brand(brands: bytes) -> str:
    """Return the kind of a file in the container format of MP4, by the brands that it names."""
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    if b"crx " in brands:  # Canon
        return "RAW"
    if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")):
        return "HEIC"
    return "video"


def _refuse_kind(kind: str) -> None:
    fault, remedy = KINDS[kind]
    raise PictureFault(fault, kind, f"{remedy} first")


# ---- Decoding ------------------------------------------------------------------------------


def _decode(content: bytes, suffix: str) -> np.ndarray:
    """Return the picture in a file's content, (3072,) uint8. suffix: that of the file's name.

    Raises PictureFault before anything large is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    kind = _kind(content, suffix)
    if kind and kind != "AVIF":
        _refuse_kind(kind)
    if not content:
        raise PictureFault("is empty", "empty")
    logging.getLogger("PIL").addHandler(QUIET)
    Image.MAX_IMAGE_PIXELS = None  # _check_cost judges by the memory, which may be much less
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
                _check_webp(content)
            file = _open(content)
        except UnidentifiedImageError:
            if kind == "AVIF":
                _refuse_kind(kind)
            fault = "no picture that can be read (its format is unknown)"
            raise PictureFault(fault, "unknown format", CONVERT) from None
        with file:
            _check_cost(file, content)
            file.load()
            return _to_input(file, content)


def _open(content: bytes):
    """Return the picture in a file's content, not yet decoded.

    Raises UnidentifiedImageError if it is of no format in FORMATS, or of one that Pillow lacks.
    """
    from PIL import Image, UnidentifiedImageError

    Image.preinit()  # the usual formats
    try:
        return Image.open(io.BytesIO(content), formats=_known_formats())
    except UnidentifiedImageError:
        Image.init()  # all formats, which takes a moment
        return Image.open(io.BytesIO(content), formats=_known_formats())


def _known_formats() -> list[str]:
    """Return FORMATS without those that Pillow doesn't know, over which it would trip."""
    from PIL import Image

    return [name for name in FORMATS if name in Image.OPEN]


def _check_cost(file, content: bytes) -> None:
    """Choose the size at which a JPEG is decoded. Raise PictureFault if decoding costs too much."""
    size = file.size
    pixels = file.width * file.height
    if pixels < 1:
        raise PictureFault("has no pixels", "damaged")
    if file.format in ("JPEG", "MPO"):  # MPO: a JPEG with others behind it
        _check_jpeg(file, content)
        memory = _jpeg_buffer(file, content)
        file.draft(None, (ENOUGH, ENOUGH))
    else:
        if pixels > MAX_PIXELS:
            _refuse_size(f"has {_pixels(size)}, over {MAX_PIXELS // 10**6} million")
        memory = _decoder_bytes(file)
        decoder = file.tile[0][0] if file.tile else ""
        if decoder in SLOW_DECODERS and pixels > MAX_SLOW:
            fault = f"over {MAX_SLOW / 1e6:.1f} million, of a kind that is slow to read"
            _refuse_size(f"has {_pixels(size)}, {fault}")
    _check_memory(size, memory + _image_bytes(file))


def _check_jpeg(file, content: bytes) -> None:
    """Raise PictureFault if a JPEG has too many pixels, or goes over them too often."""
    pixels = file.width * file.height
    if pixels > MAX_JPEG:
        _refuse_size(f"has {_pixels(file.size)}, over {MAX_JPEG // 10**6} million")
    passes = content.count(b"\xff\xda")  # marks the start of each
    if _is_buffered(file, content) and passes * pixels > MAX_SCANNED:
        _refuse_size(f"has {_pixels(file.size)} in {passes:,} passes")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,} pixels"


def _check_memory(size: tuple[int, int], memory: int) -> None:
    """Raise PictureFault if a picture of this size takes too many bytes to decode."""
    if memory > MAX_BYTES:
        _refuse_size(
            f"has {_pixels(size)}, which take {memory >> 20:,} MB to decode, over "
            f"{MAX_BYTES >> 20} MB"
        )


def _refuse_size(fault: str) -> None:
    raise PictureFault(fault, "too large", "make it smaller first")


def _image_bytes(file) -> int:
    """Return the bytes of a decoded Pillow image. It has 1, 2 or 4 bytes for each pixel."""
    width = {"1": 1, "L": 1, "P": 1}.get(file.mode, 4)
    if file.mode.startswith("I;16"):
        width = 2
    return file.width * file.height * width


# Bytes that a decoder takes for each pixel in each channel, beyond the image; measured.
_DECODER_BYTES = {"AVIF": 4, "JPEG2000": 5.6, "QOI": 4}
_WEBP_BYTES = 19  # for each pixel, with the image


def _decoder_bytes(file) -> int:
    """Return the bytes that a decoder takes beyond the image itself."""
    pixels = file.width * file.height
    channels = len(file.getbands())
    if file.format == "TIFF":
        return _tiff_bytes(file)
    return int(pixels * channels * _DECODER_BYTES.get(file.format, 0))


def _check_webp(content: bytes) -> None:
    """Raise PictureFault if a WebP takes too many bytes, most of which Pillow takes at opening."""
    kind = content[12:16]
    if kind == b"VP8X":  # with animation, transparency or EXIF
        width = 1 + int.from_bytes(content[24:27], "little")
        height = 1 + int.from_bytes(content[27:30], "little")
    elif kind == b"VP8L":  # lossless
        bits = int.from_bytes(content[21:25], "little")
        width = 1 + (bits & 0x3FFF)
        height = 1 + (bits >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(content[26:28], "little") & 0x3FFF
        height = int.from_bytes(content[28:30], "little") & 0x3FFF
    _check_memory((width, height), width * height * _WEBP_BYTES)


def _tiff_bytes(file) -> int:
    """Return the bytes that decoding a TIFF takes beyond the image."""
    tags = file.tag_v2
    memory = 0
    if tags.get(COMPRESSION, 1) != 1:  # a strip or tile is decompressed as a whole
        # The picture may be turned: width and height may be exchanged.
        rows = tags.get(ROWS_PER_STRIP, max(file.size))
        strip = min(file.width * file.height, max(file.size) * rows)
        tile = tags.get(TILE_WIDTH, 0) * tags.get(TILE_HEIGHT, 0)
        bits = tags.get(SAMPLES_PER_PIXEL, 1) * max(tags.get(BITS_PER_SAMPLE, (1,)))
        memory += max(strip, tile) * bits // 8
    if tags.get(ORIENTATION, 1) != 1:  # Pillow turns it in a second image
        memory += _image_bytes(file)
    return memory


def _is_buffered(file, content: bytes) -> bool:
    """Return whether a JPEG's decoder keeps all coefficients: several passes go over the image."""
    if file.info.get("progressive"):
        return True
    return _channels_of_first_scan(content) < len(file.layer)


def _jpeg_buffer(file, content: bytes) -> int:
    """Return the bytes of the coefficients, two each, that a JPEG's decoder keeps."""
    if not _is_buffered(file, content):
        return 0
    # Each channel is sampled h x v times in a cell of as many pixels as the finest one has.
    samples = [max(1, h * v) for _, h, v, _ in file.layer]
    finest = max(h for _, h, _, _ in file.layer) * max(v for _, _, v, _ in file.layer)
    finest = max(1, finest)
    return 2 * file.width * file.height * sum(samples) // finest


def _channels_of_first_scan(content: bytes) -> int:
    """Return the number of channels in a JPEG's first scan, 0 if there is none."""
    position = 2
    while position + 4 < len(content):
        if content[position] != 0xFF:
            position += 1
            continue
        marker = content[position + 1]
        if marker == 0xDA:  # start of scan
            return content[position + 4]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:  # markers without content
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return 0


# ---- Pixels --------------------------------------------------------------------------------


def _to_input(picture, content: bytes) -> np.ndarray:
    """Return the square in the middle of a loaded Pillow image, averaged down, (3072,) uint8."""
    # EXIF's orientation: which axes are mirrored, and whether rows and columns are exchanged.
    orientation = _orientation(picture)
    mirror_rows = orientation in (3, 4, 6, 7)
    mirror_columns = orientation in (2, 3, 7, 8)
    swap_axes = orientation in (5, 6, 7, 8)

    side = min(picture.size)
    left = _offset(picture.width - side, mirror_columns)
    top = _offset(picture.height - side, mirror_rows)
    share = _shares(side)
    strips = _rgb_strips(picture, (left, top, left + side, top + side), content)
    rows = [_shrink_columns(strip.astype(np.float32), share) for strip in strips]
    small = np.round(_shrink_rows(np.concatenate(rows), share)).astype(np.uint8)

    if mirror_rows:
        small = small[::-1]
    if mirror_columns:
        small = small[:, ::-1]
    if swap_axes:
        small = small.transpose(1, 0, 2)
    return small.transpose(2, 0, 1).reshape(-1)


def _orientation(picture) -> int:
    """Return EXIF's orientation of a loaded picture, 1 (upright) if there is none."""
    if picture.format == "TIFF":  # Pillow has turned it
        return 1
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # the data is damaged, the picture itself isn't
        return 1


def _offset(excess: int, mirrored: bool) -> int:
    """Return the start of the middle on an axis, such that turning the picture keeps its square."""
    before = excess // 2
    return excess - before if mirrored else before


def _shares(n: int) -> np.ndarray:
    """Return (32, n): the share that each of n pixels in a row has in each of the 32 new ones.

    A new pixel is the mean of the area that it covers, to fractions of a pixel. If n is below 32,
    it is the pixel under it.
    """
    edges = np.linspace(0, n, SIDE + 1)[:, None]
    pixels = np.arange(n)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.maximum(overlap, 0) * (SIDE / n)


def _shrink_columns(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return (r, 32, 3) of rows (r, n, 3)."""
    return np.einsum("cj,ijk->ick", share, rows, optimize=True)


def _shrink_rows(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return (32, 32, 3) of rows (n, 32, 3)."""
    return np.einsum("ri,ijc->rjc", share, rows, optimize=True)


# ---- Colours -------------------------------------------------------------------------------


def _strips(picture, box: tuple[int, int, int, int]) -> Iterator:
    """Yield a part of a Pillow image in strips of some STRIP pixels, from above."""
    left, top, right, bottom = box
    height = max(1, STRIP // (right - left))
    for upper in range(top, bottom, height):
        yield picture.crop((left, upper, right, min(upper + height, bottom)))


def _rgb_strips(picture, box: tuple[int, int, int, int], content: bytes) -> Iterator[np.ndarray]:
    """Yield a part of a Pillow image in strips, as arrays (r, n, 3) uint8."""
    if picture.mode.startswith(("I", "F")):  # grey of 16 or 32 bits, which convert() would clip
        yield from _scaled_strips(picture, box)
        return
    if picture.mode == "LAB":
        raise PictureFault("has LAB colours", "LAB colours", CONVERT)
    has_alpha = picture.mode.upper() in ("RGBA", "LA", "PA")
    transparent = has_alpha or "transparency" in picture.info
    low, high = 255, 0
    for strip in _strips(picture, box):
        if transparent:
            strip = _on_white(strip)
        array = np.asarray(strip.convert("RGB"))
        low = min(low, int(array.min()))
        high = max(high, int(array.max()))
        yield array
    if _has_16_bits(picture, content):  # of which Pillow keeps the upper 8
        _check_brightness(256 * low, 256 * high + 255, 65535)


def _on_white(strip):
    """Return a transparent Pillow image set on white."""
    from PIL import Image

    strip = strip.convert("RGBA")
    if strip.getextrema()[3] == (255, 255):  # opaque
        return strip
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)


def _has_16_bits(picture, content: bytes) -> bool:
    """Return whether a picture with 8 bits in each channel has 16 in its file."""
    if picture.format == "PNG":
        return content[24] == 16  # the bit depth in its header
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (1,))) == 16
    return False


def _scaled_strips(picture, box: tuple[int, int, int, int]) -> Iterator[np.ndarray]:
    """Yield a part of a grey Pillow image of 16 or 32 bits as arrays (r, n, 3) uint8."""
    low, high = np.inf, -np.inf
    for strip in _strips(picture, box):
        array = np.asarray(strip)
        if not np.isfinite(array).all():
            _refuse_range("has values that are not finite")
        low = min(low, float(array.min()))
        high = max(high, float(array.max()))
    white = _white(picture, low, high)
    inverted = picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0  # 0 is white
    for strip in _strips(picture, box):
        grey = np.asarray(strip) * (255 / white)
        grey = np.round(grey).clip(0, 255).astype(np.uint8)
        if inverted:
            grey = 255 - grey
        yield np.repeat(grey[..., None], 3, axis=2)


def _white(picture, low: float, high: float) -> float:
    """Return the value of white of a grey image of 16 or 32 bits, whose values are low to high.

    Raises PictureFault if neither its kind nor its values tell.
    """
    whites = _whites(picture, high)
    if low < -min(whites) / 510:
        _refuse_range(f"has negative values, from {low:.6g} to {high:.6g}")
    for white in whites:
        rounding = white / 510  # half a grey level
        if -rounding <= low and high <= white + rounding:
            _check_brightness(low, high, white)
            return white
    _refuse_range(f"has values from {low:.6g} to {high:.6g}")


def _whites(picture, high: float) -> Sequence[float]:
    """Return the values that white may have in a grey image of 16 or 32 bits."""
    if picture.format == "TIFF":
        bits = max(picture.tag_v2.get(BITS_PER_SAMPLE, (32,)))
        if bits < 16:  # 12 bits, which Pillow doesn't scale
            return [2**bits - 1]
        if bits == 16 and max(picture.tag_v2.get(SAMPLE_FORMAT, (1,))) == SIGNED:
            return [2**15 - 1]
        largest = np.max(picture.tag_v2.get(LARGEST_VALUE, 0))
        if largest >= high and largest + 1 in (2**10, 2**12, 2**14):
            return [largest]  # as microscopes and scanners write it
    if picture.mode == "F":
        return [1, 255, 65535]
    if picture.mode == "I" and picture.format == "TIFF":
        return [255, 65535]
    return [65535]


def _check_brightness(low: float, high: float, white: float) -> None:
    """Raise PictureFault if a picture would be dark: its white may be another value.

    A sensor of 14 bits ends at a quarter of 16 bits. A photograph that is as dark as this can't
    be told from one: left out with a reason, it does less harm than black among the pictures.
    """
    if high < white / 4:
        _refuse_range(f"has values from {low:.6g} to {high:.6g}, where white may be {white:,}")


def _refuse_range(fault: str) -> None:
    remedy = "scale them to 0 to 255 first"
    raise PictureFault(f"{fault}: an unclear range", "unclear range", remedy)
