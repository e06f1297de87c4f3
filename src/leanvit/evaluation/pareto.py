"""The picture of a benchmark: what accuracy costs, in time and in MACs.

- Two panels of the same runs. A run is on the front of a panel where no other is as right at less
  cost, by the values themselves: whether a difference is real, the intervals and the table say.
- Each point has its name beside it. Names are laid out one after the other, each as near as it can
  be without covering a point or a name, and rather beside a line than on it; one that stands
  further off is tied to its point.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from leanvit.evaluation.benchmark import Row
from leanvit.evaluation.figures import COLOURS, new_figure, save_figure
from leanvit.evaluation.panels import explain

if TYPE_CHECKING:
    import matplotlib.axes

MARKS = "osD^vPX*"  # one more than colours: 56 runs have a look of their own
LETTERS, LINES = 26, 3  # of a name; the table has all of it
NEAR = 13  # points; a name that is further from its point is tied to it
DISTANCES = (9, NEAR, 18, 24, 32, 42, 54, 68, 84, 102, 124)  # points
DIRECTIONS = (0, 180, 90, 270, 45, 315, 135, 225)  # degrees; beside a point first
# what is bad about a place for a name: a square pixel of a point or a name covered; of a line; a
# point further off; a point or a name that the tie crosses
COVERED, CROSSED, FAR, TIED = 100.0, 1.0, 4.0, 400.0


def pareto(rows: Sequence[Row], path: Path, explanation: str) -> None:
    """Test accuracy over images per second, and over MACs.

    Args:
        path: the PNG file.
        explanation: what the numbers are of; below the panels.
    """
    figure = new_figure(11.5, 5.4)
    panels = figure.subplots(1, 2, sharey=True)
    found = [row.images_per_second for row in rows]
    rates = np.array([each.median for each in found], dtype=np.float64)
    ranges = np.array([(each.low, each.high) for each in found], dtype=np.float64)
    _draw_panel(panels[0], rows, rates, more_is_better=True, ranges=ranges)
    panels[0].set_xlabel("images per second, best batch (more is better →); bar: middle 80 %")
    panels[0].set_ylabel("test accuracy (%); bar: 95 % interval over test images")
    macs = np.array([row.macs for row in rows]) / 1e6
    _draw_panel(panels[1], rows, macs, more_is_better=False)
    panels[1].set_xlabel("MACs (millions) of an image, mean of the test images (← less is better)")
    panels[0].legend(loc="upper right", fontsize=8, framealpha=0.9)
    explain(figure, explanation)
    figure.draw_without_rendering()  # lays the panels out: names have a size from here on
    figure.set_layout_engine("none")
    for axes, values in zip(panels, (rates, macs), strict=True):
        name_points(axes, values, rows)
    save_figure(figure, path, None)


def front(
    values: Float64[ndarray, " runs"],
    accuracies: Float64[ndarray, " runs"],
    more_is_better: bool,
) -> list[int]:
    """The runs that no other one beats in one of both without losing in the other.

    Returns:
        their indices, from the best to the worst value; accuracy rises on the way.
    """
    sign = -1 if more_is_better else 1
    chosen: list[int] = []
    for index in sorted(range(len(values)), key=lambda i: (sign * values[i], -accuracies[i])):
        if not chosen or accuracies[index] > accuracies[chosen[-1]]:
            chosen.append(index)
    return chosen


def _draw_panel(
    axes: "matplotlib.axes.Axes",
    rows: Sequence[Row],
    values: Float64[ndarray, " runs"],
    more_is_better: bool,
    ranges: Float64[ndarray, "runs 2"] | None = None,
) -> None:
    accuracies = 100 * np.array([row.accuracy for row in rows])
    _set_scale(axes, values if ranges is None else np.append(values, ranges))
    chosen = front(values, accuracies, more_is_better)
    worst = axes.get_xlim()[0 if more_is_better else 1]
    steps = [*values[chosen], worst], [*accuracies[chosen], accuracies[chosen[-1]]]
    axes.plot(*steps, drawstyle="steps-post", color="0.6", linewidth=1, zorder=1,
              label="front: none is as right at less cost")  # fmt: skip
    for index, row in enumerate(rows):
        low, high = (100 * bound for bound in row.interval)
        colour = COLOURS[index % len(COLOURS)]
        axes.vlines(values[index], low, high, color=colour, linewidth=1.2, alpha=0.7)
        if ranges is not None:
            axes.hlines(accuracies[index], *ranges[index], color=colour, linewidth=1.2, alpha=0.7)
        style: dict[str, Any] = {"marker": MARKS[index % len(MARKS)], "color": colour}
        axes.plot(values[index], accuracies[index], markersize=7, linestyle="none", **style)
    axes.margins(y=0.16)
    axes.grid(alpha=0.25)


def _set_scale(axes: "matplotlib.axes.Axes", values: Float64[ndarray, " shown"]) -> None:
    """Logarithmic, with plain numbers at the ticks and room for names on both sides."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.set_xscale("log")
    low, high = float(values.min()), float(values.max())
    room = max((high / low) ** 0.22, 1.15)
    axes.set_xlim(low / room, high * room)
    subs = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 7)
    is_narrow = high / low < 2.5
    axes.xaxis.set_major_locator(MaxNLocator(5) if is_narrow else LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")


def name_points(
    axes: "matplotlib.axes.Axes", values: Float64[ndarray, " runs"], rows: Sequence[Row]
) -> None:
    """Write the name of each run beside its point, where nothing else is."""
    from matplotlib.patheffects import withStroke

    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72  # pixels of a point
    accuracies = 100 * np.array([row.accuracy for row in rows])
    points = axes.transData.transform(np.stack((values, accuracies), axis=1))
    taken = [*np.concatenate((points - 5 * scale, points + 5 * scale), axis=1)]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent().extents)
    lines, names = _lines(axes), short_names([row.name for row in rows])
    for index in np.argsort(values):
        text = axes.annotate(
            names[index],
            (values[index], accuracies[index]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8,
            color="0.1",
            path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.8)],
        )
        others = np.delete(np.array(taken), index, axis=0)
        width, height = text.get_window_extent().size
        frame = np.array(axes.get_window_extent().extents)
        offset, box = best_place((width, height), points[index], others, lines, frame, scale)
        text.set(position=offset, ha=_alignment(offset[0], "left", "right"),
                 va=_alignment(offset[1], "bottom", "top"))  # fmt: skip
        taken.append(box)
        if math.hypot(*offset) > NEAR:
            tie = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", (values[index], accuracies[index]), xytext=offset,
                          textcoords="offset points", arrowprops=tie)  # fmt: skip


def best_place(
    size: tuple[float, float],
    point: Float64[ndarray, "2"],
    taken: Float64[ndarray, "boxes 4"],
    lines: Float64[ndarray, "lines 4"],
    frame: Float64[ndarray, "4"],
    scale: float,
) -> tuple[tuple[float, float], Float64[ndarray, "4"]]:
    """Where a name does least harm, turned towards its point.

    Args:
        size: width and height of the name; this and all boxes (left, bottom, right, top) in pixels.
        taken: what it must not cover.
        lines: what it rather should not.
        frame: what it must not leave.
        scale: pixels of a point, the unit of the offset.

    Returns:
        its offset from the point, and its box.
    """
    angles = np.radians(DIRECTIONS)
    ways = np.stack((np.cos(angles), np.sin(angles)), axis=1).round(9)
    offsets = (np.array(DISTANCES)[:, None, None] * ways).reshape(-1, 2)
    # the name's lower left corner: what lies left of its point ends there
    corners = point + scale * offsets + np.array(size) * (np.sign(offsets) - 1) / 2
    boxes = np.concatenate((corners, corners + size), axis=1)
    far = np.hypot(*offsets.T)
    harm = size[0] * size[1] - _overlaps(boxes, frame[None])[:, 0] + _overlaps(boxes, taken).sum(1)
    harm = COVERED * harm + CROSSED * _overlaps(boxes, lines).sum(axis=1) + FAR * far
    ties = point + scale * offsets[:, None] * np.linspace(0, 1, 20)[:, None]
    is_in = (ties[:, :, None] >= taken[:, :2]) & (ties[:, :, None] <= taken[:, 2:])
    harm += TIED * (far > NEAR) * is_in.all(axis=3).any(axis=1).sum(axis=1)
    best = int(harm.argmin())
    return (float(offsets[best, 0]), float(offsets[best, 1])), boxes[best]


def _overlaps(
    boxes: Float64[ndarray, "boxes 4"], others: Float64[ndarray, "others 4"]
) -> Float64[ndarray, "boxes others"]:
    """Area that each box shares with each other one."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return (high - low).clip(min=0).prod(axis=2)


def _alignment(offset: float, above: str, below: str) -> str:
    """What turns a text at this offset towards its point."""
    return "center" if offset == 0 else above if offset > 0 else below


def _lines(axes: "matplotlib.axes.Axes") -> Float64[ndarray, "lines 4"]:
    """Boxes around the bars and the steps of the front, in pixels."""
    steps = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    x, y = np.repeat(steps.get_xdata(), 2)[1:], np.repeat(steps.get_ydata(), 2)[:-1]
    corners = np.stack((x, y), axis=1).astype(np.float64)
    ends = [np.stack((corners[:-1], corners[1:]), axis=1)]
    ends += [np.array([path.vertices for path in bars.get_paths()]) for bars in axes.collections]
    pixels = axes.transData.transform(np.concatenate(ends).reshape(-1, 2)).reshape(-1, 2, 2)
    return np.concatenate((pixels.min(axis=1) - 1, pixels.max(axis=1) + 1), axis=1)


def short_names(names: Sequence[str]) -> list[str]:
    """In a few lines; where what is left out tells two apart, the run's number stands there."""
    wrap: dict[str, Any] = {"width": LETTERS, "max_lines": LINES, "break_on_hyphens": False}
    short = [textwrap.fill(name, placeholder=" …", **wrap) for name in names]
    return [
        textwrap.fill(name, placeholder=f" … (run {number})", **wrap)
        if short.count(its) > 1
        else its
        for number, (name, its) in enumerate(zip(names, short, strict=True), start=1)
    ]
