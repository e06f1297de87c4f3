"""Curves of plain sizes, and what a lighter net is beside them."""

import numpy as np
import pytest

from leanvit.evaluation.cost.plain_sizes import beside_plain, curves

N = 1000


def right(share: float) -> np.ndarray:
    return (np.arange(N) < share * N).astype(np.float64)


SETTINGS = [
    {"model": "vit", "loss": "ce"},
    {"model": "vit", "loss": "ce", "model.depth": "2"},
    {"model": "vit", "loss": "ce", "model.depth": "2"},  # another seed
    {"model": "vit", "loss": "ce", "lightweight": "tome"},
    {"model": "vit", "loss": "ce", "method": "prune", "method.macs": "0.5"},
    {"model": "vit", "loss": "ce", "max_epochs": "3"},  # trained otherwise, a single size
    {"model": "swin", "loss": "ce", "lightweight": "evit"},
]
MACS = [8e6, 2e6, 2e6, 5e6, 4e6, 8e6, 5e6]


def test_a_curve_is_of_one_recipe_and_several_sizes() -> None:
    plain = curves(SETTINGS, MACS)
    assert [each.size if each else None for each in plain] == [8e6, 2e6, 2e6, *[None] * 4]
    assert len({each.curve for each in plain if each}) == 1
    assert curves(SETTINGS[:1], MACS[:1]) == [None]


def test_a_lighter_net_meets_the_curve_at_its_own_speed() -> None:
    answers = [right(each) for each in (0.9, 0.6, 0.8, 0.85, 0.75, 0.5, 0.9)]
    rates = [100.0, 400.0, 400.0, 200.0, 500.0, 100.0, 200.0]
    found = beside_plain(SETTINGS, curves(SETTINGS, MACS), [None] * 7, rates, answers)
    # half way by the logarithm between 0.9 and the seeds' 0.7
    assert found[3] and found[3].value == pytest.approx(0.85 - 0.8) and found[3].is_shown
    assert [each for each in found if each] == [found[3]]  # 500: beyond; swin: no curve
    rates[4] = 400.0
    at_the_end = beside_plain(SETTINGS, curves(SETTINGS, MACS), [None] * 7, rates, answers)[4]
    assert at_the_end and at_the_end.value == pytest.approx(0.75 - 0.7)


def test_sizes_as_fast_as_each_other_are_no_fault() -> None:
    answers = [right(each) for each in (0.9, 0.6, 0.8, 0.85)]
    rates = [200.0] * 4
    (*_, light) = beside_plain(
        SETTINGS[:4], curves(SETTINGS[:4], MACS[:4]), [None] * 4, rates, answers
    )
    assert light and np.isfinite(light.value)


def test_the_curve_is_that_of_the_recipe_and_of_one_net() -> None:
    longer = [{"model": "vit", "max_epochs": "100", "model.depth": each} for each in "123"]
    own = [{"model": "vit"}, {"model": "vit", "model.depth": "1"}]
    light = {"model": "vit", "lightweight": "tome"}
    settings, macs = [*longer, *own, light], [1.0, 2.0, 3.0, 2.0, 1.0, 1.5]
    answers = [right(each) for each in (0.8, 0.9, 0.95, 0.6, 0.4, 0.55)]
    rates = [300.0, 200.0, 100.0, 200.0, 400.0, 200.0]
    plain = curves(settings, macs)
    for base, wanted in ((None, 0.6), (3, 0.6), (1, 0.9)):
        found = beside_plain(settings, plain, [*[None] * 5, base], rates, answers)[-1]
        assert found and found.value == pytest.approx(0.55 - wanted)
    others = [{"model": "timm", "model.name": each} for each in ("resnet18", "vit_tiny")]
    assert curves(others, [1.0, 2.0]) == [None, None]
    dropout = {"model": "vit", "model.dropout": "0.5"}  # no other size
    assert curves([*own, dropout], [2.0, 1.0, 2.0])[-1] is None
