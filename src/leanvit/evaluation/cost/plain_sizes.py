"""Plain nets of several sizes as a curve, and lighter nets beside it.

A net that was pruned, merged or dropped competes with the one it was made from, and with a net that
was built smaller and trained as long, which often wins (Liu et al., "Rethinking the Value of
Network Pruning", ICLR 2019, https://arxiv.org/abs/1810.05270).

- Plain nets of one model that differ in nothing but ``model.*`` and the seed are a curve, if they
  have two sizes or more; seeds of a size are averaged.
- A lighter net of that model is compared with the curve at its own speed: between the two sizes
  next to it correctness is interpolated, image by image, by the logarithm of images per second.
  Faster than the fastest size, or slower than the slowest, nothing is said.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import Difference, paired_difference

OF_SIZE = ("model", "experiment")  # keys that may differ along a curve, with what is below them
METHODS = ("lightweight", "method")


class Plain(NamedTuple):
    """A net of a curve."""

    curve: str  # equal for nets of one curve
    size: float  # MACs; equal for seeds of a size


def curves(settings: Sequence[Mapping[str, str]], macs: Sequence[float]) -> list[Plain | None]:
    """Which curve each run is on; None: it has a method, or is the only size.

    Args:
        settings: what was chosen for each run.
    """
    found: list[Plain | None] = []
    for own, size in zip(settings, macs, strict=True):
        is_plain = all(own.get(key, "none") == "none" for key in METHODS)
        rest = [f"{key}={value}" for key, value in sorted(own.items())
                if key.split(".")[0] not in (*OF_SIZE, *METHODS)]  # fmt: skip
        found.append(Plain(" ".join([own["model"], *rest]), size) if is_plain else None)
    sizes: dict[str, set[float]] = {}
    for each in filter(None, found):
        sizes.setdefault(each.curve, set()).add(each.size)
    return [each if each and len(sizes[each.curve]) > 1 else None for each in found]


def beside_plain(
    settings: Sequence[Mapping[str, str]],
    plain: Sequence[Plain | None],
    rates: Sequence[float],
    answers: Sequence[Float64[ndarray, " n"]],
) -> list[Difference | None]:
    """Accuracy of each lighter run minus that of plain nets as fast as it.

    Args:
        rates: images per second.
        answers: whether each test image was right.

    Returns:
        None for plain runs, and for lighter ones beyond the curve of their model.
    """
    differences: list[Difference | None] = []
    for index, own in enumerate(settings):
        is_light = any(own.get(key, "none") != "none" for key in METHODS)
        along = [i for i, each in enumerate(plain)
                 if each and is_light and settings[i]["model"] == own["model"]]  # fmt: skip
        names = [plain[i].curve for i in along]  # type: ignore[union-attr]
        if names:  # of several recipes the one with the most nets
            along = [i for i, name in zip(along, names, strict=True)
                     if name == max(names, key=names.count)]  # fmt: skip
        between = _at(rates[index], [(plain[i], rates[i], answers[i]) for i in along])
        differences.append(None if between is None else paired_difference(answers[index], between))
    return differences


def _at(
    rate: float, nets: Sequence[tuple[Plain | None, float, Float64[ndarray, " n"]]]
) -> Float64[ndarray, " n"] | None:
    """Share of right answers of plain nets that are as fast as ``rate``."""
    sizes = sorted({each.size for each, *_ in nets if each})
    speeds, right = [], []
    for size in sizes:
        of_size = [(own, answers) for each, own, answers in nets if each and each.size == size]
        speeds.append(float(np.mean([np.log(own) for own, _ in of_size])))
        right.append(np.mean([answers for _, answers in of_size], axis=0))
    order, wanted = np.argsort(speeds), np.log(rate)
    for slow, fast in pairwise(order):
        if speeds[slow] <= wanted <= speeds[fast]:
            apart = speeds[fast] - speeds[slow]
            share = (wanted - speeds[slow]) / apart if apart else 0.5
            return (1 - share) * right[slow] + share * right[fast]
    return None
