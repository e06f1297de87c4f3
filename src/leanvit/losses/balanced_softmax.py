"""Balanced softmax.

Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740).

- Training sees p_c = n_c exp(z_c) / sum_k n_k exp(z_k): the softmax of z_c + log n_c. The net needs
  not learn how frequent a class is; evaluated by its plain logits z, all are taken as equally so.
- Equal counts are cross-entropy; loss=logit_adjusted with tau 1 is the same function.
- Soft targets: the cross-entropy between them and p.
- Meant for batches as frequent in each class as the training images (sampler=shuffle): a sampler
  that balances classes corrects what is corrected here a second time.

Deviations:

- The loss alone: the paper's second part, a learnt sampler, is not here.
- Label smoothing, which the paper has not, spreads its share over the classes as the images are:
  n_c / sum_k n_k, evenly where counts are equal. So the best z, log(p_c / n_c), keep the order that
  they have without smoothing. Spread evenly, it would turn it round where one class has over
  K (1 - label_smoothing) / label_smoothing + 1 times the images of another (91 times, for ten
  classes and 0.1): certain images of the first would be given to the second.
"""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from leanvit.errors import LeanvitError


class BalancedSoftmax(nn.Module):
    """Cross-entropy of the logits plus the logarithms of the class counts.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread over all classes, as frequent as they are.

    Raises:
        LeanvitError: a class has no images, or ``label_smoothing`` is not in [0, 1).
    """

    soft_targets = True
    log_counts: Tensor
    spread: Tensor

    def __init__(
        self, class_counts: Int64[Tensor, " classes"], label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        if (class_counts == 0).any():
            raise LeanvitError(
                f"class {class_counts.argmin().item()} has no training images, so it has no finite "
                "log count: add some, or choose loss=ce"
            )
        self.register_buffer("log_counts", class_counts.float().log(), persistent=False)
        self.register_buffer("spread", class_counts / class_counts.sum(), persistent=False)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        if targets.ndim == 1:
            targets = one_hot(targets, logits.shape[1]).to(logits.dtype)
        smooth = targets * (1 - self.label_smoothing) + self.spread * self.label_smoothing
        return cross_entropy(logits + self.log_counts, smooth)
