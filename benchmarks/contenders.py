"""What is timed: our step, its floor, and the same step by others.

A step takes a batch of uint8 images, gathers it from all images, mirrors half of it at random, scales it to float32,
and goes forward, backward and through the update. What the pixels show doesn't change that time, so they are random.

Of the whole image, PyTorch has the same network (Linear, BatchNorm1d, ReLU, Dropout, Linear), loss and SGD (momentum,
L2 on the two weight matrices only, a rate of its own for gamma and beta). scikit-learn's MLPClassifier has neither
batch normalisation nor dropout, so its step is less work. Of windows, PyTorch has a convolution with the whitening
multiplied into its weights, ReLU, means over regions and Linear, and doesn't standardise. Ours is timed a second time
with mirrored units and a cap, which the others don't have.

Each function returns one that does a step, and returns its loss if there is one. NumPy is imported within, when BLAS's
number of threads is set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

CLASSES, PIXELS = 10, 3072
RATE = 1e-4  # low, as noise with random labels is no place to learn: a step costs the same
MOMENTUM, LAMBDA, BN_LR_SCALE, DROPOUT = 0.9, 0.01, 128.0, 0.5  # the report's
SIZE, STRIDE, REGIONS, DIMS, PLACES = 8, 2, 3, 95, 169  # of windows


@dataclass(frozen=True)
class Case:
    """What a contender is given."""

    batch: int
    hidden: int
    threads: int
    windows: bool = False
    images: int = 60_000  # as many as CIFAR-10 has, so that peak memory includes them


def batches(case: Case) -> Iterator[tuple]:
    """Mini-batches (m, 3072) uint8 and their labels (m,), without end.

    For PyTorch too: its own operators take three times as long to gather and to mirror a batch.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(max(case.images, case.batch), PIXELS), dtype=np.uint8)
    labels = rng.integers(CLASSES, size=len(images))
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images) - case.batch + 1, case.batch):
            rows = order[start : start + case.batch]
            square = images[rows].reshape(-1, 3, 32, 32)
            chosen = rng.random(len(square)) < 0.5
            square[chosen] = square[chosen, :, :, ::-1]
            yield square.reshape(-1, PIXELS), labels[rows]


def ours(case: Case, mirror: bool = False) -> Callable:
    import model
    from support.network.window import Window

    import numpy as np

    stream, window, options = batches(case), None, {"dropout": DROPOUT}
    if case.windows:
        P = np.random.default_rng(0).standard_normal((3 * SIZE**2, DIMS)) / SIZE
        P += P[Window(SIZE).flip] * np.repeat(
            [-1, 1], [DIMS // 2, DIMS - DIMS // 2]
        )  # odd columns, then even ones
        window = Window(SIZE, STRIDE, REGIONS, mean=np.full(len(P), 0.5), P=P, mirror=mirror)
        options = {"batchnorm": False, "dropout": 0, "cap": float(mirror)}
    net = model.Network(case.hidden, window, classes=CLASSES, threads=case.threads, **options)
    if case.windows:
        net.precondition(next(stream)[0])
    sgd = model.SGD(RATE, MOMENTUM, LAMBDA, BN_LR_SCALE)
    return lambda: net.train_batch(*next(stream), sgd)[0]


# ---- What it can't do without ---------------------------------------------------------------------------------------


def factors(case: Case) -> tuple:
    """X, W1 and dz1 of the step's two large products, X W1 and X^T dz1, and room for both results."""
    import numpy as np

    rows, inputs = (case.batch * PLACES, DIMS) if case.windows else (case.batch, PIXELS)
    normal = np.random.default_rng(0).standard_normal
    X, W1, dz1 = (
        normal(shape, np.float32)
        for shape in ((rows, inputs), (inputs, case.hidden), (rows, case.hidden))
    )
    return X, W1, dz1, np.empty_like(dz1), np.empty_like(W1)


def floor(case: Case) -> Callable:
    """The products on the whole batch and on our threads, cut as our step cuts them; for windows, whose step takes a
    few images at a time, into as many equal parts as there are threads: X W1 by its rows, X^T dz1 by units."""
    from support import threads
    from support.network import blocks
    from support.network.window import Window

    import numpy as np

    (X, W1, dz1, z1, dW1), workers = factors(case), threads.Threads(case.threads)

    def shares(n: int) -> list[slice]:
        return threads.slices(n, -(-n // case.threads))

    def step():
        if case.windows:
            workers.each(lambda some: np.matmul(X[some], W1, out=z1[some]), shares(len(X)))
            workers.each(
                lambda some: np.matmul(X.T, dz1[:, some], out=dW1[:, some]), shares(case.hidden)
            )
        else:  # new arrays, small enough for the cache
            workers.each(lambda some: X @ W1[:, some], blocks.of_units(case.hidden, Window()))
            workers.each(lambda some: X[:, some].T @ dz1, blocks.of_weights(W1))

    return step


def floor_blas(case: Case) -> Callable:
    """The products whole, on the threads of BLAS."""
    import numpy as np

    X, W1, dz1, z1, dW1 = factors(case)

    def step():
        np.matmul(X, W1, out=z1)
        np.matmul(X.T, dz1, out=dW1)

    return step


def traffic(case: Case) -> Callable:
    """W1 and its velocity read and written once, in blocks that stay in the cache between the two operations: no update
    with momentum can do without it, and memory sets its time, whatever the cores do."""
    from support.threads import Threads, slices

    import numpy as np

    W1, velocity, workers = (
        factors(case)[1].ravel(),
        np.zeros(PIXELS * case.hidden, np.float32),
        Threads(case.threads),
    )

    def touch(some: slice):
        velocity[some] *= np.float32(MOMENTUM)
        W1[some] += velocity[some]

    def step():
        workers.each(touch, slices(W1.size, 2**15))

    return step


# ---- Others ---------------------------------------------------------------------------------------------------------


def torch_network(case: Case, fused: bool = True):
    """The network and its SGD; a group's rate is `scale` times the rate."""
    import torch
    from torch import nn

    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    if case.windows:
        # The regions of this pool overlap, ours don't; but in PyTorch ours are slower.
        pool = (
            nn.AdaptiveAvgPool2d(REGIONS),
            nn.Flatten(),
            nn.Linear(REGIONS**2 * case.hidden, CLASSES),
        )
        net = nn.Sequential(
            nn.Unflatten(1, (3, 32, 32)), nn.Conv2d(3, case.hidden, SIZE, STRIDE), nn.ReLU(), *pool
        )
    else:
        norm, last = (
            nn.BatchNorm1d(case.hidden, eps=1e-5, momentum=0.1),
            nn.Linear(case.hidden, CLASSES),
        )
        net = nn.Sequential(
            nn.Linear(PIXELS, case.hidden), norm, nn.ReLU(), nn.Dropout(DROPOUT), last
        )
    groups = []
    for layer in net:
        scale = BN_LR_SCALE if isinstance(layer, nn.BatchNorm1d) else 1.0
        for w in layer.parameters():
            decay = LAMBDA if w.ndim > 1 else 0.0
            if w.ndim > 1:
                nn.init.normal_(w, std=(2 / w[0].numel()) ** 0.5)  # as ours
            groups.append(
                {"params": [w], "weight_decay": decay, "lr": scale * RATE, "scale": scale}
            )
    return net, torch.optim.SGD(groups, momentum=MOMENTUM, fused=fused)


def torch_step(case: Case, fused: bool = True, compiled: bool = False) -> Callable:
    import torch

    (net, sgd), stream = torch_network(case, fused), batches(case)

    def loss_of(pixels, y):
        return torch.nn.functional.cross_entropy(net(pixels.to(torch.float32) * (1 / 255)), y)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        loss = loss_of(*map(torch.from_numpy, next(stream)))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def sklearn_step(case: Case) -> Callable:
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    options = {
        "solver": "sgd",
        "momentum": MOMENTUM,
        "nesterovs_momentum": False,
        "learning_rate_init": RATE,
    }
    alpha = LAMBDA * case.batch  # scikit-learn divides it by the batch
    net, stream = (
        MLPClassifier((case.hidden,), alpha=alpha, batch_size=case.batch, **options),
        batches(case),
    )

    def step():
        images, labels = next(stream)
        pixels = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
        return net.partial_fit(pixels, labels, classes=np.arange(CLASSES)).loss_

    return step


CONTENDERS = {
    "ours": ("ours", ours),
    "mirrored": ("ours with mirrored units, twice as many, and a cap", partial(ours, mirror=True)),
    "floor": ("floor: the two products, on our threads", floor),
    "floor-blas": ("floor: the two products, on BLAS's threads", floor_blas),
    "traffic": ("W1 and its velocity, read and written once", traffic),
    "torch": ("PyTorch, SGD", partial(torch_step, fused=False)),
    "torch-fused": ("PyTorch, SGD(fused=True)", torch_step),
    "torch-compile": ("PyTorch, torch.compile, fused", partial(torch_step, compiled=True)),
    "sklearn": ("scikit-learn, no BN, no dropout", sklearn_step),
}
PEERS = ("torch", "torch-fused", "torch-compile", "sklearn")
WHOLE_ONLY, WINDOWS_ONLY = ("traffic", "sklearn"), ("mirrored",)
