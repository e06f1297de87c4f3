"""What W&B and TensorBoard are told of a run: all of it once, however often it was killed."""

import csv
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
import wandb_files
from composed import config_of
from scripts import TINY_DATA, TINY_VIT, fork, kill_at, only_run

from leanvit.app import wandb_runs
from leanvit.app.loggers import check_logger, numbers
from leanvit.errors import LeanvitError

TINY = [*TINY_DATA, *TINY_VIT, "mix=none", "trainer=cpu", "batch_size=64"]


def done(log: Path, *arguments: str, **extra: str) -> None:
    """In a child: W&B's own process ends with it."""
    child = fork(log, "train.py", *arguments, **extra)
    child.join()
    assert child.exitcode == 0, log.read_text()


def killed_and_done(folder: Path, *own: str) -> Path:
    log, asked = folder / "log", [*TINY, "max_epochs=3", f"outputs={folder}/o", *own]
    kill_at(fork(log, "train.py", *asked), log, "epoch 2/")
    done(log, *asked)
    assert "going on from" in log.read_text()
    return only_run(folder / "o")


def test_a_killed_run_is_one_whole_piece_in_wandb_with_its_test_figures(tmp_path: Path) -> None:
    run_dir = killed_and_done(tmp_path, "logger=wandb", "+logger.name=mine")
    found = wandb_files.read(run_dir)  # of the only piece there is
    rows = list(csv.DictReader((run_dir / "history.csv").open()))
    epochs = [row for row in found["history"] if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert [row["trainer/global_step"] for row in epochs] == [5, 10, 15]
    for row, kept in zip(epochs, rows, strict=True):
        assert row["val/loss"] == float(kept["val_loss"]) and row["lr"] == float(kept["lr"])
    metrics, summary = json.loads((run_dir / "metrics.json").read_text()), found["summary"]
    assert summary["test/accuracy"] == metrics["test"]["accuracy"]
    assert summary["best_val/balanced_accuracy"] == metrics["val"]["balanced_accuracy"]
    assert summary["cost/macs"] == metrics["cost"]["macs"]
    assert summary["test/confusion_matrix_table/nrows"] == 10 * 10
    assert summary["figures/confusion_matrix/_type"] == "image-file"
    assert found["config"]["model"]["dim"] == 24 and found["config"]["choices"]["loss"] == "ce"
    assert {"model=vit", "seed=0", "model.dim=24"} <= set(found["tags"])
    assert found["name"] == "mine"
    assert found["id"] == wandb_runs.kept_id(run_dir) not in run_dir.name


def test_a_killed_run_is_whole_in_tensorboard_with_its_test_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run_dir = killed_and_done(tmp_path, "logger=tensorboard")
    told = EventAccumulator(str(run_dir / "tensorboard"))
    told.Reload()
    assert [each.step for each in told.Scalars("val/loss")] == [5, 10, 15]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    (accuracy,) = told.Scalars("test/accuracy")
    assert accuracy.value == pytest.approx(metrics["test"]["accuracy"])
    assert "figures/confusion_matrix" in told.Tags()["images"]
    rows = list(csv.DictReader((run_dir / "history.csv").open()))
    rates = [each.value for each in told.Scalars("lr")]
    assert rates == pytest.approx([float(row["lr"]) for row in rows], abs=1e-8)
    started = told._plugin_to_tag_to_content["hparams"]["_hparams_/session_start_info"]
    hparams = HParamsPluginData.FromString(started).session_start_info.hparams
    assert {"loss": "ce", "model": "vit"}.items() <= {
        key: each.string_value for key, each in hparams.items()
    }.items()
    assert hparams["model.dim"].number_value == 24 and hparams["batch_size"].number_value == 64
    assert hparams["optimizer.lr"].number_value > 0


def test_the_jobs_of_a_grid_are_a_group_of_runs_of_their_own(tmp_path: Path) -> None:
    asked = [*TINY, "max_epochs=1", "logger=wandb", "seed=0,1", f"outputs={tmp_path}/o", "-m"]
    done(tmp_path / "log", *asked)
    found = [wandb_files.read(path.parent) for path in (tmp_path / "o").glob("*/*/config.yaml")]
    (grid,) = (tmp_path / "o" / "grids").iterdir()
    assert [each["group"] for each in found] == [f"train-{grid.name}"] * 2
    assert len({each["id"] for each in found}) == 2
    assert {tag for each in found for tag in each["tags"]} >= {"seed=0", "seed=1"}


class Refuses(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_whoever_is_logged_in_without_a_network_logs_offline(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes every call and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert not wandb_runs.answers(url, seconds=0.1)
    assert wandb_runs.answers(server)  # "not found" is an answer
    for key, told in {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": url}.items():
        monkeypatch.setenv(key, told)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_runs.mode() == "offline"  # nobody listens there any more
    assert "does not answer: it is logged offline" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_BASE_URL", server)
    assert wandb_runs.mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_runs.mode() == "disabled"


def test_a_server_that_takes_nothing_is_left_for_a_run_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from functools import partial

    from lightning.pytorch.loggers import WandbLogger

    tried = []

    def init(**given: object) -> SimpleNamespace:
        tried.append(given)
        if given["mode"] == "online":
            raise wandb.errors.CommError("run initialization has timed out")
        return SimpleNamespace(resumed=False, id=given["id"], dir=str(tmp_path / "wandb/x/files"))

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb_runs, "answers", lambda url: True)
    build = partial(WandbLogger, project="p", id="own", group="g")
    older = tmp_path / "wandb" / "offline-run-1-other"  # what a killed process left
    older.mkdir(parents=True)
    wandb_runs.opened(build, tmp_path, ["a", "b" * 65], {})
    assert [each["mode"] for each in tried] == ["online", "offline"]
    assert [(each["id"], each["group"], each["tags"]) for each in tried] == [
        ("own", "g", ["a"])
    ] * 2
    assert "timed out): it is logged offline" in capsys.readouterr().err
    assert not older.exists()


def test_what_a_server_knows_is_not_told_it_again(tmp_path: Path) -> None:
    told = []
    run = wandb_runs.WholeRun(save_dir=tmp_path)
    run._experiment = SimpleNamespace(log=told.append)
    run.known = 10
    for step in (5, 10, 15, None):
        run.log_metrics({"x": 1.0}, step)
    assert told == [{"x": 1.0, "trainer/global_step": 15}, {"x": 1.0}]


@pytest.mark.parametrize("logger", ["wandb", "tensorboard"])
def test_a_word_that_a_logger_does_not_know_is_refused(logger: str) -> None:
    check_logger(config_of(f"logger={logger}", "+logger.name=x" if logger == "wandb" else "seed=1"))
    with pytest.raises(LeanvitError, match=r"no logger.nme: did you mean logger.name"):
        check_logger(config_of(f"logger={logger}", "+logger.nme=x"))


def test_a_value_without_a_logger_to_take_it_is_refused() -> None:
    check_logger(config_of("logger=csv"))
    with pytest.raises(LeanvitError, match=r"logger.id is for W&B or TensorBoard"):
        check_logger(config_of("+logger.id=x"))


def test_numbers_of_nested_blocks() -> None:
    told = {"test": {"accuracy": 0.5, "n": 3, "name": "a", "ok": True, "shots": {"few": None}}}
    assert numbers(told) == {"test/accuracy": 0.5, "test/n": 3}
