"""Tables of more rows than anybody reads."""

from pathlib import Path

import pytest
from fake_runs import write_failed_run, write_fake_run
from rich.console import Console

from leanvit.evaluation.comparison import legend, narrow_table, reference
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.narrow_table import print_table
from leanvit.evaluation.comparison.table import caption, to_csv, to_markdown
from leanvit.evaluation.pictures import progress


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_fake_run(tmp_path / f"{number}", loss=f"loss{number}", val_wrong=range(number))
            for number in range(6)]  # fmt: skip


def printed(runs: list[Path], failed: list[Path]) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        print_table(compare(runs), failed, console=console)
    return capture.get()


def test_the_terminal_shows_the_best_and_says_where_the_rest_is(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = [write_failed_run(tmp_path / f"failed{number}") for number in range(6)]
    whole = printed(runs, failed)
    assert "more" not in whole and whole.count("failed:") == 6
    monkeypatch.setattr(narrow_table, "NUM_SHOWN", 4)
    said = printed(runs, failed)
    assert "The first 4 rows; 2 more are in comparison.csv." in said and "failed: 2 more" in said
    assert "loss3" in said and "loss4" not in said and said.count("no image") == 4
    (table,) = compare(runs)
    for text in (to_csv([table], failed), to_markdown([table], failed)):
        assert all(f"loss{number}" in text and f"failed{number}" in text for number in range(6))


def test_differences_are_of_the_first_rows(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = compare(runs)
    assert "Differences are told" not in caption(whole)
    monkeypatch.setattr(reference, "NUM_JUDGED", 4)
    monkeypatch.setattr(legend, "NUM_JUDGED", 4)
    (table,) = compare(runs)
    told = [row.difference for row in whole.rows]
    assert [row.difference for row in table.rows] == [*told[:4], None, None] and None in told[:1]
    assert "Differences are told of the first 4 rows." in caption(table)


def test_no_more_lines_are_drawn_than_look_different(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "NUM_LOOKS", 3)
    (table,) = compare(runs)
    assert [each.label for each in progress.courses_of(table)] == [
        table.label(row) for row in table.rows[:3]
    ]
