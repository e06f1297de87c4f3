"""Figures of a trained net's weights: positions and filters.

See :mod:`pictures.inside_figures`.
"""

import numpy as np
from einops import rearrange
from matplotlib.figure import Figure

from leanvit.evaluation.pictures import inside
from leanvit.evaluation.pictures.figures import explain, new_figure
from leanvit.evaluation.pictures.look import Look
from leanvit.evaluation.pictures.panels import PANEL, bare, evenly, mosaic

MAX_COLUMNS = 8  # heads of a bias table
MAX_TABLES = 8
MAX_FILTERS = 96


def positions(look: Look) -> Figure | None:
    """Similarity of position embeddings, or the tables of relative attention."""
    similarity = inside.position_similarity(look.net)
    if similarity is None:
        return _bias_tables(look)
    side = similarity.shape[0]
    tiles = rearrange(similarity, "i j rows columns -> (i j) rows columns").numpy()
    figure = new_figure(6.2, 6.0)
    axes = figure.subplots()
    others = tiles.reshape(side**2, side**2)[~np.eye(side**2, dtype=bool)]
    limits = (float(others.min()), float(others.max())) if side > 1 else (-1.0, 1.0)
    drawn = axes.imshow(mosaic(tiles, side), cmap="viridis", vmin=limits[0], vmax=limits[1])
    bare(axes)
    middles = [(side + 1) * index + (side - 1) / 2 for index in range(side)]
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(middles, [str(index) for index in range(side)], fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("column of the patch")
    axes.set_ylabel("row of the patch")
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.02, extend="max")
    bar.set_label("cosine similarity")
    explain(
        figure,
        "Similarity of each patch's position embedding to those of all patches: one small map for "
        "each patch, at its place. To itself it is 1, above the scale.",
    )
    return figure


def _bias_tables(look: Look) -> Figure | None:
    tables = list(inside.bias_tables(look.net).values())
    if not tables:
        return None
    shown = evenly(len(tables), MAX_TABLES)
    num_columns = min(max(len(tables[index]) for index in shown), MAX_COLUMNS)
    figure = new_figure(max(PANEL * (num_columns + 1), 5.0), (PANEL + 0.15) * len(shown) + 1.0)
    grid = figure.subplots(len(shown), num_columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for index, row in zip(shown, grid, strict=True):
        table = tables[index]
        reach, most = (table.shape[-1] - 1) / 2, max(float(table.abs().max()), 1e-6)
        for head, axes in zip(evenly(len(table), num_columns), row, strict=False):
            axes.set_axis_on()
            extent = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
            axes.imshow(table[head].numpy(), cmap="PuOr", vmin=-most, vmax=most, extent=extent)
            axes.set_title(f"head {head}", fontsize=8, pad=2)
            bare(axes)
        size = f"{reach + 1:.0f}x{reach + 1:.0f}"
        label = f"block {index}\n{size}\n{len(table)} heads\n±{most:.2g}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    explain(
        figure,
        "Learned bias of attention by where the key lies, seen from a query in the middle; orange "
        "is negative, purple positive, up to the value beside the row.",
    )
    return figure


def filters(look: Look) -> Figure | None:
    """Kernels of the first convolution as colours, each on its own scale around grey."""
    kernels = inside.filters(look.net)
    if kernels is None:
        return None
    shown = kernels[:MAX_FILTERS]
    scaled = 0.5 + 0.5 * shown / shown.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    tiles = rearrange(scaled, "filters colours height width -> filters height width colours")
    num_columns = min(12, len(shown))
    figure = new_figure(0.55 * num_columns + 0.4, 0.55 * -(-len(shown) // num_columns) + 1.0)
    axes = figure.subplots()
    axes.imshow(np.nan_to_num(mosaic(tiles.numpy(), num_columns), nan=1.0))
    bare(axes)
    size = shown.shape[-1]
    explain(
        figure,
        f"Kernels of the first convolution, {size}x{size} pixels, the strongest first; "
        f"{len(shown)} of {len(kernels)}. Each is scaled to its greatest weight; grey is 0.",
    )
    return figure
