"""Images per second of the data path, against ImageFolder and two workers, in one run.

    python tools/data_path.py             # every policy below
    python tools/data_path.py trivial     # one or some of them

Both deliver normalised float32 batches of the same JPEG images, augmented by the same policy:
torchvision's transforms image by image in the workers, leanvit's a batch at a time on its device.
All are measured in turn; the ratio of their medians is what counts, not either figure. It wants
cores that nothing else uses: threads that wait for one another lose more than processes do.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from leanvit.augment.course import Course
from leanvit.augment.light import Light
from leanvit.augment.normalise import channel_statistics, normalise
from leanvit.augment.strong import Strong
from leanvit.augment.trivial import Trivial
from leanvit.contracts import Augment
from leanvit.data.decode import load_images
from leanvit.data.images import ImageSet
from leanvit.data.listing import open_source
from leanvit.data.loader import ResidentLoader
from leanvit.data.shapes import shapes
from leanvit.memory import keep_freed_memory
from leanvit.samplers.shuffle import Shuffle

BATCH_SIZE = 256
NUM_IMAGES = 4000
ROUNDS = 4

CROP_FLIP = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
TO_FLOAT = [
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.5] * 3, [0.25] * 3),
]
# What course code does with one image, and leanvit with a batch.
POLICIES: dict[str, tuple[list, type[Augment]]] = {
    "light": ([*CROP_FLIP, *TO_FLOAT], Light),
    "course": (
        [
            v2.RandomResizedCrop(32, scale=(0.8, 1.0), ratio=(0.9, 1.1)),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=9),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            *TO_FLOAT,
        ],
        Course,
    ),
    "trivial": ([*CROP_FLIP, v2.TrivialAugmentWide(), *TO_FLOAT], Trivial),
    "strong": ([*CROP_FLIP, v2.TrivialAugmentWide(), *TO_FLOAT, v2.RandomErasing()], Strong),
}


def main(chosen: list[str]) -> None:
    """Print both rates and their ratio for each policy."""
    unknown = [name for name in chosen if name not in POLICIES]
    if unknown:
        sys.exit(f"no policy {unknown[0]} to measure: choose of {', '.join(POLICIES)}")
    keep_freed_memory()  # as a training does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), chosen or list(POLICIES), device)
    print(f"{NUM_IMAGES:,} drawn JPEG images of 32x32 to augmented, normalised float32 batches")
    print("images/s, median (least to most)")
    print(f"{'policy':10s}{'ImageFolder, 2 workers':>28s}{f'leanvit on {device}':>34s}  ratio")
    for name, (usual, resident) in rates.items():
        ratio = statistics.median(resident) / statistics.median(usual)
        print(f"{name:10s}{spread(usual):>28s}{spread(resident):>34s}{ratio:>7.0f}")
    print("(of the data path alone, not of a training)")


def spread(rates: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def measure(
    folder: Path, names: list[str], device: torch.device
) -> dict[str, tuple[list[float], list[float]]]:
    """The usual rates and the resident ones of each policy, one for each round."""
    write_images(folder / "train")
    source = open_source(folder)
    tree = source.classes_below("train")
    data = load_images(source, tree, tuple(tree), 32, folder / "cache")
    paths = {
        name: (usual_path(folder / "train", name), Resident(data, name, device)) for name in names
    }
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    # the first round is not counted: workers start, memory is touched
    for number in track(range(ROUNDS + 1), "measuring", disable=not sys.stderr.isatty()):
        for name, (usual, resident) in paths.items():
            both = (rate(usual, epochs=1), rate(resident, epochs=1 if number == 0 else 15))
            if number > 0:
                rates[name][0].append(both[0])
                rates[name][1].append(both[1])
    return rates


def write_images(folder: Path) -> None:
    """The built-in shapes as JPEG files, <folder>/<class>/<number>.jpg."""
    train = shapes(num_train=NUM_IMAGES, num_test=100).train
    assert isinstance(train.images, torch.Tensor)
    for i, (image, label) in enumerate(zip(train.images, train.labels.tolist(), strict=True)):
        path = folder / train.classes[label] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=90)


def usual_path(folder: Path, policy: str) -> DataLoader:
    """What course code does: decode and augment each image in a worker process, every epoch."""
    return DataLoader(
        ImageFolder(str(folder), v2.Compose(POLICIES[policy][0])),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,  # their start is not counted
    )


class Resident:
    """The same images, decoded once; batches are gathered, augmented and normalised."""

    def __init__(self, data: ImageSet, policy: str, device: torch.device) -> None:
        assert isinstance(data.images, torch.Tensor)
        self.mean, self.std = (each.to(device) for each in channel_statistics(data.images))
        sampler, augment = Shuffle(data.labels), POLICIES[policy][1]()
        self.loader = ResidentLoader(data, sampler, augment, BATCH_SIZE, device)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield normalise(images, self.mean, self.std), labels


def rate(batches: DataLoader | Resident, epochs: int) -> float:
    """Images per second over some epochs."""
    num_images = 0
    start = time.perf_counter()
    for _ in range(epochs):
        for images, _ in batches:
            num_images += len(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return num_images / (time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
