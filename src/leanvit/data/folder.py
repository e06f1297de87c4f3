"""Any image folder: train/<class>/..., test/<class>/... and, if there is one, val/<class>/..."""

import sys
from pathlib import Path

from leanvit.data.decode import load_images
from leanvit.data.images import ImageSet, Splits
from leanvit.data.layout import Tree, meant, open_classes, open_parts, trees_of_parts, untested
from leanvit.data.pixels import Fit
from leanvit.values import Count, NonNegative


def folder(
    source: str | None = None,
    data_dir: str = "data",
    image_size: Count = 32,
    skip_unreadable: bool = False,
    memory_gib: NonNegative | None = None,
    fit: Fit = "stretch",
) -> Splits:
    """Images of any size and class names, resized to ``image_size``.

    Args:
        source: folder, zip or tar with ``train/`` and ``test/`` (and ``val/``), itself or one
            folder further down. Classes are the folders of ``train/``, sorted by name.
        memory_gib, fit: see :func:`leanvit.data.decode.load_images`.

    Raises:
        LeanvitError: a missing or empty folder, or a class that training lacks.
    """
    opened, folders = open_parts(source)
    trees = trees_of_parts(opened, folders)
    for line in untested(trees):
        print(line, file=sys.stderr)
    classes, cache_dir, sets = tuple(trees["train"]), Path(data_dir) / "cache", {}
    for part, tree in trees.items():
        opened.tell_left_out(folders[part])
        sets[part] = load_images(
            opened, tree, classes, image_size, cache_dir, skip_unreadable, memory_gib, fit
        )
    return Splits(sets["train"], sets["test"], sets.get("val"), f"image folder {opened.path}")


def images_of_classes(
    source: str | None,
    classes: tuple[str, ...],
    data_dir: str,
    image_size: int,
    skip_unreadable: bool = False,
    memory_gib: float | None = None,
    fit: Fit = "stretch",
) -> ImageSet:
    """Images to evaluate a trained net on: ``test/<class>/...`` or ``<class>/...``.

    Args:
        classes: those of the trained net; folders bear their names, or all of them indices where
            no name has a digit, so that none could be meant.

    Raises:
        LeanvitError: a folder that is no class of the net.
    """
    opened, top = open_classes(source, classes)
    found = opened.classes_below(top)
    known, tree = meant(found, classes), Tree()
    for label, names in found.items():
        if label not in classes:
            print(f"class folder {label} is taken for class {known[label]}", file=sys.stderr)
        tree.setdefault(known[label], []).extend(names)
    place = image_size, Path(data_dir) / "cache"
    return load_images(opened, tree, classes, *place, skip_unreadable, memory_gib, fit)
