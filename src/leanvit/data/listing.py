"""A data source listed: a folder, a zip or a tar of images."""

import functools
import os
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from leanvit.data.source import Source, is_hidden
from leanvit.errors import LeanvitError, SharedError, one_line
from leanvit.files import MAX_BYTES, read_file, refuse_large


def open_source(
    path: Path, look: Callable[[Source], object] = lambda source: None, stamps: bool = True
) -> Source:
    """List a folder, a zip or a (compressed) tar.

    Args:
        look: refuses what is laid out otherwise, by what lies in the folder and in the folders in
            it: the whole of another one, as of ``/``, is not walked through.
        stamps: of the files of a folder; without, these are not asked for.

    Raises:
        LeanvitError: nothing there, or neither a folder nor a readable archive.
    """
    path = path.expanduser()
    if path.is_dir():
        look(_folder(path, depth=2, stamps=False))
        return _folder(path, stamps=stamps)
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


def read_image(path: Path) -> bytes:
    """The bytes of an image file, which may lie in a zip: ``photos.zip/cat/1.jpg``.

    Raises:
        OSError: see :func:`leanvit.files.read_file`.
    """
    try:
        return read_file(path)
    except NotADirectoryError:
        archive = next(above for above in path.parents if above.is_file())
        stamp = archive.stat().st_mtime_ns
        return _opened(archive, stamp, os.getpid()).read(path.relative_to(archive).as_posix())


@functools.lru_cache(maxsize=8)
def _opened(archive: Path, stamp: int, process: int) -> Source:
    """A fork shares an open file's place, and has to open its own."""
    return open_source(archive)


def _folder(path: Path, depth: int | None = None, stamps: bool = True) -> Source:
    """
    Args:
        depth: of the folders that are listed; ``None``: all.
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
                    source.add(name, _stamp(entry) if stamps else "")
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
    members = {_plain(info.filename.replace(parts, "/")): info for info in archive.infolist()}

    def read(name: str) -> bytes:
        refuse_large(members[name].file_size)  # of a kilobyte, gigabytes can become
        return archive.read(members[name])

    source = Source(path, read)  # checksums tell it apart wherever it lies
    for name, info in members.items():
        if info.filename.endswith(parts):
            source.add_folder(name)
        else:
            source.add(name, f"{info.file_size} {info.CRC:08x}")
    return source


def _separator(names: list[str]) -> str:
    """Between the parts of an archive's names; packed on Windows, some have ``\\``."""
    return "/" if any("/" in name for name in names) else "\\"


def _plain(name: str) -> str:
    """``cat/1.jpg``, also of ``./cat/1.jpg``, ``/cat/1.jpg`` and ``cat//1.jpg``: as in a path."""
    # which takes half a second for 40,000 names
    return "/".join(part for part in name.split("/") if part not in ("", ".")) or "."


def _tar(path: Path) -> Source:
    archive = tarfile.open(path)  # noqa: SIM115  (read for as long as the source lives)
    _refuse_cut_off(archive)
    parts = _separator(archive.getnames())
    members = {_plain(member.name.replace(parts, "/")): member for member in archive.getmembers()}

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
