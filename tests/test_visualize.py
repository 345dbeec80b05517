"""visualize.py: what its figures show against the arrays, its files, its report, its errors as a user meets them."""

import base64
import io
import re
from functools import partial

import model
import test
import train
import visualize
from data import cifar10

import matplotlib
import numpy as np
import pytest
from conftest import called
from PIL import Image

matplotlib.use("Agg")
PNG = b"\x89PNG"


call = partial(called, visualize.main)  # call(capsys, *argv)


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder with a checkpoint with BN, one with mirrored receptive fields without BN, and one of the report's."""
    folder = tmp_path_factory.mktemp("nets")
    train.train(train.Settings(hidden_size=40, epochs=3, lambda_reg=0.0, shift=2), data, folder / "bn.npz")
    fields = {"receptive_fields": "16/16x4@20 8/8x2@10", "preprocess": "whiten", "mirror": True, "batchnorm": False}
    train.train(train.Settings(epochs=1, lambda_reg=0.0, **fields), data, folder / "fields.npz")
    arrays = model.load(folder / "bn.npz")[0].plain()
    np.savez(folder / "report.npz", **{name: array.astype(np.float64) for name, array in arrays.items()})
    return folder


@pytest.fixture
def subject(nets, data):
    return visualize.Subject(nets / "bn.npz", *model.load(nets / "bn.npz"), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    visualize.plt.close("all")


def png_of(page, name):
    """The picture of a figure in the text of report.html."""
    found = re.search(rf'<h3>{name}</h3><img alt="[^"]*" src="data:image/png;base64,([^"]*)"', page)
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


# ---- What the figures show ----


def test_input_gradient_is_that_of_finite_differences(nets, data):
    for name in ("bn", "fields"):
        network = model.load(nets / f"{name}.npz", dtype=np.float64)[0]
        c, rng = 3, np.random.default_rng(0)
        images = data.test_images[data.test_labels == c]
        found = visualize.mean_gradient(network.plain(), images, c)
        assert found.shape == (3072,)
        for pixel in rng.integers(0, 3072, 6):
            logits = []
            for step in (1e-6, -1e-6):
                moved = images / 255
                moved[:, pixel] += step
                logits.append(network.logits(moved)[:, c].mean())
            assert (logits[0] - logits[1]) / 2e-6 == pytest.approx(found[pixel], rel=1e-4, abs=1e-9)


def test_a_picture_is_grey_at_zero_and_cropped_to_the_window():
    weights = np.zeros((3, 32, 32))
    weights[:, 8:16, 20:28] = np.random.default_rng(0).standard_normal((3, 8, 8))
    shown = visualize.picture(weights.ravel())
    assert shown.shape == (8, 8, 3) and max(shown.max() - 0.5, 0.5 - shown.min()) == pytest.approx(0.5)
    scale = np.abs(weights).max()
    np.testing.assert_allclose(shown, 0.5 + 0.5 * weights[:, 8:16, 20:28].transpose(1, 2, 0) / scale)
    assert (visualize.picture(np.zeros(3072)) == 0.5).all()


def test_normality_tells_normal_from_laplace():
    rng = np.random.default_rng(0)
    normal = visualize.normality(3 + 2 * rng.standard_normal(200_000))
    assert normal["mean"] == pytest.approx(3, abs=0.02) and normal["std"] == pytest.approx(2, abs=0.02)
    assert abs(normal["excess kurtosis"]) < 0.05 and abs(normal["skewness"]) < 0.03 and normal["KS distance"] < 0.005
    laplace = visualize.normality(rng.laplace(size=200_000))
    assert laplace["excess kurtosis"] == pytest.approx(3, abs=0.3)
    assert laplace["KS distance"] == pytest.approx(0.06, abs=0.01)
    assert visualize.normality(rng.random(200_000))["KS distance"] == pytest.approx(0.06, abs=0.01)


def test_curves_are_the_history(subject):
    figure, caption = visualize.curves(subject)
    history = subject.info["history"]
    loss, accuracy, rate = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [history["train_loss"], history["val_loss"]]
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), 100 * np.array(history["val_accuracy"]))
    assert list(rate.lines[0].get_ydata()) == history["learning_rate"]
    best = subject.info["best_epoch"]
    assert loss.lines[2].get_xdata()[0] == best and f"best epoch {best}:" in loss.get_legend().get_title().get_text()
    assert "nats" in caption


def test_filters_are_those_of_the_largest_norm(subject, nets, data):
    figure, _ = visualize.filters(subject)
    norms = np.linalg.norm(subject.arrays["W1"], axis=0)
    shown = [ax.get_title() for ax in figure.axes]
    assert shown == [f"{unit}: {norms[unit]:.2g}" for unit in np.argsort(-norms)[:36]]
    np.testing.assert_allclose(
        figure.axes[0].images[0].get_array(), visualize.picture(subject.arrays["W1"][:, norms.argmax()])
    )
    fields = visualize.Subject(nets / "fields.npz", *model.load(nets / "fields.npz"), data)
    sizes = [ax.images[0].get_array().shape[0] for ax in visualize.filters(fields)[0].axes if ax.images]
    assert sizes == [16] * 16 + [8] * 18
    network, info = model.load(nets / "fields.npz")
    figure, caption = visualize.filters(visualize.Subject(None, network, info | {"settings": {"share": 3.0}}, None))
    numbers = [int(ax.get_title().split(":")[0]) for ax in figure.axes if ax.images]
    assert "learned together" in caption and "learned together" not in visualize.filters(fields)[1]
    assert sorted(n % 4 for n in numbers if n < 16) == [0, 1, 2, 3] and len(numbers) == 4 + 2


def test_top_neurons_and_output_weights_are_those_of_W2(subject):
    W2 = subject.arrays["W2"]
    figure, caption = visualize.top_neurons(subject)
    bars = [ax for ax in figure.axes if ax.patches]
    for c, ax in enumerate(bars):
        assert ax.get_title() == subject.names[c]
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], np.sort(W2[:, c])[::-1][:5])
        assert {matplotlib.colors.to_hex(bar.get_facecolor()) for bar in ax.patches} == {
            visualize.CLASS_COLOURS[c].lower()
        }
    different = len({unit for c in range(10) for unit in np.argsort(-W2[:, c])[:5]})
    assert len(bars) == 10 and f"{different} of the 50 are different units" in caption
    shown = visualize.output_weights(subject)[0].axes[0].images[0].get_array()
    assert sorted(map(tuple, shown.tolist())) == sorted(map(tuple, W2.tolist()))
    assert (np.diff(shown.argmax(axis=1)) >= 0).all()


def test_confusion_examples_and_reliability_are_the_predictions(subject, data):
    log_y = test.log_probabilities(subject.network, data.test_images)
    m, prediction = test.measure(log_y, data.test_labels), log_y.argmax(axis=1)
    counts = [text.get_text() for text in visualize.confusion(subject)[0].axes[0].texts]
    assert counts == [str(n) for row in m.confusion for n in row]
    titles = [ax.get_title() for ax in visualize.examples(subject)[0].axes]
    wrong = np.flatnonzero(prediction != data.test_labels)
    surest = wrong[np.argsort(-log_y[wrong].max(axis=1), kind="stable")][:25]
    assert titles[: len(surest)] == [
        f"{subject.names[data.test_labels[i]]}\n{subject.names[prediction[i]]} {np.exp(log_y[i].max()):.0%}"
        for i in surest
    ]
    figure, _ = visualize.reliability(subject)
    assert f"calibration error {m.calibration_error:.1%}" == figure.axes[0].get_legend().get_title().get_text()
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 200


def test_right_images_follow_where_mistakes_are_few(subject):
    confident = np.full((200, 10), -20.0)
    confident[np.arange(200), subject.labels] = 0
    subject.__dict__["log_y"] = model.log_softmax(confident)
    figure, caption = visualize.examples(subject)
    assert all(ax.get_title().startswith("\N{CHECK MARK} ") for ax in figure.axes) and "with a check mark" in caption


def test_augmentation_shows_what_training_sees(subject, data):
    figure, caption = visualize.augmentation(subject)
    first = figure.axes[0].images[0].get_array()
    row = np.flatnonzero(data.train_labels == 0)[0]
    np.testing.assert_array_equal(first, data.train_images[row].reshape(3, 32, 32).transpose(1, 2, 0))
    assert any((ax.images[0].get_array() != first).any() for ax in figure.axes[1:6])
    assert "mirrored" in caption and "by up to 2 pixels" in caption


@pytest.mark.parametrize(
    "blind",
    [[[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]], [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]],
    ids=["deuteranopia", "protanopia"],
)
def test_class_colours_stay_apart_for_the_colour_blind(blind):
    """As Vienot et al. (1999) simulate it; distances in RGB, of which black to white is 1.73."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in visualize.CLASS_COLOURS]) ** 2.2
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    seen = np.clip(rgb @ (np.linalg.inv(to_lms) @ blind @ to_lms).T, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)[~np.eye(10, dtype=bool)]
    assert gaps.min() > 0.15


# ---- Files ----


def test_all_figures_and_a_report_of_one_file(capsys, nets, synthetic_dir):
    code, out, err = call(capsys, nets / "bn.npz", "--data-dir", synthetic_dir, "--out", "all", "--dpi", 40)
    assert (code, err) == (0, "")
    report = visualize.Path("all/report.html")
    assert out == f"11 figures in all; open {report} to see them all\n"
    files = {path.name for path in visualize.Path("all").iterdir()}
    assert files == {"report.html", *(f"{name}.png" for name in visualize.FIGURES)}
    page = report.read_text()
    for name in visualize.FIGURES:
        image = Image.open(f"all/{name}.png")
        assert 190 < image.width < 260 and image.convert("L").getextrema()[0] < 100, name
        inside = png_of(page, name)
        assert inside.width == image.width and 60 < inside.height < image.height - 5  # without its caption
    assert not re.search(r"<script|https?:|//|@import|url\(|<link", re.sub(r'base64,[^"]*', "", page))
    assert 'name="viewport"' in page
    info = model.load(nets / "bn.npz")[1]
    assert f"<td>{info['data']['fingerprint']}</td>" in page and "<td>hidden_size</td><td>40</td>" in page
    m = test.measure(
        test.log_probabilities(model.load(nets / "bn.npz")[0], cifar10.load(data_dir=synthetic_dir).test_images),
        cifar10.load(data_dir=synthetic_dir).test_labels,
    )
    assert f"<td>accuracy</td><td>{m.accuracy:.2%}</td>" in page


def test_only_some_in_another_format(capsys, nets):
    for kind, start, only in (("svg", b"<?xml", ["batchnorm"]), ("pdf", b"%PDF", ["batchnorm", "curves"])):
        flags = "--only", *only, "--format", kind, "--output_dir", kind
        code, out, _ = call(capsys, "--model_path", nets / "bn.npz", *flags)
        assert (code, out) == (0, f"{len(only)} figure{'s' * (len(only) > 1)} in {kind}\n")
        files = sorted(visualize.Path(kind).iterdir())
        assert [path.name for path in files] == [f"{name}.{kind}" for name in only]
        assert all(path.read_bytes().startswith(start) for path in files)
    assert "Batch normalisation" in (visualize.Path("svg/batchnorm.svg")).read_text()  # the caption


def few(monkeypatch, *names):
    """Let the command know these figures only, as all of them take long."""
    monkeypatch.setattr(visualize, "FIGURES", {name: visualize.FIGURES[name] for name in names})


def test_figures_that_a_checkpoint_cannot_have_are_left_out_with_the_reason(capsys, nets, synthetic_dir, monkeypatch):
    few(monkeypatch, "curves", "batchnorm", "augmentation")
    flags = "--data-dir", synthetic_dir, "--dpi", 20
    code, out, err = call(capsys, nets / "report.npz", *flags, "--out", "r")
    assert code == 0 and "doesn't say which images it was trained on" in err
    assert "left out curves: the file holds weights only, not the history of a run\n" in out
    assert "left out augmentation: the file doesn't say how" in out and "1 figure in r;" in out
    assert "<td>curves</td><td>the file holds weights only" in visualize.Path("r/report.html").read_text()
    code, out, _ = call(capsys, nets / "fields.npz", "--out", "f", *flags)
    assert code == 0 and "left out batchnorm: the network has no batch normalisation\n" in out
    assert "left out augmentation: training images were not augmented (its mirrored twins see both" in out


def test_without_images_the_other_figures_are_drawn(capsys, nets, monkeypatch):
    def fail(*_, **__):
        raise cifar10.Unreachable("no network")

    few(monkeypatch, "features", "confusion")
    monkeypatch.setattr(cifar10, "load", fail)
    code, out, _ = call(capsys, nets / "fields.npz", "--dpi", 20, "--out", "f")
    assert code == 0 and "left out confusion: there are no images (no network)" in out
    assert visualize.Path("f/features.png").exists()
    assert "Not tested: there are no images" in visualize.Path("f/report.html").read_text()
    assert call(capsys, nets / "bn.npz", "--dataset", "synthetic")[0] == 2


def test_more_units_than_a_heat_map_has_rows(capsys):
    network = model.Network(fields=[model.Field(4, 4, 20)], mirror=True, seed=3)
    model.save("wide.npz", network, {"history": {"val_loss": "x"}, "settings": 3, "data": []})
    only = "--only", "output-weights", "weights"
    assert call(capsys, "wide.npz", *only, "--dpi", 20, "--out", "w")[0] == 0
    figure, caption = visualize.output_weights(visualize.Subject("wide.npz", network, {}, None))
    assert figure.axes[0].images[0].get_array().shape == (1024, 10) and "Of 1,280 units" in caption
    code, _, err = call(capsys, "wide.npz", "--only", "curves")
    assert code == 2 and "--only curves: can't be drawn, as the file's history is not one of train.py's" in err


# ---- A search's results ----


CSV = ["trial,hidden_size,learning_rate,lambda_reg,repeat,seed,status,val_accuracy,val_loss,best_epoch,epochs,seconds,"
       "test_accuracy,checkpoint,reason"]  # fmt: skip


def results(path, rows):
    """Write a results.csv of (hidden size, learning rate, validation accuracy, seconds) rows."""
    lines = []
    for i, (hidden, rate, accuracy, seconds) in enumerate(rows):
        status, reason = ("ok", "") if accuracy else ("diverged", "loss nan")
        lines.append(f"t{i},{hidden},{rate},0.01,{i % 2},{i},{status},{accuracy},1.2,3,5,{seconds},,x.npz,{reason}")
    path.write_text("\n".join([*CSV, *lines]) + "\n")
    return path


def test_a_search_is_drawn_over_its_settings_and_against_cost(capsys, tmp_path):
    rows = [(512, 0.01, 0.5, 10), (512, 0.01, 0.54, 12), (1024, 0.01, 0.6, 20), (1024, 0.005, 0.55, 21),
            (512, 0.005, "", 3)]  # fmt: skip
    path = results(tmp_path / "results.csv", rows)
    code, out, _ = call(capsys, path, "--out", "s", "--dpi", 40)
    assert code == 0 and out.startswith("2 figures in s; open")
    assert {file.name for file in visualize.Path("s").iterdir()} == {
        "search-grid.png", "search-cost.png", "report.html",
    }  # fmt: skip
    page = visualize.Path("s/report.html").read_text()
    assert "<td>t2</td><td>1024</td><td>0.01</td><td>60.00%</td><td>20</td>" in page
    search = visualize.read_search(path)
    assert search.settings == ["hidden_size", "learning_rate"]  # lambda_reg has one value
    ax = visualize.search_grid(search)[0].axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["512", "1024"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.005", "0.01"]
    assert [text.get_text() for text in ax.texts] == ["none", "55.00", "52.00", "60.00"]
    figure, caption = visualize.search_cost(search)
    dots = sorted((x, y) for line in figure.axes[0].lines[:2] for x, y in zip(*line.get_data(), strict=True))
    assert dots == [(10, 50), (12, 54), (20, 60), (21, pytest.approx(55))] and "1 of 5 trials" in caption


def test_a_search_over_one_or_many_values(tmp_path):
    one = visualize.read_search(results(tmp_path / "a.csv", [(64, 0.01, 0.5, 1), (128, 0.01, 0.6, 2)]))
    ax = visualize.search_grid(one)[0].axes[0]
    assert ax.collections[0].get_offsets().tolist() == [[64, 50], [128, 60]]
    drawn = [(2**i, 10 ** -(1 + i / 4), 0.3 + i / 100, i + 1) for i in range(1, 12)]
    ax = visualize.search_grid(visualize.read_search(results(tmp_path / "b.csv", drawn)))[0].axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log" and len(ax.collections[0].get_offsets()) == 11
    same = visualize.read_search(results(tmp_path / "c.csv", [(64, 0.01, 0.5, 1)]))
    with pytest.raises(visualize.LeftOut, match="no setting has more than one value"):
        visualize.search_grid(same)


# ---- Errors ----


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["gone.npz"], "gone.npz: no such file"),
        (["broken.npz"], "broken.npz: not a readable .npz"),
        (["gone.csv"], "gone.csv: no such file; 'python search.py' writes one"),
        (["other.csv"], "other.csv: has no column 'trial'; name the results.csv of search.py"),
        (["empty.csv"], "empty.csv: no trial in it has a validation accuracy yet"),
        (["binary.csv"], "binary.csv: not a CSV file"),
        (["good.csv", "--dataset", "synthetic"], "--data-dir and the like do nothing with a search's results"),
        (["good.csv", "--only", "curves"], "--only curves: is no figure of good.csv; there are search-grid, search"),
        (["BN", "--only", "search-grid"], "--only search-grid: is no figure of"),
        (["BN", "--only", "curves", "--data-dir", "x"], "needs no images; leave --data-dir and the like out"),
        (["REPORT", "--only", "curves"], "--only curves: can't be drawn, as the file holds weights only"),
        (["BN", "--data-dir", "."], "is no folder of CIFAR-10 batches"),
        (["BN", "--model-path", "BN"], "name one file"),
        (["BN", "--threads", "0"], "--threads must be at least 1"),
        (["BN", "--dpi", "5"], "--dpi 5: must be 20 to 1200"),
        (["BN", "--show"], "--show: there is no window system here"),
        (["BN", "--format", "gif"], "invalid choice: 'gif'"),
        (["BN", "--only", "curves", "--out", "good.csv"], "good.csv"),
    ],
)
def test_errors_are_one_line(capsys, nets, tmp_path, flags, message):
    (tmp_path / "broken.npz").write_text("no zip")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text(CSV[0] + "\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    results(tmp_path / "good.csv", [(64, 0.01, 0.5, 1)])
    names = {"BN": nets / "bn.npz", "REPORT": nets / "report.npz"}
    code, out, err = call(capsys, *(names.get(flag, flag) for flag in flags))
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_help_names_the_figures(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0 and all(name in out for name in visualize.FIGURES) and "report.html" in out


def test_the_script_itself(run, nets):
    done = run("visualize.py", nets / "bn.npz", "--only", "curves", "--out", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 figure in x\n", "")
    broken = run("visualize.py", "gone.npz")
    assert broken.returncode == 2 and broken.stderr.startswith("visualize.py: error: gone.npz: no such file")
