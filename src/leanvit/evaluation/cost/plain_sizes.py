"""Plain nets of several sizes as a curve, and lighter nets beside it.

A net that was pruned, merged or dropped competes with the one it was made from, and with a net that
was built smaller and trained as long, which often wins (Liu et al., "Rethinking the Value of
Network Pruning", ICLR 2019, https://arxiv.org/abs/1810.05270).

- Plain nets of one model that differ in nothing but the seed and ``model.*`` values that change its
  MACs are a curve, if they have two sizes or more; seeds of a size are averaged.
- A lighter net is compared with the curve of the net it was made of, or else with that of its model
  whose recipe is most like its own, at its own speed: between the two sizes next to it correctness
  is interpolated, image by image, by the logarithm of images per second. Faster than the fastest
  size, or slower than the slowest, nothing is said.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from leanvit.evaluation.comparison.intervals import Difference, paired_difference

OF_NET = ("model.name", "model.weights")  # another net, not another size of it
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
    nets: dict[Plain, list[str]] = {}  # of equal nets of a recipe the first that is given counts
    for own, size in zip(settings, macs, strict=True):
        plain = Plain(" ".join([own["model"], *_recipe(own)]), size)
        values = sorted(f"{key}={own[key]}" for key in own if key.startswith("model."))
        counts = not is_light(own) and nets.setdefault(plain, values) == values
        found.append(plain if counts else None)
    sizes: dict[str, set[float]] = {}
    for each in filter(None, found):
        sizes.setdefault(each.curve, set()).add(each.size)
    return [each if each and len(sizes[each.curve]) > 1 else None for each in found]


def is_light(settings: Mapping[str, str]) -> bool:
    """Whether a method makes the net lighter."""
    return any(settings.get(key, "none") != "none" for key in METHODS)


def _recipe(settings: Mapping[str, str]) -> list[str]:
    """All that was chosen but what may differ along a curve, and methods."""
    return [f"{key}={value}" for key, value in sorted(settings.items())
            if key in OF_NET or key.split(".")[0] not in (*OF_SIZE, *METHODS)]  # fmt: skip


def beside_plain(
    settings: Sequence[Mapping[str, str]],
    plain: Sequence[Plain | None],
    bases: Sequence[int | None],
    rates: Sequence[float],
    answers: Sequence[Float64[ndarray, " n"]],
) -> list[Difference | None]:
    """Accuracy of each lighter run minus that of plain nets as fast as it.

    Args:
        bases: which of the runs each was made of.
        rates: images per second.
        answers: whether each test image was right.

    Returns:
        None for plain runs, and for lighter ones beyond the curve of their model.
    """
    differences: list[Difference | None] = []
    for index, own in enumerate(settings):
        curve = _curve(index, settings, plain, bases[index]) if is_light(own) else None
        groups = sizes_of(plain, curve) if curve else []
        speeds = [float(np.mean([np.log(rates[i]) for i in group])) for group in groups]
        right = [np.mean([answers[i] for i in group], axis=0) for group in groups]
        between = _at(float(np.log(rates[index])), speeds, right)
        differences.append(None if between is None else paired_difference(answers[index], between))
    return differences


def _curve(
    index: int,
    settings: Sequence[Mapping[str, str]],
    plain: Sequence[Plain | None],
    base: int | None,
) -> str | None:
    """The curve that a lighter run stands beside."""
    if base is not None and (found := plain[base]):
        return found.curve
    own = set(_recipe(settings[index]))
    differing = {each.curve: len(own ^ set(_recipe(settings[i]))) for i, each in enumerate(plain)
                 if each and settings[i]["model"] == settings[index]["model"]}  # fmt: skip
    return min(differing, key=differing.__getitem__, default=None)


def sizes_of(plain: Sequence[Plain | None], curve: str) -> list[list[int]]:
    """Which runs are of each size of a curve, the smallest in front."""
    own = [(each.size, index) for index, each in enumerate(plain) if each and each.curve == curve]
    return [[index for size, index in own if size == wanted]
            for wanted in sorted({size for size, _ in own})]  # fmt: skip


def _at(
    speed: float, speeds: Sequence[float], right: Sequence[Float64[ndarray, " n"]]
) -> Float64[ndarray, " n"] | None:
    """Share of right answers of plain nets that are as fast as ``speed``; speeds are logarithms."""
    for slow, fast in pairwise(np.argsort(speeds)):
        if speeds[slow] <= speed <= speeds[fast]:
            apart = speeds[fast] - speeds[slow]
            share = (speed - speeds[slow]) / apart if apart else 0.5
            return (1 - share) * right[slow] + share * right[fast]
    return None
