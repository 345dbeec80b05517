"""The steps that are timed: ours, its floor, and the same step in other libraries.

A step takes a batch of uint8 images, gathers it from all images, mirrors half of it at random,
scales it to float32, and does the forward pass, the backward pass and the update. The content of
the pixels doesn't change its time, so they are random.

The whole image: PyTorch has the same network (Linear, BatchNorm1d, ReLU, Dropout, Linear), loss and
SGD (momentum, L2 on the two weight matrices only, a rate of its own for gamma and beta).
scikit-learn's MLPClassifier has neither batch normalisation nor dropout, so its step is less work.

Windows: PyTorch has a convolution with the whitening multiplied into its filters, ReLU, average
pooling over regions and Linear. It lacks our preconditioning of W2. Ours is timed a second time
with mirrored filters and a cap, which the others don't have.

A recipe of train.py: ours alone, with the network and the SGD of its settings and a random map
instead of the whitening. The average of the weights, shifts and changed colours are left out.

Each function here returns a function that does one step, and returns its loss if there is one.
NumPy is imported within, after the number of BLAS threads was set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

# support.image_shape has these also, but whatever is in `support` loads NumPy.
CHANNELS = 3
SIDE = 32
PIXELS = CHANNELS * SIDE * SIDE

CLASSES = 10
RATE = 1e-4  # low: labels are random, and a higher rate diverges; a step costs the same
MOMENTUM = 0.9  # this and the next three are the report's
LAMBDA = 0.01
BN_LR_SCALE = 128.0
DROPOUT = 0.5

# Windows
SIZE = 8
STRIDE = 2
REGIONS = 3
DIMS = 95


@dataclass(frozen=True)
class Case:
    """The sizes of a step."""

    batch: int
    hidden: int
    threads: int
    windows: bool = False
    images: int = 60_000  # as many as CIFAR-10 has, so that peak memory includes them
    recipe: str = ""  # of train.py


def batches(case: Case) -> Iterator[tuple]:
    """Yield mini-batches (m, 3072) uint8 and their labels (m,), without end.

    PyTorch gets them also: its own operators take three times as long for the same.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    count = max(case.images, case.batch)
    images = rng.integers(256, size=(count, PIXELS), dtype=np.uint8)
    labels = rng.integers(CLASSES, size=count)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - case.batch + 1, case.batch):
            rows = order[start : start + case.batch]
            square = images[rows].reshape(-1, CHANNELS, SIDE, SIDE)
            mirrored = rng.random(len(square)) < 0.5
            square[mirrored] = square[mirrored, :, :, ::-1]
            yield square.reshape(-1, PIXELS), labels[rows]


# ---- Ours ----------------------------------------------------------------------------------------


def ours(case: Case, mirror: bool = False) -> Callable:
    """A step of our network."""
    import model

    if case.recipe:
        return recipe_step(case)
    stream = batches(case)
    if case.windows:
        window = with_random_map(windows(mirror), DIMS)
        options = {"batchnorm": False, "dropout": 0, "cap": 1.0 if mirror else 0.0}
    else:
        window = None
        options = {"dropout": DROPOUT}
    net = model.Network(case.hidden, window, classes=CLASSES, threads=case.threads, **options)
    if case.windows:
        images, _ = next(stream)
        net.precondition(images)
    return partial(train_step, net, stream, model.SGD(RATE, MOMENTUM, LAMBDA, BN_LR_SCALE))


def recipe_step(case: Case) -> Callable:
    """A step of the network that a recipe trains."""
    import model

    settings = recipe_settings(case)
    window = settings.make_window()
    if settings.whitens:
        window = with_random_map(window, settings.whitened_inputs)
    net = model.Network(
        settings.hidden_size,
        window,
        classes=CLASSES,
        batchnorm=settings.batchnorm,
        dropout=settings.dropout,
        cap=settings.cap,
        threads=case.threads,
    )
    stream = batches(case)
    if settings.init == "patches":
        images, _ = next(stream)
        net.precondition(images)
        if settings.damps:
            net.leading = random_directions(net, settings.damped)
    sgd = model.SGD(
        RATE,
        settings.momentum,
        settings.lambda_reg,
        settings.bn_lr_scale,
        settings.output_lr_scale,
        settings.hidden_lambda_scale,
    )
    return partial(train_step, net, stream, sgd, settings.label_smoothing)


def train_step(net, stream: Iterator[tuple], sgd, smoothing: float = 0.0) -> float:
    """Take a step on the next batch and return its loss."""
    images, labels = next(stream)
    loss, _ = net.train_batch(images, labels, sgd, smoothing=smoothing)
    return loss


def recipe_settings(case: Case):
    """Return the settings of a case's recipe, with the case's sizes."""
    import train

    return train.resolve({"hidden_size": case.hidden, "batch_size": case.batch}, case.recipe)


def windows(mirror: bool = False):
    """Return the window of --windows, without a map."""
    from support.network.window import Window

    return Window(SIZE, STRIDE, REGIONS, mirror=mirror)


def with_random_map(window, dims: int):
    """Return the window with a random map from its patches to `dims` components."""
    from dataclasses import replace

    import numpy as np

    P = np.random.default_rng(0).standard_normal((window.pixels, dims)) / window.size
    # A mirrored network needs components that are odd, then even, under mirroring.
    odd = dims // 2
    signs = np.repeat([-1, 1], [odd, dims - odd])
    P += P[window.flip] * signs
    return replace(window, mean=np.full(window.pixels, 0.5), P=P)


def random_directions(net, count: int) -> tuple:
    """Return what `Network.find_leading` finds, but random: directions and their damping."""
    import numpy as np

    numbers = len(net.weights["W2"])
    directions = np.random.default_rng(0).standard_normal((numbers, count), np.float32)
    directions /= np.sqrt(np.float32(numbers))
    return directions, np.full((count, 1), 0.5, np.float32)


# ---- The floor -----------------------------------------------------------------------------------


def window_of(case: Case):
    """Return the window of a case's network, without a map, and the inputs of a unit."""
    from support.network.window import Window

    if case.recipe:
        settings = recipe_settings(case)
        window = settings.make_window()
        return window, settings.whitened_inputs if settings.whitens else window.pixels
    return (windows(), DIMS) if case.windows else (Window(), PIXELS)


def factors(case: Case) -> tuple:
    """Return X, W1 and dz1, the factors of the two large products, and arrays for both results.

    Mirrored and two-sided filters need no larger products: see `filters_forward` in model.py.
    """
    import numpy as np

    window, inputs = window_of(case)
    rows = case.batch * window.positions
    normal = np.random.default_rng(0).standard_normal
    X = normal((rows, inputs), np.float32)
    W1 = normal((inputs, case.hidden), np.float32)
    dz1 = normal((rows, case.hidden), np.float32)
    return X, W1, dz1, np.empty_like(dz1), np.empty_like(W1)


def floor(case: Case) -> Callable:
    """The two products, X W1 and X^T dz1, on our threads.

    For units with one activation in an image they are cut as our step cuts them. For others, whose
    step takes a few images at a time, they are cut into as many equal parts as there are threads.
    """
    from support.network import blocks
    from support.threads import Threads, slices

    import numpy as np

    X, W1, dz1, z1, dW1 = factors(case)
    workers = Threads(case.threads)
    window, _ = window_of(case)

    def shares(n: int) -> list[slice]:
        return slices(n, -(-n // case.threads))

    def forward(rows: slice):
        np.matmul(X[rows], W1, out=z1[rows])

    def backward(units: slice):
        np.matmul(X.T, dz1[:, units], out=dW1[:, units])

    # One activation: new arrays, small enough for the cache.
    def forward_block(units: slice):
        X @ W1[:, units]

    def backward_block(pixels: slice):
        X[:, pixels].T @ dz1

    def step():
        if window.one_row:
            workers.each(forward_block, blocks.of_units(case.hidden, window))
            workers.each(backward_block, blocks.of_gradient(W1))
        else:
            workers.each(forward, shares(len(X)))
            workers.each(backward, shares(case.hidden))

    return step


def floor_blas(case: Case) -> Callable:
    """The two products uncut, on the threads of BLAS."""
    import numpy as np

    X, W1, dz1, z1, dW1 = factors(case)

    def step():
        np.matmul(X, W1, out=z1)
        np.matmul(X.T, dz1, out=dW1)

    return step


def traffic(case: Case) -> Callable:
    """W1 and its velocity, read and written once, in blocks that stay in the cache.

    No update with momentum can do without it, and memory sets its time.
    """
    from support.threads import Threads, slices

    import numpy as np

    W1 = factors(case)[1].ravel()
    velocity = np.zeros(PIXELS * case.hidden, np.float32)
    workers = Threads(case.threads)

    def touch(some: slice):
        velocity[some] *= np.float32(MOMENTUM)
        W1[some] += velocity[some]

    def step():
        workers.each(touch, slices(W1.size, 2**15))

    return step


# ---- Others --------------------------------------------------------------------------------------


def torch_network(case: Case, fused: bool = True):
    """Return PyTorch's network and its SGD; a group's rate is `scale` times the rate."""
    import torch
    from torch import nn

    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    net = torch_windows(case) if case.windows else torch_whole(case)
    groups = []
    for layer in net:
        scale = BN_LR_SCALE if isinstance(layer, nn.BatchNorm1d) else 1.0
        for w in layer.parameters():
            matrix = w.ndim > 1
            if matrix:
                nn.init.normal_(w, std=(2 / w[0].numel()) ** 0.5)  # as ours
            group = {"params": [w], "weight_decay": LAMBDA if matrix else 0.0}
            groups.append(group | {"lr": scale * RATE, "scale": scale})
    return net, torch.optim.SGD(groups, momentum=MOMENTUM, fused=fused)


def torch_whole(case: Case):
    """Return PyTorch's network whose units see the whole image."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(PIXELS, case.hidden),
        nn.BatchNorm1d(case.hidden, eps=1e-5, momentum=0.1),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(case.hidden, CLASSES),
    )


def torch_windows(case: Case):
    """Return PyTorch's convolutional network."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (CHANNELS, SIDE, SIDE)),
        nn.Conv2d(CHANNELS, case.hidden, SIZE, STRIDE),
        nn.ReLU(),
        # The regions of this pool overlap and ours don't, but in PyTorch ours are slower.
        nn.AdaptiveAvgPool2d(REGIONS),
        nn.Flatten(),
        nn.Linear(REGIONS**2 * case.hidden, CLASSES),
    )


def torch_step(case: Case, fused: bool = True, compiled: bool = False) -> Callable:
    """A step in PyTorch."""
    import torch

    net, sgd = torch_network(case, fused)
    stream = batches(case)

    def loss_of(images, labels):
        pixels = images.to(torch.float32) * (1 / 255)
        return torch.nn.functional.cross_entropy(net(pixels), labels)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step():
        images, labels = next(stream)
        loss = loss_of(torch.from_numpy(images), torch.from_numpy(labels))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def sklearn_step(case: Case) -> Callable:
    """A step of scikit-learn's MLPClassifier."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        (case.hidden,),
        solver="sgd",
        alpha=LAMBDA * case.batch,  # scikit-learn divides it by the batch
        batch_size=case.batch,
        learning_rate_init=RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
    )
    stream = batches(case)

    def step():
        images, labels = next(stream)
        pixels = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
        return net.partial_fit(pixels, labels, classes=np.arange(CLASSES)).loss_

    return step


CONTENDERS = {
    "ours": ("ours", ours),
    "mirrored": (
        "ours, mirrored filters (twice as many), a cap",
        partial(ours, mirror=True),
    ),
    "floor": ("floor: the two products, on our threads", floor),
    "floor-blas": ("floor: the two products, on BLAS's threads", floor_blas),
    "traffic": ("W1 and its velocity, read and written once", traffic),
    "torch": ("PyTorch, SGD", partial(torch_step, fused=False)),
    "torch-fused": ("PyTorch, SGD(fused=True)", torch_step),
    "torch-compile": ("PyTorch, torch.compile, fused", partial(torch_step, compiled=True)),
    "sklearn": ("scikit-learn, no BN, no dropout", sklearn_step),
}
PEERS = ("torch", "torch-fused", "torch-compile", "sklearn")
WHOLE_ONLY = ("traffic", "sklearn")
WINDOWS_ONLY = ("mirrored",)
OF_RECIPES = ("ours", "floor", "floor-blas")
