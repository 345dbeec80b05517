"""test.py: its figures against scikit-learn's, its files read back, its errors as a user meets them."""

import csv
import json
import os
import re
from functools import partial

import model
import test
import train
from data import cifar10

import numpy as np
import pytest
from conftest import called
from PIL import Image
from sklearn import metrics

call = partial(called, test.main)  # call(capsys, *argv)


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder with two checkpoints of train.py, one with and one without BN, one with mirrored receptive fields, and a
    float64 file with the report's arrays alone."""
    folder = tmp_path_factory.mktemp("nets")
    small = {"hidden_size": 16, "batch_size": 50, "epochs": 2, "lambda_reg": 0.0}
    train.train(train.Settings(**small), data, folder / "bn.npz")
    train.train(train.Settings(**small, batchnorm=False, seed=1), data, folder / "plain.npz")
    fields = {"receptive_fields": "16/16x4@20 8/8x2@10", "preprocess": "whiten", "mirror": True, "batchnorm": False}
    train.train(train.Settings(epochs=1, lambda_reg=0.0, **fields), data, folder / "fields.npz")
    arrays = model.load(folder / "bn.npz")[0].plain()
    np.savez(folder / "report.npz", **{name: array.astype(np.float64) for name, array in arrays.items()})
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def log_y_of(seed, n=400):
    """Log-probabilities of one class that is never predicted, and labels that agree with them now and then."""
    rng = np.random.default_rng(seed)
    z2 = 3 * rng.standard_normal((n, 10))
    z2[:, 4] = -20
    labels = np.where(rng.random(n) < 0.6, z2.argmax(axis=1), rng.integers(0, 10, n))
    return model.log_softmax(z2), labels


# ---- Figures of merit ----


@pytest.mark.parametrize("seed", [0, 1])
def test_measures_are_those_of_scikit_learn(seed):
    log_y, labels = log_y_of(seed)
    m, predictions, every = test.measure(log_y, labels), log_y.argmax(axis=1), range(10)
    assert m.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert m.loss == pytest.approx(metrics.log_loss(labels, np.exp(log_y), labels=every))
    assert m.top2 == pytest.approx(metrics.top_k_accuracy_score(labels, np.exp(log_y), k=2, labels=every))
    assert m.confusion == metrics.confusion_matrix(labels, predictions, labels=every).tolist()
    theirs = metrics.precision_recall_fscore_support(labels, predictions, labels=every, zero_division=0)
    for mine, their in zip((m.precision, m.recall, m.f1, m.support), theirs, strict=True):
        np.testing.assert_allclose(mine, their)
    assert m.precision[4] == 0


def test_the_command_agrees_with_scikit_learn_on_the_predictions_that_it_writes(capsys, nets, synthetic_dir, data):
    flags = "--data-dir", synthetic_dir, "--json", "new/all.json", "--predictions", "p.csv"
    code, out, err = call(capsys, nets / "bn.npz", *flags)
    assert (code, err) == (0, "")
    rows = rows_of("p.csv")
    labels = [data.class_names.index(row["label"]) for row in rows]
    predictions = [data.class_names.index(row["prediction"]) for row in rows]
    y = np.array([[float(row[name]) for name in data.class_names] for row in rows])
    assert [int(row["index"]) for row in rows] == list(range(200)) and labels == data.test_labels.tolist()
    with open("new/all.json") as file:
        report = json.load(file)
    found = report["results"][0]["image alone"]
    accuracy = metrics.accuracy_score(labels, predictions)
    assert found["accuracy"] == accuracy and f"accuracy{accuracy:>39.2%}" in out
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, y / y.sum(axis=1, keepdims=True)), rel=1e-4)
    assert found["top2"] == pytest.approx(metrics.top_k_accuracy_score(labels, y, k=2))
    assert found["confusion"] == metrics.confusion_matrix(labels, predictions, labels=range(10)).tolist()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predictions, zero_division=0)
    for name, *row in zip(data.class_names, precision, recall, f1, support, strict=True):
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:] == [*(f"{share:.2%}" for share in row[:3]), str(row[3])]
    assert report["data"] == {
        "name": "synthetic", "fingerprint": data.fingerprint, "class_names": list(data.class_names), "images": 200,
    }  # fmt: skip
    assert report["results"][0]["images_per_second"] > 0
    assert out.splitlines()[-1] == "figures in new/all.json; predictions in p.csv"


def test_confusions_are_printed_most_frequent_first(capsys, nets, synthetic_dir, data):
    _, out, _ = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir)
    lines = re.findall(r"^ +(\d+)  (\w+) taken for (\w+) \((.*)% of its images\)", out, re.M)
    m = test.measure(test.log_probabilities(model.load(nets / "bn.npz")[0], data.test_images), data.test_labels)
    off = np.array(m.confusion) - np.diag(np.diag(m.confusion))
    assert [int(line[0]) for line in lines] == sorted(off[off > 0].tolist(), reverse=True)[:8]
    for count, label, prediction, share in lines:
        i, j = data.class_names.index(label), data.class_names.index(prediction)
        assert off[i, j] == int(count) and float(share) == pytest.approx(100 * off[i, j] / m.support[i], abs=0.05)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(5, 10, 0.23659, 0.76341), (0, 10, 0, 0.27753), (5812, 10_000, 0.57150, 0.59083)]
)
def test_wilson_interval(right, n, low, high):
    assert test.wilson(right, n) == pytest.approx((low, high), abs=1e-5)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    log_y, labels = log_y_of(2, 300)
    y, error = np.exp(log_y), 0
    for k in range(15):
        inside = (y.max(axis=1) > k / 15) & (y.max(axis=1) <= (k + 1) / 15)
        if inside.any():
            right = y[inside].argmax(axis=1) == labels[inside]
            error += inside.mean() * abs(right.mean() - y[inside].max(axis=1).mean())
    assert test.measure(log_y, labels).calibration_error == pytest.approx(error)
    sure = np.full((4, 10), -np.inf)
    sure[:, 3] = 0
    table = test.calibration(sure, np.array([3, 3, 3, 5]))
    assert table[-1].tolist() == [4, 1, 0.75] and not table[:-1].any()


# ---- Mirror images, ensembles, other files ----


def test_tta_stands_beside_and_is_what_the_folded_checkpoint_gives(capsys, nets, synthetic_dir, data):
    flags = "--data-dir", synthetic_dir
    code, out, _ = call(capsys, nets / "bn.npz", *flags, "--tta", "--json", "a.json", "--fold-mirror", "folded.npz")
    assert code == 0 and "image alone     with mirror image" in out
    assert out.endswith("checkpoint with mirrored twins, 32 hidden units, in folded.npz\n")
    with open("a.json") as file:
        both = json.load(file)["results"][0]
    network = model.load(nets / "bn.npz")[0]
    mirrored = data.test_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    z2 = (network.logits(data.test_images).astype(float) + network.logits(mirrored)) / 2
    assert both["with mirror image"]["loss"] == pytest.approx(model.cross_entropy(z2, data.test_labels).mean())
    assert both["with mirror image"]["loss"] != pytest.approx(both["image alone"]["loss"], rel=1e-4)
    assert call(capsys, "folded.npz", *flags, "--json", "b.json")[0] == 0
    with open("b.json") as file:
        folded = json.load(file)["results"][0]["image alone"]
    assert folded["loss"] == pytest.approx(both["with mirror image"]["loss"], rel=1e-5)
    assert model.load("folded.npz")[1] == model.load(nets / "bn.npz")[1]


def test_exported_arrays_are_the_reports_and_the_same_network(capsys, nets, synthetic_dir, data):
    for name in ("bn", "fields"):
        code, out, _ = call(capsys, nets / f"{name}.npz", "--data-dir", synthetic_dir, "--export", "plain.npz")
        assert code == 0 and out.endswith("the report's arrays in plain.npz\n")
        with np.load("plain.npz") as file:
            a = {key: file[key] for key in file.files}
        H = {"bn": 16, "fields": 2 * (4 * 4 + 16 * 2)}[name]
        assert a["W1"].shape == (3072, H) and a["W1"].dtype == np.float32 and a["b2"].shape == (1, 10)
        z1 = data.test_images / 255 @ a["W1"] + a["b1"]
        if name == "bn":
            z1 = a["gamma1"] * (z1 - a["running_mean1"]) / np.sqrt(a["running_var1"] + 1e-5) + a["beta1"]
            assert {"gamma1", "beta1", "running_mean1", "running_var1"} < set(a)
        z2 = np.maximum(z1, 0) @ a["W2"] + a["b2"]
        np.testing.assert_allclose(z2, model.load(nets / f"{name}.npz")[0].logits(data.test_images), atol=2e-3)


def test_a_file_with_the_reports_arrays_alone(capsys, nets, synthetic_dir):
    code, out, err = call(capsys, "--model_path", nets / "report.npz", "--data_dir", synthetic_dir)
    note = "doesn't say which images it was trained on; these are synthetic"
    assert code == 0 and err == f"{nets / 'report.npz'}: {note}\n"
    expected = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir)[1]
    assert out.split("\n\n")[1:] == expected.split("\n\n")[1:]
    assert "3072 -> 16 -> 10; batch normalisation, 49,370 parameters" in out


def test_several_are_compared_and_their_probabilities_averaged(capsys, nets, synthetic_dir, data):
    paths = [nets / f"{name}.npz" for name in ("bn", "plain", "fields")]
    flags = "--ensemble", "--tta", "--data-dir", synthetic_dir, "--predictions", "p.csv", "--json", "all.json"
    code, out, err = call(capsys, *paths, *flags)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "% to " in line]
    assert [row[0] for row in rows] == [*map(str, paths), "ensemble"]
    y = 0
    for path in paths:
        network = model.load(path)[0]
        y = y + np.exp(test.log_probabilities(network, data.test_images, tta=True)) / 3
    written = np.array([[float(row[name]) for name in data.class_names] for row in rows_of("p.csv")])
    np.testing.assert_allclose(written, y, atol=1e-5)
    accuracy = (y.argmax(axis=1) == data.test_labels).mean()
    assert rows[-1][-1] == f"{accuracy:.2%}"
    with open("all.json") as file:
        results = json.load(file)["results"]
    assert results[3]["with mirror image"]["accuracy"] == accuracy and results[3]["images_per_second"] is None
    # A network with mirrored twins sees no difference.
    assert results[2]["with mirror image"]["accuracy"] == results[2]["image alone"]["accuracy"]


def test_threads_change_nothing(capsys, nets, synthetic_dir):
    for threads in (1, 3):
        flags = "--data-dir", synthetic_dir, "--predictions", f"{threads}.csv"
        assert call(capsys, nets / "bn.npz", *flags, "--threads", threads)[0] == 0
    assert rows_of("1.csv") == rows_of("3.csv")


def test_other_images_than_those_of_training_are_reported(capsys, nets, tmp_path):
    cifar10.write_synthetic(tmp_path / "other" / "synthetic-batches-py", train=50, test=20, seed=5)
    capsys.readouterr()
    code, out, err = call(capsys, nets / "bn.npz", "--data-dir", tmp_path / "other")
    assert code == 0 and "20 test images" in out
    assert re.fullmatch(r"WARNING: .*bn.npz: was trained on other images \(synthetic, .*\) than these \(.*\)\n", err)


def test_the_data_that_the_checkpoint_names_is_read(nets, monkeypatch):
    asked = []
    monkeypatch.setattr(cifar10, "load", lambda *args, **_: asked.append(args))
    for dataset in ([], ["--dataset", "cifar10"]):
        args = test.make_parser().parse_args(["x.npz", *dataset])
        test.load_data(args, model.load(nets / "bn.npz")[1])
    assert asked == [("synthetic", None), ("cifar10", None)]


def test_without_a_name_the_newest_is_tested(capsys, nets, tmp_path, monkeypatch, synthetic_dir):
    monkeypatch.setattr(test, "HERE", tmp_path)
    code, _, err = call(capsys, "--data-dir", synthetic_dir)
    assert code == 2 and "no checkpoint named, and none in" in err and "train.py" in err
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for age, name in enumerate(["new.state.npz", "new.npz", "cifar10-best.npz"]):
        (folder / name).write_bytes((nets / "bn.npz").read_bytes())
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    assert f"no checkpoint named; this is {folder / 'new.npz'}" in call(capsys, "--data-dir", synthetic_dir)[1]


# ---- Pictures ----


def test_shrink_is_the_mean_of_areas():
    square = np.random.default_rng(0).random((96, 96, 3))
    np.testing.assert_allclose(test.shrink(square), square.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3)))
    fine = np.repeat(np.repeat(square[:48, :48], 2, axis=0), 2, axis=1)  # 96 pixels for 48: areas of 1.5
    np.testing.assert_allclose(test.shrink(square[:48, :48]), test.shrink(fine))
    np.testing.assert_allclose(test.shrink(square[:32, :32]), square[:32, :32])
    np.testing.assert_allclose(test.shrink(square[:16, :16]), np.repeat(np.repeat(square[:16, :16], 2, 0), 2, 1))


def test_pictures_become_rows_of_the_dataset(data, tmp_path):
    square = data.test_images[7].reshape(3, 32, 32).transpose(1, 2, 0)
    wide = np.pad(np.kron(square, np.ones((4, 4, 1), np.uint8)), ((0, 0), (30, 31), (0, 0)))
    Image.fromarray(wide).save("wide.png")
    np.testing.assert_array_equal(test.read_picture("wide.png"), data.test_images[7])
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(wide[::-1, ::-1]).save("turned.png", exif=exif)
    turned = test.read_picture("turned.png").astype(int)
    assert np.abs(turned - data.test_images[7]).mean() < 12  # the crop is off by the one odd column

    alpha = np.zeros((64, 64, 4), np.uint8)
    alpha[:32] = 255, 0, 0, 255
    Image.fromarray(alpha).save("alpha.png")
    planes = test.read_picture("alpha.png").reshape(3, 32, 32)
    assert (planes[0] == 255).all() and not planes[1:, :16].any() and (planes[1:, 16:] == 255).all()
    grey = np.arange(64, dtype=np.uint8)[:, None].repeat(64, 1)
    Image.fromarray(grey).save("grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("grey16.png")
    for name in ("grey.png", "grey16.png"):
        planes = test.read_picture(name).reshape(3, 32, 32)
        assert (planes == planes[:1]).all() and planes[0, :, 0].tolist() == [round(2 * i + 0.5) for i in range(32)]
    Image.fromarray(square).convert("P").save("palette.gif")
    assert test.read_picture("palette.gif").shape == (3072,)


def test_own_pictures_are_classified_and_what_is_none_is_left_out(capsys, nets, data):
    network = model.load(nets / "bn.npz")[0]
    Image.fromarray(data.test_images[0].reshape(3, 32, 32).transpose(1, 2, 0)).save("a.png")
    Image.new("L", (3, 300), 99).save("b.jpg")
    with open("c.txt", "w") as file:
        file.write("no picture")
    code, out, err = call(capsys, nets / "bn.npz", "--images", "a.png", "c.txt", "gone.png", "b.jpg")
    assert code == 2 and len(err.splitlines()) == 2
    assert "c.txt: no picture that can be read" in err and "gone.png: no such file; left out" in err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.jpg"]
    y = network.predict_proba(data.test_images[:1])[0]
    best = np.argsort(-y)[:3]
    assert lines[0].removeprefix("a.png").lstrip() == ", ".join(f"{data.class_names[c]} {y[c]:.1%}" for c in best)
    code, out, _ = call(capsys, nets / "bn.npz", nets / "plain.npz", "--ensemble", "--tta", "--images", "a.png")
    assert code == 0 and out.count("%") == 3


# ---- Errors ----


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["gone.npz"], "gone.npz: no such file; 'python train.py' writes a checkpoint"),
        (["text.npz"], "text.npz: not a readable .npz"),
        (["BN", "--ensemble"], "--ensemble needs at least two checkpoints"),
        (["BN", "BN"], "a checkpoint is named twice"),
        (["BN", "PLAIN", "--predictions", "p.csv"], "--predictions is for one checkpoint, or for several with --en"),
        (["BN", "PLAIN", "--images", "a.png"], "--images is for one checkpoint, or for several with --ensemble"),
        (["BN", "PLAIN", "--export", "e.npz"], "--export is for one checkpoint; name only one"),
        (["BN", "PLAIN", "--fold-mirror", "e.npz"], "--fold-mirror is for one checkpoint; name only one"),
        (["BN", "--export", "e.txt"], "--export e.txt: the name must end in .npz"),
        (["BN", "--threads", "0"], "--threads must be at least 1"),
        (["FIELDS", "--tta"], "--tta does nothing: the network has mirrored twins already"),
        (["FIELDS", "--fold-mirror", "f.npz"], "--fold-mirror does nothing"),
        (["BN", "--json", "j.json", "--images", "a.png"], "--json does nothing with --images"),
        (["BN", "--data-dir", "x", "--images", "a.png"], "--data-dir does nothing with --images"),
        (["BN", "--data-dir", "."], "is no folder of CIFAR-10 batches"),
        (["BN", "--tto"], "unrecognized arguments: --tto; did you mean --tta?"),
    ],
)
def test_errors_are_one_line(capsys, nets, tmp_path, flags, message):
    (tmp_path / "text.npz").write_text("no zip")
    names = {"BN": nets / "bn.npz", "PLAIN": nets / "plain.npz", "FIELDS": nets / "fields.npz"}
    code, out, err = call(capsys, *(names.get(flag, flag) for flag in flags))
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_line(capsys, nets, synthetic_dir, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir, "--json", "file/x.json")
    assert code == 2 and "file" in err and err.count("\n") == 1


def test_the_script_itself(run, nets, synthetic_dir):
    done = run("test.py", nets / "plain.npz", "--data-dir", synthetic_dir)
    assert done.returncode == 0 and "most frequent confusions" in done.stdout and done.stderr == ""
    broken = run("test.py", "gone.npz")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.startswith("test.py: error: gone.npz: no such file") and broken.stderr.count("\n") == 1
    assert "FILE" in run("test.py", "--help").stdout


def test_no_file_of_a_command_replaces_another(capsys, nets, tmp_path):
    before = (nets / "bn.npz").read_bytes()
    for flags in (["--export", nets / "bn.npz"], ["--json", "a.json", "--predictions", "a.json"]):
        code, _, err = call(capsys, nets / "bn.npz", *flags)
        assert code == 2 and "would replace another file of this command" in err
    assert (nets / "bn.npz").read_bytes() == before and not any(tmp_path.iterdir())
