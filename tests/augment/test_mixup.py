"""mixup: what the targets say of an image is what the image shows."""

import math

import torch
from torch import Tensor

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
