"""Strong: TrivialAugment, then random erasing as torchvision draws it."""

import math

import torch
from pictures import chi_square, pictures

from leanvit.augment.strong import Strong
from leanvit.augment.trivial import Trivial


def test_it_is_trivial_with_a_box_painted_over() -> None:
    images, index = pictures(20), torch.arange(200) % 20
    strong, trivial = Strong(fill=(1, 2, 3)), Trivial()
    out = strong(strong.prepare(images), index, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    whole = trivial(trivial.prepare(images), index, generator)
    boxes = strong.boxes(200, (32, 32), generator)
    for image, (top, left, height, width), result in zip(whole, boxes.tolist(), out, strict=True):
        expected = image.clone()
        expected[:, top : top + height, left : left + width] = torch.tensor([1, 2, 3])[
            :, None, None
        ]
        assert torch.equal(result, expected)
    assert 60 < (boxes[:, 2] > 0).sum() < 140


def test_areas_ratios_and_places_follow_their_distributions() -> None:
    # so large that rounding to pixels does not matter; nothing is too long to fit
    strong = Strong(erase=1.0, scale=(0.02, 0.2), ratio=(0.3, 3.3))
    boxes = strong.boxes(8000, (3000, 3000), torch.Generator().manual_seed(0)).double()
    top, left, height, width = boxes.unbind(1)
    area, ratio = height * width / 3000**2, (height / width).log()
    for share in (
        (area - 0.02) / 0.18,
        (ratio - math.log(0.3)) / math.log(11),
        top / (3001 - height),
        left / (3001 - width),
    ):
        assert chi_square((share * 20).clamp(0, 19.99).long(), 20) < 45  # p about 0.0007
    drawn = torch.stack([area, ratio, top / (3001 - height), left / (3001 - width)])
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < 0.05  # independent


def test_probability_and_places() -> None:
    for probability in (0.0, 0.3, 1.0):
        boxes = Strong(erase=probability).boxes(4000, (32, 20), torch.Generator().manual_seed(0))
        top, left, height, width = boxes.unbind(1)
        erased = (height > 0).double()
        assert torch.equal(boxes * erased.long()[:, None], boxes)
        spread = math.sqrt(probability * (1 - probability) / 4000)
        assert abs(erased.mean() - probability) <= 4 * spread
        assert height.max() < 32 and width.max() < 20  # torchvision erases no whole side
        assert (top + height).max() <= 32 and (left + width).max() <= 20
        assert boxes.min() >= 0


def test_what_never_fits_is_not_erased() -> None:
    boxes = Strong(erase=1.0, scale=(1.0, 1.0)).boxes(50, (8, 8), torch.Generator())
    assert torch.equal(boxes, torch.zeros(50, 4, dtype=torch.int64))
