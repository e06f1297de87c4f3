"""The published tables beside finished runs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import write_fake_run
from rich.console import Console

from leanvit.evaluation.comparison.published import print_published, write_published

TABLES = """experiment,accuracy,params_M,macs_G,note
wide,0.85,9,1.2,
small,0.80,1,0.1,
lost,0.7,1,0.5,x
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    path = tmp_path / "tables.csv"
    path.write_text(TABLES)
    return path


def run_of(folder: Path, experiment: str, data: str = "course", **values: Any) -> Path:
    path = folder / "runs" / str(len(list(folder.glob("runs/*"))))
    return write_fake_run(path, data=data, choices={"experiment": experiment}, **values)


def test_a_net_shows_its_best_recipe_by_validation_and_no_other_net(
    tmp_path: Path, tables: Path
) -> None:
    runs = [
        # the better one on the test images is the worse one on validation
        run_of(tmp_path, "small", seed=0, val_wrong=range(6), test_wrong=range(9)),
        run_of(tmp_path, "small", seed=1, val_wrong=range(6), test_wrong=range(18)),
        run_of(tmp_path, "small", overrides={"optimizer.lr": 1}, val_wrong=range(9)),
        # another net, other images
        run_of(tmp_path, "small", overrides={"model.depth": 2}),
        run_of(tmp_path, "lost", data="shapes"),
        run_of(tmp_path, "wide", test_wrong=range(9), val_wrong=range(3)),
    ]
    write_published(runs, tables, tmp_path / "out")
    with (tmp_path / "out" / "published.csv").open(newline="") as file:
        small, lost, wide = csv.DictReader(file)  # the cheapest first
    assert [line["experiment"] for line in (small, lost, wide)] == ["small", "lost", "wide"]
    assert float(small["accuracy"]) == pytest.approx(1 - 13.5 / 90)
    assert small["interval_over"] == "2 seeds" and len(small["runs"].split()) == 2
    assert float(wide["accuracy"]) == pytest.approx(0.9) and wide["interval_over"] == "images"
    assert lost["accuracy"] == lost["runs"] == lost["hardware"] == ""
    trained_on = json.loads((runs[0] / "metrics.json").read_text())["training"]["device"]
    assert trained_on and small["hardware"].endswith(trained_on)


def test_what_is_not_trained_says_so(tmp_path: Path, tables: Path) -> None:
    runs = [run_of(tmp_path, "wide", test_wrong=range(9))]
    lines = write_published(runs, tables, tmp_path / "out")
    console = Console(width=80, record=True, file=(tmp_path / "screen").open("w"))
    print_published(lines, console)
    for text in (console.export_text(), (tmp_path / "out" / "published.md").read_text()):
        assert text.count("not trained yet") == 2 and "+5.00" in text
    assert write_published([], tables, tmp_path / "out")[0].row is None
