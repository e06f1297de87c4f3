"""The figures of a pretraining, as PNG files: what it makes of images, and its losses."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leanvit.data.images import ImageSet
from leanvit.evaluation.pictures.figures import explain, new_figure, save_figure
from leanvit.evaluation.pictures.panels import PANEL, bare, evenly


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
    """The images in a row, and below each what was ``made`` of it (in 0..1), a row for each
    step."""
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
