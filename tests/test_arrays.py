"""Images and labels as people pass them: understood, or refused with the reason and a remedy."""

import warnings
from datetime import date
from decimal import Decimal

from support.image_shape import PIXELS
from support.training.arrays import check_images, check_labels, check_lengths, check_same_kind

import numpy as np
import pytest

LEVELS = np.arange(256, dtype=np.uint8).repeat(PIXELS // 256)[None]


class Nothing:
    """A value that says that something is missing, as pandas.NA does."""

    def __repr__(self):
        return "<NA>"

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


Nothing.__name__ = "NAType"


class Frame:
    """An object that becomes an array of objects, as a table with pandas' Int64 columns does."""

    def __init__(self, array):
        self.array = array.astype(object)

    def __repr__(self):
        return "a table"

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def photos(data):
    """100 images, (100, 3072) uint8."""
    return data.train_images[:100]


def by_pixel(images):
    """Images with the colours of a pixel next to each other: (N, 32, 32, 3)."""
    return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# ---- Pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint64, object],
    ids=lambda kind: np.dtype(kind).name,
)
def test_whole_numbers_of_any_type_are_grey_levels(kind):
    levels = LEVELS // 2 if kind is np.int8 else LEVELS
    np.testing.assert_array_equal(check_images(levels.astype(kind)), levels, strict=True)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, object])
def test_floats_of_any_type_give_their_grey_levels_again(kind):
    floats = (LEVELS / 255).astype(kind)
    np.testing.assert_array_equal(check_images(floats), LEVELS, strict=True)


def test_half_precision_does_not_overflow_in_many_images(photos):
    many = np.tile(photos, (11, 1))  # more than a block
    np.testing.assert_array_equal(check_images((many / 255).astype(np.float16)), many)


@pytest.mark.parametrize("kind", [bool, object])
def test_true_is_white(kind):
    X = np.zeros((2, PIXELS), bool)
    X[0, :5] = True
    np.testing.assert_array_equal(check_images(X.astype(kind)), X * np.uint8(255), strict=True)


@pytest.mark.parametrize(
    "form", [np.ndarray.tolist, Frame, np.asfortranarray], ids=["list", "table", "Fortran"]
)
def test_lists_tables_and_other_layouts_are_understood(form):
    np.testing.assert_array_equal(check_images(form(LEVELS.astype(np.int64))), LEVELS)


def test_a_masked_array_without_masked_values_is_understood():
    np.testing.assert_array_equal(check_images(np.ma.array(LEVELS)), LEVELS)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("beyond", [1e-7, 0.001, 0.49 / 255])
def test_floats_half_a_level_outside_are_clipped(kind, beyond):
    X = np.full((2, PIXELS), 0.5, kind)
    X[0, 0], X[0, 1] = 1 + beyond, -beyond
    assert check_images(X)[0, :3].tolist() == [255, 0, 128]


@pytest.mark.parametrize(
    "value, parts",
    [
        (1.01, ("up to 1.01", "above 1", "255")),
        (200.0, ("up to 200", "divide by 255")),
        (-0.01, ("down to -0.01", "below 0", "normalised")),
        (-3.0, ("down to -3", "normalised")),
        (4000.0, ("up to 4000", "scale")),
        (300, ("up to 300", "0 to 255")),
        (-1, ("down to -1", "0 to 255")),
        (np.nan, ("NaN", "infinity")),
        (-np.inf, ("NaN", "infinity")),
        (1j, ("complex", "real")),
        ("0.5", ("text",)),
        (b"0.5", ("text",)),
        (None, ("missing", "None")),
        (Nothing(), ("missing", "NA")),
        (2**70, ("2**63",)),
        ({}, ("objects of type", "dict")),
        (np.datetime64("2020-01-01"), ("datetime64",)),
    ],
    ids=str,
)
def test_pixels_out_of_range_or_of_no_number_are_refused(value, parts):
    X = np.zeros((4, PIXELS), np.asarray(value).dtype)
    if X.dtype == object:
        X[...] = 0
    X[1, 2] = value
    with pytest.raises((ValueError, TypeError)) as caught:
        check_images(X)
    check_message(caught, "X ", *parts)


def check_message(caught, *parts):
    """Check that a message has these parts, in upper or lower case, and is one line."""
    text = str(caught.value).lower()
    assert "\n" not in text
    for part in parts:
        assert part.lower() in text


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_whole_numbers_0_and_1_are_nearly_black_and_warned_about(kind):
    with pytest.warns(UserWarning, match="nearly black"):
        check_images(np.eye(4, PIXELS, dtype=kind))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_floats_that_were_divided_by_255_twice_are_warned_about(kind):
    with pytest.warns(UserWarning, match="twice"):
        check_images((LEVELS / 255 / 255).astype(kind))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_dark_and_black_floats_are_not_warned_about(kind):
    assert check_images((LEVELS[:, :300].repeat(11)[None, :PIXELS] / 255).astype(kind)).max() > 1
    assert not check_images(np.zeros((1, PIXELS), kind)).any()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.str_])
def test_labels_in_one_row_name_the_remedy(dtype):
    with pytest.raises(ValueError, match=r"y\[0\]"):
        check_labels(np.arange(5)[None].astype(dtype))


def test_masked_pixels_are_refused():
    with pytest.raises(ValueError, match="masked"):
        check_images(np.ma.array(LEVELS, mask=LEVELS == 3))


def test_a_sparse_matrix_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="toarray"):
        check_images(sparse.csr_matrix(LEVELS))


# ---- Shapes and the order of pixels --------------------------------------------------------------


def test_squares_with_channels_last_or_first_are_the_same_images(photos):
    np.testing.assert_array_equal(check_images(by_pixel(photos)), photos)
    np.testing.assert_array_equal(check_images(photos.reshape(-1, 3, 32, 32) / 255), photos)


@pytest.mark.parametrize(
    "shape, remedy",
    [
        ((3072,), "X.reshape(1, -1)"),
        ((32, 32, 3), "X[None]"),
        ((3, 32, 32), "X[None]"),
        ((32, 32, 3, 5), "X.transpose(3, 0, 1, 2)"),
        ((5, 32, 32, 4), "X[..., :3]"),
        ((5, 4, 32, 32), "X[:, :3]"),
        ((5, 1024), "grey"),
        ((5, 32, 32), "grey"),
        ((5, 1, 32, 32), "grey"),
        ((5, 3073), "labels"),
        ((5, 3000), "32 x 32 pixels"),
        ((5, 28, 28), "32 x 32 pixels"),
        ((5, 224, 224, 3), "32 x 32 pixels"),
        ((0, 3072), "no pixel"),
        ((5, 0), "no pixel"),
    ],
    ids=str,
)
def test_other_shapes_are_refused_with_a_remedy(shape, remedy):
    with pytest.raises(ValueError) as caught:
        check_images(np.zeros(shape, np.uint8))
    check_message(caught, str(shape), remedy)


def test_the_remedies_are_accepted(photos):
    one = by_pixel(photos)[0]
    np.testing.assert_array_equal(check_images(one[None]), photos[:1])
    last = by_pixel(photos).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(check_images(last.transpose(3, 0, 1, 2)), photos)
    grey = photos[:, :1024].reshape(-1, 32, 32)
    tiled = check_images(np.tile(grey.reshape(len(grey), -1), 3))
    np.testing.assert_array_equal(tiled[:, 2048:], photos[:, :1024])


@pytest.mark.parametrize("X", [None, "images.npz", 3], ids=str)
def test_what_is_no_array_is_refused_by_its_kind(X):
    with pytest.raises(ValueError, match=f"X is (None|an? {type(X).__name__})"):
        check_images(X)


def objects(images):
    """Images as an array of objects, as a column of pandas holds them."""
    array = np.empty(len(images), object)
    for row, image in enumerate(images):
        array[row] = image
    return array


def test_images_of_different_shapes_are_refused():
    images = [np.zeros((32, 32, 3)), np.zeros((30, 32, 3))]
    for X in (images, objects(images)):
        with pytest.raises(ValueError, match="different shapes"):
            check_images(X)


def test_a_list_of_images_is_understood(photos):
    for X in (list(by_pixel(photos)), objects(photos), objects(by_pixel(photos).tolist())):
        np.testing.assert_array_equal(check_images(X), photos)


def test_names_of_files_are_no_images():
    names = ["a.png", "b.png"]
    for X in (names, np.array(names), np.array(names, object)):
        with pytest.raises(TypeError, match="X holds text"):
            check_images(X)


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("scale", [1, 255], ids=["bytes", "floats"])
def test_rows_flattened_by_pixel_are_warned_about(photos, count, scale):
    X = by_pixel(photos[:count]).reshape(count, -1)
    with pytest.warns(UserWarning, match=r"reshape\(-1, 32, 32, 3\)"):
        check_images(X if scale == 1 else X / scale)


def test_grey_images_flattened_by_pixel_are_warned_about(photos):
    grey = photos[:, :1024].repeat(3, axis=1)
    with pytest.warns(UserWarning, match="flattened"):
        check_images(grey)


def test_each_image_in_the_order_of_channels_is_silent(photos):
    for image in photos:
        check_images(image[None])


def test_grey_noise_and_plain_images_are_silent(photos):
    rng = np.random.default_rng(0)
    check_images(np.tile(photos[:, :1024], 3))
    for count in (1, 2, 50):
        check_images(rng.random((count, PIXELS)))
        check_images(rng.integers(256, size=(count, PIXELS)))
    check_images(np.zeros((2, PIXELS)))
    check_images(np.full((2, PIXELS), 255))
    check_images(by_pixel(photos))


# ---- Labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y, kind",
    [
        (np.array([3, 1, 2], object), "i"),
        (Frame(np.array([3, 1, 2])), "i"),
        ([np.int64(3), 1, True], "i"),
        (np.array([3, 1, 2], np.uint8), "u"),
        (np.array([[3], [1], [2]]), "i"),
        (np.array([3, 1, 2], np.float16), "f"),
        (np.array([3, 1, 2], np.longdouble), "f"),
        (np.array([3.0, 1.0, 2.0], object), "f"),
        (np.array([True, False, True], object), "b"),
    ],
    ids=repr,
)
def test_numbers_of_any_type_are_labels(y, kind):
    labels = check_labels(y)
    assert labels.dtype.kind == kind
    expected = np.asarray(y).astype(np.float64).reshape(3)
    np.testing.assert_array_equal(labels.astype(np.float64), expected)


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.array, lambda y: np.array(y, object)],
    ids=["list", "tuple", "text", "objects"],
)
def test_text_is_a_label(form):
    assert check_labels(form(["cat", "dog"])).tolist() == ["cat", "dog"]


@pytest.mark.parametrize("missing", [None, np.nan, np.float32("nan"), Nothing()], ids=repr)
@pytest.mark.parametrize("others", [[1, 2], ["cat", "dog"], [True, False]], ids=str)
def test_a_missing_label_is_named_by_its_row(missing, others):
    labels = [others[0], missing, others[1]]
    forms = [labels, np.array([*others, None], object)]
    forms[1][1:] = missing, others[1]
    for y in forms:
        with pytest.raises(ValueError) as caught:
            check_labels(y)
        check_message(caught, "y ", "row 1", "leave its image out")


@pytest.mark.parametrize(
    "y, parts",
    [
        (None, ("None", "array of labels")),
        ([0.5, 1, 2], ("continuous", "0.5", "row 0")),
        ([1.0, np.inf], ("infinity", "row 1")),
        (["a", 1], ("text and numbers",)),
        (np.array(["a", 1], object), ("text and numbers",)),
        (np.array([b"a", b"b"]), ("bytes", "astype(str)")),
        (np.eye(3), ("(3, 3)", "argmax")),
        (np.zeros((3, 1, 1)), ("(3, 1, 1)", "(N,)")),
        (np.float64(3), ("()", "(N,)")),
        ([[1], [2, 3]], ("lists",)),
        ([1j, 2j], ("complex",)),
        (np.array(["2020-01-01"], "M8[D]"), ("datetime64",)),
        ([date(2020, 1, 1), date(2020, 1, 2)], ("date", "2**63")),
        ([2**70, 2**71], ("int", "2**63")),
        ([Decimal(1), Decimal(2)], ("Decimal",)),
        (np.ma.array([1, 2], mask=[0, 1]), ("masked",)),
    ],
    ids=str,
)
def test_other_labels_are_refused(y, parts):
    with pytest.raises(ValueError) as caught:
        check_labels(y)
    check_message(caught, "y ", *parts)


def test_pairs_as_labels_are_refused():
    pairs = np.empty(2, object)
    pairs[:] = [(1, 2), (3, 4)]
    with pytest.raises(ValueError, match="tuple"):
        check_labels(pairs)


def test_there_is_one_label_for_each_image():
    with pytest.raises(ValueError, match="X has 4 images, and y has 3 labels"):
        check_lengths(np.zeros((4, PIXELS)), np.zeros(3))


@pytest.mark.parametrize(
    "labels, classes",
    [([1, 2], ["1", "2"]), (["1", "2"], [1, 2]), (["a"], [True, False]), ([0.0], ["0"])],
    ids=str,
)
def test_labels_of_another_kind_than_the_classes_are_refused(labels, classes):
    with pytest.raises(ValueError, match="same kind"):
        check_same_kind(np.array(labels), np.array(classes))


def test_labels_of_the_same_kind_are_accepted():
    check_same_kind(np.array([1, 2]), np.array([1.0, 2.0]))
    check_same_kind(np.array(["a"]), np.array(["a", "b"], object))


# ---- pandas --------------------------------------------------------------------------------------


def test_tables_of_pandas_are_understood():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(LEVELS.repeat(2, axis=0))
    for kind in ("uint8", "Int64", "object"):
        np.testing.assert_array_equal(check_images(table.astype(kind)), table.to_numpy())
    floats = (table / 255).astype("Float64")
    np.testing.assert_array_equal(check_images(floats), table.to_numpy())


def test_columns_of_pandas_are_labels():
    pandas = pytest.importorskip("pandas")
    assert check_labels(pandas.Series([3, 1], dtype="Int64")).tolist() == [3, 1]
    for kind in ("string", "category", "object"):
        assert check_labels(pandas.Series(["b", "a"], dtype=kind)).tolist() == ["b", "a"]


@pytest.mark.parametrize("kind", ["string", "category", "object"])
def test_missing_labels_of_pandas_are_named(kind):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="row 1"):
        check_labels(pandas.Series(["b", None], dtype=kind))
