"""leanvit: vision transformers on small, imbalanced image sets, compared honestly."""

from typing import TYPE_CHECKING

from leanvit import models

if TYPE_CHECKING:
    from leanvit.evaluation.measure.predict import Trained

__all__ = ["load", "models"]


def load(run: str, checkpoint: str = "best") -> "Trained":
    """The trained net of a run directory, in evaluation mode, with what it needs to classify.

    Args:
        run: the directory, from here or from the repository's root.
        checkpoint: "best", "last", or a file.

    Raises:
        LeanvitError: no such run, no checkpoint, or one of another model.
    """
    from leanvit.app.finished import find  # Hydra and torch are imported for this alone
    from leanvit.app.nets import load_run

    trained = load_run(find(run), checkpoint)
    trained.net.eval()
    return trained
