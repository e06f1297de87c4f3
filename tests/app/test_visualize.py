"""The command that looks inside finished runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripts import call

from leanvit.app import visualize

FITTING = ("attention", "rollout", "features", "positions", "tokens", "filters")


@pytest.fixture
def finished(coatnet_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(coatnet_run, tmp_path / coatnet_run.name)


def test_all_figures_that_fit_are_drawn(finished: Path, tmp_path: Path) -> None:
    unfinished = shutil.copytree(finished, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    done = call("visualize.py", f"run={finished},{unfinished}", "num_images=3", "device=cpu")
    assert done.returncode == 1
    assert "is not a finished run: metrics.json is missing" in done.stderr
    folder = finished / "figures" / "inside"
    assert done.stdout.split() == [str(folder / f"{name}.png") for name in FITTING]
    for name in FITTING:
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 10


def test_what_does_not_fit_is_one_line_that_names_what_does(finished: Path) -> None:
    for what, words in (
        ("tokens,patches", f"nothing to show there, choose from {', '.join(FITTING)}"),
        ("dynamic", "what=dynamic: CoAtNet does the same to all tokens"),
        ("atention", "attention"),
    ):
        done = call("visualize.py", f"run={finished}", f"what={what}", "device=cpu")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and words in done.stderr


def test_figures_are_drawn_where_they_are_wanted(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def draw_dynamic(*given: object) -> list[Path]:
        asked.append(given[-2:])
        return [Path("kept.png")]

    monkeypatch.setattr(visualize, "draw_dynamic", draw_dynamic)
    for what, drawn in (
        ("dynamic", ["kept"]),
        ("filters", ["filters"]),
        ("filters,dynamic", ["kept", "filters"]),
    ):
        done = call("visualize.py", f"run={finished}", f"what={what}", "num_images=2", "device=cpu")
        assert [Path(line).stem for line in done.stdout.split()] == drawn
    assert asked == [(2, 0)] * 2


def test_pictures_of_weights_name_no_test_images(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: dict[str, str] = {}
    monkeypatch.setattr(
        visualize, "save_figure", lambda _, path, title: titles.update({path.stem: title})
    )
    call("visualize.py", f"run={finished}", "num_images=2", "device=cpu")
    assert {name for name in FITTING if "test images" in titles[name]} == {*FITTING} - {
        "positions",
        "filters",
    }
    assert "trained on built-in shapes" in titles["filters"]
