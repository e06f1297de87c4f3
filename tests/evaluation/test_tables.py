"""The one writer of tables: nothing is cut, whatever the width."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from leanvit.evaluation import tables
from leanvit.evaluation.comparison.intervals import NO_DIFFERENCE, Difference
from leanvit.evaluation.tables import csv_text, digits, judged, markdown_table, show

ROWS = [
    {"net": "vit, [64, 64]", "test accuracy %": "76.7\n[73.9, 79.4]", "MACs G": "0.25", "p": "1"},
    {"net": "coatnet, focal", "test accuracy %": "33.3\n[-53.33, -32.96]", "MACs G": "0.3",
     "p": "1"},
]  # fmt: skip


def shown(width: int, droppable: tuple[str, ...] = (), rows: list[dict[str, str]] = ROWS) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console, "Nets", rows, ("net",), "what it is of [x]", droppable)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.split("\n"))) <= width
    return text


@pytest.mark.parametrize("width", [24, 32, 36, 48, 60, 100])
def test_no_letter_is_lost(width: int) -> None:
    letters = "".join(shown(width).split())
    assert "…" not in letters and "whatitisof[x]" in letters
    for row in ROWS:
        for word in " ".join(row.values()).split():
            assert word in letters or width < 32, word  # there words are folded


def test_words_are_broken_before_intervals() -> None:
    assert "[-53.33, -32.96]" in shown(34) and "coatnet, focal" not in shown(34)


def test_what_is_left_out_is_told() -> None:
    order = ("p", "MACs G", "nowhere")
    assert "Not shown" not in shown(100, order)
    assert shown(40, order).endswith("Not shown, for width: p = 1.\n")  # the same in all rows
    assert shown(37, order).endswith("Not shown, for width: p = 1, MACs G.\n")
    assert "Not shown" not in shown(40, order, [row | {"p": ""} for row in ROWS])


def test_markdown_and_csv() -> None:
    assert markdown_table([{"a": "1|2", "b": ""}]) == ["| a | b |", "| --- | --- |", "| 1\\|2 |  |"]
    assert csv_text([{"a": 0.1, "b": None}, {"c": "x,y"}]) == 'a,b,c\n0.1,,\n,,"x,y"\n'


def test_numbers_are_rounded_and_judged() -> None:
    assert [digits(value) for value in (1234.5, 99.94, 0.01234)] == ["1,234", "99.9", "0.0123"]
    assert judged(Difference(0.05, 0.01, 0.09, 0.01)) == "+5.00 [+1.00, +9.00]"
    assert judged(Difference(0.0, -0.01, 0.01, 1.0)) == f"+0.00 [-1.00, +1.00]; {NO_DIFFERENCE}"
    assert judged(None) == "–"


def test_finished_runs_are_compared_without_torch() -> None:
    """It takes seconds to import, and so do the libraries that draw."""
    rooms = Path(tables.__file__).parent.glob("comparison/*.py")
    lines = [f"import leanvit.evaluation.comparison.{room.stem}" for room in rooms]
    heavy = "{'torch', 'torchvision', 'matplotlib', 'thop'} & set(sys.modules)"
    program = "\n".join(["import sys", *lines, f"assert not {heavy}, {heavy}"])
    subprocess.run(
        [sys.executable, "-c", program], cwd=Path(tables.__file__).parents[2], check=True
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a <!-- b", "a &lt;!-- b"),
        ("[here](http://x)", "[here]\\(http://x)"),
        ("![x](y)", "![x]\\(y)"),
        ("one\r\n\n# two | three", "one # two \\| three"),
        ("a\\|b", "a\\\\\\|b"),
        ("_a_b_ 2*3*4", "\\_a_b\\_ 2\\*3\\*4"),
        ("`rm`", "\\`rm\\`"),
        ("&lt;b&#62;", "&amp;lt;b&amp;#62;"),
        ("\x1b[2J\u202eabc\ud800", "?[2J?abc?"),
        ("vit_b_16 < 0.001 [69.1, 70.2] & 猫", "vit_b_16 < 0.001 [69.1, 70.2] & 猫"),
    ],
)
def test_names_are_no_markup(given: str, shown: str) -> None:
    assert markdown_table([{given: given}]) == [f"| {shown} |", "| --- |", f"| {shown} |"]


def test_names_are_no_formula() -> None:
    odd = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", Path("=x")]
    kept = ["-1.5", "+3", "-inf", "a=b", -2, 0.5, None, "", "1+1"]
    for value in odd:
        (_, row) = list(csv.reader(io.StringIO(csv_text([{"a": value}]))))
        assert row == [f"'{value}"]
    assert csv_text([{"=x": "y"}]).startswith("'=x\n")
    rows = list(csv.reader(io.StringIO(csv_text([{"a": value, "b": 1} for value in kept]))))
    assert [row[0] for row in rows[1:]] == ["" if each is None else str(each) for each in kept]


def test_a_terminal_is_not_moved() -> None:
    console = Console(file=io.StringIO(), width=80)
    show(console, "\x1b[2Ja", [{"net": "\x1b]0;title\x07"}], ("net",), "\x1b[31mred")
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
