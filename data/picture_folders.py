"""Find the classes, the splits and the files in a folder of pictures.

A folder for each class is enough: FOLDER/cat, FOLDER/dog. Folders that are split already are
understood: FOLDER/train/cat, FOLDER/val/cat, FOLDER/test/cat, or FOLDER/cat/train.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.layouts import MAX_CLASSES
from data.pickles import DataError
from data.picture_files import SUFFIXES, is_passed_over
from support.cli import clean, shorter

HIDDEN = "hidden or system files"
MAX_WRAPPERS = 3  # folders that hold nothing but the next one
NAMED = 4  # folders that a note names

# Names of folders in a split that hold all of its pictures.
_NO_CLASSES = ("all", "data", "images", "photos", "pictures", "unknown", "unlabeled", "unlabelled")

# Names of splits, without digits and signs: train, Training, training_set, seg_train, val2017; and
# the usual words of other languages.
_TRAIN = "train|trainings?|trn|entrenamiento|entra[iî]nement|treino|训练|訓練|学習|훈련|학습"
_VAL = "val|valid|validation|dev|validaci[oó]n|validierungs?|valida[cç][aã]o|验证|驗證|検証|검증"
_TEST = "test|testing|tests|tst|eval|evaluation|prueba|pruebas|teste|测试|測試|テスト|테스트"
_ROLE = re.compile(
    "(?:seg|images?|imgs|data|set)*"
    f"(?:(?P<train>{_TRAIN})|(?P<val>{_VAL})|(?P<test>{_TEST}))"
    "(?:set|data|images?|imgs|split|folder|daten|集|数据|數據|データ|セット|세트)*"
)


@dataclass
class PictureLayout:
    """The classes and splits of a folder of pictures.

    splits has the key "train" and maybe "test". Each value lists the folders of a split, with
    the number of their class. notes: what was understood or left out, a line each. around: the
    folders in which the splits and classes are.
    """

    root: Path
    classes: list[str]
    splits: dict[str, list[tuple[int, Path]]]
    notes: list[str] = field(default_factory=list)
    around: list[Path] = field(default_factory=list)


def find_layout(folder: Path) -> PictureLayout:
    """Return the layout of a folder of pictures. Raises DataError if it has none."""
    if not folder.is_dir():
        raise DataError(
            f"{_shown(folder)}: is no folder; name one that holds a folder of pictures for each "
            "class"
        )
    root = _unwrapped(folder)
    parts = _parts(root)
    if parts:
        layout = _split_layout(root, parts)
    elif _is_split_below(root):
        layout = _layout_split_below(root)
    else:
        layout = _plain_layout(root)
    if root != folder:
        layout.notes.insert(0, f"the classes are those in {_shown(root)}")
    tops = [top for folders in layout.splits.values() for _, top in folders]
    around = {root, folder, *(top.parent for top in tops)}
    layout.around = sorted(around)
    return layout


def _shown(path: Path) -> str:
    return clean(shorter(path), 120)


# ---- Folders and their names ---------------------------------------------------------------


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, by name, without those that are passed over."""
    entries = [entry for entry in folder.iterdir() if not is_passed_over(entry.name)]
    return sorted(entry for entry in entries if entry.is_dir())


def _count_files(folder: Path) -> int:
    """Return the number of files in `folder`, without those that are passed over."""
    entries = [entry for entry in folder.iterdir() if not is_passed_over(entry.name)]
    return sum(not entry.is_dir() for entry in entries)


def _loose_files(folder: Path) -> list[str]:
    """Return the note on files that lie next to the folders in `folder`, if there are any."""
    count = _count_files(folder)
    if not count:
        return []
    return [f"left out: files in {_shown(folder)} that are in none of its folders: {count:,}"]


def _unwrapped(folder: Path) -> Path:
    """Return the folder that has several folders in it, below ones that hold only the next."""
    inner = folder
    for _ in range(MAX_WRAPPERS):
        below = subfolders(inner)
        if len(below) != 1 or _holds_pictures(inner):
            break
        inner = below[0]
        if len(subfolders(inner)) > 1:
            return inner
    return folder


def _holds_pictures(folder: Path) -> bool:
    return any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())


def role(name: str) -> str | None:
    """Return the split that a folder's name says: "train", "val" or "test"; None for others."""
    composed = unicodedata.normalize("NFC", name)
    letters = re.sub(r"[\W\d_]+", "", composed.casefold())
    found = _ROLE.fullmatch(letters)
    return found.lastgroup if found else None


def _class_name(folder: Path) -> str:
    """Return a class's name. On a Mac, names may be decomposed: e and an accent for é."""
    return unicodedata.normalize("NFC", folder.name)


def _check_classes(root: Path, names: Sequence[str]) -> None:
    """Raise DataError unless these can be the classes of a data set."""
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{_shown(root)}: holds {len(names):,} subfolders; it needs one for each class, 2 to "
            f"{MAX_CLASSES:,} of them"
        )
    for name, count in Counter(names).items():
        if not name.isprintable():
            raise DataError(
                f"{_shown(root)}: holds a class whose name is not printable, {clean(name, 60)}; "
                "rename its folder"
            )
        if count > 1:
            raise DataError(
                f"{_shown(root)}: holds two folders called {clean(name, 60)}; rename one"
            )


# ---- Layouts -------------------------------------------------------------------------------


def _plain_layout(root: Path) -> PictureLayout:
    """Return the layout of FOLDER/cat, FOLDER/dog."""
    folders = subfolders(root)
    names = [_class_name(folder) for folder in folders]
    _check_classes(root, names)
    notes = _like_splits(folders) + _loose_files(root)
    return PictureLayout(root, names, {"train": list(enumerate(folders))}, notes)


def _like_splits(folders: Sequence[Path]) -> list[str]:
    """Return the note that folders of classes look like splits, if they do.

    Splits hold folders of the same names, their classes: fold1/cat, fold1/dog, fold2/cat.
    """
    inner = {folder: {_class_name(each) for each in subfolders(folder)} for folder in folders}
    counts = Counter(name for names in inner.values() for name in names)
    shared = sorted(name for name, count in counts.items() if count > 1)
    alike = [folder.name for folder in folders if not inner[folder].isdisjoint(shared)]
    if not shared or (len(shared) == 1 and not any(map(role, alike))):
        return []
    outer = ", ".join(f"{clean(name, 40)}/" for name in alike[:NAMED])
    below = ", ".join(clean(name, 40) for name in shared[:NAMED])
    return [
        f"note: the classes {outer} hold folders of the same names ({below}); if they are splits, "
        "call them train and test"
    ]


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of the splits in `root` by role, {} if its folders are classes.

    A folder called train may be a class, next to plane and car. It is a split if folders of
    classes are in it, and if there is another split, or nothing else.

    Raises DataError if all folders are called like splits, but hold no folders of classes.
    """
    folders = subfolders(root)
    by_role: dict[str, list[Path]] = {}
    for folder in folders:
        name = role(folder.name)
        if name:
            by_role.setdefault(name, []).append(folder)
    others = [folder for folder in folders if role(folder.name) is None]
    training = by_role.get("train", [])
    if any(subfolders(folder) for folder in training) and (len(by_role) > 1 or not others):
        for same in by_role.values():
            if len(same) > 1:
                names = " and ".join(f"{clean(folder.name, 60)}/" for folder in same)
                raise DataError(f"{_shown(root)}: holds {names}, one split twice; merge them")
        return {name: same[0] for name, same in by_role.items()}
    if folders and not others:
        names = " and ".join(f"{clean(folder.name, 60)}/" for folder in folders)
        raise DataError(
            f"{_shown(root)}: holds {names}, which are splits, not classes; make a folder for "
            "each class in each, for training at least"
        )
    return {}


def _split_layout(root: Path, parts: dict[str, Path]) -> PictureLayout:
    """Return the layout of FOLDER/train/cat, FOLDER/val/cat, FOLDER/test/cat."""
    notes = _loose_files(root)
    classes: dict[str, list[Path]] = {}
    for name, part in parts.items():
        inner = _unwrapped(part)
        classes[name] = subfolders(inner)
        if classes[name]:
            notes += _loose_files(inner)
    names = [_class_name(folder) for folder in classes["train"]]
    _check_classes(parts["train"], names)
    for name, part in parts.items():
        if _is_unlabelled(classes[name], names):
            count = sum(_count_files(folder) for folder in [part, *classes[name]])
            classes[name] = []
            notes.append(
                f"left out: {_shown(part)}, {count:,} files without folders of classes; classify "
                "them with test.py --images"
            )
    for name, folders in classes.items():
        for folder in folders:
            if _class_name(folder) not in names:
                raise DataError(
                    f"{_shown(folder)}: is a class that {parts['train'].name}/ doesn't have; "
                    f"rename or delete it, or the folder {clean(parts[name].name, 60)}"
                )
    numbered = {name: _numbered(folders, names) for name, folders in classes.items()}
    if numbered.get("val"):
        notes.append(_note_on_validation(_shown(parts["val"]), numbered))
    for folder in subfolders(root):
        if folder not in parts.values():
            notes.append(f"left out: {_shown(folder)}, which is no split")
    return PictureLayout(root, names, _two_splits(numbered), notes)


def _note_on_validation(shown: str, found: dict[str, list[tuple[int, Path]]]) -> str:
    """Return the note on what `_two_splits` makes of the validation folders."""
    use = "part of the training split" if found.get("test") else "the test split"
    return f"{shown}: {use}"


def _two_splits(found: dict[str, list[tuple[int, Path]]]) -> dict[str, list[tuple[int, Path]]]:
    """Return the training split, and the test split if there is one.

    Validation folders are the test split if there is no other, else part of the training split.
    """
    training, validation, test = (found.get(name, []) for name in ("train", "val", "test"))
    if test:
        return {"train": training + validation, "test": test}
    if validation:
        return {"train": training, "test": validation}
    return {"train": training}


def _is_unlabelled(folders: Sequence[Path], names: Sequence[str]) -> bool:
    """Return whether the folders in a split are no classes: none, or test/images, val/unknown."""
    others = [folder.name for folder in folders if _class_name(folder) not in names]
    all_other = len(others) == len(folders)
    return all_other and all(each.casefold() in _NO_CLASSES or role(each) for each in others)


def _numbered(folders: Sequence[Path], names: Sequence[str]) -> list[tuple[int, Path]]:
    """Return the folders of classes with the numbers of the classes."""
    return [(names.index(_class_name(folder)), folder) for folder in folders]


def _is_split_below(root: Path) -> bool:
    """Return whether all classes are split: FOLDER/cat/train, FOLDER/cat/test."""
    folders = subfolders(root)
    for folder in folders:
        roles = [role(each.name) for each in subfolders(folder)]
        if "train" not in roles or None in roles or len(roles) != len(set(roles)):
            return False
    return len(folders) > 1


def _layout_split_below(root: Path) -> PictureLayout:
    """Return the layout of FOLDER/cat/train, FOLDER/cat/test."""
    folders = subfolders(root)
    names = [_class_name(folder) for folder in folders]
    _check_classes(root, names)
    found: dict[str, list[tuple[int, Path]]] = {"train": [], "val": [], "test": []}
    notes = _loose_files(root)
    for label, folder in enumerate(folders):
        for part in subfolders(folder):
            found[role(part.name)].append((label, part))
        notes += _loose_files(folder)
    if found["val"]:
        notes.append(_note_on_validation("the validation folders", found))
    return PictureLayout(root, names, _two_splits(found), notes)


# ---- Files ---------------------------------------------------------------------------------


@dataclass
class Files:
    """The files of a split, with the number of their class, and counts of what was passed over."""

    found: list[tuple[int, Path]] = field(default_factory=list)
    passed_over: Counter = field(default_factory=Counter)


def find_files(layout: PictureLayout) -> dict[str, Files]:
    """Return the files of each split, in the order of their names.

    Links are followed, but nothing is read twice: a file or folder that is in another folder of
    the data set, or above it, is passed over if a link leads to it.
    """
    walk = _Walk(layout)
    files = {split: walk.files(folders) for split, folders in layout.splits.items()}
    listings = [walk.listing(folder) for folder in layout.around]
    hidden = sum(listing.hidden for listing in listings if listing)
    files["train"].passed_over[HIDDEN] += hidden
    return files


@dataclass
class _Listing:
    """The entries of a folder, without those that are passed over, which are counted."""

    files: list[Path]
    folders: list[Path]
    hidden: int


class _Walk:
    """A walk through the folders of a data set, which may be deep, and linked to each other."""

    def __init__(self, layout: PictureLayout) -> None:
        self.listings: dict[Path, _Listing | None] = {}
        # Identities of what no link may lead to: it has been read, or will be.
        self.taken = {_identity(layout.root)}
        self.taken.update(_identity(folder) for folder in layout.root.resolve().parents)
        tops = [folder for folders in layout.splits.values() for _, folder in folders]
        self.taken.update(_identity(top.parent) for top in tops)
        for top in sorted(tops, key=os.path.islink):  # links last
            self._take(top)
        self.taken.discard(None)

    def _take(self, top: Path) -> None:
        """List a folder and all below it, without following links, and take what is there."""
        if _identity(top) in self.taken:
            raise DataError(
                f"{_shown(top)}: is a link to a folder of this data set; delete the link"
            )
        pending = [top]
        while pending:
            folder = pending.pop()
            identity = _identity(folder)
            listing = self.listing(folder)
            if listing is None or identity in self.taken:
                continue
            self.taken.add(identity)
            pending += [each for each in listing.folders if not each.is_symlink()]
            files = [each for each in listing.files if not each.is_symlink()]
            self.taken.update(_identity(each) for each in files)

    def listing(self, folder: Path) -> _Listing | None:
        """Return the entries of a folder, None if the system refuses to read it."""
        if folder not in self.listings:
            self.listings[folder] = _list_folder(folder)
        return self.listings[folder]

    def files(self, folders: Sequence[tuple[int, Path]]) -> Files:
        """Return the files in these folders of classes."""
        files = Files()
        for label, top in folders:
            files.found += [(label, path) for path in self._files_below(top, files.passed_over)]
        return files

    def _files_below(self, top: Path, passed_over: Counter) -> Iterator[Path]:
        pending = [(top, False)]  # folders, and whether a link led there
        while pending:
            folder, linked = pending.pop()
            listing = self.listing(folder)
            if listing is None:
                passed_over["unreadable folders"] += 1
                continue
            passed_over[HIDDEN] += listing.hidden
            for path in listing.files:
                if self._is_new(path, linked):
                    yield path
                else:
                    passed_over["links to other pictures of this data set"] += 1
            inner = []
            for path in listing.folders:
                if self._is_new(path, linked):
                    inner.append((path, linked or path.is_symlink()))
                else:
                    passed_over["links to folders of this data set"] += 1
            pending += reversed(inner)

    def _is_new(self, path: Path, linked: bool) -> bool:
        """Return whether a path is to be read. If a link led there, it is taken now."""
        if not linked and not path.is_symlink():
            return True
        identity = _identity(path)
        if identity is None:  # a link to nothing, which is reported when it is read
            return True
        if identity in self.taken:
            return False
        self.taken.add(identity)
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from all others, None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _list_folder(folder: Path) -> _Listing | None:
    """Return the entries of a folder, None if the system refuses to read it."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    visible = [folder / name for name in names if not is_passed_over(name)]
    folders = [path for path in visible if os.path.isdir(path)]
    files = [path for path in visible if not os.path.isdir(path)]
    return _Listing(files, folders, len(names) - len(visible))
