"""Draw what a minute of training buys: test accuracy against minutes on two cores.

    python benchmarks/minutes.py                              docs/minutes.csv -> docs/minutes.png
    python benchmarks/minutes.py --pytorch quick --minutes 5  train in PyTorch and print a row

A row of docs/minutes.csv is a training: which program trained which network, the minutes that it
took, its test accuracy (%), the command.

PyTorch trains a recipe's network with its settings, and with our reader, split, first weights,
batches and augmentation. Products and gradients are its own: conv2d with the whitening multiplied
into its filters, autograd, SGD(fused=True), without our damping of W2's gradient. Its cosine runs
over the minutes, so that both end together. Its weights are tested once.
"""

import csv
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train
from data import cifar10
from support import cli, files
from support.figures import style as plots
from support.image_shape import CHANNELS, SIDE
from support.network.window import Window

import numpy as np
from matplotlib import pyplot as plt

TABLE = cli.ROOT / "docs" / "minutes.csv"
FIGURE = cli.ROOT / "docs" / "minutes.png"
LEVEL = 58.12  # the report's test accuracy
STYLES = {
    "ours": (plots.BLUE, "o-"),
    "ours, fully connected": (plots.BLUE, "s--"),
    "PyTorch, quick": (plots.ORANGE, "o-"),
    "PyTorch, best": (plots.ORANGE, "s"),
}
BATCH = 50  # images in inference


# ---- The figure ----------------------------------------------------------------------------------


def read_table() -> dict[str, list[tuple[float, float]]]:
    """Return the points (minutes, accuracy) of the table by who trained, in order of minutes."""
    points: dict[str, list] = {}
    with open(TABLE, newline="") as file:
        for row in csv.DictReader(file):
            point = float(row["minutes"]), float(row["accuracy"])
            points.setdefault(row["who"], []).append(point)
    return {who: sorted(each) for who, each in points.items()}


def draw() -> None:
    """Draw the figure of the table."""
    points = read_table()
    ticks = [1, 5, 20, 60]
    with plots.drawing():
        figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.6))
        label = f"the report, {LEVEL:.1f} %"
        axes.axhline(LEVEL, color=plots.GREY, linestyle=":", linewidth=0.8, label=label)
        for who, (colour, line) in STYLES.items():
            if who in points:
                minutes, accuracy = zip(*points[who], strict=True)
                axes.plot(minutes, accuracy, line, color=colour, label=who, markersize=4)
        axes.set_xscale("log")
        axes.set_xlim(0.55, 80)
        axes.set_xlabel("minutes of training on two cores")
        axes.set_ylabel("test accuracy (%)")
        axes.set_xticks(ticks, ticks)
        axes.xaxis.set_minor_locator(plt.NullLocator())
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.1), fontsize=7)
        with files.write_whole(FIGURE) as file:
            figure.savefig(file, dpi=200, format="png")


# ---- A training in PyTorch -----------------------------------------------------------------------


class TorchNetwork:
    """A recipe's network in PyTorch, with the first weights of our run.

    The weights are W1, b1, and V, c: W2 and b2 of standardised pooled activations.
    """

    def __init__(self, run: train.Run):
        import torch

        network = run.network
        self.settings = run.settings
        self.window = network.window
        self.test_window = run.averaged.window
        self.P = torch.from_numpy(self.window.P)
        self.mean = torch.from_numpy(self.window.mean)
        centre, std = network.preconditioner
        self.centre, self.std = torch.from_numpy(centre), torch.from_numpy(std)
        self.weights = [
            torch.from_numpy(network.weights["W1"]).clone(),
            torch.from_numpy(network.weights["b1"]).clone(),
            torch.zeros(len(std), network.classes),
            torch.zeros(network.classes),
        ]
        self.averaged = [w.clone() for w in self.weights]
        for w in self.weights:
            w.requires_grad_()

    def optimizer(self):
        """Return SGD; a group's rate is `scale` times the rate."""
        import torch

        settings = self.settings
        scales = (1, 1, settings.output_lr_scale, settings.output_lr_scale)
        decays = (0, 0, settings.lambda_reg, 0)
        groups = [
            {"params": [w], "scale": scale, "weight_decay": decay}
            for w, scale, decay in zip(self.weights, scales, decays, strict=True)
        ]
        rate, momentum = settings.learning_rate, settings.momentum
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)

    def logits(self, images: np.ndarray, weights: list, window: Window, p: float = 0.0):
        """Return the logits of images (m, 3072) uint8, with dropout of probability p."""
        import torch
        from torch.nn import functional

        W1, b1, V, c = weights
        size, hidden = window.size, W1.shape[1]
        pixels = torch.tensor(images, dtype=torch.float32).mul(1 / 255)
        pixels = pixels.view(-1, CHANNELS, SIDE, SIDE)
        filters = self.P @ W1
        bias = (b1 - self.mean @ filters).ravel()
        if window.mirror:
            filters = torch.cat([filters, filters[window.flip]], 1)
            bias = torch.cat([bias, bias])
        if window.two_sided:  # 2 b1 - z1
            filters = torch.cat([filters, -filters], 1)
            bias = torch.cat([bias, 2 * b1.ravel().repeat(len(bias) // hidden) - bias])
        kernels = filters.T.reshape(-1, CHANNELS, size, size)
        a1 = functional.conv2d(pixels, kernels, bias, window.stride)
        a1 = a1.clamp_(0, self.settings.cap or None)
        a1 = a1.flatten(2).unflatten(1, (-1, hidden))  # (m, views, H, positions)
        a1 = a1.transpose(1, 2).flatten(2)  # (m, H, rows of z1)
        pool = torch.from_numpy(window.R).T.to(torch.float32)  # (rows, q)
        s = (a1 @ pool).transpose(1, 2)  # (m, q, H)
        if p:
            s = s * functional.dropout(torch.ones(len(s), 1, hidden), p)
        return ((s.flatten(1) - self.centre) / self.std) @ V + c

    def average(self, step: int) -> None:
        """Move the averaged weights towards the weights, as train.average does."""
        if step % train.EMA_EVERY:
            return
        keep = self.settings.ema**train.EMA_EVERY
        keep = min(keep, step / (step + 10 * train.EMA_EVERY))
        for mean, w in zip(self.averaged, self.weights, strict=True):
            mean.lerp_(w.detach(), 1 - keep)

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the accuracy of the averaged weights, from 0 to 1."""
        import torch

        correct = 0
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                some = slice(start, start + BATCH)
                z2 = self.logits(images[some], self.averaged, self.test_window)
                predicted = z2.argmax(1).numpy()
                correct += int((predicted == labels[some]).sum())
        return correct / len(images)


def torch_training(
    recipe: str, minutes: float, data: cifar10.Dataset, threads: int
) -> tuple[float, float, float]:
    """Train for so many minutes.

    Returns the number of epochs, and the accuracies on the validation and the test images.
    """
    try:
        import torch
    except ImportError:
        problem = "--pytorch: PyTorch is not installed; python -m pip install torch"
        raise cli.UserError(problem) from None

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    settings = train.resolve({}, recipe)
    run = train.Run(settings, data, threads)
    network = TorchNetwork(run)
    sgd = network.optimizer()
    labels = data.train_labels.astype(np.int64)
    steps_per_epoch = len(run.train_rows) / settings.batch_size

    def learning_rate(step: int, done: float) -> float:
        cosine = (1 + math.cos(math.pi * done)) / 2
        warm_up = min(1, step / steps_per_epoch / settings.warmup_epochs)
        return settings.learning_rate * cosine * warm_up

    step, began = 0, time.perf_counter()
    done = 0.0  # share of the minutes
    while done < 1:
        for rows in train.batches(run.train_rows, settings, run.rng):
            done = (time.perf_counter() - began) / (60 * minutes)
            if done >= 1:
                break
            for group in sgd.param_groups:
                group["lr"] = group["scale"] * learning_rate(step, done)
            images = train.augmented(data.train_images[rows], settings, run.rng)
            y = torch.from_numpy(labels[rows])
            sgd.zero_grad()
            z2 = network.logits(images, network.weights, network.window, settings.dropout)
            smoothing = settings.label_smoothing
            torch.nn.functional.cross_entropy(z2, y, label_smoothing=smoothing).backward()
            sgd.step()
            step += 1
            network.average(step)
    held_out = run.validation_rows
    validation = network.accuracy(data.train_images[held_out], labels[held_out])
    return step / steps_per_epoch, validation, network.accuracy(data.test_images, data.test_labels)


# ---- The command line ----------------------------------------------------------------------------


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(description=__doc__)
    recipes = [
        name for name, settings in train.RECIPES.items() if settings.get("init") == "patches"
    ]
    text = "train this recipe's network in PyTorch"
    parser.add_argument("--pytorch", choices=recipes, metavar="RECIPE", help=text)
    text = "how long (default: 5)"
    parser.add_argument("--minutes", type=float, default=5, metavar="N", help=text)
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    return parser


def main() -> int:
    parser = make_parser()
    args = parser.parse_args()
    if not 0 < args.minutes < math.inf:
        parser.error(f"--minutes {args.minutes:g}: must be above 0")
    if not args.pytorch:
        draw()
        print(f"figure {cli.shorter(FIGURE)}")
        return 0
    data = cifar10.load_from(cifar10.Source.of(args))
    epochs, validation, accuracy = torch_training(args.pytorch, args.minutes, data, args.threads)
    print(f"{epochs:.1f} epochs, validation accuracy {validation:.2%}, on {data.name}")
    print(f"A row of {cli.shorter(TABLE)}:")
    command = f"python benchmarks/minutes.py --pytorch {args.pytorch} --minutes {args.minutes:g}"
    print(f'"PyTorch, {args.pytorch}",{args.minutes:g},{100 * accuracy:.2f},{command}')
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
