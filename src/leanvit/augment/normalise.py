"""uint8 images to what a net sees."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor


def channel_statistics(
    images: UInt8[Tensor, "n 3 height width"], max_images: int = 10_000
) -> tuple[Float32[Tensor, "3"], Float32[Tensor, "3"]]:
    """Mean and standard deviation of each channel, in 0..1, over a sample of
    at most ``max_images`` evenly spaced images."""
    chosen = images[:: -(-len(images) // max_images)]
    values = torch.arange(256, dtype=torch.float64) / 255
    # exact and small: a histogram of 256 values per channel instead of a float copy of the images
    histogram = torch.stack(
        [torch.bincount(chosen[:, c].flatten(), minlength=256) for c in range(3)]
    )
    share = histogram.double() / histogram.sum(1, keepdim=True)
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp(min=1e-6).sqrt()  # a constant channel stays finite
    return mean.float(), std.float()


def normalise(
    images: UInt8[Tensor, "batch 3 height width"],
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
) -> Float32[Tensor, "batch 3 height width"]:
    """(image / 255 - mean) / std, channels last in memory.

    Whole rows are scaled at once: a broadcast over the three innermost channels would not
    vectorise.
    """
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    scaled = torch.sub(rows, (mean * 255).repeat(width)).mul_((1 / (std * 255)).repeat(width))
    return scaled.view(batch, height, width, channels).permute(0, 3, 1, 2)
