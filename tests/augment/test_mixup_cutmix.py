"""mixup or CutMix: exactly one of the two for a batch, as often as asked for."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.cutmix import CutMix
from leanvit.augment.mixup import MixUp
from leanvit.augment.mixup_cutmix import MixUpCutMix

LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2])


def batch() -> Tensor:
    return torch.randn(7, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_a_batch_is_mixed_by_one_of_the_two_draw_for_draw() -> None:
    mix = MixUpCutMix(3, mixup_alpha=0.3, cutmix_alpha=2.0, switch_probability=0.4)
    twins = MixUp(3, alpha=0.3), CutMix(3, alpha=2.0, probability=1.0)
    chosen = []
    for seed in range(40):
        torch.manual_seed(seed)
        mixed = mix(batch(), LABELS)
        torch.manual_seed(seed)
        torch.rand(())  # whether to mix
        switch = int(torch.rand(()) < 0.4)
        assert same(mixed, twins[switch](batch(), LABELS))
        # every pixel of CutMix is of one image; of mixup hardly any is
        pasted = (mixed[0] == batch()) | (mixed[0] == batch().flip(0))
        assert bool(pasted.all()) == bool(switch)
        chosen.append(switch)
    assert 0 < sum(chosen) < 40


@pytest.mark.parametrize(("switch", "alone"), [(0.0, MixUp), (1.0, CutMix)])
def test_the_ends_of_the_switch_are_mixup_and_cutmix(switch: float, alone: type) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        mixed = MixUpCutMix(3, switch_probability=switch)(batch(), LABELS)
        torch.manual_seed(seed)
        torch.rand(()), torch.rand(())  # whether to mix, and by which
        assert same(mixed, alone(3, probability=1.0)(batch(), LABELS))


def test_both_probabilities_are_of_the_batch() -> None:
    torch.manual_seed(0)
    mix = MixUpCutMix(3, switch_probability=0.3, probability=0.6)
    images, count = batch(), {"whole": 0, "cutmix": 0, "mixup": 0}
    for _ in range(400):
        mixed, targets = mix(images, LABELS)
        if torch.equal(mixed, images) and torch.equal(targets, one_hot(LABELS, 3).float()):
            count["whole"] += 1
        elif ((mixed == images) | (mixed == images.flip(0))).all():
            count["cutmix"] += 1
        else:
            count["mixup"] += 1
        torch.testing.assert_close(targets.sum(1), torch.ones(7))
    for name, p in {"whole": 0.4, "cutmix": 0.6 * 0.3, "mixup": 0.6 * 0.7}.items():
        assert abs(count[name] - 400 * p) < 4 * math.sqrt(400 * p * (1 - p)), name
