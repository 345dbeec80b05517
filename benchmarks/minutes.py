# ruff: noqa: E501
"""What a minute of training buys: test accuracy against minutes on two cores.

    python benchmarks/minutes.py                              docs/minutes.csv -> docs/minutes.png
    python benchmarks/minutes.py --pytorch quick --minutes 5  a recipe's network in PyTorch, for as long: prints a row

A row of docs/minutes.csv is a training: who trained what, the minutes that it took, its test accuracy (%), the command.
PyTorch has the recipe's network and settings, and our reader, split, first weights, batches and augmentation; products
and gradients are its own (conv2d with the whitening multiplied into its weights, autograd, SGD(fused=True)). Its cosine
runs over the minutes, so that it ends when they do, wherever that is in an epoch. Its weights are tested once.
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

import numpy as np
from matplotlib import pyplot as plt

TABLE, FIGURE = cli.ROOT / "docs" / "minutes.csv", cli.ROOT / "docs" / "minutes.png"
LINES = {"the report, 58.1 %": 58.12, "before units were tied, 75.1 %": 75.1}
STYLES = {
    "ours": (plots.BLUE, "o-"),
    "ours, quick, tested at every place": (plots.BLUE, "s"),
    "PyTorch, quick": (plots.ORANGE, "o-"),
    "PyTorch, best": (plots.ORANGE, "s"),
}
BATCH = 250  # images in inference


def draw() -> None:
    """The figure of the table."""
    with open(TABLE, newline="") as file:
        rows = [
            (row["who"], float(row["minutes"]), float(row["accuracy"]))
            for row in csv.DictReader(file)
        ]
    with plt.rc_context(plots.STYLE):
        figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.6))
        for (label, level), style in zip(LINES.items(), (":", "--"), strict=True):
            axes.axhline(level, color=plots.GREY, linestyle=style, linewidth=0.8, label=label)
        for who, (colour, line) in STYLES.items():
            if points := sorted(row[1:] for row in rows if row[0] == who):
                axes.plot(*zip(*points, strict=True), line, color=colour, label=who, markersize=4)
        axes.set(
            xscale="log",
            xlim=(0.55, 80),
            xlabel="minutes of training on two cores",
            ylabel="test accuracy (%)",
        )
        axes.set_xticks([1, 5, 20, 60], [1, 5, 20, 60])
        axes.xaxis.set_minor_locator(plt.NullLocator())
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.05), fontsize=7)
        with files.write_whole(FIGURE) as file:
            figure.savefig(file, dpi=200, format="png")


def torch_training(
    recipe: str, minutes: float, data: cifar10.Dataset, threads: int
) -> tuple[float, float, float]:
    """Train for so many minutes: the epochs that these were, validation accuracy and test accuracy in 0..1."""
    try:
        import torch
        from torch.nn.functional import conv2d, cross_entropy, dropout
    except ImportError:
        raise cli.UserError(
            "--pytorch: PyTorch is not installed; python -m pip install torch"
        ) from None

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    settings = train.resolve({}, recipe)
    run = train.Run(settings, data, threads)
    window, size = run.network.window, settings.window
    W1, b1 = (torch.from_numpy(run.network.weights[name]).clone() for name in ("W1", "b1"))
    P, mean, R, (centre, std) = map(
        torch.from_numpy, (window.P, window.mean, window.R, run.network.standard)
    )
    weights = [
        W1,
        b1,
        torch.zeros(len(std), len(data.class_names)),
        torch.zeros(len(data.class_names)),
    ]  # V and c last
    averaged = [w.clone() for w in weights]
    scales, decays = (
        (1, 1, settings.output_lr_scale, settings.output_lr_scale),
        (0, 0, settings.lambda_reg, 0),
    )
    groups = [
        {"params": [w.requires_grad_()], "weight_decay": d}
        for w, d in zip(weights, decays, strict=True)
    ]
    sgd = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=True)

    def logits(images: np.ndarray, weights: list, p: float = 0.0):
        W1, b1, V, c = weights
        pixels = torch.tensor(images, dtype=torch.float32).mul(1 / 255).view(-1, 3, 32, 32)
        filters = P @ W1
        bias = (b1 - mean @ filters).ravel()
        if window.mirror:
            filters, bias = torch.cat([filters, filters[window.flip]], 1), torch.cat([bias, bias])
        a1 = conv2d(pixels, filters.T.reshape(-1, 3, size, size), bias, window.stride).clamp_(
            0, settings.cap or None
        )
        a1 = (
            a1.flatten(2).unflatten(1, (-1, W1.shape[1])).transpose(1, 2).flatten(2)
        )  # (m, H, n), mirrored (m, H, 2 n)
        s = (a1 @ R.T.to(torch.float32)).transpose(1, 2)  # (m, q, H)
        s = s * dropout(torch.ones(len(s), 1, s.shape[2]), p) if p else s
        return ((s.flatten(1) - centre) / std) @ V + c

    def accuracy(images: np.ndarray, labels: np.ndarray) -> float:
        with torch.no_grad():
            found = [
                logits(images[i : i + BATCH], averaged).argmax(1)
                for i in range(0, len(images), BATCH)
            ]
        return float((torch.cat(found).numpy() == labels).mean())

    labels, step, began = data.train_labels.astype(np.int64), 0, time.perf_counter()
    while time.perf_counter() - began < 60 * minutes:
        for rows in train.batches(run.train_rows, settings, run.rng):
            if (done := (time.perf_counter() - began) / (60 * minutes)) >= 1:
                break
            epochs = step * settings.batch_size / len(run.train_rows)
            rate = (
                settings.learning_rate
                * (1 + math.cos(math.pi * done))
                / 2
                * min(1, epochs / settings.warmup_epochs)
            )
            for group, scale in zip(sgd.param_groups, scales, strict=True):
                group["lr"] = rate * scale
            images = train.augmented(data.train_images[rows], settings, run.rng)
            y = torch.from_numpy(labels[rows])
            sgd.zero_grad()
            z2 = logits(images, weights, settings.dropout)
            cross_entropy(z2, y, label_smoothing=settings.label_smoothing).backward()
            sgd.step()
            step += 1
            if step % train.EMA_EVERY == 0:
                keep = min(settings.ema**train.EMA_EVERY, step / (step + 10 * train.EMA_EVERY))
                for mean_weights, w in zip(averaged, weights, strict=True):
                    mean_weights.lerp_(w.detach(), 1 - keep)
    validation = accuracy(data.train_images[run.validation_rows], labels[run.validation_rows])
    return (
        step * settings.batch_size / len(run.train_rows),
        validation,
        accuracy(data.test_images, data.test_labels),
    )


def main() -> int:
    parser = cli.ArgumentParser(description=__doc__)
    recipes = [
        name for name, settings in train.RECIPES.items() if settings.get("init") == "patches"
    ]
    parser.add_argument(
        "--pytorch",
        choices=recipes,
        metavar="RECIPE",
        help="train this recipe's network in PyTorch",
    )
    parser.add_argument("--minutes", type=float, default=5, metavar="N", help="for so long")
    cli.add_threads(parser)
    cifar10.add_arguments(parser)
    args = parser.parse_args()
    if not 0 < args.minutes < math.inf:
        parser.error(f"--minutes {args.minutes:g}: must be above 0")
    if not args.pytorch:
        draw()
        print(f"figure {cli.shorter(FIGURE)}")
        return 0
    data = cifar10.load_from(args)
    epochs, validation, accuracy = torch_training(args.pytorch, args.minutes, data, args.threads)
    print(
        f"{epochs:.1f} epochs, validation accuracy {validation:.2%}, on {data.name}; a row of {cli.shorter(TABLE)}:"
    )
    command = f"python benchmarks/minutes.py --pytorch {args.pytorch} --minutes {args.minutes:g}"
    print(f'"PyTorch, {args.pytorch}",{args.minutes:g},{100 * accuracy:.2f},{command}')
    return 0


if __name__ == "__main__":
    sys.exit(cli.command(main))
