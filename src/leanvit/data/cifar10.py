"""CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32x32, ten classes."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leanvit.data.class_names import CIFAR10_CLASSES
from leanvit.data.images import ImageSet, Splits
from leanvit.errors import LeanvitError
from leanvit.values import Count


def cifar10(source: str | None = None, data_dir: str = "data", image_size: Count = 32) -> Splits:
    """The official training and test set, through torchvision.

    Args:
        source: folder that holds ``cifar-10-batches-py`` or its archive; ``None``: ``data_dir``,
            downloaded there where it is missing.
        image_size: images are resized to it where it is not 32.

    Raises:
        LeanvitError: neither on disk nor to be downloaded.
    """
    root = Path(source or data_dir)
    train = official(root, train=True, image_size=image_size)
    test = official(root, train=False, image_size=image_size)
    return Splits(train, test, source="CIFAR-10, official archive")


def official(root: Path, train: bool, image_size: int = 32) -> ImageSet:
    """One half of the official archive, in its official order."""
    from torchvision.datasets import CIFAR10  # late: it takes seconds, and folders need none of it

    return read_archive(CIFAR10, "CIFAR-10", CIFAR10_CLASSES, root, train, image_size)


def read_archive(
    dataset: Callable[..., Any],
    name: str,
    classes: tuple[str, ...] | None,
    root: Path,
    train: bool,
    image_size: int,
) -> ImageSet:
    """One half of an archive that torchvision reads.

    Args:
        dataset: torchvision's CIFAR10 or CIFAR100.
        classes: names of the classes; ``None``: as the archive has them.

    Raises:
        LeanvitError: neither in ``root`` nor to be downloaded.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # torchvision tells each file it verifies
            root.mkdir(parents=True, exist_ok=True)
            archive = dataset(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise LeanvitError(
            f"{name} is not in {root} and cannot be downloaded ({' '.join(str(error).split())}): "
            f"put {name.lower()}-python.tar.gz there, or give data.source=<where the images are>"
        ) from error
    images = torch.from_numpy(archive.data).permute(0, 3, 1, 2)  # channels_last
    labels = torch.tensor(archive.targets)
    return ImageSet(_resized(images, image_size), labels, classes or tuple(archive.classes))


def _resized(images: Tensor, image_size: int) -> Tensor:
    if images.shape[-1] == image_size:
        return images
    from torchvision.transforms.v2.functional import resize

    chunks = [resize(chunk, [image_size, image_size]) for chunk in images.split(1024)]
    return torch.cat(chunks).contiguous(memory_format=torch.channels_last)
