"""A-ViT: each token goes through as many blocks as it needs, and halts.

Source: Yin et al., "A-ViT: Adaptive Tokens for Efficient Vision Transformer", CVPR 2022
(https://arxiv.org/abs/2112.07658); details as in the official code
(https://github.com/NVlabs/A-ViT).

- After each block the first channel of a token gives its halting score, through a sigmoid: there
  are no weights but the net's own.
- A token halts when its scores so far sum to 1; nobody attends to it any more. At the last block
  all halt.
- The head reads the [CLS] of all blocks, each weighted by the probability of halting there: its
  score, and where it halts what the scores before leave of 1 (adaptive computation time, Graves
  2016, https://arxiv.org/abs/1603.08983).
- The ponder loss wants tokens to halt early; a prior draws where they halt to a bell around a
  target depth.
- Training masks what has halted, evaluation takes it out: linear layers compute on one matrix of
  all that is alive; for attention, images are sorted by length and padded in a few groups.

Deviations:

- In evaluation an image is done as soon as its [CLS] halts, which fixes its logits. The official
  code only masks, there too.
- The prior is on mean halting probabilities, which sum to 1. The paper's is on mean scores; the
  official code divides those by their sum, and they may then have the bell's shape while hardly a
  token halts.
- Its direction is the paper's, KL(net || bell); the official code has the other one.
- Halted tokens are masked exactly; the official code adds -1000 to their attention scores.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from leanvit.contracts import Method
from leanvit.errors import LeanvitError
from leanvit.lightweight.alive_tokens import attend_to_alive, macs_of_vit, repack, streamed_block
from leanvit.models.fits import check_fits
from leanvit.values import NonNegative, Positive, PositiveShare

EPS = 0.01  # scores that sum to 1 less this halt a token; the paper's


class Halting(NamedTuple):
    """What each token does in each block.

    Attributes:
        alive: it goes through the block.
        probabilities: of halting there; over the blocks they sum to 1.
    """

    alive: Bool[Tensor, "blocks batch tokens"]
    probabilities: Float[Tensor, "blocks batch tokens"]


class AViT(Method):
    """Adaptive tokens around a ViT that reads [CLS].

    After an evaluation forward pass ``depths`` says how many blocks each token of each image went
    through, [CLS] first, then the patches row by row.

    Args:
        net: trained or untrained.
        target_depth: the middle of the prior, as a share of the blocks. Half of
            a token's probability is spent there; it halts somewhat later, when nearly all is.
        gamma, beta: factor and summand of the first channel in the halting score. A net whose
            tokens have a first channel far from 0 wants another ``beta``: scores must start small.
        ponder_weight, prior_weight: of the two losses.

    Raises:
        LeanvitError: a net or readout that it does not fit.
    """

    net: Any  # a NetOfTokens
    fixed_steps = False

    def __init__(
        self,
        net: nn.Module,
        target_depth: PositiveShare = 0.5,
        gamma: Positive = 5.0,
        beta: float = -10.0,
        ponder_weight: NonNegative = 5e-4,
        prior_weight: NonNegative = 0.1,
    ) -> None:
        super().__init__()
        self.net = _check_net(net)
        self.target_depth, self.gamma, self.beta = target_depth, gamma, beta
        self.ponder_weight, self.prior_weight = ponder_weight, prior_weight
        self.num_patches = self.net.readout.num_patches
        self.depths: Int64[Tensor, "batch tokens"] = torch.empty(
            0, 1 + self.num_patches, dtype=torch.int64
        )

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        if images.is_meta:  # nothing says who halts: the most that an image can cost is counted
            return self.net(images)
        return self.masked(images)[0] if self.training else self.packed(images)

    def loss_terms(
        self,
        images: Float[Tensor, "batch channels height width"],
        targets: Tensor,
        criterion: nn.Module,
    ) -> dict[str, Float[Tensor, ""]]:
        """What training minimises the sum of."""
        logits, halting = self.masked(images)
        middle = self.target_depth * len(self.net.blocks)
        return {
            "classification": criterion(logits.float(), targets),
            "ponder": self.ponder_weight * ponder_loss(halting),
            "prior": self.prior_weight * prior_loss(halting.probabilities, middle),
        }

    def masked(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Halting]:
        """All tokens through all blocks; who has halted is masked."""
        tokens = self.net.begin(images)
        read, spent = torch.zeros_like(tokens[:, 0]), torch.zeros_like(self._scores(tokens))
        alive = torch.ones_like(spent, dtype=torch.bool)
        steps: list[tuple[Tensor, Tensor]] = []
        for block in self.net.blocks:
            tokens = masking_block(block, tokens, alive) if steps else block(tokens)
            is_last = len(steps) + 1 == len(self.net.blocks)
            probabilities, halts = halt(self._scores(tokens), spent, is_last)
            probabilities = probabilities.masked_fill(~alive, 0.0)
            read = read + probabilities[:, :1].to(read.dtype) * tokens[:, 0]
            steps.append((alive, probabilities))
            spent, alive = spent + probabilities, alive & ~halts
        halting = Halting(*(torch.stack(each) for each in zip(*steps, strict=True)))
        return self.net.head(self.net.norm(read)), halting

    def packed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Each block computes on what is alive, of the images whose [CLS] is."""
        tokens = self.net.begin(images)
        read, spent = torch.zeros_like(tokens[:, 0]), torch.zeros_like(self._scores(tokens))
        alive = torch.ones_like(spent, dtype=torch.bool)
        depths = torch.zeros_like(alive, dtype=torch.int64)
        stream, lengths = tokens.flatten(0, 1), alive.sum(dim=1)
        rows = torch.arange(len(stream), device=stream.device)  # where each was among all tokens
        for index, block in enumerate(self.net.blocks, start=1):
            stream = streamed_block(block, stream, lengths.tolist())
            depths += alive
            scores = torch.zeros_like(spent).flatten()
            scores[rows] = self._scores(stream)
            is_last = index == len(self.net.blocks)
            probabilities, halts = halt(scores.view_as(spent), spent, is_last)
            firsts = lengths.cumsum(0) - lengths
            owners = rows[firsts] // alive.shape[1]
            read[owners] += probabilities[owners, :1].to(read.dtype) * stream[firsts]
            spent, alive = spent + probabilities, alive & ~halts & ~halts[:, :1]
            stream, rows, lengths = repack(stream, rows, alive)
            if not len(rows):
                break
        self.depths = depths
        return self.net.head(self.net.norm(read))

    def _scores(self, tokens: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
        first = tokens[..., 0]
        first = first.to(torch.promote_types(first.dtype, torch.float32))
        return torch.sigmoid(self.gamma * first + self.beta)

    @property
    def kept(self) -> Bool[Tensor, "batch blocks patches"]:
        """Which patches of each image of the last evaluation batch went through each block."""
        blocks = torch.arange(len(self.net.blocks), device=self.depths.device)
        return self.depths[:, None, 1:] > blocks[:, None]

    @property
    def macs_used(self) -> Float64[Tensor, " batch"]:
        """MACs of each image of the last evaluation batch, in closed form; padding in attention,
        which depends on the other images, is not counted."""
        blocks = torch.arange(len(self.net.blocks))
        return macs_of_vit(self.net, (self.depths.cpu()[:, :, None] > blocks).sum(dim=1))


def halt(
    scores: Float[Tensor, "batch tokens"], spent: Float[Tensor, "batch tokens"], is_last: bool
) -> tuple[Float[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Halting probabilities at a block, and who halts there.

    Args:
        scores: of the block.
        spent: probabilities of the blocks before.
        is_last: all halt.
    """
    halts = torch.ones_like(scores, dtype=torch.bool) if is_last else spent + scores >= 1 - EPS
    return torch.where(halts, 1 - spent, scores), halts


def ponder_loss(halting: Halting) -> Float[Tensor, ""]:
    """Blocks that a token goes through, and its probability at the last of them; the mean."""
    goes_on = torch.cat((halting.alive[1:], torch.zeros_like(halting.alive[:1])))
    remainders = halting.probabilities.masked_fill(goes_on, 0.0).sum(dim=0)
    return (halting.alive.sum(dim=0) + remainders).mean()


def prior_loss(
    probabilities: Float[Tensor, "blocks batch tokens"], middle: float
) -> Float[Tensor, ""]:
    """Divergence (Kullback-Leibler) of the mean halting probabilities from a Gaussian bell.

    Args:
        middle: of the bell, in blocks; its standard deviation is one block, as the official code's.
    """
    means = probabilities.mean(dim=(1, 2))
    blocks = torch.arange(1, len(means) + 1, dtype=means.dtype, device=means.device)
    bell = (-0.5 * (blocks - middle) ** 2).log_softmax(dim=0)
    # where nobody is left the mean is 0, and its logarithm would have no gradient
    return (means * (means.clamp(min=torch.finfo(means.dtype).tiny).log() - bell)).sum()


def masking_block(
    block: Any, tokens: Float[Tensor, "batch tokens dim"], alive: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens dim"]:
    """The block, where nobody attends to what is not alive."""
    attention = block.attention
    attended = attend_to_alive(attention, attention.qkv(block.attention_norm(tokens)), alive)
    tokens = tokens + block.drop_path(attention.dropout(attention.out(attended)))
    return block.feed_forward(tokens)


def _check_net(net: nn.Module) -> Any:
    reason = "whose tokens cannot halt one by one"
    fitting = check_fits(net, "lightweight=a_vit", reason, "model=vit and vit_b_16")
    if not fitting.readout.reads_cls:
        raise LeanvitError(
            f"lightweight=a_vit does not fit model.readout={fitting.readout.kind}: the head reads "
            "the [CLS] of all blocks, so take cls"
        )
    return fitting
