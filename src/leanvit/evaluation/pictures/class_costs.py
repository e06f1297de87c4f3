"""Charts of what a net whose work differs from image to image does with each class.

Whether rare classes cost more is a question about few points, one for each class: the rank
correlation of training images and mean cost says it, with a p-value by permutation. It is about
these nets and these test images, and not a proof of a cause.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import t_limits
from leanvit.evaluation.pictures.class_axes import (
    MAX_WRITTEN_CLASSES,
    name_size,
    name_ticks,
    room,
)
from leanvit.evaluation.pictures.figures import (
    BLUE,
    RED,
    SKY,
    by_frequency,
    draw_training_images,
    explain,
    new_figure,
)
from leanvit.evaluation.pictures.letters import drawable

NUM_PERMUTATIONS = 10_000
NO_RELATION = "no relation shown"
WRITTEN_FROM = 7.0  # percent; in a smaller part of a bar its number would not fit


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Spearman's rank correlation, and its two-sided p-value by permutation.

    None where there are less than three pairs, or one side has a single value.
    """
    ranks = [_ranks(np.asarray(side, np.float64)) for side in (first, second)]
    if len(first) < 3 or any(np.ptp(side) == 0 for side in ranks):
        return None
    a, b = ((side - side.mean()) / np.linalg.norm(side - side.mean()) for side in ranks)
    found = float(a @ b)
    permuted = np.random.default_rng(0).permuted(np.tile(b, (NUM_PERMUTATIONS, 1)), axis=1)
    as_far = int((abs(permuted @ a) >= abs(found) - 1e-12).sum())
    return found, (1 + as_far) / (1 + NUM_PERMUTATIONS)


def _ranks(values: Float64[ndarray, " n"]) -> Float64[ndarray, " n"]:
    """From 0; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts + 1) / 2)[place]


def cost_by_class(
    costs: Float64[ndarray, " n"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
    train_counts: Sequence[int],
    unit: str = "MACs",
) -> tuple[Figure, dict[str, float]]:
    """Training images of each class, the most frequent on top, beside the mean cost of its images.

    Args:
        costs: of each image.
        unit: of the costs; "MACs" are drawn in millions.

    Returns:
        the figure, and the mean cost of each class that has images.
    """
    order = by_frequency(train_counts)
    of_class = {label: costs[labels == label] for label in order if (labels == label).any()}
    means = {classes[label]: float(of_class[label].mean()) for label in sorted(of_class)}
    factor, words = (1e-6, "MACs of an image (millions)") if unit == "MACs" else (1.0, unit)
    figure = new_figure(8.0, 1.5 + room(len(classes), 0.28, 0.13))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.4])
    names = drawable(classes)
    draw_training_images(left, [(names[label], train_counts[label]) for label in order])
    _draw_means(right, {order.index(label): factor * of for label, of in of_class.items()})
    right.axvline(factor * costs.mean(), color=RED, linestyle="--", linewidth=1.2,
                  label="mean of all")  # fmt: skip
    right.set_xlabel(words)
    right.margins(x=0.06)
    tight: dict[str, Any] = {"fontsize": 8, "handlelength": 1.2, "columnspacing": 1.2}
    right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, **tight)
    counts = [float(train_counts[label]) for label in of_class]
    statement = relation(counts, [float(each.mean()) for each in of_class.values()], unit)
    explain(figure, f"{statement} n = {len(costs):,} test images.")
    return figure, means


def relation(counts: Sequence[float], means: Sequence[float], unit: str) -> str:
    """What the rank correlation of training images and mean cost says."""
    found = rank_correlation(counts, means)
    if found is None:
        return "Whether rare classes cost more cannot be said: classes or costs do not differ."
    value, p = found
    said = f"rarer classes cost {'more' if value < 0 else 'less'}" if p < 0.05 else NO_RELATION
    number = f"{value:+.2f}".replace("-", "−")
    return (
        "Do rare classes cost more? Rank correlation (Spearman) of training images and mean "
        f"{unit} over {len(counts)} classes: {number}, p {p:.2g} by permutation: {said}."
    )


def _draw_means(axes: Axes, of_row: dict[int, Float64[ndarray, " images"]]) -> None:
    """Of each row the mean with its interval, over the range of most of its images."""
    least = min(values.min() for values in of_row.values())
    most = max(values.max() for values in of_row.values())
    rows, each = list(of_row), list(of_row.values())
    low, high = np.transpose([np.percentile(values, [10, 90]) for values in each])
    means = np.array([values.mean() for values in each])
    bounds = np.array([t_limits(values.tolist()) if len(values) > 1 else (mean, mean)
                       for values, mean in zip(each, means, strict=True)])  # fmt: skip
    bounds = bounds.clip(least, most)  # of few images it may pass what any image can cost
    # all rows at once: matplotlib looks at all it has drawn whenever it draws one more
    axes.barh(rows, high - low, left=low, height=0.62, color=SKY, alpha=0.35,
              label="middle 80 %")  # fmt: skip
    axes.hlines(rows, *bounds.T, color=BLUE, linewidth=2)
    axes.plot(means, rows, "o", color=BLUE, markersize=4, label="mean, 95 % interval")
    axes.use_sticky_edges = False
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def exits_by_class(
    exits: Int64[ndarray, " n"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """For each class, and for all, the shares of its images that leave at each of the exits (of
    each image, from 0), which have ``names``."""
    few = len(classes) <= MAX_WRITTEN_CLASSES
    present = [label for label in range(len(classes)) if (labels == label).any()]
    rows = [exits, *(exits[labels == label] for label in present)]
    shares = np.array([np.bincount(row, minlength=len(names)) / len(row) for row in rows])
    figure = new_figure(7.5, 1.4 + room(len(rows), 0.28, 0.13))
    axes = figure.subplots()
    # from light to dark: the later an exit, the darker
    colours = colormaps["viridis_r"](np.linspace(0.08, 0.95, len(names)))
    starts = 100 * (shares.cumsum(axis=1) - shares)
    for number, name in enumerate(names):
        percents = 100 * shares[:, number]
        axes.barh(range(len(rows)), percents, left=starts[:, number], color=colours[number],
                  label=f"{name} ({percents[0]:.0f} %)", height=0.78)  # fmt: skip
        dark = sum(w * c for w, c in zip((0.3, 0.59, 0.11), colours[number], strict=False)) < 0.55
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
        for row, percent in enumerate(percents if few else []):
            if percent >= WRITTEN_FROM:
                middle = starts[row, number] + percent / 2
                colour = "white" if dark else "black"
                axes.text(middle, row, f"{percent:.0f}", color=colour, **style)
    of_classes = drawable(classes)
    names_of_rows = ["all", *(of_classes[label] for label in present)]
    axes.set_yticks(*name_ticks(names_of_rows), fontsize=name_size(len(classes)))
    axes.axhline(0.5, color="black", linewidth=0.8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"images that leave there (%), n = {len(exits):,}")
    tight: dict[str, Any] = {"handlelength": 1.2, "columnspacing": 1.0, "handletextpad": 0.5}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize=8,
                **tight)  # fmt: skip
    return figure
