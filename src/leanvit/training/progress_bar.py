"""The bar of an epoch in a terminal; what the epoch came to is a line above it, which stays."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, on standard error, with epochs counted as everywhere: from 1."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def _get_train_description(self, current_epoch: int) -> str:
        num = self.trainer.max_epochs
        of_all = f"/{num}" if num != -1 else ""  # minutes say it after the first step
        return f"{f'epoch {current_epoch + 1}{of_all}':{len('Validation')}}"

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Nothing: the line of each epoch says it."""
        return {}
