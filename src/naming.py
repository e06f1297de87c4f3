"""What runs are called: a folder for a set of choices, and how to find it again."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from leanvit.errors import LeanvitError

ROOT = Path(__file__).resolve().parents[1]

# what may change without the run becoming another run
NOT_A_CHOICE = ("logger", "memory_gib", "num_workers", "outputs")
NOT_A_CHOICE_OF_DATA = ("data_dir", "memory_gib")
# what a run from pretrained= takes over where the command line does not say it; paths are hashed
# as they resolve
TAKEN_OVER = (
    "model.",
    "lightweight",
    "data.image_size",
    "data.imbalance",
    "data.num",
    "data.seed",
    "seed",
    "split_seed",
    "val_fraction",
)


IMPLIED: list[str] = []  # what pretrained= stands for on the command line


def root() -> str:
    return str(ROOT)


def own_overrides(overrides: Sequence[Any]) -> list[str]:
    """What the command line says itself, without what ``command_line.imply_choices`` put there."""
    return [str(override) for override in overrides if str(override) not in IMPLIED]


def run_name(*, _root_: DictConfig) -> str:
    """``<data>/<model or experiment>-<loss>-<sampler>-<hash>``: a folder for a set of choices."""
    choices = _root_.hydra.runtime.choices
    data, net = choices.data, choices.get("experiment") or choices.model
    given: list[str] = []
    if _root_.get("pretrained"):  # its net and its images, where the command line names no others
        given = own_overrides(_root_.hydra.overrides.task)
        named = {override.partition("=")[0] for override in given}
        kept = found_run(_root_.pretrained) / "config.yaml"
        config: Any = OmegaConf.load(kept) if kept.exists() else {}
        data = data if "data" in named else module_name(config.get("data"), data)
        net = net if "model" in named else module_name(config.get("model"), net)
    stage = [each for each in (choices.lightweight, choices.classifier) if each != "none"]
    # a value that is given may be the default's, and yet not the pretrained run's
    own = sorted(each for each in given if each.startswith(TAKEN_OVER))
    parts = [net, *stage, choices.loss, choices.sampler, choices_hash(_root_, given=own)]
    return f"{data}/{'-'.join(parts)}"


def is_only_taught(method: Any, given: Iterable[str]) -> bool:
    """Whether a run's ``lightweight`` helped to train its net and is no part of it.

    Args:
        given: keys of the command line, which may want to go on with it.
    """
    is_taught = isinstance(method.get("teacher"), str) and method.get("kind") != "token"
    return is_taught and not any(key.startswith("lightweight.") for key in given)


def module_name(chosen: DictConfig | None, otherwise: str = "") -> str:
    """The module that a choice of a net or of images stands in: it has the choice's name."""
    if chosen is None or "_target_" not in chosen:
        return otherwise
    return str(chosen._target_).split(".")[-2]


def choices_hash(config: DictConfig, without_seed: bool = False, given: Sequence[str] = ()) -> str:
    """Eight characters of what decides the result of a run: its resolved values.

    Args:
        given: what the command line says beside them, of what a pretrained run also says.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    values: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    values = {key: value for key, value in values.items() if key not in NOT_A_CHOICE}
    data = {k: v for k, v in (values.get("data") or {}).items() if k not in NOT_A_CHOICE_OF_DATA}
    if data.get("imbalance") is None:
        data.pop("imbalance_seed", None)
    if data.get("source"):
        data["source"] = full_path(data["source"])
    if (values["model"].get("weights") or "imagenet") != "imagenet":
        values["model"]["weights"] = full_path(values["model"]["weights"])
    if values.get("pretrained"):
        values["pretrained"] = str(found_run(values["pretrained"]))
    method = values.get("lightweight") or {}
    if isinstance(method.get("teacher"), str):
        method["teacher"] = str(found_run(method["teacher"]))
    if without_seed:
        if isinstance(method.get("teacher"), str):
            method["teacher"] = (finished(Path(method["teacher"])) or {}).get("choices_hash")
        if values.get("pretrained"):  # of another seed, or of the same
            kept = finished(Path(values["pretrained"])) or {}
            values["pretrained"] = kept.get("choices_hash")
            if kept.get("seed") != values["seed"]:  # a row for each first stage, none is lost
                values["first_seed"] = kept.get("seed")
            del values["split_seed"]
        elif values.get("split_seed") == values["seed"]:
            del values["split_seed"]
        del values["seed"]
    if given:
        values["given"] = list(given)
    text = json.dumps({**values, "data": data}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def full_path(path: str) -> str:
    return str(Path(path).expanduser().resolve())


OmegaConf.register_new_resolver("root", root, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def finished(run_dir: Path) -> dict[str, Any] | None:
    """What a finished run of train.py or of pretrain.py tells of itself."""
    for name in ("metrics.json", "pretraining.json"):
        if (run_dir / name).exists():
            return json.loads((run_dir / name).read_text())
    return None


def found_run(given: str) -> Path:
    """The folder that is meant, from here or from the repository's root; it may be missing."""
    paths = (Path(str(given)).expanduser(), ROOT / str(given))
    return next((path for path in paths if path.is_dir()), paths[0]).resolve()


def find_run(given: str) -> Path:
    """A run directory, from here or from the repository's root.

    Raises:
        LeanvitError: there is none.
    """
    if (path := found_run(given)).is_dir():
        return path
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    near = difflib.get_close_matches(path.name, [each.name for each in beside], n=1)
    hint = f"did you mean {near[0]}?" if near else "python src/report.py lists the finished ones"
    raise LeanvitError(f"no run directory {given}: {hint}")
