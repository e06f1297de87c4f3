"""Files that are either whole or not there."""

import errno
import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from leanvit.errors import LeanvitError, SharedError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
HOST = socket.gethostname()
SILENCE = 3600  # seconds in which whoever lives has written something
NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
            errno.ENAMETOOLONG}  # fmt: skip
MAX_BYTES = 2**29  # of an image file: what the largest that Pillow opens fills in RGB


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    The suffix is kept, so that libraries which choose the format by it write the right one. The
    bytes are on the disk before the name changes: whoever finds ``path`` finds all of it. What
    killed processes left half written in that folder is removed.

    Raises:
        LeanvitError: the disk is full, or the place cannot be written.
    """
    part = path.with_name(f".part-{os.getpid()}-{HOST}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if line := told(error, path):
            raise LeanvitError(line) from error
        raise
    finally:
        with suppress(OSError):  # there is none, or its folder cannot be entered
            part.unlink()


def check_folder(folder: Path) -> None:
    """See that files can be written to a folder, which need not be there yet: before the work.

    Raises:
        LeanvitError: the place cannot be written.
    """
    place = folder.absolute()
    above = (place, *place.parents)
    there = next(each for each in above if os.path.exists(each))  # noqa: PTH110  (never raises)
    mend = f"cannot write {folder} (%s): choose another folder"
    if not there.is_dir():
        raise LeanvitError(mend % f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LeanvitError(mend % f"{there} is read-only here")


def open_regular(path: Path) -> BinaryIO:
    """Open a file that somebody may have handed on.

    Raises:
        OSError: none of that name, or a pipe or a device, which would never end.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """The bytes of a file that may be an image.

    Raises:
        OSError: none of that name, a pipe or a device, which would never end, or too large.
    """
    refuse_large(path.stat().st_size)
    with open_regular(path) as file:
        return file.read()


def refuse_large(num_bytes: int) -> None:
    """Raises:
    OSError: no image file has so many bytes.
    """
    if num_bytes > MAX_BYTES:
        raise OSError(f"{num_bytes / 2**30:.1f} GiB are too large for an image file")


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process holds the folder, which need not be there yet; a file system that
    knows no locks lets all go on."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    held = os.open(there, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def told(error: OSError, path: Path | str | None = None) -> str | None:
    """In words, why something cannot be written; None: it is about something else.

    Args:
        path: what was to be written; None: the error may know, and it may have been to be read.
    """
    place = path or error.filename or "to disk"
    if error.errno in NO_SPACE:
        return f"no space left to write {place}: free some, then run the same command again"
    if error.errno in NO_PLACE:
        verb = "write" if path else "use"
        return f"cannot {verb} {place} ({error.strerror}): choose another folder"
    return None


def stops_others(error: BaseException | None) -> bool:
    """Whether what stopped a job would stop others as well."""
    while error is not None:
        no_room = isinstance(error, OSError) and error.errno in {*NO_SPACE, errno.EROFS}
        if no_room or isinstance(error, SharedError):
            return True
        error = error.__cause__
    return False


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes were writing when they died."""
    for part in folder.glob(".part-*"):
        number, _, rest = part.name.removeprefix(".part-").partition("-")
        with suppress(OSError):
            if number.isdecimal() and rest.startswith(f"{HOST}-"):
                is_abandoned = not _is_alive(int(number))
            else:  # of another machine that shares the folder, or of an older version
                is_abandoned = time.time() - part.stat().st_mtime > SILENCE
            if is_abandoned:
                part.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks only
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_json(value: Any, path: Path) -> None:
    """Write ``value`` as JSON, atomically, see :func:`finite`."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
