"""What a command asks for, read once: the config, and the run it begins from.

A second stage (``pretrained=``) has the net, the images, the validation split and the seed of the
run it begins from, but for what the command line says:

- ``model=``, ``data=`` or ``lightweight=`` of another name than the run's is taken as composed;
- the run's own name, or none, means the run's values, which single ones (``model.drop_path_rate=``)
  change; where Hydra knows none of that name, the choice wants to be named beside it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from leanvit.app import names
from leanvit.app.finished import METRICS, Run, damage, find
from leanvit.errors import LeanvitError

TAKEN_OVER = ("model", "data", "lightweight")
# of data, what makes no image of the one run an unseen one of the other
HARMLESS = ("data_dir", "fit", "image_size", "memory_gib", "skip_unreadable")
PRETRAINING, AGREEMENT = "pretraining.json", "agreement.json"


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
    begins = _begins_from(config, choices, given) if _wants_begin(config, choices) else None
    if begins is not None:
        config, choices = _taken_over(config, choices, given, begins)
    elif not choices.get("experiment"):
        _follow_recipe(config, choices, given)
    method = config.get("lightweight") or {}
    if method and OmegaConf.is_missing(method, "teacher"):
        raise LeanvitError(
            "lightweight=distill wants a teacher: lightweight.teacher=<directory of a finished run>"
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
            _look_for_seen_images(request, run, f"{name}={run.path}")
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
    called = {"overrides": overrides, "in_grid": in_grid, "at_once": at_once}
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


def _wants_begin(config: DictConfig, choices: Mapping[str, str | None]) -> bool:
    if config.pretrained == "":  # an empty variable of the shell would cost a training
        raise LeanvitError("pretrained= is empty: give a directory, or leave it out")
    if not config.pretrained and choices.get("classifier") not in (None, "none"):
        raise LeanvitError(
            "classifier= is a second stage: add pretrained=<directory of a finished run>"
        )
    return bool(config.pretrained)


def _follow_recipe(
    config: DictConfig, choices: Mapping[str, str | None], given: Mapping[str, Any]
) -> None:
    """Change the values that a net wants otherwise than conf/train.yaml, and that are not given."""
    path = names.CONF / "recipe" / f"{choices['optimizer']}_{choices['model']}.yaml"
    if not path.exists():
        return
    recipe: Any = OmegaConf.to_container(OmegaConf.load(path))
    for key, value in recipe.items():
        values = (
            {f"{key}.{n}": v for n, v in value.items()} if isinstance(value, dict) else {key: value}
        )
        for whole, wanted in values.items():
            if whole not in given:
                OmegaConf.update(config, whole, wanted)


def _begins_from(
    config: DictConfig, choices: Mapping[str, str | None], given: Mapping[str, Any]
) -> Run:
    """The run that ``pretrained=`` names, if it can be begun from."""
    run = find(config.pretrained)
    if not run.told:
        raise LeanvitError(f"pretrained={run.path} is not finished: train it to its end first")
    if run.config.get("quantized"):
        raise LeanvitError(
            f"pretrained={run.path} was quantised: train on the run that it was made of"
        )
    if choices.get("experiment") and not given.keys() >= {"model", "data"}:
        raise LeanvitError(
            "experiment= brings a net and images, and pretrained= brings the run's own: leave "
            "experiment= out, or say which with model= and data="
        )
    return run


def _taken_over(
    config: DictConfig, choices: dict[str, str | None], given: Mapping[str, Any], run: Run
) -> tuple[DictConfig, dict[str, str | None]]:
    """Config and choices of a second stage."""
    kept, choices = run.config, dict(choices)
    with open_dict(config):
        for part in TAKEN_OVER:
            own = {key: value for key, value in given.items() if key.startswith(f"{part}.")}
            if part in given and given[part] != run.choices.get(part):
                continue  # another one
            is_over = part == "lightweight" and run.helped_by_teacher
            is_over = is_over and not own and part not in given
            config[part] = {} if is_over else (kept.get(part) or {})
            choices[part] = None if is_over else run.choices.get(part)
            for key, value in own.items():
                if OmegaConf.select(kept, key, default=key) == key:  # neither there nor null
                    raise LeanvitError(f"there is no {key} in pretrained={run.path}")
                OmegaConf.update(config, key, value)
        if kept.get("pruned") and given.get("model") in (None, run.choices.get("model")):
            config.pruned = True
        if "weights" in config.model and "model.weights" not in given:
            config.model.weights = None  # the run's own take their place
        if "model.image_size" not in given:
            config.model.image_size = config.data.image_size
        for key in ("seed", "split_seed", "val_fraction"):
            if key not in given:
                config[key] = kept[key]
    if choices.get("classifier") not in (None, "none") and config.lightweight:
        raise LeanvitError(
            f"classifier= does not fit lightweight={choices['lightweight']}: choose the "
            "classifier first, and lightweight= in a stage after it"
        )
    return config, choices


def _look_for_seen_images(request: Request, run: Run, first: str) -> None:
    """Warn where images that judge this stage may have been trained on in the first.

    Args:
        first: what the command line calls that run.

    Raises:
        LeanvitError: so with a classifier, which is nothing but what the first stage left.
    """

    def source(of: DictConfig) -> dict[str, Any]:
        values = {key: value for key, value in of.data.items() if key not in HARMLESS}
        if values.get("source"):
            values["source"] = names.full_path(values["source"])
        return values

    config, kept = request.config, run.config
    now, before = source(config), source(kept)
    changed = [f"data.{key}" for key in now if now[key] != before.get(key)]
    changed += [key for key in ("split_seed", "val_fraction") if config[key] != kept[key]]
    if not changed:
        return
    words = ", ".join(map(str, changed)).replace("data._target_", "data")
    line = f"{first} was trained on other choices of {words}"
    if request.classifier:
        raise LeanvitError(f"{line}: leave them out, its validation images must stay unseen")
    print(f"{line}: images that judge this run may have been trained on there", file=sys.stderr)
