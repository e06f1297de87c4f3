"""From the command line: a grid of pretrainings, one of them killed; and wrong choices."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image
from scripts import ROOT, TINY_DATA, TINY_VIT, start, wait_for

import jobs
import pretrain

TINY = [*TINY_DATA, *TINY_VIT, "max_epochs=3", "batch_size=64", "trainer=cpu", "seed=1"]
TINY += ["data.image_size=16", "pretrain.decoder_dim=16", "augment=none"]


def config_of(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("pretrain", ["trainer=cpu", "data=shapes", *overrides])


def in_process(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[jobs.Job]:
    """A single run as the script does it, without its 12 seconds of imports."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(pretrain, "JOBS", [])
    monkeypatch.setattr("sys.argv", ["pretrain.py", *arguments, "--config-path", f"{ROOT}/conf"])
    pretrain.main()
    return pretrain.JOBS


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a grid's runs, whose first job was killed; what it printed."""
    outputs = tmp_path_factory.mktemp("grid")
    choices = ["-m", "pretrain=mae,autoencoder", f"outputs={outputs}"]
    with start("pretrain.py", *TINY, *choices) as process:
        wait_for(process, "epoch 2/")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == 1
    assert "1 of 2 failed" in err and "Traceback" not in err
    return outputs / "shapes", out


def test_a_grid_finishes_around_a_killed_job(grid: tuple[Path, str]) -> None:
    runs, printed = grid
    (killed,) = runs.glob("mae-vit-*")
    assert "SIGKILL" in (killed / "error.txt").read_text()
    (finished,) = runs.glob("*/pretraining.json")
    assert finished.parent.name.startswith("autoencoder-vit-")
    assert printed.split() == [str(finished.parent)]


def test_the_killed_run_goes_on_and_leaves_what_it_promises(
    grid: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, _ = grid
    command = [*TINY, "pretrain=mae", f"outputs={runs.parent}"]
    (job,) = in_process(monkeypatch, *command)
    assert job.error is None and job.run_dir.name.startswith("mae-vit-")
    assert "going on from" in capsys.readouterr().err
    found = json.loads((job.run_dir / "pretraining.json").read_text())
    assert found["training"]["epochs"] == 3 and 1 <= found["training"]["best_epoch"] <= 3
    assert found["val_loss"] > 0 and found["seed"] == 1
    assert found["choices"]["pretrain"] == "mae" and "not photographs" in found["source"]
    assert found["cost"]["macs"] > 0 and "torch" in found["versions"]
    assert found["images"] == {"train": 360, "val": 40}
    for name in ("learning_curves", "reconstructions"):
        with Image.open(job.run_dir / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200
    saved = torch.load(job.run_dir / "checkpoints" / "best.ckpt", weights_only=False)
    assert "net.encoder.blocks.0.attention.qkv.weight" in saved["state_dict"]
    assert not (job.run_dir / "error.txt").exists()
    assert not (job.run_dir / "metrics.json").exists()  # reports take it for a trained net

    before = (job.run_dir / "pretraining.json").stat().st_mtime_ns
    (again,) = in_process(monkeypatch, *command)
    assert again == job
    assert "is finished" in capsys.readouterr().err
    assert (job.run_dir / "pretraining.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=linformer_vit"], ["pretrain=mae", "LinformerViT", "pretrain=autoencoder"]),
        (["model=coatnet", "pretrain=autoencoder"], ["pretrain=autoencoder", "CoAtNet", "=vit"]),
        (["pretrain.mask_ratio=1.0"], ["mask_ratio=1.0", "0.75"]),
        (["max_epochs=0"], ["max_epochs=0", "whole number"]),
    ],
    ids=lambda value: value[0],
)
def test_a_wrong_choice_is_one_line(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    line = jobs.run_job(pretrain.pretrain, config_of(*overrides), tmp_path)
    assert line is not None and "\n" not in line
    assert (tmp_path / "error.txt").read_text().splitlines()[0] == line
    for word in words:
        assert word in line, line
