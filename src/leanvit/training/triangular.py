"""Straight up, then straight down: the schedule of short trainings (Smith & Topin, 2018,
https://arxiv.org/abs/1708.07120; Jordan, 2024, https://arxiv.org/abs/2404.00498)."""

from leanvit.training.cosine import Cosine


class Triangular(Cosine):
    """Learning rate as a fraction of the optimizer's, by step; arguments as of :class:`Cosine`."""

    @staticmethod
    def falling(progress: float) -> float:
        return 1 - progress
