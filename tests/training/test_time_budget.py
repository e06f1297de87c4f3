"""A training that lasts so many minutes, by a clock that only training steps move."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from leanvit.augment.none import NoAugment, NoMix
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import with_validation
from leanvit.optimizers.sgd import sgd
from leanvit.samplers.balanced import Balanced
from leanvit.samplers.shuffle import Shuffle
from leanvit.training import callbacks
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit
from leanvit.training.time_budget import NEVER
from leanvit.training.triangular import Triangular
from leanvit.weights import read_checkpoint

STEPS = 6  # of an epoch


class Clocked(Classifier):
    """Each step takes as long as ``pace`` says of its number."""

    now, pace = 0.0, staticmethod(lambda step: 1.0)
    steps: ClassVar[list[tuple[float, bool]]] = []  # rate and whether the late loss held
    dies_at: int | None = None

    def training_step(self, *given: Any) -> Any:
        if len(self.steps) == self.dies_at:
            raise RuntimeError("killed")
        late = self.current_epoch >= self.late_epoch
        self.steps.append((self.trainer.optimizers[0].param_groups[0]["lr"], late))
        Clocked.now += self.pace(len(self.steps))
        return super().training_step(*given)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(perf_counter=lambda: Clocked.now)
    monkeypatch.setattr(callbacks, "time", fake)
    for name, value in {"now": 0.0, "steps": [], "dies_at": None}.items():
        monkeypatch.setattr(Clocked, name, value)
    monkeypatch.setattr(Clocked, "pace", staticmethod(lambda step: 1.0))


def train(run_dir: Path, seconds: float, **options: Any) -> list[dict[str, str]]:
    """The history of a training of so many seconds."""
    images = torch.randint(256, (64, 3, 8, 8), dtype=torch.uint8)
    everything = ImageSet(images, torch.arange(64) % 4, tuple("abcd"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    data = ImageDataModule(splits, Shuffle, NoAugment(), 8, late_sampler=Balanced, late_epoch=NEVER)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    module = Clocked(
        net,
        nn.CrossEntropyLoss(),
        NoMix(),
        lambda groups: sgd(groups, lr=1.0),
        lambda optimizer, num_steps: Triangular(optimizer, num_steps, warmup_fraction=0.25),
        *data.statistics(),
        classes=tuple("abcd"),
        late_epoch=NEVER,
    )
    training = fit(module, data, run_dir, max_epochs=1, max_minutes=seconds / 60, late_start=0.5,
        **{"accelerator": "cpu", **options})  # fmt: skip
    assert training.stopped is None
    assert data.deferred is not None and data.deferred.start == data.late_epoch
    return list(csv.DictReader((run_dir / "history.csv").open()))


def test_it_ends_in_time_within_an_epoch_and_its_rate_falls_to_zero(tmp_path: Path) -> None:
    rows = train(tmp_path, seconds=20)
    assert [float(row["images"]) for row in rows] == [48, 48, 48, 16]  # 20 steps of 8 images
    rates = [rate for rate, _ in Clocked.steps]
    wanted = [min(t / 5, (20 - t) / 15) for t in range(1, 20)]
    assert rates[1:] == pytest.approx(wanted, abs=1e-5)
    # of 0.5 of the time, from the epoch on that begins after it
    assert [late for _, late in Clocked.steps] == [False] * 12 + [True] * 8
    assert (tmp_path / "checkpoints" / "best.ckpt").exists() and "val_accuracy" in rows[-1]


def test_a_slower_machine_takes_fewer_steps_in_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Clocked, "pace", staticmethod(lambda step: 1.0 if step <= 10 else 3.0))
    rows = train(tmp_path, seconds=40)
    assert len(Clocked.steps) == 20 and Clocked.now == 40  # 10 of 1 s, 10 of 3 s
    assert Clocked.steps[-1][0] == pytest.approx(3 / 30, abs=1e-5)  # before the last three seconds
    assert len(rows) == 4
    assert "epoch 1/7" in (said := capsys.readouterr().err) and "epoch 4/4" in said


@pytest.mark.parametrize("dies_at", [14, 19])
def test_a_killed_one_has_the_time_that_is_left(tmp_path: Path, dies_at: int) -> None:
    Clocked.dies_at = dies_at
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, seconds=20)
    kept = dies_at // STEPS * STEPS
    Clocked.dies_at, Clocked.steps, Clocked.now = None, [], 1000.0  # its own clock
    rows = train(tmp_path, seconds=20)
    assert len(Clocked.steps) == 20 - kept and len(rows) == 4
    assert sum(float(row["seconds"]) for row in rows) == 20
    assert Clocked.steps[0][0] == pytest.approx((20 - kept) / 15, abs=1e-5)
    assert all(late for _, late in Clocked.steps)
    again = train(tmp_path, seconds=20)  # it was killed in the evaluation: nothing is trained
    assert again == rows and len(Clocked.steps) == 20 - kept


def test_an_accumulated_step_is_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(callbacks, "FIRST_STEPS", 2)  # which are over before the first of four is
    monkeypatch.setattr(callbacks, "WARM_STEPS", 0)
    rows = train(tmp_path, seconds=9, accumulate=4)
    # steps after 4, 6 and 10 batches; the first at which the time is over is the third
    assert [float(row["images"]) for row in rows] == [48, 32]
    said = capsys.readouterr().err
    assert "of training to go" in said
    assert "late choices" not in said  # from the second epoch on


def test_late_choices_that_no_epoch_came_for_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, seconds=4)
    assert "the late choices never held" in capsys.readouterr().err


def test_a_best_net_that_no_row_tells_of_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_at_the_last(state: dict[str, Any], path: Path, before: Path | None = None) -> None:
        if path.name == "last.ckpt" and state["epoch"] == 2:
            raise RuntimeError("killed")
        write(state, path, before)

    write = callbacks.write_checkpoint
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(callbacks, "write_checkpoint", die_at_the_last)
        train(tmp_path, seconds=20, monitor="val/loss")
    best = tmp_path / "checkpoints" / "best.ckpt"
    state = {**read_checkpoint(best), "epoch": 2}  # whether it was better or not
    write(state, best)
    rows = train(tmp_path, seconds=20, monitor="val/loss")
    kept = read_checkpoint(best)
    losses = [float(row["val_loss"]) for row in rows]
    assert kept["epoch"] >= 2 and losses[kept["epoch"]] == pytest.approx(min(losses[2:]))


def test_a_trial_that_came_to_its_end_stays_finished(tmp_path: Path) -> None:
    medians = [None, None, None, 2.0]  # which the last epoch, not judged, is behind
    train(tmp_path, seconds=20, medians=medians)
    before = (tmp_path / "history.csv").read_text()
    train(tmp_path, seconds=20, medians=medians)  # killed in its evaluation
    assert (tmp_path / "history.csv").read_text() == before
