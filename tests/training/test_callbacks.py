"""History, averaged weights and checkpoints."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.training import callbacks
from leanvit.training.callbacks import (
    AtomicCheckpoints,
    AveragedWeights,
    CheckpointHere,
    History,
    write_rows,
)
from leanvit.training.fit import check_match, read_checkpoint
from leanvit.training.trainable import Trainable


def test_averaged_weights_equal_a_literal_loop_and_copy_integers() -> None:
    callback = AveragedWeights(decay=0.9)
    averaged, counter = torch.zeros(3), torch.tensor(0)
    expected = torch.zeros(3)
    for n in range(1, 200):
        callback._latest_update_step = n
        current = torch.full((3,), float(n))
        callback._average([averaged], [current], torch.tensor(n))
        callback._average([counter], [torch.tensor(n)], torch.tensor(n))
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * current
        torch.testing.assert_close(averaged, expected)
    assert counter == 199
    assert averaged[0] == pytest.approx(199 - 9, abs=0.1)  # lags by decay / (1 - decay) steps


class Going(L.Trainer):
    """A trainer of 921 steps that only says where it is."""

    is_global_zero, estimated_stepping_batches, global_step = True, 921, 0
    max_epochs = 3
    accumulate_grad_batches = 1


@pytest.mark.parametrize(("pace", "words"), [(2.0, "30 min"), (0.01, "9 s"), (1e-5, "1 s")])
def test_the_time_to_go_is_told_once_from_the_pace_of_the_first_steps(
    pace: float,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = [100.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    history = History(tmp_path / "history.csv")
    module, trainer = Trainable.__new__(Trainable), Going.__new__(Going)
    history.num_images = 0
    for step in range(1, 40):
        clock[0] += 30.0 if step <= 6 else pace  # the first ones are slow
        trainer.global_step = step
        history.on_train_batch_end(trainer, module)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"about {words} of training to go, validation not counted"  # 900 steps


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.01, "1 s"), (4.0, "28 s"), (40.0, "5 min"), (2000.0, "3.9 h")]
)
def test_an_epoch_leaves_a_line_with_what_is_left(seconds: float, words: str) -> None:
    row = {"epoch": 3, "train_loss": 1.25, "val_accuracy": 0.5, "val_balanced_accuracy": 0.25,
           "seconds": 3.5}  # fmt: skip
    told = "train loss 1.250, val accuracy 0.5000, balanced 0.2500, 3.5 s"
    assert callbacks._sentence(row, 10, [seconds]) == f"epoch 3/10: {told}, {words} to go"
    assert callbacks._sentence({**row, "epoch": 10}, 10, [seconds]) == f"epoch 10/10: {told}"
    # the first epochs were slow, and the last one was stopped for an hour
    epochs = [*[5e5] * 5, seconds, seconds, seconds, seconds / 2, 3600.0 + seconds]
    assert callbacks._sentence(row, 10, epochs) == f"epoch 3/10: {told}, {words} to go"


def test_rows_are_whole_or_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.csv"
    write_rows([{"epoch": 0, "lr": 0.1}], path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", fail)
    with pytest.raises(LeanvitError, match="no space left"):
        write_rows([{"epoch": 0, "lr": 0.1}, {"epoch": 1, "lr": 0.2}], path)
    assert list(csv.DictReader(path.open())) == [{"epoch": "0", "lr": "0.1"}]


def test_a_checkpoint_is_read_back_or_refused(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"state_dict": net.state_dict()}, path)
    saved = read_checkpoint(path)["state_dict"]
    check_match(path, saved, net.state_dict())
    with pytest.raises(LeanvitError, match=r"weight is \(2, 3\), not \(5, 3\)"):
        check_match(path, saved, nn.Linear(3, 5).state_dict())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LeanvitError, match="damaged"):
        read_checkpoint(path)
    with pytest.raises(LeanvitError, match="no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_the_best_score_is_known_after_the_run_has_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    old = CheckpointHere(before, filename="best", monitor="val/accuracy", mode="max")
    path = str(before / "best.ckpt")
    old.best_model_score, old.best_model_path = torch.tensor(0.8), path
    old.best_k_models, old.kth_best_model_path = {path: torch.tensor(0.8)}, path
    new = CheckpointHere(after, filename="best", monitor="val/accuracy", mode="max")
    new.load_state_dict(old.state_dict())
    assert new.best_model_score == torch.tensor(0.8)
    assert new.best_model_path == str(after / "best.ckpt")
    trainer = L.Trainer(accelerator="cpu", logger=False)
    assert not new.check_monitor_top_k(trainer, torch.tensor(0.7))
    assert new.check_monitor_top_k(trainer, torch.tensor(0.9))


class Says(L.Trainer):
    """A trainer that only says what the last epoch's validation found."""

    strategy = SimpleNamespace(reduce_boolean_decision=bool)
    callback_metrics: ClassVar[dict[str, Tensor]] = {}


def test_of_equal_scores_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    def best() -> CheckpointHere:
        return CheckpointHere(tmp_path, filename="best", monitor="val/accuracy", mode="max")

    kept, best_epoch, path = best(), 0, str(tmp_path / "best.ckpt")
    epochs = [(0.9, 0.1), (1.0, 0.8), (1.0, 0.3), (1.0, 0.5), (1.0, 0.3), (0.9, 0.0)]
    for epoch, (score, loss) in enumerate(epochs):
        trainer = Says.__new__(Says)
        Says.callback_metrics = {"val/loss": torch.tensor(loss)}
        if kept.check_monitor_top_k(trainer, torch.tensor(score)):
            best_epoch, kept.best_model_score = epoch, torch.tensor(score)
            kept.best_k_models, kept.kth_best_model_path = {path: kept.best_model_score}, path
        state, kept = kept.state_dict(), best()  # killed after each epoch
        kept.load_state_dict({**state, "best_model_path": path, "kth_value": torch.tensor(0.0)})
    assert best_epoch == 2
    del state["best_loss"]  # as an older version left it: the earlier one stays
    kept = best()
    kept.load_state_dict({**state, "kth_value": torch.tensor(0.0)})
    assert not kept.check_monitor_top_k(trainer, torch.tensor(1.0))
