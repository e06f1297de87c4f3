"""The picture of a benchmark: what accuracy costs, in time and in MACs.

Two panels of the same runs. A run is on the front of a panel where no other is as right at less
cost, by the values themselves: whether a difference is real, the intervals and the table say. Each
point has its run's number beside it; names are above.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy import ndarray

from leanvit.evaluation.cost.plain_sizes import sizes_of
from leanvit.evaluation.pictures.figures import COLOURS, explain, new_figure, save_figure

if TYPE_CHECKING:  # it imports torch, which a report needs not
    from leanvit.evaluation.cost.benchmark import TimedRun

MARKS = "osD^vPX*"  # one more than colours: 56 runs have a look of their own
COLUMNS, LETTERS = 3, 55  # of the names above the panels; the table has all of a name
CORNERS = ((5, 4), (-5, 4), (5, -11), (-5, -11))  # points; numbers of equal points stand apart


def pareto(runs: Sequence["TimedRun"], path: Path, explanation: str) -> None:
    """Test accuracy over images per second, and over MACs; ``explanation`` stands below."""
    figure = new_figure(11.5, 5.0 + 0.2 * -(-len(runs) // COLUMNS))
    panels = figure.subplots(1, 2, sharey=True)
    found = [run.images_per_second for run in runs]
    rates = np.array([each.median for each in found], dtype=np.float64)
    ranges = np.array([(each.low, each.high) for each in found], dtype=np.float64)
    _draw_panel(panels[0], runs, rates, more_is_better=True, ranges=ranges)
    panels[0].set_xlabel("images per second, best batch (more is better →); bar: middle 80 %")
    panels[0].set_ylabel("test accuracy (%); bar: 95 % interval over test images")
    macs = np.array([run.macs for run in runs]) / 1e6
    _draw_panel(panels[1], runs, macs, more_is_better=False)
    panels[1].set_xlabel("MACs (millions) of an image, mean of the test images (← less is better)")
    looks = panels[0].get_legend_handles_labels()[0]
    figure.legend(handles=looks, loc="outside upper center", ncols=COLUMNS, fontsize=8,
                  frameon=False)  # fmt: skip
    explain(figure, explanation)
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
    axes: Axes,
    runs: Sequence["TimedRun"],
    values: Float64[ndarray, " runs"],
    more_is_better: bool,
    ranges: Float64[ndarray, "runs 2"] | None = None,
) -> None:
    accuracies = 100 * np.array([run.accuracy for run in runs])
    set_log_scale(axes, values if ranges is None else np.append(values, ranges))
    chosen = front(values, accuracies, more_is_better)
    worst = axes.get_xlim()[0 if more_is_better else 1]
    steps = [*values[chosen], worst], [*accuracies[chosen], accuracies[chosen[-1]]]
    axes.plot(*steps, drawstyle="steps-post", color="0.6", linewidth=1, zorder=1,
              label="front: none is as right at less cost")  # fmt: skip
    _draw_curves(axes, runs, values, accuracies)
    for index, run in enumerate(runs):
        low, high = (100 * bound for bound in run.interval)
        colour = COLOURS[index % len(COLOURS)]
        axes.vlines(values[index], low, high, color=colour, linewidth=1.2, alpha=0.7)
        if ranges is not None:
            axes.hlines(accuracies[index], *ranges[index], color=colour, linewidth=1.2, alpha=0.7)
        style: dict[str, Any] = {"marker": MARKS[index % len(MARKS)], "color": colour}
        name = textwrap.shorten(f"{index + 1}: {run.name}", LETTERS, placeholder=" …")
        point = values[index], accuracies[index]
        axes.plot(*point, markersize=7, linestyle="none", label=name, **style)
        across, up = CORNERS[index % len(CORNERS)]
        axes.annotate(str(index + 1), point, (across, up), textcoords="offset points", fontsize=9,
                      ha="left" if across > 0 else "right")  # fmt: skip
    axes.grid(alpha=0.25)


def _draw_curves(
    axes: Axes,
    runs: Sequence["TimedRun"],
    values: Float64[ndarray, " runs"],
    accuracies: Float64[ndarray, " runs"],
) -> None:
    """A dashed line through the plain sizes of each model, the seeds of a size averaged."""
    plain = [run.plain for run in runs]
    for curve in dict.fromkeys(each.curve for each in plain if each):
        groups = sizes_of(plain, curve)
        points = [(np.exp(np.log(values[each]).mean()), accuracies[each].mean())
                  for each in groups]  # fmt: skip
        axes.plot(*zip(*points, strict=True), color="0.45", linewidth=1.2, linestyle="--", zorder=1,
                  label=f"plain {curve.split()[0]}, {len(groups)} sizes")  # fmt: skip


def set_log_scale(axes: Axes, values: Float64[ndarray, " shown"]) -> None:
    """Logarithmic, with plain numbers at the ticks and room on both sides."""
    axes.set_xscale("log")
    low, high = float(values.min()), float(values.max())
    room = max((high / low) ** 0.08, 1.05)
    axes.set_xlim(low / room, high * room)
    subs = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 7)
    is_narrow = high / low < 2.5
    axes.xaxis.set_major_locator(MaxNLocator(5) if is_narrow else LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    )
