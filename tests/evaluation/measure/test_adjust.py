"""Post-hoc logit adjustment against a literal loop, its limits, and the theory it stands on."""

import numpy as np
import pytest

from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.adjust import GRID, adjust_probabilities, choose_tau

COUNTS = [500, 90, 12]


def skewed(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One number an image, normal around its class; p(class | image) of images as in COUNTS."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3  # balanced, as a test set
    seen = labels + 0.7 * rng.normal(size=n)
    odds = np.exp(-((seen[:, None] - np.arange(3)) ** 2) / (2 * 0.7**2)) * np.array(COUNTS)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), labels


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    guess = probabilities.argmax(axis=1)
    return float(np.mean([(guess[labels == label] == label).mean() for label in range(3)]))


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
def test_against_the_loop_of_the_formula(tau):
    probabilities, _ = skewed(40)
    adjusted = adjust_probabilities(probabilities, COUNTS, tau)
    assert adjusted.dtype == np.float32
    for row, found in zip(probabilities, adjusted, strict=True):
        odds = [float(p) * (count / sum(COUNTS)) ** -tau
                for p, count in zip(row, COUNTS, strict=True)]  # fmt: skip
        assert found.tolist() == pytest.approx([each / sum(odds) for each in odds], rel=1e-6)


def test_tau_0_and_equal_counts_change_no_bit():
    probabilities, _ = skewed()
    for counts, tau in ((COUNTS, 0), ([7, 7, 7], 1.5)):
        same = adjust_probabilities(probabilities, counts, tau)
        np.testing.assert_array_equal(same, probabilities)


def test_tau_1_turns_the_answer_for_skewed_images_into_that_for_balanced_ones():
    """Bayes' rule: dividing by the shares is as if all classes had been equally frequent."""
    probabilities, labels = skewed()
    even = probabilities.astype(np.float64) / np.array(COUNTS)
    even /= even.sum(axis=1, keepdims=True)
    adjusted = adjust_probabilities(probabilities, COUNTS, 1.0)
    np.testing.assert_allclose(adjusted, even, rtol=1e-5)
    assert balanced_accuracy(adjusted, labels) > balanced_accuracy(probabilities, labels) + 0.1


def test_zeros_and_large_numbers_stay_finite():
    rows = np.array([[1, 0, 0], [0.5, 0, 0.5], [1 - 1e-7, 1e-7, 0]], np.float32)
    adjusted = adjust_probabilities(rows, [10**6, 10, 1], 300.0)
    assert np.isfinite(adjusted).all()
    np.testing.assert_allclose(adjusted.sum(axis=1), 1, atol=1e-6)
    assert adjusted.argmax(axis=1).tolist() == [0, 2, 1]


def test_tau_is_chosen_by_balanced_accuracy_on_what_is_given():
    probabilities, labels = skewed(seed=1)
    tau = choose_tau(probabilities, labels, COUNTS)
    assert tau == pytest.approx(1, abs=0.4)  # what the theory says, but for the luck of 600 images
    adjusted = [adjust_probabilities(probabilities, COUNTS, each) for each in GRID]
    scores = [balanced_accuracy(each, labels) for each in adjusted]
    assert GRID[int(np.argmax(scores))] == tau
    assert (GRID[0], GRID[-1], len(GRID)) == (0, 2, 21)
    sure = np.eye(3, dtype=np.float32)[labels]
    assert choose_tau(sure, labels, COUNTS) == 0  # of equals the smallest


def test_a_class_without_images_to_choose_by_counts_in_no_mean():
    probabilities, labels = skewed()
    assert 0 <= choose_tau(probabilities[labels != 2], labels[labels != 2], COUNTS) <= 2


def test_a_class_that_was_never_trained_is_refused_in_one_line():
    probabilities, _ = skewed(3)
    with pytest.raises(LeanvitError, match=r"class 1 \(from 0\) has none") as error:
        adjust_probabilities(probabilities, [5, 0, 2], 1.0)
    assert "\n" not in str(error.value)
