"""CMO: boxes of a minority-weighted draw on the ordinary images, targets that measure them."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.cmo import CMO
from leanvit.augment.cutmix import CutMix
from leanvit.errors import LeanvitError

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
    mixed, targets = CMO(4, COUNTS, probability=1.0)(images, labels)
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
        mixed, targets = CMO(4, COUNTS)(reversed_as_foreground, both_labels)
        torch.manual_seed(seed)
        twin, twin_targets = CutMix(4)(images[:50], labels[:50])
        assert torch.equal(mixed, twin) and torch.equal(targets, twin_targets)


def test_unmixed_batches_are_the_ordinary_images() -> None:
    images, labels = pair()
    whole, targets = CMO(4, COUNTS, probability=0.0)(images, labels)
    assert torch.equal(whole, images[:50])
    assert torch.equal(targets, one_hot(labels[:50], 4).float())
    torch.manual_seed(0)
    mix = CMO(4, COUNTS, probability=0.3)
    mixed = sum(not torch.equal(mix(images, labels)[0], images[:50]) for _ in range(400))
    assert abs(mixed - 120) < 4 * math.sqrt(400 * 0.3 * 0.7)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0])
def test_foreground_classes_follow_the_papers_distribution(exponent: float) -> None:
    mix = CMO(4, COUNTS, exponent=exponent)
    terms = [n**-exponent if n else 0.0 for n in COUNTS.tolist()]
    expected = torch.tensor(terms, dtype=torch.float64) / sum(terms)
    torch.testing.assert_close(mix.class_probabilities, expected)
    weights = mix.foreground_weights(LABELS)
    per_class = torch.stack([weights[LABELS.eq(k)].sum() for k in range(4)])
    torch.testing.assert_close(per_class, expected)
    for k in (0, 1, 3):
        assert len(weights[LABELS.eq(k)].unique()) == 1  # within the class every image alike


def test_limits_of_the_exponent() -> None:
    r1, r0 = (CMO(4, COUNTS, exponent=r).foreground_weights(LABELS) for r in (1.0, 0.0))
    inverse = 1 / COUNTS[LABELS].double()
    torch.testing.assert_close(r0, inverse / 3)  # an image's weight in the official code
    torch.testing.assert_close(r1, inverse**2 / (1 / 60 + 1 / 12 + 1 / 3))
    uniform = CMO(4, COUNTS, exponent=-1.0).foreground_weights(LABELS)
    torch.testing.assert_close(uniform, torch.full((75,), 1 / 75, dtype=torch.float64))
    even = CMO(3, torch.full((3,), 5)).foreground_weights(torch.arange(15) % 3)
    torch.testing.assert_close(even, torch.full((15,), 1 / 15, dtype=torch.float64))


def test_reproducible_of_the_images_type_and_the_same_under_autocast() -> None:
    images, labels = pair()
    mix = CMO(4, COUNTS, probability=1.0)
    results = []
    for enabled in (False, False, True):
        torch.manual_seed(7)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(mix(images, labels))
    for mixed, targets in results[1:]:
        assert torch.equal(mixed, results[0][0]) and torch.equal(targets, results[0][1])
    mixed, targets = mix(images.double(), labels)
    assert mixed.dtype == targets.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.0}, r"CutMix's alpha=0\.0 must be above 0"),
        ({"exponent": math.inf}, r"mix\.exponent=inf must be finite"),
        ({"probability": 1.2}, r"mix\.probability=1\.2 must lie between 0 and 1"),
    ],
)
def test_impossible_values_are_refused_in_one_line(options: dict, words: str) -> None:
    with pytest.raises(LeanvitError, match=words) as caught:
        CMO(4, COUNTS, **options)
    assert "\n" not in str(caught.value)
