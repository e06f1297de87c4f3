"""Which classes a config may name.

A config that was kept in a run directory is data, whoever made it: what is built from it are the
classes that a choice of conf/ names in the place where it names them, and nothing else.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from leanvit import plain_yaml
from leanvit.app.names import CONF, MOVED
from leanvit.errors import LeanvitError

PLACES: tuple[tuple[str, ...], ...] = ((), ("late",))  # where choices stand in a config
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
                raise LeanvitError(f"{whose}: {named} is no class that a file of conf/ names there")
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


@cache
def classes_of(group: str) -> frozenset[Any]:
    """What the choices of a folder of conf/ name as their class, today or in older versions."""
    if group not in {path.name for path in CONF.iterdir() if path.is_dir()}:
        return frozenset()
    choices = [plain_yaml.load(path.read_text("utf-8")) for path in (CONF / group).glob("*.yaml")]
    named = {value for path, value in _leaves(choices) if path[-1] == "_target_"}
    moved = {stood for (place, _), (stood, _) in MOVED.items() if place == group}
    return frozenset(named | moved)
