"""Images without labels: found by folder, zip, glob or file."""

import tarfile
import zipfile
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from leanvit.data.listing import open_source
from leanvit.data.source import is_image, kinds_of
from leanvit.errors import LeanvitError


def find_images(given: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Files to be classified, each once, and what lies beside them and is no image by its name.

    Args:
        given: folders and zips, of which all images below count; globs (``**`` for folders of any
            depth); files, which are taken whatever they are called.

    Raises:
        LeanvitError: nothing of that name, or no image at all.
    """
    images: dict[Path, None] = {}
    others: dict[Path, None] = {}
    for each in given:
        for path in _meant(each):
            if not path.is_dir() and not _is_zip(path):
                images[path] = None
                continue
            source = open_source(path)
            images |= dict.fromkeys(path / name for name in sorted(source.files))
            others |= dict.fromkeys(path / name for name in sorted(source.others))
    if not images:
        there = kinds_of([path.name for path in others])
        raise LeanvitError(
            f"images={','.join(map(str, given))} holds no image that Pillow reads"
            f"{there and f', but {there}'}: give a folder, a zip, a glob or files"
        )
    return list(images), [path for path in others if path not in images]


def _is_zip(path: Path) -> bool:
    """Whether a file is a zip of images, which :func:`leanvit.data.listing.read_image` reads.

    Raises:
        LeanvitError: a tar, which can be read in its own order alone.
    """
    if is_image(path.name) or not path.is_file():
        return False
    if tarfile.is_tarfile(path):
        raise LeanvitError(f"images={path} is a tar: unpack it and give the folder, or give a zip")
    return zipfile.is_zipfile(path)


def _meant(given: str) -> list[Path]:
    """The file or the folder of that name, or those that the glob stands for."""
    if not given:  # an empty variable of the shell, which would mean this folder
        raise LeanvitError("images= is empty: give a folder, a zip, a glob or files")
    path = Path(given).expanduser()
    if path.exists() or path.is_symlink():  # before it is a glob: a name may have brackets
        return [path]
    if found := sorted(glob(str(path), recursive=True)):  # noqa: PTH207  (absolute ones, too)
        return [Path(each) for each in found]
    what = "no file matches" if has_magic(given) else "there is no"
    raise LeanvitError(f"{what} images={given}: give a folder, a zip, a glob or files")
