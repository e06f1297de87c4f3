"""Read what finished and failed runs left."""

import csv
import json
import os
import re
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Bool, Int64
from numpy import ndarray

from leanvit import plain_yaml
from leanvit.errors import LeanvitError
from leanvit.files import open_regular

# where a value at the left margin begins, of a config.yaml as a training writes it
MARGIN = re.compile(r"^(?=[A-Za-z_]\w*:[ \n])", re.MULTILINE)
# what a metrics.json must tell to be compared, and as what
FIELDS = {"name": str, "choices": dict, "overrides": dict, "choices_hash": str, "seed": int,
          "source": str, "classes": list, "val": dict, "test": dict, "cost": dict,
          "training": dict}  # fmt: skip
ALSO = {"train_counts": list, "machine": dict, "compressed": dict}
ENDED = {"pretraining.json", "stopped.json"}  # a pretraining, and a trial that a search ended early
NUMBERS = ("n", "accuracy", "balanced_accuracy")  # of val and test


class Found(NamedTuple):
    """Run directories, sorted."""

    finished: list[Path]
    failed: list[Path]  # they ended with an error and never finished
    unfinished: list[Path]  # they train, or were interrupted, after an epoch at least


def find_runs(root: Path) -> list[Path]:
    """Directories of finished runs at or below ``root``, sorted.

    Raises:
        LeanvitError: there is no such folder.
    """
    return find_all(root).finished


def find_all(root: Path) -> Found:
    """All in one walk; links are followed, as of runs that lie on another disk; each folder once.

    A failed job of a grid is told of by its run, which may have been finished since, or deleted.

    Raises:
        LeanvitError: there is no such folder.
    """
    if not root.is_dir():
        raise LeanvitError(f"no folder {root}: give the folder that holds the runs")
    finished, unfinished, seen = [], [], set()
    failed: dict[Path, Path] = {}
    for folder, folders, files in os.walk(root, followlinks=True):
        told = Path(folder).stat()
        if (told.st_dev, told.st_ino) in seen:
            folders.clear()
            continue
        seen.add((told.st_dev, told.st_ino))
        if "metrics.json" in (*folders, *files):
            finished.append(Path(folder))
        elif "error.txt" in (*folders, *files):
            failed |= {path.resolve(): path for path in [run_of(Path(folder))] if is_failed(path)}
        elif {"config.yaml", "history.csv"} <= set(files) and not ENDED & set(files):
            unfinished.append(Path(folder))
        if "config.yaml" in files:  # what no run is in
            folders[:] = [each for each in folders if each not in ("checkpoints", "figures")]
    # a run's own eval/ holds metrics.json of other images
    finished = [path for path in finished if "eval" not in path.relative_to(root).parts]
    return Found(sorted(finished), sorted(failed.values()), sorted(unfinished))


def run_of(folder: Path) -> Path:
    """The run of a grid's job, by the folder of the job; itself, where the job began no run."""
    try:
        return Path(json.loads((folder / "job.json").read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder


def is_failed(run: Path) -> bool:
    """Whether it ended with an error and was not finished since."""
    return (run / "error.txt").exists() and not (run / "metrics.json").exists()


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
    """The values a run was made with, not to be changed; nothing, where it kept none.

    Raises:
        LeanvitError: the file is damaged.
    """
    if not (path / "config.yaml").exists():
        return {}
    try:
        with open_regular(path / "config.yaml") as file:
            text = file.read().decode("utf-8")
        try:  # runs have most values in common
            values = dict(_value(part) for part in MARGIN.split(text) if part)
        except (yaml.YAMLError, ValueError):
            values = {}
        if not values:
            values = plain_yaml.load(text, aliases=True)
        if not isinstance(values, dict):
            raise ValueError("it holds no values by name")
    except (OSError, ValueError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise LeanvitError(f"{path}/config.yaml is damaged ({line}): train again") from error
    return values


@cache
def _value(part: str) -> tuple[str, Any]:
    """The one value of a part of a config, behind its name.

    Raises:
        ValueError, yaml.YAMLError: it does not stand for itself.
    """
    values = plain_yaml.load(part) if MARGIN.match(part) else None
    if not isinstance(values, dict) or len(values) != 1:
        raise ValueError("it is no value at the left margin")
    return next(iter(values.items()))


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


def read_answers(path: Path, of: str = "test") -> tuple[Bool[ndarray, " n"], Int64[ndarray, " n"]]:
    """Whether each image was classified rightly, and the labels; see :func:`read_predictions`.

    Args:
        of: ``test`` or ``val``.
    """
    predictions = read_predictions(path, of=f"{of}_")
    labels = predictions[f"{of}_labels"]
    return predictions[f"{of}_probabilities"].argmax(axis=1) == labels, labels


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of ``history.csv``, one an epoch, values as text.

    Raises:
        LeanvitError: the run left no history.
    """
    if not (path / "history.csv").is_file():
        raise LeanvitError(f"{path} holds no history.csv: name a run that was trained")
    with (path / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))
