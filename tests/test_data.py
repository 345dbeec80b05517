"""data/cifar10.py and data/synthetic.py: what loads from where, the validation split, the drawing, the command line."""

import argparse
import errno
import hashlib
import os
import re
import shutil
import subprocess

from data import cifar10, folders, pickles, synthetic

import numpy as np
import pytest
from batches import batch, dump, rng, write_cifar10, write_cifar100
from conftest import line_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    write_cifar10(tmp_path / "cifar-10-batches-py")
    return tmp_path / "cifar-10-batches-py"


def message(call, *args, **options):
    """The one line of the DataError that the call raises."""
    with pytest.raises(cifar10.DataError) as caught:
        call(*args, **options)
    return line_of(caught, ";")


# ---- Loading --------------------------------------------------------------------------------------------------------


def test_fingerprint_tells_content_not_batches(folder):
    before = cifar10.load(data_dir=folder)
    contents = [pickles.read_pickle(folder / file) for file in cifar10.TRAIN]
    pixels = np.concatenate([pickles.array(content["data"]) for content in contents])
    labels = [label for content in contents for label in content["labels"]]
    for i, file in enumerate(cifar10.TRAIN):  # 1, 1, 1, 1 and 16 rows instead of 4 each
        rows = slice(i, i + 1 if i < 4 else None)
        dump(folder / file, {"data": pixels[rows], "labels": labels[rows]})
    assert cifar10.load(data_dir=folder).fingerprint == before.fingerprint
    labels[-1] = (labels[-1] + 1) % 10
    dump(folder / file, {"data": pixels[rows], "labels": labels[rows]})
    assert cifar10.load(data_dir=folder).fingerprint != before.fingerprint


def test_parent_of_the_folder_will_do(folder):
    assert cifar10.load(data_dir=str(folder.parent)).folder == folder
    assert cifar10.load("cifar10", folder.parent).folder == folder
    assert ".: is no folder of CIFAR-10 batches" in message(
        cifar10.load, "synthetic", folder.parent
    )


def test_arrays_are_read_only(folder):
    data = cifar10.load(data_dir=folder)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_dataset_is_one_line(folder):
    data = cifar10.load(data_dir=folder)
    shown = f"Dataset(cifar10: 20 training and 4 test images, 10 classes, fingerprint {data.fingerprint[:8]})"
    assert repr(data) == str(data) == shown


def test_cifar100(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-100-python"
    write_cifar100(folder)
    for dataset, place in (
        ("auto", folder),
        ("cifar100", folder),
        ("auto", tmp_path),
        ("cifar100", tmp_path),
    ):
        data = cifar10.load(dataset, place)
        assert (data.name, len(data.class_names), data.folder) == ("cifar100", 100, folder)
    assert (len(data.train_labels), len(data.test_labels)) == (6, 4)
    assert data.train_labels.max() > 9
    assert "holds cifar100 images, not cifar10; give --dataset cifar100" in message(
        cifar10.load, "cifar10", folder
    )
    (folder / "test").write_bytes(b"")
    assert "python data/cifar10.py --dataset cifar100 --data-dir" in message(
        cifar10.load, "auto", folder
    )


@pytest.mark.parametrize("classes", [2, 257, 1000])
def test_any_number_of_classes(folder, classes):
    dump(folder / "batches.meta", {b"label_names": [b"c%d" % i for i in range(classes)]})
    for file in cifar10.FILES[:6]:
        dump(folder / file, batch(file, labels=rng.integers(0, classes, 4).tolist()))
    before = cifar10.load(data_dir=folder)
    assert len(before.class_names) == classes
    changed = (before.test_labels + np.array([256 if classes > 256 else 1, 0, 0, 0])) % classes
    dump(
        folder / "test_batch", batch("test_batch", labels=changed.tolist(), data=before.test_images)
    )
    assert cifar10.load(data_dir=folder).fingerprint != before.fingerprint
    dump(folder / "test_batch", batch("test_batch", labels=[0, 0, 0, classes]))
    text = message(cifar10.load, data_dir=folder)
    assert f"has label {classes} in row 3, outside 0..{classes - 1}" in text
    assert "data/pictures.py" in text


def test_a_missing_folder_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for dataset in ("auto", *cifar10.LAYOUTS):
        text = message(cifar10.load, dataset, "my typo", url="http://127.0.0.1:1/")
        assert text.startswith("--data-dir my typo: there is no such folder; ")
        assert f"--dataset {dataset.replace('auto', 'cifar10')} --data-dir 'my typo'" in text
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", "a\0b", "a\x1b[31mb", "a\udcffb", "~nobody-of-that-name/x", "x" * 300]
)
def test_names_that_no_folder_has(name):
    assert message(cifar10.load, data_dir=name).startswith("--data-dir ")


def test_folder_without_batches_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ".: is no folder of CIFAR-10 batches; " in message(cifar10.load, data_dir=tmp_path)
    (tmp_path / "cifar.tar.gz").touch()
    assert "cifar.tar.gz: is no folder of CIFAR-10 batches" in message(
        cifar10.load, data_dir="cifar.tar.gz"
    )
    assert message(cifar10.load, "mnist").startswith(
        "--dataset mnist: unknown; choose auto, cifar10, cifar100"
    )


# ---- Synthetic images -----------------------------------------------------------------------------------------------


def test_synthetic_folder_is_told_from_cifar10(synthetic_dir):
    for dataset in ("auto", "synthetic"):
        for place in (synthetic_dir, synthetic_dir.parent):
            data = cifar10.load(dataset, place)
            assert data.name == "synthetic"
            assert data.class_names == tuple(synthetic.SHAPES)
            assert (len(data.train_images), len(data.test_images)) == (1000, 200)
    text = message(cifar10.load, "cifar10", synthetic_dir)
    assert "holds synthetic images, not cifar10; give --dataset synthetic" in text


def test_cifar10_folder_is_no_synthetic_one(folder, synthetic_dir):
    assert "holds cifar10 images, not synthetic" in message(cifar10.load, "synthetic", folder)
    shutil.copy(synthetic_dir / "data_batch_3", folder)
    assert "data_batch_3: is synthetic, but" in message(cifar10.load, data_dir=folder)
    names = [b"one", b"two"]
    dump(folder / "batches.meta", {b"label_names": names})
    for file in cifar10.FILES[:6]:
        dump(folder / file, batch(file, labels=[0, 1, 0, 1]))
    dump(
        folder / "data_batch_2",
        batch("data_batch_2", labels=[0] * 4, batch_label=b"training batch 2 of 5, pictures"),
    )
    assert "data_batch_2: is of another kind (pictures)" in message(cifar10.load, data_dir=folder)


def test_synthetic_images_are_drawn_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic.write_synthetic, "__defaults__", (10, 2, 0))
    folder = tmp_path / "new" / "images"
    first = cifar10.load("synthetic", folder, make=True)
    assert os.listdir(folder.parent) == ["images"]
    (folder / "readme").touch()
    again = cifar10.load("synthetic", folder, make=True)
    assert first.fingerprint == again.fingerprint
    assert (folder / "readme").exists(), "was drawn anew"
    other = tmp_path / "other"
    synthetic.write_synthetic(other, 10, 2, seed=1)
    assert cifar10.load("synthetic", other).fingerprint != first.fingerprint
    assert "too few" in message(synthetic.write_synthetic, tmp_path / "none", 4, 1)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(n, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "synthetic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.write_synthetic(tmp_path / "images")
    assert os.listdir(tmp_path) == []


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders.pickle, "dump", full)
    text = message(synthetic.write_synthetic, tmp_path / "images", 10, 2)
    assert text.startswith("images: cannot be written (No space left on device); free some space")
    assert os.listdir(tmp_path) == []


def test_synthetic_classes_are_balanced_and_not_told_by_colour():
    pixels, labels = synthetic.synthetic(4000, np.random.default_rng(3))
    assert np.bincount(labels).tolist() == [400] * 10
    colour = np.c_[pixels.reshape(-1, 3, 1024).mean(2) / 255, np.ones(4000)]
    weights = np.linalg.lstsq(colour[:3000], np.eye(10)[labels[:3000]], rcond=None)[0]
    assert ((colour[3000:] @ weights).argmax(1) == labels[3000:]).mean() < 0.16


# ---- The validation split -------------------------------------------------------------------------------------------


def test_split_parts_the_rows():
    train, validation = cifar10.split(50, 0.1, np.random.default_rng(1))
    assert len(validation) == 5
    assert sorted([*train, *validation]) == list(range(50))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(validation) > 0)
    assert train.dtype == validation.dtype == np.int64
    same, other = (cifar10.split(50, 0.1, np.random.default_rng(seed))[1] for seed in (1, 2))
    assert np.array_equal(validation, same)
    assert not np.array_equal(validation, other)


def test_the_reports_runs_keep_their_split():
    labels = np.arange(50_000) % 10
    for rows in (50_000, labels):
        validation = cifar10.split(rows, 0.1, np.random.default_rng(0))[1]
        assert (
            hashlib.sha256(validation.astype("<i8").tobytes())
            .hexdigest()
            .startswith("9ed009254d42ec2d")
        )


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_split_refuses_an_empty_side(share):
    for rows in (50, np.arange(50) % 5):
        assert f"validation share {share}: leaves no" in message(
            cifar10.split, rows, share, np.random.default_rng(1)
        )


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_small_data_is_split_by_class(share):
    sizes = [1, 2, 3, 10, 40, 144]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), sizes))
    train, validation = cifar10.split(labels, share, np.random.default_rng(1))
    assert sorted([*train, *validation]) == list(range(200))
    assert train.dtype == validation.dtype == np.int64
    assert np.all(np.diff(validation) > 0)
    drawn = np.bincount(labels[validation], minlength=6)
    assert np.all(np.abs(drawn - np.array(sizes) * share)[3:] <= 1)
    assert np.bincount(labels[train], minlength=6).min() >= 1
    assert abs(len(validation) - 200 * share) <= 2
    other = cifar10.split(labels, share, np.random.default_rng(2))[1]
    assert not np.array_equal(validation, other)


def test_classes_of_one_image_leave_nothing_to_validate():
    assert "each of the 20 classes keeps one" in message(
        cifar10.split, np.arange(20), 0.5, np.random.default_rng(1)
    )


# ---- What a checkpoint was trained on -------------------------------------------------------------------------------


def arguments(*words):
    parser = argparse.ArgumentParser()
    cifar10.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_images_for_a_checkpoint(folder, synthetic_dir, monkeypatch):
    write_cifar100(folder.parent / "cifar-100-python")
    os.symlink(synthetic_dir, folder.parent / "synthetic-batches-py")
    monkeypatch.setattr(cifar10, "HERE", folder.parent)
    for name in cifar10.LAYOUTS:
        assert cifar10.load_for(arguments(), {"name": name}).name == name
        assert cifar10.load_for(arguments("--data-dir", folder.parent), {"name": name}).name == name
        assert cifar10.load_for(arguments("--dataset", "cifar10"), {"name": name}).name == "cifar10"
        assert (
            cifar10.load_for(arguments("--data-dir", synthetic_dir), {"name": name}).name
            == "synthetic"
        )
    for name in (None, 7, ["cifar100"], {"a": 1}, "../x", "mnist"):
        assert cifar10.load_for(arguments(), {"name": name}).name == "cifar10"
    assert "give their folder by --data-dir" in message(
        cifar10.load_for, arguments(), {"name": "pictures"}
    )


def test_warning_of_other_images(folder, capsys):
    data = cifar10.load(data_dir=folder)
    cifar10.warn_of_other_data("a.npz", {"name": "cifar10", "fingerprint": data.fingerprint}, data)
    assert capsys.readouterr().err == ""
    cifar10.warn_of_other_data("a.npz", {}, data)
    assert (
        capsys.readouterr().err
        == "a.npz: doesn't say which images it was trained on; these are cifar10\n"
    )
    for value in ("\x1b]0;x" + "y" * 9000, 7, ["\x1b"], None, {"a": "\n"}):
        cifar10.warn_of_other_data("a.npz", {"name": value, "fingerprint": value}, data)
        line = capsys.readouterr().err
        assert line.startswith("WARNING: a.npz: was trained on other images (")
        assert line[:-1].isprintable()
        assert len(line) < 300


def test_class_names_of_a_checkpoint():
    assert cifar10.class_names({"class_names": ["a", "b"]}, 2) == ["a", "b"]
    assert cifar10.class_names({}, 10) == list(cifar10.CLASSES)
    for names in (["a"], ["a", 1], ["a", "\x1b"], ["a", "$b$"], "ab", None, {"a": 1}):
        assert cifar10.class_names({"class_names": names}, 2) == ["class 0", "class 1"]


# ---- The command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag", ["--data-dir {}", "--data_dir {}", "--data-dir={}", "--data_dir={}"]
)
def test_script_says_what_is_there(run, synthetic_dir, flag):
    done = run("data/cifar10.py", *flag.format(synthetic_dir).split())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"name +synthetic\n", done.stdout)
    assert str(synthetic_dir) in done.stdout
    assert re.search(r"training +1,000 images", done.stdout)
    assert cifar10.load(data_dir=synthetic_dir).fingerprint in done.stdout


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["--data-dri", "x"],
            "unrecognized arguments: --data-dri x; did you mean --data-dir?; see cifar10.py --help",
        ),
        (["--data", "x"], "unrecognized arguments: --data x"),
        (["--dataset", "mnist"], "argument --dataset: invalid choice: 'mnist'"),
        (["--data-dir"], "argument --data-dir: expected one argument; see cifar10.py --help"),
        (["--data-dir", os.curdir], ".: is no folder of CIFAR-10 batches; "),
        (
            ["--data-dir", "new", "--data-url", "file:///nothing"],
            "--data-url file:///nothing: cannot be fetched",
        ),
    ],
)
def test_script_fails_in_one_line(run, args, line):
    done = run("data/cifar10.py", *args)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith(f"cifar10.py: error: {line}")
    assert len(last) <= 300
    assert len(done.stderr.splitlines()) == 1 + ("new" in args)  # "downloading ..."
    assert done.stdout == ""


def test_script_cannot_write(run, tmp_path):
    (tmp_path / "file").touch()
    done = run("data/cifar10.py", "--dataset", "synthetic", "--data-dir", "file/images")
    assert done.returncode == 2
    assert re.fullmatch(
        r"cifar10.py: error: file\S*: cannot be written \(.*\); free .*\n", done.stderr
    )


def test_script_help(run):
    done = run("data/cifar10.py", "--help")
    assert done.returncode == 0
    assert "    python data/cifar10.py --dataset synthetic " in done.stdout
    assert "(default: auto)" in " ".join(done.stdout.split())
    assert "(default: None)" not in " ".join(done.stdout.split())


def test_reader_that_has_gone_is_no_error(run, synthetic_dir):
    reader, writer = os.pipe()
    os.close(reader)
    options = {"capture_output": False, "stdout": writer, "stderr": subprocess.PIPE}
    done = run("data/cifar10.py", "--data-dir", synthetic_dir, **options)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_is_full_is_one_line(run, synthetic_dir):
    with open("/dev/full", "w") as full:
        options = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run("data/cifar10.py", "--data-dir", synthetic_dir, **options)
    assert done.returncode == 2
    assert done.stderr.startswith("cifar10.py: error: No space left on device; free some space")
    assert done.stderr.count("\n") == 1


def test_load_from_hands_over_every_flag(monkeypatch):
    seen = []
    monkeypatch.setattr(cifar10, "load", lambda *args, **options: seen.append((args, options)))
    cifar10.load_from(
        arguments("--dataset=cifar100", "--data-dir=a", "--data-url=b", "--data-md5=c"), make=True
    )
    assert seen == [(("cifar100", "a"), {"url": "b", "md5": "c", "make": True})]
