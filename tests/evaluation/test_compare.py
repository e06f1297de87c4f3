"""The comparison on made-up runs whose wrong answers are known."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from fake_runs import SHAPES, write_failed_run, write_fake_run
from rich.console import Console

from leanvit.errors import LeanvitError
from leanvit.evaluation.compare import compare
from leanvit.evaluation.intervals import T_QUANTILES, paired_difference, t_interval
from leanvit.evaluation.runs import find_failed, find_runs, read_history, read_run
from leanvit.evaluation.table import print_table, to_csv, to_markdown, write_comparison


def markdown_rows(text: str) -> list[dict[str, str]]:
    """The rows of all Markdown tables in ``text``, by heading."""
    rows: list[dict[str, str]] = []
    heading: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            heading = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not heading:
            heading = cells
        elif set(cells) != {"---"}:
            rows.append(dict(zip(heading, cells, strict=True)))
    return rows


def shown(tables, width: int, failed=()) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(tables, failed, console)
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


def test_paired_difference_of_the_same_answers_is_zero():
    correct = np.array([0.0, 1.0, 1.0, 0.5])
    result = paired_difference(correct, correct)
    assert (result.value, result.low, result.high) == (0, 0, 0)
    assert not result.is_shown


def test_pairing_shows_what_two_intervals_cannot():
    """20 of 1000 images gained and none lost: the two accuracies' own intervals overlap widely."""
    reference = (np.arange(1000) < 700).astype(np.float64)
    correct = (np.arange(1000) < 720).astype(np.float64)
    result = paired_difference(correct, reference)
    assert result.is_shown
    # The count of gained images in a resample is Binomial(1000, 0.02), standard deviation 4.43.
    assert (result.low, result.high) == pytest.approx((0.012, 0.029), abs=0.0011)


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
    assert find_failed(tmp_path) == [failed]
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
    run = write_fake_run(tmp_path / "a")
    (run / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(LeanvitError, match="cannot be read"):
        compare([run])


# --- rows


def test_sorted_by_validation_not_by_test(tmp_path):
    good_val = write_fake_run(tmp_path / "a", model="vit", val_wrong=[0], test_wrong=range(30))
    good_test = write_fake_run(tmp_path / "b", model="mlp", val_wrong=[0, 1, 2], test_wrong=[])
    (table,) = compare([good_test, good_val])
    assert [row.settings["model"] for row in table.rows] == ["vit", "mlp"]
    assert [row.accuracy for row in table.rows] == pytest.approx([60 / 90, 1.0])
    assert table.monitor == "balanced_accuracy"
    assert table.rows[0].difference is None
    assert table.rows[1].difference.value == pytest.approx(30 / 90)
    assert table.rows[1].difference.is_shown


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


def test_worst_class_is_that_of_the_mean_over_seeds(tmp_path):
    # Of 30 images a class: disc loses 4 and 0, cross 0 and 6, star 3 and 4: star is the worst.
    runs = [
        write_fake_run(tmp_path / "a", seed=0, test_wrong=[0, 3, 6, 9, 2, 5, 8]),
        write_fake_run(tmp_path / "b", seed=1, test_wrong=[1, 4, 7, 10, 13, 16, 2, 5, 8, 11]),
    ]
    (table,) = compare(runs)
    assert table.rows[0].worst_class == "star"
    assert table.rows[0].worst_recall == pytest.approx(1 - 3.5 / 30)


def test_the_newer_of_two_runs_with_one_seed_counts(tmp_path):
    old = write_fake_run(tmp_path / "z", test_wrong=range(9))
    new = write_fake_run(tmp_path / "a")
    os.utime(old / "metrics.json", (1, 1))
    (table,) = compare([new, old])
    assert table.rows[0].runs == [new]
    assert table.num_repeats == 1
    assert "1 older run" in to_markdown([table])


def test_identical_runs_show_no_difference(tmp_path):
    runs = [write_fake_run(tmp_path / loss, loss=loss, test_wrong=range(9)) for loss in ("a", "b")]
    text = to_markdown(compare(runs))
    first, second = markdown_rows(text)
    assert first["difference"] == "–"
    assert second["difference"] == "+0.00 [+0.00, +0.00]; no difference shown"


def test_only_differing_settings_are_columns(tmp_path):
    runs = [
        write_fake_run(tmp_path / "a", overrides={"model.dim": 64, "epochs": 3}),
        write_fake_run(tmp_path / "b", overrides={"model.dim": 96, "epochs": 3}),
        write_fake_run(tmp_path / "c", overrides={"epochs": 3}),
    ]
    (table,) = compare(runs)
    assert table.settings == ["model", "loss", "sampler", "model.dim"]
    assert [row["model.dim"] for row in markdown_rows(to_markdown([table]))] == ["64", "96", ""]
    assert [table.label(row) for row in table.rows] == [
        "vit, cross_entropy, shuffle, model.dim=64",
        "vit, cross_entropy, shuffle, model.dim=96",
        "vit, cross_entropy, shuffle",
    ]


def test_data_sets_are_not_mixed(tmp_path):
    folder = "folder /data/birds, 90 images"
    runs = [
        write_fake_run(tmp_path / "a", loss="a"),
        write_fake_run(tmp_path / "b", loss="b", data="folder", source=folder),
        write_fake_run(tmp_path / "c", loss="c"),
        write_fake_run(tmp_path / "d", loss="d", data="folder", source="folder /data/other"),
    ]
    tables = compare(runs)
    assert [(table.source, len(table.rows)) for table in tables] == [
        (folder, 1), ("folder /data/other", 1), (SHAPES, 2),
    ]  # fmt: skip
    text = to_markdown(tables)
    assert text.count("\n| name |") == 3
    assert f"{SHAPES}. n = 90 test images" in text
    assert "validation balanced accuracy" in text


def test_no_difference_where_test_images_differ(tmp_path):
    runs = [
        write_fake_run(tmp_path / "a", loss="a", num_test=90),
        write_fake_run(tmp_path / "b", loss="b", num_test=60),
    ]
    (table,) = compare(runs)
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
    tables = write_comparison(runs, failed, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.csv", "comparison.md",
    ]  # fmt: skip
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["model"] for line in lines] == ["vit", "a|b", ""]
    for line, row in zip(lines, tables[0].rows, strict=False):
        assert float(line["test_accuracy"]) == row.accuracy
        assert float(line["interval_high"]) == row.interval[1]
        assert [Path(path) for path in line["runs"].split(" ")] == row.runs
    assert float(lines[1]["difference_low"]) == tables[0].rows[1].difference.low
    assert lines[1]["verdict"] in ("better", "no difference shown")
    assert lines[2]["error"] == "data folder x does not exist, say data="
    text = (tmp_path / "out" / "comparison.md").read_text()
    rows = markdown_rows(text)
    assert [row["model"] for row in rows] == ["vit", "a\\|b"]
    assert rows[0]["test accuracy %"].startswith("92.2 [")
    assert rows[0]["params M"] == "4" and rows[0]["MACs G"] == "0.25"
    assert text.rstrip().splitlines()[-1].endswith("c`: data folder x does not exist, say data=")


def test_the_verdict_is_in_words(tmp_path):
    runs = [
        write_fake_run(tmp_path / "a", model="a", test_wrong=range(20)),
        write_fake_run(tmp_path / "b", model="b", val_wrong=[0], test_wrong=()),
        write_fake_run(tmp_path / "c", model="c", val_wrong=[0, 1], test_wrong=range(60)),
        write_fake_run(tmp_path / "d", model="d", val_wrong=[0, 1, 2], test_wrong=range(1, 21)),
    ]
    lines = list(csv.DictReader(io.StringIO(to_csv(compare(runs)))))
    assert [line["verdict"] for line in lines] == ["", "better", "worse", "no difference shown"]


@pytest.mark.parametrize("width", [100, 120])
def test_the_terminal_table_fits_and_keeps_names_whole(tmp_path, width):
    choices = {"sampler": "effective_number", "overrides": {"model.dim": 64}}
    runs = [
        write_fake_run(tmp_path / "a", model="coatnet", loss="balanced_softmax"),
        write_fake_run(tmp_path / "b", model="dynamic_vit", val_wrong=[0], **choices),
    ]
    text = shown(compare(runs), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for word in ("coatnet", "dynamic_vit", "balanced_softmax", "cross_entropy", "effective_number"):
        assert word in text
    assert "no difference" in text
    assert "[+0.00, +0.00]" in text
    assert "not photographs" in text
    assert "Not shown, for width: ECE %" in text


def test_the_terminal_table_has_every_column_where_there_is_room(tmp_path):
    runs = [write_fake_run(tmp_path / loss, loss=loss, model="[64, 64]") for loss in ("a", "b")]
    text = shown(compare(runs), 220)
    assert "coatnet" not in text
    assert text.count("[64, 64]") >= 2  # not taken for markup
    assert "2.0 min" in text


def test_nothing_finished(tmp_path):
    failed = [write_failed_run(tmp_path / "c", "no space left")]
    assert compare([]) == []
    assert "No finished run." in to_markdown([], failed)
    assert "no space left" in to_markdown([], failed)
    (line,) = csv.DictReader(io.StringIO(to_csv([], failed)))
    assert line["error"] == "no space left"
    assert "no space left" in shown([], 100, failed)
