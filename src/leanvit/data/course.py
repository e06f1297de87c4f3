"""The imbalanced CIFAR-10 of the published tables: 35,580 training and 4,870 test images.

Both parts are drawn from CIFAR-10's official *training* set and share no image. The training
classes hold 2,023 (truck) to 4,513 (deer) images, the test classes 487 each. The published
folders hold JPEG copies; cut from the official archive the same images come without JPEG's losses.
"""

import lzma
import sys
from importlib.resources import files
from pathlib import Path

import torch

from leanvit.data.cifar10 import CLASSES, official
from leanvit.data.decode import load_images
from leanvit.data.images import ImageSet, Splits
from leanvit.data.source import Source, open_source
from leanvit.errors import LeanvitError
from leanvit.values import Count

FOLDERS = TRAIN_FOLDER, TEST_FOLDER = "CIFAR10_imbalance", "CIFAR10_balance"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def course(
    source: str | None = None,
    data_dir: str = "data",
    image_size: Count = 32,
    skip_unreadable: bool = False,
) -> Splits:
    """The course's folders, or the same images cut from the official archive.

    Looked for in this order: ``source``; course folders or an archive of them in ``data_dir``; the
    official CIFAR-10 archive in ``data_dir``, downloaded by torchvision where it is missing.

    Args:
        source: folder, zip or tar that holds ``CIFAR10_imbalance*/<class>/`` and
            ``CIFAR10_balance*/<class>/``, itself or one folder further down.

    Raises:
        LeanvitError: the images are nowhere, or the tree is not the course's.
    """
    cache_dir = Path(data_dir) / "cache"
    places = [Path(source)] if source else left_in(Path(data_dir))
    if not places:
        return _from_official(Path(data_dir), image_size)
    if others := ", ".join(map(str, places[1:])):
        print(
            f"{data_dir} holds several course sets: taking {places[0]}, not {others}; keep one, or "
            "name it by data.source=",
            file=sys.stderr,
        )
    opened = open_source(places[0], lambda source: [_find(source, each) for each in FOLDERS])
    parts = []
    for folder in FOLDERS:
        tree = opened.classes_below(_find(opened, folder))
        classes = _class_names(tree, opened)
        named: dict[str, list[str]] = {}
        for label, names in tree.items():
            named.setdefault(classes[label], []).extend(names)
        parts.append(load_images(opened, named, CLASSES, image_size, cache_dir, skip_unreadable))
    return Splits(parts[0], parts[1], source="imbalanced CIFAR-10, course folders")


def left_in(data_dir: Path) -> list[Path]:
    """Course folders and archives of them that ``make data`` or a person left in ``data_dir``; the
    first is the one that is taken."""
    if not data_dir.is_dir():
        return []
    found = [data_dir] if any(data_dir.glob(f"{TRAIN_FOLDER}*")) else []
    for entry in sorted(data_dir.glob("[!.]*")):  # a hidden one is half written
        if entry.name.startswith((TRAIN_FOLDER, TEST_FOLDER)):
            continue  # a part of data_dir's own
        if (
            any(entry.glob(f"{TRAIN_FOLDER}*"))
            or any(entry.glob(f"*/{TRAIN_FOLDER}*"))
            or (entry.name.endswith(ARCHIVES) and "course" in entry.name.lower())
        ):
            found.append(entry)
    return found


def _find(source: Source, folder: str) -> str:
    """The one folder whose name starts with ``folder``, at the top or one folder down.

    Some copies hold it in a folder of the same name: then it is the inner one.
    """
    found = set()
    for name in [*source.files, *source.folders]:
        parts = name.split("/")
        for depth in (0, 1):
            if len(parts) > depth and parts[depth].startswith(folder):
                found.add("/".join(parts[: depth + 1]))
    found -= {name for name in found if any(other.startswith(f"{name}/") for other in found)}
    if not found:
        raise LeanvitError(
            f"{source.path} holds no folder {folder}*/: the course data has {TRAIN_FOLDER}*/<class>"
            f"/ and {TEST_FOLDER}*/<class>/; for train/ and test/ folders choose data=folder"
        )
    if len(found) > 1:
        raise LeanvitError(f"{source.path} holds several: {', '.join(sorted(found))}; keep one")
    return found.pop()


def _class_names(tree: dict[str, list[str]], source: Source) -> dict[str, str]:
    """Folders are named 0 to 9 or by the classes' names."""
    known = {str(k): name for k, name in enumerate(CLASSES)} | {name: name for name in CLASSES}
    for label in tree:
        if label not in known:
            raise LeanvitError(
                f"class folder {label!r} in {source.path} is not one of CIFAR-10's (0 to 9, or "
                f"{', '.join(CLASSES)}): for other classes choose data=folder"
            )
    missing = [name for name in CLASSES if name not in {known[label] for label in tree}]
    if missing:
        raise LeanvitError(f"{source.path} lacks the class folder(s) {', '.join(missing)}")
    return {label: known[label] for label in tree}


def split_marks() -> str:
    """50,000 characters, one for each official training index: 1 train, 2 test, "." neither."""
    packed = files("leanvit.data").joinpath("course_split.txt.xz").read_bytes()
    return lzma.decompress(packed).decode()


def _from_official(data_dir: Path, image_size: int) -> Splits:
    whole = official(data_dir, train=True, image_size=image_size)
    marks = torch.frombuffer(bytearray(split_marks().encode()), dtype=torch.uint8)
    parts: list[ImageSet] = [
        whole.subset((marks == ord(mark)).nonzero()[:, 0]) for mark in ("1", "2")
    ]
    source = "imbalanced CIFAR-10, course split of the official archive"
    return Splits(parts[0], parts[1], source=source)
