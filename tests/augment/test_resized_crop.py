"""Batched random resized crop, against torchvision image by image."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

from leanvit.augment.as_bytes import as_bytes
from leanvit.augment.geometry import resample
from leanvit.augment.resized_crop import ResizedCrop


def noise(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


def crop_and_resize(images: Tensor, boxes: Tensor) -> Tensor:
    unmoved = torch.eye(2, 3).expand(len(images), 2, 3)
    return as_bytes(resample(images.float(), unmoved, boxes).round_())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24)])
def test_against_torchvision(height: int, width: int) -> None:
    images = noise(40, height, width)
    augment = ResizedCrop(scale=(0.05, 1.0), ratio=(0.5, 2.0))
    boxes = augment.boxes(40, height, width, torch.Generator().manual_seed(0))
    boxes[0] = torch.tensor([0, 0, 1, 1])
    boxes[1] = torch.tensor([height - 1, width - 2, 1, 2])
    out = crop_and_resize(images, boxes)
    for image, box, result in zip(images, boxes.tolist(), out, strict=True):
        expected = resized_crop(image, *box, size=[height, width], antialias=False)
        assert (result.int() - expected.int()).abs().max() <= 1


def test_the_whole_box_is_the_image() -> None:
    images = noise(3, 9, 11)
    assert torch.equal(crop_and_resize(images, torch.tensor([[0, 0, 9, 11]] * 3)), images)


def distance_from_uniform(values: Tensor) -> float:
    """Kolmogorov-Smirnov statistic against the uniform distribution on 0..1, times sqrt(n)."""
    ordered = values.double().sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    return float((ordered - steps).abs().max()) * math.sqrt(len(ordered))


def test_areas_ratios_and_places_follow_their_distributions() -> None:
    scale, ratio = (0.2, 0.5), (0.5, 1.5)
    augment = ResizedCrop(scale, ratio)
    # so large that rounding to pixels does not matter, and no box has to be clipped
    boxes = augment.boxes(4000, 3000, 3000, torch.Generator().manual_seed(1)).double()
    top, left, height, width = boxes.unbind(1)
    area = height * width / 3000**2
    shape = width / height
    low, high = map(math.log, ratio)
    for uniform in (
        (area - scale[0]) / (scale[1] - scale[0]),
        (shape.log() - low) / (high - low),
        (top + 0.5) / (3001 - height),
        (left + 0.5) / (3001 - width),
    ):
        assert distance_from_uniform(uniform) < 1.95  # p about 0.001
    drawn = torch.stack([area, shape, top / (3001 - height), left / (3001 - width)])
    assert (torch.corrcoef(drawn) - torch.eye(4)).abs().max() < 0.07  # independent


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.8, 1.0), (0.9, 1.1)), ((0.001, 1.0), (0.1, 10.0))]
)
def test_boxes_lie_inside(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    boxes = ResizedCrop(scale, ratio).boxes(5000, 32, 20, torch.Generator().manual_seed(0))
    top, left, height, width = boxes.unbind(1)
    assert top.min() >= 0 and left.min() >= 0 and height.min() >= 1 and width.min() >= 1
    assert (top + height).max() <= 32 and (left + width).max() <= 20
    assert (top + height).max() == 32 and top.min() == 0  # the borders are reached


def test_the_call_gathers_crops_and_flips() -> None:
    images = noise(6, 8, 8)
    before = images.clone()
    whole = ResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    mirrored = ResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0)
    index = torch.tensor([5, 0, 0, 3])
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(whole(whole.prepare(images), index, generator), images[index])
    assert torch.equal(mirrored(mirrored.prepare(images), index, generator), images[index].flip(-1))
    drawn = ResizedCrop()
    prepared = drawn.prepare(images)
    first, again = (drawn(prepared, index, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (4, 3, 8, 8)
    assert not torch.equal(first[1], first[2])  # one image twice: its own box each time
    assert torch.equal(images, before)
