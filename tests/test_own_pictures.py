"""test.py --images: own pictures classified, written and explained."""

import csv
import json
import logging
import os
import re
from pathlib import Path

import model
from checkpoints import call_test, describe, save_networks, save_picture
from data.decoding import read_picture
from support.testing import own_pictures

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder of checkpoints, see `save_networks`."""
    return save_networks(tmp_path_factory.mktemp("nets"), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pics(data, tmp_path):
    """A folder of 12 pictures, 1.png to 12.png, the first test images."""
    folder = tmp_path / "pics"
    folder.mkdir()
    for i in range(12):
        save_picture(data.test_images[i], folder / f"{i + 1}.png")
    return folder


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---- On the screen -------------------------------------------------------------------------------


def test_a_picture_gets_its_three_likeliest_classes(nets, data, pics):
    code, out, err = call_test(nets / "bn.npz", "--images", "pics/1.png")
    assert (code, err) == (0, "")
    y = model.load(nets / "bn.npz")[0].predict_proba(data.test_images[:1])[0]
    best = np.argsort(-y)[:3]
    classes = ", ".join(f"{data.class_names[c]} {y[c]:.1%}" for c in best)
    assert out == f"pics/1.png  {classes}\n"


def test_a_folder_is_classified_in_natural_order(nets, pics):
    code, out, _ = call_test(nets / "bn.npz", "--images", pics)
    assert code == 0
    names = [os.path.basename(line.split()[0]) for line in out.splitlines()[:-1]]
    assert names == [f"{i}.png" for i in range(1, 13)]
    assert out.splitlines()[-1] == "pictures: 12 classified"


def test_what_is_passed_over_in_a_folder_is_counted(nets, pics):
    (pics / "notes.txt").write_text("x")
    (pics / ".DS_Store").write_text("x")
    code, out, err = call_test(nets / "bn.npz", "--images", "pics")
    assert (code, err) == (0, "")
    assert "12 classified, 2 passed over" in out.splitlines()[-1]


def test_what_is_no_picture_is_named_and_left_out(nets, pics, tmp_path):
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "d\x1b[31m\n.png").write_text("no picture")
    Image.new("1", (9450, 9450)).save("big.png")
    bad = "c.txt", "gone.png", "d\x1b[31m\n.png", "big.png", "z\0.png"
    code, out, err = call_test(nets / "bn.npz", "--images", *bad, "pics/1.png")
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.isprintable()
        assert line.endswith("; left out")
        assert len(line) <= 300
    for name in ("big.png", "c.txt", "d?[31m", "gone.png"):
        assert any(name in line for line in lines)
    assert "1 classified, 5 left out" in out


def test_a_pattern_without_a_match_is_named(nets, pics):
    code, out, err = call_test(nets / "bn.npz", "--images", "pics/1.png", "pics/*.jpg")
    assert code == 2
    assert err.count("\n") == 1
    assert "pics/*.jpg: matches no file" in err
    assert "1 classified, 1 left out" in out


@pytest.mark.parametrize("name", ["no*.png", "", "empty"])
def test_nothing_to_classify_is_an_error_of_one_line(nets, tmp_path, name):
    (tmp_path / "empty").mkdir()
    code, out, err = call_test(nets / "bn.npz", "--images", name)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--images" in err


def test_an_ensemble_classifies_by_its_mean(nets, data, pics):
    paths = nets / "bn.npz", nets / "plain.npz"
    code, out, _ = call_test(*paths, "--ensemble", "--images", "pics/1.png")
    assert code == 0
    ys = [model.load(path)[0].predict_proba(data.test_images[:1])[0] for path in paths]
    y = np.mean(ys, axis=0)
    assert f"{data.class_names[y.argmax()]} {y.max():.1%}" in out


def test_an_ensemble_has_one_set_of_classes(nets, pics, tmp_path):
    network, info = model.load(nets / "bn.npz")
    names = [*info["data"]["class_names"][:9], "zebra"]
    network.save(tmp_path / "other.npz", info | {"data": info["data"] | {"class_names": names}})
    paths = nets / "bn.npz", "other.npz"
    code, out, err = call_test(*paths, "--ensemble", "--images", "pics/1.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--ensemble: class 9 is " in err
    assert "and zebra in other.npz; name networks of one data set" in err


def test_an_ensemble_may_hold_weights_without_names(nets, data, pics, tmp_path):
    network, info = model.load(nets / "bn.npz")
    names = [f"kind {i}" for i in range(10)]
    network.save(tmp_path / "named.npz", info | {"data": info["data"] | {"class_names": names}})
    network.save(tmp_path / "bare.npz")
    for paths in (("named.npz", "bare.npz"), ("bare.npz", "named.npz")):
        code, out, err = call_test(*paths, "--ensemble", "--images", "pics/1.png")
        assert (code, err) == (0, "")
        assert " kind " in out


def test_flags_of_the_data_set_are_noted(nets, pics):
    flags = "--data-dir", "x", "--dataset", "cifar10"
    code, _, err = call_test(nets / "bn.npz", *flags, "--images", "pics/1.png")
    assert code == 0
    assert re.findall(r"^note: (--\S+) has no effect", err, re.M) == ["--dataset", "--data-dir"]


def test_a_network_that_overflows_classifies_without_warnings(pics, tmp_path, recwarn):
    network = model.Network(4, batchnorm=False)
    for name in ("W1", "W2"):
        network.weights[name] *= 1e37
    network.save(tmp_path / "huge.npz")
    assert call_test("huge.npz", "--images", "pics", "--json", "a.json")[0] == 0
    code, _, err = call_test("huge.npz", "--images", "pics/1.png", "--explain", "out")
    assert code == 2
    assert "overflow" in err
    assert err.count("\n") == 1
    assert not recwarn.list


# ---- Files ---------------------------------------------------------------------------------------


def test_predictions_have_a_row_per_picture(nets, data, pics):
    (pics / "7.png").write_text("no picture")
    code, _, _ = call_test(nets / "bn.npz", "--images", "pics", "--predictions", "p.csv")
    assert code == 2
    rows = rows_of("p.csv")
    kept = [i for i in range(12) if i != 6]
    assert [row["name"] for row in rows] == [f"pics/{i + 1}.png" for i in kept]
    y = model.load(nets / "bn.npz")[0].predict_proba(data.test_images[kept])
    written = [[float(row[name]) for name in data.class_names] for row in rows]
    np.testing.assert_allclose(np.array(written), y, atol=1e-5)
    assert [row["prediction"] for row in rows] == [data.class_names[c] for c in y.argmax(axis=1)]


def test_json_has_every_picture_and_what_was_left_out(nets, data, pics):
    (pics / "7.png").write_text("no picture")
    (pics / "notes.txt").write_text("x")
    call_test(nets / "bn.npz", "--images", "pics", "--json", "new/p.json")
    with open("new/p.json") as file:
        found = json.load(file)
    assert found["class_names"] == list(data.class_names)
    assert [picture["name"] for picture in found["pictures"][:2]] == ["pics/1.png", "pics/2.png"]
    assert len(found["pictures"]) == 11
    assert sum(found["pictures"][0]["probabilities"]) == pytest.approx(1)
    assert "pics/7.png" in found["left_out"][0]
    assert found["passed_over"] == 1


def test_json_has_null_where_a_network_overflows(pics, tmp_path):
    network = model.Network(4, batchnorm=False)
    for name in ("W1", "W2"):
        network.weights[name] *= 1e37
    network.save(tmp_path / "huge.npz")
    call_test("huge.npz", "--images", "pics", "--json", "p.json")
    with open("p.json") as file:
        text = file.read()
    assert "NaN" not in text
    assert None in json.loads(text)["pictures"][0]["probabilities"]


def test_a_submission_has_id_and_label(nets, pics):
    flags = "--submission", "s.csv", "--predictions", "p.csv"
    code, out, _ = call_test(nets / "bn.npz", "--images", "pics", *flags)
    assert code == 0
    rows = rows_of("s.csv")
    assert [row["id"] for row in rows] == [str(i) for i in range(1, 13)]
    assert [row["label"] for row in rows] == [row["prediction"] for row in rows_of("p.csv")]
    assert out.endswith("written: p.csv, s.csv\n")


@pytest.mark.parametrize("second", ["pics/more/3.png", "other/3.jpg", "pics/猫/3.bmp"])
def test_pictures_of_the_same_id_are_no_submission(second, nets, pics, data, tmp_path):
    path = tmp_path / second
    path.parent.mkdir(exist_ok=True)
    save_picture(data.test_images[0], path)
    flags = "--images", "pics", "other/*", "--submission", "s.csv"
    code, _, err = call_test(nets / "bn.npz", *flags)
    assert code == 2
    assert err.count("\n") == 1
    assert os.path.join("pics", "3.png") in err
    assert os.path.join(*second.split("/")) in err
    assert not os.path.exists("s.csv")


def test_many_pictures_are_listed_in_part_if_they_are_in_a_file(nets, data, tmp_path):
    for i in range(130):  # more than are read at a time
        save_picture(data.test_images[i], tmp_path / f"{i}.png")
    code, out, _ = call_test(nets / "plain.npz", "--images", ".", "--predictions", "p.csv")
    assert code == 0
    assert len(rows_of("p.csv")) == 130
    assert len(out.splitlines()) == 22
    assert "... 110 more" in out
    assert len(call_test(nets / "plain.npz", "--images", ".")[1].splitlines()) == 131


def test_many_files_that_are_no_pictures_are_named_in_part(nets, tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.png").write_text("x")
    code, out, err = call_test(nets / "plain.npz", "--images", ".")
    assert code == 2
    assert len(err.splitlines()) == 21
    assert "10 more files left out" in err
    assert out == "pictures: 0 classified, 30 left out\n"


def test_each_picture_leaves_no_handler_behind(pics):
    for path in pics.iterdir():
        read_picture(path)
    handlers = logging.getLogger("PIL").handlers
    assert sum(isinstance(each, logging.NullHandler) for each in handlers) == 1


def test_no_output_replaces_a_picture(nets, pics):
    before = (pics / "1.png").read_bytes()
    code, _, err = call_test(nets / "bn.npz", "--images", "pics", "--json", "pics/1.png")
    assert code == 2
    assert "would replace another file" in err
    assert (pics / "1.png").read_bytes() == before


@pytest.mark.parametrize(
    "odd", ["$1", "", "🐈", "x" * 300, "猫", "\u200fa", "=1+1", "\\frac", "%d"]
)
def test_odd_class_names_are_shown_with_all_others(data, tmp_path, pics, odd):
    described = describe(data) | {"class_names": [odd, *"bcdefghij"]}
    network = model.Network(4, batchnorm=False)
    network.weights["b2"][0, [1, 2]] = 50, 40  # the classes b and c
    network.save(tmp_path / "odd.npz", {"data": described})
    code, out, _ = call_test("odd.npz", "--images", "pics/1.png", "--predictions", "p.csv")
    assert code == 0
    assert "b 100.0%, c 0.0%" in out
    assert rows_of("p.csv")[0]["prediction"] == "b"


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a"])
def test_class_names_reach_csv_files_as_text(data, tmp_path, pics, name):
    described = describe(data) | {"class_names": [name, *"bcdefghij"]}
    network = model.Network(4, batchnorm=False)
    network.weights["b2"][0, 0] = 50
    network.save(tmp_path / "odd.npz", {"data": described})
    flags = "--predictions", "p.csv", "--submission", "s.csv"
    assert call_test("odd.npz", "--images", "pics/1.png", *flags)[0] == 0
    assert rows_of("p.csv")[0]["prediction"] == f"'{name}"
    assert f"'{name}" in rows_of("p.csv")[0]  # in the header
    assert rows_of("s.csv")[0]["label"] == f"'{name}"


# ---- Explained -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn", "dense", "mirrored"])
def test_pictures_are_explained_in_figures_that_replace_nothing(nets, data, name, tmp_path):
    (tmp_path / "other").mkdir()
    for i, path in enumerate(("a.png", "other/a.jpg", "a-votes.png")):
        save_picture(data.test_images[i], path, 64)
    before = (tmp_path / "a-votes.png").read_bytes()
    pictures = "a.png", "a-votes.png", "other/a.jpg"
    code, out, err = call_test(nets / f"{name}.npz", "--images", *pictures, "--explain", ".")
    assert (code, err) == (0, "")
    drawn = re.findall(r"^  drawn in (.*)$", out, re.M)
    assert drawn == ["a-votes-votes.png", "a-votes-2.png", "a-votes-3.png"]
    assert (tmp_path / "a-votes.png").read_bytes() == before
    for path in drawn:
        with Image.open(path) as figure:
            assert len(np.unique(np.asarray(figure.convert("L")))) > 50


def sums_in(out):
    """Return (title, numbers) of each sum printed: total, votes for, votes against, the rest."""
    pattern = (
        r"^  (.+?) +(-?[\d.]+) = ([\d.]+) for - ([\d.]+) against ([+-] [\d.]+) (?:bias|average)$"
    )
    found = []
    for title, total, pro, contra, rest in re.findall(pattern, out, re.M):
        numbers = float(total), float(pro), -float(contra), float(rest.replace(" ", ""))
        found.append((title, numbers))
    return found


def test_the_predicted_class_is_explained_against_the_runner_up(nets, data, pics):
    code, out, _ = call_test(nets / "windows.npz", "--images", "pics/[1-4].png", "--explain", "why")
    assert code == 0
    network = model.load(nets / "windows.npz")[0]
    sums = sums_in(out)
    assert len(sums) == 3 * 4
    for i in range(4):
        z2 = network.logits(data.test_images[i : i + 1])[0]
        first, second = np.argsort(-z2)[:2]
        a, b = data.class_names[first], data.class_names[second]
        titles = [title for title, _ in sums[3 * i : 3 * i + 3]]
        assert titles == [a, b, f"{a} − {b}"]
        totals = [numbers[0] for _, numbers in sums[3 * i : 3 * i + 3]]
        assert totals[:2] == pytest.approx([z2[first], z2[second]], abs=0.0051)


def test_sums_add_up_as_printed(nets, pics):
    _, out, _ = call_test(nets / "mirrored.npz", "--images", "pics/[1-4].png", "--explain", "why")
    sums = sums_in(out)
    assert sums
    for _, (total, *parts) in sums:
        assert round(sum(parts), 2) == total
    for i in range(0, len(sums), 3):
        first, second, difference = (numbers[0] for _, numbers in sums[i : i + 3])
        assert round(first - second, 2) == difference


def test_the_difference_is_the_logarithm_of_the_odds(nets, data, pics):
    flags = "--images", "pics/1.png", "--explain", "why", "--against", "RING"
    code, out, _ = call_test(nets / "windows.npz", *flags)
    assert code == 0
    y = model.load(nets / "windows.npz")[0].predict_proba(data.test_images[:1])[0]
    ring = data.class_names.index("ring")
    title, numbers = sums_in(out)[2]
    assert title.endswith("− ring")
    assert numbers[0] == pytest.approx(np.log(y.max() / y[ring]), abs=0.011)
    assert f"is {y.max() / y[ring]:.3g} times as likely as ring" in out


def test_a_figure_has_its_caption_in_a_file_next_to_it(nets, pics):
    call_test(nets / "windows.npz", "--images", "pics/1.png", "--explain", "why")
    assert sorted(os.listdir("why")) == ["1-votes.png", "1-votes.txt"]
    with open("why/1-votes.txt") as file:
        assert "logit" in file.read()


def test_a_large_background_is_thinned_out_in_words(nets, pics, monkeypatch):
    monkeypatch.setattr(own_pictures, "BACKGROUND", 5)
    flags = "--images", "pics/1.png", "--explain", "why", "--background", "pics"
    code, _, err = call_test(nets / "mirrored.npz", *flags)
    assert (code, err) == (0, "note: --background: 5 of the 12 files are used, evenly spread\n")


def test_with_a_background_the_rest_is_the_average_logit(nets, data, pics):
    flags = "--images", "pics/1.png", "--explain", "why", "--background", "pics"
    code, out, _ = call_test(nets / "mirrored.npz", *flags)
    assert code == 0
    z2 = model.load(nets / "mirrored.npz")[0].logits(data.test_images[:12])
    title, numbers = sums_in(out)[0]
    expected = z2.mean(axis=0)[data.class_names.index(title)]
    assert numbers[3] == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--explain", "why", "--against", "crss"], ["--against crss", "did you mean cross?"]),
        (["--explain", "why", "--against", "xyz"], ["--against xyz", "there are disc"]),
        (["--against", "cross"], ["--against needs --explain"]),
        (["--background", "pics"], ["--background needs --explain"]),
        (["--explain", "why", "--background", "NET"], ["--background", "a picture"]),
        (["--explain", "why", "--background", "no*"], ["--background no*: matches no file"]),
    ],
)
def test_what_cannot_be_explained_is_refused(nets, pics, flags, parts):
    flags = [nets / "windows.npz" if flag == "NET" else flag for flag in flags]
    code, out, err = call_test(nets / "windows.npz", "--images", "pics/1.png", *flags)
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err.splitlines()[-1]


def test_a_background_needs_filters_smaller_than_the_image(nets, pics):
    flags = "--explain", "why", "--background", "pics"
    code, out, err = call_test(nets / "bn.npz", "--images", "pics/1.png", *flags)
    assert (code, out) == (2, "")
    assert "--background: needs filters smaller than the image" in err


def test_a_mirrored_network_is_explained_with_its_own_units(nets, pics):
    flags = "--images", "pics/1.png", "--explain"
    call_test(nets / "mirrored.npz", *flags, "why")
    code, _, err = call_test(nets / "mirrored.npz", *flags, "folded", "--tta")
    assert code == 0
    assert "--tta changes nothing" in err
    [one] = Path("why").glob("*.txt")
    [other] = Path("folded").glob("*.txt")
    assert one.read_text() == other.read_text()


def test_both_mirror_images_are_explained_together(nets, data):
    save_picture(data.test_images[0], "a.png")
    flags = "--images", "a.png", "--explain", "new/why"
    code, out, err = call_test(nets / "windows.npz", "--tta", *flags)
    assert (code, err) == (0, "")
    assert "a-votes.png" in os.listdir("new/why")
    assert out == call_test(nets / "folded.npz", *flags)[1]
