"""Training images changed at random, so that no epoch shows the same ones: a mini-batch in, a mini-batch out."""

import numpy as np


def augment(
    images: np.ndarray,
    rng: np.random.Generator,
    flip: bool = False,
    shift: int = 0,
    jitter: float = 0.0,
) -> np.ndarray:
    """(m, 3072) uint8 -> the same, drawn anew for each image: moved by up to `shift` pixels in both directions, its
    border mirrored into the gap; with `flip`, mirrored every other time; its colours changed, see `jittered`. May
    overwrite `images`."""
    square = images.reshape(-1, 3, 32, 32)
    if shift:
        padded = np.pad(square, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="reflect")
        down, right = rng.integers(0, 2 * shift + 1, (2, len(square)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(2, 3))
        square = windows[np.arange(len(square)), :, down, right]
    if flip:
        chosen = rng.random(len(square)) < 0.5
        square[chosen] = square[chosen, :, :, ::-1]
    return jittered(square.reshape(-1, 3072), jitter, rng) if jitter else square.reshape(-1, 3072)


def jittered(images: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Images (m, 3072) uint8 with other contrast, brightness and colours: with pixels in [-1, 1], channel c of an image
    becomes x (1 + jitter (a + a_c)) + jitter (b + b_c) / 2, rounded and cut to what a byte holds.

    All four are normal: a and b, one number an image, with standard deviation 1, a_c and b_c, one a channel, with 2/3.
    """
    whole, own = rng.standard_normal((2, len(images), 1)), rng.standard_normal((2, len(images), 3))
    gain, offset = jitter * (whole + own * 2 / 3)
    gain, offset = 1 + gain, 127.5 * (offset / 2 - gain)
    pixels = images.reshape(-1, 3, 1024) * gain.astype(np.float32)[..., None]
    pixels += offset.astype(np.float32)[..., None]
    np.clip(np.rint(pixels, out=pixels), 0, 255, out=pixels)
    return pixels.astype(np.uint8).reshape(images.shape)
