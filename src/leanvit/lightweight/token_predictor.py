"""Which patch tokens stay: their prediction, and the draw of it in training.

Source: Rao et al., "DynamicViT", NeurIPS 2021 (https://arxiv.org/abs/2106.02034), section 3.2.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Predictor(nn.Module):
    """Log-probabilities of staying and of being dropped, for each patch token."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.features = nn.Linear(dim, hidden_dim)
        self.score = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim // 2),
            nn.GELU(),
            nn.Linear(hidden_dim // 2, hidden_dim // 4),
            nn.GELU(),
            nn.Linear(hidden_dim // 4, 2),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self, patches: Float[Tensor, "batch patches dim"], alive: Float[Tensor, "batch patches"]
    ) -> Float[Tensor, "batch patches 2"]:
        own, shared = F.gelu(self.features(self.norm(patches))).chunk(2, dim=2)
        mean = mean_of(shared, alive)[:, None].expand_as(own)
        # float32 also under autocast: bfloat16 is too coarse to draw from
        return self.score(torch.cat((own, mean), dim=2)).to(patches.dtype).log_softmax(dim=2)


def draw_decisions(
    log_probabilities: Float[Tensor, "batch patches 2"],
) -> Float[Tensor, "batch patches"]:
    """1 for what stays, 0 for what is dropped, drawn with these probabilities (Gumbel).

    The gradient is that of the soft draw (straight through). Forward the values are exactly 0 and
    1, which they are not in ``torch.nn.functional.gumbel_softmax``.
    """
    soft = F.gumbel_softmax(log_probabilities, dim=2)[:, :, 0]
    return (soft >= 0.5).to(soft.dtype) + (soft - soft.detach())


def mean_of(
    tokens: Float[Tensor, "batch tokens dim"], alive: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """Mean of the tokens that are alive; zeros where none is."""
    weights = alive[:, :, None]
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
