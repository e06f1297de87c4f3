"""A benchmark as text: Markdown and CSV to keep, a table for the terminal to look at.

Markdown and terminal round to what an interval supports; CSV keeps every digit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from leanvit.evaluation.benchmark import Benchmark, Row, Spread
from leanvit.evaluation.benchmark_times import Ratio
from leanvit.evaluation.comparison_csv import csv_text
from leanvit.evaluation.intervals import NO_DIFFERENCE, Difference
from leanvit.files import atomic_path

# what the terminal table leaves out when it is too wide, in this order
DROPPABLE = ("balanced accuracy %", "size MB", "at batch")


def write_benchmark(benchmark: Benchmark, folder: Path) -> None:
    """Write ``benchmark.md`` and ``benchmark.csv``.

    Raises:
        LeanvitError: ``folder`` cannot be written.
    """
    with atomic_path(folder / "benchmark.md") as part:
        part.write_text(to_markdown(benchmark))
    with atomic_path(folder / "benchmark.csv") as part:
        part.write_text(to_csv(benchmark))


def print_benchmark(benchmark: Benchmark, console: Console | None = None) -> None:
    """Print to the terminal, as wide as it is."""
    console = console or Console()
    lines = [_terminal_cells(cells) for cells in _all_cells(benchmark)]
    dropped: list[str] = []
    for name in [*DROPPABLE, None]:
        table = _rich_table(lines, dropped)
        width = console.measure(table, options=console.options.update(width=1000)).maximum
        if width <= console.width or name is None:
            break
        dropped.append(name)
    console.print(table)
    console.print(caption(benchmark), highlight=False, markup=False)
    if dropped:
        console.print(f"Not shown, for width: {', '.join(dropped)}.", highlight=False, markup=False)


def conditions(benchmark: Benchmark) -> str:
    """On which images, and on what, it was measured."""
    precisions = sorted({row.precision for row in benchmark.rows})
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
    if len(benchmark.rows) > 1:
        sentences.append(
            "Difference: test accuracy minus that of the first run, in points, by a paired "
            "bootstrap over test images. ×: how many times as fast as the first run, the median "
            "over the rounds; one image at a time from the mean over images, of which hard ones "
            f'may take longer. Where the interval holds 0 points, or ×1: "{NO_DIFFERENCE}".'
        )
    sentences.append(
        "Accuracies are those of the runs' own evaluation. MACs: mean of what the test images "
        "used. Size: of the weights."
    )
    return " ".join(sentences)


def to_markdown(benchmark: Benchmark) -> str:
    """A table, and what to know about it."""
    lines = _all_cells(benchmark)
    rows = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)]
    table = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    runs = [f"- {row.name}: `{row.run}`" for row in benchmark.rows]
    return "\n".join(["## Benchmark", "", caption(benchmark), "", *table, "", *runs, ""])


def to_csv(benchmark: Benchmark) -> str:
    """A line for each run, with every digit; what is not known of the first run is empty."""
    lines: list[dict[str, Any]] = []
    for row in benchmark.rows:
        line: dict[str, Any] = {
            "name": row.name,
            "run": row.run,
            "source": benchmark.source,
            "test_images": benchmark.num_test_images,
            "image_size": benchmark.image_size,
            "device": benchmark.device,
            "precision": row.precision,
            "rounds": benchmark.num_rounds,
            "test_accuracy": row.accuracy,
            "interval_low": row.interval[0],
            "interval_high": row.interval[1],
            "balanced_accuracy": row.balanced_accuracy,
            "macs": row.macs,
            "size_bytes": row.size,
            "batch_size": row.batch_size,
        }
        for name, spread in (
            ("latency_seconds", row.latency),
            ("images_per_second", row.images_per_second),
        ):
            line |= {name: spread.median, f"{name}_p10": spread.low, f"{name}_p90": spread.high}
        for name, found in (
            ("difference", row.difference),
            ("times_as_fast_single", row.faster),
            ("times_as_fast_batched", row.faster_in_batches),
        ):
            parts = (found.value, found.low, found.high) if found else (None,) * 3
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
        lines.append(line)
    return csv_text(lines)


def _all_cells(benchmark: Benchmark) -> list[dict[str, str]]:
    """What the reader sees in each column, by its heading; precision where runs differ in it."""
    several = len({row.precision for row in benchmark.rows}) > 1
    return [_cells(row, several, len(benchmark.rows) > 1) for row in benchmark.rows]


def _cells(row: Row, with_precision: bool, with_ratios: bool) -> dict[str, str]:
    low, high = row.interval
    difference = {"difference": _difference(row.difference)}
    alone = {"one image, ×": _times(row.faster)}
    batched = {"batches, ×": _times(row.faster_in_batches)}
    return {
        "run": row.name,
        **({"in": row.precision} if with_precision else {}),
        "test accuracy %": f"{100 * row.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
        **(difference if with_ratios else {}),
        "balanced accuracy %": f"{100 * row.balanced_accuracy:.1f}",
        "MACs G": _digits(row.macs / 1e9),
        "size MB": _digits(row.size / 1e6),
        "one image, ms": _range(row.latency, 1e3),
        **(alone if with_ratios else {}),
        "images /s": _range(row.images_per_second, 1),
        "at batch": str(row.batch_size),
        **(batched if with_ratios else {}),
    }


def _terminal_cells(cells: Mapping[str, str]) -> dict[str, str]:
    """The same in less width: intervals below their values."""
    return {
        name: cell if name == "run" else cell.replace(" [", "\n[").replace("; ", "\n")
        for name, cell in cells.items()
    }


def _rich_table(lines: Sequence[Mapping[str, str]], dropped: Sequence[str]) -> RichTable:
    table = RichTable(title="Benchmark", title_justify="left", padding=(0, 1, 0, 0))
    table.box, table.show_edge = box.SIMPLE_HEAD, False
    columns = [name for name in lines[0] if name not in dropped]
    for name in columns:
        is_words = name in ("run", "in")
        table.add_column(name.replace(" ", "\n"), justify="left" if is_words else "right")
    for line in lines:
        table.add_row(*(escape(line[name]) for name in columns))
    return table


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    numbers = f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
    return numbers if difference.is_shown else f"{numbers}; {NO_DIFFERENCE}"


def _times(found: Ratio | None) -> str:
    if found is None:
        return "–"
    numbers = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
    return numbers if found.is_shown else f"{numbers}; {NO_DIFFERENCE}"


def _range(spread: Spread, factor: float) -> str:
    median, low, high = (_digits(factor * x) for x in (spread.median, spread.low, spread.high))
    return f"{median} [{low}, {high}]"


def _digits(value: float) -> str:
    """Three digits that count, and all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
