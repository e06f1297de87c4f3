"""What a command asks for, read once: the config, and the run it begins from."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from leanvit.app import names
from leanvit.app.finished import METRICS, Run, damage, find
from leanvit.app.parts import folders
from leanvit.app.second_stage import begins_from, look_for_seen_images, taken_over
from leanvit.errors import LeanvitError

PRETRAINING, AGREEMENT = "pretraining.json", "agreement.json"
MEDIANS = "LEANVIT_MEDIANS"  # of the environment: no value of a config, which would name the run

# what is not taken over: a second stage has a recipe of its own
RECIPE = ("loss", "sampler", "augment", "mix", "optimizer", "scheduler", "batch_size", "accumulate",
          "ema_decay", "gradient_clip", "sam")  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One job.

    Attributes:
        config: resolved and read-only; of a second stage with all that it takes over.
        choices: of each group of conf/, by its own name.
        given: what the command line says, by key.
        overrides: the command line as it was.
        run_dir: where the job leaves what it finds.
        finished: the file there whose presence says that the job is done.
        begins: the run that ``pretrained=`` or ``run=`` names.
        teacher: the run that ``lightweight.teacher=`` names.
        in_grid: one of several jobs.
        at_once: jobs that run at the same time.
        medians: of a trial of a search: it ends early where it is behind them.
    """

    config: DictConfig
    choices: Mapping[str, str | None]
    given: Mapping[str, Any]
    overrides: Sequence[str]
    run_dir: Path
    finished: str = METRICS
    begins: Run | None = None
    teacher: Run | None = None
    in_grid: bool = False
    at_once: int = 1
    medians: Sequence[float | None] = ()

    @property
    def is_finished(self) -> bool:
        """Done, and whole: what is damaged is made again."""
        return (self.run_dir / self.finished).exists() and not self.damage

    @property
    def damage(self) -> str | None:
        """What is wrong with what the job left, in one line; None: nothing, or it left nothing."""
        return damage(self.run_dir, self.finished)

    @property
    def trains_nothing(self) -> bool:
        """What is chosen is computed from the run that it begins from."""
        return self.rescales or self.config.max_epochs == 0

    @property
    def rescales(self) -> bool:
        """The classifier that is chosen is computed, not trained."""
        return names.module_name(self.config.get("classifier")) == "tau_norm"

    @property
    def classifier(self) -> str | None:
        """The second stage of the head that is chosen."""
        chosen = self.choices.get("classifier")
        return None if chosen == "none" else chosen

    @property
    def wants_head(self) -> str | None:
        """What on the command line makes no sense without a trained head."""
        if self.config.max_epochs == 0:
            return "max_epochs=0"
        is_taught = (self.config.get("lightweight") or {}).get("teacher") is True
        return "lightweight.teacher=true" if is_taught else None


def training(composed: DictConfig) -> Request:
    """The request of train.py.

    Raises:
        LeanvitError: no such run, one that is not finished, or ``classifier=`` without one.
    """
    choices, given, rest = _said(composed)
    config = composed.copy()
    begins = begins_from(config, choices, given)
    if begins is not None:
        config, choices = taken_over(config, choices, given, begins)
    elif not choices.get("experiment"):
        follow_recipe(config, choices, given)
    method = config.get("lightweight") or {}
    if method and OmegaConf.is_missing(method, "teacher"):
        raise LeanvitError(
            f"lightweight={choices['lightweight']} wants a teacher: "
            "lightweight.teacher=<directory of a finished run>"
        )
    teacher = method.get("teacher")
    taught_by = find(teacher) if isinstance(teacher, str) else None
    config = _settled(config)
    run_dir = Path(config.outputs) / names.training_name(config, choices)
    if begins is not None:
        run_dir = names.find_again(run_dir, config, choices)
    request = Request(config, choices, given, run_dir=run_dir, begins=begins,
                      teacher=taught_by, **rest)  # fmt: skip
    for run, name in ((begins, "pretrained"), (taught_by, "lightweight.teacher")):
        if run is not None:
            look_for_seen_images(config, run, f"{name}={run.path}", request.classifier)
    return request


def pretraining(composed: DictConfig) -> Request:
    """The request of pretrain.py."""
    choices, given, rest = _said(composed)
    config = _settled(composed)
    run_dir = Path(config.outputs) / names.pretraining_name(config, choices)
    return Request(config, choices, given, run_dir=run_dir, finished=PRETRAINING, **rest)


def compression(composed: DictConfig) -> Request:
    """The request of compress.py.

    Raises:
        LeanvitError: no such run, or ``trainer=ddp``.
    """
    choices, given, rest = _said(composed)
    run, method = find(composed.run), str(choices["method"])
    _ = run.config  # see that it is one
    config = _settled(composed)
    if str(config.trainer.strategy).startswith("ddp"):
        raise LeanvitError("trainer=ddp: compress.py works in one process, choose auto, cpu or gpu")
    is_export = method == "export"
    if is_export:
        run_dir = run.path / names.export_name(config)
    else:
        name = names.compression_name(run.path, config, method)
        beside = run.path.parent / Path(name).name
        run_dir = Path(config.outputs) / name if config.outputs else beside
    finished = AGREEMENT if is_export else METRICS
    return Request(config, choices, given, run_dir=run_dir, finished=finished, begins=run, **rest)


def recipe_line(request: Request) -> str | None:
    """In what a second stage is trained otherwise than the first, though nobody asked for it, in
    one line; None: in nothing."""
    run, config, given = request.begins, request.config, request.given
    found: list[tuple[str, Any, Any]] = []
    if run is None or not run.is_evaluated or request.trains_nothing:
        return None
    for key in (each for each in RECIPE if each not in given and each in run.config):
        now, before = config.get(key), run.config.get(key)
        chosen, had = request.choices.get(key), run.choices.get(key)
        if chosen != had:
            found.append((key, chosen, had))
        elif isinstance(now, DictConfig) and isinstance(before, DictConfig):
            found += [(f"{key}.{part}", now[part], before[part]) for part in map(str, now)
                      if now[part] != before.get(part, now[part]) and f"{key}.{part}" not in given
                      and not part.startswith("_")]  # fmt: skip
        elif now != before:
            found.append((key, now, before))
    told = ", ".join(f"{key}={now} (it had {before})" for key, now, before in found)
    return f"trained otherwise than {run.path.name}: {told}" if told else None


def parse(overrides: Sequence[str]) -> dict[str, Any]:
    """Values by key; ``loss@late.loss`` is a key of its own."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {f"{each.key_or_group}@{each.package}" if each.package else each.key_or_group:
            each.value() for each in parsed}  # fmt: skip


def _said(composed: DictConfig) -> tuple[dict[str, str | None], dict[str, Any], dict[str, Any]]:
    """Choices and given values, and how the job was called."""
    settings = HydraConfig.get()
    choices = {str(key): value for key, value in settings.runtime.choices.items()
               if not str(key).startswith("hydra/")}  # fmt: skip
    overrides = [str(each) for each in settings.overrides.task]
    in_grid = settings.mode == RunMode.MULTIRUN
    at_once = settings.launcher.get("n_jobs", 1) if in_grid else 1
    medians = json.loads(os.environ.get(MEDIANS, "[]"))
    called = {"overrides": overrides, "in_grid": in_grid, "at_once": at_once, "medians": medians}
    return choices, parse(overrides), called


def _settled(config: DictConfig) -> DictConfig:
    """Resolved and read-only; paths of data in full, so that every run names a folder alike."""
    whole = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    settled = OmegaConf.create(whole)
    assert isinstance(settled, DictConfig)
    for key in ("source", "data_dir"):
        if "data" in settled and settled.data.get(key):
            settled.data[key] = names.full_path(settled.data[key])
    OmegaConf.set_readonly(settled, True)
    return settled


def follow_recipe(
    config: DictConfig, choices: Mapping[str, str | None], given: Mapping[str, Any]
) -> None:
    """Change the values that a net wants otherwise than conf/train.yaml, and that are not given."""
    name = f"{choices['optimizer']}_{choices['model']}.yaml"
    paths = [folder / "recipe" / name for folder in folders()]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return
    recipe: Any = OmegaConf.to_container(OmegaConf.load(path))
    for key, value in recipe.items():
        values = (
            {f"{key}.{n}": v for n, v in value.items()} if isinstance(value, dict) else {key: value}
        )
        for whole, wanted in values.items():
            if whole not in given:
                OmegaConf.update(config, whole, wanted)
