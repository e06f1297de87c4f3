"""The reported numbers against hand-made cases, literal loops, torchmetrics and the binomial."""

import json
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
    scale_probabilities,
)
from leanvit.evaluation.measure.metrics import (
    accuracy_interval,
    classification_metrics,
    confusion_counts,
    shot_groups,
)

CLASSES = ["cat", "dog", "eel"]


def predicted(*classes: int, num_classes: int = 3, confidence: float = 0.8) -> np.ndarray:
    rest = (1 - confidence) / (num_classes - 1)
    rows = np.full((len(classes), num_classes), rest, np.float32)
    rows[np.arange(len(classes)), classes] = confidence
    return rows


def random_case(n: int = 400, num_classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Imbalanced labels, and predictions that are right more often than not."""
    rng = np.random.default_rng(3)
    labels = rng.choice(num_classes, n, p=np.arange(1, num_classes + 1) / 28)
    logits = rng.normal(size=(n, num_classes))
    logits[np.arange(n), labels] += 1.5
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize(
    ("labels", "answers", "expected"),
    [
        # cat: 3 of 4 right (one called dog); dog: 1 of 2 (one called cat); eel: 1 of 1. All
        # confidences are 0.8: one bin, so the error is |5/7 - 0.8|.
        ([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 0, 2],
         {"accuracy": 5 / 7, "per_class_recall": [3 / 4, 1 / 2, 1], "recall": 9 / 12,
          "balanced_accuracy": 9 / 12, "precision": (3 / 4 + 1 / 2 + 1) / 3,
          "per_class_precision": [3 / 4, 1 / 2, 1], "f1": (3 / 4 + 1 / 2 + 1) / 3,
          "worst_class": {"name": "dog", "recall": 0.5}, "n": 7,
          "calibration_error": abs(5 / 7 - 0.8)}),
        # no image of a dog, though one cat is called a dog: it counts in no mean
        ([0, 0, 2, 2], [0, 1, 2, 2],
         {"per_class_recall": [0.5, None, 1.0], "balanced_accuracy": 0.75, "precision": 1.0,
          "per_class_precision": [1.0, None, 1.0], "f1": (2 / 3 + 1) / 2,
          "worst_class": {"name": "cat", "recall": 0.5}}),
        # a dog is never predicted: its precision is 0
        ([0, 0, 1, 2], [0, 0, 0, 2],
         {"precision": (2 / 3 + 0 + 1) / 3, "per_class_precision": [2 / 3, 0, 1],
          "f1": (4 / 5 + 0 + 1) / 3}),
    ],
)  # fmt: skip
def test_hand_counted_cases(labels, answers, expected):
    result = classification_metrics(predicted(*answers), np.array(labels), CLASSES)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


def test_agrees_with_torchmetrics_where_every_class_has_images():
    probabilities, labels = random_case()
    names = [str(index) for index in range(7)]
    result = classification_metrics(probabilities, labels, names)
    scores, targets = torch.from_numpy(probabilities), torch.from_numpy(labels)
    for key, function, average in [
        ("accuracy", multiclass_accuracy, "micro"),
        ("balanced_accuracy", multiclass_accuracy, "macro"),
        ("precision", multiclass_precision, "macro"),
        ("recall", multiclass_recall, "macro"),
        ("f1", multiclass_f1_score, "macro"),
        ("per_class_recall", multiclass_recall, "none"),
        ("per_class_precision", multiclass_precision, "none"),
    ]:
        expected = function(scores, targets, num_classes=7, average=average).tolist()
        assert result[key] == pytest.approx(expected, abs=1e-6), key
    expected = multiclass_calibration_error(scores, targets, num_classes=7, n_bins=15).item()
    assert result["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_calibration_error_against_the_loop_of_the_paper():
    probabilities, labels = random_case()
    probabilities[:5] = predicted(*labels[:4], (labels[4] + 1) % 7, num_classes=7, confidence=1.0)
    confidence, guess = probabilities.max(1), probabilities.argmax(1)
    expected = 0.0
    for number in range(1, 16):
        inside = [i for i in range(len(labels)) if (number - 1) / 15 < confidence[i] <= number / 15]
        if inside:
            right = sum(guess[i] == labels[i] for i in inside) / len(inside)
            sure = sum(float(confidence[i]) for i in inside) / len(inside)
            expected += len(inside) / len(labels) * abs(right - sure)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-6)


def test_shots_by_the_limits_of_the_literature():
    """Many are more than 100, few are fewer than 20: both limits themselves are medium."""
    assert shot_groups([101, 100, 20, 19, 0]) == {"many": [0], "medium": [1, 2], "few": [3, 4]}
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    probabilities = predicted(0, 0, 0, 1, 1, 0, 2)  # recalls 3/4, 1/2, 1
    for counts, shown, expected in (
        ([500, 30, 30], labels < 3, {"many": 0.75, "medium": 0.75, "few": None}),
        # a class without an image has no recall to count
        ([500, 30, 5], labels < 2, {"many": 0.75, "medium": 0.5, "few": None}),
        (None, labels < 3, {"many": None, "medium": None, "few": None}),
    ):
        given = probabilities[shown], labels[shown], CLASSES
        assert classification_metrics(*given, train_counts=counts)["shots"] == expected


def test_calibration_stands_before_and_after_the_temperature():
    probabilities, labels = random_case()
    names = list("abcdefg")
    result = classification_metrics(probabilities, labels, names, temperature=2.0)
    scaled = scale_probabilities(probabilities, 2.0)
    assert result["calibration_error"] == expected_calibration_error(probabilities, labels)
    assert result["calibration_error_scaled"] == expected_calibration_error(scaled, labels)
    assert result["nll"] == negative_log_likelihood(probabilities, labels)
    assert result["nll_scaled"] == pytest.approx(negative_log_likelihood(scaled, labels), rel=1e-6)
    assert result["temperature"] == 2.0
    without = classification_metrics(probabilities, labels, names)
    for key in ("temperature", "calibration_error_scaled", "nll_scaled"):
        assert without.pop(key) is None
    assert without.items() <= result.items()


def test_confusion_counts_rows_are_true_classes():
    counts = confusion_counts(predicted(0, 2, 2, 1), np.array([0, 0, 0, 1]))
    assert counts.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("accuracy", "n"), [(0.7, 1000), (0.93, 200), (0.5, 51)])
def test_interval_is_that_of_the_binomial(accuracy, n):
    """Quantiles of Binomial(n, p) from its exact distribution; one image of Monte Carlo error."""
    hits = round(accuracy * n)
    share = hits / n
    exact, total = [], 0.0
    for k in range(n + 1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        before = total
        total += math.exp(log_choose + k * math.log(share) + (n - k) * math.log(1 - share))
        exact += [k / n for level in (0.025, 0.975) if before < level <= total]
    assert accuracy_interval(share, n) == pytest.approx(exact, abs=1.01 / n)


def test_perfect_and_json():
    labels = np.array([0, 2])
    result = classification_metrics(predicted(0, 2, confidence=1.0), labels, CLASSES)
    assert result["accuracy_interval"] == [1.0, 1.0]
    assert result["calibration_error"] == 0.0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes", "message"),
    [
        (np.zeros((0, 3), np.float32), np.zeros(0, np.int64), CLASSES, "empty"),
        (np.full((1, 3), np.nan, np.float32), np.array([0]), CLASSES, "diverged"),
        (np.full((1, 3), 4.0, np.float32), np.array([0]), CLASSES, "softmax"),
        (predicted(0), np.array([3]), CLASSES, "labels from 3"),
        (predicted(0), np.array([0]), ["cat"], "class names"),
    ],
)
def test_bad_input_is_one_line(probabilities, labels, classes, message):
    with pytest.raises(LeanvitError, match=message) as error:
        classification_metrics(probabilities, labels, classes)
    assert "\n" not in str(error.value)
