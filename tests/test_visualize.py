"""From the command line: look inside a finished run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from scripts import ROOT, TINY_COATNET, TINY_DATA, only_run, run

import visualize
from leanvit.errors import LeanvitError

FITTING = ("attention", "rollout", "features", "positions", "tokens", "filters")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    tiny = [*TINY_DATA, *TINY_COATNET, "max_epochs=1", "trainer=cpu", "mix=none"]
    done = run("train.py", *tiny, f"outputs={outputs}")
    assert done.returncode == 0, done.stderr
    return only_run(outputs)


def test_all_figures_that_fit_are_drawn(finished: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished)
    (unfinished / "metrics.json").unlink()
    done = run("visualize.py", f"run={finished},{unfinished}", "num_images=3", "device=cpu")
    assert done.returncode == 1
    assert "is not a finished run: metrics.json is missing" in done.stderr
    folder = finished / "figures" / "inside"
    assert done.stdout.split() == [str(folder / f"{name}.png") for name in FITTING]
    for name in FITTING:
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 10


def test_what_does_not_fit_is_one_line_that_names_what_does(finished: Path) -> None:
    config = OmegaConf.load(ROOT / "conf" / "visualize.yaml")
    with pytest.raises(LeanvitError) as error:
        list(visualize.visualize(config, finished, ["tokens", "patches"]))
    assert f"nothing to show there, choose from {', '.join(FITTING)}" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(LeanvitError, match="what=dynamic: CoAtNet does the same to all tokens"):
        list(visualize.visualize(config, finished, ["dynamic"]))


def test_figures_are_drawn_where_they_are_wanted(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = OmegaConf.load(ROOT / "conf" / "visualize.yaml"), []
    config.num_images = 2

    def draw_dynamic(*given: object) -> list[Path]:
        asked.append(given[-2:])
        return [Path("kept.png")]

    monkeypatch.setattr(visualize, "draw_dynamic", draw_dynamic)
    for names, drawn in (
        (["dynamic"], ["kept"]),
        (["filters"], ["filters"]),
        (["filters", "dynamic"], ["kept", "filters"]),
    ):
        assert [path.stem for path in visualize.visualize(config, finished, names)] == drawn
    assert asked == [(2, 0)] * 2


@pytest.mark.parametrize(
    ("key", "value", "least"), [("num_images", "few", 1), ("num_images", 0, 1), ("block", -1, 0)]
)
def test_numbers_are_checked(key: str, value: object, least: int) -> None:
    config = OmegaConf.load(ROOT / "conf" / "visualize.yaml")
    visualize.check_numbers(config)
    config[key] = value
    with pytest.raises(LeanvitError, match=f"{key}={value} must be .* at least {least}"):
        visualize.check_numbers(config)
