"""The data sets: their files, the keys in these files, and the archives to fetch."""

from dataclasses import dataclass

from data.folders import META, TEST, TRAIN

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_CLASSES = 1000


@dataclass(frozen=True)
class Archive:
    """An archive to fetch, and how to recognise it."""

    name: str  # of the file, without .tar.gz
    md5: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The files of a data set and the keys in them."""

    folder: str  # its usual name
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str  # the key of the labels in a batch
    names: str  # the key of the class names in the file `meta`
    archive: Archive | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    train=TRAIN,
    test=TEST,
    meta=META,
    labels="labels",
    names="label_names",
    archive=Archive(
        name="cifar-10-python",
        md5="c58f30108f718f92721af3b95e74349a",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    ),
)
CIFAR100 = Layout(
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
    archive=Archive(
        name="cifar-100-python",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
    ),
)
# Drawn images, in the layout of CIFAR-10. Each batch's label says that they are synthetic.
SYNTHETIC = Layout(
    folder="synthetic-batches-py",
    train=TRAIN,
    test=TEST,
    meta=META,
    labels="labels",
    names="label_names",
)
LAYOUTS = {"cifar10": CIFAR10, "cifar100": CIFAR100, "synthetic": SYNTHETIC}
