"""CIFAR-100 (Krizhevsky, 2009): 500 training and 100 test images of 32x32 for each of 100 classes.

The 100 fine classes, in the archive's (alphabetical) order; the 20 coarse ones are not used.
"""

from pathlib import Path

from leanvit.data.cifar10 import read_archive
from leanvit.data.images import Splits
from leanvit.values import Count


def cifar100(source: str | None = None, data_dir: str = "data", image_size: Count = 32) -> Splits:
    """The official training and test set, through torchvision.

    Args:
        source: folder that holds ``cifar-100-python`` or its archive; ``None``: ``data_dir``,
            downloaded there where it is missing.
        image_size: images are resized to it where it is not 32.

    Raises:
        LeanvitError: neither on disk nor to be downloaded.
    """
    from torchvision.datasets import CIFAR100  # late, as in leanvit.data.cifar10

    root = Path(source or data_dir)
    train, test = (
        read_archive(CIFAR100, "CIFAR-100", None, root, part, image_size) for part in (True, False)
    )
    return Splits(train, test, source="CIFAR-100, official archive")
