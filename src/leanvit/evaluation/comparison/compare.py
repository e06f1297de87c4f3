"""Finished runs side by side: which is best by validation, and is the difference real?

- One row is one choice: runs that differ only in the seed are averaged. One table is one data set:
  accuracies on different images are never put in one order.
- Rows are sorted by validation (the metric that the runs monitored), never by test: the test set
  only says how good the choice is that validation made.
- The 95 % interval of the test accuracy is a t-interval over seeds where there are two or more (it
  holds the luck of training), else the bootstrap over test images (it holds the luck of the test
  images). The two answer different questions, so each row says which it has.
- Rows can be sorted by what their training cost instead (PFLOP or seconds), the cheapest first.
- The difference to the first row is a paired bootstrap over the test images, the correctness of an
  image being averaged over the seeds of its row. Where the interval holds 0, no difference is
  shown. It does not hold the luck of training, which only more seeds can tell, and it is not
  widened for the number of rows: one comparison in twenty shows a difference by chance.
  `comparison.paired` asks two rows about both kinds of luck.
- What older runs did not report (recall by shots, calibration after temperature scaling) is not
  known, and neither is a mean over seeds of which one is not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import Difference, paired_difference, t_interval
from leanvit.evaluation.comparison.runs import read_answers, read_config, read_run
from leanvit.evaluation.measure.metrics import SHOTS

ALWAYS_SHOWN = ("model", "loss", "sampler")
STAGES = ("classifier", "lightweight", "method")  # shown wherever a run has one: it is another net
# a table has one data set, a logger changes no result, a sweep only lists choices
NO_CHOICE = {"data", "logger", "seed", "sweep"}
NUM_JUDGED = 100  # rows of a table; of so many differences five are shown by chance
SORTABLE = {"accuracy", "balanced_accuracy", "precision", "recall", "f1"}  # more is better

Sort = Literal["validation", "pflop", "time"]


@dataclass(frozen=True)
class Row:
    """One choice, averaged over its seeds. Accuracies are fractions of 1."""

    name: str
    settings: dict[str, str]  # choices and overrides, as text
    runs: list[Path]  # one a seed
    validation: float
    accuracy: float
    interval: tuple[float, float]
    interval_over: str  # "3 seeds" or "images"
    balanced_accuracy: float
    worst_class: str
    worst_recall: float
    shots: dict[str, float | None]  # mean recall of the "many", "medium" and "few"-shot classes
    calibration_error: float
    calibration_error_scaled: float | None  # after temperature scaling
    params: float | None
    macs: float | None
    pflop: float | None  # of the training and of those before it
    seconds: float
    # None in the first row, beyond NUM_JUDGED rows, and where the test images differ
    difference: Difference | None


@dataclass(frozen=True)
class Table:
    """The rows of one data set, best first by validation."""

    data: str
    source: str
    num_test_images: str
    monitor: str  # the validation metric, which the order is by if ``sort`` says nothing else
    sort: Sort
    devices: list[str]
    settings: list[str]  # the choices and overrides that are shown: those in which rows differ
    rows: list[Row]
    num_repeats: int  # runs left out because a newer one has the same choices and the same seed

    @cached_property
    def has_shots(self) -> bool:
        """Whether at least two of the groups exist: one alone says what balanced accuracy says."""
        return sum(any(row.shots[name] is not None for row in self.rows) for name in SHOTS) > 1

    @cached_property
    def has_pflop(self) -> bool:
        """Whether a row's is known."""
        return any(row.pflop is not None for row in self.rows)

    def label(self, row: Row) -> str:
        """What tells the row apart, for a legend: ``vit, focal, shuffle, model.dim=64``."""
        chosen = [row.settings[name] for name in ALWAYS_SHOWN if name in row.settings]
        rest = [name for name in self.settings if name not in ALWAYS_SHOWN and name in row.settings]
        return ", ".join([*chosen, *(f"{name}={row.settings[name]}" for name in rest)])


def compare(runs: Sequence[Path], sort: Sort = "validation") -> list[Table]:
    """One table for each data set among the directories of finished runs, sorted by data set.

    Raises:
        LeanvitError: a directory is not a finished run.
    """
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in read_by_age(runs):
        key = str(run["choices"].get("data")), str(run["source"])
        tables.setdefault(key, []).append(run)
    return [table_of(*key, tables[key], sort) for key in sorted(tables)]


def pflop_of(training: Mapping[str, Any]) -> float | None:
    """What a training and those before it computed; the training of a teacher is not among it.
    None: one of them did not tell."""
    own, before = training.get("pflop"), training.get("pflop_before")
    return None if own is None or before is None else own + before


def read_by_age(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What finished runs tell, and their ``path``; the newest last."""
    return [{**read_run(path), "path": path} for path in sorted(paths, key=_finished_at)]


def table_of(
    data: str, source: str, found: Sequence[dict[str, Any]], sort: Sort = "validation"
) -> Table:
    """The table of one data set, of what its runs tell, see :func:`read_by_age`."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for run in found:  # of two runs with the same seed the newer stays
        groups.setdefault(run["choices_hash"], {})[run["seed"]] = run
    runs = [run for group in groups.values() for run in group.values()]
    monitors = {run["training"].get("monitor", "").removeprefix("val/") for run in runs}
    agreed = len(monitors) == 1 and monitors <= SORTABLE
    # Runs that watched different things are put in order by what counts on imbalanced data.
    monitor = monitors.pop() if agreed else "balanced_accuracy"
    rows = [_row([group[seed] for seed in sorted(group)], monitor) for group in groups.values()]
    overridden = {name for run in runs for name in run["overrides"]} - NO_CHOICE
    rows = [replace(row, settings=with_defaults(row, overridden)) for row in rows]
    rows.sort(key=lambda row: (-row.validation, row.params or 0, row.name))
    if sort == "pflop":
        rows.sort(key=lambda row: math.inf if row.pflop is None else row.pflop)
    elif sort == "time":
        rows.sort(key=lambda row: row.seconds)
    rows[1:NUM_JUDGED] = judged(rows[1:NUM_JUDGED], rows[0])
    names = sorted({name for row in rows for name in row.settings})
    differing = [name for name in names if len({row.settings.get(name) for row in rows}) > 1]
    shown = [*ALWAYS_SHOWN, *(name for name in STAGES if name in names)]
    sizes = sorted({run["test"]["n"] for run in runs})
    return Table(
        data=data,
        source=source,
        num_test_images=" or ".join(f"{size:,}" for size in sizes),
        monitor=monitor,
        sort=sort,
        devices=sorted({run["training"].get("device", "unknown") for run in runs}),
        settings=[*shown, *(name for name in differing if name not in shown)],
        rows=rows,
        num_repeats=len(found) - len(runs),
    )


def judged(rows: Sequence[Row], first: Row) -> list[Row]:
    """Rows with their difference to the first one."""
    reference = _correctness(first.runs) if rows else None
    others = [_correctness(row.runs) if reference else None for row in rows]
    return [
        replace(row, difference=paired_difference(other[0], reference[0]))
        if reference and other and np.array_equal(reference[1], other[1])
        else row
        for row, other in zip(rows, others, strict=True)
    ]


def _row(runs: list[dict[str, Any]], monitor: str) -> Row:
    accuracies = [run["test"]["accuracy"] for run in runs]
    several = len(runs) > 1
    recalls = [run["test"]["per_class_recall"] for run in runs]
    mean_recalls = [_mean(values) for values in zip(*recalls, strict=True)]
    worst = min((value, index) for index, value in enumerate(mean_recalls) if value is not None)
    low, high = t_interval(accuracies) if several else runs[0]["test"]["accuracy_interval"]
    return Row(
        name=_common_name([run["name"] for run in runs]),
        settings=settings_of(runs[0]),
        runs=[run["path"] for run in runs],
        validation=float(np.mean([run["val"][monitor] for run in runs])),
        accuracy=float(np.mean(accuracies)),
        interval=(low, high),
        interval_over=f"{len(runs)} seeds" if several else "images",
        balanced_accuracy=float(np.mean([run["test"]["balanced_accuracy"] for run in runs])),
        worst_class=runs[0]["classes"][worst[1]],
        worst_recall=worst[0],
        shots={
            name: _mean_of_all([(run["test"].get("shots") or {}).get(name) for run in runs])
            for name in SHOTS
        },
        calibration_error=float(np.mean([run["test"]["calibration_error"] for run in runs])),
        calibration_error_scaled=_mean_of_all(
            [run["test"].get("calibration_error_scaled") for run in runs]
        ),
        params=_mean([run["cost"].get("params") for run in runs]),
        # where images differ in it, the mean of the test images
        macs=_mean([run["cost"].get("macs_used", run["cost"].get("macs")) for run in runs]),
        pflop=_mean_of_all([pflop_of(run["training"]) for run in runs]),
        seconds=float(np.mean([run["training"]["seconds"] for run in runs])),
        difference=None,
    )


def _common_name(names: Sequence[str]) -> str:
    """The parts between hyphens with which all names begin: the hash of one seed is no name."""
    parts = zip(*(name.split("-") for name in names), strict=False)
    same = takewhile(lambda each: len(set(each)) == 1, parts)
    return "-".join(each[0] for each in same) or names[0]


def settings_of(run: dict[str, Any]) -> dict[str, str]:
    """What may tell rows apart, as text: choices and overrides, not the seed.

    A group from which nothing is chosen is left out: older runs may not know the group at all.
    """
    chosen = {key: value for key, value in run["choices"].items() if value is not None}
    both = {**chosen, **run["overrides"]}
    return {key: "none" if value is None else str(value)
            for key, value in both.items() if key not in NO_CHOICE}  # fmt: skip


def with_defaults(row: Row, names: Iterable[str]) -> dict[str, str]:
    """A row's settings, and its values of what others were given otherwise, from its config."""
    unsaid = [name for name in names if name not in row.settings]
    config = read_config(row.runs[0]) if unsaid else {}
    found = {}
    for name in unsaid:
        value: Any = config
        for part in name.split("."):
            value = value.get(part, config) if isinstance(value, dict) else config
        if value is not config and not isinstance(value, dict):
            found[name] = "none" if value is None else str(value)
    return {**row.settings, **found}


def _correctness(runs: Sequence[Path]) -> tuple[Float64[ndarray, " n"], ndarray] | None:
    """Share of the runs that had each test image right, and the labels; None if these differ."""
    answers, labels = zip(*map(read_answers, runs), strict=True)
    if not all(np.array_equal(each, labels[0]) for each in labels):
        return None
    return np.stack(answers).mean(axis=0), labels[0]


def _mean(values: Sequence[float | int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is."""
    return None if None in values else _mean(values)


def _finished_at(path: Path) -> float:
    """In seconds; 0 where it was not."""
    metrics = path / "metrics.json"
    return metrics.stat().st_mtime if metrics.exists() else 0.0
