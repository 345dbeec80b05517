"""Small trained networks, as train.py writes them, for the tests of figures."""

from dataclasses import asdict

import model
import train
from support.network.window import Window

import numpy as np
from networks import make_window

HISTORY = {
    "learning_rate": [0.01, 0.02, 0.005],
    "train_loss": [6.5, 2.2, 2.0],
    "train_accuracy": [0.2, 0.3, 0.4],
    "val_loss": [4.1, 2.1, 2.2],
    "val_accuracy": [0.25, 0.38, 0.35],
    "seconds": [40.0, 50.0, 61.0],
}


def info_of(data, history=HISTORY, **settings):
    """Return what train.py writes into a checkpoint."""
    return {
        "recipe": "report",
        "command": "python train.py --shift 2",
        "machine": "a computer, 2 cores",
        "settings": asdict(train.Settings(**settings)),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "class_names": list(data.class_names),
        },
        "history": history,
        "best_epoch": 2,
    }


def whitened(size=8, stride=4, regions=3, dims=30):
    """Return a window with a random map, as invertible as a whitening's."""
    rng = np.random.default_rng(0)
    P = rng.standard_normal((3 * size**2, dims)) / size
    return Window(size, stride, regions, rng.random(3 * size**2), P)


def save_networks(folder, data):
    """Train small networks of several kinds and save them in `folder`, which is returned.

    bn: with batch normalisation. windows and windows-bn: without and with it. mirrored: two-sided
    as well, with bilinear regions and a cap. dense: units of the whole image, mirrored and
    two-sided. report: the report's arrays alone, without an info.
    """
    views = {"mirror": True, "two_sided": True}
    mirrored = Window(8, 4, 3, bilinear=True, **views)
    mirrored = mirrored.whitening(data.train_images, 30, 0.1, model.Threads())
    plain = {"batchnorm": False, "dropout": 0.0, "seed": 1}
    networks = {
        "bn": model.Network(40, seed=0),
        "windows": model.Network(24, whitened(), **plain),
        "mirrored": model.Network(24, mirrored, cap=0.3, **plain),
        "dense": model.Network(12, make_window(dims=20, **views), **plain),
        "windows-bn": model.Network(6, Window(16, 8, 1), seed=2),
    }
    for name, network in networks.items():
        for start in range(0, 960, 64):
            rows = slice(start, start + 64)
            network.train_batch(data.train_images[rows], data.train_labels[rows], model.SGD(0.02))
        settings = {"hidden_size": network.hidden_size, "batchnorm": network.batchnorm, "shift": 2}
        window = network.window
        if not window.whole:
            settings |= {"window": window.size, "stride": window.stride}
        network.save(folder / f"{name}.npz", info_of(data, **settings))
    arrays = networks["bn"].weights.items()
    np.savez(folder / "report.npz", **{name: array.astype(float) for name, array in arrays})
    return folder
