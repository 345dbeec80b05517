"""Training images changed at random, so that no epoch shows the same ones."""

from support.image_shape import CHANNELS, PIXELS, SIDE

import numpy as np


def augment(
    images: np.ndarray,
    rng: np.random.Generator,
    flip: bool = False,
    shift: int = 0,
    jitter: float = 0.0,
) -> np.ndarray:
    """Return randomly changed images (m, 3072) uint8; may overwrite `images`.

    shift: each image moves by up to so many pixels down and across; its border is mirrored into
        the gap.
    flip: each image is flipped left to right with probability 1/2.
    jitter: colours change, see `jittered`.
    """
    square = images.reshape(-1, CHANNELS, SIDE, SIDE)
    if shift:
        square = _shifted(square, shift, rng)
    if flip:
        chosen = rng.random(len(square)) < 0.5
        square[chosen] = square[chosen, :, :, ::-1]
    images = square.reshape(-1, PIXELS)
    if jitter:
        images = jittered(images, jitter, rng)
    return images


def _shifted(square: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    """Return images (m, 3, 32, 32), each moved by up to `shift` pixels in both directions."""
    border = (shift, shift)
    padded = np.pad(square, ((0, 0), (0, 0), border, border), mode="reflect")
    down, right = rng.integers(0, 2 * shift + 1, (2, len(square)))
    # (m, 3, 2 shift + 1, 2 shift + 1, 32, 32), a view of all positions
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(2, 3))
    return windows[np.arange(len(square)), :, down, right]


def jittered(images: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Return images (m, 3072) uint8 with other contrast, brightness and colours.

    With pixels x in [-1, 1], channel c becomes x (1 + jitter (a + a_c)) + jitter (b + b_c) / 2,
    rounded and clipped to a byte. a and b are normal with standard deviation 1, one number an
    image; a_c and b_c are normal with standard deviation 2/3, one number a channel.
    """
    of_image = rng.standard_normal((2, len(images), 1))
    of_channel = rng.standard_normal((2, len(images), CHANNELS))
    a, b = jitter * (of_image + of_channel * 2 / 3)
    # For pixels p in 0..255, x = p / 127.5 - 1.
    gain = 1 + a
    offset = 127.5 * (b / 2 - a)
    pixels = images.reshape(-1, CHANNELS, SIDE * SIDE) * gain.astype(np.float32)[..., None]
    pixels += offset.astype(np.float32)[..., None]
    np.rint(pixels, out=pixels)
    np.clip(pixels, 0, 255, out=pixels)
    return pixels.astype(np.uint8).reshape(images.shape)
