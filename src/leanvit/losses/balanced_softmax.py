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

import torch

from leanvit.losses.adjusted_logits import AdjustedLogits
from leanvit.losses.soft_targets import Counts, needs_every_class
from leanvit.values import ShareBelowOne


class BalancedSoftmax(AdjustedLogits):
    """Cross-entropy of the logits plus the logarithms of the class counts.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread over all classes, as frequent as they are.

    Raises:
        LeanvitError: a class has no images.
    """

    def __init__(self, class_counts: Counts, label_smoothing: ShareBelowOne = 0.0) -> None:
        needs_every_class(class_counts)
        counts = class_counts.float()
        frequency = class_counts / class_counts.sum()
        super().__init__(torch.ones_like(counts), counts.log(), frequency, label_smoothing)
