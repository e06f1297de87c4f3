"""Every sampler of conf/: its draws from seed and epoch, shared out among ranks."""

import math
import os
import socket
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from parts import check_refused, choices
from torch import Tensor, nn

from leanvit.augment.none import NoAugment, NoMix
from leanvit.contracts import Order
from leanvit.data.images import ImageSet, Splits
from leanvit.losses.ce import CrossEntropy
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit

COUNTS = {
    "odd": [60, 30, 11, 2],
    "with an empty class": [60, 0, 31, 10],
    "one class": [7],
    "more classes than images of one": [1, 2, 1, 1, 2],
}
NUM_EPOCHS, BATCH_SIZE, RATE = 2, 5, 0.1
LABELS = torch.arange(3).repeat_interleave(torch.tensor([14, 7, 4]))  # an odd number, too
PIXELS = torch.randint(0, 256, (25, 3, 2, 2), generator=torch.Generator().manual_seed(0)).byte()


def build(name: str, labels: Tensor, **options: int) -> Order:
    config = OmegaConf.create({"max_epochs": NUM_EPOCHS, "sampler": choices("sampler")[name]})
    return instantiate(config.sampler)(labels=labels, **options)


@pytest.mark.parametrize("name", choices("sampler"))
def test_an_epoch_is_the_same_whichever_came_before_and_differs_from_others(name: str) -> None:
    orders: dict[tuple[int, int], Tensor] = {}
    for seed in range(3):
        sampler = build(name, torch.arange(100) // 40, seed=seed)
        for epoch in (2, 0, 1, 2, 0):
            sampler.set_epoch(epoch)
            order = sampler.indices()
            assert torch.equal(order, orders.setdefault((seed, epoch), order))
    assert len({tuple(order.tolist()) for order in orders.values()}) == 9


WRONG = {
    "effective_number": {"beta": [-0.1, 1.0, 1.5, math.nan]},
    "progressive": {"num_epochs": [0, -3, 1.5]},
    "repeat_factor": {"threshold": [0.0, -1.0, math.inf, math.nan]},
}


@pytest.mark.parametrize("name", choices("sampler"))
def test_values_outside_their_range(name: str) -> None:
    check_refused("sampler", name, WRONG.get(name, {}))


@pytest.mark.parametrize("name", choices("sampler"))
def test_shards_interleave_to_the_order_of_one_rank(name: str) -> None:
    for case, counts in COUNTS.items():
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
        whole = build(name, labels, seed=5)
        for num_ranks in (2, 3):
            place = {"seed": 5, "num_ranks": num_ranks}
            ranks = [build(name, labels, rank=rank, **place) for rank in range(num_ranks)]
            for epoch in (0, 1, 5):
                for sampler in (whole, *ranks):
                    sampler.set_epoch(epoch)
                order, shards = whole.indices(), [sampler.indices() for sampler in ranks]
                about = (case, num_ranks, epoch)
                assert order.min() >= 0 and order.max() < len(labels), about
                assert order.dtype == torch.int64, about
                assert len(order) == len(whole), about
                length = len(whole) // num_ranks  # at most num_ranks - 1 are left out
                assert [len(shard) for shard in shards] == [length] * num_ranks, about
                assert [len(sampler) for sampler in ranks] == [length] * num_ranks, about
                kept = order[: num_ranks * length]
                assert torch.equal(torch.stack(shards, 1).flatten(), kept), about
                assert torch.equal(ranks[0].indices(), shards[0]), about  # asking changes nothing


def initial_net() -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return net


def train(rank: int, port: int, folder: Path) -> None:
    """What a process of the training does; leaves the weights it ended with."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    os.environ.update(rendezvous)
    torch.set_num_threads(1)  # OpenMP's threads do not come along into a forked process
    images = ImageSet(PIXELS, LABELS, ("a", "b", "c"))
    for name in choices("sampler"):
        data = ImageDataModule(
            Splits(images, images, images, "noise"),
            partial(build, name),
            NoAugment(),
            batch_size=BATCH_SIZE,
            seed=3,
        )
        classifier = Classifier(
            initial_net(),
            CrossEntropy(),
            NoMix(),
            partial(torch.optim.SGD, lr=RATE),
            partial(Cosine, warmup_fraction=0.2),
            torch.zeros(3),
            torch.ones(3),
            images.classes,
        )
        place = folder / name
        ddp = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "32-true"}
        fit(classifier, data, place, max_epochs=NUM_EPOCHS, **ddp)
        torch.save(classifier.net.state_dict(), place / f"{rank}.pt")


def train_in_one_process(name: str) -> dict[str, Tensor]:
    """The same by a plain loop, over batches that hold those of both ranks."""
    net, sampler = initial_net(), build(name, LABELS, seed=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    per_epoch = len(sampler) // 2 // BATCH_SIZE
    scheduler = Cosine(optimizer, NUM_EPOCHS * per_epoch, warmup_fraction=0.2)
    for epoch in range(NUM_EPOCHS):
        sampler.set_epoch(epoch)
        order = sampler.indices()
        for both in order.split(2 * BATCH_SIZE)[:per_epoch]:
            loss = nn.functional.cross_entropy(net(PIXELS[both] / 255), LABELS[both])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return net.state_dict()


def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [  # forked: no import is done again
        get_context("fork").Process(target=train, args=(rank, port, tmp_path)) for rank in (0, 1)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    for name in choices("sampler"):
        expected = train_in_one_process(name)
        for rank in (0, 1):
            found = torch.load(tmp_path / name / f"{rank}.pt")
            for key in expected:
                torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-6)
