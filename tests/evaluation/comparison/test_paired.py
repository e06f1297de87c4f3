"""Two choices over seeds, on made-up runs whose wrong answers are known."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from fake_runs import SHAPES, write_failed_run, write_fake_run
from rich.console import Console

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.intervals import paired_difference, t_limits
from leanvit.evaluation.comparison.paired import Measure, compare_paired
from leanvit.evaluation.comparison.paired_rows import compare_rows
from leanvit.evaluation.comparison.paired_table import print_paired, statement, write_paired


def side(folder: Path, wrong: Mapping[int, Iterable[int]], **options) -> list[Path]:
    """Runs of one choice, the wrong test images (of 90) by seed."""
    return [write_fake_run(folder / f"{folder.name}{seed}", seed=seed, test_wrong=list(images),
                           **options) for seed, images in wrong.items()]  # fmt: skip


def both(tmp_path: Path, wrong, against, **options) -> tuple[list[Path], list[Path]]:
    return (
        side(tmp_path / "a", wrong, loss="focal", **options),
        side(tmp_path / "b", against, loss="ce", **options),
    )


def accuracy(tmp_path: Path, wrong, against) -> Measure:
    return compare_paired(*both(tmp_path, wrong, against)).measures[0]


def test_t_limits_of_differences_by_hand():
    # mean 0.01, standard deviation 0.01, error 0.01 / sqrt(3), t(2) = 4.303: not cut at 0
    assert t_limits([0.0, 0.01, 0.02]) == pytest.approx(
        (0.01 - 0.024844, 0.01 + 0.024844), abs=1e-6
    )


def test_the_difference_over_seeds_is_paired(tmp_path):
    """Seeds move both sides by 20 points and the difference by one: it shows."""
    wrong = {0: range(20), 1: range(30), 2: range(40)}
    against = {0: range(29), 1: range(40), 2: range(51)}
    paired = compare_paired(*both(tmp_path, wrong, against))
    measure = paired.measures[0]
    assert paired.seeds == [0, 1, 2] and paired.num_test_images == 90
    assert (measure.run, measure.against) == pytest.approx((60 / 90, 50 / 90))
    assert measure.over_seeds == pytest.approx(t_limits([9 / 90, 10 / 90, 11 / 90]))
    assert measure.over_seeds[0] > 0
    mean = np.mean([[i >= 20, i >= 30, i >= 40] for i in range(90)], axis=1)
    reference = np.mean([[i >= 29, i >= 40, i >= 51] for i in range(90)], axis=1)
    assert measure.over_images == paired_difference(mean, reference)
    assert measure.verdict == "better"
    swapped = compare_paired(*(tuple(zip(*paired.runs, strict=True))[::-1])).measures[0]
    assert swapped.difference == pytest.approx(-measure.difference)
    assert swapped.verdict == "worse"


def test_a_difference_of_one_seed_alone_is_not_shown(tmp_path):
    """20 images gained with one seed and none with the other: surely not the luck of the images."""
    measure = accuracy(tmp_path, {0: (), 1: range(30)}, {0: range(20), 1: range(30)})
    assert measure.over_images.is_shown and measure.seeds_show is False
    assert measure.verdict == "no difference shown (images alone would)"


def test_one_image_gained_with_every_seed_is_not_shown(tmp_path):
    gained = {seed: [0, seed + 3] for seed in range(3)}
    measure = accuracy(tmp_path, gained, {seed: [*gained[seed], 1] for seed in range(3)})
    assert measure.seeds_show and not measure.over_images.is_shown
    assert measure.verdict == "no difference shown (seeds alone would)"


def test_the_same_answers_are_no_difference(tmp_path):
    wrong = {seed: range(seed, 20, 3) for seed in range(3)}
    paired = compare_paired(*both(tmp_path, wrong, wrong))
    for measure in paired.measures:
        assert measure.difference == 0
        assert measure.verdict == ("" if measure.name == "worst class" else "no difference shown")
    assert paired.measures[0].over_seeds == (0, 0)
    assert paired.measures[0].over_images.p == 1


def test_one_seed_says_that_it_is_one(tmp_path):
    paired = compare_paired(*both(tmp_path, {4: ()}, {4: range(30)}))
    measure = paired.measures[0]
    assert measure.over_seeds is None and measure.seeds_show is None
    assert measure.verdict == "better (one seed)"
    assert "Only seed 4" in statement(paired) and "Train more seeds" in statement(paired)


def test_two_seeds_say_how_little_they_tell(tmp_path):
    paired = compare_paired(*both(tmp_path, {0: (), 1: ()}, {0: range(20), 1: range(26)}))
    assert paired.measures[0].verdict == "no difference shown (images alone would)"
    assert "Two seeds can hardly show anything" in statement(paired)


def test_what_is_compared(tmp_path):
    """Of 30 images a class: many disc, medium cross, few star."""
    wrong = {0: [0, 3, 1, 2], 1: [0, 6, 1, 4]}  # lost of each class: 2 1 1 and 2 2 0
    against = {0: [2, 5, 8, 11], 1: [2, 5, 8, 1]}  # 0 0 4 and 0 1 3
    paired = compare_paired(*both(tmp_path, wrong, against, train_counts=(500, 50, 5)))
    found = {measure.name: measure for measure in paired.measures}
    assert list(found) == [
        "accuracy", "balanced accuracy", "worst class", "many-shot", "medium-shot", "few-shot",
    ]  # fmt: skip
    worst = found["worst class"]
    assert worst.classes == ("disc", "star")
    assert (worst.run, worst.against) == pytest.approx((28 / 30, 26.5 / 30))
    few = found["few-shot"]
    assert (few.run, few.against) == pytest.approx((29.5 / 30, 26.5 / 30))
    assert few.over_seeds == pytest.approx(t_limits([0.1, 0.1]))
    assert few.over_images.value == pytest.approx(0.1)
    assert found["medium-shot"].over_seeds == pytest.approx(t_limits([-1 / 30, -1 / 30]))
    balanced, plain = found["balanced accuracy"], found["accuracy"]
    assert balanced.run == pytest.approx(plain.run)  # as many images of each class
    assert balanced.over_seeds == pytest.approx(plain.over_seeds)
    assert balanced.over_images.low == pytest.approx(plain.over_images.low, abs=0.012)


def test_shots_only_where_both_sides_mean_the_same_classes(tmp_path):
    one = side(tmp_path / "a", {0: ()}, train_counts=(500, 50, 5))
    other = side(tmp_path / "b", {0: ()}, loss="ce", train_counts=(500, 50, 50))
    assert [each.name for each in compare_paired(one, other).measures][3:] == []
    assert [each.name for each in compare_paired(one, one).measures][3:] == [
        "many-shot", "medium-shot", "few-shot",
    ]  # fmt: skip


def test_seeds_without_a_partner_are_left_out_and_named(tmp_path):
    runs, against = both(tmp_path, {0: (), 1: (), 2: ()}, {1: (), 2: (), 7: ()})
    paired = compare_paired(runs, against)
    assert paired.seeds == [1, 2]
    assert paired.left_out == [runs[0], against[2]]
    assert [each[0].name for each in paired.runs] == ["a1", "a2"]
    with pytest.raises(LeanvitError, match=r"run= has seed 0, against= has seed 7"):
        compare_paired(runs[:1], against[2:])


def test_names_are_what_differs(tmp_path):
    runs = side(tmp_path / "a", {0: ()}, overrides={"logit_adjust": 1.0, "epochs": 3})
    against = side(tmp_path / "b", {0: ()}, overrides={"epochs": 3})
    paired = compare_paired(runs, against)
    assert (paired.run, paired.against) == ("logit_adjust=1.0", "default logit_adjust")
    assert paired.common == "data=shapes, model=vit, loss=cross_entropy, sampler=shuffle"


def test_a_side_is_one_choice_on_the_same_images(tmp_path):
    runs, against = both(tmp_path, {0: (), 1: ()}, {0: (), 1: ()})
    fewer = write_fake_run(tmp_path / "fewer", loss="ce", num_test=60)
    for given, words in [
        (([*runs, against[0]], against), "run= holds runs of several choices.* loss"),
        ((runs, []), "against= holds no finished run"),
        ((runs, [fewer]), "fewer was tested on other images than"),
        ((runs, [tmp_path]), "not a finished run"),
    ]:
        with pytest.raises(LeanvitError, match=words) as error:
            compare_paired(*given)
        assert "\n" not in str(error.value)


def test_each_row_is_compared_with_the_one_that_is_equal_but_for_what_is_asked(tmp_path):
    """Three nets with either loss, one of them without a seed in common, and one on one side."""

    def runs(loss: str, **nets: Mapping[int, Iterable[int]]) -> list[Path]:
        return [run for net, wrong in nets.items()
                for run in side(tmp_path / net / loss, wrong, model=net, loss=loss)]  # fmt: skip

    focal = runs("focal", vit={0: (), 1: ()}, swin={0: range(9)}, cct={0: ()})
    ce = runs("ce", vit={0: range(9), 1: range(9)}, swin={0: ()}, cct={1: ()})
    alone = runs("focal", pvt={0: ()})
    found, left_out = compare_rows([*focal, *alone], ce)
    assert [(each.where, each.seeds) for each in found] == [("model=vit", [0, 1]),
                                                            ("model=swin", [0])]  # fmt: skip
    assert [each.measures[0].difference for each in found] == pytest.approx([0.1, -0.1])
    assert left_out == [*alone, focal[3], ce[3]]
    write_paired([*focal, *alone], ce, [], tmp_path / "out")
    text = (tmp_path / "out.md").read_text()
    assert text.count("## model=") == 2 and "pvt/focal/focal0" in text.splitlines()[-1]
    console = Console(file=io.StringIO(), width=100)
    print_paired(found, left_out, console=console)
    assert "model=swin: loss=focal against loss=ce" in console.file.getvalue()  # type: ignore
    for sides, words in [((focal, [*ce, focal[0]]), "several choices"),
                         ((focal[3:], ce[3:]), "none is on both sides"),
                         ((focal[:3], ce[3:]), "run= holds runs of several choices")]:  # fmt: skip
        with pytest.raises(LeanvitError, match=words):
            compare_rows(*sides)


def test_of_many_runs_without_a_partner_the_terminal_names_ten_and_the_file_all(tmp_path):
    runs, against = both(tmp_path, {0: [1]}, {0: [2]})
    against += [write_fake_run(tmp_path / f"alone{i}", model=f"net{i}", loss="ce")
                for i in range(12)]  # fmt: skip
    found, left_out = write_paired(runs, against, [], tmp_path / "table")
    console = Console(file=io.StringIO(), width=10_000)
    print_paired(found, left_out, console=console)
    text, file = console.file.getvalue(), (tmp_path / "table.md").read_text()  # type: ignore
    assert (text.count("/alone"), file.count("/alone")) == (10, 12) and " and 2 more." in text


def test_runs_of_before_are_compared_too(tmp_path):
    """Everything is counted from the predictions; what an old metrics.json lacks is not needed."""
    runs, against = both(tmp_path, {0: range(9)}, {0: ()}, train_counts=(500, 50, 5))
    expected = compare_paired(runs, against)
    for path in (*runs, *against):
        metrics = json.loads((path / "metrics.json").read_text())
        for split in ("val", "test"):
            metrics[split] = {key: metrics[split][key] for key in ("accuracy", "balanced_accuracy")}
        (path / "metrics.json").write_text(json.dumps(metrics))
    assert compare_paired(runs, against) == expected


def test_files_and_terminal_say_the_same(tmp_path):
    wrong = {0: range(20), 1: range(30), 2: range(40)}
    against = {0: range(21), 1: range(28), 2: range(42), 3: ()}
    runs, others = both(tmp_path, wrong, against, train_counts=(500, 50, 5))
    failed = [write_failed_run(tmp_path / "c", "no space left")]
    (paired,), left_out = write_paired(runs, others, failed, tmp_path / "out" / "comparison")
    text = (tmp_path / "out" / "comparison.md").read_text()
    console = Console(file=io.StringIO(), width=100)
    print_paired([paired], left_out, failed, console)
    terminal = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in terminal.splitlines()) <= 100
    assert terminal.startswith("loss=focal against loss=ce")
    for shown in (text, " ".join(terminal.split())):
        for words in ("Test accuracy: no difference shown, +0.37 points", "the luck of training",
                      "which holds 0", SHAPES, "few-shot", "[-5.38, +6.12]", "no space left",
                      "b/b3"):  # fmt: skip
            assert words in shown, words
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["measure"] for line in lines] == [each.name for each in paired.measures]
    for line, measure in zip(lines, paired.measures, strict=True):
        assert float(line["difference"]) == measure.difference
        assert line["verdict"] == measure.verdict
    assert float(lines[0]["images_p"]) == paired.measures[0].over_images.p
    assert lines[2]["images_p"] == lines[2]["seeds_low"] == ""  # the worst class
    assert lines[0]["seeds"] == "0 1 2" and lines[0]["left_out"] == str(others[3])


def test_rows_of_two_folders_are_compared_apart(tmp_path: Path) -> None:
    sides = [[write_fake_run(tmp_path / f"{loss}{model}{source}", loss=loss, model=model,
                             source=f"image folder /{source}", test_wrong=range(wrong))
              for model in ("vit", "cct") for source in "ab"]
             for wrong, loss in enumerate(("focal", "ce"))]  # fmt: skip
    found, left_out = compare_rows(*sides)
    rows = [f"model={model}, source=image folder /{source}"
            for model in ("vit", "cct") for source in "ab"]  # fmt: skip
    assert [paired.where for paired in found] == rows
    assert not left_out and [len(paired.runs) for paired in found] == [1] * 4
