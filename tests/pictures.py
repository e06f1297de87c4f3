"""Images to augment: drawn shapes, noise, and what operations have their limits at."""

import torch
from torch import Tensor

from leanvit.data.shapes import shapes


def pictures(n: int, height: int = 32, width: int = 32) -> Tensor:
    """Uint8 (n, 3, height, width): shapes first, then some noise, one grey level, two levels."""
    generator = torch.Generator().manual_seed(n)
    drawn = shapes(
        image_size=max(16, height, width), num_train=max(n, 25), num_test=10
    ).train.images
    assert isinstance(drawn, Tensor)
    images = drawn[:n, :, :height, :width].clone()
    images[-1] = torch.randint(0, 256, images[-1].shape, generator=generator, dtype=torch.uint8)
    if n > 4:
        images[-2] = torch.randint(90, 120, images[-2].shape, generator=generator)  # low contrast
        images[-3] = 77
        images[-4] = 255 * torch.randint(0, 2, images[-4].shape, generator=generator)
    return images


def distance(one: Tensor, other: Tensor) -> int:
    """The greatest difference, in grey levels."""
    assert one.shape == other.shape and one.dtype == other.dtype == torch.uint8
    return int((one.int() - other.int()).abs().max())


def chi_square(values: Tensor, num_values: int) -> float:
    """Of whole numbers from 0, against all being equally likely."""
    counts = torch.bincount(values, minlength=num_values).double()
    expected = len(values) / num_values
    return float(((counts - expected) ** 2 / expected).sum())
