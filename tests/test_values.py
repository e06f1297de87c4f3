"""What no constructor's annotations have to say, since it holds for all values."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from image_trees import refused
from parts import taker_of
from scripts import ROOT

from leanvit import values
from leanvit.app.build import late_epoch
from leanvit.data.split import with_validation
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit
from leanvit.training.trainable import Trainable

CHOICES = [
    path.relative_to(ROOT / "conf").with_suffix("").parts
    for path in sorted((ROOT / "conf").glob("*/*.yaml"))
    if "\n_target_: leanvit" in path.read_text()
]
TAKERS = [ImageDataModule, with_validation, fit, Trainable, late_epoch]


@pytest.mark.parametrize(
    "taker",
    [*TAKERS, *dict.fromkeys(taker_of(*each) for each in CHOICES)],
    ids=lambda taker: f"{taker.__module__}.{taker.__qualname__}",
)
def test_no_value_is_infinite_or_no_number(taker: Callable[..., Any]) -> None:
    for name, taken in values.annotations(taker).items():
        for given in (math.inf, -math.inf, math.nan):
            if taken is not Any and not dataclasses.is_dataclass(taken):
                assert f"{name}={given}" in refused(values.check, taker, {name: given})
