"""What rows are compared with, on made-up runs."""

from pathlib import Path
from typing import Any

import pytest
from fake_runs import write_fake_run

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.intervals import Difference, t_limits
from leanvit.evaluation.comparison.rows import Table


def table_of(runs: list[Path], **given: Any) -> Table:
    (table,) = compare(runs, **given)
    return table


def test_the_plainest_choices_are_the_reference_and_not_the_winner(tmp_path: Path) -> None:
    best = write_fake_run(tmp_path / "best", loss="focal")
    plain = write_fake_run(tmp_path / "plain", loss="ce", val_wrong=[0])
    longer = write_fake_run(
        tmp_path / "longer", loss="ce", val_wrong=[0, 1], overrides={"max_epochs": 9}
    )
    table = table_of([best, plain, longer])
    assert table.rows[table.reference].runs == [plain] and table.reference == 1
    assert [row.against for row in table.rows] == [1, None, 1]
    assert table.differs(0) == ["loss=focal"] and table.differs(2) == ["max_epochs=9"]
    for baseline in (1, "1", "loss=focal", str(best)):
        assert table_of([best, plain, longer], baseline=baseline).reference == 0
    # of several the plainest
    assert table_of([best, plain, longer], baseline="loss=ce").reference == 1
    with pytest.raises(LeanvitError, match="baseline=4 is no row"):
        compare([best, plain, longer], baseline=4)


def test_a_value_of_a_choice_is_one_step_from_the_plainest(tmp_path: Path) -> None:
    runs = [
        write_fake_run(tmp_path / "one", loss="ce", overrides={"loss.gamma": 1}, val_wrong=[0]),
        write_fake_run(tmp_path / "two", loss="focal", overrides={"max_epochs": 9}),
        write_fake_run(tmp_path / "late", loss="ce", overrides={"max_epochs": 9},
                       choices={"loss@late.loss": "ldam"}),
    ]  # fmt: skip
    table = table_of(runs)
    assert table.rows[table.reference].runs == [runs[0]]


def test_the_reference_tells_its_values_where_rows_differ_in_them(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / str(depth), loss="ce", val_wrong=[0] * (depth == 4),
                           overrides={"model.depth": depth, "max_epochs": 9})
            for depth in (2, 4)]  # fmt: skip
    table = table_of(runs)
    assert table.differs(0) == ["model=vit", "loss=ce", "sampler=shuffle", "model.depth=2"]
    assert table.differs(1) == ["model.depth=4"]


def test_a_difference_of_several_seeds_is_shown_over_these_too(tmp_path: Path) -> None:
    def difference(*wrong: int) -> Difference:
        folder = tmp_path / "-".join(map(str, wrong))
        runs = [
            write_fake_run(folder / f"{loss}{seed}", loss=loss, seed=seed, val_wrong=[0][:num],
                           test_wrong=range(num))
            for loss, numbers in (("ce", wrong), ("focal", (0,) * len(wrong)))
            for seed, num in enumerate(numbers)
        ]  # fmt: skip
        (found,) = (row.difference for row in table_of(runs).rows if row.difference)
        assert found.value == pytest.approx(sum(wrong) / len(wrong) / 90)
        return found

    one, alike, apart = difference(20), difference(20, 21, 19), difference(1, 40, 19)
    assert one.is_shown and alike.is_shown and not apart.is_shown
    low, high = t_limits([1 / 90, 40 / 90, 19 / 90])
    assert (apart.low, apart.high) == pytest.approx((low, high))  # the wider ends
    assert alike.low == pytest.approx(one.low, abs=0.01)  # there it is that of the images


def test_a_net_is_compared_with_the_one_that_it_was_made_of(tmp_path: Path) -> None:
    plain = write_fake_run(tmp_path / "plain", loss="ce")
    other = write_fake_run(tmp_path / "other", loss="focal", val_wrong=[0], test_wrong=range(9))
    of_other = write_fake_run(
        tmp_path / "cut",
        loss="focal",
        choices={"lightweight": "tome", "pretrained": "other"},
        val_wrong=[0, 1],
        test_wrong=range(9),
    )
    (of_other / "config.yaml").write_text(f"seed: 0\npretrained: {other}\n")
    table = table_of([plain, other, of_other])
    assert [row.against for row in table.rows] == [None, 0, 1]
    assert table.rows[2].difference.value == 0 and table.rows[1].difference.value < 0
    assert table_of([plain, other, of_other], baseline=3).rows[2].against is None
    # where its net is in no row, as any other
    assert [row.against for row in table_of([plain, of_other]).rows] == [None, 0]


def test_a_net_is_not_compared_with_the_mean_over_seeds_of_the_one_it_was_made_of(
    tmp_path: Path,
) -> None:
    plain = [write_fake_run(tmp_path / f"s{seed}", seed=seed, test_wrong=range(9 * seed))
             for seed in (0, 1)]  # fmt: skip
    cut = write_fake_run(tmp_path / "cut", choices={"pretrained": "s0"}, val_wrong=[0])
    (cut / "config.yaml").write_text(f"seed: 0\npretrained: {plain[0]}\n")
    table = table_of([*plain, cut])
    assert table.rows[0].runs == plain and table.rows[1].against == 0
    assert table.rows[1].difference.value == 0  # as right as seed 0, and more so than both


def test_a_net_of_another_seed_is_compared_with_the_one_that_it_was_made_of(
    tmp_path: Path,
) -> None:
    plain = [write_fake_run(tmp_path / f"s{seed}", seed=seed, test_wrong=range(9 * seed))
             for seed in (0, 1)]  # fmt: skip
    cut = write_fake_run(tmp_path / "cut", seed=1, choices={"pretrained": "s0"}, val_wrong=[0])
    (cut / "config.yaml").write_text(f"seed: 1\npretrained: {plain[0]}\n")
    (*_, row) = table_of([*plain, cut]).rows
    assert row.runs == [cut] and row.difference.value == 0  # as right as seed 0


def test_what_else_differs_is_told_from_the_configs(tmp_path: Path) -> None:
    """Also what nobody gave: an experiment brings values, and so does a pretrained run."""
    config = "seed: {}\noptimizer: {{lr: {}, _target_: a.b}}\nmodel: {{dim: {}}}\noutputs: {}\n"
    plain = write_fake_run(tmp_path / "plain", loss="ce")
    (plain / "config.yaml").write_text(config.format(0, 0.1, 8, "a") + "mix: {alpha: 1}\n")
    other = write_fake_run(tmp_path / "other", model="coatnet", loss="ce", val_wrong=[0])
    (other / "config.yaml").write_text(config.format(1, 0.2, 9, "b") + "accumulate: 1\n")
    table = table_of([plain, other])
    assert table.rows[1].also_differs == ("optimizer.lr=0.2",)
    assert table.rows[0].also_differs == ()
