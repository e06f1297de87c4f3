"""What ``lightweight=`` puts around a net: built, taken over, taught, and set after training."""

import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from torch import Tensor, nn

import assemble
import naming
import stages
from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.predict import predict_exits
from leanvit.lightweight.distill import Renormalised
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.exit_threshold import pick_threshold
from leanvit.seeds import derive_seed
from leanvit.training.callbacks import AtomicCheckpoints
from leanvit.training.fit import read_checkpoint


def wrap(config: DictConfig, net: nn.Module, teacher: nn.Module | None = None) -> nn.Module:
    """The net with what ``lightweight=`` puts around it.

    Args:
        teacher: in the place of the run that ``lightweight.teacher`` names; only training wants it.

    Raises:
        LeanvitError: the method does not fit the net.
    """
    chosen = config.get("lightweight")
    if not chosen:
        return net
    check_numbers(chosen)
    torch.manual_seed(derive_seed(config.seed, "lightweight"))
    build = instantiate(chosen, _convert_="all")
    return build(net, teacher=teacher) if isinstance(chosen.get("teacher"), str) else build(net)


def check_numbers(method: DictConfig) -> None:
    """See that a method's numbers are numbers; one alone, where several can be, becomes a list.

    Raises:
        LeanvitError: a word, or a fraction where whole numbers are wanted; a run as the teacher of
            a net that teaches itself.
    """
    if isinstance(method.get("teacher"), str) and naming.module_name(method) != "distill":
        raise LeanvitError(
            f"lightweight.teacher={method.teacher}: give true or false; the net itself teaches, as "
            "it is before anything is dropped (lightweight=distill learns from another run)"
        )
    for key, kinds in {
        "after": int,
        "blocks": int,
        "r": int,
        "ratios": int | float,
        "exit_weights": int | float,
    }.items():
        value = method.get(key)
        each = list(value) if isinstance(value, ListConfig) else [value]
        if value is None:
            continue
        if not all(isinstance(one, kinds) and not isinstance(one, bool) for one in each):
            wanted = (
                "whole numbers, such as [1,2]" if kinds is int else "numbers, such as [0.5,0.5]"
            )
            raise LeanvitError(f"lightweight.{key}={value}: give {wanted}")
        if key != "r":
            method[key] = each


def check_threshold(config: DictConfig) -> None:
    """See that a threshold which the command line gives will be the net's.

    Raises:
        LeanvitError: a target would put another in its place.
    """
    target = (config.get("lightweight") or {}).get("target")
    given = [each for each in command_line_says() if each.startswith("lightweight.threshold=")]
    if given and target is not None:
        raise LeanvitError(
            f"{given[0]} would be replaced by what serves lightweight.target={target}: add "
            "lightweight.target=null"
        )


def load_method(config: DictConfig, net: nn.Module) -> None:
    """Load what a lightweighting method adds to a net, where the pretrained run has the same.

    A threshold that the command line gives stays, and one that another criterion is compared with.
    """
    if not has_same_method(config):
        return
    given = ("lightweight.threshold=", "lightweight.criterion=")
    is_given = any(each.startswith(given) for each in command_line_says())
    run_dir = naming.find_run(config.pretrained)
    found = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")["state_dict"]
    wanted = net.state_dict()
    for name, value in wanted.items():
        is_own = not name.startswith("net.") and f"net.{name}" in found
        is_own = is_own and not (name == "threshold" and is_given)
        if is_own and found[f"net.{name}"].shape == value.shape:
            value.copy_(found[f"net.{name}"])


def command_line_says() -> list[str]:
    if not HydraConfig.initialized():
        return []
    return naming.own_overrides(HydraConfig.get().overrides.task)


def has_same_method(config: DictConfig) -> bool:
    """Whether the pretrained run has the same lightweighting method, with parts of the same
    meaning."""
    if not config.pretrained or not config.get("lightweight"):
        return False
    kept = assemble.load_config(naming.find_run(config.pretrained)).get("lightweight")
    return bool(kept) and parts_of(kept) == parts_of(config.lightweight)


def parts_of(method: DictConfig) -> list[Any]:
    """What says which weights a method adds to a net, and what each of them is for."""
    values = [method.get(key) for key in ("_target_", "after", "predictor_dim", "kind")]
    return [*values, len(method.get("ratios") or [])]


def begins_untrained(config: DictConfig, net: nn.Module) -> bool:
    """Whether a lightweighting method has weights that no run has trained."""
    own = any(not name.startswith("net.") for name, _ in net.named_parameters())
    return own and not has_same_method(config)


def load_teacher(
    config: DictConfig, classes: tuple[str, ...], mean: Tensor, std: Tensor
) -> nn.Module | None:
    """The net of the run that ``lightweight.teacher`` names, for images that are normalised by
    ``mean`` and ``std``.

    Raises:
        LeanvitError: no finished run, or one of other classes or of another image size.
    """
    given = (config.get("lightweight") or {}).get("teacher")
    if not isinstance(given, str):
        return None
    run_dir = naming.find_run(given)
    if not (run_dir / "metrics.json").exists():
        raise LeanvitError(f"lightweight.teacher={run_dir} is no finished run of train.py")
    teacher = assemble.load_run(run_dir, "32-true")
    kept = assemble.load_config(run_dir)
    stages.look_for_seen_images(config, kept, f"lightweight.teacher={run_dir}")
    if teacher.classes != classes or teacher.image_size != config.data.image_size:
        raise LeanvitError(
            f"lightweight.teacher={run_dir} was trained for {len(teacher.classes)} classes of "
            f"{teacher.image_size} pixels ({', '.join(teacher.classes)}), the data has "
            f"{len(classes)} of {config.data.image_size} ({', '.join(classes)})"
        )
    return Renormalised(teacher.net, mean, std, teacher.mean, teacher.std)


def serve_target(
    run_dir: Path,
    precision: str,
    val: ImageSet,
    device: torch.device,
    memory_gib: float | None,
) -> None:
    """Where a run's net has exits and a target, put the threshold that serves it into
    ``best.ckpt``.

    Raises:
        LeanvitError: the target is out of reach.
    """
    method = assemble.load_config(run_dir).get("lightweight")
    if not method or method.get("target") is None:
        return
    trained = assemble.load_run(run_dir, precision)
    net, path = trained.net, run_dir / "checkpoints" / "best.ckpt"
    assert isinstance(net, EarlyExit) and net.target is not None  # no other method has one
    probabilities = predict_exits(trained, val, device, memory_gib=memory_gib)
    macs = net.exit_macs(trained.image_size)
    picked = pick_threshold(probabilities, val.labels, macs, net.target, net.criterion)
    contents = read_checkpoint(path)
    print(
        f"an image leaves from a confidence of {picked.threshold:.4f} on: {picked.macs_left:.3f} "
        f"of the MACs, {100 * picked.accuracy_gained:+.2f} points on validation images",
        file=sys.stderr,
    )
    contents["state_dict"]["net.threshold"].fill_(picked.threshold)
    AtomicCheckpoints().save_checkpoint(contents, path)
