"""docs/equations.py is the network of model.py, and runs as printed."""

import importlib.util
import re

import model
from model import SGD
from support.network import blocks

import numpy as np
import pytest
from helpers import ROOT
from networks import error, make

spec = importlib.util.spec_from_file_location("equations", ROOT / "docs" / "equations.py")
equations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(equations)

P, RATE, MOMENTUM, DECAY = 0.5, 0.02, 0.9, 0.01


class Masks:
    """A generator that draws a given dropout mask (m, H) for model.py."""

    def __init__(self, kept):
        self.kept = kept

    def integers(self, high, size, dtype, endpoint):
        drawn = np.zeros(8 * size, np.uint8)
        drawn[: self.kept.size] = np.where(self.kept.ravel(), 255, 0)
        return drawn.view(dtype)


@pytest.fixture(scope="module")
def trained():
    """A network after twenty steps of model.py, the same of equations.py, and both losses."""
    network = make(hidden_size=16, batchnorm=True, dropout=P)
    w = {name: array.copy() for name, array in network.weights.items()}
    v = dict.fromkeys(w, 0)
    sgd = SGD(RATE, MOMENTUM, DECAY)
    rng = np.random.default_rng(0)
    losses = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(blocks, "WHOLE_UNITS", 5)  # several blocks of units
    monkeypatch.setattr(blocks, "WEIGHTS", 64)  # several blocks of rows
    for _ in range(20):
        X, labels = rng.random((11, 3072)), rng.integers(0, 10, 11)
        kept = rng.random((11, 16)) >= P
        loss, _ = network.train_batch(X, labels, sgd, Masks(kept))
        Y = np.eye(10)[labels]
        y_hat, cache = equations.forward(w, X, kept, P)
        g = equations.backward(w, X, Y, kept, P, DECAY, y_hat, cache)
        equations.step(w, v, g, RATE, MOMENTUM, *cache[:2])
        losses.append((loss, -np.log((y_hat * Y).sum(axis=1)).mean()))
    monkeypatch.undo()
    return network, w, losses


def test_losses_are_the_same(trained):
    found, expected = np.array(trained[2]).T
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2", *model.BATCHNORM])
def test_weights_are_the_same(trained, name):
    network, w, _ = trained
    assert error(network.weights[name], w[name]) < 1e-12


def test_predictions_are_the_same(trained):
    network, w, _ = trained
    X = np.random.default_rng(1).random((5, 3072))
    np.testing.assert_allclose(network.predict_proba(X), equations.predict(w, X), rtol=1e-11)


def test_the_script_trains(run):
    done = run("docs/equations.py")
    assert done.returncode == 0, done.stderr
    losses = [float(found) for found in re.findall(r"loss (\d\.\d+)", done.stdout)]
    assert losses[-1] < losses[0]
