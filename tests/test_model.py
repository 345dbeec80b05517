"""The network against numeric gradients and plain formulas, and its checkpoint against what can happen to a file."""

import itertools
import json
import zipfile

import model
from model import SGD, CheckpointError, Field, Network

import numpy as np
import pytest

FIELDS = [Field.parse(text) for text in ("32x9@7", "16/8x3@5", "8/8x2")]
REPORT_ARRAYS = ("W1", "b1", "W2", "b2", "gamma1", "beta1", "running_mean1", "running_var1")


def make(kind, dtype=np.float64, **options):
    """A small network of each kind, its biases and BN's arrays away from the values they start with."""
    rng = np.random.default_rng(1)
    if kind == "fields":
        maps = [
            (rng.random(f.pixels), rng.normal(size=(f.pixels, f.dims)) if f.dims else rng.random(f.pixels))
            for f in FIELDS
        ]
        options = {"fields": FIELDS, "maps": maps, "mirror": True, "threads": 2} | options
    network = Network(13, dtype=dtype, seed=1, **options)
    for array in network.arrays().values():
        array += 0.1 * np.abs(rng.normal(size=array.shape))
    return network


def batch(m, seed=2):
    rng = np.random.default_rng(seed)
    return rng.random((m, 3072)), rng.integers(0, 10, m)


def mirrored(images):
    return images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)


def numeric_errors(network, m, lambda_reg, smoothing):
    """The largest deviation from central differences of a few entries of each gradient, relative to their size."""
    images, labels = batch(m)

    def objective():
        return network.gradients(images, labels, lambda_reg, np.random.default_rng(5), smoothing)[0]

    _, gradients = network.gradients(images, labels, lambda_reg, np.random.default_rng(5), smoothing)
    rng, step, errors = np.random.default_rng(3), 1e-5, {}
    for name, gradient in gradients.items():
        weights, pairs = network.arrays()[name], []
        for flat in rng.integers(0, weights.size, 6):
            index = np.unravel_index(flat, weights.shape)
            kept = weights[index]
            weights[index] = kept + step
            above = objective()
            weights[index] = kept - step
            pairs.append(((above - objective()) / (2 * step), gradient[index]))
            weights[index] = kept
        numeric, exact = np.array(pairs).T
        scale = np.abs(numeric).max() + np.abs(exact).max()
        if name.endswith("b1") and network.batchnorm:
            scale = 1.0  # BN takes away whatever b1 adds: both are 0 up to rounding
        errors[name] = np.abs(numeric - exact).max() / scale
    return errors


@pytest.mark.parametrize("kind", ["dense", "fields"])
@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("dropout", [0, 0.5])
@pytest.mark.parametrize("lambda_reg", [0, 0.01])
def test_gradients_agree_with_central_differences(kind, batchnorm, dropout, lambda_reg):
    network = make(kind, batchnorm=batchnorm, dropout=dropout)
    errors = numeric_errors(network, 7, lambda_reg, smoothing=0.1 if kind == "fields" else 0)
    assert len(errors) == (4 + 2 * batchnorm if kind == "dense" else 3 * (3 + 2 * batchnorm) + 1)
    assert max(errors.values()) < 1e-7, errors


def test_gradients_of_a_single_image_without_batchnorm():
    errors = numeric_errors(make("dense", batchnorm=False, dropout=0.3), 1, 0.01, 0)
    assert max(errors.values()) < 1e-7, errors


def test_parts_and_row_blocks_do_not_change_the_gradient(monkeypatch):
    images, labels = batch(5)
    expected = make("fields", dropout=0).gradients(images, labels, 0.1)[1]
    monkeypatch.setattr(model, "UNIT_BLOCK", 4)
    monkeypatch.setattr(model, "WEIGHT_BLOCK", 64)
    found = make("fields", dropout=0).gradients(images, labels, 0.1)[1]
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12)


def test_a_training_step_is_momentum_sgd_on_the_gradients():
    network, (images, labels) = make("dense", dropout=0), batch(7)
    sgd = SGD(learning_rate=0.1, momentum=0.9, lambda_reg=0.02, bn_lr_scale=3)
    weights = {name: array.copy() for name, array in network.arrays().items()}
    velocity = {name: np.zeros_like(array) for name, array in network.velocity_arrays().items()}
    for _ in range(3):
        _, gradients = network.gradients(images, labels, sgd.lambda_reg)
        network.train_batch(images, labels, sgd)
        for name, gradient in gradients.items():
            rate = 0.3 if name in ("gamma1", "beta1") else 0.1
            velocity[name] = 0.9 * velocity[name] - rate * gradient
            weights[name] += velocity[name]
            np.testing.assert_allclose(network.arrays()[name], weights[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("block", [512, 4, 1])
def test_sharing_adds_the_summed_gradient_to_every_place(block, monkeypatch):
    monkeypatch.setattr(model, "UNIT_BLOCK", block)
    network, (images, labels) = make("fields", dropout=0), batch(7)
    sgd = SGD(learning_rate=0.1, momentum=0.9, lambda_reg=0.02, output_lr_scale=0.5, share=3)
    weights = {name: array.copy() for name, array in network.arrays().items()}
    velocity = {name: np.zeros_like(array) for name, array in weights.items()}
    for _ in range(3):
        _, gradients = network.gradients(images, labels, 0)
        network.train_batch(images, labels, sgd)
        for name, gradient in gradients.items():
            last = name.rpartition(".")[2]
            if last == "W1" and len(gradient) > 1:
                gradient = gradient + 3 / np.sqrt(len(gradient)) * gradient.sum(axis=0)
            if last in ("W1", "W2"):
                gradient = gradient + 0.02 * weights[name]
            velocity[name] = 0.9 * velocity[name] - (0.05 if last in ("W2", "b2") else 0.1) * gradient
            weights[name] += velocity[name]
            np.testing.assert_allclose(network.arrays()[name], weights[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_places_can_start_alike():
    W1 = make("fields", same_places=True).groups[2]["W1"] - make("fields").groups[2]["W1"]
    plain = Network(fields=[FIELDS[2]], same_places=True, output_init=0.1).groups[0]
    assert (plain["W1"] == plain["W1"][0]).all() and W1.shape == (16, 192, 2)
    # One place's weights, broadcast and copied as they come, would lie with its places innermost: slow.
    assert all(array.flags.c_contiguous for array in plain.values())
    assert plain["W2"].std() == pytest.approx(0.1 * np.sqrt(2 / 32), rel=0.2)


def test_the_loss_is_the_mean_cross_entropy_and_counts_hits():
    network, (images, labels) = make("dense", batchnorm=False, dropout=0), batch(9)
    w = {name: array.reshape(array.shape[-2:]) for name, array in network.arrays().items()}
    logits = np.maximum(images @ w["W1"] + w["b1"], 0) @ w["W2"] + w["b2"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network.predict_proba(images), probabilities, rtol=1e-9)
    loss, hits = network.train_batch(images, labels, SGD())
    assert loss == pytest.approx(-np.log(probabilities[np.arange(9), labels]).mean())
    assert hits == (logits.argmax(axis=1) == labels).sum()


def test_extreme_logits_have_a_finite_loss():
    z2 = np.array([[1e4, -1e4] + [0.0] * 8, [-1e4] * 10])
    np.testing.assert_allclose(model.cross_entropy(z2, np.array([1, 3])), [2e4, np.log(10)])
    assert np.isfinite(model.cross_entropy_backward(z2, np.array([1, 3]))).all()


def test_batchnorm_follows_the_batches_and_inference_uses_what_it_followed():
    network, (images, labels) = make("dense", dropout=0), batch(8)
    w = {name: array.reshape(array.shape[-2:]).copy() for name, array in network.arrays().items()}
    z1 = images @ w["W1"] + w["b1"]
    network.train_batch(images, labels, SGD(learning_rate=0))
    mean, variance = 0.9 * w["running_mean1"] + 0.1 * z1.mean(axis=0), 0.9 * w["running_var1"] + 0.1 * z1.var(axis=0)
    np.testing.assert_allclose(network.groups[0]["running_mean1"][0], mean, rtol=1e-9)
    np.testing.assert_allclose(network.groups[0]["running_var1"][0], variance, rtol=1e-9)
    a1 = np.maximum((z1 - mean) / np.sqrt(variance + model.BN_EPS) * w["gamma1"] + w["beta1"], 0)
    np.testing.assert_allclose(network.logits(images), a1 @ w["W2"] + w["b2"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["dense", "fields"])
def test_inference_leaves_the_network_as_it_was_and_does_not_depend_on_the_batch(kind):
    network, (images, labels) = make(kind), batch(150)
    before = {name: array.copy() for name, array in network.arrays().items()}
    whole = network.logits(images)
    np.testing.assert_allclose(np.concatenate([network.logits(images[:1]), network.logits(images[1:])]), whole)
    loss, accuracy = network.evaluate(images, labels)
    assert loss == pytest.approx(model.cross_entropy(whole, labels).mean())
    assert accuracy == (whole.argmax(axis=1) == labels).mean()
    assert all((array == before[name]).all() for name, array in network.arrays().items())
    assert network.predict(images[:0]).shape == (0,)


def test_dropout_drops_its_share_and_keeps_the_expectation():
    network = Network(400, batchnorm=False, dropout=0.25, dtype=np.float64, seed=0)
    images, _ = batch(64)
    rng = np.random.default_rng(0)
    mean = np.mean([network._forward(images, True, rng)[0] for _ in range(60)], axis=0)
    active = np.maximum(images @ network.groups[0]["W1"][0], 0) > 0
    kept = np.concatenate([part.a1[0] for part in network._parts], axis=1) > 0
    np.testing.assert_allclose(mean, network.logits(images), atol=0.4)
    assert kept.sum() / active.sum() == pytest.approx(0.75, abs=0.02)


def test_dropout_draws_from_the_networks_generator_or_another():
    images, labels = batch(4)
    losses = [make("dense").train_batch(images, labels, SGD())[0] for _ in range(2)]
    other = make("dense").train_batch(images, labels, SGD(), np.random.default_rng(8))[0]
    assert losses[0] == losses[1] != other


@pytest.mark.parametrize("kind", ["dense", "fields"])
def test_any_number_of_threads_gives_the_same_bits(kind, monkeypatch):
    monkeypatch.setattr(model, "UNIT_BLOCK", 4)
    images, labels = batch(20)
    results = []
    for threads in (1, 2, 5):
        network, rng = make(kind, np.float32, threads=threads), np.random.default_rng(0)
        for _ in range(5):
            network.train_batch((images * 255).astype(np.uint8), labels, SGD(share=2), rng)
        results.append(network.arrays())
    for other in results[1:]:
        assert all((other[name] == array).all() for name, array in results[0].items())


@pytest.mark.parametrize("batchnorm", [False, True])
def test_the_network_learns_a_batch_by_heart_in_float32(batchnorm):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 3072), dtype=np.uint8), rng.integers(0, 10, 50)
    network = Network(64, batchnorm=batchnorm, dropout=0)
    for _ in range(60):
        network.train_batch(images, labels, SGD(learning_rate=0.02))
    assert (network.predict(images) == labels).all()
    assert network.groups[0]["W1"].dtype == np.float32


@pytest.mark.parametrize("kind", ["dense", "fields"])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_plain_arrays_are_the_same_function_in_the_reports_shapes(kind, batchnorm):
    network, (images, _) = make(kind, batchnorm=batchnorm), batch(6)
    plain = network.plain()
    h = network.hidden_size * (2 if network.mirror else 1)
    assert h == (13 if kind == "dense" else 2 * (9 + 9 * 3 + 16 * 2))
    shapes = {"W1": (3072, h), "W2": (h, 10), "b2": (1, 10)}
    assert {n: a.shape for n, a in plain.items()} == {n: shapes.get(n, (1, h)) for n in REPORT_ARRAYS if n in plain}
    same = Network(h, batchnorm=batchnorm, dtype=np.float64)
    same.load_arrays(plain)
    np.testing.assert_allclose(same.logits(images), network.logits(images), rtol=1e-9, atol=1e-9)


def test_units_of_a_window_have_no_weights_outside_it():
    W1 = make("fields", mirror=False).plain()["W1"].reshape(3, 32, 32, -1)
    second_place = W1[..., 9 + 3 : 9 + 6]  # the second of the 16x16 windows: rows 0 to 15, columns 8 to 23
    assert (second_place[:, :16, 8:24] != 0).all()
    assert not second_place[:, 16:].any() and not second_place[:, :, :8].any() and not second_place[:, :, 24:].any()


@pytest.mark.parametrize("kind", ["dense", "fields"])
def test_folding_the_mirror_image_averages_the_logits(kind):
    network, (images, _) = make(kind, mirror=False), batch(6)
    expected = (network.logits(images) + network.logits(mirrored(images))) / 2
    folded = model.fold_mirror(network)
    np.testing.assert_allclose(folded.logits(images), expected, rtol=1e-9)
    np.testing.assert_allclose(folded.logits(mirrored(images)), expected, rtol=1e-9)


def test_an_ensemble_combines_into_one_network():
    networks, (images, _) = [make("dense", mirror=True), make("fields")], batch(6)
    expected = (networks[0].logits(images) + networks[1].logits(images)) / 2
    np.testing.assert_allclose(model.combine(networks).logits(images), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="batch normalisation"):
        model.combine([networks[0], make("fields", batchnorm=False)])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("12/3x10", "don't cover"),
        ("33x10", "don't cover"),
        ("12/0x10", "don't cover"),
        ("12/4x0", "1 to 1,000,000 units"),
        ("2/2x5@13", "1 to 12"),
        ("12/4", "SIZE/STRIDExUNITS@DIMS"),
        ("12/4x10@", "SIZE/STRIDExUNITS@DIMS"),
    ],
)
def test_fields_that_cannot_be_are_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        Field.parse(text)


def test_the_notation_of_fields_goes_there_and_back():
    assert [str(field) for field in FIELDS] == ["32x9@7", "16/8x3@5", "8/8x2"]
    assert (len(FIELDS[1].corners), FIELDS[1].corners[1], FIELDS[1].inputs, FIELDS[2].inputs) == (9, (0, 8), 5, 192)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (np.zeros((3, 3071)), np.zeros(3, int), "images must be"),
        (np.zeros((3, 3072), int), np.zeros(3, int), "images must be"),
        (np.zeros((3, 3072)), np.zeros(2, int), "labels must be"),
        (np.zeros((3, 3072)), np.zeros(3), "labels must be"),
        (np.zeros((3, 3072)), np.array([0, 1, 10]), "0 to 9"),
        (np.zeros((3, 3072)), np.array([0, 1, -1]), "0 to 9"),
        (np.zeros((1, 3072)), np.zeros(1, int), "at least 2 images"),
    ],
)
def test_batches_that_cannot_be_are_refused(images, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        Network(4).train_batch(images, labels, SGD())


def test_networks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="dropout"):
        Network(4, dropout=1)
    with pytest.raises(ValueError, match="needs a map"):
        Network(fields=[Field(dims=5)])


def test_a_loss_that_is_not_finite_leaves_the_weights():
    network, (images, labels) = make("dense", np.float32, dropout=0), batch(4)
    network.groups[0]["W1"][0, 0, 0] = np.inf
    before = network.groups[0]["W2"].copy()
    with np.errstate(invalid="ignore"):
        loss, _ = network.train_batch(images, labels, SGD())
    assert not np.isfinite(loss) and (network.groups[0]["W2"] == before).all()


# ---- The checkpoint -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "fields"])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_checkpoint_comes_back_whole(kind, batchnorm, tmp_path):
    network, (images, _) = make(kind, np.float32, batchnorm=batchnorm, dropout=0.25), batch(5)
    model.save(tmp_path / "a.npz", network, {"history": {"val_loss": [1.5]}})
    again, info = model.load(tmp_path / "a.npz", threads=2)
    assert info == {"history": {"val_loss": [1.5]}}
    assert (again.fields, again.dropout, again.mirror) == (network.fields, 0.25, network.mirror)
    assert (again.logits(images) == network.logits(images)).all()
    if kind == "dense":
        with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
            assert file["W1"].shape == (3072, 13) and file["b1"].shape == (1, 13)


def test_half_precision_halves_the_file_and_refuses_what_it_cannot_hold(tmp_path):
    network, (images, _) = make("dense", np.float32), batch(5)
    model.save(tmp_path / "a.npz", network)
    model.save(tmp_path / "b.npz", network, storage=np.float16)
    assert (tmp_path / "b.npz").stat().st_size < 0.6 * (tmp_path / "a.npz").stat().st_size
    again, _ = model.load(tmp_path / "b.npz")
    assert again.dtype == np.float32
    np.testing.assert_allclose(again.predict_proba(images), network.predict_proba(images), atol=0.01)
    network.b2[0, 0] = 1e6
    with pytest.raises(ValueError, match="too large for float16"):
        model.save(tmp_path / "c.npz", network, storage=np.float16)
    assert not (tmp_path / "c.npz").exists()


@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_file_with_only_the_reports_arrays_loads(batchnorm, tmp_path):
    network, (images, _) = make("dense", batchnorm=batchnorm), batch(5)
    np.savez(tmp_path / "report.npz", **network.plain())
    again, info = model.load(tmp_path / "report.npz", dtype=np.float64)
    assert info == {} and again.batchnorm == batchnorm
    np.testing.assert_allclose(again.logits(images), network.logits(images), rtol=1e-12)


def broken_files():
    """(name, what the line must say, a function that breaks the file at a path)."""

    def rewrite(path, change, **extra):
        with np.load(path) as file:
            arrays = dict(file) | extra
        change(arrays)
        np.savez(path, **arrays)

    def meta(change):
        def apply(path):
            def edit(arrays):
                info = json.loads(str(arrays["meta"]))
                change(info)
                arrays["meta"] = np.array(json.dumps(info))

            rewrite(path, edit)

        return apply

    def truncate(path):
        path.write_bytes(path.read_bytes()[:-100])

    def damage(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def folder(path):
        path.unlink()
        path.mkdir()

    def hostile(path):
        rewrite(path, lambda a: a.update(W1=np.array([{"a": 1}], dtype=object)))

    def wide(path):
        rewrite(path, lambda a: a.update(W1=np.zeros((3072, 14)), b1=np.zeros((1, 14))))

    return [
        ("missing", "no such file", lambda path: path.unlink()),
        ("folder", "is a folder", folder),
        ("empty", "not a readable .npz", lambda path: path.write_bytes(b"")),
        ("text", "not a readable .npz", lambda path: path.write_text("W1 = 3")),
        ("truncated", "not a readable .npz", truncate),
        ("damaged", "not a readable .npz", damage),
        ("pickled", "not a readable .npz", hostile),
        ("no array", "array W2 is missing", lambda path: rewrite(path, lambda a: a.pop("W2"))),
        ("no array of BN", "array beta1 is missing", lambda path: rewrite(path, lambda a: a.pop("beta1"))),
        ("another array", "array W3 doesn't belong", lambda path: rewrite(path, lambda a: a, W3=np.zeros(3))),
        ("misshapen", "array W2 has shape", lambda path: rewrite(path, lambda a: a.update(W2=a["W2"].T))),
        ("wider than it says", "has shape (3072, 14)", wide),
        ("not finite", "array b2 has entries", lambda path: rewrite(path, lambda a: a.update(b2=a["b2"] * np.nan))),
        ("text array", "not numbers", lambda path: rewrite(path, lambda a: a.update(b2=np.array(["a"])))),
        ("variance", "negative", lambda path: rewrite(path, lambda a: a.update(running_var1=-a["running_var1"]))),
        ("meta", "not a JSON object", lambda path: rewrite(path, lambda a: a.update(meta=np.array("{")))),
        ("architecture", "smaller than", meta(lambda m: m["architecture"]["fields"][0].update(units=10**5))),
        ("field", "don't cover", meta(lambda m: m["architecture"]["fields"][0].update(size=99))),
        ("type", "restore the file", meta(lambda m: m["architecture"]["fields"][0].update(units="many"))),
        ("no map", "map0.P is missing", meta(lambda m: m["architecture"]["fields"][0].update(dims=5))),
        ("deep meta", "not a JSON object", lambda path: rewrite(path, lambda a: a.update(meta=np.array("[" * 10**5)))),
        ("number", "restore the file", meta(lambda m: m["architecture"].update(dropout=10**400))),
        ("large", "too large for float32", lambda p: rewrite(p, lambda a: a.update(b2=a["b2"] + np.full(10, 1e300)))),
        ("no weights", "W1 (3072, H) is missing", lambda path: np.savez(path, a=np.zeros(3))),
    ]


@pytest.mark.parametrize(("name", "complaint", "spoil"), broken_files(), ids=[row[0] for row in broken_files()])
def test_a_broken_checkpoint_is_one_line_that_names_it(name, complaint, spoil, tmp_path):
    path = tmp_path / "net.npz"
    model.save(path, make("dense", np.float32))
    spoil(path)
    with pytest.raises(CheckpointError) as caught:
        model.load(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and complaint in line and "\n" not in line and ";" in line


def test_an_array_of_one_place_is_not_taken_for_all(tmp_path):
    network = make("fields", np.float32)
    arrays = network.arrays() | {"field2.W1": network.groups[2]["W1"][0]}
    with pytest.raises(ValueError, match=r"field2\.W1 has shape"):
        network.load_arrays(arrays)


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(model, "MAX_BYTES", 10)
    with pytest.raises(CheckpointError, match="would be larger"):
        model.write_npz(tmp_path / "a.npz", {"a": np.zeros(3)})
    assert not any(tmp_path.iterdir())


def test_a_map_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    model.save(path, make("fields", np.float32))
    with np.load(path) as file:
        arrays = dict(file)
    arrays["map1.P"] = arrays["map1.P"][1:]
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match="don't fit field 16/8x3@5"):
        model.load(path)


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W1.npy", bytes(2**20))
    monkeypatch.setattr(model, "MAX_BYTES", 2**20 - 1)
    with pytest.raises(CheckpointError, match="unpacks to more"):
        model.load(tmp_path / "bomb.npz")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.npz"
    model.write_npz(path, {"a": np.arange(3)}, {"n": 1})
    with pytest.raises(RuntimeError), model.write_whole(path) as file:
        file.write(b"half")
        raise RuntimeError
    arrays, meta = model.read_npz(path)
    assert arrays["a"].tolist() == [0, 1, 2] and meta == {"n": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.npz"]


def test_every_combination_of_options_is_trained_and_read_back(tmp_path):
    images, labels = batch(6)
    for kind, batchnorm, dropout in itertools.product(("dense", "fields"), (False, True), (0, 0.5)):
        network = make(kind, np.float32, batchnorm=batchnorm, dropout=dropout)
        network.train_batch(images, labels, SGD(), np.random.default_rng(0))
        model.save(tmp_path / "net.npz", network)
        assert (model.load(tmp_path / "net.npz")[0].logits(images) == network.logits(images)).all()
