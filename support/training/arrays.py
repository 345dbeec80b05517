"""Checks of the arrays that are passed from Python: images, labels and weights.

Each check returns its array in the form that the network needs. What can be understood is
converted. Everything else raises a ValueError or TypeError that names the argument, says what is
wrong with it, and what to do.
"""

import warnings

from support.image_shape import CHANNELS, PIXELS, SIDE
from support.threads import slices

import numpy as np

BLOCK = 1000  # images that are converted at a time
TOLERANCE = 0.51 / 255  # half a grey level, and the rounding error of the bound itself
TWICE_DIVIDED = 1.5 / 255  # floats below are black or one grey level
LOOKED_AT = 100  # images whose order of pixels is looked at
ALIKE = 0.85  # ratio of differences below which images look interleaved, see looks_interleaved
FLAT = 1  # grey levels; images whose neighbours differ by less say nothing about their order


# ---- Images --------------------------------------------------------------------------------------


def check_images(X) -> np.ndarray:
    """Return images as (N, 3072) uint8: all of red, then green, then blue, row by row.

    X has the shape (N, 3072), (N, 32, 32, 3) or (N, 3, 32, 32). Its pixels are whole numbers from
    0 to 255, or floats in [0, 1], which are rounded to the nearest of 256 levels; True is white.
    Floats up to half a level outside [0, 1] are clipped. Warns if rows look as if they were
    flattened from (N, 32, 32, 3). Raises ValueError or TypeError if X isn't that.
    """
    array = check_numbers(X)
    images = to_bytes(to_rows(array))
    if array.ndim == 2 and looks_interleaved(images):
        warnings.warn(
            "X looks as if its rows were flattened from (N, 32, 32, 3), so that red, green and "
            "blue of a pixel are neighbours; rows of 3072 are read channel by channel. "
            "Pass X.reshape(-1, 32, 32, 3) instead",
            stacklevel=4,
        )
    return images


def check_numbers(X) -> np.ndarray:
    """Return X as an array of real numbers with at least one row and one column.

    Raises ValueError or TypeError if it isn't one.
    """
    if hasattr(X, "toarray"):
        raise TypeError("X is a sparse matrix, and images are dense; pass X.toarray()")
    if np.ma.is_masked(X):
        raise ValueError("X has masked values; replace them, for instance by X.filled(0)")
    try:
        array = np.asarray(X)
        if array.dtype.kind == "O" and array.ndim == 1:
            array = stack_images(array)
    except ValueError:
        problem = "X is a list of images of different shapes"
        raise ValueError(f"{problem}; give all of them 32 x 32 pixels") from None
    if array.ndim == 0:
        raise ValueError(f"X is {kind_of(X)}, not an array of images")
    if array.dtype.kind == "O":
        array = numbers_of_objects(array)
    if array.dtype.kind in "UST":
        raise TypeError("X holds text; images are arrays of numbers, their pixels")
    if array.ndim == 1:
        raise ValueError(
            f"X has the shape {array.shape}; images have the shape (N, {PIXELS}). "
            "Reshape your data: a single image is X.reshape(1, -1)"
        )
    if array.size == 0:
        raise ValueError(f"X has the shape {array.shape}, which holds no pixel; pass an image")
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: X is complex, and pixels are real numbers")
    if array.dtype.kind not in "buif":
        raise TypeError(f"X holds values of type {array.dtype}; pixels are numbers")
    with np.errstate(invalid="ignore", over="ignore"):
        extremes = np.float64(array.min()), np.float64(array.max())
    if not np.isfinite(extremes).all():
        raise ValueError("X contains NaN or infinity; replace them, or leave the images out")
    return array


def stack_images(array: np.ndarray) -> np.ndarray:
    """Return objects (N,) that are arrays as one array, and others as they are.

    Raises ValueError if the arrays differ in shape.
    """
    if len(array) and all(isinstance(each, np.ndarray | list | tuple) for each in array):
        return np.stack([np.asarray(each) for each in array])
    return array


def numbers_of_objects(array: np.ndarray) -> np.ndarray:
    """Return an array of objects as int64 if all are whole numbers, as bool, or as float64.

    Raises ValueError or TypeError if an object is no number.
    """
    kinds = set(map(type, array.flat))
    if any(issubclass(kind, str | bytes) for kind in kinds):
        raise TypeError("X holds text; images are arrays of numbers, their pixels")
    if any(is_missing_kind(kind) for kind in kinds):
        raise ValueError("X has missing pixels (None or NA); leave these images out")
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(bool)
    whole = all(issubclass(kind, int | np.integer | np.bool_) for kind in kinds)
    try:
        return array.astype(np.int64 if whole else np.float64)
    except OverflowError:
        raise ValueError("X has values beyond 2**63; pixels are 0 to 255") from None
    except (TypeError, ValueError):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"X holds objects of type {names}; pixels are numbers") from None


def to_rows(X: np.ndarray) -> np.ndarray:
    """Return images of any accepted shape as rows (N, 3072), channel by channel.

    Raises ValueError for another shape.
    """
    if X.shape[1:] == (SIDE, SIDE, CHANNELS):
        X = X.transpose(0, 3, 1, 2)
    elif X.shape[1:] not in ((CHANNELS, SIDE, SIDE), (PIXELS,)):
        raise ValueError(
            f"X has the shape {X.shape}; images have the shape (N, {PIXELS}), "
            f"(N, {SIDE}, {SIDE}, {CHANNELS}) or (N, {CHANNELS}, {SIDE}, {SIDE}). "
            f"{shape_remedy(X.shape)}"
        )
    return X.reshape(len(X), PIXELS)


def shape_remedy(shape: tuple[int, ...]) -> str:
    """Return what to do with images of this shape, which isn't accepted."""
    if shape in ((SIDE, SIDE, CHANNELS), (CHANNELS, SIDE, SIDE)):
        return "A single image is X[None]"
    if shape[:3] == (SIDE, SIDE, CHANNELS):
        return "If the images are along the last axis, pass X.transpose(3, 0, 1, 2)"
    if shape[1:] == (SIDE, SIDE, CHANNELS + 1):
        return "Leave out the alpha channel: X[..., :3]"
    if shape[1:] == (CHANNELS + 1, SIDE, SIDE):
        return "Leave out the alpha channel: X[:, :3]"
    if np.prod(shape[1:]) == SIDE * SIDE:
        return "If these are grey images, pass np.tile(X.reshape(len(X), -1), 3)"
    if len(shape) == 2 and shape[1] == PIXELS + 1:
        return "If a column holds the labels, leave it out"
    return f"Resize the images to {SIDE} x {SIDE} pixels with {CHANNELS} channels"


def to_bytes(X: np.ndarray) -> np.ndarray:
    """Return pixels X (N, 3072) as uint8. Raises ValueError for pixels out of range."""
    if X.dtype == np.bool_:
        return X * np.uint8(255)
    low, high = float(X.min()), float(X.max())
    if X.dtype.kind in "iu":
        check_range(low, high, 0, 255, "0 to 255 as whole numbers")
        if high == 1:
            warnings.warn(
                "X holds the whole numbers 0 and 1 only, which is nearly black, as white is 255. "
                "Pass X.astype(bool) if 1 is white, or floats if X was in [0, 1]",
                stacklevel=5,
            )
        return X.astype(np.uint8, copy=False)
    check_range(low, high, -TOLERANCE, 1 + TOLERANCE, "in [0, 1] as floats")
    if 0 < high < TWICE_DIVIDED:
        warnings.warn(
            f"X has floats up to {high:.2g} only, which is nearly black, as white is 1. "
            "If the pixels were divided by 255 twice, pass X * 255",
            stacklevel=5,
        )
    images = np.empty(X.shape, np.uint8)
    for rows in slices(len(X), BLOCK):
        block = X[rows]
        if block.dtype == np.float16:
            block = block.astype(np.float32)  # float16 is too coarse for the product
        images[rows] = np.rint(block * 255).clip(0, 255)
    return images


def check_range(low: float, high: float, lowest: float, highest: float, allowed: str) -> None:
    """Raise ValueError unless pixels from `low` to `high` lie within `lowest` and `highest`."""
    if low < lowest:
        raise ValueError(
            f"X has values down to {low:g}, below 0; pixels are {allowed}. "
            "Pass the images as they were before they were normalised"
        )
    if high > highest and highest < 2 and high <= 255:
        raise ValueError(
            f"X has values up to {high:g}, above 1; pixels are {allowed}. "
            "Divide by 255, or pass uint8"
        )
    if high > highest:
        raise ValueError(
            f"X has values up to {high:g}, too high; pixels are {allowed}. "
            "Scale the images to this range"
        )


def looks_interleaved(images: np.ndarray) -> bool:
    """Return whether the rows of images (N, 3072) look flattened from (N, 32, 32, 3).

    Neighbours in a picture are alike. Channel by channel, the next pixel of a row is 1 further on
    and that of the next row 32; interleaved, these are 3 and 96. In natural images the ratio of
    the two differences is about 2 and about 0.4; in noise it is 1.
    """
    step = -(-len(images) // LOOKED_AT)
    some = images[::step].astype(np.int16)

    def difference(distance: int) -> float:
        return np.abs(some[:, distance:] - some[:, :-distance]).mean()

    by_channel = difference(1) + difference(SIDE)
    by_pixel = difference(CHANNELS) + difference(CHANNELS * SIDE)
    return bool(by_channel > FLAT and by_pixel < ALIKE * by_channel)


# ---- Labels --------------------------------------------------------------------------------------


def check_labels(y) -> np.ndarray:
    """Return labels as an array (N,) of whole numbers, truth values or text.

    Floats that are whole numbers stay floats; a column (N, 1) is read as its only column. Raises
    ValueError if y isn't that.
    """
    if y is None:
        raise ValueError("y should be a 1d array of labels, not None")
    if np.ma.is_masked(y):
        raise ValueError("y has masked labels; leave out their images")
    try:
        array = np.asarray(y)
    except ValueError:
        raise ValueError("y is a list of lists; pass one label for each image") from None
    if array.dtype.kind == "U" and not isinstance(y, np.ndarray):
        array = np.asarray(y, dtype=object)  # NumPy has made the text "nan" of a missing label
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and len(array) == 1:
        raise ValueError(f"y has the shape {array.shape}; labels have the shape (N,). Pass y[0]")
    if array.ndim == 2:
        raise ValueError(
            f"y has the shape {array.shape}; labels have the shape (N,). "
            "If its rows are one-hot, pass y.argmax(axis=1)"
        )
    if array.ndim != 1:
        raise ValueError(f"y has the shape {array.shape}; labels have the shape (N,)")
    if array.dtype.kind == "T":  # NumPy 2's text
        array = array.astype(object)
    if array.dtype.kind == "O":
        array = labels_of_objects(array)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: y is complex; labels are text or numbers")
    if array.dtype.kind == "S":
        raise ValueError("y holds bytes; pass text: y.astype(str)")
    if array.dtype.kind not in "biufUO":
        raise ValueError(f"y holds {array.dtype}; labels are text or whole numbers")
    if array.dtype.kind == "f":
        check_whole(array)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)  # JSON, and so a checkpoint, has no longdouble
    return array


def labels_of_objects(labels: np.ndarray) -> np.ndarray:
    """Return text (N,) as it is, and other objects as numbers.

    Raises ValueError if they are neither.
    """
    for row, label in enumerate(labels):
        if is_missing(label):
            raise ValueError(f"y has no label in row {row} ({label}); leave its image out")
    kinds = {type(label) for label in labels}
    text = [kind for kind in kinds if issubclass(kind, str)]
    if text and len(text) < len(kinds):
        raise ValueError("y holds text and numbers together; pass y.astype(str) if that is right")
    if text:
        return labels
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    problem = f"y holds objects of type {names}; labels are text or whole numbers below 2**63"
    try:
        array = np.array(labels.tolist())
    except ValueError:
        raise ValueError(problem) from None
    if array.ndim != 1 or array.dtype.kind not in "biufc":
        raise ValueError(problem)
    return array


def check_whole(labels: np.ndarray) -> None:
    """Raise ValueError unless all labels (N,) of floats are whole numbers."""
    finite = np.isfinite(labels)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(
            f"y contains NaN or infinity: {labels[row]} in row {row}; leave its image out"
        )
    whole = labels == np.rint(labels)
    if not whole.all():
        row = int(np.argmin(whole))
        raise ValueError(
            f"y is continuous: {labels[row]} in row {row}; labels are text or whole numbers"
        )


def check_lengths(images: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless there is one label for each image."""
    if len(images) != len(labels):
        raise ValueError(
            f"X has {len(images)} images, and y has {len(labels)} labels; pass one label an image"
        )


def check_same_kind(labels: np.ndarray, classes: np.ndarray) -> None:
    """Raise ValueError if labels are text and the classes are numbers, or the other way round."""
    kinds = ["text" if array.dtype.kind in "UO" else "numbers" for array in (labels, classes)]
    if len(labels) and kinds[0] != kinds[1]:
        label, known = labels.tolist()[0], classes.tolist()[0]
        raise ValueError(
            f"y holds {kinds[0]}, such as {label!r}, and fit was given {kinds[1]}, such as "
            f"{known!r}; pass labels of the same kind"
        )


# ---- Weights -------------------------------------------------------------------------------------


def check_weights(sample_weight, count: int) -> np.ndarray:
    """Return weights of `count` images as float64, the largest of them 1; all are 1 for None.

    Raises ValueError unless they are finite, at least 0, and not all 0.
    """
    if sample_weight is None:
        return np.ones(count)
    name = "sample_weight"
    if np.ma.is_masked(sample_weight):
        raise ValueError(f"{name} has masked values; give the images that don't count 0")
    array = np.asarray(sample_weight)
    if array.ndim != 1:
        raise ValueError(f"{name} has the shape {array.shape}; weights have the shape (N,)")
    if len(array) != count:
        raise ValueError(f"{name} has {len(array)} values, and X has {count} images")
    if array.dtype.kind not in "buifO":
        raise ValueError(f"{name} holds {array.dtype}; weights are numbers")
    try:
        weights = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} holds values that are no numbers; weights are numbers") from None
    check_factors(weights, name)
    return weights / weights.max()


def class_factors(class_weight: dict, classes: np.ndarray) -> np.ndarray:
    """Return the weight of each class (C,) by a dict of label: weight; others have 1.

    Raises ValueError for labels or weights that are invalid.
    """
    labels = classes.tolist()
    unknown = [label for label in class_weight if label not in labels]
    if unknown and any(label not in class_weight for label in labels):
        raise ValueError(f"class_weight has the label {unknown[0]!r}; y holds {labels}")
    try:
        factors = np.array([float(class_weight.get(label, 1)) for label in labels])
    except (TypeError, ValueError):
        raise ValueError("class_weight must be a dict of label: number") from None
    check_factors(factors, "class_weight")
    return factors


def check_factors(weights: np.ndarray, name: str) -> None:
    """Raise ValueError unless weights are finite, at least 0, and not all 0."""
    for fault, wrong in (
        ("contains NaN or infinity", ~np.isfinite(weights)),
        ("has a negative value", weights < 0),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"{name} {fault}: {weights[row]:g} at {row}; give 0 to leave it out")
    if not weights.any():
        raise ValueError(f"{name} is zero everywhere; give what counts a weight above 0")


# ---- Values --------------------------------------------------------------------------------------


def is_missing_kind(kind: type) -> bool:
    """Return whether values of this type say that something is missing: None, pandas.NA or NaT."""
    return kind is type(None) or kind.__name__ in ("NAType", "NaTType")


def is_missing(value) -> bool:
    """Return whether a value is None, NaN, pandas.NA or NaT."""
    is_nan = isinstance(value, float | np.floating) and value != value
    return is_nan or is_missing_kind(type(value))


def kind_of(value) -> str:
    """Return a value's type for a message: 'a str', 'an int', 'None'."""
    if value is None:
        return "None"
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}"
