"""Weights of a method are taken over exactly where they mean the same."""

import pytest
import torch
from nets import scattered, vit
from torch import nn

from leanvit.contracts import Method
from leanvit.lightweight.distill import Distill
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.taken_over import take_over
from leanvit.lightweight.tome import ToMe

SMALL = {"predictor_dim": 8}


def taken(new: Method, old: nn.Module, **options: object) -> dict[str, str]:
    """Of each own weight of ``new`` whose value it is now: the name that it has in ``old``."""
    scattered(new, 1)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    names = {
        tuple(v.flatten().tolist()): name for name, v in scattered(old, 2).state_dict().items()
    }
    untrained = take_over(new, old, old.state_dict(), **options)
    now = new.state_dict()
    changed = {name: names[tuple(value.flatten().tolist())] for name, value in now.items()
               if not torch.equal(value, before[name])}  # fmt: skip
    own = {name for name, _ in new.named_parameters() if not name.startswith("net.")}
    assert untrained == sorted(own - changed.keys())
    return changed


def parts_of(changed: dict[str, str]) -> set[tuple[str, str]]:
    return {tuple(".".join(n.split(".")[:2]) for n in pair) for pair in changed.items()}


def test_predictors_of_other_places_are_not_taken() -> None:
    old = DynamicViT(vit(), after=[1, 2], ratios=[0.5, 0.5], **SMALL)
    new = DynamicViT(vit(), after=[2, 3], ratios=[0.5, 0.5], **SMALL)
    assert parts_of(taken(new, old)) == {("predictors.0", "predictors.1")}
    wider = DynamicViT(vit(), after=[1, 2], ratios=[0.5, 0.5], predictor_dim=16)
    assert taken(wider, old) == {}


def test_predictors_of_the_default_places_are_those_of_the_same_places_typed_out() -> None:
    old, new = DynamicViT(vit(), **SMALL), DynamicViT(vit(), after=[1, 2, 3], **SMALL)
    assert parts_of(taken(new, old)) == {(f"predictors.{i}", f"predictors.{i}") for i in range(3)}
    with torch.device("meta"):  # to see whether it begins untrained
        old, new = DynamicViT(vit(), **SMALL), DynamicViT(vit(), after=[1], ratios=[0.5])
    assert not take_over(old, old, old.state_dict())
    assert len(take_over(new, old, old.state_dict())) == 10  # 64 channels


def test_exits_are_taken_by_their_place_and_the_threshold_by_its_criterion() -> None:
    def exits(*after: int, criterion: str = "max_probability", threshold: float = 0.5) -> EarlyExit:
        return EarlyExit(vit(), 16, list(after), criterion=criterion, threshold=threshold)

    changed = taken(exits(1, 2, 3), exits(2, 3, threshold=0.8))
    assert parts_of(changed) == {
        ("heads.1", "heads.0"), ("heads.2", "heads.1"), ("threshold", "threshold")
    }  # fmt: skip
    by_entropy = taken(exits(1), exits(1, criterion="entropy", threshold=0.8))
    given = taken(exits(1), exits(1, threshold=0.8), given=["threshold"])
    assert parts_of(by_entropy) == parts_of(given) == {("heads.0", "heads.0")}
    assert taken(exits(1), EarlyExit(vit(num_classes=6), 16, [1], threshold=0.5)) == {}


@pytest.mark.parametrize("old", [vit(), ToMe(vit(), 2), Distill(vit()), EarlyExit(vit(), 16)])
def test_other_methods_have_nothing_that_means_the_same(old: nn.Module) -> None:
    token = Distill(vit(), kind="token")
    assert taken(token, old) == {}
    assert taken(token, Distill(vit(), kind="token")).keys() == {
        "distillation_token", "head.weight", "head.bias"
    }  # fmt: skip
    assert take_over(vit(), token, token.state_dict()) == []  # which has no parts of its own


@pytest.mark.parametrize(
    "method", [DynamicViT(vit()), EarlyExit(vit(), 16), Distill(vit(), kind="token")]
)
def test_every_own_weight_belongs_to_one_part(method: Method) -> None:
    own = {name for name in method.state_dict() if not name.startswith("net.")}
    for name in own:
        assert sum(name == part or name.startswith(f"{part}.") for part in method.parts()) == 1
    assert len(set(method.parts().values())) == len(method.parts())
