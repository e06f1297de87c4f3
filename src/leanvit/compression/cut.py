"""Chosen heads and channels leave a net, and every layer that knows them gets smaller.

The layers that must lose a channel together are found by torch-pruning (DepGraph, Fang et al.,
CVPR 2023, https://arxiv.org/abs/2301.12900); heads are cut here, as its graph does not find those
of Swin and of ViT-Conv.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.compression.resize import Channels, Heads, Units


def cut(
    net: nn.Module,
    images: Float[Tensor, "batch 3 height width"],
    units: Sequence[Units],
    chosen: Sequence[list[int]],
) -> None:
    """Take the chosen units out of all layers that know them, in place.

    Args:
        images: that the net takes; of any content.
        chosen: of each of ``units``, which go.
    """
    import torch_pruning  # it takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every bare parameter
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(net, example_inputs=images)
    for each, places in zip(units, chosen, strict=True):  # before heads: the graph has them all
        if places and isinstance(each, Channels):
            outputs = _cutting(each.maker, "out")
            graph.get_pruning_group(each.maker, outputs, places).prune()
    for each, places in zip(units, chosen, strict=True):
        if places and isinstance(each, Heads):
            _cut_heads(each, places)


def _cut_heads(heads: Heads, places: list[int]) -> None:
    num, [out] = heads.num, heads.readers
    columns = torch.arange(out.weight.shape[1]).view(num, -1)
    for maker in heads.makers:
        rows = torch.arange(len(maker.weight)).view(-1, *columns.shape)
        _cutting(maker, "out")(maker, rows[:, places].flatten().tolist())
    _cutting(out, "in")(out, columns[places].flatten().tolist())
    kept = [head for head in range(num) if head not in places]
    heads.keep_biases(kept)
    heads.attention.heads = len(kept)


def _cutting(layer: nn.Module, side: str) -> Callable[[nn.Module, list[int]], object]:
    """torch-pruning's function that cuts outputs ("out") or inputs ("in") off ``layer``."""
    import torch_pruning

    kind = "linear" if isinstance(layer, nn.Linear) else "conv"
    return getattr(torch_pruning, f"prune_{kind}_{side}_channels")


def one_image(net: nn.Module, image_size: int) -> Float[Tensor, "1 3 height width"]:
    """Of zeros, in the net's own type and place."""
    weight = next(net.parameters())
    return weight.new_zeros(1, 3, image_size, image_size)
