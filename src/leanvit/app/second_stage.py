"""What a second stage takes over from the run that ``pretrained=`` names.

It has the net, the images, the validation split and the seed of that run, but for what the command
line says:

- ``model=``, ``data=`` or ``lightweight=`` of another name than the run's is taken as composed;
- the run's own name, or none, means the run's values, which single ones (``model.drop_path_rate=``)
  change; where Hydra knows none of that name, the choice wants to be named beside it.
"""

import sys
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from leanvit.app import names
from leanvit.app.finished import Run, find
from leanvit.errors import LeanvitError

TAKEN_OVER = ("model", "data", "lightweight")
# of data, what makes no image of the one run an unseen one of the other
HARMLESS = ("data_dir", "fit", "image_size", "memory_gib", "skip_unreadable")


def begins_from(
    config: DictConfig, choices: Mapping[str, str | None], given: Mapping[str, Any]
) -> Run | None:
    """The run that ``pretrained=`` names, or None where it names none.

    Raises:
        LeanvitError: it cannot be begun from, or ``classifier=`` wants one.
    """
    if config.pretrained == "":  # an empty variable of the shell would cost a training
        raise LeanvitError("pretrained= is empty: give a directory, or leave it out")
    if not config.pretrained:
        if choices.get("classifier") in (None, "none"):
            return None
        raise LeanvitError(
            "classifier= is a second stage: add pretrained=<directory of a finished run>"
        )
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


def taken_over(
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
        if "image_size" in config.model and "model.image_size" not in given:
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


def look_for_seen_images(
    config: DictConfig, run: Run, first: str, classifier: str | None = None
) -> None:
    """Warn where images that judge this stage may have been trained on in the first.

    Args:
        first: what the command line calls that run.
        classifier: the second stage of the head that is chosen.

    Raises:
        LeanvitError: so with a classifier, which is nothing but what the first stage left.
    """

    def source(of: DictConfig) -> dict[str, Any]:
        values = {key: value for key, value in of.data.items() if key not in HARMLESS}
        if values.get("source"):
            values["source"] = names.full_path(values["source"])
        return values

    kept = run.config
    now, before = source(config), source(kept)
    changed = [f"data.{key}" for key in now if now[key] != before.get(key)]
    changed += [key for key in ("split_seed", "val_fraction") if config[key] != kept[key]]
    if not changed:
        return
    words = ", ".join(map(str, changed)).replace("data._target_", "data")
    line = f"{first} was trained on other choices of {words}"
    if classifier:
        raise LeanvitError(f"{line}: leave them out, its validation images must stay unseen")
    print(f"{line}: images that judge this run may have been trained on there", file=sys.stderr)
