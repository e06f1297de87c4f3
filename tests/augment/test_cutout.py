"""Cutout: light's crop and flip, then one square hole."""

import pytest
import torch
from pictures import chi_square

from leanvit.augment.cutout import Cutout
from leanvit.augment.light import Light


def test_a_square_hole_in_what_light_makes() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 99, (30, 3, 20, 28), generator=generator, dtype=torch.uint8)
    index = torch.arange(3000) % 30
    fill = (100, 101, 102)  # none of the values of the images
    cutout, light = Cutout(size=8, fill=fill), Light()
    out = cutout(cutout.prepare(images), index, torch.Generator().manual_seed(1))
    whole = light(light.prepare(images), index, torch.Generator().manual_seed(1))
    hole = out[:, 0] == 100
    for channel, value in enumerate(fill):
        assert torch.equal(out[:, channel] == value, hole)
    assert torch.equal(out.masked_fill(hole[:, None], 0), whole.masked_fill(hole[:, None], 0))
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])  # a box
    # every pixel is the centre equally often; one at the edge leaves half of the hole
    for covered, size in ((rows, 20), (columns, 28)):
        first, length = covered.int().argmax(1), covered.sum(1)
        assert length.min() == 4 and length.max() == 8
        centre = torch.where(first > 0, first + 4, length - 4)
        assert chi_square(centre, size) < 60  # p below 0.0003 for 19 and 27 degrees of freedom


@pytest.mark.parametrize(("size", "left"), [(0, 1.0), (80, 0.0)])
def test_no_hole_and_nothing_but_hole(size: int, left: float) -> None:
    images = torch.ones(4, 3, 20, 20, dtype=torch.uint8)
    cutout = Cutout(padding=0, size=size, fill=(0, 0, 0))
    out = cutout(cutout.prepare(images), torch.arange(4), torch.Generator())
    assert out.float().mean() == left
