"""Muon: momentum whose every step is made orthogonal, for matrices and filters within the net.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon/); Liu et al., "Muon is Scalable for LLM Training", 2025
(https://arxiv.org/abs/2502.16982).

- A filter is the matrix (out, in height width), as in Jordan's CIFAR speedruns.
- Nesterov's momentum U S V^T becomes about U V^T, by five Newton-Schulz iterations, so each
  direction that the gradients agree on is learnt at the same speed.
- Scale rule of Liu et al.: times 0.2 sqrt(longer side), which gives a step the size that AdamW's
  has. One learning rate and one (decoupled) weight decay so serve both.
- More than ``num_rows`` rows (columns, where there are fewer of them) are made orthogonal in parts,
  as Khaled et al., "MuonBP", 2025 (https://arxiv.org/abs/2510.16981) do between their full steps:
  the work grows with their square, and at a batch of 128 would be a third of a CoAtNet's step.
- AdamW takes the rest: head, first layer, norms, biases, positions, tokens, depthwise filters.

Deviations:

- What a net keeps as one matrix (query, key and value) is made orthogonal as one.
- The paper multiplies the long matrix in bfloat16 in every iteration. All that it multiplies it by
  are polynomials in X X^T, so that small matrix is iterated on alone, in float32, and the long one
  is multiplied once: half the time on a CPU, and closer to the exact iteration.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Len
from jaxtyping import Float, Float32
from torch import Tensor, nn

from leanvit.optimizers.adamw import AdamW
from leanvit.values import Count, NonNegative, Positive, ShareBelowOne

# of Jordan et al.: steepest at zero, so that five iterations do; singular values end in 0.7..1.2
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(AdamW):
    """Muon for groups that are ``orthogonal``, AdamW for the others."""

    def _init_group(self, group: dict[str, Any], *lists: Any) -> bool:
        """AdamW collects here what it will change: nothing of ours."""
        return False if group["orthogonal"] else super()._init_group(group, *lists)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """AdamW's would look in ours for a state like its own."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"] and with_gradient:
                self._orthogonal_step(with_gradient, group)
        return loss

    def _orthogonal_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        # Nesterov's; the buffer comes first, whose layout is the parameter's
        updates = torch._foreach_lerp(buffers, gradients, 1 - group["momentum"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        # equal shapes are one batched product
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, update in zip(parameters, updates, strict=True):
            place = in_parts(_matrix(parameter), group["num_rows"])
            parts = in_parts(_matrix(update), group["num_rows"])
            alike[place.shape[1:]].append((place, parts))
        for shape, members in alike.items():
            stack = torch.cat([parts for _, parts in members])
            done = orthogonalised(stack.float(), group["num_iterations"])
            step = -group["lr"] * 0.2 * max(shape) ** 0.5
            sizes = [len(parts) for _, parts in members]
            for (place, _), parts in zip(members, done.split(sizes), strict=True):
                place.add_(parts, alpha=step)


def _matrix(weights: Tensor) -> Float[Tensor, "rows columns"]:
    """A view of a matrix or of filters, whose values stay in the order that they have in memory."""
    if weights.ndim == 4 and weights.is_contiguous(memory_format=torch.channels_last):
        weights = weights.permute(0, 2, 3, 1)
    return weights.view(len(weights), -1)


def in_parts(matrix: Float[Tensor, "rows columns"], largest: int) -> Float[Tensor, "parts r c"]:
    """Equal parts of at most ``largest`` rows or, where there are fewer columns, of columns."""
    dim = int(matrix.shape[0] > matrix.shape[1])
    num_parts = -(-matrix.shape[dim] // largest)
    while matrix.shape[dim] % num_parts:
        num_parts += 1
    return matrix.unflatten(dim, (num_parts, -1)).movedim(dim, 0)


def orthogonalised(
    matrices: Float32[Tensor, "batch rows columns"], num_iterations: int
) -> Float[Tensor, "batch rows columns"]:
    """About U V^T of each U S V^T, in bfloat16.

    X <- (first + third X X^T + fifth (X X^T)^2) X, ``num_iterations`` times; where there are more
    rows than columns, X (first + third X^T X + ...). Float32 because the eigenvalues of X X^T are
    the squares of X's singular values: bfloat16 would lose the small ones.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    scale = 1 / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram = (matrices.mT @ matrices if is_tall else matrices @ matrices.mT) * scale.square()
    factor = product = _factor(gram)
    for _ in range(num_iterations - 1):
        gram = factor @ gram @ factor
        factor = _factor(gram)
        product = factor @ product
    product, matrices = (product * scale).bfloat16(), matrices.bfloat16()
    return matrices @ product if is_tall else product @ matrices


def _factor(gram: Float32[Tensor, "batch rows rows"]) -> Float32[Tensor, "batch rows rows"]:
    """What an iteration multiplies X by; it commutes with X X^T."""
    first, third, fifth = QUINTIC
    factor = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
    factor.diagonal(dim1=1, dim2=2).add_(first)
    return factor


def muon(
    groups: Iterable[dict[str, Any]],
    hidden: Collection[nn.Parameter] = (),
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 0.05,
    momentum: ShareBelowOne = 0.95,
    num_iterations: Count = 5,
    num_rows: Count = 64,
    adamw_lr: Positive = 1.0,
    betas: Annotated[Sequence[ShareBelowOne], Len(2, 2)] = (0.9, 0.999),
) -> Muon:
    """Over parameter groups, whose own values go first.

    Args:
        hidden: what Muon takes (:func:`leanvit.training.parameter_groups.hidden_matrices`).
        momentum: how much of the moving average of gradients stays each step.
        num_iterations: of Newton-Schulz.
        num_rows: of a matrix, lying on its longer side, that are made orthogonal at once.
        adamw_lr: of what AdamW takes, as a multiple of ``lr``.
        betas: AdamW's.
    """
    chosen = {id(parameter) for parameter in hidden}
    own = {"momentum": momentum, "num_iterations": num_iterations, "num_rows": num_rows}
    split = []
    for group in groups:
        for is_ours in (True, False):
            ours = [each for each in group["params"] if (id(each) in chosen) == is_ours]
            rate = lr if is_ours else lr * adamw_lr
            if ours:
                split.append({**group, **own, "params": ours, "lr": rate, "orthogonal": is_ours})
    both = (betas[0], betas[1])
    return Muon(split, lr, both, weight_decay=weight_decay, fused=True)
