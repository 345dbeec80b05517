"""Rewrite a network's arrays: as one dense layer, with the mirror image folded in, without a cap.

Each rewriting is the same function of the image, to rounding: only the ReLU is not linear, and what
comes before and after it can be multiplied out. `weights` and `window` are those of a network, see
model.py. H is its number of hidden units, n = window.positions, q = window.q means of each filter.
"""

from dataclasses import replace

from support.image_shape import PIXELS

import numpy as np

Weights = dict[str, np.ndarray]
SYMMETRIC = 1e-3  # relative error up to which a map counts as symmetric, see `fold_mirror`


def plain_shape(weights: Weights, window, cap: float = 0.0) -> tuple[int, int]:
    """Return how many hidden units U `plain` has, and how many bytes its arrays take.

    U = n H; twice as many each with mirror=True, with two_sided=True and with a cap.
    """
    units = window.rows * weights["b1"].shape[1] * (2 if cap else 1)
    # Per unit: a column of W1, an entry of each (1, U) array, a row of W2.
    vectors = [name for name in weights if name not in ("W1", "W2", "b2")]
    per_unit = PIXELS + len(vectors) + weights["b2"].shape[1]
    return units, per_unit * units * weights["W1"].itemsize


def plain(weights: Weights, window, cap: float = 0.0) -> Weights:
    """Return the same function as one dense layer, in the course report's arrays.

    W1 (3072, U), b1 (1, U), W2 (U, C), b2 (1, C) and, with batch normalisation, gamma1, beta1,
    running_mean1 and running_var1, each (1, U). U = n H, position by position:

        W1[:, position, h] = the filter W1[:, h] at the pixels of that window, 0 at all others
        W2[position, h, :] = sum over r of R[r, position] W2[r, h, :], its share of each mean
    """
    weights, window = pixel_filters(weights, window, cap)
    W1, H = weights["W1"], weights["b1"].shape[1]

    dense_W1 = np.zeros((PIXELS, window.positions, H), W1.dtype)
    # The patches of an "image" of pixel numbers say which pixels each window covers.
    for position, pixels in enumerate(window.patches(np.arange(PIXELS)[None])):
        dense_W1[pixels, position] = W1

    of_region = weights["W2"].reshape(window.q, -1)
    dense_W2 = window.R.T.astype(W1.dtype) @ of_region  # (n, H C)

    dense = {
        "W1": dense_W1.reshape(PIXELS, -1),
        "W2": dense_W2.reshape(window.positions * H, -1),
        "b2": weights["b2"].copy(),
    }
    for name, array in weights.items():
        if name not in dense:  # a vector with an entry per filter, the same at every position
            dense[name] = np.tile(array, window.positions)
    return dense


def pixel_filters(weights: Weights, window, cap: float = 0.0):
    """Return (weights, window) of the same network with filters of pixels and plain ReLU units.

    It has no cap, no two_sided=True, no mirror=True and no map, which multiplies out:

        ((x - mean) P) W1 + b1 = x (P W1) + (b1 - mean P W1)
    """
    if window.two_sided:
        weights, window = one_sided(weights, window), replace(window, two_sided=False)
    if cap:
        weights = uncapped(weights, window, cap)
    if window.mirror:
        weights, window = fold_mirror(weights, window), replace(window, mirror=False)
    if window.P is not None:
        W1 = window.P @ weights["W1"]
        b1 = weights["b1"] - window.mean @ W1
        weights = weights | {"W1": W1, "b1": b1}
        window = replace(window, mean=None, P=None)
    return weights, window


def one_sided(weights: Weights, window) -> Weights:
    """Return the weights of 2 H units without two_sided=True.

    The second H units have the negative of W1, the same b1 and, as rows of W2, those of the means
    with reversed sign.
    """
    H = weights["b1"].shape[1]
    double = {name: np.tile(array, 2) for name, array in weights.items()}
    double["W1"][:, H:] *= -1

    # (side, region, H, C) -> (region, side, H, C)
    W2 = weights["W2"].reshape(2, window.q // 2, H, -1).swapaxes(0, 1)
    double["W2"] = W2.reshape(weights["W2"].shape)
    double["b2"] = weights["b2"]
    return double


def uncapped(weights: Weights, window, cap: float) -> Weights:
    """Return the weights of 2 H units without a cap: min(ReLU(z), cap) = ReLU(z) - ReLU(z - cap).

    The second H units have z - cap (a smaller bias) and the negative of the first ones' W2.
    """
    H = weights["b1"].shape[1]
    double = {name: np.tile(array, 2) for name, array in weights.items()}
    bias = "beta1" if "beta1" in weights else "b1"
    double[bias][:, H:] -= cap

    W2 = weights["W2"].reshape(window.q, H, -1)
    W2 = np.concatenate([W2, -W2], axis=1)  # (q, 2 H, C)
    double["W2"] = W2.reshape(-1, W2.shape[2])
    double["b2"] = weights["b2"]
    return double


def fold_mirror(weights: Weights, window) -> Weights:
    """Return 2 H units whose logits are the mean of those of an image and of its mirror image.

    A filter on the mirrored patch is the mirrored filter on the patch. So the second H units are
    the first ones mirrored, with W2 of the mirrored region, and all of W2 is halved. With
    mirror=True the network has these logits by itself; then the result needs no mirror=True.

    The network has no two_sided=True, see `one_sided`. With a map P, the mirrored filter in the
    coordinates of the map is M W1, with P M = mirrored P.
    Raises ValueError if the map spans other directions when mirrored, so that there is no such M.
    """
    W1, b1 = weights["W1"], weights["b1"]
    H = b1.shape[1]
    W1_mirrored = W1[window.flip] if window.P is None else _mirrored_map(window) @ W1

    # (region row, region column, H, C); a mirror exchanges the region columns.
    W2 = weights["W2"].reshape(window.regions, window.regions, H, -1) / 2
    W2 = np.concatenate([W2, W2[:, ::-1]], axis=2)

    double = {name: np.tile(array, 2) for name, array in weights.items()}
    double["W1"] = np.hstack([W1, W1_mirrored.astype(W1.dtype)])
    double["b1"] = np.hstack([b1, b1])
    double["W2"] = W2.reshape(-1, W2.shape[-1])
    double["b2"] = weights["b2"]
    return double


def _mirrored_map(window) -> np.ndarray:
    """Return M (k, k) with P M = P mirrored. Raises ValueError if there is none."""
    if window.mirror:
        signs = np.ones(window.inputs)
        signs[: window.odd] = -1
        return np.diag(signs)
    P = window.P.astype(np.float64)
    P_mirrored = P[window.flip]
    M = np.linalg.pinv(P) @ P_mirrored

    # The mirrored mean must also give the same numbers under P.
    change_of_P = np.abs(P @ M - P_mirrored).max()
    change_of_mean = np.abs((window.mean - window.mean[window.flip]) @ P).max()
    if max(change_of_P, change_of_mean) > SYMMETRIC * np.abs(P).max():
        raise ValueError("its map is not symmetric, so folding in the mirror image is impossible")
    return M
