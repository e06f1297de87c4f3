"""Images without labels: which are found, and how many of them are decoded at once."""

from pathlib import Path

import pytest
import torch
from image_trees import pixels_of, refused, write_image
from torch import Tensor

from leanvit.data.images import ImageFiles, in_batches
from leanvit.data.unlabelled import find_images
from leanvit.errors import LeanvitError


def test_no_more_than_two_batches_are_decoded_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(10):
        write_image(tmp_path / f"{place}.png", seed=place)
    (tmp_path / "4.png").write_bytes(b"")
    paths, asked = tuple(sorted(tmp_path.iterdir())), []
    decode = ImageFiles.__getitem__
    monkeypatch.setattr(
        ImageFiles, "__getitem__", lambda self, i: asked.append(i) or decode(self, i)
    )
    found: list[Tensor | LeanvitError] = []
    for batch in in_batches(ImageFiles(paths, 8), 3):
        found += batch
        assert max(asked) < len(found) + 3
    assert sorted(asked) == list(range(10)) == list(range(len(found)))
    for place, each in enumerate(found):
        if place == 4:
            assert isinstance(each, LeanvitError) and str(paths[4]) in str(each)
        else:
            assert isinstance(each, Tensor)
            assert torch.equal(each.permute(1, 2, 0), torch.from_numpy(pixels_of(place)))


@pytest.mark.parametrize("num", [0, 1, 2, 3, 4])
def test_every_batch_is_full_but_the_last(num: int, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", seed=0)
    batches = list(in_batches(ImageFiles((tmp_path / "a.png",) * num, 8), 2))
    assert [len(batch) for batch in batches if batch] == [2] * (num // 2) + [1] * (num % 2)


def test_each_file_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("b/1.png", "b/.hidden/2.png", "a.png"):
        write_image(tmp_path / name, seed=0)
    (tmp_path / "b" / "round").symlink_to(tmp_path / "b")
    for name in ("notes.txt", "more.txt"):
        (tmp_path / "b" / name).touch()
    images, others = find_images(["b", "a.png", "b/n*", "b"])
    assert list(map(str, images)) == ["b/1.png", "a.png", "b/notes.txt"]
    assert list(map(str, others)) == ["b/more.txt"]
    assert find_images(["~/a.png"])[0] == [tmp_path / "a.png"]
    assert "b/*.gif" in refused(find_images, ["a.png", "b/*.gif"])
