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

from leanvit.losses.adjusted_logits import AdjustedLogits
from leanvit.losses.soft_targets import Counts, needs_every_class
from leanvit.values import NonNegative, ShareBelowOne


class VectorScaling(AdjustedLogits):
    """Cross-entropy of logits that are scaled and shifted by class.

    Args:
        class_counts: training images per class.
        gamma: strength of the scaling; 0 is loss=logit_adjusted.
        tau: strength of the shift.
        label_smoothing: share of the target spread over all classes, in proportion to exp(iota_c).

    Raises:
        LeanvitError: a class has no images.
    """

    def __init__(
        self,
        class_counts: Counts,
        gamma: NonNegative = 0.15,
        tau: NonNegative = 1.25,
        label_smoothing: ShareBelowOne = 0.0,
    ) -> None:
        needs_every_class(class_counts)
        delta = (class_counts / class_counts.max()) ** gamma
        iota = tau * (class_counts / class_counts.sum()).log()
        super().__init__(delta, iota, iota.softmax(0), label_smoothing)
