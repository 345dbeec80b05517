"""test.py: its figures against scikit-learn's, its files read back, its errors as a user meets them."""

import csv
import json
import os
import re
from dataclasses import replace

import model
import test
from data import synthetic
from support import npz
from support.checkpoints import default_checkpoint, unfinished
from support.network import metrics as ours
from support.network.window import Window

import numpy as np
import pytest
from conftest import called
from PIL import Image
from sklearn import metrics


def call(capsys, *argv):
    """test.py's exit code, stdout and stderr."""
    return called(test.main, capsys, *argv, "--threads", 1)


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder with checkpoints: with and without BN, of windows with a map, of mirrored units with a cap, a
    mirror-folded one; and a float64 file with the report's arrays alone."""
    folder = tmp_path_factory.mktemp("nets")
    described = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
    }
    described["validation_rows"] = list(range(5, 100, 2))
    info = {"data": described, "settings": {"epochs": 1}, "history": {"val_accuracy": [0.1]}}
    pixel_map = np.full(192, 0.5), np.diag(np.full(192, 2.0))
    P = np.random.default_rng(0).standard_normal((192, 9)) / 4
    symmetric = pixel_map[0], P + P[Window(8).flip] * np.repeat([-1, 1], [3, 6])
    networks = {
        "bn": model.Network(16),
        "plain": model.Network(16, batchnorm=False, seed=1),
        "windows": model.Network(20, Window(8, 4, 3, *pixel_map), batchnorm=False, dropout=0),
        "mirrored": model.Network(
            6, Window(8, 4, 3, *symmetric, mirror=True), batchnorm=False, dropout=0, cap=0.5
        ),
    }
    for name, network in networks.items():
        for start in range(0, 400, 50):
            rows = slice(start, start + 50)
            network.train_batch(data.train_images[rows], data.train_labels[rows], model.SGD(0.02))
        network.save(folder / f"{name}.npz", info)
    networks["windows"].fold_mirror().save(folder / "folded.npz", info)
    arrays = networks["bn"].plain()
    np.savez(
        folder / "report.npz", **{name: array.astype(np.float64) for name, array in arrays.items()}
    )
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def json_of(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    with open(path) as file:
        return json.load(file, parse_constant=refuse)


def log_y_of(seed, n=400):
    """Log-probabilities of one class that is never predicted, and labels that agree with them now and then."""
    rng = np.random.default_rng(seed)
    z2 = 3 * rng.standard_normal((n, 10))
    z2[:, 4] = -20
    labels = np.where(rng.random(n) < 0.6, z2.argmax(axis=1), rng.integers(0, 10, n))
    return model.log_softmax(z2), labels


def save_picture(image, path, size=32):
    Image.fromarray(image.reshape(3, 32, 32).transpose(1, 2, 0)).resize(
        (size, size), Image.NEAREST
    ).save(path)


# ---- Figures of merit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_measures_are_those_of_scikit_learn(seed):
    log_y, labels = log_y_of(seed)
    m, predictions, every = ours.measure(log_y, labels), log_y.argmax(axis=1), range(10)
    assert m.accuracy == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert m.loss == pytest.approx(metrics.log_loss(labels, np.exp(log_y), labels=every))
    assert m.top2 == pytest.approx(
        metrics.top_k_accuracy_score(labels, np.exp(log_y), k=2, labels=every)
    )
    assert m.confusion == metrics.confusion_matrix(labels, predictions, labels=every).tolist()
    theirs = metrics.precision_recall_fscore_support(
        labels, predictions, labels=every, zero_division=0
    )
    for mine, their in zip((m.precision, m.recall, m.f1, m.support), theirs, strict=True):
        np.testing.assert_allclose(mine, their)
    assert m.precision[4] == 0


def test_the_command_agrees_with_scikit_learn_on_the_predictions_that_it_writes(
    capsys, nets, synthetic_dir, data
):
    flags = "--data-dir", synthetic_dir, "--json", "new/all.json", "--predictions", "p.csv"
    code, out, err = call(capsys, nets / "bn.npz", *flags)
    assert (code, err) == (0, "")
    rows = rows_of("p.csv")
    labels = [data.class_names.index(row["label"]) for row in rows]
    predictions = [data.class_names.index(row["prediction"]) for row in rows]
    y = np.array([[float(row[name]) for name in data.class_names] for row in rows])
    assert [int(row["index"]) for row in rows] == list(
        range(200)
    ) and labels == data.test_labels.tolist()
    report = json_of("new/all.json")
    found = report["results"][0]["image alone"]
    accuracy = metrics.accuracy_score(labels, predictions)
    assert found["accuracy"] == accuracy and f"accuracy{accuracy:>39.2%}" in out
    assert found["loss"] == pytest.approx(
        metrics.log_loss(labels, y / y.sum(axis=1, keepdims=True)), rel=1e-4
    )
    assert found["top2"] == pytest.approx(metrics.top_k_accuracy_score(labels, y, k=2))
    assert (
        found["confusion"]
        == metrics.confusion_matrix(labels, predictions, labels=range(10)).tolist()
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predictions, zero_division=0
    )
    for name, *row in zip(data.class_names, precision, recall, f1, support, strict=True):
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:] == [*(f"{share:.2%}" for share in row[:3]), str(row[3])]
    described = {
        "name": "synthetic",
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
    }
    assert report["data"] == described | {"split": "test", "images": 200}
    assert report["results"][0]["images_per_second"] > 0
    assert out.splitlines()[-1] == "figures in new/all.json; predictions in p.csv"


def test_confusions_are_printed_most_frequent_first(capsys, nets, synthetic_dir, data):
    _, out, _ = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir)
    lines = re.findall(r"^ +(\d+)  (\w+) taken for (\w+) \((.*)% of its images\)", out, re.M)
    m = ours.measure(
        ours.log_probabilities(model.load(nets / "bn.npz")[0], data.test_images), data.test_labels
    )
    off = np.array(m.confusion) - np.diag(np.diag(m.confusion))
    assert [int(line[0]) for line in lines] == sorted(off[off > 0].tolist(), reverse=True)[:8]
    for count, label, prediction, share in lines:
        i, j = data.class_names.index(label), data.class_names.index(prediction)
        assert off[i, j] == int(count) and float(share) == pytest.approx(
            100 * off[i, j] / m.support[i], abs=0.05
        )


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(5, 10, 0.23659, 0.76341), (0, 10, 0, 0.27753), (5812, 10_000, 0.57150, 0.59083)],
)
def test_wilson_interval(right, n, low, high):
    assert ours.wilson(right, n) == pytest.approx((low, high), abs=1e-5)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    log_y, labels = log_y_of(2, 300)
    y, error = np.exp(log_y), 0
    for k in range(15):
        inside = (y.max(axis=1) > k / 15) & (y.max(axis=1) <= (k + 1) / 15)
        if inside.any():
            right = y[inside].argmax(axis=1) == labels[inside]
            error += inside.mean() * abs(right.mean() - y[inside].max(axis=1).mean())
    assert ours.measure(log_y, labels).calibration_error == pytest.approx(error)
    sure = np.full((4, 10), -np.inf)
    sure[:, 3] = 0
    table = ours.calibration(sure, np.array([3, 3, 3, 5]))
    assert table[-1].tolist() == [4, 1, 0.75] and not table[:-1].any()


def test_a_network_that_overflows_is_tested_without_warnings_and_written_without_nan(
    capsys, synthetic_dir, tmp_path, recwarn
):
    network = model.Network(4, batchnorm=False, seed=0)
    for name in ("W1", "W2"):
        network.weights[name] *= 1e37
    network.save(tmp_path / "huge.npz")
    code, out, _ = call(
        capsys, "huge.npz", "--data-dir", synthetic_dir, "--json", "a.json", "--tta"
    )
    assert code == 0 and "nan" in out and not recwarn.list
    assert json_of("a.json")["results"][0]["image alone"]["loss"] is None
    save_picture(np.full(3072, 200, np.uint8), "a.png")
    assert call(capsys, "huge.npz", "--images", "a.png")[0] == 0 and not recwarn.list
    code, _, err = call(capsys, "huge.npz", "--images", "a.png", "--explain", "out")
    assert code == 2 and "overflow" in err and err.count("\n") == 1 and not recwarn.list


def test_two_and_a_hundred_classes(capsys, tmp_path, synthetic_dir, data, monkeypatch):
    for classes in (2, 100):
        labels = np.arange(200) % classes
        names = tuple(f"class-{c}" for c in range(classes))
        other = type(data)(
            data.name, *(data.test_images, labels) * 2, names, data.fingerprint, data.folder
        )
        monkeypatch.setattr(test.cifar10, "load_for", lambda *_, other=other: other)
        network = model.Network(8, classes=classes)
        for _ in range(10):
            network.train_batch(data.test_images, labels, model.SGD(0.05))
        network.save(tmp_path / "net.npz", {"data": {"fingerprint": data.fingerprint}})
        code, out, err = call(capsys, "net.npz", "--json", "all.json", "--predictions", "p.csv")
        assert (code, err) == (0, "") and f"-> {classes};" in out
        table = re.findall(r"^class-\d+ .*%  +([\d.]+)%  +\d+$", out, re.M)
        assert len(table) == (2 if classes == 2 else 20)
        m = json_of("all.json")["results"][0]["image alone"]
        assert len(m["f1"]) == classes and len(rows_of("p.csv")[0]) == 3 + classes
        if classes == 100:
            f1 = sorted(m["f1"], reverse=True)
            assert table == [f"{100 * share:.2f}" for share in f1[:10] + f1[-10:]]
            assert "... 80 more, with an F1 between these; --json has them all" in out


# ---- Mirror images, ensembles, other files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bn", "windows"])
def test_tta_stands_beside_and_is_what_the_folded_checkpoint_gives(
    capsys, nets, synthetic_dir, data, name
):
    flags, path = ("--data-dir", synthetic_dir), nets / f"{name}.npz"
    code, out, err = call(
        capsys, path, *flags, "--tta", "--json", "a.json", "--fold-mirror", "folded.npz"
    )
    assert (code, err) == (0, "") and "image alone     with mirror image" in out
    units = {"bn": 32, "windows": 40}[name]
    assert out.endswith(
        f"checkpoint with the mirror image folded in, {units} hidden units, in folded.npz\n"
    )
    both = json_of("a.json")["results"][0]
    network = model.load(path)[0]
    mirrored = data.test_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    z2 = (network.logits(data.test_images).astype(float) + network.logits(mirrored)) / 2
    loss = model.cross_entropy_forward(z2, data.test_labels)[0].mean()
    assert both["with mirror image"]["loss"] == pytest.approx(loss)
    assert both["with mirror image"]["loss"] != pytest.approx(both["image alone"]["loss"], rel=1e-4)
    assert call(capsys, "folded.npz", *flags, "--json", "b.json")[0] == 0
    folded = json_of("b.json")["results"][0]["image alone"]
    assert folded["loss"] == pytest.approx(both["with mirror image"]["loss"], rel=1e-4)
    assert model.load("folded.npz")[1] == model.load(path)[1]


def test_tta_of_a_folded_network_is_noted_and_done(capsys, nets, synthetic_dir):
    flags = "--tta", "--data-dir", synthetic_dir, "--json", "a.json", "--fold-mirror", "again.npz"
    code, _, err = call(capsys, nets / "folded.npz", *flags)
    assert (
        code == 0
        and err.startswith("note: --tta and --fold-mirror changes nothing")
        and err.count("\n") == 1
    )
    found = json_of("a.json")["results"][0]
    assert found["with mirror image"]["loss"] == pytest.approx(
        found["image alone"]["loss"], rel=1e-4
    )
    assert model.load("again.npz")[0].hidden_size == 80


def test_units_stand_at_more_places_than_in_training(capsys, nets, synthetic_dir, data):
    flags = "--data-dir", synthetic_dir, "--stride", 1, "--json", "a.json"
    code, out, _ = call(capsys, nets / "mirrored.npz", *flags)
    assert (
        code == 0
        and "6 units at 625 places (8x8 windows in steps of 1, 3x3 regions, mirrored ones, too)"
        in out
    )
    trained, found = (
        model.load(nets / "mirrored.npz")[0],
        json_of("a.json")["results"][0]["image alone"]["loss"],
    )
    assert json_of("a.json")["stride"] == 1
    dense = trained.copy(window=replace(trained.window, stride=1))
    assert found == pytest.approx(dense.evaluate(data.test_images, data.test_labels)[0], rel=1e-4)
    assert found != pytest.approx(trained.evaluate(data.test_images, data.test_labels)[0], rel=1e-4)
    assert (
        call(capsys, nets / "mirrored.npz", *flags[:2], "--stride", 24, "--fold-mirror", "far.npz")[
            0
        ]
        == 2
    )
    assert (
        call(capsys, nets / "mirrored.npz", *flags[:2], "--stride", 12, "--fold-mirror", "far.npz")[
            0
        ]
        == 0
    )
    assert model.load("far.npz")[0].window.positions == 9


def test_validation_images_of_the_run_are_measured_in_place_of_the_test_split(
    capsys, nets, synthetic_dir, data
):
    paths, flags = (
        [nets / "mirrored.npz", nets / "windows.npz"],
        ("--validation", "--data-dir", synthetic_dir),
    )
    code, out, err = call(capsys, paths[0], *flags, "--json", "a.json", "--predictions", "p.csv")
    assert (
        (code, err) == (0, "") and "48 validation images from" in out and "test images" not in out
    )
    network, rows = model.load(paths[0])[0], np.arange(5, 100, 2)
    loss, accuracy = network.evaluate(data.train_images[rows], data.train_labels[rows])
    found = json_of("a.json")
    assert (found["data"]["split"], found["data"]["images"]) == ("validation", 48)
    assert found["results"][0]["image alone"]["accuracy"] == accuracy
    assert found["results"][0]["image alone"]["loss"] == pytest.approx(loss, rel=1e-4)
    assert [int(row["index"]) for row in rows_of("p.csv")] == list(rows)
    assert [row["label"] for row in rows_of("p.csv")] == [
        data.class_names[label] for label in data.train_labels[rows]
    ]
    code, out, err = call(capsys, *paths, *flags, "--stride", 12, "--ensemble")
    assert (code, err) == (
        0,
        "",
    ) and "with units in steps of 12, whatever they were in training" in out
    assert "48 validation images" in out and len(re.findall(r"% to ", out)) == 3
    call(capsys, paths[0], "--data-dir", synthetic_dir, "--json", "a.json")
    assert (json_of("a.json")["data"]["split"], json_of("a.json")["data"]["images"]) == (
        "test",
        200,
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (list(range(5, 99, 2)), "other.npz: had other validation images than "),
        (
            None,
            "other.npz: doesn't say which images its run kept for validation; leave --validation out",
        ),
        (
            "elsewhere",
            "other.npz: its validation images are not among these (synthetic); give its --data-dir",
        ),
        ([[0, 0]], "is damaged"),
        ([[]], "is damaged"),
        ([[-1]], "is damaged"),
        ([[2.0]], "is damaged"),
        ([[10**40]], "is damaged"),
        (["all"], "is damaged"),
    ],
)
def test_validation_images_that_arent_known_are_refused(
    capsys, nets, synthetic_dir, data, rows, message
):
    described = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
    }
    if rows == "elsewhere":
        described |= {"fingerprint": "0" * 64, "validation_rows": [1, 2]}
    elif rows is not None:
        described["validation_rows"] = rows if len(rows) > 1 else rows[0]
    model.Network(2).save("other.npz", {"data": described})
    first = [nets / "bn.npz"] if "damaged" not in message else []
    code, out, err = call(capsys, *first, "other.npz", "--validation", "--data-dir", synthetic_dir)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_exported_arrays_are_the_reports_and_the_same_network(capsys, nets, synthetic_dir, data):
    for name in ("bn", "windows", "mirrored"):
        code, out, _ = call(
            capsys, nets / f"{name}.npz", "--data-dir", synthetic_dir, "--export", "plain.npz"
        )
        assert code == 0 and out.endswith("the report's arrays in plain.npz\n")
        with np.load("plain.npz") as file:
            a = {key: file[key] for key in file.files}
        H = {"bn": 16, "windows": 20 * 49, "mirrored": 6 * 49 * 2 * 2}[name]
        assert (
            a["W1"].shape == (3072, H) and a["W1"].dtype == np.float32 and a["b2"].shape == (1, 10)
        )
        z1 = data.test_images / 255 @ a["W1"] + a["b1"]
        if name == "bn":
            z1 = (
                a["gamma1"] * (z1 - a["running_mean1"]) / np.sqrt(a["running_var1"] + 1e-5)
                + a["beta1"]
            )
            assert {"gamma1", "beta1", "running_mean1", "running_var1"} < set(a)
        z2 = np.maximum(z1, 0) @ a["W2"] + a["b2"]
        np.testing.assert_allclose(
            z2, model.load(nets / f"{name}.npz")[0].logits(data.test_images), atol=2e-3
        )


def test_an_export_above_four_gigabytes_is_refused_with_its_size(capsys, tmp_path, synthetic_dir):
    model.Network(2048, Window(4, 1, 1), batchnorm=False).save(tmp_path / "net.npz")
    code, _, err = call(capsys, "net.npz", "--data-dir", synthetic_dir, "--export", "plain.npz")
    size = 29**2 * 2048 * 4 * (3072 + 1 + 10 + 1) / 2**30
    assert (
        code == 2
        and "with 1,722,368 units" in err
        and err.count("\n") == 1
        and not os.path.exists("plain.npz")
    )
    assert float(
        re.search(r"would take ([\d.]+) GB, and 4 GB is the limit", err)[1]
    ) == pytest.approx(size, rel=0.01)


def test_a_file_with_the_reports_arrays_alone(capsys, nets, synthetic_dir):
    code, out, err = call(
        capsys, "--model_path", nets / "report.npz", "--data_dir", synthetic_dir, "--mode", "test"
    )
    assert code == 0 and err.count("\n") == 1
    assert "report.npz: doesn't say which images it was trained on; these are synthetic" in err
    expected = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir)[1]
    assert out.split("\n\n")[1:] == expected.split("\n\n")[1:]
    assert "3072 -> 16 " in out and "batch normalisation" in out and "49,370 parameters" in out


def test_several_are_compared_and_their_probabilities_averaged(capsys, nets, synthetic_dir, data):
    paths = [nets / f"{name}.npz" for name in ("bn", "plain", "folded")]
    flags = (
        "--ensemble",
        "--tta",
        "--data-dir",
        synthetic_dir,
        "--predictions",
        "p.csv",
        "--json",
        "all.json",
    )
    code, out, err = call(capsys, *paths, *flags)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "% to " in line]
    assert [row[0] for row in rows] == [*map(str, paths), "ensemble"]
    y = 0
    for path in paths:
        network = model.load(path)[0]
        y = y + np.exp(ours.log_probabilities(network, data.test_images, tta=True)) / 3
    written = np.array(
        [[float(row[name]) for name in data.class_names] for row in rows_of("p.csv")]
    )
    np.testing.assert_allclose(written, y, atol=1e-5)
    accuracy = (y.argmax(axis=1) == data.test_labels).mean()
    assert rows[-1][-1] == f"{accuracy:.2%}"
    results = json_of("all.json")["results"]
    assert (
        results[3]["with mirror image"]["accuracy"] == accuracy
        and results[3]["images_per_second"] is None
    )


def test_threads_change_nothing(capsys, nets, synthetic_dir):
    for threads in (1, 3):
        flags = "--data-dir", synthetic_dir, "--predictions", f"{threads}.csv"
        assert called(test.main, capsys, nets / "windows.npz", *flags, "--threads", threads)[0] == 0
    assert rows_of("1.csv") == rows_of("3.csv")


def test_other_images_than_those_of_training_are_reported(capsys, nets, tmp_path):
    synthetic.write_synthetic(
        tmp_path / "other" / "synthetic-batches-py", train=50, test=20, seed=5
    )
    capsys.readouterr()
    code, out, err = call(capsys, nets / "bn.npz", "--data-dir", tmp_path / "other")
    assert code == 0 and "20 test images" in out
    assert re.fullmatch(
        r"WARNING: .*bn.npz: was trained on other images \(synthetic, .*\) than these \(.*\)\n", err
    )


# ---- Which checkpoint -----------------------------------------------------------------------------------------------


def checkpoint(path, epochs=3, done=3, state=True, age=0, **settings):
    """A checkpoint that says how many of its epochs are done, `age` seconds old."""
    accuracy = (
        [0.5, *[0.1] * (done - 1)] if "patience" in settings else [0.1 * i for i in range(done)]
    )
    info = {"settings": {"epochs": epochs} | settings, "history": {"val_accuracy": accuracy}}
    model.Network(2).save(path, info)
    os.utime(path, (1e9 - age, 1e9 - age))
    if state:
        path.with_suffix(".state.npz").write_bytes(b"")
    return path


def test_without_a_name_the_best_or_the_newest_finished_is_tested(
    capsys, tmp_path, monkeypatch, synthetic_dir
):
    folder = tmp_path / "checkpoints"
    monkeypatch.setattr(test, "CHECKPOINTS", folder)
    code, _, err = call(capsys, "--data-dir", synthetic_dir)
    assert (
        code == 2
        and err.count("\n") == 1
        and "none in checkpoints: 'python train.py' writes one" in err
    )
    folder.mkdir()
    running = checkpoint(folder / "running.npz", done=2)
    code, out, err = call(capsys, "--data-dir", synthetic_dir)
    assert code == 0 and out.startswith("no checkpoint named; this is checkpoints/running.npz\n")
    line = "running.npz: its run isn't finished; these are its best weights until epoch 2 of 3"
    assert err.splitlines()[0] == f"note: checkpoints/{line}"
    older = checkpoint(folder / "older.npz", age=20)
    (folder / "damaged.npz").write_bytes(b"")
    (folder / "damaged.state.npz").write_bytes(b"")
    assert default_checkpoint(folder) == older
    stopped = checkpoint(folder / "stopped.npz", epochs=30, done=4, age=10, patience=3)
    assert default_checkpoint(folder) == stopped
    single = checkpoint(folder / "single.npz", done=1, state=False, age=5)
    assert default_checkpoint(folder) == single
    best = checkpoint(folder / "cifar10-best.npz", state=False, age=99)
    assert default_checkpoint(folder) == best
    code, out, err = call(capsys, "--data-dir", synthetic_dir)
    assert "this is checkpoints/cifar10-best.npz" in out and "finished" not in err
    assert "epoch 2 of 3" in call(capsys, running, "--data-dir", synthetic_dir)[2]


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"settings": [], "history": "x"},
        {"settings": {"epochs": "9"}, "history": {"val_accuracy": [1]}},
        {"settings": {"epochs": 9}, "history": {"val_accuracy": 3}},
        {"settings": {"epochs": True}, "history": {"val_accuracy": []}},
    ],
)
def test_what_isnt_known_of_a_run_is_no_note(info, tmp_path):
    (tmp_path / "a.state.npz").write_bytes(b"")
    assert unfinished(tmp_path / "a.npz", info) is None
    odd = {"settings": {"epochs": 9, "patience": 1}, "history": {"val_accuracy": [{}, None]}}
    assert unfinished(tmp_path / "a.npz", odd) == "epoch 2 of 9"


# ---- Pictures -------------------------------------------------------------------------------------------------------


def test_own_pictures_are_classified_and_what_is_none_is_left_out(capsys, nets, data, tmp_path):
    network = model.load(nets / "bn.npz")[0]
    save_picture(data.test_images[0], "a.png")
    Image.new("L", (3, 300), 99).save("b.jpg")
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "d\x1b[31m\n.png").write_text("no picture")
    Image.new("1", (9450, 9450)).save("big.png")
    names = "a.png", "c.txt", "gone.png", "d\x1b[31m\n.png", "big.png", "b.jpg", "z\0.png"
    code, out, err = call(capsys, nets / "bn.npz", "--images", *names)
    assert code == 2 and len(err.splitlines()) == 5 and err.replace("\n", "").isprintable()
    assert all(line.endswith("; left out") and len(line) <= 300 for line in err.splitlines())
    assert (
        "c.txt: no picture that can be read" in err
        and "gone.png: " in err
        and "89,302,500" not in out
    )
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.jpg"]
    y = network.predict_proba(data.test_images[:1])[0]
    best = np.argsort(-y)[:3]
    assert lines[0].removeprefix("a.png").lstrip() == ", ".join(
        f"{data.class_names[c]} {y[c]:.1%}" for c in best
    )
    code, out, _ = call(
        capsys, nets / "bn.npz", nets / "plain.npz", "--ensemble", "--tta", "--images", "a.png"
    )
    assert code == 0 and out.count("%") == 3
    code, _, err = call(
        capsys, nets / "bn.npz", "--data-dir", "x", "--dataset", "cifar10", "--images", "a.png"
    )
    assert code == 0 and err.count("has no effect with --images") == err.count("note: ") == 2


@pytest.mark.parametrize("name", ["bn", "windows"])
def test_pictures_are_explained(capsys, nets, data, name, tmp_path):
    (tmp_path / "other").mkdir()
    for i, path in enumerate(("a.png", "other/a.jpg", "a-evidence.png")):
        save_picture(data.test_images[i], path, 64)
    before = (tmp_path / "a-evidence.png").read_bytes()
    pictures = "a.png", "a-evidence.png", "other/a.jpg"
    code, out, err = call(capsys, nets / f"{name}.npz", "--images", *pictures, "--explain", ".")
    assert (code, err) == (0, "")
    drawn = re.findall(r"^  drawn in (.*)$", out, re.M)
    assert drawn == ["a-evidence-2.png", "a-evidence-evidence.png", "a-evidence-3.png"]
    assert (tmp_path / "a-evidence.png").read_bytes() == before
    for path in drawn:
        with Image.open(path) as figure:
            assert (
                figure.width == 680
                and figure.height > 800
                and len(np.unique(np.asarray(figure.convert("L")))) > 50
            )
    z2 = np.sort(model.load(nets / f"{name}.npz")[0].logits(data.test_images[:1])[0])[::-1]
    sums = re.findall(
        r"^  \w+ +(-?[\d.]+) = ([\d.]+) for - ([\d.]+) against ([+-]) ([\d.]+) bias$", out, re.M
    )
    assert len(sums) == 9 and [float(each[0]) for each in sums[:3]] == pytest.approx(
        z2[:3].tolist(), abs=0.0501
    )
    for total, pro, contra, sign, bias in sums:
        parts = float(pro) - float(contra) + float(sign + bias)
        assert float(total) == pytest.approx(parts, abs=0.21)


def test_both_mirror_images_are_explained_together(capsys, nets, data):
    save_picture(data.test_images[0], "a.png")
    flags = "--images", "a.png", "--explain", "new/why"
    code, out, err = call(capsys, nets / "windows.npz", "--tta", *flags)
    assert (code, err) == (0, "") and os.listdir("new/why") == ["a-evidence.png"]
    assert out == call(capsys, nets / "folded.npz", *flags)[1]


# ---- Errors, notes and outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["gone.npz"], "gone.npz: no such checkpoint; 'python train.py' writes one"),
        (["text.npz"], "text.npz: is not a readable .npz"),
        (["old.npz"], "old.npz: was written by an earlier version"),
        (["x\0.npz"], "x?.npz"),
        (["BN", "--ensemble"], "--ensemble needs at least two checkpoints"),
        (["BN", "BN"], "a checkpoint is named twice"),
        (
            ["BN", "PLAIN", "--predictions", "p.csv"],
            "--predictions is for one checkpoint, or for several with --en",
        ),
        (
            ["BN", "PLAIN", "--images", "a.png"],
            "--images is for one checkpoint, or for several with --ensemble",
        ),
        (["BN", "PLAIN", "--export", "e.npz"], "--export is for one checkpoint; name only one"),
        (
            ["BN", "--stride", "2"],
            "--stride 2: units see the whole image, which is one place; leave it out",
        ),
        (
            ["WINDOWS", "--stride", "5"],
            "--stride 5: windows of 8 pixels, 5 apart, don't cover 32 pixels; give another",
        ),
        (["WINDOWS", "--stride", "0"], "--stride"),
        (
            ["BN", "PLAIN", "--fold-mirror", "e.npz"],
            "--fold-mirror is for one checkpoint; name only one",
        ),
        (
            ["BN", "PLAIN", "--ensemble", "--images", "a", "--explain", "e"],
            "--explain is for one checkpoint",
        ),
        (["BN", "--explain", "why"], "--explain needs --images, the pictures to explain"),
        (["BN", "--images", "a.png", "--explain", "text.npz"], "text.npz: is no folder"),
        (["BN", "--export", "e.txt"], "--export e.txt: the name must end in .npz"),
        (["BN", "--threads", "0"], "--threads"),
        (["BN", "--mode", "train"], "--mode"),
        (["BN", "--json", "j.json", "--images", "a.png"], "--json does nothing with --images"),
        (
            ["BN", "--validation", "--images", "a.png"],
            "--validation does nothing with --images: leave it out",
        ),
        (["BN", "--json", "."], "argument --json"),
        (["BN", "--json", "text.npz/x.json"], "is no folder"),
        (["BN", "--data-dir", "."], "is no folder of CIFAR-10 batches"),
        (["BN", "--data-dir", "nowhere"], "--data-dir nowhere: there is no such folder"),
        (["BN", "--tto"], "unrecognized arguments: --tto; did you mean --tta?"),
        (["SKEW", "--fold-mirror", "f.npz"], "--fold-mirror f.npz: its map is not symmetric"),
        (
            ["SKEW", "--images", "a.png", "--explain", "x", "--tta"],
            "--explain: its map is not symmetric",
        ),
        (
            ["BN", "THREE", "--ensemble", "--images", "a.png"],
            "--ensemble: these networks tell [3, 10] classes apart",
        ),
        (
            ["THREE", "--data-dir", "DATA"],
            "three.npz: tells 3 classes apart, and these images (synthetic) have 10;",
        ),
    ],
)
def test_errors_are_one_line(capsys, nets, tmp_path, synthetic_dir, flags, message):
    (tmp_path / "text.npz").write_text("no zip")
    model.Network(2, classes=3).save(
        tmp_path / "three.npz", {"data": {"class_names": ["a", "b", "c"]}}
    )
    skew = Window(8, 8, 1, np.arange(192) / 192, np.diag(np.arange(1, 193) / 192))
    model.Network(2, skew).save(tmp_path / "skew.npz")
    npz.write_npz(tmp_path / "old.npz", {"b1": np.zeros((1, 2))}, {"architecture": {"fields": []}})
    names = {
        "BN": nets / "bn.npz",
        "PLAIN": nets / "plain.npz",
        "THREE": "three.npz",
        "SKEW": "skew.npz",
    }
    names["WINDOWS"] = nets / "windows.npz"
    names["DATA"] = synthetic_dir
    before = sorted(os.listdir())
    code, out, err = call(capsys, *(names.get(flag, flag) for flag in flags))
    lines = [line for line in err.splitlines() if "doesn't say which images" not in line]
    assert (
        (code, out) == (2, "") and message in lines[-1] and len(lines) == 1 and len(lines[0]) <= 300
    )
    assert lines[0].isprintable() and sorted(os.listdir()) == before


def test_the_reports_flags_are_noted(capsys, nets, synthetic_dir):
    flags = "--mode", "test", "--save_results", "--data_dir", synthetic_dir
    code, _, err = call(capsys, "--model_path", nets / "bn.npz", *flags)
    assert (
        code == 0
        and err == "note: --save-results has no effect here; --json FILE writes all figures\n"
    )


def test_outputs_go_into_devices_and_through_links(capsys, nets, synthetic_dir, tmp_path):
    (tmp_path / "real.json").write_text("old")
    os.symlink("real.json", "link.json")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        flags = (
            "--json",
            "link.json",
            "--export",
            "/dev/null",
            "--fold-mirror",
            "/dev/null",
            "--predictions",
            "pipe",
        )
        code, out, err = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir, *flags)
        assert (code, err) == (0, "") and "figures in link.json" in out
        assert os.read(reader, 20) == b"index,label,predicti"
    finally:
        os.close(reader)
    assert os.path.islink("link.json") and json_of("real.json")["results"]
    assert not os.path.isfile("/dev/null")


def test_no_file_of_a_command_replaces_another(capsys, nets, tmp_path):
    before = (nets / "bn.npz").read_bytes()
    os.symlink(nets / "bn.npz", "link.npz")
    for flags in (["--export", nets / "bn.npz"], ["--fold-mirror", "link.npz"]):
        code, _, err = call(capsys, nets / "bn.npz", *flags)
        assert code == 2 and "would replace another file of this command" in err
    os.symlink("a.json", "to-a")  # which isn't there yet
    for one, other in (("a.json", "./a.json"), ("to-a", "a.json"), ("to-a", "to-a")):
        code, _, err = call(capsys, nets / "bn.npz", "--json", one, "--predictions", other)
        assert code == 2 and "would replace another file of this command" in err
    os.unlink("to-a")
    assert (nets / "bn.npz").read_bytes() == before and os.listdir() == ["link.npz"]


def test_the_script_itself(run, nets, synthetic_dir):
    done = run("test.py", nets / "plain.npz", "--data-dir", synthetic_dir)
    assert done.returncode == 0 and "most frequent confusions" in done.stdout and done.stderr == ""
    broken = run("test.py", "gone.npz")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert (
        broken.stderr.startswith("test.py: error: gone.npz: no such checkpoint")
        and broken.stderr.count("\n") == 1
    )
    assert "FILE" in run("test.py", "--help").stdout
