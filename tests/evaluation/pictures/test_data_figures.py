"""The figure of class counts: its scale and its marks."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from leanvit.evaluation.pictures.data_figures import draw_class_counts
from leanvit.evaluation.pictures.figures import BLUE, ORANGE, RED


def drawn(counts):
    axes = Figure().subplots()
    draw_class_counts(axes, counts, [f"class {k}" for k in range(len(counts))])
    legend = axes.get_legend()
    marks = [line.get_ydata()[0] for line in axes.lines]
    return axes, marks, [text.get_text() for text in legend.texts] if legend else []


@pytest.mark.parametrize(("counts", "scale"), [([500, 51], "linear"), ([500, 50], "log")])
def test_the_scale_is_logarithmic_from_an_imbalance_of_10_on(counts, scale):
    axes, _, _ = drawn(counts)
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low < min(counts) and high > max(counts)


def test_bars_stand_in_class_order_with_their_numbers_and_kinds():
    axes, marks, legend = drawn([100, 1200, 101, 20, 19])
    assert [bar.get_height() for bar in axes.patches] == [100, 1200, 101, 20, 19]
    assert [text.get_text() for text in axes.texts] == ["100", "1,200", "101", "20", "19"]
    kinds = [to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
    assert kinds == [ORANGE, BLUE, BLUE, ORANGE, RED]
    assert marks == [100, 20]
    assert legend == [
        "many-shot (over 100): 2 classes",
        "medium-shot (20 to 100): 2 classes",
        "few-shot (under 20): 1 class",
    ]


@pytest.mark.parametrize(
    ("counts", "limits"), [([4513, 2023], []), ([500, 30], [100]), ([60, 5], [20]), ([9, 0], [])]
)
def test_only_limits_inside_the_range_are_marked(counts, limits):
    _, marks, legend = drawn(counts)
    assert marks == limits
    assert bool(legend) == bool(limits)


def test_many_classes_have_names_and_no_numbers():
    axes, _, _ = drawn(list(range(1, 101)))
    assert not axes.texts
    assert len(axes.get_xticklabels()) == 100
