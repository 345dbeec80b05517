"""demo.html, a page in which a network itself runs: demo.html beside this file is its template, demo.js its program."""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from support import files, npz
from support.network.votes import batchnorm_line

import numpy as np

LIMIT = 6_000_000  # bytes of the page
ROOM = 150_000  # of them for all that is no weight: text, program, examples
TOLERANCE = 1e-3  # of the probabilities
FLOAT = 16  # bits of a weight, the standard float16; fewer are integers in steps of a unit's own
FEWER = (12, 11, 10, 9, 8)
TEMPLATE = Path(__file__).with_suffix(".html")
SCRIPT = Path(__file__).with_suffix(".js")


def write_demo(
    network,
    names: Sequence[str],
    path: str | os.PathLike,
    examples: np.ndarray,
    captions: Sequence[str] = (),
) -> None:
    """Write a page that needs no other file and no network access, and runs a `model.Network` on a visitor's pictures.

    names: the classes'; examples: images (m, 3072) uint8, one or more, which the page offers; captions: what they show.
    A weight takes 16 bits, or, where the page would be too large then, fewer in W1. ValueError, with the reason, where
    8 bits are too many, or where rounding changes a probability of the examples by more than 1e-3.
    """
    if (
        len(names) != network.classes
        or not len(examples)
        or (captions and len(captions) != len(examples))
    ):
        raise ValueError(
            "a page needs a name for each class, an example, and captions for all of them or none"
        )
    described, network = repr(network), network.fold_mirror() if network.window.mirror else network
    fits = [bits for bits in (FLOAT, *FEWER) if _bytes(network, bits) <= LIMIT - ROOM]
    if not fits:
        size = f"{_bytes(network, FEWER[-1]) / 1e6:,.1f} MB, even with W1 in {FEWER[-1]} bits"
        raise ValueError(
            f"its weights would take {size}, and the page is to stay below {LIMIT / 1e6:.0f} MB"
        )
    page = _page(network, described, names, examples, captions, fits[0])
    if len(page) > LIMIT:
        raise ValueError(
            f"the page would take {len(page) / 1e6:,.1f} MB, over {LIMIT / 1e6:.0f}; give fewer examples"
        )
    with files.write_whole(path) as file:
        file.write(page)


def _bytes(network, bits: int) -> float:
    """What the weights take in the page, whose base64 holds 6 bits a byte."""
    others = [array for name, array in network.weights.items() if name != "W1"]
    others += [] if network.window.P is None else [network.window.P]
    return (network.weights["W1"].size * bits + sum(array.size for array in others) * FLOAT) / 6


def _page(
    network,
    described: str,
    names: Sequence[str],
    examples: np.ndarray,
    captions: Sequence[str],
    bits: int,
):
    """The page's bytes. described: what it says of the network, in a line."""
    arrays, rounded = _rounded(network, bits)
    error = float(np.abs(rounded.predict_proba(examples) - network.predict_proba(examples)).max())
    if not error <= TOLERANCE:  # also where it is not a number
        raise ValueError(
            f"W1 in the {bits} bits that the page has room for changes a probability by {error:.2g}"
        )
    window = network.window
    encoded = {name: _encoded(array) for name, array in arrays.items() if name != "W1"}
    content = {
        "names": [str(name) for name in names],
        "network": described,
        "cap": float(np.float32(network.cap)),  # as the page computes
        "window": {
            "size": window.size,
            "stride": window.stride,
            "side": window.side,
            "regions": window.regions,
        },
        "arrays": encoded | {"W1": _encoded(arrays["W1"], bits), "examples": _encoded(examples)},
        "captions": [str(caption) for caption in captions],
    }
    data = json.dumps(content).replace("<", "\\u003c")  # no name can end the script that holds it
    page = TEMPLATE.read_text("utf-8").replace("/* demo.js */", SCRIPT.read_text("utf-8"))
    return page.replace("{/* data */}", data).encode()


def _encoded(array: np.ndarray, bits: int = FLOAT) -> dict:
    """An array as the page's `decoded` takes it. Integers with a sign are packed into `bits` bits each."""
    if array.dtype.kind == "i":
        shifts = np.arange(bits - 1, -1, -1, dtype=np.int16)
        content = np.packbits(
            (array.reshape(-1, 1) + (1 << (bits - 1)) >> shifts & 1).astype(np.uint8)
        )
    else:
        content = array.astype(array.dtype.newbyteorder("<"), copy=False)
    kind = f"bits{bits}" if array.dtype.kind == "i" else array.dtype.name
    return {
        "type": kind,
        "shape": array.shape,
        "base64": base64.b64encode(content.tobytes()).decode(),
    }


# ---- Rounded weights ------------------------------------------------------------------------------------------------


def _rounded(network, bits: int):
    """The arrays that the page holds, and the network with their roundings.

    W1 (H, k), a row a unit; W2 (q, H, C), b2 (C,); the map's mean (3 size^2,) and P (k, 3 size^2); and
    scale and shift, (H,) each, in a1 = ReLU(scale X W1 + shift), into which b1, (3) and the steps of W1 are multiplied.
    """
    window, weights = network.window, network.weights
    scale, shift = batchnorm_line(network)
    exact = {"shift": shift + scale * weights["b1"][0], "b2": weights["b2"][0]}
    W1, step, P = _half(weights["W1"]), 1.0, window.P
    if bits < FLOAT:
        W1, step = _in_steps(weights["W1"], bits, smooth=P is None)
    W2 = _half(weights["W2"])
    arrays = {"W1": np.ascontiguousarray(W1.T), "W2": W2.reshape(window.q, -1, network.classes)}
    rounded = network.copy(weights | {"W1": W1 * step, "W2": W2})
    if P is not None:
        exact |= {"mean": window.mean}
        arrays["P"] = np.ascontiguousarray(_half(P).T)
        rounded.window = replace(window, P=_half(P).astype(network.dtype))
    return arrays | npz.cast(exact | {"scale": scale * step}, np.float32), rounded


def _half(array: np.ndarray) -> np.ndarray:
    return npz.cast({"": array}, np.float16)[""]


def _in_steps(W1: np.ndarray, bits: int, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """W1 (k, H) as integers of so many bits and a step a unit, (H,).

    smooth: neighbouring rows belong to neighbouring pixels. What rounding takes from one is given to the next, so that
    the errors nearly cancel in an image, whose neighbouring pixels are alike (noise shaping).
    """
    largest = (1 << (bits - 1)) - 2  # one less than there is: the carry needs room
    step = np.maximum(np.abs(W1).max(axis=0) / largest, 1e-30)
    steps, carry = np.empty(W1.shape, np.int16), np.zeros(W1.shape[1])
    for row, exact in zip(steps, W1 / step, strict=True):
        row[:] = np.round(exact + carry)
        if smooth:
            carry += exact - row
    return steps, step
