"""The comparison as one HTML file that opens without a network: page.html, page.js, Plotly, data.

- All that is shown of a run is in the file, as JSON: the page computes confusion, recall,
  calibration and what two runs disagree about from the classes that were predicted.
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
from typing import Any

import numpy as np
from numpy import ndarray

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.narrow_table import left_out_lines
from leanvit.evaluation.comparison.rows import Row, Table
from leanvit.evaluation.comparison.runs import read_history, read_predictions, read_run
from leanvit.evaluation.comparison.table import caption
from leanvit.files import atomic_path, finite

BUDGET = 6_000_000  # bytes of predictions in one file
NUM_EPOCHS = 400  # of a learning curve; of longer ones every second, third, ... epoch
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
    html, script = (Path(__file__).with_name(f"page.{kind}").read_text("utf-8")
                    for kind in ("html", "js"))  # fmt: skip
    parts = {
        "PLOTLY": get_plotlyjs(),
        "DATA": json.dumps(finite(data), allow_nan=False).replace("<", "\\u003c"),
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
        cost = 4 * len(labels)
        if left >= cost and (said := _predictions(row.runs[0], labels)):
            predicted.append(said[0])
            values |= {"predicted": _packed(said[0]), "surety": _packed(said[1])}
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
        "history": _history(row.runs[0]),
    }


def _history(run: Path) -> dict[str, list[float | None]]:
    """Columns of its learning curve, thinned where it is long."""
    if not (run / "history.csv").is_file():
        return {}
    rows = read_history(run)
    step = -(-len(rows) // NUM_EPOCHS)
    names = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy", "seconds")
    columns = {name: [_number(row.get(name)) for row in rows] for name in names}
    spent = np.cumsum([value or 0.0 for value in columns.pop("seconds")]).round(1).tolist()
    kept = sorted({*range(step - 1, len(rows), step), len(rows) - 1} - {-1})
    columns["spent"] = spent
    return {name: [values[index] for index in kept] for name, values in columns.items()}


def _number(text: str | None) -> float | None:
    value = float(text) if text else float("nan")
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _predictions(run: Path, labels: ndarray) -> tuple[ndarray, ndarray] | None:
    """The class of each test image, and its probability in 255 steps; None: of other images."""
    found = read_predictions(run, of="test_")
    if not np.array_equal(found["test_labels"], labels):
        return None
    probabilities = found["test_probabilities"]
    surety = np.rint(255 * probabilities.max(axis=1).clip(0, 1))
    return probabilities.argmax(axis=1), surety.astype(np.uint8)


def disagreed(predicted: Sequence[ndarray], num: int) -> list[int]:
    """The images that most pairs of runs see otherwise, at most ``num`` of them."""
    if len(predicted) < 2:
        return []
    said = np.stack(predicted)
    pairs = sum((said[i] != said[j]).astype(int) for i in range(len(said)) for j in range(i))
    ordered = np.argsort(-np.asarray(pairs), kind="stable")[:num]
    return sorted(int(index) for index in ordered if pairs[index] > 0)


def _packed(values: ndarray) -> Mapping[str, Any]:
    """Whole numbers as base64 of one or two bytes each, little end first."""
    size = 1 if values.max(initial=0) < 256 else 2
    return {"bytes": size,
            "base64": base64.b64encode(values.astype(f"<u{size}").tobytes()).decode()}  # fmt: skip
