"""How sure a mean and a difference are: the t-interval over seeds and the paired bootstrap.

- Resampling n images with replacement only changes how often each value occurs. A difference of
  correctness takes few values, so their counts are drawn at once as Multinomial(n, shares): exact,
  and milliseconds for 10,000 resamples whatever n is.
- Pairing: both rows are asked about the same images, so what makes an image hard cancels out, and
  much smaller differences show than two intervals side by side can show. The same holds for seeds.
- A mean over classes is resampled within each class, whose number of test images stays as it is.
- The p-value belongs to the interval: twice the smaller of the shares of resamples at or below 0
  and at or above 0, each counted as (1 + number) / (1 + resamples), since no finite number of
  resamples can show that there are none; at most 1. But for the 1 and for ties it is below 0.05
  where the interval leaves out 0. With one run on either side it is close to McNemar's test.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile
intervals); Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2 (the
added 1). The bootstrap of a single accuracy is `metrics.accuracy_interval`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

# 97.5 % quantiles of Student's t with 1, 2, ... 30 degrees of freedom.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """An accuracy minus another, with its 95 % interval (fractions of 1) and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """In words."""
        return ("better" if self.value > 0 else "worse") if self.is_shown else NO_DIFFERENCE


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another net, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1 <= self.high


def paired_difference(
    correct: Float64[ndarray, " n"],
    reference: Float64[ndarray, " n"],
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Paired percentile bootstrap of mean(correct) - mean(reference) over the same images.

    Both are the share of a row's seeds that had each image right.
    """
    differences = correct - reference
    draws = _resampled_means(differences, num_resamples, np.random.default_rng(seed))
    return _difference(float(differences.mean()), draws)


def paired_class_difference(
    correct: Float64[ndarray, " n"],
    reference: Float64[ndarray, " n"],
    labels: Int64[ndarray, " n"],
    of_classes: Sequence[int],
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The same for the mean over ``of_classes`` of the recall, as in balanced accuracy.

    Each of these classes has two images or more. (Resampling n images loses 1 / n of their
    variance, which matters for few: it is put back.)
    """
    generator = np.random.default_rng(seed)
    by_class = [(correct - reference)[labels == label] for label in of_classes]
    draws = [
        each.mean()
        + (_resampled_means(each, num_resamples, generator) - each.mean())
        * math.sqrt(len(each) / (len(each) - 1))
        for each in by_class
    ]
    return _difference(float(np.mean([each.mean() for each in by_class])), np.mean(draws, axis=0))


def widened(found: Difference, over_seeds: tuple[float, float] | None) -> Difference:
    """With an interval over test images that also holds the one over seeds, if there is one: a
    difference is shown where both leave out 0."""
    if over_seeds is None:
        return found
    low, high = over_seeds
    return replace(found, low=max(-1, min(low, found.low)), high=min(1, max(high, found.high)))


def over_pairs(differences: Sequence[float]) -> tuple[float, float] | None:
    """The t-interval over the differences of paired seeds; None: there is one seed, or none."""
    return t_limits(differences) if len(differences) > 1 else None


def ratio(
    times: Sequence[float] | Float64[ndarray, " rounds"],
    others: Sequence[float] | Float64[ndarray, " rounds"],
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Ratio:
    """The median over rounds of times / others, with its 95 % bootstrap interval over rounds."""
    ratios = np.asarray(times) / np.asarray(others)
    draws = np.random.default_rng(seed).integers(len(ratios), size=(num_resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more accuracies, kept within [0, 1]."""
    low, high = t_limits(values)
    return max(low, 0.0), min(high, 1.0)


def t_limits(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of two or more numbers, such as differences of paired seeds.

    Beyond 31 values the quantile for 31 is used, which is 4 % too wide at most.
    """
    n = len(values)
    quantile = T_QUANTILES[min(n - 1, len(T_QUANTILES)) - 1]
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - quantile * error, mean + quantile * error


def _resampled_means(
    differences: Float64[ndarray, " n"], num_resamples: int, generator: np.random.Generator
) -> Float64[ndarray, " resamples"]:
    """Means of as many images, drawn with replacement."""
    n = len(differences)
    values, counts = np.unique(np.round(differences, 12), return_counts=True)
    return generator.multinomial(n, counts / n, size=num_resamples) @ values / n


def _difference(value: float, draws: Float64[ndarray, " resamples"]) -> Difference:
    # sums of thirds that are 0 on paper are 0 here, and not -0 either
    value, draws = round(value, 10) + 0.0, np.round(draws, 10) + 0.0
    low, high = np.percentile(draws, [2.5, 97.5])
    tail = 1 + int(min((draws <= 0).sum(), (draws >= 0).sum()))
    return Difference(value, float(low), float(high), min(2 * tail / (1 + len(draws)), 1.0))
