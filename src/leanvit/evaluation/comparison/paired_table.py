"""The paired comparison as text: Markdown and CSV to keep, a table for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from leanvit.errors import first_of
from leanvit.evaluation.comparison.intervals import NO_DIFFERENCE
from leanvit.evaluation.comparison.narrow_table import print_left_out
from leanvit.evaluation.comparison.paired import Measure, Paired
from leanvit.evaluation.comparison.paired_rows import compare_rows
from leanvit.evaluation.comparison.table import left_out_section
from leanvit.evaluation.tables import (
    csv_text,
    in_markdown,
    interval,
    markdown_table,
    points,
    say,
    show,
    write_texts,
)

NUM_NAMED = 10  # of the runs without a partner, in the terminal; the file names all


def write_paired(
    runs: Sequence[Path], against: Sequence[Path], failed: Sequence[Path], stem: Path
) -> tuple[list[Paired], list[Path]]:
    """Compare and write ``stem`` with ``.md`` and ``.csv``.

    Args:
        failed: directories of runs of either choice that failed, with ``error.txt``.

    Raises:
        LeanvitError: see :func:`comparison.paired_rows.compare_rows`, or the files cannot
            be written.
    """
    found, left_out = compare_rows(runs, against)
    lines = [line for paired in found for line in _csv_lines(paired)]
    write_texts(stem, _markdown(found, left_out, failed), csv_text(lines))
    return found, left_out


def print_paired(
    found: Sequence[Paired],
    left_out: Sequence[Path] = (),
    failed: Sequence[Path] = (),
    console: Console | None = None,
) -> None:
    """Print to the terminal."""
    console = console or Console()
    for number, paired in enumerate(found):
        if number:
            console.print()
        cells = [_cells(paired, measure) for measure in paired.measures]
        show(console, title(paired), cells, ("test images", "verdict"), statement(paired))
        say(console, caption(paired))
    if left_out:
        say(console, _without_row(left_out, NUM_NAMED))
    print_left_out(failed, (), console)


def _markdown(found: Sequence[Paired], left_out: Sequence[Path], failed: Sequence[Path]) -> str:
    """A section for each pair: the statement, the table, what to know about it; then the failed."""
    parts = []
    for paired in found:
        table = markdown_table([_cells(paired, measure) for measure in paired.measures])
        head, said, about = map(in_markdown, (title(paired), statement(paired), caption(paired)))
        parts += [f"## {head}", "", said, "", *table, "", about, ""]
    alone = [in_markdown(_without_row(left_out, len(left_out))), ""] if left_out else []
    return "\n".join([*parts, *alone, *left_out_section(failed)])


def _without_row(left_out: Sequence[Path], num_named: int) -> str:
    names = first_of(left_out, num_named)
    return f"Left out, because the other side has no such row, or not its seeds: {names}."


def _csv_lines(paired: Paired) -> list[dict[str, Any]]:
    """A line for each figure, as fractions of 1 with every digit; what is not known is empty."""
    lines = []
    for measure in paired.measures:
        (low, high), images = measure.over_seeds or (None, None), measure.over_images
        lines.append(
            {
                "measure": measure.name,
                "run": measure.run,
                "against": measure.against,
                "difference": measure.difference,
                "seeds_low": low,
                "seeds_high": high,
                "images_low": images and images.low,
                "images_high": images and images.high,
                "images_p": images and images.p,
                "verdict": measure.verdict,
                "seeds": " ".join(map(str, paired.seeds)),
                "test_images": paired.num_test_images,
                "source": "; ".join(paired.sources),
                "where": paired.where,
                "run_chosen": paired.run,
                "against_chosen": paired.against,
                "runs": " ".join(str(run) for run, _ in paired.runs),
                "runs_against": " ".join(str(against) for _, against in paired.runs),
                "left_out": " ".join(map(str, paired.left_out)),
            }
        )
    return lines


def title(paired: Paired) -> str:
    """Which two choices."""
    about = f"{paired.where}: " if paired.where else ""
    return f"{about}{paired.run} against {paired.against}"


def statement(paired: Paired) -> str:
    """What can be said of the test accuracy, and over which kind of luck."""
    measure = paired.measures[0]
    over_seeds, over_images = measure.over_seeds, measure.over_images
    assert over_images is not None
    said = [
        f"Test accuracy: {measure.verdict}, {points(measure.difference)} points.",
        f"Over {paired.num_test_images:,} test images (the luck of which images were asked) the "
        f"difference is {interval(over_images.low, over_images.high, points)}, which "
        f"{_zero(over_images.is_shown)}; p {_p(over_images.p)}.",
    ]
    if over_seeds is None:
        said.append(
            f"Only seed {paired.seeds[0]} is on both sides: nothing is known of the luck of "
            "training, which can be larger than this difference. Train more seeds."
        )
    else:
        said.append(
            f"Over {len(paired.seeds)} seeds (the luck of training) it is "
            f"{interval(*over_seeds, points)}, which {_zero(bool(measure.seeds_show))}."
        )
    if len(paired.seeds) == 2:
        said.append(
            "Two seeds can hardly show anything: their interval reaches 12.7 standard errors to "
            "each side."
        )
    return " ".join(said)


def caption(paired: Paired) -> str:
    """What a reader must know about the numbers."""
    seeds = ", ".join(map(str, paired.seeds))
    which = "both leave" if len(paired.seeds) > 1 else "the interval over images leaves"
    sentences = [
        *([f"Both: {paired.common}."] if paired.common else []),
        f"{' and '.join(paired.sources)}. n = {paired.num_test_images:,} test images; "
        f"seeds: {seeds}.",
        "Differences in points with 95 % intervals: over seeds Student's t of the pairs, over "
        "images a paired bootstrap with its two-sided p-value.",
        f'A difference is called better or worse where {which} out 0, else "{NO_DIFFERENCE}", '
        "which is no proof that there is none. Each line stands for itself: up to one in twenty "
        "shows a difference by chance.",
        "Worst class: picked by the same images, so without an interval.",
    ]
    if paired.left_out:
        names = ", ".join(str(path) for path in paired.left_out)
        sentences.append(f"Left out, because the other side has no run with the seed: {names}.")
    return " ".join(sentences)


def _cells(paired: Paired, measure: Measure) -> dict[str, str]:
    """What the reader sees in each column, by its heading."""
    worst = measure.classes or ("", "")
    sides = zip((measure.run, measure.against), worst, strict=True)
    run, against = (f"{name} {100 * value:.2f}".strip() for value, name in sides)
    over_seeds, over_images = measure.over_seeds, measure.over_images
    return {
        "test images": measure.name,
        "run %": run,
        "against %": against,
        "difference": points(measure.difference),
        "over seeds": interval(*over_seeds, points) if over_seeds else "–",
        "over images": interval(over_images.low, over_images.high, points) if over_images else "–",
        "p": _p(over_images.p).removeprefix("= ") if over_images else "–",
        "verdict": measure.verdict or "–",
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _zero(is_shown: bool) -> str:
    return "leaves out 0" if is_shown else "holds 0"
