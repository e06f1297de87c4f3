"""A part of the training images: of each class the same, and a smaller one within a larger."""

import pytest
import torch

from leanvit.data.fraction import part_of_each_class
from leanvit.data.images import ImageSet


@pytest.fixture
def images() -> ImageSet:
    """Of class 0 to 3 one, 10, 100 and 1,000 images; the first value of each is its number."""
    labels = torch.tensor([0] + [1] * 10 + [2] * 100 + [3] * 1000)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    numbers = torch.arange(len(labels))
    pixels = torch.stack([numbers // 256, numbers % 256, 0 * numbers], 1).to(torch.uint8)
    return ImageSet(pixels[:, :, None, None], labels, ("a", "b", "c", "d"))


def numbers(images: ImageSet) -> list[int]:
    assert isinstance(images.images, torch.Tensor)
    high, low, _ = images.images[:, :, 0, 0].long().T
    return (256 * high + low).tolist()


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [(1.0, [1, 10, 100, 1000]), (0.5, [1, 5, 50, 500]), (0.1, [1, 2, 10, 100]),
     (0.001, [1, 2, 2, 2])],
)  # fmt: skip
def test_counts_and_order(images: ImageSet, fraction: float, counts: list[int]) -> None:
    part = part_of_each_class(images, fraction)
    assert part.class_counts.tolist() == counts
    kept = numbers(part)
    assert kept == sorted(kept)
    assert part.labels.tolist() == images.labels[torch.tensor(kept)].tolist()


def test_a_smaller_part_lies_in_a_larger(images: ImageSet) -> None:
    small, again, large = (set(numbers(part_of_each_class(images, f))) for f in (0.1, 0.1, 0.6))
    assert small == again and small < large < set(numbers(images))
