"""The comparison as text: Markdown and CSV to keep, a table for the terminal to look at.

- Each table says where its images come from, how many there are, and what put the rows in order.
- Markdown and terminal round to what an interval supports; CSV keeps every digit.
- The terminal table leaves out the less important columns rather than breaking names to pieces,
  and says which.
- Jobs that failed stand below, each with its error: a grid with holes does not look complete.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from leanvit.evaluation.compare import ALWAYS_SHOWN, STAGES, Row, Table, compare
from leanvit.evaluation.comparison_csv import to_csv
from leanvit.evaluation.intervals import NO_DIFFERENCE
from leanvit.evaluation.metrics import SHOTS
from leanvit.evaluation.runs import read_error
from leanvit.files import atomic_path

SHOTS_COLUMN = "/".join(SHOTS) + " %"
# What the terminal table leaves out when it is too wide, in this order: the settings that are the
# same in every row, LESS, the options without which rows are still told apart, and MORE. The rest
# is what the question needs: which, how good, is it real.
LESS = ("ECE %", "time", "name")
MORE = ("balanced accuracy %", "params M", "worst class %", SHOTS_COLUMN, "MACs G")


def write_comparison(runs: Sequence[Path], failed: Sequence[Path], folder: Path) -> list[Table]:
    """Compare finished runs and write ``comparison.md`` and ``comparison.csv`` into ``folder``.

    Args:
        runs: directories of finished runs.
        failed: directories of runs that failed, with ``error.txt``.

    Returns:
        the tables, to be printed.

    Raises:
        LeanvitError: a directory is not a finished run, or ``folder`` cannot be written.
    """
    tables = compare(runs)
    with atomic_path(folder / "comparison.md") as part:
        part.write_text(to_markdown(tables, failed))
    with atomic_path(folder / "comparison.csv") as part:
        part.write_text(to_csv(tables, failed))
    return tables


def caption(table: Table) -> str:
    """What a reader must know before the numbers."""
    sentences = [
        f"{table.source}. n = {table.num_test_images} test images.",
        f"In order of validation {_words(table.monitor)} (the test set chose nothing).",
        "Brackets: 95 % intervals, over seeds or over test images as said. Difference: test "
        "accuracy minus that of the first row, in points, by a paired bootstrap over test images; "
        "it does not hold the luck of training.",
    ]
    if _has_shots(table):
        sentences.append(
            "Many/medium/few: mean recall of the classes with more than 100, 20 to 100 and fewer "
            "than 20 training images of the row's own."
        )
    if any(row.calibration_error_scaled is not None for row in table.rows):
        sentences.append("ECE: before → after temperature scaling, fitted on validation.")
    if len(table.devices) > 1:
        sentences.append(f"Times are from different devices: {', '.join(table.devices)}.")
    else:
        sentences.append(f"Times on {table.devices[0]}.")
    if table.num_repeats:
        sentences.append(f"{table.num_repeats} older run(s) with the same seed left out.")
    return " ".join(sentences)


def to_markdown(tables: Sequence[Table], failed: Sequence[Path] = ()) -> str:
    """One section a data set, then the failed jobs."""
    lines = [] if tables else ["No finished run.", ""]
    for table in tables:
        cells = [_cells(table, row) for row in table.rows]
        lines += [f"## {table.data}", "", caption(table), ""]
        lines.append(_markdown_row(list(cells[0])))
        lines.append(_markdown_row(["---"] * len(cells[0])))
        lines += [_markdown_row(list(row.values())) for row in cells]
        lines.append("")
    if failed:
        lines += ["## Failed", ""]
        lines += [f"- `{path}`: {read_error(path)}" for path in failed]
        lines.append("")
    return "\n".join(lines)


def print_table(
    tables: Sequence[Table], failed: Sequence[Path] = (), console: Console | None = None
) -> None:
    """Print to the terminal, as wide as it is."""
    console = console or Console()
    if not tables:
        console.print("No finished run.")
    for table in tables:
        cells = [_terminal_cells(table, row) for row in table.rows]
        same = [name for name in table.settings if len({row[name] for row in cells}) == 1]
        dropped: list[str] = []
        order = [*LESS, *_redundant(cells, table.settings), *MORE]
        droppable = [name for name in order if name in cells[0] and name not in same]
        for name in [*(same if len(cells) > 1 else []), *droppable, None]:
            rich_table = _rich_table(table.data, cells, dropped, tight=name is None)
            width = console.measure(rich_table, options=console.options.update(width=1000)).maximum
            if width <= console.width or name is None:
                break
            dropped.append(name)
        console.print(rich_table)
        console.print(caption(table), highlight=False, markup=False)
        if dropped:
            told = [f"{name} = {cells[0][name]}" if name in same else name for name in dropped]
            console.print(
                f"Not shown, for width: {', '.join(told)}.", highlight=False, markup=False
            )
        console.print()
    for path in failed:
        console.print(f"failed: {path}: {read_error(path)}", highlight=False, markup=False)


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
    low, high = row.interval
    shots = "/".join(_percent(row.shots[name]) for name in SHOTS)
    return {
        "name": row.name,
        **{name: row.settings.get(name, "") for name in table.settings},
        "seeds": str(len(row.runs)),
        f"val {_words(table.monitor)} %": _percent(row.validation),
        "test accuracy %": f"{_percent(row.accuracy)} [{_percent(low)}, {_percent(high)}]",
        "95 % over": row.interval_over,
        "difference": "–" if row is table.rows[0] else _difference(row),
        "balanced accuracy %": _percent(row.balanced_accuracy),
        "worst class %": f"{row.worst_class} {_percent(row.worst_recall)}",
        **({SHOTS_COLUMN: shots} if _has_shots(table) else {}),
        "ECE %": _calibration(row),
        "params M": _scaled(row.params, 1e6),
        "MACs G": _scaled(row.macs, 1e9),
        "time": _duration(row.seconds),
    }


def _terminal_cells(table: Table, row: Row) -> dict[str, str]:
    """The same in less width: intervals below their values."""
    cells = _cells(table, row)
    over = cells.pop("95 % over")
    del cells["seeds"]
    value, interval = cells["test accuracy %"].split(" ", 1)
    cells["test accuracy %"] = f"{value}, {over}\n{interval}"
    if row.difference:
        value, interval = cells["difference"].removesuffix(f"; {NO_DIFFERENCE}").split(" ", 1)
        said = value if row.difference.is_shown else NO_DIFFERENCE.replace(" s", "\ns")
        cells["difference"] = f"{said}\n{interval}"
    return cells


def _rich_table(
    title: str, cells: Sequence[Mapping[str, str]], dropped: Sequence[str], tight: bool
) -> RichTable:
    padding = (0, 0) if tight else (0, 1, 0, 0)
    table = RichTable(title=escape(title), title_justify="left", padding=padding)
    table.box, table.show_edge = box.SIMPLE_HEAD, False
    columns = [name for name in cells[0] if name not in dropped]
    for name in columns:
        is_number = cells[0][name][:1].isdigit() or name == "difference"
        table.add_column(name.replace(" ", "\n"), justify="right" if is_number else "left")
    for row in cells:
        table.add_row(*(escape(row[name]) for name in columns))
    return table


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    low, high = 100 * row.difference.low, 100 * row.difference.high
    numbers = f"{100 * row.difference.value:+.2f} [{low:+.2f}, {high:+.2f}]"
    return numbers if row.difference.is_shown else f"{numbers}; {NO_DIFFERENCE}"


def _has_shots(table: Table) -> bool:
    """Whether at least two of the groups exist: one alone says what balanced accuracy says."""
    return sum(any(row.shots[name] is not None for row in table.rows) for name in SHOTS) > 1


def _calibration(row: Row) -> str:
    after = row.calibration_error_scaled
    before = _percent(row.calibration_error)
    return before if after is None else f"{before} → {_percent(after)}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def _scaled(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
