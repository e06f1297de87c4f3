"""What a result was made with: choices, code, machine. Written once, the same in every file."""

import contextlib
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanvit.app import names, parts
from leanvit.app.request import Request
from leanvit.app.second_stage import TAKEN_OVER

if TYPE_CHECKING:
    import torch

    from leanvit.training.fit import Training


PACKAGES = ("leanvit", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics")
# what decides no row of a comparison, or stands in a column of its own
NO_OVERRIDE = ("seed", "run", "pretrained", "lightweight.teacher", "data.source",
               *(f"data.{key}" for key in names.NO_CHOICE_OF_DATA))  # fmt: skip


def provenance(
    command: str,
    words: Sequence[str],
    *,
    name: str,
    choices: Mapping[str, Any],
    overrides: Mapping[str, Any],
    choices_hash: str,
    seed: int,
) -> dict[str, Any]:
    """Of one result.

    Args:
        command: the script's name, and the words behind it.
        name: of the run.
        overrides: single values that were given, see :func:`overrides_of`.
        choices_hash: equal for runs that differ in their seed alone.
    """
    return {
        "name": name,
        "choices": dict(choices),
        "overrides": dict(overrides),
        "choices_hash": choices_hash,
        "seed": seed,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": machine(),
        "command": command_line(command, words),
    }


def command_line(command: str, words: Sequence[str]) -> str:
    """What is typed for the same again, a run of a sweep for itself: with the folder of the user's
    own parts, if there is one, and where Python finds their classes."""
    own = [f"--config-dir={folder}" for folder in parts.folders()[1:]]
    left_out = ("hydra.searchpath=", "hydra.mode=")
    told = [each for each in words if not each.startswith(left_out)]
    if any(each.startswith("sweep=") for each in told):  # which would begin all of it again
        told.append("hydra.mode=RUN")
    line = shlex.join(["python", f"src/{command}.py", *own, *told])
    paths = [names.full_path(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep)
             if each and names.full_path(each) != str(names.ROOT / "src")]  # fmt: skip
    return f"PYTHONPATH={shlex.quote(os.pathsep.join(paths))} {line}" if own and paths else line


def overrides_of(request: Request) -> dict[str, Any]:
    """``model.dim=64`` as {"model.dim": 64}, without choices of groups, the seed and places; with
    those of the run that parts were taken over from."""
    kept, own = {}, {}
    if request.begins:
        kept, own = request.begins.told.get("overrides", {}), request.begins.choices
    taken = tuple(f"{part}." for part in TAKEN_OVER
                  if request.given.get(part, own.get(part)) == own.get(part))  # fmt: skip
    found = {key: value for key, value in kept.items() if key.startswith(taken)}
    for key, value in request.given.items():
        is_choice = key in request.choices or "@" in key  # also ~mix@late.mix, which leaves none
        is_choice = is_choice or key.split(".")[0] in (*names.NO_CHOICE, "hydra")
        if not is_choice and key not in NO_OVERRIDE:
            plain = isinstance(value, int | float | bool | type(None))
            found[key] = value if plain else str(value)
    return found


def row_choices(request: Request) -> dict[str, Any]:
    """The choices of a training as its row tells them: also what the run before brings."""
    begins, method = request.begins, request.choices.get("lightweight")
    told = {
        **request.choices,
        "lightweight": None if method == "none" else method,
        "classifier": request.classifier,
        "pretrained": begins.path.name.rpartition("-")[0] if begins else None,
    }
    if begins and request.trains_nothing:  # with its own loss and sampler
        told |= {key: begins.told["choices"][key] for key in ("loss", "sampler")}
    return told


def about_training(
    training: "Training", monitor: str | None = None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a run tells of how its net was trained.

    Args:
        before: the same of the run that the net was taken over from.
    """
    from leanvit.evaluation.comparison.compare import pflop_of

    return {
        "seconds": training.seconds,
        "pflop": training.pflop,
        "pflop_before": pflop_of(before) if before is not None else 0.0,
        "images_per_second": training.images_per_second,
        "epochs": len(training.history),
        "best_epoch": training.best_epoch,
        "device": device_name(training.device, training.threads),
        "precision": training.precision,
        **({"monitor": monitor} if monitor else {}),
    }


def versions() -> dict[str, str]:
    """Versions of what a result depends on, without those that are on Python's path alone."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git_commit() -> str | None:
    """Commit of the code, with "+changes" where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(names.ROOT), "describe", "--always", "--abbrev=40",
               "--dirty=+changes"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def machine() -> Mapping[str, Any]:
    """The machine in words: its processor, its cores, its GPUs."""
    import torch

    cpu = platform.processor() or platform.machine()
    if (told := Path("/proc/cpuinfo")).exists():
        found = [line.partition(":")[2].strip() for line in told.read_text().splitlines()
                 if line.startswith("model name")]  # fmt: skip
        cpu = found[0] if found else cpu
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names_of_gpus = [torch.cuda.get_device_name(index) for index in range(gpus)]
    return {"system": platform.platform(), "cpu": cpu, "cores": os.cpu_count(),
            "gpus": names_of_gpus}  # fmt: skip


def device_name(device: "torch.device", threads: Sequence[int] = ()) -> str:
    """The device in words.

    Args:
        threads: the numbers of them that were computed with; empty: as many as now.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    numbers = " or ".join(map(str, threads or [torch.get_num_threads()]))
    return f"{device.type}, {numbers} threads"
