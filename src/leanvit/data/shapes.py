"""Shapes: a built-in set of ten drawn classes, for trying everything without a download.

Not photographs and no benchmark: a stand-in with the form of CIFAR-10 (small RGB images, ten
classes, the class imbalance of the course's CIFAR-10 set in training, a balanced test set) that is
drawn in a second or two and learnt in about a minute on two CPU cores.

- The class is a form or a texture. Colour, contrast, position, size, rotation, squash, ground and
  noise come from the same distributions for every class, so none of them tells it.
- Pixel templates fail: a linear model gets about a third of the test set right, because figures
  move, turn and change size. It gets that much because they are lighter than their ground.
- Unequal difficulty on purpose: the rarest class, hexagon, resembles the common disc; a blunt star
  resembles a cross, few and broad dots a checkerboard.
- Drawn as signed distances (negative inside), one array operation for a chunk of images; a pixel's
  coverage is the distance clipped to one pixel around the outline, which is the anti-aliasing.
- Deterministic: training and test set have their own numpy streams, [seed, 0] and [seed, 1], so
  the test set does not change with ``num_train`` and nothing depends on any global generator.

Source of the distance functions: Inigo Quilez, "2D distance functions",
https://iquilezles.org/articles/distfunctions2d. Deviations: outside a corner the distance is that
to the edge's line, and a squashed figure's distance is taken before the squash; both change only
the softness of the outline.
"""

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, MultipleOf
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from numpy.random import Generator

from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import largest_remainder
from leanvit.values import Whole

CHUNK_PIXELS = 2**18  # drawn at once: 256 images of 32 x 32, in some 20 MB of arrays

# Training images per class of the course's imbalanced CIFAR-10 set: the proportions kept here.
TRAIN_PROPORTIONS = (4435, 4189, 3065, 4191, 4513, 3717, 3513, 3249, 2685, 2023)

Plane = Float32[ndarray, "n height width"]
PerImage = Float32[ndarray, "n 1 1"]
# Signed distance at the points (x, y), in radii of the figure; details are drawn at random.
Figure = Callable[[Plane, Plane, Generator], Plane]


def _uniform(rng: Generator, n: int, low: float, high: float) -> PerImage:
    return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)


def _pointed(x: Plane, y: Plane, points: PerImage | int, inner: PerImage | float) -> Plane:
    """Star with tips on the unit circle and notches at radius `inner`.

    The plane is folded to the wedge between a tip and the next notch, where one line is the
    outline. A regular polygon is the star whose notches lie on its edges: inner = cos(pi / points).
    """
    wedge = np.float32(np.pi) / np.asarray(points, np.float32)
    angle = np.abs((np.arctan2(y, x) + wedge) % (2 * wedge) - wedge)
    radius = np.hypot(x, y)
    edge_x, edge_y = inner * np.cos(wedge) - 1, inner * np.sin(wedge)  # from tip to notch
    length = np.hypot(edge_x, edge_y)
    return ((radius * np.cos(angle) - 1) * edge_y - radius * np.sin(angle) * edge_x) / length


def _bands(u: Plane, period: PerImage) -> Plane:
    """Parallel bands half a period wide, every `period`."""
    return (np.abs((u / period) % 1 - 0.5) - 0.25) * period


def _disc(x: Plane, y: Plane, rng: Generator) -> Plane:
    return np.hypot(x, y) - 1


def _square(x: Plane, y: Plane, rng: Generator) -> Plane:
    return _pointed(x, y, 4, math.cos(math.pi / 4))


def _ring(x: Plane, y: Plane, rng: Generator) -> Plane:
    half_width = _uniform(rng, len(x), 0.2, 0.4)
    return np.abs(np.hypot(x, y) - (1 - half_width)) - half_width


def _stripes(x: Plane, y: Plane, rng: Generator) -> Plane:
    period, phase = _uniform(rng, len(x), 0.55, 0.9), _uniform(rng, len(x), 0.0, 1.0)
    return np.maximum(_bands(x + phase, period), _disc(x, y, rng))


def _checkerboard(x: Plane, y: Plane, rng: Generator) -> Plane:
    period = _uniform(rng, len(x), 0.6, 1.0)
    a = _bands(x + _uniform(rng, len(x), 0.0, 1.0), period)
    b = _bands(y + _uniform(rng, len(x), 0.0, 1.0), period)
    either_not_both = np.maximum(np.minimum(a, b), -np.maximum(a, b))
    return np.maximum(either_not_both, _disc(x, y, rng))


def _triangle(x: Plane, y: Plane, rng: Generator) -> Plane:
    return _pointed(x, y, 3, math.cos(math.pi / 3))


def _cross(x: Plane, y: Plane, rng: Generator) -> Plane:
    half_width = _uniform(rng, len(x), 0.18, 0.42)
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1, np.minimum(x, y) - half_width)


def _dots(x: Plane, y: Plane, rng: Generator) -> Plane:
    period = _uniform(rng, len(x), 0.55, 0.8)
    u = (x + _uniform(rng, len(x), 0.0, 1.0)) / period % 1 - 0.5
    v = (y + _uniform(rng, len(x), 0.0, 1.0)) / period % 1 - 0.5
    dots = (np.hypot(u, v) - _uniform(rng, len(x), 0.26, 0.36)) * period
    return np.maximum(dots, _disc(x, y, rng))


def _star(x: Plane, y: Plane, rng: Generator) -> Plane:
    points = rng.integers(4, 8, (len(x), 1, 1)).astype(np.float32)
    return _pointed(x, y, points, _uniform(rng, len(x), 0.4, 0.6))


def _hexagon(x: Plane, y: Plane, rng: Generator) -> Plane:
    return _pointed(x, y, 6, math.cos(math.pi / 6))


# Class order is that of TRAIN_PROPORTIONS: disc is common, hexagon the rarest.
SHAPES: dict[str, Figure] = {
    "disc": _disc,
    "square": _square,
    "ring": _ring,
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "triangle": _triangle,
    "cross": _cross,
    "dots": _dots,
    "star": _star,
    "hexagon": _hexagon,
}


def _clouds(rng: Generator, n: int, size: int, cells: int) -> Float32[ndarray, "n 3 size size"]:
    """Smooth random colour fields: a grid of normal values, interpolated by cosine ramps."""
    position = np.linspace(0, cells - 1, size, dtype=np.float32)
    distance = np.minimum(np.abs(position[:, None] - np.arange(cells)), 1)
    weights = (0.5 + 0.5 * np.cos(np.pi * distance)).astype(np.float32)
    return weights @ rng.standard_normal((n, 3, cells, cells), np.float32) @ weights.T


def _coverage(sdf: Figure, n: int, size: int, rng: Generator) -> Plane:
    """Share of each pixel that the figure covers, figures placed, turned and sized at random."""
    radius = size * _uniform(rng, n, 0.25, 0.44)
    pixels = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    dx = pixels[None, None, :] - size * _uniform(rng, n, -0.12, 0.12)
    dy = pixels[None, :, None] - size * _uniform(rng, n, -0.12, 0.12)
    turn, squash = _uniform(rng, n, 0.0, 2 * np.pi), _uniform(rng, n, 0.75, 1.0)
    x = (np.cos(turn) * dx + np.sin(turn) * dy) / radius
    y = (np.cos(turn) * dy - np.sin(turn) * dx) / (radius * squash)
    return np.clip(0.5 - sdf(x, y, rng) * radius, 0, 1)


def _colours(rng: Generator, n: int) -> tuple[Float32[ndarray, "n 3 1 1"], ...]:
    """Ground and figure colours, 0 black and 1 white: any two tints, the figure the lighter one."""
    tint = rng.uniform(-0.2, 0.2, (2, n, 3, 1, 1)).astype(np.float32)
    ground, figure = tint - tint.mean(2, keepdims=True)
    contrast = rng.uniform(0.15, 0.5, (n, 1, 1, 1)).astype(np.float32)
    lightness = 0.1 + rng.uniform(0, 1, (n, 1, 1, 1)).astype(np.float32) * (0.8 - contrast)
    return ground + lightness, figure + lightness + contrast


def _draw(sdf: Figure, n: int, size: int, rng: Generator) -> UInt8[ndarray, "n 3 size size"]:
    coverage = _coverage(sdf, n, size, rng)[:, None]
    ground, figure = _colours(rng, n)
    ground = ground + 0.08 * _clouds(rng, n, size, 3) + 0.08 * _clouds(rng, n, size, 6)
    figure = figure + 0.06 * _clouds(rng, n, size, 3)
    image = ground + coverage * (figure - ground)
    image += 0.1 * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _image_set(counts: Int64[ndarray, " classes"], image_size: int, rng: Generator) -> ImageSet:
    """`counts[k]` images of class k, in random order."""
    chunk = max(1, CHUNK_PIXELS // image_size**2)
    images = np.concatenate(
        [
            _draw(sdf, min(chunk, count - start), image_size, rng)
            for sdf, count in zip(SHAPES.values(), counts.tolist(), strict=True)
            for start in range(0, count, chunk)
        ]
    )
    labels = np.repeat(np.arange(len(SHAPES), dtype=np.int64), counts)
    order = rng.permutation(len(labels))
    return ImageSet(torch.from_numpy(images[order]), torch.from_numpy(labels[order]), tuple(SHAPES))


def shapes(
    seed: Whole = 0,
    image_size: Annotated[int, Ge(16)] = 32,  # there the smallest figures have a radius of 4 pixels
    num_train: Annotated[int, Ge(10)] = 8000,  # an image of every class
    num_test: Annotated[int, Ge(10), MultipleOf(10)] = 2000,
) -> Splits:
    """Draw the set: training images imbalanced like the course's CIFAR-10 set, test balanced.

    Images are uint8 (n, 3, image_size, image_size) on the CPU; figures scale with the image. The
    same arguments give the same bytes, and ``num_train`` does not change the test set.
    """
    train_counts = largest_remainder(np.array(TRAIN_PROPORTIONS), num_train)
    test_counts = np.full(len(SHAPES), num_test // len(SHAPES), dtype=np.int64)
    return Splits(
        train=_image_set(train_counts, image_size, np.random.default_rng([seed, 0])),
        test=_image_set(test_counts, image_size, np.random.default_rng([seed, 1])),
        source=f"built-in shapes, drawn by leanvit (not photographs), seed {seed}",
    )
