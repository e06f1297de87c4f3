"""Images per second of training: leanvit against a plain loop of the same nets, in one run.

    python tools/against_plain.py                        # coatnet_v0.4 vit_v1.1 swin_v0.1
    python tools/against_plain.py swin_v0.4 data.source=cifar10_course.zip workers=2

The plain loop is what published course code does: ImageFolder over JPEG files, transforms image by
image, batches of 64, the literal formula of attention, float32, AdamW, and a look at the loss after
every step. leanvit's side is a training as src/train.py does it, without mixing. Each has a process
and one CPU thread (``workers=2`` gives the plain loop two more), and they take turns: the ratio of
the medians is what counts, not either figure. It wants cores that nothing else uses, and three
minutes on one of them. Without ``data.source=`` the images are drawn.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from data_path import write_images
from step import EnoughError, composed, train
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from leanvit.app.command import spoken
from leanvit.app.nets import build_net, changed
from leanvit.data.layout import TRAIN_FOLDER
from leanvit.data.listing import open_source

EXPERIMENTS = ["coatnet_v0.4", "vit_v1.1", "swin_v0.1"]
PLAIN_BATCH = 64
ROUNDS = 5
TURN = 2.0  # seconds; a turn is as many whole steps as last so long at least
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # as course code has them


def main(arguments: list[str]) -> None:
    """Print both rates and their ratio for each net."""
    given = dict(each.split("=", 1) for each in arguments if "=" in each)
    names = [each for each in arguments if "=" not in each] or EXPERIMENTS
    source, workers = given.pop("data.source", None), int(given.pop("workers", 0))
    if given:
        sys.exit(f"no {next(iter(given))}= here: data.source=, workers= and names of experiments")
    data = [f"data.source={source}"] if source else ["data=shapes", "data.num_train=20000"]
    usual = ["optimizer=adamw", "batch_size=128", "augment=light", "mix=none", "trainer=cpu", *data]
    asked = {name: [f"experiment={name}", *usual] for name in names}
    for choices in asked.values():
        composed(*choices)  # a name that is none is told at once
    with tempfile.TemporaryDirectory() as folder:
        if source:
            unpack(Path(source), Path(folder))
        else:
            write_images(Path(folder))
        print("images/s of training, median (least to most), one CPU thread each")
        print(f"{'experiment':16s}{f'plain, {workers} workers':>28s}{'leanvit':>28s}   ratio")
        for name, choices in asked.items():
            plain, ours = measure(choices, folder, workers)
            ratio = statistics.median(ours) / statistics.median(plain)
            print(f"{name:16s}{spread(plain):>28s}{spread(ours):>28s}{ratio:8.2f}", flush=True)


def spread(rates: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(rates):,.1f} ({min(rates):,.1f} to {max(rates):,.1f})"


def unpack(source: Path, folder: Path) -> None:
    """The training images of the course, as they are, to <folder>/<class>/<image>."""
    found = open_source(source)
    for name in found.files:
        if TRAIN_FOLDER in name:
            path = folder / Path(*Path(name).parts[-2:])
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(found.read(name))


def measure(choices: list[str], folder: str, workers: int) -> tuple[list[float], list[float]]:
    """The rates of both sides, one for each round."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started here
    sides = [start(plain_loop, choices, folder, workers), start(leanvit_training, choices)]
    rates: tuple[list[float], list[float]] = ([], [])
    try:
        # the first round is not counted: processes start, memory is touched
        for number in range(ROUNDS + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                rate = take_turn(*sides[side])
                if number > 0:
                    rates[side].append(rate)
    finally:
        for process, pipe in sides:
            pipe.close()  # which ends it: Lightning would answer a signal after the step
            process.join()
    return rates


def take_turn(process: Any, pipe: Connection) -> float:
    """Images/s while the other side waits."""
    try:
        pipe.send("your turn")
        return pipe.recv()
    except (EOFError, OSError):
        sys.exit(f"{process.name} ended before its turns did")


def start(side: Any, *arguments: Any) -> tuple[Any, Connection]:
    """A process of its own, so that nothing that one sets is set for the other."""
    here, there = multiprocessing.Pipe()
    new = multiprocessing.get_context("spawn")
    # one that has workers may be no daemon
    process = new.Process(target=side, args=(Turns(there), *arguments), name=side.__name__)
    process.start()
    there.close()
    return process, here


class Turns:
    """Counts images from one word of the other end to the next."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.num_images, self.since = pipe, 0, 0.0

    def after_step(self, num_images: int) -> None:
        """Tell the rate where a turn has lasted long enough, and wait for the next one.

        Raises:
            EnoughError: there is none.
        """
        self.num_images += num_images
        seconds = time.perf_counter() - self.since
        if self.since and seconds < TURN:
            return
        if self.since:
            self.pipe.send(self.num_images / seconds)
        try:
            self.pipe.recv()
        except EOFError:
            raise EnoughError from None
        self.num_images, self.since = 0, time.perf_counter()


def leanvit_training(turns: Turns, choices: list[str]) -> None:
    config = composed(*choices)
    train(config, lambda: turns.after_step(config.batch_size))


def plain_loop(turns: Turns, choices: list[str], folder: str, workers: int) -> None:
    config = composed(*choices)
    loader = plain_loader(folder, workers)
    if "attention" in config.model:
        config = changed(config, {"model.attention": "math"})  # softmax(q k^T) v, written out
    net = build_net(config, num_classes=10).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    with suppress(EnoughError):
        for images, labels in endless(loader):
            optimizer.zero_grad()
            loss = cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
            turns.after_step(len(labels))


def plain_loader(folder: str, workers: int) -> DataLoader:
    each_image = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(
        ImageFolder(folder, each_image), batch_size=PLAIN_BATCH, shuffle=True, num_workers=workers
    )


def endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    spoken(lambda: main(sys.argv[1:]))
