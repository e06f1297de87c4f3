"""A training that lasts as long as it may: schedule and late choices fitted to time, not to epochs.

Source: the learning rate as a function of the share of the budget that is used (Li, Yumer and
Ramanan, "Budgeted Training", ICLR 2020, https://arxiv.org/abs/1905.04753); here of its time.
"""

import math
import sys
from typing import Any

import lightning as L

from leanvit.training.callbacks import History
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.trainable import Trainable

NUM_STEPS = 1_000_000  # of the schedule: millionths of the time
NEVER = 1_000_000  # an epoch that no training reaches


class TimeBudget(L.Callback):
    """Ends a training with the step in which ``seconds`` of training steps are over.

    Validation is not counted, as in ``history.csv``, nor what a killed process did after its last
    whole epoch. After each step the schedule stands where the share of the time that is used says,
    so that a rate that falls to zero is there in time beside any neighbour. No two trainings have
    the same steps: resuming ends in time, not with the same bits.

    Args:
        late_start: share of the time after which the late choices hold, from the next epoch on.

    Attributes:
        used: share of the time at the last step; the same in all processes.
    """

    def __init__(self, seconds: float, late_start: float, history: History) -> None:
        self.seconds, self.late_start, self.history = seconds, late_start, history
        self.used = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Trainable)
        pl_module.num_steps, pl_module.schedule_step = NUM_STEPS, lambda: self.look(trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.used = sum(row["seconds"] for row in self.history.rows) / self.seconds
        if done := len(self.history.rows):
            trainer.fit_loop.max_epochs = max(done, math.ceil(done / self.used))
        if self.used >= 1:  # it was killed in the evaluation
            trainer.fit_loop.max_epochs, trainer.should_stop = done, True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.used >= self.late_start:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            for part in (pl_module, data):
                if isinstance(part, Classifier | ImageDataModule) and part.late_epoch == NEVER:
                    part.begin_late(trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, Classifier) or not trainer.is_global_zero:
            return
        has_late = data.late_sampler or pl_module.is_deferred
        if has_late and pl_module.late_epoch == NEVER and self.used >= 1:
            print(
                f"the late choices never held: no epoch began after {self.late_start:g} of the "
                "time, give more max_minutes or an earlier late.start",
                file=sys.stderr,
            )

    def look(self, trainer: L.Trainer) -> int:
        """The step of the schedule after a step of the optimizer, in :data:`NUM_STEPS`."""
        used = self.history.elapsed() / self.seconds
        self.used = trainer.strategy.broadcast(used)  # or the processes' weights would part
        return min(NUM_STEPS, round(self.used * NUM_STEPS))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if self.used >= 1:
            trainer.should_stop = True  # Lightning validates, and ends the epoch here
        if not self.used:  # the first batches of an accumulated step
            return
        # what is told of the way to go; beyond this epoch while there is time
        done = trainer.current_epoch + (index + 1) / int(trainer.num_training_batches)
        trainer.fit_loop.max_epochs = math.ceil(done / min(1.0, self.used))
