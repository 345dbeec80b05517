"""The geometry of a hidden layer: positions, patches, regions, whitening."""

from dataclasses import dataclass, replace
from functools import cached_property

from support.image_shape import CHANNELS, SIDE
from support.threads import Threads, eigh, slices

import numpy as np

WHITENING_PATCHES = 200_000  # about so many make the covariance; up to twice, from few images


@dataclass(frozen=True, eq=False)
class Window:
    """The geometry of a network: where its filters are applied, and how activations are pooled.

    A filter covers size x size pixels. It is applied at n positions, `stride` pixels apart, the
    first at the left and upper edge, the last at the right and lower edge. size 32 is the whole
    image, with one position. Activations are averaged over each of regions x regions regions.

    The input of a filter is its patch, d = 3 size^2 pixels in [0, 1], or (patch - mean) P with
    mean (d,) and P (d, k). `whitening` makes mean and P.

    mirror: each filter is also applied left-right flipped. P must then keep left and right apart:
    flipping a patch negates its odd components (the first columns of P) and keeps the even ones.

    two_sided: each filter also counts with its sign reversed, b1 - x W1 next to b1 + x W1, as in
    Coates & Ng's two-sided threshold (2011). These activations are pooled apart.

    bilinear: regions are the points of a regions x regions grid, from the first position to the
    last. A position counts in the points around it by its nearness, as in bilinear interpolation.

    Raises ValueError for invalid arguments.
    """

    size: int = SIDE
    stride: int = 1
    regions: int = 1
    mean: np.ndarray | None = None
    P: np.ndarray | None = None
    mirror: bool = False
    two_sided: bool = False
    bilinear: bool = False

    def __post_init__(self):
        self._check_positions()
        self._check_map()

    def _check_positions(self) -> None:
        fits = 1 <= self.size <= SIDE and self.stride >= 1
        if not fits or (SIDE - self.size) % self.stride:
            filters = f"filters of {self.size} pixels, {self.stride} apart"
            raise ValueError(f"{filters}, can't end at the edge of {SIDE} pixels")
        if not 1 <= self.regions <= self.side:
            positions = f"the {self.side} positions in a row"
            raise ValueError(f"regions must be 1 to {self.side}, {positions}, not {self.regions}")
        if self.side % 2 == 1 and self.regions % 2 == 0 and not self.bilinear:
            positions = f"{self.side} positions in a row"
            raise ValueError(f"{self.regions} regions can't lie symmetrically in {positions}")
        if self.bilinear and self.regions < 2 and not self.whole:
            raise ValueError("bilinear regions must be at least 2")

    def _check_map(self) -> None:
        if (self.mean is None) != (self.P is None):
            raise ValueError("mean and P belong together: one of them is missing")
        if self.P is None:
            return
        d = self.pixels
        if self.P.ndim != 2 or self.P.shape[0] != d or self.mean.shape != (d,) or not self.P.size:
            shapes = f"mean {self.mean.shape} and P {self.P.shape}"
            raise ValueError(f"{shapes} don't fit patches of {d} numbers")
        if self.mirror:
            flip = self.flip
            signs = np.repeat([-1, 1], [self.odd, self.inputs - self.odd])
            if (self.P[flip] != self.P * signs).any() or (self.mean[flip] != self.mean).any():
                raise ValueError("mirrored filters need a P whose columns are odd, then even")

    # ---- Numbers ----

    @property
    def whole(self) -> bool:
        """Whether a unit sees the whole image."""
        return self.size == SIDE

    @property
    def pixels(self) -> int:
        """d = 3 size^2, the numbers in a patch."""
        return CHANNELS * self.size**2

    @property
    def inputs(self) -> int:
        """k, the numbers that a filter multiplies."""
        return self.pixels if self.P is None else self.P.shape[1]

    @property
    def side(self) -> int:
        """Positions in a row of the image, and in a column."""
        return (SIDE - self.size) // self.stride + 1

    @property
    def positions(self) -> int:
        """n, the positions of a filter, numbered row by row."""
        return self.side**2

    @property
    def views(self) -> int:
        """In how many ways a filter is applied at a position: 1, 2 or 4."""
        return (2 if self.mirror else 1) * (2 if self.two_sided else 1)

    @property
    def rows(self) -> int:
        """Rows of z1 for each image: n for each view.

        The views are upright and flipped; the same with the sign reversed follow.
        """
        return self.positions * self.views

    @property
    def one_row(self) -> bool:
        """Whether a unit has one activation for each image, as in the report."""
        return self.rows == 1

    @property
    def q(self) -> int:
        """q, the means that are taken of a filter: of each region, row by row.

        With two_sided, those of the activations with reversed sign follow.
        """
        return self.regions**2 * (2 if self.two_sided else 1)

    def __str__(self):
        if self.whole:
            text = "the whole image"
        else:
            filters = f"{self.size}x{self.size} filters at {self.positions} positions"
            text = f"{filters} {self.stride} apart, {self.regions}x{self.regions} regions"
        text += ", also mirrored" if self.mirror else ""
        text += ", two-sided" if self.two_sided else ""
        text += ", bilinear" if self.bilinear else ""
        return text

    # ---- Regions ----

    @cached_property
    def region_of_row(self) -> np.ndarray:
        """The region of each row of z1 of an image, (rows,), unless regions are bilinear.

        The side x side grid of positions is cut into regions x regions parts. A position belongs to
        the part that holds the middle of its cell. The rows of flipped filters have the regions
        that the positions have in the flipped image. With two_sided, those of the reversed sign
        have the second half of the q regions.
        """
        region_row = (2 * np.arange(self.side) + 1) * self.regions // (2 * self.side)
        region = self.regions * region_row[:, None] + region_row
        if self.mirror:
            region = np.concatenate([region, region[:, ::-1]])
        if self.two_sided:
            region = np.concatenate([region, region + self.regions**2])
        return region.ravel()

    @cached_property
    def share(self) -> np.ndarray:
        """1 / the rows of z1 in each region, (q, 1) float32, unless regions are bilinear."""
        return np.float32(1) / np.bincount(self.region_of_row)[:, None].astype(np.float32)

    @cached_property
    def R(self) -> np.ndarray:
        """The matrix of pooling, (q, rows): s = R a1 is the mean over each region."""
        if not self.bilinear or self.whole:
            return np.where(self.region_of_row == np.arange(self.q)[:, None], self.share, 0)
        # Along one direction the weight falls from 1 at a grid point to 0 at its neighbours.
        points = np.arange(self.regions)[:, None]
        positions = np.linspace(0, self.regions - 1, self.side)
        line = np.maximum(0, 1 - np.abs(points - positions))  # (regions, side)
        R = np.kron(line, line)
        if self.mirror:
            R = np.hstack([R, np.kron(line, line[:, ::-1])])
        R /= R.sum(axis=1, keepdims=True)
        if self.two_sided:
            R = np.kron(np.eye(2), R)
        return R.astype(np.float32)

    @cached_property
    def R_of_side(self) -> np.ndarray:
        """The part of R for the activations of one sign: without two_sided all of it."""
        if not self.two_sided:
            return self.R
        return np.ascontiguousarray(self.R[: self.q // 2, : self.rows // 2])

    # ---- Patches ----

    @property
    def flip(self) -> np.ndarray:
        """The order of a patch's numbers, (d,), that flips the patch left-right."""
        order = np.arange(self.pixels).reshape(CHANNELS, self.size, self.size)
        return order[:, :, ::-1].ravel()

    @cached_property
    def odd(self) -> int:
        """The number of odd components: columns of P that flipping negates."""
        return int((self.P[self.flip] == -self.P).all(axis=0).sum())

    @property
    def map(self) -> dict[str, np.ndarray]:
        """The arrays `mean` and `P` by name; {} without them."""
        return {} if self.P is None else {"mean": self.mean, "P": self.P}

    @property
    def stored_map(self) -> dict[str, np.ndarray]:
        """The arrays of the map in a checkpoint, {} without a map: `mean` and `P`.

        With mirror=True the right half of each column of P is its left half flipped, times -1 if
        the column is odd. So instead of P there are `P_left`, its rows of the left half (with the
        middle column of an odd size), about (d / 2, k), and `signs` (k,), -1 or 1.
        """
        if self.P is None or not self.mirror:
            return self.map
        signs = np.ones(self.inputs)
        signs[: self.odd] = -1
        return {"mean": self.mean, "P_left": self.P[self._left], "signs": signs}

    def with_stored_map(self, arrays: dict[str, np.ndarray]) -> "Window":
        """Return this window with the map of a checkpoint, whose arrays are taken out of `arrays`.

        Raises ValueError if they don't fit the window.
        """
        mean = arrays.pop("mean", None)
        if "P_left" not in arrays:  # as in checkpoints of version 1.0.0
            return replace(self, mean=mean, P=arrays.pop("P", None))
        P_left, signs = arrays.pop("P_left"), arrays.pop("signs", np.empty(0))
        left = self._left
        if P_left.ndim != 2 or len(P_left) != len(left) or signs.shape != P_left.shape[1:]:
            shapes = f"P_left {P_left.shape} and signs {signs.shape}"
            raise ValueError(f"{shapes} don't fit patches of {self.pixels} numbers")
        P = np.empty((self.pixels, len(signs)), P_left.dtype)
        P[self.flip[left]] = P_left * signs
        P[left] = P_left
        return replace(self, mean=mean, P=P)

    @property
    def _left(self) -> np.ndarray:
        """The numbers of a patch in its left half, and in its middle column if it has one."""
        pixels = np.arange(self.pixels)
        return pixels[pixels <= self.flip]

    @cached_property
    def M(self) -> np.ndarray:
        """The matrix of X = (patch, 1) M: P above -mean P; the 1 stays unless z1 has one row."""
        P = np.asfortranarray(self.P)  # the same bits however P came to be
        M = np.vstack([P, -(self.mean @ P)])
        if self.one_row:
            return M
        last = np.eye(len(M), dtype=M.dtype)[:, -1:]
        return np.hstack([M, last])

    def patches(self, images: np.ndarray, ones: bool = False) -> np.ndarray:
        """Return the patch at each position, (m n, d), of images (m, 3072).

        ones: with a last column of ones, (m n, d + 1).
        """
        if self.whole and not ones:
            return images
        square = images.reshape(-1, CHANNELS, SIDE, SIDE)
        shape = self.size, self.size
        views = np.lib.stride_tricks.sliding_window_view(square, shape, axis=(2, 3))
        views = views[:, :, :: self.stride, :: self.stride]  # (m, 3, side, side, size, size)
        views = views.transpose(0, 2, 3, 1, 4, 5)  # a view: patches are copied once, below
        if not ones:
            return views.reshape(-1, self.pixels)
        patches = np.ones((len(square) * self.positions, self.pixels + 1), images.dtype)
        patches[:, :-1].reshape(views.shape)[...] = views
        return patches

    # ---- Whitening ----

    def whitening(self, images: np.ndarray, dims: int, eps: float, threads: Threads) -> "Window":
        """Return this window with the mean and P that whiten the patches of images (N, 3072) uint8.

        The columns of P, (d, dims), are the leading principal components of the patches at all
        positions, each divided by sqrt(variance + eps v); v is the mean variance of all components.
        Flipped images count as well, so each column is odd or even; the odd ones come first.
        """
        enough = -(-WHITENING_PATCHES // self.positions)
        some = images[:: max(1, len(images) // enough)]

        def moments(rows: slice):
            # Sums of whole numbers are exact in float64: the same bits in any order.
            patches = self.patches(some[rows]).astype(np.float64)
            return patches.sum(axis=0), patches.T @ patches

        groups = slices(len(some), max(16, 8192 // self.positions))
        sums, products = zip(*threads.each(moments, groups), strict=True)
        total, product = sum(sums), sum(products)
        flip = self.flip
        count = 2 * len(some) * self.positions  # patches and flipped patches
        mean = (total + total[flip]) / count
        C = ((product + product[np.ix_(flip, flip)]) / count - np.outer(mean, mean)) / 255**2
        variances, components = mirror_components(C, flip)
        P = components / np.sqrt(variances + eps * variances.mean())
        leading = np.argsort(-variances, kind="stable")[:dims]
        # Sorted, so that the odd components stay first.
        return replace(self, mean=mean / 255, P=P[:, np.sort(leading)])


def mirror_components(C: np.ndarray, flip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (d,) and principal components (d, d), in columns, of a covariance C.

    C is that of patches and flipped patches: C[i, j] = C[flip[i], flip[j]]. So a component is odd
    or even under flipping. Each kind comes from a matrix of half the size, which makes it odd or
    even to the last bit: for i and j in the left half of the patch,

        C[i, j] - C[i, flip[j]] (odd),   C[i, j] + C[i, flip[j]] (even).
    """
    pixels = np.arange(len(C))
    variances, components = [], []
    for sign, left in ((-1, pixels[pixels < flip]), (1, pixels[pixels <= flip])):
        right = flip[left]
        # A pixel in the middle column is its own mirror image, and counts once.
        weight = np.where(left == right, 0.5, np.sqrt(0.5))[:, None]
        half = 2 * weight * weight.T * (C[np.ix_(left, left)] + sign * C[np.ix_(left, right)])
        its_variances, vectors = eigh(half.astype(np.float32))
        its_components = np.zeros((len(C), len(left)))
        its_components[left] = weight * vectors
        its_components[right] += sign * weight * vectors
        variances.append(its_variances)
        components.append(its_components)
    return np.maximum(np.concatenate(variances), 1e-8), np.hstack(components)
