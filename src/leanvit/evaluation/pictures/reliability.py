"""The reliability diagram: is a net that says 80 % right in 80 of 100 images?

- Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599,
  figures 1 and 4: accuracy by confidence, in the 15 bins of the calibration error, before and after
  temperature scaling.
- Dots stand at the mean confidence of their bin, not at its middle, so that the distance from the
  diagonal is what the calibration error sums up.
- Bars are Wilson's 95 % intervals: a bin with five images says next to nothing, and looks so.
- Below stand the shares of the images: where the net is sure of all, all is in the last bin.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from leanvit.evaluation.measure.calibration import (
    NUM_BINS,
    confidence_bins,
    expected_calibration_error,
    scale_probabilities,
)
from leanvit.evaluation.pictures.figures import BLUE, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    import matplotlib.axes

Z = 1.96  # 97.5 % quantile of the normal distribution


def reliability_diagram(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    temperature: float | None,
    path: Path,
    title: str | None = None,
) -> None:
    """Accuracy by confidence, before and (where a temperature is known) after scaling."""
    panels = [(probabilities, "before scaling", BLUE)]
    if temperature is not None:
        scaled = scale_probabilities(probabilities, temperature)
        panels.append((scaled, f"after, T = {temperature:.3g} from validation", ORANGE))
    figure = new_figure(0.4 + 3.0 * len(panels), 4.0)
    axes = figure.subplots(
        2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(4, 1)
    )
    for (scores, name, colour), upper, lower in zip(panels, axes[0], axes[1], strict=True):
        error = 100 * expected_calibration_error(scores, labels)
        upper.set_title(f"{name}\ncalibration error {error:.1f} %", fontsize=9)
        draw_reliability(upper, scores, labels, colour)
        _draw_shares(lower, scores, labels, colour)
    axes[0, 0].set_ylabel("accuracy (%)")
    axes[1, 0].set_ylabel("images (%)")
    save_figure(figure, path, title)


def draw_reliability(
    axes: "matplotlib.axes.Axes",
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    colour: str = BLUE,
) -> None:
    """The upper panel: a dot with its interval for each bin that holds images."""
    bins = confidence_bins(probabilities, labels)
    filled = bins.num_images > 0
    n = bins.num_images[filled]
    accuracy, confidence = bins.num_correct[filled] / n, bins.confidence[filled] / n
    low, high = wilson_interval(accuracy, n)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=1, linestyle="--")
    away = 100 * np.maximum([accuracy - low, high - accuracy], 0)
    points = axes.errorbar(
        100 * confidence, 100 * accuracy, away, fmt="o", markersize=4, color=colour, elinewidth=1.2
    )
    points[0].set_clip_on(False)  # whole dots at 0 and 100
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)


def wilson_interval(
    accuracy: Float64[ndarray, " bins"], n: Int64[ndarray, " bins"]
) -> tuple[Float64[ndarray, " bins"], Float64[ndarray, " bins"]]:
    """Wilson's 95 % interval of shares of ``n``, which has a width at 0 and 1 too."""
    middle = (accuracy + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(accuracy * (1 - accuracy) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half


def _draw_shares(
    axes: "matplotlib.axes.Axes", probabilities: ndarray, labels: ndarray, colour: str
) -> None:
    num_images = confidence_bins(probabilities, labels).num_images
    width = 100 / NUM_BINS
    middles = width * (np.arange(NUM_BINS) + 0.5)
    axes.bar(middles, 100 * num_images / len(labels), width=0.9 * width, color=colour)
    axes.set_xlabel("confidence (%)")
    axes.set_xlim(0, 100)
    axes.grid(alpha=0.25, axis="y")
