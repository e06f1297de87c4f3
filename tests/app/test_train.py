"""One training: killed and gone on with, finished, evaluated again, stopped, in two processes."""

import csv
import json
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from composed import request_of
from image_trees import write_tree
from omegaconf import OmegaConf
from PIL import Image
from scripts import (
    SHARED,
    TINY_COATNET,
    TINY_DATA,
    TINY_VIT,
    call,
    fork,
    kill_at,
    only_run,
    start,
    wait_for,
    wait_until,
)

from leanvit.app import ranks
from leanvit.app.build import draws_figures
from leanvit.app.check import check_training
from leanvit.app.finished import Run
from leanvit.app.nets import load_run
from leanvit.app.request import recipe_line
from leanvit.errors import LeanvitError
from leanvit.models.other_size import positions
from leanvit.weights import read_checkpoint

pytestmark = pytest.mark.xdist_group("train")  # one fixture for all

# after half of the epochs other losses, samplers and mixings hold: a killed run must find them too
PHASES = ["loss@late.loss=class_balanced", "sampler@late.sampler=balanced", "mix@late.mix=none"]
PHASES += ["mix=cmo", "late.start=0.5"]
TINY = [*TINY_DATA, *TINY_COATNET, *PHASES, "max_epochs=4", "batch_size=32", "ema_decay=0.999"]
TINY += ["trainer=cpu"]


@pytest.fixture(scope="module")
def killed_and_whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The same choices trained without a stop, and killed twice on the way."""
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    uninterrupted = call("train.py", *TINY, f"outputs={whole}")
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    log = killed / "log"
    for epoch in (1, 3):
        kill_at(fork(log, "train.py", *TINY, f"outputs={killed}"), log, f"epoch {epoch}/")
    finished = call("train.py", *TINY, "figures=false", f"outputs={killed}")
    assert finished.returncode == 0, finished.stderr
    return only_run(whole), only_run(killed), finished.stderr


def test_a_killed_run_ends_with_the_same_bits(killed_and_whole: tuple[Path, Path, str]) -> None:
    whole, killed, err = killed_and_whole
    assert "going on from" in err
    for name in ("best", "last"):
        a, b = (
            torch.load(each / "checkpoints" / f"{name}.ckpt", weights_only=False)
            for each in (whole, killed)
        )
        for part in ("state_dict", "current_model_state"):  # the averaged and the trained weights
            assert a[part].keys() == b[part].keys()
            for key in a[part]:
                assert torch.equal(a[part][key], b[part][key]), (name, part, key)
    histories = [list(csv.DictReader((each / "history.csv").open())) for each in (whole, killed)]
    for a, b in zip(*histories, strict=True):
        assert {**a, "seconds": ""} == {**b, "seconds": ""}
    with np.load(whole / "predictions.npz") as a, np.load(killed / "predictions.npz") as b:
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
    assert (whole / "figures").exists() and not (killed / "figures").exists()  # figures=false


def test_a_run_leaves_what_it_promises(killed_and_whole: tuple[Path, Path, str]) -> None:
    run_dir, _, _ = killed_and_whole
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for split, n in (("val", 40), ("test", 50)):
        block = metrics[split]
        low, high = block["accuracy_interval"]
        assert low <= block["accuracy"] <= high
        assert block["n"] == n
        for key in ("balanced_accuracy", "precision", "recall", "f1", "calibration_error"):
            assert 0 <= block[key] <= 1
        assert len(block["per_class_recall"]) == 10
    assert metrics["cost"]["params"] > 0 and metrics["cost"]["macs"] > 0
    assert metrics["training"]["epochs"] == 4
    assert metrics["training"]["images_per_second"] > 0
    assert 1 <= metrics["training"]["best_epoch"] <= 4
    assert "not photographs" in metrics["source"]
    assert sum(metrics["train_counts"]) == 360
    history = list(csv.DictReader((run_dir / "history.csv").open()))
    best = max(
        history, key=lambda row: (float(row["val_balanced_accuracy"]), -float(row["val_loss"]))
    )
    assert int(best["epoch"]) == metrics["training"]["best_epoch"]
    assert metrics["val"]["balanced_accuracy"] == pytest.approx(
        float(best["val_balanced_accuracy"]), abs=1e-6
    )
    with np.load(run_dir / "predictions.npz") as predictions:
        assert predictions["test_probabilities"].shape == (50, 10)
        accuracy = (
            predictions["test_probabilities"].argmax(1) == predictions["test_labels"]
        ).mean()
    assert accuracy == pytest.approx(metrics["test"]["accuracy"])
    for figure in ("learning_curves", "confusion_matrix", "recall_by_class"):
        with Image.open(run_dir / "figures" / f"{figure}.png") as image:
            assert min(image.size) > 200


def test_a_finished_run_is_not_trained_again(killed_and_whole: tuple[Path, Path, str]) -> None:
    run_dir, _, _ = killed_and_whole
    before = (run_dir / "metrics.json").stat().st_mtime_ns
    again = call("train.py", *TINY, f"outputs={run_dir.parents[1]}")
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert "shapes" in again.stdout
    assert (run_dir / "metrics.json").stat().st_mtime_ns == before


def test_a_second_stage_keeps_the_net_the_images_and_the_split(
    killed_and_whole: tuple[Path, Path, str], tmp_path: Path, undrawn: None
) -> None:
    first, _, _ = killed_and_whole
    stages = ["classifier=none,retrain,tau_norm,lws,mislas,max_norm", "max_epochs=1", "trainer=cpu"]
    options = ["backbone_lr=0.5", "batch_size=64", f"outputs={tmp_path}"]
    done = call("train.py", "-m", f"pretrained={first}", *stages, *options)
    assert done.returncode == 0, done.stderr
    asked = request_of(f"pretrained={first}", *stages[1:], *options)
    told = str(recipe_line(asked))
    assert f"{first.name}: mix=none (it had cmo)" in told and "ema_decay=0.0 (it had 0.999)" in told
    assert "batch_size" not in told and "loss" not in told  # asked for; the same
    assert recipe_line(request_of(f"pretrained={first}", "classifier=tau_norm")) is None

    def weights(run_dir: Path) -> dict[str, torch.Tensor]:
        checkpoint = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=False)
        return {k: v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}

    before = weights(first)
    backbone = [name for name in before if not name.startswith("net.head.")]
    changed = {}
    for path in tmp_path.glob("shapes/*/metrics.json"):
        metrics = json.loads(path.read_text())
        assert metrics["choices"]["model"] == "coatnet"
        assert metrics["choices"]["pretrained"] == "coatnet-ce-shuffle"
        assert metrics["overrides"]["model.dims"] == "[8, 12, 16, 24]"
        after = weights(path.parent)
        stage = metrics["choices"]["classifier"]
        changed[stage] = {name for name in backbone if not torch.equal(before[name], after[name])}
        with np.load(first / "predictions.npz") as a, np.load(path.parent / "predictions.npz") as b:
            np.testing.assert_array_equal(a["val_labels"], b["val_labels"])
        if stage == "tau_norm":
            assert metrics["training"]["epochs"] == 0
        if stage == "lws":
            assert torch.equal(after["net.head.layer.weight"], before["net.head.weight"])
            assert not (after["net.head.scale"] == 1).all()
        if stage == "mislas":
            assert metrics["choices"]["loss"] == "label_aware_smoothing"
            assert not torch.equal(after["net.head.layer.weight"], before["net.head.weight"])
        if stage == "max_norm":
            assert metrics["choices"]["loss"] == "class_balanced"
            norms = [each["net.head.weight"].norm(dim=1) for each in (before, after)]
            assert norms[0].max() > norms[1].max()
    assert changed.keys() == {None, "retrain", "tau_norm", "lws", "mislas", "max_norm"}
    assert changed.pop(None)
    shifted = changed.pop("mislas")
    assert shifted == {name for name in backbone if ".running_" in name or ".num_batches" in name}
    assert not any(changed.values())  # not even the statistics of batch norms moved


def test_eval_repeats_the_result_and_takes_other_images(
    killed_and_whole: tuple[Path, Path, str], tmp_path: Path, undrawn: None
) -> None:
    whole, killed, _ = killed_and_whole
    done = call("eval.py", f"run={whole},{killed}", "device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for run_dir in (whole, killed):
        again = json.loads((run_dir / "eval" / "again" / "metrics.json").read_text())
        trained = json.loads((run_dir / "metrics.json").read_text())
        assert again["test"] == trained["test"] and again["val"] == trained["val"]
        assert again["cost"] == trained["cost"]
    write_tree(tmp_path / "others", {"disc": 3, "ring": 3}, size=40)
    others = ["data=folder", "data.source=others", f"data.data_dir={tmp_path}"]
    done = call("eval.py", f"run={whole}", *others, "device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (place,) = (whole / "eval").glob("folder-others-*")
    metrics = json.loads((place / "metrics.json").read_text())
    assert metrics["test"]["n"] == 6
    assert "val" not in metrics
    other = tmp_path / "other.ckpt"  # of a net of the same shape for other classes
    saved = torch.load(whole / "checkpoints" / "best.ckpt", weights_only=False)
    torch.save({**saved, "classes": saved["classes"][::-1]}, other)
    with pytest.raises(LeanvitError, match="another model: it was trained for"):
        load_run(Run(whole), str(other))
    with pytest.raises(LeanvitError, match="no checkpoint"):
        load_run(Run(whole), __file__)


def test_test_images_that_were_trained_on_are_told(tmp_path: Path, undrawn: None) -> None:
    write_tree(tmp_path / "tree" / "train", {"a": 8, "b": 8}, size=32)
    write_tree(tmp_path / "tree" / "test", {"a": 3, "b": 2}, size=32, first_seed=14)  # 14 and 15
    images = ["data=folder", f"data.source={tmp_path}/tree", f"data.data_dir={tmp_path}/data"]
    tiny = [*TINY_VIT, "mix=none", "max_epochs=1", "batch_size=8", "trainer=cpu"]
    done = call("train.py", *images, *tiny, f"outputs={tmp_path}/outputs")
    assert done.returncode == 0, done.stderr
    assert "2 of 5 test images are training or validation images" in done.stderr
    metrics = json.loads((only_run(tmp_path / "outputs") / "metrics.json").read_text())
    assert metrics["seen_images"] == {"val": 0, "test": 2}


def test_a_preset_is_called_by_its_own_name(tmp_path: Path) -> None:
    """A preset is one YAML of a class that exists; its folder, row and metrics bear its name."""
    preset = "\n".join(each.removeprefix("model.").replace("=", ": ") for each in TINY_VIT[1:])
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "vit_small.yaml").write_text(f"defaults: [vit]\n{preset}\n")
    outputs = f"outputs={tmp_path}/outputs"
    own = ["--config-dir", str(tmp_path / "conf"), *TINY_DATA, outputs, "trainer=cpu"]
    done = call("train.py", *own, "model=vit_small", "max_epochs=1", "mix=none")
    assert done.returncode == 0, done.stderr
    run_dir = only_run(tmp_path / "outputs")
    assert run_dir.name.startswith("vit_small-ce-shuffle-")
    assert json.loads((run_dir / "metrics.json").read_text())["choices"]["model"] == "vit_small"
    assert " model=vit_small " in done.stdout
    second = request_of(f"pretrained={run_dir}", "trainer=cpu")
    check_training(second)  # though Hydra finds no such choice here
    assert second.run_dir.name.startswith("vit_small-ce-shuffle-")


def test_a_stopped_run_says_so(tmp_path: Path) -> None:
    endless, log = [*TINY, "max_epochs=5000", f"outputs={tmp_path}"], tmp_path / "log"
    forked = fork(log, "train.py", *endless, "seed=1")
    wait_until(forked, log, "epoch 1/")
    forked.terminate()
    with start("train.py", *endless) as process:
        wait_for(process, "epoch 1/")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    forked.join()
    assert (forked.exitcode, process.returncode) == (143, 130)
    assert "interrupted" in err
    assert "stopped by SIGTERM: the same command goes on where it was" in log.read_text()
    assert "Traceback" not in err and "Traceback" not in log.read_text()
    assert not list(tmp_path.rglob("metrics.json")) and not list(tmp_path.rglob("error.txt"))


class ForkedRank(subprocess.Popen):
    """A rank of a training, whose imports are done, in place of a process of its own."""

    log: ClassVar[Path]

    def __init__(self, words: list[str], env: dict[str, str], preexec_fn: object) -> None:
        self.process = fork(self.log, Path(words[1]).name, *words[2:], **env)
        self.pid, self.kill = self.process.pid, self.process.kill

    def wait(self, timeout: float | None = None) -> int:
        self.process.join()
        return self.process.exitcode or 0


def test_two_processes_train_one_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ForkedRank.log = tmp_path / "log"
    monkeypatch.setattr(ranks, "subprocess", SimpleNamespace(Popen=ForkedRank))
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"outputs={tmp_path}"]
    net = [*TINY_DATA, *TINY_VIT, "max_epochs=1", "batch_size=32", "sampler=class_aware", "mix=cmo",
           "sam=0.05"]  # fmt: skip
    done = call("train.py", *net, "optimizer=muon", *ddp)  # whose steps agree without being told
    assert done.returncode == 0, done.stderr + ForkedRank.log.read_text()
    metrics = json.loads((only_run(tmp_path) / "metrics.json").read_text())
    rows = list(csv.DictReader((only_run(tmp_path) / "history.csv").open()))
    assert float(rows[0]["images"]) == 2 * 32 * (360 // 2 // 32)
    assert metrics["val"]["balanced_accuracy"] == pytest.approx(
        float(rows[0]["val_balanced_accuracy"]), abs=1e-6
    )
    ForkedRank.log = tmp_path / "failed"
    wild = ["optimizer.lr=1e30", "optimizer=sgd", "gradient_clip=null"]
    failed = call("train.py", *net, *ddp, *wild)
    assert failed.returncode == 1
    assert "loss became" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr + ForkedRank.log.read_text()


def test_ranks_are_processes_of_the_same_command(capfd: pytest.CaptureFixture[str]) -> None:
    slip = ranks.run_ranks("train", ["model=vitt"], OmegaConf.create({"devices": 2}))
    assert slip == 2
    lines = set(capfd.readouterr().err.splitlines())  # the first to end ends the other
    assert len(lines) == 1 and "there is no model=vitt" in lines.pop()


@pytest.mark.skipif(not SHARED.exists(), reason="the real archive does not stand beside")
def test_the_real_archive_trains(tmp_path: Path) -> None:
    source = SHARED / "data" / "cifar10_course.zip"
    real = [f"data.source={source}", f"data.data_dir={tmp_path}", "max_epochs=1"]
    done = call(
        "train.py", *real, *TINY_COATNET, "batch_size=256", "mix=none", f"outputs={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((only_run(tmp_path) / "metrics.json").read_text())
    assert (sum(metrics["train_counts"]), metrics["val"]["n"], metrics["test"]["n"]) == (
        32022,
        3558,
        4870,
    )
    assert metrics["test"]["accuracy"] > 0.15  # chance is 0.1


def test_a_finished_net_takes_images_of_another_size(
    vit_run: Path, tmp_path: Path, undrawn: None
) -> None:
    """Untrained, with its own head: what it says is what the interpolated positions give."""
    asked = [f"pretrained={vit_run}", "lightweight=tome", "max_epochs=0", "data.image_size=64"]
    done = call("train.py", *asked, "trainer=cpu", f"outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    old, new = (
        read_checkpoint(each / "checkpoints" / "best.ckpt")["state_dict"]
        for each in (vit_run, only_run(tmp_path))
    )
    before = old.pop("net.position_embedding")
    after = new["net.net.position_embedding"]
    assert before.shape[1] < after.shape[1]
    torch.testing.assert_close(after, positions(before, after.shape[1], num_prefix=1))
    for name, value in old.items():
        if name.startswith("net."):
            assert torch.equal(value, new[f"net.{name}"])


def test_only_the_figures_of_a_grids_short_jobs_are_left_out() -> None:
    assert not draws_figures("auto", in_grid=True, seconds=9.9)
    assert draws_figures("auto", in_grid=True, seconds=10)
    assert draws_figures("auto", in_grid=False, seconds=0)
    assert draws_figures(True, in_grid=True, seconds=0)
    assert not draws_figures(False, in_grid=False, seconds=60)
