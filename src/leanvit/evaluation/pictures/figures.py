"""The figures of a run, as PNG files: learning curves, confusion matrix, recall by class.

- Drawn through `Figure`, never pyplot: no global state, no window, no figure left open; the same
  code works in training, in a worker thread and in a notebook.
- matplotlib is imported when something is drawn, so importing this module costs nothing.
- Colours are Okabe and Ito's, "Color Universal Design", https://jfly.uni-koeln.de/color, which stay
  apart for colour-blind readers; the curves differ in line style too, for print without colour.
- Sizes grow with the number of classes: ten are read at a glance, a hundred with a magnifier. From
  100 on they stay, and only some of the classes have their name.
- Files are written whole or not at all.
"""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from leanvit.evaluation.measure.metrics import confusion_counts
from leanvit.evaluation.pictures.class_axes import (
    MAX_NAMED_CLASSES,
    MAX_WRITTEN_CLASSES,
    name_size,
    name_ticks,
    room,
)
from leanvit.evaluation.pictures.letters import as_written, drawable
from leanvit.files import atomic_path

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
PURPLE, RED, SKY = "#CC79A7", "#D55E00", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, "black")
STYLES = ("-", "--", "-.", ":")
ROOT_TICKS = (0, 1, 5, 10, 25, 50, 75, 100)  # of a colour bar that grows with the square root
DPI = 200

HistoryRow = Mapping[str, str | float | int | None]


def learning_curves(
    history_rows: Sequence[HistoryRow], path: Path, best_epoch: int | None, title: str | None = None
) -> None:
    """Loss, accuracy and learning rate by epoch, with the epoch that was kept.

    Args:
        history_rows: rows of ``history.csv``, values as numbers or as text (empty: not measured).
            Without a column of accuracy, as of a pretraining, that panel is left out.
        best_epoch: value of the ``epoch`` column of the checkpoint that is reported; None for none.
    """
    has_accuracy = any("val_accuracy" in row for row in history_rows)
    figure = new_figure(10.5 if has_accuracy else 7.2, 3.2)
    losses, *accuracies, rates = figure.subplots(1, 3 if has_accuracy else 2, sharex=True)
    draw_curve(losses, history_rows, "train_loss", "training (augmented)", BLUE, "--")
    draw_curve(losses, history_rows, "val_loss", "validation", ORANGE)
    losses.set_ylabel("loss")
    for axes in accuracies:
        draw_curve(axes, history_rows, "val_accuracy", "accuracy", BLUE, "--", 100.0)
        column = "val_balanced_accuracy"
        draw_curve(axes, history_rows, column, "balanced accuracy", ORANGE, "-", 100.0)
        axes.set_ylabel("validation accuracy (%)")
    draw_curve(rates, history_rows, "lr", "learning rate", BLUE)
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for axes in (losses, *accuracies, rates):
        if best_epoch is not None:
            label = f"kept: epoch {best_epoch}" if axes is losses else None
            axes.axvline(best_epoch, color="0.35", linewidth=1, linestyle=":", label=label)
    for axes in (losses, *accuracies):
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=9)
    save_figure(figure, path, title)


def confusion_matrix(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
    path: Path,
    title: str | None = None,
) -> None:
    """True classes down, predicted classes across; colour is the share of the true class.

    Up to 20 classes the number of images stands in each cell. The colour of a class without images
    is left out.
    """
    longest = max(map(len, drawable(classes)))
    side = 2.2 + room(len(classes), 0.46, 0.125) + 0.1 * max(0, longest - 15)
    figure = new_figure(side + 0.7, side)
    draw_confusion_matrix(figure.subplots(), probabilities, labels, classes)
    save_figure(figure, path, title)


def recall_by_class(
    per_class_recall: Sequence[float | None],
    train_counts: Sequence[int],
    classes: Sequence[str],
    path: Path,
    title: str | None = None,
) -> None:
    """Training images of each class beside its recall, the most frequent class on top.

    What an imbalanced training set costs is the slope of the right panel. A class without images
    in the split has no recall and is marked so.
    """
    order = by_frequency(train_counts)
    figure = new_figure(7.5, 1.1 + room(len(classes), 0.26, 0.13))
    counts, recalls = figure.subplots(1, 2, sharey=True)
    names = drawable(classes)
    draw_training_images(counts, [(names[index], train_counts[index]) for index in order])
    _draw_recalls(recalls, [per_class_recall[index] for index in order])
    save_figure(figure, path, title)


def by_frequency(train_counts: Sequence[int]) -> list[int]:
    """Class indices, the most frequent class first."""
    return sorted(range(len(train_counts)), key=lambda index: (-train_counts[index], index))


def draw_training_images(axes: "matplotlib.axes.Axes", rows: Sequence[tuple[str, int]]) -> None:
    """A bar for each class, from above; up to 20 classes with its number."""
    few = len(rows) <= MAX_WRITTEN_CLASSES
    names, counts = zip(*rows, strict=True)
    bars = axes.barh(range(len(rows)), counts, color="0.6")
    if few:
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
        axes.margins(x=0.28)
    axes.set_yticks(*name_ticks(names), fontsize=name_size(len(rows)))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("training images")
    axes.locator_params(axis="x", nbins=4)  # long numbers stand apart
    axes.xaxis.set_major_formatter("{x:,.0f}")


def draw_curve(
    axes: "matplotlib.axes.Axes",
    history_rows: Sequence[HistoryRow],
    column: str,
    label: str,
    colour: str = BLUE,
    style: str = "-",
    factor: float = 1.0,
) -> None:
    """One column of the history by epoch; a single epoch is a dot, an empty value a gap."""
    from matplotlib.ticker import MaxNLocator

    epochs = [_number(row["epoch"]) for row in history_rows]
    values = [factor * _number(row.get(column)) for row in history_rows]
    marker = "o" if len(values) <= 3 else None
    axes.plot(epochs, values, linestyle=style, color=colour, label=label, marker=marker)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(alpha=0.25)


def draw_curves(
    axes: "matplotlib.axes.Axes",
    histories: Mapping[str, Sequence[HistoryRow]],
    column: str,
    factor: float = 1.0,
) -> None:
    """The same column of several runs in one panel, told apart by colour and line style."""
    for number, (name, rows) in enumerate(histories.items()):
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        draw_curve(axes, rows, column, name, COLOURS[number % len(COLOURS)], style, factor)


def draw_confusion_matrix(
    axes: "matplotlib.axes.Axes",
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
) -> None:
    """The panel of `confusion_matrix`, for figures that show several."""
    from matplotlib.colors import PowerNorm

    counts = confusion_counts(probabilities, labels)
    num_true = counts.sum(axis=1, keepdims=True)
    share = np.where(num_true > 0, counts / np.maximum(num_true, 1), np.nan)
    few = len(classes) <= MAX_WRITTEN_CLASSES
    # Among many classes a confusion is a few percent of its row: a square root makes it visible.
    norm, ticks = (PowerNorm(1, 0, 100), None) if few else (PowerNorm(0.5, 0, 100), ROOT_TICKS)
    image = axes.imshow(100 * share, cmap="Blues", norm=norm)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, ticks=ticks)
    bar.set_label("share of the true class (%)")
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if few else {"rotation": 90}
    ticks_of_names, size = name_ticks(drawable(classes)), name_size(len(classes))
    axes.set_xticks(*ticks_of_names, fontsize=size, parse_math=False, **slant)
    axes.set_yticks(*ticks_of_names, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    centred["fontsize"] = 8 if counts.max() < 10_000 else 7
    for true, predicted in np.argwhere(counts > 0) if few else []:
        colour = "white" if share[true, predicted] > 0.6 else "black"
        axes.text(predicted, true, str(counts[true, predicted]), color=colour, **centred)


def _draw_recalls(axes: "matplotlib.axes.Axes", recalls: Sequence[float | None]) -> None:
    """Bars of recall, top to bottom, and their mean, which is the balanced accuracy."""
    few = len(recalls) <= MAX_WRITTEN_CLASSES
    axes.barh(range(len(recalls)), [100 * (recall or 0) for recall in recalls], color=BLUE)
    for row, recall in enumerate(recalls if len(recalls) <= MAX_NAMED_CLASSES else []):
        if recall is None:
            axes.text(1, row, "no image", va="center", fontsize=8 if few else 7)
        elif few:
            inside = recall > 0.12  # a shorter bar has its number beside it
            x, colour = (1.5, "white") if inside else (100 * recall + 1, "black")
            axes.text(x, row, f"{100 * recall:.1f}", va="center", fontsize=8, color=colour)
    axes.set_xlim(0, 100)
    axes.set_xlabel("recall (%)")
    known = [100 * recall for recall in recalls if recall is not None]
    mean = sum(known) / max(len(known), 1)
    axes.axvline(mean, color=RED, linestyle="--", linewidth=1.2)
    side = "right" if mean > 65 else "left" if mean < 35 else "center"
    label = f"balanced accuracy {mean:.1f} %"
    style: dict[str, Any] = {"ha": side, "va": "bottom", "fontsize": 8, "color": RED}
    axes.text(mean, 1.01, label, transform=axes.get_xaxis_transform(), **style)


def _number(value: str | float | int | None) -> float:
    return float("nan") if value in (None, "") else float(value or 0)


def new_figure(width: float, height: float) -> "matplotlib.figure.Figure":
    """An empty figure of this size in inches that lays its panels out by itself."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.1)
    return Figure(figsize=(width, height), layout=layout)


def explain(figure: "matplotlib.figure.Figure", text: str) -> None:
    """Say below a figure what it shows."""
    num_letters = int(13.5 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(text, num_letters), fontsize=9)


def save_figure(figure: "matplotlib.figure.Figure", path: Path, title: str | None) -> None:
    """Write a PNG, its title broken into lines that fit."""
    if title:
        num_letters = int(13 * figure.get_figwidth())
        figure.suptitle(textwrap.fill(title, num_letters), fontsize=10)
    with atomic_path(path) as part, as_written(figure):
        # as savefig does with "tight", which draws all twice, and first for nothing
        figure.set_dpi(DPI)
        if figure.axes and (layout := figure.get_layout_engine()) is not None:
            with suppress(ValueError):  # axes of several grids, which matplotlib leaves as they are
                layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(part, dpi=DPI, bbox_inches=figure.get_tightbbox().padded(0.05))
