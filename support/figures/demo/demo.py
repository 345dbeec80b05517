"""Write demo.html, a page in which a network itself runs.

demo.html in this folder is the page's template; the .js files are its program, in the order of
SCRIPTS; packing.py rounds the weights, drawings.py draws pictures for the page to open on.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from support import files
from support.checkpoints import trained_on
from support.figures.demo import packing
from support.image_shape import PIXELS, SIDE

import numpy as np

LIMIT = 6_000_000  # bytes of the page
ROOM = 150_000  # bytes of it for everything but the weights: text, program, pictures
TOLERANCE = 1e-3  # of a probability, by which rounded weights may change it
ACTIVATIONS = 1_500_000  # of an image; more take a browser over 1/4 s, see `quicker`
FOLDER = Path(__file__).parent
TEMPLATE = FOLDER / "demo.html"
SCRIPTS = ("product.js", "network.js", "pictures.js", "views.js", "controls.js")


def write_demo(
    network,
    names: Sequence[str],
    path: str | os.PathLike,
    pictures: np.ndarray,
    labels: Sequence[int] | None = None,
    *,
    captions: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a page that runs a `model.Network` in a browser, without any other file or network.

    names: of the classes. pictures: (m, 3072) uint8, at least one, which the page offers.
    labels: their true classes, (m,), None if they have none; -1 for a picture without one.
    captions: what the pictures show. about: lines on the network, such as `about_run` returns.

    A weight takes 16 bits. If the page would be too large then, a number in W1 takes fewer.
    Raises ValueError if 8 bits are too many, or if rounding changes a probability of the
    pictures by more than 1e-3.
    """
    check_pictures(network, names, pictures, labels, captions)
    bits = packing.largest_precision(network, LIMIT - ROOM)
    if bits is None:
        size = packing.text_size(network, packing.FEWER[-1]) / 1e6
        raise ValueError(
            f"its weights would take {size:,.1f} MB, even with W1 in {packing.FEWER[-1]} bits, "
            f"and the page is limited to {LIMIT / 1e6:.0f} MB"
        )
    packed = packing.packed(network, bits)
    check_rounding(network, packed, pictures)

    content = {
        "about": {"Network": repr(network), **(about or {})},
        "names": [str(name) for name in names],
        "captions": [str(caption) for caption in captions],
        "labels": [] if labels is None else [int(label) for label in labels],
        **architecture(network),
        "arrays": {name: packing.encoded(array, bits) for name, array in packed.arrays.items()},
        "pictures": packing.encoded(pictures),
    }
    page = page_of(content)
    if len(page) > LIMIT:
        raise ValueError(
            f"the page would take {len(page) / 1e6:,.1f} MB, over {LIMIT / 1e6:.0f}; "
            "give fewer pictures"
        )
    with files.write_whole(path) as file:
        file.write(page)


def quicker(network):
    """Return the network with its filters further apart, if a page would be slow otherwise.

    The stride is the smallest with at most ACTIVATIONS activations, or the largest that fits.
    """
    if network.window.whole:
        return network
    chosen = network.window
    for stride in range(chosen.stride + 1, SIDE):
        if chosen.rows * network.hidden_size <= ACTIVATIONS:
            break
        try:
            chosen = replace(chosen, stride=stride)
        except ValueError:  # filters so far apart don't end at the edge, or are too few
            continue
    return network if chosen is network.window else network.copy(window=chosen)


def check_pictures(network, names, pictures, labels, captions) -> None:
    """Raise ValueError unless names, labels and captions fit the network and the pictures."""
    if len(names) != network.classes:
        raise ValueError(f"{len(names)} names for {network.classes} classes; give one for each")
    if pictures.ndim != 2 or pictures.shape[1] != PIXELS or pictures.dtype != np.uint8:
        raise ValueError(
            f"pictures must be (m, {PIXELS}) uint8, not {pictures.shape} {pictures.dtype}"
        )
    if not len(pictures):
        raise ValueError("a page needs at least one picture")
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(f"{len(labels)} labels for {len(pictures)} pictures")
    if labels is not None and not all(-1 <= label < network.classes for label in labels):
        raise ValueError(f"labels must be 0 to {network.classes - 1}, or -1")
    if len(captions) not in (0, len(pictures)):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures; give all or none")


def check_rounding(network, packed: packing.Packed, pictures: np.ndarray) -> None:
    """Raise ValueError if the rounded network gives other probabilities for the pictures."""
    exact = network.predict_proba(pictures)
    error = float(np.abs(packed.network.predict_proba(pictures) - exact).max())
    if not error <= TOLERANCE:  # an error that is NaN is refused as well
        raise ValueError(
            f"W1 in the {packed.bits} bits that the page has room for changes a probability "
            f"by {error:.2g}"
        )


def architecture(network) -> dict:
    """Return what the page needs apart from the arrays to compute what the network computes."""
    window = network.window
    return {
        "cap": float(np.float32(network.cap)),  # the page computes in float32
        "window": {
            "size": window.size,
            "stride": window.stride,
            "side": window.side,
            "regions": window.regions,
            "mirror": window.mirror,
            "twoSided": window.two_sided,
            "bilinear": window.bilinear and not window.whole,
            "odd": window.odd if window.mirror else 0,
        },
    }


def page_of(content: dict) -> bytes:
    """Return the template with the program and this content in it."""
    # Without "<" no text in the content can end the script element that holds it.
    data = json.dumps(content).replace("<", "\\u003c")
    program = "\n".join((FOLDER / name).read_text("utf-8") for name in SCRIPTS)
    page = TEMPLATE.read_text("utf-8").replace("/* program */", program)
    return page.replace("{/* data */}", data).encode()


# ---- Lines about the run that trained the network ----------------------------------------------


def about_run(info: Mapping) -> dict[str, str]:
    """Return what a checkpoint's info says of its run, for `write_demo`'s about.

    The info comes from a file, so that any part of it may be missing or of another type; such
    parts are left out.
    """
    lines = {}
    command, name = info.get("command"), trained_on(info).get("name")
    if isinstance(command, str) and command:
        lines["Trained by"] = command
    if isinstance(name, str):
        lines["Data set"] = name
    accuracy = validation_accuracy(info)
    if accuracy is not None:
        lines["Validation accuracy"] = f"{accuracy:.1%}"
    return lines


def validation_accuracy(info: Mapping) -> float | None:
    """Return the validation accuracy of the epoch whose weights were kept, if the info has it."""
    history, best = info.get("history"), info.get("best_epoch")
    if not isinstance(history, Mapping) or type(best) is not int:
        return None
    accuracies = history.get("val_accuracy")
    if not isinstance(accuracies, list) or not 1 <= best <= len(accuracies):
        return None
    accuracy = accuracies[best - 1]
    if type(accuracy) is not float or not 0 <= accuracy <= 1:
        return None
    return accuracy
