"""How much memory a training takes, told before anything is built."""

import os
from dataclasses import replace
from pathlib import Path

from support.cli import UserError
from support.npz import MAX_BYTES
from support.settings import SettingError
from support.threads import LANES, WINDOW_IMAGES, few_images

CGROUPS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container


def machine() -> float:
    """The bytes that this machine, or the container that it is, has; infinity where it doesn't say."""
    try:
        limits = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")
    for path in map(Path, CGROUPS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(float(text))
    return min(limits)


def of_training(settings, images: int, classes: int, threads: int) -> int:
    """The bytes that a training takes at its peak besides its images, to about a third. settings:
    train.Settings. images: in the training split."""
    window, H = settings.seen(), settings.hidden_size
    whole, together = window.size == 32, window.size == 32 or settings.batchnorm
    # A network's weights and velocity; the best and the averaged ones; what the last of them is drawn in; gradients.
    copies = 2 * (2 + (settings.ema > 0)) + 1 + (0 if whole else 1 if together else LANES)
    weights = 4 * copies * H * (settings.inputs + window.q * classes)
    # What is seen of an image, and what all units make of it: of a batch or as many of its images as go together.
    seen, made = window.places * window.pixels, H * (5 * len(window.region) + 4 * window.q) // 2
    rows = min(settings.batch_size, images)
    few = few_images(WINDOW_IMAGES, len(window.region))[0].stop * threads
    rows = max(rows if together else min(rows, few), 256 * threads if whole else few)  # in training, in validation
    start = 0
    if settings.init == "patches":  # patches; what the output weights are standardised by; z1 and a1 on the way there
        pooled = WINDOW_IMAGES * threads * (seen + 2 * H * len(window.region))
        start = max(64 * seen, 2 * min(images, 1024) * window.q * H, pooled)
    return weights + 4 * max(rows * (seen + made), start)


def refuse(trainings: list, images: int, classes: int, threads: int, jobs: int = 1) -> None:
    """SettingError if one of the trainings (train.Settings), UserError if `jobs` of them side by side, can't fit into
    the machine's memory, or if a training's state is too large for a file."""
    has = machine()
    needed = [of_training(settings, images, classes, threads) for settings in trainings]
    together = sum(sorted(needed)[-jobs:])
    if together > has:
        problem = f"GB of memory, and this machine has {has / 1e9:,.0f}; lower it"
        settings, most = trainings[needed.index(max(needed))], max(needed)
        if most <= has:
            raise UserError(f"--jobs {jobs}: trials side by side need about {together / 1e9:,.0f} {problem}")
        fewer = of_training(replace(settings, batch_size=2), images, classes, threads)
        name = "hidden_size" if fewer > has else "batch_size"
        raise SettingError(name, getattr(settings, name), f"needs about {most / 1e9:,.0f} {problem}")
    for settings in trainings:
        numbers = settings.hidden_size * (settings.inputs + settings.seen().q * classes)
        if (state := 4 * (3 + (settings.ema > 0)) * numbers) > MAX_BYTES:  # weights, velocity, the best, the averaged
            problem = f"needs a state file of {state / 2**30:.1f} GB, and {MAX_BYTES >> 30} GB is the limit; lower it"
            raise SettingError("hidden_size", settings.hidden_size, problem)
