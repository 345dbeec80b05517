"""Votes: logits as exact sums over positions and filters, Shapley values, and their figure."""

import itertools
import math

import model
from data import synthetic
from support.cli import UserError
from support.figures import style
from support.figures import votes as votes_figure
from support.network.votes import (
    equation,
    explain,
    rounded_sum,
    shapley_values,
    strongest,
    votes,
)
from support.network.window import Window

import matplotlib
import numpy as np
import pytest
from helpers import ROOT
from matplotlib.text import Text

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (11, 3072), np.uint8)
NAMES = [f"class {c}" for c in range(10)]


def window_of(size, stride, regions, map_kind):
    """Return a window with no map, or with a whitening map of mirror-symmetric patches.

    map_kind: words for the map and for the window's switches, such as "mirror bilinear".
    """
    pixels = 3 * size**2
    words = (map_kind or "").split()
    views = {name: name in words for name in ("mirror", "two_sided", "bilinear")}
    if "whiten" not in words and "mirror" not in words:
        return Window(size, stride, regions, **views)
    half = rng.random((200, 3, size, size))
    patches = np.concatenate([half, half[..., ::-1]]).reshape(400, pixels)
    mean = patches.mean(axis=0)
    if "mirror" in words and size < 32:
        some = rng.integers(0, 256, (30, 3072), np.uint8)
        return Window(size, stride, regions, **views).whitening(some, 20, 0.1, model.Threads())
    if "mirror" in words:
        P = rng.standard_normal((pixels, 20)) / 50
        flip = Window().flip
        signs = np.repeat([-1, 1], [8, 12])
        return Window(size, stride, regions, mean + mean[flip], P + P[flip] * signs, **views)
    if size == 32:
        return Window(size, stride, regions, mean, rng.standard_normal((pixels, 20)) / 50)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    keep = slice(-min(20, pixels), None)
    return Window(size, stride, regions, mean, vectors[:, keep] / np.sqrt(values[keep] + 0.1))


def network_of(window, batchnorm=True, dtype=np.float64, classes=10, hidden=13):
    """Return a network in which no weight, bias or statistic has its first value."""
    network = model.Network(hidden, window, classes=classes, batchnorm=batchnorm, dtype=dtype)
    for name, array in network.weights.items():
        if name == "running_var1":
            array += rng.random(array.shape)
        else:
            array += 0.3 * rng.standard_normal(array.shape)
    return network


# ---- Votes ---------------------------------------------------------------------------------------

WINDOWS = [
    (32, 1, 1, None),
    (32, 1, 1, "whiten"),
    (32, 1, 1, "mirror"),
    (32, 1, 1, "mirror two_sided"),
    (8, 2, 3, None),
    (8, 2, 3, "whiten"),
    (8, 2, 3, "mirror"),
    (8, 4, 3, "bilinear"),
    (8, 4, 4, "mirror two_sided bilinear"),
    (16, 16, 2, "two_sided"),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("cap", [0, 0.3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_votes_and_rest_sum_to_the_logits(window, cap, batchnorm, dtype):
    network = network_of(window_of(*window), batchnorm, dtype)
    network.cap = cap
    maps, rest = votes(network, IMAGES)
    # Rounding is relative to the terms of the sum.
    terms_size = np.abs(maps).sum(axis=(2, 3)).max() + np.abs(rest).max()
    bound = (4e-6 if dtype == np.float32 else 1e-13) * terms_size
    total = maps.sum(axis=(2, 3)) + rest
    np.testing.assert_allclose(total, network.logits(IMAGES), rtol=0, atol=bound)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_map_has_a_vote_for_each_position_or_pixel(window):
    network = network_of(window_of(*window), dtype=np.float32)
    maps, rest = votes(network, IMAGES)
    side = 32 if window[0] == 32 else (32 - window[0]) // window[1] + 1
    assert maps.shape == (11, 10, side, side)
    assert rest.shape == (11, 10)
    assert maps.dtype == rest.dtype == np.float32


def test_the_rest_of_positions_is_the_bias():
    network = network_of(window_of(8, 2, 3, "whiten"))
    _, rest = votes(network, IMAGES)
    np.testing.assert_array_equal(rest, np.repeat(network.weights["b2"], 11, axis=0))


def test_votes_of_positions_are_those_of_a_loop():
    network = network_of(Window(16, 8, 3), hidden=3, classes=2)
    maps, _ = votes(network, IMAGES[:2])
    a1, W2 = network.hidden(IMAGES[:2]), network.weights["W2"].reshape(9, 3, 2)
    for row in range(3):
        for column in range(3):
            position = 3 * row + column  # each is a region of its own
            expected = a1[:, position] @ W2[position]
            np.testing.assert_allclose(maps[:, :, row, column], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [None, "mirror two_sided"])
def test_votes_of_the_whole_image_are_gradient_times_input(kind):
    network, x = network_of(window_of(32, 1, 1, kind), classes=3), IMAGES[:1] / 255
    maps, _ = votes(network, x)
    for pixel in (0, 517, 1023):
        expected = 0
        for channel in range(3):
            step = np.zeros((1, 3072))
            step[0, 1024 * channel + pixel] = 1e-6
            gradient = (network.logits(x + step) - network.logits(x - step)) / 2e-6
            expected = expected + x[0, 1024 * channel + pixel] * gradient[0]
        found = maps[0, :, pixel // 32, pixel % 32]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_black_pixels_have_no_vote():
    network = network_of(Window(), classes=3)
    assert not votes(network, np.zeros((1, 3072)))[0].any()


@pytest.mark.parametrize(
    "window", [(32, 1, 1, None), (8, 2, 3, "whiten"), (8, 4, 3, None)], ids=str
)
def test_votes_of_a_folded_network_are_those_of_both_images(window):
    network = network_of(window_of(*window))
    mirrored = IMAGES.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    maps, rest = votes(network.fold_mirror(), IMAGES)
    alone, its_rest = votes(network, IMAGES)
    other, other_rest = votes(network, mirrored)
    np.testing.assert_allclose(maps, (alone + other[..., ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(rest, (its_rest + other_rest) / 2, atol=1e-6)


def test_preconditioned_steps_leave_their_constant_in_the_bias():
    network = network_of(Window(8, 8, 1), batchnorm=False, dtype=np.float32)
    network.precondition(IMAGES)
    network.train_batch(IMAGES, np.arange(11) % 10)
    maps, rest = votes(network, IMAGES)
    total = maps.sum(axis=(2, 3)) + rest
    np.testing.assert_allclose(total, network.logits(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [Window(), Window(8, 8, 1)], ids=str)
def test_no_images_have_no_votes(window):
    maps, rest = votes(network_of(window), IMAGES[:0])
    assert maps.shape[:2] == rest.shape == (0, 10)


@pytest.mark.parametrize("window", [Window(), Window(8, 8, 1)], ids=str)
def test_any_number_of_threads_gives_the_same_votes(window):
    network = network_of(window, dtype=np.float32)
    alone, _ = votes(network, IMAGES)
    network.threads = model.Threads(3)
    np.testing.assert_array_equal(votes(network, IMAGES)[0], alone)


# ---- Shapley values ------------------------------------------------------------------------------


def shapley_by_brute_force(network, image, background):
    """Return the Shapley values (positions, C) by their definition, from all coalitions.

    A coalition's worth is the mean logit over all ways of drawing the other positions' features
    from the background, each position on its own.
    """
    n = network.window.positions
    own = network.hidden(image[None])[0]  # (n, H)
    others = network.hidden(background)  # (B, n, H)

    def worth(coalition):
        free = [j for j in range(n) if j not in coalition]
        logits = []
        for draws in itertools.product(range(len(background)), repeat=len(free)):
            a1 = own.copy()
            for j, draw in zip(free, draws, strict=True):
                a1[j] = others[draw, j]
            s = (network.window.R @ a1).ravel()
            logits.append(s @ network.weights["W2"] + network.weights["b2"][0])
        return np.mean(logits, axis=0)

    values = np.zeros((n, network.classes))
    for j in range(n):
        rest = [k for k in range(n) if k != j]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for coalition in itertools.combinations(rest, size):
                values[j] += weight * (worth({*coalition, j}) - worth(coalition))
    return values


def test_votes_less_their_mean_are_shapley_values():
    network = network_of(Window(16, 16, 2), hidden=5, classes=3)
    values, base = shapley_values(network, IMAGES[:1], IMAGES[1:4])
    expected = shapley_by_brute_force(network, IMAGES[0], IMAGES[1:4])
    np.testing.assert_allclose(values[0].reshape(3, 4).T, expected, atol=1e-12)
    np.testing.assert_allclose(base[0], network.logits(IMAGES[1:4]).mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    "window", [(8, 2, 3, "whiten"), (8, 4, 3, "mirror two_sided bilinear")], ids=str
)
def test_shapley_values_and_their_base_sum_to_the_logits(window):
    network = network_of(window_of(*window))
    values, base = shapley_values(network, IMAGES[:3], IMAGES[3:])
    total = values.sum(axis=(2, 3)) + base
    np.testing.assert_allclose(total, network.logits(IMAGES[:3]), atol=1e-9)


def test_shapley_values_need_positions_and_a_background():
    with pytest.raises(ValueError, match="whole image"):
        shapley_values(network_of(Window()), IMAGES, IMAGES)
    with pytest.raises(ValueError, match="background"):
        shapley_values(network_of(Window(8, 8, 1)), IMAGES, IMAGES[:0])


# ---- Do maps depend on what was learned? (Adebayo et al. 2018) -----------------------------------


def test_maps_of_random_weights_look_different():
    images, labels = synthetic.synthetic(600, np.random.default_rng(3))
    network = model.Network(32, Window(8, 4, 1), batchnorm=False, dropout=0.0, seed=1)
    untrained = network.copy()
    for _ in range(4):
        for start in range(0, 600, 60):
            rows = slice(start, start + 60)
            network.train_batch(images[rows], labels[rows], model.SGD(0.05, 0.9))
    classes = network.predict(images[:100])
    rows = np.arange(100)
    maps = votes(network, images[:100])[0][rows, classes].reshape(100, -1)
    random = votes(untrained, images[:100])[0][rows, classes].reshape(100, -1)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(maps, random, strict=True)]
    assert np.abs(np.mean(correlations)) < 0.5
    assert np.median(np.abs(correlations)) < 0.7


# ---- Filters -------------------------------------------------------------------------------------

KINDS = [
    (32, 1, 1, None),
    (32, 1, 1, "mirror"),
    (8, 2, 3, "mirror"),
    (8, 4, 3, "mirror two_sided bilinear"),
]


def effects(network, image, c, against=None):
    """Return what each unit's absence takes from the logit of c, or its lead over `against`."""
    network = network.one_sided()

    def lead():
        z2 = network.logits(image[None])[0]
        return z2[c] - (0 if against is None else z2[against])

    W2 = network.weights["W2"].reshape(network.window.q, -1, 10)
    before, changes = lead(), []
    for unit in range(network.hidden_size):
        kept = W2[:, unit].copy()
        W2[:, unit] = 0
        changes.append(before - lead())
        W2[:, unit] = kept
    return np.array(changes)


@pytest.mark.parametrize("against", [None, 7])
@pytest.mark.parametrize("cap", [0, 50])
@pytest.mark.parametrize("window", KINDS, ids=str)
def test_the_strongest_filters_add_what_their_absence_takes(window, cap, against):
    network = network_of(window_of(*window))
    network.cap = cap
    found = strongest(network, IMAGES[3], 4, against=against)
    expected = effects(network, IMAGES[3], 4, against)
    largest = np.sort(expected)[::-1][: len(found)]
    np.testing.assert_allclose([each.adds for each in found], largest, atol=1e-6)
    for each in found:
        assert expected[each.unit] == pytest.approx(each.adds)


@pytest.mark.parametrize("cap", [0, 50])
@pytest.mark.parametrize("window", KINDS, ids=str)
def test_a_filter_is_marked_where_it_is_largest(window, cap):
    network, image = network_of(window_of(*window)), IMAGES[3]
    network.cap = cap
    found = strongest(network, image, 4)
    network = network.one_sided()
    for each in found:
        side, at = network.window.side, (int(each.mirrored), *each.position)
        for capped in (True, False):
            a1 = network.hidden(image[None], capped)[0, :, each.unit].reshape(-1, side, side)
            assert a1[at] == a1.max()


def test_filters_that_add_nothing_are_left_out():
    network = network_of(window_of(8, 2, 3, "whiten"))
    network.weights["W2"][:, 4] = -1
    assert strongest(network, IMAGES[3], 4) == []


# ---- Sums as text --------------------------------------------------------------------------------


def test_rounded_parts_add_up_to_the_rounded_total():
    for _ in range(1000):
        parts = (rng.standard_normal(3) * 10).tolist()
        total, rounded = rounded_sum(parts)
        assert total == round(sum(parts), 2)
        assert round(sum(rounded), 2) == total
        assert max(abs(a - b) for a, b in zip(parts, rounded, strict=True)) < 0.01


def numbers_in(line):
    """Return total, votes for, votes against and bias of an equation, as they are written."""
    words = line.replace("+ ", "").replace("- ", "-").split()
    return [float(words[i]) for i in (0, 2, 4, 6)]


def test_two_logits_and_their_difference_add_up_as_written():
    network = network_of(window_of(8, 2, 3, "whiten"), dtype=np.float32)
    for image in IMAGES:
        for against in range(10):
            lines = explain(network, image, against=against).equations(["a"] * 10)
            first, second, difference = (numbers_in(line.partition("  ")[2]) for line in lines)
            for total, *parts in (first, second, difference):
                assert round(sum(parts), 2) == total
            assert round(first[0] - second[0], 2) == difference[0]


@pytest.mark.parametrize(
    ("map_of_votes", "rest", "text"),
    [
        ([[5.31, -1.0]], -0.19, "4.12 = 5.31 for - 1.00 against - 0.19 bias"),
        ([[0.0, -7.25]], 0.0, "-7.25 = 0.00 for - 7.25 against + 0.00 bias"),
        ([[2e20, -1.0]], 3e7, "2e+20 = 2e+20 for - 1.00 against + 3e+07 bias"),
    ],
)
def test_the_sum_in_a_line(map_of_votes, rest, text):
    assert equation(np.array(map_of_votes), rest) == text


def test_the_sum_in_a_line_adds_up_as_written():
    for _ in range(300):
        line = equation(rng.standard_normal((3, 3)), float(rng.standard_normal()))
        total, pro, contra, bias = numbers_in(line)
        assert round(pro + contra + bias, 2) == total


# ---- One image explained -------------------------------------------------------------------------


def test_an_explanation_without_against_has_the_likeliest_classes():
    network = network_of(window_of(8, 2, 3, "whiten"))
    explanation = explain(network, IMAGES[0])
    titles = [title for title, _, _ in explanation.panels(NAMES)]
    order = np.argsort(-network.predict_proba(IMAGES[:1])[0])
    assert titles == [NAMES[c] for c in order[:3]]


@pytest.mark.parametrize("window", KINDS, ids=str)
def test_the_difference_of_two_classes_is_the_log_odds(window):
    network = network_of(window_of(*window))
    y = network.predict_proba(IMAGES[:1])[0]
    predicted, other = np.argsort(-y)[[0, 6]]
    explanation = explain(network, IMAGES[0], against=int(other))
    *_, (title, difference, rest) = explanation.panels(NAMES)
    assert title == f"{NAMES[predicted]} − {NAMES[other]}"
    assert difference.sum() + rest == pytest.approx(np.log(y[predicted] / y[other]))


def test_against_the_predicted_class_is_against_the_second_likeliest():
    network = network_of(Window(8, 8, 1))
    order = np.argsort(-network.predict_proba(IMAGES[:1])[0])
    assert explain(network, IMAGES[0], against=int(order[0])).against == order[1]


def test_with_a_background_the_rest_is_the_average_logit():
    network = network_of(Window(8, 8, 1))
    explanation = explain(network, IMAGES[0], background=IMAGES[1:])
    expected = network.logits(IMAGES[1:]).mean(axis=0)
    np.testing.assert_allclose(explanation.rest, expected, atol=1e-9)
    assert explanation.equations(NAMES)[0].endswith(" average")


# ---- The figure ----------------------------------------------------------------------------------


def texts(figure):
    """Return every text in a figure."""
    return [each.get_text() for each in figure.findobj(Text) if each.get_text()]


FIGURE_KINDS = pytest.mark.parametrize(
    ("window", "rows"),
    [((32, 1, 1, None), 1), ((8, 4, 3, "mirror two_sided bilinear"), 2)],
    ids=str,
)


@FIGURE_KINDS
def test_the_figure_has_the_sum_of_each_class(window, rows):
    network = network_of(window_of(*window), dtype=np.float32)
    figure, _ = votes_figure.draw_votes(network, IMAGES[0], NAMES, label=7)
    c = network.predict(IMAGES[:1])[0]
    (maps,), (rest,) = votes(network, IMAGES[:1])
    first = next(text for text in texts(figure) if " for\n" in text)
    shown = " ".join(first.split()).replace("−", "-")
    assert shown == equation(maps[c].astype(float), float(rest[c]))


@FIGURE_KINDS
def test_the_figure_has_the_strongest_filters_with_their_numbers(window, rows):
    network = network_of(window_of(*window), dtype=np.float32)
    figure, _ = votes_figure.draw_votes(network, IMAGES[0], NAMES, label=7)
    filters = strongest(network, IMAGES[0], network.predict(IMAGES[:1])[0])
    titles = [text for text in texts(figure) if "\nunit " in text]
    assert [int(title.split()[-1]) for title in titles] == [each.unit for each in filters]
    pictures = [axes for axes in figure.get_axes() if axes.images and axes.get_visible()]
    assert len(pictures) >= 4 + rows * len(filters)


def test_the_figure_fits_a_column_and_names_the_label():
    network = network_of(window_of(8, 2, 3, "whiten"), dtype=np.float32)
    figure, caption = votes_figure.draw_votes(network, IMAGES[0], NAMES, label=7)
    assert figure.get_size_inches()[0] == 3.4
    assert "label: class 7" in texts(figure)
    assert "labelled class 7" in caption


def test_the_figure_against_a_class_has_its_map_and_the_difference():
    network = network_of(window_of(8, 2, 3, "whiten"), dtype=np.float32)
    last = int(network.logits(IMAGES[:1])[0].argmin())
    figure, caption = votes_figure.draw_votes(network, IMAGES[0], NAMES, against=last)
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert NAMES[last] in titles
    assert any(title.replace("\n", " ").endswith(f"− {NAMES[last]}") for title in titles)
    assert "log-odds" in caption


def test_the_files_of_an_explanation(tmp_path):
    network = network_of(window_of(8, 2, 3, "whiten"), dtype=np.float32)
    path = tmp_path / "why.png"
    explanation = votes_figure.write_votes(network, IMAGES[0], NAMES, path, background=IMAGES[1:])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "Shapley" in (tmp_path / "why.txt").read_text()
    assert explanation.predicted == network.predict(IMAGES[:1])[0]


def test_a_users_matplotlibrc_does_not_change_the_figure(tmp_path):
    network = network_of(window_of(8, 2, 3, "whiten"), dtype=np.float32)
    pictures = []
    for settings in ({}, {"image.origin": "lower", "text.usetex": True, "savefig.bbox": "tight"}):
        with matplotlib.rc_context(settings):
            votes_figure.write_votes(network, IMAGES[0], NAMES, tmp_path / "why.png")
        pictures.append((tmp_path / "why.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_two_classes_and_no_filter_and_names_that_the_font_lacks(tmp_path, recwarn):
    network = network_of(Window(8, 8, 1), classes=2)
    network.weights["W2"][...] = -1
    names = ["猫 $x$", "ein sehr langer Name einer Klasse"]
    figure, _ = votes_figure.draw_votes(network, IMAGES[0], names)
    figure.savefig(tmp_path / "figure.png")
    for name in names:
        assert any(text.startswith(style.drawable(name, 15)) for text in texts(figure))
    assert not recwarn.list
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8


@pytest.mark.parametrize("factor", [1e18, 0])
def test_networks_of_extreme_weights_are_drawn(tmp_path, recwarn, factor):
    network = network_of(Window(8, 8, 1), batchnorm=False, dtype=np.float32)
    network.weights["W1"] *= factor
    network.weights["W2"] *= bool(factor)
    votes_figure.write_votes(network, IMAGES[0], NAMES, tmp_path / "figure.png")
    assert not recwarn.list


def test_a_network_that_overflows_is_refused(tmp_path, recwarn):
    network = network_of(Window(8, 8, 1), batchnorm=False, dtype=np.float32)
    network.weights["W1"] *= 1e36
    network.weights["W2"] *= 1e18
    with pytest.raises(UserError, match="overflow"):
        votes_figure.draw_votes(network, IMAGES[0], NAMES)
    assert not recwarn.list


# ---- Deletion and insertion ----------------------------------------------------------------------


@pytest.fixture
def deletion(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import deletion

    return deletion


def test_a_position_covers_the_pixels_of_its_window(deletion):
    covers = deletion.pixels_of_positions(network_of(Window(8, 4, 1), classes=2))
    assert covers.shape == (49, 1024)
    square = covers[2 * 7 + 3].reshape(32, 32)  # row 2, column 3
    assert square[8:16, 12:20].all()
    assert square.sum() == 64


def test_positions_with_the_highest_scores_are_chosen(deletion):
    maps = rng.random((3, 7, 7))
    maps[:, 4, 1:6] += 1
    chosen = deletion.highest(maps, 0.1).reshape(3, 7, 7)
    assert chosen[:, 4, 1:6].all()
    assert chosen.sum() == 15


def test_a_moved_map_has_the_same_votes_elsewhere(deletion):
    maps = rng.random((3, 7, 7))
    moved = deletion.moved(maps, np.random.default_rng(1))
    np.testing.assert_array_equal(np.sort(moved.ravel()), np.sort(maps.ravel()))
    assert (moved != maps).any()


def test_blank_pixels_have_the_mean_colour(deletion):
    blank = np.zeros((1, 1024), bool)
    blank[0, 5] = True
    before = IMAGES[0].reshape(3, 1024)
    after = deletion.blanked(IMAGES[:1], blank).reshape(3, 1024)
    assert after[:, 5].tolist() == before.mean(axis=1).round().tolist()
    np.testing.assert_array_equal(np.delete(after, 5, 1), np.delete(before, 5, 1))


def test_curves_run_from_the_intact_to_the_blank_image(deletion):
    network, labels = network_of(Window(8, 8, 1)), np.arange(11) % 10
    curves = deletion.measured(network, IMAGES, labels)
    intact = (network.predict(IMAGES) == labels).mean()
    for way in deletion.WAYS:
        assert curves["deletion", way][0] == pytest.approx([0, intact])
        assert curves["insertion", way][-1] == pytest.approx([0, intact])
        assert curves["deletion", way][-1, 0] == 1
        assert curves["insertion", way][0, 0] == 1


def test_the_area_of_a_line_is_its_mean(deletion):
    points = np.array([[0, 0.9], [0.5, 0.5], [1, 0.1]])
    assert deletion.area(points) == pytest.approx(0.5)
    assert deletion.area(points[::-1]) == pytest.approx(0.5)


def test_deletion_prints_a_row_for_each_checkpoint(run, tmp_path, synthetic_dir):
    network_of(Window(8, 8, 1)).save(tmp_path / "a.npz")
    network_of(Window()).save(tmp_path / "b.npz")
    flags = "--data-dir", synthetic_dir, "--threads", 1, "--count", 20
    done = run("benchmarks/deletion.py", "a.npz", "b.npz", *flags, "--figure", "curves.png")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if ".npz |" in line]
    assert [row[0] for row in rows] == ["| a.npz", "| b.npz"]
    assert {len(row) for row in rows} == {8}
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_deletion_refuses_a_network_of_other_classes(run, tmp_path, synthetic_dir):
    network_of(Window(), classes=3).save(tmp_path / "c.npz")
    done = run("benchmarks/deletion.py", "c.npz", "--data-dir", synthetic_dir)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "other classes" in done.stderr
