"""The comparison as text: Markdown and CSV to keep, a table for the terminal to look at.

- Each table says where its images come from, how many there are, and what put the rows in order.
- In the CSV accuracies are fractions of 1, times seconds, costs plain numbers; what is not known is
  empty.
- Jobs that failed stand below, each with its error: a grid with holes does not look complete.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from leanvit.evaluation.comparison.compare import (
    ALWAYS_SHOWN,
    NUM_JUDGED,
    STAGES,
    Row,
    Sort,
    Table,
    compare,
)
from leanvit.evaluation.comparison.intervals import NO_DIFFERENCE
from leanvit.evaluation.comparison.left_out import read_error
from leanvit.evaluation.measure.metrics import SHOTS
from leanvit.evaluation.tables import (
    csv_text,
    digits,
    in_markdown,
    interval,
    judged,
    markdown_table,
    percent,
    say,
    show,
    with_bounds,
    write_texts,
)

NUM_SHOWN = 50  # rows, and failed jobs, on the terminal; the files have all
SHOTS_COLUMN = "/".join(SHOTS) + " %"
# What the terminal table leaves out when it is too wide, in this order: the settings that are the
# same in every row, LESS, the options without which rows are still told apart, and MORE. The rest
# is what the question needs: which, how good, is it real.
LESS = ("ECE %", "time", "name")
MORE = ("balanced accuracy %", "params M", "worst class %", SHOTS_COLUMN, "MACs G", "PFLOP")


def write_comparison(
    runs: Sequence[Path], failed: Sequence[Path], folder: Path, sort: Sort = "validation"
) -> list[Table]:
    """Compare finished runs and write what came out, see :func:`write_tables`.

    Raises:
        LeanvitError: a directory is not a finished run, or ``folder`` cannot be written.
    """
    tables = compare(runs, sort=sort)
    write_tables(tables, failed, folder)
    return tables


def write_tables(tables: Sequence[Table], failed: Sequence[Path], folder: Path) -> None:
    """Write ``comparison.md``, ``comparison.csv`` and, for each data set, ``progress-<data>.png``
    into ``folder``.

    Args:
        failed: directories of runs that failed, with ``error.txt``.

    Raises:
        LeanvitError: ``folder`` cannot be written.
    """
    write_texts(folder / "comparison", to_markdown(tables, failed), to_csv(tables, failed))
    from leanvit.evaluation.pictures.progress import draw_progress  # imports matplotlib

    draw_progress(tables, folder)


def caption(table: Table) -> str:
    """What a reader must know before the numbers."""
    sentences = [
        f"{table.source}. n = {table.num_test_images} test images.",
        f"In order of {_order(table)} (the test set chose nothing).",
        "Brackets: 95 % intervals, over seeds or over test images as said. Difference: test "
        "accuracy minus that of the first row, in points, by a paired bootstrap over test images; "
        "it does not hold the luck of training.",
    ]
    if table.has_shots:
        sentences.append(
            "Many/medium/few: mean recall of the classes with more than 100, 20 to 100 and fewer "
            "than 20 training images of the row's own."
        )
    if any(row.calibration_error_scaled is not None for row in table.rows):
        sentences.append("ECE: before → after temperature scaling, fitted on validation.")
    if len(table.rows) > NUM_JUDGED:
        sentences.append(f"Differences are told of the first {NUM_JUDGED} rows.")
    several = "are from different devices:" if len(table.devices) > 1 else "on"
    sentences.append(f"Times {several} {', '.join(table.devices)}.")
    if table.num_repeats:
        sentences.append(f"{table.num_repeats} older run(s) with the same seed left out.")
    return " ".join(sentences)


def to_markdown(tables: Sequence[Table], failed: Sequence[Path] = ()) -> str:
    """One section a data set, then the failed jobs."""
    lines = [] if tables else ["No finished run.", ""]
    for table in tables:
        cells = [_cells(table, row) for row in table.rows]
        about = f"## {in_markdown(table.data)}", "", in_markdown(caption(table)), ""
        lines += [*about, *markdown_table(cells), ""]
    return "\n".join([*lines, *failed_section(failed)])


def failed_section(failed: Sequence[Path]) -> list[str]:
    """The lines of a Markdown section of the failed jobs, if there are any."""
    if not failed:
        return []
    lines = [f"- {in_markdown(path)}: {in_markdown(read_error(path))}" for path in failed]
    return ["## Failed", "", *lines, ""]


def to_csv(tables: Sequence[Table], failed: Sequence[Path] = ()) -> str:
    """All tables in one file, a line for each row; failed jobs have only ``name`` and ``error``."""
    settings = list(dict.fromkeys(name for table in tables for name in table.settings))
    lines = [_csv_line(table, row, settings) for table in tables for row in table.rows]
    return csv_text([*lines, *({"name": path, "error": read_error(path)} for path in failed)])


def print_table(
    tables: Sequence[Table],
    failed: Sequence[Path] = (),
    console: Console | None = None,
) -> None:
    """Print to the terminal, as wide as it is."""
    console = console or Console()
    if not tables:
        console.print("No finished run.")
    for table in tables:
        cells = [_terminal_cells(table, row) for row in table.rows[:NUM_SHOWN]]
        numbers = {name for name, cell in cells[0].items() if cell[:1].isdigit()} | {"difference"}
        same = [name for name in table.settings if len({row[name] for row in cells}) == 1]
        redundant = [name for name in _redundant(cells, table.settings) if name not in same]
        droppable = [*(same if len(cells) > 1 else []), *LESS, *redundant, *MORE]
        show(console, table.data, cells, cells[0].keys() - numbers, caption(table), droppable)
        if (more := len(table.rows) - NUM_SHOWN) > 0:
            say(console, f"The first {NUM_SHOWN} rows; {more:,} more are in comparison.csv.")
        console.print()
    print_failed(failed, console)


def print_failed(failed: Sequence[Path], console: Console) -> None:
    """A line for each failed job, as far as somebody may read them."""
    for path in failed[:NUM_SHOWN]:
        say(console, f"failed: {path}: {read_error(path)}")
    if (more := len(failed) - NUM_SHOWN) > 0:
        say(console, f"failed: {more:,} more")


def _redundant(cells: Sequence[Mapping[str, str]], settings: Sequence[str]) -> list[str]:
    """Options without which rows are told apart as well as with them."""
    kept, redundant = list(settings), []
    for name in reversed(settings):
        rest = [each for each in kept if each != name]
        is_option = name not in (*ALWAYS_SHOWN, *STAGES)
        if is_option and _num_told_apart(cells, rest) == _num_told_apart(cells, kept):
            kept = rest
            redundant.append(name)
    return redundant


def _num_told_apart(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(row[name] for name in names) for row in cells})


def _cells(table: Table, row: Row) -> dict[str, str]:
    """What the reader sees in each column, by its heading."""
    # not judged, or tested on other images
    unlike = row.difference is None and row is not table.rows[0]
    after = row.calibration_error_scaled
    pflop = "" if row.pflop is None else digits(row.pflop)
    shots = "/".join(percent(row.shots[name]) for name in SHOTS)
    return {
        "name": row.name,
        **{name: row.settings.get(name, "") for name in table.settings},
        "seeds": str(len(row.runs)),
        f"val {_words(table.monitor)} %": percent(row.validation),
        "test accuracy %": f"{percent(row.accuracy)} {interval(*row.interval, percent)}",
        "95 % over": row.interval_over,
        "difference": "" if unlike else judged(row.difference),
        "balanced accuracy %": percent(row.balanced_accuracy),
        "worst class %": f"{' '.join(row.worst_class.split())} {percent(row.worst_recall)}",
        **({SHOTS_COLUMN: shots} if table.has_shots else {}),
        "ECE %": percent(row.calibration_error) + ("" if after is None else f" → {percent(after)}"),
        "params M": "" if row.params is None else digits(row.params / 1e6),
        "MACs G": "" if row.macs is None else digits(row.macs / 1e9),
        **({"PFLOP": pflop} if table.has_pflop else {}),
        "time": _duration(row.seconds),
    }


def _terminal_cells(table: Table, row: Row) -> dict[str, str]:
    """The same in less width: intervals below their values."""
    cells = _cells(table, row)
    over = cells.pop("95 % over")
    del cells["seeds"]
    cells["test accuracy %"] = cells["test accuracy %"].replace(" [", f", {over}\n[")
    if row.difference:
        value, numbers = cells["difference"].removesuffix(f"; {NO_DIFFERENCE}").split(" ", 1)
        said = value if row.difference.is_shown else NO_DIFFERENCE.replace(" s", "\ns")
        cells["difference"] = f"{said}\n{numbers}"
    return cells


def _csv_line(table: Table, row: Row, settings: Sequence[str]) -> dict[str, Any]:
    found = row.difference
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
        **with_bounds("difference", found),
        "difference_p": found and found.p,
        "verdict": found and found.verdict,
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


def _order(table: Table) -> str:
    words = {"pflop": "PFLOP of training", "time": "training time"}
    return words.get(table.sort, f"validation {_words(table.monitor)}")


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
