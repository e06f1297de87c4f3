"""VS: the vector-scaling loss.

Source: Kini et al., "Label-Imbalanced and Group-Sensitive Classification under
Overparameterization", NeurIPS 2021 (https://arxiv.org/abs/2103.01550).

- The cross-entropy of Delta_c z_c + iota_c, with Delta_c = (n_c / n_max)^gamma and
  iota_c = tau log(n_c / sum_k n_k); evaluated by the plain logits z.
- Delta shrinks the logits of rare classes, so that these must be larger: it moves the margins where
  a net fits every training image, and additive terms no longer do. iota speeds up the start, which
  Delta alone would harm.
- gamma 0 is loss=logit_adjusted; gamma 0 and tau 0 is cross-entropy.
- Soft targets: the cross-entropy between them and the softmax of the scaled logits.
- Meant for batches as frequent in each class as the training images (sampler=shuffle).

Deviations:

- The paper's third parameter, a weight omega_c per class, is 1, as in its experiments on images.
- Label smoothing, which the paper has not, is spread in proportion to exp(iota_c), as in
  loss=logit_adjusted and for the reason given there.
"""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from leanvit.errors import LeanvitError


class VectorScaling(nn.Module):
    """Cross-entropy of logits that are scaled and shifted by class.

    Args:
        class_counts: training images per class.
        gamma: strength of the scaling; 0 is loss=logit_adjusted.
        tau: strength of the shift.
        label_smoothing: share of the target spread over all classes, in proportion to exp(iota_c).

    Raises:
        LeanvitError: ``gamma`` or ``tau`` is negative, a class has no images, or
            ``label_smoothing`` is not in [0, 1).
    """

    soft_targets = True
    delta: Tensor
    iota: Tensor
    spread: Tensor

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        gamma: float = 0.15,
        tau: float = 1.25,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise LeanvitError(f"loss.gamma={gamma} is negative: 0 is loss=logit_adjusted")
        if tau < 0:
            raise LeanvitError(f"loss.tau={tau} is negative: 0 does not shift the logits")
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        if (class_counts == 0).any():
            raise LeanvitError(
                f"class {class_counts.argmin().item()} has no training images, so its share has no "
                "finite logarithm: add some, or choose loss=ce"
            )
        iota = tau * (class_counts / class_counts.sum()).log()
        self.register_buffer("delta", (class_counts / class_counts.max()) ** gamma, False)
        self.register_buffer("iota", iota, persistent=False)
        self.register_buffer("spread", iota.softmax(0), persistent=False)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        if targets.ndim == 1:
            targets = one_hot(targets, logits.shape[1]).to(logits.dtype)
        smooth = targets * (1 - self.label_smoothing) + self.spread * self.label_smoothing
        return cross_entropy(logits * self.delta + self.iota, smooth)
