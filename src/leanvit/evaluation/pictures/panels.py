"""Panels that the figures of a net's inside are put together from.

Right and wrong predictions differ in mark, frame line and colour, so that none is needed alone.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from leanvit.evaluation.pictures.figures import BLUE, RED, explain, new_figure
from leanvit.evaluation.pictures.look import Look

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.image

PANEL = 1.2  # inches
CAPTION_LETTERS = 24  # of a line beside or above an image
RANGE = "Each map has its own scale, from its least (dark) to its greatest value, both below it"


def evenly(num: int, at_most: int) -> list[int]:
    """Of 0 to ``num`` - 1 the first, the last, and evenly spaced ones between."""
    return sorted({round(place) for place in np.linspace(0, num - 1, min(num, at_most))})


def rows_of_maps(
    look: Look,
    columns: Sequence[Float[Tensor, "batch _ _"]],
    names: Sequence[str],
    explanation: str,
    overlay: bool = False,
    limits: tuple[float, float] | None = None,
) -> "matplotlib.figure.Figure":
    """One row an image: the image with its caption, then its map of each column.

    Args:
        overlay: lay the maps over the image; otherwise they stand alone.
        limits: of the colours of all maps, with one bar; ``None``: each map its own.
    """
    figure, panels = rows_of_panels(look, names, (2.4 if limits else 1.6, 0.9))
    for index, row in enumerate(panels):
        for axes, maps in zip(row, columns, strict=True):
            image = look.images[index] if overlay else None
            drawn = draw_map(axes, maps[index], image, limits)
    if limits is not None:
        bar = figure.colorbar(drawn, ax=figure.axes, fraction=0.05, pad=0.02, aspect=40)
        bar.ax.tick_params(labelsize=9)
    explain(figure, explanation)
    return figure


def rows_of_panels(
    look: Look, names: Sequence[str], room: tuple[float, float], num_blocks: int = 1
) -> "tuple[matplotlib.figure.Figure, list[list[matplotlib.axes.Axes]]]":
    """Each image with its caption, and panels beside it, still empty: those of each image.

    Args:
        room: inches beside and below the panels.
        num_blocks: of rows, side by side.
    """
    num_rows, width = -(-len(look.images) // num_blocks), 1 + len(names)
    figure = new_figure(num_blocks * (PANEL * width + room[0]), 1.12 * PANEL * num_rows + room[1])
    grid = figure.subplots(num_rows, num_blocks * width, squeeze=False)
    rows = [grid[:, width * block :][:, :width] for block in range(num_blocks)]
    panels = [list(row) for block in rows for row in block]
    for axes in [axes for row in panels[len(look.images) :] for axes in row]:
        axes.set_axis_off()
    for index, row in enumerate(panels[: len(look.images)]):
        draw_image(row[0], look, index)
        caption(row[0], look, index)
        if index % num_rows == 0:
            for axes, name in zip(row, ["image", *names], strict=True):
                axes.set_title(name, fontsize=9)
    return figure, [row[1:] for row in panels[: len(look.images)]]


def draw_image(axes: "matplotlib.axes.Axes", look: Look, index: int) -> None:
    """An image, framed by whether it was classified correctly."""
    axes.imshow(look.images[index].permute(1, 2, 0).numpy())
    bare(axes)
    correct = look.correct[index]
    for spine in axes.spines.values():
        spine.set(visible=True, color=BLUE if correct else RED, linewidth=2.2)
        spine.set_linestyle("-" if correct else (0, (3, 2)))


def caption(axes: "matplotlib.axes.Axes", look: Look, index: int, above: bool = False) -> None:
    """True and predicted class, left of the image or above it."""
    correct = look.correct[index]
    text = caption_text(look, index)
    style: dict[str, Any] = {"fontsize": 8, "color": BLUE if correct else RED}
    if above:
        axes.set_title(text, loc="left", **style)
    else:
        axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=4, **style)


def caption_text(look: Look, index: int) -> str:
    """What stands in a caption, in lines that are not long."""
    whole = f"{'✓' if look.correct[index] else '✗'} {look.captions[index]}"
    return "\n".join(textwrap.fill(line, CAPTION_LETTERS) for line in whole.splitlines())


def room_above(look: Look) -> float:
    """Inches that captions above images take."""
    lines = [caption_text(look, index).count("\n") + 1 for index in range(len(look.images))]
    return 0.15 * max(lines)


def draw_map(
    axes: "matplotlib.axes.Axes",
    values: Float[Tensor, "rows columns"],
    image: UInt8[Tensor, "3 height width"] | None = None,
    limits: tuple[float, float] | None = None,
) -> "matplotlib.image.AxesImage":
    """Values as colours, over a grey image if one is given; without ``limits`` their own range is
    written below."""
    low, high = limits or (float(values.min()), float(values.max()))
    extent = (-0.5, values.shape[1] - 0.5, values.shape[0] - 0.5, -0.5)
    if image is not None:
        grey = image.float().mean(dim=0).numpy()
        # dark greys below the colours shift them less than the image's own would
        axes.imshow(grey, cmap="gray", vmin=-100, vmax=400, extent=extent)
    even = max(high - low, 1e-3 * abs(high)) or 1.0  # what differs by rounding only has one colour
    colours, alpha = ("viridis", None) if image is None else ("inferno", 0.65)
    drawn = axes.imshow(
        values.numpy(), cmap=colours, vmin=low, vmax=low + even, alpha=alpha, extent=extent
    )
    bare(axes)
    if limits is None:
        form = ".2f" if max(abs(low), abs(high)) >= 0.1 else ".2g"
        note(axes, f"{low:{form}} to {high:{form}}".replace("-", "−"))
    return drawn


def note(axes: "matplotlib.axes.Axes", text: str) -> None:
    """A few words below a panel."""
    axes.set_xlabel(text, fontsize=7.5, labelpad=2)


def bare(axes: "matplotlib.axes.Axes") -> None:
    """No ticks, and a frame only where one is drawn."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def mosaic(
    tiles: Float[ndarray, "tiles height width *colours"], num_columns: int, gap: int = 1
) -> Float[ndarray, "new_height new_width *colours"]:
    """Tiles row by row in one array, NaN between and after them."""
    num, height, width, *colours = tiles.shape
    num_rows = -(-num // num_columns)
    whole = np.full(
        (num_rows * (height + gap) - gap, num_columns * (width + gap) - gap, *colours),
        np.nan,
        dtype=tiles.dtype,
    )
    for index, tile in enumerate(tiles):
        top, left = (height + gap) * (index // num_columns), (width + gap) * (index % num_columns)
        whole[top : top + height, left : left + width] = tile
    return whole
