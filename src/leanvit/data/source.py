"""A folder, a zip or a tar of images, seen as one list of names."""

import hashlib
import os
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from leanvit.data.images import MAX_BYTES, one_line, read_file, refuse_large
from leanvit.data.pixels import endings
from leanvit.errors import LeanvitError, SharedError

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
        names = (*self.files, *self.folders)
        return any(name == folder or name.startswith(f"{folder}/") for name in names)

    def add_folder(self, name: str) -> None:
        """List a folder."""
        above, _, own = name.rpartition("/")
        if name != "." and not is_hidden(name):
            self.folders.add(name)
        elif own not in SYSTEM and not is_hidden(above):
            self.hidden.add(name)

    def classes_below(self, folder: str) -> dict[str, list[str]]:
        """Class name -> sorted image names, for ``folder/<class>/...``; what is left out is said.

        Raises:
            LeanvitError: a class folder without images, or no class folder at all.
        """
        prefix = f"{folder}/" if folder else ""
        depth = len(PurePosixPath(folder).parts)
        found: dict[str, list[str]] = {label: [] for label in self.labels_below(folder)}
        loose = 0
        for name in sorted(self.files):
            parts = PurePosixPath(name).parts
            if name.startswith(prefix) and len(parts) > depth + 1:
                found.setdefault(parts[depth], []).append(name)
            loose += name.startswith(prefix) and len(parts) == depth + 1
        place = self.path / folder
        if not found:
            raise self.no_classes(folder)
        for label, names in found.items():
            if not names:
                others = kinds_of([n for n in self.others if n.startswith(f"{prefix}{label}/")])
                raise LeanvitError(
                    f"class folder {place}/{label} holds no image that Pillow reads"
                    f"{others and f', but {others}'}: add some or remove the folder"
                )
        left_out = [f"{loose:,} of the images, in no class folder"] if loose else []
        if others := kinds_of([name for name in self.others if name.startswith(prefix)]):
            left_out.append(f"{others}, no images by their names")
        if hidden := [name.removeprefix(prefix) for name in self.hidden if name.startswith(prefix)]:
            told = ", ".join(sorted(hidden)[:5])
            left_out.append(f"hidden folders ({len(hidden):,}): {told}")
        if left_out:
            print(f"left out of {place}: {'; '.join(left_out)}", file=sys.stderr)
        return dict(sorted(found.items()))

    def labels_below(self, folder: str) -> set[str]:
        """Names of the folders in a folder; an archive may list them by their files alone."""
        depth = len(PurePosixPath(folder).parts)
        prefix = f"{folder}/" if folder else ""
        above = [name for name in self.folders if name.startswith(prefix)]
        above += [name.rpartition("/")[0] for name in self.files if name.startswith(prefix)]
        parts = (PurePosixPath(name).parts for name in set(above))
        return {each[depth] for each in parts if len(each) > depth}

    def no_classes(self, folder: str) -> LeanvitError:
        """Why there are none in a folder."""
        place, why = self.path / folder, ""
        if not self.path.is_dir() and any("\\" in name for name in self.files):
            why = "; its names have \\ as well as /, pack it again with / alone"
        return LeanvitError(f"no class folders in {place}: expected {place}/<class>/<image>{why}")

    def fingerprint(self, names: list[str]) -> str:
        """Changes when any of these files is added, removed, renamed or written again."""
        digest = hashlib.sha256(self.place.encode(errors="surrogateescape"))
        for name in names:
            digest.update(f"{name}\0{self.files[name]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_source(path: Path, look: Callable[[Source], object] = lambda source: None) -> Source:
    """List a folder, a zip or a (compressed) tar.

    Args:
        look: refuses what is laid out otherwise, by what lies in the folder and in the folders in
            it: the whole of another one, as of ``/``, is not walked through.

    Raises:
        LeanvitError: nothing there, or neither a folder nor a readable archive.
    """
    path = path.expanduser()
    if path.is_dir():
        look(_folder(path, depth=2))
        return _folder(path)
    if not path.exists():
        raise SharedError(f"data source {path} does not exist: give data.source=<folder or zip>")
    if not path.is_file():
        raise LeanvitError(f"data source {path} is neither a folder nor a regular file")
    try:
        if zipfile.is_zipfile(path):
            return _zip(path)
        if tarfile.is_tarfile(path):
            return _tar(path)
    except Exception as error:  # the compressions have an exception each
        why = one_line(error)
        raise SharedError(f"archive {path} cannot be read ({why}): copy it again") from error
    raise SharedError(
        f"data source {path} is no folder, zip or tar, or it is cut off: copy it again"
    )


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    own = name[name.rfind("/") + 1 :]
    dot = own.rfind(".")  # as pathlib's suffix, which takes a second for 40,000 names
    return dot > 0 and own[dot:].lower() in endings() and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether any part of a name is hidden, or some system's."""
    parts = name.split("/")
    return any((part[:1] == "." and part != ".") or part in SYSTEM for part in parts)


def kinds_of(names: list[str]) -> str:
    """``12 .txt, 1 without an ending``; the most frequent first, at most five."""
    suffixes = (PurePosixPath(name).suffix.lower() or "without an ending" for name in names)
    kinds = Counter(suffixes).most_common()
    told = [f"{count:,} {suffix}" for suffix, count in kinds[:5]]
    rest = sum(count for _, count in kinds[5:])
    return ", ".join([*told, f"{rest:,} others"] if rest else told)


def _folder(path: Path, depth: int | None = None) -> Source:
    """
    Args:
        depth: of the folders that are listed, and then without the stamps of files; ``None``: all.
    """
    source = Source(path, lambda name: read_file(path / name), str(path.resolve()))

    def walk(folder: Path, above: frozenset[tuple[int, int]]) -> None:
        stat = folder.stat()
        if (here := (stat.st_dev, stat.st_ino)) in above:
            return  # a link back to a folder that it lies in
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = folder / entry.name
                name = inner.relative_to(path).as_posix()
                # a link that leads round in a circle is no folder to pathlib, an error to os
                if not (inner.is_dir() if entry.is_symlink() else entry.is_dir()):
                    source.add(name, _stamp(entry) if depth is None else "")
                    continue
                source.add_folder(name)
                if is_hidden(name):
                    continue
                if depth is None:
                    walk(inner, above | {here})
                elif len(above) + 1 < depth:
                    with suppress(OSError):  # said where all of it is listed
                        walk(inner, above | {here})

    try:
        walk(path, frozenset())
    except OSError as error:
        raise LeanvitError(
            f"folder {error.filename} cannot be listed ({error.strerror}): change its permissions, "
            "or remove it"
        ) from error
    return source


def _stamp(entry: os.DirEntry[str]) -> str:
    try:
        stat = entry.stat()
    except OSError:  # a link to nowhere: an image that cannot be read
        return "none"
    # an older file that is copied with its time keeps the one, and not the other
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _zip(path: Path) -> Source:
    archive = zipfile.ZipFile(path)
    parts = _separator(archive.namelist())
    members = {info.filename.replace(parts, "/"): info for info in archive.infolist()}

    def read(name: str) -> bytes:
        refuse_large(members[name].file_size)  # of a kilobyte, gigabytes can become
        return archive.read(members[name])

    source = Source(path, read)  # checksums tell it apart wherever it lies
    for name, info in members.items():
        if name.endswith("/"):
            source.add_folder(name.rstrip("/"))
        else:
            source.add(name, f"{info.file_size} {info.CRC:08x}")
    return source


def _separator(names: list[str]) -> str:
    """Between the parts of an archive's names; packed on Windows, some have ``\\``."""
    return "/" if any("/" in name for name in names) else "\\"


def _tar(path: Path) -> Source:
    archive = tarfile.open(path)  # noqa: SIM115  (read for as long as the source lives)
    _refuse_cut_off(archive)
    parts = _separator(archive.getnames())
    members = {PurePosixPath(member.name.replace(parts, "/")).as_posix(): member
               for member in archive.getmembers()}  # fmt: skip

    def read(name: str) -> bytes:
        refuse_large(members[name].size)
        file = archive.extractfile(members[name])  # links are followed
        if file is None:
            raise OSError("it is no regular file")
        content = file.read(MAX_BYTES + 1)
        refuse_large(len(content))
        return content

    stat = path.stat()  # a tar has no checksums: the stamp of the archive serves for each file
    source = Source(path, read, str(path.resolve()))
    for name, member in members.items():
        if member.isdir():
            source.add_folder(name)
        else:
            source.add(name, f"{member.size} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
    return source


def _refuse_cut_off(archive: tarfile.TarFile) -> None:
    """Python takes any unreadable header after the first for the end; a whole tar ends in zeros."""
    assert archive.fileobj is not None
    archive.getmembers()
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off or damaged")
