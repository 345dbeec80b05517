"""Round a network's weights to a few bits, and write arrays as text that a page can hold."""

import base64
from dataclasses import dataclass, replace

from support import npz
from support.network.votes import batchnorm_line

import numpy as np

HALF = 16  # bits of a weight in float16; W1 in fewer bits consists of integers
FEWER = (12, 11, 10, 9, 8)
BASE64 = 6  # bits that a character of base64 holds


@dataclass(frozen=True)
class Packed:
    """A network whose weights are rounded, and the arrays of the page.

    arrays: W1 (k, F), float16 or integers; W2 (q, H, C) float16; b2 (C,) float32; scale and
    shift (H,) float32; with a map also mean (3 size^2,) float32 and P (3 size^2, k) float16.

    The page computes a1 = ReLU(scale X W1 + shift), with X = (patch - mean) P: scale and shift
    hold b1, batch normalisation (3) and the steps of an integer W1. H is the number of filters F,
    or in a two-sided network 2 F units, in the order of `Network.one_sided`: the second half, with
    a negative scale, shares W1 with the first one.
    """

    network: object
    arrays: dict[str, np.ndarray]
    bits: int  # of a number in W1


def text_size(network, bits: int) -> float:
    """Return how many characters the weights take as text, with W1 in `bits` bits."""
    in_half = sum(array.size for name, array in network.weights.items() if name != "W1")
    if network.window.P is not None:
        in_half += network.window.P.size
    return (network.weights["W1"].size * bits + in_half * HALF) / BASE64


def largest_precision(network, limit: int) -> int | None:
    """Return the bits of a number in W1 with which the weights fit into `limit` characters.

    16 bits stand for float16. Returns None if 8 bits are still too many.
    """
    for bits in (HALF, *FEWER):
        if text_size(network, bits) <= limit:
            return bits
    return None


def packed(network, bits: int) -> Packed:
    """Return a `model.Network` with rounded weights, W1 in `bits` bits, and the page's arrays."""
    window, weights = network.window, network.weights
    if bits < HALF:
        # Without a map, neighbouring rows of W1 belong to neighbouring pixels.
        W1, step = in_steps(weights["W1"], bits, smooth=window.P is None)
    else:
        W1, step = half(weights["W1"]), 1.0
    W2 = half(weights["W2"])
    scale, shift = batchnorm_line(network)

    scale, shift = scale * step, shift + scale * weights["b1"][0]
    by_unit = W2
    if window.two_sided:
        scale, shift = np.concatenate([scale, -scale]), np.tile(shift, 2)
        by_unit = half(network.one_sided().weights["W2"])
    exact = {"b2": weights["b2"][0], "scale": scale, "shift": shift}
    arrays = {"W1": W1, "W2": by_unit.reshape(window.regions**2, -1, network.classes)}
    if window.P is not None:
        exact["mean"] = window.mean
        arrays["P"] = half(window.P)
        window = replace(window, P=arrays["P"].astype(network.dtype))
    arrays |= npz.cast(exact, np.float32)

    rounded = network.copy(weights | {"W1": W1 * step, "W2": W2}, window=window)
    return Packed(rounded, arrays, bits)


def half(array: np.ndarray) -> np.ndarray:
    """Return the array in float16. Raises ValueError if a number is too large for it."""
    return npz.cast({"": array}, np.float16)[""]


def in_steps(W1: np.ndarray, bits: int, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return W1 (k, H) as integers of `bits` bits, and the step of each unit, (H,).

    smooth: the rounding error of a row is added to the next row before that is rounded (noise
    shaping). Neighbouring pixels of an image are alike, so that the errors nearly cancel.
    """
    # One step less than the bits allow: the error of the row before needs room.
    largest = 2 ** (bits - 1) - 2
    step = np.maximum(np.abs(W1).max(axis=0) / largest, 1e-30)
    steps = np.empty(W1.shape, np.int16)
    error = np.zeros(W1.shape[1])
    for row, exact in enumerate(W1 / step):
        steps[row] = np.round(exact + error)
        if smooth:
            error += exact - steps[row]
    return steps, step


def encoded(array: np.ndarray, bits: int = HALF) -> dict:
    """Return an array as `decoded` in network.js reads it: its type, its shape and its bytes.

    int16 becomes "bits11" or the like, `bits` bits a number without gaps; float16, float32 and
    uint8 are stored as they are, little-endian.
    """
    if array.dtype == np.int16:
        kind, content = f"bits{bits}", packed_bits(array, bits)
    else:
        kind = array.dtype.name
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"type": kind, "shape": array.shape, "base64": base64.b64encode(content).decode()}


def packed_bits(integers: np.ndarray, bits: int) -> bytes:
    """Return integers from -2^(bits-1) as numbers of `bits` bits without gaps, high bit first."""
    positive = integers.reshape(-1, 1).astype(np.int32) + 2 ** (bits - 1)
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((positive >> shifts & 1).astype(np.uint8)).tobytes()
