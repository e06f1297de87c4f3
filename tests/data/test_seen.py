"""Images that are in two sets are counted, by their pixels."""

import torch

from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.seen import seen_images, seen_line


def images_of(*values: int) -> ImageSet:
    """One image for each number; equal numbers are equal images, of other labels."""
    images = torch.stack([torch.full((3, 4, 4), value, dtype=torch.uint8) for value in values])
    return ImageSet(images, torch.arange(len(values)), ("a",) * len(values))


def test_nothing_is_said_of_sets_apart() -> None:
    sets = images_of(1, 2, 2), images_of(3), images_of(4, 4)
    assert seen_images(*sets) == {"val": 0, "test": 0}
    assert seen_line(seen_images(*sets), *sets[1:]) is None


def test_each_image_is_counted_once() -> None:
    sets = images_of(1, 2, 2, 3), images_of(2, 9), images_of(9, 1, 2, 2, 7)
    assert seen_images(*sets) == {"val": 1, "test": 4}
    line = seen_line(seen_images(*sets), *sets[1:])
    assert line is not None and "\n" not in line
    assert "1 of 2 validation images are training images" in line
    assert "4 of 5 test images are training or validation images" in line


def test_one_other_pixel_is_another_image_and_memory_layout_is_none() -> None:
    train, test = images_of(1, 2), images_of(1, 2)
    test.images[0, 2, 3, 3] += 1
    last = ImageSet(test.images.contiguous(memory_format=torch.channels_last), test.labels, ("a",))
    for other in (test, last):
        assert seen_images(train, images_of(8), other) == {"val": 0, "test": 1}


def test_files_are_not_looked_at() -> None:
    files = ImageSet(ImageFiles((), 4), torch.zeros(0, dtype=torch.int64), ("a",))
    for sets in ([files, files, images_of(1)], [images_of(1), images_of(1), files]):
        assert seen_images(*sets) == {}, "not looked for is not none"
        line = seen_line({}, *sets[1:])
        assert line is not None and line.startswith("too many images to look")
