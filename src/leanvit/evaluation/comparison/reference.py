"""What each row of a comparison is compared with, and what else differs there.

- The reference is asked for: a row, by its number, one of its runs, or what was chosen
  (``loss=ce``). Else it is the row of the plainest choices, of several the one that computes
  least: the winner by validation was picked for being high, and a difference to it is too.
- A net that was made of another row's, pruned, merged or trained on, is compared with that row.
- The difference is a paired bootstrap over the test images, the correctness of an image being
  averaged over the seeds of its row. Where two rows have two seeds or more in common, its interval
  also holds the t-interval over these pairs (`intervals.widened`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import (
    Difference,
    over_pairs,
    paired_difference,
    widened,
)
from leanvit.evaluation.comparison.rows import ALWAYS_SHOWN, STAGES, Row
from leanvit.evaluation.comparison.runs import read_answers, read_config, read_run

NUM_JUDGED = 100  # rows of a table; of so many differences five are shown by chance
# choices that every remedy must beat, and "none"; another value is one step away from plain
PLAIN = {"loss": ("ce",), "sampler": ("shuffle",)}
SINGLE_STEPS = ("loss", "sampler", "mix", "pretrained", *STAGES)
ASKED = (*ALWAYS_SHOWN, *STAGES)  # what comparisons are usually about; the rest is the recipe
# values of a config that change no result, or differ with the seed
NO_RESULT = ("seed", "split_seed", "outputs", "logger", "num_workers", "memory_gib", "parallel",
             "wait", "figures", "classes", "choices", "hydra", "data.source", "data.data_dir",
             "data.memory_gib", "sweep")  # fmt: skip


class Answers(NamedTuple):
    """What the runs of a row said of the test images."""

    correct: Float64[ndarray, " n"]  # share of the runs that had the image right
    labels: Int64[ndarray, " n"]
    accuracies: Mapping[int, float]  # by seed


def plainest(rows: Sequence[Row]) -> int:
    """The row of the plainest choices, from 0."""
    return min(range(len(rows)), key=lambda number: _plainness(rows[number]))


def choose(rows: Sequence[Row], baseline: str | int) -> int | None:
    """The row that is asked for, from 0; of several the plainest; None: there is none.

    Args:
        baseline: its number, from 1; one of its runs; or ``key=value``, several joined by commas.
    """
    if isinstance(baseline, int) or baseline.isdecimal():
        return int(baseline) - 1 if 0 < int(baseline) <= len(rows) else None
    if (path := Path(baseline)).is_dir():
        is_meant = [path.resolve() in (run.resolve() for run in row.runs) for row in rows]
    else:
        wanted = dict(each.partition("=")[::2] for each in baseline.split(","))
        is_meant = [chosen(row.settings, wanted) for row in rows]
    found = [number for number, meant in enumerate(is_meant) if meant]
    return min(found, key=lambda number: _plainness(rows[number]), default=None)


def chosen(settings: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all that is wanted was chosen; "none" is what nothing was chosen from."""
    return all(settings.get(key, "none") == value for key, value in wanted.items())


def _plainness(row: Row) -> tuple[bool, int, float]:
    # loss@late.loss is a choice of a loss; loss.gamma is a value, and among those that were given
    steps = sum(name.partition("@")[0] in SINGLE_STEPS
                and value not in ("none", *PLAIN.get(name, ()))
                for name, value in row.settings.items())  # fmt: skip
    return bool(row.bases), steps + row.num_given, math.inf if row.macs is None else row.macs


def judged(rows: Sequence[Row], reference: int) -> list[Row]:
    """Rows with what they are compared with, and their difference to it."""
    has_base = any(row.bases for row in rows)
    of_run = {run.resolve(): number for number, row in enumerate(rows) for run in row.runs
              if has_base}  # fmt: skip
    answers: dict[tuple[Path, ...], Answers | None] = {}
    found = []
    for number, row in enumerate(rows):
        made_of = [base.resolve() for base in row.bases] if number != reference else []
        base = next((of_run[each] for each in made_of if each in of_run), None)
        against = reference if base in (None, number) else base
        if against == number or number >= NUM_JUDGED:
            found.append(row)
            continue
        of_other = rows[against].runs
        if against == base:  # one that was made of a run stands against that, not against a mean
            of_other = [run for run in of_other if run.resolve() in made_of]
        for each in (tuple(of_other), tuple(row.runs)):
            if each not in answers:
                answers[each] = _correctness(each)
        difference = _difference(answers[tuple(row.runs)], answers[tuple(of_other)])
        more = tuple(also_differs(row, rows[against]))
        found.append(replace(row, against=against, difference=difference, also_differs=more))
    return found


def _difference(one: Answers | None, other: Answers | None) -> Difference | None:
    """None: the test images differ."""
    if one is None or other is None or not np.array_equal(one.labels, other.labels):
        return None
    pairs = [one.accuracies[seed] - other.accuracies[seed]
             for seed in one.accuracies.keys() & other.accuracies.keys()]  # fmt: skip
    return widened(paired_difference(one.correct, other.correct), over_pairs(pairs))


def also_differs(row: Row, other: Row) -> list[str]:
    """Values of a row's config that are others in that of the other row, and that their settings do
    not tell: ``["optimizer.lr=0.2"]``."""
    told = [name for name in {*row.settings, *other.settings}
            if row.settings.get(name) != other.settings.get(name)]  # fmt: skip
    # mix@late.mix is late.mix; a pretrained run brings its net and its split
    known = tuple(name.rpartition("@")[2] for name in told)
    known += ("model", *STAGES) if "pretrained" in told or "method" in told else ()
    one, two = (dict(_leaves(read_config(each.runs[0]))) for each in (row, other))
    # what one of them lacks is of another version
    keys = [key for key in one.keys() & two.keys() if one[key] != two[key]]
    return sorted(f"{key}={'none' if one[key] is None else one[key]}" for key in keys
                  if not _is_in(key, known) and not _is_in(key, NO_RESULT)
                  and not key.rpartition(".")[2].startswith("_"))  # fmt: skip


def _is_in(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """``("optimizer.lr", 0.1)`` and so on."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def _correctness(runs: Sequence[Path]) -> Answers | None:
    """Of a row; None: its runs were tested on different images."""
    answers, labels = zip(*map(read_answers, runs), strict=True)
    if not all(np.array_equal(each, labels[0]) for each in labels):
        return None
    accuracies = {read_run(run)["seed"]: float(each.mean())
                  for run, each in zip(runs, answers, strict=True)}  # fmt: skip
    return Answers(np.stack(answers).mean(axis=0), labels[0], accuracies)
