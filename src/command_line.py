"""What the entry scripts share: their arguments, and errors as one line."""

import difflib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import naming
from leanvit.errors import LeanvitError


def imply_choices() -> None:
    """Put ``model=`` and ``data=`` of the pretrained run on the command line, so that single values
    of its net and its images can be given as if they had been chosen here."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    if not given.get("pretrained"):
        return
    paths = [naming.found_run(each.strip("'\"")) for each in given["pretrained"].split(",")]
    kept = [path / "config.yaml" for path in paths]
    configs: list[Any] = [OmegaConf.load(path) for path in kept if path.exists()]
    for config in configs:
        if naming.is_only_taught(config.get("lightweight") or {}, given):
            config.lightweight = None
    for part in ("model", "data", "lightweight"):
        names = {naming.module_name(config.get(part)) for config in configs}
        known = [name for name in names if (naming.ROOT / "conf" / part / f"{name}.yaml").exists()]
        if part not in given and len(names) == len(known) == 1:
            naming.IMPLIED.append(f"{part}={known[0]}")
    place = next(i for i, each in enumerate(sys.argv) if each.startswith("pretrained="))
    sys.argv[place:place] = naming.IMPLIED


def list_argument(name: str) -> None:
    """Let ``name=a,b`` on the command line mean a list; Hydra alone would want it in brackets."""
    for i, argument in enumerate(sys.argv):
        value = argument.removeprefix(f"{name}=")
        if value != argument and not value.startswith("["):
            quoted = ",".join("'" + item.replace("'", "\\'") + "'" for item in value.split(","))
            sys.argv[i] = f"{name}=[{quoted}]"


def flag_first(*flags: str) -> None:
    """Let a flag stand anywhere among the choices; Hydra wants it before or after them all."""
    given = [argument for argument in sys.argv[1:] if argument in flags]
    sys.argv[1:] = given + [argument for argument in sys.argv[1:] if argument not in flags]


def traceback_wanted() -> bool:
    return os.environ.get("LEANVIT_TRACEBACK") == "1"


ERRORS: list[Exception] = []


def keep_error(task: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Keep an error of a Hydra task for :func:`run`; Hydra would add lines of its own to it."""

    @functools.wraps(task)
    def kept(config: DictConfig) -> None:
        try:
            task(config)
        except Exception as error:
            ERRORS.append(error)

    return kept


def run(main: Callable[[], Any]) -> None:
    """Call a Hydra main; what goes wrong becomes one line on standard error.

    Exit status 2: the command line; 1: anything else. ``HYDRA_FULL_ERROR=1`` shows the traceback.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ["LEANVIT_TRACEBACK"] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits before we can speak
    try:
        main()
        if ERRORS:
            raise ERRORS[0]
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if traceback_wanted():
            traceback.print_exc()
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, HydraException | OmegaConfBaseException) else 1)


def check_whole(key: str, value: object, least: int) -> None:
    """Refuse what is no whole number, or less than ``least``."""
    if type(value) is not int or value < least:
        raise LeanvitError(f"{key}={value} must be a whole number, at least {least}")


def explain(error: BaseException) -> str:
    """One line for a person: what, where, how to mend it."""
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, LeanvitError):
        if isinstance(cause, MissingConfigException):
            break
        cause = cause.__cause__
    if isinstance(cause, LeanvitError):
        return str(cause)
    if isinstance(cause, MissingConfigException):
        return _unknown_choice(cause)
    if isinstance(cause, OmegaConfBaseException):
        return _unknown_key(cause) or " ".join(str(cause).split())
    if _is_out_of_memory(cause):
        return "out of memory: lower batch_size, or choose a smaller model"
    text = " ".join(str(cause).split())
    if text.startswith("Ambiguous value for argument"):
        return f"{text.split(chr(39))[1]} gives several values: for a grid of them add -m"
    if isinstance(cause, HydraException):
        return text
    return f"{type(cause).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in text
    )


def _unknown_choice(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    if not error.options:
        return f"there is no {wanted}: see the folders of conf/"
    group, _, name = wanted.rpartition("/")
    return f"there is no {group}={name}: {_nearest(name, list(error.options))}"


def _unknown_key(error: OmegaConfBaseException) -> str | None:
    if error.key is None or not isinstance(error.parent_node, DictConfig):
        return None
    if "Missing mandatory value" in str(error):
        return f"{error.full_key} must be given: {error.full_key}=..."
    names = [str(key) for key in error.parent_node]
    if str(error.key) in names:
        return None
    where = str(error.full_key).rpartition(".")[0]
    if not names:
        return f"there is no {error.full_key} without a {where}: choose one with {where}=..."
    return f"there is no {error.full_key}: {_nearest(str(error.key), names, where)}"


def _nearest(name: str, names: list[str], where: str = "") -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(sorted(names))}" + (f" in {where}" if where else "")


def value_overrides(task_overrides: list[str], choices: dict[str, Any]) -> dict[str, Any]:
    """``model.dim=64`` as {"model.dim": 64}; choices of a whole group left out, as are the seed and
    where files lie."""
    left_out = {
        "seed",
        "pretrained",
        "lightweight.teacher",
        "data.source",
        *(f"data.{key}" for key in naming.NOT_A_CHOICE_OF_DATA),
    }
    values = {}
    for override in OverridesParser.create().parse_overrides(list(task_overrides)):
        key = override.key_or_group
        if key in choices or key in left_out or key.split(".")[0] in naming.NOT_A_CHOICE:
            continue
        value = override.value()
        values[key] = value if isinstance(value, int | float | bool | type(None)) else str(value)
    return values
