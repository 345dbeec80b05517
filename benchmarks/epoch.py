"""A whole epoch of train.py, end to end, against the steps that it is made of and its validation.

    python benchmarks/epoch.py                                   default settings; CIFAR-10, or else synthetic images
    python benchmarks/epoch.py --dataset synthetic --threads 1

One process trains through train.train, another one does the same steps as in benchmarks/step.py; they take turns, an
epoch and then steps, so that a machine that becomes slower does so for both. The first epoch isn't counted, as it
includes the start. Peak memory is that of the training process, with Python, NumPy and all images in it. Nothing is
downloaded. Prints a Markdown table.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import step

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import train  # noqa: E402
from data import cifar10  # noqa: E402

LOADS, IMPORTS = 3, 7  # how often these are timed
IMPORT = """
import sys, time
import numpy
began = time.perf_counter()
import train
print(1e3 * (time.perf_counter() - began), "matplotlib" in sys.modules)
"""


def settings_of(args) -> train.Settings:
    return train.Settings(hidden_size=args.hidden, batch_size=args.batch)


def serve(args) -> int:
    """Be the training process: answer each line by an epoch's seconds, and by those of its parts; at last, by bytes."""
    answer = step.answers()
    data = cifar10.load(args.dataset, args.data_dir)
    parts, began = {}, 0.0

    def wait():
        nonlocal began
        parts.update(validation=0.0, saving=0.0)
        sys.stdin.readline()
        began = time.perf_counter()

    def timed(part, function):
        def wrapped(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            parts[part] += time.perf_counter() - start
            return result

        return wrapped

    save_state = timed("saving", train.Run.save_state)

    def save_and_tell(run, path):  # an epoch ends with this
        save_state(run, path)
        answer({"epoch": time.perf_counter() - began, "loop": run.history["seconds"][-1], **parts})
        wait()

    train.Run.save_state = save_and_tell
    train.save_best = timed("saving", train.save_best)
    train.Network.evaluate = timed("validation", train.Network.evaluate)
    answer(None)
    wait()
    with tempfile.TemporaryDirectory() as folder:
        train.train(settings_of(args), data, Path(folder, "net.npz"), threads=args.threads, stop_after=args.epochs)
    unit = 1 if sys.platform == "darwin" else 1024
    answer(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    return 0


def loading(args) -> tuple[list[float], cifar10.Dataset]:
    """How long the images take to load from a disk that is warm, in seconds, and the images."""
    data = cifar10.load(args.dataset, args.data_dir)  # drawn here if they are missing
    durations = []
    for _ in range(LOADS):
        began = time.perf_counter()
        cifar10.load(args.dataset, args.data_dir)
        durations.append(time.perf_counter() - began)
    return durations, data


def importing() -> tuple[list[float], bool]:
    """How long `import train` takes after `import numpy`, in ms, and whether that imports matplotlib."""
    durations, matplotlib = [], False
    for _ in range(IMPORTS):
        words = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
        duration, found = words.stdout.split()
        durations.append(float(duration))
        matplotlib |= found == "True"
    return durations, matplotlib


def measure(args, rows: int) -> tuple[list[float], list[dict], int]:
    """Milliseconds of steps, the parts of each epoch but the first in seconds, and the peak memory in bytes."""
    command = [__file__, "--worker", *sys.argv[1:], "--dataset", args.dataset]
    durations, epochs, workers = [], [], []
    try:
        workers.append(step.step_worker("ours", args.batch, args.hidden, args.threads, rows))
        workers.append(step.Worker(command, args.threads))
        steps, training = workers

        def turn():
            time.sleep(step.PAUSE)
            durations.extend(steps.ask(f"run {args.steps + 1}")[1:])
            time.sleep(step.PAUSE)

        turn()
        for _ in range(args.epochs):
            epochs.append(training.ask())
            turn()
        peak = training.ask()
    finally:
        for worker in workers:
            worker.close()
    return durations, epochs[1:], peak


def report(args) -> None:
    load_seconds, data = loading(args)
    images = sum(array.nbytes for array in (data.train_images, data.test_images))
    import_ms, matplotlib = importing()
    settings = settings_of(args)
    held_out = round(len(data.train_labels) * settings.validation_share)
    rows = len(data.train_labels) - held_out
    name, count = data.name, len(data.train_labels) + len(data.test_labels)
    del data
    durations, epochs, peak = measure(args, rows)

    median = {part: statistics.median(epoch[part] for epoch in epochs) for part in epochs[0]}
    milliseconds, batches = statistics.median(durations), rows / args.batch
    sums = batches * milliseconds / 1e3
    whole, both = median["epoch"], sums + median["validation"]
    spread = f"{step.quantile(durations, 0.1):.2f}-{step.quantile(durations, 0.9):.2f}"
    rest = whole - median["loop"] - median["validation"] - median["saving"]
    table = [
        ("a step, median", f"{milliseconds:.2f} ms ({spread} ms, 10-90 %)"),
        (f"its steps: {rows:,} images / {args.batch} x the median", f"{sums:.2f} s"),
        (f"validation on {held_out:,} images", f"{median['validation']:.2f} s"),
        ("**steps + validation**", f"**{both:.2f} s**"),
        ("**a whole epoch**", f"**{whole:.2f} s** ({rows / whole:,.0f} images/s)"),
        ("of which its loop over the batches", f"{median['loop']:.2f} s"),
        ("of which saving the best weights and the state", f"{median['saving']:.2f} s"),
        ("of which the rest", f"{rest:.2f} s"),
        ("**epoch / (steps + validation)**", f"**{whole / both:.3f}** (goal: at most 1.1)"),
        ("peak memory", f"{peak / 2**20:,.0f} MB, {images / 2**20:,.0f} MB of it pixels"),
        (f"loading {count:,} images, warm disk", f"{statistics.median(load_seconds):.2f} s (goal for 60,000: below 1)"),
        ("`import train` beyond NumPy's", f"{statistics.median(import_ms):.0f} ms (goal: below 300)"),
        ("imports matplotlib to train", f"{'yes' if matplotlib else 'no'} (goal: no)"),
    ]
    print(f"- {name} images, {len(epochs)} epoch{'s' * (len(epochs) > 1)} after the first, {len(durations)} steps\n")
    print(f"### An epoch: batch {args.batch}, hidden {args.hidden}, {step.threads_text(args.threads)}\n")
    print("| what | |\n|---|--:|")
    print("\n".join(f"| {what} | {value} |" for what, value in table))


def main() -> int:
    defaults = train.Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = {"type": int, "metavar": "N"}
    parser.add_argument("--batch", default=defaults.batch_size, help="images in a batch (128)", **number)
    parser.add_argument("--hidden", default=defaults.hidden_size, help="hidden units (1024)", **number)
    parser.add_argument("--threads", default=train.default_threads(), help="threads that compute (all cores)", **number)
    parser.add_argument("--epochs", default=2, help="epochs, the first not counted (2)", **number)
    parser.add_argument("--steps", default=60, help="steps of a turn between epochs (60)", **number)
    parser.add_argument("--dataset", choices=("auto", *cifar10.FOLDERS), default="auto",
                        help="which images (auto: CIFAR-10 if it is there, else synthetic ones)")  # fmt: skip
    parser.add_argument("--data-dir", metavar="FOLDER", help="where they are (default: as train.py)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.hidden, args.threads, args.steps) < 1 or min(args.batch, args.epochs) < 2:
        parser.error("--hidden, --threads and --steps must be at least 1, --batch and --epochs at least 2")
    if args.worker:
        return serve(args)
    folder = Path(args.data_dir or cifar10.HERE / cifar10.FOLDERS["cifar10"])
    if args.dataset != "synthetic" and not folder.exists():  # where load would download
        if args.dataset == "cifar10" or args.data_dir:
            parser.error(f"{folder} is missing; python data/cifar10.py brings the images")
        args.dataset = "synthetic"
    print("\n".join(step.header()), flush=True)
    report(args)
    return 0


if __name__ == "__main__":
    sys.exit(cifar10.command(main))
