"""Images per second of the data path, against ImageFolder and two workers, in one run.

    python src/bench.py

Both deliver normalised float32 batches of the same JPEG images with padded random crop and flip.
The two are measured in turn; the ratio of their medians is what counts, not either figure.
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

from leanvit.augment.light import Light
from leanvit.augment.normalise import channel_statistics, normalise
from leanvit.data.decode import load_images
from leanvit.data.loader import ResidentLoader
from leanvit.data.shapes import shapes
from leanvit.data.source import open_source
from leanvit.memory import keep_freed_memory
from leanvit.samplers.shuffle import Shuffle

BATCH_SIZE = 256
ROUNDS = 5


def main() -> None:
    """Print both rates and their ratio."""
    keep_freed_memory()  # as a training does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "train")
        usual = usual_path(Path(folder) / "train")
        resident = Resident(Path(folder), device)
        rates: dict[str, list[float]] = {"usual": [], "resident": []}
        for _ in track(range(ROUNDS), "measuring", disable=not sys.stderr.isatty()):
            rates["usual"].append(rate(usual, epochs=1))
            rates["resident"].append(rate(resident, epochs=20))
    print("8,000 drawn JPEG images of 32x32 to augmented (crop, flip), normalised float32 batches")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, label in (("usual", "ImageFolder, 2 workers"), ("resident", f"leanvit on {device}")):
        low, high = min(rates[name]), max(rates[name])
        print(f"{label:24s}{medians[name]:>10,.0f} images/s  ({low:,.0f} to {high:,.0f})")
    ratio = medians["resident"] / medians["usual"]
    print(f"ratio of the medians: {ratio:.0f} (of the data path alone, not of a training)")


def write_images(folder: Path) -> None:
    """The built-in shapes as JPEG files, <folder>/<class>/<number>.jpg."""
    train = shapes(num_train=8000, num_test=100).train
    assert isinstance(train.images, torch.Tensor)
    for i, (image, label) in enumerate(zip(train.images, train.labels.tolist(), strict=True)):
        path = folder / train.classes[label] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=90)


def usual_path(folder: Path) -> DataLoader:
    """What course code does: decode and augment each image in a worker process, every epoch."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    return DataLoader(
        ImageFolder(str(folder), transform),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,  # their start is not counted
    )


class Resident:
    """The same images, decoded once; batches are gathered, augmented and normalised."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        source = open_source(folder)
        tree = source.classes_below("train")
        data = load_images(source, tree, tuple(tree), 32, folder / "cache")
        assert isinstance(data.images, torch.Tensor)
        self.mean, self.std = (each.to(device) for each in channel_statistics(data.images))
        sampler = Shuffle(data.labels)
        self.loader = ResidentLoader(data, sampler, Light(), BATCH_SIZE, device)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield normalise(images, self.mean, self.std), labels


def rate(batches: DataLoader | Resident, epochs: int) -> float:
    """Images per second over some epochs."""
    next(iter(batches))  # not counted: workers start, memory is touched
    num_images = 0
    start = time.perf_counter()
    for _ in range(epochs):
        for images, _ in batches:
            num_images += len(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return num_images / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
