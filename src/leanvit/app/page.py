"""The page of a comparison, with the test images that runs disagree about."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from leanvit.app.build import load_splits
from leanvit.app.finished import Run
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison import page
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.runs import read_predictions

MAX_SIDE = 96  # pixels


def write_page(
    tables: Sequence[Table], failed: Sequence[Path], stem: Path, unfinished: Sequence[Path] = ()
) -> None:
    """Write ``stem`` with ``.html``, see :func:`leanvit.evaluation.comparison.page.write_page`."""
    path = stem.with_name(f"{stem.name}.html")
    page.write_page(tables, path, failed, unfinished, thumbnails)


def thumbnails(run: Path, indices: Sequence[int]) -> list[bytes]:
    """JPEG files of the test images with these numbers.

    Raises:
        LeanvitError: the images are gone, or are not those that the run was tested on.
    """
    if not indices:
        return []
    test = load_splits(Run(run).config).test
    labels = read_predictions(run, of="test_labels")["test_labels"]
    if not torch.equal(test.labels, torch.from_numpy(labels)):
        raise LeanvitError(f"{run} was tested on other images than its data source has now")
    files = []
    for index in indices:
        image = Image.fromarray(test.images[index].permute(1, 2, 0).numpy())
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        image.save(file := io.BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    return files
