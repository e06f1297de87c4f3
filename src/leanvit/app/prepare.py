"""prepare.py: the course images brought into data/ and decoded, so that training starts at once."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from leanvit.data.course import course
from leanvit.data.layout import ARCHIVES, left_in
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path


def run(data: dict[str, Any], source: str | None = None) -> None:
    """Keep an archive under data/, decode it and print what it holds; the keys are those of
    conf/prepare.yaml."""
    data_dir = data["data_dir"]
    options = {key: data[key] for key in ("image_size", "skip_unreadable")}
    kept = None
    if source := source or data["source"]:
        path = Path(source).expanduser().resolve()
        place = place_of(path, Path(data_dir))
        course(str(path), data_dir, **options)  # a bad one takes no good one's place
        kept = str(keep(path, place))
    splits = course(kept, data_dir, **options)
    table = Table("class", "training images", "test images", title=splits.source)
    counts = zip(
        splits.train.classes,
        splits.train.class_counts.tolist(),
        splits.test.class_counts.tolist(),
        strict=True,
    )
    for name, train, test in counts:
        table.add_row(name, f"{train:,}", f"{test:,}")
    table.add_row("all", f"{len(splits.train):,}", f"{len(splits.test):,}")
    Console().print(table)


def place_of(source: Path, data_dir: Path) -> Path:
    """Where a folder or an archive is kept, so that training finds it without being told.

    Raises:
        LeanvitError: there is no source, or training would find something else.
    """
    if not (source.is_dir() or source.is_file()):
        raise LeanvitError(
            f"data source {source} is no folder and no archive: make data SOURCE=<folder or zip>"
        )
    there = left_in(data_dir)
    if source in [path.resolve() for path in there]:
        place = there.pop([path.resolve() for path in there].index(source))
    else:
        ending = "" if source.is_dir() else _ending(source)
        place = data_dir / f"course{ending}"
        if place.is_dir() and not place.is_symlink():
            raise LeanvitError(f"{place} is a folder of its own: move it away first")
        there = [path for path in there if path != place]
    if there:
        raise LeanvitError(
            f"{', '.join(map(str, there))} would be found beside {place}: move away what training "
            "shall not take"
        )
    return place


def _ending(archive: Path) -> str:
    known = [ending for ending in ARCHIVES if archive.name.lower().endswith(ending)]
    return known[0] if known else ".zip" if zipfile.is_zipfile(archive) else ".tar"


def keep(source: Path, place: Path) -> Path:
    """Copy an archive, or link a folder, to its place."""
    if place.exists() and place.samefile(source):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        part = place.with_name(f".part-{os.getpid()}-{place.name}")
        part.symlink_to(source)
        part.replace(place)
    else:
        with atomic_path(place) as part:
            shutil.copyfile(source, part)
    return place
