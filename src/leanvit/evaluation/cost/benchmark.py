"""Runs side by side: how right, how fast, how large.

- Runs stand in the order in which they were given; the first is what the others are compared with.
- A run is called by what tells it apart from the others. Seeds are not averaged: a line is a net.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from leanvit.evaluation.comparison.compare import base_of, settings_of
from leanvit.evaluation.comparison.intervals import Difference, Ratio, paired_difference, ratio
from leanvit.evaluation.comparison.runs import read_answers
from leanvit.evaluation.cost.benchmark_times import Times
from leanvit.evaluation.cost.plain_sizes import Plain, beside_plain, curves

# settings whose value says by itself what it is of
PLAIN = ("model", "loss", "sampler", "lightweight", "method")


@dataclass(frozen=True)
class Spread:
    """The median of what was measured, and the range of the middle 80 % of it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class TimedRun:
    """One run. Accuracies are fractions of 1, times in seconds, sizes in bytes."""

    name: str
    path: Path
    precision: str
    accuracy: float
    interval: tuple[float, float]  # 95 %, over test images
    difference: Difference | None  # to the first run, over the same test images; None: the first
    balanced_accuracy: float
    macs: float  # mean of what the test images used
    size: int
    latency: Spread  # of single images
    batch_size: int
    images_per_second: Spread  # over rounds
    faster: Ratio | None  # times as fast as the first run, one image at a time; None: the first
    faster_in_batches: Ratio | None
    plain: Plain | None = None  # what curve of plain nets it is on
    beside_plain: Difference | None = None  # to plain nets as fast as it, in batches


@dataclass(frozen=True)
class Benchmark:
    """The runs, and what was common to them."""

    runs: list[TimedRun]
    source: str
    num_test_images: int
    image_size: int
    device: str
    num_rounds: int


def timed_runs(
    runs: Sequence[Path],
    told: Sequence[Mapping[str, Any]],
    times: Sequence[Times],
    precisions: Sequence[str],
) -> list[TimedRun]:
    """The runs with what was found out about them: metrics.json, times from one race, precision.

    Raises:
        LeanvitError: a run's predictions cannot be read.
    """
    answers = [read_answers(run)[0].astype(np.float64) for run in runs]
    names, settings = names_of(runs, told), [settings_of(dict(about)) for about in told]
    macs = [about["cost"].get("macs_used", about["cost"]["macs"]) for about in told]
    plain = curves(settings, macs)
    rates = [float(np.median(own.rates)) for own in times]
    bases = [base_of({**about, "path": run}) for run, about in zip(runs, told, strict=True)]
    places = {run.resolve(): index for index, run in enumerate(runs)}
    made_of = [places.get(base.resolve()) if base else None for base in bases]
    beside = beside_plain(settings, plain, made_of, rates, answers)
    timed = []
    for index, (run, about, own) in enumerate(zip(runs, told, times, strict=True)):
        cost, is_first = about["cost"], index == 0
        alone, first_alone = (each.single.mean(axis=1) for each in (own, times[0]))
        timed.append(
            TimedRun(
                name=names[index],
                path=run,
                precision=precisions[index],
                accuracy=about["test"]["accuracy"],
                interval=tuple(about["test"]["accuracy_interval"]),
                difference=None if is_first else paired_difference(answers[index], answers[0]),
                balanced_accuracy=about["test"]["balanced_accuracy"],
                macs=macs[index],
                size=cost["weight_bytes"],
                latency=_spread(own.single),
                batch_size=own.batch_size,
                images_per_second=_spread(own.rates),
                faster=None if is_first else ratio(first_alone, alone),
                faster_in_batches=None if is_first else ratio(own.rates, times[0].rates),
                plain=plain[index],
                beside_plain=beside[index],
            )
        )
    return timed


def names_of(runs: Sequence[Path], told: Sequence[Mapping[str, Any]]) -> list[str]:
    """The model and what else differs: ``vit, tome, lightweight.r=8``; other options than those of
    the model and the methods only where runs are called the same without them."""
    settings = [settings_of(dict(about)) for about in told]
    keys = dict.fromkeys(key for each in settings for key in sorted(each))
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    plain = [key for key in PLAIN if key == "model" or key in differing]
    of_these = [key for key in differing if key.split(".")[0] in PLAIN and key not in PLAIN]
    rest = [key for key in differing if key not in (*PLAIN, *of_these)]
    for shown in ([*plain, *of_these], [*plain, *of_these, *rest]):
        names = [", ".join(_settings_in_words(each, shown)) for each in settings]
        if len(set(names)) == len(names):
            return names
    for tell in (
        [f"seed={about['seed']}" for about in told],
        [run.name for run in runs],
        [str(number) for number in range(1, 1 + len(runs))],
    ):
        pairs = list(zip(names, tell, strict=True))
        apart = [len({more for other, more in pairs if other == name}) > 1 for name in names]
        names = [
            f"{name}, {more}" if told_apart else name
            for (name, more), told_apart in zip(pairs, apart, strict=True)
        ]
    return names


def _settings_in_words(settings: Mapping[str, str], keys: Sequence[str]) -> list[str]:
    known = [key for key in keys if key in settings]
    return [settings[key] if key in PLAIN else f"{key}={settings[key]}" for key in known]


def _spread(values: Float64[ndarray, "*measured"]) -> Spread:
    low, median, high = np.percentile(values, [10, 50, 90])
    return Spread(float(median), float(low), float(high))
