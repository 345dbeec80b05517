"""data/pictures.py: pictures of one's own, averaged down, and made into a folder of batches."""

import os
import pickle

from data import cifar10, pictures

import numpy as np
import pytest
from conftest import ROOT, called, in_little_memory, line_of
from PIL import Image

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def save(path, size=(40, 30), mode="RGB", **options):
    """Write a picture of random pixels, which it returns."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (size[1], size[0], bands), np.uint8)
    picture = (
        Image.fromarray(pixels[..., 0]).convert(mode)
        if bands == 1
        else Image.fromarray(pixels, mode)
    )
    picture.save(path, **options)
    return picture


def whole(pixels):
    """read_picture's result for (n, n, 3) uint8 pixels, computed at once."""
    return (
        np.round(pictures.shrink(np.asarray(pixels, np.float32)))
        .astype(np.uint8)
        .transpose(2, 0, 1)
        .reshape(-1)
    )


# ---- A picture ------------------------------------------------------------------------------------------------------


def test_shrink_averages_areas():
    square = rng.integers(0, 256, (64, 64, 3)).astype(np.float32)
    assert np.allclose(pictures.shrink(square), square.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)))
    small = rng.integers(0, 256, (8, 8, 3)).astype(np.float32)
    assert np.allclose(pictures.shrink(small), small.repeat(4, 0).repeat(4, 1))
    odd = rng.integers(0, 256, (45, 45, 3)).astype(np.float32)
    assert np.allclose(pictures.shrink(odd).mean(), odd.mean())


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (40, 30), (30, 41), (1500, 1400)])
def test_pictures_are_cropped_and_averaged(size, monkeypatch):
    pixels = np.asarray(save("a.png", size))
    side = min(size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    expected = whole(pixels[top : top + side, left : left + side])
    assert np.array_equal(pictures.read_picture("a.png"), expected)
    monkeypatch.setattr(pictures, "STRIP", 1000)
    assert np.array_equal(pictures.read_picture("a.png"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_modes_of_pictures(mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    save(name, (32, 32), mode)
    assert pictures.read_picture(name).shape == (3072,)


def test_transparency_grey_and_orientation():
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save("clear.png")
    assert (pictures.read_picture("clear.png") == 255).all()
    Image.fromarray(np.full((40, 40), 257 * 100, np.uint16)).save("grey16.png")
    assert (pictures.read_picture("grey16.png") == 100).all()
    picture = save("plain.png", (32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save("turned.png", exif=exif)
    picture.transpose(Image.Transpose.ROTATE_270).save("upright.png")
    assert np.array_equal(pictures.read_picture("turned.png"), pictures.read_picture("upright.png"))


def test_files_that_are_no_pictures_are_named():
    with open("text.png", "w") as file:
        file.write("no picture")
    save("half.png", (64, 64))
    with open("half.png", "r+b") as file:
        file.truncate(3000)
    with open("program.eps", "w") as file:
        file.write("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    os.mkfifo("fifo.png")
    os.mkdir("folder.png")
    for name, fault in (
        ("text.png", "no picture that can be read"),
        ("half.png", "no picture that can be read"),
        ("program.eps", "a program in PostScript"),
        ("fifo.png", "is a FIFO"),
        ("folder.png", "is a folder"),
        ("none.png", "is missing"),
        ("esc\x1b[31m.png", "is missing"),
        ("nul\0.png", "is damaged"),
    ):
        with pytest.raises(pictures.PictureError) as caught:
            pictures.read_picture(name)
        line_of(caught, name[:3], fault)


def test_large_pictures_take_little_memory():
    Image.new("1", (9450, 9450)).save("huge.png")
    assert os.path.getsize("huge.png") < 20_000
    Image.new("L", (8000, 8000)).save("enormous.png", compress_level=1)
    Image.new("RGB", (7000, 7000), (1, 2, 3)).save("large.png", compress_level=1)
    done = in_little_memory(
        """
for name in ("huge.png", "enormous.png"):
    try:
        pictures.read_picture(name)
    except pictures.PictureError as error:
        assert "pixels" in str(error) and len(str(error)) <= 300, error
    else:
        raise AssertionError(name)
pixels = pictures.read_picture("large.png").reshape(3, 1024)
print(pixels.mean(axis=1))
""",
        megabytes=300,
    )
    assert done == "[1. 2. 3.]"


# ---- A folder of pictures -------------------------------------------------------------------------------------------


def make(capsys, *argv):
    return called(pictures.main, capsys, *argv)


def test_a_folder_becomes_a_data_set(capsys):
    for i in range(20):
        save(f"mine/cat/{i}.png")
        save(f"mine/dog/deep/{i}.jpg", (20 + i, 50))
    save("mine/owl/only.bmp")
    save("mine/.hidden/x.png")
    code, out, err = make(capsys, "mine", "--out", "data set")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (
        "3 classes, 33 training and 8 test pictures in data set; train on them with: "
        f"python {ROOT}/train.py --data-dir 'data set'"
    )
    data = cifar10.load(data_dir="data set")
    assert (data.name, data.class_names) == ("pictures", ("cat", "dog", "owl"))
    assert np.bincount(data.train_labels).tolist() == [16, 16, 1]
    assert np.bincount(data.test_labels).tolist() == [4, 4]
    everything = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    expected = {pictures.read_picture(f"mine/cat/{i}.png").tobytes() for i in range(20)}
    assert {image.tobytes() for image in everything[labels == 0]} == expected
    assert sorted(os.listdir("data set")) == ["batches.meta", "data_batch_1", "test_batch"]
    assert sorted(os.listdir()) == ["data set", "mine"]

    make(capsys, "mine", "--out", "same")
    assert cifar10.load(data_dir="same").fingerprint == data.fingerprint
    assert cifar10.load(data_dir="same").title == "same"  # what a run's files are named after
    make(capsys, "mine", "--out", "other", "--seed", 1, "--test-share", 0.5)
    assert len(cifar10.load(data_dir="other").test_labels) in (20, 21)
    code, out, err = make(capsys, "mine", "--out", "same")
    assert (code, "--out same: is there already; " in err) == (2, True)
    with pytest.raises(
        cifar10.DataError, match="holds pictures images, not cifar10; leave --dataset out"
    ):
        cifar10.load("cifar10", "same")


def test_the_meta_file_says_how_many_images_the_first_batch_has(tmp_path):
    images, labels = np.zeros((10_001, 3072), np.uint8), np.arange(10_001) % 2
    splits = dict.fromkeys(("train", "test"), (images, labels, ["x.png"] * len(labels)))
    pictures._write_splits(tmp_path, ["a", "b"], splits, np.random.default_rng(0))
    first, meta = (
        pickle.loads((tmp_path / name).read_bytes()) for name in ("data_batch_1", "batches.meta")
    )
    assert meta[b"num_cases_per_batch"] == len(first[b"labels"]) == 5001


def test_splits_that_are_there_are_respected(capsys):
    for split, n in (("train", 4), ("test", 2)):
        for i in range(n):
            save(f"mine/{split}/cat/{i}.png")
            save(f"mine/{split}/dog/{i}.png")
    assert make(capsys, "mine", "--out", "new")[0] == 0
    data = cifar10.load(data_dir="new")
    assert (len(data.train_labels), len(data.test_labels)) == (8, 4)
    save("mine/test/owl/0.png")
    code, _, err = make(capsys, "mine", "--out", "other")
    assert (code, "mine/test/owl: is a class that train/ doesn't have" in err) == (2, True)
    assert "other" not in os.listdir()


def test_bad_files_are_named_and_left_out(capsys):
    for i in range(5):
        save(f"mine/cat/{i}.png")
        save(f"mine/dog/{i}.png")
    for name in ["broken\x1b[31m.png", *(f"{i}.txt" for i in range(30))]:
        with open(f"mine/cat/{name}", "w") as file:
            file.write("no picture")
    os.symlink("none", "mine/dog/dangling.png")
    code, out, err = make(capsys, "mine", "--out", "new")
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == pictures.NAMED + 1
    assert lines[-1] == "left out: 12 more files that are no pictures"
    assert all(line.isprintable() and line.startswith("left out: mine/") for line in lines[:-1])
    assert "8 training and 2 test pictures" in out


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ([], "mine: is no folder"),
        (["cat/0.png"], "mine: holds 1 subfolders; it needs one for each class"),
        (["0.png"], "mine: holds 0 subfolders"),
        (["cat/0.png", "dog/0.txt"], "mine/dog: holds no picture that can be read"),
        (["cat/0.png", "d\x1b[31mog/0.png"], "holds a class whose name can't be printed, d?[31mog"),
        (["cat/0.png", "dog/0.png"], "--test-share 0.2: leaves no test pictures out of 2"),
        (
            ["train/cat/0.png", "train/dog/0.png", "test/cat/0.txt", "test/dog/0.txt"],
            "mine/test/cat: holds no picture",
        ),
        ([f"{i}/0.png" for i in range(1001)], "mine: holds 1,001 subfolders"),
    ],
)
def test_folders_that_are_no_data_set(files, fault, capsys):
    for name in files:
        if name.endswith("png") and len(files) < 100:
            save(f"mine/{name}")
        else:
            os.makedirs(os.path.dirname(f"mine/{name}"), exist_ok=True)
            with open(f"mine/{name}", "w") as file:
                file.write("no picture")
    code, out, err = make(capsys, "mine", "--out", "new")
    assert (code, out) == (2, "")
    assert fault in err.splitlines()[-1]
    assert err.splitlines()[-1].isprintable()
    assert os.listdir() == ["mine"] * bool(files)


def test_wrong_flags(capsys):
    for argv in (
        ["mine"],
        ["mine", "--out", "x", "--test-share", "1.5"],
        ["mine", "--out", "x", "--test-share", "nan"],
    ):
        code, _, err = make(capsys, *argv)
        assert (code, err.count("\n")) == (2, 1)


def test_script(run, tmp_path):
    for i in range(5):
        save(f"mine/cat/{i}.png")
        save(f"mine/dog/{i}.png")
    done = run("data/pictures.py", "mine", "--out", "new")
    assert (done.returncode, done.stderr) == (0, "")
    assert run("data/cifar10.py", "--data-dir", "new").stdout.startswith("name         pictures\n")
