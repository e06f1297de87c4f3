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

from leanvit.data.cifar10 import official
from leanvit.data.class_names import CIFAR10_CLASSES
from leanvit.data.decode import load_images
from leanvit.data.images import ImageSet, Splits
from leanvit.data.layout import left_in, open_course, trees_of_course
from leanvit.values import Count


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
    opened, folders = open_course(places[0])
    parts = []
    for folder, tree in zip(folders, trees_of_course(opened, folders), strict=True):
        opened.tell_left_out(folder)
        parts.append(
            load_images(opened, tree, CIFAR10_CLASSES, image_size, cache_dir, skip_unreadable)
        )
    return Splits(parts[0], parts[1], source="imbalanced CIFAR-10, course folders")


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
