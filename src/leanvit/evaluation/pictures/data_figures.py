"""The figure of a training set: how many images each class has.

In class order, which for a cut long tail is the order of frequency. Sizes grow with the number of
classes, as in :mod:`pictures.figures`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leanvit.evaluation.measure.metrics import FEW, MANY, shot_groups
from leanvit.evaluation.pictures.class_axes import (
    MAX_WRITTEN_CLASSES,
    name_size,
    name_ticks,
    room,
)
from leanvit.evaluation.pictures.figures import (
    BLUE,
    ORANGE,
    RED,
    new_figure,
    save_figure,
)
from leanvit.evaluation.pictures.letters import drawable

if TYPE_CHECKING:
    import matplotlib.axes

SHOT_COLOURS = {"many": BLUE, "medium": ORANGE, "few": RED}
LEGEND_INCHES = 2.9  # of a column of the legend
LOG_FROM = 10  # imbalance; at less, bars that grow with the logarithm would hide it


def class_counts(
    counts: Sequence[int], classes: Sequence[str], path: Path, title: str | None = None
) -> None:
    """Training images of each class, as bars; on a logarithmic scale from an imbalance of 10 on.

    Where classes differ in it, many-, medium- and few-shot are told apart. Up to 20 classes the
    number stands on each bar.
    """
    longest = max(map(len, drawable(classes)))  # names stand aslant or upright below the bars
    width = max(4.5, 1.2 + room(len(classes), 0.55, 0.12))
    figure = new_figure(width, 3.2 + 0.05 * longest)
    draw_class_counts(figure.subplots(), counts, classes)
    save_figure(figure, path, title)


def draw_class_counts(
    axes: "matplotlib.axes.Axes", counts: Sequence[int], classes: Sequence[str]
) -> None:
    """The panel of `class_counts`."""
    few = len(classes) <= MAX_WRITTEN_CLASSES
    places, least = range(len(classes)), max(1, min(counts))
    shots = {k: SHOT_COLOURS[shot] for shot, group in shot_groups(counts).items() for k in group}
    bars = axes.bar(places, counts, color=[shots[k] for k in places])
    if max(counts) >= LOG_FROM * least:
        axes.set_yscale("log")
        axes.set_ylim(least / 2, 1.8 * max(counts))
    else:
        axes.margins(y=0.15)
    if few:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # above the lines
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8, bbox=ground)
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if few else {"rotation": 90}
    axes.set_xticks(*name_ticks(drawable(classes)), fontsize=name_size(len(classes)), **slant)
    axes.set_xlim(-0.7, len(classes) - 0.3)
    axes.set_ylabel("training images")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    _mark_limits(axes, counts)


def _mark_limits(axes: "matplotlib.axes.Axes", counts: Sequence[int]) -> None:
    """Lines at the limits that part the classes, and how many classes there are of each kind."""
    from matplotlib.patches import Patch

    for limit in (MANY, FEW):
        if min(counts) < limit < max(counts):
            axes.axhline(limit, color="0.35", linestyle="--", linewidth=1, zorder=0.6)
    spans = {"many": f"over {MANY}", "medium": f"{FEW} to {MANY}", "few": f"under {FEW}"}
    patches = []
    for shot, group in shot_groups(counts).items():
        if group:
            classes = f"{len(group)} class{'es' if len(group) > 1 else ''}"
            label = f"{shot}-shot ({spans[shot]}): {classes}"
            patches.append(Patch(color=SHOT_COLOURS[shot], label=label))
    if len(patches) > 1:
        # above the bars, no wider than they are, or they would make room for it
        num_columns = max(1, int((axes.figure.bbox.width / axes.figure.dpi - 1) / LEGEND_INCHES))
        axes.legend(handles=patches, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9,
                    ncols=num_columns, frameon=False)  # fmt: skip
