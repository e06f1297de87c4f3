"""The drawn set: reproducible, imbalanced as promised, and not to be solved by pixel templates."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int64
from parts import check_refused
from torch import Tensor

from leanvit.data.images import ImageSet, Splits
from leanvit.data.shapes import SHAPES, TRAIN_PROPORTIONS, _coverage, shapes


@pytest.fixture(scope="module")
def splits() -> Splits:
    return shapes(seed=0, num_train=3000, num_test=500)


def pixels(images: ImageSet) -> Tensor:
    assert isinstance(images.images, Tensor)
    return images.images


def test_form(splits: Splits) -> None:
    for part, n in ((splits.train, 3000), (splits.test, 500)):
        assert pixels(part).shape == (n, 3, 32, 32)
        assert pixels(part).dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.classes == tuple(SHAPES)
        # Dark and light pixels both occur, and clipping to 0 or 255 stays the exception.
        extreme = (pixels(part) == 0) | (pixels(part) == 255)
        assert 0 < extreme.float().mean() < 0.1
    assert "not photographs" in splits.source
    assert "\n" not in splits.source


def test_training_classes_are_imbalanced_by_largest_remainder(splits: Splits) -> None:
    published = torch.tensor([4435, 4189, 3065, 4191, 4513, 3717, 3513, 3249, 2685, 2023])
    exact = published.double() * 3000 / 35580
    counts = splits.train.labels.bincount()
    assert counts.sum() == 3000
    # Largest remainder: every class is rounded up or down, those with the larger fractions up.
    rounded_up = counts == exact.ceil().long()
    assert torch.equal(counts[~rounded_up], exact[~rounded_up].floor().long())
    assert exact[rounded_up].frac().min() > exact[~rounded_up].frac().max()
    # the course's own counts
    assert list(TRAIN_PROPORTIONS) == published.tolist()


def test_test_classes_are_balanced(splits: Splits) -> None:
    assert splits.test.labels.bincount().tolist() == [50] * 10


def test_order_is_random(splits: Splits) -> None:
    assert splits.train.labels[:300].unique().numel() == 10
    assert splits.test.labels[:100].unique().numel() == 10


def test_same_bytes_every_time_and_no_global_generator() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = shapes(seed=5, num_train=60, num_test=20)
    torch.manual_seed(2)
    np.random.seed(2)
    second = shapes(seed=5, num_train=60, num_test=20)
    # The global generators stand where they were seeded: nothing has drawn from them.
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(2)))
    assert np.array_equal(np.random.random(3), np.random.RandomState(2).random(3))
    for a, b in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(pixels(a), pixels(b))
        assert torch.equal(a.labels, b.labels)


def test_test_set_does_not_depend_on_the_number_of_training_images(splits: Splits) -> None:
    other = shapes(seed=0, num_train=20, num_test=500)
    assert torch.equal(pixels(splits.test), pixels(other.test))


def test_seeds_differ_and_no_image_occurs_twice(splits: Splits) -> None:
    other = shapes(seed=1, num_train=3000, num_test=500)
    images = torch.cat(
        [pixels(part) for s in (splits, other) for part in (s.train, s.test)]
    ).flatten(1)
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 7000


def nearest_mean_accuracy(
    train: Float[Tensor, "n features"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m features"],
    test_labels: Int64[Tensor, " m"],
) -> float:
    means = torch.stack([train[labels == k].mean(0) for k in range(10)]) / train.std(0)
    nearest = torch.cdist(test / train.std(0), means).argmin(1)
    return (nearest == test_labels).float().mean().item()


def spectrum(images: Tensor) -> Float[Tensor, "n radii"]:
    """Share of energy at each spatial frequency, whatever its direction: blind to position,
    rotation, colour and contrast."""
    grey = images.float().mean(1)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * torch.hann_window(32).outer(
        torch.hann_window(32)
    )
    power = torch.fft.fft2(grey).abs().square().flatten(1)
    frequency = torch.fft.fftfreq(32, 1 / 32)
    radius = torch.hypot(frequency[:, None], frequency[None, :]).round().long().flatten()
    energy = torch.zeros(len(images), 23).index_add_(1, radius.clamp(max=22), power)
    return (energy[:, 1:12] / energy[:, 1:12].sum(1, keepdim=True)).log()


def test_neither_templates_nor_colours_tell_the_class_but_form_does(splits: Splits) -> None:
    train, test = splits.train, splits.test

    def accuracy(feature: Tensor, test_feature: Tensor) -> float:
        return nearest_mean_accuracy(feature, train.labels, test_feature, test.labels)

    x, x_test = pixels(train).float(), pixels(test).float()
    template = accuracy(x.flatten(1), x_test.flatten(1))
    ground = accuracy(x[:, :, :2, :2].flatten(1), x_test[:, :, :2, :2].flatten(1))
    figure = accuracy(x[:, :, 15:17, 15:17].mean((2, 3)), x_test[:, :, 15:17, 15:17].mean((2, 3)))
    form = accuracy(spectrum(x), spectrum(x_test))
    assert template < 0.4
    assert ground < 0.18
    assert figure < 0.25
    assert form > 0.3


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("disc", math.pi, math.pi),
        ("square", 2, 2),
        ("triangle", 3 * math.sqrt(3) / 4, 3 * math.sqrt(3) / 4),
        ("hexagon", 3 * math.sqrt(3) / 2, 3 * math.sqrt(3) / 2),
        # Those with a random detail: radius of the hole, of the notches, width of the bars.
        ("ring", math.pi * (1 - 0.6**2), math.pi * (1 - 0.2**2)),
        ("star", 4 * 0.4 * math.sin(math.pi / 4), 7 * 0.6 * math.sin(math.pi / 7)),
        ("cross", 8 * 0.18 - 4 * 0.18**2, 8 * 0.42 - 4 * 0.42**2),
        ("stripes", 0.35 * math.pi, 0.65 * math.pi),
        ("checkerboard", 0.35 * math.pi, 0.65 * math.pi),
        ("dots", 0.8 * math.pi * 0.26**2 * math.pi, 1.3 * math.pi * 0.36**2 * math.pi),
    ],
)
def test_figures_have_their_area_and_a_unit_slope(
    name: str, smallest: float, largest: float
) -> None:
    n, cells = 20, 200
    line = ((np.arange(cells) + 0.5) / cells * 2.4 - 1.2).astype(np.float32)
    x, y = (np.repeat(plane[None], n, 0) for plane in np.meshgrid(line, line))
    distance = SHAPES[name](x, y, np.random.default_rng(0))
    area = (distance < 0).mean((1, 2)) * 2.4**2
    assert area.min() > smallest * 0.98
    assert area.max() < largest * 1.02
    # Anti-aliasing needs true distances at the outline: the slope there is one.
    slope = np.hypot(*np.gradient(distance, 2.4 / cells, axis=(1, 2)))
    assert np.median(slope[np.abs(distance) < 0.03]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", list(SHAPES))
def test_figures_scale_with_the_image(name: str) -> None:
    small = _coverage(SHAPES[name], 8, 32, np.random.default_rng(3))
    large = _coverage(SHAPES[name], 8, 64, np.random.default_rng(3))
    pooled = large.reshape(8, 32, 2, 32, 2).mean((2, 4))
    assert np.abs(pooled - small).mean() < 0.02
    assert small.mean() > 0.03


@pytest.mark.parametrize("image_size", [16, 33, 96])
def test_other_image_sizes(image_size: int) -> None:
    splits = shapes(image_size=image_size, num_train=20, num_test=10)
    assert pixels(splits.train).shape == (20, 3, image_size, image_size)
    assert pixels(splits.test).shape == (10, 3, image_size, image_size)


def test_values_outside_their_range() -> None:
    wrong = {"num_train": [9, -5], "num_test": [0, 25], "image_size": [8], "seed": [-1]}
    check_refused("data", "shapes", wrong)


def test_the_fewest_training_images_are_one_of_every_class() -> None:
    assert shapes(num_train=10, num_test=10).train.labels.bincount().tolist() == [1] * 10
