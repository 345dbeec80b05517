"""What a training says of itself while it runs: the lines before it, a line an epoch, and a CSV of its history."""

import csv
import io
import textwrap
from pathlib import Path

from support import files

# What makes a run diverge.
STEPS = ("learning_rate", "bn_lr_scale", "output_lr_scale", "lambda_reg", "hidden_lambda_scale")


def parameters(network) -> str:
    """A table of a network's arrays: names, shapes, parameters. Those that training doesn't move have none."""
    arrays = network.weights | network.window.map
    rows = [
        (name, " x ".join(map(str, w.shape)), w.size * (name in network.velocity))
        for name, w in arrays.items()
    ]
    rows.append(("parameters", "", sum(count for _, _, count in rows)))
    return "\n".join(
        f"{name:13} {shape:>12} {f'{count:,}' if count else '-':>12}" for name, shape, count in rows
    )


def summary(run, data, effective: dict, usual: dict) -> str:
    """What a run trains on what, and how; of one that goes on, the epochs that are done. effective: its settings that
    have an effect; usual: the settings of which it isn't worth saying that they are what they are."""
    others = [f"{name} {value}" for name, value in effective.items() if value != usual.get(name)]
    lines = [
        f"data        {data.name}: {len(run.train_rows):,} training and {len(run.validation_rows):,} validation images",
        f"network     {run.network}",
        textwrap.indent(run.network.summary(), 12 * " "),
        f"settings    {', '.join(others) if others else 'those of the report'}",
    ]
    if run.epoch:
        lines.append(estimate(run, sum(run.history["seconds"]), run.epoch * len(run.train_rows)))
    return "\n".join(lines + [table_row(run, epoch) for epoch in range(run.epoch)])


def estimate(run, seconds: float, images: int) -> str:
    """How long a run that learned from so many images in so many seconds will still take at most (a validation image
    takes less than a training image), and the head of the table of epochs."""
    left, patience = run.settings.epochs - run.epoch, run.settings.patience
    epoch = seconds / images * (len(run.train_rows) + len(run.validation_rows))
    sooner = f"; less, if validation accuracy doesn't rise for {patience} epochs" * (
        0 < patience < left
    )
    head = f"{'epoch':>5}  {'rate':>8}  {'train loss':>10} {'acc':>6}  {'val loss':>8} {'acc':>6}  {'images/s':>8}"
    whole = f"time        at most {_time(left * epoch)}, {left} epoch{'s' * (left > 1)} of {_time(epoch)}{sooner}\n"
    return f"{whole * (left > 0)}\n{head}"


def _time(seconds: float) -> str:
    """As much of it as matters: 0.05 s, 15 s, 4 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def table_row(run, epoch: int) -> str:
    """The table's line of an epoch: mean rate, loss and accuracy, speed, and a star behind the best so far."""
    rate, loss, accuracy, val_loss, val_accuracy, seconds = (
        column[epoch] for column in run.history.values()
    )
    best = val_accuracy > max(run.history["val_accuracy"][:epoch], default=-1)
    speed = len(run.train_rows) / seconds
    row = f"{epoch + 1:5d}  {rate:8.6f}  {loss:10.4f} {accuracy:6.2%}  {val_loss:8.4f} {val_accuracy:6.2%}  "
    return row + f"{speed:8,.0f}" + "  *" * best


def diverged(run, effective: dict, rate: float, where: str, output: Path | None) -> str:
    """The line that a run ends with when its loss is no longer a number. effective: its settings that have an effect;
    output: where its best weights are."""
    kept = (
        f"the best weights until then are in {output}"
        if run.epoch and output
        else "no weights were saved"
    )
    settings, usual = run.settings, type(run.settings)()
    # What is above its default the most; the first of equals.
    above = {
        name: getattr(settings, name) / getattr(usual, name) for name in STEPS if name in effective
    }
    name = max(above, key=above.get)
    return (
        f"loss not finite in epoch {run.epoch + 1}, {where}, most likely as --{name.replace('_', '-')} "
        f"{getattr(settings, name):g} is too high (the learning rate was {rate:.3g} then): lower it; {kept}"
    )


def write_csv(history: dict[str, list], path: Path) -> None:
    """Write the history, a row an epoch, whole: the file is the same after a kill and a resume."""
    text = io.StringIO(newline="")
    rows = zip(*history.values(), strict=True)
    csv.writer(text).writerows([["epoch", *history], *([i, *row] for i, row in enumerate(rows, 1))])
    with files.write_whole(path) as file:
        file.write(text.getvalue().encode())
