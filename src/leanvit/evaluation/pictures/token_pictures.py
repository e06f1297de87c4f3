"""Pictures of tokens on real images: patches that are left, and patches that have become one token.

Each function takes a :class:`~pictures.look.Look` and what the net did with its images.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy import ndarray

from leanvit.evaluation.pictures.figures import RED, explain
from leanvit.evaluation.pictures.look import Look
from leanvit.evaluation.pictures.panels import bare, evenly, note, rows_of_panels

MAX_COLUMNS = 5  # of pictures beside an image
PALE = 225  # what a dropped patch is drawn towards, of 255


def kept_tokens(
    look: Look, kept: Bool[ndarray, "images stages patches"], names: Sequence[str]
) -> Figure:
    """Each image, then with the patches pale that are dropped by the end of each stage.

    Args:
        kept: patches that are left after each stage, row by row.
        names: over the pictures of each stage.
    """
    shown, side = evenly(kept.shape[1], MAX_COLUMNS), math.isqrt(kept.shape[2])
    images = enlarged(look.images.permute(0, 2, 3, 1).numpy(), side)
    size = images.shape[1] // side
    grey = images.mean(axis=3, keepdims=True)
    pale = np.broadcast_to(0.85 * PALE + 0.15 * grey, images.shape)
    pictures = []
    for stage in shown:
        mask = kept[:, stage].reshape(-1, side, side).repeat(size, axis=1).repeat(size, axis=2)
        pictures.append(np.where(mask[:, :, :, None], images, pale).astype(np.uint8))
    ids, shown_names = kept[:, shown].astype(np.int64), [names[stage] for stage in shown]
    figure = _rows_of_pictures(look, pictures, ids, np.count_nonzero, RED, shown_names)
    explain(
        figure,
        f"Patches that go on, of a map of {side}x{side}; those that are dropped are pale, behind a "
        "line. Below: how many are left.",
    )
    return figure


def merged_tokens(look: Look, groups: Int64[ndarray, "images blocks patches"]) -> Figure:
    """Each image, then each patch in the mean colour of the token that it is part of.

    Args:
        groups: after each block, a number for each patch, row by row; equal ones are one token.
    """
    shown, side = evenly(groups.shape[1], MAX_COLUMNS), math.isqrt(groups.shape[2])
    images = enlarged(look.images.permute(0, 2, 3, 1).numpy(), side)
    size = images.shape[1] // side
    patches = images.reshape(len(images), side, size, side, size, 3).mean(axis=(2, 4))
    patches = patches.reshape(len(images), side**2, 3)
    pictures = [group_means(patches, groups[:, block]) for block in shown]
    pictures = [each.reshape(-1, side, side, 3).astype(np.uint8) for each in pictures]
    names = [f"after block {block}" for block in shown]
    figure = _rows_of_pictures(
        look, pictures, groups[:, shown], lambda ids: len(np.unique(ids)), "white", names
    )
    explain(
        figure,
        f"Patches that are one token after a block have its mean colour, on a map of {side}x{side};"
        " lines part those of different tokens. Below: how many tokens are left of the patches.",
    )
    return figure


def group_means(
    patches: Float[ndarray, "images patches 3"], groups: Int64[ndarray, "images patches"]
) -> Float[ndarray, "images patches 3"]:
    """For each patch the mean over all patches of its group."""
    is_same = (groups[:, :, None] == groups[:, None, :]).astype(np.float64)
    return is_same @ patches / is_same.sum(axis=2, keepdims=True)


def enlarged(
    images: UInt8[ndarray, "images height width 3"], side: int
) -> UInt8[ndarray, "images new_height new_width 3"]:
    """The same images, or larger ones that can be cut into ``side`` x ``side`` equal patches."""
    height = images.shape[1]
    if height % side == 0:
        return images
    new = side * math.ceil(4 * height / side)
    rows = np.arange(new) * height // new
    return images[:, rows][:, :, rows]


def _rows_of_pictures(
    look: Look,
    pictures: Sequence[UInt8[ndarray, "images height width 3"]],
    ids: Int64[ndarray, "images shown patches"],
    num_left: Callable[[ndarray], int],
    colour: str,
    names: Sequence[str],
) -> Figure:
    """Each image with its pictures beside it; many images stand in two rows of rows.

    Lines of ``colour`` run between patches of different ``ids``; below is what they count to.
    """
    side = math.isqrt(ids.shape[2])
    num_blocks = 2 if len(look.images) > 5 else 1
    figure, panels = rows_of_panels(look, names, (1.6, 0.7), num_blocks)
    extent = (-0.5, side - 0.5, side - 0.5, -0.5)
    for index, row in enumerate(panels):
        for axes, picture, own in zip(row, pictures, ids[index], strict=True):
            axes.imshow(picture[index], interpolation="nearest", extent=extent)
            bare(axes)
            _draw_borders(axes, own.reshape(side, side), colour)
            note(axes, f"{num_left(own)} of {side**2}")
    return figure


def _draw_borders(axes: Axes, ids: Int64[ndarray, "side side"], colour: str) -> None:
    """Lines between neighbours that are in different groups."""
    right = [((c + 0.5, r - 0.5), (c + 0.5, r + 0.5)) for r, c in np.argwhere(np.diff(ids, axis=1))]
    below = [((c - 0.5, r + 0.5), (c + 0.5, r + 0.5)) for r, c in np.argwhere(np.diff(ids, axis=0))]
    axes.add_collection(LineCollection([*right, *below], colors=colour, linewidths=0.5))
