"""Linear warm-up, then half a cosine down (Loshchilov & Hutter, 2017), step by step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from leanvit.values import Share, Whole


class Cosine(LambdaLR):
    """Learning rate as a fraction of the optimizer's, by step.

    Args:
        num_steps: steps of the whole training.
        warmup_fraction: share of the steps spent rising from zero.
        final_fraction: of the learning rate, reached at the last step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_steps: Whole,
        warmup_fraction: Share = 0.05,
        final_fraction: Share = 0.0,
    ) -> None:
        num_warmup = round(warmup_fraction * num_steps)

        def fraction(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / num_warmup
            progress = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
            return final_fraction + (1 - final_fraction) * self.falling(progress)

        super().__init__(optimizer, fraction)

    @staticmethod
    def falling(progress: float) -> float:
        """From 1 to 0 while ``progress`` goes from 0 to 1."""
        return (1 + math.cos(math.pi * progress)) / 2
