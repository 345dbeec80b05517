"""Network.save and model.load: checkpoints come back whole; damaged files are refused."""

import json

import model
from model import Network
from support import files, npz
from support.network.window import Window

import numpy as np
import pytest
from helpers import in_little_memory, line_of
from networks import batch, make, make_window

ARCHITECTURES = {
    "whole": (Window(), {}),
    "whole, BN, dropout": (Window(), {"batchnorm": True, "dropout": 0.25}),
    "whole, whitened": (make_window(dims=20), {"batchnorm": True}),
    "windows": (Window(8, 8, 2), {"dropout": 0.5}),
    "windows, whitened": (make_window(8, 6, 3, dims=9), {}),
    "whole, mirrored, two-sided": (make_window(dims=20, mirror=True, two_sided=True), {}),
    "windows, mirrored, capped": (make_window(8, 6, 3, dims=9, mirror=True), {"cap": 0.25}),
    "windows, two-sided": (Window(8, 8, 2, two_sided=True), {}),
    "windows, mirrored, two-sided, bilinear": (
        make_window(8, 8, 3, dims=9, mirror=True, two_sided=True, bilinear=True),
        {},
    ),
    "windows, BN": (make_window(8, 8, 2, dims=9), {"batchnorm": True}),
    "two classes": (make_window(8, 8, 2, dims=9), {"classes": 2}),
    "a hundred classes": (Window(), {"classes": 100}),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_checkpoint_comes_back_whole(kind, tmp_path):
    window, options = ARCHITECTURES[kind]
    network, (images, _), path = (
        make(window, dtype=np.float32, **options),
        batch(5),
        tmp_path / "new" / "net.npz",
    )
    network.save(path, {"history": {"val_loss": [1.5]}, "settings": {"seed": 3}})
    again, info = model.load(path, threads=2)
    assert info == {"history": {"val_loss": [1.5]}, "settings": {"seed": 3}}
    assert str(again) == str(network)
    assert (again.dropout, again.batchnorm, again.classes) == (
        network.dropout,
        network.batchnorm,
        network.classes,
    )
    assert (again.cap, again.threads.count) == (network.cap, 2)
    for name in model.GEOMETRY:
        assert getattr(again.window, name) == getattr(window, name)
    assert all(
        np.array_equal(again.weights[name], array) for name, array in network.weights.items()
    )
    assert np.array_equal(again.logits(images), network.logits(images))
    with np.load(path, allow_pickle=False) as file:
        assert file["W1"].shape == (window.inputs, 7)
        assert file["W2"].shape == (7 * window.q, network.classes)
    assert [entry.name for entry in path.parent.iterdir()] == ["net.npz"]
    network.save(path)
    assert model.load(path)[1] == {}


def test_half_precision_halves_the_file_and_refuses_what_it_cannot_hold(tmp_path):
    network, (images, _) = make(make_window(dims=20), dtype=np.float32, hidden_size=200), batch(5)
    network.save(tmp_path / "a.npz")
    network.save(tmp_path / "b.npz", storage=np.float16)
    assert (tmp_path / "b.npz").stat().st_size < 0.6 * (tmp_path / "a.npz").stat().st_size
    again, _ = model.load(tmp_path / "b.npz")
    assert again.dtype == np.float32
    np.testing.assert_allclose(
        again.predict_proba(images), network.predict_proba(images), atol=0.05
    )
    network.weights["b2"][0, 0] = 1e6
    with pytest.raises(ValueError, match="too large for float16"):
        network.save(tmp_path / "c.npz", storage=np.float16)
    assert not (tmp_path / "c.npz").exists()


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_file_with_only_the_reports_arrays_loads(batchnorm, dtype, tmp_path):
    network, (images, _) = make(batchnorm=batchnorm), batch(5)
    np.savez(
        tmp_path / "report.npz",
        **{name: array.astype(dtype) for name, array in network.plain().items()},
    )
    again, info = model.load(tmp_path / "report.npz", dtype=np.float64)
    assert info == {}
    assert again.batchnorm == batchnorm
    tolerance = 1e-12 if dtype == np.float64 else 0.02
    np.testing.assert_allclose(
        again.logits(images), network.logits(images), rtol=tolerance, atol=tolerance
    )


def test_what_plain_writes_is_read_as_the_reports_file(tmp_path):
    network, (images, _) = make(make_window(8, 8, 2, dims=9), batchnorm=True), batch(5)
    npz.write_npz(tmp_path / "plain.npz", network.plain())
    again, _ = model.load(tmp_path / "plain.npz", dtype=np.float64)
    np.testing.assert_allclose(again.logits(images), network.logits(images), rtol=1e-9, atol=1e-9)


def test_a_small_file_holds_no_large_network(tmp_path):
    network = make(make_window(1, 1, 1), 1000)  # 1024 positions: 1,024,000 activations of an image
    network.save(tmp_path / "sound.npz", storage=np.float16)
    assert model.load(tmp_path / "sound.npz")[0].hidden_size == 1000
    network.load_weights({name: np.zeros_like(array) for name, array in network.weights.items()})
    network.save(tmp_path / "zeros.npz")
    with np.load(tmp_path / "zeros.npz") as file:
        np.savez_compressed(tmp_path / "bomb.npz", **file)
    with pytest.raises(files.FileError) as caught:
        model.load(tmp_path / "bomb.npz")
    line_of(
        caught,
        "bomb.npz: has 1,000 units at 1024 positions, which no file of its size holds",
    )


# ---- What can happen to a file -----------------------------------------------------------------


def rewrite(change):
    """A function that changes the arrays of the .npz at a path."""

    def apply(path):
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(path, **arrays)

    return apply


def meta(change):
    def edit(arrays):
        info = json.loads(str(arrays["meta"]))
        change(info)
        arrays["meta"] = np.array(json.dumps(info))

    return rewrite(edit)


def seen(**changes):
    return meta(lambda info: info["architecture"]["window"].update(changes))


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def folder(path):
    path.unlink()
    path.mkdir()


OLD = {
    "fields": [{"size": 32, "stride": 1, "units": 7, "dims": 0}],
    "batchnorm": True,
    "dropout": 0.5,
    "mirror": False,
}
BROKEN = {
    "missing": ("no such checkpoint", lambda path: path.unlink()),
    "folder": ("is a folder", folder),
    "empty": ("not a readable .npz", lambda path: path.write_bytes(b"")),
    "text": ("not a readable .npz", lambda path: path.write_text("W1 = 3")),
    "truncated": ("not a readable .npz", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    "damaged": ("damaged", damage),
    "pickled": (
        "no array of numbers",
        rewrite(lambda a: a.update(W1=np.array([{"a": 1}], dtype=object))),
    ),
    "no weights": ("has no array W1", lambda path: np.savez(path, a=np.zeros(3))),
    "no W2": ("has no array W2", rewrite(lambda a: a.pop("W2"))),
    "flat W1": ("has no array W1", rewrite(lambda a: a.update(W1=a["W1"].ravel()))),
    "flat b1": ("has no array b1", rewrite(lambda a: a.update(b1=a["b1"].ravel()))),
    "misshapen b1": ("array b1 has shape (1, 6)", rewrite(lambda a: a.update(b1=a["b1"][:, 1:]))),
    "no array of BN": ("array beta1 is missing", rewrite(lambda a: a.pop("beta1"))),
    "another array": ("array W3 doesn't belong", rewrite(lambda a: a.update(W3=np.zeros(3)))),
    "W2 turned": ("has W1 (3072, 7) and W2 (10, 7)", rewrite(lambda a: a.update(W2=a["W2"].T))),
    "no units": (
        "hidden_size must be",
        rewrite(lambda a: a.update(W1=a["W1"][:, :0], W2=a["W2"][:0])),
    ),
    "one class": (
        "classes must be",
        rewrite(lambda a: a.update(W2=a["W2"][:, :1], b2=a["b2"][:, :1])),
    ),
    "not finite": ("not finite", rewrite(lambda a: a.update(b2=a["b2"] * np.nan))),
    "text array": ("holds text in b2", rewrite(lambda a: a.update(b2=np.array(["a"])))),
    "variance": (
        "negative variances",
        rewrite(lambda a: a.update(running_var1=-a["running_var1"])),
    ),
    "large": (
        "too large for float32",
        rewrite(lambda a: a.update(b2=a["b2"] + np.full(10, 1e300))),
    ),
    "no JSON": ("no JSON", rewrite(lambda a: a.update(meta=np.array("{")))),
    "deep meta": ("", rewrite(lambda a: a.update(meta=np.array("[" * 10**5)))),
    "a number": ("", meta(lambda info: info["architecture"].update(dropout=10**99))),
    "cap": ("cap must be", meta(lambda info: info["architecture"].update(cap=-1))),
    "no dropout": ("", meta(lambda info: info["architecture"].pop("dropout"))),
    "dropout": ("dropout must be", meta(lambda info: info["architecture"].update(dropout=1))),
    "architecture": ("", meta(lambda info: info.update(architecture=5))),
    "empty architecture": ("", meta(lambda info: info.update(architecture={}))),
    "list of windows": ("", meta(lambda info: info["architecture"].update(window=[1, 2]))),
    "no size": ("can't end at the edge", seen(size=0)),
    "large size": ("can't end at the edge", seen(size=99)),
    "no stride": ("can't end at the edge", seen(size=8, stride=0)),
    "regions": ("regions", seen(regions=10**9)),
    "another size": ("don't fit 8x8 filters", seen(size=8, stride=8)),
    "a word": ("", seen(size="many")),
    "another name": ("", seen(colour=3)),
    "map twice": ("", seen(mean=3)),
    "mean alone": ("mean and P belong together", rewrite(lambda a: a.update(mean=np.zeros(3072)))),
    "misfit": (
        "don't fit patches",
        rewrite(lambda a: a.update(mean=np.zeros(3), P=np.zeros((3, 2)))),
    ),
    "narrow map": (
        "which don't fit",
        rewrite(lambda a: a.update(mean=np.zeros(3072), P=np.zeros((3072, 2)))),
    ),
    "empty map": (
        "don't fit",
        rewrite(lambda a: a.update(mean=np.zeros(3072), P=np.zeros((3072, 0)), W1=a["W1"][:0])),
    ),
    "earlier version": ("earlier version", meta(lambda info: info.update(architecture=OLD))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line_that_names_it(name, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    complaint, spoil = BROKEN[name]
    path = tmp_path / "net.npz"
    make(dtype=np.float32, batchnorm=True).save(path)
    spoil(path)
    with pytest.raises(files.FileError) as caught:
        model.load(path)
    assert line_of(caught, complaint, ";").startswith("net.npz: ")
    assert not recwarn.list


def test_a_checkpoint_of_the_earlier_version_is_refused_in_one_line_that_says_so(tmp_path):
    arrays = {
        "field0.W1": np.zeros((169, 64, 100)),
        "field0.b1": np.zeros((169, 1, 100)),
        "W2": np.zeros((9, 10)),
    }
    npz.write_npz(tmp_path / "old.npz", arrays, {"architecture": OLD})
    with pytest.raises(files.FileError) as caught:
        model.load(tmp_path / "old.npz")
    line_of(caught, "old.npz", "earlier version", "is not supported; ")


def test_what_a_checkpoint_does_not_say_is_off(tmp_path):
    make(make_window(8, 6, 3, dims=9), dtype=np.float32).save(tmp_path / "net.npz")
    meta(
        lambda info: [info["architecture"].pop("cap"), info["architecture"]["window"].pop("mirror")]
    )(tmp_path / "net.npz")
    network, _ = model.load(tmp_path / "net.npz")
    assert (network.cap, network.window.mirror) == (0, False)


@pytest.mark.parametrize("size", [32, 8, 7])
def test_half_of_a_mirrored_map_is_stored_and_the_whole_one_still_read(size, tmp_path):
    window = make_window(size, stride=5 if size == 7 else 8, dims=9, mirror=True)
    network = make(window, dtype=np.float32)
    path = tmp_path / "net.npz"
    network.save(path)
    arrays, info = npz.read_npz(path)
    assert arrays["P_left"].shape == (3 * size * (size - size // 2), 9)
    np.testing.assert_array_equal(model.load(path)[0].window.P, network.window.P)

    del arrays["P_left"], arrays["signs"]
    npz.write_npz(path, arrays | network.window.map, info)  # as version 1.0.0 did
    np.testing.assert_array_equal(model.load(path)[0].window.P, network.window.P)


MAPS = {
    "P": (
        lambda a: a.update(P=a["P"][1:]),
        lambda a: a.update(P=a["P"][:, 1:]),
        lambda a: a.update(mean=a["mean"][1:]),
        lambda a: a.pop("mean"),
        lambda a: a.pop("P"),
        lambda a: a.update(P=a["P"] * 1e300),
        lambda a: a.update(mean=a["mean"] * 1e300),
        lambda a: a.update(P_left=a["P"][:96], signs=np.ones(9)),
    ),
    "P_left": (
        lambda a: a.update(P_left=a["P_left"][1:]),
        lambda a: a.update(P_left=a["P_left"][0]),
        lambda a: a.update(P_left=a["P_left"][:, 1:]),
        lambda a: a.update(signs=a["signs"][::-1]),
        lambda a: a.update(signs=5 * a["signs"]),
        lambda a: a.update(signs=a["signs"][:, None]),
        lambda a: a.pop("signs"),
        lambda a: a.pop("P_left"),
        lambda a: a.pop("mean"),
        lambda a: a.update(P=np.zeros((192, 9))),
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_does_not_fit_is_refused(name, tmp_path):
    path = tmp_path / "net.npz"
    make(make_window(8, 8, 2, dims=9, mirror=name == "P_left"), dtype=np.float32).save(path)
    for change in MAPS[name]:
        with np.load(path) as file:
            arrays = {name: array.astype(float) for name, array in file.items() if name != "meta"}
            info = json.loads(str(file["meta"]))
        change(arrays)
        npz.write_npz(tmp_path / "other.npz", arrays, info)
        with pytest.raises(files.FileError) as caught:
            model.load(tmp_path / "other.npz")
        line_of(caught, "other.npz: ", ";")


def test_a_small_file_takes_little_memory(tmp_path):
    """Zeros of one byte deflate a thousandfold: 10 kB of them must not become gigabytes."""
    arrays = {"W1": np.zeros((3072, 3000), np.int8), "b1": np.zeros((1, 3000), np.int8)}
    arrays |= {"W2": np.zeros((3000, 10), np.int8), "b2": np.zeros((1, 10), np.int8)}
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    assert (tmp_path / "small.npz").stat().st_size < 12_000
    code = f"import model\nprint(model.load({str(tmp_path / 'small.npz')!r})[0])"
    assert in_little_memory(code).startswith("3072 -> 3,000 hidden units")


def test_loading_says_nothing_of_weights_that_do_not_belong():
    with pytest.raises(ValueError, match="array W2 has shape"):
        Network(5).load_weights(Network(5).weights | {"W2": np.zeros((5, 9))})
    with pytest.raises(ValueError, match="array gamma1 is missing"):
        Network(5).load_weights(Network(5, batchnorm=False).weights)
