"""What validation can tell: how sure the figure of each row is, and which rows may be the best.

- The interval is of the kind that the test accuracy has: a t-interval over seeds, or the bootstrap
  over validation images where there is one seed. A class that a resample has no image of is left
  out of it.
- A row is tied with the best where a paired comparison over the validation images shows no
  difference, by the rule of :mod:`leanvit.evaluation.comparison.reference`. An image counts as much
  as it does in a mean of recalls, unless accuracy was monitored.
- Of few images a bootstrap is too sure of itself: where none is lost it thinks that none can be. So
  one image that is gained and one that is lost are added: a row with none of 18 lost must have five
  gained, where McNemar's exact test asks for six.
- The best was picked for being high among many, and nothing is widened for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import (
    over_pairs,
    paired_difference,
    t_interval,
    widened,
)
from leanvit.evaluation.comparison.reference import NUM_JUDGED
from leanvit.evaluation.comparison.rows import Row
from leanvit.evaluation.comparison.runs import read_answers, read_run

NUM_RESAMPLES = 2_000
Interval = tuple[float, float]


class Seen(NamedTuple):
    """What the run of one seed said of its validation images."""

    figure: float  # the metric that was monitored
    correct: Bool[ndarray, " n"]
    labels: Int64[ndarray, " n"]


def with_validation(rows: Sequence[Row], monitor: str) -> list[Row]:
    """The rows, of which the first have an interval of validation and are told from the best.

    Args:
        monitor: the metric that ``validation`` is.
    """
    best = max(rows, key=lambda row: row.validation)
    of_best = _seen(best, monitor)
    bounds_of_best = _interval(of_best, monitor)
    found = []
    for row in rows[:NUM_JUDGED]:
        if row is best:
            found.append(replace(row, validation_interval=bounds_of_best, is_tied=True))
            continue
        seen = _seen(row, monitor)
        low, high = bounds = _interval(seen, monitor)
        tied = _is_tied(seen, of_best, monitor)
        if tied is None:  # other images: the intervals are held side by side
            tied = low <= bounds_of_best[1] and bounds_of_best[0] <= high
        found.append(replace(row, validation_interval=bounds, is_tied=tied))
    return [*found, *rows[NUM_JUDGED:]]


def _seen(row: Row, monitor: str) -> dict[int, Seen]:
    """By seed."""
    told = ((run, read_run(run)) for run in row.runs)
    return {each["seed"]: Seen(each["val"][monitor], *read_answers(run, "val"))
            for run, each in told}  # fmt: skip


def _interval(seen: Mapping[int, Seen], monitor: str) -> Interval:
    if len(seen) > 1:
        return t_interval([each.figure for each in seen.values()])
    ((_, correct, labels),) = seen.values()
    if monitor == "accuracy":
        labels = np.zeros_like(labels)
    size = int(labels.max()) + 1
    kinds = np.bincount(labels + size * correct, minlength=2 * size)
    draws = np.random.default_rng(0).multinomial(len(labels), kinds / len(labels), NUM_RESAMPLES)
    wrong, right = draws[:, :size], draws[:, size:]
    is_drawn = (wrong + right) > 0
    means = (right / np.maximum(wrong + right, 1)).sum(axis=1) / is_drawn.sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _is_tied(one: Mapping[int, Seen], other: Mapping[int, Seen], monitor: str) -> bool | None:
    """None: they have no seed in common that saw the same images."""
    seeds = [seed for seed in one.keys() & other.keys()
             if np.array_equal(one[seed].labels, other[seed].labels)]  # fmt: skip
    if not seeds:
        return None
    labels, correct, correct_of_other = _in_common([(one[seed], other[seed]) for seed in seeds])
    counts = np.bincount(labels)
    weights = len(labels) / ((counts > 0).sum() * counts[labels])
    if monitor == "accuracy":
        weights[:] = 1
    right, right_of_other = correct * weights, correct_of_other * weights
    found = paired_difference(np.append(right, [1, 0]), np.append(right_of_other, [0, 1]))
    pairs = [one[seed].figure - other[seed].figure for seed in seeds]
    return not widened(found, over_pairs(pairs)).is_shown


def _in_common(
    pairs: Sequence[tuple[Seen, Seen]],
) -> tuple[Int64[ndarray, " n"], Float64[ndarray, " n"], Float64[ndarray, " n"]]:
    """Labels, and how rightly each of two rows said them. Where all seeds have the same labels in a
    row, their images may be the same (of a ``val/`` folder they are), and more seeds are no more
    images: each is counted once, with the share of the seeds that had it right."""
    labels, one, other = zip(*((pair[0].labels, pair[0].correct, pair[1].correct)
                               for pair in pairs), strict=True)  # fmt: skip
    if all(np.array_equal(each, labels[0]) for each in labels):
        return labels[0], np.mean(one, axis=0), np.mean(other, axis=0)
    return np.concatenate(labels), np.concatenate(one) * 1.0, np.concatenate(other) * 1.0
