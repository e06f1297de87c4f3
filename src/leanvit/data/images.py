"""What a data source gives: uint8 images, their labels, the names of the classes."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from leanvit.cores import num_cores
from leanvit.data.listing import read_image
from leanvit.data.pixels import Fit, decode
from leanvit.errors import LeanvitError, one_line


@dataclass(frozen=True)
class ImageFiles:
    """Images too many for memory: decoded each time they are asked for.

    ``files[i]`` is one image, uint8 (3, image_size, image_size), or a LeanvitError that names it.
    """

    paths: tuple[Path, ...]
    image_size: int
    fit: Fit = "stretch"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 height width"]:
        try:
            content = io.BytesIO(read_image(self.paths[index]))
            return torch.from_numpy(decode(content, self.image_size, self.fit)).permute(2, 0, 1)
        except Exception as error:  # Pillow raises many kinds for a damaged file
            raise LeanvitError(
                f"cannot read image {self.paths[index]} ({one_line(error)}): replace or remove it"
            ) from error


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: uint8 (N, 3, height, width), or files that are decoded on demand.
        labels: class index per image.
        classes: name of each class; ``labels`` index it.
    """

    images: UInt8[Tensor, "n 3 height width"] | ImageFiles
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> Int64[Tensor, " classes"]:
        return torch.bincount(self.labels, minlength=len(self.classes))

    def subset(self, index: Int64[Tensor, " m"]) -> "ImageSet":
        """The images at ``index``, in that order."""
        if isinstance(self.images, ImageFiles):
            paths = tuple(self.images.paths[i] for i in index.tolist())
            images: Tensor | ImageFiles = replace(self.images, paths=paths)
        else:
            # gathered as (N, H, W, 3), so that images stay channels last in memory
            images = self.images.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2)
        return ImageSet(images, self.labels[index], self.classes)


@dataclass(frozen=True)
class Splits:
    """Training and test images; ``val`` only where the source brings its own.

    ``source`` is one line that says where the images come from; every table of results prints it.
    """

    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    source: str = ""


def in_batches(images: ImageFiles, size: int) -> Iterator[list[Tensor | LeanvitError]]:
    """Each image, uint8 (3, height, width), or why it cannot be read, ``size`` at a time.

    While one batch is used the next is decoded, by as many threads as there are cores.
    """

    def read(index: int) -> Tensor | LeanvitError:
        try:
            return images[index]
        except LeanvitError as error:
            return error

    before = None
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(images) + size, size):  # one more, in which the last is used
            decoded = pool.map(read, range(start, min(start + size, len(images))))
            if before is not None:
                yield list(before)
            before = decoded
