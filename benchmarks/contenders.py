"""What is timed: our step, its floor, and the same step by others.

A step takes a batch of uint8 images, gathers it from all images, mirrors half of it at random, scales it to float32,
and goes forward, backward and through the update. What the pixels show doesn't change that time, so they are random.

Of the whole image, PyTorch has the same network (Linear, BatchNorm1d, ReLU, Dropout, Linear), loss and SGD (momentum,
L2 on the two weight matrices only, a rate of its own for gamma and beta). scikit-learn's MLPClassifier has neither
batch normalisation nor dropout, so its step is less work. Of windows, PyTorch has a convolution with the whitening
multiplied into its weights, ReLU, the means of the same regions, Linear, and leaves out our standardising.

Each function returns one that does a step and returns its loss. NumPy is imported within, when BLAS's threads are set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

CLASSES, PIXELS = 10, 3072
MOMENTUM, LAMBDA, BN_LR_SCALE, DROPOUT = 0.9, 0.01, 128.0, 0.5  # the report's
RATE = 1e-4  # low, as noise with random labels is no place to learn: a step costs the same
SIZE, STRIDE, DIMS, REGIONS, PLACES = 8, 2, 95, 3, 169  # of windows


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


# ---- Ours, and what it can't do without -----------------------------------------------------------------------------


def our_network(case: Case):
    """The network, its SGD and its batches."""
    import model
    from support.window import Window

    import numpy as np

    stream, options = batches(case), {"classes": CLASSES, "threads": case.threads}
    if not case.windows:
        net = model.Network(case.hidden, dropout=DROPOUT, **options)
        return net, model.SGD(RATE, MOMENTUM, LAMBDA, BN_LR_SCALE), stream
    pixels = 3 * SIZE**2
    P = np.random.default_rng(0).standard_normal((pixels, DIMS)) / pixels**0.5
    window = Window(SIZE, STRIDE, REGIONS, mean=np.full(pixels, 0.5), P=P)
    net = model.Network(case.hidden, window, batchnorm=False, dropout=0, **options)
    net.standardize(next(stream)[0])
    return net, model.SGD(RATE, MOMENTUM, LAMBDA), stream


def ours(case: Case) -> Callable:
    net, sgd, stream = our_network(case)
    return lambda: net.train_batch(*next(stream), sgd)[0]


def factors(case: Case) -> tuple:
    """X, W1 and dz1 of the step's two large products, X W1 and X^T dz1."""
    import numpy as np

    rows, inputs = (case.batch * PLACES, DIMS) if case.windows else (case.batch, PIXELS)
    normal = np.random.default_rng(0).standard_normal
    return tuple(normal(shape, np.float32) for shape in ((rows, inputs), (inputs, case.hidden), (rows, case.hidden)))


def floor(case: Case) -> Callable:
    """The products on the whole batch, on our own threads: X W1 cut by its rows for windows, else by units; X^T dz1 by
    units for windows, else by rows in the pieces in which the update takes them."""
    import model
    from support.threads import Threads, slices

    import numpy as np

    X, W1, dz1 = factors(case)
    threads = Threads(case.threads)

    def step():
        if case.windows:
            threads.each(lambda some: np.matmul(X[some], W1, out=z1[some]), shares(len(X)))
            threads.each(lambda some: np.matmul(X.T, dz1[:, some], out=dW1[:, some]), shares(case.hidden))
        else:
            threads.each(lambda some: X @ W1[:, some], slices(case.hidden, model.UNIT_BLOCK))
            threads.each(lambda some: X[:, some].T @ dz1, slices(PIXELS, max(16, model.WEIGHT_BLOCK // case.hidden)))
        return 0.0

    def shares(n: int) -> list[slice]:
        return slices(n, -(-n // case.threads))

    if case.windows:
        z1, dW1 = np.empty_like(dz1), np.empty_like(W1)
    return step


def floor_blas(case: Case) -> Callable:
    """The products whole, on the threads of BLAS."""
    import numpy as np

    X, W1, dz1 = factors(case)
    z1, dW1 = np.empty_like(dz1), np.empty_like(W1)

    def step():
        np.matmul(X, W1, out=z1)
        np.matmul(X.T, dz1, out=dW1)
        return 0.0

    return step


def traffic(case: Case) -> Callable:
    """W1 and its velocity read and written once, in blocks that stay in the cache between the two operations: no update
    with momentum can do without it, and memory sets its time, whatever the cores do."""
    from support.threads import Threads, slices

    import numpy as np

    W1 = factors(case)[1].ravel()
    velocity, threads = np.ones_like(W1), Threads(case.threads)

    def touch(some: slice):
        velocity[some] *= np.float32(MOMENTUM)
        W1[some] += velocity[some]

    def step():
        threads.each(touch, slices(W1.size, 2**15))
        return 0.0

    return step


# ---- Others ---------------------------------------------------------------------------------------------------------


def torch_step(case: Case, fused: bool = True, compiled: bool = False) -> Callable:
    import torch
    from torch import nn

    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    if case.windows:
        # Its regions are 5 x 5 places that overlap, where ours are 4 or 5 wide; our exact ones are slower in it.
        look = nn.Conv2d(3, case.hidden, SIZE, STRIDE)
        pool = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(REGIONS), nn.Flatten())
        layers = nn.Unflatten(1, (3, 32, 32)), look, pool, nn.Linear(REGIONS**2 * case.hidden, CLASSES)
    else:
        norm = nn.BatchNorm1d(case.hidden, eps=1e-5, momentum=0.1)
        last = nn.Linear(case.hidden, CLASSES)
        layers = nn.Linear(PIXELS, case.hidden), norm, nn.ReLU(), nn.Dropout(DROPOUT), last
    net = nn.Sequential(*layers)
    scaled = set() if case.windows else set(norm.parameters())
    rest = [w for w in net.parameters() if w not in scaled]
    groups = [
        {"params": [w for w in rest if w.ndim > 1], "weight_decay": LAMBDA},
        {"params": [w for w in rest if w.ndim == 1]},
        {"params": list(scaled), "lr": RATE * BN_LR_SCALE},
    ]
    sgd = torch.optim.SGD([group for group in groups if group["params"]], lr=RATE, momentum=MOMENTUM, fused=fused)
    stream = batches(case)

    def loss_of(pixels, y):
        return nn.functional.cross_entropy(net(pixels.to(torch.float32) * (1 / 255)), y)

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

    options = {"solver": "sgd", "momentum": MOMENTUM, "nesterovs_momentum": False, "learning_rate_init": RATE}
    alpha = LAMBDA * case.batch  # scikit-learn divides it by the batch
    net = MLPClassifier((case.hidden,), alpha=alpha, batch_size=case.batch, random_state=0, **options)
    stream = batches(case)

    def step():
        images, labels = next(stream)
        pixels = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
        return net.partial_fit(pixels, labels, classes=np.arange(CLASSES)).loss_

    return step


CONTENDERS = {  # what the table calls them, and whether they do windows, too
    "ours": ("ours", ours, True),
    "floor": ("floor: the two products, on our threads", floor, True),
    "floor-blas": ("floor: the two products, on BLAS's threads", floor_blas, True),
    "traffic": ("W1 and its velocity, read and written once", traffic, False),
    "torch": ("PyTorch, SGD", partial(torch_step, fused=False), True),
    "torch-fused": ("PyTorch, SGD(fused=True)", torch_step, True),
    "torch-compile": ("PyTorch, torch.compile, fused", partial(torch_step, compiled=True), True),
    "sklearn": ("scikit-learn, no BN, no dropout", sklearn_step, False),
}
