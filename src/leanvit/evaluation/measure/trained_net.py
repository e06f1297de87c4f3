"""A trained net for Python: it knows how its images are prepared, and what its classes are."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor, nn

from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.pixels import squared
from leanvit.errors import LeanvitError, one_line
from leanvit.evaluation.measure.predict import BATCH, Trained, predict
from leanvit.evaluation.measure.tta import TTA

OneImage = str | os.PathLike | Image.Image
# a batch of floats outside of this was normalised already, or counts to 255
RANGE = (-0.5, 1.5)


class Prediction(NamedTuple):
    """What a net says of an image."""

    label: str  # the likeliest of its classes
    probability: float


class TrainedNet(nn.Module):
    """The net of a finished run, in evaluation mode::

        net.predict(["a.jpg", "b.png"])         # [Prediction(label="cat", probability=0.9), ...]
        net.probabilities(Image.open("a.jpg"))  # (1, classes)
        net(images)                             # uint8 (n, 3, S, S) -> logits (n, classes)

    ``predict`` and ``probabilities`` prepare images as the training did and compute as eval.py
    does, in the training's precision; they leave the net in the mode in which it was. To call it
    is plainer: whatever mode, precision and gradients are set. ``net.to("cuda")`` moves it.

    Attributes:
        net: the net itself, which takes normalised images (n, 3, S, S).
        classes: name of each logit.
        image_size: S, height and width of the images in pixels.
        fit: how images of another shape become squares, see :func:`leanvit.data.pixels.decode`.
        mean, std: (3,), of the normalisation, in 0..1.
        in_bfloat16: what ``predict`` computes in, where the training did.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.net, self.classes, self.image_size = trained.net, trained.classes, trained.image_size
        self.fit, self.in_bfloat16 = trained.fit, trained.bfloat16
        self.register_buffer("mean", trained.mean)
        self.register_buffer("std", trained.std)
        self.eval()

    def forward(self, images: Tensor) -> Float[Tensor, "n classes"]:
        """Logits.

        Args:
            images: (n, 3, S, S), RGB, not normalised: uint8, or floats in 0..1.

        Raises:
            LeanvitError: images of another shape or range.
        """
        self._check_shape(images)
        if images.dtype == torch.uint8:
            return self.net(normalise(images, self.mean, self.std))
        low, high = (images.min(), images.max()) if len(images) else (0, 0)
        if not images.is_floating_point() or low < RANGE[0] or high > RANGE[1]:
            raise LeanvitError(
                f"images are {str(images.dtype).removeprefix('torch.')} in {low:.3g} to {high:.3g},"
                " the net takes uint8, or floats in 0..1: net.net takes normalised images"
            )
        return self.net((images - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1))

    def _check_shape(self, images: Tensor) -> None:
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise LeanvitError(
                f"images are {tuple(images.shape)}, the net takes (n, 3, {size}, {size}): "
                "net.predict resizes files and PIL images"
            )

    def predict(self, images: OneImage | Iterable[OneImage] | Tensor) -> list[Prediction]:
        """The likeliest class of each image and its probability; for the others' see
        :meth:`probabilities`, which says what images may be."""
        best = self.probabilities(images).max(dim=1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [Prediction(self.classes[k], probability) for k, probability in pairs]

    def probabilities(
        self, images: OneImage | Iterable[OneImage] | Tensor, tta: TTA = "none"
    ) -> Float32[Tensor, "n classes"]:
        """Softmax probabilities, on the CPU.

        Args:
            images: one or several, files or PIL images of any size; or uint8 (n, 3, S, S).
            tta: see :mod:`leanvit.evaluation.measure.tta`.

        Raises:
            LeanvitError: what is no image, named.
        """
        if isinstance(images, Tensor):
            return self._predicted(images, tta)
        is_one = isinstance(images, str | os.PathLike | Image.Image)
        given: list[Any] = [images] if is_one else list(cast(Iterable, images))
        parts = [torch.empty(0, len(self.classes))]  # of no images
        for start in range(0, len(given), BATCH):
            pixels = [self._decoded(each) for each in given[start : start + BATCH]]
            parts.append(self._predicted(torch.stack(pixels), tta))
        return torch.cat(parts)

    def _decoded(self, image: OneImage) -> UInt8[Tensor, "3 height width"]:
        if isinstance(image, str | os.PathLike):
            return ImageFiles((Path(image).expanduser(),), self.image_size, self.fit)[0]
        if not isinstance(image, Image.Image):
            raise LeanvitError(f"{type(image).__name__} is no image: give files or PIL images")
        try:
            pixels = squared(image, self.image_size, self.fit)
        except Exception as error:  # Pillow reads its file only now
            raise LeanvitError(f"cannot read {image} ({one_line(error)})") from error
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _predicted(self, images: Tensor, tta: TTA) -> Float32[Tensor, "n classes"]:
        self._check_shape(images)
        if images.dtype != torch.uint8:
            raise LeanvitError(f"images are {images.dtype}: give uint8, or files, or PIL images")
        if not len(images):
            return torch.empty(0, len(self.classes))
        about = self.net, self.mean, self.std, self.classes, self.image_size, self.in_bfloat16
        data = ImageSet(images, torch.zeros(len(images), dtype=torch.long), self.classes)
        mode = self.training
        try:
            return predict(
                Trained(*about), data, self.mean.device, memory_gib=float("inf"), tta=tta
            )
        finally:
            self.train(mode)
