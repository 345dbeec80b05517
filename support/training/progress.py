"""The output of a training: a summary before it, one line per epoch, and its last line."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.cli import labelled
from support.runs import best_epoch, epochs_done
from support.settings import flag

from tqdm import tqdm

# Settings that make a run diverge if they are too high.
SUSPECTS = (
    "learning_rate",
    "bn_lr_scale",
    "output_lr_scale",
    "lambda_reg",
    "hidden_lambda_scale",
)
ESTIMATED = 100  # the step after which a run says how long it will take
LABEL = 12  # characters before the text of a summary line


class Display:
    """A table on stdout, and a bar on stderr if that is a terminal. Silent if show is False."""

    def __init__(self, show: bool):
        self.show = show

    def start(self, run, data, effective: dict, usual: dict) -> None:
        """Print what is trained, see `summary`."""
        if self.show:
            print(summary(run, data, effective, usual), flush=True)

    @contextmanager
    def epoch(self, run) -> Iterator[Callable[[int, float], None]]:
        """Show a bar for an epoch; yield the function that moves it.

        It takes the number of images in the epoch so far, and their mean loss.
        """
        bar = tqdm(
            total=len(run.train_rows),
            desc=f"epoch {epochs_done(run.history) + 1}",
            unit=" images",
            leave=False,
            # None: unless stderr is a terminal. A program without a console has no stderr.
            disable=None if self.show and sys.stderr is not None else True,
        )
        started = time.perf_counter()

        def show_step(images: int, loss: float) -> None:
            if self.show and run.step == min(ESTIMATED, run.steps):
                with bar.external_write_mode():
                    seconds = time.perf_counter() - started
                    print(estimate(run, seconds, images), flush=True)
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(images - bar.n)

        with bar:
            yield show_step

    def end_epoch(self, run) -> None:
        """Print the line of the epoch."""
        if self.show:
            print(table_row(run, epochs_done(run.history)), flush=True)


def summary(run, data, effective: dict, usual: dict) -> str:
    """Return what is printed before the first epoch, and the finished epochs of a resumed run.

    effective: the settings that affect the run. usual: the values that aren't worth a word.
    """
    others = [f"{name} {value}" for name, value in effective.items() if value != usual.get(name)]
    training = f"{len(run.train_rows):,} training"
    validation = f"{len(run.validation_rows):,} validation images"
    lines = [
        labelled("data", f"{data.name}: {training} and {validation}"),
        labelled("network", str(run.network)),
        textwrap.indent(run.network.summary(), " " * LABEL),
        labelled("settings", ", ".join(others) if others else "those of the report"),
    ]
    if run.settings.class_weight == "balanced":
        lines.append(labelled("validation", "loss and accuracy are means over the classes"))
    done = epochs_done(run.history)
    if done:
        images = done * len(run.train_rows)
        lines.append(estimate(run, sum(run.history["seconds"]), images))
        lines += [table_row(run, epoch) for epoch in range(1, done + 1)]
    return "\n".join(lines)


def estimate(run, seconds: float, images: int) -> str:
    """Return the longest time that the run can still take, and the head of the table of epochs.

    The run has learned from so many images in so many seconds. An image takes less in validation,
    at an equal number of positions.
    """
    left = run.settings.epochs - epochs_done(run.history)
    positions = run.averaged.window.positions / run.network.window.positions
    epoch = seconds / images * (len(run.train_rows) + positions * len(run.validation_rows))
    patience = run.settings.patience
    lines = []
    if left > 0:
        epochs = "1 epoch" if left == 1 else f"{left} epochs"
        text = f"at most {duration(left * epoch)}, {epochs} of {duration(epoch)}"
        if 0 < patience < left:
            text += f"; less, if validation accuracy doesn't rise for {patience} epochs"
        lines += [labelled("time", text)]
    lines.append("")
    head = f"{'epoch':>5}  {'rate':>8}  {'train loss':>10} {'acc':>6}  "
    lines.append(head + f"{'val loss':>8} {'acc':>6}  {'images/s':>8}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time to two digits or so: 0.05 s, 15 s, 4 min, 2.5 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def table_row(run, epoch: int) -> str:
    """Return the line of an epoch, from 1, with a star if it is the best so far."""
    row = {name: column[epoch - 1] for name, column in run.history.items()}
    so_far = {name: column[:epoch] for name, column in run.history.items()}
    speed = len(run.train_rows) / row["seconds"]
    line = f"{epoch:5d}  {row['learning_rate']:8.6f}  "
    line += f"{row['train_loss']:10.4f} {row['train_accuracy']:6.2%}  "
    line += f"{row['val_loss']:8.4f} {row['val_accuracy']:6.2%}  {speed:8,.0f}"
    return line + "  *" if best_epoch(so_far) == epoch else line


def diverged_text(
    run, effective: dict, recipe: dict, rate: float, when: str, output: Path | None
) -> str:
    """Return the last line of a run whose loss isn't finite.

    effective: the settings that affect the run. recipe: its recipe's settings, where they aren't
    the defaults. when: the step, or "validation". output: the path of the checkpoint, which holds
    the best weights of the epochs before.
    """
    done = epochs_done(run.history)
    settings = run.settings
    defaults = type(settings)()
    # The one to blame is the furthest above its usual value, the first of equals.
    excess = {}
    for name in SUSPECTS:
        if name in effective:
            usual = recipe.get(name) or getattr(defaults, name)  # 0 can't be divided by
            excess[name] = getattr(settings, name) / usual
    blamed = max(excess, key=excess.get)
    typed = f"{flag(blamed)} {getattr(settings, blamed):g}"
    kept = "no weights were saved"
    if done and output and output.exists():
        kept = f"the best weights until then are in {output}"
    return (
        f"loss not finite in epoch {done + 1}, {when}, most likely as {typed} is too high "
        f"(the learning rate was {rate:.3g} then): lower it; {kept}"
    )
