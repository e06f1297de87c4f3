"""What pruning takes out of a net, and a fresh net in the sizes of a pruned one.

A unit is an attention head, or a channel that one layer makes and one reads (the hidden layer of an
MLP, the expansion of an MBConv, the middle of a stem). The part of the net that makes a unit is the
only one that reads it: without it the net is the net in which the unit is zero, to the last digit.
The width of the residual stream is no such unit, and stays: every block, position and readout would
lose the same channel, and LayerNorm, which averages over the channels, would give another net than
that with the channel at zero.

What can go is said by the parts themselves (:class:`leanvit.contracts.Prunable`), and found in
every ``nn.Sequential``. The sizes of a pruned net are read from its weights.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leanvit.contracts import Channels, Heads, NetOfSteps, Prunable
from leanvit.errors import LeanvitError
from leanvit.models.convolution_parts import SqueezeExcitation
from leanvit.weights import mismatch


class HeadUnits:
    """The heads of one attention, in its net."""

    def __init__(self, heads: Heads, names: dict[nn.Module, str]) -> None:
        self.heads, self.name = heads, names[heads.attention]
        self.attention = heads.attention
        self.readers: list[Any] = [heads.reader]
        self.reader_name = names[heads.reader]
        self.unpruned = [names[layer] for layer in heads.unpruned]

    @property
    def num(self) -> int:
        return self.attention.heads

    @property
    def dim_head(self) -> int:
        return self.readers[0].weight.shape[1] // self.num

    def num_in(self, weights: dict[str, Tensor]) -> int:
        """Heads of this attention in the weights of another net."""
        found = weights.get(f"{self.reader_name}.weight")
        return self.num if found is None or found.ndim < 2 else found.shape[1] // self.dim_head

    def keep(self, heads: Sequence[int]) -> None:
        """Cut all layers down to these heads."""
        kept, columns = torch.tensor(heads), torch.arange(self.num * self.dim_head)
        columns = columns.view(self.num, self.dim_head)
        makers: Any = self.heads.makers
        for maker in makers:
            rows = torch.arange(len(maker.weight)).view(-1, *columns.shape)
            _cut(maker, rows=rows[:, kept].flatten())
        _cut(self.heads.reader, columns=columns[kept].flatten())
        for name in self.heads.tables:
            table = getattr(self.attention, name)
            setattr(self.attention, name, _like(table, table[..., kept.to(table.device)]))
        self.attention.heads = len(heads)

    def macs(self, of: dict[str, int]) -> int:
        """Those of all heads, of the MACs of each module by name."""
        return of[self.name] - sum(of.get(name, 0) for name in self.unpruned)


class ChannelUnits:
    """Channels that one layer makes and one reads, in their net."""

    def __init__(self, channels: Channels, names: dict[nn.Module, str]) -> None:
        self.channels = channels
        self.layers = [channels.maker, *channels.carriers, channels.reader]
        self.names = [names[layer] for layer in self.layers]
        squeezes = [_squeezing(each)[0] for each in channels.carriers if _squeezing(each)]
        self.readers: list[Any] = [*squeezes, channels.reader]

    @property
    def num(self) -> int:
        return len(self.channels.maker.weight)  # type: ignore[arg-type]

    def num_in(self, weights: dict[str, Tensor]) -> int:
        """Channels between these layers in the weights of another net."""
        found = weights.get(f"{self.names[-1]}.weight")
        return self.num if found is None or found.ndim < 2 else found.shape[1]

    def keep(self, channels: Sequence[int]) -> None:
        """Cut all layers down to these channels."""
        kept = torch.tensor(channels)
        _cut(self.channels.maker, rows=kept)
        for carrier in self.channels.carriers:
            if squeezing := _squeezing(carrier):
                _cut(squeezing[0], columns=kept)
                _cut(squeezing[-1], rows=kept)
            else:
                _cut(carrier, rows=kept)
        _cut(self.channels.reader, columns=kept)

    def macs(self, of: dict[str, int]) -> int:
        """Those of all channels, of the MACs of each module by name."""
        return sum(of.get(name, 0) for name in self.names)


Units = HeadUnits | ChannelUnits


def prunable(net: nn.Module) -> list[Units]:
    """All that can be pruned of ``net``, in the order of its modules.

    Raises:
        LeanvitError: the net does not say its steps, or nothing can.
    """
    if not isinstance(net, NetOfSteps):
        raise LeanvitError(
            f"method=prune does not fit {type(net).__name__}, which does not say its steps (begin, "
            "steps, end, pool): it fits plain nets"
        )
    names = {module: name for name, module in net.named_modules()}
    found: list[Units] = []
    for module in names:
        if isinstance(module, Prunable):
            for unit in module.units():
                if isinstance(unit, Heads):
                    found.append(HeadUnits(unit, names))
                else:
                    found.append(ChannelUnits(unit, names))
        elif isinstance(module, nn.Sequential):
            found += [ChannelUnits(each, names) for each in _channels(module)]
    if not found:
        raise LeanvitError(
            f"method=prune does not fit {type(net).__name__}, which says no units that can go and "
            "has no two layers in a row"
        )
    return found


def _channels(layers: Any) -> Iterator[Channels]:
    """Of a row of layers only every second width, so that no layer both makes and reads: what one
    channel costs then does not depend on how many others there are."""
    dense = [i for i, layer in enumerate(layers) if _is_dense(layer)]
    for first, last in zip(dense[::2], dense[1::2], strict=False):
        between = [layers[i] for i in range(first + 1, last)]
        carriers = [each for each in between if next(each.parameters(), None) is not None]
        one_to_one = layers[last].weight.shape[1] == len(layers[first].weight)
        if one_to_one and all(map(_carries, carriers)):  # else what is between mixes the channels
            yield Channels(layers[first], carriers, layers[last])


def _is_dense(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels


def _carries(layer: nn.Module) -> bool:
    """Whether it leaves the channels apart, as far as is known."""
    return isinstance(layer, nn.BatchNorm2d | SqueezeExcitation) or _is_depthwise(layer)


def _squeezing(carrier: nn.Module) -> list[Any]:
    """Of squeeze-excitation its layers: the first reads the channels, the last has one for each."""
    return [layer for layer in carrier.modules() if layer is not carrier and _is_dense(layer)]


def resize(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give ``net`` the sizes of the pruned net that ``weights`` are of, so that they fit it.

    Args:
        net: as its config builds it, unpruned; what it keeps are not yet the pruned net's values.
        weights: the pruned net's state dict.

    Raises:
        LeanvitError: they are not those of this net, pruned.
    """
    for units in prunable(net):
        num = units.num_in(weights)
        if 1 <= num < units.num:
            units.keep(range(num))
    differs = mismatch(weights, net.state_dict())
    if differs:
        raise LeanvitError(
            f"no pruning of this {type(net).__name__} gives these weights: {differs}; "
            "build it as it was built before it was pruned"
        )


def _cut(layer: Any, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Keep these outputs and these inputs of a layer; ``None``: all."""
    if columns is not None:
        layer.weight = _like(
            layer.weight, layer.weight.index_select(1, columns.to(layer.weight.device))
        )
    if rows is not None:
        rows = rows.to(layer.weight.device)
        layer.weight = _like(layer.weight, layer.weight.index_select(0, rows))
        if layer.bias is not None:
            layer.bias = _like(layer.bias, layer.bias[rows])
    if isinstance(layer, nn.BatchNorm2d):
        for name in ("running_mean", "running_var"):
            setattr(layer, name, getattr(layer, name)[rows])
        layer.num_features = len(layer.weight)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif layer.groups > 1:  # depthwise
        layer.groups = layer.in_channels = layer.out_channels = len(layer.weight)
    else:
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def _like(parameter: nn.Parameter, part: Tensor) -> nn.Parameter:
    return nn.Parameter(part.detach().clone(), parameter.requires_grad)
