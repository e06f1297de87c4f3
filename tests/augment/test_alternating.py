"""Alternating flips: each image both ways in two epochs, from its own coin."""

import torch

from leanvit.augment.alternating import Alternating

IMAGES = torch.randint(256, (200, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
EVERY = torch.arange(200)


def epoch(augment: Alternating, number: int, index: torch.Tensor = EVERY) -> torch.Tensor:
    augment.set_epoch(number)
    return augment(augment.prepare(IMAGES), index, torch.Generator().manual_seed(number))


def test_an_image_is_seen_both_ways_in_two_epochs() -> None:
    augment = Alternating(padding=0)
    first, second, third = (epoch(augment, number) for number in (4, 5, 6))
    plain = (first == IMAGES).flatten(1).all(1)
    assert 70 < plain.sum() < 130
    assert torch.equal(first[~plain], IMAGES[~plain].flip(3))
    assert torch.equal(second, first.flip(3)) and torch.equal(third, first)
    some = torch.tensor([7, 3, 150])
    assert torch.equal(epoch(augment, 4, some), first[some])


def test_a_crop_is_a_window_of_the_mirrored_image() -> None:
    augment, found = Alternating(padding=2), epoch(Alternating(padding=2), 0)
    padded = torch.nn.functional.pad(IMAGES, (2, 2, 2, 2), mode="reflect")
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).flatten(2, 3)  # image, channel, place, 8, 8
    both = torch.stack([windows, windows.flip(4)])
    same = (both == found[None, :, :, None]).all(-1).all(-1).all(2)  # side, image, place
    assert same.any(2).any(0).all()
    assert same.any(0).any(0).sum() == 25  # all places are drawn
    assert augment.prepare(IMAGES).is_contiguous()
