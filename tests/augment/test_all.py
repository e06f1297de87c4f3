"""What is refused of every augmentation and mixing of conf/, and mixings that share a training."""

import math

import pytest
import torch
from image_trees import refused
from parts import build, check_refused, choices, default, taker_of
from torch.nn.functional import one_hot

from leanvit.augment.cmo import CMO
from leanvit.augment.course import Course
from leanvit.augment.mixup import MixUp
from leanvit.augment.none import NoMix
from leanvit.augment.partners import with_partners
from leanvit.augment.resized_crop import ResizedCrop
from leanvit.augment.strong import Strong
from leanvit.contracts import Mix

MIXING = [name for name, choice in choices("mix").items() if "probability" in choice]
LIGHT = {"padding": [-1, 1.5], "flip": [7, -0.1, math.nan]}
COLOUR = {"fill": [[0, 0], [0, 0, 256], [-1, 0, 0], [1, 2, 3, 4], [0, 0, 0.5]]}
CROP = {
    "scale": [[0.5, 1.5], [0, 1], [0.5], 0.5],
    "ratio": [[0, 1], [-1, 1], [1, math.inf]],
    "flip": [2],
}
WRONG = {
    "augment": {
        "course": {
            **CROP,
            "magnitude": [31, -1, 1.5],
            "num_ops": [-1],
            "brightness": [1.5],
            "contrast": [-0.1],
        },
        "cutout": {**LIGHT, **COLOUR, "size": [-1]},
        "light": LIGHT,
        "resized_crop": CROP,
        "strong": {**LIGHT, **COLOUR, "erase": [1.1], "scale": [[0.5, 1.2]], "ratio": [[0, 3]]},
        "trivial": LIGHT,
    },
    "mix": {
        "cmo": {"alpha": [0.0], "exponent": [math.inf], "probability": [1.2]},
        "cutmix": {"alpha": [-1.0, math.inf], "probability": [2.0]},
        "glmc": {"alpha": [0.0], "weight": [-1.0, math.nan], "dim": [0, 1.5]},
        "mixup": {"alpha": [-1.0], "probability": [2.0]},
        "mixup_cutmix": {
            "mixup_alpha": [0.0],
            "cutmix_alpha": [math.inf],
            "switch_probability": [1.5],
            "probability": [-0.1],
        },
        "remix": {"alpha": [0.0], "kappa": [0.3, math.nan], "tau": [1.1], "probability": [2.0]},
    },
}


@pytest.mark.parametrize("group", WRONG)
def test_values_outside_their_range(group: str) -> None:
    for name in choices(group):
        check_refused(group, name, WRONG[group].get(name, {}))


@pytest.mark.parametrize("choice", [ResizedCrop, Course, Strong])
def test_a_range_has_its_smaller_number_first(choice: type) -> None:
    assert "augment.scale=[0.9,0.8]: give" in refused(lambda: choice(scale=(0.9, 0.8)))
    assert "augment.ratio=[1.1,0.9]: give" in refused(lambda: choice(ratio=(1.1, 0.9)))


LABELS = torch.arange(24) % 3
IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def mixing(name: str, probability: float) -> tuple[Mix, int]:
    """A mixing, and how many of the images are mixed: all, or all but the partners."""
    mix = build(taker_of("mix", name), torch.tensor([40, 20, 4]), probability=probability)
    return mix, 24 if mix.partners is None else 12


def test_without_mixing_targets_are_labels() -> None:
    images, labels = default("mix", "none", LABELS)(IMAGES, LABELS)
    assert torch.equal(images, IMAGES) and torch.equal(labels, LABELS)


@pytest.mark.parametrize("name", MIXING)
class TestEveryMixing:
    def test_unmixed_batches_are_the_images_and_one_hot(self, name: str) -> None:
        mix, kept = mixing(name, probability=0.0)
        images, targets = mix(IMAGES, LABELS)
        assert torch.equal(images, IMAGES[:kept])
        assert torch.equal(targets, one_hot(LABELS[:kept], 3).float())

    def test_probability_is_of_the_batch_and_the_images_stay_as_they_are(self, name: str) -> None:
        torch.manual_seed(0)
        (mix, kept), before, mixed = mixing(name, probability=0.3), IMAGES.clone(), 0
        for _ in range(400):
            images, targets = mix(IMAGES, LABELS)
            whole = torch.equal(images, IMAGES[:kept])
            assert not whole or torch.equal(targets, one_hot(LABELS[:kept], 3).float())
            torch.testing.assert_close(targets.sum(1), torch.ones(kept))
            mixed += not whole
        assert abs(mixed - 120) < 4 * math.sqrt(400 * 0.3 * 0.7)
        assert torch.equal(IMAGES, before)

    def test_repeatable_of_the_images_type_and_the_same_under_autocast(self, name: str) -> None:
        mix, found = mixing(name, probability=1.0)[0], []
        for enabled in (False, False, True):
            torch.manual_seed(7)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                found.append(mix(IMAGES, LABELS))
        for images, targets in found[1:]:
            assert torch.equal(images, found[0][0]) and torch.equal(targets, found[0][1])
        images, targets = mix(IMAGES.double(), LABELS)
        assert images.dtype == targets.dtype == torch.float64
        assert type(mix).soft_targets and targets.ndim == 2


def test_mixings_without_partners_are_given_the_images_alone() -> None:
    images, labels = torch.randn(8, 3, 2, 2), torch.arange(8) % 3
    mixes, partners = with_partners([NoMix(), CMO(3), MixUp(3)])
    assert partners is not None and torch.equal(partners(labels), CMO(3).partners(labels))
    assert [len(mix(images, labels)[0]) for mix in mixes] == [4, 4, 4]
    assert torch.equal(mixes[0](images, labels)[0], images[:4])
    assert torch.equal(mixes[0](images, labels)[1], labels[:4])
    alone = [NoMix(), MixUp(3)]
    assert with_partners(alone) == (alone, None)
