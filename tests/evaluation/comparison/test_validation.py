"""What validation can tell, on made-up runs of 30 validation images, 10 a class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import write_fake_run

from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.intervals import t_interval
from leanvit.evaluation.comparison.legend import ties
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.table import to_csv, to_markdown
from leanvit.evaluation.comparison.validation import Seen, _interval, _is_tied


def table_of(folder: Path, *wrong: Any, **given: Any) -> Table:
    """A row for each list of validation images that are wrong."""
    runs = [write_fake_run(folder / str(number), loss=f"loss{number}", val_wrong=each, **given)
            for number, each in enumerate(wrong)]  # fmt: skip
    (table,) = compare(runs)
    return table


def test_rows_that_validation_cannot_tell_from_the_best_are_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, [0], [1, 2], range(4, 20), range(1, 6))
    assert [row.is_tied for row in table.rows] == [True, True, True, False]
    told = "Row 1 is tied with rows 2, 3 on validation (30 images, 95 % interval ["
    assert ties(table).startswith(told) and ties(table) in to_markdown([table])
    assert "validation_tied" in to_csv([table])
    apart = table_of(tmp_path / "apart", [], range(20))
    assert ties(apart).startswith("Row 1 is tied with no other row on validation (30 images")
    assert ties(table_of(tmp_path / "alone", [0])) == ""
    assert ", 12, 13 and 2 more on validation" in ties(table_of(tmp_path / "many", *[[]] * 15))


def test_of_few_images_some_must_be_gained_before_a_row_is_told_apart(tmp_path: Path) -> None:
    """Four of thirty and none lost would be shown by the bootstrap alone."""
    table = table_of(tmp_path, [], range(4), range(8))
    assert [row.is_tied for row in table.rows] == [True, True, False]


def test_more_seeds_of_the_same_images_are_no_more_images(tmp_path: Path) -> None:
    """Of a ``val/`` folder: four of thirty that all three seeds lose are not twelve of ninety."""
    runs = [write_fake_run(tmp_path / f"{loss}{seed}", loss=loss, seed=seed, val_wrong=wrong)
            for loss, wrong in (("ce", ()), ("focal", range(4))) for seed in range(3)]  # fmt: skip
    (table,) = compare(runs)
    assert [row.is_tied for row in table.rows] == [True, True]


def test_seeds_of_other_images_count_together() -> None:
    """Four of each split that no other labels have in their order."""
    labels, correct = np.arange(30) % 3, np.ones(30, bool)
    lost = ~np.isin(np.arange(30), range(4))
    sides = [{seed: Seen(each.mean(), each, np.roll(labels, seed)) for seed in range(3)}
             for each in (lost, correct)]  # fmt: skip
    assert not _is_tied(*sides, "accuracy")
    assert _is_tied(*({0: side[0]} for side in sides), "accuracy")


def test_the_interval_is_that_of_drawing_images(tmp_path: Path) -> None:
    """The literal twin, for recalls of classes that differ."""
    wrong = [0, 3, 6, 9, 12, 15, 18, 1]
    (row,) = table_of(tmp_path, wrong).rows
    rng, labels = np.random.default_rng(1), np.arange(30) % 3
    correct = ~np.isin(np.arange(30), wrong)
    draws = []
    for _ in range(4000):
        index = rng.integers(0, 30, 30)
        draws.append(np.mean([correct[index][labels[index] == each].mean() for each in range(3)
                              if (labels[index] == each).any()]))  # fmt: skip
    assert row.validation == pytest.approx((0.3 + 0.9 + 1) / 3)
    assert row.validation_interval == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.03)


def test_over_seeds_it_holds_the_luck_of_training(tmp_path: Path) -> None:
    lists = {"ce": ([0], [0, 1], [2]), "focal": (range(9), range(19), range(14)),
             "poly": ((), range(20), range(10))}  # fmt: skip
    runs = [write_fake_run(tmp_path / f"{loss}{seed}", loss=loss, seed=seed, val_wrong=each)
            for loss, wrong in lists.items() for seed, each in enumerate(wrong)]  # fmt: skip
    (table,) = compare(runs)
    first = table.rows[0]
    assert first.validation_interval == pytest.approx(t_interval([29 / 30, 28 / 30, 29 / 30]))
    tied = {row.settings["loss"]: row.is_tied for row in table.rows}
    assert tied == {"ce": True, "focal": False, "poly": True}


def test_runs_of_other_splits_are_held_side_by_side(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / str(num), loss=str(num), seed=num, val_wrong=range(num))
            for num in (1, 4, 28)]  # fmt: skip
    (table,) = compare(runs)
    assert [row.is_tied for row in table.rows] == [True, True, False]


def test_accuracy_counts_images_and_recall_classes() -> None:
    """Eight images of a rare class against seven of a frequent one."""
    labels = np.repeat([0, 1], [100, 8])
    rare, frequent = np.ones((2, 108), bool)
    rare[:7], frequent[100:] = False, False
    sides = [{0: Seen(0.0, correct, labels)} for correct in (rare, frequent)]
    assert _is_tied(*sides, "accuracy") and not _is_tied(*sides, "balanced_accuracy")
    low, high = _interval(sides[1], "balanced_accuracy")
    assert low == high == 0.5 and _interval(sides[1], "accuracy")[0] > 0.8
    one = {0: Seen(1.0, np.ones(10, bool), np.repeat([0, 1], [9, 1]))}  # not in every resample
    assert _interval(one, "balanced_accuracy") == (1, 1)
