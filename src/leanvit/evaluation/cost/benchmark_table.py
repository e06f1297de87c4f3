"""A benchmark as text: Markdown and CSV to keep, a table for the terminal to look at.

Markdown and terminal round to what an interval supports; CSV keeps every digit.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from leanvit.evaluation.comparison.intervals import NO_DIFFERENCE
from leanvit.evaluation.cost.benchmark import Benchmark, Spread, TimedRun
from leanvit.evaluation.tables import (
    csv_text,
    digits,
    in_markdown,
    interval,
    judged,
    markdown_table,
    percent,
    show,
    with_bounds,
    write_texts,
)

# what the terminal table leaves out when it is too wide, in this order
DROPPABLE = ("balanced accuracy %", "size MB", "at batch")


def write_benchmark(benchmark: Benchmark, folder: Path) -> None:
    """Write ``benchmark.md`` and ``benchmark.csv``.

    Raises:
        LeanvitError: ``folder`` cannot be written.
    """
    write_texts(folder / "benchmark", to_markdown(benchmark), to_csv(benchmark))


def print_benchmark(benchmark: Benchmark, console: Console | None = None) -> None:
    """Print to the terminal, as wide as it is; intervals below their values."""
    rows = [
        {
            name: cell if name == "run" else cell.replace(" [", "\n[").replace("; ", "\n")
            for name, cell in cells.items()
        }
        for cells in _cells(benchmark)
    ]
    words, said = ("run", "in"), caption(benchmark)
    show(console or Console(), "Benchmark", rows, words, said, DROPPABLE)


def conditions(benchmark: Benchmark) -> str:
    """On which images, and on what, it was measured."""
    precisions = sorted({run.precision for run in benchmark.runs})
    return (
        f"{benchmark.source}. n = {benchmark.num_test_images:,} test images of "
        f"{benchmark.image_size}x{benchmark.image_size} pixels. On {benchmark.device}, in "
        f"{' or '.join(precisions)}; {benchmark.num_rounds} rounds, in which the runs took turns "
        "with the same test images."
    )


def caption(benchmark: Benchmark) -> str:
    """What a reader must know before the numbers."""
    sentences = [
        conditions(benchmark),
        "Brackets: of accuracies, differences and ratios (×) 95 % intervals; of ms and images/s "
        "the range of the middle 80 %, of single images and of rounds.",
    ]
    if len(benchmark.runs) > 1:
        sentences.append(
            "Difference: test accuracy minus that of the first run, in points, by a paired "
            "bootstrap over test images. ×: how many times as fast as the first run, the median "
            "over the rounds; one image at a time from the mean over images, of which hard ones "
            f'may take longer. Where the interval holds 0 points, or ×1: "{NO_DIFFERENCE}".'
        )
    if any(run.beside_plain for run in benchmark.runs):
        sentences.append(
            "Beside plain: test accuracy minus that of plain nets of this model that are as fast "
            "in batches, interpolated between the two sizes next to it; – where none is."
        )
    sentences.append(
        "Each line is one training, whose luck is in no interval. "
        "Accuracies are those of the runs' own evaluation. MACs: mean of what the test images "
        "used. Size: of the weights."
    )
    return " ".join(sentences)


def to_markdown(benchmark: Benchmark) -> str:
    """A table, and what to know about it."""
    runs = [f"- {in_markdown(f'{run.name}: {run.path}')}" for run in benchmark.runs]
    table, said = markdown_table(_cells(benchmark)), in_markdown(caption(benchmark))
    return "\n".join(["## Benchmark", "", said, "", *table, "", *runs, ""])


def to_csv(benchmark: Benchmark) -> str:
    """A line for each run, with every digit; what is not known of the first run is empty."""
    lines: list[dict[str, Any]] = []
    for run in benchmark.runs:
        line: dict[str, Any] = {
            "name": run.name,
            "run": run.path,
            "source": benchmark.source,
            "test_images": benchmark.num_test_images,
            "image_size": benchmark.image_size,
            "device": benchmark.device,
            "precision": run.precision,
            "rounds": benchmark.num_rounds,
            "test_accuracy": run.accuracy,
            "interval_low": run.interval[0],
            "interval_high": run.interval[1],
            "balanced_accuracy": run.balanced_accuracy,
            "macs": run.macs,
            "size_bytes": run.size,
            "batch_size": run.batch_size,
        }
        for name, spread in (
            ("latency_seconds", run.latency),
            ("images_per_second", run.images_per_second),
        ):
            line |= {name: spread.median, f"{name}_p10": spread.low, f"{name}_p90": spread.high}
        line |= with_bounds("difference", run.difference)
        line |= with_bounds("beside_plain", run.beside_plain)
        line |= with_bounds("times_as_fast_single", run.faster)
        line |= with_bounds("times_as_fast_batched", run.faster_in_batches)
        lines.append(line)
    return csv_text(lines)


def _cells(benchmark: Benchmark) -> list[dict[str, str]]:
    """What the reader sees in each column, by its heading; precision where runs differ in it, and
    comparisons where there are two."""
    several = len(benchmark.runs) > 1
    has_curve = any(run.beside_plain for run in benchmark.runs)
    differ = len({run.precision for run in benchmark.runs}) > 1
    all_cells = [
        {
            "run": run.name,
            "in": run.precision if differ else None,
            "test accuracy %": f"{percent(run.accuracy)} {interval(*run.interval, percent)}",
            "difference": judged(run.difference) if several else None,
            "beside plain": beside_plain(run) if has_curve else None,
            "balanced accuracy %": percent(run.balanced_accuracy),
            "MACs G": digits(run.macs / 1e9),
            "size MB": digits(run.size / 1e6),
            "one image, ms": _range(run.latency, 1e3),
            "one image, ×": judged(run.faster, "{:.2f}".format) if several else None,
            "images /s": _range(run.images_per_second, 1),
            "at batch": str(run.batch_size),
            "batches, ×": judged(run.faster_in_batches, "{:.2f}".format) if several else None,
        }
        for run in benchmark.runs
    ]
    return [{name: cell for name, cell in row.items() if cell is not None} for row in all_cells]


def beside_plain(run: TimedRun) -> str:
    """The verdict on a lighter net, where it has one, or that a net is a size of the curve."""
    return "a plain size" if run.plain else judged(run.beside_plain)


def _range(spread: Spread, factor: float) -> str:
    low, high = factor * spread.low, factor * spread.high
    return f"{digits(factor * spread.median)} {interval(low, high, digits)}"
