"""Early stopping: an end before ``max_epochs`` where validation does not get better, or is behind
others'."""

import sys
from collections.abc import Mapping, Sequence

import lightning as L

from leanvit.training.callbacks import History


class Patience(L.Callback):
    """Ends a training ``num_epochs`` epochs after that of ``best.ckpt``.

    It has no state: the rows of the history decide, which a resumed training has again. Rates still
    fall as if all epochs came.

    Args:
        first: epoch, from 0, before which none is counted: what begins there is waited for.
    """

    def __init__(self, num_epochs: int, monitor: str, history: History, first: int = 0) -> None:
        self.num_epochs, self.monitor, self.history = num_epochs, monitor, history
        self.first = first

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)  # it may have ended, and been killed in the evaluation

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        rows = self.history.rows
        if not rows:
            return
        since = epochs_since_best(rows, self.monitor)
        if min(since, len(rows) - self.first) >= self.num_epochs:
            trainer.should_stop = True
            if trainer.is_global_zero and len(rows) != trainer.max_epochs:
                print(
                    f"training ends with epoch {len(rows)}: {self.monitor} was best in epoch "
                    f"{len(rows) - since} (patience={self.num_epochs})",
                    file=sys.stderr,
                )


class Unpromising(L.Callback):
    """Ends a training whose best validation is behind the median of others' after as many epochs.

    It has no state either, and does not judge the last epoch.

    Args:
        medians: of the best ``monitor`` up to each epoch; None: that epoch is not judged.

    Attributes:
        why: it ended, in one line.
    """

    why: str | None = None

    def __init__(self, medians: Sequence[float | None], monitor: str, history: History) -> None:
        self.medians, self.monitor, self.history = medians, monitor, history

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)  # it may have been killed before it could say so

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        num = len(self.history.rows)
        median = self.medians[num - 1] if 0 < num <= len(self.medians) else None
        if median is None or num == trainer.max_epochs:
            return
        figures = [row[self.monitor.replace("/", "_")] for row in self.history.rows]
        is_loss = self.monitor.endswith("loss")
        best = min(figures) if is_loss else max(figures)
        if best > median if is_loss else best < median:
            trainer.should_stop = True
            self.why = (
                f"stopped early after epoch {num} of {trainer.max_epochs}: {self.monitor} "
                f"{best:.4f} is behind the median of earlier trials, {median:.4f}"
            )


def epochs_since_best(rows: Sequence[Mapping[str, float]], monitor: str) -> int:
    """Epochs after the one that is kept: the largest ``monitor``, or the smallest loss; of equals
    the smallest ``val/loss``, of these the first."""
    sign = 1 if monitor.endswith("loss") else -1
    ranks = [(sign * row[monitor.replace("/", "_")], row["val_loss"]) for row in rows]
    return len(ranks) - 1 - ranks.index(min(ranks))
