"""support/search_figures.py: a search's results as visualize.py draws them, and what else calls itself a CSV."""

import re
import warnings
from functools import partial
from pathlib import Path

import visualize
from support import locks
from support.figures import searches as search_figures
from support.figures import style as plots
from support.figures.style import LeftOut

import matplotlib
import pytest
from conftest import called

matplotlib.use("Agg")
call = partial(called, visualize.main)  # call(capsys, *argv)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context(plots.style()):
        yield
    visualize.plt.close("all")


CSV = (
    "trial,hidden_size,learning_rate,lambda_reg,repeat,seed,status,val_accuracy,val_loss,best_epoch,epochs,seconds,"
    "test_accuracy,checkpoint,reason"
)


def results(path, rows):
    """Write a results.csv of (hidden size, learning rate, validation accuracy, seconds) rows."""
    lines = []
    for i, (hidden, rate, accuracy, seconds) in enumerate(rows):
        status, reason = ("ok", "") if accuracy else ("diverged", "loss nan")
        lines.append(
            f"t{i},{hidden},{rate},0.01,{i % 2},{i},{status},{accuracy},1.2,3,5,{seconds},,x.npz,{reason}"
        )
    path.write_text("\n".join([CSV, *lines]) + "\n")
    return path


def test_who_is_searching_is_said_in_one_line(capsys, tmp_path):
    (tmp_path / "out").mkdir()
    path = results(tmp_path / "out" / "results.csv", [(512, 0.01, 0.5, 10), (1024, 0.01, 0.6, 20)])
    flags = ("--only", "search-grid", "--dpi", 20, "--out", "figures")
    with locks.locked(tmp_path / "out", "a search"):
        code, _, error = call(capsys, path, *flags)
    assert code == 0 and error.count("\n") == 1
    assert (
        error.startswith("out: in use by a search, process ")
        and "these are its trials until now" in error
    )
    (tmp_path / "out.lock").touch()  # left by a kill
    assert call(capsys, path, *flags)[::2] == (0, "")


def test_a_search_is_drawn_over_its_settings_and_against_cost(capsys, tmp_path):
    rows = [
        (512, 0.01, 0.5, 10),
        (512, 0.01, 0.54, 12),
        (1024, 0.01, 0.6, 20),
        (1024, 0.005, 0.55, 21),
    ]
    path = results(tmp_path / "results.csv", [*rows, (512, 0.005, "", 3)])
    code, out, _ = call(capsys, path, "--out", "s", "--dpi", 40)
    assert code == 0
    assert out.startswith("2 figures in s; open")
    files = {f"search-{name}.{kind}" for name in ("grid", "cost") for kind in ("png", "txt")}
    assert {file.name for file in Path("s").iterdir()} == {"report.html", *files}
    assert (
        "<td>t2</td><td>60.00%</td><td>20</td><td>1024</td><td>0.01</td>"
        in Path("s/report.html").read_text()
    )
    search = search_figures.read_search(path)
    assert search.settings == ["hidden_size", "learning_rate"]  # lambda_reg has one value
    ax = search_figures.search_grid(search)[0].axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["512", "1024"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.005", "0.01"]
    assert [text.get_text() for text in ax.texts] == ["none", "55.0", "52.0", "60.0"]
    figure, caption = search_figures.search_cost(search)
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "x"]
    dots = sorted((x, y) for line in lines for x, y in zip(*line.get_data(), strict=True))
    assert dots == [(10, 50), (12, 54), (20, 60), (21, pytest.approx(55))]
    looks = {(line.get_marker(), matplotlib.colors.to_hex(line.get_color())) for line in lines}
    assert len(looks) == 3  # each pair of values looks different
    assert "1 of 5 trials" in caption


def test_a_search_over_one_or_many_values(tmp_path):
    one = search_figures.read_search(
        results(tmp_path / "a.csv", [(64, 0.01, 0.5, 1), (128, 0.01, 0.6, 2)])
    )
    ax = search_figures.search_grid(one)[0].axes[0]
    assert ax.collections[0].get_offsets().tolist() == [[64, 50], [128, 60]]
    drawn = [(2**i, 10 ** -(1 + i / 4), 0.3 + i / 100, i + 1) for i in range(1, 12)]
    ax = search_figures.search_grid(search_figures.read_search(results(tmp_path / "b.csv", drawn)))[
        0
    ].axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert len(ax.collections[0].get_offsets()) == 11
    same = search_figures.read_search(results(tmp_path / "c.csv", [(64, 0.01, 0.5, 1)]))
    with pytest.raises(LeftOut, match="no setting has more than one value"):
        search_figures.search_grid(same)


STRANGE = (
    "",
    "9" * 5000,
    "inf",
    "nan",
    "1e308",
    "-1",
    "a$b$",
    "\u4e2d\u6587",
    "\x1b[31m",
    '"x,y"',
    "1e-300",
)


def test_strange_values_of_a_search_are_drawn_or_left_out(capsys, tmp_path):
    rows = [(value, other, 0.5, 1) for value in STRANGE for other in (1, 2)]
    rows += [(1, 2, value, value) for value in STRANGE] + [("x", 1, 1e308, 5), ("x", 1, 0.4, 1e29)]
    path = results(tmp_path / "strange.csv", rows)
    with path.open("a") as file:
        file.write("short,1\n\n" + "long," * 40 + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, err = call(capsys, path, "--out", "s", "--dpi", 20)
    assert (code, err) == (0, "")
    text = Path("s/report.html").read_text()
    assert "\x1b" not in text
    assert max(map(len, re.findall("9+", text))) < 100


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["gone.csv"], "gone.csv: is missing; name the results.csv of search.py"),
        (["other.csv"], "other.csv: has no column 'trial'; name the results.csv of search.py"),
        (["nothing.csv"], "nothing.csv: has no column 'trial'"),
        (["empty.csv"], "empty.csv: no trial in it has a validation accuracy yet"),
        (["binary.csv"], "binary.csv: is damaged"),
        (["wide.csv"], "wide.csv: is damaged"),
        (
            ["good.csv", "--only", "curves"],
            "--only curves: is no figure of good.csv; there are search-grid, search",
        ),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, flags, message):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "empty.csv").write_text(CSV + "\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "wide.csv").write_text(CSV + "\n" + "x" * 200_000 + "\n")
    results(tmp_path / "good.csv", [(64, 0.01, 0.5, 1)])
    code, out, err = call(capsys, *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
