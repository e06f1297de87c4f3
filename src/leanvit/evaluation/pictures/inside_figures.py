"""Figures of the inside of a trained net.

Each function takes a :class:`~pictures.look.Look` and gives a figure, or ``None`` where
the net has nothing of the kind.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure, FigureBase
from numpy import ndarray

from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures import inside
from leanvit.evaluation.pictures.attention_maps import (
    attention_blocks,
    attention_maps,
    readers,
    rollout_maps,
    split_tokens,
)
from leanvit.evaluation.pictures.figures import explain, new_figure
from leanvit.evaluation.pictures.look import Look
from leanvit.evaluation.pictures.panels import (
    RANGE,
    bare,
    caption,
    draw_image,
    draw_map,
    evenly,
    mosaic,
    room_above,
    rows_of_maps,
)
from leanvit.evaluation.pictures.weight_figures import filters, positions

MAX_COLUMNS = 6  # of maps beside an image: with more they are looked at from afar


def attention(look: Look) -> Figure | None:
    """One row an image: the image, then what each head of one block attends to, and their mean."""
    blocks = attention_blocks(look.net, look.inputs[:1])
    if not blocks:
        return None
    maps, block, num_blocks = attention_maps(look.net, look.inputs, look.block)
    shown = evenly(maps.shape[1], MAX_COLUMNS)
    maps = torch.cat((maps[:, shown], maps.mean(dim=1, keepdim=True)), dim=1).cpu()
    side = maps.shape[-1]
    return rows_of_maps(
        look,
        list(maps.unbind(dim=1)),
        [*(f"head {head}" for head in shown), "mean of all"],
        f"{_whose_attention(look, blocks[block].shape[-1])} to each position in block {block} of "
        f"0–{num_blocks - 1}, on a map of {side}x{side}. {RANGE}; 1 is attention spread evenly.",
        overlay=True,
    )


def rollout(look: Look) -> Figure | None:
    """Each image beside its attention rollout."""
    blocks = attention_blocks(look.net, look.inputs[:1])
    if not blocks:
        return None
    maps = rollout_maps(look.net, look.inputs).cpu()
    num_columns = min(len(maps), 4)
    num_rows = -(-len(maps) // num_columns)
    figure = new_figure(max(5.0, 2.6 * num_columns), (1.4 + room_above(look)) * num_rows + 1.0)
    grid = _panels(figure, 2 * len(maps), num_rows, 2 * num_columns)
    for index, (left, right) in enumerate(grid.reshape(-1, 2)):
        draw_image(left, look, index)
        caption(left, look, index, above=True)
        draw_map(right, maps[index], look.images[index])
    side = maps.shape[-1]
    explain(
        figure,
        f"{_whose_attention(look, blocks[-1].shape[-1])} to each position through all blocks and "
        f"their residuals (rollout), on the map of {side}x{side} that enters the first of them. "
        f"{RANGE}; 1 is attention spread evenly.",
    )
    return figure


def _panels(figure: FigureBase, num: int, num_rows: int, num_columns: int) -> ndarray:
    """So many panels, row by row; the rest of the grid is left empty."""
    grid = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes in grid[num:]:
        axes.set_axis_off()
    return grid[:num]


def _whose_attention(look: Look, num_tokens: int) -> str:
    queries = readers(look.net, num_tokens)
    if queries.stop is None:
        return "Mean attention of all positions"
    has_cls = split_tokens(num_tokens)[0] == 1 and queries.start == 0
    return "Attention of [CLS]" if has_cls else f"Attention of token {queries.start}"


def patches(look: Look) -> Figure | None:
    """The patch grid over all images, and the patches of the first one laid apart."""
    found = inside.patches(look.net, look.inputs)
    if found is None:
        return None
    pixels = found[0] * look.std[:, None, None] + look.mean[:, None, None]
    images = rearrange(pixels, "batch colours height width -> batch height width colours")
    size, height = found[1], images.shape[1]
    num_columns = min(len(images), 4)
    num_rows = -(-len(images) // num_columns)
    figure = new_figure(
        3.8 + 1.6 * num_columns, max(4.4, (1.7 + room_above(look)) * num_rows + 0.6)
    )
    parts = figure.add_gridspec(1, 2, width_ratios=[3.8, 1.6 * num_columns])
    apart = figure.add_subfigure(parts[0]).subplots()
    tiles = rearrange(
        images[0].clamp(0, 1).numpy(), "(r height) (c width) colours -> (r c) height width colours",
        height=size, width=size,
    )  # fmt: skip
    apart.imshow(np.nan_to_num(mosaic(tiles, height // size, gap=max(1, size // 5)), nan=1.0))
    bare(apart)
    grid = _panels(figure.add_subfigure(parts[1]), len(images), num_rows, num_columns)
    line: dict[str, Any] = {"color": "white", "linewidth": min(0.6, 5 * size / height)}
    for index, axes in enumerate(grid):
        axes.imshow(images[index].clamp(0, 1).numpy())
        caption(axes, look, index, above=True)
        for edge in range(size, height, size):
            axes.axhline(edge - 0.5, **line)
            axes.axvline(edge - 0.5, **line)
        bare(axes)
    enlarged = f", enlarged to {height}x{height}" if height != look.images.shape[-1] else ""
    explain(
        figure,
        f"Patches of {size}x{size} pixels{enlarged}, {(height // size) ** 2} tokens an image; "
        "left, those of the first image, which become tokens row by row.",
    )
    return figure


def features(look: Look) -> Figure | None:
    """One row an image: the image, then the channels of the first map that vary most."""
    found = inside.features(look.net, look.inputs)
    if found is None:
        return None
    maps, channels = found
    shown = channels[:MAX_COLUMNS]
    return rows_of_maps(
        look,
        [maps[:, channel] for channel in shown],
        [f"channel {channel}" for channel in shown],
        f"The {len(shown)} of {maps.shape[1]} channels after the patch embedding or stem that "
        f"vary most, a map of {maps.shape[-1]}x{maps.shape[-1]}. {RANGE}.",
    )


def tokens(look: Look) -> Figure | None:
    """One row an image: the image, then how alike the tokens are to what is read out."""
    found = inside.token_similarity(look.net, look.inputs)
    if found is None:
        return None
    word, maps = found
    shown = evenly(len(maps), MAX_COLUMNS)
    values = torch.cat([maps[index].flatten() for index in shown])
    return rows_of_maps(
        look,
        [maps[index] for index in shown],
        [f"{word} {index}" for index in shown],
        f"Cosine similarity of each token after a {word} to what the net, or an exit, would read "
        "out if it ended there.",
        limits=(float(values.min()), float(values.max())),
    )


FIGURES: dict[str, Callable[[Look], Figure | None]] = {
    each.__name__: each
    for each in (attention, rollout, patches, features, positions, tokens, filters)
}


DYNAMIC = "dynamic"  # those of :mod:`pictures.dynamic_figures`, all together


def check_names(names: list[str]) -> list[str]:
    """Names of figures; none for "all".

    Raises:
        LeanvitError: there is no such figure.
    """
    unknown = [name for name in names if name not in (*FIGURES, DYNAMIC, "all")]
    if unknown or not names:
        given = ",".join(unknown)
        raise LeanvitError(f"what={given}: choose from all, {', '.join(FIGURES)}, {DYNAMIC}")
    return [] if "all" in names else names


def draw(look: Look, names: list[str]) -> dict[str, Figure]:
    """Figures by name; without names all that fit the net.

    Raises:
        LeanvitError: a figure does not fit the net.
    """
    drawn = {name: FIGURES[name](look) for name in names or FIGURES}
    missing = [name for name in names if drawn[name] is None]
    if missing:
        fitting = [name for name, figure in FIGURES.items() if figure(look) is not None]
        raise LeanvitError(
            f"what={missing[0]}: {type(look.net).__name__} has nothing to show there, choose from "
            f"{', '.join(fitting)}"
        )
    return {name: figure for name, figure in drawn.items() if figure is not None}
