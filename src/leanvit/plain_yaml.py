"""YAML of values, as runs keep them; whoever wrote it, reading it ends and takes no gigabytes."""

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where there is one
DEEPEST = 100  # of values within values: libyaml has no end of the stack in mind


def load(text: str, aliases: bool = False) -> Any:
    """The value that a text is.

    Args:
        aliases: whether it may have some, which leanvit does not write: a few lines of them stand
            for gigabytes where each is copied.

    Raises:
        yaml.YAMLError: it is no YAML, or not of this kind.
    """
    try:
        return _load(text, aliases, LOADER)
    except yaml.YAMLError:  # libyaml knows no lone surrogates, of names that are no UTF-8
        return _load(text, aliases, yaml.SafeLoader)


def _load(text: str, aliases: bool, loader: Any) -> Any:
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise yaml.YAMLError("an alias, * and a name, stands where values do")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"values stand in values, more than {DEEPEST} deep")
    return yaml.load(text, loader)
