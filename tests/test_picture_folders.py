"""data/picture_folders.py: the classes, splits and files in folders of pictures."""

import os

from data import picture_folders
from data.pickles import DataError
from data.picture_folders import Path

import pytest
from helpers import line_of

needs_links = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def touch(*names):
    """Make empty files, and the folders that they are in."""
    for name in names:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w"):
            pass


def layout():
    """The layout of the folder `mine`: {split: {class: folders}}, and its notes."""
    found = picture_folders.find_layout(Path("mine"))
    splits = {}
    for split, folders in found.splits.items():
        splits[split] = {}
        for label, folder in folders:
            name = found.classes[label]
            splits[split].setdefault(name, []).append(os.path.relpath(folder, "mine"))
    return splits, found.notes


def error():
    """The error in one line of the layout of `mine`."""
    with pytest.raises(DataError) as caught:
        picture_folders.find_layout(Path("mine"))
    return line_of(caught, "mine", ";")


def files():
    """The files below `mine` by split, as "class: path", and what was passed over."""
    found = picture_folders.find_layout(Path("mine"))
    splits = picture_folders.find_files(found)
    names = {}
    for split, each in splits.items():
        names[split] = [
            f"{found.classes[label]}: {os.path.relpath(path, 'mine')}" for label, path in each.found
        ]
    passed_over = sum(
        (each.passed_over for each in splits.values()), start=picture_folders.Counter()
    )
    return names, dict(+passed_over)


# ---- Splits --------------------------------------------------------------------------------


def test_a_folder_for_each_class():
    touch("mine/bees/1.png", "mine/ants/1.png")
    assert layout() == ({"train": {"ants": ["ants"], "bees": ["bees"]}}, [])


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train2017", "test2017"),
        ("train-images", "test images"),
        ("trainset", "testset"),
        ("train", "val"),
        ("train", "valid"),
        ("train", "Validation"),
        ("train", "dev"),
        ("train", "eval"),
    ],
)
def test_folders_that_are_split_are_splits(training, test):
    for split in (training, test):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    splits, _ = layout()
    assert splits == {
        "train": {"ants": [f"{training}/ants"], "bees": [f"{training}/bees"]},
        "test": {"ants": [f"{test}/ants"], "bees": [f"{test}/bees"]},
    }


@pytest.mark.parametrize(
    "training, test",
    [
        ("训练集", "测试集"),
        ("訓練", "テストデータ"),
        ("훈련", "테스트"),
        ("Entrenamiento", "Prueba"),
        ("entrai\u0302nement", "test"),  # decomposed, as on a Mac
        ("Trainingsdaten", "Testdaten"),
    ],
)
def test_splits_may_have_names_of_other_languages(training, test):
    for split in (training, test):
        touch(f"mine/{split}/cat/1.png", f"mine/{split}/dog/2.png")
    splits, _ = layout()
    assert set(splits) == {"train", "test"}
    assert set(splits["train"]) == {"cat", "dog"}


@pytest.mark.parametrize(
    "outer, inner",
    [
        (("fold1", "fold2"), ("cat", "dog")),
        (("apprendre", "juger", "rest"), ("猫", "狗", "鸟")),
        (("train", "gallery", "query"), ("cat",)),
    ],
)
def test_classes_that_look_like_splits_are_noted(outer, inner):
    for split in outer:
        touch(*[f"mine/{split}/{name}/1.png" for name in inner])
    splits, notes = layout()
    assert set(splits["train"]) == set(outer)
    assert len(notes) == 1
    assert all(name in notes[0] for name in (*outer, *inner, "train and test"))


def test_classes_with_one_folder_of_the_same_name_are_not_noted():
    touch("mine/cat/raw/1.png", "mine/dog/raw/2.png", "mine/dog/small/2.png")
    assert layout()[1] == []


def test_long_names_take_no_time():
    assert picture_folders.role("train" + "dataset" * 35) == "train"
    assert picture_folders.role("train" + "dataset" * 35 + "x") is None
    assert picture_folders.role("imageset" * 30 + "x") is None


def test_a_validation_folder_without_a_test_folder_is_the_test_split():
    for split in ("train", "val"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    assert layout()[1] == ["mine/val: the test split"]


def test_a_validation_folder_next_to_a_test_folder_is_part_of_the_training_split():
    for split in ("train", "val", "test"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    splits, notes = layout()
    assert splits["train"]["ants"] == ["train/ants", "val/ants"]
    assert splits["test"]["ants"] == ["test/ants"]
    assert notes == ["mine/val: part of the training split"]


@pytest.mark.parametrize("test", ["test", "Testing", "test1"])
def test_an_unlabelled_test_folder_is_named(test):
    touch("mine/train/ants/1.png", "mine/train/bees/1.png")
    touch(*(f"mine/{test}/{i}.png" for i in range(3)))
    splits, notes = layout()
    assert splits == {"train": {"ants": ["train/ants"], "bees": ["train/bees"]}}
    assert len(notes) == 1
    assert f"left out: mine/{test}, 3 files without folders of classes" in notes[0]


@pytest.mark.parametrize("inner", ["images", "unknown", "test"])
def test_a_folder_of_all_pictures_of_a_split_is_no_class(inner):
    touch("mine/train/ants/images/1.png", "mine/train/bees/images/1.png")
    touch(*(f"mine/test/{inner}/{i}.png" for i in range(3)))
    splits, notes = layout()
    assert splits == {"train": {"ants": ["train/ants"], "bees": ["train/bees"]}}
    assert "left out: mine/test, 3 files without folders of classes" in notes[0]


def test_a_validation_folder_is_the_test_split_next_to_an_unlabelled_one():
    for split in ("train", "val"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    touch("mine/test/1.png")
    splits, notes = layout()
    assert splits["test"]["ants"] == ["val/ants"]
    assert len(notes) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "val/1.png"],
        ["train/1.png", "test/1.png"],
        ["Training/1.png", "Testing/1.png", "Validation/1.png"],
        ["test/ants/1.png", "test/bees/1.png", "val/ants/1.png", "val/bees/1.png"],
        ["train/1.png", "test/ants/1.png", "test/bees/1.png"],
    ],
)
def test_splits_without_classes_are_no_classes(names):
    touch(*(f"mine/{name}" for name in names))
    assert "are splits, not classes" in error()


@pytest.mark.parametrize("other", ["val", "test", "validation"])
def test_splits_with_different_classes_are_named(other):
    touch("mine/train/ants/1.png", "mine/train/bees/1.png")
    touch(f"mine/{other}/cats/1.png", f"mine/{other}/dogs/1.png")
    assert f"mine/{other}/cats: is a class that train/ doesn't have" in error()


def test_one_split_twice_is_named():
    for split in ("train", "training", "test"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    assert "train/ and training/, one split twice" in error()


@pytest.mark.parametrize("name", ["train", "Train", "test", "val"])
def test_a_class_may_be_called_like_a_split(name):
    touch("mine/car/1.png", "mine/plane/1.png", f"mine/{name}/1.png")
    assert layout() == ({"train": {name: [name] for name in sorted(["car", "plane", name])}}, [])


def test_a_class_of_trains_may_have_folders():
    touch("mine/car/1.png", "mine/plane/1.png", "mine/train/steam/1.png", "mine/train/tgv/1.png")
    assert layout() == ({"train": {name: [name] for name in ("car", "plane", "train")}}, [])


def test_trains_may_be_a_class_in_splits():
    for split in ("train", "test"):
        touch(f"mine/{split}/train/1.png", f"mine/{split}/plane/1.png")
    splits, _ = layout()
    assert splits["train"] == {"plane": ["train/plane"], "train": ["train/train"]}


def test_classes_that_are_split_are_understood():
    for name in ("ants", "bees"):
        touch(f"mine/{name}/train/1.png", f"mine/{name}/test/1.png", f"mine/{name}/val/1.png")
    splits, notes = layout()
    assert splits["train"]["ants"] == ["ants/train", "ants/val"]
    assert splits["test"]["bees"] == ["bees/test"]
    assert notes == ["the validation folders: part of the training split"]


@pytest.mark.parametrize("inner", ["images", "train", "a/b"])
def test_folders_around_the_classes_are_opened(inner):
    touch(f"mine/{inner}/ants/1.png", f"mine/{inner}/bees/1.png", "mine/README.md")
    splits, notes = layout()
    assert splits["train"]["ants"] == [f"{inner}/ants"]
    assert notes == [f"the classes are those in mine/{inner}"]


def test_folders_around_splits_are_opened():
    for split in ("training_set", "test_set"):
        touch(f"mine/{split}/{split}/ants/1.png", f"mine/{split}/{split}/bees/1.png")
    assert layout()[0]["test"]["ants"] == ["test_set/test_set/ants"]


def test_other_folders_next_to_splits_are_named():
    for split in ("train", "test"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    touch("mine/annotations/1.xml")
    assert layout()[1] == ["left out: mine/annotations, which is no split"]


def test_files_next_to_the_classes_are_counted():
    touch("mine/ants/1.png", "mine/bees/1.png", "mine/labels.csv", "mine/2.png", "mine/.hidden")
    assert layout()[1] == ["left out: files in mine that are in none of its folders: 2"]


def test_files_next_to_splits_and_in_them_are_counted():
    for split in ("train", "test"):
        touch(f"mine/{split}/ants/1.png", f"mine/{split}/bees/1.png")
    touch("mine/README.md", "mine/train/1.png", "mine/train/2.png")
    assert layout()[1] == [
        "left out: files in mine that are in none of its folders: 1",
        "left out: files in mine/train that are in none of its folders: 2",
    ]


@pytest.mark.parametrize("names", [["é", "e\u0301"], ["猫", "狗"], ["$1", "=x"], ["a b", "c'd"]])
def test_names_of_classes_in_any_script(names):
    if names == ["é", "e\u0301"]:
        touch("mine/train/é/1.png", "mine/train/x/1.png")
        touch("mine/test/e\u0301/1.png", "mine/test/x/1.png")  # decomposed, as on a Mac
        if len(os.listdir("mine/test")) != 2:
            pytest.skip("this file system changes names")
        assert layout()[0]["test"]["é"] == ["test/e\u0301"]
    else:
        touch(*(f"mine/{name}/1.png" for name in names))
        assert sorted(layout()[0]["train"]) == sorted(names)


@pytest.mark.parametrize("name", ["d\x1b[31mog", "d\udcffog", "d\nog", "d\u202eog"])
def test_names_of_classes_that_cannot_be_printed_are_named(name):
    try:
        touch("mine/cat/1.png", f"mine/{name}/1.png")
    except OSError:
        pytest.skip("this file system has no such names")
    assert "is not printable" in error()


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_too_few_or_too_many_classes_are_named(count):
    os.mkdir("mine")
    touch(*(f"mine/{i}/1.png" for i in range(count)))
    assert f"mine: holds {count:,} subfolders" in error()


# ---- Files ---------------------------------------------------------------------------------


def test_files_come_in_the_order_of_their_names():
    touch("mine/ants/b.png", "mine/ants/a.png", "mine/ants/A/z.png", "mine/bees/1.png")
    assert files()[0] == {
        "train": ["ants: ants/a.png", "ants: ants/b.png", "ants: ants/A/z.png", "bees: bees/1.png"]
    }


@pytest.mark.parametrize(
    "junk",
    [
        "__MACOSX/ants/._1.png",
        "ants/__MACOSX/1.png",
        "ants/._1.png",
        "ants/Thumbs.db",
        "ants/thumbs.db",
        "ants/.DS_Store",
        "ants/desktop.ini",
        "ants/@eaDir/1.png/SYNOPHOTO_THUMB.jpg",
        "ants/.ipynb_checkpoints/1-checkpoint.png",
        ".ipynb_checkpoints/1.png",
        "@eaDir/ants/1.png",
        "$RECYCLE.BIN/1.png",
        "System Volume Information/x",
        "ants/Icon\r",
    ],
)
def test_files_of_systems_are_passed_over(junk):
    touch("mine/ants/1.png", "mine/bees/1.png", f"mine/{junk}")
    names, passed_over = files()
    assert names == {"train": ["ants: ants/1.png", "bees: bees/1.png"]}
    assert passed_over == {"hidden or system files": 1}


def test_files_of_systems_are_counted_around_splits():
    for split in ("train", "test"):
        touch(f"mine/data/{split}/ants/1.png", f"mine/data/{split}/bees/1.png")
        touch(f"mine/data/{split}/.DS_Store")
    touch("mine/__MACOSX/data/x", "mine/.DS_Store", "mine/data/Thumbs.db")
    assert files()[1] == {"hidden or system files": 5}


@needs_links
def test_linked_folders_are_followed_once():
    touch("mine/ants/1.png", "mine/bees/1.png", "elsewhere/2.png", "elsewhere/deep/3.png")
    os.symlink("../../elsewhere", "mine/ants/more")
    os.symlink("../../elsewhere", "mine/ants/more2")
    os.symlink("../../elsewhere/deep", "mine/bees/deep")
    names, passed_over = files()
    assert names["train"] == [
        "ants: ants/1.png",
        "ants: ants/more/2.png",
        "ants: ants/more/deep/3.png",
        "bees: bees/1.png",
    ]
    assert passed_over == {"links to folders of this data set": 2}


@needs_links
@pytest.mark.parametrize("target", [".", "..", "../..", "../bees", "/", "../ants/deep"])
def test_links_within_the_data_set_are_passed_over(target):
    touch("mine/ants/1.png", "mine/ants/deep/2.png", "mine/bees/1.png")
    os.symlink(target, "mine/ants/link")
    names, passed_over = files()
    assert names["train"] == ["ants: ants/1.png", "ants: ants/deep/2.png", "bees: bees/1.png"]
    assert passed_over == {"links to folders of this data set": 1}


@needs_links
def test_linked_pictures_are_read_once():
    touch("mine/ants/1.png", "mine/bees/1.png", "elsewhere/2.png")
    os.symlink("../../elsewhere/2.png", "mine/ants/2.png")
    os.symlink("../../elsewhere/2.png", "mine/ants/3.png")
    os.symlink("../bees/1.png", "mine/ants/4.png")
    names, passed_over = files()
    assert names["train"] == ["ants: ants/1.png", "ants: ants/2.png", "bees: bees/1.png"]
    assert passed_over == {"links to other pictures of this data set": 2}


@needs_links
def test_links_to_nothing_and_to_themselves_are_left_to_the_reader():
    touch("mine/ants/1.png", "mine/bees/1.png")
    os.symlink("nothing", "mine/ants/2.png")
    os.symlink("3.png", "mine/ants/3.png")
    assert [name[-5:] for name in files()[0]["train"]] == ["1.png", "2.png", "3.png", "1.png"]


@needs_links
def test_classes_may_be_links():
    touch("elsewhere/a/1.png", "mine/bees/1.png")
    os.symlink("../elsewhere/a", "mine/ants")
    assert files()[0]["train"] == ["ants: ants/1.png", "bees: bees/1.png"]


@needs_links
@pytest.mark.parametrize("target", ["bees", "bees/deep", ".."])
def test_a_class_that_is_a_link_to_another_is_named(target):
    touch("mine/bees/1.png", "mine/bees/deep/2.png", "mine/wasps/1.png")
    os.symlink(target, "mine/ants")
    with pytest.raises(DataError) as caught:
        files()
    line_of(caught, "mine/ants: is a link to a folder of this data set")


def test_deeply_nested_folders_are_walked():
    touch("mine/ants/1.png", "mine/bees/1.png")
    nested = ["mine/ants" + "/d" * depth for depth in range(1, 1501)]
    for folder in nested:
        os.mkdir(folder)
    touch(f"{nested[-1]}/deep.png")
    try:
        assert files()[0]["train"][1].endswith("/d/deep.png")
    finally:  # pytest can't delete so deep a tree
        os.remove(f"{nested[-1]}/deep.png")
        for folder in reversed(nested):
            os.rmdir(folder)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="needs permissions")
def test_folders_that_cannot_be_read_are_counted():
    touch("mine/ants/1.png", "mine/ants/secret/2.png", "mine/bees/1.png")
    os.chmod("mine/ants/secret", 0)
    names, passed_over = files()
    os.chmod("mine/ants/secret", 0o700)
    assert names["train"] == ["ants: ants/1.png", "bees: bees/1.png"]
    assert passed_over == {"unreadable folders": 1}
