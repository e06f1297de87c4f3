"""Rows beside each other: every curve to its own end, titles apart, recalls as the runs tell."""

import pytest
from fake_runs import CLASSES, write_fake_run

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.pictures.side_by_side import confusion, curves, recalls

LONG = {"augment.of_a_long_name": "strong", "optimizer.weight_decay": 0.0123}


@pytest.fixture
def table(tmp_path) -> Table:
    """The best row of two seeds and four epochs, the second of one epoch, the third of seven."""
    for seed in range(2):
        wrong = [1, 5][: seed + 1]
        write_fake_run(tmp_path / f"a{seed}", seed=seed, loss="focal", test_wrong=wrong)
    short = {"overrides": LONG, "num_epochs": 1}
    write_fake_run(tmp_path / "b", val_wrong=[4], test_wrong=[0, 3], **short)
    write_fake_run(tmp_path / "c", val_wrong=[4, 5], model="coatnet", num_epochs=7)
    (table,) = compare(sorted(tmp_path.iterdir()))
    return table


def test_every_curve_is_seen_to_its_own_end(table):
    figure = curves(table)
    for axes in figure.axes:
        assert [len(line.get_xdata()) for line in axes.lines] == [4, 1, 7]
        low, high = axes.get_xlim()
        assert low < min(axes.lines[2].get_xdata()) and high > max(axes.lines[2].get_xdata())
    for row in table.rows:
        for run in row.runs:
            (run / "history.csv").unlink()
    with pytest.raises(LeanvitError, match="nothing to draw"):
        curves(table)


def test_titles_of_matrices_stand_apart(table):
    figure = confusion(table, rows=(0, 1, 9))
    figure.canvas.draw()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    one, other = (title.get_window_extent() for title in titles)
    assert not one.overlaps(other)
    assert titles[1].get_text().startswith("2: ") and "\n" in titles[1].get_text()


def test_recalls_are_means_over_seeds_most_frequent_class_on_top(table):
    axes = recalls(table).axes[0]
    drawn = [[bar.get_width() for bar in bars] for bars in axes.containers]
    told = [read_run(run)["test"]["per_class_recall"] for run in table.rows[0].runs]
    assert drawn[0] == pytest.approx([50 * sum(pair) for pair in zip(*told, strict=True)])
    assert len(drawn) == 2 and drawn[0] != drawn[1]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"{name} ({n})" for name, n in zip(CLASSES, (400, 300, 110), strict=True)]
