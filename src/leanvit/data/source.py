"""A folder, a zip or a tar of images, seen as one list of names."""

import functools
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from leanvit.data.pixels import endings
from leanvit.errors import SharedError, first_of

# what systems leave beside images, hidden files aside
SYSTEM = {"__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN", "lost+found"}
SYSTEM |= {"System Volume Information", "__pycache__", "Thumbs.db", "desktop.ini"}


@dataclass
class Source:
    """Where images are read from.

    Attributes:
        path: the folder or the archive.
        read: bytes of the file of that name.
        place: what tells it apart from another one of the same names and stamps.
        files: stamp of each image file (its size and times or checksum) by name, "/" between parts.
        folders: every folder, so that an empty one can be named.
        others: what is no image by its name, hidden files and those of systems aside.
        hidden: folders whose names begin with a dot, those of systems aside.
    """

    path: Path
    read: Callable[[str], bytes]
    place: str = ""
    files: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def add(self, name: str, stamp: str) -> None:
        """List a file."""
        if is_image(name):
            self.files[name] = stamp
        elif not is_hidden(name):
            self.others.append(name)
        elif is_hidden(above := name.rpartition("/")[0]):
            self.add_folder(above)

    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""
        return any(f"{name}/".startswith(f"{folder}/") for name in self.all_folders())

    def add_folder(self, name: str) -> None:
        """List a folder."""
        above, _, own = name.rpartition("/")
        if name == ".":  # the top, which tar lists
            return
        if not is_hidden(name):
            self.folders.add(name)
        elif own not in SYSTEM and not is_hidden(above):
            self.hidden.add(name)

    def classes_below(self, folder: str) -> dict[str, list[str]]:
        """:meth:`trees_below` of one folder; what is left out of it is said."""
        tree = self.trees_below(folder)[folder]
        self.tell_left_out(folder)
        return tree

    def trees_below(self, *folders: str) -> dict[str, dict[str, list[str]]]:
        """Of each folder class name -> sorted image names, for ``folder/<class>/...``.

        Raises:
            SharedError: no class folder in one, or class folders without images, all of them.
        """
        trees = {folder: {label: [] for label in sorted(self.labels_below(folder))}
                 for folder in folders}  # type: dict[str, dict[str, list[str]]]  # fmt: skip
        for folder, tree in trees.items():
            if not tree:
                raise self.no_classes(folder)
            for name, parts in self._parts_below(folder):
                if len(parts) > 1:
                    tree[parts[0]].append(name)
        empty = [PurePosixPath(folder, label).as_posix() for folder, tree in trees.items()
                 for label, names in tree.items() if not names]  # fmt: skip
        if empty:
            raise self._without_images(empty)
        return trees

    def _parts_below(self, folder: str) -> Iterator[tuple[str, list[str]]]:
        """Sorted names of the images below a folder, and what follows the folder in each."""
        prefix = f"{folder}/" if folder else ""
        for name in sorted(self.files):
            if name.startswith(prefix):
                yield name, name.removeprefix(prefix).split("/")

    def _without_images(self, empty: list[str]) -> SharedError:
        """Class folders that hold none."""
        below = tuple(f"{each}/" for each in empty)
        others = kinds_of([name for name in self.others if name.startswith(below)])
        what = first_of([f"{self.path}/{each}" for each in empty])
        folders, hold, them = (
            ("folders", "hold", "them") if len(empty) > 1 else ("folder", "holds", "the folder")
        )
        return SharedError(
            f"class {folders} {what} {hold} no image that Pillow reads"
            f"{others and f', but {others}'}: add some or remove {them}"
        )

    def tell_left_out(self, folder: str) -> None:
        """Say what below a folder is of no class."""
        prefix = f"{folder}/" if folder else ""
        loose = sum(len(parts) == 1 for _, parts in self._parts_below(folder))
        left_out = [f"{loose:,} of the images, in no class folder"] if loose else []
        if others := kinds_of([name for name in self.others if name.startswith(prefix)]):
            left_out.append(f"{others}, no images by their names")
        if hidden := [name.removeprefix(prefix) for name in self.hidden if name.startswith(prefix)]:
            told = ", ".join(sorted(hidden)[:5])
            left_out.append(f"hidden folders ({len(hidden):,}): {told}")
        if left_out:
            print(f"left out of {self.path / folder}: {'; '.join(left_out)}", file=sys.stderr)

    def labels_below(self, folder: str) -> set[str]:
        """Names of the folders in a folder; an archive may list them by their files alone."""
        prefix = f"{folder}/" if folder else ""
        inner = (name for name in self.all_folders() if name and name.startswith(prefix))
        return {name.removeprefix(prefix).split("/")[0] for name in inner}

    def all_folders(self) -> set[str]:
        """Those listed, and those that an archive lists by their files alone; "" is the top."""
        return self.folders | {name.rpartition("/")[0] for name in self.files}

    def no_classes(self, folder: str) -> SharedError:
        """Why there are none in a folder."""
        place, why = self.path / folder, ""
        if not self.path.is_dir() and any("\\" in name for name in self.files):
            why = "; its names have \\ as well as /, pack it again with / alone"
        return SharedError(f"no class folders in {place}: expected {place}/<class>/<image>{why}")

    def fingerprint(self, names: list[str]) -> str:
        """Changes when any of these files is added, removed, renamed or written again."""
        digest = hashlib.sha256(self.place.encode(errors="surrogateescape"))
        for name in names:
            digest.update(f"{name}\0{self.files[name]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    own = name[name.rfind("/") + 1 :]
    dot = own.rfind(".")  # as pathlib's suffix, which takes a second for 40,000 names
    return dot > 0 and own[dot:].lower() in endings() and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether any part of a name is hidden, or some system's."""
    above, _, own = name.rpartition("/")
    return (own[:1] == "." and own != ".") or own in SYSTEM or (above != "" and _is_hidden(above))


_is_hidden = functools.lru_cache(maxsize=1024)(is_hidden)  # of few folders, thousands of times


def kinds_of(names: list[str]) -> str:
    """``12 .txt, 1 without an ending``; the most frequent first, at most five."""
    suffixes = (PurePosixPath(name).suffix.lower() or "without an ending" for name in names)
    kinds = Counter(suffixes).most_common()
    told = [f"{count:,} {suffix}" for suffix, count in kinds[:5]]
    rest = sum(count for _, count in kinds[5:])
    return ", ".join([*told, f"{rest:,} others"] if rest else told)
