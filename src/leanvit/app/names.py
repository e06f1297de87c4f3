"""What runs are called: a folder for a set of choices, so that the same command finds its run.

A name ends in a hash of the values that decide the result. Finished runs keep their names:

- a key that came later is left out of the hash where its value means "as before" (``CAME_LATER``);
- a choice whose ``_target_`` moved is hashed by where it stood before (``MOVED``).

Second stages (``pretrained=``) are hashed with what they took over. What an older version called
otherwise is found by its values (:func:`find_again`).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from leanvit import plain_yaml

ROOT = Path(__file__).resolve().parents[3]
CONF = ROOT / "conf"
PUBLISHED = CONF / "experiment" / "published.csv"  # the tables that we start from

# what may change without the run becoming another run
NO_CHOICE = (
    "logger", "memory_gib", "num_workers", "parallel", "wait", "figures", "outputs", "hydra",
    "classes", "choices",
)  # fmt: skip
NO_CHOICE_OF_DATA = ("data_dir", "memory_gib")
# keys that runs were called without, and the value that means what these runs did
CAME_LATER: dict[str, Any] = {
    "accumulate": 1,
    "data.fit": "stretch",
    "data.fraction": 1.0,
    "late.gradual": False,
    "max_minutes": None,
    "model.stage_depth": 2,
    "patience": None,
    "sam": 0.0,
    "trainer.num_nodes": 1,
    "trainer.sync_batchnorm": False,
}
# where a choice's part stood when runs were first called by it, and where it stands today
MOVED = {
    ("data", "cifar10_lt"): ("leanvit.data.cifar10_lt.cifar10_lt", "leanvit.data.cifar10.cifar10"),
    ("data", "cifar100_lt"): (
        "leanvit.data.cifar100_lt.cifar100_lt",
        "leanvit.data.cifar100.cifar100",
    ),
    ("optimizer", "adamw"): ("torch.optim.AdamW", "leanvit.optimizers.adamw.adamw"),
    ("optimizer", "sgd"): ("torch.optim.SGD", "leanvit.optimizers.sgd.sgd"),
}


def training_name(config: DictConfig, choices: Mapping[str, str | None]) -> str:
    """``<data>/<model or experiment>[-<method or stage>]-<loss>-<sampler>-<hash>``."""
    net = choices.get("experiment") or choices["model"]
    stages = (choices.get("lightweight"), choices.get("classifier"))
    parts = [net, *(each for each in stages if each not in (None, "none"))]
    parts += [choices["loss"], choices["sampler"], digest(config, choices)]
    return f"{choices['data']}/{'-'.join(map(str, parts))}"


def pretraining_name(config: DictConfig, choices: Mapping[str, str | None]) -> str:
    """``<data>/<pretrain>-<model>-<hash>``."""
    name = f"{choices['pretrain']}-{choices['model']}-{digest(config, choices)}"
    return f"{choices['data']}/{name}"


def compression_name(run_dir: Path, config: DictConfig, method: str) -> str:
    """``<data>/<run>-<method>-<hash>``."""
    name = run_dir.name.rpartition("-")[0] or run_dir.name
    return f"{run_dir.parent.name}/{name}-{method}-{method_digest(config, method, str(run_dir))}"


def export_name(config: DictConfig) -> str:
    """``export``, or ``export-opset<...>`` of another one than there was at first."""
    opset = config.method.opset
    return f"export-opset{opset}" if isinstance(opset, int) and opset != 20 else "export"


def digest(config: DictConfig, choices: Mapping[str, str | None]) -> str:
    """Eight characters of what decides the result of a run."""
    return _hash(values_of(config, choices))


def seedless_digest(
    config: DictConfig,
    choices: Mapping[str, str | None],
    before: Mapping[str, Any] | None = None,
    teacher: str | None = None,
) -> str:
    """The same for runs that differ in their seed alone.

    Args:
        before: what the pretrained run, if there is one, tells of itself.
        teacher: the seedless digest of the run that teaches, if there is one.
    """
    values = values_of(config, choices)
    if isinstance((values.get("lightweight") or {}).get("teacher"), str):
        values["lightweight"]["teacher"] = teacher
    if values.get("pretrained"):  # of another seed, or of the same
        told = before or {}
        values["pretrained"] = told.get("choices_hash")
        if told.get("seed") != values["seed"]:  # a row for each first stage, none is lost
            values["first_seed"] = told.get("seed")
        del values["split_seed"]
    elif values.get("split_seed") == values["seed"]:
        del values["split_seed"]
    del values["seed"]
    return _hash(values)


def method_digest(config: DictConfig, method: str, run: str = "") -> str:
    """Eight characters of what decides what becomes of a run that is compressed."""
    values: Any = OmegaConf.to_container(config.method, resolve=True)
    return _hash({"method": values, "run": run})


def values_of(config: DictConfig, choices: Mapping[str, str | None]) -> dict[str, Any]:
    """The resolved values that decide a result; paths in full."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in NO_CHOICE])
    values: Any = OmegaConf.to_container(own, resolve=True)
    for (group, choice), (stood, _) in MOVED.items():
        if choices.get(group) == choice and group in values:
            values[group]["_target_"] = stood
    for key, as_before in CAME_LATER.items():
        *path, name = key.split(".")
        place = values
        for part in path:
            place = place.get(part) or {}
        if name in place and place[name] == as_before:
            del place[name]
    data = {k: v for k, v in (values.get("data") or {}).items() if k not in NO_CHOICE_OF_DATA}
    if data.get("imbalance") is None:
        data.pop("imbalance_seed", None)
    if data.get("source"):
        data["source"] = full_path(data["source"])
    if (values["model"].get("weights") or "imagenet") != "imagenet":
        values["model"]["weights"] = full_path(values["model"]["weights"])
    if values.get("pretrained"):
        values["pretrained"] = str(found(values["pretrained"]))
    if values.get("max_minutes"):
        del values["max_epochs"]
    method = values.get("lightweight") or {}
    if isinstance(method.get("teacher"), str):
        method["teacher"] = str(found(method["teacher"]))
    return {**values, "data": data}


def find_again(run_dir: Path, config: DictConfig, choices: Mapping[str, str | None]) -> Path:
    """The run of these values that an older version called otherwise, or ``run_dir``."""
    if run_dir.exists() or not run_dir.parent.is_dir():
        return run_dir
    wanted = digest(config, choices)
    for path in sorted(run_dir.parent.glob(f"{run_dir.name.rpartition('-')[0]}-????????")):
        with suppress(Exception):  # what is damaged, or no run, is none that is looked for
            kept: Any = OmegaConf.load(path / "config.yaml")
            if "choices" not in kept and digest(kept, choices) == wanted:
                return path
    return run_dir


def shorter(
    run_dir: Path, config: DictConfig, choices: Mapping[str, str | None], finished: str
) -> tuple[Path, int] | None:
    """The finished run that differs in ``max_epochs`` alone, has fewer, and how many these are; of
    several the longest.

    Args:
        finished: the file whose presence says so.
    """
    found, wanted = [], digest(config, choices)
    for path in sorted(run_dir.parent.glob(f"{run_dir.name.rpartition('-')[0]}-????????")):
        if not (path / finished).exists() or path == run_dir:
            continue
        with suppress(Exception):  # a damaged one is none of ours
            text = (path / "config.yaml").read_text()
            told = re.search(r"^max_epochs: (\d+)$", text, re.MULTILINE)
            is_shorter = told is None or 0 < int(told[1]) < config.max_epochs
            if f"\nseed: {config.seed}\n" not in text or not is_shorter:  # parsing takes its time
                continue
            kept = OmegaConf.create(plain_yaml.load(text))
            num_epochs, kept.max_epochs = kept.max_epochs, config.max_epochs
            if 0 < num_epochs < config.max_epochs and digest(kept, choices) == wanted:
                found.append((path, num_epochs))
    return max(found, key=lambda each: each[1], default=None)


def keys_of(command: str) -> list[str]:
    """Choices and values of a command, by its file in conf/; of another one, those of train."""
    values = _keys(command)
    defaults = values.pop("defaults", None) or (values := _keys("train")).pop("defaults")
    choices = [key for each in defaults if isinstance(each, dict) for key in each]
    return [key for key in (*choices, *values) if key != "hydra" and " " not in key]


def _keys(command: str) -> dict[str, Any]:
    path = CONF / f"{command}.yaml"
    return plain_yaml.load(path.read_text(encoding="utf-8")) if path.exists() else {}


def module_name(chosen: Mapping[str, Any] | None) -> str | None:
    """What older runs, which kept no names of choices, chose: a module had its choice's name."""
    return str(chosen["_target_"]).split(".")[-2] if chosen and "_target_" in chosen else None


def full_path(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def found(given: str) -> Path:
    """The folder that is meant, from here or from the repository's root; it may be missing."""
    paths = (Path(str(given)).expanduser(), ROOT / str(given))
    return next((path for path in paths if path.is_dir()), paths[0]).resolve()


# here and not beside the commands: a launcher's fresh process imports what a job needs
OmegaConf.register_resolver("root", lambda: str(ROOT), replace=True)


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
