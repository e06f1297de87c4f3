"""A folder, a zip or a tar of images, seen as one list of names."""

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from leanvit.data.images import one_line
from leanvit.errors import LeanvitError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Source:
    """Where images are read from.

    Attributes:
        path: the folder or the archive.
        files: stamp of each image file (its size and time or checksum) by name, "/" between parts.
        folders: every folder, so that an empty one can be named.
        read: bytes of the file of that name.
    """

    path: Path
    files: dict[str, str]
    folders: frozenset[str]
    read: Callable[[str], bytes]

    def classes_below(self, folder: str) -> dict[str, list[str]]:
        """Class name -> sorted image names, for ``folder/<class>/...``.

        Raises:
            LeanvitError: a class folder without images, or no class folder at all.
        """
        prefix = f"{folder}/" if folder else ""
        depth = len(PurePosixPath(folder).parts)
        found: dict[str, list[str]] = {}
        for name in self.folders:
            if name.startswith(prefix) and len(PurePosixPath(name).parts) == depth + 1:
                found[name.removeprefix(prefix)] = []
        for name in sorted(self.files):
            parts = PurePosixPath(name).parts
            if name.startswith(prefix) and len(parts) > depth + 1:
                found.setdefault(parts[depth], []).append(name)
        place = f"{self.path}/{folder}".rstrip("/")
        if not found:
            raise LeanvitError(f"no class folders in {place}: expected {place}/<class>/<image>")
        for label, names in found.items():
            if not names:
                raise LeanvitError(
                    f"class folder {place}/{label} holds no image "
                    f"({', '.join(sorted(EXTENSIONS))}): add some or remove the folder"
                )
        return dict(sorted(found.items()))

    def fingerprint(self, names: list[str]) -> str:
        """Changes when any of these files is added, removed, renamed or written again."""
        digest = hashlib.sha256()
        for name in names:
            digest.update(f"{name}\0{self.files[name]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_source(path: Path) -> Source:
    """List a folder, a zip or a (compressed) tar.

    Raises:
        LeanvitError: nothing there, or neither a folder nor a readable archive.
    """
    path = path.expanduser()
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise LeanvitError(f"data source {path} does not exist: give data.source=<folder or zip>")
    try:
        if zipfile.is_zipfile(path):
            return _zip(path)
        if tarfile.is_tarfile(path):
            return _tar(path)
    except Exception as error:  # the compressions have an exception each
        why = one_line(error)
        raise LeanvitError(f"archive {path} cannot be read ({why}): copy it again") from error
    raise LeanvitError(
        f"data source {path} is no folder, zip or tar, or it is cut off: copy it again"
    )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in EXTENSIONS and not hidden


def _is_visible(name: str) -> bool:
    return not any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)


def _folder(path: Path) -> Source:
    files, folders = {}, set()
    for entry in path.rglob("*"):
        name = entry.relative_to(path).as_posix()
        if entry.is_dir():
            if _is_visible(name):
                folders.add(name)
        elif _is_image(name):
            try:
                stat = entry.stat()
                files[name] = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:  # a link to nowhere: an image that cannot be read
                files[name] = "none"
    return Source(path, files, frozenset(folders), lambda name: (path / name).read_bytes())


def _zip(path: Path) -> Source:
    archive = zipfile.ZipFile(path)
    files, folders = {}, set()
    for info in archive.infolist():
        if info.is_dir():
            if _is_visible(info.filename):
                folders.add(info.filename.rstrip("/"))
        elif _is_image(info.filename):
            files[info.filename] = f"{info.file_size} {info.CRC:08x}"
    return Source(path, files, frozenset(folders), archive.read)


def _tar(path: Path) -> Source:
    archive = tarfile.open(path)  # noqa: SIM115  (read for as long as the source lives)
    _refuse_cut_off(archive)
    stat = path.stat()  # a tar has no checksums: the stamp of the archive serves for each file
    files, folders = {}, set()
    for member in archive.getmembers():
        name = PurePosixPath(member.name).as_posix()
        if member.isdir():
            if _is_visible(name) and name != ".":
                folders.add(name)
        elif member.isfile() and _is_image(name):
            files[name] = f"{member.size} {stat.st_size} {stat.st_mtime_ns}"
    members = {PurePosixPath(member.name).as_posix(): member for member in archive.getmembers()}

    def read(name: str) -> bytes:
        file = archive.extractfile(members[name])
        assert file is not None  # only regular files are listed
        return file.read()

    return Source(path, files, frozenset(folders), read)


def _refuse_cut_off(archive: tarfile.TarFile) -> None:
    """Python takes any unreadable header after the first for the end; a whole tar ends in zeros."""
    assert archive.fileobj is not None
    archive.getmembers()
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off or damaged")
