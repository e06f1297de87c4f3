"""Which classes a config may name.

A config that was kept in a run directory is data, whoever made it: what is built from it are the
classes that a choice of conf/ names in the place where it names them, and nothing else. Whoever
gives ``--config-dir`` (or sets ``LEANVIT_PARTS`` to the same folder) trusts the classes that the
choices of that folder name as well.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from leanvit import plain_yaml
from leanvit.app.names import CONF, MOVED
from leanvit.errors import LeanvitError

PLACES: tuple[tuple[str, ...], ...] = ((), ("late",))  # where choices stand in a config
OWN = "LEANVIT_PARTS"  # of the environment, for jobs in other processes, and for leanvit.load
NEVER_BUILT = ("logger",)  # of a kept config: whoever trains has one of their own


def check_parts(config: DictConfig, whose: str) -> None:
    """See that a config is plain values and classes of conf/.

    Args:
        whose: it is, for the message.

    Raises:
        LeanvitError: another class, at whatever depth, or a value that is worked out when read.
    """
    for path, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        named = f"{'.'.join(path)}={value}"
        if path[0] in NEVER_BUILT:
            continue
        if "_target_" in path:
            place, group = path[:-2], "".join(path[-2:-1])
            if place not in PLACES or value not in classes_of(group):
                hint = "" if place not in PLACES else "; of your own parts say --config-dir"
                raise LeanvitError(
                    f"{whose}: {named} is no class that a file of conf/ names there{hint}"
                )
        elif isinstance(value, str) and "${" in value:
            raise LeanvitError(f"{whose}: {named} is worked out when read, and no plain value")


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping and no list, and the keys that lead to it."""
    if isinstance(values, dict | list):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in items:
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, values


def folders() -> tuple[Path, ...]:
    """conf/, and the folder of the user's own choices, if there is one."""
    own = os.environ.get(OWN)
    return (CONF, Path(own).expanduser().resolve()) if own else (CONF,)


def search_path() -> list[str]:
    """What Hydra is told of the user's own folder where it composes a config for us."""
    return [f'hydra.searchpath=["file://{folder}"]' for folder in folders()[1:]]


def is_own(path: str) -> bool:
    """A choice of the user's own folder names this class."""
    groups = {each.name for folder in folders()[1:] for each in folder.iterdir() if each.is_dir()}
    return any(path in classes_of(group) for group in groups)


def classes_of(group: str) -> frozenset[Any]:
    """What the choices of a folder of conf/ name as their class, today or in older versions."""
    return _classes_of(group, folders())


@cache
def _classes_of(group: str, folders: tuple[Path, ...]) -> frozenset[Any]:
    if group not in {path.name for path in CONF.iterdir() if path.is_dir()}:
        return frozenset()
    files = [path for folder in folders for path in (folder / group).glob("*.yaml")]
    choices = [plain_yaml.load(path.read_text("utf-8")) for path in files]
    named = {value for path, value in _leaves(choices) if path[-1:] == ("_target_",)}
    moved = {stood for (place, _), (stood, _) in MOVED.items() if place == group}
    return frozenset(named | moved)
