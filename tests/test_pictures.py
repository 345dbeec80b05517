"""data/pictures.py: folders of pictures are made into a folder of batches."""

import os
import pickle

from data import cifar10, decoding, pictures

import numpy as np
import pytest
from helpers import ROOT, called
from PIL import Image

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def save(path, size=(40, 30)):
    """Write a picture of random pixels."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)


def write(path, content="no picture"):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.write(content)


def make(capsys, *argv):
    """Run the script: its exit code, stdout and stderr."""
    return called(pictures.main, capsys, *argv)


def cats_and_dogs(folder="mine", count=5):
    for i in range(count):
        save(f"{folder}/cat/{i}.png")
        save(f"{folder}/dog/{i}.png")


# ---- Data sets that are made ---------------------------------------------------------------


def test_a_folder_becomes_a_data_set(capsys):
    for i in range(20):
        save(f"mine/cat/{i}.png")
        save(f"mine/dog/deep/{i}.jpg", (20 + i, 50))
    save("mine/owl/only.bmp")
    save("mine/.hidden/x.png")
    code, out, err = make(capsys, "mine", "--out", "data set")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"wrote data set; train on it with: python {ROOT}/train.py --data-dir 'data set'",
        "train: 33 pictures of 3 classes: cat 16, dog 16, owl 1; "
        "passed over 1: hidden or system files 1",
        "test: 8 pictures of 3 classes: cat 4, dog 4, owl 0",
    ]
    data = cifar10.load(data_dir="data set")
    assert (data.name, data.class_names) == ("pictures", ("cat", "dog", "owl"))
    assert np.bincount(data.train_labels).tolist() == [16, 16, 1]
    assert np.bincount(data.test_labels).tolist() == [4, 4]
    everything = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    expected = {decoding.read_picture(f"mine/cat/{i}.png").tobytes() for i in range(20)}
    assert {image.tobytes() for image in everything[labels == 0]} == expected
    assert sorted(os.listdir("data set")) == ["batches.meta", "data_batch_1", "test_batch"]
    assert sorted(os.listdir()) == ["data set", "mine"]


def test_pictures_of_the_working_folder(monkeypatch, capsys):
    cats_and_dogs()
    monkeypatch.chdir("mine")
    code, out, _ = make(capsys, ".", "--out", "new")
    assert code == 0
    assert out.splitlines()[1:] == [
        "train: 8 pictures of 2 classes: cat 4, dog 4",
        "test: 2 pictures of 2 classes: cat 1, dog 1",
    ]


def test_the_seed_draws_the_test_pictures(capsys):
    cats_and_dogs(count=10)
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(capsys, "mine", "--out", out, "--seed", seed, "--test-share", 0.5)
    first, second, third = (cifar10.load(data_dir=out) for out in "abc")
    assert first.title == "a"  # what a run's files are named after
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != third.fingerprint
    assert len(third.test_labels) == 10


def test_a_data_set_of_pictures_is_not_cifar10(capsys):
    cats_and_dogs()
    make(capsys, "mine", "--out", "new")
    with pytest.raises(cifar10.DataError, match="pictures"):
        cifar10.load("cifar10", "new")


def test_the_meta_file_has_the_number_of_images_in_the_first_batch(tmp_path):
    images, labels = np.zeros((10_001, 3072), np.uint8), np.arange(10_001) % 2
    nothing = pictures.Counter()
    split = pictures.Pictures(images, labels, ["x.png"] * len(labels), nothing, nothing)
    pictures._write_splits(tmp_path, ["a", "b"], split, split, np.random.default_rng(0))
    first = pickle.loads((tmp_path / "data_batch_1").read_bytes())
    meta = pickle.loads((tmp_path / "batches.meta").read_bytes())
    assert meta[b"num_cases_per_batch"] == len(first[b"labels"]) == 5001


@pytest.mark.parametrize("test", ["test", "val", "Testing"])
def test_splits_that_are_there_are_kept(test, capsys):
    cats_and_dogs("mine/train", 4)
    cats_and_dogs(f"mine/{test}", 2)
    code, out, _ = make(capsys, "mine", "--out", "new")
    assert code == 0
    data = cifar10.load(data_dir="new")
    assert data.class_names == ("cat", "dog")
    assert (len(data.train_labels), len(data.test_labels)) == (8, 4)
    assert out.splitlines()[-1] == "test: 4 pictures of 2 classes: cat 2, dog 2"


def test_the_report_names_what_became_of_a_validation_split(capsys):
    for split in ("train", "val", "test"):
        cats_and_dogs(f"mine/{split}", 4)
    _, out, _ = make(capsys, "mine", "--out", "new")
    assert out.splitlines()[1:] == [
        "mine/val: part of the training split",
        "train: 16 pictures of 2 classes: cat 8, dog 8",
        "test: 8 pictures of 2 classes: cat 4, dog 4",
    ]


def test_a_share_of_pictures_that_are_split_has_no_effect(capsys):
    for name in ("train/ants/1", "train/bees/1", "test/ants/1", "test/bees/1"):
        save(f"mine/{name}.png")
    code, _, err = make(capsys, "mine", "--out", "new", "--test-share", "0.5")
    assert code == 0
    assert err == "note: --test-share has no effect: these pictures are split already\n"


def test_the_report_names_some_of_many_classes(capsys):
    for i in range(30):
        save(f"mine/{i:02}/a.png")
        save(f"mine/{i:02}/b.png")
    _, out, _ = make(capsys, "mine", "--out", "new", "--test-share", "0.5")
    line = out.splitlines()[-1]
    assert line.startswith("test: 30 pictures of 30 classes: 00 1, 01 1, ")
    assert line.endswith(", and 18 more")


# ---- Files that are left out ---------------------------------------------------------------


def test_bad_files_are_named_and_counted_by_reason(capsys):
    cats_and_dogs()
    write("mine/cat/broken\x1b[31m.png")
    for i in range(30):
        write(f"mine/cat/{i}.txt")
    write("mine/dog/a.svg", "<svg></svg>")
    write("mine/dog/Thumbs.db")
    write("mine/dog/._0.png")
    os.symlink("none", "mine/dog/dangling.png")
    code, out, err = make(capsys, "mine", "--out", "new")
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == pictures.NAMED + 1
    assert lines[-1] == "left out: 13 more files"
    assert all(line.isprintable() and line.startswith("left out: mine/") for line in lines[:-1])
    assert out.splitlines()[-2] == (
        "train: 8 pictures of 2 classes: cat 4, dog 4; "
        "left out 33: unknown format 31, SVG 1, links to nothing 1; "
        "passed over 2: hidden or system files 2"
    )


def test_file_names_in_any_script_are_kept(capsys):
    cats_and_dogs()
    names = ["猫.png", "e\u0301.png", "\u202e.png", "a\nb.png", "\udcff.png"]
    for i, name in enumerate(names):
        try:
            os.rename(f"mine/cat/{i}.png", f"mine/cat/{name}")
        except OSError:
            pytest.skip("this file system has no such names")
    code, _, err = make(capsys, "mine", "--out", "new")
    assert (code, err) == (0, "")
    stored = set()
    for batch in ("data_batch_1", "test_batch"):
        with open(f"new/{batch}", "rb") as file:
            stored.update(pickle.load(file)[b"filenames"])
    assert "猫.png".encode() in stored


# ---- Folders that are no data set ----------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ([], "mine: is no folder"),
        (["cat/0.png"], "mine: holds 1 subfolders; it needs one for each class"),
        (["cat/0.png", "dog/0.txt"], "mine/dog: holds no picture that can be read"),
        (["cat/0.png", "dog/0.png"], "--test-share 0.2: leaves no test pictures out of 2"),
        (
            ["train/cat/0.png", "train/dog/0.png", "test/cat/0.txt", "test/dog/0.txt"],
            "mine/test/cat: holds no picture",
        ),
        (["train/0.png", "val/0.png"], "are splits, not classes"),
    ],
)
def test_folders_that_are_no_data_set(files, fault, capsys):
    for name in files:
        if name.endswith("png"):
            save(f"mine/{name}")
        else:
            write(f"mine/{name}")
    before = os.listdir()
    code, out, err = make(capsys, "mine", "--out", "new")
    assert (code, out) == (2, "")
    assert fault in err.splitlines()[-1]
    assert err.splitlines()[-1].isprintable()
    assert os.listdir() == before


def test_a_folder_that_is_there_is_not_replaced(capsys):
    cats_and_dogs()
    os.mkdir("new")
    code, _, err = make(capsys, "mine", "--out", "new")
    assert code == 2
    assert "--out new: is there already; " in err


def test_a_partial_folder_of_the_users_own_stays(capsys):
    cats_and_dogs()
    write("new.partial/notes.txt", "years of work")
    code, _, _ = make(capsys, "mine", "--out", "new")
    assert code == 0
    with open("new.partial/notes.txt") as file:
        assert file.read() == "years of work"


@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_is_called_like_the_lock_stays(link, capsys):
    cats_and_dogs()
    write("precious" if link else "new.lock", "years of work")
    if link:
        os.symlink("precious", "new.lock")
    code, _, err = make(capsys, "mine", "--out", "new")
    assert code == 2
    assert "new.lock: " in err
    with open("new.lock") as file:
        assert file.read() == "years of work"


def test_wrong_flags(capsys):
    for argv in (
        ["mine"],
        ["mine", "--out", "x", "--test-share", "1.5"],
        ["mine", "--out", "x", "--test-share", "nan"],
    ):
        code, _, err = make(capsys, *argv)
        assert (code, err.count("\n")) == (2, 1)


def test_the_script_runs(run):
    cats_and_dogs()
    done = run("data/pictures.py", "mine", "--out", "new")
    assert (done.returncode, done.stderr) == (0, "")
    assert run("data/cifar10.py", "--data-dir", "new").stdout.startswith("name         pictures\n")
