"""A grid of pretrainings, one of them killed; it goes on, and train.py begins with its net."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from scripts import TINY_DATA, TINY_VIT, call, child_of, fork, wait_until

pytestmark = pytest.mark.xdist_group("pretrain")
TINY = [*TINY_DATA, *TINY_VIT, "max_epochs=3", "batch_size=64", "trainer=cpu", "seed=1"]
TINY += ["data.image_size=16", "pretrain.decoder_dim=16", "augment=none"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a grid's runs, whose first job was killed; what it printed."""
    outputs, log = tmp_path_factory.mktemp("grid"), tmp_path_factory.mktemp("log") / "log"
    choices = ["pretrain=mae,autoencoder", f"outputs={outputs}", "-m"]
    process = fork(log, "pretrain.py", *TINY, *choices)
    wait_until(process, log, "epoch 2/")
    os.kill(child_of(process), signal.SIGKILL)
    process.join()
    said = log.read_text()
    assert process.exitcode == 1
    assert "1 of 2 failed" in said and "Traceback" not in said
    return outputs / "shapes", said


def test_a_grid_finishes_around_a_killed_job(grid: tuple[Path, str]) -> None:
    runs, said = grid
    (killed,) = runs.glob("mae-vit-*")
    assert "SIGKILL" in (killed / "error.txt").read_text()
    (finished,) = runs.glob("*/pretraining.json")
    assert finished.parent.name.startswith("autoencoder-vit-")
    assert said.splitlines().count(str(finished.parent)) == 2  # when it begins, and at the end
    assert said.splitlines().count(str(killed)) == 1


def test_the_killed_run_goes_on_and_leaves_what_it_promises(
    grid: tuple[Path, str], tmp_path: Path
) -> None:
    runs, _ = grid
    command = [*TINY, "pretrain=mae", f"outputs={runs.parent}"]
    done = call("pretrain.py", *command)
    assert done.returncode == 0 and "going on from" in done.stderr
    run_dir = Path(done.stdout.strip())
    assert run_dir.name.startswith("mae-vit-")
    found = json.loads((run_dir / "pretraining.json").read_text())
    assert found["training"]["epochs"] == 3 and 1 <= found["training"]["best_epoch"] <= 3
    assert found["val_loss"] > 0 and found["seed"] == 1
    assert found["choices"]["pretrain"] == "mae" and "not photographs" in found["source"]
    assert found["cost"]["macs"] > 0 and "torch" in found["versions"]
    assert found["images"] == {"train": 360, "val": 40}
    for name in ("learning_curves", "reconstructions"):
        with Image.open(run_dir / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200
    saved = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=False)
    assert "net.encoder.blocks.0.attention.qkv.weight" in saved["state_dict"]
    assert not (run_dir / "error.txt").exists()
    assert not (run_dir / "metrics.json").exists()  # reports take it for a trained net

    before = (run_dir / "pretraining.json").stat().st_mtime_ns
    again = call("pretrain.py", *command)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert "is finished" in again.stderr
    assert (run_dir / "pretraining.json").stat().st_mtime_ns == before

    asked = [f"pretrained={run_dir}", "max_epochs=1", "trainer=cpu", f"outputs={tmp_path}"]
    refused = call("train.py", *asked, "classifier=retrain")
    assert refused.returncode == 1 and "has no trained classifier" in refused.stderr
    done = call("train.py", *asked, "optimizer.lr=1e-12", "ema_decay=0", "mix=none")
    assert done.returncode == 0, done.stderr
    second = Path(done.stdout.splitlines()[-1])
    weights = torch.load(second / "checkpoints" / "best.ckpt", weights_only=False)["state_dict"]
    name = "blocks.0.attention.qkv.weight"
    torch.testing.assert_close(weights[f"net.{name}"], saved["state_dict"][f"net.encoder.{name}"])
