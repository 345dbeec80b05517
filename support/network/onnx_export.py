"""A network as an ONNX file, for other programs and languages. Needs the package onnx, which nothing else here does.

The graph is that of model.py: see, (1), (3), (4), pool, (7), (8), with dropout left out, as in inference.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from support import files
from support.cli import UserError, clean

import numpy as np

OPSET, IR = 17, 8  # of 2022, so that older runtimes read the file
MAX_BYTES = 2**31 - 2**20  # protobuf's limit, with room for the graph


def check_onnx(path: str | Path, network) -> None:
    """UserError where `write_onnx` must fail: there is no onnx, or the network is too large for a file of it."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise UserError(
            f"--export {path}: .onnx needs the package onnx; install it with: pip install onnx"
        ) from None
    if (size := network_bytes(network)) > MAX_BYTES:
        raise UserError(
            f"--export {path}: this network takes {size / 2**30:.1f} GB, and an .onnx file holds 2 GB; give a name in "
            ".npz"
        )


class Graph:
    """Nodes one after the other, each on the last one's output, and their constants."""

    def __init__(self, helper, numpy_helper, first: str):
        self.helper, self.numpy_helper, self.last = helper, numpy_helper, first
        self.nodes, self.constants = [], []

    def add(self, kind: str, *constants: np.ndarray, name: str | None = None, **attributes) -> None:
        """Append a node whose inputs are the last output and these constants. name: of its output, where it matters."""
        output, inputs = name or f"{kind.lower()}{len(self.nodes)}", [self.last]
        for array in constants:
            inputs.append(f"{output}_{len(inputs)}")
            self.constants.append(
                self.numpy_helper.from_array(np.ascontiguousarray(array), inputs[-1])
            )
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        self.last = output


def build(network, class_names: Sequence[str] = ()):
    """The onnx.ModelProto of a `model.Network`: images (N, 3072) uint8 to logits (N, C) and probabilities (N, C),
    float32."""
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = Graph(helper, numpy_helper, "images")
    graph.add("Cast", to=TensorProto.FLOAT)
    graph.add("Mul", np.float32(1 / 255))
    add_layers(graph, network)
    graph.add("Softmax", name="probabilities", axis=1)

    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", network.classes])
        for name in OUTPUTS
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3072])
    made = helper.make_graph(graph.nodes, "network", [images], outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.doc_string = clean(
        f"{network!r}; a row of images holds 32 x 32 red, then green, then blue pixels"
    )
    if class_names:
        helper.set_model_props(model, {"class_names": json.dumps(list(class_names))})
    checker.check_model(model)
    return model


OUTPUTS = ("logits", "probabilities")


def network_bytes(network) -> int:
    """What a network's constants take as float32; mirrored units are written out."""
    weights = sum(array.size for array in network.weights.values())
    return 4 * (
        (1 + network.window.mirror) * weights
        + (0 if network.window.P is None else network.window.P.size)
    )


def add_layers(graph: Graph, network) -> None:
    """From pixels in [0, 1] (N, 3072) to logits. Each array of the network is one constant, computed in float64."""
    from model import BATCHNORM, BN_EPS  # here, as support stands below model

    network = network.fold_mirror() if network.window.mirror else network
    window, H = network.window, network.hidden_size
    w = {name: array.astype(np.float64) for name, array in network.weights.items()}

    def add(kind: str, *constants, **options):
        graph.add(
            kind,
            *(c if c.dtype == np.int64 else c.astype(np.float32) for c in constants),
            **options,
        )

    def linear(W: np.ndarray, b: np.ndarray, size: int, stride: int, **options) -> None:
        """z = X W + b: W (3 size^2, units) at each place, or for size 0, (inputs, units) on rows."""
        if size:
            add(
                "Conv",
                W.T.reshape(W.shape[1], -1, size, size),
                b,
                strides=[stride, stride],
                **options,
            )
        else:
            add("Gemm", W, b, **options)

    size, stride = (0, 1) if network.window.whole else (window.size, window.stride)
    if size:
        add("Reshape", np.array([-1, 3, 32, 32]))
    W1, b1 = w["W1"], w["b1"][0]
    if window.P is not None:
        mean, P = (np.asarray(each, np.float64) for each in (window.mean, window.P))
        linear(P, -mean @ P, size, stride)  # a layer of its own: fewer products than P W1
        size, stride = min(size, 1), 1
    linear(W1, b1, size, stride)  # (1)
    if network.batchnorm:  # (3)
        add("BatchNormalization", *(w[name][0] for name in BATCHNORM), epsilon=BN_EPS)
    add("Relu")  # (4)
    if network.cap:
        add("Min", np.array([network.cap]))
    if size:  # pool: (N, H, places) R^T, then region by region
        add("Reshape", np.array([0, H, window.positions]))
        add("MatMul", window.R.T)
        add("Transpose", perm=[0, 2, 1])
        add("Reshape", np.array([0, window.q * H]))
    linear(w["W2"], w["b2"][0], 0, 1, name="logits")  # (7)


def write_onnx(path: str | Path, network, class_names: Sequence[str] = ()) -> None:
    """Write what `build` makes, whole. UserError where `check_onnx` has one, OSError where it can't be written."""
    check_onnx(path, network)
    model = build(network, class_names)
    with files.write_whole(path) as file:
        file.write(model.SerializeToString())
