"""Images without labels: found by folder, glob or file, and decoded a batch at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob, has_magic
from pathlib import Path

from torch import Tensor

from leanvit.cores import num_cores
from leanvit.data.images import ImageFiles
from leanvit.data.source import kinds_of, open_source
from leanvit.errors import LeanvitError


def find_images(given: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Files to be classified, each once, and what lies beside them and is no image by its name.

    Args:
        given: folders, of which all images below count; globs (``**`` for folders of any depth);
            files, which are taken whatever they are called.

    Raises:
        LeanvitError: nothing of that name, or no image at all.
    """
    images: dict[Path, None] = {}
    others: dict[Path, None] = {}
    for each in given:
        for path in _meant(each):
            if not path.is_dir():
                images[path] = None
                continue
            source = open_source(path)
            images |= dict.fromkeys(path / name for name in sorted(source.files))
            others |= dict.fromkeys(path / name for name in sorted(source.others))
    if not images:
        there = kinds_of([path.name for path in others])
        raise LeanvitError(
            f"images={','.join(map(str, given))} holds no image that Pillow reads"
            f"{there and f', but {there}'}: give a folder, a glob or files"
        )
    return list(images), [path for path in others if path not in images]


def _meant(given: str) -> list[Path]:
    """The file or the folder of that name, or those that the glob stands for."""
    if not given:  # an empty variable of the shell, which would mean this folder
        raise LeanvitError("images= is empty: give a folder, a glob or files")
    path = Path(given).expanduser()
    if path.exists() or path.is_symlink():  # before it is a glob: a name may have brackets
        return [path]
    if found := sorted(glob(str(path), recursive=True)):  # noqa: PTH207  (absolute ones, too)
        return [Path(each) for each in found]
    what = "no file matches" if has_magic(given) else "there is no"
    raise LeanvitError(f"{what} images={given}: give a folder, a glob or files")


def in_batches(images: ImageFiles, size: int) -> Iterator[list[Tensor | LeanvitError]]:
    """Each image, uint8 (3, height, width), or why it cannot be read, ``size`` at a time.

    While one batch is used the next is decoded, by as many threads as there are cores.
    """

    def read(index: int) -> Tensor | LeanvitError:
        try:
            return images[index]
        except LeanvitError as error:
            return error

    before = None
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(images) + size, size):  # one more, in which the last is used
            decoded = pool.map(read, range(start, min(start + size, len(images))))
            if before is not None:
                yield list(before)
            before = decoded
