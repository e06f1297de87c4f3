"""How sure a mean and a difference are: the t-interval over seeds and the paired bootstrap.

- Resampling n images with replacement only changes how often each value occurs. A difference of
  correctness takes few values, so their counts are drawn at once as Multinomial(n, shares): exact,
  and milliseconds for 10,000 resamples whatever n is.
- Pairing: both rows are asked about the same images, so what makes an image hard cancels out, and
  much smaller differences show than two intervals side by side can show.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile
intervals). The bootstrap of a single accuracy is `metrics.accuracy_interval`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

# 97.5 % quantiles of Student's t with 1, 2, ... 30 degrees of freedom.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """An accuracy minus another, with its 95 % interval (fractions of 1)."""

    value: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


def paired_difference(
    correct: Float64[ndarray, " n"],
    reference: Float64[ndarray, " n"],
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Paired percentile bootstrap of mean(correct) - mean(reference) over the same images.

    Args:
        correct: share of the seeds that had each image right.
        reference: the same for the row that is compared with.
        num_resamples: bootstrap draws.
        seed: of these draws.
    """
    n = len(correct)
    values, counts = np.unique(np.round(correct - reference, 9), return_counts=True)
    times = np.random.default_rng(seed).multinomial(n, counts / n, size=num_resamples)
    low, high = np.percentile(times @ values / n, [2.5, 97.5])
    return Difference(float(values @ counts / n), float(low), float(high))


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more accuracies, kept within [0, 1].

    Beyond 31 values the quantile for 31 is used, which is 4 % too wide at most.
    """
    n = len(values)
    quantile = T_QUANTILES[min(n - 1, len(T_QUANTILES)) - 1]
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    return max(mean - quantile * error, 0.0), min(mean + quantile * error, 1.0)
