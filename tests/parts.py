"""The choices of conf/, and parts built from them without composing a whole config."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from hydra.utils import get_object
from image_trees import refused
from omegaconf import DictConfig, OmegaConf
from scripts import ROOT
from torch import Tensor

from leanvit import values
from leanvit.values import offered


@cache
def choices(group: str) -> dict[str, DictConfig]:
    """Every file of a group, by its name."""
    files = sorted((ROOT / "conf" / group).glob("*.yaml"))
    return {each.stem: OmegaConf.load(each) for each in files}


def taker_of(group: str, name: str) -> Any:
    """The class or function of a choice."""
    return get_object(choices(group)[name]._target_)


def build(taker: Callable[..., Any], counts: Tensor, **options: Any) -> Any:
    """A loss or a mixing for so many images of each class."""
    return taker(**offered(taker, class_counts=counts, num_classes=len(counts)), **options)


def default(group: str, name: str, counts: Tensor) -> Any:
    """The same with the values of its file."""
    given = OmegaConf.to_container(choices(group)[name])
    options = {key: value for key, value in given.items() if not key.startswith("_")}
    return build(taker_of(group, name), counts, **options)


def check_refused(group: str, name: str, wrong: Mapping[str, Sequence[Any]]) -> None:
    """See that values outside their range are refused by name, and the file's own are taken."""
    taker = taker_of(group, name)
    for key, given in wrong.items():
        assert key in values.annotations(taker)
        for value in given:
            message = refused(values.check, taker, {key: value}, f"{group}.")
            assert message.startswith(f"{group}.{key}=")
    plain = OmegaConf.to_container(choices(group)[name], throw_on_missing=False)
    known = set(values.annotations(taker))
    own = {key: value for key, value in plain.items() if key in known and "${" not in str(value)}
    values.check(taker, own, f"{group}.")


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of ten images and four classes, labels, and shares."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(10, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(10, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 3, 0, 2, 1, 1, 0])
    return logits, labels, soft / soft.sum(1, keepdim=True)
