"""mixup or CutMix: exactly one of the two for a batch, as often as asked for."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.cutmix import CutMix
from leanvit.augment.mixup import MixUp
from leanvit.augment.mixup_cutmix import MixUpCutMix
from leanvit.errors import LeanvitError

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


def test_autocast_changes_nothing() -> None:
    mix = MixUpCutMix(3)
    for seed in range(4):
        torch.manual_seed(seed)
        plain = mix(batch(), LABELS)
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16):
            assert same(mix(batch(), LABELS), plain)
        assert plain[0].dtype == plain[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixup_alpha": 0.0}, r"mixup's alpha=0\.0 must be above 0"),
        ({"cutmix_alpha": math.inf}, r"CutMix's alpha=inf must be above 0 and finite"),
        ({"switch_probability": 1.5}, r"mix\.switch_probability=1\.5 must lie between 0.*and 1"),
        ({"probability": -0.1}, r"mix\.probability=-0\.1 must lie between 0 and 1"),
    ],
)
def test_impossible_values_are_refused_in_one_line(options: dict, words: str) -> None:
    with pytest.raises(LeanvitError, match=words) as caught:
        MixUpCutMix(3, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alone", [MixUp, CutMix])
@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"probability": 2.0}])
def test_mixup_and_cutmix_refuse_them_too(alone: type, options: dict) -> None:
    with pytest.raises(LeanvitError, match=str(next(iter(options.values())))):
        alone(3, **options)
