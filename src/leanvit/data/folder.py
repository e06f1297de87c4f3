"""Any image folder: train/<class>/..., test/<class>/... and, if there is one, val/<class>/..."""

import sys
from collections.abc import Iterable
from pathlib import Path

from leanvit.data.decode import load_images
from leanvit.data.images import ImageSet, Splits
from leanvit.data.pixels import Fit
from leanvit.data.source import Source, open_source
from leanvit.errors import LeanvitError
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
    opened = open_source(_given(source), _refuse_without_parts)
    top = _top(opened)
    cache_dir = Path(data_dir) / "cache"
    trees = {
        part: opened.classes_below(f"{top}{part}")
        for part in ("train", "test", "val")
        if part != "val" or opened.has(f"{top}val")
    }
    classes = tuple(trees["train"])
    sets = {}
    for part, tree in trees.items():
        unknown = [label for label in tree if label not in classes]
        if unknown:
            raise LeanvitError(
                f"{part}/ of {opened.path} has class {unknown[0]!r}, which train/ lacks: add its "
                "training images or remove it"
            )
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
    has_digits = any(letter.isdigit() for label in classes for letter in label)

    def meant(labels: Iterable[str]) -> dict[str, str]:
        """The class of each label that is one: of its name, or where all are numbers, its index."""
        is_named = has_digits or any(label in classes for label in labels)
        indices = {} if is_named else {str(k): label for k, label in enumerate(classes)}
        return indices | {label: label for label in classes}

    def refuse_others(source: Source) -> None:
        labels = sorted(source.labels_below(_test(source)))
        known = meant(labels)
        for label in labels:
            if label not in known:
                raise LeanvitError(
                    f"class folder {label!r} in {source.path} is none of the net's classes: rename "
                    f"or remove it, they are {', '.join(classes)}"
                )

    opened = open_source(_given(source), refuse_others)
    refuse_others(opened)
    found = opened.classes_below(_test(opened))
    known = meant(found)
    tree: dict[str, list[str]] = {}
    for label, names in found.items():
        if label not in classes:
            print(f"class folder {label} is taken for class {known[label]}", file=sys.stderr)
        tree.setdefault(known[label], []).extend(names)
    place = image_size, Path(data_dir) / "cache"
    return load_images(opened, tree, classes, *place, skip_unreadable, memory_gib, fit)


def _given(source: str | None) -> Path:
    if not source:
        raise LeanvitError("data=folder needs data.source=<folder with train/ and test/>")
    return Path(source)


def _refuse_without_parts(source: Source) -> None:
    top = _top(source)
    for part in ("train", "test"):
        if not source.has(f"{top}{part}"):
            raise source.no_classes(f"{top}{part}")


def _test(source: Source) -> str:
    """The folder of the classes to evaluate on."""
    return next((f"{top}test" for top in ("", _top(source)) if source.has(f"{top}test")), "")


def _top(source: Source) -> str:
    """ "" where train/ lies at the top, "x/" where the copy is nested in one folder x."""
    if source.has("train"):
        return ""
    tops = {name.split("/")[0] for name in (*source.files, *source.folders)}
    if len(tops) == 1 and source.has(f"{(only := tops.pop())}/train"):
        return f"{only}/"
    return ""
