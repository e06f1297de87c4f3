"""Accuracy over what was spent: where the points lie."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from leanvit.evaluation.pictures import progress as module
from leanvit.evaluation.pictures.progress import Course, progress


def history(*accuracies: float) -> list[dict[str, float | str]]:
    return [{"epoch": i + 1, "val_accuracy": accuracy, "images": 100 * (i + 1), "seconds": "30"}
            for i, accuracy in enumerate(accuracies)]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = module.save_figure
    monkeypatch.setattr(module, "save_figure", lambda f, *rest: (figures.append(f), save(f, *rest)))
    return figures


def test_points_are_what_was_spent(drawn: list[Figure], tmp_path: Path) -> None:
    courses = [
        Course("vit", history(0.5, 0.75), pflop=3.0, pflop_before=1.0),
        Course("vit", history(0.25), pflop=1.0, pflop_before=0.0),
        Course("swin", history(0.1, 0.2), pflop=None, pflop_before=0.0),  # an older run
    ]
    progress(courses, tmp_path / "progress.png", "shapes", "accuracy")
    assert Image.open(tmp_path / "progress.png").width > 1000
    over_pflop, over_minutes = drawn[0].axes
    points = [line.get_xydata().tolist() for line in over_pflop.lines]
    assert points == [[[2.0, 50.0], [4.0, 75.0]], [[1.0, 25.0]], []]
    points = [line.get_xydata().tolist() for line in over_minutes.lines]
    assert points == [[[0.5, 50.0], [1.0, 75.0]], [[0.5, 25.0]], [[0.5, 10.0], [1.0, 20.0]]]
    colours = [line.get_color() for line in over_minutes.lines]
    assert colours[0] == colours[1] != colours[2]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["vit", "swin"]
