"""The comparison on a terminal: what differs, how good it is, whether that is real; 80 columns.

- A row says in which choices it differs from the row that it is compared with; everything else
  about it stands in comparison.csv and comparison.md.
- No number, interval or verdict is ever cut: what differs is broken into lines instead, and where
  even that has no room the table is wider than the terminal.
- Below it stand what else differs, the best row's directory, and the command that made it.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn

from leanvit.errors import first_of
from leanvit.evaluation.comparison.left_out import HOW_TO_END_IT, how_far, read_error
from leanvit.evaluation.comparison.legend import sentences, ties
from leanvit.evaluation.comparison.reference import ASKED
from leanvit.evaluation.comparison.rows import Row, Table
from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.tables import interval, percent, points, say, visible

NUM_SHOWN = 50  # rows, and failed jobs; the files have all
NUM_KEYS = 8  # of what else differs, in one line
NUM_ITEMS = 6  # in which a row differs
LEAST = 16  # columns for what differs
COLUMNS = ("", "what differs", "seeds", "val %", "test %", "difference", "time")


def print_table(
    tables: Sequence[Table],
    failed: Sequence[Path] = (),
    unfinished: Sequence[Path] = (),
    console: Console | None = None,
) -> None:
    """Print to the terminal, as wide as it is."""
    console = console or Console()
    if not tables:
        console.print("No finished run.")
    for table in tables:
        about = f"{table.data}: {table.source}; {table.num_test_images} test images"
        console.print(escape(visible(about)), style="bold", highlight=False)
        _print_rows(table, console)
        if (more := len(table.rows) - NUM_SHOWN) > 0:
            say(console, f"The first {NUM_SHOWN} rows; {more:,} more are in comparison.csv.")
        if line := ties(table):
            say(console, line)
        say(console, legend(table))
        for line in differing_too(table):
            say(console, line)
        for line in best(table):
            console.print(escape(visible(line)), highlight=False, soft_wrap=True)
        console.print()
    print_left_out(failed, unfinished, console)


def print_left_out(failed: Sequence[Path], unfinished: Sequence[Path], console: Console) -> None:
    """A line for each failed job and each training that was interrupted, as far as somebody may
    read them."""
    for line in left_out_lines(failed, unfinished):
        say(console, line)


def left_out_lines(failed: Sequence[Path], unfinished: Sequence[Path]) -> list[str]:
    """What is in no table, and why."""
    lines = []
    for kind, paths, say_why in (
        ("not finished", unfinished, how_far),
        ("failed", failed, read_error),
    ):
        lines += [f"{kind}: {path}: {say_why(path)}" for path in paths[:NUM_SHOWN]]
        if (more := len(paths) - NUM_SHOWN) > 0:
            lines.append(f"{kind}: {more:,} more")
    return [*lines, HOW_TO_END_IT] if lines else []


def _print_rows(table: Table, console: Console) -> None:
    rows = table.rows[:NUM_SHOWN]
    differing = [_differing(table, number) for number in range(len(rows))]
    cells = [_cells(table, number, " ".join(items)) for number, items in enumerate(differing)]
    widths = [max(map(cell_len, "\n".join(column).split("\n")))
              for column in zip(COLUMNS, *cells, strict=True)]  # fmt: skip
    room = console.width - sum(widths) + widths[1] - 2 * len(widths) + 1
    widths[1] = min(widths[1], max(LEAST, room))
    drawn = Drawn(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for number, (name, width) in enumerate(zip(COLUMNS, widths, strict=True)):
        side: Literal["left", "right"] = "left" if number == 1 else "right"
        drawn.add_column(name, justify=side, width=width, no_wrap=True)
    for row, items in zip(cells, differing, strict=True):
        row[1] = "\n".join(folded(items, widths[1]))
        drawn.add_row(*(escape(visible(cell)) for cell in row))
    width, console.width = console.width, max(console.width, sum(widths) + 2 * len(widths))
    console.print(drawn)
    console.width = width


def _differing(table: Table, number: int) -> list[str]:
    """What tells a row apart, the first of it, behind the number of the row that it is made of."""
    items = [each.replace(" ", "") for each in table.differs(number)]
    if (more := len(items) - NUM_ITEMS) > 1:
        items[NUM_ITEMS:] = [f"+{more}"]
    against = table.rows[number].against
    return items if against in (None, table.reference) else [f"of {against + 1}:", *items]


def _cells(table: Table, number: int, differing: str) -> list[str]:
    row = table.rows[number]
    return [
        str(number + 1),
        differing,
        str(len(row.runs)),
        percent(row.validation),
        f"{percent(row.accuracy)}\n{interval(*row.interval, percent)}",
        _difference(row, number == table.reference),
        duration(row.seconds),
    ]


def _difference(row: Row, is_reference: bool) -> str:
    if is_reference:
        return "reference"
    if row.difference is None:
        return "" if row.against is None else "other images"
    found = row.difference
    said = f"{points(found.value)} {found.verdict}"
    if not found.is_shown:
        said = found.verdict.replace(" shown", "\nshown")  # as narrow as the interval
    return f"{said}\n{interval(found.low, found.high, points)}"


def folded(items: Sequence[str], width: int) -> list[str]:
    """Items side by side, in lines of this width; what is too long is broken, best before a value
    or a part of a name."""
    lines: list[str] = []
    is_open = False  # whether another item may stand in the last line
    for item in items:
        if is_open and cell_len(lines[-1]) + 1 + cell_len(item) <= width:
            lines[-1] += f" {item}"
            continue
        is_open = cell_len(item) <= width
        while cell_len(item) > width:
            head = chop_cells(item, width)[0]
            cut = head.rfind("=") + 1 or head.rfind(".") + 1 or len(head)
            lines.append(item[:cut])
            item = f" {item[cut:]}"
        lines.append(item)
    return lines


def legend(table: Table) -> str:
    """How to read it."""
    several = f"Times are from different devices: {', '.join(table.devices)}."
    return " ".join([*sentences(table), *([several] if len(table.devices) > 1 else [])])


def differing_too(table: Table) -> list[str]:
    """A line, where rows differ in more than what is asked about: net, loss, sampler, method."""
    found: Counter[str] = Counter()
    for number, row in enumerate(table.rows[:NUM_SHOWN]):
        if row.against is None:
            continue
        names, also = ([each.partition("=")[0] for each in items]
                       for items in (table.differs(number), row.also_differs))  # fmt: skip
        # a value of what is asked, as method.macs, is asked, too
        recipe = [name for name in names if name.partition(".")[0] not in ASKED]
        found.update([*(recipe if len(recipe) < len(names) else ()), *also])
    keys = [key for key, _ in found.most_common()]
    if not keys:
        return []
    which = first_of(keys, NUM_KEYS)
    return [f"Rows differ in {which}, too: their differences hold that."]


def best(table: Table) -> list[str]:
    """Where the best row by validation lies, and the command that made it."""
    number, run = table.best, table.rows[table.best].runs[0]
    command = read_run(run).get("command")
    more = len(table.rows[number].runs) - 1
    seeds = f" and {more} more seed{'s' * (more > 1)}" if more else ""
    here = Path(os.path.relpath(run))
    place = run if here.parts[:1] == ("..",) else here
    told = [f"best by validation: {number + 1}, {place}{seeds}"]
    return [*told, f"  {command}"] if isinstance(command, str) else told


def duration(seconds: float) -> str:
    """In the unit that fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
