"""A network with one hidden layer for 32x32 RGB images, written by hand in NumPy.

The report's network looks at the whole image:

    X  = layer_input(images)   (m, k)     k = 3072 pixels in [0, 1]
    z1 = X W1 + b1             (m, H)     (1)   H hidden units
    z1^ = BN(z1)               (m, H)     (3)   batch normalisation, optional
    a1 = ReLU(z1^)             (m, H)     (4)
    s  = a1 * mask / (1 - p)   (m, H)     (6)   dropout, optional; the report calls it a1 as well
    z2 = s W2 + b2             (m, C)     (7)   logits: a score for each of C classes
    y^ = softmax(z2)           (m, C)     (8)   their probabilities

The better networks are convolutional. A hidden unit is then a filter of, say, 8x8 pixels, applied
with the same weights at n positions of the image, and averaged over each of q regions:

    X  = layer_input(images)   (m n, k)   patches, usually whitened (and a column of ones)
    z1 = X W1 + b1             (m n, H)   (1)
    a1 = min(ReLU(z1), cap)    (m n, H)   (4)   a cap is optional
    s  = pool(a1)              (m, q H)   the mean of each filter over each region
    z2 = s W2 + b2             (m, C)     (7)

The first network is the case n = q = 1. With mirror=True each filter is also applied left-right
flipped, and with two_sided=True also with the sign of X W1 reversed: then z1 has 2 m n or 4 m n
rows. Each sign is pooled apart, so two_sided=True doubles q.

The numbers of the equations are those of the course report that the project reproduces; it has no
(2) and (5). docs/equations.py is its network in fifty plain lines, to be read first. This file adds
filters, threads, files and checks of its input. It leaves out data, augmentation, the learning-rate
schedule and the training loop, which are in train.py.

From top to bottom: input, equations in pairs of forward and backward, SGD, network, files.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from support import files, npz
from support.image_shape import PIXELS
from support.network import blocks, unfold
from support.network.blocks import LazyProduct
from support.network.window import Window
from support.threads import Threads, eigh, slices

import numpy as np

Array = np.ndarray
MAX_UNITS, MAX_CLASSES = 1_000_000, 1000
COLUMNS = 2048  # columns of s that a thread takes at a time, see `Network.precondition`
# What a checkpoint says of the window, and the type of each.
GEOMETRY = {
    "size": int,
    "stride": int,
    "regions": int,
    "mirror": bool,
    "two_sided": bool,
    "bilinear": bool,
}

# ---- The input ---------------------------------------------------------------------------------
# A Window (support/network/window.py) is the geometry of the hidden layer:
#     whole                  a unit sees the whole image, n = q = 1
#     inputs, positions, q   k, n and q above
#     views                  in how many ways a filter is applied at a position: 1, 2 or 4
#     rows                   rows of z1 for each image: n for each view
#     mean, P, M             whitening, X = (patch - mean) P, and the same as one matrix
#     R                      pooling as a matrix (q, rows)
#     region_of_row, share   pooling as an index and a factor
#     odd                    see `mirror_forward`


def layer_input(images: Array, window: Window, dtype) -> Array:
    """Return X, what the hidden units see of images (m, 3072), uint8 or floats in [0, 1].

    X is (m, k) if a unit has one activation for each image, as in the report. Else it is
    (m n, k + 1), one row for each position, an image's rows one after the other; its last column is
    ones, for b1.
    """
    scale = 1 / 255 if images.dtype == np.uint8 else 1
    pixels = np.multiply(images, np.dtype(dtype).type(scale), dtype=dtype)
    if window.P is None:
        return window.patches(pixels, ones=not window.one_row)
    return window.patches(pixels, ones=True) @ window.M.astype(dtype, copy=False)


# ---- The equations -----------------------------------------------------------------------------
# x_forward(...) -> out, cache and x_backward(dout, cache) -> gradients, where dout is dL/dout.
# The cache is a tuple, an array or the window. The last pair starts the way back: it takes m
# instead of dout.
# Most of them work in place: at these sizes, memory traffic is what a pass costs.


def linear_forward(X: Array, W: Array, b: Array):
    """Return z = X W + b, here (7): X (m, q H), W (q H, C), b (1, C) -> z (m, C)."""
    z = X @ W
    z += b
    return z, (X, W)


def linear_backward(dz: Array, cache):
    """Return the gradients of X, W and b from dz (m, C)."""
    X, W = cache
    dX = dz @ W.T  # (12)
    dW = X.T @ dz  # (10)
    db = dz.sum(axis=0, keepdims=True)  # (11)
    return dX, dW, db


def filters_forward(X: Array, W: Array, window: Window):
    """Return z1 = X W1 + b1 (1), with X as `layer_input` returns it. W (k + 1, H): W1 above b1.

    z1 is (m, H) for the report's network. Else it is (m rows, H), with a row for each position of
    each view of an image: of the filters; with mirror=True of the flipped ones; with two_sided=True
    of all of these with the sign of X W1 reversed.
    """
    if window.one_row:
        z1 = X @ W[:-1]
        z1 += W[-1]
        return z1, (X, window)
    n, H = window.positions, W.shape[1]
    z1 = np.empty((len(X) // n, window.views, n, H), X.dtype)
    if window.mirror:
        even_part, odd_part = mirror_forward(X, W, window)
        np.add(even_part, odd_part, out=z1[:, 0])
        np.subtract(even_part, odd_part, out=z1[:, 1])
    elif window.two_sided:
        z1[:, 0] = (X @ W).reshape(-1, n, H)
    else:
        # X ends with a column of ones, so that the product adds b1: it saves a pass over z1.
        np.matmul(X, W, out=z1.reshape(-1, H))
    if window.two_sided:
        half = window.views // 2
        np.subtract(2 * W[-1], z1[:, :half], out=z1[:, half:])  # 2 b1 - z1 = b1 - X W1
    return z1.reshape(-1, H), (X, window)


def filters_backward(dz1: Array, cache):
    """Return dL/dW1 = X^T dz1 (14) and dL/db1 (15). Overwrites dz1.

    For the report's network dL/dW1 is a LazyProduct.
    """
    X, window = cache
    if window.one_row:
        # This gradient is as large as W1. `_step` multiplies it out, a block of rows at a time,
        # while it updates these rows: it never travels to memory and back.
        return LazyProduct(X, dz1), dz1.sum(axis=0, keepdims=True)
    n, H = window.positions, dz1.shape[1]
    dz1 = dz1.reshape(-1, window.views, n, H)
    db1_reversed = 0
    if window.two_sided:
        # d(2 b1 - z1) / dz1 = -1, and b1 has a share of its own.
        dz1, reversed_dz1 = np.split(dz1, 2, axis=1)
        dz1 -= reversed_dz1
        db1_reversed = 2 * reversed_dz1.sum(axis=(0, 1, 2))
    dW = mirror_backward(dz1, cache) if window.mirror else X.T @ dz1.reshape(-1, H)
    # The last row belongs to the column of ones.
    dW[-1] += db1_reversed
    return dW[:-1], dW[-1:]


def mirror_forward(X: Array, W: Array, window: Window):
    """Return the even and the odd part of z1, (m, n, H): their sum is z1 of the filters.

    A column of X is a principal component of the patches. Flipping a patch changes the sign of its
    odd components, the first columns of X, and leaves the even ones unchanged:

        z1 = X_even W1_even + b1 + X_odd W1_odd,   flipped: X_even W1_even + b1 - X_odd W1_odd.

    So the two halves of the product serve a filter and its mirror image, at the cost of one.
    """
    odd, n, H = window.odd, window.positions, W.shape[1]
    even_part = X[:, odd:] @ W[odd:]  # the column of ones is even: it adds b1
    odd_part = X[:, :odd] @ W[:odd]
    return even_part.reshape(-1, n, H), odd_part.reshape(-1, n, H)


def mirror_backward(dz1: Array, cache) -> Array:
    """Return dL/dW (k + 1, H), the last row for b1, from dz1 (m, 2, n, H) of both orientations.

    X_even W1_even is in z1 and in its flipped copy with the sign +: it receives the sum of their
    gradients. X_odd W1_odd is there with + and -: it receives their difference.
    """
    X, window = cache
    odd, H = window.odd, dz1.shape[3]
    upright, flipped = dz1[:, 0], dz1[:, 1]
    of_even = (upright + flipped).reshape(-1, H)
    of_odd = (upright - flipped).reshape(-1, H)
    dW = np.empty((X.shape[1], H), X.dtype)
    np.matmul(X[:, odd:].T, of_even, out=dW[odd:])
    np.matmul(X[:, :odd].T, of_odd, out=dW[:odd])
    return dW


BN_EPS = 1e-5
BN_MOMENTUM = 0.9  # the share of its running statistics that a training step keeps
BATCHNORM = ("gamma1", "beta1", "running_mean1", "running_var1")
STATISTICS = ("running_mean1", "running_var1")  # averages over batches, not trained


def batchnorm_forward(z1: Array, gamma, beta, running_mean, running_var, train: bool):
    """Return z1^ = gamma (z1 - mean) / sqrt(var + eps) + beta (3) (Ioffe & Szegedy 2015).

    z1 is (rows, H), the others (1, H). In training, mean and var (biased) are the batch's; in
    inference they are the running ones. Overwrites z1.
    """
    mean = z1.mean(axis=0, keepdims=True) if train else running_mean
    z1 -= mean
    # The sum of squares of each column; np.var would make a copy as large as z1.
    var = np.einsum("ij,ij->j", z1, z1)[None] / len(z1) if train else running_var
    inverse_std = 1 / np.sqrt(var + z1.dtype.type(BN_EPS))
    z1 *= inverse_std  # now x^
    out = z1 * gamma
    out += beta
    return out, (z1, gamma, inverse_std, mean, var)


def batchnorm_backward(dout: Array, cache):
    """Return dz1, dgamma and dbeta of (3). Overwrites dout with dz1, and the cache.

    With x^ = (z1 - mean) / sqrt(var + eps), and mean and var functions of z1, the chain rule gives

        dbeta = sum_i dout_i,   dgamma = sum_i dout_i x^_i,
        dz1_i = gamma / sqrt(var + eps) (dout_i - dbeta / rows - x^_i dgamma / rows).
    """
    x_hat, gamma, inverse_std, _, _ = cache
    dbeta = dout.sum(axis=0, keepdims=True)
    dgamma = np.einsum("ij,ij->j", dout, x_hat)[None]
    dout -= dbeta / len(dout)
    x_hat *= dgamma / len(dout)
    dout -= x_hat
    dout *= gamma * inverse_std
    return dout, dgamma, dbeta


def relu_forward(z1: Array, cap: float = 0.0, train: bool = True):
    """Return a1 = ReLU(z1^) (4), in place; with a cap > 0 at most the cap (Krizhevsky 2010).

    A unit with a cap equals two ReLU units: min(ReLU(z), cap) = ReLU(z) - ReLU(z - cap). The cache
    is ReLU'(z1^), bool; None unless train.
    """
    active = None
    if train:
        active = z1 > 0
        if cap:
            active &= z1 < cap
    np.clip(z1, 0, cap or np.inf, out=z1)  # keeps NaN, so that a broken run shows
    return z1, active


def relu_backward(da1: Array, active: Array) -> Array:
    """Return dL/dz1^ = dL/da1 * ReLU'(z1^) (13), in place: 0 below 0 and above the cap."""
    da1 *= active
    return da1


def pool_forward(a1: Array, window: Window):
    """Return s = R a1 (m, q, H), the mean over the positions of each region.

    R (q, rows) holds, in the row of a region, 1 / (its number of rows) for these rows, else 0; with
    bilinear=True weights that fall with the distance.
    """
    H = a1.shape[1]
    if window.one_row:
        return a1[:, None], window  # (m, 1, H)
    R = window.R_of_side  # the activations of each sign are pooled alike
    s = R @ a1.reshape(-1, R.shape[1], H)
    return s.reshape(-1, window.q, H), window


def pool_backward(ds: Array, window: Window) -> Array:
    """Return dL/da1 = R^T dL/ds from ds (m, q, H).

    Unless regions are bilinear, each row of z1 receives its region's gradient, divided by the
    number of the image's rows in that region: a copy, which is faster than a product.
    """
    if window.one_row:
        return ds[:, 0]
    H = ds.shape[2]
    if window.bilinear:
        R = window.R_of_side
        return (R.T @ ds.reshape(-1, len(R), H)).reshape(-1, H)
    divided = ds * window.share
    return np.take(divided, window.region_of_row, axis=1).reshape(-1, H)


def hidden_forward(X: Array, w: dict[str, Array], window: Window, cap: float, train: bool):
    """Return s (m, q, H) of hidden units with the weights w, from X as in `layer_input`."""
    z, filters_cache = filters_forward(X, w["W"], window)  # (1) z1
    batchnorm_cache = None
    if "gamma1" in w:
        arrays = [w[name] for name in BATCHNORM]
        z, batchnorm_cache = batchnorm_forward(z, *arrays, train)  # (3) z1^
    a1, active = relu_forward(z, cap, train)  # (4)
    s, pool_cache = pool_forward(a1, window)
    return s, (filters_cache, batchnorm_cache, active, pool_cache)


def hidden_backward(ds: Array, cache) -> dict[str, Array | LazyProduct]:
    """Return the gradients of the hidden units' weights by name, from ds (m, q, H).

    The running statistics have no gradient. Their entries hold the batch's mean and variance, for
    `Network._step`.
    """
    filters_cache, batchnorm_cache, active, pool_cache = cache
    da1 = pool_backward(ds, pool_cache)
    dz = relu_backward(da1, active)  # (13) dL/dz1^
    gradients = {}
    if batchnorm_cache is not None:
        _, _, _, mean, var = batchnorm_cache
        gradients["running_mean1"] = mean  # not a gradient, see `Network._step`
        gradients["running_var1"] = var
        dz, gradients["gamma1"], gradients["beta1"] = batchnorm_backward(dz, batchnorm_cache)
    gradients["W1"], gradients["b1"] = filters_backward(dz, filters_cache)  # (14), (15)
    return gradients


DROPOUT_STEPS = 256  # the probability p of dropout is a multiple of 1/256, see `draw_mask`


def draw_mask(rng: np.random.Generator, m: int, H: int, p: float) -> Array:
    """Draw dropout's mask, (m, H) bool: False, with probability p, drops a unit in an image.

    A random byte is below 256 p with probability p. Bytes are drawn eight at a time, as integers of
    64 bits: a float for each unit would take several times as long.
    """
    words = -(-m * H // 8)
    drawn = rng.integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True)
    return drawn.view(np.uint8)[: m * H].reshape(m, H) >= dropout_steps(p)


def dropout_steps(p: float) -> int:
    """Return the multiple of 1/256 that is nearest to p."""
    return round(DROPOUT_STEPS * p)


def dropout_forward(s: Array, mask: Array, p: float):
    """Return s * mask / (1 - p) (6), in place: s (m, q, H), mask (m, H) bool.

    A filter is dropped in all regions of an image at once (Tompson et al. 2015).
    """
    factors = np.multiply(mask[:, None], s.dtype.type(1 / (1 - p)), dtype=s.dtype)
    s *= factors
    return s, factors


def dropout_backward(ds: Array, factors: Array) -> Array:
    """Return ds * mask / (1 - p), dropout's part of (13), in place; factors are mask / (1 - p)."""
    ds *= factors
    return ds


def log_softmax(z2: Array) -> Array:
    """Return log y^ (8), (N, C). The largest logit is subtracted first: exp can't overflow."""
    log_y = z2 - z2.max(axis=1, keepdims=True)
    log_y -= np.log(np.exp(log_y).sum(axis=1, keepdims=True))
    return log_y


def cross_entropy_forward(z2: Array, labels: Array, smoothing: float = 0.0):
    """Return the losses -sum_c y_c log y^_c, (N,) in nats, from z2 (N, C) and labels (N,).

    y is 1 at the label and 0 elsewhere. With label smoothing (Szegedy et al. 2016) it is
    1 - a + a/C at the label and a/C elsewhere, where a is the argument `smoothing`.
    """
    log_y = log_softmax(z2)
    of_label = log_y[np.arange(len(labels)), labels]
    losses = -(1 - smoothing) * of_label - smoothing * log_y.mean(axis=1)
    return losses, (log_y, labels, smoothing)


def cross_entropy_backward(m: int, cache):
    """Return dL/dz2 = (y^ - y) / m (9), for the mean loss over the m images of a batch.

    The mean gives the factor 1/m, once: every later gradient is a sum over the batch. m is the size
    of the batch; z2 may be of some of its images only, whose gradients are added later.
    """
    log_y, labels, smoothing = cache
    dz2 = np.exp(log_y)
    dz2 -= dz2.dtype.type(smoothing / dz2.shape[1])
    dz2[np.arange(len(labels)), labels] -= dz2.dtype.type(1 - smoothing)
    dz2 /= m
    return dz2


# ---- The update --------------------------------------------------------------------------------


@dataclass
class SGD:
    """Stochastic gradient descent with momentum and L2:

        v <- momentum v - rate (dL/dw + lambda w),   w <- w + v.

    lambda is lambda_reg for W2, hidden_lambda_scale times that for W1, and 0 for all other arrays.
    bn_lr_scale multiplies the rate of gamma and beta, output_lr_scale that of W2 and b2.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    lambda_reg: float = 0.0
    bn_lr_scale: float = 1.0
    output_lr_scale: float = 1.0
    hidden_lambda_scale: float = 1.0

    def rate(self, name: str) -> float:
        """Return the learning rate of an array."""
        if name in ("gamma1", "beta1"):
            return self.learning_rate * self.bn_lr_scale
        if name in ("W2", "b2"):
            return self.learning_rate * self.output_lr_scale
        return self.learning_rate

    def decay(self, name: str) -> float:
        """Return lambda of an array."""
        return self.lambda_reg * {"W1": self.hidden_lambda_scale, "W2": 1.0}.get(name, 0.0)

    def __call__(self, name: str, weights: Array, velocity: Array, gradient: Array) -> None:
        """Update weights and velocity in place.

        The gradient has no L2 term yet, and is overwritten.
        """
        as_dtype = weights.dtype.type
        momentum = as_dtype(self.momentum)
        rate = as_dtype(self.rate(name))
        rate_times_decay = as_dtype(self.rate(name) * self.decay(name))
        # Six passes over three arrays, in pieces that stay in a core's cache.
        for some in blocks.of_update(weights):
            w, v, dw = weights[some], velocity[some], gradient[some]
            v *= momentum
            dw *= rate
            v -= dw
            if rate_times_decay:
                np.multiply(w, rate_times_decay, out=dw)
                v -= dw
            w += v


# ---- The network -------------------------------------------------------------------------------


@dataclass
class Pass:
    """The results of a forward and backward pass; `+=` appends the losses and adds the rest."""

    losses: Array  # (m,) in nats
    correct: int
    gradients: dict[str, Array | LazyProduct]

    def __iadd__(self, other: "Pass") -> "Pass":
        self.losses = np.concatenate([self.losses, other.losses])
        self.correct += other.correct
        # Only filters without batch normalisation come in several groups, see `train_batch`: here
        # are no LazyProduct and no statistics.
        for name, gradient in other.gradients.items():
            self.gradients[name] += gradient
        return self


class Network:
    """3072 -> hidden units -> logits of classes.

    hidden_size: the number of units or filters, H. window: what a unit sees and how it is pooled.
    classes: C. batchnorm, dropout (the drop probability) as in the report. cap: the largest
    activation, 0 for no limit. seed: an int, or the numpy Generator, which becomes `rng`: it draws
    the first weights and, in training, dropout's masks. dtype: of all arrays. threads: a number.

    Images are (N, 3072), uint8 in 0..255 or floats in [0, 1]; labels are (N,) integers below C.
    `weights` holds W1 (k, H), b1 (1, H), W2 (q H, C), b2 (1, C) and, with BN, gamma1, beta1,
    running_mean1, running_var1, each (1, H). Raises ValueError for invalid arguments.
    """

    def __init__(
        self,
        hidden_size: int = 1024,
        window: Window | None = None,
        *,
        classes: int = 10,
        batchnorm: bool = True,
        dropout: float = 0.5,
        cap: float = 0.0,
        seed: int | np.random.Generator = 0,
        dtype=np.float32,
        threads: int = 1,
    ):
        if not 1 <= hidden_size <= MAX_UNITS:
            raise ValueError(f"hidden_size must be 1 to {MAX_UNITS:,}, not {hidden_size}")
        if not 2 <= classes <= MAX_CLASSES:
            raise ValueError(f"classes must be 2 to {MAX_CLASSES:,}, not {classes}")
        if not (0 <= dropout < 1 and dropout_steps(dropout) < DROPOUT_STEPS):
            raise ValueError(f"dropout must be at least 0 and below 0.998, not {dropout}")
        if not 0 <= cap < np.inf:
            raise ValueError(f"cap must be a finite number of at least 0, not {cap}")
        window = window or Window()
        if window.mirror and window.P is None:
            raise ValueError("mirrored filters need a map, such as Window.whitening makes")
        self.hidden_size = hidden_size
        self.window = replace(window, **npz.cast(window.map, dtype))
        self.classes = classes
        self.batchnorm = batchnorm
        self.dropout = dropout
        self.drop_probability = dropout_steps(dropout) / DROPOUT_STEPS
        self.cap = float(cap)
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(seed)
        self.threads = Threads(threads)
        self.weights = {name: array.astype(dtype) for name, array in self._first_weights().items()}
        self._join_W1_and_b1()
        trained = [name for name in self.weights if name not in STATISTICS]
        self.velocity = {name: np.zeros_like(self.weights[name]) for name in trained}
        self.preconditioner: Array | None = None  # (2, q H), see `precondition`
        self.leading: tuple[Array, Array] | None = None  # (q H, K), (K, 1), see `find_leading`

    def _join_W1_and_b1(self) -> None:
        """Make one array W of W1 above b1, see `filters_forward`; both become its views."""
        self.W = np.vstack([self.weights["W1"], self.weights["b1"]])
        self.weights["W1"] = self.W[:-1]
        self.weights["b1"] = self.W[-1:]

    def __setstate__(self, state: dict) -> None:
        """Restore a pickled or deeply copied network, whose arrays came apart."""
        self.__dict__.update(state)
        self._join_W1_and_b1()

    def _first_weights(self) -> dict[str, Array]:
        """Draw W1 and W2 with variance 2 / fan-in (He et al. 2015); biases are 0, gamma is 1."""
        k, H, C = self.window.inputs, self.hidden_size, self.classes
        fan_in = self.window.q * H
        W1 = self.rng.standard_normal((k, H), dtype=np.float32) * np.sqrt(2 / k)
        W2 = self.rng.standard_normal((fan_in, C), dtype=np.float32) * np.sqrt(2 / fan_in)
        weights = {"W1": W1, "b1": np.zeros((1, H)), "W2": W2, "b2": np.zeros((1, C))}
        if self.batchnorm:
            weights["gamma1"] = np.ones((1, H))
            weights["beta1"] = np.zeros((1, H))
            weights["running_mean1"] = np.zeros((1, H))
            weights["running_var1"] = np.ones((1, H))
        return weights

    def __repr__(self):
        # "1,024 8x8 filters at ...", or "1,024 hidden units, also mirrored".
        kind = str(self.window).replace("the whole image", "hidden units")
        units = f"{self.hidden_size:,} {kind}"
        parts = ["batch normalisation"] if self.batchnorm else []
        if self.dropout:
            parts.append(f"dropout {self.dropout:g}")
        if self.cap:
            parts.append(f"activations up to {self.cap:g}")
        parts.append(f"{sum(array.size for array in self.velocity.values()):,} parameters")
        return f"{PIXELS} -> {units} -> {self.classes}; {', '.join(parts)}"

    def summary(self) -> str:
        """Return a table of the arrays: names, shapes, numbers of parameters."""
        rows = []
        for name, array in (self.weights | self.window.map).items():
            count = array.size if name in self.velocity else 0  # 0: not trained
            rows.append((name, " x ".join(map(str, array.shape)), count))
        rows.append(("parameters", "", sum(count for _, _, count in rows)))
        lines = []
        for name, shape, count in rows:
            lines.append(f"{name:13} {shape:>12} {f'{count:,}' if count else '-':>12}")
        return "\n".join(lines)

    # ---- Forward, backward, step ----

    def _unit_blocks(self) -> list[dict[str, Array]]:
        """Return views of the hidden units' weights, a dict for each block of units.

        Units don't depend on each other before (7), and (3) treats each one alone. So blocks can
        run on several threads.
        """
        for name in ("W1", "b1"):
            if self.weights[name].base is not self.W:
                problem = f"weights: {name} was replaced, which changes nothing"
                raise ValueError(f"{problem}; write into it: network.weights[{name!r}][...] = new")
        arrays = {"W": self.W}
        if self.batchnorm:
            arrays |= {name: self.weights[name] for name in BATCHNORM}
        units = blocks.of_units(self.hidden_size, self.window)
        return [{name: array[:, some] for name, array in arrays.items()} for some in units]

    def forward(self, images: Array, train: bool = False, mask: Array | None = None):
        """Return the logits z2 (m, C), and the cache that `backward` takes.

        train: batch normalisation uses the batch's statistics. mask: dropout's, (m, H) bool, as
        `draw_mask` draws it; None for no dropout.
        """
        X = layer_input(images, self.window, self.dtype)
        hidden = partial(hidden_forward, X, window=self.window, cap=self.cap, train=train)
        parts = self.threads.each(hidden, self._unit_blocks())  # (1), (3), (4), pool
        s = np.concatenate([s for s, _ in parts], axis=2)
        hidden_caches = [cache for _, cache in parts]
        factors = None
        if mask is not None:
            s, factors = dropout_forward(s, mask, self.drop_probability)  # (6)
        s = s.reshape(len(images), -1)
        z2, output_cache = linear_forward(s, self.weights["W2"], self.weights["b2"])  # (7)
        return z2, (hidden_caches, factors, output_cache)

    def backward(self, dz2: Array, cache) -> dict[str, Array | LazyProduct]:
        """Return the gradient of every array, without its L2 term, from dz2 (m, C) (9).

        With batch normalisation, the dict also holds the batch's mean and variance.
        """
        hidden_caches, factors, output_cache = cache
        ds, dW2, db2 = linear_backward(dz2, output_cache)  # (12), (10), (11)
        ds = ds.reshape(len(dz2), self.window.q, self.hidden_size)
        if factors is not None:
            ds = dropout_backward(ds, factors)  # (13)
        units = blocks.of_units(self.hidden_size, self.window)
        ds_of_blocks = [ds[:, :, block] for block in units]
        parts = self.threads.each(hidden_backward, ds_of_blocks, hidden_caches)  # (13) to (15)
        return blocks.join_units(parts) | {"W2": dW2, "b2": db2}

    def forward_and_backward(
        self,
        images: Array,
        labels: Array,
        mask: Array | None = None,
        smoothing: float = 0.0,
        image_weights: Array | None = None,
        rows: slice = slice(None),
    ) -> Pass:
        """Return losses and gradients of some rows of a batch, all by default.

        images (m, 3072), labels (m,), mask (m, H) or None, as in `forward`. image_weights (m,)
        multiply the images' losses. The gradients are those of the losses' sum divided by m.
        """
        m = len(images)
        images, labels = images[rows], labels[rows]
        if mask is not None:
            mask = mask[rows]
        z2, cache = self.forward(images, train=True, mask=mask)  # (1) to (7)
        losses, loss_cache = cross_entropy_forward(z2, labels, smoothing)  # (8)
        dz2 = cross_entropy_backward(m, loss_cache)  # (9)
        if image_weights is not None:  # here, so that every later gradient is weighted as well
            losses *= image_weights[rows]
            dz2 *= image_weights[rows, None]
        correct = int((z2.argmax(axis=1) == labels).sum())
        return Pass(losses, correct, self.backward(dz2, cache))  # (10) to (15)

    def train_batch(
        self,
        images: Array,
        labels: Array,
        sgd: SGD | None = None,
        rng: np.random.Generator | None = None,
        smoothing: float = 0.0,
        image_weights: Array | None = None,
    ) -> tuple[float, int]:
        """Take one step of SGD; return the batch's mean loss before it, and its correct count.

        images (m, 3072) and labels (m,) as in the class. sgd: an SGD, SGD() by default. rng draws
        dropout's mask, the network's own by default. smoothing: of labels. image_weights (m,):
        factors of the images' losses. The loss is cross-entropy in nats, without L2. If it isn't
        finite, no array of the network changes. Raises ValueError for an invalid batch.
        """
        self._check_batch(images, labels, image_weights)
        m = len(images)
        mask = None
        if self.drop_probability:
            mask = draw_mask(rng or self.rng, m, self.hidden_size, self.drop_probability)
        if image_weights is not None:
            image_weights = image_weights.astype(self.dtype)
        # A few images at a time go from (1) to (15), so that their numbers stay in the processor's
        # cache. The whole batch goes at once with batch normalisation, whose mean couples its
        # images, and for whole images, for which one large product is faster.
        whole_batch = self.window.whole or self.batchnorm
        groups = [slice(0, m)] if whole_batch else blocks.of_images(m, self.window)
        of_rows = partial(self.forward_and_backward, images, labels, mask, smoothing, image_weights)
        total = blocks.sum_over(groups, of_rows, self.threads)
        loss = float(total.losses.mean())
        if np.isfinite(loss):
            self._step(total.gradients, sgd or SGD())
        return loss, total.correct

    def _step(self, gradients: dict[str, Array | LazyProduct], sgd: SGD) -> None:
        """Update every array, a block of its rows at a time, on all threads."""
        if self.preconditioner is not None:  # both at once: their new coordinates mix them
            self._preconditioned_step(gradients.pop("W2"), gradients.pop("b2"), sgd)
        names, blocks_of_rows = [], []
        for name, gradient in gradients.items():
            w = self.weights[name]
            if name in STATISTICS:  # `gradient` is the batch's mean or variance
                w *= BN_MOMENTUM
                w += (1 - BN_MOMENTUM) * gradient
                continue
            for rows in blocks.of_gradient(w):
                names.append(name)
                blocks_of_rows.append(rows)
        update = partial(self._update_rows, sgd, gradients)
        self.threads.each(update, names, blocks_of_rows)

    def _update_rows(self, sgd: SGD, gradients: dict, name: str, rows: slice) -> None:
        """Update some rows of an array."""
        w, velocity = self.weights[name][rows], self.velocity[name][rows]
        gradient = gradients[name][rows]  # a LazyProduct is multiplied here
        sgd(name, w, velocity, gradient)

    def precondition(self, images: Array) -> None:
        """Make SGD update W2 and b2 in coordinates in which s has mean 0 and variance about 1.

        Mean and variance are those of s over images (N, 3072). A thousandth of the average variance
        is added to each.
        """
        s = self.pooled(images)
        columns = slices(s.shape[1], COLUMNS)
        mean = np.concatenate(self.threads.each(lambda some: s[:, some].mean(axis=0), columns))
        variance = np.concatenate(self.threads.each(lambda some: s[:, some].var(axis=0), columns))
        std = np.sqrt(variance + 1e-3 * variance.mean())
        self.preconditioner = np.stack([mean, std]).astype(self.dtype)

    def find_leading(self, images: Array, count: int) -> None:
        """Find the `count` directions in which the standardised s of images (N, 3072) varies most.

        They are the leading principal components u_i of (s - mean) / std, of variance e_i. A few
        have a thousand times the variance of most others, which sets the limit of the learning
        rate. `_preconditioned_step` divides the gradient along u_i by e_i / e, where e is the
        variance of the next component. N must be above `count`. Nothing is damped if s isn't
        finite, as in a run that diverges, or the same for all images.
        """
        A = self.pooled(images)
        N = len(A)
        _, std = self.preconditioner

        def products_of(some: slice) -> Array:
            part = A[:, some]  # a view: this standardises A
            part -= part.mean(axis=0)
            part /= std[some]
            return part @ part.T

        # The components follow from the products of images, which are fewer than the numbers of s:
        # if A A^T q = N e q, then u = A^T q / sqrt(N e).
        columns = slices(A.shape[1], COLUMNS)
        products = blocks.sum_over(columns, products_of, self.threads)
        self.leading = None
        if not np.isfinite(products).all() or not products.any():
            return
        e, Q = eigh(products / N)
        e, Q = e[::-1].astype(self.dtype), Q[:, ::-1].astype(self.dtype)  # largest first
        e = np.maximum(e, e[0] * np.finfo(self.dtype).eps)
        Q = Q[:, :count] / np.sqrt(N * e[:count])
        U = np.concatenate(self.threads.each(lambda some: A[:, some].T @ Q, columns))
        damping = 1 - e[count] / e[:count]
        self.leading = U, damping[:, None]

    @np.errstate(over="ignore", invalid="ignore")
    def _preconditioned_step(self, dW2: Array, db2: Array, sgd: SGD) -> None:
        """Update W2 and b2 as SGD would update V and c in z2 = ((s - mean) / std) V + c.

        L2 acts on V. With V = std W2 and c = b2 + mean W2 the network is the same. But s is
        positive and of unequal variances, which slows SGD down; in V its components count alike.
        """
        mean, std = self.preconditioner[0], self.preconditioner[1][:, None]
        W2, b2 = self.weights["W2"], self.weights["b2"]
        V = std * W2
        c = b2 + mean @ W2
        # dV = ((s - mean) / std)^T dz2, with dW2 = s^T dz2 and db2 = sum of dz2.
        dV = (dW2 - mean[:, None] * db2) / std
        if self.leading is not None:
            self._damp(dV)
        sgd("W2", V, self.velocity["W2"], dV)
        sgd("b2", c, self.velocity["b2"], db2)
        np.divide(V, std, out=W2)
        np.subtract(c, mean @ W2, out=b2)

    def _damp(self, dV: Array) -> None:
        """Subtract U diag(1 - e / e_i) U^T dV from dV (q H, C), in place, see `find_leading`."""
        U, damping = self.leading
        rows = blocks.of_weights(U)
        along = blocks.sum_over(rows, lambda some: U[some].T @ dV[some], self.threads)  # (K, C)
        along *= damping

        def subtract(some: slice) -> None:
            dV[some] -= U[some] @ along

        self.threads.each(subtract, rows)

    def _check_batch(self, images: Array, labels: Array, image_weights: Array | None) -> None:
        """Raise ValueError unless images, labels and their weights can be a batch."""
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            given = f"{labels.shape} {labels.dtype}"
            raise ValueError(f"labels must be ({len(images)},) integers, not {given}")
        if not len(labels) or labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(f"labels must be 0 to {self.classes - 1}, and at least one")
        if self.batchnorm and len(images) * self.window.positions < 2:
            rows = "at least 2 rows of z1"
            raise ValueError(f"batch normalisation needs {rows}: give a batch of at least 2 images")
        if image_weights is not None:
            valid = image_weights.shape == labels.shape and np.isfinite(image_weights).all()
            if not valid or (image_weights < 0).any():
                numbers = f"({len(images)},) finite numbers of at least 0"
                raise ValueError(f"image_weights must be {numbers}")

    # ---- Inference: running statistics, no dropout, no change of the network ----

    def logits(self, images: Array) -> Array:
        """Return z2 (N, C) of images (N, 3072)."""
        groups = blocks.of_images(len(images), self.window)
        parts = self.threads.each(lambda rows: self.forward(images[rows])[0], groups)
        return np.concatenate([np.empty((0, self.classes), self.dtype), *parts])

    def predict_proba(self, images: Array) -> Array:
        """Return y^ (8), the probabilities of the classes, (N, C)."""
        return np.exp(log_softmax(self.logits(images)))

    def predict(self, images: Array) -> Array:
        """Return the most probable class of each image, (N,) int64."""
        return self.logits(images).argmax(axis=1)

    def evaluate(self, images: Array, labels: Array, image_weights=None) -> tuple[float, float]:
        """Return the mean cross-entropy in nats, without L2, and the accuracy in 0..1.

        With image_weights (N,), both are weighted means.
        """
        z2 = self.logits(images)
        with np.errstate(over="ignore", invalid="ignore"):
            losses, _ = cross_entropy_forward(z2, labels)
            correct = z2.argmax(axis=1) == labels
            if image_weights is None:
                return float(losses.mean()), float(correct.mean())
            loss = np.average(losses, weights=image_weights)
            return float(loss), float(np.average(correct, weights=image_weights))

    def pooled(self, images: Array) -> Array:
        """Return s (N, q H), the input of (7)."""
        s = np.empty((len(images), self.window.q * self.hidden_size), self.dtype)

        def fill(rows: slice) -> None:
            _, (_, _, output_cache) = self.forward(images[rows])
            s[rows], _ = output_cache

        # Groups of 8 for every window: others would change the last bits of `precondition`.
        self.threads.each(fill, slices(len(images), blocks.IMAGES))
        return s

    def hidden(self, images: Array, capped: bool = True) -> Array:
        """Return a1 (N, rows, H), see `Window.rows`; capped=False leaves the cap out."""
        X = layer_input(images, self.window, self.dtype)
        z1, _ = filters_forward(X, self.W, self.window)
        a1, _ = relu_forward(self.normalized(z1), self.cap if capped else 0.0, train=False)
        return a1.reshape(len(images), -1, self.hidden_size)

    def normalized(self, z1: Array) -> Array:
        """Return z1^ (3), (rows, H); without batch normalisation z1 itself."""
        if not self.batchnorm:
            return z1
        arrays = [self.weights[name] for name in BATCHNORM]
        return batchnorm_forward(z1, *arrays, train=False)[0]

    # ---- The same network, written differently ----

    def copy(self, weights: dict[str, Array] | None = None, window: Window | None = None):
        """Return a network of the same kind with these weights and this window.

        By default they are its own. The number of units follows from the weights. The velocity is
        0, and there is no preconditioner.
        """
        weights = weights or self.weights
        network = Network(
            weights["b1"].shape[1],
            window or self.window,
            classes=self.classes,
            batchnorm=self.batchnorm,
            dropout=self.dropout,
            cap=self.cap,
            dtype=self.dtype,
            threads=self.threads.count,
        )
        network.load_weights(weights)
        return network

    def load_weights(self, weights: dict[str, Array]) -> None:
        """Copy weights and statistics in, all or nothing.

        Raises ValueError unless they have the names and shapes of `weights`, and variances of at
        least 0.
        """
        npz.check_arrays(weights, like=self.weights)
        if "running_var1" in weights and (weights["running_var1"] < 0).any():
            raise files.Fault("array running_var1 has negative variances")
        for name, array in weights.items():
            self.weights[name][...] = array

    def plain(self) -> dict[str, Array]:
        """Return W1, b1, W2, b2 of a dense network with the same logits, see unfold.py."""
        return unfold.plain(self.weights, self.window, self.cap)

    def one_sided(self) -> "Network":
        """Return the same network without two_sided, with 2 H units: X W1 + b1, then -X W1 + b1."""
        if not self.window.two_sided:
            return self
        twice = unfold.one_sided(self.weights, self.window)
        return self.copy(twice, replace(self.window, two_sided=False))

    def fold_mirror(self) -> "Network":
        """Return a network whose logits are the means of both mirror images', without two_sided.

        It has 2 H units, 4 H if this network is two-sided.
        """
        one_sided = self.one_sided()
        twice = unfold.fold_mirror(one_sided.weights, one_sided.window)
        return self.copy(twice, replace(one_sided.window, mirror=False))

    def save(self, path: str | Path, info: dict | None = None, storage=None) -> None:
        """Write a checkpoint: weights, window, and info (settings, history: what JSON holds).

        storage: the dtype in the file, such as np.float16; the network's own by default. Raises
        ValueError if a weight isn't finite in it, FileError or OSError if writing fails.
        """
        window = self.window
        geometry = {name: getattr(window, name) for name in GEOMETRY}
        architecture = {
            "window": geometry,
            "batchnorm": self.batchnorm,
            "dropout": self.dropout,
            "cap": self.cap,
        }
        arrays = npz.cast(self.weights | window.stored_map, storage or self.dtype)
        npz.write_npz(path, arrays, {"architecture": architecture} | (info or {}))


# ---- Files -------------------------------------------------------------------------------------


def load(path: str | Path, threads: int = 1, dtype=np.float32) -> tuple[Network, dict]:
    """Return the network of a checkpoint, and its info.

    A file of the report's arrays alone has no info, {}. Raises FileError if the file is no
    checkpoint.
    """
    arrays, info = npz.read_npz(path)
    with files.error_context(path, "restore the file, or train again"):
        architecture = info.pop("architecture", None)
        if architecture is None:  # the report's arrays alone
            architecture = {"window": {}, "batchnorm": "gamma1" in arrays, "dropout": 0}
        window = _read_window(architecture, arrays)
        _check_shapes(path, arrays, window)
        network = Network(
            arrays["W1"].shape[1],
            window,
            classes=arrays["W2"].shape[1],
            batchnorm=bool(architecture["batchnorm"]),
            dropout=float(architecture["dropout"]),
            cap=float(architecture.get("cap", 0)),
            dtype=dtype,
            threads=threads,
        )
        network.load_weights(arrays)
    return network, info


def _read_window(architecture: dict, arrays: dict[str, Array]) -> Window:
    """Return the window of a checkpoint, and take the arrays of its map out of `arrays`."""
    if "fields" in architecture:
        raise files.Fault("was written by an earlier version, whose format is not supported")
    geometry = {}
    for name, value in architecture["window"].items():
        if name not in GEOMETRY:
            raise files.Fault(f"has a window with {name!r}, which this version doesn't know")
        geometry[name] = GEOMETRY[name](value)
    return Window(**geometry).with_stored_map(arrays)


def _check_shapes(path: str | Path, arrays: dict[str, Array], window: Window) -> None:
    """Raise Fault unless W1 and W2 fit the window, before memory is spent on the network."""
    for name in ("W1", "b1", "W2", "b2"):
        if name not in arrays or arrays[name].ndim != 2:
            raise files.Fault(f"has no array {name} of two dimensions")
    W1, W2 = arrays["W1"].shape, arrays["W2"].shape
    if W1[0] != window.inputs or W2[0] != window.q * W1[1]:
        raise files.Fault(f"has W1 {W1} and W2 {W2}, which don't fit {window}")
    # Constant arrays compress to almost nothing, so a tiny file could ask for n H activations.
    activations = window.positions * W1[1]
    if activations > max(10**6, 128 * os.path.getsize(path)):
        raise files.Fault(
            f"has {W1[1]:,} units at {window.positions} positions, which no file of its size holds"
        )
