"""test.py --export FILE.npz and --fold-mirror: the converted networks read back and compared."""

import os
import re

import model
from checkpoints import call_test, save_networks
from support.network.window import Window

import numpy as np
import pytest


@pytest.fixture(scope="module")
def nets(data, tmp_path_factory):
    """A folder of checkpoints, see `save_networks`."""
    return save_networks(tmp_path_factory.mktemp("nets"), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "units"),
    [("bn", 16), ("windows", 20 * 49), ("mirrored", 6 * 49 * 4 * 2), ("dense", 8 * 4)],
)
def test_exported_arrays_are_the_reports_and_the_same_network(
    nets, synthetic_dir, data, name, units
):
    path = nets / f"{name}.npz"
    code, out, _ = call_test(path, "--data-dir", synthetic_dir, "--export", "plain.npz")
    assert code == 0
    assert out.endswith("the report's arrays in plain.npz\n")
    with np.load("plain.npz") as file:
        a = dict(file)
    assert a["W1"].shape == (3072, units)
    assert a["W1"].dtype == np.float32
    assert a["b2"].shape == (1, 10)
    z1 = data.test_images / 255 @ a["W1"] + a["b1"]
    if name == "bn":
        std = np.sqrt(a["running_var1"] + 1e-5)
        z1 = a["gamma1"] * (z1 - a["running_mean1"]) / std + a["beta1"]
    z2 = np.maximum(z1, 0) @ a["W2"] + a["b2"]
    expected = model.load(path)[0].logits(data.test_images)
    np.testing.assert_allclose(z2, expected, atol=2e-3)


def test_an_export_above_four_gigabytes_is_refused_with_its_size(tmp_path, synthetic_dir):
    model.Network(2048, Window(4, 1, 1), batchnorm=False).save(tmp_path / "net.npz")
    code, _, err = call_test("net.npz", "--data-dir", synthetic_dir, "--export", "plain.npz")
    assert code == 2
    assert err.count("\n") == 1
    assert "with 1,722,368 units" in err
    assert "give a larger --stride" in err
    size = 29**2 * 2048 * 4 * (3072 + 1 + 10 + 1) / 2**30
    found = re.search(r"would take ([\d.]+) GB, and 4 GB is the limit", err)
    assert float(found[1]) == pytest.approx(size, rel=0.01)
    assert not os.path.exists("plain.npz")


@pytest.mark.parametrize(
    ("name", "units"), [("bn", 32), ("windows", 40), ("two-sided", 40), ("mirrored", 24)]
)
def test_a_folded_checkpoint_gives_by_itself_what_tta_gives(nets, synthetic_dir, data, name, units):
    path = nets / f"{name}.npz"
    code, out, _ = call_test(path, "--data-dir", synthetic_dir, "--fold-mirror", "folded.npz")
    assert code == 0
    assert f"the mirror image folded in, {units} hidden units, in folded.npz" in out
    network, folded = model.load(path)[0], model.load("folded.npz")[0]
    mirrored = data.test_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    expected = (network.logits(data.test_images) + network.logits(mirrored)) / 2
    np.testing.assert_allclose(folded.logits(data.test_images), expected, atol=1e-4)


def test_a_folded_checkpoint_keeps_what_is_known_of_the_run(nets, synthetic_dir):
    path = nets / "windows.npz"
    call_test(path, "--data-dir", synthetic_dir, "--fold-mirror", "folded.npz")
    assert model.load("folded.npz")[1] == model.load(path)[1]


def huge(kind):
    """Return a network with finite weights whose conversion overflows float32."""
    window = Window()
    if kind == "map":
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((192, 1)).astype(np.float32)
        mirrored = noise[Window(8).flip]
        even, odd = noise + mirrored, noise - mirrored
        # Mirrored, the first column is twice the second one less itself: 2 W1 overflows.
        window = Window(8, 8, 1, np.full(192, 0.5), np.hstack([even + odd, even]))
    network = model.Network(4, window, batchnorm=False)
    network.weights["W1"][...] = 3e38
    if kind == "cap":
        network.cap = 3e38
        network.weights["b1"][...] = -3e38
    return network


@pytest.mark.parametrize(
    ("kind", "flag", "file"),
    [
        ("map", "--export", "plain.npz"),
        ("cap", "--export", "plain.npz"),
        ("map", "--fold-mirror", "folded.npz"),
    ],
)
def test_weights_that_overflow_when_converted_are_refused(
    tmp_path, synthetic_dir, recwarn, kind, flag, file
):
    huge(kind).save(tmp_path / "huge.npz")
    code, out, err = call_test("huge.npz", "--data-dir", synthetic_dir, flag, file)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{flag} {file}" in err
    assert "too large for float32" in err
    assert not os.path.exists(file)
    assert not recwarn.list
