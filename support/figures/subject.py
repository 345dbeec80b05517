"""Hold what the figures of a checkpoint share: its network, its run, its classes, and images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from support.checkpoints import trained_on
from support.figures.style import GREY, LeftOut, class_colours, drawable
from support.network import metrics
from support.network.filters import (
    active_share,
    column_norms,
    influence,
    mean_gradient,
    stated_size,
)

import numpy as np

INFLUENCE_IMAGES = 500  # enough: more change the order of units little
FEWEST, MOST = 50, 1000  # test images of a class that means are taken over, at most
ACTIVATIONS = 10**9  # of so many activations in a class, if units have many positions


class Images(Protocol):
    """The images of both splits, such as data.cifar10.Dataset."""

    name: str  # "synthetic" for drawn images
    train_images: np.ndarray  # (N, 3072) uint8
    train_labels: np.ndarray  # (N,) int64
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Firing:
    """How often units are on, and what logits respond to, for test images of the classes shown."""

    counts: dict[int, int]  # images, by class
    above: np.ndarray  # (rows, H), the share of all these images for which a unit is above zero
    of_images: np.ndarray  # (N,), the share of units and positions above zero, by image
    gradients: dict[int, np.ndarray]  # `mean_gradient` of a class's images, by class, (3072,)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and what else its figures share, computed when a figure first asks."""

    loaded: object  # model.Network, as the checkpoint has it
    info: dict  # what the checkpoint says of its run
    names: tuple[str, ...]  # of the classes, printable
    data: Images | None = None
    no_data: str = "no images were given"  # why data is None
    background_size: int = 0  # training images that votes are compared with; 0: none

    @cached_property
    def network(self):
        """The network that figures show: a filter and its negative are two units."""
        return self.loaded.one_sided()

    # ---- Images and predictions; LeftOut if there are no images ----------------------------------

    @property
    def needed_data(self) -> Images:
        """The images of both splits. Raises LeftOut if there are none."""
        if self.data is None:
            raise LeftOut(self.no_data)
        return self.data

    @property
    def images(self) -> np.ndarray:
        """The test images, (N, 3072) uint8. Raises LeftOut if there are none."""
        return self.needed_data.test_images

    @property
    def labels(self) -> np.ndarray:
        """Their classes, (N,). Raises LeftOut if there are none."""
        return self.needed_data.test_labels

    @property
    def background(self) -> np.ndarray | None:
        """The training images that votes are compared with, (N, 3072), evenly spaced; or None."""
        if not self.background_size:
            return None
        images = self.needed_data.train_images
        rows = np.linspace(0, len(images) - 1, min(self.background_size, len(images)))
        return images[np.unique(rows.astype(int))]

    @cached_property
    def log_y(self) -> np.ndarray:
        """log y^ of the test images, (N, C). Raises LeftOut if numbers overflow."""
        log_y = metrics.log_probabilities(self.loaded, self.images)
        if not np.isfinite(log_y).all():
            raise LeftOut("the network's numbers overflow")
        return log_y

    @cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class of each test image, (N,)."""
        return self.log_y.argmax(axis=1)

    @cached_property
    def measures(self) -> metrics.Measures:
        """The figures of merit on the test images."""
        return metrics.measure(self.log_y, self.labels)

    @cached_property
    def surest_mistakes(self) -> np.ndarray:
        """The test images with a wrong prediction, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.log_y[wrong].max(axis=1), kind="stable")]

    # ---- Weights ---------------------------------------------------------------------------------

    @cached_property
    def norms(self) -> np.ndarray:
        """|W1[:, h]| of each hidden unit, (H,): in whitened dimensions if the network has such."""
        return column_norms(self.loaded.weights["W1"])

    @cached_property
    def W2(self) -> np.ndarray:
        """W2 as (q, H, C), float64."""
        q, C = self.network.window.q, self.network.classes
        return self.network.weights["W2"].reshape(q, -1, C).astype(float)

    @cached_property
    def influence(self) -> np.ndarray:
        """The influence of each hidden unit, (H,): see `influence_measure`."""
        if self.measured_influence is None:
            return stated_size(self.network)
        return self.measured_influence

    @cached_property
    def measured_influence(self) -> np.ndarray | None:
        """The `influence` on test images, (H,); None without images, or if numbers overflow."""
        if self.data is None:
            return None
        images = self.images[:: -(-len(self.images) // INFLUENCE_IMAGES)]
        found = influence(self.network, images)
        return found if np.isfinite(found).all() else None

    @property
    def influence_measure(self) -> str:
        """A description of `influence`, for captions."""
        if self.measured_influence is not None:
            return (
                f"by how much the logits of {min(len(self.images), INFLUENCE_IMAGES):,} test "
                "images would change without them"
            )
        first = "|gamma|" if self.network.batchnorm else "the norm of their column of W1"
        return (
            f"by {first} times the norm of their weights in W2 (without images their influence "
            "is unknown)"
        )

    @property
    def per_class(self) -> int:
        """How many test images of a class means are taken over, at most."""
        activations = self.network.window.rows * self.network.hidden_size  # of an image
        return min(MOST, max(FEWEST, ACTIVATIONS // activations))

    @cached_property
    def firing(self) -> Firing:
        """The Firing of test images."""
        shape = self.network.window.rows, self.network.hidden_size
        counts, gradients, of_images, above = {}, {}, [], np.zeros(shape)
        for c in self.shown():
            own = self.images[self.labels == c][: self.per_class]
            its_above, its_between, each = active_share(self.network, own)
            counts[c] = len(own)
            above += len(own) * its_above
            gradients[c] = mean_gradient(self.network, its_between, c)
            of_images.append(each)
        above /= max(1, sum(counts.values()))
        return Firing(counts, above, np.concatenate(of_images), gradients)

    # ---- Classes ---------------------------------------------------------------------------------

    def name(self, c: int, limit: int = 12) -> str:
        """A class's name as it can be drawn."""
        return drawable(self.names[c], limit)

    @cached_property
    def colours(self) -> list[str]:
        """A colour for each class; of more than ten, grey for those that no figure shows."""
        colours = [GREY] * self.network.classes
        shown = self.shown(20)
        for c, colour in zip(shown, class_colours(len(shown)), strict=True):
            colours[c] = colour
        return colours

    def shown(self, limit: int = 10) -> list[int]:
        """The classes that a figure with room for `limit` shows.

        All, or half of them with the lowest recall and half with the highest; without test images,
        the first.
        """
        if self.network.classes <= limit:
            return list(range(self.network.classes))
        order = self.by_recall
        if len(order) <= limit:
            return order
        return order[: limit // 2] + order[-(limit // 2) :]

    @cached_property
    def by_recall(self) -> list[int]:
        """The classes with test images, the lowest recall first; all, if nothing is predicted."""
        if not self.is_predicted:
            return list(range(self.network.classes))
        recall, support = self.measures.recall, self.measures.support
        return [c for c in np.argsort(recall, kind="stable").tolist() if support[c]]

    @cached_property
    def is_predicted(self) -> bool:
        """Whether there are predictions of test images."""
        try:
            return self.measures is not None
        except LeftOut:
            return False

    def some(self, limit: int = 10) -> str:
        """Return the sentence of a caption about `shown`; "" if all classes are shown."""
        if self.network.classes <= limit:
            return ""
        half = limit // 2
        text = f" Of {self.network.classes} classes it shows the"
        if not self.is_predicted:
            return f"{text} first {half} and the last {half}."
        return f"{text} {half} with the lowest recall and the {half} with the highest."

    # ---- Notes ---------------------------------------------------------------------------------

    @property
    def sign_note(self) -> str:
        """The `sign_note` of captions with unit numbers."""
        return sign_note(self.loaded)

    @property
    def images_note(self) -> str:
        """The note under figures of drawn images; "" for photographs."""
        drawn = self.data is not None and self.data.name == "synthetic"
        return "synthetic images" if drawn else ""


def training_note(info: dict) -> str:
    """Return what a figure of weights says if a checkpoint's run had no photographs; else ""."""
    drawn = trained_on(info).get("name") == "synthetic"
    return "trained on synthetic images" if drawn else ""


def sign_note(network) -> str:
    """Return what a caption says of unit numbers if the network is two-sided; else ""."""
    if not network.window.two_sided:
        return ""
    return f" Unit {network.hidden_size:,} + h is unit h with the sign of its filter reversed."
