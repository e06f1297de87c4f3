"""One table, three forms: Markdown and CSV to keep, one for the terminal to look at.

- A table is its rows: the cells of each by heading, the same headings in every row. Of CSV the
  cells are values with every digit, of the others texts that are rounded to what an interval
  supports.
- Names come from people and from runs that are handed on: in Markdown they are text and no markup,
  in CSV text and no formula of a spreadsheet.
- The terminal table leaves out whole columns rather than breaking names to pieces, and says which;
  what all rows have in common it still tells.
"""

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from unicodedata import category

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from leanvit.evaluation.comparison.intervals import NO_DIFFERENCE, Difference, Ratio
from leanvit.files import atomic_path

# emphasis, code, the next cell; the second half of a link; what only stands within words is none
MARKUP = r"[\\`*|]|(?<=\])\(|(?<![^\W_])_|_(?![^\W_])"
# what a backslash in front does not make a letter; a bracket behind a line's end is its argument
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
         "[": "{[}", "]": "{]}"}  # fmt: skip
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories: control, format, surrogate, ...
Rows = Sequence[Mapping[str, str]]


def markdown_table(rows: Rows) -> list[str]:
    """Its lines."""
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return ["| " + " | ".join(map(in_markdown, row)) + " |" for row in cells]


def in_markdown(text: object) -> str:
    """Text as it reads, on one line: no HTML, no link, no cell, no code."""
    line = re.sub(MARKUP, r"\\\g<0>", visible(" ".join(str(text).split())))
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", line))


def visible(text: str) -> str:
    """Without what moves the cursor of a terminal, or changes the direction of writing."""
    return "".join("?" if category(each) in UNSEEN and each != "\n" else each for each in text)


def latex_table(rows: Rows, words: Collection[str]) -> list[str]:
    """The lines of a ``tabular`` of the package booktabs.

    Args:
        words: headings of columns that stand left and may be broken into lines.
    """
    sides = "".join("p{0.35\\linewidth}" if name in words else "r" for name in rows[0])
    lines = [
        " & ".join(map(in_latex, row)) + r" \\"
        for row in (rows[0], *(row.values() for row in rows))
    ]
    head, *body = lines
    return [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule", *body,
            r"\bottomrule", r"\end{tabular}"]  # fmt: skip


def in_latex(text: object) -> str:
    """Text as it reads, on one line."""
    line = visible(" ".join(str(text).split()))
    return re.sub(r"[\\&%$#_{}~^<>|\[\]]", lambda found: LATEX.get(found[0], f"\\{found[0]}"), line)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows below a heading of all their keys; None is empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(no_formula, columns))
    writer.writerows([no_formula(row.get(column)) for column in columns] for row in rows)
    return file.getvalue()


def no_formula(value: Any) -> Any:
    """Text that a spreadsheet would compute, with the mark that makes it text; numbers stay."""
    text = str(value)
    if isinstance(value, int | float) or text.lstrip()[:1] not in ("=", "+", "-", "@"):
        return value
    with suppress(ValueError):
        float(text)
        return value
    return f"'{text}"


def write_texts(stem: Path, markdown: str, csv: str, latex: str | None = None) -> None:
    """Write ``stem`` with ``.md``, with ``.csv`` and, where there is one, with ``.tex``.

    Raises:
        LeanvitError: the place cannot be written.
    """
    for suffix, text in ((".md", markdown), (".csv", csv), (".tex", latex)):
        if text is None:
            continue
        with atomic_path(stem.with_name(stem.name + suffix)) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")


def show(
    console: Console,
    title: str,
    rows: Rows,
    words: Collection[str],
    caption: str = "",
    droppable: Sequence[str] = (),
) -> None:
    """Print a table to the terminal, as wide as it is.

    Args:
        words: headings of what stands left; other columns are numbers, and stand right.
        caption: said below.
        droppable: headings of what is left out where all is too wide, in this order.
    """
    widths = {name: _width(lines) for name, lines in _columns(rows).items()}
    dropped: list[str] = []
    for name in droppable:
        if name in widths and sum(widths.values()) + 2 * len(widths) - 1 > console.width:
            del widths[name]
            dropped.append(name)
    is_loose = sum(widths.values()) + 2 * len(widths) - 1 <= console.width
    _squeeze(widths, rows, words, console.width - len(widths) + 1)
    table = Table(
        title=escape(visible(title)), title_justify="left", padding=(0, int(is_loose), 0, 0)
    )
    table.box, table.show_edge = box.SIMPLE_HEAD, False
    for name, width in widths.items():
        side: Literal["left", "right"] = "left" if name in words else "right"
        heading = escape(name.replace(" ", "\n"))
        # fold: where nothing else helps, what is broken is still all there
        table.add_column(heading, justify=side, width=width, overflow="fold")
    for row in rows:
        table.add_row(*(escape(visible(row[name])) for name in widths))
    console.print(table)
    if caption:
        say(console, caption)
    of_all = {name: {row[name] for row in rows} for name in dropped}
    told = [
        f"{name} = {one.pop()}" if len(one) == 1 else name
        for name, one in of_all.items()
        if one != {""}  # where nothing stands, nothing is missed
    ]
    if told:
        say(console, f"Not shown, for width: {', '.join(told)}.")


def _columns(rows: Rows) -> dict[str, list[str]]:
    """The lines of all cells of each column; the words of a heading stand below each other."""
    cells = {name: [name.replace(" ", "\n"), *(row[name] for row in rows)] for name in rows[0]}
    return {name: "\n".join(column).split("\n") for name, column in cells.items()}


def _width(lines: Iterable[str]) -> int:
    return max(map(cell_len, lines))


def _squeeze(widths: dict[str, int], rows: Rows, words: Collection[str], room: int) -> None:
    """Make columns narrower, those of words first, as far as no word of a cell is broken."""
    least = {name: _width(" ".join(lines).split(" ")) for name, lines in _columns(rows).items()}
    for kind in ([name for name in widths if name in words], list(widths)):
        while sum(widths.values()) > room:
            wide = [name for name in kind if widths[name] > least[name]]
            if not wide:
                break
            widths[max(wide, key=lambda name: widths[name])] -= 1


def say(console: Console, text: str) -> None:
    """Print text as it is, broken into lines that fit."""
    console.print(visible(text), highlight=False, markup=False)


def percent(fraction: float | None) -> str:
    """With one decimal; "–" where it is not known."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def points(fraction: float) -> str:
    """A difference, with two decimals and its sign."""
    return f"{100 * fraction + 0.0:+.2f}"


def digits(value: float) -> str:
    """Three digits that count, and all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interval(low: float, high: float, write: Callable[[float], str]) -> str:
    """``[low, high]``."""
    return f"[{write(low)}, {write(high)}]"


def with_bounds(name: str, found: Difference | Ratio | None) -> dict[str, float | None]:
    """A value and its interval, as columns of a CSV."""
    values = (found.value, found.low, found.high) if found else (None,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def judged(found: Difference | Ratio | None, write: Callable[[float], str] = points) -> str:
    """A value with its interval, and in words where it shows nothing; "–" of what is None."""
    if found is None:
        return "–"
    numbers = f"{write(found.value)} {interval(found.low, found.high, write)}"
    return numbers if found.is_shown else f"{numbers}; {NO_DIFFERENCE}"
