"""The comparison as one HTML file that opens without a network: page.html, its two scripts, Plotly
and data.

- All that is shown of a run is in the file, as JSON: the learning curve of each seed and their
  mean; confusion, recall and calibration of all seeds together; of the first seed the answers,
  which tell what two rows disagree about.
- Names are text: JSON in which no tag can end the script, put on the page as text nodes.
- Of many runs, or many test images, the first rows have their predictions in it, as far as BUDGET
  goes; the table has all rows.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.legend import ties
from leanvit.evaluation.comparison.narrow_table import left_out_lines
from leanvit.evaluation.comparison.rows import Row, Table
from leanvit.evaluation.comparison.runs import read_history, read_predictions, read_run
from leanvit.evaluation.comparison.table import caption
from leanvit.evaluation.measure.calibration import confidence_bins
from leanvit.evaluation.measure.metrics import confusion_counts
from leanvit.files import atomic_path, finite

BUDGET = 6_000_000  # bytes of predictions in one file
NUM_POINTS = 400  # of all curves of a row; of longer ones every second, third, ... epoch
NUM_BINS = 10  # of calibration
NUM_IMAGES = 400  # thumbnails
NUM_ASKED = 12  # rows whose disagreements choose these

# of a run, the images of its test set: JPEG files by their number
Thumbnails = Callable[[Path, Sequence[int]], Sequence[bytes]]


def write_page(
    tables: Sequence[Table],
    path: Path,
    failed: Sequence[Path] = (),
    unfinished: Sequence[Path] = (),
    thumbnails: Thumbnails | None = None,
) -> None:
    """Write the page.

    Args:
        thumbnails: where the images come from; None, or a LeanvitError of it: a page without.

    Raises:
        LeanvitError: the file cannot be written.
    """
    from plotly.offline import get_plotlyjs  # 5 MB, for those who write a page

    left = BUDGET
    told = []
    for table in tables:
        values, left = _table(table, left, thumbnails)
        told.append(values)
    data = {"tables": told, "left_out": left_out_lines(failed, unfinished)}
    html, plots, script = (Path(__file__).with_name(f"page.{kind}").read_text("utf-8")
                           for kind in ("html", "plots.js", "js"))  # fmt: skip
    parts = {
        "PLOTLY": get_plotlyjs(),
        "DATA": json.dumps(finite(data), allow_nan=False).replace("<", "\\u003c"),
        "PLOTS": plots,
        "SCRIPT": script,
    }
    pieces = re.split(r"/\*([A-Z]+)\*/", html)
    with atomic_path(path) as part:
        text = "".join(parts[each] if at % 2 else each for at, each in enumerate(pieces))
        part.write_text(text, encoding="utf-8")


def _table(table: Table, left: int, thumbnails: Thumbnails | None) -> tuple[dict[str, Any], int]:
    """Of one data set, and what is left of the budget."""
    first = read_run(table.rows[table.reference].runs[0])
    labels = read_predictions(table.rows[table.reference].runs[0], of="test_labels")["test_labels"]
    rows, predicted = [], []
    for number, row in enumerate(table.rows):
        values = _row(table, number, row)
        cost = 4 * len(labels) + 3 * len(first["classes"]) ** 2
        if left >= cost and (said := _answers(row.runs, labels)):
            predicted.append(said.predicted)
            values |= {
                "predicted": _packed(said.predicted),
                "surety": _packed(said.surety),
                "confusion": _packed(said.confusion.ravel()),
                "bins": said.bins,
            }
            left -= cost
        rows.append(values)
    indices = disagreed(predicted[:NUM_ASKED], NUM_IMAGES)
    images: Sequence[bytes] = []
    if thumbnails is not None:
        with suppress(LeanvitError):
            images = thumbnails(table.rows[table.reference].runs[0], indices)
    return {
        "data": table.data,
        "source": table.source,
        "tied": ties(table),
        "caption": caption(table),
        "reference": table.reference,
        "settings": table.settings,
        "classes": list(map(str, first["classes"])),
        "train_counts": first.get("train_counts") or [],
        "labels": _packed(labels),
        "rows": rows,
        "images": {str(index): base64.b64encode(image).decode()
                   for index, image in zip(indices, images, strict=False)},
    }, left  # fmt: skip


def _row(table: Table, number: int, row: Row) -> dict[str, Any]:
    found, told = row.difference, read_run(row.runs[0])
    return {
        "name": row.name,
        "differs": table.differs(number),
        "settings": row.settings,
        "seeds": len(row.runs),
        "validation": row.validation,
        "validation_interval": row.validation_interval,
        "test": row.accuracy,
        "interval": row.interval,
        "against": row.against,
        "difference": found and [found.value, found.low, found.high],
        "verdict": found and found.verdict,
        "also": row.also_differs,
        "balanced": row.balanced_accuracy,
        "worst": [row.worst_class, row.worst_recall],
        "params": row.params,
        "macs": row.macs,
        "pflop": row.pflop,
        "seconds": row.seconds,
        "ece": row.calibration_error,
        "runs": list(map(str, row.runs)),
        "command": told.get("command") or "",
        "curves": curves(row.runs),
    }


def curves(runs: Sequence[Path]) -> list[dict[str, list[float | None]]]:
    """The learning curve of each seed, by column; of several seeds their mean comes first, as far
    as all of them came."""
    read = (_history(run) for run in runs if (run / "history.csv").is_file())
    found = [each for each in read if each["epoch"].size]
    lengths = [len(each["epoch"]) for each in found]
    step = -(-sum(lengths) // NUM_POINTS)
    if len(found) > 1:
        found.insert(0, {name: np.mean([each[name][: min(lengths)] for each in found], axis=0)
                         for name in found[0]})  # fmt: skip
    return [{name: _thinned(values, step) for name, values in each.items()} for each in found]


def _history(run: Path) -> dict[str, ndarray]:
    """Its columns; NaN is what is not known."""
    rows = read_history(run)
    names = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy", "seconds")
    columns = {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in names}
    return columns | {"spent": np.nancumsum(columns.pop("seconds"))}


def _thinned(values: ndarray, step: int) -> list[float | None]:
    """Every ``step``-th and the last, in five digits."""
    kept = sorted({*range(step - 1, len(values), step), len(values) - 1} - {-1})
    return [float(f"{each:.5g}") if np.isfinite(each) else None for each in values[kept].tolist()]


class Answers(NamedTuple):
    """Of the test images."""

    predicted: ndarray  # classes, of the first seed
    surety: ndarray  # their probability in 255 steps
    confusion: ndarray  # (true class, said class): number of images, over all seeds
    bins: list[tuple[float, float, int]]  # surety and share right in percent, and images


def _answers(runs: Sequence[Path], labels: ndarray) -> Answers | None:
    """Of a row; None: it was tested on other images."""
    found = [read_predictions(run, of="test_") for run in runs]
    if not all(np.array_equal(each["test_labels"], labels) for each in found):
        return None
    seeds = [each["test_probabilities"] for each in found]
    sums = np.sum([confidence_bins(each, labels, NUM_BINS) for each in seeds], axis=0)
    return Answers(
        seeds[0].argmax(axis=1),
        np.rint(255 * seeds[0].max(axis=1).clip(0, 1)),
        np.sum([confusion_counts(each, labels) for each in seeds], axis=0),
        [(100 * sure / num, 100 * right / num, int(num)) for num, right, sure in sums.T if num],
    )


def disagreed(predicted: Sequence[ndarray], num: int) -> list[int]:
    """The images that most pairs of runs see otherwise, at most ``num`` of them."""
    if len(predicted) < 2:
        return []
    said = np.stack(predicted)
    pairs = sum((said[i] != said[j]).astype(int) for i in range(len(said)) for j in range(i))
    ordered = np.argsort(-np.asarray(pairs), kind="stable")[:num]
    return sorted(int(index) for index in ordered if pairs[index] > 0)


def _packed(values: ndarray) -> Mapping[str, Any]:
    """Whole numbers as base64 of one, two or four bytes each, little end first."""
    size = next(size for size in (1, 2, 4) if values.max(initial=0) < 256**size)
    return {"bytes": size,
            "base64": base64.b64encode(values.astype(f"<u{size}").tobytes()).decode()}  # fmt: skip
