"""A finished run, from its directory: its config, and what it tells of itself.

A run that somebody hands you is data: its config builds nothing but the classes that conf/ names
(:mod:`leanvit.app.parts`), and its weights are read as weights (:mod:`leanvit.weights`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from leanvit import plain_yaml
from leanvit.app import names
from leanvit.app.parts import check_parts
from leanvit.errors import LeanvitError
from leanvit.files import open_regular

METRICS = "metrics.json"
STOPPED = "stopped.json"  # instead of it, of a trial that a search ends early
TOLD = (METRICS, "pretraining.json")  # of train.py, eval.py and compress.py; of pretrain.py

# without these values, and the classes, no net can be built again
NEEDED = ("seed", "model._target_", "data._target_")


@dataclass(frozen=True)
class Run:
    """A run directory; each file is read once, when it is asked for."""

    path: Path

    @property
    def kept(self) -> DictConfig:
        """The resolved config that it was made with, as it was written."""
        return self._written[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes."""
        return self._written[1]

    @cached_property
    def _written(self) -> tuple[DictConfig, tuple[str, ...]]:
        """Config and classes; a class may have a name that means something to OmegaConf.

        Raises:
            LeanvitError: not a run directory, its config is damaged, or names what is none of
                conf/'s classes.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            raise LeanvitError(f"{self.path} is no run directory: it has no config.yaml")
        try:
            with open_regular(path) as file:
                values = plain_yaml.load(file.read().decode("utf-8"))
            if not isinstance(values, dict):
                raise ValueError("it holds no values by name")
            classes = values.pop("classes", None)
            kept = OmegaConf.create(values)
            missing = [key for key in NEEDED if OmegaConf.select(kept, key) is None]
            missing = missing if classes is not None else ["classes", *missing]
            if not missing and not _are_names(classes):
                raise ValueError(f"classes={classes} is no list of names")
            for key in ("seed", "split_seed"):
                if not isinstance(kept.get(key, 0), int):
                    raise ValueError(f"{key}={kept[key]} is no whole number")
            if not isinstance(kept.get("choices", {}), dict | DictConfig):
                raise ValueError(f"choices={kept.choices} tells no choices by name")
        except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
            line = " ".join(str(error).split())
            raise LeanvitError(f"{path} is damaged ({line}): train again") from error
        if missing:
            raise LeanvitError(
                f"{path} has no {', '.join(missing)}: it is damaged, or of a version that is too "
                "old: train again"
            )
        check_parts(kept, str(path))
        return kept, tuple(map(str, classes))

    @cached_property
    def config(self) -> DictConfig:
        """The same in today's words."""
        config = self.kept.copy()
        with open_dict(config):
            _put_in_todays_words(config)
        OmegaConf.set_readonly(config, True)
        return config

    @cached_property
    def told(self) -> dict[str, Any]:
        """What it tells of itself; nothing, if it is not finished."""
        path = next((self.path / name for name in TOLD if (self.path / name).exists()), None)
        # late: it imports NumPy
        from leanvit.evaluation.comparison.runs import read_told

        return read_told(path) if path else {}

    @property
    def is_evaluated(self) -> bool:
        """Finished, with a trained classifier."""
        return (self.path / METRICS).exists()

    @property
    def choices(self) -> dict[str, str | None]:
        """By their own names; of older runs, by the modules of what was chosen."""
        if "choices" in self.kept:
            return {str(key): value for key, value in self.kept.choices.items()}
        told = dict(self.told.get("choices", {}))
        parts = ("model", "data", "lightweight")
        modules = {part: names.module_name(self.kept.get(part)) for part in parts}
        return told | {part: name for part, name in modules.items() if name}

    @property
    def helped_by_teacher(self) -> bool:
        """Its ``lightweight`` helped to train the net and is no part of it."""
        method = self.config.get("lightweight") or {}
        has_token = method.get("kind") == "token" or names.module_name(method) == "deit_lt"
        return isinstance(method.get("teacher"), str) and not has_token


def _are_names(classes: Any) -> bool:
    return isinstance(classes, list) and all(isinstance(each, str) for each in classes)


def find(given: str) -> Run:
    """A run, named from here or from the repository's root.

    Raises:
        LeanvitError: there is no such directory.
    """
    if not given or not isinstance(given, str):  # an empty variable of the shell
        raise LeanvitError(f"the name of a run is {given or 'empty'}: give its directory")
    if (path := names.found(given)).is_dir():
        return Run(path)
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    near = get_close_matches(path.name, [each.name for each in beside if each.is_dir()], n=1)
    hint = f"did you mean {near[0]}?" if near else "python src/report.py lists the finished ones"
    raise LeanvitError(f"no run directory {given}: {hint}")


def damage(path: Path, file: str) -> str | None:
    """What is wrong with a directory that ``file`` says is finished, in one line; None: nothing, or
    it is not finished."""
    if not (path / file).exists():
        return None
    try:
        if file != METRICS:
            json.loads((path / file).read_text(encoding="utf-8"))
            return None
        _ = Run(path).config
    except LeanvitError as error:
        return str(error)
    except ValueError as error:
        return f"{path / file} is damaged ({error})"
    # late: a comparison takes a second to import
    from leanvit.evaluation.comparison import left_out

    return left_out.damage(path)


def outputs_of(run: Run) -> Path:
    """The outputs that a run lies in, as ``<outputs>/<data>/<run>``; the folder around a run that
    was handed on alone."""
    choices = run.told.get("choices") or run.choices
    is_among_others = run.path.parent.name == choices.get("data")
    return run.path.parents[1] if is_among_others else run.path.parent


def outputs_beside(outputs: str | None, overrides: Sequence[str]) -> str:
    """Where a grid of ``run=`` leaves its comparison: ``outputs``, or beside the first run."""
    if outputs:
        return str(outputs)
    given = [each for each in OverridesParser.create().parse_overrides(list(overrides))
             if each.key_or_group == "run"]  # fmt: skip
    names_of = given[-1].sweep_string_iterator() if given and given[-1].is_sweep_override() else ()
    first = next(iter(names_of), None) or (given[-1].value() if given else "")
    try:
        return str(outputs_of(find(str(first).strip("'\""))))
    except LeanvitError:  # the job that begins from it says so
        return str(names.ROOT / "outputs")


# cached: as grid.grid_name
OmegaConf.register_resolver("beside", outputs_beside, use_cache=True, replace=True)


def _put_in_todays_words(config: DictConfig) -> None:
    """What an older version kept otherwise, or not at all."""
    config.setdefault("split_seed", config.get("seed"))
    config.setdefault("choices", {})
    if config.get("data"):
        config.data.setdefault("imbalance", None)
        config.data.setdefault("imbalance_seed", 0)
        config.data.setdefault("fraction", 1.0)
        if config.data.get("_target_") == "leanvit.data.folder.folder":
            config.data.setdefault("fit", "stretch")
    if (config.get("model") or {}).get("attention") == "flex":  # the same function by sdpa
        config.model.attention = "sdpa"
    for (group, _), (stood, stands) in names.MOVED.items():
        if (config.get(group) or {}).get("_target_") == stood:
            config[group]["_target_"] = stands
