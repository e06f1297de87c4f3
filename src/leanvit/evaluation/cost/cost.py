"""What a net costs: parameters, bytes and multiply-accumulates for one image, and where they go.

Two countings stand side by side, because published tables use the second:

- ``macs`` are half the floating-point operations of every matrix product and convolution, by
  PyTorch's own formulas, the two products of attention included. They equal the closed form.
- ``thop_params`` and ``thop_macs`` are what thop (https://github.com/Lyken17/pytorch-OpCounter)
  reports: no attention products and no bare ``nn.Parameter``, but four operations for each value
  that an affine normalisation reads.

Both look at one forward pass of a copy in float32 on the CPU, so that the figures do not depend on
where the net lives, and fused attention is counted as its plain products. A net without storage
stays without: a large one then costs no memory. A lightweighting method goes without, too: where
there is no image to look at, it takes the most that it can. Others do not, since the first
operation on torch's meta device imports torch._dynamo, for longer than most nets take.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from leanvit.contracts import Method, NetOfSteps, plain_net
from leanvit.training.flops import Products


@dataclass(frozen=True)
class Part:
    """What one part of a net costs."""

    # as in net.named_parameters(), such as "blocks.3"; "forward" for products that the net's own
    # forward pass computes, outside all its parts
    name: str
    params: int  # a shared parameter belongs to the first part it is in
    macs: int


@dataclass(frozen=True)
class Cost:
    """What one net costs; MACs are for one image, in evaluation mode."""

    params: int  # values in all parameters, a shared one counted once
    trainable_params: int  # those of them that get a gradient
    weight_bytes: int  # as in a checkpoint: with persistent buffers, such as running statistics
    macs: int  # of all matrix products and convolutions
    # of products that no weight takes part in: queries with keys, attention weights with values
    attention_macs: int
    thop_params: int
    thop_macs: int
    # bare parameters of the net, then its parts as the forward pass comes to them: each block, each
    # stage, and what stands before and after; they sum to the net, and none has neither
    parts: tuple[Part, ...]


@torch.inference_mode(False)  # which would not open up what consists of several operations
@torch.no_grad()
def cost(net: nn.Module, image_size: int) -> Cost:
    """Count what ``net`` costs for one image of ``image_size`` x ``image_size`` pixels, 3 channels.

    The net may live on any device, train or evaluate, and be compiled with ``net.compile()``; it
    is not changed. Its forward pass must not depend on the values of an image: the cost of a net
    whose work differs from image to image is an average, and the net's own method reports it.
    """
    # keep_vars gives the tensors themselves, so that a shared one is recognised by its identity.
    saved = net.state_dict(keep_vars=True).values()
    weights = {id(weight): weight for weight in saved if isinstance(weight, Tensor)}
    is_bare = isinstance(net, Method) or any(weight.is_meta for weight in net.parameters())
    device = "meta" if is_bare else "cpu"
    shadow = copy.deepcopy(net).to(device, torch.float32).eval()
    images = torch.zeros(1, 3, image_size, image_size, device=device)
    macs, attention_macs, thop_macs, thop_params, macs_of = _count(shadow, images)
    return Cost(
        params=sum(p.numel() for p in net.parameters()),
        trainable_params=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights.values()),
        macs=macs,
        attention_macs=attention_macs,
        thop_params=int(thop_params),
        thop_macs=int(thop_macs),
        parts=_parts(shadow, macs, macs_of),
    )


def _count(shadow: nn.Module, images: Tensor) -> tuple[int, int, float, float, dict[str, int]]:
    """MACs, attention's MACs, thop's MACs and parameters; the MACs of each part that is entered.

    What a part does while another one runs it counts for that other one. The hooks stay: ``shadow``
    is a copy.
    """
    counter = Products(lambda _: 1)
    macs_of: dict[str, int] = {}
    entered: list[str] = []
    before = 0

    def enter(name: str) -> None:
        nonlocal before
        if not entered:
            before = counter.flops // 2
        entered.append(name)

    def leave(name: str) -> None:
        entered.pop()
        if not entered:
            spent = counter.flops // 2 - before
            macs_of[name] = macs_of.get(name, 0) + spent

    for name, part in _named_parts(shadow):
        for module in part.modules():  # a lightweighting method enters a block by its modules
            module.register_forward_pre_hook(lambda *_, name=name: enter(name))
            module.register_forward_hook(lambda *_, name=name: leave(name))
    with warnings.catch_warnings():
        # it compares versions with distutils, which Python 3.11 warns about, and later ones lack
        warnings.simplefilter("ignore", DeprecationWarning)
        import thop
        from thop.profile import register_hooks
    # thop goes by a module's very class: one that is derived from a class it knows counts as that
    rules = {
        kind: next(register_hooks[base] for base in kind.__mro__ if base in register_hooks)
        for kind in {type(part) for part in shadow.modules()}
        if not register_hooks.keys().isdisjoint(kind.__mro__)
    }
    # thop keeps its sums in buffers, and reads them: those need storage even where the caller
    # builds its nets on the meta device.
    plain_attention = sdpa_kernel(SDPBackend.MATH)  # the fused kernel is not counted
    weightless = Products(_without_weight_of(shadow))
    with plain_attention, weightless as attention, counter, torch.device("cpu"):
        thop_macs, thop_params = thop.profile(shadow, (images,), rules, verbose=False)
    macs = counter.flops // 2
    return macs, attention.flops // 2, thop_macs, thop_params, macs_of


def _named_parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a net; of a list, of what holds its steps and of a net that is wrapped, the
    members."""
    plain = plain_net(net)
    steps = set(plain.steps) if isinstance(plain, NetOfSteps) else set()
    yield from _members(net, steps)


def _members(
    holder: nn.Module, steps: set[nn.Module], prefix: str = ""
) -> Iterator[tuple[str, nn.Module]]:
    for name, child in holder.named_children():
        holds_steps = child not in steps and not steps.isdisjoint(child.modules())
        is_wrapped = isinstance(holder, Method) and child is holder.net
        if isinstance(child, nn.ModuleList) or holds_steps or is_wrapped:
            yield from _members(child, steps, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _parts(shadow: nn.Module, macs: int, macs_of: dict[str, int]) -> tuple[Part, ...]:
    modules = [name for name, _ in _named_parts(shadow)]
    params_of: dict[str, int] = {}  # the net's own parameters come first here
    for name, parameter in shadow.named_parameters():
        owner = next((part for part in modules if name.startswith(f"{part}.")), name)
        params_of[owner] = params_of.get(owner, 0) + parameter.numel()
    bare = [name for name in params_of if name not in modules]
    names = dict.fromkeys([*bare, *macs_of, *params_of])
    parts = [Part(name, params_of.get(name, 0), macs_of.get(name, 0)) for name in names]
    parts.append(Part("forward", 0, macs - sum(macs_of.values())))
    return tuple(part for part in parts if part.params or part.macs)


def _without_weight_of(net: nn.Module) -> Callable[[Sequence[Tensor]], int]:
    """1 for the tensors of a product that no weight of ``net`` takes part in, else 0."""
    # a weight that is transposed or expanded for a product still has its own storage
    weights = {weight.untyped_storage()._cdata for weight in net.parameters()}
    return lambda tensors: weights.isdisjoint(each.untyped_storage()._cdata for each in tensors)
