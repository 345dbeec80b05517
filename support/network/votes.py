"""Explain a prediction: logits written as exact sums over positions, over pixels, or over filters.

Behind the ReLU everything is linear, so a logit is a sum, and each term of it is a vote. Nothing is
approximated.

A two-sided network is explained as `Network.one_sided` writes it: a filter and its negative are two
hidden units, h and H + h, each with votes of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from support.image_shape import CHANNELS, PIXELS, SIDE
from support.network import blocks
from support.threads import slices

import numpy as np

# ---- Votes of positions and of pixels ------------------------------------------------------------


def votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each position adds to each logit, and the rest of it:

        z2[c] = rest[c] + sum of votes[c] over rows and columns,

    to rounding, in inference mode, for images (N, 3072) of a `model.Network`. votes is
    (N, C, rows, columns), rest is (N, C).

    A window smaller than the image. A logit is z2[c] = b2[c] + sum_{r, h} s[r, h] W2[r h, c] (7),
    with the means s = R a1 over regions r. Exchanging the sums gives one vote per position:

        votes[c, position] = sum_{r, h} R[r, position] a1[position, h] W2[r h, c],
        rest[c] = b2[c].

    A position is in one region r, and R[r, position] is 1 / (positions in r). In bilinear regions
    it has a weight in each region around it. With mirror=True the flipped filters vote at the same
    positions, and count among the positions in r.

    The whole image. There is one position, so the sum is split further, over pixels. A unit is on
    or off: a1 = on z1^ with on = 1 or 0, where z1 = x W1 + b1 (a map is multiplied into W1 and b1,
    as in `unfold.plain`; a mirrored unit is two units, each with half of its W2). In inference (3)
    is a line, z1^ = scale z1 + shift. A unit at its cap doesn't follow the line: on = 0, and its
    cap goes into the rest. The votes are 32 x 32, summed over the three channels:

        dz2[c]/dx[p] = sum_h W1[p, h] scale[h] on[h] W2[h, c],
        votes[c, pixel] = sum_channels x[p] dz2[c]/dx[p],
        rest[c] = b2[c] + sum_h (scale[h] b1[h] + shift[h]) on[h] W2[h, c]
                        + sum_{h at its cap} cap W2[h, c].

    That is gradient times input (Shrikumar et al. 2016), and for this network exact. A black pixel
    has no vote.
    """
    network = network.one_sided()
    if network.window.whole:
        part = _pixel_votes
        batches = slices(len(images), max(1, 128 // network.classes))
    else:
        part = _position_votes
        batches = blocks.of_images(len(images), network.window)
    parts = network.threads.each(lambda some: part(network, images[some]), batches)
    if not parts:
        side = map_side(network)
        nothing = np.empty((0, network.classes, side, side), network.dtype)
        return nothing, np.empty((0, network.classes), network.dtype)
    maps, rest = zip(*parts, strict=True)
    return np.concatenate(maps), np.concatenate(rest)


def map_side(network) -> int:
    """Return the rows of a map of votes, which are also its columns."""
    return SIDE if network.window.whole else network.window.side


def _position_votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    window, C = network.window, network.classes
    W2 = network.weights["W2"].reshape(window.q, -1, C)
    R = window.R.astype(network.dtype)
    a1 = network.hidden(images)  # (N, rows, H)
    of_rows = np.zeros((len(images), C, window.rows), network.dtype)
    for region in range(window.q):
        inside = R[region] > 0
        of_region = a1[:, inside] @ W2[region]  # (N, rows inside, C)
        of_rows[:, :, inside] += R[region, inside] * of_region.transpose(0, 2, 1)
    # With mirror=True each position has two rows: its filters' and the flipped filters'.
    maps = of_rows.reshape(len(images), C, -1, window.side, window.side).sum(axis=2)
    rest = np.repeat(network.weights["b2"], len(images), axis=0)
    return maps, rest


def _pixel_votes(network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    m, C, window = len(images), network.classes, network.window
    W1, b1 = network.weights["W1"], network.weights["b1"]
    if window.P is not None:
        b1 = b1 - (window.mean @ window.P) @ W1  # X W1 + b1 = (x P) W1 + this
    W2 = network.weights["W2"] / window.rows  # of a row of z1: with mirror=True there are two
    x = images.astype(network.dtype)
    if images.dtype == np.uint8:
        x /= 255
    a1 = network.hidden(images)  # (m, rows, H)
    on = relu_slope(a1, network.cap)
    scale, shift = batchnorm_line(network)
    slope = scale[:, None] * W2  # (H, C)

    gradient = np.zeros((PIXELS, m * C), network.dtype)  # dz2/dx
    for row in range(window.rows):
        dz1 = (on[:, row, :, None] * slope).astype(network.dtype)  # (m, H, C), dz2/dz1
        dx = W1 @ dz1.transpose(1, 0, 2).reshape(-1, m * C)  # (k, m C)
        if window.P is not None:
            dx = window.P @ dx
        # The second row is that of the flipped filters.
        gradient += dx if row == 0 else dx[window.flip]
    gradient = gradient.reshape(CHANNELS, SIDE * SIDE, m, C)
    maps = np.einsum("pkmc,mpk->mck", gradient, x.reshape(m, CHANNELS, -1))
    # Flipped filters have the same constants, as flipping leaves the mean as it is.
    constant = np.where(on, scale * b1 + shift, a1).sum(axis=1)
    rest = network.weights["b2"] + constant @ W2
    return maps.reshape(m, C, SIDE, SIDE), rest.astype(network.dtype)


def relu_slope(a1: np.ndarray, cap: float) -> np.ndarray:
    """Return ReLU' (13) of activations (4): True above 0 and below the cap, if there is one."""
    return (a1 > 0) & (a1 < (cap or np.inf))


def batchnorm_line(network) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift, (H,) each, of (3) in inference mode: z1^ = scale z1 + shift."""
    zero_and_one = np.repeat([[0.0], [1.0]], network.hidden_size, axis=1)
    shift, at_one = network.normalized(zero_and_one)
    return at_one - shift, shift


# ---- Votes against a background ------------------------------------------------------------------


def shapley_values(
    network, images: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Shapley values of the positions, (N, C, rows, columns), and the base (N, C):

        z2[c] = base[c] + sum of values[c] over rows and columns,
        values = votes(image) - mean of votes(background),
        base[c] = mean over the background of z2[c].

    Derivation. The players are the positions. A coalition S is worth v(S), the expected logit if
    the positions in S keep the image's features a1, and each other position draws its features from
    a background image, independently. By (7) the logit is rest + sum_j vote_j, and vote_j depends
    on the features of position j alone, so

        v(S) = rest + sum_{j in S} vote_j(image) + sum_{j not in S} E[vote_j(background)].

    If j joins any S, v changes by vote_j(image) - E[vote_j(background)], whatever S is. The Shapley
    value is a mean of these changes over coalitions, so it is this very number (Shapley 1953;
    Lundberg & Lee 2017). Without a background the votes are compared with features of zero; with
    one, with an average image.

    Raises ValueError if a unit sees the whole image (a vote of a pixel depends on all pixels) or
    there is no background.
    """
    if network.window.whole:
        raise ValueError("Shapley values need positions; this network sees the whole image at once")
    if not len(background):
        raise ValueError("Shapley values need at least one background image")
    maps, rest = votes(network, images)
    mean = votes(network, background)[0].mean(axis=0, dtype=np.float64).astype(network.dtype)
    return maps - mean, rest + mean.sum(axis=(1, 2))


# ---- What filters add ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A hidden unit: what it adds to a logit, and the position where it is largest."""

    unit: int  # in a two-sided network H + h is filter h with its sign reversed
    adds: float
    position: tuple[int, int]  # row and column among the positions; (0, 0) for the whole image
    mirrored: bool = False  # whether it is largest there as the flipped filter


def strongest(
    network, image: np.ndarray, c: int, top: int = 5, against: int | None = None
) -> list[Filter]:
    """Return the at most `top` filters that add most to the logit of class c for an image (3072,),
    largest first.

    A unit adds sum_r s[r, h] W2[r h, c] over the regions r. With `against`, it is what the unit
    adds to the difference of the logits of c and `against`. Units that add nothing, or less, are
    left out.
    """
    network = network.one_sided()
    window = network.window
    drive = network.hidden(image[None], capped=False)[0]  # (rows, H)
    a1 = np.minimum(drive, network.cap or np.inf)
    s = window.R @ a1
    W2 = network.weights["W2"].reshape(window.q, -1, network.classes)
    weights = W2[:, :, c]
    if against is not None:
        weights = weights - W2[:, :, against]
    adds = (s * weights).sum(axis=0)
    filters = []
    for unit in np.argsort(-adds, kind="stable")[:top]:
        if not adds[unit] > 0:
            break
        # Without its cap, as all positions at the cap would be equally strong.
        mirrored, position = divmod(int(drive[:, unit].argmax()), window.positions)
        row_and_column = divmod(position, window.side)
        filters.append(Filter(int(unit), float(adds[unit]), row_and_column, bool(mirrored)))
    return filters


# ---- One image explained -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction for an image: its probabilities, the votes behind it, the strongest filters."""

    probabilities: np.ndarray  # (C,) float64
    maps: np.ndarray  # (C, rows, columns): `votes`, or with a background `shapley_values`
    rest: np.ndarray  # (C,), which the maps add to
    rest_name: str  # "bias", or with a background "average"
    # Those that add most to the predicted class, or to its lead over `against`.
    filters: list[Filter]
    against: int | None = None  # the class that the predicted one is compared with

    @property
    def likeliest(self) -> list[int]:
        """All classes, the likeliest first."""
        return np.argsort(-self.probabilities, kind="stable").tolist()

    @property
    def predicted(self) -> int:
        """The likeliest class."""
        return self.likeliest[0]

    def panels(self, names: Sequence[str], count: int = 3) -> list[tuple[str, np.ndarray, float]]:
        """Return (title, map, rest) of what is to be shown.

        The `count` likeliest classes; with `against` the predicted class, the other one, and their
        difference. The latter's sum is the difference of the logits: the logarithm of the ratio of
        the two probabilities (log-odds).
        """
        if self.against is None:
            return [(names[c], self.maps[c], float(self.rest[c])) for c in self.likeliest[:count]]
        a, b = self.predicted, self.against
        difference = self.maps[a] - self.maps[b], float(self.rest[a] - self.rest[b])
        return [
            (names[a], self.maps[a], float(self.rest[a])),
            (names[b], self.maps[b], float(self.rest[b])),
            (f"{names[a]} − {names[b]}", *difference),
        ]

    def sums(self, names: Sequence[str], count: int = 3) -> list[tuple[str, str, str, str]]:
        """Return the `terms` of each panel.

        The difference's total is the difference of the two totals, as they are written.
        """
        panels = self.panels(names, count)
        sums = [terms(votes, rest, self.rest_name) for _, votes, rest in panels]
        if self.against is not None:
            _, votes, rest = panels[2]
            lead = float(sums[0][0]) - float(sums[1][0])
            sums[2] = terms(votes, rest, self.rest_name, lead)
        return sums

    def equations(self, names: Sequence[str], count: int = 3) -> list[str]:
        """Return the panels as lines: "ship  4.12 = 5.31 for - 1.00 against - 0.19 bias"."""
        titles = [title for title, _, _ in self.panels(names, count)]
        width = max(len(title) for title in titles)
        lines = []
        for title, (total, *parts) in zip(titles, self.sums(names, count), strict=True):
            lines.append(f"{title:<{width}}  {total} = {' '.join(parts)}")
        return lines


def explain(
    network,
    image: np.ndarray,
    against: int | None = None,
    background: np.ndarray | None = None,
    top: int = 5,
) -> Explanation:
    """Return the Explanation of an image (3072,).

    against: the class that the predicted one is compared with; if it is the predicted one, the
    second likeliest. background: images (N, 3072) for `shapley_values` instead of votes. top:
    filters. Raises ValueError if the network's numbers overflow, or for what `shapley_values` does.
    """
    network = network.one_sided()  # once
    with np.errstate(over="ignore", invalid="ignore"):
        if background is None:
            (maps,), (rest,) = votes(network, image[None])
        else:
            (maps,), (rest,) = shapley_values(network, image[None], background)
        y = network.predict_proba(image[None])[0].astype(float)
        order = np.argsort(-y, kind="stable")
        if against == order[0]:
            against = int(order[1])
        filters = strongest(network, image, int(order[0]), top, against)
    if not (np.isfinite(maps).all() and np.isfinite(y).all() and np.isfinite(rest).all()):
        raise ValueError("the network's numbers overflow, so that nothing can be explained")
    rest_name = "bias" if background is None else "average"
    maps, rest = maps.astype(float), rest.astype(float)
    return Explanation(y, maps, rest, rest_name, filters, against)


# ---- Sums as text --------------------------------------------------------------------------------

DECIMALS = 2
LARGE = 1e5  # from here on numbers are written to three digits, and no longer add up as written


def rounded_sum(parts: list[float], decimals: int = DECIMALS) -> tuple[float, list[float]]:
    """Return the total and the parts, rounded so that the parts add up to the total.

    The largest remainder method: all parts are rounded down, then those that lost most are rounded
    up, as many as the total needs. Each part is off by less than one unit of the last digit.
    """
    unit = 10**decimals
    exact = [part * unit for part in parts]
    down = [math.floor(part) for part in exact]
    total = round(sum(exact))
    by_remainder = sorted(range(len(parts)), key=lambda i: down[i] - exact[i])
    for i in by_remainder[: total - sum(down)]:
        down[i] += 1
    return total / unit, [part / unit for part in down]


def terms(
    votes: np.ndarray, rest: float, rest_name: str = "bias", total: float | None = None
) -> tuple[str, str, str, str]:
    """Return a logit and its parts: "4.12", "5.31 for", "- 1.00 against", "- 0.19 bias".

    votes: one class's map (rows, columns), or the difference of two. rest: what else the logit has,
    named `rest_name`. The numbers add up as they are written. total: the logit, if it has been
    rounded already; the rest then takes up what that rounding changed, one unit of the last digit.
    """
    pro, contra = float(votes[votes > 0].sum()), float(votes[votes < 0].sum())
    parts = [pro, contra, float(rest)]
    if max(map(abs, parts)) < LARGE:
        rounded, parts = rounded_sum(parts)
        if total is None:
            total = rounded
        parts[2] = round(parts[2] + total - rounded, DECIMALS)
    else:
        total = sum(parts)
    pro, contra, rest = parts
    sign = "-" if rest < 0 else "+"
    bias = f"{sign} {_number(abs(rest))} {rest_name}"
    return _number(total), f"{_number(pro)} for", f"- {_number(abs(contra))} against", bias


def _number(value: float) -> str:
    return f"{value:.{DECIMALS}f}" if abs(value) < LARGE else f"{value:.3g}"


def equation(votes: np.ndarray, rest: float, rest_name: str = "bias") -> str:
    """Return the `terms` in a line: "4.12 = 5.31 for - 1.00 against - 0.19 bias"."""
    total, *parts = terms(votes, rest, rest_name)
    return f"{total} = {' '.join(parts)}"
