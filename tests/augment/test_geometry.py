"""Batched resampling, against torchvision image by image and against a literal twin."""

import math

import pytest
import torch
from pictures import distance, pictures
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from leanvit.augment.as_bytes import as_bytes
from leanvit.augment.geometry import (
    mirror,
    resample,
    rotate,
    shear,
    then,
    translate,
)

BILINEAR = InterpolationMode.BILINEAR
SIZES = [(32, 32), (17, 24), (24, 17)]
STEPS = torch.arange(-30, 31) / 30


def moved(images: Tensor, matrices: Tensor, boxes: Tensor | None = None) -> Tensor:
    return as_bytes(resample(images.float(), matrices, boxes).round_())


def each(images: Tensor, values: Tensor) -> tuple[Tensor, list[float]]:
    """Every image with every value."""
    return images.repeat_interleave(len(values), 0), values.repeat(len(images)).tolist()


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("axis", ["x", "y"])
def test_shear(height: int, width: int, axis: str) -> None:
    batch, slopes = each(pictures(5, height, width), STEPS * 0.99)
    slope, none = torch.tensor(slopes), torch.zeros(len(slopes))
    pair = (slope, none) if axis == "x" else (none, slope)
    result = moved(batch, shear(*pair, (height, width)))
    for image, s, out in zip(batch, slopes, result, strict=True):
        degrees = math.degrees(math.atan(s))
        angles = [degrees, 0.0] if axis == "x" else [0.0, degrees]
        expected = functional.affine(
            image, 0.0, [0, 0], 1.0, angles, interpolation=BILINEAR, center=[0, 0]
        )
        assert distance(out, expected) <= 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_translate(height: int, width: int) -> None:
    batch, pixels = each(pictures(5, height, width), torch.arange(-33, 34))
    right, down = torch.tensor(pixels).float(), torch.tensor(pixels).flip(0).float()
    result = moved(batch, translate(right, down))
    for image, r, d, out in zip(batch, right.int(), down.int(), result, strict=True):
        expected = functional.affine(
            image, 0.0, [int(r), int(d)], 1.0, [0.0, 0.0], interpolation=BILINEAR
        )
        assert distance(out, expected) == 0


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_rotate(height: int, width: int) -> None:
    batch, degrees = each(pictures(5, height, width), STEPS * 135)
    result = moved(batch, rotate(torch.tensor(degrees)))
    for image, angle, out in zip(batch, degrees, result, strict=True):
        assert distance(out, functional.rotate(image, angle, interpolation=BILINEAR)) <= 1


def test_mirror_and_quarter_turn_move_whole_pixels() -> None:
    images = pictures(6)
    flipped = torch.tensor([True, False, True, True, False, True])
    expected = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    assert torch.equal(moved(images, mirror(flipped)), expected)
    turned = moved(images, rotate(torch.full((6,), 90.0)))
    assert torch.equal(turned, torch.rot90(images, 1, (-2, -1)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_nothing_drawn_leaves_every_bit(height: int, width: int) -> None:
    images, none = pictures(6, height, width), torch.zeros(6)
    still = then(shear(none, none, (height, width)), then(translate(none, none), rotate(none)))
    assert torch.equal(still, torch.eye(2, 3).expand(6, 2, 3))
    assert torch.equal(moved(images, still), images)
    whole = torch.tensor([[0, 0, height, width]]).expand(6, 4)
    assert torch.equal(moved(images, still, whole), images)


def test_a_product_of_matrices_is_one_after_the_other() -> None:
    """Moves of whole pixels that nothing is lost by: in two steps and in one."""
    images = torch.zeros(7, 3, 40, 40, dtype=torch.uint8)
    images[:, :, 14:26, 14:26] = pictures(7, 12, 16)[..., :12]
    right, down = torch.arange(7.0), torch.arange(7.0).flip(0)
    steps = [
        mirror(torch.arange(7) % 2 == 0),
        translate(right, -down),
        rotate(torch.tensor([0.0, 90.0, 180.0, 270.0, -90.0, 90.0, 0.0])),
        translate(-down, right),
    ]
    one_by_one, product = images, torch.eye(2, 3).expand(7, 2, 3)
    for step in steps:
        one_by_one, product = moved(one_by_one, step), then(product, step)
    assert torch.equal(moved(images, product), one_by_one)
    assert not torch.equal(
        moved(images, then(steps[1], steps[0])), moved(moved(images, steps[0]), steps[1])
    )


def literal(image: Tensor, box: list[int], matrix: Tensor) -> Tensor:
    """Cut, resize and move one image, pixel by pixel: the resized box is black outside."""
    _, height, width = image.shape
    top, left, box_height, box_width = box
    out = torch.zeros(image.shape, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            point = torch.tensor([j - (width - 1) / 2, i - (height - 1) / 2, 1.0]).double()
            x, y = (matrix.double() @ point).tolist()
            column, row = x + (width - 1) / 2, y + (height - 1) / 2
            weight = max(0.0, min(1.0, column + 1, width - column))
            weight *= max(0.0, min(1.0, row + 1, height - row))
            column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)
            u = left + min(max((column + 0.5) * box_width / width - 0.5, 0), box_width - 1)
            v = top + min(max((row + 0.5) * box_height / height - 0.5, 0), box_height - 1)
            a, b = int(u), int(v)
            c, d = min(a + 1, width - 1), min(b + 1, height - 1)
            upper = (1 - u + a) * image[:, b, a].double() + (u - a) * image[:, b, c].double()
            lower = (1 - u + a) * image[:, d, a].double() + (u - a) * image[:, d, c].double()
            out[:, i, j] = weight * ((1 - v + b) * upper + (v - b) * lower)
    return out


def test_crop_then_move_against_a_literal_twin() -> None:
    images = pictures(6, 9, 12)
    boxes = torch.tensor(
        [[0, 0, 9, 12], [1, 2, 7, 9], [0, 0, 1, 1], [8, 5, 1, 7], [2, 0, 7, 12], [3, 3, 2, 2]]
    )
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(3, 6, generator=generator) - 0.5
    matrices = then(
        mirror(draws[0] > 0),
        then(
            rotate(90 * draws[0]),
            then(translate(4 * draws[1], 4 * draws[2]), shear(draws[1], 0 * draws[2], (9, 12))),
        ),
    )
    matrices[1] = torch.eye(2, 3)  # a crop alone
    result = resample(images.float(), matrices, boxes)
    expected = torch.stack(
        [literal(*each) for each in zip(images, boxes.tolist(), matrices, strict=True)]
    )
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=0.01)
