"""Values of a grid that not every choice has.

Hydra composes a grid at first without what is swept. ``-m experiment=demo_vit,demo_coatnet
data.num_train=500`` would be refused then: the images of conf/train.yaml have no such number. A
value that one of the swept choices brings a place for is given as ``choice(500)``, a sweep of one,
and so left to the jobs.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from leanvit.app import names, parts


def left_to_jobs(command: str, words: Sequence[str]) -> list[str]:
    """The words of a grid's command line, flags among them, as Hydra is to have them."""
    given = [word for word in words if not word.startswith("-")]
    try:
        parsed = dict(zip(given, OverridesParser.create().parse_overrides(given), strict=True))
        values = [word for word, each in parsed.items() if _is_value(each)]
        plain = [word for word, each in parsed.items()
                 if word not in values and not each.is_sweep_override()]  # fmt: skip
        with initialize_config_dir(str(names.CONF)):
            plain = [*parts.search_path(), *plain]
            base = compose(command, plain, return_hydra_config=True) if values else None
            lacking = [word for word in values if not _has(base, parsed[word])]
            if base is None or not lacking:
                return list(words)
            others = (compose(command, [*plain, each]) for each in _swept(parsed, base))
            left = {word for other in others for word in lacking if _has(other, parsed[word])}
    except HydraException:  # Hydra itself will tell
        return list(words)
    return [_as_sweep(word) if word in left else word for word in words]


@contextlib.contextmanager
def told_to_hydra(words: Sequence[str]) -> Iterator[None]:
    """Let Hydra, which reads ``sys.argv`` alone, read these words."""
    asked = sys.argv
    sys.argv = [asked[0], *words]
    try:
        yield
    finally:
        sys.argv = asked


def _is_value(each: Override) -> bool:
    is_single = each.type == OverrideType.CHANGE and not each.is_sweep_override()
    return is_single and "." in each.key_or_group and not each.is_hydra_override()


def _has(config: DictConfig | None, each: Override) -> bool:
    place, _, key = each.key_or_group.rpartition(".")
    found = OmegaConf.select(config, place) if config is not None else None
    # "in" does not see a value that is to be given, "???"
    return isinstance(found, DictConfig) and (key in found or OmegaConf.is_missing(found, key))


def _swept(parsed: dict[str, Override], base: DictConfig) -> Iterator[str]:
    """``choice=name`` of each that is swept, by the command line or by ``sweep=``."""
    for key, value in (base.hydra.sweeper.get("params") or {}).items():
        if (names.CONF / str(key)).is_dir():
            yield from (f"{key}={each.strip()}" for each in str(value).split(","))
    for each in parsed.values():
        if each.is_sweep_override() and (names.CONF / each.key_or_group).is_dir():
            yield from (f"{each.get_key_element()}={name}" for name in each.sweep_string_iterator())


def _as_sweep(word: str) -> str:
    """The word as a sweep of one, or as it is where a sweep would change its value."""
    key, _, value = word.partition("=")
    sweep, parser = f"{key}=choice({value})", OverridesParser.create()
    with contextlib.suppress(HydraException):
        told = [f"{key}={each}" for each in parser.parse_override(sweep).sweep_string_iterator()]
        values = [parser.parse_override(each).value() for each in (word, *told)]
        if len(values) == 2 and repr(values[0]) == repr(values[1]):
            return sweep
    return word
