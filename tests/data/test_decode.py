"""Images are decoded once; what changed is decoded again, and what is damaged is never believed."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from image_trees import pixels_of, refused, tar_of, write_image, write_tree, zip_of
from PIL import Image
from torch import Tensor

import leanvit.data.decode
from leanvit.data.decode import load_images
from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.listing import open_source
from leanvit.data.pixels import Fit, decode


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree", {"a": 3, "b": 2})


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per image that was decoded since."""
    calls: list[int] = []
    real = leanvit.data.decode.decode

    def counting(file: object, image_size: int, fit: str) -> np.ndarray:
        calls.append(image_size)
        return real(file, image_size, fit)

    monkeypatch.setattr(leanvit.data.decode, "decode", counting)
    return calls


def load(
    path: Path, image_size: int = 8, classes: tuple[str, ...] = ("a", "b"), **options
) -> ImageSet:
    source = open_source(path)
    cache = path.parent / "cache"
    return load_images(source, source.classes_below(""), classes, image_size, cache, **options)


def pixels(images: ImageSet) -> Tensor:
    assert isinstance(images.images, Tensor)
    return images.images


def expected(seeds: list[int], size: int = 8) -> Tensor:
    return torch.stack([torch.from_numpy(pixels_of(s, size)).permute(2, 0, 1) for s in seeds])


@pytest.mark.parametrize("pack", [lambda f, p: f, zip_of, tar_of], ids=["folder", "zip", "tar"])
def test_pixels_and_labels(tree: Path, tmp_path: Path, pack: Callable) -> None:
    images = load(pack(tree, tmp_path / "archive"))
    assert torch.equal(pixels(images), expected([0, 1, 2, 3, 4]))
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert pixels(images).is_contiguous(memory_format=torch.channels_last)


def test_more_than_one_chunk_keeps_the_order(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "many", {"a": 700}, size=1)
    names = open_source(tree).classes_below("")["a"]
    seeds = [int(Path(name).stem) for name in names]
    assert torch.equal(pixels(load(tree, 1, ("a",))), expected(seeds, 1))
    archive = tar_of(tree, tmp_path / "many.tgz")
    assert torch.equal(pixels(load(archive, 1, ("a",))), expected(seeds, 1))


def test_other_sizes_and_modes_become_rgb_of_the_size_asked_for(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write_image(tree / "a" / "0.png", 0, size=16)
    Image.new("L", (5, 9), 100).save(tree / "a" / "1.png")
    Image.new("RGBA", (8, 8), (10, 20, 30, 255)).save(tree / "a" / "2.png")
    images = pixels(load(tree, classes=("a",)))
    resized = Image.open(tree / "a" / "0.png").resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.array(resized))
    assert torch.equal(images[1], torch.full((3, 8, 8), 100, dtype=torch.uint8))
    assert images[2, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("archive", ["", "a.zip", "a.tar"])
def test_an_unchanged_source_is_not_decoded_again(
    tree: Path, tmp_path: Path, decoded: list[int], archive: str
) -> None:
    path = tree
    if archive:
        path = (zip_of if archive == "a.zip" else tar_of)(tree, tmp_path / archive)
    first = load(path)
    assert len(decoded) == 5
    again = load(path)
    assert len(decoded) == 5
    assert torch.equal(pixels(first), pixels(again)) and torch.equal(first.labels, again.labels)
    assert pixels(again).is_contiguous(memory_format=torch.channels_last)
    load(path, image_size=4)
    assert len(decoded) == 10


@pytest.mark.parametrize("change", ["add", "remove", "rewrite", "rename", "swap"])
def test_a_changed_folder_is_decoded_again(tree: Path, decoded: list[int], change: str) -> None:
    load(tree)
    seeds = [0, 1, 2, 3, 4]
    if change == "add":
        write_image(tree / "a" / "3.png", 9)
        seeds = [0, 1, 2, 9, 3, 4]
    elif change == "remove":
        (tree / "a" / "1.png").unlink()
        seeds = [0, 2, 3, 4]
    elif change == "rewrite":
        write_image(tree / "b" / "1.png", 9)
        seeds = [0, 1, 2, 3, 9]
    elif change == "rename":
        (tree / "a" / "0.png").rename(tree / "b" / "0a.png")
        seeds = [1, 2, 3, 0, 4]
    else:  # two images change places, with their times
        (tree / "a" / "0.png").rename(tree / "x")
        (tree / "a" / "1.png").rename(tree / "a" / "0.png")
        (tree / "x").rename(tree / "a" / "1.png")
        seeds = [1, 0, 2, 3, 4]
    decoded.clear()
    images = load(tree)
    assert len(decoded) == len(seeds)
    assert torch.equal(pixels(images), expected(seeds))


def test_labels_follow_the_classes_asked_for_and_not_the_cache(tree: Path) -> None:
    """The same folder is test/ of one training set and of another, or of another net."""
    assert load(tree, classes=("a", "b")).labels.tolist() == [0, 0, 0, 1, 1]
    assert load(tree, classes=("b", "new", "a")).labels.tolist() == [2, 2, 2, 0, 0]
    assert load(tree, classes=("a", "b")).labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("kind", ["folder", "tar", "same folder"])
def test_equal_names_sizes_and_times_are_not_the_same_images(tmp_path: Path, kind: str) -> None:
    """Such as those of BMP files that keep the time of their archive."""
    found = []
    for seed in (1, 2):
        place = tmp_path / ("tree" if kind == "same folder" else str(seed))
        image = place / "tree" / "a" / "0.bmp"
        write_image(image, seed)
        os.utime(image, (1e9, 1e9))
        source = tar_of(place / "tree", place / "a.tar") if kind == "tar" else place / "tree"
        os.utime(source, (1e9, 1e9))
        opened = open_source(source)
        tree = opened.classes_below("")
        found.append(load_images(opened, tree, ("a",), 8, tmp_path / "cache"))
    for images, seed in zip(found, (1, 2), strict=True):
        assert torch.equal(pixels(images), expected([seed]))


def test_each_fit_is_kept_for_itself(tmp_path: Path, decoded: list[int]) -> None:
    image = tmp_path / "tree" / "a" / "0.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 30, 3), np.uint8)).save(image)
    found = [pixels(load(image.parents[1], 8, ("a",), fit=fit)) for fit in get_args(Fit) * 2]
    assert len(decoded) == 3
    for i, fit in enumerate(get_args(Fit)):
        wanted = torch.from_numpy(decode(image, 8, fit)).permute(2, 0, 1)
        assert torch.equal(found[i][0], wanted) and torch.equal(found[i + 3][0], wanted)
        files = load(image.parents[1], 8, ("a",), fit=fit, memory_gib=1e-12)
        assert torch.equal(files.subset(torch.tensor([0])).images[0], wanted)


@pytest.mark.parametrize("memory_gib", [None, 1e-9])
def test_pipes_and_pixels_without_a_range_are_named(tree: Path, memory_gib: float | None) -> None:
    os.mkfifo(tree / "a" / "9.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tree / "b" / "9.tif")
    for name, words in (("a/9.png", "no regular file"), ("b/9.tif", "save it as 8 or 16 bit")):

        def read() -> None:
            images = load(tree, memory_gib=memory_gib).images
            _ = [images[i] for i in range(len(images))]

        message = refused(read)
        assert f"{tree}/{name}" in message and words in message
        (tree / name).unlink()


def test_all_images_that_cannot_be_read_are_one_line(tree: Path) -> None:
    for name in ("a/7.png", "a/8.png", "b/9.png"):
        (tree / name).write_bytes(b"no image")
    message = refused(load, tree)
    assert message.startswith(f"cannot read 3 images: {tree}/a/7.png (")
    assert f", {tree}/b/9.png (" in message and "remove them" in message


def the_cache(tree: Path) -> Path:
    (cache,) = (tree.parent / "cache").iterdir()
    return cache


def test_a_cache_with_any_bit_flipped_is_never_believed(
    tmp_path: Path, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    tree = write_tree(tmp_path / "tree", {"a": 1, "b": 2}, size=2)
    truth = load(tree, 2)
    content = the_cache(tree).read_bytes()
    draw = random.Random(0)
    for place in range(0, len(content), 2):
        damaged = bytearray(content)
        damaged[place + draw.randrange(2) if place + 1 < len(content) else place] ^= (
            1 << draw.randrange(8)
        )
        the_cache(tree).write_bytes(damaged)
        decoded.clear()
        images = load(tree, 2)
        assert torch.equal(pixels(images), pixels(truth)), place
        assert torch.equal(images.labels, truth.labels), place
        notice = capsys.readouterr().err
        # either the flip hit a byte that carries nothing (a date), or it was noticed and said so
        assert bool(decoded) == bool("damaged" in notice)
        assert notice.count("\n") <= 1


def test_a_truncated_cache_is_never_believed(
    tree: Path, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    truth = load(tree)
    content = the_cache(tree).read_bytes()
    for length in [0, 1, 100, len(content) // 2, len(content) - 23, len(content) - 1]:
        the_cache(tree).write_bytes(content[:length])
        decoded.clear()
        assert torch.equal(pixels(load(tree)), pixels(truth))
        assert len(decoded) == 5
        notice = capsys.readouterr().err
        assert str(the_cache(tree)) in notice and "decoding the images again" in notice
        assert the_cache(tree).read_bytes() == content  # mended


def test_a_cache_of_other_images_under_the_same_name_is_not_taken(tmp_path: Path) -> None:
    one = write_tree(tmp_path / "1" / "tree", {"a": 1, "b": 1})
    two = write_tree(tmp_path / "2" / "tree", {"a": 1, "b": 1}, first_seed=50)
    load(one), load(two)
    the_cache(two).write_bytes(the_cache(one).read_bytes())
    assert torch.equal(pixels(load(two)), expected([50, 51]))


def test_a_cache_that_cannot_be_written_stops_nothing(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_source(tree)
    classes = source.classes_below("")
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "file" / "cache", tmp_path / "cache"):
        data = load_images(source, classes, tuple(classes), 8, place)
        assert len(data) == sum(map(len, classes.values()))
        line = capsys.readouterr().err
        assert ("not kept in data.data_dir: cannot write" in line) == (place.parent != tmp_path)


def test_killed_while_the_cache_is_written(tree: Path, decoded: list[int]) -> None:
    def die(file, **arrays: np.ndarray) -> None:
        file.write(b"PK\3\4 half of it")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    def write_and_die() -> None:
        np.savez = die
        load(tree)

    process = multiprocessing.get_context("fork").Process(target=write_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = list((tree.parent / "cache").iterdir())
    assert [path.name.startswith(".part-") for path in left] == [True]
    assert torch.equal(pixels(load(tree)), expected([0, 1, 2, 3, 4]))
    assert len(decoded) == 5


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "link":
        path.unlink()
        path.symlink_to(path.with_name("nowhere"))
    else:
        path.write_bytes(
            {"text": b"hello", "empty": b"", "cut": content[: len(content) // 2]}[kind]
        )


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "link"])
def test_an_unreadable_image_is_named_or_skipped(
    tree: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage(tree / "a" / "1.png", kind)
    message = refused(load, tree)
    assert f"{tree}/a/1.png" in message and "data.skip_unreadable=true" in message
    assert not (tree.parent / "cache").exists()

    images = load(tree, skip_unreadable=True)
    assert torch.equal(pixels(images), expected([0, 2, 3, 4]))
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert f"{tree}/a/1.png" in capsys.readouterr().err
    cached = load(tree, skip_unreadable=True)
    assert torch.equal(pixels(cached), pixels(images))
    assert torch.equal(cached.labels, images.labels)
    refused(load, tree)  # the cache of the others is no way around it


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_unreadable_image_of_an_archive_is_named(
    tree: Path, tmp_path: Path, pack: Callable
) -> None:
    damage(tree / "b" / "0.png", "cut")
    archive = pack(tree, tmp_path / "archive")
    assert f"{archive}/b/0.png" in refused(load, archive)
    assert len(load(archive, skip_unreadable=True)) == 4


def test_a_class_of_unreadable_images_is_named(tree: Path) -> None:
    for i in range(2):
        damage(tree / "b" / f"{i}.png", "text")
    for _ in range(2):  # decoded, then cached
        message = refused(load, tree, skip_unreadable=True)
        assert "'b'" in message and str(tree) in message


def test_too_many_images_stay_files(tree: Path, tmp_path: Path, decoded: list[int]) -> None:
    images = load(tree, memory_gib=1e-9)
    assert isinstance(images.images, ImageFiles) and not decoded
    assert len(images.images) == 5
    assert torch.equal(torch.stack([images.images[i] for i in range(5)]), expected([0, 1, 2, 3, 4]))
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    part = images.subset(torch.tensor([4, 0]))
    assert isinstance(part.images, ImageFiles) and part.labels.tolist() == [1, 0]
    assert torch.equal(part.images[0], expected([4])[0])

    message = refused(load, zip_of(tree, tmp_path / "a.zip"), memory_gib=1e-9)
    assert "a.zip" in message and "unpack" in message


def test_an_unreadable_file_is_named_when_it_is_asked_for(tree: Path) -> None:
    damage(tree / "a" / "1.png", "cut")
    files = load(tree, memory_gib=1e-9).images
    assert f"{tree}/a/1.png" in refused(lambda: files[1])


def test_subset_of_a_tensor(tree: Path) -> None:
    images = load(tree)
    part = images.subset(torch.tensor([3, 0, 3]))
    assert torch.equal(pixels(part), expected([3, 0, 3]))
    assert part.labels.tolist() == [1, 0, 1]
    assert part.class_counts.tolist() == [1, 2] and images.class_counts.tolist() == [3, 2]
    assert pixels(part).is_contiguous(memory_format=torch.channels_last)
