"""Two stages: what a training takes over from the finished run that ``pretrained=`` names."""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import assemble
from leanvit.classifiers.linear import last_linear
from leanvit.classifiers.lws import folded
from leanvit.classifiers.tau_norm import TauNorm
from leanvit.compression.resize import resize
from leanvit.errors import LeanvitError
from leanvit.evaluation.predict import Trained, predict
from leanvit.pretraining.encoder import encoder_weights
from leanvit.training.callbacks import AtomicCheckpoints
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import (
    Training,
    check_match,
    choose_precision,
    find_device,
    read_checkpoint,
)
from naming import (
    find_run,
    finished,
    found_run,
    full_path,
    is_only_taught,
    module_name,
    own_overrides,
)

PARTS = ("model", "data", "lightweight")
MISSING: dict[str, dict[str, Any]] = {
    "data": {"imbalance": None, "imbalance_seed": 0}
}  # in runs of older versions
HARMLESS = ("data_dir", "image_size", "memory_gib", "skip_unreadable")


def take_over(config: DictConfig) -> None:
    """Give ``config`` the net, the images and the validation split of the pretrained run.

    What the command line says goes before: all of ``model=`` or ``data=``, and single values of
    them.

    Raises:
        LeanvitError: no run, or ``classifier=`` without one.
    """
    if config.pretrained == "":  # an empty variable of the shell would cost a training
        raise LeanvitError("pretrained= is empty: give a directory, or leave it out")
    if not config.pretrained:
        if config.get("classifier"):
            raise LeanvitError(
                "classifier= is a second stage: add pretrained=<directory of a finished run>"
            )
        return
    run_dir = find_run(config.pretrained)
    if finished(run_dir) is None:
        raise LeanvitError(f"pretrained={run_dir} is not finished: train it to its end first")
    wanting = "classifier=" if config.get("classifier") else wants_head(config)
    if wanting and not (run_dir / "metrics.json").exists():
        raise LeanvitError(
            f"pretrained={run_dir} has no trained classifier: {wanting} wants a run of train.py"
        )
    kept = assemble.load_config(run_dir)
    if kept.get("quantized"):
        raise LeanvitError(
            f"pretrained={run_dir} was quantised: train on the run that it was made of"
        )
    settings = HydraConfig.get()
    overrides = own_overrides(settings.overrides.task)
    given = OverridesParser.create().parse_overrides(overrides)
    keys = {override.key_or_group for override in given}
    if settings.runtime.choices.get("experiment") and not keys.issuperset(("model", "data")):
        raise LeanvitError(
            "experiment= brings a net and images, and pretrained= brings the run's own: leave "
            "experiment= out, or say which with model= and data="
        )
    for part in PARTS:
        if part not in keys:
            values = {**MISSING.get(part, {}), **(kept.get(part) or {})}
            if is_only_taught(values, keys):
                values = {}
            OmegaConf.update(config, part, values, merge=False, force_add=True)
            for override in given:
                if override.key_or_group.startswith(f"{part}."):
                    OmegaConf.update(config, override.key_or_group, override.value())
    if kept.get("pruned") and "model" not in keys:
        OmegaConf.update(config, "pruned", True, force_add=True)
    if config.get("classifier") and config.lightweight:
        raise LeanvitError(
            f"classifier= does not fit lightweight={module_name(config.lightweight)}: choose the "
            "classifier first, and lightweight= in a stage after it"
        )
    if "model.weights" not in keys:
        assemble.forget_pretraining(config)
    if "model" not in keys and "model.image_size" not in keys:
        config.model.image_size = config.data.image_size
    for key, value in (("seed", kept.seed), ("split_seed", kept.get("split_seed", kept.seed))):
        if key not in keys:
            config[key] = value
    if "val_fraction" not in keys:
        config.val_fraction = kept.val_fraction
    look_for_seen_images(config, kept, f"pretrained={config.pretrained}")


def wants_head(config: DictConfig) -> str | None:
    """What on the command line makes no sense without a trained head."""
    if config.max_epochs == 0:
        return "max_epochs=0"
    is_taught = (config.get("lightweight") or {}).get("teacher") is True
    return "lightweight.teacher=true" if is_taught else None


def look_for_seen_images(config: DictConfig, kept: DictConfig, first: str) -> None:
    """Warn where images that judge this stage may have been trained on in the first.

    Args:
        kept: config of the run before.
        first: what the command line calls it.

    Raises:
        LeanvitError: so with a classifier, which is nothing but what the first stage left.
    """

    def source(of: DictConfig) -> dict[str, Any]:
        values = {k: v for k, v in of.data.items() if k not in HARMLESS}
        if values.get("source"):
            values["source"] = full_path(values["source"])
        return {**MISSING["data"], **values}

    now, before = source(config), source(kept)
    changed = [f"data.{key}" for key in now if now[key] != before.get(key)]
    same = {"split_seed": kept.get("split_seed", kept.seed), "val_fraction": kept.val_fraction}
    changed += [key for key, value in same.items() if config[key] != value]
    if not changed:
        return
    names = ", ".join(changed).replace("data._target_", "data")
    line = f"{first} was trained on other choices of {names}"
    if config.get("classifier"):
        raise LeanvitError(f"{line}: leave them out, its validation images must stay unseen")
    print(f"{line}: images that judge this run may have been trained on there", file=sys.stderr)


def load_pretrained(
    config: DictConfig, net: nn.Module, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Load all weights; the head's only where ``classifier=`` or ``lightweight=`` keeps it.

    Returns:
        mean and standard deviation of the images that the weights were trained on.

    Raises:
        LeanvitError: the run is not finished, or its weights do not fit.
    """
    run_dir = find_run(config.pretrained)
    path = run_dir / "checkpoints" / "best.ckpt"
    contents = read_checkpoint(path)
    found = folded(encoder_weights(contents["state_dict"]))
    method = config.get("classifier") and instantiate(config.classifier)
    keeps_head = bool(method) and method.keeps_head
    if config.get("lightweight"):  # the net is to do what it does, with less
        keeps_head = tuple(contents.get("classes", ())) == classes
        if not keeps_head and (wanting := wants_head(config)):
            raise LeanvitError(
                f"pretrained={run_dir} was trained for other classes than {', '.join(classes)}: "
                f"{wanting} wants its head, which does not fit"
            )
    elif keeps_head and tuple(contents["classes"]) != classes:
        raise LeanvitError(
            f"pretrained={run_dir} was trained for the classes {', '.join(contents['classes'])}, "
            f"the data has {', '.join(classes)}: choose classifier=retrain"
        )
    if config.get("pruned"):
        resize(net, found)
    wanted = net.state_dict()
    if not keeps_head:
        found = {name: value for name, value in found.items() if not name.startswith("head.")}
        found |= {name: value for name, value in wanted.items() if name.startswith("head.")}
    check_match(path, found, wanted)
    net.load_state_dict(found)
    if method:
        method(net)
    return contents["state_dict"]["mean"], contents["state_dict"]["std"]


def kept_overrides(config: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """The single values of what was taken over, as the pretrained run's command line gave them."""
    if not config.pretrained:
        return {}
    given = {override.partition("=")[0] for override in own_overrides(overrides)}
    taken = tuple(f"{part}." for part in PARTS if part not in given)
    kept = (finished(find_run(config.pretrained)) or {})["overrides"]
    return {key: value for key, value in kept.items() if key.startswith(taken)}


def kept_choices(config: DictConfig) -> dict[str, Any]:
    """Loss and sampler of the pretrained run, where this one trains nothing with its own."""
    if not trains_nothing(config):
        return {}
    kept = (finished(find_run(config.pretrained)) or {})["choices"]
    return {key: kept[key] for key in ("loss", "sampler")}


def evaluated_before(run_dir: Path) -> list[Path]:
    """The evaluated run that a run began with, to be shown beside it."""
    given = assemble.load_config(run_dir).get("pretrained")
    before = found_run(given) if given else None
    return [before] if before and (before / "metrics.json").exists() else []


def pretrained_name(config: DictConfig) -> str | None:
    """What the pretrained run is called, without the hash that also tells its seed."""
    return find_run(config.pretrained).name.rpartition("-")[0] if config.pretrained else None


def rescales(config: DictConfig) -> bool:
    """Whether the classifier that is chosen is computed, not trained."""
    return bool(config.get("classifier")) and get_class(config.classifier._target_) is TauNorm


def trains_nothing(config: DictConfig) -> bool:
    """Whether what is chosen is computed from the pretrained run."""
    return rescales(config) or config.max_epochs == 0


def without_training(
    config: DictConfig, classifier: Classifier, data: ImageDataModule, run_dir: Path
) -> Training:
    """Keep the pretrained net as best.ckpt, with tau-normalisation after that.

    Returns:
        a training without epochs.
    """
    device = find_device(config.trainer.accelerator)
    precision = config.trainer.precision
    precision = choose_precision(device) if precision == "auto" else precision
    if rescales(config):
        rescale(config, classifier, data, device, "bf16" in precision)
    contents = {
        "state_dict": classifier.state_dict(),
        "classes": list(classifier.classes),
        "epoch": -1,
    }
    AtomicCheckpoints().save_checkpoint(contents, run_dir / "checkpoints" / "best.ckpt")
    return Training([], 0, device, precision)


def rescale(
    config: DictConfig,
    classifier: Classifier,
    data: ImageDataModule,
    device: torch.device,
    bfloat16: bool,
) -> None:
    """tau-normalisation: the head rescaled by the validation images."""
    net, classes, size = classifier.net, classifier.classes, config.data.image_size
    trained = Trained(net, classifier.mean, classifier.std, classes, size, bfloat16)
    features: list[Tensor] = []
    hook = last_linear(net)[2].register_forward_pre_hook(
        lambda _, inputs: features.append(inputs[0].float().cpu())
    )
    predict(trained, data.val, device, memory_gib=config.memory_gib)
    hook.remove()
    net.to("cpu")
    tau = instantiate(config.classifier).rescale(net, torch.cat(features), data.val.labels)
    print(f"tau {tau}", file=sys.stderr)
