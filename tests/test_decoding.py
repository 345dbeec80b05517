"""data/decoding.py: one picture file of any size and kind, or one line that says why not."""

import os
import struct
import zlib

from data import decoding

import numpy as np
import pytest
from helpers import in_little_memory, line_of
from PIL import Image, features

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def save(path, size=(40, 30), mode="RGB", **options):
    """Write a picture of random pixels, which it returns."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (size[1], size[0], bands), np.uint8)
    if bands == 1:
        picture = Image.fromarray(pixels[..., 0]).convert(mode)
    else:
        picture = Image.fromarray(pixels, mode)
    picture.save(path, **options)
    return picture


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def shrink(square):
    """The (n, n, 3) floats of a square, averaged down to (32, 32, 3)."""
    share = decoding._shares(len(square))
    return decoding._shrink_rows(decoding._shrink_columns(square, share), share)


def whole(pixels):
    """The input of (n, n, 3) uint8 pixels, computed at once."""
    small = np.round(shrink(np.asarray(pixels, np.float32))).astype(np.uint8)
    return small.transpose(2, 0, 1).reshape(-1)


def error_of(path):
    """The error in one line of a file that is no usable picture."""
    with pytest.raises(decoding.PictureError) as caught:
        decoding.read_picture(path)
    line_of(caught, os.path.basename(path)[:3])
    return caught.value


def grey_of(path):
    """The one value of a picture that is of one grey."""
    values = np.unique(decoding.read_picture(path))
    assert len(values) == 1
    return values[0]


def tiff(pixels, photometric=1, **tags):
    """The bytes of an uncompressed TIFF of (h, w, channels) pixels. tags: more, by number."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    values = {
        256: [width],
        257: [height],
        decoding.BITS_PER_SAMPLE: [bits] * channels,
        decoding.COMPRESSION: [1],
        decoding.PHOTOMETRIC: [photometric],
        273: [8],
        decoding.SAMPLES_PER_PIXEL: [channels],
        decoding.ROWS_PER_STRIP: [height],
        279: [len(content)],
        decoding.SAMPLE_FORMAT: [kind] * channels,
    }
    values |= {int(tag.removeprefix("tag")): [value] for tag, value in tags.items()}
    return tiff_of(values, content)


def tiff_of(values, content):
    """The bytes of a TIFF with these values of tags, and this content at its eighth byte."""
    entries, more = b"", b""
    after = 8 + len(content)
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            more += packed
            packed = struct.pack("<I", after + len(more) - len(packed))
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    table = struct.pack("<H", len(values)) + entries + bytes(4)
    start = b"II*\0" + struct.pack("<I", after + len(more))
    return start + content + more + table


# ---- Size and orientation ------------------------------------------------------------------


def test_shrink_averages_areas():
    square = rng.integers(0, 256, (64, 64, 3)).astype(np.float32)
    assert np.allclose(shrink(square), square.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)))


def test_shrink_repeats_pixels_of_small_squares():
    square = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
    assert np.allclose(shrink(square), square.repeat(4, 0).repeat(4, 1))


def test_shrink_keeps_the_mean_of_any_size():
    square = rng.integers(0, 256, (45, 45, 3)).astype(np.float32)
    assert np.allclose(shrink(square).mean(), square.mean())


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (40, 30), (30, 41), (1500, 1400)])
def test_pictures_are_cropped_and_averaged(size, monkeypatch):
    pixels = np.asarray(save("a.png", size))
    side = min(size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    expected = whole(pixels[top : top + side, left : left + side])
    assert np.array_equal(decoding.read_picture("a.png"), expected)
    monkeypatch.setattr(decoding, "STRIP", 1000)
    assert np.array_equal(decoding.read_picture("a.png"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(32, 32), (45, 32), (32, 41)])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_pictures_are_turned_upright(orientation, size, name):
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    lossless = {"lossless": True} if name == "a.webp" else {}
    picture = save(name, size, exif=exif, **lossless)
    upright = picture.transpose(turn[orientation]) if orientation > 1 else picture
    upright.save("upright.png")
    assert np.array_equal(decoding.read_picture(name), decoding.read_picture("upright.png"))


@pytest.mark.parametrize("format", ["JPEG", "MPO"])
def test_large_jpegs_are_turned_upright(format):
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6  # clockwise: what is above comes to the right
    picture = Image.linear_gradient("L").resize((4000, 3000))  # black above, white below
    more = {"save_all": True, "append_images": [Image.new("L", (9, 9))]} if format == "MPO" else {}
    picture.save("a.jpg", format, exif=exif, **more)
    with Image.open("a.jpg") as file:
        if not file.getexif():
            pytest.skip("this Pillow doesn't write EXIF here")
    rows = decoding.read_picture("a.jpg").reshape(3, 32, 32)[0]
    assert (rows[:, 0] > 240).all()
    assert (rows[:, -1] < 15).all()


def test_damaged_exif_is_no_reason_to_refuse():
    pixels = np.asarray(save("a.png", (32, 32), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    assert np.array_equal(decoding.read_picture("a.png"), whole(pixels))


# ---- Colours and depths --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_grey_of_any_mode_is_that_grey(mode):
    name = "a.jpg" if mode == "YCbCr" else "a.tif"
    Image.new("L", (40, 40), 255).convert("RGB").convert(mode).save(name)
    assert grey_of(name) == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pictures_are_set_on_white(mode):
    colour = (200, 0, 0, 0) if mode == "RGBA" else (0, 0)
    Image.new(mode, (50, 50), colour).save("clear.png")
    assert grey_of("clear.png") == 255


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_set_on_white(mode):
    black = (0, 0, 0) if mode == "RGB" else 0
    Image.new(mode, (50, 50), black).save("clear.png", transparency=black)
    assert grey_of("clear.png") == 255


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((40, 40), 257 * 100, np.uint16), 100),
        (np.full((40, 40), 257 * 100, ">u2"), 100),
        (np.full((40, 40), 100, np.int32), 100),
        (np.full((40, 40), 257 * 100, np.int32), 100),
        (np.full((40, 40), 100 / 255, np.float32), 100),
        (np.full((40, 40), 100, np.float32), 100),
        (np.full((40, 40), 257 * 100, np.float32), 100),
        (np.full((40, 40), 1.0005, np.float32), 255),  # 1 and a rounding error
        (np.full((40, 40), 255, np.int32), 255),
        (np.full((40, 40), 65535, np.int32), 255),
    ],
)
def test_grey_of_any_depth_is_that_grey(values, expected):
    Image.fromarray(values).save("a.tif")
    assert grey_of("a.tif") == expected


def test_16_bits_of_a_png_are_scaled():
    Image.fromarray(np.full((40, 40), 257 * 100, np.uint16)).save("a.png")
    assert grey_of("a.png") == 100


@pytest.mark.parametrize(
    "values",
    [
        np.full((40, 40), 4095, np.uint16),  # 12 bits in 16
        np.full((40, 40), 255, np.uint16),  # 8 bits in 16
        np.full((40, 40), 1, np.int32),  # a mask
        np.full((40, 40), 300, np.int32),
        np.full((40, 40), -100, np.int32),
        np.full((40, 40), 2**30, np.int32),
        np.full((40, 40), 1.5, np.float32),
        np.full((40, 40), 0.01, np.float32),
        np.full((40, 40), -0.5, np.float32),
        np.full((40, 40), 1e9, np.float32),
        np.full((40, 40), np.nan, np.float32),
        np.full((40, 40), np.inf, np.float32),
    ],
)
def test_grey_of_an_unclear_range_is_refused(values):
    values[0, 0] = 0
    Image.fromarray(values).save("a.tif")
    assert error_of("a.tif").reason == "unclear range"


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_grey_that_may_have_fewer_bits_than_16_is_refused(bits):
    grey = np.linspace(0, 1, 64)[:, None].repeat(64, axis=1)
    Image.fromarray((grey * (2**bits - 1)).astype(np.uint16)).save("a.tif")
    assert error_of("a.tif").reason == "unclear range"


def test_a_photograph_that_reaches_a_third_of_white_is_no_fault():
    grey = np.full((40, 40), 65535 // 3, np.uint16)
    Image.fromarray(grey).save("a.tif")
    assert grey_of("a.tif") == 85


def test_negative_values_are_named_with_their_range():
    grey = np.linspace(-1, 1, 64, dtype=np.float32)[:, None].repeat(64, axis=1)
    Image.fromarray(grey).save("a.tif")
    assert "negative values, from -1 to 1" in str(error_of("a.tif"))


def test_a_missing_file_is_named_without_a_remedy():
    assert str(error_of("ship.png")) == "ship.png: not found"


def test_one_pixel_that_is_no_number_is_found(monkeypatch):
    monkeypatch.setattr(decoding, "STRIP", 100)
    values = np.full((40, 40), 0.5, np.float32)
    values[20, 20] = np.nan
    Image.fromarray(values).save("a.tif")
    assert error_of("a.tif").reason == "unclear range"


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_tiff_that_says_its_largest_value_is_scaled(bits):
    values = np.full((40, 40), 2 ** (bits - 1), np.uint16)
    info = {decoding.LARGEST_VALUE: 2**bits - 1}
    Image.fromarray(values).save("a.tif", tiffinfo=info)
    assert grey_of("a.tif") == 128


def test_a_largest_value_of_the_picture_alone_is_no_range():
    values = np.full((40, 40), 257 * 100, np.uint16)
    Image.fromarray(values).save("a.tif", tiffinfo={decoding.LARGEST_VALUE: 257 * 100})
    assert grey_of("a.tif") == 100


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
def test_white_of_a_tiff_of_any_kind_is_white(dtype):
    white = 1 if dtype[0] == "f" else min(np.iinfo(dtype).max, 65535)
    write("a.tif", tiff(np.full((40, 40, 1), white, dtype)))
    assert grey_of("a.tif") == 255


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_tiff_in_which_0_is_white_is_inverted(dtype):
    black = 1 if dtype[0] == "f" else min(np.iinfo(dtype).max, 65535)
    write("a.tif", tiff(np.full((40, 40, 1), black, dtype), photometric=0))
    assert grey_of("a.tif") == 0


def test_a_tiff_of_12_packed_bits_is_scaled():
    values = {
        256: [32],
        257: [32],
        decoding.BITS_PER_SAMPLE: [12],
        decoding.COMPRESSION: [1],
        decoding.PHOTOMETRIC: [1],
        273: [8],
        decoding.SAMPLES_PER_PIXEL: [1],
        decoding.ROWS_PER_STRIP: [32],
        279: [1536],
    }
    write("a.tif", tiff_of(values, b"\x80\x08\x00" * 512))  # two pixels of 0x800 in three bytes
    assert grey_of("a.tif") == 128


def test_colours_of_16_bits_in_a_tiff_are_scaled():
    write("a.tif", tiff(np.full((40, 40, 3), 257 * 100, np.uint16), photometric=2))
    assert grey_of("a.tif") == 100


@pytest.mark.parametrize("value", [0, 255, 1023, 4095])
def test_colours_of_too_few_bits_in_a_tiff_are_refused(value):
    write("a.tif", tiff(np.full((40, 40, 3), value, np.uint16), photometric=2))
    assert error_of("a.tif").reason == "unclear range"


@pytest.mark.parametrize(("dtype", "channels"), [("f4", 3), ("u4", 3), ("f2", 1), ("u8", 1)])
def test_depths_that_are_not_read_are_named(dtype, channels):
    write("a.tif", tiff(np.ones((40, 40, channels), dtype), photometric=2 if channels > 1 else 1))
    assert error_of("a.tif").reason == "unknown format"


def png_of_16_bits(pixels):
    """The bytes of a PNG of (h, w, channels) uint16."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_in_each_channel_are_scaled(channels):
    pixels = np.full((40, 40, channels), 257 * 100, np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 65535  # opaque
    write("a.png", png_of_16_bits(pixels))
    assert grey_of("a.png") == 100


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [255, 4095])
def test_too_few_bits_in_16_are_refused(channels, value):
    pixels = np.full((40, 40, channels), value, np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    write("a.png", png_of_16_bits(pixels))
    assert error_of("a.png").reason == "unclear range"


def test_lab_is_named():
    Image.new("LAB", (40, 40), (128, 128, 128)).save("a.tif")
    assert error_of("a.tif").reason == "LAB colours"


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_frame_of_an_animation_is_taken(name):
    frames = [Image.new("L", (40, 40), grey) for grey in (255, 0, 0)]
    frames[0].save(name, save_all=True, append_images=frames[1:])
    assert grey_of(name) == 255


# ---- Files that are no pictures ------------------------------------------------------------


def box(brand, *more):
    """The start of a file in the container format of MP4."""
    brands = brand + bytes(4) + b"".join(more)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(200)


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.heic", box(b"heic", b"mif1", b"heic"), "HEIC", "convert it"),
        ("a.HEIF", box(b"mif1", b"heix"), "HEIC", "convert it"),
        ("a.jpg", box(b"heic"), "HEIC", "convert it"),  # renamed, as some phones' exports are
        ("a.jxl", b"\xff\x0a" + bytes(100), "JPEG XL", "convert it"),
        ("a.cr3", box(b"crx "), "RAW", "develop it"),
        ("a.NEF", b"MM\0*" + bytes(100), "RAW", "develop it"),
        ("a.dng", b"II*\0" + bytes(100), "RAW", "develop it"),
        ("a.raf", b"FUJIFILMCCD-RAW " + bytes(100), "RAW", "develop it"),
        ("a.svg", b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="...">', "SVG", "export it"),
        ("a.svg", b"\xef\xbb\xbf\n<svg>", "SVG", "export it"),
        ("a.pdf", b"%PDF-1.7\n", "PDF", "export"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript", "export"),
        ("a.psd", b"8BPS\0\1", "Photoshop", "export"),
        ("a.mp4", box(b"isom"), "video", "export"),
        ("a.jpg", b"<!DOCTYPE html><html><svg></svg></html>", "HTML", "download"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
    ],
)
def test_other_kinds_of_files_are_named(name, content, kind, words):
    write(name, content)
    error = error_of(name)
    assert error.reason == kind
    assert words in str(error)


def test_avif_is_read_or_named():
    if features.check("avif"):
        Image.new("L", (40, 40), 255).save("a.avif")
        assert grey_of("a.avif") == 255
    else:
        write("a.avif", box(b"avif", b"mif1"))
        assert error_of("a.avif").reason == "AVIF"


def test_avif_without_a_decoder_is_named(monkeypatch):
    monkeypatch.setattr(decoding, "FORMATS", ("PNG", "JPEG"))
    write("a.avif", box(b"avif", b"mif1"))
    assert error_of("a.avif").reason == "AVIF"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_anything_but_a_regular_file_is_named():
    os.mkfifo("fifo.png")
    os.mkdir("folder.png")
    os.symlink("nothing", "link.png")
    os.symlink("loop.png", "loop.png")
    for name, fault in (
        ("fifo.png", "is a FIFO"),
        ("folder.png", "is a folder"),
        ("link.png", "is a link to nothing"),
        ("loop.png", "is a link to nothing"),
        ("none.png", "not found"),
        ("esc\x1b[31m.png", "not found"),
        ("nul\0.png", "is damaged"),
    ):
        assert fault in str(error_of(name))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.bmp", "a.jp2"])
def test_truncated_pictures_are_damaged(name):
    save(name, (64, 64))
    os.truncate(name, os.path.getsize(name) * 2 // 3)
    assert error_of(name).reason == "damaged"


def test_text_is_of_unknown_format():
    write("a.png", b"no picture")
    assert error_of("a.png").reason == "unknown format"


def test_an_empty_file_is_named():
    write("a.png", b"")
    assert error_of("a.png").reason == "empty"


# ---- Memory and time -----------------------------------------------------------------------


def test_a_large_jpeg_is_decoded_at_a_smaller_size():
    picture = Image.linear_gradient("L").resize((4000, 3000))
    picture.save("a.jpg", quality=95)
    picture.save("a.png", compress_level=1)
    difference = decoding.read_picture("a.jpg").astype(int) - decoding.read_picture("a.png")
    assert np.abs(difference).max() <= 1
    with Image.open("a.jpg") as file, open("a.jpg", "rb") as content:
        decoding._check_cost(file, content.read())
        assert file.size == (500, 375)


def test_a_small_jpeg_is_decoded_whole():
    pixels = np.asarray(save("a.jpg", (500, 500)))
    with Image.open("a.jpg") as file:
        pixels = np.asarray(file)
    assert np.array_equal(decoding.read_picture("a.jpg"), whole(pixels))


@pytest.mark.parametrize("size", [(8000, 8000), (16320, 12240)])
def test_jpegs_of_64_to_200_megapixels_are_read_in_little_memory(size):
    Image.new("L", size, 100).save("a.jpg")
    code = "from data import decoding\nprint(decoding.read_picture('a.jpg').mean())"
    assert in_little_memory(code, megabytes=150) == "100.0"


@pytest.mark.parametrize("format", ["MPO", "JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_the_12_megapixels_of_a_phone_are_accepted(format):
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    Image.new("L", (4032, 3024), 100).convert("RGB").save("a", format, **options)
    assert abs(int(grey_of("a")) - 100) <= 1


REFUSED = """
from data import decoding
try:
    print(decoding.read_picture({name!r}).mean())
except decoding.PictureError as error:
    assert len(str(error)) <= 300, error
    print(error.reason)
"""


def large(name, size=(7000, 7000), mode="RGB", **options):
    """Write a picture of one colour, which is a small file."""
    Image.new(mode, size).save(name, **options)
    assert os.path.getsize(name) < 2_000_000
    return name


def rewritten_size(name):
    """Write a progressive JPEG whose header says 10000 x 10000 pixels."""
    Image.new("RGB", (64, 64)).save(name, progressive=True)
    with open(name, "rb") as file:
        content = bytearray(file.read())
    position = content.index(b"\xff\xc2")
    content[position + 5 : position + 9] = struct.pack(">HH", 10_000, 10_000)
    write(name, content)
    return name


def scans_of_one_channel(name):
    """Write a baseline JPEG of 15000 x 15000 pixels whose first scan has one channel of three."""
    Image.new("RGB", (64, 64)).save(name)
    with open(name, "rb") as file:
        content = bytearray(file.read())
    position = content.index(b"\xff\xc0")
    content[position + 5 : position + 9] = struct.pack(">HH", 15_000, 15_000)
    position = content.index(b"\xff\xda")
    content[position : position + 14] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    write(name, content)
    return name


def many_scans(name):
    """Write a progressive JPEG that goes over its pixels a thousand times."""
    Image.new("L", (6000, 6000)).save(name, progressive=True)
    with open(name, "rb") as file:
        content = file.read()
    scan = content[content.rindex(b"\xff\xda") : -2]
    write(name, content[:-2] + 1000 * scan + content[-2:])
    return name


def turned():
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    return exif


def large_frame(name):
    """Write a GIF of 32 x 32 pixels whose first frame has 20000 x 20000."""
    Image.new("P", (32, 32)).save(name)
    with open(name, "rb") as file:
        content = bytearray(file.read())
    position = content.index(b"\x2c\0\0\0\0")
    content[position + 5 : position + 9] = struct.pack("<HH", 20_000, 20_000)
    write(name, content)
    return name


def large_tile(name):
    """Write a TIFF of 64 x 64 pixels in a tile of 30000 x 30000."""
    content = zlib.compress(bytes(900_000))
    values = {
        256: [64],
        257: [64],
        decoding.BITS_PER_SAMPLE: [8],
        decoding.COMPRESSION: [8],  # deflate
        decoding.PHOTOMETRIC: [1],
        decoding.SAMPLES_PER_PIXEL: [1],
        decoding.TILE_WIDTH: [30_000],
        decoding.TILE_HEIGHT: [30_000],
        324: [8],
        325: [len(content)],
    }
    write(name, tiff_of(values, content))
    return name


STRIP_OF_ALL = {decoding.ROWS_PER_STRIP: 7000}
EXPENSIVE = {
    "lossless WebP": lambda: large("a.webp", lossless=True),
    "WebP to turn": lambda: large("a.webp", lossless=True, exif=turned()),
    "TIFF of one strip": lambda: large("a.tif", compression="tiff_lzw", tiffinfo=STRIP_OF_ALL),
    "TIFF to turn": lambda: large("a.tif", compression="tiff_adobe_deflate", exif=turned()),
    "TIFF of one tile": lambda: large_tile("a.tif"),
    "PNG": lambda: large("a.png", (9450, 9450)),
    "transparent PNG": lambda: large("a.png", (9450, 9450), "RGBA"),
    "JPEG 2000": lambda: large("a.jp2"),
    "AVIF": lambda: large("a.avif", speed=10),
    "GIF": lambda: large("a.gif", (17_000, 17_000), "L"),
    "frame of a GIF": lambda: large_frame("a.gif"),
    "progressive JPEG": lambda: large("a.jpg", (8000, 8000), progressive=True, subsampling=0),
    "JPEG with a false size": lambda: rewritten_size("a.jpg"),
    "JPEG by channels": lambda: scans_of_one_channel("a.jpg"),
    "JPEG of many passes": lambda: many_scans("a.jpg"),
}


@pytest.mark.parametrize("kind", EXPENSIVE)
def test_small_files_that_take_much_memory_or_time_are_refused(kind):
    try:
        name = EXPENSIVE[kind]()
    except (KeyError, OSError, ValueError):
        pytest.skip("this Pillow can't write it")
    assert in_little_memory(REFUSED.format(name=name), megabytes=100) == "too large"


@pytest.mark.parametrize("name", ["a.qoi", "a.ppm"])
def test_formats_that_are_slow_to_read_may_not_be_large(name):
    header = struct.pack(">4sIIBB", b"qoif", 49_000, 1000, 3, 0)
    if name == "a.ppm":
        header = b"P3 49000 1000 255\n"
    write(name, header + bytes(100_000))
    Image.init()
    if name == "a.qoi" and "QOI" not in Image.OPEN:
        pytest.skip("this Pillow has no QOI")
    assert error_of(name).reason == "too large"


def test_a_bitmap_of_run_lengths_may_not_be_large():
    header = struct.pack("<IiiHHIIiiII", 40, 49_000, 1000, 1, 8, 1, 0, 0, 0, 256, 0)
    palette = bytes(1024)
    runs = (b"\xff\0" * 192 + b"\x28\0" + b"\0\0") * 1000 + b"\0\1"
    start = 14 + len(header) + len(palette)
    write(
        "a.bmp", b"BM" + struct.pack("<III", start + len(runs), 0, start) + header + palette + runs
    )
    assert error_of("a.bmp").reason == "too large"


def test_the_largest_pictures_take_little_memory():
    large("a.png", (7000, 7000), compress_level=1)
    code = "from data import decoding\nprint(decoding.read_picture('a.png').mean())"
    assert in_little_memory(code, megabytes=300) == "0.0"
