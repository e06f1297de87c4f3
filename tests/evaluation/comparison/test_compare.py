"""The comparison on made-up runs whose wrong answers are known."""

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import SHAPES, write_failed_run, write_fake_run
from rich.console import Console

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.intervals import (
    T_QUANTILES,
    paired_class_difference,
    paired_difference,
    t_interval,
)
from leanvit.evaluation.comparison.narrow_table import print_table
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.runs import find_all, find_runs, read_history, read_run
from leanvit.evaluation.comparison.table import to_csv, to_markdown, write_tables


def table_of(folder: Path, *runs: dict[str, Any]) -> Table:
    """Of made-up runs, ``folder / "0"`` and so on."""
    (table,) = compare([write_fake_run(folder / str(i), **each) for i, each in enumerate(runs)])
    return table


def markdown_rows(text: str) -> list[dict[str, str]]:
    """The rows of the Markdown table in ``text``, by heading."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    heading, rule, *rows = [[cell.strip() for cell in line] for line in lines]
    assert set(rule) == {"---"}
    return [dict(zip(heading, row, strict=True)) for row in rows]


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def shown(tables, width: int, failed=()) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(tables, failed, console=console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- statistics


def test_paired_difference_against_drawing_images():
    """The literal twin: the same indices drawn for both rows, one resample after the other."""
    rng = np.random.default_rng(0)
    reference = (rng.random(400) < 0.8).astype(np.float64)
    correct = np.where(rng.random(400) < 0.1, 1 - reference, reference)
    draws = []
    for _ in range(4000):
        index = rng.integers(0, 400, 400)
        draws.append(correct[index].mean() - reference[index].mean())
    result = paired_difference(correct, reference)
    assert result.value == pytest.approx(correct.mean() - reference.mean())
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (result.low, result.high) == pytest.approx((low, high), abs=2.1 / 400)


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's test: each differing image is gained or lost by a fair coin."""
    n, fewer = gained + lost, min(gained, lost)
    share = [math.comb(n, k) / 2**n for k in range(n + 1)]
    return min(2 * (sum(share[:fewer]) + share[fewer] / 2), 1.0)


@pytest.mark.parametrize(("gained", "lost"), [(60, 40), (55, 50), (30, 12), (70, 40), (25, 25)])
def test_p_is_close_to_mcnemars(gained, lost):
    reference = (np.arange(1000) < 700).astype(np.float64)
    correct = reference.copy()
    correct[700 : 700 + gained], correct[:lost] = 1, 0
    result = paired_difference(correct, reference, num_resamples=100_000)
    other_way = paired_difference(reference, correct, num_resamples=100_000)
    assert result.p == pytest.approx(exact_mcnemar(gained, lost), rel=0.1, abs=0.002)
    assert other_way.p == pytest.approx(result.p, rel=0.05, abs=0.001)
    assert result.is_shown == (result.p < 0.05)
    never_zero = paired_difference(np.ones(500), np.zeros(500), num_resamples=999)
    assert never_zero.p == 2 / 1000


def test_without_a_difference_one_in_twenty_is_shown():
    """Correctness of two nets that are equally good: p < 0.05 in about 5 % of the comparisons."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(600):
        hard = rng.random(300)
        correct, reference = (rng.random((2, 3, 300)) < hard).mean(axis=1)  # three seeds each
        found.append(paired_difference(correct, reference, 400, seed=len(found)))
    shown = np.mean([each.p < 0.05 for each in found])
    assert 0.025 < shown < 0.08
    assert np.mean([each.is_shown == (each.p < 0.05) for each in found]) > 0.99
    assert np.mean([each.p for each in found]) == pytest.approx(0.5, abs=0.05)


def test_class_difference_against_drawing_images_of_each_class():
    """The literal twin: images drawn with replacement within each class, recalls averaged."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    correct, reference = (rng.random((2, 4, 300)) < 0.3 + 0.2 * labels).mean(axis=1)
    draws = []
    for _ in range(4000):
        recalls = []
        for label in (0, 2):
            index = rng.choice(np.flatnonzero(labels == label), (labels == label).sum())
            recalls.append(correct[index].mean() - reference[index].mean())
        draws.append(np.mean(recalls))
    result = paired_class_difference(correct, reference, labels, [0, 2])
    expected = np.mean([(correct - reference)[labels == label].mean() for label in (0, 2)])
    assert result.value == pytest.approx(expected)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.006)
    assert result.p == pytest.approx(2 * min(np.mean(np.array(draws) <= 0),
                                             np.mean(np.array(draws) >= 0)), abs=0.03)  # fmt: skip


def test_classes_of_few_images_are_not_taken_for_sure():
    """Two images a class lose half of their variance when they are resampled."""
    rng, shown = np.random.default_rng(0), []
    labels = np.arange(20).repeat(2)
    for seed in range(300):
        correct, reference = (rng.random((2, 40)) < 0.6).astype(float)
        found = paired_class_difference(correct, reference, labels, range(20), 500, seed)
        shown.append(found.is_shown)
    assert np.mean(shown) < 0.1  # 0.185 without a correction


def test_the_same_answers_are_no_difference_and_neither_are_thirds_that_cancel():
    """0 on paper, and so in every digit."""
    correct = np.array([1 / 3, 2 / 3, 1.0, 1 / 3, 0, 2 / 3, 1 / 3] * 2)
    result = paired_difference(correct, np.roll(correct, 7))
    assert (result.value, result.low, result.high, result.p) == (0, 0, 0, 1)
    assert not result.is_shown
    result = paired_difference(np.array([2 / 3, 1 / 3]), np.array([1 / 3, 2 / 3]))
    assert result.value == 0 and result.p == 1


def test_t_interval_by_hand():
    # mean 0.7, standard deviation 0.1, error 0.1 / sqrt(3), t(2) = 4.303
    assert t_interval([0.6, 0.7, 0.8]) == pytest.approx((0.7 - 0.24844, 0.7 + 0.24844), abs=1e-4)
    assert t_interval([0.9, 1.0]) == pytest.approx((0.95 - 0.6353, 1.0), abs=1e-4)


@pytest.mark.parametrize("degrees", [1, 2, 5, 30])
def test_t_quantiles_against_the_density(degrees):
    """Integrate Student's density (tan substitution: finite range) up to the tabulated quantile."""
    angle = np.linspace(0, np.arctan(T_QUANTILES[degrees - 1] / np.sqrt(degrees)), 20_001)
    whole = np.linspace(0, np.pi / 2, 20_001)
    share = np.trapezoid(np.cos(angle) ** (degrees - 1), angle)
    total = np.trapezoid(np.cos(whole) ** (degrees - 1), whole)
    assert share / total == pytest.approx(0.95, abs=2e-4)
    assert len(T_QUANTILES) == 30


# --- reading


def test_find_and_read(tmp_path):
    done = write_fake_run(tmp_path / "grid" / "a")
    failed = write_failed_run(tmp_path / "grid" / "b")
    write_fake_run(tmp_path / "c")
    (tmp_path / "c" / "error.txt").write_text("an earlier try\n")  # finished later
    (tmp_path / "unfinished").mkdir()
    assert find_runs(tmp_path) == [tmp_path / "c", done]
    assert find_runs(done) == [done]
    assert find_all(tmp_path).failed == [failed]
    assert read_run(done)["name"].startswith("vit-cross_entropy-shuffle-")


def test_unfinished_runs_say_what_is_missing(tmp_path):
    with pytest.raises(LeanvitError, match=r"metrics\.json is missing"):
        read_run(tmp_path)
    with pytest.raises(LeanvitError, match="not a finished run"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(LeanvitError, match="no folder"):
        find_runs(tmp_path / "nowhere")
    run = write_fake_run(tmp_path / "a")
    (run / "metrics.json").write_text('{"name": "a"')
    with pytest.raises(LeanvitError, match="damaged"):
        read_run(run)
    (run / "metrics.json").write_text('{"name": "a"}')
    with pytest.raises(LeanvitError, match="lacks choices"):
        read_run(run)
    (run / "predictions.npz").unlink()
    with pytest.raises(LeanvitError, match=r"predictions\.npz is missing"):
        read_run(run)


def test_history_is_text_by_epoch(tmp_path):
    rows = read_history(write_fake_run(tmp_path / "a", num_epochs=3))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[1]["train_loss"]) == 1.0
    with pytest.raises(LeanvitError, match=r"no history\.csv"):
        read_history(tmp_path)


def test_damaged_predictions(tmp_path):
    run, other = (write_fake_run(tmp_path / name, loss=name) for name in "ab")
    (run / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(LeanvitError, match="cannot be read"):
        compare([run, other])


# --- rows


def test_sorted_by_validation_not_by_test(tmp_path):
    good_test = {"model": "mlp", "val_wrong": [0, 1, 2]}
    good_val = {"model": "vit", "val_wrong": [0], "test_wrong": range(30)}
    table = table_of(tmp_path, good_test, good_val)
    assert [row.settings["model"] for row in table.rows] == ["vit", "mlp"]
    assert [row.accuracy for row in table.rows] == pytest.approx([60 / 90, 1.0])
    assert table.monitor == "balanced_accuracy"
    assert table.rows[0].difference is None
    assert table.rows[1].difference.value == pytest.approx(30 / 90)
    assert table.rows[1].difference.is_shown


def test_sorted_by_cost_where_that_is_asked(tmp_path):
    costs = {"a": (0.3, 0.0), "b": (0.1, 0.1), "c": None, "d": (0.1, 0.05)}
    for name, cost in costs.items():
        run = write_fake_run(tmp_path / name, model=name, val_wrong=range(ord(name) - 96))
        told = json.loads((run / "metrics.json").read_text())
        told["training"]["seconds"] = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}[name]
        if cost:
            told["training"] |= dict(zip(("pflop", "pflop_before"), cost, strict=True))
        (run / "metrics.json").write_text(json.dumps(told))
    orders = {"validation": "abcd", "pflop": "dbac", "time": "dcba"}
    for sort, order in orders.items():
        (table,) = compare(find_runs(tmp_path), sort=sort)
        assert "".join(row.settings["model"] for row in table.rows) == order
        assert table.rows[0].difference is None and table.rows[1].difference is not None
    rows = markdown_rows(to_markdown([table]))
    assert [row["PFLOP"] for row in rows] == ["0.15", "", "0.2", "0.3"]
    assert "In order of training time (the" in to_markdown([table])


def test_what_one_row_was_given_the_others_show_from_their_configs(tmp_path):
    plain = write_fake_run(tmp_path / "plain")
    (plain / "config.yaml").write_text("model: {dim: 64, after: [2, 4], gate: null}\nepochs: 9\n")
    given = {"model.dim": 32, "model.after": "[3]", "model.gate": "soft", "epochs": 5, "old.key": 1}
    write_fake_run(tmp_path / "given", overrides=given, val_wrong=[1])
    (table,) = compare(find_runs(tmp_path))
    first, second = (row.settings for row in table.rows)
    shown = {name: first.get(name) for name in given}
    assert shown == {"model.dim": "64", "model.after": "[2, 4]", "model.gate": "none",
                     "epochs": "9", "old.key": None}  # fmt: skip
    assert {name: second[name] for name in given} == {k: str(v) for k, v in given.items()}


def test_seeds_make_one_row(tmp_path):
    wrong = {0: range(9), 1: range(18), 2: range(27)}
    seeds = [write_fake_run(tmp_path / f"s{seed}", seed=seed, test_wrong=wrong[seed], val_wrong=[0])
             for seed in wrong]  # fmt: skip
    other = write_fake_run(tmp_path / "one", loss="focal", test_wrong=range(18), val_wrong=[0, 1])
    (table,) = compare([other, *reversed(seeds)])
    first, second = table.rows
    assert first.runs == seeds
    assert first.name == "vit-cross_entropy-shuffle"  # what the names of all seeds share
    assert first.accuracy == pytest.approx(0.8)
    assert first.interval == pytest.approx(t_interval([0.9, 0.8, 0.7]))
    assert first.interval_over == "3 seeds"
    assert first.seconds == pytest.approx(121)
    assert second.interval_over == "images"
    assert list(second.interval) == read_run(other)["test"]["accuracy_interval"]
    # Averaged over seeds the first row is right in 72 of 90 images, and so is the second.
    assert second.difference.value == pytest.approx(0, abs=1e-9)
    assert not second.difference.is_shown


def write_of_split(
    path: Path, seed: int, split_seed: int | None = None, pretrained: tuple[str, int] | None = None
) -> Path:
    """A run, hashed as one is: a split that follows the seed is in no hash, nor is that of a second
    stage, whose first stage's seed is, if it is another one's."""
    words = {} if split_seed is None else {"split_seed": split_seed}
    choices = {"pretrained": pretrained[0]} if pretrained else {}
    path = write_fake_run(path, seed=seed, overrides=words, choices=choices)
    told = json.loads((path / "metrics.json").read_text())
    follows = split_seed in (None, seed)
    told["choices_hash"] = "follows" if follows else f"split {split_seed}"
    if pretrained:
        told["choices_hash"] = f"first {'same' if pretrained[1] == seed else pretrained[1]}"
    (path / "metrics.json").write_text(json.dumps(told))
    return path


def rows_of(runs: list[Path]) -> list[list[Path]]:
    return sorted(row.runs for table in compare(runs) for row in table.rows)


def test_seeds_of_one_split_make_one_row(tmp_path):
    """Seed 0 of split 0 is hashed as a run whose split follows its seed."""
    of_split_0 = [write_of_split(tmp_path / f"0-{seed}", seed, 0) for seed in (0, 1, 2)]
    of_split_1 = [write_of_split(tmp_path / f"1-{seed}", seed, 1) for seed in (0, 1)]
    own = write_of_split(tmp_path / "own", 3)
    assert rows_of(of_split_0) == [of_split_0]
    assert rows_of([*of_split_0, *of_split_1]) == [of_split_0, of_split_1]
    # seeds that their splits follow have this one, too
    assert rows_of([*of_split_0, own]) == [of_split_0[1:], [of_split_0[0], own]][::-1]
    assert rows_of(of_split_0[:1]) == [of_split_0[:1]]


def test_no_run_of_two_first_stages_is_lost(tmp_path):
    own = write_of_split(tmp_path / "own", 0, 0, ("vit", 0))
    others = [write_of_split(tmp_path / f"{seed}", seed, 0, ("vit", 1)) for seed in (0, 2)]
    assert rows_of([own, *others]) == sorted([[own], others])


def test_worst_class_is_that_of_the_mean_over_seeds(tmp_path):
    # Of 30 images a class: disc loses 4 and 0, cross 0 and 6, star 3 and 4: star is the worst.
    wrong = [0, 3, 6, 9, 2, 5, 8], [1, 4, 7, 10, 13, 16, 2, 5, 8, 11]
    (row,) = table_of(tmp_path, *({"seed": i, "test_wrong": wrong[i]} for i in range(2))).rows
    assert row.worst_class == "star" and row.worst_recall == pytest.approx(1 - 3.5 / 30)


def test_the_newer_of_two_runs_with_one_seed_counts(tmp_path):
    old = write_fake_run(tmp_path / "z", test_wrong=range(9))
    new = write_fake_run(tmp_path / "a")
    os.utime(old / "metrics.json", (1, 1))
    (table,) = compare([new, old])
    assert table.rows[0].runs == [new]
    assert table.num_repeats == 1
    assert "1 older run" in to_markdown([table])


def test_identical_runs_show_no_difference(tmp_path):
    table = table_of(tmp_path, *({"loss": loss, "test_wrong": range(9)} for loss in "ab"))
    first, second = markdown_rows(to_markdown([table]))
    assert first["difference"] == "–"
    assert second["difference"] == "+0.00 [+0.00, +0.00]; no difference shown"


def test_only_differing_settings_are_columns(tmp_path):
    options = {"model.dim": 64, "epochs": 3}, {"model.dim": 96, "epochs": 3}, {"epochs": 3}
    table = table_of(tmp_path, *({"overrides": each} for each in options))
    assert table.settings == ["model", "loss", "sampler", "model.dim"]
    assert [row["model.dim"] for row in markdown_rows(to_markdown([table]))] == ["64", "96", ""]
    assert [table.label(row) for row in table.rows] == [
        "vit, cross_entropy, shuffle, model.dim=64",
        "vit, cross_entropy, shuffle, model.dim=96",
        "vit, cross_entropy, shuffle",
    ]


def test_late_choices_are_columns_and_sweeps_are_not(tmp_path):
    late = {"loss@late.loss": "ldam", "sampler@late.sampler": None, "sweep": "imbalance"}
    plain = {"loss@late.loss": None, "sampler@late.sampler": None, "sweep": None}
    older = {"loss": "older", "val_wrong": [0, 1]}  # knows no late choices
    table = table_of(tmp_path, {"choices": late}, {"choices": plain, "val_wrong": [0]}, older)
    assert table.settings == ["model", "loss", "sampler", "loss@late.loss"]
    assert table.label(table.rows[0]) == "vit, cross_entropy, shuffle, loss@late.loss=ldam"
    assert table.label(table.rows[1]) == "vit, cross_entropy, shuffle"
    cells = [row["loss@late.loss"] for row in markdown_rows(to_markdown([table]))]
    assert cells == ["ldam", "", ""]
    assert "loss@late.loss" in shown([table], 120)


def test_recall_by_shots_where_two_groups_exist(tmp_path):
    wrong = [0, 3, 6, 1, 4, 2]  # of 30 images a class: disc loses 3, cross 2, star 1
    counts = [(400, 300, 50), (400, 50, 5)]
    table = table_of(tmp_path, *(
        {"loss": str(i), "seed": seed, "train_counts": counts[i], "val_wrong": range(i),
         "test_wrong": wrong if seed else []} for i in range(2) for seed in range(2)
    ))  # fmt: skip
    assert table.rows[0].shots == pytest.approx(
        {"many": 1 - 5 / 120, "medium": 1 - 1 / 60, "few": None}
    )
    cells = [row["many/medium/few %"] for row in markdown_rows(to_markdown([table]))]
    assert cells == ["95.8/98.3/–", "95.0/96.7/98.3"]
    cells = [line["few_shot_recall"] for line in csv_rows(to_csv([table]))]
    assert cells == ["", str(table.rows[1].shots["few"])]
    assert "fewer than 20 training images" in to_markdown([table])
    only_many = table_of(tmp_path / "many", {})
    assert only_many.rows[0].shots["many"] == pytest.approx(1)
    assert "many" not in to_markdown([only_many])


def test_calibration_after_scaling_stands_beside_that_before(tmp_path):
    table = table_of(tmp_path, {"val_wrong": range(12), "test_wrong": range(36)})
    # 60 % are right at a confidence of 80 %, in validation and test alike
    assert table.rows[0].calibration_error == pytest.approx(0.2, abs=1e-6)
    assert table.rows[0].calibration_error_scaled == pytest.approx(0, abs=1e-6)
    assert markdown_rows(to_markdown([table]))[0]["ECE %"] == "20.0 → 0.0"
    assert "after temperature scaling" in to_markdown([table])


def test_what_older_runs_did_not_report_is_unknown(tmp_path):
    new = write_fake_run(tmp_path / "a", val_wrong=[0], train_counts=(400, 50, 5))
    old = write_fake_run(tmp_path / "b", seed=1, val_wrong=[0], train_counts=(400, 50, 5))
    metrics = json.loads((old / "metrics.json").read_text())
    for block in (metrics["val"], metrics["test"]):
        for key in ("shots", "per_class_precision", "temperature", "calibration_error_scaled",
                    "nll", "nll_scaled"):  # fmt: skip
            del block[key]
    (old / "metrics.json").write_text(json.dumps(metrics))
    (table,) = compare([new, old])
    (row,) = table.rows
    assert row.interval_over == "2 seeds"
    assert set(row.shots.values()) == {None} and row.calibration_error_scaled is None
    (cells,) = markdown_rows(to_markdown([table]))
    assert "many/medium/few %" not in cells and "→" not in cells["ECE %"]


def test_data_sets_are_not_mixed(tmp_path):
    sources = {"a": SHAPES, "b": "folder birds", "c": SHAPES, "d": "folder other"}
    tables = compare([
        write_fake_run(tmp_path / name, loss=name, data=source.split()[0], source=source)
        for name, source in sources.items()
    ])  # fmt: skip
    found = {table.source: len(table.rows) for table in tables}
    assert list(found.items()) == [(SHAPES, 2), ("folder birds", 1), ("folder other", 1)]
    text = to_markdown(tables)
    assert text.count("\n| row | name |") == 3
    assert f"{SHAPES}. n = 90 test images" in text
    assert "validation balanced accuracy" in text


def test_no_difference_where_test_images_differ(tmp_path):
    table = table_of(tmp_path, {"loss": "a", "num_test": 90}, {"loss": "b", "num_test": 60})
    assert table.rows[1].difference is None
    assert table.num_test_images == "60 or 90"
    assert markdown_rows(to_markdown([table]))[1]["difference"] == ""


# --- text


def test_files_round_trip(tmp_path):
    runs = [
        write_fake_run(tmp_path / "runs" / "a", model="vit", test_wrong=range(7)),
        write_fake_run(tmp_path / "runs" / "b", model="a|b", val_wrong=[3], test_wrong=range(5)),
    ]
    failed = [write_failed_run(tmp_path / "runs" / "c", "data folder x does not exist, say data=")]
    tables = compare(runs)
    write_tables(tables, failed, tmp_path / "out" / "comparison")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.csv", "comparison.md", "comparison.tex", "progress-shapes.png",
    ]  # fmt: skip
    lines = csv_rows((tmp_path / "out" / "comparison.csv").read_text())
    assert [line["model"] for line in lines] == ["vit", "a|b", ""]
    for line, row in zip(lines, tables[0].rows, strict=False):
        assert float(line["test_accuracy"]) == row.accuracy
        assert float(line["interval_high"]) == row.interval[1]
        assert [Path(path) for path in line["runs"].split(" ")] == row.runs
    assert float(lines[1]["difference_low"]) == tables[0].rows[1].difference.low
    assert float(lines[1]["difference_p"]) == tables[0].rows[1].difference.p
    assert lines[0]["difference_p"] == ""
    assert lines[1]["verdict"] in ("better", "no difference shown")
    assert lines[2]["error"] == "data folder x does not exist, say data="
    text = (tmp_path / "out" / "comparison.md").read_text()
    rows = markdown_rows(text)
    assert [row["model"] for row in rows] == ["vit", "a\\|b"]
    assert rows[0]["test accuracy %"].startswith("92.2 [")
    assert rows[0]["params M"] == "4" and rows[0]["MACs G"] == "0.25"
    assert text.rstrip().splitlines()[-3].endswith("c: data folder x does not exist, say data=")


def test_the_verdict_is_in_words(tmp_path):
    wrong = range(20), (), range(60), range(1, 21)
    table = table_of(tmp_path, *(
        {"model": str(i), "val_wrong": range(i), "test_wrong": wrong[i]} for i in range(4)
    ))  # fmt: skip
    said = [line["verdict"] for line in csv_rows(to_csv([table]))]
    assert said == ["", "better", "worse", "no difference shown"]


def test_what_lightens_a_single_run_is_a_column(tmp_path):
    table = table_of(tmp_path, {"choices": {"lightweight": "tome", "mix": "none"}})
    assert table.settings == ["model", "loss", "sampler", "lightweight"]


def test_nothing_finished(tmp_path):
    failed = [write_failed_run(tmp_path / "c", "no space left")]
    assert compare([]) == []
    assert "No finished run." in to_markdown([], failed)
    assert "no space left" in to_markdown([], failed)
    (line,) = csv_rows(to_csv([], failed))
    assert line["error"] == "no space left"
    assert "no space left" in shown([], 100, failed)
