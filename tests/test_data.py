"""data/cifar10.py and data/synthetic.py: loading, drawing, the validation split, the script."""

import argparse
import errno
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

from data import cifar10, folders, of_checkpoint, pickles, synthetic
from data.layouts import CIFAR10, CLASSES, LAYOUTS
from support import npz

import numpy as np
import pytest
from batches import BATCHES, batch, dump, rng, write_cifar100
from helpers import ROOT, message

# ---- Loading -------------------------------------------------------------------------------------


@pytest.fixture
def contents(folder):
    """Images (20, 3072) and labels (20,) of all training batches."""
    batches = [pickles.read_pickle(folder / file) for file in CIFAR10.train]
    images = np.concatenate([pickles.array(content["data"]) for content in batches])
    labels = np.concatenate([content["labels"] for content in batches])
    return images, labels


def write_training(folder, images, labels):
    """Write batches of 1, 1, 1, 1 and 16 rows."""
    for i, file in enumerate(CIFAR10.train):
        rows = slice(i, i + 1 if i < 4 else None)
        dump(folder / file, {"data": images[rows], "labels": labels[rows].tolist()})


def test_the_fingerprint_does_not_depend_on_the_batches(folder, contents):
    before = cifar10.load(data_dir=folder)
    write_training(folder, *contents)
    assert cifar10.load(data_dir=folder).fingerprint == before.fingerprint


def test_the_fingerprint_depends_on_each_label(folder, contents):
    before = cifar10.load(data_dir=folder)
    images, labels = contents
    labels[-1] = (labels[-1] + 1) % 10
    write_training(folder, images, labels)
    assert cifar10.load(data_dir=folder).fingerprint != before.fingerprint


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_the_parent_of_the_folder_is_enough(folder, dataset):
    assert cifar10.load(dataset, folder.parent).folder == folder


def test_arrays_are_read_only(folder):
    data = cifar10.load(data_dir=folder)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_dataset_prints_as_one_line(folder):
    data = cifar10.load(data_dir=folder)
    assert repr(data) == (
        "Dataset(cifar10: 20 training and 4 test images, 10 classes, "
        f"fingerprint {data.fingerprint[:8]})"
    )


@pytest.fixture
def cifar100_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar100(tmp_path / "cifar-100-python")
    return tmp_path / "cifar-100-python"


@pytest.mark.parametrize("dataset", ["auto", "cifar100"])
@pytest.mark.parametrize("given", ["folder", "parent"])
def test_cifar100_is_read(cifar100_folder, dataset, given):
    data_dir = cifar100_folder if given == "folder" else cifar100_folder.parent
    data = cifar10.load(dataset, data_dir)
    assert data.name == "cifar100"
    assert data.folder == cifar100_folder
    assert data.class_names == tuple(f"class_{i}" for i in range(100))
    assert data.train_labels.max() == 99


@pytest.mark.parametrize("given", ["folder", "parent"])
def test_the_superclasses_of_cifar100_are_a_data_set(cifar100_folder, given):
    data_dir = cifar100_folder if given == "folder" else cifar100_folder.parent
    data = cifar10.load("cifar100-coarse", data_dir)
    assert data.name == data.title == "cifar100-coarse"
    assert data.class_names == tuple(f"group_{i}" for i in range(20))
    assert data.train_labels.max() == data.test_labels.max() == 19


def test_superclasses_have_the_same_images_and_another_fingerprint(cifar100_folder):
    fine = cifar10.load("cifar100", cifar100_folder)
    coarse = cifar10.load("cifar100-coarse", cifar100_folder)
    assert np.array_equal(fine.train_images, coarse.train_images)
    assert fine.fingerprint != coarse.fingerprint


def test_superclasses_are_not_read_from_cifar10(folder):
    text = message(cifar10.load, "cifar100-coarse", folder)
    assert "holds cifar10 images, not cifar100-coarse" in text


def test_cifar100_is_not_taken_for_cifar10(cifar100_folder):
    text = message(cifar10.load, "cifar10", cifar100_folder)
    assert "give --dataset cifar100" in text


def test_the_remedy_for_damaged_cifar100_names_the_data_set(cifar100_folder):
    (cifar100_folder / "test").write_bytes(b"")
    text = message(cifar10.load, "auto", cifar100_folder)
    assert "python data/cifar10.py --dataset cifar100 --data-dir" in text


def write_classes(folder, classes):
    """Write batches with that many classes."""
    dump(folder / "batches.meta", {b"label_names": [b"c%d" % i for i in range(classes)]})
    for file in BATCHES:
        labels = rng.integers(0, classes, 4).tolist()
        dump(folder / file, batch(file, labels=labels))


@pytest.mark.parametrize("classes", [2, 257, 1000])
def test_any_number_of_classes(folder, classes):
    write_classes(folder, classes)
    assert len(cifar10.load(data_dir=folder).class_names) == classes


@pytest.mark.parametrize("classes", [2, 257, 1000])
def test_the_fingerprint_depends_on_labels_of_any_size(folder, classes):
    write_classes(folder, classes)
    before = cifar10.load(data_dir=folder)
    # A difference of 256 is lost in one byte.
    step = 256 if classes > 256 else 1
    labels = (before.test_labels + np.array([step, 0, 0, 0])) % classes
    content = batch("test_batch", labels=labels.tolist(), data=before.test_images)
    dump(folder / "test_batch", content)
    assert cifar10.load(data_dir=folder).fingerprint != before.fingerprint


def test_a_label_beyond_the_classes_is_named(folder):
    write_classes(folder, 257)
    dump(folder / "test_batch", batch("test_batch", labels=[0, 0, 0, 257]))
    text = message(cifar10.load, data_dir=folder)
    assert "label 257 in row 3" in text
    assert "data/pictures.py" in text


@pytest.mark.parametrize("dataset", ["auto", *LAYOUTS])
def test_a_missing_folder_is_not_filled(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = message(cifar10.load, dataset, "my typo", url="http://127.0.0.1:1/")
    assert text.startswith("--data-dir my typo: ")
    assert f"--dataset {dataset.replace('auto', 'cifar10')} --data-dir 'my typo'" in text
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", "a\0b", "a\x1b[31mb", "a\udcffb", "~nobody-of-that-name/x", "x" * 300]
)
def test_names_that_no_folder_has(name):
    assert message(cifar10.load, data_dir=name).startswith("--data-dir ")


@pytest.mark.parametrize(
    "files",
    [
        ["data_batch_1.bin", "test_batch.bin", "batches.meta.txt"],
        ["batches.meta.txt", "readme.html"],
        ["train.bin", "test.bin", "fine_label_names.txt"],
        ["data_batch_1.mat"],
        ["meta.mat", "train.mat", "test.mat"],
        ["train/1.png", "test/1.png", "trainLabels.csv"],
        ["train.7z", "test.7z", "sampleSubmission.csv"],
        ["train-00000-of-00001.parquet"],
        ["cifar10.npz"],
        ["cifar-10-python.tar.gz"],
        ["archive.zip"],
        ["data_batch_1.gz"],
        ["data_batch_1.pkl"],
        ["data_batch_1.txt", "notes"],
        ["airplane/0001.png", "cat/0001.png"],
        ["train/airplane/0001.JPG"],
        ["0001.jpeg"],
        ["notes.txt", "b", "c", "d"],
    ],
    ids=lambda files: files[0],
)
def test_the_error_says_what_a_folder_without_batches_holds(tmp_path, monkeypatch, files):
    monkeypatch.chdir(tmp_path)
    for file in files:
        path = tmp_path / "mine" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    text = message(cifar10.load, data_dir="mine")
    assert text.startswith("mine: is not a folder of CIFAR-10 batches, it holds ")
    assert any(file in text for file in files)


def test_an_empty_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ".: is not a folder of CIFAR-10 batches, it is empty; " in message(
        cifar10.load, data_dir="."
    )


def test_an_archive_given_as_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b\x08")
    text = message(cifar10.load, data_dir="cifar-10-python.tar.gz")
    assert "compressed with gzip, which --data-url may take" in text


@pytest.mark.parametrize(
    "inner", ["mine", "cifar-10-batches-py", "cifar-10-python/cifar-10-batches-py", "a/b"]
)
def test_batches_are_found_up_to_two_folders_deeper(folder, inner):
    outer = folder.parent / "outer"
    (outer / inner).parent.mkdir(parents=True)
    folder.rename(outer / inner)
    assert cifar10.load(data_dir=outer).folder == outer / inner


def test_batches_are_found_by_one_of_their_files(folder):
    assert cifar10.load(data_dir=folder / "data_batch_3").folder == folder


def test_folders_of_unknown_names_are_not_guessed(folder):
    shutil.copytree(folder, folder.parent / "outer" / "one")
    folder.rename(folder.parent / "outer" / "two")
    text = message(cifar10.load, data_dir="outer")
    assert text.startswith("--data-dir outer: holds several data sets (one, two); ")


def test_a_folder_of_the_usual_name_is_preferred(folder):
    shutil.copytree(folder, folder.parent / "another")
    assert cifar10.load(data_dir=folder.parent).folder == folder


def test_the_data_set_tells_which_folder_is_meant(folder):
    folder.rename(folder.parent / "ten")
    write_cifar100(folder.parent / "hundred")
    assert cifar10.load("cifar10", folder.parent).name == "cifar10"
    assert cifar10.load("cifar100", folder.parent).name == "cifar100"


def test_a_folder_that_is_being_made_is_not_taken(folder):
    folder.rename(folder.parent / "outer.partial")
    assert "is not a folder of" in message(cifar10.load, data_dir=folder.parent)


def test_an_unknown_data_set_is_named():
    assert message(cifar10.load, "mnist").startswith("--dataset mnist: ")


# ---- Synthetic images ----------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["auto", "synthetic"])
@pytest.mark.parametrize("given", ["folder", "parent"])
def test_synthetic_images_are_recognised(synthetic_dir, dataset, given):
    data = cifar10.load(dataset, synthetic_dir if given == "folder" else synthetic_dir.parent)
    assert data.name == "synthetic"
    assert data.class_names == tuple(synthetic.SHAPES)


@pytest.mark.parametrize("dataset", ["cifar10", "synthetic"])
def test_a_folder_of_other_images_is_named(folder, synthetic_dir, dataset):
    other = synthetic_dir if dataset == "cifar10" else folder
    text = message(cifar10.load, dataset, other)
    assert f"images, not {dataset}; give --dataset " in text


def test_a_synthetic_batch_among_official_ones_is_named(folder, synthetic_dir):
    shutil.copy(synthetic_dir / "data_batch_3", folder)
    assert "data_batch_3: is synthetic, but" in message(cifar10.load, data_dir=folder)


def test_own_pictures_among_other_batches_are_named(folder):
    write_classes(folder, 2)
    title = b"training batch 2 of 5, pictures"
    dump(folder / "data_batch_2", batch("data_batch_2", labels=[0] * 4, batch_label=title))
    text = message(cifar10.load, data_dir=folder)
    assert "data_batch_2: is of another kind (pictures)" in text


@pytest.fixture
def few(monkeypatch):
    """Let the default be 10 training and 2 test images."""
    monkeypatch.setattr(synthetic.write_synthetic, "__defaults__", (10, 2, 0))


def test_synthetic_images_are_drawn_once(few, tmp_path):
    folder = tmp_path / "new" / "images"
    first = cifar10.load("synthetic", folder, make=True)
    (folder / "readme").touch()
    again = cifar10.load("synthetic", folder, make=True)
    assert first.fingerprint == again.fingerprint
    assert (folder / "readme").exists(), "was drawn again"
    assert os.listdir(folder.parent) == ["images"]


def test_a_folder_without_batches_gets_them_in_a_folder_of_its_own(few, tmp_path):
    (tmp_path / "mine" / "notes").mkdir(parents=True)
    data = cifar10.load("synthetic", tmp_path / "mine", make=True)
    assert data.folder == tmp_path / "mine" / "synthetic-batches-py"


def test_synthetic_images_depend_on_the_seed(tmp_path):
    for seed in (0, 1):
        synthetic.write_synthetic(tmp_path / str(seed), 10, 2, seed)
    first, second = (cifar10.load("synthetic", tmp_path / str(seed)) for seed in (0, 1))
    assert first.fingerprint != second.fingerprint


def test_too_few_synthetic_images_are_refused(tmp_path):
    assert "too few" in message(synthetic.write_synthetic, tmp_path / "none", 4, 1)


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(n, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "synthetic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write_synthetic(tmp_path / "images")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders.pickle, "dump", full)
    text = message(synthetic.write_synthetic, tmp_path / "images", 10, 2)
    assert text.startswith("images: cannot be written (No space left on device); ")
    assert os.listdir(tmp_path) == []


def test_synthetic_classes_are_balanced_and_not_told_by_colour():
    pixels, labels = synthetic.synthetic(4000, np.random.default_rng(3))
    assert np.bincount(labels).tolist() == [400] * 10
    colour = np.c_[pixels.reshape(-1, 3, 1024).mean(2) / 255, np.ones(4000)]
    weights = np.linalg.lstsq(colour[:3000], np.eye(10)[labels[:3000]], rcond=None)[0]
    assert ((colour[3000:] @ weights).argmax(1) == labels[3000:]).mean() < 0.16


# ---- The validation split ------------------------------------------------------------------------


def test_split_parts_the_rows():
    train, validation = cifar10.split(50, 0.1, np.random.default_rng(1))
    assert len(validation) == 5
    assert sorted([*train, *validation]) == list(range(50))


def test_rows_of_a_split_are_sorted_integers():
    for rows in cifar10.split(50, 0.1, np.random.default_rng(1)):
        assert np.all(np.diff(rows) > 0)
        assert rows.dtype == np.int64


def test_a_split_depends_on_the_seed_alone():
    first, same, other = (
        cifar10.split(50, 0.1, np.random.default_rng(seed))[1] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_reports_runs_keep_their_split():
    labels = np.arange(50_000) % 10
    for rows in (50_000, labels):
        validation = cifar10.split(rows, 0.1, np.random.default_rng(0))[1]
        digest = hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()
        assert digest.startswith("9ed009254d42ec2d")


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_split_refuses_an_empty_side(share):
    for rows in (50, np.arange(50) % 5):
        text = message(cifar10.split, rows, share, np.random.default_rng(1))
        assert f"--validation-share {share}: leaves no" in text


SIZES = np.array([1, 2, 3, 10, 40, 144])  # of six classes, 200 images


@pytest.fixture(params=[0.1, 0.25, 0.5, 0.9])
def small_split(request):
    """Return share, labels, training and validation rows of a small data set."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), SIZES))
    return request.param, labels, *cifar10.split(labels, request.param, np.random.default_rng(1))


def test_a_small_split_parts_the_rows(small_split):
    share, _, train, validation = small_split
    assert sorted([*train, *validation]) == list(range(200))
    assert abs(len(validation) - 200 * share) <= 2


def test_a_small_split_draws_the_share_of_each_class(small_split):
    share, labels, _, validation = small_split
    drawn = np.bincount(labels[validation], minlength=6)
    assert np.all(np.abs(drawn - SIZES * share)[3:] <= 1)


def test_a_small_split_leaves_each_class_a_training_image(small_split):
    _, labels, train, _ = small_split
    assert np.bincount(labels[train], minlength=6).min() >= 1


def test_rows_of_a_small_split_are_sorted_integers(small_split):
    for rows in small_split[2:]:
        assert np.all(np.diff(rows) > 0)
        assert rows.dtype == np.int64


def test_a_small_split_depends_on_the_seed(small_split):
    share, labels, _, validation = small_split
    other = cifar10.split(labels, share, np.random.default_rng(2))[1]
    assert not np.array_equal(validation, other)


def test_classes_of_one_image_leave_nothing_to_validate():
    text = message(cifar10.split, np.arange(20), 0.5, np.random.default_rng(1))
    assert "each of the 20 classes keeps one" in text


# ---- The images of a checkpoint ------------------------------------------------------------------


def source(*words):
    parser = argparse.ArgumentParser()
    cifar10.add_arguments(parser)
    return cifar10.Source.of(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def all_folders(folder, synthetic_dir, monkeypatch):
    """A folder with one of each data set, which is also the default one."""
    write_cifar100(folder.parent / "cifar-100-python")
    shutil.copytree(synthetic_dir, folder.parent / "synthetic-batches-py")
    monkeypatch.setattr(cifar10, "HERE", folder.parent)
    return folder.parent


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_checkpoint_gets_the_images_that_it_was_trained_on(all_folders, name):
    assert of_checkpoint.load_for(source(), {"name": name}).name == name
    inside = source("--data-dir", all_folders)
    assert of_checkpoint.load_for(inside, {"name": name}).name == name


def test_a_checkpoint_of_superclasses_gets_them_from_a_folder_that_is_named(cifar100_folder):
    args = source("--data-dir", cifar100_folder)
    assert of_checkpoint.load_for(args, {"name": "cifar100-coarse"}).name == "cifar100-coarse"
    assert of_checkpoint.load_for(args, {"name": "cifar100"}).name == "cifar100"


def test_the_scripts_train_and_test_on_superclasses(run, tmp_path):
    write_cifar100(tmp_path / "cifar-100-python", train=100)
    flags = ["--data-dir", "cifar-100-python", "--threads", "1"]
    small = ["--epochs", "1", "--hidden-size", "4", "--output", "net.npz"]
    trained = run("train.py", "--dataset", "cifar100-coarse", *flags, *small)
    assert trained.returncode == 0, trained.stderr
    tested = run("test.py", "net.npz", *flags)
    assert tested.returncode == 0, tested.stderr
    assert "cifar100-coarse" in tested.stdout


@pytest.mark.parametrize("name", LAYOUTS)
def test_flags_decide_against_the_checkpoint(all_folders, synthetic_dir, name):
    assert of_checkpoint.load_for(source("--dataset", "cifar10"), {"name": name}).name == "cifar10"
    folder = source("--data-dir", synthetic_dir)
    assert of_checkpoint.load_for(folder, {"name": name}).name == "synthetic"


@pytest.mark.parametrize("name", [None, 7, ["cifar100"], {"a": 1}, "../x", "mnist"])
def test_a_checkpoint_with_an_unknown_name_gets_cifar10(all_folders, name):
    assert of_checkpoint.load_for(source(), {"name": name}).name == "cifar10"


def test_a_checkpoint_of_own_pictures_needs_their_folder():
    text = message(of_checkpoint.load_for, source(), {"name": "pictures"})
    assert "give their folder by --data-dir" in text


def test_no_line_about_the_images_of_the_training(folder, capsys):
    data = cifar10.load(data_dir=folder)
    trained = {"name": "cifar10", "fingerprint": data.fingerprint}
    of_checkpoint.warn_of_other_data("a.npz", trained, data)
    assert capsys.readouterr().err == ""


def test_a_line_about_unknown_training_images(folder, capsys):
    of_checkpoint.warn_of_other_data("a.npz", {}, cifar10.load(data_dir=folder))
    assert capsys.readouterr().err.startswith("a.npz: doesn't say")


def test_other_files_of_cifar10_than_those_of_the_shipped_networks_get_a_note(folder, capsys):
    trained = {"name": "cifar10", "fingerprint": of_checkpoint.JPEG_COPY}
    of_checkpoint.warn_of_other_data("a.npz", trained, cifar10.load(data_dir=folder))
    line = capsys.readouterr().err
    assert line.startswith("note: a.npz: ")
    assert "JPEG-compressed copy" in line
    assert "WARNING" not in line


def test_a_shipped_network_has_the_fingerprint_of_the_jpeg_copy():
    _, info = npz.read_npz(ROOT / "checkpoints" / "cifar10-quick.npz")
    assert info["data"]["fingerprint"] == of_checkpoint.JPEG_COPY


@pytest.mark.parametrize("value", ["\x1b]0;x" + "y" * 9000, 7, ["\x1b"], None, {"a": "\n"}])
def test_a_line_about_other_images(folder, capsys, value):
    data = cifar10.load(data_dir=folder)
    of_checkpoint.warn_of_other_data("a.npz", {"name": value, "fingerprint": value}, data)
    line = capsys.readouterr().err
    assert "a.npz: was trained on other images" in line
    assert line[:-1].isprintable()
    assert len(line) < 300


@pytest.mark.parametrize(
    "odd",
    [
        "$1",
        "a$b$",
        "猫",
        "🐈",
        "=SUM(A1)",
        "a\\b",
        "%s",
        "<b>",
        "x" * 60,
        "class 0",
    ],
)
def test_class_names_are_those_of_the_checkpoint(odd):
    names = [odd, *"bcdefghij"]
    assert of_checkpoint.class_names({"class_names": names}, 10) == names


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        ("", "class 0"),
        ("  ", "class 0"),
        (1, "class 0"),
        (None, "class 0"),
        ("\u200fa", "?a"),  # a right-to-left mark
        ("a\x1b[31m", "a?[31m"),
        ("a\nb", "a b"),
        ("\ud800", "?"),
    ],
)
def test_class_names_are_made_printable(odd, shown):
    names = [odd, *"bcdefghij"]
    assert of_checkpoint.class_names({"class_names": names}, 10) == [shown, *"bcdefghij"]


def test_long_class_names_stay_different():
    names = ["x" * 300 + "1" + "x" * 300, "x" * 300 + "2" + "x" * 300, "y"]
    shown = of_checkpoint.class_names({"class_names": names}, 3)
    assert len(set(shown)) == 3
    assert max(map(len, shown)) <= 60


def test_a_checkpoint_without_class_names_has_those_of_cifar10():
    assert of_checkpoint.class_names({}, 10) == list(CLASSES)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], "ab", None, {"a": 1}])
def test_names_of_another_number_of_classes_become_numbers(names):
    assert of_checkpoint.class_names({"class_names": names}, 2) == ["class 0", "class 1"]


# ---- The script ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag", ["--data-dir {}", "--data_dir {}", "--data-dir={}", "--data_dir={}"]
)
def test_the_script_prints_a_summary(run, synthetic_dir, flag):
    done = run("data/cifar10.py", *flag.format(synthetic_dir).split())
    fingerprint = cifar10.load(data_dir=synthetic_dir).fingerprint
    assert (done.returncode, done.stderr) == (0, "")
    for pattern in ("name +synthetic", str(synthetic_dir), "training +1,000 images", fingerprint):
        assert re.search(pattern, done.stdout)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--data-dri", "x"], "--data-dri x; did you mean --data-dir?"),
        (["--data", "x"], "unrecognized arguments: --data x"),
        (["--dataset", "mnist"], "argument --dataset: invalid choice: 'mnist'"),
        (["--data-dir"], "argument --data-dir: expected one argument"),
        (["--data-dir", "new", "--data-url", "file:///nothing"], "--data-url file:///nothing: "),
    ],
)
def test_the_script_fails_in_one_line(run, args, line):
    done = run("data/cifar10.py", *args)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith("cifar10.py: error: ")
    assert line in last
    assert len(last) <= 300
    assert done.stdout == ""


def test_a_disk_that_refuses_is_one_line(run, tmp_path):
    (tmp_path / "file").touch()
    done = run("data/cifar10.py", "--dataset", "synthetic", "--data-dir", "file/images")
    assert done.returncode == 2
    assert re.fullmatch(r"cifar10.py: error: file\S*: cannot be written .*\n", done.stderr)


def test_the_script_has_help(run):
    done = run("data/cifar10.py", "--help")
    assert done.returncode == 0
    assert "  python data/cifar10.py --dataset synthetic " in done.stdout


@pytest.mark.parametrize(
    ("dataset", "flags"),
    [
        ("synthetic", " --dataset synthetic --data-dir "),
        ("cifar100-coarse", " --dataset cifar100-coarse --"),
    ],
)
def test_the_last_line_is_the_next_command(run, synthetic_dir, tmp_path, dataset, flags):
    write_cifar100(tmp_path / "hundred")
    folder = synthetic_dir if dataset == "synthetic" else tmp_path / "hundred"
    done = run("data/cifar10.py", "--dataset", dataset, "--data-dir", folder)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("The images are in ")
    assert "next: python " in last
    assert f"train.py{flags}" in last


def test_the_script_alone_never_draws_instead_of_fetching(monkeypatch):
    seen = []
    monkeypatch.setattr(cifar10, "load", lambda dataset, *args, **options: seen.append(dataset))
    with pytest.raises(AttributeError):  # no data set to print
        cifar10.main([])
    assert seen == ["cifar10"]


@pytest.mark.parametrize(
    "script",
    ["train.py", "test.py", "search.py", "visualize.py", "data/cifar10.py", "data/pictures.py"],
)
def test_scripts_run_with_a_safe_path_and_a_foreign_data_package(script, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("raise ImportError('the foreign package')")
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    done = subprocess.run(
        [sys.executable, *safe_path, str(ROOT / script), "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def streams(stdout):
    return {"capture_output": False, "stdout": stdout, "stderr": subprocess.PIPE}


def test_a_reader_that_has_gone_is_no_error(run, synthetic_dir):
    reader, writer = os.pipe()
    os.close(reader)
    done = run("data/cifar10.py", "--data-dir", synthetic_dir, **streams(writer))
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_is_full_is_one_line(run, synthetic_dir):
    with open("/dev/full", "w") as full:
        done = run("data/cifar10.py", "--data-dir", synthetic_dir, **streams(full))
    assert done.returncode == 2
    assert re.fullmatch(r"cifar10.py: error: No space left .*\n", done.stderr)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "a.tar.gz"}, "note: --data-url has no effect: "),
        ({"md5": "0" * 32}, "note: --data-md5 has no effect: "),
    ],
)
def test_an_archive_is_not_ignored_without_a_word(
    synthetic_dir, tmp_path, capsys, monkeypatch, given, said
):
    monkeypatch.setattr(cifar10, "write_synthetic", partial(shutil.copytree, synthetic_dir))
    cifar10.load(data_dir=synthetic_dir, **given)
    there = capsys.readouterr().err
    cifar10.load("synthetic", tmp_path / "new", make=True, **given)
    drawn = capsys.readouterr().err
    for line, why in ((there, "is there already; give a new --data-dir"), (drawn, "are drawn")):
        assert line.startswith(said)
        assert why in line
        assert line.count("\n") == 1


def test_the_command_that_makes_a_folder_names_the_archive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = message(cifar10.load, "auto", "a b", url="c.tar.gz", md5="d")
    words = shlex.split(text.partition("make it by: ")[2])
    assert words[-4:] == ["--data-url", "c.tar.gz", "--data-md5", "d"]
    assert words[3:6] == ["cifar10", "--data-dir", "a b"]
    text = message(cifar10.load, "auto", "a b" * 60, url="c.tar.gz")
    assert text.endswith("or make it by data/cifar10.py with the same flags")


def test_the_next_command_names_a_folder_that_is_not_the_usual_one(data):
    usual = cifar10.HERE / LAYOUTS["synthetic"].folder
    commands = [
        cifar10._next_command(replace(data, name=name, folder=folder))
        for name, folder in (
            ("synthetic", usual),
            ("synthetic", cifar10.HERE / "mine"),
            ("pictures", cifar10.HERE / "mine"),
        )
    ]
    assert ["--data-dir" in line for line in commands] == [False, True, True]
    assert ["--dataset synthetic" in line for line in commands] == [True, True, False]


def test_a_source_types_the_flags_that_were_given():
    flags = "--dataset cifar100 --data-dir 'a b' --data-url c --data-md5 d"
    assert source(*shlex.split(flags)).typed() == flags
    assert cifar10.Source().typed() == ""


def test_every_flag_reaches_load(monkeypatch):
    seen = []
    monkeypatch.setattr(cifar10, "load", lambda *args, **options: seen.append((args, options)))
    args = source("--dataset=cifar100", "--data-dir=a", "--data-url=b", "--data-md5=c")
    cifar10.load_from(args, make=True)
    assert seen == [(("cifar100", "a"), {"url": "b", "md5": "c", "make": True})]
