"""prepare.py: the course images brought into data/ and decoded, so that training starts at once."""

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from leanvit.data.course import course
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path


def run(data: dict[str, Any], source: str | None = None) -> None:
    """Keep an archive under data/, decode it and print what it holds; the keys are those of
    conf/prepare.yaml."""
    data_dir = data["data_dir"]
    kept = str(keep(Path(source), Path(data_dir))) if source else None
    splits = course(kept, data_dir)
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


def keep(source: Path, data_dir: Path) -> Path:
    """Copy an archive, or link a folder, to where training looks without being told."""
    source = source.expanduser().resolve()
    if not source.exists():
        raise LeanvitError(f"data source {source} does not exist: make data SOURCE=<folder or zip>")
    kept = data_dir / f"course{''.join(source.suffixes) if source.is_file() else ''}"
    if kept.exists() and kept.samefile(source):
        return kept
    data_dir.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        kept.unlink(missing_ok=True)
        kept.symlink_to(source)
    else:
        with atomic_path(kept) as part:
            shutil.copyfile(source, part)
    return kept
