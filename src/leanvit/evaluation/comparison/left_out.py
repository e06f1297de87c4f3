"""Runs that no comparison can show, and why: they failed, or what they left is damaged.

One damaged file is no reason to show nothing: the run is named, and the rest compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leanvit.balanced_accuracy import balanced_accuracy
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import table_of
from leanvit.evaluation.comparison.looked_through import FEWEST, keep, mark, marks
from leanvit.evaluation.comparison.runs import read_config, read_history, read_predictions, read_run
from leanvit.evaluation.measure.metrics import confusion_counts

HOW_TO_END_IT = (
    "The same command tries these again; without their folders, or with another run=, they are not "
    "listed."
)
CHECKED = ("n", "accuracy", "balanced_accuracy")


def sort_out(runs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Of finished runs those that can be compared, and those that are damaged."""
    known = {folder: marks(folder) for folder in {path.parent for path in runs}}
    looked: dict[Path, dict[str, str]] = {folder: {} for folder in known}
    damaged: dict[Path, None] = {}
    for path in runs:
        before = mark(path)
        if before and known[path.parent].get(path.name) == before:
            continue
        if damage(path):
            damaged[path] = None
        elif before and mark(path) == before:
            looked[path.parent][path.name] = before
    for folder, own in looked.items():
        if len(own) >= FEWEST:
            keep(folder, known[folder] | own)
    return [path for path in runs if path not in damaged], list(damaged)


def damage(path: Path) -> str | None:
    """What is wrong with what a finished run left, in one line; None: nothing."""
    try:
        told = read_run(path)
        # whatever a comparison stumbles over, it stumbles over alone
        table_of("", "", [{**told, "path": path}])
        check_predictions(path, told)
        read_config(path)
        if (path / "history.csv").exists():
            check_history(path)
    except LeanvitError as error:
        return str(error)
    except Exception as error:
        return f"{path} is damaged ({type(error).__name__}: {error}): train again"
    return None


def check_predictions(path: Path, told: Mapping[str, Any]) -> None:
    """See that they are of the images that the figures are of, and right as often as these say.

    Args:
        told: the figures, see :func:`comparison.runs.read_run`.

    Raises:
        LeanvitError: they are not.
    """
    found = read_predictions(path)
    for part in ("val", "test"):
        labels, figures = found[f"{part}_labels"], told[part]
        counts = confusion_counts(found[f"{part}_probabilities"], labels)
        said = len(labels), counts.trace() / len(labels), balanced_accuracy(counts)
        of_both = zip(said, (figures[key] for key in CHECKED), strict=True)
        if not all(abs(found_so - told_so) < 1e-6 for found_so, told_so in of_both):
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


def how_far(path: Path) -> str:
    """How far a training came that is not finished."""
    try:
        rows = read_history(path) if (path / "history.csv").exists() else []
        config = read_config(path)
    except (LeanvitError, OSError, ValueError) as error:
        return str(error)
    if minutes := config.get("max_minutes"):
        done = sum(float(row["seconds"]) for row in rows) / 60
        return f"{done:.1f} of {minutes} minutes, running or interrupted"
    return f"epoch {len(rows)} of {config.get('max_epochs')}, running or interrupted"
