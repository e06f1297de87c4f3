"""Balanced accuracy of tensors and arrays, against a loop."""

import numpy as np
import pytest
import torch

from leanvit.balanced_accuracy import balanced_accuracy, recalls


def test_the_mean_recall_of_the_classes_that_have_images() -> None:
    confusion = [[8, 2, 0], [0, 0, 0], [1, 0, 2]]
    for counts in (np.array(confusion), torch.tensor(confusion).double()):
        assert recalls(counts).tolist() == [8 / 10, 2 / 3]
        assert balanced_accuracy(counts) == pytest.approx((8 / 10 + 2 / 3) / 2, abs=1e-15)
