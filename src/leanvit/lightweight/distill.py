"""Distillation: a net learns from what a finished one says of the same images.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015
(https://arxiv.org/abs/1503.02531); hard and token distillation: Touvron et al., "Training
data-efficient image transformers & distillation through attention", ICML 2021
(https://arxiv.org/abs/2012.12877).

- soft: the divergence of the softened classes from the teacher's, times the temperature squared.
- hard: cross-entropy with the class that the teacher says.
- token: a second token beside [CLS], with a head of its own, learns the teacher's hard class; [CLS]
  learns the targets. In evaluation the probabilities of both heads are averaged.
- The teacher sees the batch that the net sees, augmented and mixed (Beyer et al., "Knowledge
  distillation: A good teacher is patient and consistent", CVPR 2022,
  https://arxiv.org/abs/2106.05237).

Deviations:

- The logits that a distilled token leads to are the logarithm of the two heads' mean probability,
  so that whatever reads logits reads that mean.
"""

import copy
import math
from collections.abc import Hashable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Method, NetOfTokens
from leanvit.errors import LeanvitError
from leanvit.values import Positive, Share


class Teacher:
    """A net that is only asked: no module, so that no state dict, optimizer or average has it."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, object]) -> "Teacher":
        return self  # copies of a method, such as averaged weights, share it

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch classes"]:
        return self.net.to(images.device)(images).float()


class Distill(Method):
    """A net with a teacher.

    Args:
        net: any net; for ``kind="token"`` a ViT that reads [CLS].
        teacher: normalised images -> logits; ``None``: the net is only used, not trained.
        kind: see above.
        weight: of the teacher's term; the targets' has one less that.
        temperature: of soft distillation.

    Raises:
        LeanvitError: a net without [CLS] for a token.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module | None = None,
        kind: Literal["soft", "hard", "token"] = "soft",
        weight: Share = 0.5,
        temperature: Positive = 3.0,
    ) -> None:
        super().__init__()
        if kind == "token":
            check_has_cls(net, "lightweight.kind=token")
        self.net, self.kind, self.weight, self.temperature = net, kind, weight, temperature
        self.teacher = None if teacher is None else Teacher(teacher)
        if kind == "token":
            head: nn.Linear = net.head  # type: ignore[assignment]
            self.distillation_token = nn.Parameter(torch.empty(1, 1, head.in_features))
            nn.init.trunc_normal_(self.distillation_token, std=0.02)
            self.head = nn.Linear(head.in_features, head.out_features)
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def parts(self) -> dict[str, Hashable]:
        if self.kind != "token":
            return {}
        return {"distillation_token": "distillation token", "head": "head of that token"}

    def taught_by(self, whole: nn.Module, teach: bool) -> nn.Module:
        if not teach and self.kind != "token":  # whose token only a teacher can train
            return self.net
        self.teacher = Teacher(copy.deepcopy(whole))
        return self

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        if self.kind != "token":
            return self.net(images)
        logits = torch.stack(self._both(images)).float()
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(2)

    def loss_terms(
        self,
        images: Float[Tensor, "batch channels height width"],
        targets: Tensor,
        criterion: nn.Module,
    ) -> dict[str, Float[Tensor, ""]]:
        """What training minimises the sum of."""
        own, taught = self._both(images) if self.kind == "token" else (self.net(images),) * 2
        theirs = self.asked(images)
        if self.kind == "soft":
            distillation = soft_distillation(taught.float(), theirs, self.temperature)
        else:
            distillation = F.cross_entropy(taught.float(), theirs.argmax(dim=1))
        return {
            "classification": (1 - self.weight) * criterion(own.float(), targets),
            "distillation": self.weight * distillation,
        }

    def asked(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The teacher's logits.

        Raises:
            LeanvitError: there is none.
        """
        if self.teacher is None:
            raise LeanvitError(
                "distillation wants a teacher: lightweight.teacher=<directory of a finished run>"
            )
        return self.teacher(images)

    def _both(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
        """Logits of [CLS] and of the distillation token, which stands last."""
        tokens = self.net.begin(images)  # type: ignore[operator]
        token = self.distillation_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat((tokens, token), dim=1)
        for block in self.net.blocks:  # type: ignore[union-attr]
            tokens = block(tokens)
        ends = self.net.norm(tokens[:, [0, -1]])  # type: ignore[operator]
        return self.net.head(ends[:, 0]), self.head(ends[:, 1])  # type: ignore[operator]


def taught(net: nn.Module, whole: nn.Module, teach: bool) -> nn.Module:
    """A pruned ``net`` as it is fine-tuned: with ``teach`` taught by what it was, ``whole``.

    Where it has terms of its own to learn by, its method says how (:meth:`Method.taught_by`).
    """
    if isinstance(net, Method) and hasattr(net, "loss_terms"):
        return net.taught_by(whole, teach)
    return Distill(net, copy.deepcopy(whole)) if teach and not hasattr(net, "loss_terms") else net


class Renormalised(nn.Module):
    """A net for images that were normalised with another mean and deviation than its own."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: Float[Tensor, "3"],
        std: Float[Tensor, "3"],
        own: Float[Tensor, "3"],
        own_std: Float[Tensor, "3"],
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", (std / own_std)[:, None, None])
        self.register_buffer("shift", ((mean - own) / own_std)[:, None, None])

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        return self.net(images * self.scale + self.shift)


def soft_distillation(
    logits: Float[Tensor, "batch classes"],
    teacher: Float[Tensor, "batch classes"],
    temperature: float,
) -> Float[Tensor, ""]:
    """T^2 times the Kullback-Leibler divergence of softmax(logits / T) from softmax(teacher / T),
    mean over images; the factor keeps the gradient's scale."""
    ours = (logits / temperature).log_softmax(dim=1)
    theirs = (teacher / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def check_has_cls(net: nn.Module, wanting: str) -> None:
    """See that a second token can stand beside [CLS].

    Args:
        wanting: what of the command line wants it to.

    Raises:
        LeanvitError: there is no [CLS] that is read.
    """
    reads_cls = isinstance(net, NetOfTokens) and net.readout.reads_cls
    if not reads_cls or getattr(net, "fixed_length", False):
        raise LeanvitError(
            f"{wanting} does not fit {type(net).__name__}, which has no [CLS] beside which a "
            "second token could stand: it fits model=vit and vit_b_16 with readout=cls; "
            "lightweight=distill with kind=soft or hard fits every net"
        )
