"""Convert a network: to the report's arrays, to ONNX, or to one with the mirror image folded in.

Each function prepares a conversion, so that whatever prevents it is reported before anything else
is done, and returns a `Conversion`, which is then written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import npz
from support.cli import UserError
from support.network import unfold
from support.testing import onnx_export

import numpy as np


@dataclass(frozen=True)
class Conversion:
    """A converted network that can be written to `path`."""

    path: Path
    description: str
    write: Callable[[Sequence[str]], None]  # takes the names of the classes


def to_plain(path: Path, network) -> Conversion:
    """Prepare --export FILE.npz, the network as one dense layer: the report's arrays alone.

    Raises UserError if they would be too large or not finite.
    """
    units, size = unfold.plain_shape(network.weights, network.window, network.cap)
    if size > npz.MAX_BYTES:
        remedy = "leave --export out"
        if not network.window.whole:
            remedy = f"give a larger --stride, or {remedy}"
        raise UserError(
            f"--export {path}: the report's arrays of this network, with {units:,} units, would "
            f"take {size / 2**30:,.1f} GB, and {npz.MAX_BYTES >> 30} GB is the limit; {remedy}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        # The dense arrays hold the numbers of these filters again and again, and are far larger.
        filters, _ = unfold.pixel_filters(network.weights, network.window, network.cap)
    check_finite(f"--export {path}", filters)

    # The report's arrays have no room for the names of the classes.
    def write(class_names: Sequence[str]) -> None:
        npz.write_npz(path, network.plain())

    return Conversion(path, f"the report's arrays in {path}", write)


def to_onnx(path: Path, network, epsilon: float) -> Conversion:
    """Prepare --export FILE.onnx. epsilon: model.BN_EPS.

    Raises UserError if the package onnx is missing, or if the constants of the graph would be too
    large or not finite.
    """
    onnx_export.check_onnx(path, network)
    graph = onnx_export.graph_of(network, epsilon)
    check_finite(f"--export {path}", graph.constants)

    def write(class_names: Sequence[str]) -> None:
        onnx_export.write_onnx(path, graph, network, class_names)

    return Conversion(path, f"the network as ONNX in {path}", write)


def to_folded(path: Path, network, info: dict) -> Conversion:
    """Prepare --fold-mirror FILE.npz, a checkpoint that gives by itself what --tta gives.

    Raises UserError if the network's map is not symmetric or the weights are not finite.
    """
    folded = fold_mirror(network, f"--fold-mirror {path}", "it")

    def write(class_names: Sequence[str]) -> None:
        folded.save(path, info)

    units = f"{folded.hidden_size:,} hidden units"
    text = f"checkpoint with the mirror image folded in, {units}, in {path}"
    return Conversion(path, text, write)


def fold_mirror(network, flag: str, leave_out: str):
    """Return `network.fold_mirror()`.

    Raises UserError, which names the flag, if that is impossible.
    """
    try:
        # check_finite reports an overflow in one line.
        with np.errstate(over="ignore", invalid="ignore"):
            folded = network.fold_mirror()
    except ValueError as error:
        raise UserError(f"{flag}: {error}; leave {leave_out} out") from None
    check_finite(flag, folded.weights)
    return folded


def check_finite(flag: str, arrays: dict[str, np.ndarray]) -> None:
    """Raise UserError, which names the flag, unless all numbers of the arrays are finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{flag}: array {name} would have entries too large for float32; train the network "
                "anew with a lower --learning-rate"
            )
