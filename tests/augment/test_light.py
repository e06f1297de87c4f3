"""Crop and flip in one gather, against slices of a padded image."""

import pytest
import torch
from torch import Tensor

from leanvit.augment.light import Light, crop


def noise(n: int, height: int = 6, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    # no zeros: the border must be told from the image
    return torch.randint(1, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)


def padded_by_hand(images: Tensor, padding: int) -> Tensor:
    n, _, height, width = images.shape
    padded = torch.zeros(n, 3, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    return padded


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_crop_is_slicing(batch: int, channels_last: bool) -> None:
    images = noise(5)
    padded = padded_by_hand(images, 2)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    prepared = Light(padding=2).prepare(images)
    index, top, left = (torch.randint(5, (batch,)) for _ in range(3))
    index[0], top[0], left[0] = 4, 4, 4  # the last bytes of the last image
    cropped = crop(prepared, index, top, left, (6, 7))
    assert cropped.shape == (batch, 3, 6, 7)
    for image, i, t, x in zip(cropped, index, top, left, strict=True):
        assert torch.equal(image, padded[i, :, t : t + 6, x : x + 7])


def chi_square(values: Tensor, num_values: int) -> float:
    counts = torch.bincount(values, minlength=num_values).double()
    expected = len(values) / num_values
    return float(((counts - expected) ** 2 / expected).sum())


def test_every_offset_and_side_occurs_equally_often() -> None:
    images, padding = noise(10), 2
    padded = padded_by_hand(images, padding)
    light = Light(padding)
    index = torch.arange(4000) % 10
    out = light(light.prepare(images), index, torch.Generator().manual_seed(0))
    # which of the 25 slices and 2 sides each image is, found by comparing with all of them
    slices = torch.stack(
        [padded[:, :, t : t + 6, x : x + 7] for t in range(5) for x in range(5)], 1
    )
    candidates = torch.cat([slices, slices.flip(-1)], dim=1).flatten(2)
    equal = (out.flatten(1)[:, None] == candidates[index]).all(2)
    assert bool((equal.sum(1) == 1).all())
    found = equal.to(torch.uint8).argmax(1)
    # bounds: p about 0.0001 for 49, 24, 9 and 1 degrees of freedom
    assert chi_square(found, 50) < 97
    assert chi_square(found % 25, 25) < 60
    assert chi_square(found // 25, 2) < 15.2
    # the draws of neighbours in a batch are not tied to each other
    same_side = (found[1:] // 25 == found[:-1] // 25).double().mean()
    same_offset = (found[1:] % 25 == found[:-1] % 25).double().mean()
    assert abs(same_side - 1 / 2) < 0.035 and abs(same_offset - 1 / 25) < 0.014


def test_without_padding_and_coin_it_is_a_gather() -> None:
    images = noise(6)
    light = Light(padding=0, flip=0.0)
    index = torch.tensor([3, 3, 0, 5])
    out = light(light.prepare(images), index, torch.Generator())
    assert torch.equal(out, images[index])
    always = Light(padding=0, flip=1.0)
    assert torch.equal(
        always(always.prepare(images), index, torch.Generator()), images[index].flip(-1)
    )


def test_reproducible_and_sources_untouched() -> None:
    images = noise(6)
    before = images.clone()
    light = Light(padding=1)
    prepared = light.prepare(images)
    kept = prepared.clone()
    index = torch.arange(6).repeat(20)
    first, again, other = (
        light(prepared, index, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    first.zero_()
    assert torch.equal(images, before) and torch.equal(prepared, kept)
