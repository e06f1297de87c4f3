"""A coin per image."""

import math

import torch

from leanvit.augment.flip import flip_some


def test_each_image_is_itself_or_its_mirror_image() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2000, 3, 4, 5), generator=generator, dtype=torch.uint8)
    before = images.clone()
    for probability in (0.5, 0.2):
        flipped = flip_some(before.clone(), probability, generator)
        same = (flipped == before).flatten(1).all(1)
        mirrored = torch.tensor(
            [torch.equal(a, torch.flip(b, [-1])) for a, b in zip(flipped, before, strict=True)]
        )
        assert bool((same ^ mirrored).all())
        spread = math.sqrt(2000 * probability * (1 - probability))
        assert abs(mirrored.sum() - 2000 * probability) < 4 * spread


def test_never_and_always() -> None:
    images = torch.arange(64 * 3 * 2 * 4).remainder(256).to(torch.uint8).view(64, 3, 2, 4)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(flip_some(images.clone(), 0.0, generator), images)
    assert torch.equal(flip_some(images.clone(), 1.0, generator), images.flip(-1))
