"""One training step of ours, of PyTorch and of scikit-learn, against the floor: the step's two large products alone.

    python benchmarks/step.py                                       all sizes, some ten minutes on a quiet machine
    python benchmarks/step.py --batch 128 --hidden 1024 --threads 2
    python benchmarks/step.py --peers                               ours, the floor and the update's memory only
    python benchmarks/step.py --profile                             where the time of our step goes, on one thread

A step takes a batch of uint8 images, gathers it from all images, mirrors half of it at random, scales it to float32,
and goes forward, backward and through the update. What the pixels show doesn't change that time, so they are random:
no images are read. PyTorch has the same network (Linear, BatchNorm1d, ReLU, Dropout, Linear), the same loss and the
same SGD (momentum, L2 on the two weight matrices only, a rate of its own for gamma and beta). Its batch is gathered by
NumPy within the step, without a DataLoader, whose processes would take the cores away. scikit-learn's MLPClassifier has
neither batch normalisation nor dropout, so its step is less work than the others'. Another row reads and writes W1 and
its velocity once, which no update with momentum can do without: memory sets its time, whatever the cores do.

Every contender is a process of its own, with its own number of threads. One runs at a time, a few steps in its turn,
round after round, so that a machine that becomes slower does so for all. The first third of a turn isn't counted: its
caches are another's. Prints Markdown; exit code 1 if our step or the floor could not be measured.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

# Neither NumPy nor model.py, which sets BLAS's threads to 1, is imported up here: a contender sets threads first.
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
PIXELS, CLASS_COUNT = 3072, 10
MOMENTUM, LAMBDA, BN_LR_SCALE, DROPOUT = 0.9, 0.01, 128, 0.5  # the defaults of train.py, which `ours` takes from there
RATE = 1e-4  # low, as noise with random labels is no place to learn: a step costs the same
WARM_UP = 3  # steps before the first turn: buffers, compilation
PAUSE = 0.05  # seconds before a turn, until the last one's idle BLAS threads have stopped spinning


# ---- Contenders: each returns a function that does one step and returns the loss ------------------------------------


def draw(args):
    """Random images (N, 3072) uint8 and labels (N,) int64; N is a multiple of the batch, for batches of one size."""
    import numpy as np

    rng = np.random.default_rng(0)
    count = max(1, args.images // args.batch) * args.batch
    return rng.integers(256, size=(count, PIXELS), dtype=np.uint8), rng.integers(CLASS_COUNT, size=count)


def peer_batches(args) -> Iterator[tuple]:
    """What train.batches yields, without end, for those who mustn't import it, as it sets the number of threads.

    For PyTorch too: its own operators take three times as long to gather and to mirror a batch.
    """
    import numpy as np

    images, labels = draw(args)
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images), args.batch):
            rows = order[start : start + args.batch]
            square = images[rows].reshape(-1, 3, 32, 32)
            chosen = rng.random(len(square)) < 0.5
            square[chosen] = square[chosen, :, :, ::-1]
            yield square.reshape(-1, PIXELS), labels[rows]


def our_network(args, threads: int):
    """Network and SGD as train.py makes them, an endless stream of its batches, and the generator."""
    import model
    import train

    import numpy as np

    images, labels = draw(args)
    settings = train.Settings(hidden_size=args.hidden, batch_size=args.batch, learning_rate=RATE)
    rng = np.random.default_rng(0)
    net = model.Network(
        fields=settings.fields(), batchnorm=settings.batchnorm, dropout=settings.dropout, seed=rng, threads=threads
    )
    sgd = model.SGD(RATE, settings.momentum, settings.lambda_reg, settings.bn_lr_scale)

    def stream():
        while True:
            yield from train.batches(images, labels, np.arange(len(images)), settings, rng)

    return net, sgd, stream(), rng


def ours(args) -> Callable:
    net, sgd, stream, rng = our_network(args, args.threads)

    def step():
        X, y = next(stream)
        return net.train_batch(X, y, sgd, rng)[0]

    return step


def operands(args):
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.random((args.batch, PIXELS), dtype=np.float32)
    W1 = rng.standard_normal((PIXELS, args.hidden), dtype=np.float32)
    return X, W1, rng.standard_normal((args.batch, args.hidden), dtype=np.float32)


def floor_split(args) -> Callable:
    """The products in pieces on our own threads: X W1 by units, X^T dz1 by rows, cut as model.py cuts them."""
    import model

    import numpy as np

    X, W1, dz1 = operands(args)
    bounds = np.linspace(0, args.hidden, -(-args.hidden // model.UNIT_BLOCK) + 1).astype(int)
    units = [slice(*pair) for pair in pairwise(bounds)]
    z1 = [np.empty((args.batch, some.stop - some.start), np.float32) for some in units]
    height = max(16, model.WEIGHT_BLOCK // args.hidden)
    rows = [slice(start, min(start + height, PIXELS)) for start in range(0, PIXELS, height)]
    scratch = [np.empty((height, args.hidden), np.float32) for _ in range(args.threads)]  # one a thread, as in model.py
    spread = spreader(args.threads)

    def step():
        spread(lambda i, thread: np.matmul(X, W1[:, units[i]], out=z1[i]), len(units))
        spread(
            lambda i, thread: np.matmul(X[:, rows[i]].T, dz1, out=scratch[thread][: rows[i].stop - rows[i].start]),
            len(rows),
        )
        return 0.0

    return step


def spreader(threads: int) -> Callable:
    """A function that calls task(i, thread) for every i below a count, on so many threads."""
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(max(1, threads - 1))

    def spread(task, count):
        queue = iter(range(count))

        def drain(thread):
            for i in queue:
                task(i, thread)

        helpers = [executor.submit(drain, thread) for thread in range(1, threads)]
        drain(0)
        for helper in helpers:
            helper.result()

    return spread


def traffic(args) -> Callable:
    """What no update with momentum can do without: W1 and its velocity read and written once, in blocks that stay in
    the cache between the two operations."""
    import numpy as np

    W1 = operands(args)[1].ravel()
    velocity, momentum, block = np.ones_like(W1), np.float32(MOMENTUM), 2**15
    spread = spreader(args.threads)

    def touch(i, thread):
        some = slice(i * block, (i + 1) * block)
        velocity[some] *= momentum
        W1[some] += velocity[some]

    def step():
        spread(touch, -(-W1.size // block))
        return 0.0

    return step


def floor_blas(args) -> Callable:
    """The products whole, on the threads of BLAS."""
    import numpy as np

    X, W1, dz1 = operands(args)
    z1, dW1 = np.empty_like(dz1), np.empty_like(W1)

    def step():
        np.matmul(X, W1, out=z1)
        np.matmul(X.T, dz1, out=dW1)
        return 0.0

    return step


def torch_step(args, fused: bool = False, compiled: bool = False) -> Callable:
    import torch
    from torch import nn

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    layers = nn.Linear(PIXELS, args.hidden), nn.BatchNorm1d(args.hidden, eps=1e-5, momentum=0.1), nn.ReLU()
    net = nn.Sequential(*layers, nn.Dropout(DROPOUT), nn.Linear(args.hidden, CLASS_COUNT))
    groups = [
        {"params": [net[0].weight, net[4].weight], "weight_decay": LAMBDA},
        {"params": [net[0].bias, net[4].bias]},
        {"params": list(net[1].parameters()), "lr": RATE * BN_LR_SCALE},
    ]
    sgd = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, **({"fused": True} if fused else {}))

    def loss_of(pixels, y):
        return nn.functional.cross_entropy(net(pixels.to(torch.float32) * (1 / 255)), y)

    if compiled:
        loss_of = torch.compile(loss_of)
    stream = peer_batches(args)

    def step():
        X, y = next(stream)
        loss = loss_of(torch.from_numpy(X), torch.from_numpy(y))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def sklearn_step(args) -> Callable:
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        (args.hidden,),
        solver="sgd",
        alpha=LAMBDA * args.batch,  # scikit-learn divides it by the batch
        batch_size=args.batch,
        learning_rate_init=RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        random_state=0,
    )
    stream = peer_batches(args)
    classes = np.arange(CLASS_COUNT)

    def step():
        X, y = next(stream)
        net.partial_fit(np.multiply(X, np.float32(1 / 255), dtype=np.float32), y, classes=classes)
        return net.loss_

    return step


CONTENDERS = {
    "ours": ("ours", ours),
    "floor-split": ("floor: the two products, on our threads", floor_split),
    "floor-blas": ("floor: the two products, on BLAS's threads", floor_blas),
    "traffic": ("W1 and its velocity, read and written once", traffic),
    "torch": ("PyTorch, SGD", torch_step),
    "torch-fused": ("PyTorch, SGD(fused=True)", lambda args: torch_step(args, fused=True)),
    "torch-compile": ("PyTorch, torch.compile, fused", lambda args: torch_step(args, fused=True, compiled=True)),
    "sklearn": ("scikit-learn, no BN, no dropout", sklearn_step),
}
PACKAGES = {"torch": "PyTorch", "sklearn": "scikit-learn"}
FLOORS = ("floor-split", "floor-blas")
PEERS = tuple(name for name in CONTENDERS if name.partition("-")[0] in PACKAGES)


# ---- Processes ------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """A contender that can't start or go on: why, in a few words."""

    one_line = True


class Worker:
    """A process that answers each line on its stdin by a line of JSON, first of all with null when it is ready."""

    def __init__(self, arguments: list, threads: int):
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # helpers that compile would stay, idle, until the end
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (close does it)
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
        )
        try:
            self.receive()
        except BaseException:
            self.close()
            raise

    def receive(self):
        """The next answer. Lost if there is none, with the last words of stderr."""
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            words = self.errors.read().decode(errors="replace").strip().splitlines()
            raise Lost(f"died with exit code {code}" + (f": {words[-1]}" if words else ""))
        answer = json.loads(line)
        if isinstance(answer, dict) and "lost" in answer:
            raise Lost(answer["lost"])
        return answer

    def ask(self, question: str = ""):
        with contextlib.suppress(BrokenPipeError):  # a process that is gone: receive says so
            print(question, file=self.process.stdin, flush=True)
        return self.receive()

    def close(self) -> None:
        """End the process, which stops by itself when nobody asks any more."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def answers():
    """In a worker: where its answers go. What libraries print on stdout goes to stderr from now on."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=channel)


def timed(step: Callable) -> float:
    """The milliseconds of a step. RuntimeError for a loss that isn't finite: we would leave out half of that step."""
    began = time.perf_counter()
    loss = step()
    duration = 1e3 * (time.perf_counter() - began)
    if not math.isfinite(loss):
        raise RuntimeError(f"loss {loss}")
    return duration


def serve(args) -> int:
    """Be a contender: answer 'run K' by the durations of K steps."""
    answer = answers()
    try:
        step = CONTENDERS[args.worker][1](args)
        for _ in range(WARM_UP):
            timed(step)
    except Exception as error:  # a compiler alone fails in a dozen ways, and the others are to go on
        text = (str(error).strip().splitlines() or [""])[0]
        answer({"lost": f"{type(error).__name__}: {text}"})
        return 0
    answer(None)
    for line in sys.stdin:
        answer([timed(step) for _ in range(int(line.split()[1]))])
    return 0


def step_worker(name: str, batch: int, hidden: int, threads: int, images: int) -> Worker:
    """The process of a contender, ready to be asked. Lost if it can't be."""
    package = name.partition("-")[0]
    if package in PACKAGES and importlib.util.find_spec(package) is None:
        raise Lost(f"{PACKAGES[package]} is not installed")
    sizes = "--batch", batch, "--hidden", hidden, "--threads", threads, "--images", images
    return Worker([__file__, "--worker", name, *sizes], threads)


# ---- Measurements and tables ----------------------------------------------------------------------------------------


def compare(names, rounds: int, steps: int, sizes) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The durations of each contender in ms, and why others have none. sizes: batch, hidden, threads, images."""
    workers, durations, lost = {}, defaultdict(list), {}
    try:
        for name in names:
            try:
                workers[name] = step_worker(name, *sizes)
            except Lost as error:
                lost[name] = str(error)
        for _ in range(rounds):
            for name in [name for name in workers if name not in lost]:
                time.sleep(PAUSE)
                try:
                    durations[name] += workers[name].ask(f"run {steps}")[unsettled(steps) :]
                except Lost as error:
                    lost[name] = str(error)
                    durations.pop(name, None)
    finally:
        for worker in workers.values():
            worker.close()
    return durations, lost


def unsettled(steps: int) -> int:
    """How many steps of a turn aren't counted."""
    return max(1, steps // 3)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]


def table(durations: dict[str, list[float]], lost: dict[str, str], batch: int) -> list[str]:
    """The Markdown table of one size."""
    median = {name: statistics.median(each) for name, each in durations.items()}
    floor = min((median[name] for name in FLOORS if name in median), default=math.nan)
    own = median.get("ours", math.nan)
    lines = ["| step | median ms | 10-90 % | images/s | / floor | / ours |", "|---|--:|--:|--:|--:|--:|"]
    for name, value in median.items():
        low, high = quantile(durations[name], 0.1), quantile(durations[name], 0.9)
        ratios = f"{value / floor:.2f} | {value / own:.2f}"
        speed = 1e3 * batch / value
        lines.append(f"| {CONTENDERS[name][0]} | {value:.2f} | {low:.2f}-{high:.2f} | {speed:,.0f} | {ratios} |")
    return lines + [f"\n{CONTENDERS[name][0]}: skipped, {why}" for name, why in lost.items()]


def goals(durations: dict[str, list[float]], batch: int, hidden: int, threads: int) -> str:
    """The ratios that count, in one line, with what they are to be on two threads."""
    median = {name: statistics.median(each) for name, each in durations.items()}
    floors = [median[name] for name in FLOORS if name in median]
    line = f"- batch {batch}, hidden {hidden}, {threads_text(threads)}:"
    if "ours" not in median or not floors:
        return f"{line} not measured"
    first = (batch, hidden, threads) == (128, 1024, 2)
    goal = 1.25 if first else 1.2 if (hidden, threads) == (4096, 2) else None
    line += f" ours / floor {median['ours'] / min(floors):.2f}" + (f" (goal: at most {goal})" if goal else "")
    torches = [name for name in median if name.startswith("torch")]
    if torches:
        fastest = min(torches, key=median.get)
        line += f", {CONTENDERS[fastest][0]} / ours {median[fastest] / median['ours']:.2f}"
        line += " (goal: at least 1.5)" if first else ""
    return line


def threads_text(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def header() -> list[str]:
    """The machine and the versions, a Markdown list."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [f"- {cpu}, {cores} cores, {platform.system()}, Python {platform.python_version()}"]
    lines.append(f"- NumPy {importlib.metadata.version('numpy')}, {blas()}")
    for package, distribution in (("PyTorch", "torch"), ("scikit-learn", "scikit-learn")):
        try:
            lines.append(f"- {package} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"- {package} is not installed")
    if kernel := os.environ.get("OPENBLAS_CORETYPE"):
        lines.append(
            f"- OPENBLAS_CORETYPE={kernel} is set: NumPy's products, in our step as in the floor, use that kernel "
            "instead of the CPU's own, which slows them; PyTorch has a BLAS of its own, which it doesn't slow"
        )
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.3:
        lines.append(f"- load {load:.1f} when this began: something else is, or was just now, running")
    return lines


def blas() -> str:
    """Name, version and kernel of NumPy's BLAS."""
    import model  # noqa: F401 (the first import of NumPy in this process, and the profile needs it with one thread)

    import numpy as np

    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        for info in threadpool_info():
            if info["user_api"] == "blas" and "numpy" in info["filepath"]:
                return f"{info['internal_api']} {info['version']}, kernel {info.get('architecture', 'unknown')}"
    info = np.show_config("dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{info.get('name', 'BLAS')} {info.get('version', '')} (kernel unknown without threadpoolctl)"


# ---- Where our step's time goes -------------------------------------------------------------------------------------

GATHER, MASK, WHOLE = "batch: gather, flip", "random numbers of the mask", "the whole step"
STAGES = {
    GATHER: (),
    "batch: uint8 to float32": ("Network._see",),
    "X W1 + b1": ("linear_forward",),
    "X^T dz1": ("linear_backward",),
    "update": ("SGD.__call__",),
    "batch normalisation": ("batchnorm_forward", "batchnorm_backward"),
    "ReLU, dropout": ("relu_dropout_forward", "relu_dropout_backward"),
    MASK: (),
    "softmax, loss": ("cross_entropy", "cross_entropy_backward"),
}


class Stopwatch:
    """Sums up the time that functions take, without what functions that it also times take within them."""

    def __init__(self):
        self.sums, self.inner = defaultdict(float), [0.0]

    def wrap(self, stage: str, function: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            self.inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                duration = 1e3 * (time.perf_counter() - began)
                self.sums[stage] += duration - self.inner.pop()
                self.inner[-1] += duration

        return wrapped

    @contextlib.contextmanager
    def watching(self, module):
        """Time the functions of STAGES in a module for a while. Yields the names that the module doesn't have."""
        patched, missing = [], []
        for stage, names in STAGES.items():
            for name in names:
                *owner, last = name.split(".")
                holder = getattr(module, owner[0], None) if owner else module
                if not hasattr(holder, last):
                    missing.append(name)
                    continue
                patched.append((holder, last, getattr(holder, last)))
                setattr(holder, last, self.wrap(stage, getattr(holder, last)))
        try:
            yield missing
        finally:
            for holder, last, function in patched:
                setattr(holder, last, function)


class Watched:
    """A generator whose methods are timed as a stage."""

    def __init__(self, rng, watch: Stopwatch):
        self.rng, self.watch = rng, watch

    def __getattr__(self, name):
        return self.watch.wrap(MASK, getattr(self.rng, name))


def profile(args) -> list[str]:
    """The Markdown table of one size: medians of the stages of a step, and of the step with and without them."""
    import model

    import numpy as np

    net, sgd, stream, rng = our_network(args, threads=1)

    class NoUpdate(model.SGD):
        def __call__(self, name, weights, velocity, gradient):
            pass

    still = NoUpdate(sgd.learning_rate, sgd.momentum, sgd.lambda_reg, sgd.bn_lr_scale)

    def one(optimiser):
        X, y = next(stream)
        return net.train_batch(X, y, optimiser, rng)[0]

    rng2 = np.random.default_rng(0)
    a1 = rng2.standard_normal((args.batch, args.hidden), dtype=np.float32)
    W2 = rng2.standard_normal((args.hidden, CLASS_COUNT), dtype=np.float32)
    z2, dW2, da1 = a1 @ W2, np.empty_like(W2), np.empty_like(a1)

    def small():
        np.matmul(a1, W2, out=z2)
        np.matmul(a1.T, z2, out=dW2)
        np.matmul(z2, W2.T, out=da1)
        return 0.0

    plain, without, products, watched, skipped = [], [], [], defaultdict(list), unsettled(args.steps)
    for _ in range(WARM_UP):
        one(sgd)
    for _ in range(args.rounds):
        plain += [timed(lambda: one(sgd)) for _ in range(args.steps)][skipped:]
        without += [timed(lambda: one(still)) for _ in range(args.steps)][skipped:]
        products += [timed(small) for _ in range(args.steps)][skipped:]
        for i in range(args.steps):
            watch = Stopwatch()
            with watch.watching(model) as missing:
                began = time.perf_counter()
                X, y = watch.wrap(GATHER, next)(stream)
                net.train_batch(X, y, sgd, Watched(rng, watch))
                whole = 1e3 * (time.perf_counter() - began)
            if i >= skipped:
                for stage in STAGES:
                    watched[stage].append(watch.sums[stage])
                watched["the rest"].append(whole - sum(watch.sums.values()))
                watched[WHOLE].append(whole)
    median = {stage: statistics.median(each) for stage, each in watched.items()}
    rest = "the rest: products with W2, sums, mask from random numbers, dispatch"
    lines = [f"| stage | median ms | of {WHOLE} |", "|---|--:|--:|"]
    for stage, value in median.items():
        lines.append(f"| {rest if stage == 'the rest' else stage} | {value:.2f} | {value / median[WHOLE]:.0%} |")
    alone, idle = statistics.median(plain), statistics.median(without)
    lines.append(f"\nWithout the stopwatch the step takes {alone:.2f} ms, without the update as well {idle:.2f} ms: by "
                 f"difference, the update takes {alone - idle:.2f} ms.")  # fmt: skip
    lines.append(f"The three products with W2, timed alone, take {statistics.median(products):.2f} ms.")
    if missing:
        lines.append(f"Not in model.py, so in another stage or the rest: {', '.join(missing)}.")
    return lines


# ---- The command line -----------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = {"type": int, "metavar": "N"}
    parser.add_argument("--batch", nargs="+", default=[128, 512], help="images in a batch (128 512)", **number)
    parser.add_argument("--hidden", nargs="+", default=[1024, 4096], help="hidden units (1024 4096)", **number)
    parser.add_argument("--threads", nargs="+", default=[1, 2], help="threads that compute (1 2)", **number)
    parser.add_argument("--rounds", default=8, help="turns of each contender (8)", **number)
    parser.add_argument("--steps", default=24, help="steps of a turn, of which a third isn't counted (24)", **number)
    parser.add_argument("--images", default=20_000, help="random images to take batches from (20000)", **number)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, metavar="PEER",
                        help=f"which of {', '.join(PEERS)} to measure; none if none is named (all)")  # fmt: skip
    parser.add_argument("--profile", action="store_true",
                        help="say where our step's time goes, on one thread, in place of comparing it")  # fmt: skip
    parser.add_argument("--worker", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(*args.batch, *args.hidden, *args.threads, args.rounds, args.steps - 1) < 1 or min(args.batch) < 2:
        parser.error("--hidden, --threads and --rounds must be at least 1, --batch and --steps at least 2")
    batches, sizes, counts = args.batch, args.hidden, args.threads
    if args.worker:
        args.batch, args.hidden, args.threads = batches[0], sizes[0], counts[0]
        return serve(args)
    print("\n".join(header()), flush=True)
    ends, complete = [], True
    for args.batch in batches:
        for args.hidden in sizes:
            if args.profile:
                print(f"\n### Where the time goes: batch {args.batch}, hidden {args.hidden}, 1 thread\n")
                print("\n".join(profile(args)), flush=True)
                continue
            for threads in counts:
                print(f"\n### Batch {args.batch}, hidden {args.hidden}, {threads_text(threads)}\n", flush=True)
                names = ["ours", *FLOORS, "traffic", *args.peers]
                size = args.batch, args.hidden, threads
                durations, lost = compare(names, args.rounds, args.steps, (*size, args.images))
                print("\n".join(table(durations, lost, args.batch)), flush=True)
                ends.append(goals(durations, *size))
                complete &= {"ours", *FLOORS} <= set(durations)
    if ends:
        print("\n" + "\n".join(ends))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
