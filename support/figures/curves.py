"""Draw learning curves: those of one run, or of several."""

from support.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    Figured,
    LeftOut,
    class_colours,
    drawable,
    grid,
)

import numpy as np

CURVES = ("learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
LEGEND = 30  # characters of a name in a legend
# Colours of runs: Okabe & Ito's, without yellow, which is hard to see on white.
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":")


def history_of(info: dict) -> dict[str, np.ndarray]:
    """Return the curves of a run, (epochs,) each. Raises LeftOut if the checkpoint has none."""
    if info.get("history") is None:
        raise LeftOut("the file holds weights only, not the history of a run")
    try:
        curves = {name: np.array(info["history"][name], float) for name in CURVES}
        epochs = len(curves["val_loss"])
        for curve in curves.values():
            if not epochs or curve.shape != (epochs,) or not (abs(curve) < 1e30).all():
                raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise LeftOut("the file's history is not one of train.py's") from None
    return curves


def curves(s) -> Figured:
    """Draw loss, accuracy and learning rate over the epochs of the Subject's run."""
    history = history_of(s.info)
    epochs = np.arange(1, len(history["val_loss"]) + 1)
    best = int(history["val_accuracy"].argmax())
    smoothed = has_smoothed_labels(s.info)
    marker = "o" if len(epochs) == 1 else None  # one point is no line
    training = {"color": BLUE, "ls": "--", "marker": marker, "ms": 4, "label": "training"}
    validation = {"color": ORANGE, "marker": marker, "ms": 4, "label": "validation"}
    dot = {"color": ORANGE, "mec": "black", "ms": 5, "ls": "", "zorder": 3, "clip_on": False}
    dot["label"] = f"best epoch, {epochs[best]}"

    figure, axes = grid(3, 1, 5, sharex=True, height_ratios=[3, 3, 1.8])
    loss, accuracy, rate = axes[:, 0]
    # Smoothed labels raise the training loss, so it is not comparable with validation's: it gets
    # its own scale.
    training_axes = loss.twinx() if smoothed else loss
    training_axes.plot(epochs, history["train_loss"], **training)
    loss.plot(epochs, history["val_loss"], **validation)
    loss.plot(epochs[best], history["val_loss"][best], "o", **dot)
    loss.set_title(f"at the best epoch {history['val_loss'][best]:#.3g}", loc="right")
    loss.set_ylabel("validation loss (nats)" if smoothed else "loss (nats)")
    if smoothed:
        training_axes.set_ylabel("training loss (nats)\nwith smoothed labels", color=BLUE)
        training_axes.tick_params(axis="y", colors=BLUE)
        training_axes.spines.right.set(visible=True, color=BLUE)
        cut = without_first(loss, [history["val_loss"]], best)
    else:
        cut = without_first(loss, [history["train_loss"], history["val_loss"]], best)

    accuracy.plot(epochs, 100 * history["train_accuracy"], **training)
    accuracy.plot(epochs, 100 * history["val_accuracy"], **validation)
    accuracy.plot(epochs[best], 100 * history["val_accuracy"][best], "o", **dot)
    accuracy.set_title(f"at the best epoch {history['val_accuracy'][best]:.2%}", loc="right")
    accuracy.set_ylabel("accuracy (%)")

    rates = history["learning_rate"]
    rate.plot(epochs, rates, color="black", drawstyle="steps-mid", marker=marker, ms=4)
    rate.set(xlabel="epoch", ylabel="learning rate")
    if (rates > 0).all() and rates.max() > 20 * rates.min():
        rate.set_yscale("log")
    rate.xaxis.get_major_locator().set_params(integer=True)
    if len(epochs) == 1:
        rate.set_xlim(0, 2)
    for ax in (loss, accuracy, rate):
        ax.axvline(epochs[best], color=GREY, lw=1, ls=":")
    lines = accuracy.get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=3, columnspacing=1, handlelength=1.6)
    own_scale = ""
    if smoothed:
        own_scale = (
            " The training loss is that of smoothed labels, which is higher, so it has its own "
            "scale at the right."
        )
    return figure, (
        "Cross-entropy in nats and accuracy in per cent after each epoch, and the epoch's mean "
        "learning rate. Training figures are averages over the epoch, with dropout and "
        "augmentation if the run has them; validation figures are taken after it, "
        f"without.{own_scale}{cut} The dotted line is the epoch whose weights were kept."
    )


def has_smoothed_labels(info: dict) -> bool:
    """Return whether a run was trained with label smoothing."""
    settings = info.get("settings")
    smoothing = settings.get("label_smoothing", 0) if isinstance(settings, dict) else 0
    return isinstance(smoothing, float) and smoothing > 0


def without_first(ax, losses: list[np.ndarray], best: int) -> str:
    """Let a first loss that is far above all others leave the axes, and say so for the caption.

    best: the row of the best epoch, which stays inside.
    """
    first = max(each[0] for each in losses)
    later = max((each[1:].max() for each in losses if len(each) > 1), default=0)
    if best == 0 or not first > 1.5 * later > 0:
        return ""
    low = min(each.min() for each in losses)
    ax.set_ylim(low - 0.05 * (later - low), later + 0.1 * (later - low) + 1e-9 * later)
    return f" The first epoch's loss, up to {first:.3g}, lies above the axis."


def compared(runs: dict[str, dict]) -> Figured:
    """Draw the curves of several runs, whose infos are given by name."""
    figure, axes = grid(2, 1, 4.2 + 0.16 * len(runs), sharex=True)
    loss, accuracy = axes[:, 0]
    colours = RUN_COLOURS
    if len(runs) > len(RUN_COLOURS):
        colours = class_colours(len(runs))
    histories = {name: history_of(info) for name, info in runs.items()}
    bests = []
    for i, (name, history) in enumerate(histories.items()):
        epochs = np.arange(1, len(history["val_loss"]) + 1)
        best = int(history["val_accuracy"].argmax())
        bests.append(best)
        line = {"color": colours[i], "ls": DASHES[i % len(DASHES)], "label": drawable(name, LEGEND)}
        dot = {"color": colours[i], "mec": "black", "ms": 5, "clip_on": False, "zorder": 3}
        for ax, curve in ((loss, history["val_loss"]), (accuracy, 100 * history["val_accuracy"])):
            ax.plot(epochs, curve, **line)
            ax.plot(epochs[best], curve[best], "o", **dot)
    cut = without_first(loss, [history["val_loss"] for history in histories.values()], min(bests))
    loss.set(ylabel="validation loss (nats)")
    accuracy.set(ylabel="validation accuracy (%)", xlabel="epoch")
    accuracy.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center")
    return figure, (
        f"Validation cross-entropy in nats and validation accuracy in per cent of {len(runs)} "
        f"runs after each epoch; a dot is the epoch whose weights were kept.{cut}"
    )
