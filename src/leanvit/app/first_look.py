"""What is wrong with runs and images by their names alone: refused before torch is imported.

The commands themselves look again, at all of it.
"""

import functools
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leanvit.app import names
from leanvit.app.finished import Run, find
from leanvit.app.request import Request
from leanvit.data import layout
from leanvit.data.listing import open_source
from leanvit.data.unlabelled import find_images
from leanvit.files import check_folder

FOLDER, COURSE = "leanvit.data.folder.folder", "leanvit.data.course.course"
LISTED = functools.partial(open_source, stamps=False)


def at_request(request: Request) -> None:
    """Look at the images of a command that makes runs.

    Raises:
        LeanvitError: they are not there, or lie otherwise.
    """
    run = request.begins
    at_images(run.config.data if run and "data" not in request.config else request.config.data)


def at_question(command: str, given: Mapping[str, Any]) -> None:
    """Look at what eval.py or predict.py is asked: at its runs, and at its images.

    Raises:
        LeanvitError: they are not there, a run is not finished or cannot be written to, or images
            lie otherwise.
    """
    # late: it imports NumPy
    from leanvit.evaluation.comparison.runs import read_run

    found = [find(each) for each in _words(given["run"])]
    for run in found:
        read_run(run.path)
    if command == "predict":
        find_images(_words(given["images"]))
        return
    for run in found:
        check_folder(run.path / "eval")
        _at_images_of(run, given.get("data"))


def _at_images_of(run: Run, data: Mapping[str, Any] | None) -> None:
    if data is None:
        at_images(run.config.data)
    elif data["_target_"] == FOLDER and not _is_tar(data["source"]):
        source = names.full_path(data["source"])
        opened, folder = layout.open_classes(source, run.classes, LISTED)
        opened.trees_below(folder)
    else:
        at_images(data)


def at_images(data: Mapping[str, Any]) -> None:
    """See that the images of a folder or a zip lie as they must; a tar is read whole for that.

    Raises:
        LeanvitError: they do not, or are not there.
    """
    source = data.get("source")
    if not source or _is_tar(source):
        return
    path = Path(names.full_path(source))
    if path.is_file():
        _at_archive(data["_target_"], path, path.stat().st_mtime_ns)
    else:
        _at_source(data["_target_"], path)


def _at_source(target: str, path: Path) -> None:
    if target == FOLDER:
        layout.trees_of_parts(*layout.open_parts(str(path), LISTED))
    elif target == COURSE:
        layout.trees_of_course(*layout.open_course(path, LISTED))


@functools.cache
def _at_archive(target: str, path: Path, stamp: int) -> None:
    """Once for all jobs of a grid: half a second for 40,000 images."""
    _at_source(target, path)


def _is_tar(source: str) -> bool:
    path = Path(names.full_path(source))
    return path.is_file() and tarfile.is_tarfile(path)


def _words(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [given]
