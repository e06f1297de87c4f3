"""Long tails: the literature's counts and images, of any training set, or one line that says why
not."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from image_trees import refused
from parts import choices
from torch import Tensor

from leanvit import values
from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.long_tail import class_counts_line, long_tail, parse_imbalance, tail_counts

COURSE_COUNTS = [4435, 4189, 3065, 4191, 4513, 3717, 3513, 3249, 2685, 2023]


def image_set(counts: list[int], files: bool = False) -> ImageSet:
    """One-pixel images that hold their own number, classes in random order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    classes = tuple(f"class{k}" for k in range(len(counts)))
    number = torch.arange(len(labels))
    digits = torch.stack([number >> 16, number >> 8 & 255, number & 255], dim=1)
    images: Tensor | ImageFiles = digits.to(torch.uint8)[:, :, None, None]
    if files:
        images = ImageFiles(tuple(Path(f"{i}.png") for i in range(len(labels))), 32)
    return ImageSet(images, torch.from_numpy(labels), classes)


def numbers(images: ImageSet) -> list[int]:
    if isinstance(images.images, ImageFiles):
        return [int(path.stem) for path in images.images.paths]
    digits = images.images[:, :, 0, 0].long()
    return (digits[:, 0] * 65536 + digits[:, 1] * 256 + digits[:, 2]).tolist()


def authors_subset(targets: np.ndarray, kind: str, factor: float) -> set[int]:
    """Cao et al.'s IMBALANCECIFAR10 with its own arguments: the global generator, class by class.

    Args:
        factor: of the rarest class to the most frequent, as they give it: 0.01.
    """
    num_classes = len(np.unique(targets))
    img_max = len(targets) / num_classes
    if kind == "exp":
        counts = [int(img_max * factor ** (i / (num_classes - 1.0))) for i in range(num_classes)]
    else:
        counts = [int(img_max)] * (num_classes // 2) + [int(img_max * factor)] * (num_classes // 2)
    state = np.random.get_state()
    np.random.seed(0)
    kept: set[int] = set()
    for label, count in zip(np.unique(targets), counts, strict=True):
        index = np.where(targets == label)[0]
        np.random.shuffle(index)
        kept |= set(index[:count].tolist())
    np.random.set_state(state)
    return kept


@pytest.mark.parametrize(
    ("num_classes", "factor", "total"),
    [
        (10, 10, 20_431), (10, 50, 13_996), (10, 100, 12_406),
        (100, 10, 19_573), (100, 50, 12_608), (100, 100, 10_847),
    ],
)  # fmt: skip
def test_the_counts_of_the_literature(num_classes: int, factor: int, total: int) -> None:
    counts = tail_counts(num_classes, 50_000 // num_classes, f"exp:{factor}")
    assert sum(counts) == total
    assert counts[0] == factor * counts[-1] == 50_000 // num_classes
    if (num_classes, factor) == (10, 100):
        assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


@pytest.mark.parametrize(
    ("imbalance", "n_max", "counts"),
    [
        ("step:10", 500, [500, 500, 50, 50]),
        ("step:2.5", 500, [500, 500, 500, 200, 200]),  # the middle one is of the first half
        ("step:49", 98, [98, 2]),  # 98 * (1 / 49) is 1.9999999999999998
        ("exp:4", 100, [100, 50, 25]),
        ("exp:8", 100, [100]),
    ],
)
def test_counts(imbalance: str, n_max: int, counts: list[int]) -> None:
    assert tail_counts(len(counts), n_max, imbalance) == counts


@pytest.mark.parametrize("imbalance", ["exp:20", "step:20"])
@pytest.mark.parametrize("files", [False, True], ids=["resident", "files"])
def test_the_images_that_the_authors_code_keeps(imbalance: str, files: bool) -> None:
    whole = image_set([60] * 10, files)
    before = np.random.get_state()[1].tolist()
    cut = long_tail(whole, imbalance)
    assert np.random.get_state()[1].tolist() == before  # nobody else's draws change
    kept = numbers(cut)
    assert set(kept) == authors_subset(whole.labels.numpy(), imbalance[:-3], 1 / 20)
    assert kept == sorted(kept)
    assert torch.equal(cut.labels, whole.labels[kept])
    assert cut.classes == whole.classes


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10_lt", 10), ("cifar100_lt", 100)])
def test_the_long_tailed_choices_are_the_authors_subsets(name: str, num_classes: int) -> None:
    chosen, whole = choices("data")[name], image_set([50_000 // num_classes] * num_classes)
    assert chosen.imbalance == "exp:100"
    for imbalance, factor in ((chosen.imbalance, 0.01), ("exp:50", 0.02), ("exp:10", 0.1)):
        cut = long_tail(whole, imbalance, chosen.imbalance_seed)
        assert set(numbers(cut)) == authors_subset(whole.labels.numpy(), "exp", factor)


def test_the_seed_chooses_the_images_and_not_their_number() -> None:
    whole = image_set([60] * 4)
    first, again, other = (long_tail(whole, "exp:6", seed) for seed in (0, 0, 1))
    assert numbers(first) == numbers(again) != numbers(other)
    assert torch.equal(first.class_counts, other.class_counts)


def test_an_unbalanced_set_gets_the_factor_that_was_asked_for() -> None:
    whole = image_set(COURSE_COUNTS)
    cut = long_tail(whole, "exp:10").class_counts.tolist()
    assert cut == sorted(cut, reverse=True)
    assert (cut[0], cut[-1]) == (2023, 202)
    assert long_tail(whole, "step:1").class_counts.tolist() == [2023] * 10


@pytest.mark.parametrize("kind", ["exp", "step"])
def test_factor_1_leaves_a_balanced_set_as_it_is(kind: str) -> None:
    whole = image_set([7] * 3)
    assert numbers(long_tail(whole, f"{kind}:1")) == numbers(whole)


def test_a_factor_too_large_is_told_the_largest() -> None:
    for kind in ("exp", "step"):
        whole = image_set([101] * 3)
        message = refused(long_tail, whole, f"{kind}:60")
        assert "leave 1 of the 101 images of class 'class2'" in message
        largest = int(re.findall(r"at most (\d+)", message)[0])
        assert long_tail(whole, f"{kind}:{largest}").class_counts[-1] == 2
        refused(long_tail, whole, f"{kind}:{largest + 1}")


def test_classes_too_small_for_any_tail() -> None:
    for count in (0, 1):
        message = refused(long_tail, image_set([5, count, 5]), "exp:1")
        assert f"'class1' has {count} training images" in message


@pytest.mark.parametrize(
    "text", ["exp", "exp:", "exp:abc", "exp:0.5", "exp:-3", "exp:nan", "exp:inf", "foo:10", "10"]
)
def test_what_is_no_long_tail(text: str) -> None:
    for message in (refused(parse_imbalance, text), refused(long_tail, image_set([9, 9]), text)):
        assert message.startswith(f"data.imbalance={text}:") and "exp:<factor>" in message


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none(seed: int) -> None:
    message = refused(values.check, long_tail, {"seed": seed}, "data.imbalance_")
    assert message.startswith(f"data.imbalance_seed={seed} must be")


def test_the_line_of_a_few_classes_has_them_all() -> None:
    train, rest = image_set([1500, 30, 600]), image_set([4, 4, 4])
    assert class_counts_line(train) == (
        "training images: class0 1,500, class1 30, class2 600; 2,130 in all, imbalance 50"
    )
    assert class_counts_line(train, rest, rest).endswith("imbalance 50; validation 12, test 12")
    assert class_counts_line(image_set([3, 0])).endswith("3 in all, a class without images")


def test_the_line_of_many_classes_has_head_and_tail() -> None:
    counts = tail_counts(100, 500, "exp:100")
    line = class_counts_line(image_set(counts[50:] + counts[:50]), image_set([1] * 100))
    assert len(line) <= 240 and "\n" not in line
    assert "class50 500, class51 477, class52 455 ... class47 5, class48 5, class49 5" in line
    assert "(100 classes); 10,847 in all, imbalance 100; validation 100" in line
