"""A network's arrays written out as others: as one dense layer, with the mirror image folded in, or without a cap.

All are exact, as everything before the ReLU and behind it is linear. weights and window: a network's, see model.py.
"""

from dataclasses import replace

import numpy as np


def plain_shape(weights: dict[str, np.ndarray], window, cap: float = 0.0) -> tuple[int, int]:
    """How many hidden units U `plain` has, n H, twice as many with mirrored ones, twice as many with a cap; and how
    many bytes."""
    units = window.rows * weights["b1"].shape[1] * (2 if cap else 1)
    rows = (
        3072 + len(weights) - 3 + weights["b2"].shape[1]
    )  # a column of W1, an entry of each (1, U), a row of W2
    return units, rows * units * weights["W1"].itemsize


def plain(weights: dict[str, np.ndarray], window, cap: float = 0.0) -> dict[str, np.ndarray]:
    """The same function in the report's arrays: W1 (3072, U), b1 (1, U), W2 (U, C), b2 (1, C) and, with BN, gamma1,
    beta1, running_mean1, running_var1, each (1, U), U as in `plain_shape`; place by place.

    The map multiplies out: ((x - mean) P) W1 + b1 = x (P W1) + (b1 - mean P W1). Outside its window a unit's column of
    W1 is zero. Its row of W2 at a place is its region's, divided by the region's places.
    """
    if cap:
        weights = uncapped(weights, window, cap)
    if window.mirror:
        weights, window = mirrored(weights, window), replace(window, mirror=False)
    W1, b1, units = weights["W1"], weights["b1"], weights["b1"].shape[1]
    if window.P is not None:
        W1 = window.P @ W1
        b1 = b1 - window.mean @ W1
    full = np.zeros((3072, window.positions, units), W1.dtype)
    for place, pixels in enumerate(window.patches(np.arange(3072)[None])):
        full[pixels, place] = W1
    W2 = weights["W2"].reshape(window.q, units, -1) * window.share.astype(W1.dtype)[:, :, None]
    W2 = W2[window.region_of_row].reshape(window.positions * units, -1)
    written = {"W1": full.reshape(3072, -1), "W2": W2, "b2": weights["b2"].copy()}
    of_units = {
        name: array for name, array in (weights | {"b1": b1}).items() if name not in written
    }
    return written | {name: np.tile(array, window.positions) for name, array in of_units.items()}


def uncapped(weights: dict[str, np.ndarray], window, cap: float) -> dict[str, np.ndarray]:
    """The weights of 2 H units without a cap: min(ReLU(z), cap) = ReLU(z) - ReLU(z - cap)."""
    twice = {name: np.tile(array, 2) for name, array in weights.items()}
    twice["beta1" if "beta1" in weights else "b1"][:, weights["b1"].size :] -= cap
    W2 = weights["W2"].reshape(window.q, weights["b1"].size, -1)
    W2 = np.concatenate([W2, -W2], axis=1).reshape(-1, W2.shape[2])
    return twice | {"W2": W2, "b2": weights["b2"]}


def mirrored(weights: dict[str, np.ndarray], window) -> dict[str, np.ndarray]:
    """The weights of 2 H units whose logits are the mean of the network's on an image and on its mirror image. Those of
    a network with mirrored units are its own logits, and the 2 H units stand for themselves.

    A mirrored patch under W1 is the patch under a mirrored W1. In the coordinates of a map, mirroring is the matrix M
    with P M = mirrored P, and the mirrored W1 is M W1; the regions of W2's rows are mirrored, too. ValueError where the
    map sees other parts of a mirrored patch than of the patch, so that there is no M.
    """
    flip = window.flip
    W1, b1 = weights["W1"], weights["b1"]
    if window.P is None:
        other = W1[flip]
    else:
        P, moved = window.P.astype(np.float64), window.mean - window.mean[flip]
        M = np.linalg.pinv(P) @ P[flip]
        other, rest, change = M @ W1, P @ M - P[flip], moved @ P
        if max(np.abs(rest).max(), np.abs(change).max()) > 1e-3 * np.abs(P).max():
            raise ValueError("its map is not symmetric, so that a mirror image can't be folded in")
    W2 = weights["W2"].reshape(window.regions, window.regions, W1.shape[1], -1) / 2
    twice = {name: np.tile(array, 2) for name, array in weights.items()}
    W2 = np.concatenate([W2, W2[:, ::-1]], axis=2)
    return twice | {
        "W1": np.hstack([W1, other.astype(W1.dtype)]),
        "b1": np.hstack([b1, b1]),
        "W2": W2.reshape(-1, W2.shape[-1]),
        "b2": weights["b2"],
    }
