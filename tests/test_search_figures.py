"""Figures of a search's results.csv, and other files with that ending."""

import csv
import re
import warnings
from functools import partial
from pathlib import Path

import visualize
from support import locks
from support.cli import UserError
from support.figures import searches
from support.figures.style import LeftOut, style
from support.searching import tables

import matplotlib
import pytest
from helpers import called

matplotlib.use("Agg")
call = partial(called, visualize.main)  # call(capsys, *argv)
HEAD = ["trial", "hidden_size", "learning_rate", "lambda_reg", *tables.COLUMNS]
FOUR = [(512, 0.01, 0.5, 10), (512, 0.01, 0.54, 12), (1024, 0.01, 0.6, 20), (1024, 0.005, 0.55, 21)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context(style()):
        yield
    visualize.plt.close("all")


def name_of(i):
    return f"{i:010x}"


def write_results(path, rows, statuses=None):
    """Write a results.csv of (hidden size, learning rate, validation accuracy, seconds) rows."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEAD, restval="")
        writer.writeheader()
        for i, (hidden, rate, accuracy, seconds) in enumerate(rows):
            status = "diverged" if accuracy == "" else "ok"
            row = {
                "trial": name_of(i),
                "hidden_size": hidden,
                "learning_rate": rate,
                "lambda_reg": 0.01,
                "repeat": 1,
                "status": statuses[i] if statuses else status,
                "val_accuracy": accuracy,
                "seconds": seconds,
            }
            writer.writerow(row)
    return path


def write_curve(folder, i, accuracies):
    lines = [f"{epoch},{accuracy}" for epoch, accuracy in enumerate(accuracies, 1)]
    text = "\n".join(["epoch,val_accuracy", *lines]) + "\n"
    (folder / f"{name_of(i)}.csv").write_text(text)


def read(path, rows, **options):
    return searches.read_search(write_results(path, rows, **options))


@pytest.fixture
def search(tmp_path):
    """A search over two settings, with a trial that diverged, and with learning curves."""
    folder = tmp_path / "out"
    write_results(folder / "results.csv", [*FOUR, (512, 0.005, "", 3)])
    for i, (_, _, accuracy, _) in enumerate(FOUR):
        write_curve(folder, i, [0.3, accuracy, 0.4])
    return searches.read_search(folder / "results.csv")


# ---- The page ---------------------------------------------------------------------------------


def test_a_search_is_drawn_into_a_folder_with_a_page(search, capsys):
    code, out, _ = call(capsys, "out/results.csv", "--out", "s", "--dpi", 40)
    assert code == 0
    assert "4 figures in s" in out
    assert "left out search-parallel" in out
    drawn = {file.stem for file in Path("s").glob("*.png")}
    assert drawn == {"search-curves", "search-effects", "search-grid", "search-cost"}
    text = Path("s/report.html").read_text()
    assert f"<td>{name_of(2)}</td><td>60.00%</td><td>20</td><td>1024</td><td>0.01</td>" in text


def test_the_search_in_progress_is_named_in_one_line(search, capsys):
    flags = ("--only", "search-grid", "--dpi", 20, "--out", "figures")
    with locks.locked("out", "a search"):
        code, _, error = call(capsys, "out/results.csv", *flags)
    assert code == 0
    assert error.count("\n") == 1
    assert error.startswith("out: in use by a search, process ")


def test_a_lock_file_that_nobody_holds_is_no_search_in_progress(search, capsys):
    Path("out.lock").touch()
    flags = ("--only", "search-grid", "--dpi", 20, "--out", "figures")
    assert call(capsys, "out/results.csv", *flags)[::2] == (0, "")


# ---- Each figure ------------------------------------------------------------------------------


def test_only_settings_that_differ_are_drawn(search):
    assert search.settings == ["hidden_size", "learning_rate"]


def test_curves_have_a_line_for_each_trial_and_the_best_coloured(search):
    figure, caption = searches.search_curves(search)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    orange = [line for line in lines if line.get_color() == searches.ORANGE]
    assert len(lines) == 4 + 1  # the best is drawn again, on top
    assert [line.get_ydata().tolist() for line in orange] == [pytest.approx([30, 60, 40])]
    assert "1 of 5 trials left no network" in caption


def test_repeats_of_the_best_setting_are_coloured_also(tmp_path):
    rows = [(64, 0.1, 0.5, 1), (64, 0.1, 0.6, 1), (32, 0.1, 0.4, 1)]
    found = read(tmp_path / "results.csv", rows)
    for i in range(3):
        write_curve(tmp_path, i, [0.1, rows[i][2]])
    figure, caption = searches.search_curves(searches.read_search(tmp_path / "results.csv"))
    orange = [line for line in figure.axes[0].lines if line.get_color() == searches.ORANGE]
    assert sorted(len(line.get_xdata()) for line in orange) == [1, 2, 2]
    assert "repeats" in caption
    assert found.best.name == name_of(1)


@pytest.mark.parametrize("text", [None, "", "epoch\n1\n", "epoch,val_accuracy\n1,nan\n", "\0"])
def test_curves_without_histories_are_left_out(text, tmp_path):
    if text is not None:
        (tmp_path / f"{name_of(0)}.csv").write_text(text)
    with pytest.raises(LeftOut, match="no history"):
        searches.search_curves(read(tmp_path / "results.csv", FOUR[:1]))


def test_effects_show_mean_and_spread_of_each_value(search):
    groups = searches.groups_of(search, "hidden_size")
    assert [group.mean for group in groups] == pytest.approx([52, 57.5])
    assert [group.std for group in groups] == pytest.approx([2, 2.5])


@pytest.mark.parametrize("cell", ["0,51", "51.2%", "1.2", "-0.1", "nan"])
def test_an_accuracy_that_is_none_is_no_failed_trial(cell, tmp_path):
    path = write_results(tmp_path / "results.csv", [(64, 0.1, cell, 3), (32, 0.1, 0.4, 1)])
    with pytest.raises(UserError, match=r"has val_accuracy .* in row 1, not a number"):
        searches.read_search(path)


def test_a_trial_counts_once(tmp_path):
    path = write_results(tmp_path / "results.csv", FOUR)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[2]]))
    with pytest.raises(UserError, match=f"has trial {name_of(1)} twice"):
        searches.read_search(path)


def test_the_mark_of_a_spreadsheet_is_passed_over(tmp_path):
    path = write_results(tmp_path / "results.csv", FOUR)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(searches.read_search(path).trials) == 4


def test_searches_have_folders_of_their_own(tmp_path):
    for name in ("one", "two"):
        write_results(tmp_path / name / "results.csv", FOUR)
        assert visualize.parse([f"{name}/results.csv"]).out.name == name


def test_effects_have_a_panel_for_each_setting(search):
    figure, caption = searches.search_effects(search)
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_xlabel() for ax in panels] == ["hidden size", "learning rate"]
    assert "1 of 5 trials" in caption


def test_many_values_are_drawn_to_scale_with_five_groups(tmp_path):
    drawn = [(2**i, 10 ** -(1 + i / 4), 0.3 + i / 100, i + 1) for i in range(1, 12)]
    found = read(tmp_path / "results.csv", drawn)
    assert len(searches.groups_of(found, "hidden_size")) == 5
    axis = searches.ValueAxis(found.values_of("learning_rate"))
    assert axis.log
    assert axis.position("0.1") == pytest.approx(-1)


def test_after_halving_trials_are_compared_after_equal_epochs(tmp_path):
    write_curve(tmp_path, 0, [0.3, 0.5, 0.6])
    write_curve(tmp_path, 1, [0.4])
    rows = [(64, 0.1, 0.6, 3), (32, 0.1, 0.4, 1)]
    found = read(tmp_path / "results.csv", rows, statuses=["ok", "stopped"])
    compared, sentence = searches.comparable(found)
    assert [trial.accuracy for trial in compared.trials] == pytest.approx([30, 40])
    assert "within 1 epoch," in sentence


def test_the_grid_has_a_cell_for_each_pair_of_values(search):
    figure, _ = searches.search_grid(search)
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["512", "1024"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.005", "0.01"]
    assert [text.get_text() for text in ax.texts] == ["-", "55.0", "52.0", "60.0"]


def test_parallel_coordinates_have_a_line_for_each_trial(tmp_path):
    path = write_results(tmp_path / "results.csv", FOUR)
    lines = path.read_text().replace("1024,0.01,0.01", "1024,0.01,0.02")
    path.write_text(lines)
    figure, _ = searches.search_parallel(searches.read_search(path))
    ax = figure.axes[0]
    trials = [line for line in ax.lines if len(line.get_ydata()) == 4]
    assert len(trials) == 4
    # The last one is the best: 1024, 0.01, 0.02, 60 %.
    assert trials[-1].get_ydata() == pytest.approx([1, 1, 1, 1])
    assert [text.get_text() for text in ax.get_xticklabels()][-1] == "accuracy (%)"


def test_cost_has_a_marker_for_each_trial(search):
    figure, caption = searches.search_cost(search)
    markers = [line for line in figure.axes[0].lines if line.get_marker() != "x"]
    points = sorted((float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in markers)
    assert points == [(10, 50), (12, 54), (20, 60), (21, pytest.approx(55))]
    assert "1 of 5 trials" in caption


def test_in_the_figure_of_cost_each_pair_of_values_looks_different(search):
    figure, _ = searches.search_cost(search)
    markers = [line for line in figure.axes[0].lines if line.get_marker() != "x"]
    looks = {(m.get_marker(), matplotlib.colors.to_hex(m.get_color())) for m in markers}
    assert len(looks) == 3


def test_a_search_over_seeds_alone_has_no_effects(tmp_path):
    same = read(tmp_path / "results.csv", [(64, 0.01, 0.5, 1), (64, 0.01, 0.6, 1)])
    for figure in (searches.search_effects, searches.search_grid, searches.search_parallel):
        with pytest.raises(LeftOut):
            figure(same)


# ---- Other content ----------------------------------------------------------------------------

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


def test_strange_values_are_drawn_or_left_out(capsys, tmp_path):
    rows = [(value, other, 0.5, 1) for value in STRANGE for other in (1, 2)]
    rows += [(1, 2, 0.5, value) for value in STRANGE]
    rows += [("x", 1, "", 5), ("x", 1, 0.4, 1e29)]
    path = write_results(tmp_path / "strange.csv", rows)
    with path.open("a") as file:
        file.write("short,1\n\n" + "long" + "," * 40 + "\n../../../etc/passwd,1,2,3,1,0,ok,0.5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, error = call(capsys, path, "--out", "s", "--dpi", 20)
    assert (code, error) == (0, "")
    text = Path("s/report.html").read_text()
    assert "\x1b" not in text
    assert max(map(len, re.findall("9+", text))) < 100


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "is missing"),
        (b"a,b\n1,2\n", "has no column 'trial'"),
        (b"", "has no column 'trial'"),
        (",".join(HEAD).encode() + b"\n", "no trial in it has a validation accuracy"),
        (b"\xff\xfe\x00\x81", "is damaged"),
        (",".join(HEAD).encode() + b"\n" + b"x" * 200_000 + b"\n", "is damaged"),
    ],
)
def test_another_file_is_refused_in_one_line(content, fault, capsys, tmp_path):
    if content is not None:
        (tmp_path / "results.csv").write_bytes(content)
    code, out, error = call(capsys, "results.csv")
    assert (code, out) == (2, "")
    assert "results.csv: " in error
    assert fault in error
    assert error.count("\n") == 1


def test_a_figure_of_checkpoints_is_refused(search, capsys):
    code, _, error = call(capsys, "out/results.csv", "--only", "curves")
    assert code == 2
    assert "--only curves" in error
    assert error.count("\n") == 1
