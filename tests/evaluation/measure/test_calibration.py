"""Temperature scaling against what it must undo, an optimizer, and literal loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from leanvit.evaluation.measure.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    scale_probabilities,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def truthful(n: int = 2000, num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn from their softmax: calibrated at T = 1."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, num_classes))
    drawn = logits + rng.gumbel(size=logits.shape)
    return logits, drawn.argmax(axis=1)


@pytest.mark.parametrize("sharper", [1 / 30, 0.5, 1.0, 2.5, 6.0])
def test_the_temperature_undoes_what_sharpened_the_logits(sharper):
    logits, labels = truthful()
    plain = fit_temperature(softmax(logits), labels)
    assert plain == pytest.approx(1.0, abs=0.05)
    probabilities = softmax(sharper * logits)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(sharper * plain, rel=1e-4)  # float32 in between
    before = expected_calibration_error(probabilities, labels)
    after = expected_calibration_error(scale_probabilities(probabilities, temperature), labels)
    assert after < 0.03 and (sharper == 1 or after < before)


def test_no_gradient_is_left_at_the_temperature():
    """torch's cross-entropy of the logits themselves, which the fit never sees."""
    logits, labels = truthful(400)
    logits *= 1.7
    found = fit_temperature(softmax(logits), labels)
    slopes = []
    for each in (found / 1.0001, found * 1.0001):
        temperature = torch.tensor(each, dtype=torch.float64, requires_grad=True)
        F.cross_entropy(torch.from_numpy(logits) / temperature, torch.from_numpy(labels)).backward()
        slopes.append(temperature.grad.item())
    assert slopes[0] < 0 < slopes[1]


def test_likelihood_against_a_loop():
    logits, labels = truthful(50)
    probabilities = softmax(logits)
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        odds = [math.exp(value / 1.3) for value in row]
        total -= math.log(odds[label] / sum(odds))
    found = negative_log_likelihood(probabilities, labels, 1.3)
    assert found == pytest.approx(total / 50, rel=1e-6)
    straight = -np.log(probabilities[np.arange(50), labels]).mean()
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(straight, rel=1e-6)


def test_scaling_keeps_the_order_and_divides_the_logits():
    logits, _ = truthful(300)
    probabilities = softmax(logits)
    scaled = scale_probabilities(probabilities, 2.2)
    np.testing.assert_allclose(scaled, softmax(logits / 2.2), rtol=1e-5)
    np.testing.assert_array_equal(scaled.argsort(axis=1), probabilities.argsort(axis=1))
    np.testing.assert_allclose(scale_probabilities(probabilities, 1.0), probabilities, rtol=1e-6)


def test_probabilities_of_exactly_zero():
    """Sure of everything, and wrong in one of ten: finite, and much less sure afterwards."""
    labels = np.arange(100) % 4
    guess = np.where(np.arange(100) % 10 == 0, (labels + 1) % 4, labels)
    probabilities = np.eye(4, dtype=np.float32)[guess]
    before = negative_log_likelihood(probabilities, labels)
    assert before == pytest.approx(0.1 * -math.log(np.finfo(np.float32).tiny), rel=1e-6)
    temperature = fit_temperature(probabilities, labels)
    scaled = scale_probabilities(probabilities, temperature)
    assert np.isfinite(scaled).all()
    # one number for all: the likelihood is best where the confidence is the accuracy
    np.testing.assert_allclose(scaled.max(axis=1), 0.9, atol=1e-5)
    assert expected_calibration_error(scaled, labels) == pytest.approx(0, abs=1e-5)


def test_no_minimum_no_temperature():
    logits, _ = truthful(200)
    probabilities = softmax(logits)
    assert fit_temperature(probabilities, probabilities.argmax(axis=1)) is None  # all right
    assert fit_temperature(probabilities, probabilities.argmin(axis=1)) is None  # all wrong
    even = np.full((6, 3), 1 / 3, np.float32)
    assert fit_temperature(even, np.arange(6) % 3) is None  # nothing to scale
