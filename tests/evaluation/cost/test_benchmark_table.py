"""Rows of a benchmark from runs made up in milliseconds, and what is written of them."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import write_fake_run
from rich.console import Console

from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.cost.benchmark import Benchmark, names_of, timed_runs
from leanvit.evaluation.cost.benchmark_table import (
    caption,
    print_benchmark,
    to_csv,
    to_markdown,
    write_benchmark,
)
from leanvit.evaluation.cost.benchmark_times import Times


def times(single: float, rate: float, num_rounds: int = 8) -> Times:
    slowness = np.linspace(1, 2, num_rounds)  # of the machine
    return Times(np.outer(slowness, [single, 3 * single]), 16, rate / slowness)


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """A base, a run twice as fast that is wrong as often, and one that is worse."""
    tome, exits = {"lightweight": "tome"}, {"lightweight": "early_exit"}
    runs = [
        write_fake_run(tmp_path / "base", test_wrong=range(20)),
        write_fake_run(tmp_path / "tome", choices=tome, test_wrong=range(1, 21)),
        write_fake_run(tmp_path / "exits", choices=exits, test_wrong=range(60)),
    ]
    told = [read_run(run) for run in runs]
    told[2]["cost"]["macs_used"] = 9e7
    measured = [times(4e-3, 500), times(2e-3, 1000), times(4e-3, 400)]
    timed = timed_runs(runs, told, measured, ["float32", "float32", "bfloat16"])
    return Benchmark(timed, told[0]["source"], 90, 32, "cpu, 1 threads", 8)


def test_rows_are_compared_with_the_first(benchmark: Benchmark) -> None:
    base, tome, exits = benchmark.runs
    assert (base.difference, base.faster, base.faster_in_batches) == (None, None, None)
    assert tome.faster.value == pytest.approx(2) and tome.faster_in_batches.value == 2
    assert tome.difference.value == 0 and not tome.difference.is_shown
    assert exits.faster.value == 1 and not exits.faster.is_shown
    assert exits.faster_in_batches.value == pytest.approx(0.8)
    assert exits.difference.value == pytest.approx(-40 / 90) and exits.difference.is_shown
    assert (base.macs, exits.macs) == (250_000_000, 9e7)  # counted; used
    assert base.size == 16_000_000 and base.batch_size == 16
    assert base.latency.low < base.latency.median < base.latency.high
    measured = np.outer(np.linspace(1, 2, 8), [4e-3, 12e-3])
    assert base.latency.median == pytest.approx(np.median(measured))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            [{}, {"choices": {"lightweight": "tome"}, "overrides": {"lightweight.r": 8}}],
            ["vit", "vit, tome, lightweight.r=8"],
        ),
        ([{"model": "coatnet"}, {"loss": "focal"}], ["coatnet, cross_entropy", "vit, focal"]),
        ([{"seed": 0}, {"seed": 1}], ["vit, seed=0", "vit, seed=1"]),
        ([{}, {}], ["vit, run0", "vit, run1"]),
        (
            [{}, {"overrides": {"epochs": 3}}, {"overrides": {"epochs": 3}, "seed": 2}],
            ["vit", "vit, epochs=3, seed=0", "vit, epochs=3, seed=2"],
        ),
    ],
)
def test_a_run_is_called_by_what_tells_it_apart(
    tmp_path: Path, changes: list[dict[str, Any]], names: list[str]
) -> None:
    runs = [write_fake_run(tmp_path / f"run{i}", **each) for i, each in enumerate(changes)]
    assert names_of(runs, [read_run(run) for run in runs]) == names


def test_a_run_against_itself_has_two_names(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "a")
    names = names_of([run, run], [read_run(run)] * 2)
    assert names == ["vit, 1", "vit, 2"]


def test_markdown_and_csv_say_the_same(benchmark: Benchmark, tmp_path: Path) -> None:
    write_benchmark(benchmark, tmp_path)
    text = (tmp_path / "benchmark.md").read_text()
    assert text == to_markdown(benchmark)
    assert "| vit, tome | float32 | 77.8 [" in text
    assert "| 2.00 [2.00, 2.00] |" in text and "1.00 [1.00, 1.00]; no difference shown" in text
    assert "+0.00 [" in text and "-44.44 [" in text and str(tmp_path / "exits") in text
    assert "n = 90 test images of 32x32 pixels. On cpu, 1 threads, in bfloat16 or float32" in text
    base, tome, exits = csv.DictReader(io.StringIO((tmp_path / "benchmark.csv").read_text()))
    assert base["times_as_fast_single"] == "" and float(tome["times_as_fast_single"]) == 2
    assert float(exits["macs"]) == 9e7 and exits["precision"] == "bfloat16"
    assert float(tome["images_per_second_p90"]) > float(tome["images_per_second"])
    assert to_csv(benchmark).count("\n") == 4


def test_a_single_run_has_no_columns_of_comparison(benchmark: Benchmark) -> None:
    alone = Benchmark(benchmark.runs[:1], "shapes", 90, 32, "cpu", 8)
    assert "×" not in to_markdown(alone).split("\n")[4]
    assert "first run" not in caption(alone)


@pytest.mark.parametrize("width", [70, 120, 160, 250])
def test_the_terminal_shows_what_fits(benchmark: Benchmark, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_benchmark(benchmark, console)
    text = console.export_text()
    assert max(map(len, text.split("\n"))) <= width
    assert ("Not shown, for width" in text) == (width < 160)
    if width >= 120:
        assert "[2.00, 2.00]" in text and "no difference" in text
