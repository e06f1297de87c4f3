"""torchvision's colour operations, for a batch of images with a parameter each.

The arithmetic is that of torchvision.transforms.v2.functional on tensors, step by step: fractions
are cut off where one might round. Its autocontrast and equalize take batches as they are.
"""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from leanvit.augment.as_bytes import as_bytes

Values = Float32[Tensor, "batch 3 height width"]
Images = UInt8[Tensor, "batch 3 height width"]
PerImage = Float32[Tensor, " batch"]


def brightness(images: Images, factor: PerImage) -> Images:
    """Towards black: 0 is black, 1 the image."""
    return as_bytes((images.float() * _spread(factor)).clamp_(0, 255))


def contrast(images: Images, factor: PerImage) -> Images:
    """Towards the mean grey of the image: 0 is grey, 1 the image."""
    values = images.float()
    return _blend(values, _grey(values).mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Images, factor: PerImage) -> Images:
    """Towards shades of grey: 0 is without colour, 1 the image."""
    values = images.float()
    return _blend(values, _grey(values), factor)


def sharpness(images: Images, factor: PerImage) -> Images:
    """Towards the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13: 0 is smooth, 1 the image.

    The outermost pixels stay as they are.
    """
    if min(images.shape[-2:]) <= 2:
        return images
    values = images.float()
    rows = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    middle = values[:, :, 1:-1, 1:-1]
    smooth = sums.add_(middle, alpha=4).div_(13).round_()
    middle += smooth.sub_(middle).mul_(1 - _spread(factor))
    return as_bytes(values.clamp_(0, 255))


def posterize(images: Images, bits: PerImage) -> Images:
    """Keep the upper ``bits`` bits of each value: 8 is the image."""
    mask = (255 << (8 - bits.int())).to(torch.uint8)
    return images & _spread(mask)


def solarize(images: Images, threshold: PerImage) -> Images:
    """Invert the values from ``threshold`` on."""
    # x ^ 255 is 255 - x: faster than a choice between two images
    return images ^ (images >= _spread(threshold)).to(torch.uint8).neg_()


def jitter(images: Images, gain: PerImage, factor: PerImage) -> Values:
    """Brightness by ``gain``, then contrast by ``factor``, no fraction cut off."""
    values = images.float().mul_(_spread(gain)).clamp_(max=255)
    red, green, blue = values.mean((2, 3)).unbind(1)
    shift = (0.2989 * red + 0.587 * green + 0.114 * blue) * (1 - factor)
    return values.mul_(_spread(factor)).add_(_spread(shift)).clamp_(0, 255)


def _blend(values: Values, other: Tensor, factor: PerImage) -> Images:
    factor = _spread(factor)
    return as_bytes((values * factor).add_(other * (1 - factor)).clamp_(0, 255))


def _grey(values: Values) -> Float32[Tensor, "batch 1 height width"]:
    red, green, blue = values.split(1, dim=1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _spread(values: Tensor) -> Tensor:
    return values[:, None, None, None]
