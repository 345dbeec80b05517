"""Write a network as an ONNX file, for other programs and languages.

The graph repeats the equations of model.py in inference mode, without dropout:

    Cast, Mul      pixels 0..255 -> [0, 1]
    Conv or Gemm   the map of the patches, if there is one
    Conv or Gemm   (1)  z1 = X W1 + b1
    BatchNorm      (3)
    Relu, Min      (4)  with Min if there is a cap
    MatMul         pool: R, the mean over the positions of each region
    Gemm           (7)  logits
    Softmax        (8)  probabilities

It needs the package onnx, which nothing else here does.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from support import files
from support.cli import UserError, clean
from support.image_shape import CHANNELS, PIXELS, SIDE

import numpy as np

OPSET, IR = 17, 8  # of 2022, so that older runtimes read the file
MAX_BYTES = 2**31 - 2**20  # protobuf's limit, less some room for the graph
OUTPUTS = ("logits", "probabilities")


def check_onnx(path: str | Path, network) -> None:
    """Raise UserError if onnx is not installed or the network is too large for an .onnx file."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise UserError(
            f"--export {path}: .onnx needs the package onnx; install it with: pip install onnx"
        ) from None
    size = network_bytes(network)
    if size > MAX_BYTES:
        raise UserError(
            f"--export {path}: this network takes {size / 2**30:.1f} GB and an .onnx file holds "
            "2 GB; give a name that ends in .npz"
        )


def network_bytes(network) -> int:
    """Return the bytes of a network's constants as float32, as `add_layers` writes them."""
    window, weights = network.window, network.weights
    # Flipped filters, and those with reversed sign, are written out. W2 has rows of the latter.
    hidden = sum(array.size for name, array in weights.items() if name not in ("W2", "b2"))
    output = weights["W2"].size * (2 if window.mirror else 1) + weights["b2"].size
    map_size = 0 if window.P is None else window.P.size
    return 4 * (window.views * hidden + output + map_size)


def write_onnx(path: str | Path, graph: "Graph", network, class_names: Sequence[str]) -> None:
    """Write a graph of `graph_of` with the names of its classes, whole or not at all."""
    model = to_model(graph, network, class_names)
    with files.write_whole(path) as file:
        file.write(model.SerializeToString())


def to_model(graph: "Graph", network, class_names: Sequence[str] = ()):
    """Return the onnx.ModelProto of a graph: images (N, 3072) uint8 -> OUTPUTS (N, C) float32."""
    from onnx import TensorProto, checker, helper, numpy_helper

    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", PIXELS])
    outputs = []
    for name in OUTPUTS:
        shape = ["N", network.classes]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    constants = []
    for name, array in graph.constants.items():
        constants.append(numpy_helper.from_array(array, name))

    onnx_graph = helper.make_graph(graph.nodes, "network", [images], outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(onnx_graph, opset_imports=[opset], ir_version=IR)
    pixels = "a row of images holds 32 x 32 red, then green, then blue pixels"
    model.doc_string = clean(f"{network!r}; {pixels}")
    if class_names:
        helper.set_model_props(model, {"class_names": json.dumps(list(class_names))})
    checker.check_model(model)
    return model


class Graph:
    """A chain of nodes, each of which takes the output of the one before it, and constants."""

    def __init__(self, first: str):
        self.last = first  # the name of the last node's output
        self.nodes = []
        self.constants: dict[str, np.ndarray] = {}  # by the names under which nodes take them

    def add(self, kind: str, *constants: np.ndarray, name: str = "", **attributes) -> None:
        """Append a node on the last output and these constants.

        Floats become float32. name: that of the node's output, if it matters.
        """
        from onnx import helper

        output = name or f"{kind.lower()}{len(self.nodes)}"
        inputs = [self.last]
        for array in constants:
            inputs.append(f"{output}_{len(inputs)}")
            dtype = np.int64 if array.dtype == np.int64 else np.float32
            self.constants[inputs[-1]] = np.ascontiguousarray(array, dtype)
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self.last = output

    def add_linear(
        self, W: np.ndarray, b: np.ndarray, size: int = 0, stride: int = 1, name: str = ""
    ) -> None:
        """Append z = X W + b.

        size 0: on rows X (N, inputs), with W (inputs, outputs). Else as a convolution on
        (N, channels, side, side), with W (channels size^2, outputs) applied at each position.
        """
        if size == 0:
            self.add("Gemm", W, b, name=name)
        else:
            filters = W.T.reshape(W.shape[1], -1, size, size)
            self.add("Conv", filters, b, strides=[stride, stride], name=name)


def graph_of(network, epsilon: float) -> Graph:
    """Return the graph of a `model.Network` from images to probabilities.

    epsilon is model.BN_EPS, the constant in (3). Overflow leaves constants that are not finite.
    """
    from onnx import TensorProto

    graph = Graph("images")
    graph.add("Cast", to=TensorProto.FLOAT)
    graph.add("Mul", np.array(1 / 255))
    with np.errstate(over="ignore", invalid="ignore"):
        add_layers(graph, network, epsilon)
    graph.add("Softmax", name="probabilities", axis=1)
    return graph


def add_layers(graph: Graph, network, epsilon: float) -> None:
    """Append the layers from pixels in [0, 1] (N, 3072) to logits (N, C).

    Each array of the network is one constant, computed in float64.
    """
    if network.window.mirror:
        network = network.fold_mirror()
    network = network.one_sided()
    window = network.window
    H = network.hidden_size
    w = {name: array.astype(np.float64) for name, array in network.weights.items()}

    # The whole image is a row, and its layers are products; smaller windows are convolutions.
    size, stride = (0, 1) if window.whole else (window.size, window.stride)
    if not window.whole:
        graph.add("Reshape", np.array([-1, CHANNELS, SIDE, SIDE]))

    if window.P is not None:
        # A layer of its own: (X P) W1 takes fewer products than X (P W1).
        mean, P = np.asarray(window.mean, np.float64), np.asarray(window.P, np.float64)
        graph.add_linear(P, -mean @ P, size, stride)
        size, stride = min(size, 1), 1  # W1 then sees a column of numbers at each position
    graph.add_linear(w["W1"], w["b1"][0], size, stride)  # (1)

    if network.batchnorm:
        gamma, beta = w["gamma1"][0], w["beta1"][0]
        mean, var = w["running_mean1"][0], w["running_var1"][0]
        graph.add("BatchNormalization", gamma, beta, mean, var, epsilon=epsilon)  # (3)
    graph.add("Relu")  # (4)
    if network.cap:
        graph.add("Min", np.array([network.cap]))

    if not window.whole:
        # Pool: (N, H, n) R^T -> (N, H, q) -> (N, q, H) -> (N, q H). In Reshape 0 keeps a length.
        graph.add("Reshape", np.array([0, H, window.positions]))
        graph.add("MatMul", window.R.T)
        graph.add("Transpose", perm=[0, 2, 1])
        graph.add("Reshape", np.array([0, window.q * H]))
    graph.add_linear(w["W2"], w["b2"][0], name="logits")  # (7)
