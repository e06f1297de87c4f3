"""The comparison as text to keep: Markdown and CSV with everything, LaTeX to paste.

- Each table says where its images come from, how many there are, and what put the rows in order.
- In the CSV accuracies are fractions of 1, times seconds, costs plain numbers; what is not known is
  empty.
- In the LaTeX table, of the package booktabs, stands what stands on the terminal.
- Jobs that failed stand below, each with its error: a grid with holes does not look complete.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanvit.evaluation.comparison.left_out import HOW_TO_END_IT, how_far, read_error
from leanvit.evaluation.comparison.legend import sentences, ties
from leanvit.evaluation.comparison.narrow_table import duration
from leanvit.evaluation.comparison.rows import Row, Table
from leanvit.evaluation.measure.metrics import SHOTS
from leanvit.evaluation.tables import (
    csv_text,
    digits,
    in_markdown,
    interval,
    judged,
    latex_table,
    markdown_table,
    percent,
    with_bounds,
    write_texts,
)

SHOTS_COLUMN = "/".join(SHOTS) + " %"


def write_tables(
    tables: Sequence[Table],
    failed: Sequence[Path],
    stem: Path,
    unfinished: Sequence[Path] = (),
) -> None:
    """Write ``stem`` with ``.md``, ``.csv`` and ``.tex``, and beside them, for each data set,
    ``progress-<data>.png``.

    Args:
        failed: directories of runs that failed, with ``error.txt``.
        unfinished: of those that train, or were interrupted.

    Raises:
        LeanvitError: the files cannot be written.
    """
    markdown = to_markdown(tables, failed, unfinished)
    write_texts(stem, markdown, to_csv(tables, failed), to_latex(tables))
    from leanvit.evaluation.pictures.progress import draw_progress  # imports matplotlib

    draw_progress(tables, stem)


def caption(table: Table) -> str:
    """What a reader must know before the numbers."""
    said = [f"{table.source}. n = {table.num_test_images} test images.", *sentences(table)]
    if table.has_shots:
        said.append(
            "Many/medium/few: mean recall of the classes with more than 100, 20 to 100 and fewer "
            "than 20 training images of the row's own."
        )
    if any(row.calibration_error_scaled is not None for row in table.rows):
        said.append("ECE: before → after temperature scaling, fitted on validation.")
    several = "are from different devices:" if len(table.devices) > 1 else "on"
    said.append(f"Times {several} {', '.join(table.devices)}.")
    return " ".join(said)


def to_markdown(
    tables: Sequence[Table], failed: Sequence[Path] = (), unfinished: Sequence[Path] = ()
) -> str:
    """One section a data set, then what failed and what is not finished."""
    lines = [] if tables else ["No finished run.", ""]
    for table in tables:
        cells = [_cells(table, number, row) for number, row in enumerate(table.rows)]
        about = f"## {in_markdown(table.data)}", "", in_markdown(caption(table)), ""
        tied = [in_markdown(line), ""] if (line := ties(table)) else []
        lines += [*about, *markdown_table(cells), "", *tied]
    return "\n".join([*lines, *left_out_section(failed, unfinished)])


def left_out_section(failed: Sequence[Path], unfinished: Sequence[Path] = ()) -> list[str]:
    """The lines of Markdown sections of what is in no table, if there is any."""
    lines = []
    for heading, paths, say_why in (
        ("Failed", failed, read_error),
        ("Not finished", unfinished, how_far),
    ):
        said = [f"- {in_markdown(path)}: {in_markdown(say_why(path))}" for path in paths]
        lines += [f"## {heading}", "", *said, ""] if said else []
    return [*lines, HOW_TO_END_IT, ""] if lines else []


def to_csv(tables: Sequence[Table], failed: Sequence[Path] = ()) -> str:
    """All tables in one file, a line for each row; failed jobs have only ``name`` and ``error``."""
    settings = list(dict.fromkeys(name for table in tables for name in table.settings))
    lines = [_csv_line(table, number, row, settings)
             for table in tables for number, row in enumerate(table.rows)]  # fmt: skip
    return csv_text([*lines, *({"name": path, "error": read_error(path)} for path in failed)])


def to_latex(tables: Sequence[Table]) -> str:
    """A ``tabular`` for each data set, and what it needs."""
    lines = ["% \\usepackage{booktabs}"]
    for table in tables:
        rows = [
            {
                "": str(number + 1),
                "what differs": ", ".join(table.differs(number)),
                "seeds": str(len(row.runs)),
                f"val. {_words(table.monitor)} %": _validation(row),
                "test accuracy %": f"{percent(row.accuracy)} {interval(*row.interval, percent)}",
                "difference": _difference(table, row, dash="reference"),
                "time": duration(row.seconds),
            }
            for number, row in enumerate(table.rows)
        ]
        about = " ".join(f"{table.data}. {caption(table)}".split())
        lines += ["", f"% {about}", *latex_table(rows, words=("what differs",))]
    return "\n".join([*lines, ""])


def _validation(row: Row) -> str:
    bounds = row.validation_interval
    return percent(row.validation) + (f" {interval(*bounds, percent)}" if bounds else "")


def _difference(table: Table, row: Row, dash: str) -> str:
    """With its interval, and the row where it is not the reference; "" of what is not judged."""
    if row.difference is None:
        return dash if row is table.rows[table.reference] else ""
    to = "" if row.against in (None, table.reference) else f"to {row.against + 1}: "
    return to + judged(row.difference)


def _cells(table: Table, number: int, row: Row) -> dict[str, str]:
    """What the reader sees in each column, by its heading."""
    after = row.calibration_error_scaled
    pflop = "" if row.pflop is None else digits(row.pflop)
    shots = "/".join(percent(row.shots[name]) for name in SHOTS)
    return {
        "row": str(number + 1),
        "name": row.name,
        **{name: row.settings.get(name, "") for name in table.settings},
        "seeds": str(len(row.runs)),
        f"val {_words(table.monitor)} %": _validation(row),
        "test accuracy %": f"{percent(row.accuracy)} {interval(*row.interval, percent)}",
        "95 % over": row.interval_over,
        "difference": _difference(table, row, dash="–"),
        "balanced accuracy %": percent(row.balanced_accuracy),
        "worst class %": f"{' '.join(row.worst_class.split())} {percent(row.worst_recall)}",
        **({SHOTS_COLUMN: shots} if table.has_shots else {}),
        "ECE %": percent(row.calibration_error) + ("" if after is None else f" → {percent(after)}"),
        "params M": "" if row.params is None else digits(row.params / 1e6),
        "MACs G": "" if row.macs is None else digits(row.macs / 1e9),
        **({"PFLOP": pflop} if table.has_pflop else {}),
        "time": duration(row.seconds),
    }


def _csv_line(table: Table, number: int, row: Row, settings: Sequence[str]) -> dict[str, Any]:
    found = row.difference
    return {
        "data": table.data,
        "source": table.source,
        "row": number + 1,
        "name": row.name,
        **{name: row.settings.get(name, "") for name in settings},
        "seeds": len(row.runs),
        "monitor": table.monitor,
        "validation": row.validation,
        "validation_low": row.validation_interval and row.validation_interval[0],
        "validation_high": row.validation_interval and row.validation_interval[1],
        "validation_tied": row.is_tied,
        "test_accuracy": row.accuracy,
        "interval_low": row.interval[0],
        "interval_high": row.interval[1],
        "interval_over": row.interval_over,
        "difference_to_row": None if row.against is None else row.against + 1,
        **with_bounds("difference", found),
        "difference_p": found and found.p,
        "verdict": found and found.verdict,
        "also_differs": "; ".join(row.also_differs),
        "balanced_accuracy": row.balanced_accuracy,
        "worst_class": row.worst_class,
        "worst_class_recall": row.worst_recall,
        **{f"{name}_shot_recall": row.shots[name] for name in SHOTS},
        "calibration_error": row.calibration_error,
        "calibration_error_scaled": row.calibration_error_scaled,
        "params": row.params,
        "macs": row.macs,
        "pflop": row.pflop,
        "seconds": row.seconds,
        "test_images": table.num_test_images.replace(",", ""),
        "runs": " ".join(map(str, row.runs)),
        "error": "",
    }


def _words(metric: str) -> str:
    return metric.replace("_", " ")
