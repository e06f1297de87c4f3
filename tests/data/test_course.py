"""The course's images: from folders, from an archive, and cut from the official archive."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_trees import pixels_of, refused, tar_of, write_course, write_image, write_tree, zip_of
from torch import Tensor

from leanvit.data.class_names import CIFAR10_CLASSES as CLASSES
from leanvit.data.course import course, split_marks
from leanvit.data.images import Splits
from leanvit.data.listing import open_source

NUMBERS = tuple(str(k) for k in range(10))
TRAIN_COUNTS = [4435, 4189, 3065, 4191, 4513, 3717, 3513, 3249, 2685, 2023]
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
real_archive = pytest.mark.skipif(
    not (SHARED / "cifar10_course.zip").exists(), reason="the course's archive is not here"
)


def check(splits: Splits) -> None:
    """What :func:`write_course` wrote, under CIFAR-10's names."""
    assert splits.train.classes == splits.test.classes == CLASSES
    assert splits.val is None
    assert splits.train.labels.tolist() == [k for k in range(10) for _ in range(2)]
    assert splits.test.labels.tolist() == list(range(10))
    for part, first in ((splits.train, 0), (splits.test, 100)):
        assert isinstance(part.images, Tensor)
        for i, image in enumerate(part.images):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels_of(first + i))
    assert "course folders" in splits.source and "\n" not in splits.source


@pytest.mark.parametrize("names", [NUMBERS, CLASSES], ids=["numbers", "names"])
@pytest.mark.parametrize("nested", ["", "copy", "CIFAR10"])
@pytest.mark.parametrize("suffix", ["", "_v2"])
def test_folders(tmp_path: Path, names: tuple[str, ...], nested: str, suffix: str) -> None:
    root = tmp_path / "source"
    write_course(root / nested, names, suffix)
    check(course(str(root), str(tmp_path / "data"), image_size=8))


def test_each_folder_in_a_folder_of_its_name(tmp_path: Path) -> None:
    """What unpacking CIFAR10_balance.zip into CIFAR10_balance/ gives."""
    write_course(tmp_path / "flat", NUMBERS)
    for name in ("CIFAR10_imbalance", "CIFAR10_balance"):
        shutil.copytree(tmp_path / "flat" / name, tmp_path / "source" / name / name)
    check(course(str(tmp_path / "source"), str(tmp_path / "data"), image_size=8))


@pytest.mark.parametrize("nested", ["", "copy"])
@pytest.mark.parametrize(
    ("pack", "name"), [(zip_of, "c.zip"), (tar_of, "c.tar"), (tar_of, "c.tar.gz")]
)
def test_archives(tmp_path: Path, pack: Callable, name: str, nested: str) -> None:
    write_course(tmp_path / "source" / nested, NUMBERS)
    archive = pack(tmp_path / "source", tmp_path / name)
    check(course(str(archive), str(tmp_path / "data"), image_size=8))


@pytest.mark.parametrize("place", ["", "course", "course/copy", "x", "course.zip", "link"])
def test_what_was_left_in_the_data_folder_is_found(tmp_path: Path, place: str) -> None:
    data = tmp_path / "data"
    (data / "cache").mkdir(parents=True)
    (data / ".part-1-course.zip").write_bytes(b"half")  # of a copy that was killed
    if place == "course.zip":
        zip_of(write_course(tmp_path / "source", NUMBERS), data / place)
    elif place == "link":
        write_course(tmp_path / "source" / "copy", NUMBERS)
        (data / "course").symlink_to(tmp_path / "source")
    else:
        write_course(data / place, NUMBERS)
    check(course(None, str(data), image_size=8))


def test_jpeg(tmp_path: Path) -> None:
    root = write_course(tmp_path, NUMBERS)
    write_image(root / "CIFAR10_imbalance" / "0" / "123.jpg", 5)
    assert course(str(root), str(tmp_path / "data"), 8).train.class_counts[0] == 3


def test_a_class_split_over_its_number_and_its_name_is_whole(tmp_path: Path) -> None:
    root = write_course(tmp_path, NUMBERS)
    write_image(root / "CIFAR10_imbalance" / "cat" / "0.png", 999)
    assert course(str(root), str(tmp_path / "data"), 8).train.class_counts.tolist() == [
        3 if name == "cat" else 2 for name in CLASSES
    ]


def test_wrong_trees_are_refused(tmp_path: Path) -> None:
    def message(root: Path) -> str:
        line = refused(course, str(root), str(tmp_path / "data"), 8)
        assert str(root) in line
        return line

    assert "data.source=" in message(tmp_path / "nowhere")

    other = tmp_path / "other"
    write_tree(other / "train", {"a": 1})
    assert "CIFAR10_imbalance*/" in message(other) and "data=folder" in message(other)

    half = tmp_path / "half"
    write_tree(half / "CIFAR10_imbalance", dict.fromkeys(NUMBERS, 1))
    assert "CIFAR10_balance*/" in message(half)

    twice = write_course(tmp_path / "twice", NUMBERS)
    write_course(twice, NUMBERS, "_old")
    assert "CIFAR10_imbalance, CIFAR10_imbalance_old; keep one" in message(twice)

    strange = write_course(tmp_path / "strange", (*NUMBERS, "zebra"))
    assert "'zebra'" in message(strange) and "data=folder" in message(strange)

    lacking = write_course(tmp_path / "lacking", NUMBERS[:-1])
    assert "truck" in message(lacking)

    empty = write_course(tmp_path / "empty", NUMBERS)
    for image in (empty / "CIFAR10_balance" / "7").iterdir():
        image.unlink()
    assert f"{empty}/CIFAR10_balance/7" in message(empty)


def test_the_shipped_index_list() -> None:
    marks = split_marks()
    assert len(marks) == 50_000 and set(marks) == {"1", "2", "."}
    assert marks.count("1") == 35_580 and marks.count("2") == 4_870


class FakeArchive:
    """50,000 images whose first three bytes are their number."""

    def __init__(self, root: str, train: bool, download: bool) -> None:
        assert train, "the course draws nothing from the official test set"
        number = np.arange(50_000)
        self.data = np.zeros((50_000, 32, 32, 3), dtype=np.uint8)
        self.data[:, 0, 0] = np.stack([number >> 16, number >> 8 & 255, number & 255], axis=1)
        self.targets = (number % 10).tolist()


def test_cut_from_the_official_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeArchive)
    splits = course(None, str(tmp_path / "data"))
    for part, mark in ((splits.train, "1"), (splits.test, "2")):
        assert isinstance(part.images, Tensor)
        first = part.images[:, :, 0, 0].long()
        numbers = first[:, 0] * 65536 + first[:, 1] * 256 + first[:, 2]
        assert numbers.tolist() == [i for i, m in enumerate(split_marks()) if m == mark]
        assert torch.equal(part.labels, numbers % 10)
    assert splits.train.classes == CLASSES
    assert "official archive" in splits.source


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return course(str(SHARED / "cifar10_course.zip"), str(tmp_path_factory.mktemp("course")))


@real_archive
def test_the_real_archive_has_the_published_counts(real: Splits) -> None:
    assert real.train.class_counts.tolist() == TRAIN_COUNTS
    assert real.test.class_counts.tolist() == [487] * 10
    assert real.train.classes == real.test.classes == CLASSES


@real_archive
def test_no_image_of_the_real_archive_is_in_both_parts(real: Splits) -> None:
    def hashes(images: Tensor) -> list[bytes]:
        array = images.permute(0, 2, 3, 1).numpy()
        return [hashlib.blake2b(image, digest_size=16).digest() for image in array]

    assert isinstance(real.train.images, Tensor) and isinstance(real.test.images, Tensor)
    train, test = hashes(real.train.images), hashes(real.test.images)
    assert len(set(train)) == 35_580 and len(set(test)) == 4_870
    assert not set(train) & set(test)


@real_archive
def test_the_file_names_of_the_real_archive_agree_with_the_shipped_list() -> None:
    marks = ["."] * 50_000
    for name in open_source(SHARED / "cifar10_course.zip").files:
        folder, _, file = name.split("/")
        assert marks[int(Path(file).stem)] == "."
        marks[int(Path(file).stem)] = {"CIFAR10_imbalance": "1", "CIFAR10_balance": "2"}[folder]
    assert "".join(marks) == split_marks()
    assert split_marks() == (SHARED / "course_split.txt").read_text().strip()
