"""visualize.py: what its figures show against the arrays, its files, its report, its errors as a user meets them."""

import base64
import io
import re
import sys
import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import model
import train
import visualize
from data import cifar10
from support.figures import images as image_figures
from support.figures import style as plots
from support.figures import weights as weight_figures
from support.figures.style import LeftOut
from support.network import filters as pixels
from support.network import metrics
from support.network.window import Window

import matplotlib
import numpy as np
import pytest
from conftest import ROOT, called
from PIL import Image

matplotlib.use("Agg")
call = partial(called, visualize.main)  # call(capsys, *argv)
HISTORY = {
    "learning_rate": [0.01, 0.02, 0.005],
    "train_loss": [6.5, 2.2, 2.0],
    "train_accuracy": [0.2, 0.3, 0.4],
    "val_loss": [4.1, 2.1, 2.2],
    "val_accuracy": [0.25, 0.38, 0.35],
    "seconds": [40.0, 50.0, 61.0],
}


def info_of(data, history=HISTORY, **settings):
    """What train.py writes into a checkpoint."""
    return {
        "recipe": "report",
        "command": "python train.py --shift 2",
        "machine": "a computer, 2 cores",
        "settings": asdict(train.Settings(**settings)),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
        },
        "history": history,
        "best_epoch": 2,
    }


def whitened(size=8, stride=4, regions=3, dims=30):
    """A window with a random map, as invertible as a whitening's."""
    rng = np.random.default_rng(0)
    P = rng.standard_normal((3 * size**2, dims)) / size
    return Window(size, stride, regions, rng.random(3 * size**2), P)


def mirrored(data):
    return Window(8, 4, 3, mirror=True).whitening(data.train_images, 30, 0.1, model.Threads())


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder with a checkpoint with BN, ones with windows, without and with BN, and one with the report's arrays."""
    folder = tmp_path_factory.mktemp("nets")
    networks = {
        "bn": model.Network(40, seed=0),
        "windows": model.Network(24, whitened(), batchnorm=False, dropout=0.0, seed=1),
        "mirrored": model.Network(
            24, mirrored(data), batchnorm=False, dropout=0.0, cap=0.3, seed=1
        ),
        "windows-bn": model.Network(6, Window(16, 8, 1), seed=2),
    }
    for name, network in networks.items():
        for start in range(0, 960, 64):
            rows = slice(start, start + 64)
            network.train_batch(data.train_images[rows], data.train_labels[rows], model.SGD(0.02))
            network.save(folder / f"{name}.epochs" / f"{start // 64 + 1:03d}.npz")
        settings = {"hidden_size": network.hidden_size, "batchnorm": network.batchnorm, "shift": 2}
        settings |= (
            {}
            if network.window.whole
            else {"window": network.window.size, "stride": network.window.stride}
        )
        network.save(folder / f"{name}.npz", info_of(data, **settings))
    np.savez(
        folder / "report.npz",
        **{name: array.astype(float) for name, array in networks["bn"].weights.items()},
    )
    return folder


@pytest.fixture
def subject(nets, data):
    return visualize.Subject(nets / "bn.npz", *model.load(nets / "bn.npz"), data)


@pytest.fixture
def windows(nets, data):
    return visualize.Subject(nets / "windows.npz", *model.load(nets / "windows.npz"), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context(plots.style()):
        yield
    visualize.plt.close("all")


# ---- What units see, in pixels ----


@pytest.mark.parametrize("name", ["bn", "windows", "mirrored", "windows-bn"])
def test_input_gradient_is_that_of_finite_differences(nets, data, name):
    network = model.load(nets / f"{name}.npz", dtype=np.float64)[0]
    c, rng = 3, np.random.default_rng(0)
    images = data.test_images[data.test_labels == c]
    above, share, lit = pixels.active_share(network, images)
    assert above.shape == share.shape == (network.window.rows, network.hidden_size)
    assert lit.mean() == pytest.approx(above.mean()) and (share < above).any() == (network.cap > 0)
    found = pixels.mean_gradient(network, share, c)
    assert found.shape == (3072,)
    for pixel in rng.integers(0, 3072, 6):
        logits = []
        for step in (1e-6, -1e-6):
            moved = images / 255
            moved[:, pixel] += step
            logits.append(network.logits(moved)[:, c].mean())
        assert (logits[0] - logits[1]) / 2e-6 == pytest.approx(found[pixel], rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ["bn", "windows", "mirrored"])
def test_filters_and_class_pictures_are_those_of_the_plain_network(nets, name):
    network = model.load(nets / f"{name}.npz", dtype=np.float64)[0]
    network.cap = 0  # class pictures pass over it: with a cap a plain network's is zero
    plain, window = network.plain(), network.window
    np.testing.assert_allclose(
        pixels.class_picture(network, 4), plain["W1"] @ plain["W2"][:, 4], atol=1e-12
    )
    first = window.patches(np.arange(3072)[None])[0]  # the pixels of the first place
    np.testing.assert_allclose(
        pixels.filter_weights(network, [5])[:, 0], plain["W1"][first, 5], atol=1e-12
    )


# ---- What the figures show ----


def test_curves_are_the_history(subject):
    figure, caption = weight_figures.curves(subject)
    loss, accuracy, rate = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [
        HISTORY["train_loss"],
        HISTORY["val_loss"],
    ]
    np.testing.assert_allclose(
        accuracy.lines[1].get_ydata(), 100 * np.array(HISTORY["val_accuracy"])
    )
    assert list(rate.lines[0].get_ydata()) == HISTORY["learning_rate"]
    assert loss.lines[2].get_xdata()[0] == 2
    assert "best epoch, 2" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert accuracy.get_title(loc="right") == "at the best epoch 38.00 %"
    assert loss.get_ylim()[1] < 2.5  # the first epoch doesn't flatten the others
    assert "up to 6.5, lies above the axis" in caption


def test_filters_are_those_of_the_largest_norm(subject, windows):
    figure, _ = weight_figures.filters(subject)
    W1 = subject.network.weights["W1"]
    order = np.argsort(-np.linalg.norm(W1, axis=0))
    assert [ax.get_title() for ax in figure.axes] == [f"unit {unit}" for unit in order[:30]]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), plots.picture(W1[:, order[0]]))
    figure, caption = weight_figures.filters(windows)
    assert {ax.images[0].get_array().shape for ax in figure.axes if ax.images} == {(8, 8, 3)}
    assert "49 places" in caption


def test_top_neurons_and_output_weights_are_those_of_W2(subject, windows):
    for s in (subject, windows):
        W2 = s.network.weights["W2"].reshape(s.network.window.q, -1, 10)
        total = W2.astype(float).sum(axis=0)
        figure, caption = weight_figures.top_neurons(s)
        bars = [ax for ax in figure.axes if ax.patches]
        for c, ax in enumerate(bars):
            assert ax.get_title() == s.names[c]
            np.testing.assert_allclose(
                [bar.get_height() for bar in ax.patches], np.sort(total[:, c])[::-1][:5]
            )
            colours = {matplotlib.colors.to_hex(bar.get_facecolor()) for bar in ax.patches}
            assert colours == {plots.CLASS_COLOURS[c].lower()}
        different = len({unit for c in range(10) for unit in np.argsort(-total[:, c])[:5]})
        assert len(bars) == 10
        assert f"{different} of the 50 are different units" in caption
        shown = weight_figures.output_weights(s)[0].axes[0].images[0].get_array()
        rows = W2.transpose(1, 2, 0).reshape(s.network.hidden_size, -1)
        assert sorted(map(tuple, shown.tolist())) == sorted(map(tuple, rows.tolist()))
        assert (np.diff(shown.reshape(len(shown), 10, -1).sum(axis=2).argmax(axis=1)) >= 0).all()


def test_confusion_examples_and_reliability_are_the_predictions(subject, data):
    log_y = metrics.log_probabilities(subject.network, data.test_images)
    m, prediction = metrics.measure(log_y, data.test_labels), log_y.argmax(axis=1)
    figure, _ = image_figures.confusion(subject)
    shares = 100 * np.array(m.confusion) / np.array(m.support)[:, None]
    assert [text.get_text() for text in figure.axes[0].texts] == [
        f"{share:.0f}" for share in shares.ravel()
    ]
    image = figure.axes[0].images[0]
    assert image.get_clim()[1] == pytest.approx((shares - np.diag(shares.diagonal())).max())
    titles = [ax.get_title() for ax in image_figures.examples(subject)[0].axes]
    wrong = np.flatnonzero(prediction != data.test_labels)
    surest = wrong[np.argsort(-log_y[wrong].max(axis=1), kind="stable")][:12]
    names = subject.names
    assert titles == [
        f"{names[data.test_labels[i]]}, called\n{names[prediction[i]]} {np.exp(log_y[i].max()):.0%}"
        for i in surest
    ]
    figure, _ = image_figures.reliability(subject)
    assert (
        figure.axes[0].get_legend().get_title().get_text()
        == f"calibration error {m.calibration_error:.1%}"
    )
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 200
    low, high = figure.axes[0].collections[0].get_segments()[-1][:, 1]
    filled = [row for row in metrics.calibration(log_y, data.test_labels) if row[0]]
    count, _, accuracy = filled[-1]
    assert (low, high) == pytest.approx(metrics.wilson(round(accuracy * count), int(count)))


def test_the_worst_mistakes_of_each_class(subject, data):
    figure, _ = image_figures.mistakes(subject)
    own = subject.log_y[np.arange(200), data.test_labels]
    wrong = subject.log_y.argmax(axis=1) != data.test_labels
    for c, line in enumerate(np.array(figure.axes).reshape(10, 5)):
        rows = np.flatnonzero(wrong & (data.test_labels == c))
        worst = rows[np.argsort(own[rows], kind="stable")][:4]
        shown = [ax.images[0].get_array() for ax in line[1:] if ax.images]
        assert len(shown) == len(worst)
        for image, i in zip(shown, worst, strict=True):
            np.testing.assert_array_equal(image, plots.as_image(data.test_images[i]))
    assert "synthetic images" in [text.get_text() for text in figure.texts]


def test_evidence_is_of_the_surest_mistakes(subject):
    i = subject.surest_mistakes[1]
    figure, caption = image_figures.evidence(subject, 1)
    assert f"test image {i}." in caption
    assert figure.get_figwidth() == pytest.approx(plots.WIDTH)
    s = visualize.Subject(subject.path, subject.network, subject.info, subject.data)
    s.__dict__["log_y"] = model.log_softmax(np.eye(10)[s.labels] * 20)
    for draw in (partial(image_figures.evidence, which=0), image_figures.examples):
        with pytest.raises(LeftOut, match="called wrong"):
            draw(s)


def test_firing_counts_dead_units(nets, data):
    for name in ("bn", "windows", "mirrored"):
        network, info = model.load(nets / f"{name}.npz")
        network.weights["beta1" if name == "bn" else "b1"][0, 7] = -1e6
        network.weights["beta1" if name == "bn" else "b1"][0, 8] = 1e6
        subject = visualize.Subject(Path("x"), network, info, data)
        caption = image_figures.firing(subject)[1]
        assert re.search(
            r"[1-9]\d* of the \d+ units are dead, never above zero, and [1-9]\d* are above zero",
            caption,
        )
        on = network.hidden(data.test_images[data.test_labels == 2]) > 0
        np.testing.assert_allclose(subject.firing[0][2], on.mean(axis=0))


def test_activations_are_what_the_output_layer_takes(windows, data):
    figure, caption = image_figures.activations(windows)
    a1 = windows.network.hidden(data.test_images)
    places, _ = plots.principal((windows.network.window.R @ a1).reshape(200, -1))
    dots = figure.axes[0].collections[3].get_offsets()
    np.testing.assert_allclose(dots, places[data.test_labels == 3], rtol=1e-3, atol=1e-5)
    assert f"{9 * 24:,} outputs" in caption


def test_augmentation_shows_what_training_sees(subject, data):
    figure, caption = visualize.augmentation(subject)
    first = figure.axes[0].images[0].get_array()
    row = np.flatnonzero(data.train_labels == 0)[0]
    np.testing.assert_array_equal(first, plots.as_image(data.train_images[row]))
    assert figure.axes[0].get_title() == "original"
    assert any((ax.images[0].get_array() != first).any() for ax in figure.axes[1:5])
    assert "mirrored with" in caption
    assert "by up to 2 pixels" in caption


def test_augmentation_of_mirrored_units_shows_no_mirror_images(nets, data):
    network, info = model.load(nets / "mirrored.npz")
    info["settings"] |= {"flip": True, "shift": 0, "jitter": 0.1, "mirror": True}
    assert visualize.augmentation(visualize.Subject(Path("x"), network, info, data))[1].endswith(
        "in place of each: with other contrast, brightness and colours."
    )
    info["settings"]["jitter"] = 0.0
    with pytest.raises(LeftOut, match="were not augmented"):
        visualize.augmentation(visualize.Subject(Path("x"), network, info, data))


@pytest.mark.parametrize(
    "blind",
    [
        [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
        [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
    ],
    ids=["deuteranopia", "protanopia"],
)
def test_class_colours_stay_apart_for_the_colour_blind(blind):
    """As Vienot et al. (1999) simulate it; distances in RGB, of which black to white is 1.73."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in plots.CLASS_COLOURS]) ** 2.2
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    seen = np.clip(rgb @ (np.linalg.inv(to_lms) @ blind @ to_lms).T, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)[~np.eye(10, dtype=bool)]
    assert gaps.min() > 0.15


def test_many_classes_are_the_worst_and_the_best(subject, data):
    labels = np.arange(200) % 100
    names = tuple(f"kind {i}" for i in range(100))
    many = replace(data, test_labels=labels, train_labels=np.arange(1000) % 100, class_names=names)
    network = model.Network(16, classes=100, seed=0)
    s = visualize.Subject(Path("x"), network, {}, many)
    recall = np.array(s.measures.recall)
    assert len(s.shown(20)) == 20
    assert recall[s.shown(20)[:10]].max() <= recall[s.shown(20)[10:]].min()
    figure, caption = image_figures.confusion(s)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx(
        100 * recall[s.shown(20)]
    )
    assert "of 100 classes the 10 with the lowest recall" in caption
    for draw in (
        weight_figures.output_weights,
        weight_figures.top_neurons,
        image_figures.activations,
    ):
        figure, caption = draw(s)
        figure.draw_without_rendering()
        assert "Of 100 classes" in caption
    parts = visualize.merit(s)
    assert parts["Classes"].count("<tr>") == 21
    few = replace(
        data, test_labels=labels % 2, train_labels=data.train_labels % 2, class_names=("a", "b")
    )
    s = visualize.Subject(Path("x"), model.Network(16, classes=2, seed=0), {}, few)
    for draw in (image_figures.confusion, weight_figures.features, weight_figures.top_neurons):
        draw(s)[0].draw_without_rendering()


@pytest.mark.parametrize("value", [0.0, -1e30, 3e38])
@pytest.mark.parametrize("window", [None, whitened()], ids=["whole", "windows"])
def test_valid_but_extreme_weights_are_drawn(data, value, window):
    network = model.Network(8, window, batchnorm=window is None, seed=0)
    for name, array in network.weights.items():
        array[...] = abs(value) if "var" in name else value
    s = visualize.Subject(Path("x"), network, {}, data)
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("error")
        for name in ("output-weights", "weights", "features", "firing"):
            visualize.FIGURES[name](s)[0].draw_without_rendering()
        weight_figures.filters(s), weight_figures.top_neurons(s)
        for name in ("confusion", "reliability", "activations", "evidence-1"):
            try:
                visualize.FIGURES[name](s)
            except LeftOut as why:
                assert "overflow" in str(why)


# ---- Text ----


@pytest.mark.parametrize("name", ["bn", "windows", "mirrored"])
def test_all_text_is_legible_in_a_column(nets, data, name):
    s = visualize.Subject(nets / f"{name}.npz", *model.load(nets / f"{name}.npz"), data)
    for draw in visualize.FIGURES.values():
        if draw is weight_figures.batchnorm and not s.network.batchnorm:
            continue
        figure, _ = draw(s)
        assert figure.get_size_inches()[0] == 3.4
        assert min(text.get_fontsize() for text in figure.findobj(matplotlib.text.Text)) >= 8


def test_text_is_drawn_as_it_is():
    assert plots.drawable("a$b$\x1b[31m\n c") == r"a\$b\$?[31m c"
    assert len(plots.drawable("1" * 5000, 12)) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, axes = plots.grid(1, 1, 1)
        axes[0, 0].set_title(plots.drawable("\u732b $x^$ \U0001f600"))
        figure.draw_without_rendering()


# ---- Files ----


def linked(text):
    return set(re.findall(r'href="#([^"]*)"', text)), set(re.findall(r' id="([^"]*)"', text))


def test_all_figures_and_a_report_of_one_file(capsys, nets, synthetic_dir):
    code, out, err = call(
        capsys, nets / "bn.npz", "--data-dir", synthetic_dir, "--out", "all", "--dpi", 40
    )
    assert (code, err) == (0, "")
    report = Path("all/report.html")
    assert out == f"17 figures in all; open {report} to see them all\npage all/demo.html\n"
    files = {path.name for path in Path("all").iterdir()} - {"demo.html"}
    assert files == {
        "report.html",
        *(f"{name}.{kind}" for name in visualize.FIGURES for kind in ("png", "txt")),
    }
    text = report.read_text()
    for name in visualize.FIGURES:
        image = Image.open(f"all/{name}.png")
        assert image.width == 136  # 3.4 inches: the caption isn't in it
        assert image.convert("L").getextrema()[0] < 100, name
        found = re.search(
            rf'id="{name}"><h2>{name}</h2><img alt="[^"]*" src="data:image/png;base64,([^"]*)"',
            text,
        )
        assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == image.size
        assert Path(f"all/{name}.txt").read_text().count("\n") == 1
    assert not re.search(
        r"<script|https?:|//|@import|url\(|<link", re.sub(r'base64,[^"]*', "", text)
    )
    assert 'name="viewport"' in text
    links, anchors = linked(text)
    assert links == anchors
    info = model.load(nets / "bn.npz")[1]
    for row in (
        f"<td>data fingerprint</td><td>{info['data']['fingerprint']}</td>",
        "<td>command</td><td>python train.py <span>--shift</span> 2</td>",
        "<td>training time, h:mm:ss</td><td>0:02:31</td>",
        "<td>machine</td><td>a computer, 2 cores</td>",
        "<td>hidden_size</td><td>40</td>",
    ):
        assert row in text
    assert "<td>stride</td>" not in text  # without effect where units see the whole image
    data = cifar10.load(data_dir=synthetic_dir)
    m = metrics.measure(
        metrics.log_probabilities(model.load(nets / "bn.npz")[0], data.test_images),
        data.test_labels,
    )
    assert f"<td>accuracy</td><td>{m.accuracy:.2%}</td>" in text


def test_only_some_in_another_format(capsys, nets):
    for kind, start, only in (
        ("svg", b"<?xml", ["batchnorm"]),
        ("pdf", b"%PDF", ["batchnorm", "curves"]),
    ):
        for out in (kind, f"{kind}2"):
            flags = "--only", *only, "--format", kind, "--output_dir", out
            code, said, _ = call(capsys, "--model_path", nets / "bn.npz", *flags)
            assert (code, said) == (0, f"{len(only)} figure{'s' * (len(only) > 1)} in {out}\n")
        for name in only:
            content = Path(kind, f"{name}.{kind}").read_bytes()
            assert content.startswith(start)
            assert content == Path(f"{kind}2", f"{name}.{kind}").read_bytes()
        assert len(list(Path(kind).iterdir())) == 2 * len(only)
    assert Path("svg/batchnorm.txt").read_text().startswith("Batch normalisation's learned factor")


def few(monkeypatch, *names):
    """Let the command know these figures only, as all of them take long."""
    monkeypatch.setattr(visualize, "FIGURES", {name: visualize.FIGURES[name] for name in names})


def test_figures_that_a_checkpoint_cannot_have_are_left_out_with_the_reason(
    capsys, nets, synthetic_dir, monkeypatch
):
    few(monkeypatch, "curves", "batchnorm", "augmentation")
    flags = "--data-dir", synthetic_dir, "--dpi", 20
    code, out, err = call(capsys, nets / "report.npz", *flags, "--out", "r")
    assert code == 0
    assert "doesn't say which images it was trained on" in err
    assert "left out curves: the file holds weights only, not the history of a run\n" in out
    assert "left out augmentation: the file doesn't say how" in out
    assert "1 figure in r;" in out
    assert "<td>curves</td><td>the file holds weights only" in Path("r/report.html").read_text()
    code, out, _ = call(capsys, nets / "windows.npz", "--out", "f", *flags)
    assert code == 0
    assert "left out batchnorm: the network has no batch normalisation\n" in out
    assert "<td>stride</td><td>4</td>" in Path("f/report.html").read_text()


def test_without_images_the_other_figures_are_drawn(capsys, nets, monkeypatch):
    def fail(*_, **__):
        raise cifar10.DataError("no network")

    few(monkeypatch, "features", "confusion", "activations")
    monkeypatch.setattr(cifar10, "load", fail)
    code, out, _ = call(capsys, nets / "windows.npz", "--dpi", 20, "--out", "f")
    assert code == 0
    for name in ("confusion", "activations"):
        assert f"left out {name}: there are no images (no network)" in out
    assert Path("f/features.png").exists()
    assert "Not tested: there are no images" in Path("f/report.html").read_text()
    assert call(capsys, nets / "bn.npz", "--dataset", "synthetic")[0] == 2


def test_flags_without_effect_are_a_note(capsys, nets):
    code, out, err = call(
        capsys, nets / "bn.npz", "--only", "curves", "--data-dir", "x", "--out", "c", "--dpi", 20
    )
    assert (code, out) == (0, "1 figure in c\n")
    assert err == "--data-dir x: without effect, as these figures need no images\n"


def test_without_a_name_it_says_which_checkpoint(capsys, nets, monkeypatch):
    monkeypatch.setattr(visualize, "default_checkpoint", lambda folder: nets / "bn.npz")
    code, out, _ = call(capsys, "--only", "curves", "--out", "c", "--dpi", 20)
    assert code == 0
    assert out.startswith(f"no checkpoint named; this is {nets / 'bn.npz'}\n")


def test_a_page_that_would_be_too_large_is_left_out_with_the_reason(
    capsys, nets, synthetic_dir, monkeypatch
):
    few(monkeypatch, "curves")

    def refuse(*_, **__):
        raise ValueError("it is too large")

    monkeypatch.setattr(visualize, "write_demo", refuse)
    code, out, _ = call(
        capsys, nets / "bn.npz", "--data-dir", synthetic_dir, "--out", "p", "--dpi", 20
    )
    assert code == 0
    assert out.endswith("left out demo.html: it is too large\n")
    assert not Path("p/demo.html").exists()


def test_nothing_of_a_checkpoint_is_trusted(capsys, data, monkeypatch):
    few(monkeypatch, "curves", "augmentation")
    network = model.Network(4, seed=0)
    strange = {"hidden_size": "1" * 5000, "\u4e2d$<b>": "\x1b[31m" * 100, "shift": 10**30}
    network.save(
        "a.npz",
        {
            "settings": strange,
            "data": [],
            "command": 3,
            "machine": {},
            "history": {"val_loss": "x"},
        },
    )
    code, out, _ = call(capsys, "a.npz", "--out", "a", "--dpi", 20, "--data-dir", data.folder)
    assert code == 0
    assert "left out curves: the file's history is not one of train.py's" in out
    text = Path("a/report.html").read_text()
    assert "<b>" not in text
    assert "\x1b" not in text
    assert max(map(len, re.findall("1+", text))) < 100


# ---- Several runs ----


def test_several_runs_in_one_figure_with_what_differs(capsys, data):
    for name, options in {
        "a": {},
        "b": {"shift": 3, "dropout": 0.2},
        "c": {"schedule": "cosine"},
    }.items():
        history = {key: values[: 2 + (name == "a")] for key, values in HISTORY.items()}
        model.Network(4, seed=0).save(f"{name}.npz", info_of(data, history, **options))
    code, out, err = call(capsys, "a.npz", "b.npz", "c.npz", "--out", "abc", "--dpi", 40)
    assert (code, err) == (0, "")
    assert out == "1 figure in abc; open abc/report.html to see them all\n"
    assert {path.name for path in Path("abc").iterdir()} == {
        "curves.png",
        "curves.txt",
        "report.html",
    }
    text = Path("abc/report.html").read_text()
    assert "<th></th><th>a</th><th>b</th><th>c</th>" in text
    assert "<td>shift</td><td>0</td><td>3</td><td>0</td>" in text
    assert "<td>epochs trained</td><td>3</td><td>2</td><td>2</td>" in text
    assert (
        "<td>step_decay</td><td>0.5</td><td>0.5</td><td></td>" in text
    )  # without effect in a cosine
    assert "<td>hidden_size</td>" not in text
    figure, _ = visualize.compared({"a": info_of(data), "b": info_of(data)})
    assert list(figure.axes[0].lines[0].get_ydata()) == HISTORY["val_loss"]
    for again in ("a.npz", "abc/../a.npz"):
        assert call(capsys, "a.npz", again)[2].endswith(
            "a checkpoint is named twice; name each once\n"
        )


@pytest.mark.parametrize("length", [15, 60])  # too long for a legend, and for a report
def test_runs_whose_long_names_differ_only_in_the_middle_are_told_apart(length, capsys, data):
    paths = [Path("x" * length, run, "y" * length, "net.npz") for run in "ab"]
    for path in paths:
        path.parent.mkdir(parents=True)
        model.Network(4, seed=0).save(path, info_of(data))
    code, _, err = call(capsys, *paths, "--dpi", 20, "--out", "c")
    assert code == 0, err
    text = Path("c/report.html").read_text()
    assert ">1 xxx" in text and ">2 xxx" in text


# ---- Errors ----


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["gone.npz"], "gone.npz: no such checkpoint"),
        (["broken.npz"], "broken.npz: is"),
        (
            ["good.csv", "BN"],
            "good.csv: a search's results are drawn by themselves; name no other file",
        ),
        (["BN", "REPORT"], "report.npz: has no curves, as the file holds weights only"),
        (["BN", "REPORT", "--only", "filters"], "there are curves"),
        (["BN", "--only", "search-grid"], "--only search-grid: is no figure of"),
        (
            ["REPORT", "--only", "curves"],
            "--only curves: can't be drawn, as the file holds weights only",
        ),
        (["BN", "--data-dir", "."], "is no folder of CIFAR-10 batches"),
        (["BN", "--threads", "0"], "--threads: '0' is no integer from 1"),
        (["BN", "--dpi", "5"], "--dpi: '5' is no integer from 20 to 1200"),
        (["BN", "--show"], "--show: there is no window system here"),
        (["BN", "--format", "gif"], "invalid choice: 'gif'"),
        (["BN", "--only", "curves", "--out", "good.csv"], "good.csv: is no folder"),
    ],
)
def test_errors_are_one_line(capsys, nets, tmp_path, flags, message):
    (tmp_path / "broken.npz").write_text("no zip")
    (tmp_path / "good.csv").write_text("trial\n")
    names = {"BN": nets / "bn.npz", "REPORT": nets / "report.npz"}
    code, out, err = call(capsys, *(names.get(flag, flag) for flag in flags))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_help_names_the_figures(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(name in out for name in visualize.FIGURES)


def test_the_script_itself(run, nets):
    done = run("visualize.py", nets / "bn.npz", "--only", "curves", "--out", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 figure in x\n", "")
    broken = run("visualize.py", "gone.npz")
    assert broken.returncode == 2
    assert broken.stderr.startswith("visualize.py: error: gone.npz: ")


# ---- The README's claims ----


def test_claims_are_measured_or_refused(capsys, nets, data, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import claims

    network = train.Run(train.Settings(hidden_size=64), data).network
    network.save("start.npz", info_of(data, hidden_size=64))
    monkeypatch.setattr(
        sys, "argv", ["claims.py", "start.npz", "--data-dir", str(data.folder), "--threads", "1"]
    )
    assert claims.main() == 0
    out = capsys.readouterr().out
    assert "cosine of a picture with the mean input gradient" in out
    assert re.search(r"quiet units +0 of 64", out)
    monkeypatch.setattr(
        sys, "argv", ["claims.py", str(nets / "windows.npz"), "--data-dir", str(data.folder)]
    )
    with pytest.raises(visualize.UserError, match="units that see the pixels of the whole image"):
        claims.main()
