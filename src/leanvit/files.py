"""Files that are either whole or not there."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from leanvit.errors import LeanvitError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    The suffix is kept, so that libraries which choose the format by it write the right one. The
    bytes are on the disk before the name changes: whoever finds ``path`` finds all of it.

    Raises:
        LeanvitError: the disk is full, or the place cannot be written.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise LeanvitError(
                f"no space left to write {path}: free some, then run the same command again"
            ) from error
        if error.errno in NO_PLACE:
            raise LeanvitError(
                f"cannot write {path} ({error.strerror}): choose another folder"
            ) from error
        raise
    finally:
        with suppress(OSError):  # there is none, or its folder cannot be entered
            part.unlink()


def write_json(value: Any, path: Path) -> None:
    """Write ``value`` as JSON, atomically; NaN and infinity are refused (ValueError)."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
