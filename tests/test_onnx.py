"""The ONNX file of every architecture, run by onnxruntime, against the network itself."""

import json
import sys

import model
import test
from data.synthetic import synthetic
from support.cli import UserError
from support.network import onnx_export
from support.network.window import Window
from support.threads import Threads

import numpy as np
import pytest
from conftest import called, line_of

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def images():
    """1,000 images and labels 0 to 6."""
    images, labels = synthetic(1000, np.random.default_rng(0))
    return images, labels % 7


def run(content: bytes, images):
    """Logits and probabilities by onnxruntime, on one thread."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images})


WHOLE, PATCHES = Window(), Window(8, 2, 3)  # 13 places in a row, in regions of 4, 5 and 4
ARCHITECTURES = {
    "the report's": (WHOLE, None, True),
    "whole, mapped": (
        Window(mean=np.full(3072, 0.4), P=np.random.default_rng(1).normal(0, 0.1, (3072, 40))),
        None,
        True,
    ),
    "windows, whitened": (PATCHES, "whiten", False),
    "windows with BN": (Window(6, 2, 1), None, True),
    "windows apart": (Window(16, 16, 2), None, False),
    "folded": (Window(8, 4, 3), "whiten", False),
    "mirrored": (Window(8, 4, 3, mirror=True), "whiten", True),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnxruntime_gives_the_networks_logits(images, name):
    X, y = images
    window, preprocess, batchnorm = ARCHITECTURES[name]
    if preprocess:
        window = window.whitening(X[:200], 40, 0.1, Threads())
    network = model.Network(
        20, window, classes=7, batchnorm=batchnorm, cap=0.5 if name == "mirrored" else 0
    )
    for rows in np.split(np.arange(200), 4):
        network.train_batch(X[rows], y[rows], model.SGD(0.02))
    network = network.fold_mirror() if name == "folded" else network
    assert name != "mirrored" or (network.hidden(X) == 0.5).mean() > 0.01
    content = onnx_export.build(network).SerializeToString()
    z2, proba = run(content, X)
    assert z2.dtype == proba.dtype == np.float32
    np.testing.assert_allclose(z2, network.logits(X), rtol=0, atol=1e-4)
    np.testing.assert_allclose(proba, network.predict_proba(X), rtol=0, atol=1e-4)
    np.testing.assert_allclose(run(content, X[:1])[0], z2[:1], rtol=0, atol=1e-4)


def test_regions_are_pooled_by_their_own_numbers_of_places():
    assert np.bincount(PATCHES.region_of_row).reshape(3, 3).tolist() == [
        [16, 20, 16],
        [20, 25, 20],
        [16, 20, 16],
    ]


def test_the_command_writes_a_file_with_the_class_names(capsys, tmp_path, synthetic_dir, data):
    path = tmp_path / "net.npz"
    network = model.Network(12, Window(8, 4, 3), batchnorm=False)
    network.save(path)
    out = tmp_path / "new" / "net.onnx"
    code, shown, _ = called(
        test.main, capsys, path, "--data-dir", synthetic_dir, "--export", out, "--threads", 1
    )
    assert code == 0 and shown.endswith(f"the network as ONNX in {out}\n")
    read = onnx.load(out)
    assert json.loads(read.metadata_props[0].value) == list(data.class_names)
    assert read.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    z2, _ = run(out.read_bytes(), data.test_images)
    np.testing.assert_allclose(z2, network.logits(data.test_images), rtol=0, atol=1e-4)


def test_without_onnx_one_line_says_how_to_get_it_before_anything_is_tested(
    capsys, tmp_path, synthetic_dir, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnx", None)
    model.Network(4).save(tmp_path / "net.npz")
    out = tmp_path / "net.onnx"
    code, shown, err = called(
        test.main, capsys, tmp_path / "net.npz", "--data-dir", synthetic_dir, "--export", out
    )
    assert (
        code == 2 and err.count("\n") == 1 and "pip install onnx" in err and "accuracy" not in shown
    )
    assert not out.exists()


def test_what_no_file_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    with pytest.raises(UserError) as caught:
        onnx_export.write_onnx(tmp_path / "net.onnx", model.Network(4))
    line_of(caught, "net.onnx", "give a name in .npz")
