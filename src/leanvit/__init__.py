"""leanvit: vision transformers on small, imbalanced image sets, compared honestly."""

import os
from typing import TYPE_CHECKING

from leanvit import models

if TYPE_CHECKING:
    from leanvit.evaluation.measure.trained_net import TrainedNet

__all__ = ["load", "models"]


def load(run: str | os.PathLike, checkpoint: str = "best") -> "TrainedNet":
    """The trained net of a run directory, an ``nn.Module`` in evaluation mode on the CPU that knows
    its classes and how its images are prepared; see
    :class:`leanvit.evaluation.measure.trained_net.TrainedNet`.

    Args:
        run: the directory, from here or from the repository's root.
        checkpoint: "best", "last", or a file.

    Raises:
        LeanvitError: no such run, no checkpoint, or one of another model.
    """
    from leanvit.app.finished import find  # Hydra and torch are imported for this alone
    from leanvit.app.nets import load_run
    from leanvit.evaluation.comparison.runs import read_run
    from leanvit.evaluation.measure.trained_net import TrainedNet

    found = find(os.fspath(run))
    if (found.path / "pretraining.json").exists():
        read_run(found.path)  # says that it has no classes yet
    return TrainedNet(load_run(found, checkpoint))
