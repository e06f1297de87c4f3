"""Shear, translate, rotate, flip and crop as one resampling, each image with its own matrix.

A matrix takes a pixel of the result to the place it comes from, both as (x, y) in pixels from the
centre of the image. Operations one after the other are a product of matrices: a sequence is
interpolated once, and what one operation moves out of the image a later one can move back.

Each operation alone is that of torchvision.transforms.v2.functional with bilinear interpolation
and black around the image.
"""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn.functional import grid_sample

PerImage = Float32[Tensor, " batch"]
Matrices = Float32[Tensor, "batch 2 3"]


def shear(along_x: PerImage, along_y: PerImage, size: tuple[int, int]) -> Matrices:
    """Rows pushed to the left by ``along_x`` pixels for each row below the upper edge, or columns
    pushed up by ``along_y`` for each column right of the left edge; not both in one image.

    Args:
        size: height and width.
    """
    one = torch.ones_like(along_x)
    height, width = size
    return _matrices(
        (one, along_x, along_x * (height / 2)),
        (along_y, one, along_y * (width / 2)),
    )


def translate(right: PerImage, down: PerImage) -> Matrices:
    """Moved by so many pixels."""
    zero, one = torch.zeros_like(right), torch.ones_like(right)
    return _matrices((one, zero, -right), (zero, one, -down))


def rotate(degrees: PerImage) -> Matrices:
    """Turned counter-clockwise about the centre."""
    zero, cosine, sine = torch.zeros_like(degrees), degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return _matrices((cosine, -sine, zero), (sine, cosine, zero))


def mirror(flipped: Bool[Tensor, " batch"]) -> Matrices:
    """Some images flipped left to right."""
    sign = 1 - 2 * flipped.float()
    zero, one = torch.zeros_like(sign), torch.ones_like(sign)
    return _matrices((sign, zero, zero), (zero, one, zero))


def _matrices(
    x: tuple[PerImage, PerImage, PerImage], y: tuple[PerImage, PerImage, PerImage]
) -> Matrices:
    return torch.stack([torch.stack(x, 1), torch.stack(y, 1)], 1)


def then(first: Matrices, second: Matrices) -> Matrices:
    """The matrix of ``first`` whose result goes through ``second``."""
    # written out: a matrix product may be rounded to 10 bits on a GPU
    both = (first[:, :, :2, None] * second[:, None]).sum(2)
    both[:, :, 2] += first[:, :, 2]
    return both


def resample(
    images: Float32[Tensor, "batch 3 height width"],
    matrices: Matrices,
    boxes: Int64[Tensor, "batch 4"] | None = None,
) -> Float32[Tensor, "batch 3 height width"]:
    """Each image through its matrix.

    Args:
        boxes: top, left, height and width of a part of each image that is cut out and resized to
            the whole before its matrix moves it; what lies outside of it is black, too.
    """
    batch, _, *sizes = images.shape
    pixels = [torch.arange(size, device=images.device) - (size - 1) / 2 for size in sizes]
    grid = torch.empty(2, batch, *sizes, device=images.device)
    cover = torch.ones((), device=images.device)
    for axis, size in ((1, sizes[0]), (0, sizes[1])):
        by_x, by_y, shift = matrices[:, axis, :, None].unbind(1)
        place = (by_x * pixels[1] + shift)[:, None, :] + (by_y * pixels[0])[:, :, None]
        # over the edge a pixel of the image fades into the black within the distance of one pixel
        cover = cover * ((size + 1) / 2 - place.abs()).clamp_(0, 1)
        if boxes is None:
            torch.mul(place, 2 / size, out=grid[axis])
        else:
            start, length = boxes[:, 1 - axis, None, None], boxes[:, 3 - axis, None, None]
            _into_box(place, size, start, length, grid[axis])
    sampled = grid_sample(
        images, grid.permute(1, 2, 3, 0), padding_mode="border", align_corners=False
    )
    return sampled.mul_(cover[:, None])


def _into_box(place: Tensor, size: int, start: Tensor, length: Tensor, out: Tensor) -> None:
    """Where a place in the resized box lies in the image: along one axis, as grid_sample counts."""
    # the middles of the outermost pixels of the box, so scaled that all images share the limits
    limit = (size / 2 * (1 - 1 / length)).clamp(min=1e-6)
    inside = place.mul_(1 / limit).clamp_(-1, 1)
    middle = 2 * start + length - size
    torch.add(inside.mul_(limit * length * (2 / size**2)), middle / size, out=out)
