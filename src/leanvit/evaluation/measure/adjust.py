"""Post-hoc logit adjustment: a finished net, corrected for how often it saw each class.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021,
https://arxiv.org/abs/2007.07314, section 4.1.

- A net trained with cross-entropy learns p(class | image) of its training set, rare classes being
  rare. Where all classes count alike, the best answer is the class with the largest p / pi, where
  pi is the share of the class among the training images.
- tau says how far to go: p' is proportional to p pi^-tau; 0 changes nothing, 1 is the theory.
- Nothing is trained and nothing is predicted again: p' follows from p.
- tau may be chosen on the validation images, by their balanced accuracy. The validation figures of
  such an evaluation are then a little too good; the test figures are not. A long-tailed validation
  set has few images of rare classes, and knows tau no better than that.

A net whose loss or sampler already corrected for the class frequencies (balanced softmax, logit
adjusted, re-weighted losses, balanced sampling) has not learned the p that this assumes: with
tau = 1 such a net is corrected twice.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from leanvit.balanced_accuracy import balanced_accuracy
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.metrics import confusion_counts

GRID = tuple(number / 10 for number in range(21))  # 0, 0.1, ... 2


def adjust_probabilities(
    probabilities: Float32[ndarray, "n classes"], train_counts: Sequence[int], tau: float
) -> Float32[ndarray, "n classes"]:
    """Probabilities proportional to p pi^-tau, with pi from ``train_counts``.

    Args:
        train_counts: training images of each class, in the order of the columns.
        tau: strength, from 0 (the same array comes back).

    Raises:
        LeanvitError: a class has no training image.
    """
    if min(train_counts) < 1:
        raise LeanvitError(
            f"logit_adjust divides by the number of training images, and class "
            f"{list(train_counts).index(min(train_counts))} (from 0) has none: leave it out"
        )
    if tau == 0 or len(set(train_counts)) == 1:  # a constant, which the sum takes out again
        return probabilities
    shares = np.array(train_counts, np.float64) / sum(train_counts)
    with np.errstate(divide="ignore"):  # a probability of 0 stays one
        logits = np.log(probabilities.astype(np.float64)) - tau * np.log(shares)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def choose_tau(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    train_counts: Sequence[int],
) -> float:
    """The tau of 0, 0.1, ... 2 with the best balanced accuracy on validation images; of equals the
    smallest."""
    adjusted = (adjust_probabilities(probabilities, train_counts, tau) for tau in GRID)
    balanced = [balanced_accuracy(confusion_counts(each, labels)) for each in adjusted]
    return GRID[int(np.argmax(balanced))]
