"""The figures of a pretraining, as PNG files: what it makes of images, and its losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leanvit.data.images import ImageSet
from leanvit.evaluation.figures import (
    BLUE,
    ORANGE,
    HistoryRow,
    draw_curve,
    new_figure,
    save_figure,
)
from leanvit.evaluation.panels import PANEL, bare, evenly, explain


def spread_images(data: ImageSet, num_images: int) -> UInt8[Tensor, "chosen 3 height width"]:
    """A few images, evenly spaced through the classes, always the same."""
    order = torch.argsort(data.labels, stable=True)
    return torch.stack([data.images[int(order[i])] for i in evenly(len(data), num_images)])


def reconstructions(
    images: UInt8[Tensor, "batch 3 height width"],
    made: Mapping[str, Float[Tensor, "batch 3 height width"]],
    path: Path,
    explanation: str,
    title: str | None = None,
) -> None:
    """The images in a row, and below each what was made of it, a row for each step.

    Args:
        images: the originals.
        made: in 0..1, by the name of the row.
        path: the PNG file.
        explanation: said below the figure.
        title: e.g. the name of the run and its data source.
    """
    rows = {"original": images.float() / 255, **made}
    figure = new_figure(PANEL * len(images) + 1.0, PANEL * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(images), squeeze=False)
    for axes_of_row, (name, row) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_of_row, row.float().clamp(0, 1), strict=True):
            axes.imshow(image.permute(1, 2, 0).cpu().numpy())
            bare(axes)
        axes_of_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    explain(figure, explanation)
    save_figure(figure, path, title)


def loss_curves(
    history_rows: Sequence[HistoryRow], path: Path, best_epoch: int | None, title: str | None = None
) -> None:
    """Loss and learning rate by epoch, with the epoch that was kept; arguments as of
    :func:`leanvit.evaluation.figures.learning_curves`."""
    figure = new_figure(7.2, 3.2)
    losses, rates = figure.subplots(1, 2, sharex=True)
    draw_curve(losses, history_rows, "train_loss", "training (augmented)", BLUE, "--")
    draw_curve(losses, history_rows, "val_loss", "validation", ORANGE)
    losses.set_ylabel("loss")
    draw_curve(rates, history_rows, "lr", "learning rate", BLUE)
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    for axes in (losses, rates):
        if best_epoch is not None:
            label = f"kept: epoch {best_epoch}" if axes is losses else None
            axes.axvline(best_epoch, color="0.35", linewidth=1, linestyle=":", label=label)
    losses.legend(framealpha=0.9, edgecolor="none", fontsize=9)
    save_figure(figure, path, title)
