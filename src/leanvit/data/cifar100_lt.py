"""CIFAR-100-LT: CIFAR-100 whose training images thin out exponentially from class to class.

Cao et al. 2019, https://arxiv.org/abs/1906.07413: 10,847 training images at exp:100, 12,608 at
exp:50, 19,573 at exp:10, and the whole, balanced test set.

The cut is not made here but by ``data.imbalance``, which every data set has
(:func:`leanvit.data.long_tail.long_tail`): what is special is its value in the YAML file.
"""

from leanvit.data.cifar100 import cifar100
from leanvit.data.images import Splits


def cifar100_lt(source: str | None = None, data_dir: str = "data", image_size: int = 32) -> Splits:
    """The images that the tail is cut from: see :func:`leanvit.data.cifar100.cifar100`."""
    return cifar100(source, data_dir, image_size)
