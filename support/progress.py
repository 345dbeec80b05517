"""What a training says of itself while it runs: the lines before it, a line an epoch, and a CSV of its history."""

import csv
import io
from pathlib import Path

from support import npz


def summary(run, data, effective: dict, usual: dict) -> str:
    """What a run trains on what, and how, and the head of the table of epochs. effective: its settings that have an
    effect; usual: the settings of which it isn't worth saying that they are what they are."""
    network = run.network
    others = [f"{name} {value}" for name, value in effective.items() if value != usual.get(name)]
    arrays = ", ".join(f"{name} {'x'.join(map(str, w.shape))}" for name, w in network.weights.items())
    lines = [
        f"data        {data.name}: {len(run.train_rows):,} training and {len(run.validation_rows):,} validation images",
        f"network     {network}",
        f"arrays      {arrays}",
        f"settings    {', '.join(others) if others else 'those of the report'}",
        "",
        f"{'epoch':>5}  {'rate':>8}  {'train loss':>10} {'acc':>6}  {'val loss':>8} {'acc':>6}  {'images/s':>8}",
    ]
    return "\n".join(lines)


def table_row(run, epoch: int) -> str:
    """The table's line of an epoch: mean rate, loss and accuracy, speed, and a star behind the best so far."""
    rate, loss, accuracy, val_loss, val_accuracy, seconds = (column[epoch] for column in run.history.values())
    best = val_accuracy > max(run.history["val_accuracy"][:epoch], default=-1)
    speed = len(run.train_rows) / seconds
    row = f"{epoch + 1:5d}  {rate:8.6f}  {loss:10.4f} {accuracy:6.2%}  {val_loss:8.4f} {val_accuracy:6.2%}  "
    return row + f"{speed:8,.0f}" + "  *" * best


def diverged(run, rate: float, where: str, output: Path | None) -> str:
    """The line that a run ends with when its loss is no longer a number. output: where its best weights are."""
    kept = f"the best weights until then are in {output}" if run.epoch and output else "no weights were saved"
    cause = "images or weights" if rate < 1e-3 else f"a learning rate of {rate:.3g}"
    return (
        f"loss not finite in epoch {run.epoch + 1}, {where}, most likely from {cause} too high: "
        f"lower --learning-rate (now {run.settings.learning_rate:g}); {kept}"
    )


def write_csv(history: dict[str, list], path: Path) -> None:
    """Write the history, a row an epoch, whole: the file is the same after a kill and a resume."""
    text = io.StringIO(newline="")
    rows = zip(*history.values(), strict=True)
    csv.writer(text).writerows([["epoch", *history], *([i, *row] for i, row in enumerate(rows, 1))])
    with npz.write_whole(path) as file:
        file.write(text.getvalue().encode())
