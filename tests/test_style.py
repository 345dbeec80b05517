"""What figures are drawn with: settings, fonts, pictures of weights, histograms, components."""

import os
import subprocess
import sys
import warnings

from support.figures import style
from support.network import filters

import matplotlib
import numpy as np
import pytest
from helpers import ROOT

# ---- Settings of matplotlib ----------------------------------------------------------------------


def test_a_users_settings_do_not_reach_a_figure():
    with matplotlib.rc_context(
        {"image.origin": "lower", "text.usetex": True, "lines.linewidth": 9}
    ):
        with style.drawing():
            inside = {name: matplotlib.rcParams[name] for name in ("image.origin", "text.usetex")}
            width = matplotlib.rcParams["lines.linewidth"]
        after = matplotlib.rcParams["image.origin"]
    assert inside == {"image.origin": "upper", "text.usetex": False}
    assert width == matplotlib.rcParamsDefault["lines.linewidth"]
    assert after == "lower"


def test_a_users_font_comes_first():
    with matplotlib.rc_context({"font.family": ["DejaVu Serif"]}), style.drawing():
        assert matplotlib.rcParams["font.family"][0] == "DejaVu Serif"
        assert "DejaVu Sans" in matplotlib.rcParams["font.family"]


def test_a_font_that_is_not_installed_is_passed_over():
    with matplotlib.rc_context({"font.family": ["No Such Font"]}), style.drawing():
        assert matplotlib.rcParams["font.family"][0] == "DejaVu Sans"


def test_the_same_figure_whatever_matplotlibrc_says(tmp_path):
    (tmp_path / "matplotlibrc").write_text(
        "image.origin: lower\ntext.usetex: True\nsavefig.bbox: tight\naxes.facecolor: red\n"
        "font.size: 20\nimage.cmap: jet\naxes.unicode_minus: False\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from support.figures import style\nfrom support.figures.report import rendered\n"
        "with style.drawing():\n"
        "    figure, axes = style.grid(1, 1, 1)\n"
        "    axes[0, 0].imshow([[0, 1], [2, -3]])\n"
        "    axes[0, 0].set_title('-1 $')\n"
        "    sys.stdout.buffer.write(rendered(figure, 'png', 50))\n"
    )
    pictures = []
    for folder in (ROOT, tmp_path):
        variables = os.environ | {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(folder / "matplotlibrc")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        pictures.append(done.stdout)
    assert pictures[0] == pictures[1]


# ---- Text ----------------------------------------------------------------------------------------


def test_text_is_drawn_as_it_is():
    assert style.drawable("a$b$\x1b[31m\n c") == r"a\$b\$?[31m c"
    assert style.drawable("Käfer $1") == r"Käfer \$1"


def test_an_accent_is_joined_to_its_letter():
    assert style.drawable("Ka\u0308fer") == "Käfer"


def test_long_text_is_cut():
    assert len(style.drawable("1" * 5000, 12)) == 12


def test_any_text_can_be_drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with style.drawing():
            figure, axes = style.grid(1, 1, 1)
            axes[0, 0].set_title(style.drawable("\u732b $x^$ \U0001f600 \u0628 \u0915\ufe0f"))
            figure.draw_without_rendering()
        style.plt.close(figure)


def test_missing_glyphs_are_reported_once(capsys, monkeypatch):
    monkeypatch.setattr(style, "is_missing", lambda character: character in "猫狗")
    style._report_missing.cache_clear()
    for _ in range(2):
        style.report_missing_glyphs(["猫", "狗", "bird"])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "猫狗" in err
    assert style.drawable("猫 cat") == "? cat"


@pytest.mark.parametrize(
    ("character", "font"),
    [("猫", "Noto Sans CJK"), ("क", "Noto Sans Devanagari"), ("😀", "Noto Emoji")],
)
def test_the_suggested_font_is_one_of_the_script(character, font):
    assert style.suggested_font(character) == font


def test_nothing_is_reported_if_all_glyphs_are_there(capsys):
    style.report_missing_glyphs(["bird", "Käfer $1"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("p", "text"), [(0.9832, "98.3 %"), (0.0234, "2.3 %"), (0.0001, "<0.1 %"), (1, "100.0 %")]
)
def test_percent(p, text):
    assert style.percent(p) == text


# ---- Colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blind",
    [
        [[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]],
        [[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]],
    ],
    ids=["deuteranopia", "protanopia"],
)
def test_class_colours_stay_apart_for_the_colour_blind(blind):
    """As Vienot et al. (1999) simulate it; distances in RGB, where black to white is 1.73."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in style.CLASS_COLOURS]) ** 2.2
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    simulated = rgb @ (np.linalg.inv(to_lms) @ blind @ to_lms).T
    simulated = np.clip(simulated, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(simulated[:, None] - simulated[None], axis=2)
    assert gaps[~np.eye(10, dtype=bool)].min() > 0.15


# ---- Pictures and distributions ------------------------------------------------------------------


def test_box_mean_removes_the_grid_of_the_steps():
    grid = np.tile([1.0, -1.0], 3072 // 2)
    assert np.abs(filters.box_mean(grid, 2).reshape(3, 32, 32)[:, :, :-1]).max() == 0
    np.testing.assert_array_equal(filters.box_mean(grid, 1), grid)


def test_a_picture_is_grey_at_zero():
    weights = np.random.default_rng(0).standard_normal(192)
    expected = 0.5 + 0.5 * weights.reshape(3, 8, 8).transpose(1, 2, 0) / np.abs(weights).max()
    np.testing.assert_allclose(style.picture(weights), expected)
    assert (style.picture(np.zeros(3072)) == 0.5).all()


def test_a_few_extremes_do_not_make_a_picture_grey():
    weights = np.random.default_rng(0).standard_normal(192)
    weights[5] = 1000
    shown = style.picture(weights, 0.99)
    assert shown.max() == 1
    assert shown.std() > 0.1


def test_normality_tells_normal_from_laplace():
    rng = np.random.default_rng(0)
    normal = style.normality(3 + 2 * rng.standard_normal(200_000))
    assert normal["mean"] == pytest.approx(3, abs=0.02)
    assert normal["std"] == pytest.approx(2, abs=0.02)
    assert normal["skewness"] == pytest.approx(0, abs=0.05)
    assert normal["excess kurtosis"] == pytest.approx(0, abs=0.05)
    assert normal["KS distance"] < 0.005
    laplace = style.normality(rng.laplace(size=200_000))
    assert laplace["excess kurtosis"] == pytest.approx(3, abs=0.3)
    assert laplace["KS distance"] == pytest.approx(0.06, abs=0.01)


def test_equal_values_count_as_normal():
    assert style.normality(np.full(9, 1e30))["KS distance"] == 0


def test_principal_components_are_those_of_the_svd():
    rows = np.random.default_rng(0).standard_normal((50, 20)) * np.arange(1, 21)
    points, shares = style.principal(rows)
    u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), rtol=1e-6)
    np.testing.assert_allclose(shares, s[:2] ** 2 / (s**2).sum())
