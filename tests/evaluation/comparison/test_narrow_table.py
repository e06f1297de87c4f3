"""The table of a terminal, at the widths that terminals have."""

import io
import json
from pathlib import Path

import pytest
from fake_runs import write_fake_run
from rich.console import Console

from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.narrow_table import folded, print_table
from leanvit.evaluation.comparison.rows import Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    long = {"optimizer.weight_decay": 0.0005, "model.dims": "[64, 128, 256, 512]"}
    runs = [
        write_fake_run(tmp_path / "a", loss="ce", test_wrong=range(9), val_wrong=[0]),
        write_fake_run(tmp_path / "b", loss="balanced_softmax", sampler="effective_number"),
        write_fake_run(tmp_path / "c", loss="ce", overrides=long, test_wrong=range(60)),
        write_fake_run(tmp_path / "d", model="dynamic_vit", loss="ce", val_wrong=[0, 1],
                       test_wrong=range(1, 10)),
    ]  # fmt: skip
    told = json.loads((runs[1] / "metrics.json").read_text())
    command = "python src/train.py loss=balanced_softmax sampler=effective_number " + "x" * 90
    (runs[1] / "metrics.json").write_text(json.dumps({**told, "command": command}))
    (made,) = compare(runs)
    return made


def shown(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table([table], console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_no_number_interval_or_verdict_is_cut(table: Table, width: int) -> None:
    text = shown(table, width)
    for row in table.rows:
        assert f"{100 * row.accuracy:.1f}" in text
        assert f"[{100 * row.interval[0]:.1f}, {100 * row.interval[1]:.1f}]" in text
    for words in ("better", "worse", "no difference", "reference", "loss=", "balanced_softmax"):
        assert words in text
    assert "…" not in text
    rows = [line for line in text.splitlines() if "x" * 9 not in line and str(table.rows[0].runs[0])
            not in line]  # fmt: skip
    assert max(map(len, rows)) <= max(width, 80)


def test_below_stand_the_best_run_and_its_command_whole(table: Table) -> None:
    lines = shown(table, 80).splitlines()
    assert f"best by validation: 1, {table.rows[0].runs[0]}" in lines
    assert any(line.endswith("x" * 90) and "loss=balanced_softmax" in line for line in lines)


def test_a_line_says_what_else_differs(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / loss, loss=loss, overrides={"max_epochs": epochs})
            for loss, epochs in (("ce", 9), ("focal", 5))]  # fmt: skip
    (table,) = compare(runs)
    assert "Rows differ in max_epochs, too" in shown(table, 80)
    runs[1] = write_fake_run(tmp_path / "same", loss="focal", overrides={"max_epochs": 9})
    (table,) = compare(runs)
    assert "Rows differ" not in shown(table, 80)


def test_values_of_what_is_asked_are_not_what_else_differs(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / loss, loss=loss, overrides=overrides)
            for loss, overrides in (("ce", {}), ("focal", {"loss.gamma": 3.0}))]  # fmt: skip
    (table,) = compare(runs)
    assert "loss.gamma=3.0" in shown(table, 80) and "Rows differ" not in shown(table, 80)


def test_items_are_broken_before_values_and_parts_of_names() -> None:
    items = ["loss=ce", "mix=none", "optimizer.weight_decay=0.8", "a=1", "b" * 30]
    lines = folded(items, 16)
    assert lines == ["loss=ce mix=none", "optimizer.", " weight_decay=", " 0.8", "a=1", "b" * 16,
                     f" {'b' * 14}"]  # fmt: skip
    assert max(map(len, lines)) <= 16 and folded(["a" * 16], 16) == ["a" * 16]
