"""What a net whose work differs from image to image does with real ones, and what classes cost it.

:func:`draw_dynamic` draws what a net has: ``kept``, ``groups(images)``, ``exits``, ``macs_used``
(see :mod:`leanvit.lightweight`). Of a net that has none of them it draws nothing. The pictures are
in :mod:`pictures.token_pictures`, the charts in :mod:`pictures.class_costs`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from leanvit.contracts import NetOfSteps, plain_net
from leanvit.data.images import ImageSet
from leanvit.evaluation.measure.predict import Trained, as_in_prediction, predict
from leanvit.evaluation.pictures.class_costs import cost_by_class, exits_by_class, rank_correlation
from leanvit.evaluation.pictures.figures import save_figure
from leanvit.evaluation.pictures.inside import word_of
from leanvit.evaluation.pictures.look import Look, look_at_these
from leanvit.evaluation.pictures.panels import evenly
from leanvit.evaluation.pictures.token_pictures import kept_tokens, merged_tokens
from leanvit.files import write_json


class Observed(NamedTuple):
    """What a net did with each image; None where it does not tell."""

    exits: Int64[ndarray, " n"] | None
    macs: Float64[ndarray, " n"] | None
    tokens: Float64[ndarray, " n"] | None  # patches kept, mean over the stages


def draw_dynamic(
    trained: Trained,
    data: ImageSet,
    train_counts: Sequence[int],
    folder: Path,
    title: str,
    device: torch.device,
    num_images: int,
    seed: int = 0,
) -> list[Path]:
    """Draw all that fits a net, from what it does with test images, and tell the files.

    Args:
        data: on which the charts are; the pictures are of a few of its images, one of each class.
        folder: gets ``kept.png``, ``groups.png``, ``exits.png``, ``cost_by_class.png`` with
            ``cost_by_class.json``, and ``tokens_by_class.png``, as far as the net has them.
        num_images: at most, in the pictures.
    """
    net, classes = trained.net, trained.classes
    if not any(hasattr(net, name) for name in ("kept", "groups", "exits", "macs_used")):
        return []
    seen, labels = observe(trained, data, device), data.labels.numpy()
    look = look_at_these(trained, data, one_of_each(labels, num_images, seed), device)
    figures = draw_pictures(trained, look, device)
    if seen.exits is not None:
        names = exit_names(net, int(seen.exits.max()) + 1)
        figures["exits"] = exits_by_class(seen.exits, labels, classes, names)
    files = []
    if seen.macs is not None and np.ptp(seen.macs) > 0:  # else all cost the same
        figures["cost_by_class"], means = cost_by_class(seen.macs, labels, classes, train_counts)
        files.append(folder / "cost_by_class.json")
        write_json(in_numbers(means, classes, train_counts), files[-1])
        if seen.tokens is not None:
            figures["tokens_by_class"], _ = cost_by_class(
                seen.tokens, labels, classes, train_counts, "patches kept"
            )
    for name, figure in figures.items():
        files.append(folder / f"{name}.png")
        save_figure(figure, files[-1], title)
    return files


def draw_pictures(trained: Trained, look: Look, device: torch.device) -> dict[str, Figure]:
    """What the net does with single images, as far as it tells."""
    net: Any = trained.net
    figures = {}
    with as_in_prediction(trained.net, device, trained.bfloat16):
        if hasattr(net, "kept"):
            net(look.inputs)
            kept = net.kept.cpu().numpy()
            figures["kept"] = kept_tokens(look, kept, stage_names(net, kept.shape[1]))
        if hasattr(net, "groups"):
            figures["groups"] = merged_tokens(look, net.groups(look.inputs).cpu().numpy())
    return figures


def in_numbers(
    means: dict[str, float], classes: Sequence[str], train_counts: Sequence[int]
) -> dict[str, Any]:
    """What the chart of costs says, for programs."""
    counts = [train_counts[classes.index(name)] for name in means]
    correlation, p = rank_correlation(counts, list(means.values())) or (None, None)
    return {"mean_macs": means, "rank_correlation_to_training_images": correlation, "p": p}


def observe(trained: Trained, data: ImageSet, device: torch.device) -> Observed:
    """What a net does with images, in order."""
    told: dict[str, list[Tensor]] = {"exits": [], "macs_used": [], "kept": []}
    predict(trained, data, device, told=told)
    exits, macs, kept = (torch.cat(each) if each else None for each in told.values())
    tokens = None if kept is None else kept.sum(dim=2).double().mean(dim=1)
    return Observed(*(None if each is None else each.numpy() for each in (exits, macs, tokens)))


def one_of_each(
    labels: Int64[ndarray, " n"], num_images: int, seed: int
) -> Int64[ndarray, " chosen"]:
    """One image of each class, drawn at random; of many classes, of some evenly spaced ones."""
    order, present = np.random.default_rng(seed).permutation(len(labels)), np.unique(labels)
    shown = present[evenly(len(present), num_images)]
    return np.array([next(i for i in order if labels[i] == label) for label in shown])


def stage_names(net: Any, num_stages: int) -> list[str]:
    """What goes through each block, where each is told of; otherwise stages, from 1."""
    plain = plain_net(net)
    if isinstance(plain, NetOfSteps) and len(plain.steps) == num_stages:
        return [f"in block {number}" for number in range(num_stages)]
    for name, words in (("after", "after {} blocks"), ("chosen", "in block {}")):
        if len(places := getattr(net, name, ())) == num_stages:
            return [words.format(place).replace(" 1 blocks", " 1 block") for place in places]
    return [f"after stage {number}" for number in range(1, 1 + num_stages)]


def exit_names(net: Any, num_exits: int) -> list[str]:
    """Where each exit is, as a net with early exits tells it; otherwise their numbers from 1."""
    after = list(getattr(net, "after", []))
    if not after:
        return [f"exit {number}" for number in range(1, 1 + num_exits)]
    plain: Any = plain_net(net)
    word = word_of(plain)
    return [*(f"after {n} {word}{'s' * (n > 1)}" for n in after), "at the end"]
