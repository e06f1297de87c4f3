"""Early stopping: an end before ``max_epochs`` where validation does not get better."""

import sys
from collections.abc import Sequence

import lightning as L

from leanvit.training.callbacks import History


class Patience(L.Callback):
    """Ends a training after ``num_epochs`` epochs without a better ``monitor``.

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
        figures = [row[self.monitor.replace("/", "_")] for row in self.history.rows]
        if not figures:
            return
        since = epochs_since_best(figures, self.monitor)
        if min(since, len(figures) - self.first) >= self.num_epochs:
            trainer.should_stop = True
            if trainer.is_global_zero and len(figures) != trainer.max_epochs:
                print(
                    f"training ends with epoch {len(figures)}: {self.monitor} was best in epoch "
                    f"{len(figures) - since} (patience={self.num_epochs})",
                    file=sys.stderr,
                )


def epochs_since_best(figures: Sequence[float], monitor: str) -> int:
    """Epochs after the first one that none was better than; of a loss the smallest is best."""
    best = min(figures) if monitor.endswith("loss") else max(figures)
    return len(figures) - 1 - figures.index(best)
