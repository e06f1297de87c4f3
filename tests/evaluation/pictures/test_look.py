"""The choice of images: of all classes, right and wrong, the same for the same seed."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.look import choose_images, look_at


def predictions(
    predicted: list[int], labels: list[int], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(num_classes, dtype=np.float32)[predicted], np.array(labels, dtype=np.int64)


def many(num_classes: int, wrong_classes: list[int], per_class: int = 20) -> tuple:
    """A quarter of the images of `wrong_classes` are predicted wrongly."""
    labels = np.arange(num_classes).repeat(per_class)
    predicted = labels.copy()
    for label in wrong_classes:
        first = label * per_class
        predicted[first : first + per_class // 4] = (label + 1) % num_classes
    return predictions(predicted.tolist(), labels.tolist(), num_classes)


def halves(given: tuple, num_images: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Labels of the correct and of the wrong images that are chosen."""
    probabilities, labels = given
    chosen = choose_images(probabilities, labels, num_images, seed)
    assert len(set(chosen.tolist())) == len(chosen)
    is_correct = (probabilities.argmax(1) == labels)[chosen]
    assert is_correct.tolist() == sorted(is_correct.tolist(), reverse=True)
    return labels[chosen[is_correct]].tolist(), labels[chosen[~is_correct]].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_half_are_wrong_and_classes_take_turns(seed):
    correct, wrong = halves(many(10, list(range(10))), 10, seed)
    assert len(correct) == len(wrong) == 5
    assert sorted(correct + wrong) == list(range(10))
    correct, wrong = halves(many(4, list(range(4))), 8, seed)
    assert sorted(correct) == sorted(wrong) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_class_without_wrong_ones_is_shown_by_correct_ones(seed):
    correct, wrong = halves(many(6, [1, 4, 5]), 6, seed)
    assert sorted(wrong) == [1, 4, 5] and sorted(correct) == [0, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_net_that_knows_one_class_leaves_the_others_to_the_wrong_ones(seed):
    labels = [0, 1, 2, 3] * 5
    correct, wrong = halves(predictions([0] * 20, labels, 4), 6, seed)
    assert correct == [0, 0, 0] and sorted(wrong) == [1, 2, 3]


def test_few_or_no_wrong_ones_are_filled_up():
    correct, wrong = halves(many(5, []), 10)
    assert sorted(correct) == sorted([*range(5)] * 2) and wrong == []
    probabilities, labels = predictions([1] + [0] * 4 + [1] * 5, [0] * 5 + [1] * 5, 2)
    correct, wrong = halves((probabilities, labels), 6)
    assert wrong == [0] and sorted(correct) == [0, 0, 1, 1, 1]
    correct, wrong = halves(predictions([1] * 4, [0] * 4, 2), 4)
    assert correct == [] and wrong == [0] * 4


def test_more_classes_than_images_and_more_images_than_there_are():
    correct, wrong = halves(many(50, list(range(50))), 4)
    assert len(correct) == len(wrong) == 2 and len(set(correct + wrong)) == 4
    assert len(halves(many(50, list(range(50))), 1)[0]) == 1
    probabilities, labels = predictions([0, 1, 1], [0, 0, 1], 3)
    assert sorted(choose_images(probabilities, labels, 8, 0).tolist()) == [0, 1, 2]


def test_the_seed_decides():
    given = many(5, [0, 1, 2])
    first = choose_images(*given, 8, 0)
    np.testing.assert_array_equal(first, choose_images(*given, 8, 0))
    assert any(first.tolist() != choose_images(*given, 8, seed).tolist() for seed in (1, 2, 3))


class Brightness(nn.Module):
    """Says "dark" of images below the mean, "bright" of others, ever more surely."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        level = images.mean(dim=(1, 2, 3))
        return torch.stack((-level, level), dim=1)


def test_captions_tell_truth_prediction_and_confidence():
    images = torch.tensor([0, 255, 0, 255], dtype=torch.uint8).view(-1, 1, 1, 1)
    pixels, labels = images.expand(-1, 3, 4, 4).contiguous(), torch.tensor([0, 1, 1, 0])
    data = ImageSet(pixels, labels, ("dark", "bright"))
    half = torch.full((3,), 0.5)
    trained = Trained(Brightness(), half, half, data.classes, 4, bfloat16=True)
    probabilities, labels = predictions([0, 1, 0, 1], [0, 1, 1, 0], 2)
    saved = {"test_probabilities": probabilities, "test_labels": labels}
    look = look_at(trained, data, saved, torch.device("cpu"), num_images=4)
    assert look.correct == (True, True, False, False)
    assert sorted(look.captions) == [
        "true bright,\npredicted bright 0.88",
        "true bright,\npredicted dark 0.88",
        "true dark,\npredicted bright 0.88",
        "true dark,\npredicted dark 0.88",
    ]
    for image, given, said in zip(look.images, look.inputs, look.captions, strict=True):
        is_bright = "predicted bright" in said
        assert is_bright == bool((image == 255).all()) == bool((given == 1).all())
    saved["test_labels"] = 1 - labels
    with pytest.raises(LeanvitError, match="the 4 test images are not the 4 that the run was"):
        look_at(trained, data, saved, torch.device("cpu"))
