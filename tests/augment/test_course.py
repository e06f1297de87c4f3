"""The course's policy: its draws, repeated one by one through torchvision."""

import pytest
import torch
from pictures import chi_square, distance, pictures
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from leanvit.augment import course
from leanvit.augment.course import Course
from leanvit.augment.operations import GEOMETRIC, OPERATIONS
from leanvit.augment.resized_crop import ResizedCrop

REFERENCE = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)


def operate(image: Tensor, k: int, negative: bool, step: int) -> Tensor:
    name = OPERATIONS[k]
    magnitudes, has_sign = REFERENCE._AUGMENTATION_SPACE[name]
    table = magnitudes(31, *image.shape[-2:])
    magnitude = 0.0 if table is None else float(table[step])
    magnitude *= -1 if has_sign and negative else 1
    return REFERENCE._apply_image_or_video_transform(
        image, name, magnitude, interpolation=REFERENCE.interpolation, fill={Tensor: None}
    )


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24)])
def test_against_torchvision_with_the_same_draws(height: int, width: int) -> None:
    """Colours in the order drawn, jitter, then the crop, the flip and one move."""
    images, index = pictures(40, height, width), torch.arange(400) % 40
    augment = Course(magnitude=13)
    result = augment(augment.prepare(images), index, torch.Generator().manual_seed(0))

    generator = torch.Generator().manual_seed(0)
    boxes = ResizedCrop().boxes(400, height, width, generator)
    flipped = torch.rand(400, generator=generator) < 0.5
    operations, signs = [], []
    for _ in range(2):
        operations.append(torch.randint(14, (400,), generator=generator))
        signs.append(torch.rand(400, generator=generator) < 0.5)
    gain, factor = 0.8 + 0.4 * torch.rand(2, 400, generator=generator)
    compared = 0
    for i, out in enumerate(result):
        drawn = [(int(k[i]), bool(s[i])) for k, s in zip(operations, signs, strict=True)]
        moves = [(k, s) for k, s in drawn if 1 <= k <= len(GEOMETRIC)]
        image = images[index[i]]
        for k, negative in drawn:
            if (k, negative) not in moves:
                image = operate(image, k, negative, 13)
        # in floating point: rounded once, as in the batch
        values = functional.adjust_brightness(image.float() / 255, float(gain[i]))
        values = functional.adjust_contrast(values, float(factor[i]))
        values = functional.resized_crop(values, *boxes[i], [height, width], antialias=False)
        values = functional.horizontal_flip(values) if flipped[i] else values
        if len(moves) == 1 and OPERATIONS[moves[0][0]].startswith("Translate"):
            values = operate(values, *moves[0], 13)
        elif moves:
            continue  # interpolated once here and twice there: see below
        # a grey level that two colours differ in, times gain and factor
        assert distance(out, (values * 255).round().to(torch.uint8)) <= 2, drawn
        compared += 1
    assert compared > 200


def test_one_resampling_is_near_to_two_where_images_are_smooth() -> None:
    """Shears and rotations after crop and flip, which the test above leaves out."""
    ramp = torch.arange(32.0)
    image = torch.stack(
        [ramp[:, None] + ramp, ramp[:, None] * 2 + 0 * ramp, 200 - 3 * ramp.expand(32, 32)]
    )
    images = image.clamp(0, 255).to(torch.uint8)[None]
    augment = Course(num_ops=1, magnitude=30, brightness=0, contrast=0)
    index = torch.zeros(600, dtype=torch.int64)
    result = augment(augment.prepare(images), index, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    boxes = ResizedCrop().boxes(600, 32, 32, generator)
    flipped = torch.rand(600, generator=generator) < 0.5
    operation = torch.randint(14, (600,), generator=generator)
    negative = torch.rand(600, generator=generator) < 0.5
    inside = (slice(None), slice(12, 20), slice(12, 20))  # the edge is compared elsewhere
    for name in ("ShearX", "ShearY", "Rotate"):
        drawn = (operation == OPERATIONS.index(name)).nonzero()[:, 0].tolist()
        assert len(drawn) > 25
        for i in drawn:
            image = functional.resized_crop(images[0], *boxes[i], [32, 32], antialias=False)
            image = functional.horizontal_flip(image) if flipped[i] else image
            expected = operate(image, int(operation[i]), bool(negative[i]), 30)
            assert distance(result[i][inside], expected[inside]) <= 2


def test_nothing_to_do_leaves_every_bit() -> None:
    images, index = pictures(8), torch.tensor([3, 3, 0, 7, 6])
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0}
    for flip, expected in ((0.0, images[index]), (1.0, images[index].flip(-1))):
        augment = Course(**whole, flip=flip, num_ops=0)
        assert torch.equal(augment(augment.prepare(images), index, torch.Generator()), expected)


def test_no_magnitude_leaves_all_but_the_operations_without_one() -> None:
    images = pictures(8).clamp(max=254)  # solarize inverts 255 even at no magnitude
    augment = Course((1, 1), (1, 1), flip=0, num_ops=1, magnitude=0, brightness=0, contrast=0)
    index = torch.zeros(1400, dtype=torch.int64)
    out = augment(augment.prepare(images), index, torch.Generator().manual_seed(0))
    same = (out == images[0]).flatten(1).all(1)
    assert abs(same.float().mean() - 12 / 14) < 0.04
    for operation in (functional.autocontrast, functional.equalize):
        found = (out == operation(images[0])).flatten(1).all(1)
        assert abs(found.float().mean() - 1 / 14) < 0.03


def test_operations_are_drawn_evenly_and_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Tensor, Tensor]] = []

    def record(images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
        drawn.append((operation, magnitude))
        return images

    monkeypatch.setattr(course, "recolour", record)
    augment, n = Course(num_ops=3, magnitude=9), 14_000
    index = torch.zeros(n, dtype=torch.int64)
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    augment(augment.prepare(images), index, torch.Generator().manual_seed(0))
    (first, magnitude), (second, _), (third, _) = drawn
    # bounds: p about 0.0005 for 13 and 195 degrees of freedom
    for operation in (first, second, third):
        assert chi_square(operation, 14) < 37
    assert chi_square(first * 14 + second, 196) < 266
    assert chi_square(second * 14 + third, 196) < 266
    rotated = magnitude[first == OPERATIONS.index("Rotate")]
    torch.testing.assert_close(rotated.abs(), torch.full_like(rotated, 9.0))  # 30 degrees x 9 / 30


def test_factors_are_drawn_evenly() -> None:
    gain, factor = Course(brightness=0.4, contrast=0.1).factors(8000, torch.Generator())
    for values, width in ((gain, 0.4), (factor, 0.1)):
        share = (values - 1 + width) / (2 * width)
        assert share.min() >= 0 and share.max() <= 1
        assert chi_square((share * 20).clamp(max=19.99).long(), 20) < 45  # p about 0.0007
    assert abs(torch.corrcoef(torch.stack([gain, factor]))[0, 1]) < 0.04
