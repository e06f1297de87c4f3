"""What `make data` keeps is what training takes; what was there goes when the new one is good."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_trees import refused, tar_of, write_course, zip_of

from leanvit.app import prepare
from leanvit.data.course import course

NUMBERS = tuple(str(k) for k in range(10))
PACKED: dict[str, Callable[[Path, Path], Path]] = {
    "b.zip": zip_of, "b.v2.tar.gz": tar_of, "b.tar.xz": tar_of, "b.TGZ": tar_of, "b": zip_of,
    "folder": lambda folder, path: folder,
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_course(tmp_path / "source", NUMBERS)


def make_data(source: Path, data_dir: Path) -> None:
    place = {"data_dir": str(data_dir), "source": None}
    prepare.run({**place, "image_size": 8, "skip_unreadable": False}, str(source))


def is_taken(source: Path, data_dir: Path) -> bool:
    """Whether training takes these images without being told."""
    wanted = course(str(source), str(data_dir.parent / "other"), 8)
    return torch.equal(course(None, str(data_dir), 8).train.images, wanted.train.images)


@pytest.mark.parametrize("name", PACKED)
def test_training_takes_what_is_kept(source: Path, tmp_path: Path, name: str) -> None:
    archive, data_dir = PACKED[name](source, tmp_path / name), tmp_path / "data"
    for _ in range(2):
        make_data(archive, data_dir)
        assert is_taken(source, data_dir)
    assert len(list(data_dir.glob("[!.]*"))) == 2  # and the cache


def test_a_source_within_the_data_folder_stays_where_it_is(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    archive = zip_of(source, tmp_path / "data" / "my_course.zip")
    make_data(archive, tmp_path / "data")
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"my_course.zip", "cache"}


@pytest.mark.parametrize("bad", ["cut", "other", "text", "nowhere"])
def test_a_bad_source_takes_no_good_ones_place(source: Path, tmp_path: Path, bad: str) -> None:
    data_dir = tmp_path / "data"
    make_data(zip_of(source, tmp_path / "a.zip"), data_dir)
    before = (data_dir / "course.zip").read_bytes()
    path = tmp_path / "b.zip"
    if bad == "cut":
        path.write_bytes(before[: len(before) // 2])
    elif bad == "text":
        path.write_bytes(b"no archive")
    elif bad == "other":
        (source / "CIFAR10_balance" / "7").rename(source / "CIFAR10_balance" / "zebra")
        zip_of(source, path)
    refused(make_data, path, data_dir)
    assert (data_dir / "course.zip").read_bytes() == before
    assert sorted(entry.name for entry in data_dir.iterdir()) == ["cache", "course.zip"]


@pytest.mark.parametrize("older", ["course.tar.gz", "course", "CIFAR10_imbalance", "a_course.zip"])
def test_an_older_one_does_not_go_before_it(source: Path, tmp_path: Path, older: str) -> None:
    data_dir = tmp_path / "data"
    old = write_course(tmp_path / "old" / "deeper", NUMBERS).parent
    data_dir.mkdir()
    if older == "CIFAR10_imbalance":
        shutil.copytree(old / "deeper", data_dir, dirs_exist_ok=True)
    elif older == "course":
        (data_dir / older).symlink_to(old)
    else:
        (zip_of if older.endswith("zip") else tar_of)(old, data_dir / older)
    archive = zip_of(source, tmp_path / "new.zip")
    message = refused(make_data, archive, data_dir)
    assert str(data_dir / ("" if older == "CIFAR10_imbalance" else older)) in message
    assert not (data_dir / "course.zip").exists()


def test_a_folder_of_its_own_is_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "course").mkdir(parents=True)
    assert "data/course is a folder of its own" in refused(make_data, source, tmp_path / "data")


def test_another_folder_takes_a_links_place(source: Path, tmp_path: Path) -> None:
    make_data(source, tmp_path / "data")
    other = shutil.copytree(source, tmp_path / "moved")
    make_data(Path(other), tmp_path / "data")
    assert (tmp_path / "data" / "course").resolve() == other


def test_training_says_what_it_takes_of_several(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("course.zip", "my_course.zip"):
        zip_of(source, tmp_path / "data" / name)
    course(None, str(tmp_path / "data"), 8)
    line = capsys.readouterr().err
    assert "data/course.zip, not" in line and "data/my_course.zip" in line
