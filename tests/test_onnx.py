"""test.py --export FILE.onnx: the file of every architecture, run by onnxruntime."""

import json
import sys

import model
from checkpoints import call_test
from data.synthetic import synthetic
from support.network.window import Window
from support.testing import onnx_export
from support.threads import Threads

import numpy as np
import pytest
from networks import make_window

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def images():
    """1,000 images, and labels from 0 to 6."""
    images, labels = synthetic(1000, np.random.default_rng(0))
    return images, labels % 7


def whitened(window):
    """Return the window with a map of 40 numbers."""
    return window.whitening(synthetic(200, np.random.default_rng(0))[0], 40, 0.1, Threads())


def content_of(network, names=()):
    """Return the ONNX file of a network, as bytes."""
    graph = onnx_export.graph_of(network, model.BN_EPS)
    return onnx_export.to_model(graph, network, names).SerializeToString()


def run(content: bytes, images):
    """Return logits and probabilities as onnxruntime computes them, on one thread."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images})


WHOLE = Window()
PATCHES = Window(8, 2, 3)  # 13 positions in a row, in regions of 4, 5 and 4
ALL = {"mirror": True, "two_sided": True, "bilinear": True}
ARCHITECTURES = {
    "the report's": (WHOLE, {"batchnorm": True}),
    "whole, mapped": (make_window(dims=40), {"batchnorm": True}),
    "whole, mirrored, two-sided": (make_window(dims=40, mirror=True, two_sided=True), {}),
    "windows, whitened": (whitened(PATCHES), {}),
    "windows with BN": (Window(6, 2, 1, two_sided=True), {"batchnorm": True}),
    "folded": (whitened(Window(8, 4, 3)), {}),
    "mirrored": (whitened(Window(8, 4, 3, mirror=True)), {"batchnorm": True, "cap": 0.5}),
    "two-sided, bilinear": (whitened(Window(8, 4, 4, **ALL)), {"cap": 0.5}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnxruntime_gives_the_networks_logits(images, name):
    X, y = images
    window, options = ARCHITECTURES[name]
    network = model.Network(20, window, classes=7, **{"batchnorm": False} | options)
    for rows in np.split(np.arange(200), 4):
        network.train_batch(X[rows], y[rows], model.SGD(0.02))
    if name == "folded":
        network = network.fold_mirror()
    if network.cap:  # some units are at the cap
        assert (network.hidden(X) == 0.5).mean() > 0.01
    content = content_of(network)
    graph = onnx_export.graph_of(network, model.BN_EPS)
    z2, y = run(content, X)
    assert z2.dtype == y.dtype == np.float32
    np.testing.assert_allclose(z2, network.logits(X), rtol=0, atol=1e-4)
    np.testing.assert_allclose(y, network.predict_proba(X), rtol=0, atol=1e-4)
    np.testing.assert_allclose(run(content, X[:1])[0], z2[:1], rtol=0, atol=1e-4)
    bytes_of_constants = 4 * sum(array.size for array in graph.constants.values())
    assert bytes_of_constants == pytest.approx(onnx_export.network_bytes(network), abs=20_000)


def test_regions_are_pooled_by_their_own_numbers_of_positions():
    assert np.bincount(PATCHES.region_of_row).reshape(3, 3).tolist() == [
        [16, 20, 16],
        [20, 25, 20],
        [16, 20, 16],
    ]


def test_the_command_writes_a_file_with_the_class_names(tmp_path, synthetic_dir, data):
    network = model.Network(12, Window(8, 4, 3), batchnorm=False)
    network.save(tmp_path / "net.npz")
    out = tmp_path / "new" / "net.onnx"
    flags = "--data-dir", synthetic_dir, "--export", out
    code, shown, _ = call_test(tmp_path / "net.npz", *flags)
    assert code == 0
    assert shown.endswith(f"the network as ONNX in {out}\n")
    read = onnx.load(out)
    assert json.loads(read.metadata_props[0].value) == list(data.class_names)
    assert read.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    z2, _ = run(out.read_bytes(), data.test_images)
    np.testing.assert_allclose(z2, network.logits(data.test_images), rtol=0, atol=1e-4)


def refused(tmp_path, synthetic_dir, network, *parts):
    """Check that --export net.onnx is refused in one line with these parts, before any test."""
    network.save(tmp_path / "net.npz")
    flags = "--data-dir", synthetic_dir, "--export", tmp_path / "net.onnx"
    code, shown, err = call_test(tmp_path / "net.npz", *flags)
    assert (code, shown) == (2, "")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not (tmp_path / "net.onnx").exists()


def test_without_onnx_one_line_says_how_to_get_it(tmp_path, synthetic_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(tmp_path, synthetic_dir, model.Network(4), "net.onnx", "pip install onnx")


def test_a_network_that_no_onnx_file_can_hold_is_refused(tmp_path, synthetic_dir, monkeypatch):
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    refused(tmp_path, synthetic_dir, model.Network(4), "net.onnx", ".npz")


def test_constants_that_overflow_float32_are_refused(tmp_path, synthetic_dir, recwarn):
    window = Window(8, 8, 1, np.full(192, 0.5), np.full((192, 3), 3e38))
    refused(tmp_path, synthetic_dir, model.Network(4, window), "net.onnx", "too large for float32")
    assert not recwarn.list
