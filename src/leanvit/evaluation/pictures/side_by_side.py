"""Rows of a comparison beside each other, for notebooks: learning curves, confusion, recall.

Every curve ends where its own training ended. Rows are called by their number in the table and what
they differ in, in lines that fit their panel.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.runs import read_history, read_predictions, read_run
from leanvit.evaluation.pictures.class_axes import MAX_WRITTEN_CLASSES, name_ticks, room
from leanvit.evaluation.pictures.figures import (
    COLOURS,
    by_frequency,
    draw_confusion_matrix,
    draw_curves,
    new_figure,
)
from leanvit.evaluation.pictures.letters import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS = 11  # of a title, in an inch


def name_of(table: Table, number: int, width: float) -> str:
    """``2: model=vit loss=focal``, broken into lines that fit ``width`` inches."""
    return textwrap.fill(f"{number + 1}: {' '.join(table.differs(number))}", int(LETTERS * width))


def curves(table: Table, num_rows: int = 8) -> "Figure":
    """Validation loss and balanced accuracy by epoch of the first rows, of the first seed of each.

    A row without epochs, as of ``max_epochs=0``, is left out.

    Raises:
        LeanvitError: no row has epochs.
    """
    histories = {}
    for number, row in enumerate(table.rows[:num_rows]):
        if (row.runs[0] / "history.csv").is_file() and (rows := read_history(row.runs[0])):
            histories[name_of(table, number, 5.0)] = rows
    if not histories:
        raise LeanvitError(f"no row of {table.source} was trained for an epoch: nothing to draw")
    num_lines = sum(name.count("\n") + 1 for name in histories)
    figure = new_figure(10.0, 3.6 + 0.1 * num_lines)
    losses, accuracies = figure.subplots(1, 2)
    draw_curves(losses, histories, "val_loss")
    draw_curves(accuracies, histories, "val_balanced_accuracy", factor=100.0)
    losses.set_ylabel("validation loss")
    accuracies.set_ylabel("validation balanced accuracy (%)")
    columns = 1 if len(histories) == 1 else 2
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure


def confusion(table: Table, rows: Sequence[int] = (0, 1)) -> "Figure":
    """Confusion matrices of rows of one table, counted from 0, on the test images of the first seed
    of each; rows that the table lacks are left out.

    Raises:
        LeanvitError: a run's predictions cannot be read.
    """
    shown = [number for number in rows if number < len(table.rows)]
    classes = read_run(table.rows[shown[0]].runs[0])["classes"]
    side = 2.2 + room(len(classes), 0.46, 0.11)
    figure = new_figure((side + 0.7) * len(shown), side + 0.6)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, number in zip(panels, shown, strict=True):
        arrays = read_predictions(table.rows[number].runs[0], of="test_")
        given = arrays["test_probabilities"], arrays["test_labels"]
        draw_confusion_matrix(axes, *given, classes)
        axes.set_title(name_of(table, number, side - 1.0), fontsize=10)
    return figure


def recalls(table: Table, rows: Sequence[int] = (0, 1)) -> "Figure":
    """Recall of each class on the test images, the most frequent class of the training on top: of
    rows counted from 0, the mean over the seeds of each; rows that the table lacks are left out."""
    shown = [number for number in rows if number < len(table.rows)]
    of_rows = {number: [read_run(run) for run in table.rows[number].runs] for number in shown}
    first = of_rows[shown[0]][0]
    order = by_frequency(first["train_counts"])
    figure = new_figure(7.5, 1.5 + room(len(order), 0.12 + 0.14 * len(shown), 0.13))
    axes, thickness = figure.subplots(), 0.84 / len(shown)
    for place, (number, told) in enumerate(of_rows.items()):
        of_seeds = [each["test"]["per_class_recall"] for each in told]
        means = [sum(100 * (recall[index] or 0.0) for recall in of_seeds) / len(of_seeds)
                 for index in order]  # fmt: skip
        above = [
            middle + (place - (len(shown) - 1) / 2) * thickness for middle in range(len(order))
        ]
        colour = COLOURS[place % len(COLOURS)]
        axes.barh(above, means, thickness, color=colour, label=name_of(table, number, 7.0))
    names = drawable(first["classes"])
    labels = [f"{names[index]} ({first['train_counts'][index]:,})" for index in order]
    few = len(order) <= MAX_WRITTEN_CLASSES
    axes.set_yticks(*name_ticks(labels), fontsize=9 if few else 6, parse_math=False)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_ylabel("class (training images)")
    axes.set_xlabel("recall of test images (%)")
    figure.legend(loc="outside upper center")
    return figure
