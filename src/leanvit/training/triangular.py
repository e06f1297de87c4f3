"""Straight up, then straight down: the schedule of short trainings (Smith & Topin, 2018,
https://arxiv.org/abs/1708.07120; Jordan, 2024, https://arxiv.org/abs/2404.00498)."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from leanvit.values import Share, Whole


class Triangular(LambdaLR):
    """Learning rate as a fraction of the optimizer's, by step.

    Args:
        num_steps: steps of the whole training.
        warmup_fraction: share of the steps spent rising from zero.
        final_fraction: of the learning rate, reached after the last step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_steps: Whole,
        warmup_fraction: Share = 0.0,
        final_fraction: Share = 0.0,
    ) -> None:
        num_warmup = round(warmup_fraction * num_steps)

        def fraction(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / num_warmup
            progress = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
            return 1 - (1 - final_fraction) * progress

        super().__init__(optimizer, fraction)
