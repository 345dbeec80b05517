"""The window through which hidden units look at an image: its places, its patches and its regions."""

from dataclasses import dataclass, replace
from functools import cached_property

from support.threads import Threads, eigh, slices

import numpy as np

WHITENING_PATCHES = 200_000  # enough for every covariance


@dataclass(frozen=True, eq=False)
class Window:
    """What besides the weights defines a network: where its units look, through which map, and how they are pooled.

    A size x size window stands at n places, `stride` pixels apart, which cover the image; the whole image is size 32.
    The places are pooled in regions x regions regions. A unit sees a patch, 3 size^2 pixels in [0, 1], as X = patch, or
    X = (patch - mean) P, with mean (3 size^2,) and P (3 size^2, k). Raises ValueError for invalid arguments.

    mirror: each unit stands at each place twice, as it is and mirrored. Then P must keep left and right apart: each of
    its columns is odd, which in a mirrored patch changes the sign of what it measures, or even, and the odd ones come
    first, as `whitening` makes them.
    """

    size: int = 32
    stride: int = 1
    regions: int = 1
    mean: np.ndarray | None = None
    P: np.ndarray | None = None
    mirror: bool = False

    def __post_init__(self):
        if not (1 <= self.size <= 32 and self.stride >= 1 and (32 - self.size) % self.stride == 0):
            raise ValueError(
                f"windows of {self.size} pixels, {self.stride} apart, don't cover 32 pixels"
            )
        if not 1 <= self.regions <= self.side:
            raise ValueError(
                f"{self.regions} regions in a row are not 1 to {self.side}, the places in a row"
            )
        if self.side % 2 == 1 and self.regions % 2 == 0:
            raise ValueError(
                f"{self.regions} regions can't lie symmetrically in {self.side} places in a row"
            )
        if (self.mean is None) != (self.P is None):
            raise ValueError("mean and P belong together: one of them is missing")
        fits = self.P is None or (
            self.P.ndim == 2
            and self.mean.shape == self.P.shape[:1] == (self.pixels,)
            and self.P.size
        )
        if not fits:
            raise ValueError(
                f"mean {self.mean.shape} and P {self.P.shape} don't fit patches of {self.pixels}"
            )
        if self.mirror and self.whole:
            raise ValueError("mirrored units need a window below 32 pixels")
        if self.mirror and self.P is not None:
            flip, signs = self.flip, np.repeat([-1, 1], [self.odd, self.inputs - self.odd])
            if (self.P[flip] != self.P * signs).any() or (self.mean[flip] != self.mean).any():
                raise ValueError(
                    "mirrored units need a map whose columns are odd, then even, under mirroring"
                )

    @property
    def whole(self) -> bool:
        """Whether a unit sees the whole image."""
        return self.size == 32

    @property
    def rows(self) -> int:
        """Rows of z1 that an image has: its positions, twice as many with mirror."""
        return self.positions * (2 if self.mirror else 1)

    @property
    def pixels(self) -> int:
        """Numbers in a patch, 3 size^2."""
        return 3 * self.size**2

    @property
    def side(self) -> int:
        """Places in a row and in a column."""
        return (32 - self.size) // self.stride + 1

    @property
    def positions(self) -> int:
        """n; they are numbered row by row, and so are the q regions."""
        return self.side**2

    @property
    def q(self) -> int:
        return self.regions**2

    @property
    def inputs(self) -> int:
        """k, the numbers that a unit sees."""
        return self.pixels if self.P is None else self.P.shape[1]

    @property
    def flip(self) -> np.ndarray:
        """The pixels of a patch in the order of the mirrored patch, (3 size^2,)."""
        return np.arange(self.pixels).reshape(3, self.size, self.size)[:, :, ::-1].ravel()

    @cached_property
    def odd(self) -> int:
        """How many columns of P are odd."""
        return int((self.P[self.flip] == -self.P).all(axis=0).sum())

    @property
    def map(self) -> dict[str, np.ndarray]:
        """The map's arrays by name; {} where units see pixels as they are."""
        return {} if self.P is None else {"mean": self.mean, "P": self.P}

    @cached_property
    def region_of_row(self) -> np.ndarray:
        """The region of each place, (n,): the one that its middle lies in. With mirror (2 n,): then follow the regions
        of the mirrored units, which are those where they would stand in the mirrored image."""
        row = (2 * np.arange(self.side) + 1) * self.regions // (2 * self.side)
        region = self.regions * row[:, None] + row
        return np.concatenate([region, region[:, ::-1]] if self.mirror else [region]).ravel()

    @cached_property
    def share(self) -> np.ndarray:
        """1 / the places of each region, (q, 1) float32; mirrored units count their own."""
        return np.float32(1) / np.bincount(self.region_of_row)[:, None].astype(np.float32)

    @cached_property
    def R(self) -> np.ndarray:
        """Pooling as a matrix, (q, n), with mirror (q, 2 n): each place's share of each region."""
        return np.where(self.region_of_row == np.arange(self.q)[:, None], self.share, 0)

    @cached_property
    def M(self) -> np.ndarray:
        """X = (patch, 1) M, where P is a matrix: P above -mean P; windows keep the 1 as X's last column."""
        M = np.vstack([self.P, -(self.mean @ self.P)])
        return M if self.whole else np.hstack([M, np.eye(len(M), dtype=M.dtype)[:, -1:]])

    def patches(self, images: np.ndarray, ones: bool = False) -> np.ndarray:
        """What stands in the window at each place: images (m, 3072) -> (m n, 3 size^2). ones: with a column of ones."""
        if self.whole and not ones:
            return images
        square = images.reshape(-1, 3, 32, 32)
        views = np.lib.stride_tricks.sliding_window_view(
            square, (self.size, self.size), axis=(2, 3)
        )
        views = views[:, :, :: self.stride, :: self.stride]  # (m, 3, side, side, size, size)
        views = views.transpose(0, 2, 3, 1, 4, 5)
        if not ones:
            return views.reshape(-1, self.pixels)
        patches = np.ones((len(square) * self.positions, self.pixels + 1), images.dtype)
        patches[:, :-1].reshape(views.shape)[...] = views
        return patches

    def __str__(self):
        if self.whole:
            return "the whole image"
        seen = f"{self.size}x{self.size} windows in steps of {self.stride}, {self.regions}x{self.regions} regions"
        return f"{seen}, mirrored ones, too" if self.mirror else seen

    # ---- Maps, fitted to images (N, 3072) uint8 ---------------------------------------------------------------------

    def whitening(self, images: np.ndarray, dims: int, eps: float, threads: Threads) -> "Window":
        """The window that whitens its patches: the columns of P, (3 size^2, dims), are the leading principal components
        of the patches at all places, each divided by sqrt(variance + eps v), v the mean variance of all components.

        Mirror images count as well, so that no side is preferred, and a column is odd or even. The odd ones come first.
        """
        some = images[:: max(1, len(images) // -(-WHITENING_PATCHES // self.positions))]

        def moments(rows: slice):  # sums of integers, exact in float64: the same bits in any order
            patches = self.patches(some[rows]).astype(np.float64)
            return patches.sum(axis=0), patches.T @ patches

        parts = threads.each(moments, slices(len(some), max(16, 8192 // self.positions)))
        total, product = (sum(each) for each in zip(*parts, strict=True))
        flip, count = self.flip, len(some) * self.positions
        mean = (total + total[flip]) / (2 * count)
        C = ((product + product[np.ix_(flip, flip)]) / (2 * count) - np.outer(mean, mean)) / 255**2
        variances, components = mirror_components(C, flip)
        P = components / np.sqrt(variances + eps * variances.mean())
        return replace(
            self, mean=mean / 255, P=P[:, np.sort(np.argsort(-variances, kind="stable")[:dims])]
        )


def mirror_components(C: np.ndarray, flip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components, (d, d) in columns, and their variances (d,), of a covariance C (d, d) that is the same with
    its pixels mirrored, C[i, j] = C[flip[i], flip[j]].

    Then a component is odd or even under mirroring. Each kind is found by itself, from a covariance of half the size,
    C[i, j] - C[i, flip[j]] or C[i, j] + C[i, flip[j]] for i and j in the left half, so that it is so to the last bit.
    """
    pixels, variances, components = np.arange(len(C)), [], []
    for sign, left in ((-1, pixels[pixels < flip]), (1, pixels[pixels <= flip])):
        right = flip[left]
        weight = np.where(left == right, 0.5, np.sqrt(0.5))[
            :, None
        ]  # a pixel in the middle is its own mirror image
        half = 2 * weight * weight.T * (C[np.ix_(left, left)] + sign * C[np.ix_(left, right)])
        its_variances, vectors = eigh(half.astype(np.float32))
        its_components = np.zeros((len(C), len(left)))
        its_components[left] = weight * vectors
        its_components[right] += sign * weight * vectors
        variances.append(its_variances)
        components.append(its_components)
    return np.maximum(np.concatenate(variances), 1e-8), np.hstack(components)
