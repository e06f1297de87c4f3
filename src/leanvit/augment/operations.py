"""The fourteen operations that RandAugment and TrivialAugment draw from.

Names, order and magnitudes are those of torchvision.transforms.v2.RandAugment and
TrivialAugmentWide: a magnitude is one of 31 steps from none to the greatest, and the operations up
to Sharpness take either sign.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import autocontrast, equalize

from leanvit.augment import colour
from leanvit.augment.as_bytes import as_bytes
from leanvit.augment.geometry import Matrices, resample, rotate, shear, then, translate

Images = UInt8[Tensor, "batch 3 height width"]
PerImage = Float32[Tensor, " batch"]
Drawn = Int64[Tensor, " batch"]
Table = Float32[Tensor, "operations steps"]
Function = Callable[[Tensor, Tensor], Tensor]  # of images and a parameter each

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
COLOURS: dict[str, Function] = {
    "Brightness": lambda images, magnitude: colour.brightness(images, 1 + magnitude),
    "Color": lambda images, magnitude: colour.saturation(images, 1 + magnitude),
    "Contrast": lambda images, magnitude: colour.contrast(images, 1 + magnitude),
    "Sharpness": lambda images, magnitude: colour.sharpness(images, 1 + magnitude),
    "Posterize": colour.posterize,
    "Solarize": colour.solarize,
    "AutoContrast": lambda images, _: autocontrast(images),
    "Equalize": lambda images, _: equalize(images),
}
OPERATIONS = ("Identity", *GEOMETRIC, *COLOURS)
NUM_STEPS = 31
NUM_SIGNED = OPERATIONS.index("Sharpness") + 1


@cache
def rand_augment_magnitudes(height: int, width: int, device: torch.device) -> Table:
    """RandAugment's, where a translation is a share of the image."""
    share = 150.0 / 331.0
    return _magnitudes(0.3, share * width, share * height, 30.0, 0.9, 4).to(device)


@cache
def trivial_augment_magnitudes(device: torch.device) -> Table:
    """TrivialAugment's wide ones, where a translation is in pixels, whatever the image's size."""
    return _magnitudes(0.99, 32.0, 32.0, 135.0, 0.99, 6).to(device)


def _magnitudes(
    slope: float, right: float, down: float, degrees: float, enhance: float, bits: int
) -> Table:
    """For each operation its steps, up to the greatest magnitudes given."""

    def up_to(greatest: float) -> Tensor:
        return torch.linspace(0.0, greatest, NUM_STEPS)

    rows = {
        "ShearX": up_to(slope),
        "ShearY": up_to(slope),
        "TranslateX": up_to(right).trunc(),  # whole pixels
        "TranslateY": up_to(down).trunc(),
        "Rotate": up_to(degrees),
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), up_to(enhance)),
        "Posterize": (8 - torch.arange(NUM_STEPS) / ((NUM_STEPS - 1) / bits)).round(),
        "Solarize": 255 * torch.linspace(1.0, 0.0, NUM_STEPS),
    }
    return torch.stack([rows.get(name, torch.zeros(NUM_STEPS)) for name in OPERATIONS])


def draw_operations(batch: int, generator: torch.Generator) -> Drawn:
    """An index into OPERATIONS for each image, all equally likely."""
    return torch.randint(len(OPERATIONS), (batch,), generator=generator, device=generator.device)


def signed(magnitude: PerImage, operation: Drawn, generator: torch.Generator) -> PerImage:
    """The magnitudes, negative with probability 1/2 where the operation goes two ways."""
    coins = torch.rand(len(operation), generator=generator, device=generator.device) < 0.5
    return torch.where(coins & (operation < NUM_SIGNED), -magnitude, magnitude)


def matrices(operation: Drawn, magnitude: PerImage, size: tuple[int, int]) -> Matrices:
    """The matrix of the geometric operation of each image, exactly none if it drew another."""

    def of(name: str) -> PerImage:
        return magnitude * (operation == OPERATIONS.index(name))

    sheared = shear(of("ShearX"), of("ShearY"), size)
    moved = translate(of("TranslateX"), of("TranslateY"))
    return then(then(sheared, moved), rotate(of("Rotate")))  # at least two of the three do nothing


def recolour(images: Images, operation: Drawn, magnitude: PerImage) -> Images:
    """The colour operation of each image that drew one."""
    choice = (operation - OPERATIONS.index("Brightness") + 1).clamp(min=0)
    return apply_chosen(images, choice, tuple(COLOURS.values()), magnitude)


def move(images: Images, operation: Drawn, magnitude: PerImage) -> Images:
    """The geometric operation of each image that drew one."""

    def moved(some: Tensor, matrix: Tensor) -> Tensor:
        return as_bytes(resample(some.float(), matrix).round_())

    size = (images.shape[-2], images.shape[-1])
    choice = ((operation >= 1) & (operation <= len(GEOMETRIC))).long()
    return apply_chosen(images, choice, (moved,), matrices(operation, magnitude, size))


def apply_chosen(
    images: Images, choice: Drawn, functions: Sequence[Function], parameter: Tensor
) -> Images:
    """``functions[choice - 1](images, parameter)``; choice 0 leaves an image as it is.

    A CPU computes no more than was chosen. To ask a GPU how many chose a function would wait for
    all that it has still to do: it computes each function for all images.
    """
    by_device = sort_and_apply if images.device.type == "cpu" else apply_all
    return by_device(images, choice, functions, parameter)


def sort_and_apply(
    images: Images, choice: Drawn, functions: Sequence[Function], parameter: Tensor
) -> Images:
    """Each function for a run of images that chose it."""
    choice, order = choice.sort()
    parameter = parameter[order]
    # gathered as (batch, height, width, 3), as they lie in memory: whole images are copied
    images = images.permute(0, 2, 3, 1).index_select(0, order).permute(0, 3, 1, 2)
    counts = torch.bincount(choice, minlength=len(functions) + 1).tolist()
    start = counts[0]
    for function, count in zip(functions, counts[1:], strict=True):
        run = slice(start, start + count)
        images[run] = function(images[run].contiguous(), parameter[run])
        start += count
    return images.permute(0, 2, 3, 1).index_select(0, order.argsort()).permute(0, 3, 1, 2)


def apply_all(
    images: Images, choice: Drawn, functions: Sequence[Function], parameter: Tensor
) -> Images:
    """Each function for all images, one result of each taken."""
    result = images
    for number, function in enumerate(functions, 1):
        chosen = (choice == number)[:, None, None, None]
        result = torch.where(chosen, function(images, parameter), result)
    return result
