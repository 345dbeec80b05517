"""test.py: the figures that it prints, the files that it writes, its errors as a user meets them.

Own pictures: test_own_pictures.py. Conversions: test_convert.py and test_onnx.py.
"""

import csv
import json
import os
import re
from dataclasses import replace

import model
import test
from checkpoints import call_test, describe, save_networks
from data import synthetic
from support import npz
from support.checkpoints import default_checkpoint, unfinished
from support.network import metrics as ours
from support.network.window import Window

import numpy as np
import pytest
from helpers import called
from sklearn import metrics


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder of checkpoints, see `save_networks`."""
    return save_networks(tmp_path_factory.mktemp("nets"), data)


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


def one_line(err, *parts):
    """Check that stderr is one printable line of at most 300 characters with these parts."""
    assert err.count("\n") == 1, err
    assert len(err) <= 301
    assert err[:-1].isprintable()
    for part in parts:
        assert part in err


# ---- The figures ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(nets, data, synthetic_dir, tmp_path_factory):
    """A test of one network: its exit code, stdout, stderr, CSV rows and JSON."""
    folder = tmp_path_factory.mktemp("tested")
    run = pytest.MonkeyPatch()
    run.chdir(folder)
    flags = "--data-dir", synthetic_dir, "--json", "new/all.json", "--predictions", "p.csv"
    code, out, err = call_test(nets / "bn.npz", *flags)
    found = code, out, err, rows_of("p.csv"), json_of("new/all.json")
    run.undo()
    return found


def labels_and_predictions(rows, data):
    labels = [data.class_names.index(row["label"]) for row in rows]
    predictions = [data.class_names.index(row["prediction"]) for row in rows]
    return labels, predictions


def test_a_test_says_what_it_wrote(tested):
    code, out, err, _, _ = tested
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "figures in new/all.json; predictions in p.csv"


def test_the_csv_has_a_row_for_each_test_image(tested, data):
    rows = tested[3]
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert labels_and_predictions(rows, data)[0] == data.test_labels.tolist()


def test_printed_accuracy_is_scikit_learns_of_the_written_predictions(tested, data):
    _, out, _, rows, report = tested
    accuracy = metrics.accuracy_score(*labels_and_predictions(rows, data))
    assert report["results"][0]["image alone"]["accuracy"] == accuracy
    assert f"accuracy{accuracy:>39.2%}" in out


def test_json_has_scikit_learns_figures_of_the_written_probabilities(tested, data):
    _, _, _, rows, report = tested
    labels, predictions = labels_and_predictions(rows, data)
    y = np.array([[float(row[name]) for name in data.class_names] for row in rows])
    found = report["results"][0]["image alone"]
    loss = metrics.log_loss(labels, y / y.sum(axis=1, keepdims=True))
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert found["top2"] == pytest.approx(metrics.top_k_accuracy_score(labels, y, k=2))
    confusion = metrics.confusion_matrix(labels, predictions, labels=range(10))
    assert found["confusion"] == confusion.tolist()


def test_the_table_of_classes_is_scikit_learns(tested, data):
    _, out, _, rows, _ = tested
    theirs = metrics.precision_recall_fscore_support(
        *labels_and_predictions(rows, data), zero_division=0
    )
    for name, *shares, support in zip(data.class_names, *theirs, strict=True):
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:] == [*(f"{share:.2%}" for share in shares), str(support)]


def test_json_says_which_images_were_tested_and_how_fast(tested, data):
    report = tested[4]
    assert report["data"] == {
        "name": "synthetic",
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
        "split": "test",
        "images": 200,
    }
    assert report["results"][0]["images_per_second"] > 0
    assert report["results"][0]["network"].startswith("3072 -> 16 hidden units -> 10;")


def test_confusions_are_printed_most_frequent_first(tested, data):
    _, out, _, _, report = tested
    lines = re.findall(r"^ +(\d+)  (\w+) taken for (\w+) \((.*)% of its images\)", out, re.M)
    confusion = np.array(report["results"][0]["image alone"]["confusion"])
    mistakes = confusion - np.diag(np.diag(confusion))
    assert [int(line[0]) for line in lines] == sorted(mistakes[mistakes > 0], reverse=True)[:8]
    for count, label, prediction, share in lines:
        i, j = data.class_names.index(label), data.class_names.index(prediction)
        assert mistakes[i, j] == int(count)
        assert float(share) == pytest.approx(100 * int(count) / confusion[i].sum(), abs=0.05)


@pytest.fixture
def overflowing(tmp_path):
    """A checkpoint whose logits overflow."""
    network = model.Network(4, batchnorm=False, seed=0)
    for name in ("W1", "W2"):
        network.weights[name] *= 1e37
    network.save(tmp_path / "huge.npz")
    return "huge.npz"


def test_a_network_that_overflows_is_tested_without_warnings(overflowing, synthetic_dir, recwarn):
    code, out, _ = call_test(overflowing, "--data-dir", synthetic_dir, "--tta")
    assert code == 0
    assert "nan" in out
    assert not recwarn.list


def test_json_has_null_for_what_overflowed(overflowing, synthetic_dir):
    call_test(overflowing, "--data-dir", synthetic_dir, "--json", "a.json")
    assert json_of("a.json")["results"][0]["image alone"]["loss"] is None


@pytest.fixture
def with_classes(data, tmp_path, monkeypatch):
    """with_classes(n): test a network of n classes on the synthetic images, with labels drawn anew.

    Returns what test.py prints, the JSON's measures and the CSV's rows.
    """

    def run(classes, labels=None):
        labels = np.arange(200) % classes if labels is None else labels
        names = tuple(f"class-{c}" for c in range(classes))
        images = data.test_images
        other = type(data)(
            data.name, images, labels, images, labels, names, data.fingerprint, data.folder
        )
        monkeypatch.setattr(test.of_checkpoint, "load_for", lambda *_: other)
        network = model.Network(8, classes=classes)
        for _ in range(10):
            network.train_batch(images, labels, model.SGD(0.05))
        network.save(tmp_path / "net.npz", {"data": {"fingerprint": data.fingerprint}})
        code, out, err = call_test("net.npz", "--json", "all.json", "--predictions", "p.csv")
        assert (code, err) == (0, "")
        return out, json_of("all.json")["results"][0]["image alone"], rows_of("p.csv")

    return run


def f1_column(out):
    return re.findall(r"^class-\d+ .*%  +([\d.]+)%  +\d+$", out, re.M)


def test_two_classes(with_classes):
    out, m, rows = with_classes(2)
    assert "-> 2;" in out
    assert len(f1_column(out)) == len(m["f1"]) == 2
    assert len(rows[0]) == 3 + 2


def test_of_a_hundred_classes_the_best_and_worst_are_printed(with_classes):
    out, m, rows = with_classes(100)
    f1 = sorted(m["f1"], reverse=True)
    assert f1_column(out) == [f"{100 * share:.2f}" for share in f1[:10] + f1[-10:]]
    assert "... 80 more" in out
    assert len(rows[0]) == 3 + 100


def test_balanced_accuracy_is_printed_where_classes_are_uneven(with_classes):
    labels = (np.arange(200) % 5 == 0).astype(int)
    out, m, _ = with_classes(2, labels)
    assert f"balanced accuracy{m['balanced_accuracy']:>30.2%}" in out
    out, m, _ = with_classes(2)
    assert "balanced" not in out
    assert m["balanced_accuracy"] == pytest.approx(m["accuracy"])


def test_balanced_accuracy_is_a_column_of_a_comparison_if_classes_are_uneven(with_classes):
    with_classes(2, (np.arange(200) % 5 == 0).astype(int))
    os.rename("net.npz", "a.npz")
    os.rename("all.json", "a.json")
    with_classes(2, (np.arange(200) % 5 == 0).astype(int))
    _, out, _ = call_test("a.npz", "net.npz")
    balanced = json_of("a.json")["results"][0]["image alone"]["balanced_accuracy"]
    rows = [line.split() for line in out.splitlines() if line.startswith("a.npz")]
    assert rows[0][-1] == f"{balanced:.2%}"


# ---- Mirror images, strides, validation images, ensembles ----------------------------------------


def test_tta_averages_the_logits_of_image_and_mirror_image(nets, synthetic_dir, data):
    flags = "--data-dir", synthetic_dir, "--tta", "--json", "a.json"
    code, out, err = call_test(nets / "bn.npz", *flags)
    assert (code, err) == (0, "")
    assert "image alone     with mirror image" in out
    network = model.load(nets / "bn.npz")[0]
    mirrored = data.test_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    z2 = (network.logits(data.test_images).astype(float) + network.logits(mirrored)) / 2
    loss = model.cross_entropy_forward(z2, data.test_labels)[0].mean()
    both = json_of("a.json")["results"][0]
    assert both["with mirror image"]["loss"] == pytest.approx(loss)
    assert both["with mirror image"]["loss"] != pytest.approx(both["image alone"]["loss"], rel=1e-4)


def test_tta_of_a_folded_network_is_noted_and_done(nets, synthetic_dir):
    flags = "--tta", "--data-dir", synthetic_dir, "--json", "a.json", "--fold-mirror", "again.npz"
    code, _, err = call_test(nets / "folded.npz", *flags)
    assert code == 0
    one_line(err, "note: --tta and --fold-mirror changes nothing")
    found = json_of("a.json")["results"][0]
    alone = found["image alone"]["loss"]
    assert found["with mirror image"]["loss"] == pytest.approx(alone, rel=1e-4)
    assert model.load("again.npz")[0].hidden_size == 80


def test_stride_applies_filters_at_more_positions_than_in_training(nets, synthetic_dir, data):
    flags = "--data-dir", synthetic_dir, "--stride", 1, "--json", "a.json"
    code, out, _ = call_test(nets / "mirrored.npz", *flags)
    assert code == 0
    assert "6 8x8 filters at 625 positions 1 apart, 3x3 regions" in " ".join(out.split())
    assert json_of("a.json")["stride"] == 1
    trained = model.load(nets / "mirrored.npz")[0]
    dense = trained.copy(window=replace(trained.window, stride=1))
    loss = json_of("a.json")["results"][0]["image alone"]["loss"]
    assert loss == pytest.approx(dense.evaluate(data.test_images, data.test_labels)[0], rel=1e-4)
    assert loss != pytest.approx(trained.evaluate(data.test_images, data.test_labels)[0], rel=1e-4)


def test_a_folded_checkpoint_keeps_the_stride_asked_for(nets, synthetic_dir):
    flags = "--data-dir", synthetic_dir, "--stride", 12, "--fold-mirror", "far.npz"
    assert call_test(nets / "mirrored.npz", *flags)[0] == 0
    assert model.load("far.npz")[0].window.positions == 9


def test_validation_tests_on_the_images_that_the_run_kept(nets, synthetic_dir, data):
    flags = "--validation", "--data-dir", synthetic_dir, "--json", "a.json"
    code, out, err = call_test(nets / "mirrored.npz", *flags)
    assert (code, err) == (0, "")
    assert "48 validation images from" in out
    assert "test images" not in out
    rows = np.arange(5, 100, 2)
    network = model.load(nets / "mirrored.npz")[0]
    loss, accuracy = network.evaluate(data.train_images[rows], data.train_labels[rows])
    report = json_of("a.json")
    assert (report["data"]["split"], report["data"]["images"]) == ("validation", 48)
    assert report["results"][0]["image alone"]["accuracy"] == accuracy
    assert report["results"][0]["image alone"]["loss"] == pytest.approx(loss, rel=1e-4)


def test_predictions_of_validation_images_have_their_rows_in_the_training_split(
    nets, synthetic_dir, data
):
    flags = "--validation", "--data-dir", synthetic_dir, "--predictions", "p.csv"
    call_test(nets / "mirrored.npz", *flags)
    rows = np.arange(5, 100, 2)
    assert [int(row["index"]) for row in rows_of("p.csv")] == list(rows)
    labels = [data.class_names[label] for label in data.train_labels[rows]]
    assert [row["label"] for row in rows_of("p.csv")] == labels


def test_several_are_compared_on_validation_images_at_a_stride(nets, synthetic_dir):
    paths = nets / "mirrored.npz", nets / "windows.npz"
    flags = "--validation", "--data-dir", synthetic_dir, "--stride", 12, "--ensemble"
    code, out, err = call_test(*paths, *flags)
    assert (code, err) == (0, "")
    assert "every 12 pixels" in out
    assert "48 validation images" in out
    assert len(re.findall(r"% to ", out)) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (list(range(5, 99, 2)), "had other validation images than "),
        (None, "doesn't say which images"),
        ("elsewhere", "not among these (synthetic)"),
        ([[0, 0]], "is damaged"),
        ([[]], "is damaged"),
        ([[-1]], "is damaged"),
        ([[2.0]], "is damaged"),
        ([[10**40]], "is damaged"),
        (["all"], "is damaged"),
    ],
)
def test_validation_images_that_arent_known_are_refused(nets, synthetic_dir, data, rows, message):
    described = describe(data)
    if rows == "elsewhere":
        described |= {"fingerprint": "0" * 64, "validation_rows": [1, 2]}
    elif rows is not None:
        described["validation_rows"] = rows if len(rows) > 1 else rows[0]
    model.Network(2).save("other.npz", {"data": described})
    first = [nets / "bn.npz"] if "damaged" not in message else []
    code, out, err = call_test(*first, "other.npz", "--validation", "--data-dir", synthetic_dir)
    assert (code, out) == (2, "")
    one_line(err, "other.npz: ", message)


def test_a_file_with_the_reports_arrays_alone(nets, synthetic_dir):
    flags = "--data-dir", synthetic_dir
    code, out, err = call_test(nets / "report.npz", *flags)
    assert code == 0
    one_line(err, "report.npz: doesn't say which images it was trained on")
    expected = call_test(nets / "bn.npz", *flags)[1]
    assert out.split("\n\n")[1:] == expected.split("\n\n")[1:]
    assert "49,370 parameters" in " ".join(out.split())


def test_the_ensemble_averages_probabilities(nets, synthetic_dir, data):
    paths = [nets / f"{name}.npz" for name in ("bn", "plain", "folded")]
    files = "--predictions", "p.csv", "--json", "all.json"
    code, out, err = call_test(*paths, "--ensemble", "--tta", "--data-dir", synthetic_dir, *files)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "% to " in line]
    assert [row[0] for row in rows] == [*map(str, paths), "ensemble"]
    y = 0
    for path in paths:
        network = model.load(path)[0]
        y = y + np.exp(ours.log_probabilities(network, data.test_images, tta=True)) / 3
    written = [[float(row[name]) for name in data.class_names] for row in rows_of("p.csv")]
    np.testing.assert_allclose(np.array(written), y, atol=1e-5)
    accuracy = (y.argmax(axis=1) == data.test_labels).mean()
    assert rows[-1][-1] == f"{accuracy:.2%}"
    ensemble = json_of("all.json")["results"][3]
    assert ensemble["with mirror image"]["accuracy"] == accuracy
    assert ensemble["images_per_second"] is None
    assert ensemble["network"] is None


def test_threads_change_nothing(capsys, nets, synthetic_dir):
    for threads in (1, 3):
        flags = "--data-dir", synthetic_dir, "--predictions", f"{threads}.csv"
        code, *_ = called(test.main, capsys, nets / "windows.npz", *flags, "--threads", threads)
        assert code == 0
    assert rows_of("1.csv") == rows_of("3.csv")


def test_other_images_than_those_of_training_are_reported(nets, tmp_path, capsys):
    folder = tmp_path / "other" / "synthetic-batches-py"
    synthetic.write_synthetic(folder, train=50, test=20, seed=5)
    capsys.readouterr()
    code, out, err = call_test(nets / "bn.npz", "--data-dir", tmp_path / "other")
    assert code == 0
    assert "20 test images" in out
    one_line(err, "bn.npz", "was trained on other images")


@pytest.mark.parametrize(
    "info", [{"data": {"name": "cifar10"}}, {}, {"data": {"name": ["x"]}}, {"data": {"name": "x"}}]
)
def test_without_images_and_network_one_line_says_what_to_type(tmp_path, monkeypatch, info):
    def unreachable(*_):
        raise test.Unreachable("no network")

    monkeypatch.setattr(test.cifar10, "HERE", tmp_path)
    monkeypatch.setattr(test.cifar10, "download", unreachable)
    model.Network(2).save("net.npz", info)
    code, out, err = call_test("net.npz")
    assert (code, out) == (2, "")
    one_line(err, "cifar10 is missing", "python data/cifar10.py", "--images", "synthetic")


def test_an_export_needs_no_images(tmp_path, monkeypatch):
    def unreachable(*_):
        raise test.Unreachable("no network")

    monkeypatch.setattr(test.cifar10, "HERE", tmp_path)
    monkeypatch.setattr(test.cifar10, "download", unreachable)
    network = model.Network(2)
    network.save("net.npz", {"data": {"name": "cifar10"}})
    code, out, err = call_test("net.npz", "--export", "plain.npz")
    assert code == 2
    assert "plain.npz" in out
    one_line(err, "cifar10 is missing")
    exported, _ = model.load("plain.npz")
    np.testing.assert_allclose(exported.weights["W2"], network.weights["W2"], rtol=1e-6)


# ---- The checkpoint ------------------------------------------------------------------------------


def checkpoint(path, epochs=3, done=3, state=True, age=0, **settings):
    """Write a checkpoint that says how many of its epochs are done, `age` seconds old."""
    accuracy = [0.1 * i for i in range(done)]
    if "patience" in settings:
        accuracy = [0.5, *[0.1] * (done - 1)]
    info = {"settings": {"epochs": epochs} | settings, "history": {"val_accuracy": accuracy}}
    model.Network(2).save(path, info)
    os.utime(path, (1e9 - age, 1e9 - age))
    if state:
        path.with_suffix(".state.npz").write_bytes(b"")
    return path


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """The folder in which test.py looks for a checkpoint if none is named."""
    folder = tmp_path / "checkpoints"
    monkeypatch.setattr("support.checkpoints.CHECKPOINTS", folder)
    return folder


def test_without_any_checkpoint_one_line_says_how_to_get_one(checkpoints, synthetic_dir):
    code, _, err = call_test("--data-dir", synthetic_dir)
    assert code == 2
    one_line(err, "checkpoints", "train.py")


def test_without_a_name_an_unfinished_run_is_tested_if_there_is_no_other(
    checkpoints, synthetic_dir
):
    checkpoints.mkdir()
    checkpoint(checkpoints / "running.npz", done=2)
    code, out, err = call_test("--data-dir", synthetic_dir)
    assert code == 0
    assert out.startswith("no checkpoint named; this is checkpoints/running.npz\n")
    assert err.startswith("note: checkpoints/running.npz: ")
    assert "until epoch 2 of 3" in err.splitlines()[0]


def test_without_a_name_the_newest_finished_run_is_tested(checkpoints):
    checkpoints.mkdir()
    checkpoint(checkpoints / "running.npz", done=2)
    (checkpoints / "damaged.npz").write_bytes(b"")
    (checkpoints / "damaged.state.npz").write_bytes(b"")
    older = checkpoint(checkpoints / "older.npz", age=20)
    assert default_checkpoint(checkpoints) == older
    stopped = checkpoint(checkpoints / "stopped.npz", epochs=30, done=4, age=10, patience=3)
    assert default_checkpoint(checkpoints) == stopped
    single = checkpoint(checkpoints / "single.npz", done=1, state=False, age=5)
    assert default_checkpoint(checkpoints) == single


def test_a_shipped_network_comes_first(checkpoints, synthetic_dir):
    checkpoints.mkdir()
    checkpoint(checkpoints / "newer.npz")
    checkpoint(checkpoints / "cifar10-best.npz", state=False, age=99)
    out = call_test("--data-dir", synthetic_dir)[1]
    assert "this is checkpoints/cifar10-best.npz" in out


def test_an_unfinished_run_that_is_named_is_noted(tmp_path, synthetic_dir):
    running = checkpoint(tmp_path / "running.npz", done=2)
    assert "until epoch 2 of 3" in call_test(running, "--data-dir", synthetic_dir)[2]


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
def test_a_run_that_says_too_little_counts_as_finished(info, tmp_path):
    (tmp_path / "a.state.npz").write_bytes(b"")
    assert unfinished(tmp_path / "a.npz", info) is None


def test_odd_accuracies_in_the_history_are_no_obstacle(tmp_path):
    (tmp_path / "a.state.npz").write_bytes(b"")
    info = {"settings": {"epochs": 9, "patience": 1}, "history": {"val_accuracy": [{}, None]}}
    assert unfinished(tmp_path / "a.npz", info) == "epoch 2 of 9"


# ---- Errors, notes and outputs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["gone.npz"], ["gone.npz: ", "no such checkpoint"]),
        (["text.npz"], ["text.npz: ", "not a readable .npz"]),
        (["old.npz"], ["old.npz: ", "earlier version"]),
        (["x\0.npz"], ["x?.npz"]),
        (["BN", "--ensemble"], ["--ensemble", "at least two"]),
        (["BN", "BN"], ["named twice"]),
        (["BN", "PLAIN", "--predictions", "p.csv"], ["--predictions", "--ensemble"]),
        (["BN", "PLAIN", "--images", "a.png"], ["--images", "--ensemble"]),
        (["BN", "PLAIN", "--export", "e.npz"], ["--export", "one checkpoint"]),
        (["BN", "PLAIN", "--fold-mirror", "e.npz"], ["--fold-mirror", "one checkpoint"]),
        (["BN", "PLAIN", "--ensemble", "--images", "a", "--explain", "e"], ["--explain", "one"]),
        (["BN", "--stride", "2"], ["--stride 2", "the whole image"]),
        (["WINDOWS", "--stride", "5"], ["--stride 5", "8 pixels"]),
        (["WINDOWS", "--stride", "0"], ["--stride"]),
        (["MIRRORED", "--stride", "24", "--fold-mirror", "f.npz"], ["--stride 24"]),
        (["BN", "--explain", "why"], ["--explain needs --images"]),
        (["BN", "--against", "cat"], ["--against needs --images"]),
        (["BN", "--submission", "s.csv"], ["--submission needs --images"]),
        (["BN", "--images", "a.png", "--explain", "text.npz"], ["text.npz", "not a folder"]),
        (["BN", "--export", "e.txt"], ["--export e.txt", ".npz or .onnx"]),
        (["BN", "--fold-mirror", "e.onnx"], ["--fold-mirror e.onnx", ".npz"]),
        (["BN", "--threads", "0"], ["--threads"]),
        (["BN", "--mode", "train"], ["--mode"]),
        (["BN", "--validation", "--images", "a.png"], ["--validation", "--images"]),
        (["BN", "--export", "a.npz", "--images", "a.png"], ["--export", "--images"]),
        (["BN", "--json", "."], ["--json"]),
        (["BN", "--json", "text.npz/x.json"], ["not a folder"]),
        (["BN", "--data-dir", "."], ["not a folder of CIFAR-10 batches"]),
        (["BN", "--data-dir", "nowhere"], ["--data-dir nowhere"]),
        (["BN", "--tto"], ["--tto", "did you mean --tta?"]),
        (["SKEW", "--fold-mirror", "f.npz"], ["--fold-mirror f.npz", "not symmetric"]),
        (["SKEW", "--images", "a.png", "--explain", "x", "--tta"], ["--explain", "not symmetric"]),
        (["BN", "THREE", "--ensemble", "--images", "a.png"], ["--ensemble", "[3, 10] classes"]),
        (["THREE", "--data-dir", "DATA"], ["three.npz: has 3 classes", "(synthetic) have 10"]),
    ],
)
def test_errors_are_one_line(nets, tmp_path, synthetic_dir, flags, parts):
    (tmp_path / "text.npz").write_text("no zip")
    described = {"data": {"class_names": ["a", "b", "c"], "fingerprint": "0"}}
    model.Network(2, classes=3).save(tmp_path / "three.npz", described)
    skew = Window(8, 8, 1, np.arange(192) / 192, np.diag(np.arange(1, 193) / 192))
    model.Network(2, skew).save(tmp_path / "skew.npz")
    npz.write_npz(tmp_path / "old.npz", {"b1": np.zeros((1, 2))}, {"architecture": {"fields": []}})
    names = {
        "BN": nets / "bn.npz",
        "PLAIN": nets / "plain.npz",
        "WINDOWS": nets / "windows.npz",
        "MIRRORED": nets / "mirrored.npz",
        "THREE": "three.npz",
        "SKEW": "skew.npz",
        "DATA": synthetic_dir,
    }
    before = sorted(os.listdir())
    code, out, err = call_test(*(names.get(flag, flag) for flag in flags))
    assert (code, out) == (2, "")
    one_line(err, *parts)
    assert sorted(os.listdir()) == before


def test_the_reports_flags_are_accepted_and_noted(nets, synthetic_dir):
    flags = "--mode", "test", "--save_results", "--hidden_size", 1024, "--use_batchnorm"
    code, _, err = call_test("--model_path", nets / "bn.npz", "--data_dir", synthetic_dir, *flags)
    assert code == 0
    first, second = err.splitlines()
    assert first.startswith("note: --save-results has no effect")
    assert second.startswith("note: no effect here")
    assert second.endswith(": --hidden-size, --use-batchnorm")


def test_outputs_go_into_devices_and_through_links(nets, synthetic_dir, tmp_path):
    (tmp_path / "real.json").write_text("old")
    os.symlink("real.json", "link.json")
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    devices = "--export", "/dev/null", "--fold-mirror", "/dev/null"
    files = "--json", "link.json", "--predictions", "pipe"
    try:
        code, _, err = call_test(nets / "bn.npz", "--data-dir", synthetic_dir, *devices, *files)
        assert (code, err) == (0, "")
        assert os.read(reader, 20) == b"index,label,predicti"
    finally:
        os.close(reader)
    assert os.path.islink("link.json")
    assert json_of("real.json")["results"]
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    "flags",
    [
        ["--export", "BN"],
        ["--fold-mirror", "link.npz"],
        ["--json", "a.json", "--predictions", "./a.json"],
        ["--json", "to-a", "--predictions", "a.json"],
        ["--json", "to-a", "--predictions", "to-a"],
    ],
)
def test_no_file_of_a_command_replaces_another(nets, flags):
    before = (nets / "bn.npz").read_bytes()
    os.symlink(nets / "bn.npz", "link.npz")
    os.symlink("a.json", "to-a")  # a.json doesn't exist
    flags = [nets / "bn.npz" if flag == "BN" else flag for flag in flags]
    code, _, err = call_test(nets / "bn.npz", *flags)
    assert code == 2
    one_line(err, "would replace another file of this command")
    assert (nets / "bn.npz").read_bytes() == before
    assert sorted(os.listdir()) == ["link.npz", "to-a"]


def test_the_script_itself(run, nets, synthetic_dir):
    done = run("test.py", nets / "plain.npz", "--data-dir", synthetic_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert "most frequent confusions" in done.stdout


def test_an_error_of_the_script_itself(run):
    broken = run("test.py", "gone.npz")
    assert (broken.returncode, broken.stdout) == (2, "")
    one_line(broken.stderr, "test.py: error: gone.npz")


def test_help_fits_80_columns_and_two_screens(run):
    done = run("test.py", "--help", env=os.environ | {"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 80
