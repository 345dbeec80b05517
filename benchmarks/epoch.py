"""Time an epoch of train.py against its steps and its validation, or a whole training.

    python benchmarks/epoch.py                         an epoch of the report's recipe
    python benchmarks/epoch.py --training --epochs 3   train.py against the same training in PyTorch

An epoch: one process trains through train.train, another does the steps of benchmarks/step.py. They
take turns, an epoch and then steps, so that a machine that slows down does so for both. The first
epoch isn't counted, as it includes the start. Peak memory is that of the training process, with
Python, NumPy and all images in it.

A whole training counts from the start of the command to its end: imports, reading the images, the
epochs with their validation, the state after each epoch and the best weights on disk. PyTorch runs
in one process, with SGD(fused=True), and uses our reader, split, augmentation, schedule and early
stopping. Stop other programs first. Prints Markdown.
"""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# python -P leaves out the folder of the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine
import timing
from contenders import CONTENDERS, Case, torch_network

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the imports within functions, see step.py

LOADS = 3  # how often the images are read


# ---- An epoch ------------------------------------------------------------------------------------


def reading(exchange: Callable, dataset: str, data_dir: str | None) -> None:
    """In a worker: answer with the images' name, their numbers and the seconds to read them."""
    from data import cifar10

    cifar10.load(dataset, data_dir)  # not timed: may have to draw them, and the disk is cold
    seconds = []
    for _ in range(LOADS):
        began = time.perf_counter()
        data = cifar10.load(dataset, data_dir)
        seconds.append(time.perf_counter() - began)
    counts = len(data.train_labels), len(data.test_labels)
    exchange((data.name, *counts, statistics.median(seconds)))


def training(
    exchange: Callable, hidden: int, batch: int, threads: int, epochs: int, dataset: str, data_dir
) -> None:
    """In a worker: do an epoch whenever asked.

    An answer is (seconds of each part by its name, peak memory in MB).
    """
    import train
    from data import cifar10

    parts: dict[str, float] = {}
    began = 0.0
    batches, evaluate = train.batches, train.Network.evaluate

    def begin_epoch(*args):
        nonlocal began
        exchange((parts | {"epoch": time.perf_counter() - began}, timing.peak_memory()))
        began = time.perf_counter()
        return batches(*args)

    def validate(*args):
        start = time.perf_counter()
        result = evaluate(*args)
        parts["validation"] = time.perf_counter() - start
        parts["training"] = time.perf_counter() - began
        return result

    # train.train calls the first of these at the start of an epoch, the second at its end.
    train.batches = begin_epoch
    train.Network.evaluate = validate
    settings = train.resolve(
        {
            "hidden_size": hidden,
            "batch_size": batch,
            "epochs": epochs + 1,  # the last one also ends the run, and isn't asked for
            "patience": 0,
        }
    )
    data = cifar10.load(dataset, data_dir)
    with tempfile.TemporaryDirectory() as folder:
        train.train(settings, data, Path(folder, "net.npz"), threads=threads)


def report_epoch(args) -> None:
    """Print the table of an epoch."""
    name, rows, others, reading_seconds = timing.once(reading, args.dataset, args.data_dir)
    held_out = round(rows / 10)
    learned = rows - held_out
    case = Case(args.batch, args.hidden, args.threads, images=rows)
    steps = timing.Worker(timing.serve, CONTENDERS["ours"][1], case)
    trainer = timing.Worker(training, *given(args))
    times, _ = timing.turn(steps, args.steps)
    epochs = []
    for _ in range(args.epochs):
        time.sleep(timing.PAUSE)
        parts, memory = trainer.ask()
        epochs.append(parts)
        times += timing.turn(steps, args.steps)[0]
    for worker in (steps, trainer):
        worker.close()

    median = {part: statistics.median(each[part] for each in epochs[1:]) for part in epochs[0]}
    steps_seconds = statistics.median(times) / 1e3 * learned / args.batch
    ratio = median["epoch"] / (steps_seconds + median["validation"])
    threads = machine.count_threads(args.threads)
    print(f"\n### An epoch: {name} images, batch {args.batch}, {args.hidden:,} units, {threads}\n")
    print("| what | |\n|---|--:|")
    for what, value in (
        ("a step, with the spread of the middle 80 %", f"{timing.middle(times)} ms"),
        (f"its steps: {learned:,} images / {args.batch} x the median", f"{steps_seconds:.2f} s"),
        (f"validation on {held_out:,} images", f"{median['validation']:.2f} s"),
        ("**a whole epoch**", f"**{median['epoch']:.2f} s**"),
        ("of which its steps", f"{median['training'] - median['validation']:.2f} s"),
        ("of which saving", f"{median['epoch'] - median['training']:.2f} s"),
        ("**epoch / (steps + validation)**", f"**{ratio:.3f}**"),
        ("peak memory", f"{memory:,.0f} MB"),
        (f"reading {rows + others:,} images, warm disk", f"{reading_seconds:.2f} s"),
    ):
        print(f"| {what} | {value} |")


# ---- A whole training ----------------------------------------------------------------------------


def our_training(args) -> tuple[float, list[float]]:
    """Return the seconds of the command train.py, and the validation accuracy of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "net.npz")
        command = [
            sys.executable,
            ROOT / "train.py",
            f"--hidden-size={args.hidden}",
            f"--batch-size={args.batch}",
            f"--epochs={args.epochs}",
            f"--threads={args.threads}",
            f"--dataset={args.dataset}",
            f"--output={output}",
        ]
        if args.data_dir:
            command.append(f"--data-dir={args.data_dir}")
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            last_line = " ".join(done.stderr.splitlines()[-1:])
            raise timing.Lost(last_line or f"train.py: exit code {done.returncode}")
        with open(output.with_suffix(".csv"), newline="") as file:
            return seconds, [float(row["val_accuracy"]) for row in csv.DictReader(file)]


def torch_training(
    exchange: Callable, hidden: int, batch: int, threads: int, epochs: int, dataset: str, data_dir
) -> None:
    """In a worker: do the same training in PyTorch.

    The answer is the validation accuracy of each epoch.
    """
    import train
    from data import cifar10

    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    data = cifar10.load(dataset, data_dir)
    settings = train.resolve({"hidden_size": hidden, "batch_size": batch, "epochs": epochs})
    rows, validation = cifar10.split(data.train_labels, settings.validation_share, rng)
    net, sgd = torch_network(Case(batch, hidden, threads))

    def logits(images):
        return net(torch.from_numpy(images).to(torch.float32) * (1 / 255))

    def train_epoch(epoch: int) -> None:
        for group in sgd.param_groups:
            group["lr"] = group["scale"] * train.learning_rate(settings, epoch)
        net.train()
        for batch in train.batches(rows, settings, rng):
            images = train.augmented(data.train_images[batch], settings, rng)
            labels = data.train_labels[batch]
            loss = torch.nn.functional.cross_entropy(logits(images), torch.from_numpy(labels))
            sgd.zero_grad()
            loss.backward()
            sgd.step()

    def validate() -> float:
        net.eval()
        correct = 0
        with torch.no_grad():
            for some in np.array_split(validation, 20):
                predicted = logits(data.train_images[some]).argmax(1).numpy()
                correct += int((predicted == data.train_labels[some]).sum())
        return correct / len(validation)

    accuracy: list[float] = []
    best = 0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(epochs):
            train_epoch(epoch)
            accuracy.append(validate())
            torch.save({"net": net.state_dict(), "sgd": sgd.state_dict()}, Path(folder, "state"))
            if accuracy[epoch] > accuracy[best] or epoch == 0:
                best = epoch
                torch.save(net.state_dict(), Path(folder, "net"))
            if settings.patience and epoch - best >= settings.patience:
                break
    exchange(accuracy)


def report_training(args) -> None:
    """Print the table of whole trainings."""
    ours, theirs = [], []
    for _ in range(args.rounds):
        seconds, our_accuracy = our_training(args)
        ours.append(seconds)
        began = time.perf_counter()
        their_accuracy = timing.once(torch_training, *given(args), threads=args.threads)
        theirs.append(time.perf_counter() - began)
    threads = machine.count_threads(args.threads)
    print(
        f"\n### A training: {args.epochs} epochs, batch {args.batch}, "
        f"{args.hidden:,} units, {threads}\n"
    )
    print("| training, start to end | s (rounds) | / ours | validation, last epoch |")
    print("|---|--:|--:|--:|")
    for name, seconds, accuracy in (
        ("ours: python train.py", ours, our_accuracy),
        ("PyTorch, SGD(fused=True)", theirs, their_accuracy),
    ):
        ratio = timing.middle([a / b for a, b in zip(seconds, ours, strict=True)])
        print(f"| {name} | {timing.middle(seconds)} | {ratio} | {accuracy[-1]:.1%} |")


# ---- The command line ----------------------------------------------------------------------------


def given(args) -> tuple:
    """Return the arguments of the workers that train."""
    return args.hidden, args.batch, args.threads, args.epochs, args.dataset, args.data_dir


def make_parser():
    """Return the parser of the command line."""
    from data import cifar10
    from support import cli

    parser = cli.ArgumentParser(description=__doc__)

    def add_number(flag: str, low: int, high: int, default: int | None, text: str) -> None:
        kind = cli.integer(low, high)
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=text)

    text = "time a whole training against PyTorch's instead of an epoch"
    parser.add_argument("--training", action="store_true", help=text)
    add_number("--batch", 2, 10**5, 128, "images in a batch")
    add_number("--hidden", 1, 10**6, 1024, "hidden units")
    add_number("--epochs", 2, 1000, 3, "epochs")
    add_number("--steps", 2, 10**5, None, "steps between epochs (default: 60)")
    add_number("--rounds", 1, 100, None, "with --training: whole trainings of each (default: 3)")
    choices = ("auto", *cifar10.LAYOUTS)
    parser.add_argument("--dataset", choices=choices, default="auto", help="which images")
    text = "where the images are (default: as train.py)"
    parser.add_argument("--data-dir", metavar="FOLDER", help=text)
    text = "seconds to wait, at most, until other programs rest"
    parser.add_argument("--wait", metavar="N", type=cli.integer(0, 10**5), default=60, help=text)
    cli.add_threads(parser)
    return parser


def main() -> int:
    from support import cli

    parser = make_parser()
    args = parser.parse_args()
    if args.training and args.steps:
        parser.error("--steps: a whole training has no steps of its own; leave out --steps")
    if args.rounds and not args.training:
        parser.error("--rounds: is for --training; leave it out, or give both")
    args.steps, args.rounds = args.steps or 60, args.rounds or 3
    print(timing.once(machine.describe), flush=True)
    print(machine.wait_until_quiet(args.wait), flush=True)
    try:
        if args.training:
            report_training(args)
        else:
            report_epoch(args)
    except timing.Lost as error:
        raise cli.UserError(error) from None
    return 0


if __name__ == "__main__":
    from support import cli

    sys.exit(cli.command(main))
