"""Colour operations of a batch, against torchvision's image by image."""

from collections.abc import Callable

import pytest
import torch
from pictures import distance, pictures
from torchvision.transforms.v2 import functional

from leanvit.augment import colour

FACTORS = [1 + sign * step / 30 * 0.99 for step in range(31) for sign in (-1, 1)]
CASES: dict[str, tuple[Callable, Callable, list]] = {
    "brightness": (colour.brightness, functional.adjust_brightness, FACTORS),
    "contrast": (colour.contrast, functional.adjust_contrast, FACTORS),
    "saturation": (colour.saturation, functional.adjust_saturation, FACTORS),
    "sharpness": (colour.sharpness, functional.adjust_sharpness, FACTORS),
    "posterize": (colour.posterize, functional.posterize, list(range(9))),
    "solarize": (colour.solarize, functional.solarize, [255 * k / 30 for k in range(31)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24), (2, 5)])
def test_against_torchvision(name: str, height: int, width: int) -> None:
    batched, one_by_one, parameters = CASES[name]
    images = pictures(8, height, width)
    before = images.clone()
    # each image meets each parameter, and the neighbours of an image in the batch meet others
    batch = images.repeat(len(parameters), 1, 1, 1)
    shuffled = [parameters[(i + i // 8) % len(parameters)] for i in range(len(batch))]
    result = batched(batch, torch.tensor(shuffled, dtype=torch.float32))
    expected = torch.stack([one_by_one(i, p) for i, p in zip(batch, shuffled, strict=True)])
    assert distance(result, expected) <= (0 if name in ("posterize", "solarize") else 1)
    assert (result != expected).float().mean() < 0.003  # a last bit of float32, here and there
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", CASES)
def test_the_neutral_parameter_leaves_every_bit(name: str) -> None:
    images = pictures(8).clamp(max=254)
    neutral = {"posterize": 8.0, "solarize": 255.0}.get(name, 1.0)
    assert torch.equal(CASES[name][0](images, torch.full((8,), neutral)), images)


@pytest.mark.parametrize("name", CASES)
def test_the_order_in_memory_does_not_matter(name: str) -> None:
    images = pictures(8)
    parameter = torch.linspace(0.2, 1.7, 8)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(CASES[name][0](images, parameter), CASES[name][0](last, parameter))


def test_jitter_is_brightness_then_contrast() -> None:
    images = pictures(8)
    gain, factor = torch.linspace(0.8, 1.2, 8), torch.linspace(1.2, 0.8, 8)
    values = colour.jitter(images, gain, factor)
    for image, g, f, result in zip(images, gain.tolist(), factor.tolist(), values, strict=True):
        bright = functional.adjust_brightness(image.float() / 255, g)
        expected = functional.adjust_contrast(bright, f) * 255
        torch.testing.assert_close(result, expected, rtol=0, atol=0.01)
    one = torch.ones(8)
    assert torch.equal(colour.jitter(images, one, one), images.float())
    extreme = colour.jitter(pictures(8), 2 * one, 2 * one)
    assert extreme.min() >= 0 and extreme.max() <= 255
