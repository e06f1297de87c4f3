"""Which runs were looked through and found whole: thousands need not be again for every report.

``.whole.json`` beside the runs holds a mark of each: of what the file system says of the files that
were looked through. No figure is in it, so that none can be old: figures come from metrics.json.
It can be deleted at any time. Where it is damaged, of other code or out of date, or cannot be
written, runs are looked through once more.

The mark has a file's inode and the time at which the file system last changed it (ctime, which
nobody can set), besides size and mtime: it tells a file that was put back with its old date. A file
that changed in the last seconds gets none, for it may change again within a tick of that clock.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from leanvit import balanced_accuracy
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure import metrics
from leanvit.files import open_regular, write_json

FILE = ".whole.json"
FEWEST = 20  # runs of a folder that are worth a file
SETTLED = 3e9  # nanoseconds; the ticks of file systems are shorter
LOOKED_AT = ("metrics.json", "predictions.npz", "config.yaml", "history.csv", "pretraining.json")


def mark(run: Path) -> str | None:
    """Of the files of a run as they are; None: they may be changing."""
    told, now = [], time.time_ns()
    for name in LOOKED_AT:
        try:
            found = os.stat(f"{run}/{name}")  # noqa: PTH116  (a Path takes four times as long)
        except OSError:
            told.append("")
            continue
        if found.st_ctime_ns > now - SETTLED:
            return None
        told.append(f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}")
    return hashlib.blake2b("\n".join(told).encode(), digest_size=8).hexdigest()


def marks(folder: Path) -> dict[str, str]:
    """Those that were kept of the runs in a folder, by name."""
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        with open_regular(folder / FILE) as file:
            kept = json.load(file)
        if kept["code"] == _code() and isinstance(kept["whole"], dict):
            return kept["whole"]
    return {}


def keep(folder: Path, whole: Mapping[str, str]) -> None:
    """Write them, where that is possible."""
    with suppress(OSError, LeanvitError):
        here = set(os.listdir(folder))  # noqa: PTH208
        there = {name: each for name, each in whole.items() if name in here}
        write_json({"code": _code(), "whole": there}, folder / FILE)


@cache
def _code() -> str:
    """Of what looks runs through: another version may find other things."""
    files = [*Path(__file__).parent.glob("*.py"), metrics.__file__, balanced_accuracy.__file__]
    texts = [Path(str(file)).read_bytes() for file in sorted(map(str, files))]
    return hashlib.blake2b(b"\0".join(texts), digest_size=8).hexdigest()
