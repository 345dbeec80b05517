"""A network with one hidden layer for 32x32 RGB images, by hand in NumPy: forward, backward, update, save, load.

    z1 = X W1 + b1                                                  (1)   hidden units
    z1^ = gamma (z1 - mu_B) / sqrt(sigma_B^2 + eps) + beta          (3)   batch normalisation, optional
    a1 = ReLU(z1^)                                                  (4)
    a1 = a1 * mask / (1 - p)                                        (6)   inverted dropout, optional
    z2 = a1 W2 + b2                                                 (7)   logits
    y^ = softmax(z2)                                                (8)

The file reads in the order in which data meets it: equations, hidden units, network, checkpoint.

The hidden layer is a list of *receptive fields*. A field's units look at the image through square windows of one
size, u units at each of G places; the report's layer is one field with one window, the whole image. Places stand on
a leading axis, over which NumPy's matrix product broadcasts, so that the same lines compute one dense product or G
small ones: X (G, m, k), W1 (G, k, u), W2 (G, u, 10). A field may see its patches through a fixed linear map,
X = (patch - mean) P, that whitens them. All of that is linear, so `Network.plain` multiplies it into W1 and b1, and
what comes out is 3072 -> H -> 10 in the report's arrays, zero outside the windows.

In a notebook:

    net = Network(hidden_size=1024, seed=0)
    loss, correct = net.train_batch(images, labels, SGD(learning_rate=0.01))
    classes = net.predict(images)
    save("net.npz", net)
"""

import contextlib
import json
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

# Network spreads its work over threads by itself, and each of them calls BLAS: threads of BLAS's own would fight them
# for the cores. The BLAS libraries read these names once, while numpy loads, so they are set before that import.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

PIXELS = 3072  # 3 channels x 32 rows x 32 columns, in this order
CLASS_COUNT = 10
BN_EPS = 1e-5
BN_MOMENTUM = 0.9  # the share of the running statistics that a training step keeps
UNIT_BLOCK = 512  # units that a thread takes at a time, or twice as many of windows: what a core's cache can hold
WEIGHT_BLOCK = 2**18  # numbers of dL/dW1 between product and update, for the same reason
MAX_UNITS = 1_000_000  # of a field, at each place
MAX_BYTES = 4 << 30  # what a checkpoint may unpack to
QUIET = partial(np.errstate, over="ignore", invalid="ignore")  # what overflows is told by the loss that comes of it


# ---- The equations, forward and backward side by side ---------------------------------------------------------------
# All work in place where they can: at these sizes memory traffic, not arithmetic, is what a pass over an array costs.


def linear_forward(X, W1, b1, out):
    """z1 = X W1 + b1 (1): X (G, m, k), W1 (G, k, u), b1 (G, 1, u) -> out (G, m, u)."""
    np.matmul(X, W1, out=out)
    out += b1
    return out


def linear_backward(X, dz1, rows, out):
    """dL/dW1 = X^T dL/dz1 (14), without the L2 term, for a slice of W1's rows -> out (G, rows, u)."""
    return np.matmul(X[..., rows].swapaxes(-1, -2), dz1, out=out)


def batchnorm_forward(z1, gamma, beta, out):
    """Equation (3) with the batch's own statistics (Ioffe & Szegedy 2015): z1 (G, m, u), gamma and beta (G, 1, u).

    Overwrites z1 with x^ = (z1 - mu) / sqrt(var + eps), which the backward pass needs. Returns mu, var (the biased
    one, divided by m) and 1 / sqrt(var + eps), each (G, 1, u); gamma x^ + beta is in `out`.
    """
    mean = z1.mean(axis=1, keepdims=True)
    z1 -= mean
    variance = np.einsum("gmu,gmu->gu", z1, z1)[:, None] / z1.shape[1]
    inverse_std = 1 / np.sqrt(variance + z1.dtype.type(BN_EPS))
    z1 *= inverse_std
    np.multiply(z1, gamma, out=out)
    out += beta
    return mean, variance, inverse_std


def batchnorm_backward(dout, x_hat, gamma, inverse_std):
    """The gradients of (3). With mu and var functions of z1, the chain rule leaves, for each unit,

        dbeta = sum_i dout_i,  dgamma = sum_i dout_i x^_i,
        dz1_i = gamma / sqrt(var + eps) (dout_i - dbeta / m - x^_i dgamma / m).

    Overwrites dout (G, m, u) with dL/dz1, and x_hat with scratch. Returns dgamma and dbeta, each (G, 1, u).
    """
    m = dout.shape[1]
    dbeta = dout.sum(axis=1, keepdims=True)
    dgamma = np.einsum("gmu,gmu->gu", dout, x_hat)[:, None]
    dout -= dbeta / m
    x_hat *= dgamma / m
    dout -= x_hat
    dout *= gamma * inverse_std
    return dgamma, dbeta


def relu_dropout_forward(a1, keep):
    """ReLU (4) and dropout's mask (6), in place: a1 (G, m, u); keep bool of that shape, or None without dropout.

    The factor 1 / (1 - p) is applied to a1 W2, (m, 10), where it costs nothing: the product is linear.
    """
    np.maximum(a1, 0, out=a1)
    if keep is not None:
        a1 *= keep
    return a1


def relu_dropout_backward(da1, a1):
    """dL/dz1^ = dL/da1 * ReLU'(z1^) * mask (13), in place: a1 is above zero exactly where both are 1."""
    da1 *= a1 > 0
    return da1


def log_softmax(z2):
    """log y^ (8), (N, 10), from the logits; the largest is subtracted first, so that exp can't overflow."""
    log_y = z2 - z2.max(axis=1, keepdims=True)
    log_y -= np.log(np.exp(log_y).sum(axis=1, keepdims=True))
    return log_y


def cross_entropy(z2, labels, smoothing=0.0):
    """-sum_c y_c log y^_c of each row, (N,), in nats. y is 1 at the label; with label smoothing s (Szegedy et al. 2016)
    it is 1 - s + s/10 there and s/10 elsewhere."""
    log_y = log_softmax(z2)
    return -(1 - smoothing) * log_y[np.arange(len(labels)), labels] - smoothing * log_y.mean(axis=1)


def cross_entropy_backward(z2, labels, smoothing=0.0):
    """dL/dz2 = (y^ - y) / m (9), for the mean loss over the m rows: no later equation divides again."""
    dz2 = np.exp(log_softmax(z2))
    dz2 -= dz2.dtype.type(smoothing / CLASS_COUNT)
    dz2[np.arange(len(labels)), labels] -= dz2.dtype.type(1 - smoothing)
    dz2 /= len(labels)
    return dz2


@dataclass
class SGD:
    """Stochastic gradient descent with momentum and L2: v <- mu v - rate (dL/dw + lambda w), w <- w + v.

    lambda_reg holds for W1 and W2, not for biases, gamma and beta. bn_lr_scale multiplies the rate of gamma and beta,
    output_lr_scale that of W2 and b2. share adds to the gradient of W1 at each place of a field share / sqrt(G) times
    the sum of the gradients at its G places: what SGD would do if W1[g] were V[g] + c U, with one U for all. So what
    holds everywhere is learned from everywhere, though each place has weights of its own; with U alone, the field would
    be a convolution.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    lambda_reg: float = 0.0
    bn_lr_scale: float = 1.0
    output_lr_scale: float = 1.0
    share: float = 0.0

    def __call__(self, name: str, weights, velocity, gradient) -> None:
        """Update weights and velocity in place; the gradient, without its L2 term, serves as scratch."""
        number = weights.dtype.type
        rate = self.rate(name)
        velocity *= number(self.momentum)
        gradient *= number(rate)
        velocity -= gradient
        if name in DECAYED and self.lambda_reg:
            np.multiply(weights, number(rate * self.lambda_reg), out=gradient)
            velocity -= gradient
        weights += velocity

    def rate(self, name: str) -> float:
        """The learning rate of an array, by its name."""
        scales = {"gamma1": self.bn_lr_scale, "beta1": self.bn_lr_scale}
        scales |= {"W2": self.output_lr_scale, "b2": self.output_lr_scale}
        return self.learning_rate * scales.get(name, 1.0)


# ---- Hidden units ---------------------------------------------------------------------------------------------------

DECAYED = ("W1", "W2")  # what L2 applies to
BATCHNORM = ("gamma1", "beta1", "running_mean1", "running_var1")
STATISTICS = ("running_mean1", "running_var1")  # followed, not trained


@dataclass(frozen=True)
class Field:
    """The shape of a receptive field: `units` hidden units at every place of a size x size window.

    The windows stand `stride` pixels apart and cover the image: (32 - size) must be a multiple of stride. With dims,
    a unit sees its patch as `dims` whitened numbers instead of 3 size^2 pixels. As text, SIZE/STRIDExUNITS@DIMS:
    "16/8x300@128"; "32x1024" is the report's layer.
    """

    size: int = 32
    stride: int = 1
    units: int = 1024
    dims: int | None = None

    def __post_init__(self):
        if not (1 <= self.size <= 32 and self.stride >= 1 and (32 - self.size) % self.stride == 0):
            raise ValueError(f"field {self}: windows of {self.size} pixels, {self.stride} apart, don't cover 32 pixels")
        if not 1 <= self.units <= MAX_UNITS:
            raise ValueError(f"field {self}: needs 1 to {MAX_UNITS:,} units a place")
        if self.dims is not None and not 1 <= self.dims <= self.pixels:
            raise ValueError(f"field {self}: whitened dimensions must be 1 to {self.pixels}")

    @property
    def pixels(self) -> int:
        """Numbers in a patch, 3 size^2."""
        return 3 * self.size**2

    @cached_property
    def corners(self) -> list[tuple[int, int]]:
        """Row and column of the upper left pixel of every window, row by row."""
        steps = range(0, 32 - self.size + 1, self.stride)
        return [(row, column) for row in steps for column in steps]

    @property
    def inputs(self) -> int:
        """k, the numbers that a unit sees."""
        return self.dims or self.pixels

    @classmethod
    def parse(cls, text: str) -> "Field":
        """The field that the notation stands for. ValueError for anything else."""
        match = re.fullmatch(r"(\d+)(?:/(\d+))?x(\d+)(?:@(\d+))?", text)
        if not match:
            raise ValueError(f"field '{text}' is not SIZE/STRIDExUNITS@DIMS, such as 16/8x300@128 or 32x1024")
        size, stride, units, dims = (group and int(group) for group in match.groups())
        return cls(size, 1 if stride is None else stride, units, dims)

    def __str__(self):
        stride = f"/{self.stride}" if self.size < 32 else ""
        return f"{self.size}{stride}x{self.units}" + (f"@{self.dims}" if self.dims else "")


class _Part:
    """Some units of a field, which one thread computes at a time: views of their arrays, and buffers."""

    def __init__(self, network: "Network", index: int, places: slice, units: slice):
        self.index, self.places, self.units = index, places, units
        self.batchnorm = network.batchnorm
        self.weights = self.of(network.groups[index])
        self.width = self.weights["b1"].size
        self.memory = _Memory(network.dtype)

    def of(self, group: dict) -> dict:
        """This part of each array of a group: W2 has its units on axis 1, the others on axis 2."""
        return {
            name: array[self.places, self.units] if name == "W2" else array[self.places, :, self.units]
            for name, array in group.items()
        }

    def forward(self, X, keep, train: bool) -> np.ndarray:
        """(1) to (7) for these units, X (G, m, k): their share of z2 - b2, (m, 10), before the factor of (6)."""
        w = self.weights
        shape = w["W1"].shape[0], X.shape[1], w["W1"].shape[2]
        z1 = linear_forward(X[self.places], w["W1"], w["b1"], out=self.memory("z1", shape))  # (1)
        if not self.batchnorm:
            self.a1 = z1
        elif train:
            self.a1 = self.memory("a1", shape)
            self.mean, self.variance, self.inverse_std = batchnorm_forward(z1, w["gamma1"], w["beta1"], self.a1)  # (3)
            self.x_hat = z1
        else:
            z1 -= w["running_mean1"]
            z1 *= w["gamma1"] / np.sqrt(w["running_var1"] + z1.dtype.type(BN_EPS))
            z1 += w["beta1"]
            self.a1 = z1
        relu_dropout_forward(self.a1, keep)  # (4), (6)
        return np.matmul(self.a1, w["W2"]).sum(axis=0)  # (7)

    def backward(self, dz2, dz1, into: dict, receive: Callable) -> None:
        """(10) to (15) for these units but for (14), after `forward`: dz2 (m, 10) with the factor 1 / (1 - p) of (6) in
        it. Leaves dL/dz1 in dz1 (G, m, u), and hands each gradient to `receive`, see `Network._backward`.
        """
        w = self.weights
        dW2 = np.matmul(self.a1.swapaxes(1, 2), dz2)  # (10)
        np.matmul(dz2, w["W2"].swapaxes(1, 2), out=dz1)  # (12)
        relu_dropout_backward(dz1, self.a1)  # (13)
        receive("W2", w["W2"], into["W2"], dW2)
        if self.batchnorm:
            dgamma, dbeta = batchnorm_backward(dz1, self.x_hat, w["gamma1"], self.inverse_std)
            receive("gamma1", w["gamma1"], into["gamma1"], dgamma)
            receive("beta1", w["beta1"], into["beta1"], dbeta)
        receive("b1", w["b1"], into["b1"], dz1.sum(axis=1, keepdims=True))  # (15)

    def follow_statistics(self) -> None:
        """Move BN's running statistics, which inference uses, towards those of the last training batch."""
        if self.batchnorm:
            for running, batch in (("running_mean1", self.mean), ("running_var1", self.variance)):
                self.weights[running] *= BN_MOMENTUM
                self.weights[running] += (1 - BN_MOMENTUM) * batch


class _Memory:
    """Arrays that keep their memory from step to step: fresh pages cost more than the arithmetic on them."""

    def __init__(self, dtype):
        self.dtype, self.blocks = dtype, {}

    def __call__(self, name, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        if name not in self.blocks or self.blocks[name].size < size:
            self.blocks[name] = np.empty(size, self.dtype)
        return self.blocks[name][:size].reshape(shape)


# ---- The network ----------------------------------------------------------------------------------------------------


class Network:
    """3072 -> hidden units -> 10 logits.

    Arguments: hidden_size units that see the whole image, or `fields`, receptive fields (a sequence of `Field`) in
    their place. batchnorm and dropout (the drop probability, 0 <= p < 0.998, to the nearest 1/256) as in the report.
    mirror ties to each unit a twin that sees the mirrored image, so that the logits of an image and of its mirror
    image are the same: 2H units, for the parameters of H. maps: for each field None, or (mean, P) with mean (3 size^2,)
    and P (3 size^2, dims) or, for a scale alone, (3 size^2,). same_places starts all places of a field with the same
    W1; output_init multiplies W2's first values. seed: an int, or the numpy Generator that draws the weights and, in
    training, dropout's masks; it is the attribute `rng` then.

    Images are (N, 3072), uint8 in 0..255 or floats in [0, 1]; labels are (N,) integers in 0..9. `groups` holds one
    dict a field: W1 (G, k, u), b1 (G, 1, u), W2 (G, u, 10) and, with BN, gamma1, beta1, running_mean1, running_var1,
    each (G, 1, u); `b2` is (1, 10).
    """

    def __init__(
        self,
        hidden_size: int = 1024,
        *,
        fields: Iterable[Field] | None = None,
        batchnorm: bool = True,
        dropout: float = 0.5,
        mirror: bool = False,
        maps=None,
        same_places: bool = False,
        output_init: float = 1.0,
        seed: int | np.random.Generator = 0,
        dtype=np.float32,
        threads: int = 1,
    ):
        if not (0 <= dropout < 1 and round(256 * dropout) < 256):
            raise ValueError(f"dropout must be at least 0 and below 0.998, not {dropout}")
        self.fields = tuple(fields) if fields is not None else (Field(units=hidden_size),)
        self.batchnorm, self.dropout, self.mirror, self.threads = batchnorm, dropout, mirror, threads
        self.dtype = np.dtype(dtype)
        self.hidden_size = sum(len(field.corners) * field.units for field in self.fields)
        self.maps = [None] * len(self.fields)
        for i, pair in enumerate(maps or []):
            if pair is not None:
                self.maps[i] = tuple(np.asarray(array, self.dtype) for array in pair)
        self._offsets = [pair and (pair[0] @ pair[1] if pair[1].ndim == 2 else pair[0] * pair[1]) for pair in self.maps]
        for field, pair in zip(self.fields, self.maps, strict=True):
            if field.dims and pair is None:
                raise ValueError(f"field {field} needs a map to its {field.dims} dimensions")
        self.rng = np.random.default_rng(seed)
        self.groups = [self._initialise(field, self.rng, same_places, output_init) for field in self.fields]
        self.b2 = np.zeros((1, CLASS_COUNT), self.dtype)
        self.velocities = [
            {name: np.zeros_like(array) for name, array in group.items() if name not in STATISTICS}
            for group in self.groups
        ]
        self.b2_velocity = np.zeros_like(self.b2)
        self.shared_velocities = [np.zeros_like(group["W1"][0]) for group in self.groups]
        self.is_plain = self.maps == [None] and self.fields[0].size == 32 and not mirror
        self._parts = list(self._divide())
        self._memory, self._local = _Memory(self.dtype), threading.local()
        self._executor = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def _initialise(self, field: Field, rng: np.random.Generator, same_places: bool, output_init: float) -> dict:
        """He initialisation (He et al. 2015): normal with variance 2 / fan-in; biases 0, gamma 1."""
        places, k, u = len(field.corners), field.inputs, field.units
        W1 = rng.standard_normal((1 if same_places else places, k, u), dtype=np.float32) * np.sqrt(2 / k)
        W2 = rng.standard_normal((places, u, CLASS_COUNT), dtype=np.float32) * np.sqrt(2 / self.hidden_size)
        group = {"W1": np.broadcast_to(W1, (places, k, u)), "b1": np.zeros((places, 1, u)), "W2": W2 * output_init}
        if self.batchnorm:
            ones, zeros = np.ones((places, 1, u)), np.zeros((places, 1, u))
            group |= {"gamma1": ones, "beta1": zeros, "running_mean1": zeros, "running_var1": ones}
        return {name: array.astype(self.dtype, order="C") for name, array in group.items()}

    def _divide(self) -> Iterator[_Part]:
        """Cut the hidden layer into parts. The cut doesn't depend on the number of threads, so the sums over the
        parts, which are taken in their order, have the same bits with any number."""
        for index, field in enumerate(self.fields):
            places, step = len(field.corners), _places(field)
            most = UNIT_BLOCK if places == 1 else 2 * UNIT_BLOCK
            units = np.linspace(0, field.units, -(-field.units // most) + 1).astype(int)
            for first in range(0, places, step):
                for start, stop in pairwise(units):
                    yield _Part(self, index, slice(first, min(first + step, places)), slice(start, stop))

    def _run(self, tasks: Iterable[Callable]) -> None:
        """Call every task once, on all threads. NumPy lets go of Python's lock during its work."""
        tasks = list(tasks)
        queue = iter(tasks)

        def drain():
            with QUIET():
                for task in queue:
                    task()

        helpers = [self._executor.submit(drain) for _ in tasks[1 : self.threads]]
        drain()
        for helper in helpers:
            helper.result()

    def _scratch(self) -> _Memory:
        """The calling thread's own memory."""
        return self._local.__dict__.setdefault("memory", _Memory(self.dtype))

    def _see(self, images: np.ndarray) -> list[np.ndarray]:
        """What each field sees: X (G, m, k) per field, with m twice the images where units have mirrored twins."""
        if images.ndim != 2 or images.shape[1] != PIXELS or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
            raise ValueError(f"images must be (N, {PIXELS}) uint8 or floats, not {images.shape} {images.dtype}")
        m, total = len(images), len(images) * (2 if self.mirror else 1)
        scale = self.dtype.type(1 / 255 if images.dtype == np.uint8 else 1)
        # A whole image is a row, as a product reads it. Windows are cut from columns, where a patch is a few long rows.
        rows = self._memory("rows", (total, 3, 32, 32)) if any(field.size == 32 for field in self.fields) else None
        columns = self._memory("columns", (3, 32, 32, total)) if any(field.size < 32 for field in self.fields) else None

        def read(chunk):
            square = images[chunk].reshape(-1, 3, 32, 32)
            if rows is not None:
                np.multiply(square, scale, out=rows[chunk], dtype=self.dtype, casting="unsafe")
                if self.mirror:
                    rows[m:][chunk] = rows[chunk][..., ::-1]
            if columns is not None:
                across = np.moveaxis(square, 0, -1)
                np.multiply(across, scale, out=columns[..., chunk], dtype=self.dtype, casting="unsafe")
                if self.mirror:
                    columns[..., m:][..., chunk] = columns[:, :, ::-1, chunk]

        self._run(lambda chunk=chunk: read(chunk) for chunk in _chunks(m, 64))

        def project(field, pair, offset, X, places, chunk):
            memory = self._scratch()
            for place in places:
                if field.size == 32:
                    patch = rows[chunk].reshape(-1, PIXELS)
                else:
                    row, column = field.corners[place]
                    window = columns[:, row : row + field.size, column : column + field.size, chunk]
                    copy = memory("patch", window.shape)
                    copy[...] = window
                    patch = copy.reshape(field.pixels, -1).T
                if pair is None:
                    X[place, chunk] = patch
                else:
                    multiply = np.multiply if pair[1].ndim == 1 else np.matmul
                    multiply(patch, pair[1], out=X[place, chunk])
                    X[place, chunk] -= offset

        seen, tasks = [], []
        for index, (field, pair, offset) in enumerate(zip(self.fields, self.maps, self._offsets, strict=True)):
            places = len(field.corners)
            if pair is None and field.size == 32:
                seen.append(rows.reshape(1, total, PIXELS))
                continue
            X = self._memory(("X", index), (places, total, field.inputs))
            seen.append(X)
            for chunk in _chunks(total, 256 if places > 1 else 64):
                for some in _chunks(places, 4):
                    arguments = field, pair, offset, X, range(places)[some], chunk
                    tasks.append(lambda arguments=arguments: project(*arguments))
        self._run(tasks)
        return seen

    def _forward(self, images, train: bool, rng: np.random.Generator | None = None):
        """Logits z2 (m, 10), and what the fields saw. With train, BN uses the batch's statistics and dropout draws
        from rng, or else the network's own: one byte a unit, which falls below 256 p with probability p."""
        X = self._see(images)
        rows = X[0].shape[1]
        drop, keep = round(256 * self.dropout) if train else 0, None
        if drop:
            words = -(-rows * self.hidden_size // 8)
            keep = (rng or self.rng).integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True).view(np.uint8)
        shares = np.empty((len(self._parts), rows, CLASS_COUNT), self.dtype)

        def forward(i, part, start):
            mask = None
            if drop:
                mask = (keep[start : start + rows * part.width] >= drop).reshape(len(part.weights["W1"]), rows, -1)
            shares[i] = part.forward(X[part.index], mask, train)

        tasks, start = [], 0
        for i, part in enumerate(self._parts):
            tasks.append(lambda a=(i, part, start): forward(*a))
            start += rows * part.width
        self._run(tasks)
        z2 = shares.sum(axis=0)
        z2 *= self.dtype.type(256 / (256 - drop))
        if self.mirror:
            z2 = (z2[: len(images)] + z2[len(images) :]) / 2
        z2 += self.b2
        return z2, X

    def _backward(self, X, z2, labels, smoothing, into: list[dict], b2_into, receive: Callable, sums=None) -> None:
        """Compute every gradient, without its L2 term, and hand it to receive(name, weights, destination, gradient) as
        soon as it is there, in pieces: W1's while it still is in the cache. A piece's destination is its place in
        `into`, which has the structure of `groups`. sums takes the sums of W1's gradients over places, see `_share`.
        """
        dz2 = cross_entropy_backward(z2, labels, smoothing)  # (9)
        receive("b2", self.b2, b2_into, dz2.sum(axis=0, keepdims=True))  # (11)
        if self.mirror:
            dz2 = np.concatenate([dz2, dz2]) / 2
        dz2 *= self.dtype.type(256 / (256 - round(256 * self.dropout)))

        whole = {  # dL/dz1 of all units that see the whole image
            i: self._memory(("dz1", i), (1, len(dz2), field.units))
            for i, field in enumerate(self.fields)
            if field.size == 32
        }

        def backward(part):
            destination = part.of(into[part.index])
            if part.index in whole:
                part.backward(dz2, whole[part.index][:, :, part.units], destination, receive)
            else:  # (14) at once, while dz1 is in the cache
                dz1 = self._scratch()("dz1", part.a1.shape)
                part.backward(dz2, dz1, destination, receive)
                weights_backward(part.index, part.places, slice(None), part.units, dz1)

        def weights_backward(index, places, rows, units, dz1):
            W1 = self.groups[index]["W1"][places, rows, units]
            dW1 = linear_backward(X[index][places], dz1, rows, out=self._scratch()("dW1", W1.shape))  # (14)
            if sums is not None and sums[index] is not None:
                dW1.sum(axis=0, out=sums[index][places.start // _places(self.fields[index]), :, units])
            receive("W1", W1, into[index]["W1"][places, rows, units], dW1)

        self._run(partial(backward, part) for part in self._parts)
        self._run(
            partial(weights_backward, i, slice(0, 1), rows, slice(None), dz1)
            for i, dz1 in whole.items()
            for rows in _chunks(self.fields[i].inputs, max(16, WEIGHT_BLOCK // self.fields[i].units))
        )

    def train_batch(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        sgd: SGD,
        rng: np.random.Generator | None = None,
        smoothing: float = 0.0,
    ) -> tuple[float, int]:
        """One step of SGD on a mini-batch: returns its mean cross-entropy in nats, without L2, and how many of its
        images were right, both before the step. rng, the network's own by default, draws dropout's masks.

        A loss that isn't finite leaves the weights as they were. ValueError for a batch that BN can't normalise.
        """
        self._check_batch(images, labels)
        z2, X = self._forward(images, True, rng)
        with QUIET():
            loss = float(cross_entropy(z2, labels).mean())
        if np.isfinite(loss):
            sums = self._sums() if sgd.share else None
            self._backward(X, z2, labels, smoothing, self.velocities, self.b2_velocity, sgd, sums)
            if sums:
                self._share(sgd, sums)
            for part in self._parts:
                part.follow_statistics()
        return loss, int((z2.argmax(axis=1) == labels).sum())

    def _sums(self) -> list:
        """Where the sums of W1's gradients over the places of a part go: (parts, k, u) for a field of many places."""
        return [
            self._memory(("sums", i), (-(-len(group["W1"]) // _places(field)), *group["W1"].shape[1:]))
            if len(group["W1"]) > 1
            else None
            for i, (field, group) in enumerate(zip(self.fields, self.groups, strict=True))
        ]

    def _share(self, sgd: SGD, sums: list) -> None:
        """Add to the weights of all places the step along their summed gradients, see SGD's share."""

        def add(group, velocity, total, rows):
            velocity, total = velocity[rows], total[:, rows].sum(axis=0)
            velocity *= self.dtype.type(sgd.momentum)
            total *= self.dtype.type(sgd.learning_rate * sgd.share / np.sqrt(len(group["W1"])))
            velocity -= total
            group["W1"][:, rows] += velocity

        self._run(
            partial(add, group, velocity, total, rows)
            for group, velocity, total in zip(self.groups, self.shared_velocities, sums, strict=True)
            if total is not None
            for rows in _chunks(len(velocity), 8)
        )

    def gradients(self, images, labels, lambda_reg: float = 0.0, rng=None, smoothing: float = 0.0):
        """The objective of a mini-batch, mean cross-entropy + lambda/2 (|W1|^2 + |W2|^2), and its gradients.

        Returns a float and the gradients as `arrays` names them, in the shapes of the weights. Changes no weight.
        """
        self._check_batch(images, labels)
        z2, X = self._forward(images, True, rng)
        into = [{name: np.zeros_like(array) for name, array in group.items()} for group in self.groups]
        db2 = np.zeros_like(self.b2)

        def receive(name, weights, destination, gradient):
            destination[...] = gradient + lambda_reg * weights if name in DECAYED else gradient

        self._backward(X, z2, labels, smoothing, into, db2, receive)
        loss = float(cross_entropy(z2, labels, smoothing).mean())
        penalty = sum(float(np.square(group[name]).sum()) for group in self.groups for name in DECAYED)
        return loss + lambda_reg / 2 * penalty, self._flat(into, db2, statistics=False)

    def _check_batch(self, images, labels) -> None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be ({len(images)},) integers, not {labels.shape} {labels.dtype}")
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= CLASS_COUNT:
            raise ValueError(f"labels must be 0 to {CLASS_COUNT - 1}, and at least one")
        if self.batchnorm and len(images) * (2 if self.mirror else 1) < 2:
            raise ValueError("batch normalisation needs a batch of at least 2 images")

    def logits(self, images: np.ndarray) -> np.ndarray:
        """z2 (N, 10) in inference mode: BN's running statistics, no dropout; the network's state isn't touched."""
        rows = max(64, min(2000, 2**24 // (self.hidden_size * (2 if self.mirror else 1))))
        return np.concatenate(
            [self._forward(images[chunk], train=False)[0] for chunk in _chunks(len(images), rows)]
            or [np.empty((0, CLASS_COUNT), self.dtype)]
        )

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """y^ (8), the probabilities of the classes, (N, 10)."""
        return np.exp(log_softmax(self.logits(images)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The likeliest class of each image, (N,) int64."""
        return self.logits(images).argmax(axis=1)

    def evaluate(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """Mean cross-entropy in nats, without L2, and accuracy in 0..1, in inference mode."""
        z2 = self.logits(images)
        with QUIET():
            loss = float(cross_entropy(z2, labels).mean())
        return loss, float((z2.argmax(axis=1) == labels).mean())

    def _flat(self, groups: list[dict], b2: np.ndarray, statistics: bool = True) -> dict[str, np.ndarray]:
        """One dict of all arrays: W1, b1, ... of a single field, field0.W1, field1.W1, ... of several; b2."""
        prefix = "field{}." if len(self.fields) > 1 else ""
        flat = {
            prefix.format(i) + name: array
            for i, group in enumerate(groups)
            for name, array in group.items()
            if statistics or name not in STATISTICS
        }
        return flat | {"b2": b2}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights and BN's statistics by name; not copies. Writing into them changes the network."""
        return self._flat(self.groups, self.b2)

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy weights and statistics in, named as `arrays` names them. ValueError, and nothing copied, unless they are
        just those, in their shapes (a leading axis of length 1 may be left out) and with variances of at least 0."""
        mine = self.arrays()
        if missing := [name for name in mine if name not in arrays]:
            raise ValueError(f"array {missing[0]} is missing")
        if extra := [name for name in arrays if name not in mine]:
            raise ValueError(f"array {extra[0]} doesn't belong to this network")
        for name, array in arrays.items():
            if mine[name].shape not in (array.shape, (1, *array.shape)) or array.ndim < 2:
                raise ValueError(f"array {name} has shape {array.shape} instead of {mine[name].shape}")
            if np.abs(array).max(initial=0) > np.finfo(self.dtype).max:
                raise ValueError(f"array {name} has entries too large for {self.dtype}")
            if name.endswith("running_var1") and (array < 0).any():
                raise ValueError(f"array {name} has negative variances")
        for name, array in arrays.items():
            mine[name][...] = array

    def copy(self) -> "Network":
        """Another network with the same weights and statistics, and no velocity."""
        return combine([self])

    def velocity_arrays(self) -> dict[str, np.ndarray]:
        """Momentum's velocities, named as the weights that they belong to; not copies."""
        shared = {f"shared{i}": velocity for i, velocity in enumerate(self.shared_velocities)}
        return self._flat(self.velocities, self.b2_velocity) | shared

    def plain(self) -> dict[str, np.ndarray]:
        """The same function as one dense layer, in the report's arrays: W1 (3072, H), b1 (1, H), W2 (H, 10), b2 (1, 10)
        and, with BN, gamma1, beta1, running_mean1, running_var1, each (1, H). H counts mirrored twins too.

        Whitening multiplies out: ((x - mean) P) W1 + b1 = x (P W1) + (b1 - mean P W1). Outside its window a unit's
        column of W1 is zero. A twin's column is its unit's, mirrored, and each of the two has half of its row of W2.
        """
        pixel = np.arange(PIXELS).reshape(3, 32, 32)
        columns: dict[str, list] = {name: [] for name in self.groups[0]}
        for field, pair, group in zip(self.fields, self.maps, self.groups, strict=True):
            for place, (row, column) in enumerate(field.corners):
                W1, b1 = group["W1"][place], group["b1"][place]
                if pair is not None:
                    mean, P = pair
                    W1 = P[:, None] * W1 if P.ndim == 1 else P @ W1
                    b1 = b1 - mean @ W1
                W1_full = np.zeros((PIXELS, field.units), self.dtype)
                W1_full[pixel[:, row : row + field.size, column : column + field.size].ravel()] = W1
                for name in columns:
                    columns[name].append({"W1": W1_full, "b1": b1}.get(name, group[name][place]))
        plain = {name: np.concatenate(each, axis=0 if name == "W2" else 1) for name, each in columns.items()}
        if self.mirror:
            twins = plain | {"W1": plain["W1"][pixel[:, :, ::-1].ravel()]}
            plain["W2"] = twins["W2"] = plain["W2"] / 2
            plain = {name: np.concatenate([plain[name], twins[name]], axis=0 if name == "W2" else 1) for name in plain}
        return plain | {"b2": self.b2.copy()}


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _places(field: Field) -> int:
    """How many places of a field a part holds, unless they run out. A window's products are small, so a part is larger
    than one that sees the whole image."""
    return max(1, 2 * UNIT_BLOCK // field.units)


def _chunks(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def fold_mirror(network: Network) -> Network:
    """The network of 2H units whose logits are the mean of `network`'s on an image and on its mirror image.

    Mirroring is linear, so a mirrored image under W1 is the image under a mirrored W1: the twins of `Network`'s mirror.
    """
    return combine([network], mirror=True)


def combine(networks: list[Network], mirror: bool | None = None) -> Network:
    """The one network whose logits are the mean of the networks' logits: their units side by side, W2 divided.

    ValueError where they can't stand in one layer, as one has BN or mirrored twins and another has not.
    """
    first = networks[0]
    if any(n.batchnorm != first.batchnorm or n.mirror != first.mirror for n in networks):
        raise ValueError("networks with and without batch normalisation (or mirrored units) don't combine")
    whole = Network(
        fields=[field for n in networks for field in n.fields],
        batchnorm=first.batchnorm,
        dropout=first.dropout,
        mirror=first.mirror if mirror is None else mirror,
        maps=[pair for n in networks for pair in n.maps],
        dtype=first.dtype,
        threads=first.threads,
    )
    for target, source in zip(whole.groups, (group for n in networks for group in n.groups), strict=True):
        for name, array in source.items():
            target[name][...] = array / len(networks) if name == "W2" else array
    whole.b2[...] = sum(n.b2 for n in networks) / len(networks)
    return whole


# ---- The checkpoint -------------------------------------------------------------------------------------------------


class CheckpointError(ValueError):
    """A checkpoint that can't be used: one line with the file, what is wrong and the remedy."""

    one_line = True


@contextlib.contextmanager
def write_whole(path: str | Path):
    """Open a binary file that appears at `path` complete, or not at all: written beside it, synced, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk's error has no name, the others have the temporary one
        raise


def write_npz(path: str | Path, arrays: dict[str, np.ndarray], meta: dict | None = None) -> None:
    """Write arrays and, as JSON in the array `meta`, a dict to one .npz, whole or not at all. OSError if it can't, and
    CheckpointError for more than `read_npz` would read."""
    if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
        raise CheckpointError(f"{path}: would be larger than {MAX_BYTES >> 30} GB; choose fewer hidden units")
    arrays = arrays if meta is None else arrays | {"meta": np.array(json.dumps(meta))}
    # Not np.savez: where the disk is full, some versions leave a half-open archive that complains when it is collected.
    with write_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_npz(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the meta dict ({} where there is none) of an .npz. CheckpointError for anything but finite numeric
    arrays: nothing in the file is executed, and at most MAX_BYTES are read."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise CheckpointError(f"{path}: unpacks to more than {MAX_BYTES >> 30} GB, so it is no checkpoint")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; 'python train.py' writes a checkpoint") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; name the .npz file in it") from None
    except PermissionError:
        raise CheckpointError(f"{path}: no permission to read it; change it with chmod") from None
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds for damaged files
        detail = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a readable .npz ({detail}); restore it, or train again") from None
    try:
        meta = json.loads(str(arrays.pop("meta", "{}")))
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: its array 'meta' is not a JSON object; train again")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise CheckpointError(f"{path}: array {name} holds {array.dtype}, not numbers; train again")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: array {name} has entries that are not finite; train again")
    return arrays, meta


def save(path: str | Path, network: Network, info: dict | None = None, storage=None) -> None:
    """Write a checkpoint: the weights, the architecture and `info` (settings, data, history: whatever JSON holds).

    One field that is the whole image, with no map and no twins, is stored in the report's arrays. storage: the floating
    dtype in the file, such as np.float16, the network's own by default. ValueError where a weight would not be finite
    in it.
    """
    arrays = dict(network.arrays())
    for i, pair in enumerate(network.maps):
        if pair is not None:
            arrays |= {f"map{i}.mean": pair[0], f"map{i}.P": pair[1]}
    if network.is_plain:
        arrays = {name: array.reshape(array.shape[-2:]) for name, array in arrays.items()}
    if storage is not None:
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(storage) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"a weight is too large for {np.dtype(storage)}")
    architecture = {
        "fields": [asdict(field) for field in network.fields],
        "batchnorm": network.batchnorm,
        "dropout": network.dropout,
        "mirror": network.mirror,
    }
    write_npz(path, arrays, {"architecture": architecture} | (info or {}))


def load(path: str | Path, threads: int = 1, dtype=np.float32) -> tuple[Network, dict]:
    """The network of a checkpoint and its info, {} for a file with only the report's arrays. CheckpointError if not."""
    arrays, meta = read_npz(path)
    info = {key: value for key, value in meta.items() if key != "architecture"}
    architecture = meta.get("architecture")
    try:
        if architecture is None:
            if "W1" not in arrays or arrays["W1"].ndim != 2:
                raise ValueError("array W1 (3072, H) is missing")
            architecture = {"fields": [{"units": arrays["W1"].shape[1]}], "batchnorm": "gamma1" in arrays, "dropout": 0}
        fields = [Field(**field) for field in architecture["fields"]]
        promised = sum(len(field.corners) * field.inputs * field.units for field in fields)
        if promised > sum(array.size for array in arrays.values()):
            raise ValueError("its arrays are smaller than its architecture says")
        maps = []
        for i, field in enumerate(fields):
            mean, P = arrays.pop(f"map{i}.mean", None), arrays.pop(f"map{i}.P", None)
            if (mean is None) != (P is None) or (field.dims is not None and P is None):
                raise ValueError(f"array map{i}.mean or map{i}.P is missing")
            if P is not None:
                expected = (field.pixels, field.dims) if field.dims else (field.pixels,)
                if mean.shape != (field.pixels,) or P.shape != expected:
                    raise ValueError(f"arrays map{i}.mean {mean.shape} and map{i}.P {P.shape} don't fit field {field}")
            maps.append(None if P is None else (mean, P))
        network = Network(
            fields=fields,
            batchnorm=bool(architecture["batchnorm"]),
            dropout=float(architecture["dropout"]),
            mirror=bool(architecture.get("mirror", False)),
            maps=maps,
            threads=threads,
            dtype=dtype,
        )
        network.load_arrays(arrays)
    except (ValueError, TypeError, KeyError, AttributeError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}; restore the file, or train again") from None
    return network, info
