"""Small trained networks, and test.py called in this process, for several test modules."""

import contextlib
import io

import model
import test
from support import cli
from support.network.window import Window

import numpy as np
from networks import make_window
from PIL import Image


def call_test(*argv):
    """Run test.py's main in this process on one thread. Return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(word) for word in (*argv, "--threads", 1)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.command(test.main, words)
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def describe(data):
    """Return what a checkpoint says of the images that it was trained on."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
    }


def save_networks(folder, data):
    """Train small networks of every kind and save them in `folder`, which is returned.

    bn and plain: with and without batch normalisation. windows: with a map. mirrored: two-sided as
    well, with bilinear regions and a cap. dense: units of the whole image, mirrored and two-sided.
    two-sided: filters that are not mirrored. folded: the mirror image folded into windows. report:
    float64 arrays, as the report has them, and nothing else.
    """
    described = describe(data) | {"validation_rows": list(range(5, 100, 2))}
    info = {"data": described, "settings": {"epochs": 1}, "history": {"val_accuracy": [0.1]}}
    mean = np.full(192, 0.5)
    P = np.random.default_rng(0).standard_normal((192, 9)) / 4
    signs = np.repeat([-1, 1], [3, 6])  # 3 odd columns, then 6 even ones
    symmetric = P + P[Window(8).flip] * signs
    views, plain = {"mirror": True, "two_sided": True}, {"batchnorm": False, "dropout": 0}
    networks = {
        "bn": model.Network(16),
        "plain": model.Network(16, batchnorm=False, seed=1),
        "windows": model.Network(20, Window(8, 4, 3, mean, np.diag(np.full(192, 2.0))), **plain),
        "mirrored": model.Network(
            6, Window(8, 4, 3, mean, symmetric, bilinear=True, **views), cap=0.5, **plain
        ),
        "dense": model.Network(8, make_window(dims=20, **views), **plain),
        "two-sided": model.Network(10, Window(8, 4, 3, two_sided=True), **plain),
    }
    for name, network in networks.items():
        for start in range(0, 400, 50):
            rows = slice(start, start + 50)
            network.train_batch(data.train_images[rows], data.train_labels[rows], model.SGD(0.02))
        network.save(folder / f"{name}.npz", info)
    networks["windows"].fold_mirror().save(folder / "folded.npz", info)
    arrays = networks["bn"].plain()
    arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
    np.savez(folder / "report.npz", **arrays)
    return folder


def save_picture(image, path, size=32):
    """Write an image (3072,) uint8 as a picture of size x size pixels."""
    square = image.reshape(3, 32, 32).transpose(1, 2, 0)
    Image.fromarray(square).resize((size, size), Image.NEAREST).save(path)
