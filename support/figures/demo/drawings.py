"""The pictures that the demo opens on.

For CIFAR-10 each class has a picture that a few lines of NumPy draw: no image of the data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support.image_shape import PIXELS, SIDE

import numpy as np

MOST_TEST_IMAGES = 10
ROW, COLUMN = np.mgrid[:SIDE, :SIDE]


@dataclass(frozen=True)
class Opening:
    """Pictures (m, 3072) uint8, their labels (m,), -1 for none, and captions, for `write_demo`."""

    pictures: np.ndarray
    labels: list[int]
    captions: list[str]


def opening(
    names: Sequence[str],
    shapes: Mapping[str, np.ndarray],
    test_images: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
) -> Opening:
    """Return drawn pictures of the classes, and one test image of each, of ten classes at most.

    shapes: what other classes than CIFAR-10's open on, pictures (3072,) uint8 by what they show.
    """
    names = list(names)
    if set(names) == set(CIFAR10):
        drawn = {name: as_row(draw()) for name, draw in CIFAR10.items()}
    else:
        drawn = dict(shapes)
    pictures = list(drawn.values())
    labels = [names.index(name) if name in names else -1 for name in drawn]
    captions = [f"drawn {name}" for name in drawn]

    if test_images is not None:
        for row in first_rows(test_labels):
            pictures.append(test_images[row])
            labels.append(int(test_labels[row]))
            captions.append(f"test image {row}")
    return Opening(np.stack(pictures), labels, captions)


def first_rows(labels: np.ndarray) -> list[int]:
    """Return the first row of each class that has any, of ten classes at most."""
    _, rows = np.unique(labels, return_index=True)
    return rows[:MOST_TEST_IMAGES].tolist()


def as_row(picture: np.ndarray) -> np.ndarray:
    """Return a picture (32, 32, 3) as a row of pixels (3072,), channel by channel."""
    return picture.transpose(2, 0, 1).reshape(PIXELS)


# ---- Shapes, as masks (32, 32) ------------------------------------------------------------------


def ellipse(row, column, height, width, angle=0.0):
    """Return an ellipse by its middle and its half-axes, turned clockwise by degrees."""
    turn = np.deg2rad(angle)
    down, right = ROW - row, COLUMN - column
    along = right * np.cos(turn) + down * np.sin(turn)
    across = down * np.cos(turn) - right * np.sin(turn)
    return (along / width) ** 2 + (across / height) ** 2 <= 1


def box(top, bottom, left, right):
    """Return a rectangle, its last row and column included."""
    return (abs(2 * ROW - top - bottom) <= bottom - top) & (
        abs(2 * COLUMN - left - right) <= right - left
    )


def line(row, column, to_row, to_column, width=2.0):
    """Return a line of some width from one point to another, with round ends."""
    length = (to_row - row) ** 2 + (to_column - column) ** 2
    share = ((ROW - row) * (to_row - row) + (COLUMN - column) * (to_column - column)) / length
    share = np.clip(share, 0, 1)
    down = ROW - row - share * (to_row - row)
    right = COLUMN - column - share * (to_column - column)
    return np.hypot(down, right) <= width / 2


def triangle(row, column, height, width):
    """Return a triangle by its top, its height and the width of its base."""
    down = ROW - row
    return (down >= 0) & (down <= height) & (abs(COLUMN - column) <= width / 2 * down / height)


def ground(top, bottom):
    """Return a picture (32, 32, 3) uint8 that goes from one colour to another, downwards."""
    share = ROW[..., None] / 31
    return ((1 - share) * np.array(top) + share * np.array(bottom)).astype(np.uint8)


# ---- Pictures (32, 32, 3) uint8 -----------------------------------------------------------------


def airplane():
    picture = ground((95, 150, 215), (170, 205, 240))
    picture[line(16, 4, 15, 27, 5)] = 225, 228, 232  # fuselage
    picture[line(16, 15, 25, 8, 3) | line(14, 17, 6, 11, 2)] = 190, 195, 205  # wings
    picture[line(15, 5, 8, 2, 3)] = 180, 60, 60  # tail
    return picture


def automobile():
    picture = ground((190, 195, 200), (120, 120, 120))
    picture[ellipse(12, 16, 6, 9) & (ROW < 14)] = 160, 20, 25  # roof
    picture[ellipse(12, 16, 4, 7) & (ROW < 13)] = 40, 50, 60  # windows
    picture[box(13, 22, 2, 29)] = 200, 25, 30
    picture[ellipse(23, 8, 4, 4) | ellipse(23, 24, 4, 4)] = 20, 20, 20
    picture[ellipse(23, 8, 2, 2) | ellipse(23, 24, 2, 2)] = 170, 170, 170
    return picture


def bird():
    picture = ground((70, 110, 50), (60, 90, 45))
    picture[line(28, 0, 28, 31, 3)] = 90, 70, 50  # branch
    picture[ellipse(16, 16, 6, 9, -25)] = 70, 65, 65
    picture[ellipse(9, 23, 4, 4)] = 235, 232, 228  # head
    picture[line(18, 9, 22, 3, 4) | ellipse(16, 14, 3.5, 6, -25)] = 40, 35, 35  # tail and wing
    picture[line(10, 27, 10, 30)] = 220, 170, 60  # beak
    picture[line(22, 16, 28, 16, 1) | line(22, 19, 28, 19, 1)] = 60, 50, 40
    return picture


def cat():
    picture = ground((150, 60, 60), (130, 50, 50))
    picture[ellipse(25, 16, 12, 13) | ellipse(15, 16, 9, 11)] = 150, 140, 135
    picture[triangle(1, 8, 9, 8) | triangle(1, 24, 9, 8)] = 90, 75, 65  # ears
    picture[ellipse(14, 11, 2, 2.4) | ellipse(14, 21, 2, 2.4)] = 190, 200, 90  # eyes
    picture[ellipse(14, 11, 2, 0.8) | ellipse(14, 21, 2, 0.8)] = 15, 15, 15
    picture[ellipse(20, 16, 3, 4)] = 240, 235, 230
    picture[ellipse(18, 16, 1.2, 1.6)] = 190, 110, 110  # nose
    picture[line(5, 13, 9, 13, 1) | line(5, 16, 9, 16, 1) | line(5, 19, 9, 19, 1)] = 90, 75, 65
    return picture


def deer():
    picture = ground((95, 120, 60), (110, 125, 70))
    picture[ellipse(17, 15, 5, 9)] = 150, 105, 60
    picture[line(15, 22, 8, 26, 4) | ellipse(7, 27, 2.5, 4)] = 150, 105, 60
    picture[line(5, 25, 0, 22, 1.4) | line(5, 27, 0, 30, 1.4)] = 90, 65, 40
    legs = line(20, 9, 29, 8) | line(20, 12, 29, 12) | line(20, 19, 29, 19) | line(20, 22, 29, 23)
    picture[legs] = 120, 80, 45
    return picture


def dog():
    picture = ground((140, 150, 120), (120, 130, 95))
    picture[ellipse(16, 16, 11, 10)] = 180, 140, 90
    picture[ellipse(16, 6, 8, 3.5) | ellipse(16, 26, 8, 3.5)] = 110, 75, 45
    picture[ellipse(13, 12, 1.8, 1.8) | ellipse(13, 20, 1.8, 1.8)] = 25, 20, 20
    picture[ellipse(22, 16, 6, 5)] = 230, 215, 190
    picture[ellipse(19, 16, 2, 2.6)] = 20, 20, 20
    return picture


def frog():
    picture = ground((110, 85, 60), (90, 70, 50))
    picture[ellipse(19, 16, 9, 12)] = 95, 140, 45
    picture[ellipse(9, 9, 4, 4) | ellipse(9, 23, 4, 4)] = 95, 140, 45
    picture[ellipse(9, 9, 2, 2) | ellipse(9, 23, 2, 2)] = 20, 20, 10
    picture[line(20, 6, 20, 26, 1)] = 50, 75, 25
    return picture


def horse():
    picture = ground((150, 185, 220), (110, 150, 70))
    picture[ellipse(15, 14, 5, 10)] = 110, 60, 30
    picture[line(13, 21, 5, 25, 5) | line(5, 25, 9, 30, 4)] = 110, 60, 30
    picture[line(4, 22, 12, 18, 2) | line(13, 4, 21, 2, 2)] = 40, 25, 20
    legs = line(18, 7, 29, 7) | line(18, 10, 29, 11) | line(18, 19, 29, 18) | line(18, 22, 29, 22)
    picture[legs] = 85, 45, 25
    return picture


def ship():
    picture = np.where(ROW[..., None] < 19, (170, 200, 225), (40, 85, 120)).astype(np.uint8)
    picture[(ROW > 15) & (ROW < 23) & (abs(COLUMN - 16) < 19 - ROW / 3)] = 60, 60, 70  # hull
    picture[box(12, 15, 13, 23)] = 240, 240, 235  # deck
    picture[box(7, 11, 18, 20)] = 200, 60, 40  # funnel
    return picture


def truck():
    picture = ground((185, 200, 215), (120, 115, 110))
    picture[box(5, 22, 1, 19)] = 225, 225, 225  # box
    picture[box(10, 22, 20, 30)] = 40, 80, 160  # cab
    picture[box(12, 16, 24, 29)] = 30, 35, 45  # window
    picture[box(23, 24, 1, 30)] = 40, 40, 40
    wheels = ellipse(25, 6, 3.5, 3.5) | ellipse(25, 13, 3.5, 3.5) | ellipse(25, 25, 3.5, 3.5)
    picture[wheels] = 20, 20, 20
    return picture


CIFAR10 = {
    "ship": ship,  # the first, which the page opens on
    "airplane": airplane,
    "automobile": automobile,
    "bird": bird,
    "cat": cat,
    "deer": deer,
    "dog": dog,
    "frog": frog,
    "horse": horse,
    "truck": truck,
}
