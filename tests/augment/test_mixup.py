"""mixup: what the targets say of an image is what the image shows."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.mixup import MixUp

COLOURS = torch.tensor([[0.0, 5.0, 1.0], [3.0, -2.0, 7.0], [10.0, 4.0, -6.0]])  # of each class


def constant(labels: Tensor) -> Tensor:
    return COLOURS[labels][:, :, None, None].expand(-1, -1, 4, 5).clone()


def test_images_and_targets_agree() -> None:
    torch.manual_seed(0)
    labels = torch.arange(301) % 3
    images = constant(labels)
    before = images.clone()
    mixed, targets = MixUp(num_classes=3)(images, labels)
    torch.testing.assert_close(targets.sum(1), torch.ones(301))
    assert targets.min() >= 0
    torch.testing.assert_close(
        mixed, (targets @ COLOURS)[:, :, None, None].expand_as(mixed), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(images, before)
    # an image holds its own class and that of one partner, and each has its own share
    assert ((targets > 0).sum(1) <= 2).all()
    share = targets.gather(1, labels[:, None])[:, 0]
    assert len(share[share < 1].unique()) > 150


def test_the_share_follows_the_beta_distribution() -> None:
    torch.manual_seed(0)
    for alpha in (0.2, 0.8, 3.0):
        labels = torch.arange(20_000) // 10_000  # partners are of the other class, in any case
        labels = torch.cat([labels[:10_000], labels[10_000:]])
        _, targets = MixUp(2, alpha=alpha)(torch.zeros(20_000, 3, 1, 1), labels)
        share = targets.gather(1, labels[:, None])[:, 0].double()
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(share.mean() - 0.5) < 4 * math.sqrt(variance / 20_000)
        assert abs(share.var() - variance) < 0.05 * variance


def test_unmixed_batches_are_one_hot() -> None:
    labels = torch.tensor([2, 0, 1, 2])
    images, targets = MixUp(3, probability=0.0)(constant(labels), labels)
    assert torch.equal(images, constant(labels))
    assert torch.equal(targets, one_hot(labels, 3).float())


def test_probability_is_of_the_batch() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1])
    mix = MixUp(2, probability=0.3)
    mixed = sum(bool((mix(constant(labels), labels)[1] < 1).all()) for _ in range(1000))
    assert abs(mixed - 300) < 4 * math.sqrt(1000 * 0.3 * 0.7)


def test_reproducible_and_of_the_images_type() -> None:
    labels = torch.arange(6) % 3
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(MixUp(3)(constant(labels).double(), labels))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert results[0][0].dtype == results[0][1].dtype == torch.float64
