"""Scaling to what a net sees, and the statistics it is scaled by."""

import numpy as np
import pytest
import torch
from torch import Tensor

from leanvit.augment.normalise import channel_statistics, normalise


def noise(n: int, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)
    return images // torch.tensor([1, 2, 5], dtype=torch.uint8)[:, None, None]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalise_is_the_formula(memory_format: torch.memory_format) -> None:
    images = noise(4).contiguous(memory_format=memory_format)
    before = images.clone()
    mean, std = torch.tensor([0.49, 0.48, 0.1]), torch.tensor([0.25, 0.2, 0.05])
    out = normalise(images, mean, std)
    by_channel = (slice(None), None, None)
    expected = (images.double() / 255 - mean.double()[by_channel]) / std.double()[by_channel]
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_statistics_against_numpy() -> None:
    images = noise(50)
    mean, std = channel_statistics(images)
    values = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), values.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), values.std(axis=(0, 2, 3)), rtol=1e-5)
    whitened = normalise(images, mean, std)
    assert whitened.mean((0, 2, 3)).abs().max() < 1e-5
    assert (whitened.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_statistics_of_many_images_use_evenly_spaced_ones() -> None:
    images = noise(50)
    chosen = channel_statistics(images, max_images=10)
    for one, other in zip(chosen, channel_statistics(images[::5]), strict=True):
        assert torch.equal(one, other)


def test_a_constant_channel_stays_finite() -> None:
    images = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    mean, std = channel_statistics(images)
    torch.testing.assert_close(mean, torch.full((3,), 7 / 255))
    assert (std > 0).all()
    out = normalise(images, mean, std)
    assert out.isfinite().all() and out.abs().max() < 1e-3
