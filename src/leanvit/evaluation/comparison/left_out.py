"""Runs that no comparison can show, and why: they failed, or what they left is damaged.

One damaged file is no reason to show nothing: the run is named, and the rest compared.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leanvit.balanced_accuracy import balanced_accuracy
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.runs import read_config, read_history, read_predictions, read_run
from leanvit.evaluation.measure.metrics import confusion_counts

CHECKED = ("n", "accuracy", "balanced_accuracy")


def sort_out(runs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Of finished runs those that can be compared, and those that are damaged."""
    damaged = [path for path in runs if damage(path)]
    return [path for path in runs if path not in damaged], damaged


def damage(path: Path) -> str | None:
    """What is wrong with what a finished run left, in one line; None: nothing."""
    try:
        compare([path])  # whatever it stumbles over, it stumbles over alone
        check_predictions(path)
        read_config(path)
        if (path / "history.csv").exists():
            check_history(path)
    except LeanvitError as error:
        return str(error)
    except Exception as error:
        return f"{path} is damaged ({type(error).__name__}: {error}): train again"
    return None


def check_predictions(path: Path) -> None:
    """See that they are of the images that the figures are of, and right as often as these say.

    Raises:
        LeanvitError: they are not.
    """
    found, told = read_predictions(path), read_run(path)
    for part in ("val", "test"):
        labels, figures = found[f"{part}_labels"], told[part]
        counts = confusion_counts(found[f"{part}_probabilities"], labels)
        said = len(labels), counts.trace() / len(labels), balanced_accuracy(counts)
        if not np.allclose(said, [figures[key] for key in CHECKED], rtol=0, atol=1e-6):
            raise LeanvitError(f"{path}/predictions.npz is not of metrics.json: train again")


def check_history(path: Path) -> None:
    """See that there are epochs, in numbers.

    Raises:
        LeanvitError: there are none.
    """
    try:
        rows = [[float(row[name] or 0) for name in ("epoch", "seconds", *row)]
                for row in read_history(path)]  # fmt: skip
        if not rows:
            raise ValueError("it holds no epoch")
    except (ValueError, KeyError, TypeError) as error:
        raise LeanvitError(f"{path}/history.csv is damaged ({error}): train again") from error


def read_error(path: Path) -> str:
    """The one line that says why a run failed, or why it cannot be shown."""
    if (path / "metrics.json").exists() and (found := damage(path)):
        return found
    note = path / "error.txt"
    lines = note.read_text(encoding="utf-8", errors="replace").splitlines() if note.exists() else []
    return lines[0] if lines else "stopped without a message: was the disk full?"
