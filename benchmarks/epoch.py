# ruff: noqa: E501
"""A whole epoch of train.py against the steps that it is made of and its validation, or a whole training.

    python benchmarks/epoch.py                             an epoch of the report's recipe
    python benchmarks/epoch.py --training --epochs 3       the command train.py against the same training in PyTorch

One process trains through train.train, another one does the same steps as in benchmarks/step.py; they take turns, an
epoch and then steps, so that a machine that becomes slower does so for both. The first epoch isn't counted, as it
includes the start. Peak memory is that of the training process, with Python, NumPy and all images in it.

A whole training counts from the start of the command to its end: imports, reading the images, the epochs with their
validation, the state after each epoch and the best weights on the disk. PyTorch runs in one process, with
SGD(fused=True), on our own reader, split, augmentation, schedule and early stopping. Prints Markdown.
"""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timing
from contenders import CONTENDERS, Case, torch_network
from step import counted, describe_machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for imports within functions, see contenders.py

LOADS = 3  # how often the images are read


# ---- An epoch -------------------------------------------------------------------------------------------------------


def reading(exchange: Callable, dataset: str, data_dir: str | None) -> None:
    """In a worker: answer by the images' name, how many there are of each split, and the seconds to read them."""
    from data import cifar10

    seconds = []
    for _ in range(1 + LOADS):  # the first one may have to draw them, and the disk is cold
        began = time.perf_counter()
        data = cifar10.load(dataset, data_dir)
        seconds.append(time.perf_counter() - began)
    exchange(
        (data.name, len(data.train_labels), len(data.test_labels), statistics.median(seconds[1:]))
    )


def training(
    exchange: Callable, hidden: int, batch: int, threads: int, epochs: int, dataset: str, data_dir
) -> None:
    """In a worker: do an epoch whenever asked, and answer by the seconds of its parts and the peak memory."""
    import train
    from data import cifar10

    parts, began = {}, 0.0

    batches, evaluate = train.batches, train.Network.evaluate

    def asked(*args):
        """An epoch begins."""
        nonlocal began
        exchange((parts | {"epoch": time.perf_counter() - began}, timing.peak_memory()))
        began = time.perf_counter()
        return batches(*args)

    def validated(*args):
        """An epoch's steps are done; when this returns, so is its training."""
        start = time.perf_counter()
        result = evaluate(*args)
        parts["validation"] = time.perf_counter() - start
        parts["training"] = time.perf_counter() - began
        return result

    train.batches, train.Network.evaluate = asked, validated
    # One epoch more than is asked for: the last one also ends the run.
    settings = train.resolve(
        {"hidden_size": hidden, "batch_size": batch, "epochs": epochs + 1, "patience": 0}
    )
    with tempfile.TemporaryDirectory() as folder:
        train.train(
            settings, cifar10.load(dataset, data_dir), Path(folder, "net.npz"), threads=threads
        )


def report_epoch(args) -> None:
    """Print the table of an epoch."""
    name, rows, others, seconds = timing.once(reading, args.dataset, args.data_dir)
    held_out = round(rows / 10)
    case = Case(args.batch, args.hidden, args.threads, images=rows)
    given = args.hidden, args.batch, args.threads, args.epochs, args.dataset, args.data_dir
    steps = timing.Worker(timing.serve, CONTENDERS["ours"][1], case)
    trainer = timing.Worker(training, *given)
    times, epochs = timing.turn(steps, args.steps)[0], []
    for _ in range(args.epochs):
        time.sleep(timing.PAUSE)
        parts, memory = trainer.ask()
        epochs.append(parts)
        times += timing.turn(steps, args.steps)[0]
    for worker in (steps, trainer):
        worker.close()
    median = {part: statistics.median(each[part] for each in epochs[1:]) for part in epochs[0]}
    alone = statistics.median(times) / 1e3 * (rows - held_out) / args.batch
    both = alone + median["validation"]
    print(
        f"\n### An epoch: {name} images, batch {args.batch}, {args.hidden:,} units, {counted(args.threads)}\n"
    )
    print("| what | |\n|---|--:|")
    for what, value in (
        ("a step, with the spread of the middle 80 %", f"{timing.middle(times)} ms"),
        (f"its steps: {rows - held_out:,} images / {args.batch} x the median", f"{alone:.2f} s"),
        (f"validation on {held_out:,} images", f"{median['validation']:.2f} s"),
        ("**a whole epoch**", f"**{median['epoch']:.2f} s**"),
        ("of which its steps", f"{median['training'] - median['validation']:.2f} s"),
        (
            "of which saving the state and the best weights",
            f"{median['epoch'] - median['training']:.2f} s",
        ),
        ("**epoch / (steps + validation)**", f"**{median['epoch'] / both:.3f}**"),
        ("peak memory", f"{memory:,.0f} MB"),
        (f"reading {rows + others:,} images, warm disk", f"{seconds:.2f} s"),
    ):
        print(f"| {what} | {value} |")


# ---- A whole training -----------------------------------------------------------------------------------------------


def our_training(args) -> tuple[float, list[float]]:
    """The seconds of the command train.py, and the validation accuracy of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {
            "hidden-size": args.hidden,
            "batch-size": args.batch,
            "epochs": args.epochs,
            "threads": args.threads,
        }
        flags |= {"dataset": args.dataset, "output": Path(folder, "net.npz")}
        flags |= {"data-dir": args.data_dir} if args.data_dir else {}
        command = [
            sys.executable,
            ROOT / "train.py",
            *(f"--{flag}={value}" for flag, value in flags.items()),
        ]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise timing.Lost(
                " ".join(done.stderr.splitlines()[-1:]) or f"train.py: exit code {done.returncode}"
            )
        with open(Path(folder, "net.csv"), newline="") as file:
            return seconds, [float(row["val_accuracy"]) for row in csv.DictReader(file)]


def torch_training(
    exchange: Callable, hidden: int, batch: int, threads: int, epochs: int, dataset: str, data_dir
):
    """In a worker: the same training in PyTorch; the answer is the validation accuracy of each epoch."""
    import train
    from data import cifar10

    import numpy as np
    import torch

    data, rng = cifar10.load(dataset, data_dir), np.random.default_rng(0)
    settings = train.resolve({"hidden_size": hidden, "batch_size": batch, "epochs": epochs})
    rows, validation = cifar10.split(data.train_labels, settings.validation_share, rng)
    net, sgd = torch_network(Case(batch, hidden, threads))

    def logits(images):
        return net(torch.from_numpy(images).to(torch.float32) * (1 / 255))

    accuracy, best = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(epochs):
            for group in sgd.param_groups:
                group["lr"] = group["scale"] * train.learning_rate(settings, epoch)
            net.train()
            for chosen in train.batches(rows, settings, rng):
                images = train.augmented(data.train_images[chosen], settings, rng)
                labels = data.train_labels[chosen]
                loss = torch.nn.functional.cross_entropy(logits(images), torch.from_numpy(labels))
                sgd.zero_grad()
                loss.backward()
                sgd.step()
            net.eval()
            with torch.no_grad():
                found = [
                    logits(data.train_images[some]).argmax(1)
                    for some in np.array_split(validation, 20)
                ]
            accuracy.append(
                float((torch.cat(found).numpy() == data.train_labels[validation]).mean())
            )
            best = max(range(epoch + 1), key=accuracy.__getitem__)
            torch.save({"net": net.state_dict(), "sgd": sgd.state_dict()}, Path(folder, "state"))
            if best == epoch:
                torch.save(net.state_dict(), Path(folder, "net"))
            if settings.patience and epoch - best >= settings.patience:
                break
    exchange(accuracy)


def report_training(args) -> None:
    """Print the table of whole trainings."""
    given = args.hidden, args.batch, args.threads, args.epochs, args.dataset, args.data_dir
    seconds = {"ours: python train.py": [], "PyTorch, SGD(fused=True)": []}
    for _ in range(args.rounds):
        ours, our_accuracy = our_training(args)
        began = time.perf_counter()
        their_accuracy = timing.once(torch_training, *given, threads=args.threads)
        for each, value in zip(seconds.values(), (ours, time.perf_counter() - began), strict=True):
            each.append(value)
    print(
        f"\n### A training: {args.epochs} epochs, batch {args.batch}, {args.hidden:,} units, {args.threads} threads\n"
    )
    print(
        "| training, start to end | s (rounds) | / ours | validation, last epoch |\n|---|--:|--:|--:|"
    )
    ours = next(iter(seconds.values()))
    for (name, each), accuracy in zip(seconds.items(), (our_accuracy, their_accuracy), strict=True):
        ratio = timing.middle([a / b for a, b in zip(each, ours, strict=True)])
        print(f"| {name} | {timing.middle(each)} | {ratio} | {accuracy[-1]:.1%} |")


def main() -> int:
    from data import cifar10
    from support import cli

    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--training", action="store_true", help="a whole training against PyTorch's, not an epoch"
    )
    parser.add_argument(
        "--batch", type=cli.integer(2, 10**5), default=128, metavar="N", help="images in a batch"
    )
    parser.add_argument(
        "--hidden", type=cli.integer(1, 10**6), default=1024, metavar="N", help="hidden units"
    )
    parser.add_argument(
        "--epochs", type=cli.integer(2, 1000), default=3, metavar="N", help="epochs"
    )
    parser.add_argument(
        "--steps", type=cli.integer(2, 10**5), default=60, metavar="N", help="steps between epochs"
    )
    parser.add_argument(
        "--rounds", type=cli.integer(1, 100), default=3, metavar="N", help="whole trainings of each"
    )
    parser.add_argument(
        "--dataset", choices=("auto", *cifar10.LAYOUTS), default="auto", help="which images"
    )
    parser.add_argument(
        "--data-dir", metavar="FOLDER", help="where they are (default: as train.py)"
    )
    cli.add_threads(parser)
    args = parser.parse_args()
    print(timing.once(describe_machine), flush=True)
    try:
        report_training(args) if args.training else report_epoch(args)
    except timing.Lost as error:
        raise cli.UserError(error) from None
    return 0


if __name__ == "__main__":
    from support import cli

    sys.exit(cli.command(main))
