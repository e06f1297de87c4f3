"""Finished runs side by side: which is best by validation, and is the difference real?

- One row is one choice: runs that differ only in the seed are averaged. One table is one data set:
  accuracies on different images are never put in one order.
- Rows are sorted by validation (the metric that the runs monitored), never by test: the test set
  only says how good the choice is that validation made.
- The 95 % interval of the test accuracy is a t-interval over seeds where there are two or more (it
  holds the luck of training), else the bootstrap over test images (it holds the luck of the test
  images). The two answer different questions, so each row says which it has.
- Rows can be sorted by what their training cost instead (PFLOP or seconds), the cheapest first.
- Each row is compared with the reference, or with the row of the net that it was made of
  (`comparison.reference`). Where the interval of the difference holds 0, no difference is shown.
  It holds the luck of training where both rows have seeds in common, two or more; of one seed
  nothing tells it. It is not widened for the number of rows: one comparison in twenty shows a
  difference by chance. `comparison.paired` tells the two kinds of luck apart.
- What older runs did not report (recall by shots, calibration after temperature scaling) is not
  known, and neither is a mean over seeds of which one is not.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.intervals import t_interval
from leanvit.evaluation.comparison.reference import choose, judged, plainest
from leanvit.evaluation.comparison.rows import ALWAYS_SHOWN, STAGES, Row, Sort, Table
from leanvit.evaluation.comparison.runs import read_config, read_run
from leanvit.evaluation.comparison.validation import with_validation
from leanvit.evaluation.measure.metrics import SHOTS

# a table has one data set, a logger changes no result, a sweep only lists choices
NO_CHOICE = {"data", "logger", "seed", "sweep"}
SORTABLE = {"accuracy", "balanced_accuracy", "precision", "recall", "f1"}  # more is better


def compare(
    runs: Sequence[Path], sort: Sort = "validation", baseline: str | int | None = None
) -> list[Table]:
    """One table for each data set among the directories of finished runs, sorted by data set.

    Args:
        baseline: the row that others are compared with, see :func:`comparison.reference.choose`.

    Raises:
        LeanvitError: a directory is not a finished run; no row of any table is ``baseline``.
    """
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in read_by_age(runs):
        key = str(run["choices"].get("data")), str(run["source"])
        tables.setdefault(key, []).append(run)
    found = [table_of(*key, tables[key], sort, baseline) for key in sorted(tables)]
    if baseline is not None and found and not any(table.is_baseline for table in found):
        raise LeanvitError(
            f"baseline={baseline} is no row: give its number, one of its runs, or what was chosen, "
            "as loss=ce"
        )
    return [replace(table, rows=with_validation(table.rows, table.monitor)) for table in found]


def pflop_of(training: Mapping[str, Any]) -> float | None:
    """What a training and those before it computed; the training of a teacher is not among it.
    None: one of them did not tell."""
    own, before = training.get("pflop"), training.get("pflop_before")
    return None if own is None or before is None else own + before


def read_by_age(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What finished runs tell, and their ``path``; the newest last."""
    return [{**read_run(path), "path": path} for path in sorted(paths, key=_finished_at)]


def table_of(
    data: str,
    source: str,
    found: Sequence[dict[str, Any]],
    sort: Sort = "validation",
    baseline: str | int | None = None,
) -> Table:
    """The table of one data set, of what its runs tell, see :func:`read_by_age`; without what
    validation can tell."""
    groups = by_row(found)
    runs = [run for group in groups for run in group.values()]
    monitors = {run["training"].get("monitor", "").removeprefix("val/") for run in runs}
    agreed = len(monitors) == 1 and monitors <= SORTABLE
    # Runs that watched different things are put in order by what counts on imbalanced data.
    monitor = monitors.pop() if agreed else "balanced_accuracy"
    rows = [_row([group[seed] for seed in sorted(group)], monitor) for group in groups]
    overridden = {name for run in runs for name in run["overrides"]} - NO_CHOICE
    rows = [
        replace(row, settings=with_defaults(row.settings, row.runs[0], overridden)) for row in rows
    ]
    rows.sort(key=lambda row: (-row.validation, row.params or 0, row.name))
    if sort == "pflop":
        rows.sort(key=lambda row: math.inf if row.pflop is None else row.pflop)
    elif sort == "time":
        rows.sort(key=lambda row: row.seconds)
    given = None if baseline is None else choose(rows, baseline)
    reference = plainest(rows) if given is None else given
    rows = judged(rows, reference)
    names = sorted({name for row in rows for name in row.settings})
    differing = [name for name in names if len({row.settings.get(name) for row in rows}) > 1]
    shown = [*ALWAYS_SHOWN, *(name for name in STAGES if name in names)]
    return Table(
        data=data,
        source=source,
        num_val_images=_sizes(runs, "val"),
        num_test_images=_sizes(runs, "test"),
        monitor=monitor,
        sort=sort,
        devices=sorted({run["training"].get("device", "unknown") for run in runs}),
        settings=[*shown, *(name for name in differing if name not in shown)],
        rows=rows,
        num_repeats=len(found) - len(runs),
        reference=reference,
        is_baseline=given is not None,
    )


def by_row(found: Sequence[dict[str, Any]]) -> list[dict[int, dict[str, Any]]]:
    """The runs of each row by their seed; of two with the same seed the last."""
    # of seed=0,1,2 split_seed=0 the first is hashed as one whose split follows its seed
    apart = {run["choices_hash"]: run for run in found
             if _split_of(run) not in (None, run["seed"])}  # fmt: skip
    of_split: dict[str, list[str]] = {}
    for key, run in apart.items():
        of_split.setdefault(_words(run), []).append(key)
    following = {run["choices_hash"] for run in found if _split_of(run) is None}
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for run in found:
        key = run["choices_hash"]
        if _split_of(run) == run["seed"] and key not in following:
            others = of_split.get(_words(run), [])
            key = others[0] if len(others) == 1 else key
        groups.setdefault(key, {})[run["seed"]] = run
    return list(groups.values())


def _split_of(run: Mapping[str, Any]) -> int | None:
    """The seed of the split that a run was given; a second stage has that of its first."""
    is_first = run["choices"].get("pretrained") is None
    return run["overrides"].get("split_seed") if is_first else None


def _words(run: Mapping[str, Any]) -> str:
    return json.dumps([run["choices"], run["overrides"]], sort_keys=True, default=str)


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
        num_given=len(runs[0]["overrides"]),
        bases=[base for base in map(base_of, runs) if base],
    )


def base_of(run: dict[str, Any]) -> Path | None:
    """The run whose net it took over, or made smaller."""
    given = run.get("compressed", {}).get("run")
    if given is None and run["choices"].get("pretrained") is not None:
        given = read_config(run["path"]).get("pretrained")
    return Path(given) if isinstance(given, str) else None


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


def with_defaults(settings: Mapping[str, str], run: Path, names: Iterable[str]) -> dict[str, str]:
    """Settings, and a run's values of what others were given otherwise, from its config."""
    unsaid = [name for name in names if name not in settings]
    config = read_config(run) if unsaid else {}
    found = {}
    for name in unsaid:
        value: Any = config
        for part in name.split("."):
            value = value.get(part, config) if isinstance(value, dict) else config
        if value is not config and not isinstance(value, dict):
            found[name] = "none" if value is None else str(value)
    return {**settings, **found}


def _sizes(runs: Sequence[dict[str, Any]], part: str) -> str:
    sizes = sorted({run[part]["n"] for run in runs})
    return " or ".join(f"{size:,}" for size in sizes)


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
