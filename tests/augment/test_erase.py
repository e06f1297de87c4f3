"""Boxes painted over, against slices of one image at a time."""

import torch
from pictures import pictures
from torchvision.transforms.v2 import functional

from leanvit.augment.erase import erase


def test_against_torchvision() -> None:
    images = pictures(6, 17, 24)
    before = images.clone()
    boxes = torch.tensor(
        [[0, 0, 17, 24], [3, 5, 1, 1], [0, 20, 9, 4], [16, 0, 1, 24], [5, 5, 0, 0], [2, 9, 11, 7]]
    )
    fill = [125, 0, 255]
    colour = torch.tensor(fill, dtype=torch.uint8)[:, None, None]
    result = erase(images, boxes, fill)
    for image, box, out in zip(images, boxes.tolist(), result, strict=True):
        assert torch.equal(out, functional.erase(image, *box, colour))
    assert torch.equal(images, before)


def test_a_box_may_reach_over_the_edge() -> None:
    images = torch.full((4, 3, 5, 6), 9, dtype=torch.uint8)
    boxes = torch.tensor([[-2, -1, 4, 4], [3, 4, 4, 4], [-5, 0, 5, 6], [-1, -1, 9, 9]])
    result = erase(images, boxes, (0, 0, 0))
    expected = images.clone()
    expected[0, :, :2, :3] = 0
    expected[1, :, 3:, 4:] = 0
    expected[3] = 0  # the third lies wholly outside
    assert torch.equal(result, expected)
