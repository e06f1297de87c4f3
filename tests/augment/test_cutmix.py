"""CutMix: a box of the partner in each image, and targets that measure it."""

import torch
from torch import Tensor

from leanvit.augment.cutmix import CutMix

COLOURS = torch.tensor([[0.0, 5.0, 1.0], [3.0, -2.0, 7.0], [10.0, 4.0, -6.0]])  # of each class


def constant(labels: Tensor, height: int = 8, width: int = 12) -> Tensor:
    return COLOURS[labels][:, :, None, None].expand(-1, -1, height, width).clone()


def test_targets_are_the_areas_shown() -> None:
    torch.manual_seed(0)
    labels = torch.arange(301) % 3
    images = constant(labels)
    before = images.clone()
    mixed, targets = CutMix(3, probability=1.0)(images, labels)
    assert torch.equal(images, before)
    torch.testing.assert_close(targets.sum(1), torch.ones(301))
    for k in range(3):
        shown = (mixed == COLOURS[k][:, None, None]).all(1).float().mean((1, 2))
        torch.testing.assert_close(targets[:, k], shown, rtol=1e-5, atol=1e-6)
    share = targets.gather(1, labels[:, None])[:, 0]
    assert len(share.unique()) > 20  # a box for each image


def test_what_is_pasted_is_one_box_at_its_place_in_the_partner() -> None:
    torch.manual_seed(1)
    labels = torch.zeros(50, dtype=torch.int64)
    images = torch.arange(50 * 3 * 8 * 12).float().view(50, 3, 8, 12)  # every value its own
    mixed, _ = CutMix(1, probability=1.0)(images, labels)
    pasted = mixed != images
    assert 10 < pasted.flatten(1).any(1).sum() <= 50
    for i in pasted.flatten(1).any(1).nonzero()[:, 0]:
        place = pasted[i].nonzero()
        low, high = place.min(0).values, place.max(0).values + 1
        assert pasted[i].sum() == (high - low).prod()  # a full box, in all three channels
        assert high[0] - low[0] == 3
        box = (slice(None), slice(low[1], high[1]), slice(low[2], high[2]))
        (partner,) = (mixed[i][box].flatten()[0] // (3 * 8 * 12)).long()[None]
        assert torch.equal(mixed[i][box], images[partner][box])


def test_the_box_has_the_area_drawn() -> None:
    """alpha 1: an unclipped area would be uniform, 1/2 on average; clipping takes some of it."""
    torch.manual_seed(0)
    boxes = CutMix(2).boxes(torch.zeros(4000, 3, 64, 64))
    area = boxes.double().mean((1, 2))
    # the mean of side^2 after clipping at a uniform centre: side s leaves s - s^2/4 of a line on
    # average, so E[(s - s^2/4)^2] with s^2 uniform = 1/2 - E[s^3]/2 + E[s^4]/16 = 1/2 - 1/5 + 1/48
    expected = 1 / 2 - 1 / 5 + 1 / 48
    assert abs(area.mean() - expected) < 0.02
    # the middle is covered more often than the corners, and both sides of it alike
    often = boxes.double().mean(0)
    assert often[32, 32] > 2 * often[0, 0]
    assert abs(often[:32].mean() - often[32:].mean()) < 0.02
    assert abs(often[:, :32].mean() - often[:, 32:].mean()) < 0.02
