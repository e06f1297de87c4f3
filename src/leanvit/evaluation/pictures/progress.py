"""Accuracy by what was spent on it: validation accuracy over PFLOP and over minutes of training."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.runs import read_history, read_run
from leanvit.evaluation.pictures.figures import (
    COLOURS,
    STYLES,
    HistoryRow,
    explain,
    new_figure,
    save_figure,
)
from leanvit.evaluation.pictures.pareto import set_log_scale

if TYPE_CHECKING:
    import matplotlib.axes

DRAWN = ("accuracy", "balanced_accuracy")  # of the columns of history.csv
NUM_LOOKS = len(COLOURS) * len(STYLES)  # labels that can be told apart, and are drawn
COLUMN_LETTERS = 55  # of a name above the panels


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        label: equal for runs that differ in their seed alone.
        history: rows of ``history.csv``.
        pflop: of the whole training, or None where it is not known.
        pflop_before: of those that it begins from.
    """

    label: str
    history: Sequence[HistoryRow]
    pflop: float | None
    pflop_before: float


def draw_progress(tables: Sequence[Table], stem: Path) -> None:
    """``progress-<data>.png`` of each table beside the files of ``stem``, and called like these if
    not ``comparison``; numbered where there are several of a data set, cut to long tails."""
    drawn: Counter[str] = Counter()
    for table in tables:
        if courses := courses_of(table):
            drawn[table.data] += 1
            number = f"-{drawn[table.data]}" if drawn[table.data] > 1 else ""
            name = f"progress-{table.data}{number}.png"
            own = "" if stem.name == "comparison" else f"{stem.name}-"
            path = stem.with_name(own + name)
            monitor = table.monitor if table.monitor in DRAWN else "balanced_accuracy"
            more = len(table.rows) - NUM_LOOKS
            what = f"Validation images, {table.source}"
            what += f"; the first {NUM_LOOKS} rows of {len(table.rows):,}" if more > 0 else ""
            progress(courses, path, what, monitor)


def courses_of(table: Table) -> list[Course]:
    """The trainings of the runs of a table's first rows, the best in front."""
    found = []
    for row in table.rows[:NUM_LOOKS]:
        for path in row.runs:
            told = read_run(path)["training"]
            history = read_history(path) if (path / "history.csv").is_file() else []
            before = told.get("pflop_before") or 0.0
            found.append(Course(table.label(row), history, told.get("pflop"), before))
    return [each for each in found if each.history]


def progress(courses: Sequence[Course], path: Path, images: str, monitor: str) -> None:
    """One line a run, one colour and line style a label.

    Args:
        path: the PNG file.
        images: what they are.
        monitor: the validation figure that is drawn: "accuracy" or "balanced_accuracy".
    """
    labels = list(dict.fromkeys(course.label for course in courses))
    num_columns = max(1, min(3, len(labels)))
    figure = new_figure(11.5, 4.4 + 0.2 * -(-len(labels) // num_columns))
    over_pflop, over_minutes = figure.subplots(1, 2, sharey=True)
    for axes, spent in ((over_pflop, _pflop), (over_minutes, _minutes)):
        everything = [spent(course) for course in courses]
        for course, own in zip(courses, everything, strict=True):
            _draw(axes, course, labels, own, monitor)
        if known := [value for own in everything for value in own if value > 0]:
            set_log_scale(axes, np.array(known))
    over_pflop.set_xlabel("PFLOP of training (← less is better)")
    over_minutes.set_xlabel("minutes of training (← less is better)")
    over_pflop.set_ylabel(f"validation {monitor.replace('_', ' ')} (%)")
    lines, names = over_minutes.get_legend_handles_labels()
    looks = dict(zip(names, lines, strict=True))
    shown = [textwrap.shorten(name, COLUMN_LETTERS, placeholder=" …") for name in looks]
    figure.legend(looks.values(), shown, fontsize=8,
                  loc="outside upper center", ncols=num_columns, frameon=False)  # fmt: skip
    explain(figure, f"{images}. Each point is an epoch; minutes are the machine's that trained.")
    save_figure(figure, path, None)


def _pflop(course: Course) -> list[float]:
    """After each epoch; nothing where it is not known."""
    images = list(accumulate(float(row.get("images") or 0) for row in course.history))
    if course.pflop is None or not images or not images[-1]:
        return []
    return [course.pflop_before + course.pflop * seen / images[-1] for seen in images]


def _minutes(course: Course) -> list[float]:
    return list(accumulate(float(row["seconds"] or 0) / 60 for row in course.history))


def _draw(
    axes: "matplotlib.axes.Axes",
    course: Course,
    labels: Sequence[str],
    spent: Sequence[float],
    monitor: str,
) -> None:
    number = labels.index(course.label)
    found = [100 * float(row.get(f"val_{monitor}") or "nan") for row in course.history]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    axes.plot(spent, found[: len(spent)], style, color=COLOURS[number % len(COLOURS)],
              label=course.label, linewidth=1.2, marker=".", markersize=4)  # fmt: skip
    axes.grid(alpha=0.25)
