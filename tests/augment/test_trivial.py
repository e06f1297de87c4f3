"""TrivialAugment of a batch: its draws, repeated one by one through torchvision."""

import pytest
import torch
from pictures import chi_square, distance, pictures
from torch import Tensor
from torchvision.transforms import v2

from leanvit.augment import trivial
from leanvit.augment.light import Light
from leanvit.augment.operations import NUM_SIGNED, NUM_STEPS, OPERATIONS
from leanvit.augment.trivial import Trivial


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24)])
def test_against_torchvision_with_the_same_draws(height: int, width: int) -> None:
    images, index = pictures(40, height, width), torch.arange(280) % 40
    augment = Trivial(padding=3)
    result = augment(augment.prepare(images), index, torch.Generator().manual_seed(0))

    generator = torch.Generator().manual_seed(0)
    light = Light(padding=3)
    cropped = light(light.prepare(images), index, generator)
    operation = torch.randint(14, (280,), generator=generator)
    step = torch.randint(31, (280,), generator=generator)
    negative = torch.rand(280, generator=generator) < 0.5
    reference = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)
    space = list(reference._AUGMENTATION_SPACE.items())
    for i, out in enumerate(result):
        name, (magnitudes, has_sign) = space[operation[i]]
        table = magnitudes(31, height, width)
        magnitude = 0.0 if table is None else float(table[step[i]])
        expected = reference._apply_image_or_video_transform(
            cropped[i].contiguous(),
            name,
            -magnitude if has_sign and negative[i] else magnitude,
            interpolation=reference.interpolation,
            fill={Tensor: None},
        )
        assert distance(out, expected) <= 1, name
    assert len(set(operation.tolist())) == 14


def test_operations_magnitudes_and_signs_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Tensor, Tensor]] = []

    def record(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
        drawn.append((operation, magnitude))
        return images

    # the step stands for the magnitude; 1 is added so that the sign of none can be told
    steps = torch.arange(1.0, NUM_STEPS + 1).expand(len(OPERATIONS), NUM_STEPS)
    monkeypatch.setattr(trivial, "trivial_augment_magnitudes", lambda device: steps)
    monkeypatch.setattr(trivial, "recolour", record)
    monkeypatch.setattr(trivial, "move", lambda images, *_: images)
    augment, n = Trivial(), 28_000
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    index = torch.zeros(n, dtype=torch.int64)
    augment(augment.prepare(images), index, torch.Generator().manual_seed(0))
    ((operation, magnitude),) = drawn
    step = magnitude.abs().long() - 1
    # bounds: p about 0.0005 for 13, 30, 433 and 1 degrees of freedom
    assert chi_square(operation, 14) < 37
    assert chi_square(step, NUM_STEPS) < 61
    assert chi_square(operation * NUM_STEPS + step, 14 * NUM_STEPS) < 536
    two_ways = operation < NUM_SIGNED
    assert chi_square((magnitude[two_ways] < 0).long(), 2) < 12.2
    assert (magnitude[~two_ways] > 0).all()


def test_reproducible_and_sources_untouched() -> None:
    images = pictures(8)
    before = images.clone()
    augment = Trivial()
    prepared = augment.prepare(images)
    kept = prepared.clone()
    index = torch.arange(8).repeat(8)
    first, again, other = (
        augment(prepared, index, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first[::8]}) > 4  # one image, its own draws
    assert torch.equal(images, before) and torch.equal(prepared, kept)
