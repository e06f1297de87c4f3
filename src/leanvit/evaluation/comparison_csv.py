"""The comparison as CSV, with every digit: for spreadsheets and other programs.

Accuracies are fractions of 1, times seconds, costs plain numbers; what is not known is empty.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanvit.evaluation.compare import Row, Table
from leanvit.evaluation.metrics import SHOTS
from leanvit.evaluation.runs import read_error


def to_csv(tables: Sequence[Table], failed: Sequence[Path] = ()) -> str:
    """All tables in one file, a line for each row; failed jobs have only ``name`` and ``error``."""
    settings = list(dict.fromkeys(name for table in tables for name in table.settings))
    lines = [_csv_line(table, row, settings) for table in tables for row in table.rows]
    lines += [{"name": str(path), "error": read_error(path)} for path in failed]
    return csv_text(lines)


def csv_text(lines: Sequence[dict[str, Any]]) -> str:
    """The lines below a heading of all their keys; None is empty."""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def _csv_line(table: Table, row: Row, settings: Sequence[str]) -> dict[str, Any]:
    difference = row.difference
    return {
        "data": table.data,
        "source": table.source,
        "name": row.name,
        **{name: row.settings.get(name, "") for name in settings},
        "seeds": len(row.runs),
        "monitor": table.monitor,
        "validation": row.validation,
        "test_accuracy": row.accuracy,
        "interval_low": row.interval[0],
        "interval_high": row.interval[1],
        "interval_over": row.interval_over,
        "difference": difference.value if difference else "",
        "difference_low": difference.low if difference else "",
        "difference_high": difference.high if difference else "",
        "difference_p": difference.p if difference else "",
        "verdict": difference.verdict if difference else "",
        "balanced_accuracy": row.balanced_accuracy,
        "worst_class": row.worst_class,
        "worst_class_recall": row.worst_recall,
        **{f"{name}_shot_recall": row.shots[name] for name in SHOTS},
        "calibration_error": row.calibration_error,
        "calibration_error_scaled": row.calibration_error_scaled,
        "params": row.params,
        "macs": row.macs,
        "seconds": row.seconds,
        "test_images": table.num_test_images.replace(",", ""),
        "runs": " ".join(str(path) for path in row.runs),
        "error": "",
    }
