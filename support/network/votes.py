"""Why this class: logits written as sums over places and over filters, exactly, as all behind the ReLU is linear."""

from dataclasses import dataclass

from support.network import blocks, unfold
from support.threads import slices

import numpy as np


@dataclass(frozen=True)
class Filter:
    """What a hidden unit adds to a logit, over all places, and where it fires most."""

    unit: int
    adds: float
    place: tuple[
        int, int
    ]  # row and column of the window's places; (0, 0) where it is the whole image
    mirrored: bool = False  # whether it stands there as seen in a mirror


def votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each place adds to each logit, votes (N, C, rows, columns), and the rest (N, C), which no place adds:

        z2[c] = rest[c] + sum of votes[c] over rows and columns,

    to rounding, in inference mode, for images (N, 3072) of a `model.Network`.

    Windows. A logit is z2[c] = b2[c] + sum_{r, h} s[r, h] W2[r h, c] (7), and s[r, h] is the mean of a1[place, h] over
    the places of region r. Exchanging the sums, with one vote for each place of the window,

        votes[c, place] = sum_h a1[place, h] W2[r h, c] / (places of r), r the place's region,  rest[c] = b2[c].

    Mirrored units vote for the place that they stand at, and count among the places of r.

    The whole image. There is but one place, and the sum goes on to the pixels. A unit is on or off, a1 = on z1^ with
    on = 1 or 0; z1 = x W1 + b1, into which a map multiplies as in `unfold.plain`; and (3) in inference is a line,
    z1^ = scale z1 + shift; a unit at its cap doesn't follow that, and is off. So, with 32 x 32 votes, which sum over
    the three channels,

        dz2[c]/dx[p] = sum_h W1[p, h] scale[h] on[h] W2[h, c],  votes[c, pixel] = sum_channels x[p] dz2[c]/dx[p],
        rest[c] = b2[c] + sum_h (scale[h] b1[h] + shift[h]) on[h] W2[h, c] + sum_{h at its cap} cap W2[h, c].

    That is gradient times input (Shrikumar et al. 2016), here without approximation. A black pixel has no vote.
    """
    part = _pixel_votes if network.window.whole else _place_votes
    few = slices(len(images), max(1, 128 // network.classes))
    few = few if network.window.whole else blocks.of_images(len(images), network.window)
    parts = network.threads.each(lambda some: part(network, images[some]), few)
    side = 32 if network.window.whole else network.window.side
    if not parts:
        return np.empty((0, network.classes, side, side), network.dtype), np.empty(
            (0, network.classes), network.dtype
        )
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _place_votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    window, C = network.window, network.classes
    W2 = network.weights["W2"].reshape(window.q, -1, C) * window.share[:, :, None]
    a1 = network.hidden(images)  # (N, n, H), mirrored (N, 2 n, H)
    found = np.empty((len(images), C, window.rows), network.dtype)
    for region in range(window.q):
        places = window.region_of_row == region
        found[:, :, places] = (a1[:, places] @ W2[region]).transpose(0, 2, 1)
    rest = np.repeat(network.weights["b2"], len(images), axis=0)
    return found.reshape(len(images), C, -1, window.side, window.side).sum(axis=2), rest


def _pixel_votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    window, C, m = network.window, network.classes, len(images)
    weights = network.weights if window.P is None else unfold.plain(network.weights, window)
    x = images.astype(network.dtype) / (255 if images.dtype == np.uint8 else 1)
    a1 = network.hidden(images)[:, 0]  # (m, H)
    on = relu_slope(a1, network.cap)
    scale, shift = batchnorm_line(network)
    dz1 = (on[:, :, None] * (scale[:, None] * weights["W2"])).astype(
        network.dtype
    )  # (m, H, C), dz2/dz1
    gradient = weights["W1"] @ dz1.transpose(1, 0, 2).reshape(-1, m * C)  # (3072, m C)
    found = np.einsum("pkmc,mpk->mck", gradient.reshape(3, 1024, m, C), x.reshape(m, 3, 1024))
    rest = weights["b2"] + np.where(on, scale * weights["b1"] + shift, a1) @ weights["W2"]
    return found.reshape(m, C, 32, 32), rest.astype(network.dtype)


def relu_slope(a1: np.ndarray, cap: float) -> np.ndarray:
    """ReLU' (13) as a bool, where activations (4) follow z1^: above 0, and below the cap if there is one."""
    return (a1 > 0) & (a1 < (cap or np.inf))


def batchnorm_line(network) -> tuple[np.ndarray, np.ndarray]:
    """(3) in inference mode as scale z1 + shift, (H,) each: its values at z1 = 0 and z1 = 1 tell the line."""
    shift, at_1 = network.normalized(np.repeat([[0.0], [1.0]], network.hidden_size, axis=1))
    return at_1 - shift, shift


def strongest(network, image: np.ndarray, c: int, top: int = 5) -> list[Filter]:
    """The at most `top` filters that add most to the logit of class c for an image (3072,), the strongest first.

    A unit adds sum_r s[r, h] W2[r h, c], over the regions r. Those that add nothing, or less, are left out.
    """
    window = network.window
    drive = network.hidden(image[None], capped=False)[0]  # (n, H)
    a1 = np.minimum(drive, network.cap or np.inf)
    s = a1 if network.window.whole else window.R @ a1
    adds = (s * network.weights["W2"].reshape(window.q, -1, network.classes)[:, :, c]).sum(axis=0)
    found = []
    for h in np.argsort(-adds, kind="stable")[:top]:
        if not adds[h] > 0:
            break
        mirrored, place = divmod(int(drive[:, h].argmax()), window.positions)
        place = divmod(place, window.side)
        found.append(Filter(int(h), float(adds[h]), place, bool(mirrored)))
    return found


def terms(votes: np.ndarray, rest: float) -> tuple[str, str, str, str]:
    """A logit and what it is the sum of, from a class's votes (rows, columns) and its rest: "4.1", "5.3 for",
    "- 1.0 against", "- 0.2 bias"."""
    pro, contra, rest = float(votes[votes > 0].sum()), float(-votes[votes < 0].sum()), float(rest)

    def number(value: float) -> str:
        return f"{value:.1f}" if abs(value) < 1e5 else f"{value:.3g}"

    total = number(pro - contra + rest).replace("-0.0", "0.0")
    bias = f"{'-' if rest < 0 else '+'} {number(abs(rest))} bias"
    return total, f"{number(pro)} for", f"- {number(contra)} against", bias


def equation(votes: np.ndarray, rest: float) -> str:
    """The `terms` in a line: "4.1 = 5.3 for - 1.0 against - 0.2 bias"."""
    total, *parts = terms(votes, rest)
    return f"{total} = {' '.join(parts)}"
