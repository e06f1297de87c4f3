"""Class names in figures: as they are written, in a font that has them, or as numbers."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fake_runs import predictions
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from leanvit.evaluation.pictures import letters
from leanvit.evaluation.pictures.data_figures import class_counts
from leanvit.evaluation.pictures.figures import (
    confusion_matrix,
    draw_confusion_matrix,
    learning_curves,
    new_figure,
    recall_by_class,
    save_figure,
)

pytestmark = pytest.mark.filterwarnings("error")  # a missing letter would be one


@pytest.fixture(autouse=True)
def only_matplotlibs_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which have no Chinese, whatever this machine has."""
    own = [font for font in fontManager.ttflist if matplotlib.get_data_path() in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(letters, "_found", {})
    letters._say_once.cache_clear()


def drawn(text: str, path: Path) -> np.ndarray:
    figure = new_figure(3, 1)
    figure.text(0.1, 0.4, text)
    save_figure(figure, path, None)
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", ["price_$5_to_$10", r"\frac$x$", "$", "a_{b}^c", "100 %", "<b>&"])
def test_a_name_is_no_formula(name: str, tmp_path: Path) -> None:
    classes = [name, "dog", "$two$ words"]
    confusion_matrix(*predictions(9, [0]), classes, tmp_path / "a.png", title=f"in /x/{name}")
    recall_by_class([0.5, None, 1.0], [3, 2, 1], classes, tmp_path / "b.png", f"{name}/{name}")
    class_counts([300, 20, 1], classes, tmp_path / "c.png", name)
    axes = new_figure(3, 3).subplots()
    draw_confusion_matrix(axes, *predictions(9, [0]), classes)
    assert [text.get_text() for text in axes.get_xticklabels()] == classes
    assert axes.get_xticklabels()[0].get_parse_math() is False


def test_small_rates_have_their_power_of_ten(tmp_path: Path) -> None:
    """Of what matplotlib would write as a formula itself."""
    rows = [{"epoch": epoch, "lr": 1e-5 * epoch, "train_loss": 1.0} for epoch in range(3)]
    drawn: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, *_: drawn.append(self.get_text()))
        learning_curves(rows, tmp_path / "curves.png", best_epoch=None)
    assert "1e−5" in drawn and not any("$" in text for text in drawn)


def test_a_letter_is_drawn_by_the_font_that_has_it(tmp_path: Path) -> None:
    assert letters.drawable(["⌭ cat"]) == ["⌭ cat"]
    assert letters._found["⌭"].startswith("STIX")
    boxes = drawn("猫", tmp_path / "box.png")
    assert not np.array_equal(drawn("⌭", tmp_path / "a.png"), boxes)
    assert np.array_equal(drawn("?", tmp_path / "b.png"), boxes)  # in a title, which has no number


def test_what_no_font_has_is_a_number(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    classes = ["dog", "猫", "\ud800", "狗", "é"]
    confusion_matrix(*predictions(9, [0], 5), classes, tmp_path / "a.png", title="/data/动物")
    assert letters.drawable(classes) == ["dog", "1", "2", "3", "é"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "of 3 class names: figures show numbers, 1 is '猫', " in said


def test_the_jobs_of_a_grid_say_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(letters.GRID, str(tmp_path))
    for _ in range(3):
        letters._say_once.cache_clear()  # in a process of its own each
        letters.drawable(["猫"])
    assert capsys.readouterr().err.count("\n") == 1


def test_long_and_broken_names_leave_room(tmp_path: Path) -> None:
    classes = ["x" * 250, "two\nlines\tof it", "dog"]
    confusion_matrix(*predictions(9, [0]), classes, tmp_path / "a.png")
    assert letters.drawable(classes) == ["x" * 39 + "…", "two lines of it", "dog"]
    with warnings.catch_warnings():  # of axes that collapse
        warnings.simplefilter("error")
        confusion_matrix(*predictions(9, [0], 2), ["W" * 50, "W" * 30], tmp_path / "b.png")
