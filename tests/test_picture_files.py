"""data/picture_files.py: files, folders and patterns become a list of pictures in natural order."""

import os
import sys

from data.picture_files import find_pictures, natural_key

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with pictures, two of them in folders, and two other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("10.png", "2.png", "1.png", "b/3.JPG", "b/c/4.webp", "notes.txt", ".5.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(*arguments):
    return [str(path) for path in find_pictures(arguments).paths]


def test_a_folder_holds_its_pictures_at_any_depth_in_natural_order():
    assert names(".") == ["1.png", "2.png", "10.png", "b/3.JPG", "b/c/4.webp"]


def test_other_and_hidden_files_in_a_folder_are_passed_over_and_counted(folder):
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._1.png").write_bytes(b"")
    assert find_pictures(["."]).passed_over == 3  # notes.txt, .5.png and __MACOSX


def test_a_pattern_stands_for_files_in_natural_order():
    assert names("*.png") == ["1.png", "2.png", "10.png"]
    assert names("?.png") == ["1.png", "2.png"]
    assert names("[0-9]*.png", "b/*") == ["1.png", "2.png", "10.png", "b/3.JPG", "b/c/4.webp"]


def test_two_stars_stand_for_folders_at_any_depth():
    assert names("**/*.webp") == ["b/c/4.webp"]


def test_a_file_that_is_named_is_taken_whatever_its_ending():
    assert names("notes.txt", ".5.png") == [".5.png", "notes.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "[1].png").write_bytes(b"")
    assert names("[1].png") == ["[1].png"]


def test_a_file_is_taken_once(folder):
    assert names("1.png", "./1.png", str(folder / "1.png"), "?.png").count("1.png") <= 1
    assert len(names("1.png", str(folder / "1.png"), "1*.png")) == 2


@pytest.mark.parametrize("name", ["no*.png", "", "[z].png", "\0.png"])
def test_a_name_that_stands_for_nothing_is_a_fault(name):
    found = find_pictures([name, "1.png"])
    assert len(found.paths) == 1
    assert "matches no file" in found.faults[0]


def test_a_missing_file_is_left_to_who_reads_it():
    assert names("gone.png") == ["gone.png"]


def test_links_are_followed_once(folder):
    os.symlink("b", "linked")
    os.symlink("..", "b/up")
    assert len(names(".")) == 5


def test_folders_nested_deeper_than_pythons_stack(folder):
    depth = sys.getrecursionlimit() + 50
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    open("9.png", "w").close()
    os.chdir(folder)
    found = find_pictures(["d"])
    deepest = found.paths[0]
    deepest.unlink()
    for parent in list(deepest.parents)[:depth]:  # pytest's own way of deleting is recursive
        parent.rmdir()
    assert len(found.paths) == 1
    assert not found.faults


def test_the_home_folder_in_quotes(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert [os.path.basename(name) for name in names("~/?.png")] == ["1.png", "2.png"]


@pytest.mark.parametrize(
    "ordered",
    [
        ["1.png", "2.png", "10.png"],
        ["01", "1", "1a", "a", "a1", "a1b", "a2", "a10", "b"],
        ["a/9.png", "a/10.png", "b/1.png"],
        ["x" + "9" * 5000, "x1" + "0" * 5000],
        ["A1", "a2", "A3"],
    ],
)
def test_natural_order(ordered):
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered
