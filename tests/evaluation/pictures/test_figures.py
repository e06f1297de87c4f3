"""The figures are written, in the size of their content, and show the numbers they are given."""

import runpy
import sys

import numpy as np
import pytest
from fake_runs import CLASSES, predictions
from looks import check_is_read
from matplotlib.figure import Figure
from PIL import Image

from leanvit.evaluation.measure.calibration import expected_calibration_error
from leanvit.evaluation.pictures import data_figures, figures
from leanvit.evaluation.pictures.class_costs import exits_by_class
from leanvit.evaluation.pictures.data_figures import class_counts
from leanvit.evaluation.pictures.figures import (
    confusion_matrix,
    draw_confusion_matrix,
    draw_curves,
    learning_curves,
    recall_by_class,
)
from leanvit.evaluation.pictures.reliability import (
    draw_reliability,
    reliability_diagram,
    wilson_interval,
)

COLUMNS = ("lr", "train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy")


def history(num_epochs: int) -> list[dict[str, str]]:
    """Rows as `csv.DictReader` gives them."""
    return [{"epoch": str(epoch), **{name: str(0.5 / (epoch + 1)) for name in COLUMNS}}
            for epoch in range(num_epochs)]  # fmt: skip


def size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        low, high = image.convert("L").getextrema()
        assert low < 128 < high  # something is drawn
        return image.size


@pytest.mark.parametrize("num_epochs", [1, 12])
def test_learning_curves_from_text(tmp_path, num_epochs):
    rows = history(num_epochs)
    rows[0]["val_loss"] = ""  # an epoch without validation is a gap
    path = tmp_path / "figures" / "curves.png"
    learning_curves(rows, path, best_epoch=num_epochs - 1, title="vit, built-in shapes")
    width, height = size(path)
    assert width > 2 * height
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_files_grow_with_the_classes(tmp_path, num_classes):
    names, title = [f"class {index}" for index in range(num_classes)], "a long title " * 8
    given = predictions(5 * num_classes, [0, 3], num_classes)
    confusion_matrix(*given, names, tmp_path / "confusion.png", title)
    assert min(size(tmp_path / "confusion.png")) > (30 if num_classes <= 20 else 15) * num_classes
    recalls = [*[0.5] * (num_classes - 2), None, 0.0]
    recall_by_class(recalls, list(range(num_classes)), names, tmp_path / "recall.png")
    assert size(tmp_path / "recall.png")[1] > 20 * num_classes
    class_counts([10] * num_classes, names, tmp_path / "counts.png", title)
    width, height = size(tmp_path / "counts.png")
    assert width > 22 * num_classes and height > 500


def test_figures_of_a_thousand_classes_are_those_of_a_hundred_in_size(tmp_path, monkeypatch):
    sizes, drawn = {}, []
    for module in (figures, data_figures):
        monkeypatch.setattr(module, "save_figure", lambda figure, *_: drawn.append(figure))
    for num in (100, 1000):
        drawn.clear()
        names, labels = [f"class {index:03}" for index in range(num)], np.arange(num)
        confusion_matrix(*predictions(num, [0, 3], num), names, tmp_path)
        recall_by_class([None, *[0.5] * (num - 1)], list(range(num)), names, tmp_path)
        class_counts(list(range(1, num + 1)), names, tmp_path)
        drawn.append(exits_by_class(labels % 2, labels, names, ["a", "b"]))
        sizes[num] = [figure.get_size_inches().tolist() for figure in drawn]
    assert len(drawn) == 4 and sizes[1000] == sizes[100]
    (matrix, _) = drawn[0].axes
    assert [text.get_text() for text in matrix.get_yticklabels()] == names[::10]
    assert matrix.get_xticks().tolist() == list(range(0, 1000, 10))


LONG = [f"a name of class {index} of some forty letters and more" for index in range(7)]


@pytest.mark.parametrize("names", [LONG, [f"class {k}" for k in range(25)]], ids=["long", "many"])
def test_figures_of_a_long_tail_are_read_at_their_own_size(names, tmp_path, monkeypatch):
    num, drawn = len(names), []
    for module in (figures, data_figures):

        def keep(figure, path, title, save=module.save_figure):
            save(figure, path, title)
            drawn.append(figure)

        monkeypatch.setattr(module, "save_figure", keep)
    counts, title = [int(500 * 100 ** (-k / (num - 1))) for k in range(num)], "training images"
    class_counts(counts, names, tmp_path / "counts.png", title)
    recall_by_class([0.5] * num, counts, names, tmp_path / "recall.png", title)
    confusion_matrix(*predictions(num, [0, 3], num), names, tmp_path / "confusion.png", title)
    for figure, share in zip(drawn, (0.25, 0.3, 0.25), strict=True):
        check_is_read(figure, share)


def test_cells_hold_the_counts_and_colours_the_shares():
    probabilities, labels = predictions(9, [0, 1])  # 0 called 1, 1 called 2: one of three each
    axes = Figure().subplots()
    draw_confusion_matrix(axes, probabilities, labels, CLASSES)
    written = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "2", (1, 0): "1", (1, 1): "2", (2, 1): "1", (2, 2): "3"}
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares[0], [200 / 3, 100 / 3, 0])


def test_a_class_without_images_has_no_colour():
    probabilities, labels = predictions(9, [])
    axes = Figure().subplots()
    draw_confusion_matrix(axes, probabilities[labels != 1], labels[labels != 1], CLASSES)
    assert np.ma.getmaskarray(axes.images[0].get_array()).tolist() == [
        [False] * 3, [True] * 3, [False] * 3,
    ]  # fmt: skip


def test_many_classes_have_no_numbers():
    probabilities, labels = predictions(100, [], 25)
    axes = Figure().subplots()
    draw_confusion_matrix(axes, probabilities, labels, [str(index) for index in range(25)])
    assert not axes.texts
    assert len(axes.get_xticklabels()) == len(axes.get_yticklabels()) == 25


def test_reliability_before_and_after(tmp_path):
    given = predictions(90, range(36))
    reliability_diagram(*given, None, tmp_path / "before.png")
    reliability_diagram(*given, 1.5, tmp_path / "both.png", title="a long title " * 8)
    assert size(tmp_path / "both.png")[0] > 1.5 * size(tmp_path / "before.png")[0]


def test_reliability_dots_are_confidence_and_accuracy_of_their_bin():
    sure, unsure = predictions(60, range(6)), predictions(30, range(12), confidence=0.5)
    given = tuple(np.concatenate(pair) for pair in zip(sure, unsure, strict=True))
    axes = Figure().subplots()
    draw_reliability(axes, *given)
    (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_xydata(), [[50, 60], [80, 90]], atol=1e-5)
    off = np.abs(np.diff(dots.get_xydata(), axis=1)).ravel() @ [30, 60] / 90
    assert off == pytest.approx(100 * expected_calibration_error(*given), abs=1e-5)


def test_wilson_by_hand():
    # 0 of 10: 0 to z^2 / (n + z^2)
    low, high = wilson_interval(np.array([0.0, 0.5]), np.array([10, 4]))
    assert low[0] == pytest.approx(0, abs=1e-12) and high[0] == pytest.approx(3.8416 / 13.8416)
    assert low[1] == pytest.approx(1 - high[1])
    assert high[1] == pytest.approx(0.85, abs=0.001)


def test_curves_of_many_runs_stay_apart():
    axes = Figure().subplots()
    draw_curves(axes, {f"run {index}": history(2) for index in range(12)}, "val_loss")
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 12


def test_importing_is_cheap_and_drawing_leaves_pyplot_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail now
    learning_curves(history(2), tmp_path / "curves.png", best_epoch=None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    runpy.run_path(figures.__file__)
