"""visualize.py: its files, its report, its errors as a user meets them."""

import base64
import io
import os
import re
import sys
from functools import partial
from pathlib import Path

import model
import train
import visualize
from data import cifar10, download
from support.figures.style import drawing
from support.network import metrics

import pytest
from figures import HISTORY, info_of, save_networks
from helpers import ROOT, called
from PIL import Image

call = partial(called, visualize.main)  # call(capsys, *argv)


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    return save_networks(tmp_path_factory.mktemp("nets"), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    visualize.plt.close("all")


def few(monkeypatch, *names):
    """Let the command know these figures only, as all of them take long."""
    kinds = {name: visualize.FIGURES[name] for name in names}
    monkeypatch.setattr(visualize, "FIGURES", kinds)


# ---- Files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(nets, synthetic_dir, tmp_path_factory):
    """A folder with all that one checkpoint gives, and what the command printed."""
    out = tmp_path_factory.mktemp("everything")
    done = io.StringIO()
    before, sys.stdout = sys.stdout, done
    try:
        visualize.main(
            [str(nets / "bn.npz"), "--data-dir", str(synthetic_dir), "--out", str(out), "--dpi=40"]
        )
    finally:
        sys.stdout = before
    return out, done.getvalue()


def test_all_figures_have_a_file_and_a_caption(everything):
    out, said = everything
    names = {f"{name}.{kind}" for name in visualize.FIGURES for kind in ("png", "txt")}
    assert {path.name for path in out.iterdir()} == {*names, "report.html", "demo.html"}
    assert f"17 figures in {out}" in said
    assert f"report in {out / 'report.html'}" in said
    for name in visualize.FIGURES:
        image = Image.open(out / f"{name}.png")
        assert image.width == 136  # 3.4 inches
        assert image.convert("L").getextrema()[0] < 100, name
        assert (out / f"{name}.txt").read_text().count("\n") == 1


def test_the_report_has_each_figure_with_its_title_and_caption(everything):
    out, _ = everything
    text = (out / "report.html").read_text()
    for name, kind in visualize.FIGURES.items():
        part = re.search(rf'<figure id="{name}">.*?</figure>', text, re.S)[0]
        assert f"<h2>{kind.title}</h2>" in part
        image = base64.b64decode(re.search(r"base64,([^\"]*)", part)[1])
        assert Image.open(io.BytesIO(image)).size == Image.open(out / f"{name}.png").size


def test_the_report_needs_no_other_file(everything):
    out, _ = everything
    text = re.sub(r'base64,[^"]*', "", (out / "report.html").read_text())
    assert not re.search(r"<script|https?:|//|@import|url\(|<link", text)


def test_the_report_links_to_all_its_parts_and_to_the_demo(everything):
    out, _ = everything
    text = (out / "report.html").read_text()
    links, anchors = (
        set(re.findall(r'href="#([^"]*)"', text)),
        set(re.findall(r' id="([^"]*)"', text)),
    )
    assert links == anchors
    assert 'href="demo.html"' in text


def test_the_report_has_the_run(everything, nets):
    text = (everything[0] / "report.html").read_text()
    info = model.load(nets / "bn.npz")[1]
    for row in (
        f"<td>data fingerprint</td><td>{info['data']['fingerprint']}</td>",
        "<td>command</td><td>python train.py <span>--shift</span> 2</td>",
        "<td>training time, h:mm:ss</td><td>0:02:31</td>",
        "<td>machine</td><td>a computer, 2 cores</td>",
        "<td>hidden_<wbr>size</td><td>40</td>",
    ):
        assert row in text
    assert "<td>stride</td>" not in text  # without effect if units see the whole image


def test_the_report_has_the_test_figures(everything, nets, data):
    text = (everything[0] / "report.html").read_text()
    log_y = metrics.log_probabilities(model.load(nets / "bn.npz")[0], data.test_images)
    accuracy = metrics.measure(log_y, data.test_labels).accuracy
    assert f"<td>accuracy</td><td>{accuracy:.2%}</td>" in text


def test_every_figure_of_drawn_images_says_so(everything):
    out, _ = everything
    assert "drawn shapes, no photographs" in (out / "report.html").read_text()
    for name in visualize.FIGURES:
        assert "synthetic images: drawn shapes" in (out / f"{name}.txt").read_text().lower(), name


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_some_figures_in_another_format(capsys, nets, kind, start):
    for out in ("one", "two"):
        flags = "--only", "batchnorm", "curves", "--format", kind, "--output_dir", out
        code, said, _ = call(capsys, "--model_path", nets / "bn.npz", *flags)
        assert (code, said) == (0, f"2 figures in {out}\n")
    content = Path("one", f"batchnorm.{kind}").read_bytes()
    assert content.startswith(start)
    assert content == Path("two", f"batchnorm.{kind}").read_bytes()
    assert len(list(Path("one").iterdir())) == 4


def test_only_the_report(capsys, nets, synthetic_dir, monkeypatch):
    few(monkeypatch, "curves", "confusion")
    flags = "--data-dir", synthetic_dir, "--dpi", 20, "--out", "r"
    code, out, _ = call(capsys, nets / "bn.npz", "--only", "report", *flags)
    assert (code, out) == (0, "report in r/report.html\n")
    assert os.listdir("r") == ["report.html"]
    assert Path("r/report.html").read_text().count("<figure") == 2


@pytest.mark.parametrize("name", ["mirrored", "dense"])
def test_all_figures_of_two_sided_networks(capsys, nets, synthetic_dir, monkeypatch, name):
    few(monkeypatch, "filters", "features", "votes-1")
    flags = "--data-dir", synthetic_dir, "--dpi", 20, "--out", "all"
    code, out, err = call(capsys, nets / f"{name}.npz", *flags)
    assert (code, err) == (0, "")
    assert out.startswith("demo in all/demo.html\n3 figures in all\n")
    assert "also mirrored, two-sided" in Path("all/report.html").read_text()
    assert "with the sign of its filter reversed" in Path("all/filters.txt").read_text()


def test_only_the_demo_draws_no_figure(capsys, nets, monkeypatch):
    monkeypatch.setattr(visualize, "draw", None)
    code, out, _ = call(capsys, nets / "bn.npz", "--only", "demo", "--out", "d")
    assert (code, out) == (0, "demo in d/demo.html\n")
    assert os.listdir("d") == ["demo.html"]


def test_a_demo_with_filters_further_apart_says_so(capsys, nets, monkeypatch):
    monkeypatch.setattr("support.figures.demo.demo.ACTIVATIONS", 1000)
    code, out, _ = call(capsys, nets / "mirrored.npz", "--only", "demo", "--out", "d")
    assert code == 0
    assert out.startswith("demo in d/demo.html; its filters are applied every 12 pixels, in the ")
    assert "every 12 pixels, in the checkpoint every 4" in Path("d/demo.html").read_text()


def test_a_page_that_would_be_too_large_is_left_out_with_the_reason(capsys, nets, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("it is too large")

    few(monkeypatch, "curves")
    monkeypatch.setattr(visualize, "write_demo", refuse)
    code, out, _ = call(capsys, nets / "bn.npz", "--out", "p", "--dpi", 20)
    assert code == 0
    assert "left out demo.html: it is too large\n" in out
    assert not Path("p/demo.html").exists()
    code, _, err = call(capsys, nets / "bn.npz", "--only", "demo", "--out", "p")
    assert code == 2
    assert "--only demo: it is too large" in err


# ---- Checkpoints that lack something -------------------------------------------------------------


def test_figures_that_a_checkpoint_cannot_have_are_left_out_with_the_reason(
    capsys, nets, synthetic_dir, monkeypatch
):
    few(monkeypatch, "curves", "batchnorm", "augmentation")
    flags = "--data-dir", synthetic_dir, "--dpi", 20, "--out", "r"
    code, out, err = call(capsys, nets / "report.npz", *flags)
    assert code == 0
    assert "doesn't say which images it was trained on" in err
    assert "left out curves: the file holds weights only" in out
    assert "left out augmentation: the file doesn't say how" in out
    assert "1 figure in r\n" in out
    assert "<td>curves</td><td>the file holds weights only" in Path("r/report.html").read_text()


def no_images(monkeypatch):
    def fail(*_, **__):
        raise cifar10.DataError("no network")

    monkeypatch.setattr(cifar10, "load", fail)


def test_without_images_the_other_figures_are_drawn(capsys, nets, monkeypatch):
    few(monkeypatch, "features", "confusion", "firing")
    no_images(monkeypatch)
    code, out, _ = call(capsys, nets / "windows.npz", "--dpi", 20, "--out", "f")
    assert code == 0
    assert "left out confusion, firing: there are no images (no network; see --data-dir)\n" in out
    assert Path("f/features.png").exists()
    assert "Not tested: there are no images" in Path("f/report.html").read_text()


def test_filters_without_images_say_that_patches_are_missing(capsys, nets, monkeypatch):
    no_images(monkeypatch)
    code, out, _ = call(
        capsys, nets / "windows.npz", "--only", "filters", "--dpi", 20, "--out", "f"
    )
    assert code == 0
    assert out.startswith("filters without patches: there are no images (")
    assert "patches need training images" in Path("f/filters.txt").read_text()


def test_a_failed_download_leaves_out_figures_in_a_short_line():
    error = download.Unreachable("cifar-10-python.tar.gz: cannot be fetched; " + "x" * 300)
    text = "there are no images (none could be fetched; see --data-dir)"
    assert visualize.why_no_images(error) == text


def test_a_folder_without_permission_to_write_is_refused_first(capsys, nets, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    monkeypatch.setattr(visualize, "draw", None)
    code, _, err = call(capsys, nets / "bn.npz")
    assert code == 2
    assert "bn: is not writable; choose another --out" in err
    assert err.count("\n") == 1


def test_images_that_were_asked_for_have_to_be_there(capsys, nets, monkeypatch):
    no_images(monkeypatch)
    assert call(capsys, nets / "bn.npz", "--dataset", "synthetic")[0] == 2


def test_a_file_without_names_has_those_of_cifar10_not_of_drawn_shapes(
    capsys, nets, data, monkeypatch
):
    """The drawn images, the way out if CIFAR-10 can't be had, are none of such a file's."""
    few(monkeypatch, "top-neurons", "features")
    asked = []

    def load(dataset, *_, **__):
        asked.append(dataset)
        if dataset == "cifar10":
            raise cifar10.DataError("no network")
        return data

    monkeypatch.setattr(cifar10, "load", load)
    task = visualize.parse([str(nets / "report.npz"), "--out", "x"])
    subject = visualize.load_subject(task)
    assert asked == ["cifar10"]
    assert subject.names[0] == "airplane"


def test_flags_without_effect_are_a_note(capsys, nets):
    flags = "--only", "curves", "--data-dir", "x", "--out", "c", "--dpi", 20
    code, out, err = call(capsys, nets / "bn.npz", *flags)
    assert (code, out) == (0, "1 figure in c\n")
    assert err.count("\n") == 1
    assert err.startswith("--data-dir x: without effect")


def test_without_a_name_it_says_which_checkpoint(capsys, nets, monkeypatch):
    monkeypatch.setattr("support.checkpoints.default_checkpoint", lambda folder: nets / "bn.npz")
    code, out, _ = call(capsys, "--only", "curves", "--out", "c", "--dpi", 20)
    assert code == 0
    assert out.startswith(f"no checkpoint named; this is {nets / 'bn.npz'}\n")


def test_nothing_in_a_checkpoint_is_trusted(capsys, data, monkeypatch):
    few(monkeypatch, "curves", "augmentation")
    strange = {"hidden_size": "1" * 5000, "\u4e2d$<b>": "\x1b[31m" * 100, "shift": 10**30}
    info = {"settings": strange, "data": [], "command": 3, "machine": {}}
    model.Network(4, seed=0).save("a.npz", info | {"history": {"val_loss": "x"}})
    code, out, _ = call(capsys, "a.npz", "--out", "a", "--dpi", 20, "--data-dir", data.folder)
    assert code == 0
    assert "left out curves: the file's history is not one of train.py's" in out
    text = Path("a/report.html").read_text()
    assert "<b>" not in text
    assert "\x1b" not in text
    assert max(map(len, re.findall("1+", text))) < 100


def test_class_names_in_any_script_are_drawn_or_reported(capsys, nets, monkeypatch):
    network, info = model.load(nets / "bn.npz")
    info["data"]["class_names"] = ["猫", "狗", "鸟", "$1", "😀", "قط", "बिल्ली", "a", "b", "c"]
    network.save("odd.npz", info)
    flags = "--only", "output-weights", "--out", "o", "--dpi", 20
    code, _, err = call(capsys, "odd.npz", *flags)
    assert code == 0
    assert "Warning" not in err
    assert err.count("\n") <= 1


# ---- Several runs --------------------------------------------------------------------------------


@pytest.fixture
def three_runs(data):
    runs = {"a": {}, "b": {"shift": 3, "dropout": 0.2}, "c": {"schedule": "cosine"}}
    for name, options in runs.items():
        epochs = 3 if name == "a" else 2
        history = {key: values[:epochs] for key, values in HISTORY.items()}
        model.Network(4, seed=0).save(f"{name}.npz", info_of(data, history, **options))


def test_several_runs_are_compared(capsys, three_runs):
    code, out, err = call(capsys, "a.npz", "b.npz", "c.npz", "--out", "abc", "--dpi", 40)
    assert (code, err) == (0, "")
    assert out == "1 figure in abc\nreport in abc/report.html\n"
    assert {path.name for path in Path("abc").iterdir()} == {
        "curves.png",
        "curves.txt",
        "report.html",
    }
    text = Path("abc/report.html").read_text()
    assert "<th></th><th>a</th><th>b</th><th>c</th>" in text
    assert "<td>shift</td><td>0</td><td>3</td><td>0</td>" in text
    assert "<td>epochs trained</td><td>3</td><td>2</td><td>2</td>" in text
    # A cosine has no steps.
    assert "<td>step_<wbr>decay</td><td>0.5</td><td>0.5</td><td></td>" in text
    assert "<td>hidden_<wbr>size</td>" not in text


@pytest.mark.parametrize("again", ["a.npz", "abc/../a.npz"])
def test_a_run_is_named_once(capsys, three_runs, again):
    Path("abc").mkdir()
    code, _, err = call(capsys, "a.npz", again)
    assert code == 2
    assert "a checkpoint is named twice" in err


@pytest.mark.parametrize("length", [15, 60])  # too long for a legend, and for a report
def test_runs_whose_long_names_differ_only_in_the_middle_are_told_apart(length, capsys, data):
    paths = [Path("x" * length, run, "y" * length, "net.npz") for run in "ab"]
    for path in paths:
        path.parent.mkdir(parents=True)
        model.Network(4, seed=0).save(path, info_of(data))
    code, _, err = call(capsys, *paths, "--dpi", 20, "--out", "c")
    assert code == 0, err
    text = Path("c/report.html").read_text()
    assert ">1 xxx" in text
    assert ">2 xxx" in text


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["gone.npz"], ["gone.npz: no such checkpoint"]),
        (["broken.npz"], ["broken.npz: is"]),
        (["good.csv", "BN"], ["good.csv", "name no other file"]),
        (["BN", "REPORT"], ["report.npz: has no curves", "weights only"]),
        (["BN", "REPORT", "--only", "filters"], ["--only filters", "curves"]),
        (["BN", "REPORT", "--only", "demo"], ["--only demo", "curves"]),
        (["BN", "--only", "search-grid"], ["--only search-grid"]),
        (["REPORT", "--only", "curves"], ["--only curves", "weights only"]),
        (["BN", "--data-dir", "."], ["CIFAR-10"]),
        (["BN", "--threads", "0"], ["--threads", "from 1"]),
        (["BN", "--dpi", "5"], ["--dpi", "from 20 to 1200"]),
        (["BN", "--show"], ["--show: there is no window system here"]),
        (["BN", "--format", "gif"], ["'gif'"]),
        (["BN", "--background", "9"], ["--background", "whole image"]),
        (["BN", "--background", "9", "--only", "filters"], ["--background", "votes-1", "leave it"]),
        (["BN", "REPORT", "--background", "9"], ["--background", "votes-1", "leave it out"]),
        (["BN", "--only", "report", "--format", "pdf"], ["--format", "no figure", "leave it out"]),
        (["BN", "--only", "curves", "--out", "good.csv"], ["good.csv: is not a folder"]),
    ],
)
def test_errors_are_one_line(capsys, nets, tmp_path, flags, parts):
    (tmp_path / "broken.npz").write_text("no zip")
    (tmp_path / "good.csv").write_text("trial\n")
    names = {"BN": nets / "bn.npz", "REPORT": nets / "report.npz"}
    code, out, err = call(capsys, *(names.get(flag, flag) for flag in flags))
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err
    assert err.count("\n") == 1


def test_help_names_the_figures_and_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for name in (*visualize.FIGURES, "report", "demo"):
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", out), name
    assert max(map(len, out.splitlines())) <= 80


# ---- The script itself ---------------------------------------------------------------------------


def test_the_script_itself(run, nets):
    done = run("visualize.py", nets / "bn.npz", "--only", "curves", "--out", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 figure in x\n", "")
    broken = run("visualize.py", "gone.npz")
    assert broken.returncode == 2
    assert broken.stderr.startswith("visualize.py: error: gone.npz: ")


@pytest.mark.parametrize("backend", ["module://no_such_package.backend", "nonsense", "TkAgg"])
def test_any_backend_of_another_program_is_passed_over(run, nets, backend):
    variables = os.environ | {"MPLBACKEND": backend}
    flags = "--only", "curves", "--out", "x", "--dpi", 20
    done = run("visualize.py", nets / "bn.npz", *flags, env=variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["module://no_such_package.backend", "nonsense", "TkAgg"])
def test_show_with_a_backend_that_fails_names_mplbackend(run, nets, backend):
    variables = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    flags = "--only", "filters", "--out", "x", "--show"
    done = run("visualize.py", nets / "bn.npz", *flags, env=variables | {"MPLBACKEND": backend})
    assert done.returncode == 2
    assert f"MPLBACKEND={backend}" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- The claims of docs/figures.md ---------------------------------------------------------------


def claims_of(monkeypatch, *argv):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import claims

    monkeypatch.setattr(sys, "argv", ["claims.py", *map(str, argv)])
    return claims.main()


def test_claims_are_measured(capsys, data, monkeypatch):
    network = train.Run(train.Settings(hidden_size=64), data).network
    network.save("start.npz", info_of(data, hidden_size=64))
    assert claims_of(monkeypatch, "start.npz", "--data-dir", data.folder, "--threads", 1) == 0
    out = capsys.readouterr().out
    assert "cosine of a picture with the mean input gradient" in out
    assert re.search(r"quiet units +0 of 64", out)


def test_claims_about_other_networks_are_refused(nets, data, monkeypatch):
    with pytest.raises(visualize.UserError, match="whole image"):
        claims_of(monkeypatch, nets / "windows.npz", "--data-dir", data.folder)


def test_drawing_leaves_no_trace_in_matplotlibs_settings():
    before = dict(visualize.matplotlib.rcParams)
    with drawing():
        pass
    assert dict(visualize.matplotlib.rcParams) == before
