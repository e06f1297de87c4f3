"""The command that evaluates finished runs again: its choices, what it prints, where it writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from image_trees import refused
from omegaconf import OmegaConf
from PIL import Image
from scripts import call

from leanvit.app.eval import images, refuse_other_fit
from leanvit.app.finished import Run
from leanvit.data.pixels import decode

pytestmark = pytest.mark.xdist_group("trained")  # one fixture for all


@pytest.fixture
def finished(vit_run: Path, tmp_path: Path, undrawn: None) -> Path:
    """A run of one's own, whose figures are not drawn anew."""
    return shutil.copytree(vit_run, tmp_path / vit_run.name)


def told(*arguments: str) -> tuple[str, str]:
    """Standard output and standard error."""
    done = call("eval.py", *arguments, "device=cpu", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_everything_is_shown(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    metrics["train_counts"] = [400] * 5 + [50] * 3 + [10] * 2
    (finished / "metrics.json").write_text(json.dumps(metrics))
    out, err = told(f"run={finished}")
    assert err == ""
    for words in ("balanced accuracy", "few-shot recall", "after temperature scaling",
                  "negative log-likelihood", "temperature, from validation",
                  "By class", "precision", "star", "eval/again/metrics.json"):  # fmt: skip
        assert words in out, words
    assert "adjusted" not in out


def test_the_adjusted_results_stand_beside(finished: Path) -> None:
    before = (finished / "metrics.json").read_bytes()
    for given, name in [("0.5", "again-tau0.5"), ("1", "again-tau1.0"), ("val", "again-tauval")]:
        out, err = told(f"run={finished}", f"logit_adjust={given}")
        assert "logits adjusted" in out and err == ""
        metrics = json.loads((finished / "eval" / name / "metrics.json").read_text())
        assert metrics["overrides"]["logit_adjust"] == (given if given == "val" else float(given))
        assert metrics["choices_hash"].endswith(name.removeprefix("again"))
        assert 0 <= metrics["logit_adjust"]["tau"] <= 2
    assert (finished / "metrics.json").read_bytes() == before


def test_more_views_are_another_row(finished: Path) -> None:
    plain = json.loads((finished / "metrics.json").read_text())
    assert "views of each image, tta" in told(f"run={finished}", "tta=crops")[0]
    metrics = json.loads((finished / "eval" / "again-crops" / "metrics.json").read_text())
    assert metrics["overrides"] == plain["overrides"] | {"tta": "crops"}
    assert metrics["choices_hash"] == plain["choices_hash"] + "-crops"
    assert metrics["cost"]["macs_used"] == 6 * metrics["cost"]["macs"] == 6 * plain["cost"]["macs"]
    assert metrics["test"]["nll"] != plain["test"]["nll"]
    told(f"run={finished}", "data=shapes", "data.num_test=50", "tta=flip")
    metrics = json.loads((finished / "eval" / "shapes-flip" / "metrics.json").read_text())
    assert metrics["test"]["temperature"] is None  # the validation images had one view


def test_correcting_twice_is_said(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    metrics["choices"] |= {"sampler": "balanced", "loss@late.loss": "ldam", "mix@late.mix": "none"}
    (finished / "metrics.json").write_text(json.dumps(metrics))
    _, err = told(f"run={finished}", "logit_adjust=1.0")
    assert "was trained with loss@late.loss=ldam, sampler=balanced: where that" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", ["-1", "nan", "yes", "true"])
def test_what_is_no_strength_is_one_line(finished: Path, given: str) -> None:
    done = call("eval.py", f"run={finished}", f"logit_adjust={given}")
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert "logit_adjust=" in done.stderr and "must be" in done.stderr
    assert not (finished / "eval").exists()


def test_no_such_views(finished: Path) -> None:
    done = call("eval.py", f"run={finished}", "tta=ten")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "tta=ten" in done.stderr


@pytest.mark.parametrize("fit", [None, "stretch", "crop", "pad"])
def test_other_images_become_squares_as_the_runs_did(tmp_path: Path, fit: str | None) -> None:
    own = {"_target_": "leanvit.data.folder.folder", "image_size": 8} | (
        {"fit": fit} if fit else {}
    )
    kept = {"seed": 0, "classes": ["ant"], "model": {"_target_": "leanvit.models.vit.ViT"}}
    OmegaConf.save(OmegaConf.create(kept | {"data": own}), tmp_path / "config.yaml")
    image, run = tmp_path / "tree" / "ant" / "0.png", Run(tmp_path)
    image.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 30, 3), np.uint8)).save(image)
    asked = {"source": str(tmp_path / "tree"), "data_dir": str(tmp_path), "skip_unreadable": False}
    asked = {**own, **asked, "fit": "stretch"}  # by default
    found = images(asked, run, ("ant",), None)[0]["test"].images[0]
    wanted = decode(image, 8, fit or "stretch")
    assert torch.equal(found, torch.from_numpy(wanted).permute(2, 0, 1))
    refuse_other_fit(run, ["data=folder", f"data.fit={fit or 'stretch'}"])
    for other in {"stretch", "crop", "pad"} - {fit or "stretch"}:
        assert f"trained with data.fit={fit or 'stretch'}" in refused(
            refuse_other_fit, run, [f"data.fit={other}"]
        )
