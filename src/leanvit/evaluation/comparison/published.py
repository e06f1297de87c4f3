"""The published tables beside what was trained here: a line for each net, the cheapest first.

- A line shows the recipe that is best on validation, of all finished runs of the net's experiment
  on the course data, averaged over its seeds; a net that is not trained yet says so.
- A published accuracy is that of one run whose epoch was picked on the test images, which flatters
  it. Ours has a 95 % interval over seeds, or over test images where there is one seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.rows import Row, Table
from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.published import Published, read_published
from leanvit.evaluation.tables import (
    csv_text,
    digits,
    interval,
    markdown_table,
    percent,
    points,
    show,
    write_texts,
)

DATA = "course"  # the choice of the images that the published accuracies are of
UNTRAINED = "not trained yet"
CAPTION = (
    "Published: one run, its epoch picked on the test images. Ours: mean over seeds and its 95 % "
    "interval (one seed: over test images), best recipe by validation. MACs as published. "
    "PFLOP and minutes: of one training."
)


@dataclass(frozen=True)
class Line:
    """A published net, and its best row and what that ran on if it was trained."""

    experiment: str
    published: Published
    row: Row | None
    hardware: str


def write_published(runs: Sequence[Path], tables: Path, folder: Path) -> list[Line]:
    """Write ``published.md`` and ``published.csv`` into ``folder``.

    Args:
        runs: directories of finished runs, of these experiments and of others.
        tables: the CSV of the published tables.

    Raises:
        LeanvitError: a directory is not a finished run, or ``folder`` cannot be written.
    """
    found = compare(runs)
    lines = [_line(name, row, found) for name, row in read_published(tables).items()]
    lines.sort(key=lambda line: line.published.macs)
    markdown = "\n".join([*markdown_table([_cells(line) for line in lines]), "", CAPTION, ""])
    write_texts(folder / "published", markdown, csv_text([_values(line) for line in lines]))
    return lines


def print_published(lines: Sequence[Line], console: Console | None = None) -> None:
    """Print to the terminal, as wide as it is."""
    cells = [_cells(line) for line in lines]
    words = {"net", "ours %", "hardware"}
    droppable = ("hardware", "minutes", "seeds", "MACs G")
    show(console or Console(), "Published nets", cells, words, CAPTION, droppable)


def _line(name: str, published: Published, tables: Sequence[Table]) -> Line:
    rows = [row for table in tables if table.data == DATA for row in table.rows]
    own = [row for row in rows if row.settings.get("experiment") == name and _is_unchanged(row)]
    best = max(own, key=lambda row: row.validation, default=None)
    return Line(name, published, best, _hardware(best.runs[0]) if best else "")


def _is_unchanged(row: Row) -> bool:
    """Whether the net is the experiment's own, trained in whatever way."""
    return not any(name == "method" or name.startswith("model.") for name in row.settings)


def _hardware(run: Path) -> str:
    told = read_run(run)
    device = str(told["training"].get("device", ""))
    processor = str(told.get("machine", {}).get("cpu", ""))
    return f"{processor}, {device}" if device.startswith("cpu") and processor else device


def _cells(line: Line) -> dict[str, str]:
    """What the reader sees in each column, by its heading."""
    row = line.row
    ours = f"{percent(row.accuracy)} {interval(*row.interval, percent)}" if row else UNTRAINED
    return {
        "net": line.experiment,
        "MACs G": digits(line.published.macs / 1e9),
        "published %": f"{100 * line.published.accuracy:.2f}",  # as the tables have it
        "ours %": ours,
        "difference": points(row.accuracy - line.published.accuracy) if row else "",
        "seeds": str(len(row.runs)) if row else "",
        "validation %": percent(row.validation) if row else "",
        "PFLOP": digits(row.pflop) if row and row.pflop is not None else "",
        "minutes": digits(row.seconds / 60) if row else "",
        "hardware": line.hardware,
    }


def _values(line: Line) -> dict[str, Any]:
    """The same with every digit."""
    row = line.row
    low, high = row.interval if row else (None, None)
    return {
        "experiment": line.experiment,
        "macs": line.published.macs,
        "published": line.published.accuracy,
        "accuracy": row and row.accuracy,
        "interval_low": low,
        "interval_high": high,
        "interval_over": row and row.interval_over,
        "validation": row and row.validation,
        "pflop": row and row.pflop,
        "seconds": row and row.seconds,
        "hardware": line.hardware,
        "settings": row and " ".join(f"{k}={v}" for k, v in sorted(row.settings.items())),
        "runs": row and " ".join(map(str, row.runs)),
    }
