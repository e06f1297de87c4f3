"""DynamicViT: patch tokens that tell the classifier little are dropped on the way.

Source: Rao et al., "DynamicViT: Efficient Vision Transformers with Dynamic Token Sparsification",
NeurIPS 2021 (https://arxiv.org/abs/2106.02034); details as in the official code
(https://github.com/raoyongming/DynamicViT).

- Before chosen blocks a prediction module says of each patch token, from its own features and the
  mean of those that are still there, how likely it stays. [CLS] always stays.
- In training each decision is drawn (Gumbel, straight through). Nothing is taken out: nobody but
  itself attends to a dropped token any more, and the decision on it still gets a gradient.
- In evaluation the tokens that score highest are gathered, as many for every image, and later
  blocks compute on fewer tokens.
- The ratio loss draws the share that stays towards the share wanted. Where the weights are trained
  already, the unpruned net teaches logits and tokens.

Deviations:

- A stage's ratio is of the tokens then alive, as in the published table that ``vit_v1.4`` is the
  base of; the official code's is of all tokens.
- The softmax of masked attention is exact, so that masked training and gathered evaluation are one
  function: the largest score is taken over what stays, where the official code takes all scores and
  adds 1e-6, of which the dropped tokens get a share.
- The prediction modules have 64 channels (``predictor_dim``). The paper's are as wide as the net:
  so wide they would be 9 % of what is left of the default ViT's MACs; so they are 2 %.
- ``keep="threshold"`` is not in the paper: each image keeps its own number of tokens. The ratio
  loss then draws the mean over the batch, as the official code's ``dynamic``.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from leanvit.contracts import Method, plain_net
from leanvit.errors import LeanvitError
from leanvit.lightweight.alive_tokens import (
    macs_of_vit,
    masked_block,
    num_weights,
    packed_block,
    places_over,
    take_patches,
)
from leanvit.lightweight.distill import soft_distillation
from leanvit.lightweight.token_predictor import Predictor, draw_decisions, mean_of
from leanvit.lightweight.unpruned_teacher import UnprunedTeacher, token_distillation
from leanvit.models.fits import check_fits
from leanvit.values import Count, NonNegative, PositiveShare, Share


class DynamicViT(Method):
    """Token pruning around a ViT.

    After an evaluation forward pass ``kept`` says which patches of each image were left after each
    stage, row by row.

    Args:
        net: a ViT that reads [CLS] or the mean of the patches (of those that are left).
        after: how many blocks have run when each stage prunes; ``None``: evenly over the depth,
            which after 12 blocks is the paper's 3, 6, 9.
        ratios: for each stage the share that stays of the patch tokens then alive. In evaluation a
            stage of 1 does nothing.
        keep: what evaluation keeps: ``"top_k"``, the highest scores, as many as ``ratios`` say;
            ``"threshold"``, for each image what stays with a probability of ``tau`` or more, at
            least one patch.
        tau: see ``keep``.
        predictor_dim: hidden channels of the prediction modules, a multiple of 4; ``None``: those
            of a token, as in the paper.
        teacher: let a frozen copy of ``net``, as it is now, teach; for weights that are trained.
        ratio_weight, logit_weight, token_weight: of the ratio loss, and of the teacher's two.

    Raises:
        LeanvitError: a net or readout that it does not fit, or stages that cannot be.
    """

    net: Any  # a NetOfTokens

    def __init__(
        self,
        net: nn.Module,
        after: Sequence[Count] | None = None,
        ratios: Sequence[PositiveShare] = (0.75, 0.5, 0.25),
        keep: Literal["top_k", "threshold"] = "top_k",
        tau: Share = 0.5,
        predictor_dim: Count | None = 64,
        teacher: bool = False,
        ratio_weight: NonNegative = 2.0,
        logit_weight: NonNegative = 0.5,
        token_weight: NonNegative = 0.5,
    ) -> None:
        super().__init__()
        self.net = _check_net(net)
        dim, depth = self.net.head.in_features, len(self.net.blocks)
        if after is None:
            after = [round(depth * i / (len(ratios) + 1)) for i in range(1, len(ratios) + 1)]
        hidden_dim = dim if predictor_dim is None else predictor_dim
        _check_stages(after, ratios, depth, hidden_dim)
        self.after, self.ratios, self.keep, self.tau = list(after), list(ratios), keep, tau
        self.fixed_steps = keep == "top_k"
        self.hidden_dim = hidden_dim
        self.predictors = nn.ModuleList(Predictor(dim, hidden_dim) for _ in ratios)
        self.teacher = UnprunedTeacher(self.net) if teacher else None
        self.ratio_weight = ratio_weight
        self.logit_weight, self.token_weight = logit_weight, token_weight
        self.num_patches = self.net.readout.num_patches
        self.kept: Bool[Tensor, "batch stages patches"] = torch.empty(
            0, len(ratios), self.num_patches, dtype=torch.bool
        )

    def parts(self) -> dict[str, Hashable]:
        places = enumerate(self.after)
        return {f"predictors.{i}": ("predictor", place, self.hidden_dim) for i, place in places}

    def taught_by(self, whole: nn.Module, teach: bool) -> nn.Module:
        if teach:
            self.teacher = UnprunedTeacher(plain_net(whole))
        return self

    @property
    def counts(self) -> list[int]:
        """Patches that each stage leaves, of all, where ``ratios`` are kept to."""
        counts, alive = [], self.num_patches
        for ratio in self.ratios:
            alive = max(1, round(ratio * alive))
            counts.append(alive)
        return counts

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        if self.training:
            return self.masked(images, draw_decisions)[0]
        return self.gathered(images)

    def loss_terms(
        self,
        images: Float[Tensor, "batch channels height width"],
        targets: Tensor,
        criterion: nn.Module,
    ) -> dict[str, Float[Tensor, ""]]:
        """What training minimises the sum of."""
        logits, patches, kept = self.masked(images, draw_decisions)
        shares = [count / self.num_patches for count in self.counts]
        ratio = ratio_loss(kept, shares, per_image=self.keep == "top_k")
        terms = {
            "classification": criterion(logits.float(), targets),
            "ratio": self.ratio_weight * ratio,
        }
        if self.teacher is not None:
            teacher_logits, teacher_patches = self.teacher.logits_and_patches(images)
            by_logits = soft_distillation(logits.float(), teacher_logits.float(), 1.0)
            by_tokens = token_distillation(patches, teacher_patches, kept[-1].detach())
            terms["logit_distillation"] = self.logit_weight * by_logits
            terms["token_distillation"] = self.token_weight * by_tokens
        return terms

    def masked(
        self,
        images: Float[Tensor, "batch channels height width"],
        decide: Callable[[Tensor], Tensor],
    ) -> tuple[
        Float[Tensor, "batch classes"],
        Float[Tensor, "batch patches dim"],
        Float[Tensor, "stages batch patches"],
    ]:
        """All tokens through all blocks; what is dropped is masked.

        Args:
            decide: log-probabilities (batch, patches, 2) to 1 for what stays and 0 for the rest.

        Returns:
            Logits; patch tokens after the last norm; what was alive after each stage, as 1 and 0.
        """
        tokens = self.net.begin(images)
        alive = torch.ones_like(tokens[:, 1:, 0])
        kept: list[Tensor] = []
        for index, block in enumerate(self.net.blocks):
            if index in self.after:
                log_probabilities = self.predictors[len(kept)](tokens[:, 1:], alive)
                alive = alive * decide(log_probabilities)
                kept.append(alive)
            policy = F.pad(alive, (1, 0), value=1.0)
            tokens = masked_block(block, tokens, policy) if kept else block(tokens)
        tokens = self.net.norm(tokens)
        reads_cls = self.net.readout.reads_one_token
        vectors = tokens[:, 0] if reads_cls else mean_of(tokens[:, 1:], alive)
        return self.net.head(vectors), tokens[:, 1:], torch.stack(kept)

    def gathered(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Each block computes on the tokens that are left."""
        tokens = self.net.begin(images)
        places = torch.arange(self.num_patches, device=tokens.device).expand(tokens.shape[0], -1)
        alive: Tensor | None = None  # which of ``places`` are no padding; None: all
        kept: list[Tensor] = []
        for index, block in enumerate(self.net.blocks):
            if index in self.after:
                chosen, alive = self._choose(len(kept), tokens[:, 1:], alive)
                if chosen is not None:
                    tokens = take_patches(tokens, chosen)
                    places = places.gather(1, chosen)
                stays = torch.ones_like(places, dtype=torch.bool) if alive is None else alive
                nothing = stays.new_zeros(tokens.shape[0], self.num_patches)
                kept.append(nothing.scatter(1, places, stays))
            if alive is None:
                tokens = block(tokens)
            else:
                tokens = packed_block(block, tokens, F.pad(alive, (1, 0), value=True))
        self.kept = torch.stack(kept, dim=1)
        if self.net.readout.reads_one_token:
            return self.net.head(self.net.norm(self.net.readout(tokens)))
        tokens = self.net.norm(tokens)
        if alive is None:
            return self.net.head(self.net.readout(tokens))
        return self.net.head(mean_of(tokens[:, 1:], alive.to(tokens.dtype)))

    def _choose(
        self,
        stage: int,
        patches: Float[Tensor, "batch patches dim"],
        alive: Bool[Tensor, "batch patches"] | None,
    ) -> tuple[Int64[Tensor, "batch chosen"] | None, Bool[Tensor, "batch chosen"] | None]:
        """Where the patches stand that stay, ``None`` for all; which of these are not padding."""
        by_ratio = self.keep == "top_k" or patches.is_meta  # tokens to count have no scores
        if by_ratio and self.counts[stage] == patches.shape[1]:
            return None, None
        weights = patches.new_ones(patches.shape[:2]) if alive is None else alive.to(patches.dtype)
        scores = self.predictors[stage](patches, weights)[:, :, 0]
        if by_ratio:
            return scores.topk(self.counts[stage]).indices.sort(dim=1).values, None
        return places_over(scores, alive, self.tau)

    @property
    def macs_used(self) -> Float64[Tensor, " batch"]:
        """MACs of each image of the last evaluation batch, in closed form.

        Attention is counted over the tokens of the image itself; padding to the longest of its
        batch, which ``keep="threshold"`` needs there and nowhere else, is not.
        """
        counts = F.pad(self.kept.cpu().sum(dim=2), (1, 0), value=self.num_patches)
        stages = torch.tensor(
            [sum(place <= i for place in self.after) for i in range(len(self.net.blocks))]
        )
        macs = macs_of_vit(self.net, 1 + counts[:, stages])
        for stage, predictor in enumerate(self.predictors):
            before, left = counts[:, stage], counts[:, stage + 1]
            runs = (left < before) | (self.keep == "threshold")
            macs = macs + runs * before * num_weights(predictor)
        return macs


def ratio_loss(
    kept: Float[Tensor, "stages batch patches"], shares: Sequence[float], per_image: bool
) -> Float[Tensor, ""]:
    """Mean square of the share of all patches that is kept, less the share wanted at that stage.

    Args:
        per_image: of each image; otherwise of the mean over the batch.
    """
    found = kept.mean(dim=2) if per_image else kept.mean(dim=(1, 2))[:, None]
    return (found - found.new_tensor(shares)[:, None]).square().mean()


def _check_net(net: nn.Module) -> Any:
    reason = "whose tokens cannot be taken out one by one"
    fitting = check_fits(net, "lightweight=dynamic_vit", reason, "model=vit and vit_b_16")
    if fitting.readout.kind not in ("cls", "mean"):
        raise LeanvitError(
            f"lightweight=dynamic_vit does not fit model.readout={fitting.readout.kind}, which "
            "reads patches that may be gone: take cls or mean"
        )
    return fitting


def _check_stages(
    after: Sequence[int], ratios: Sequence[float], depth: int, predictor_dim: int
) -> None:
    in_order = list(after) == sorted({place for place in after if 0 < place < depth})
    if not ratios or not in_order or len(after) != len(ratios):
        raise LeanvitError(
            f"lightweight.after={list(after)} does not place {len(ratios)} stages (one for each of "
            f"lightweight.ratios) in {depth} blocks: give as many ascending numbers from 1 to "
            f"{depth - 1}"
        )
    if predictor_dim % 4:
        raise LeanvitError(
            f"lightweight.predictor_dim={predictor_dim}: give a multiple of 4, such as 64"
        )
