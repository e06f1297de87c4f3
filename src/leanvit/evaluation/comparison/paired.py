"""Two choices over the same seeds and the same test images: is the difference real?

- Runs are paired by seed: the same validation split, the same first weights, the same draws. What a
  seed does to both drops out of the difference. Runs whose seed has no partner are left out, and
  named.
- Two kinds of luck are asked about apart. The t-interval over the differences of the pairs holds
  the luck of training, on these test images; the paired bootstrap over test images (correctness
  averaged over the seeds) holds the luck of the images, for these nets. Neither holds both, so a
  difference is shown only where both leave out 0. That is stricter than 95 %.
- With one pair only the test images can be asked, and the words say so.
- Several lines are read at once, and nothing is widened for that.
- The worst class is the one with the lowest mean recall over seeds, picked by the images that it is
  then judged by, and not the same class on both sides: it has a difference and no interval.
- Many-, medium- and few-shot recall are compared where both sides have the same classes in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import read_by_age, settings_of
from leanvit.evaluation.comparison.intervals import (
    NO_DIFFERENCE,
    Difference,
    over_pairs,
    paired_class_difference,
    paired_difference,
    widened,
)
from leanvit.evaluation.comparison.rows import ALWAYS_SHOWN
from leanvit.evaluation.comparison.runs import read_answers
from leanvit.evaluation.measure.metrics import shot_groups


@dataclass(frozen=True)
class Measure:
    """One figure of both sides, and how sure their difference is. Fractions of 1."""

    name: str  # "accuracy", "balanced accuracy", "few-shot", ...
    run: float
    against: float
    over_seeds: tuple[float, float] | None  # None: one pair, or the worst class
    over_images: Difference | None  # None: the worst class, or a class with one image
    classes: tuple[str, str] | None = None  # the worst ones

    @property
    def difference(self) -> float:
        return self.run - self.against

    @property
    def seeds_show(self) -> bool | None:
        """Whether the interval over seeds leaves out 0; None: there is none."""
        if self.over_seeds is None:
            return None
        return not self.over_seeds[0] <= 0 <= self.over_seeds[1]

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference shown``, and over what where it is not both."""
        if self.over_images is None:
            return "" if self.classes else f"{NO_DIFFERENCE} (a class has one test image)"
        if self.seeds_show is None:
            return f"{self.over_images.verdict} (one seed)"
        if (both := widened(self.over_images, self.over_seeds)).is_shown:
            return both.verdict
        only = "seeds" if self.seeds_show else "images" if self.over_images.is_shown else None
        return f"{NO_DIFFERENCE} ({only} alone would)" if only else NO_DIFFERENCE


@dataclass(frozen=True)
class Paired:
    """Two choices, compared over the seeds that both have."""

    run: str  # what is chosen on this side and not on the other
    against: str
    common: str  # data, model, loss and sampler, as far as both have the same
    seeds: list[int]
    left_out: list[Path]  # no partner with this seed
    num_test_images: int
    sources: list[str]
    measures: list[Measure]
    runs: list[tuple[Path, Path]]  # the pairs, by seed
    where: str = ""  # what tells it from other pairs of rows


def compare_paired(runs: Sequence[Path], against: Sequence[Path]) -> Paired:
    """Compare the finished runs of one choice with those of another, seed by seed; of two with the
    same seed the newer counts.

    Raises:
        LeanvitError: a directory is not a finished run, a side holds several choices, no seed is
            on both sides, or the test images differ.
    """
    sides = _one_choice(runs, "run"), _one_choice(against, "against")
    seeds = sorted(sides[0].keys() & sides[1].keys())
    if not seeds:
        have = [", ".join(map(str, sorted(side))) for side in sides]
        raise LeanvitError(
            f"runs are paired by seed, and none is on both sides: run= has seed {have[0]}, "
            f"against= has seed {have[1]}; train the missing ones"
        )
    told = [side[number] for side in sides for number in seeds]
    answers, labels = _answers(told)
    names = _names(told[0], told[-1])
    return Paired(
        run=names[0],
        against=names[1],
        common=names[2],
        seeds=seeds,
        left_out=[side[number]["path"] for side in sides for number in sorted(side)
                  if number not in seeds],
        num_test_images=len(labels),
        sources=sorted({str(run["source"]) for run in told}),
        measures=_measures(answers, labels, told),
        runs=[(sides[0][number]["path"], sides[1][number]["path"]) for number in seeds],
    )  # fmt: skip


def _one_choice(paths: Sequence[Path], name: str) -> dict[int, dict[str, Any]]:
    """The runs by seed, the newer of two."""
    runs = read_by_age(paths)
    if not runs:
        raise LeanvitError(f"{name}= holds no finished run: python src/train.py makes one")
    for run in runs:
        differing = _differing(runs[0], run)
        if differing or runs[0]["source"] != run["source"]:
            raise LeanvitError(
                f"{name}= holds runs of several choices, which differ in "
                f"{', '.join(differing) or 'data.source'}: add what only the runs of one have "
                "(commas join choices), or give their directories"
            )
    return {run["seed"]: run for run in runs}


def _differing(run: dict[str, Any], other: dict[str, Any]) -> list[str]:
    first, second = settings_with_data(run), settings_with_data(other)
    return sorted(key for key in first | second if first.get(key) != second.get(key))


def settings_with_data(run: dict[str, Any]) -> dict[str, str]:
    """What tells a choice from others, the images among it."""
    return {"data": str(run["choices"].get("data")), **settings_of(run)}


def _names(run: dict[str, Any], against: dict[str, Any]) -> tuple[str, str, str]:
    """What is chosen on one side and not on the other, and what both have, in words."""
    first, second = settings_with_data(run), settings_with_data(against)
    differing = _differing(run, against)
    same = [key for key in ("data", *ALWAYS_SHOWN) if key in first and key not in differing]
    common = ", ".join(f"{key}={first[key]}" for key in same)
    if not differing:
        return run["name"], against["name"], common
    names = [
        ", ".join(f"{key}={side[key]}" if key in side else f"default {key}" for key in differing)
        for side in (first, second)
    ]
    return names[0], names[1], common


def _answers(
    told: Sequence[dict[str, Any]],
) -> tuple[Bool[ndarray, "sides seeds n"], Int64[ndarray, " n"]]:
    """Whether each run, of one side and then of the other, had each test image right, and the
    labels."""
    answers, labels = zip(*(read_answers(run["path"]) for run in told), strict=True)
    for run, asked in zip(told, labels, strict=True):
        if not np.array_equal(asked, labels[0]) or run["classes"] != told[0]["classes"]:
            raise LeanvitError(
                f"{run['path']} was tested on other images than {told[0]['path']}: only runs on "
                "the same test images can be paired"
            )
    return np.stack(answers).reshape(2, len(told) // 2, -1), labels[0]


def _measures(
    answers: Bool[ndarray, "sides seeds n"],
    labels: Int64[ndarray, " n"],
    told: Sequence[dict[str, Any]],
) -> list[Measure]:
    run, against = answers.mean(axis=1)
    present = np.unique(labels)
    # (sides, seeds, classes with an image)
    recall = np.stack([answers[..., labels == label].mean(axis=-1) for label in present], axis=-1)
    accuracies, over_images = answers.mean(axis=-1), paired_difference(run, against)
    measures = [_measure("accuracy", accuracies, over_images)]
    groups = {"balanced accuracy": present.tolist(), **_shots(told)}
    for name, indices in groups.items():
        of_classes = [index for index in indices if index in present]
        if not of_classes:
            continue
        over_classes = None
        if min((labels == label).sum() for label in of_classes) > 1:  # one cannot be resampled
            over_classes = paired_class_difference(run, against, labels, of_classes)
        values = recall[..., np.isin(present, of_classes)].mean(axis=-1)
        measures.append(_measure(name, values, over_classes))
    means = recall.mean(axis=1)
    worst = [str(told[0]["classes"][present[index]]) for index in means.argmin(axis=1)]
    low = means.min(axis=1)
    shown = Measure("worst class", float(low[0]), float(low[1]), None, None, (worst[0], worst[1]))
    measures.insert(2, shown)
    return measures


def _measure(name: str, values: ndarray, over_images: Difference | None) -> Measure:
    """``values``: (sides, seeds)."""
    run, against = values.mean(axis=1)
    differences = np.round(values[0] - values[1], 12) + 0.0  # sums of thirds: 0 is 0, and not -0
    over_seeds = over_pairs(differences.tolist())
    return Measure(name, float(run), float(against), over_seeds, over_images)


def _shots(told: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Classes of the groups, if two exist and all runs have the same."""
    groups = [shot_groups(run.get("train_counts") or ()) for run in told]
    filled = {f"{name}-shot": indices for name, indices in groups[0].items() if indices}
    return filled if len(filled) > 1 and all(each == groups[0] for each in groups) else {}
