"""How images must lie in folders, seen by their names: no torch, and no image is read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from leanvit.data.class_names import CIFAR10_CLASSES
from leanvit.data.listing import open_source
from leanvit.data.source import Source
from leanvit.errors import LeanvitError, SharedError, first_of

Tree = dict[str, list[str]]  # class -> names of its images
Open = Callable[..., Source]
FOLDERS = TRAIN_FOLDER, TEST_FOLDER = "CIFAR10_imbalance", "CIFAR10_balance"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def open_parts(given: str | None, open: Open = open_source) -> tuple[Source, dict[str, str]]:
    """What ``data.source`` of data=folder names, and its folders train, test and perhaps val.

    Raises:
        LeanvitError: none is given, it cannot be listed, or has no training or test images.
    """
    opened = open(_given(given), _refuse_without_parts)
    _refuse_without_parts(opened)
    top = _top(opened)
    parts = ("train", "test", "val") if opened.has(f"{top}val") else ("train", "test")
    return opened, {part: f"{top}{part}" for part in parts}


def trees_of_parts(source: Source, folders: dict[str, str]) -> dict[str, Tree]:
    """The classes of train, test and perhaps val.

    Raises:
        SharedError: class folders without images, or classes that training lacks.
    """
    found = source.trees_below(*folders.values())
    trees = {part: found[folder] for part, folder in folders.items()}
    for part, tree in trees.items():
        if unknown := [label for label in tree if label not in trees["train"]]:
            raise SharedError(
                f"{part}/ of {source.path} has class {_quoted(unknown)}, which train/ lacks: add "
                "training images or remove it"
            )
    return trees


def untested(trees: dict[str, Tree]) -> list[str]:
    """A line for each part that lacks classes of train/."""
    lacking = {part: [label for label in trees["train"] if label not in tree]
               for part, tree in trees.items()}  # fmt: skip
    return [f"{part}/ has no class {_quoted(labels)}: no figure of it tells of them"
            for part, labels in lacking.items() if labels]  # fmt: skip


def open_classes(
    given: str | None, classes: Sequence[str], open: Open = open_source
) -> tuple[Source, str]:
    """Images to evaluate a net of these classes on, and their folder there: ``test``, or all.

    Raises:
        LeanvitError: none is given, it cannot be listed, or a folder is no class of the net.
    """

    def refuse_others(source: Source) -> None:
        labels = sorted(source.labels_below(_test(source)))
        known = meant(labels, classes)
        if others := [label for label in labels if label not in known]:
            raise LeanvitError(
                f"class folder {_quoted(others)} in {source.path} is none of the net's classes: "
                f"rename or remove it, they are {', '.join(classes)}"
            )

    opened = open(_given(given), refuse_others)
    refuse_others(opened)
    return opened, _test(opened)


def meant(labels: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """The class of each label that is one: of its name, or where all are numbers and no name has a
    digit, so that none could be meant, of its index."""
    has_digits = any(letter.isdigit() for label in classes for letter in label)
    is_named = has_digits or any(label in classes for label in labels)
    indices = {} if is_named else {str(k): label for k, label in enumerate(classes)}
    return indices | {label: label for label in classes}


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


def open_course(path: Path, open: Open = open_source) -> tuple[Source, tuple[str, str]]:
    """The course's folders or an archive of them, and the names of the two folders there.

    Raises:
        LeanvitError: it cannot be listed, or lacks one of them.
    """

    def find(source: Source) -> tuple[str, str]:
        return _find(source, TRAIN_FOLDER), _find(source, TEST_FOLDER)

    opened = open(path, find)
    return opened, find(opened)


def trees_of_course(source: Source, folders: tuple[str, str]) -> list[Tree]:
    """The ten classes of both folders, by CIFAR-10's names.

    Raises:
        SharedError: class folders without images, or classes other than those.
    """
    trees = []
    for tree in source.trees_below(*folders).values():
        classes, named = _class_names(tree, source), Tree()
        for label, names in tree.items():
            named.setdefault(classes[label], []).extend(names)
        trees.append(named)
    return trees


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
    tops = {name.split("/")[0] for name in source.all_folders()}
    if len(tops) == 1 and source.has(f"{(only := tops.pop())}/train"):
        return f"{only}/"
    return ""


def _find(source: Source, folder: str) -> str:
    """The one folder whose name starts with ``folder``, at the top or one folder down.

    Some copies hold it in a folder of the same name: then it is the inner one.
    """
    found = set()
    for name in source.all_folders():
        parts = name.split("/")
        for depth in (0, 1):
            if len(parts) > depth and parts[depth].startswith(folder):
                found.add("/".join(parts[: depth + 1]))
    found -= {name for name in found if any(other.startswith(f"{name}/") for other in found)}
    if not found:
        raise SharedError(
            f"{source.path} holds no folder {folder}*/: the course data has {TRAIN_FOLDER}*/<class>"
            f"/ and {TEST_FOLDER}*/<class>/; for train/ and test/ folders choose data=folder"
        )
    if len(found) > 1:
        raise SharedError(f"{source.path} holds several: {', '.join(sorted(found))}; keep one")
    return found.pop()


def _class_names(tree: Tree, source: Source) -> dict[str, str]:
    """Folders are named 0 to 9 or by the classes' names."""
    known = {str(k): name for k, name in enumerate(CIFAR10_CLASSES)} | {
        name: name for name in CIFAR10_CLASSES
    }
    if others := [label for label in tree if label not in known]:
        raise SharedError(
            f"class folder {_quoted(others)} in {source.path} is not one of CIFAR-10's (0 to 9, or "
            f"{', '.join(CIFAR10_CLASSES)}): for other classes choose data=folder"
        )
    missing = [name for name in CIFAR10_CLASSES if name not in {known[label] for label in tree}]
    if missing:
        raise SharedError(f"{source.path} lacks the class folder(s) {', '.join(missing)}")
    return known


def _quoted(labels: Sequence[str]) -> str:
    return first_of([*map(repr, labels)])
