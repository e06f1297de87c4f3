"""Small trees of images, archives of them, and the one line that a bad one is refused by."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leanvit.errors import LeanvitError


def pixels_of(seed: int, size: int = 8) -> np.ndarray:
    """The pixels (size, size, 3) that :func:`write_image` writes for this seed."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_image(path: Path, seed: int, size: int = 8) -> None:
    """A noise image; PNG keeps its pixels exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_of(seed, size)).save(path)


def write_tree(root: Path, counts: dict[str, int], size: int = 8, first_seed: int = 0) -> Path:
    """``root/<class>/<number>.png``; the seeds count on from class to class."""
    seed = first_seed
    for label, count in counts.items():
        for i in range(count):
            write_image(root / label / f"{i}.png", seed, size)
            seed += 1
    return root


def write_course(root: Path, names: tuple[str, ...], suffix: str = "") -> Path:
    """Course folders with two training images and one test image per class."""
    write_tree(root / f"CIFAR10_imbalance{suffix}", dict.fromkeys(names, 2))
    write_tree(root / f"CIFAR10_balance{suffix}", dict.fromkeys(names, 1), first_seed=100)
    return root


def zip_of(folder: Path, path: Path) -> Path:
    """A zip of what ``folder`` holds, the folder's own name left out."""
    with zipfile.ZipFile(path, "w") as archive:
        for entry in sorted(folder.rglob("*")):
            archive.write(entry, entry.relative_to(folder).as_posix())
    return path


def tar_of(folder: Path, path: Path) -> Path:
    """A tar of what ``folder`` holds, in reverse order; compressed as the name says."""
    compression = {".tgz": "gz", ".gz": "gz", ".xz": "xz", ".bz2": "bz2"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as archive:
        for entry in sorted(folder.rglob("*"), reverse=True):
            name = f"./{entry.relative_to(folder).as_posix()}"
            archive.add(entry, name, recursive=False)
        archive.add(folder, ".", recursive=False)  # as tar -C folder -c . does
    return path


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The message of the LeanvitError that the call must raise: one line."""
    with pytest.raises(LeanvitError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
