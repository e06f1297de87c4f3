"""CMO: boxes of a minority-weighted draw on the ordinary images, targets that measure them."""

import pytest
import torch
from torch import Tensor

from leanvit.augment.cmo import CMO
from leanvit.augment.cutmix import CutMix

COUNTS = torch.tensor([60, 12, 0, 3])
LABELS = torch.arange(4).repeat_interleave(COUNTS)


def pair(number: int = 50) -> tuple[Tensor, Tensor]:
    """Ordinary images and foregrounds, every value its own."""
    labels = torch.arange(2 * number) % 4
    labels[number:] = labels[number:].flip(0)
    return torch.arange(2 * number * 3 * 8 * 12).float().view(2 * number, 3, 8, 12), labels


def test_targets_are_the_areas_of_foreground_and_background() -> None:
    images, labels = pair()
    before = images.clone()
    torch.manual_seed(0)
    mixed, targets = CMO(4, probability=1.0)(images, labels)
    assert mixed.shape == (50, 3, 8, 12) and targets.shape == (50, 4)
    assert torch.equal(images, before)
    areas = set()
    for i in range(50):
        pasted = mixed[i] == images[50 + i]  # at its place in the foreground
        assert torch.equal(torch.where(pasted, images[50 + i], images[i]), mixed[i])
        assert torch.equal(pasted[0], pasted[1]) and torch.equal(pasted[0], pasted[2])
        area = int(pasted[0].sum())
        if area:
            place = pasted[0].nonzero()
            assert (place.max(0).values - place.min(0).values + 1).prod() == area  # one full box
        expected = torch.zeros(4)
        expected[labels[i]] += 1 - area / 96
        expected[labels[50 + i]] += area / 96
        torch.testing.assert_close(targets[i], expected, rtol=0, atol=1e-6)
        areas.add(area)
    assert len(areas) > 20  # each image has its own box
    torch.testing.assert_close(targets.sum(1), torch.ones(50))


def test_it_is_cutmix_with_a_partner_from_elsewhere() -> None:
    images, labels = pair()
    reversed_as_foreground = torch.cat([images[:50], images[:50].flip(0)])
    both_labels = torch.cat([labels[:50], labels[:50].flip(0)])
    for seed in range(8):  # unmixed batches too
        torch.manual_seed(seed)
        mixed, targets = CMO(4)(reversed_as_foreground, both_labels)
        torch.manual_seed(seed)
        twin, twin_targets = CutMix(4)(images[:50], labels[:50])
        assert torch.equal(mixed, twin) and torch.equal(targets, twin_targets)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0])
def test_foreground_classes_follow_the_papers_distribution(exponent: float) -> None:
    mix = CMO(4, exponent=exponent)
    terms = [n**-exponent if n else 0.0 for n in COUNTS.tolist()]
    expected = torch.tensor(terms, dtype=torch.float64) / sum(terms)
    weights = mix.partners(LABELS)
    per_class = torch.stack([weights[LABELS.eq(k)].sum() for k in range(4)])
    torch.testing.assert_close(per_class, expected)
    for k in (0, 1, 3):
        assert len(weights[LABELS.eq(k)].unique()) == 1  # within the class every image alike


def test_limits_of_the_exponent() -> None:
    r1, r0 = (CMO(4, exponent=r).partners(LABELS) for r in (1.0, 0.0))
    inverse = 1 / COUNTS[LABELS].double()
    torch.testing.assert_close(r0, inverse / 3)  # an image's weight in the official code
    torch.testing.assert_close(r1, inverse**2 / (1 / 60 + 1 / 12 + 1 / 3))
    uniform = CMO(4, exponent=-1.0).partners(LABELS)
    torch.testing.assert_close(uniform, torch.full((75,), 1 / 75, dtype=torch.float64))
    even = CMO(3).partners(torch.arange(15) % 3)
    torch.testing.assert_close(even, torch.full((15,), 1 / 15, dtype=torch.float64))
