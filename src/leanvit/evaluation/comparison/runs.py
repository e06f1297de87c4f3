"""Read what finished and failed runs left."""

import csv
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, Int64
from numpy import ndarray

from leanvit.errors import LeanvitError
from leanvit.files import open_regular

# what a metrics.json must tell to be compared, and as what
FIELDS = {"name": str, "choices": dict, "overrides": dict, "choices_hash": str, "seed": int,
          "source": str, "classes": list, "val": dict, "test": dict, "cost": dict,
          "training": dict}  # fmt: skip
ALSO = {"train_counts": list, "machine": dict, "compressed": dict}
NUMBERS = ("n", "accuracy", "balanced_accuracy")  # of val and test


def find_runs(root: Path) -> list[Path]:
    """Directories of finished runs at or below ``root``, sorted.

    Raises:
        LeanvitError: there is no such folder.
    """
    found = _folders_with("metrics.json", root)
    # a run's own eval/ holds metrics.json of other images
    return sorted(path for path in found if "eval" not in path.relative_to(root).parts)


def find_failed(root: Path) -> list[Path]:
    """Directories at or below ``root`` of runs that ended with an error and never finished."""
    failed = _folders_with("error.txt", root)
    return sorted(path for path in failed if not (path / "metrics.json").exists())


def read_run(path: Path) -> dict[str, Any]:
    """The content of ``metrics.json`` of a finished run.

    Raises:
        LeanvitError: not a finished run; the message says what is missing.
    """
    if (path / "pretraining.json").exists():
        raise LeanvitError(
            f"{path} was pretrained and classifies nothing yet: python src/train.py "
            f"pretrained={path}"
        )
    for name in ("metrics.json", "predictions.npz"):
        if not (path / name).is_file():
            raise LeanvitError(
                f"{path} is not a finished run: {name} is missing "
                "(train it to its end with the same command, or name another folder)"
            )
    metrics = read_told(path / "metrics.json")
    missing = [field for field in FIELDS if field not in metrics]
    if missing == ["val"]:
        raise LeanvitError(
            f"{path} holds results on other images, which have no validation split to rank by: "
            "name the run itself"
        )
    if missing:
        raise LeanvitError(f"{path}/metrics.json lacks {', '.join(missing)}: train again")
    return metrics


def read_told(path: Path) -> dict[str, Any]:
    """What a run tells of itself in a JSON file; some may be missing, none is of another kind.

    Raises:
        LeanvitError: the file is damaged.
    """
    try:
        with open_regular(path) as file:
            told = json.load(file)
        if not isinstance(told, dict):
            raise ValueError(f"it holds no figures but {type(told).__name__}")
        for field, kind in (FIELDS | ALSO).items():
            if not isinstance(told.get(field, kind()), kind):
                raise ValueError(f"its {field} is {json.dumps(told[field])[:40]}")
        for part in ("val", "test"):
            for number in NUMBERS:
                if not isinstance(value := told.get(part, {}).get(number, 0), int | float):
                    raise ValueError(f"its {part}.{number} is {json.dumps(value)[:40]}")
    except (OSError, ValueError, RecursionError) as error:
        raise LeanvitError(f"{path} is damaged ({error}): train again") from error
    return told


def read_config(path: Path) -> dict[str, Any]:
    """The values a run was made with; nothing, where it kept none.

    Raises:
        LeanvitError: the file is damaged.
    """
    if not (path / "config.yaml").exists():
        return {}
    try:
        with open_regular(path / "config.yaml") as file:
            values = yaml.safe_load(file)
        if not isinstance(values, dict):
            raise ValueError("it holds no values by name")
    except (OSError, ValueError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise LeanvitError(f"{path}/config.yaml is damaged ({line}): train again") from error
    return values


def read_predictions(path: Path, of: str = "") -> dict[str, ndarray]:
    """``val_probabilities`` (n, classes), ``val_labels`` (n,) and the same for ``test``.

    Args:
        of: how the names begin of what is read; "": everything.

    Raises:
        LeanvitError: the file is missing or damaged.
    """
    try:
        with open_regular(path / "predictions.npz") as raw, np.load(raw) as file:
            return {name: file[name] for name in file.files if name.startswith(of)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise LeanvitError(f"{path}/predictions.npz cannot be read: train again") from error


def read_answers(path: Path) -> tuple[Bool[ndarray, " n"], Int64[ndarray, " n"]]:
    """Whether each test image was classified rightly, and the labels; see
    :func:`read_predictions`."""
    predictions = read_predictions(path, of="test_")
    labels = predictions["test_labels"]
    return predictions["test_probabilities"].argmax(axis=1) == labels, labels


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of ``history.csv``, one an epoch, values as text.

    Raises:
        LeanvitError: the run left no history.
    """
    if not (path / "history.csv").is_file():
        raise LeanvitError(f"{path} holds no history.csv: name a run that was trained")
    with (path / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _folders_with(name: str, root: Path) -> Iterator[Path]:
    """Links are followed, as of runs that lie on another disk; each folder once."""
    if not root.is_dir():
        raise LeanvitError(f"no folder {root}: give the folder that holds the runs")
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        if name in (*folders, *files):
            yield Path(folder)
