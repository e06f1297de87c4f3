"""The operations by name and magnitude, against torchvision's own application of them."""

import pytest
import torch
from pictures import chi_square, distance, pictures
from torch import Tensor
from torchvision.transforms import v2

from leanvit.augment.operations import (
    COLOURS,
    GEOMETRIC,
    NUM_SIGNED,
    NUM_STEPS,
    OPERATIONS,
    Function,
    apply_all,
    draw_operations,
    move,
    rand_augment_magnitudes,
    recolour,
    signed,
    sort_and_apply,
    trivial_augment_magnitudes,
)

CPU = torch.device("cpu")
SPACES = {
    "rand": (v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR), rand_augment_magnitudes),
    "trivial": (
        v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
        lambda height, width, device: trivial_augment_magnitudes(device),
    ),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 160), (17, 24)])
def test_every_magnitude_is_torchvisions(name: str, height: int, width: int) -> None:
    space = SPACES[name][0]._AUGMENTATION_SPACE
    table = SPACES[name][1](height, width, CPU)
    assert tuple(space) == OPERATIONS and table.shape == (len(OPERATIONS), NUM_STEPS)
    for k, (operation, (magnitudes, has_sign)) in enumerate(space.items()):
        expected = magnitudes(NUM_STEPS, height, width)
        if expected is None:
            expected = torch.zeros(NUM_STEPS)
        elif operation.startswith("Translate"):
            expected = torch.tensor([int(pixels) for pixels in expected])
        elif operation == "Solarize":
            expected = torch.tensor([255 * share for share in expected.tolist()])
        assert torch.equal(table[k], expected.float()), operation
        assert has_sign == (0 < k < NUM_SIGNED)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24)])
def test_every_operation_at_every_magnitude_is_torchvisions(
    name: str, height: int, width: int
) -> None:
    reference, magnitudes = SPACES[name]
    table = magnitudes(height, width, CPU)
    operation = torch.arange(len(OPERATIONS)).repeat_interleave(2 * NUM_STEPS)
    magnitude = torch.stack([table, table], 1).flatten()
    negative = (torch.arange(len(operation)) // NUM_STEPS % 2 == 1) & (operation < NUM_SIGNED)
    magnitude = torch.where(negative, -magnitude, magnitude)
    some = pictures(8, height, width)
    images = some[torch.arange(len(operation)) * 3 % 8]
    before = images.clone()
    result = move(recolour(images, operation, magnitude), operation, magnitude)
    assert torch.equal(images, before)
    for image, k, m, out in zip(
        images, operation.tolist(), magnitude.tolist(), result, strict=True
    ):
        share = m / 255 if OPERATIONS[k] == "Solarize" else m
        expected = reference._apply_image_or_video_transform(
            image, OPERATIONS[k], share, interpolation=reference.interpolation, fill={Tensor: None}
        )
        assert distance(out, expected) <= 1, (OPERATIONS[k], m)


def test_no_operation_and_no_magnitude_leave_every_bit() -> None:
    images = pictures(14)
    nothing, none = torch.zeros(14, dtype=torch.int64), torch.zeros(14)
    assert torch.equal(move(recolour(images, nothing, none), nothing, none), images)
    either_way = torch.arange(14) % NUM_SIGNED
    assert torch.equal(move(recolour(images, either_way, none), either_way, none), images)
    posterize = torch.full((14,), OPERATIONS.index("Posterize"))
    assert torch.equal(recolour(images, posterize, none + 8), images)


def test_colours_are_not_moved_and_moves_not_recoloured() -> None:
    images = pictures(14)
    operation, magnitude = torch.arange(14), torch.full((14,), 0.5)
    coloured = torch.arange(14) > len(GEOMETRIC)
    moved = (torch.arange(14) > 0) & ~coloured
    assert ((recolour(images, operation, magnitude) != images).flatten(1).any(1) <= coloured).all()
    assert ((move(images, operation, magnitude) != images).flatten(1).any(1) <= moved).all()


def test_what_a_cpu_does_and_what_a_gpu_does_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    images = pictures(200)
    functions: tuple[Function, ...] = tuple(COLOURS.values())
    magnitude = torch.rand(200, generator=generator) * 0.9
    for choice in (
        torch.randint(0, 9, (200,), generator=generator),
        torch.zeros(200, dtype=torch.int64),  # nobody
        torch.full((200,), 8),  # all the last
    ):
        few = sort_and_apply(images, choice, functions, magnitude)
        assert torch.equal(few, apply_all(images, choice, functions, magnitude))


def test_operations_and_signs_are_drawn_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 14_000
    operation = draw_operations(n, generator)
    assert chi_square(operation, len(OPERATIONS)) < 37  # p about 0.0004 for 13 degrees of freedom
    magnitude = signed(torch.ones(n), operation, generator)
    two_ways = operation < NUM_SIGNED
    assert (magnitude[~two_ways] == 1).all()
    for k in range(NUM_SIGNED):
        assert chi_square((magnitude[operation == k] < 0).long(), 2) < 12.2  # p about 0.0005
    assert set(magnitude.tolist()) == {-1.0, 1.0}
