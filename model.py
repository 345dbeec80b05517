"""A network with one hidden layer for 32x32 RGB images, by hand in NumPy: forward, backward, update, save, load.

    X  = layer_input(images)         (m n, k)         what the units see at each of n places; the whole image is n = 1
    z1 = X W1 + b1           (m n, H)   (1)   H hidden units, the same at every place
    z1^ = BN(z1)             (m n, H)   (3)   batch normalisation, optional
    a1 = ReLU(z1^)           (m n, H)   (4)   at most `cap`, where there is one
    s  = pool(a1)            (m, q H)         means over the places of each of q regions; n = 1: a1 itself
    s  = s * mask / (1 - p)  (m, q H)   (6)   inverted dropout, optional
    z2 = s W2 + b2           (m, C)     (7)   logits of C classes
    y^ = softmax(z2)         (m, C)     (8)

The numbers are those of the course report that the project comes from, which has no (2) and (5). Its network sees the
whole image: k = 3072, n = q = 1. With a smaller window the units are copied to every place of it, a convolution, and
pooled; with mirrored units they stand there a second time, as seen in a mirror, and an image has 2 n rows in z1 and a1.
A unit with a cap is two ReLU units, min(ReLU(z), cap) = ReLU(z) - ReLU(z - cap). `see` and `pool` are linear. So it
still is 3072 -> hidden units -> C with one ReLU layer: `Network.plain` writes it out.

The file reads in the order in which data meets it: equations in pairs of forward and backward, update, network, file.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from support import files, npz, progress
from support.network import unfold
from support.network.window import Window
from support.threads import (
    WINDOW_IMAGES,
    LazyProduct,
    Threads,
    add,
    few_images,
    image_lanes,
    slices,
    unit_blocks,
    weight_blocks,
)

import numpy as np

Array = np.ndarray
PIXELS = 3072  # 3 channels x 32 rows x 32 columns, in this order
BN_EPS = 1e-5
BN_MOMENTUM = 0.9  # the share of the running statistics that a training step keeps
MAX_UNITS, MAX_CLASSES = 1_000_000, 1000


# ---- What the units see ---------------------------------------------------------------------------------------------


def layer_input(images: Array, window: Window, dtype) -> Array:
    """X (m n, k), the rows of an image one after the other, from images (m, 3072), uint8 or floats in [0, 1].

    Windows have one more column, of ones, for `linear_forward`.
    """
    scale = np.dtype(dtype).type(1 / 255 if images.dtype == np.uint8 else 1)
    pixels = np.multiply(images, scale, dtype=dtype, casting="unsafe")
    if window.P is None:
        return window.patches(pixels, ones=not window.whole)
    return window.patches(pixels, ones=True) @ window.M.astype(dtype, copy=False)


# ---- The equations, forward and backward side by side: x_forward(...) -> out, cache; x_backward(dout, cache) --------
# They work in place where they can: at these sizes memory traffic, not arithmetic, is what a pass over an array costs.


def linear_forward(X: Array, W: Array, b: Array):
    """z = X W + b, (1) and (7): X (rows, k), W (k, H), b (1, H) -> z (rows, H).

    Where X has a last column of ones, b is one more row of W: the product adds it, and a pass over z is saved.
    """
    if X.shape[1] > len(W):
        return X @ np.vstack([W, b]), (X, len(W))
    z = X @ W
    z += b
    return z, (X, len(W))


def linear_backward(dz: Array, cache):
    """dL/dW = X^T dL/dz, (10) and (14), and dL/db = sum_i dL/dz_i, (11) and (15), without the L2 term of W.

    With a column of ones in X they are one product; else dL/dW is left as a `LazyProduct`.
    """
    X, k = cache
    if X.shape[1] > k:
        return np.split(X.T @ dz, [k])
    return LazyProduct(X, dz), dz.sum(axis=0, keepdims=True)


def mirror_forward(X: Array, W: Array, b: Array, window: Window):
    """(1) with mirrored units: X (m n, k + 1), W (k, H), b (1, H) -> z (m 2 n, H), an image's n rows, then the mirrored
    units' n.

    A mirror changes the sign of X's odd columns, which come first, and of no other. So both are made of the same two
    products, which together cost no more than X W: z = (X_even W_even + b) +- X_odd W_odd.
    """
    odd = window.odd
    of_even, of_odd = X[:, odd:] @ np.vstack([W[odd:], b]), X[:, :odd] @ W[:odd]
    of_even, of_odd = (each.reshape(-1, window.positions, W.shape[1]) for each in (of_even, of_odd))
    z = np.empty((len(of_odd), 2, *of_odd.shape[1:]), X.dtype)
    np.add(of_even, of_odd, out=z[:, 0])
    np.subtract(of_even, of_odd, out=z[:, 1])
    return z.reshape(-1, W.shape[1]), (X, window)


def mirror_backward(dz: Array, cache):
    """dz (m 2 n, H) -> dL/dW (k, H), with dL/dW_even = X_even^T (dz + mirrored dz), dL/dW_odd = X_odd^T (dz - mirrored
    dz), and dL/db (1, H), the sum of dz + mirrored dz."""
    X, window = cache
    dz, mirrored = dz.reshape(-1, 2, window.positions, dz.shape[1]).transpose(1, 0, 2, 3)
    of_even, of_odd = (both.reshape(len(X), -1) for both in (dz + mirrored, dz - mirrored))
    dW_even, db = np.split(X[:, window.odd :].T @ of_even, [-1])
    return np.vstack([X[:, : window.odd].T @ of_odd, dW_even]), db


def batchnorm_forward(
    z1: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array, train: bool
):
    """z1^ = gamma (z1 - mean) / sqrt(var + eps) + beta (3) (Ioffe & Szegedy 2015): z1 (rows, H), the others (1, H).

    In training, mean and var (the biased one) are the batch's own, and the running ones follow them; inference takes
    the running ones. Overwrites z1.
    """
    mean = z1.mean(axis=0, keepdims=True) if train else running_mean
    z1 -= mean
    var = np.einsum("ij,ij->j", z1, z1)[None] / len(z1) if train else running_var
    if train:
        for running, batch in ((running_mean, mean), (running_var, var)):
            running *= BN_MOMENTUM
            running += (1 - BN_MOMENTUM) * batch
    inverse_std = 1 / np.sqrt(var + z1.dtype.type(BN_EPS))
    z1 *= inverse_std
    out = z1 * gamma
    out += beta
    return out, (z1, gamma, inverse_std)


def batchnorm_backward(dout: Array, cache):
    """The gradients of (3). With mean and var functions of z1, the chain rule leaves, for each unit,

        dbeta = sum_i dout_i,  dgamma = sum_i dout_i x^_i,
        dz1_i = gamma / sqrt(var + eps) (dout_i - dbeta / rows - x^_i dgamma / rows),

    where x^ = (z1 - mean) / sqrt(var + eps). Overwrites dout with dz1, and x^ with scratch.
    """
    x_hat, gamma, inverse_std = cache
    dbeta = dout.sum(axis=0, keepdims=True)
    dgamma = np.einsum("ij,ij->j", dout, x_hat)[None]
    dout -= dbeta / len(dout)
    x_hat *= dgamma / len(dout)
    dout -= x_hat
    dout *= gamma * inverse_std
    return dout, dgamma, dbeta


def relu_forward(z1: Array, cap: float = 0.0):
    """a1 = ReLU(z1) (4), in place; with a cap > 0 no more than that, as in ReLU6 (Krizhevsky 2010)."""
    active = z1 > 0
    if cap:
        active &= z1 < cap
    np.clip(
        z1, 0, cap or np.inf, out=z1
    )  # np.maximum takes longer, on the AMD processor that we had
    return z1, active


def relu_backward(da1: Array, active: Array):
    """dL/dz1 = dL/da1 * ReLU'(z1) (13), in place: 0 where z1 is below 0 or above the cap."""
    da1 *= active
    return da1


def pool_forward(a1: Array, window: Window):
    """s = R a1, the means over the places of each region: a1 (m n, H), mirrored ones (m 2 n, H) -> s (m, q, H)."""
    if window.positions == 1:
        return a1[:, None], window
    return window.R @ a1.reshape(-1, window.rows, a1.shape[1]), window


def pool_backward(ds: Array, window: Window):
    """dL/da1 = R^T dL/ds: a place takes its region's gradient in its share; ds (m, q, H) -> (m n, H), with
    mirrored units (m 2 n, H)."""
    if window.positions == 1:
        return ds[:, 0]
    return np.take(ds * window.share, window.region_of_row, axis=1).reshape(-1, ds.shape[2])


def dropout_forward(s: Array, keep: Array, p: float):
    """s * mask / (1 - p) (6), in place: s (m, q, H), keep (m, H) bool.

    A unit is dropped at all places of an image (Tompson et al. 2015), so that dropout may stand behind the pool.
    """
    mask = np.multiply(keep[:, None], s.dtype.type(1 / (1 - p)), dtype=s.dtype)
    s *= mask
    return s, mask


def dropout_backward(ds: Array, mask: Array):
    """The factor mask / (1 - p) of (13), in place."""
    ds *= mask
    return ds


def log_softmax(z2: Array) -> Array:
    """log y^ (8), (N, C), from the logits; the largest is subtracted first, so that exp can't overflow."""
    log_y = z2 - z2.max(axis=1, keepdims=True)
    log_y -= np.log(np.exp(log_y).sum(axis=1, keepdims=True))
    return log_y


def cross_entropy_forward(z2: Array, labels: Array, smoothing: float = 0.0):
    """-sum_c y_c log y^_c of each row, (N,), in nats. y is 1 at the label; with label smoothing s (Szegedy et al. 2016)
    it is 1 - s + s/C there and s/C elsewhere."""
    log_y = log_softmax(z2)
    losses = -(1 - smoothing) * log_y[np.arange(len(labels)), labels] - smoothing * log_y.mean(
        axis=1
    )
    return losses, (log_y, labels, smoothing)


def cross_entropy_backward(m: int, cache):
    """dL/dz2 = (y^ - y) / m (9), for the mean loss over the m images of the batch: no later equation divides again."""
    log_y, labels, smoothing = cache
    dz2 = np.exp(log_y)
    dz2 -= dz2.dtype.type(smoothing / dz2.shape[1])
    dz2[np.arange(len(labels)), labels] -= dz2.dtype.type(1 - smoothing)
    dz2 /= m
    return dz2


# ---- The update -----------------------------------------------------------------------------------------------------

BATCHNORM = ("gamma1", "beta1", "running_mean1", "running_var1")
STATISTICS = ("running_mean1", "running_var1")  # followed, not trained


@dataclass
class SGD:
    """Stochastic gradient descent with momentum and L2: v <- mu v - rate (dL/dw + lambda w), w <- w + v.

    lambda is lambda_reg for W2, hidden_lambda_scale times that for W1, and 0 for biases, gamma and beta. bn_lr_scale
    multiplies the rate of gamma and beta, output_lr_scale that of W2 and b2. Where the network is standardised, V = std
    W2 and c stand for W2 and b2, see `Network._preconditioned_step`.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    lambda_reg: float = 0.0
    bn_lr_scale: float = 1.0
    output_lr_scale: float = 1.0
    hidden_lambda_scale: float = 1.0

    def __call__(self, name: str, weights: Array, velocity: Array, gradient: Array) -> None:
        """Update weights and velocity in place; the gradient, without its L2 term, serves as scratch."""
        number, scales = weights.dtype.type, {"gamma1": self.bn_lr_scale, "beta1": self.bn_lr_scale}
        scales |= {"W2": self.output_lr_scale, "b2": self.output_lr_scale}
        rate = self.learning_rate * scales.get(name, 1.0)
        velocity *= number(self.momentum)
        gradient *= number(rate)
        velocity -= gradient
        if decay := self.lambda_reg * {"W1": self.hidden_lambda_scale, "W2": 1.0}.get(name, 0.0):
            np.multiply(weights, number(rate * decay), out=gradient)
            velocity -= gradient
        weights += velocity


# ---- The network ----------------------------------------------------------------------------------------------------


class Network:
    """3072 -> hidden units -> logits.

    Arguments: hidden_size H; window, what the units see; classes C; batchnorm and dropout (the drop probability,
    0 <= p < 0.998, to the nearest 1/256) as in the report; cap, the most that a unit gives, 0 for no limit. seed: an
    int, or the numpy Generator that draws the weights and, in training, dropout's masks; it is the attribute `rng`
    then. ValueError for what can't be.

    Images are (N, 3072), uint8 in 0..255 or floats in [0, 1]; labels are (N,) integers in 0..C-1. `weights` holds
    W1 (k, H), b1 (1, H), W2 (q H, C), b2 (1, C) and, with BN, gamma1, beta1, running_mean1, running_var1, each (1, H).
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
        if not (0 <= dropout < 1 and round(256 * dropout) < 256):
            raise ValueError(f"dropout must be at least 0 and below 0.998, not {dropout}")
        if not 0 <= cap < np.inf:
            raise ValueError(f"cap must be a number of at least 0, not {cap}")
        if not (1 <= hidden_size <= MAX_UNITS and 2 <= classes <= MAX_CLASSES):
            raise ValueError(
                f"{hidden_size} units or {classes} classes: at most {MAX_UNITS:,} and 2 to {MAX_CLASSES}"
            )
        self.hidden_size, self.classes, self.batchnorm, self.dropout = (
            hidden_size,
            classes,
            batchnorm,
            dropout,
        )
        self.cap, self.dtype = float(cap), np.dtype(dtype)
        self.threads, self.rng = Threads(threads), np.random.default_rng(seed)
        window = window or Window()
        if window.mirror and window.P is None:
            raise ValueError("mirrored units need a map, such as Window.whitening makes")
        self.window = replace(window, **npz.cast(window.map, dtype))
        self.blocks = unit_blocks(hidden_size, self.window.whole)
        self.weights = {name: array.astype(dtype) for name, array in self._initial().items()}
        self.velocity = {
            name: np.zeros_like(w) for name, w in self.weights.items() if name not in STATISTICS
        }
        self.preconditioner: Array | None = None  # (2, q H), see `precondition`

    def _initial(self) -> dict[str, Array]:
        """He initialisation (He et al. 2015): normal with variance 2 / fan-in; biases 0, gamma 1."""
        k, H, inputs = self.window.inputs, self.hidden_size, self.window.q * self.hidden_size
        weights = {
            "W1": self.rng.standard_normal((k, H), dtype=np.float32) * np.sqrt(2 / k),
            "b1": np.zeros((1, H)),
            "W2": self.rng.standard_normal((inputs, self.classes), dtype=np.float32)
            * np.sqrt(2 / inputs),
            "b2": np.zeros((1, self.classes)),
        }
        if self.batchnorm:
            weights |= {
                name: np.full((1, H), name in ("gamma1", "running_var1"), float)
                for name in BATCHNORM
            }
        return weights

    def __repr__(self):
        seen = "" if self.window.whole else f" at {self.window.positions} places ({self.window})"
        parameters = sum(array.size for array in self.velocity.values())
        parts = "batch normalisation, " * self.batchnorm + f"dropout {self.dropout:g}, " * (
            self.dropout > 0
        )
        parts += f"activations up to {self.cap:g}, " * (self.cap > 0)
        return f"{PIXELS} -> {self.hidden_size:,} units{seen} -> {self.classes}; {parts}{parameters:,} parameters"

    def summary(self) -> str:
        """A table of the arrays: names, shapes, parameters."""
        return progress.parameters(self)

    def _first(self, X: Array, units: slice = slice(None)):
        """(1) for some of the units: z1 (m n, units), mirrored ones (m 2 n, units), and what the way back needs."""
        W1, b1 = (self.weights[name][:, units] for name in ("W1", "b1"))
        return (
            mirror_forward(X, W1, b1, self.window)
            if self.window.mirror
            else linear_forward(X, W1, b1)
        )

    def forward(self, images: Array, train: bool = False, keep: Array | None = None):
        """Logits z2 (m, C), and the cache that `backward` takes. train: BN takes the batch's statistics, and its
        running ones follow them. keep: dropout's mask (m, H), None for no dropout."""
        w, X = self.weights, layer_input(images, self.window, self.dtype)
        s = np.empty((len(images), self.window.q, self.hidden_size), self.dtype)

        def hidden(units: slice):
            z1, linear = self._first(X, units)  # (1)
            norm = None
            if self.batchnorm:
                z1, norm = batchnorm_forward(
                    z1, *(w[name][:, units] for name in BATCHNORM), train
                )  # (3)
            a1, active = relu_forward(z1, self.cap)  # (4)
            s[:, :, units], _ = pool_forward(a1, self.window)
            return linear, norm, active

        caches = self.threads.each(hidden, self.blocks)
        s, mask = (
            (s, None) if keep is None else dropout_forward(s, keep, round(256 * self.dropout) / 256)
        )  # (6)
        z2, output = linear_forward(s.reshape(len(images), -1), w["W2"], w["b2"])  # (7)
        return z2, (X, caches, mask, output)

    def backward(self, dz2: Array, cache) -> dict[str, Array | LazyProduct]:
        """Every gradient, without its L2 term, from dL/dz2 (9); for the whole image that of W1 is a `LazyProduct`."""
        X, caches, mask, output = cache
        w, whole = self.weights, self.window.whole
        gradients = {
            name: np.empty_like(self.velocity[name])
            for name in self.velocity
            if name not in ("W1", "W2")
        }
        product, gradients["b2"] = linear_backward(dz2, output)  # (11)
        gradients["W2"] = product[:]  # (10)
        ds = (dz2 @ w["W2"].T).reshape(len(dz2), self.window.q, -1)  # (12)
        ds = ds if mask is None else dropout_backward(ds, mask)  # (13)
        dz1_whole = np.empty((len(X), self.hidden_size), self.dtype) if whole else None
        gradients["W1"] = LazyProduct(X, dz1_whole) if whole else np.empty_like(w["W1"])  # (14)

        def hidden(block):
            units, (linear, norm, active) = block
            da1 = pool_backward(ds[:, :, units], self.window)
            dz1 = relu_backward(da1, active)  # (13)
            if self.batchnorm:
                dz1, gradients["gamma1"][:, units], gradients["beta1"][:, units] = (
                    batchnorm_backward(dz1, norm)
                )
            first_backward = mirror_backward if self.window.mirror else linear_backward
            dW1, gradients["b1"][:, units] = first_backward(dz1, linear)  # (14), (15)
            if whole:
                dz1_whole[:, units] = dz1
            else:
                gradients["W1"][:, units] = dW1

        self.threads.each(hidden, zip(self.blocks, caches, strict=True))
        return gradients

    def gradients(self, images: Array, labels: Array, rng=None, smoothing: float = 0.0):
        """A batch's losses (m,), how many of its images were right, and its gradients, see `backward`.

        Where units see windows, no image depends on another, so that a few at a time go forward and backward while
        what they need is in the cache, and their gradients are added up. BN couples all images: they go together then,
        and so do those that are seen whole.
        """
        m, drop, keep = len(images), round(256 * self.dropout), None
        if drop:  # one byte a unit, which falls below 256 p with probability p
            words = -(-m * self.hidden_size // 8)
            draws = (
                (rng or self.rng)
                .integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True)
                .view(np.uint8)
            )
            keep = draws[: m * self.hidden_size].reshape(m, -1) >= drop
        losses, right = np.empty(m, self.dtype), np.empty(m, bool)

        def learn(rows: slice) -> dict:
            z2, cache = self.forward(
                images[rows], train=True, keep=None if keep is None else keep[rows]
            )
            losses[rows], entropy = cross_entropy_forward(z2, labels[rows], smoothing)
            right[rows] = z2.argmax(axis=1) == labels[rows]
            return self.backward(cross_entropy_backward(m, entropy), cache)

        lanes = (
            [[slice(0, m)]]
            if self.window.whole or self.batchnorm
            else image_lanes(m, self.window.rows)
        )
        gradients = add(self.threads.each(lambda lane: add(map(learn, lane)), lanes))
        return losses, int(right.sum()), gradients

    def train_batch(
        self, images: Array, labels: Array, sgd: SGD | None = None, rng=None, smoothing: float = 0.0
    ):
        """One step of SGD on a mini-batch: its mean cross-entropy in nats, without L2, and how many of its images were
        right, both before the step. sgd: SGD() by default. rng, the network's own by default, draws dropout's masks.

        A loss that isn't finite leaves the weights as they were. ValueError for a batch that can't be.
        """
        self._check_batch(images, labels)
        before = {name: self.weights[name].copy() for name in STATISTICS if name in self.weights}
        losses, right, gradients = self.gradients(images, labels, rng, smoothing)
        sgd, loss = sgd or SGD(), float(losses.mean())
        if not np.isfinite(loss):
            for name, array in before.items():
                self.weights[name][...] = array
            return loss, right
        if self.preconditioner is not None:
            self._preconditioned_step(gradients, sgd)
        for name, gradient in gradients.items():
            self._step(name, gradient, sgd)
        return loss, right

    def _step(self, name: str, gradient: Array | LazyProduct, sgd: SGD) -> None:
        """Update an array, block by block on all threads."""
        w, v = self.weights[name], self.velocity[name]
        self.threads.each(
            lambda rows: sgd(name, w[rows], v[rows], gradient[rows]), weight_blocks(w)
        )

    def precondition(self, images: Array) -> None:
        """Have SGD move W2 and b2 as if s were standardised by its mean and deviation on these images (N, 3072)."""
        s = self.pooled(images)
        variance = s.var(axis=0)
        self.preconditioner = np.stack(
            [s.mean(axis=0), np.sqrt(variance + 1e-3 * variance.mean())]
        ).astype(self.dtype)

    @np.errstate(over="ignore", invalid="ignore")
    def _preconditioned_step(self, gradients: dict, sgd: SGD) -> None:
        """Update W2 and b2 as SGD would V and c in z2 = (s - mean) / std V + c, and take their gradients out.

        With W2 = V / std and b2 = c - mean W2 that is the same network, but s, which is positive and of unequal
        variances, makes slow progress; standardised, each of its numbers has the same part in the gradient.
        """
        mean, std = self.preconditioner[0], self.preconditioner[1][:, None]
        dW2, db2 = gradients.pop("W2"), gradients.pop("b2")
        W2, b2 = self.weights["W2"], self.weights["b2"]
        V, c = std * W2, b2 + mean @ W2
        sgd("W2", V, self.velocity["W2"], (dW2 - mean[:, None] * db2) / std)
        sgd("b2", c, self.velocity["b2"], db2)
        np.divide(V, std, out=W2)
        np.subtract(c, mean @ W2, out=b2)

    def _check_batch(self, images: Array, labels: Array) -> None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be ({len(images)},) integers, not {labels.shape} {labels.dtype}"
            )
        if not len(labels) or labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(f"labels must be 0 to {self.classes - 1}, and at least one")
        if self.batchnorm and len(images) * self.window.positions < 2:
            raise ValueError("batch normalisation needs a batch of at least 2 images")

    def logits(self, images: Array) -> Array:
        """z2 (N, C) in inference mode: BN's running statistics, no dropout; the network's state isn't touched."""
        rows = (
            slices(len(images), 256)
            if self.window.whole
            else few_images(len(images), self.window.rows)
        )
        z2 = self.threads.each(lambda some: self.forward(images[some])[0], rows)
        return np.concatenate(z2) if z2 else np.empty((0, self.classes), self.dtype)

    def pooled(self, images: Array) -> Array:
        """s (N, q H), the input of (7), in inference mode."""

        def pool(some: slice) -> Array:
            _, (_, _, _, (s, _)) = self.forward(images[some])
            return s

        return np.concatenate(self.threads.each(pool, slices(len(images), WINDOW_IMAGES)))

    def hidden(self, images: Array, capped: bool = True) -> Array:
        """a1 (N, n, H), with mirrored units (N, 2 n, H), in inference mode: (1), (3) and (4). capped: False for what it
        would be without the cap, which tells apart where a unit is at its cap."""
        z1, _ = self._first(layer_input(images, self.window, self.dtype))
        a1, _ = relu_forward(self.normalized(z1), self.cap if capped else 0.0)
        return a1.reshape(len(images), -1, self.hidden_size)

    def normalized(self, z1: Array) -> Array:
        """z1^ (3) in inference mode, (rows, H); z1 itself without batch normalisation."""
        norm = [self.weights[name] for name in BATCHNORM if self.batchnorm]
        return batchnorm_forward(z1, *norm, train=False)[0] if norm else z1

    def predict_proba(self, images: Array) -> Array:
        """y^ (8), the probabilities of the classes, (N, C)."""
        return np.exp(log_softmax(self.logits(images)))

    def predict(self, images: Array) -> Array:
        """The likeliest class of each image, (N,) int64."""
        return self.logits(images).argmax(axis=1)

    def evaluate(self, images: Array, labels: Array) -> tuple[float, float]:
        """Mean cross-entropy in nats, without L2, and accuracy in 0..1, in inference mode."""
        z2 = self.logits(images)
        with np.errstate(over="ignore", invalid="ignore"):
            return float(cross_entropy_forward(z2, labels)[0].mean()), float(
                (z2.argmax(axis=1) == labels).mean()
            )

    def copy(
        self, weights: dict[str, Array] | None = None, window: Window | None = None
    ) -> "Network":
        """A network of the same kind with these weights, of as many units as they are for, and this window; by default
        its own. Its velocity is 0, and it isn't standardised."""
        weights = weights or self.weights
        options = {
            name: getattr(self, name)
            for name in ("classes", "batchnorm", "dropout", "cap", "dtype")
        }
        network = Network(
            weights["b1"].shape[1], window or self.window, threads=self.threads.count, **options
        )
        network.load_weights(weights)
        return network

    def load_weights(self, weights: dict[str, Array]) -> None:
        """Copy weights and statistics in. ValueError, and nothing copied, unless they are just those of `weights`, in
        their shapes and with variances of at least 0."""
        npz.check_arrays(weights, like=self.weights)
        if (weights.get("running_var1", np.zeros(1)) < 0).any():
            raise ValueError("array running_var1 has negative variances")
        for name, array in weights.items():
            self.weights[name][...] = array

    def plain(self) -> dict[str, Array]:
        """The same function as one dense layer in the report's arrays, W1 (3072, n H) or more units: see unfold.py."""
        return unfold.plain(self.weights, self.window, self.cap)

    def fold_mirror(self) -> "Network":
        """2 H units whose logits are the mean of this network's on an image and its mirror image: see unfold.py."""
        return self.copy(
            unfold.mirrored(self.weights, self.window), replace(self.window, mirror=False)
        )

    def save(self, path: str | Path, info: dict | None = None, storage=None) -> None:
        """Write a checkpoint: the weights, the window, and `info` (settings, data, history: whatever JSON holds).

        storage: the floating dtype in the file, such as np.float16; the network's own by default. ValueError where a
        weight would not be finite in it, FileError or OSError where it can't be written.
        """
        window = self.window
        arrays = npz.cast(self.weights | window.map, storage or self.dtype)
        seen = {name: getattr(window, name) for name in ("size", "stride", "regions", "mirror")}
        architecture = {
            "window": seen,
            "batchnorm": self.batchnorm,
            "dropout": self.dropout,
            "cap": self.cap,
        }
        npz.write_npz(path, arrays, {"architecture": architecture} | (info or {}))


def load(path: str | Path, threads: int = 1, dtype=np.float32) -> tuple[Network, dict]:
    """The network of a checkpoint and its info, {} for a file with only the report's arrays. FileError if not."""
    arrays, info = npz.read_npz(path)
    with files.error_context(path, "restore the file, or train again"):
        architecture = info.pop(
            "architecture", {"window": {}, "batchnorm": "gamma1" in arrays, "dropout": 0}
        )
        if "fields" in architecture:
            raise files.Fault(
                "was written by an earlier version of this project, whose networks can't be read any more"
            )
        if missing := [
            name
            for name in ("W1", "b1", "W2", "b2")
            if name not in arrays or arrays[name].ndim != 2
        ]:
            raise files.Fault(f"has no array {missing[0]} of two dimensions")
        seen = {name: int(value) for name, value in architecture["window"].items()}
        seen["mirror"] = bool(seen.get("mirror"))
        window = Window(**seen, mean=arrays.pop("mean", None), P=arrays.pop("P", None))
        if (
            arrays["W1"].shape[0] != window.inputs
            or arrays["W2"].shape[0] != window.q * arrays["W1"].shape[1]
        ):
            raise files.Fault(
                f"has W1 {arrays['W1'].shape} and W2 {arrays['W2'].shape}, which don't fit {window}"
            )
        H, n = arrays["W1"].shape[1], window.positions
        if n * H > max(
            10**6, 128 * os.path.getsize(path)
        ):  # uncompressed, that is the most: W1 (1, H), W2 (H, 2)
            raise files.Fault(f"has {H:,} units at {n} places, which no file of its size holds")
        options = {
            "dropout": float(architecture["dropout"]),
            "cap": float(architecture.get("cap", 0)),
        }
        options |= {"batchnorm": bool(architecture["batchnorm"]), "classes": arrays["W2"].shape[1]}
        network = Network(H, window, **options, dtype=dtype, threads=threads)
        network.load_weights(arrays)
    return network, info
