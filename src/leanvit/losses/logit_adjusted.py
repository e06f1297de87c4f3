"""Logit-adjusted cross-entropy.

Source: Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021
(https://arxiv.org/abs/2007.07314).

- The cross-entropy of z_c + tau log pi_c, pi_c the share of class c among the training images;
  evaluated by the plain logits z. With tau 1 the best z order the classes by p(c | x) / pi_c,
  which is what balanced accuracy asks for.
- tau 0 is cross-entropy; tau 1 is the same function as loss=balanced_softmax.
- Soft targets: the cross-entropy between them and the softmax of the adjusted logits.
- Meant for batches as frequent in each class as the training images (sampler=shuffle): a sampler
  that balances classes corrects what is corrected here a second time.

Deviations:

- Label smoothing, which the paper has not, spreads its share in proportion to pi_c^tau: evenly for
  tau 0 or equal counts. So the best z keep the order that they have without smoothing. Spread
  evenly (tau 1), it would turn it round where one class has over
  K (1 - label_smoothing) / label_smoothing + 1 times the images of another (91 times, for ten
  classes and 0.1): certain images of the first would be given to the second.
- The paper's other form, adjusting a trained net's logits, needs no loss and is not here.
"""

from leanvit.losses.soft_targets import Counts
from leanvit.losses.vs import VectorScaling
from leanvit.values import NonNegative, ShareBelowOne


class LogitAdjusted(VectorScaling):
    """Cross-entropy of the logits plus tau times the logarithms of the class shares.

    Args:
        class_counts: training images per class.
        tau: strength; 0 is cross-entropy, 1 is consistent with balanced accuracy.
        label_smoothing: share of the target spread over all classes, in proportion to pi_c^tau.

    Raises:
        LeanvitError: a class has no images.
    """

    def __init__(
        self, class_counts: Counts, tau: NonNegative = 1.0, label_smoothing: ShareBelowOne = 0.0
    ) -> None:
        super().__init__(class_counts, gamma=0.0, tau=tau, label_smoothing=label_smoothing)
