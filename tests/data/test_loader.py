"""Both loaders give the same batches, in the sampler's order, reproducibly."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from image_trees import refused, write_tree
from torch import Tensor

from leanvit.augment.light import Light
from leanvit.augment.none import NoAugment
from leanvit.augment.trivial import Trivial
from leanvit.data.decode import load_images
from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.listing import open_source
from leanvit.data.loader import (
    InOrder,
    ResidentLoader,
    WorkerLoader,
    batches_at_once,
    make_loader,
    num_batches,
)
from leanvit.samplers.balanced import Balanced
from leanvit.samplers.shuffle import Shuffle

CPU = torch.device("cpu")
Batches = list[tuple[Tensor, Tensor]]


def noise(n: int = 23) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % 3, ("a", "b", "c"))


def same(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_batches_in_order_are_the_images() -> None:
    data = noise()
    batches = list(ResidentLoader(data, InOrder(23), NoAugment(), 5, CPU))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat([images for images, _ in batches]), data.images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)


@pytest.mark.parametrize(("num_workers", "at_once"), [(0, 1), (1, 2), (0, 3), (0, 5)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_resident_and_worker_loader_are_identical(
    num_workers: int, at_once: int, drop_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanvit.data.loader.CHUNK_PIXELS", at_once * 5 * 8 * 8)
    data = noise()
    shuffle = Shuffle(data.labels, seed=4)
    orders = {NoAugment: InOrder(23), Light: shuffle, Trivial: shuffle}
    for augment, sampler in orders.items():
        options = {"seed": 4, "rank": 1, "drop_last": drop_last}
        resident = ResidentLoader(data, sampler, augment(), 5, CPU, **options)
        worker = WorkerLoader(data, sampler, augment(), 5, CPU, num_workers=num_workers, **options)
        assert len(resident) == len(worker) == (4 if drop_last else 5)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            batches = list(resident)
            assert len(batches) == len(resident)
            assert same(batches, list(worker))
            assert batches[0][0].dtype == torch.uint8 and batches[0][1].dtype == torch.int64


def test_train_batches_are_slices_of_the_padded_images() -> None:
    data, padding = noise(), 2
    sampler = Balanced(data.labels, seed=1)
    padded = torch.zeros(23, 3, 12, 12, dtype=torch.uint8)
    padded[:, :, 2:-2, 2:-2] = data.images
    order = iter(sampler.indices().tolist())
    for images, labels in ResidentLoader(data, sampler, Light(padding), 5, CPU, seed=1):
        for image, label in zip(images, labels, strict=True):
            i = next(order)
            assert label == data.labels[i]
            slices = [padded[i, :, t : t + 8, x : x + 8] for t in range(5) for x in range(5)]
            assert any(torch.equal(image, s) or torch.equal(image, s.flip(-1)) for s in slices)
    assert next(order, None) is None


def test_an_epoch_is_reproducible_and_unlike_another() -> None:
    data = noise()

    def batches(seed: int, epoch: int, rank: int = 0) -> Batches:
        sampler = Shuffle(data.labels, seed=0)  # the same order: augmentation alone must differ
        batches = ResidentLoader(data, sampler, Light(), 8, CPU, seed=seed, rank=rank)
        sampler.epoch = epoch
        return list(batches)

    assert same(batches(5, 2), batches(5, 2))
    for other in (batches(5, 3), batches(6, 2), batches(5, 2, rank=1)):
        assert not same(batches(5, 2), other)
    torch.manual_seed(0)
    first = batches(5, 2)
    torch.manual_seed(1)
    assert same(first, batches(5, 2))  # nothing comes from the global generator


def test_ranks_share_an_epoch() -> None:
    data = noise(23)
    data = ImageSet(data.images, torch.arange(23), tuple(map(str, range(23))))
    seen = []
    for rank in range(2):
        sampler = Shuffle(data.labels, seed=0, rank=rank, num_ranks=2)
        loader = ResidentLoader(data, sampler, NoAugment(), 4, CPU, rank=rank)
        seen.append(torch.cat([labels for _, labels in loader]).tolist())
        assert len(loader) == 3
    assert len(seen[0]) == len(seen[1]) == 11
    assert len({*seen[0], *seen[1]}) == 22


@pytest.mark.parametrize("kind", [ResidentLoader, WorkerLoader])
def test_a_set_smaller_than_a_batch_is_one_batch(kind: type) -> None:
    data = noise(3)
    options = {"num_workers": 0} if kind is WorkerLoader else {}
    batches = kind(data, Shuffle(data.labels), NoAugment(), 5, CPU, drop_last=True, **options)
    assert len(batches) == 1 and [len(labels) for _, labels in batches] == [3]


def test_small_batches_are_augmented_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise()
    files = ImageFiles(tuple(map(Path, map(str, range(23)))), 8)
    for pixels, expected in [(1, 1), (5 * 64, 1), (15 * 64 - 1, 2), (15 * 64, 3), (2**20, 3276)]:
        monkeypatch.setattr("leanvit.data.loader.CHUNK_PIXELS", pixels)
        assert batches_at_once(data, 5) == expected
        assert batches_at_once(ImageSet(files, data.labels, data.classes), 5) == expected

    class Recorded(NoAugment):
        sizes: ClassVar[list[int]] = []

        def __call__(self, prepared: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
            self.sizes.append(len(index))
            return super().__call__(prepared, index, generator)

    monkeypatch.setattr("leanvit.data.loader.CHUNK_PIXELS", 15 * 64)
    resident = ResidentLoader(data, InOrder(23), Recorded(), 5, CPU)
    worker = WorkerLoader(data, InOrder(23), Recorded(), 5, CPU, num_workers=0)
    assert same(list(resident), list(worker))
    assert Recorded.sizes == [15, 8, 15, 8]
    assert [len(labels) for _, labels in resident] == [5, 5, 5, 5, 3]


def test_num_batches() -> None:
    for n, size, drop, expected in [(10, 5, True, 2), (11, 5, True, 2), (11, 5, False, 3)]:
        assert num_batches(n, size, drop) == expected
    assert num_batches(4, 5, True) == num_batches(5, 5, False) == 1


def test_images_are_not_modified() -> None:
    data = noise()
    assert isinstance(data.images, Tensor)
    before = data.images.clone()
    for augment in (NoAugment(), Light(), Light(padding=0, flip=1.0)):
        list(ResidentLoader(data, Shuffle(data.labels), augment, 8, CPU))
    assert torch.equal(data.images, before)


def test_what_does_not_fit_is_loaded_by_workers(capsys: pytest.CaptureFixture[str]) -> None:
    data = noise()
    fits = make_loader(data, InOrder(23), NoAugment(), 5, CPU, memory_gib=1.0)
    assert isinstance(fits, ResidentLoader) and capsys.readouterr().err == ""
    assert isinstance(make_loader(data, InOrder(23), NoAugment(), 5, CPU), ResidentLoader)
    large = make_loader(data, InOrder(23), NoAugment(), 5, CPU, memory_gib=1e-9, num_workers=0)
    assert isinstance(large, WorkerLoader)
    notice = capsys.readouterr().err
    assert "each batch" in notice and notice.count("\n") == 1
    assert same(list(fits), list(large))


def test_files_are_loaded_by_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = open_source(write_tree(tmp_path / "tree", {"a": 4, "b": 3}))
    tree = source.classes_below("")

    def load(memory_gib: float) -> ImageSet:
        return load_images(source, tree, ("a", "b"), 8, tmp_path / "cache", memory_gib=memory_gib)

    sampler = Shuffle(torch.zeros(7, dtype=torch.int64), seed=2)
    options = {"seed": 2, "num_workers": 1}
    from_files = make_loader(load(1e-9), sampler, Light(), 3, CPU, memory_gib=1.0, **options)
    assert isinstance(from_files, WorkerLoader)
    assert "worker" in capsys.readouterr().err
    resident = ResidentLoader(load(1.0), sampler, Light(), 3, CPU, seed=2)
    assert same(list(resident), list(from_files))

    (tmp_path / "tree" / "b" / "1.png").write_bytes(b"no image")
    message = refused(lambda: list(from_files))
    assert "b/1.png" in message and message.startswith("cannot read image")


def test_too_little_shared_memory_for_workers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, place = noise(), (InOrder(23), NoAugment(), 5, CPU, 1e-9)
    # two workers prepare four batches, and a pass of the augmentation takes 3,276 at once
    needed = 2 * (4 + 3276) * 5 * 3 * 8 * 8
    for free, num_workers in ((needed, 2), (needed - 1, 0)):
        monkeypatch.setattr(
            "leanvit.data.loader.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free)
        )
        monkeypatch.setattr("leanvit.data.loader.SHARED", tmp_path)
        loader = make_loader(data, *place, num_workers=2)
        assert isinstance(loader, WorkerLoader) and loader.batches.num_workers == num_workers
        assert ("too small" in capsys.readouterr().err) == (num_workers == 0)
    assert len(list(loader)) == 5


def test_worker_loader_takes_no_draw_of_the_training() -> None:
    data = ImageSet(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.arange(8) % 2, ("cat", "dog"))
    device = torch.device("cpu")
    loader = WorkerLoader(data, InOrder(8), NoAugment(), 4, device, num_workers=0)
    before = torch.get_rng_state()
    assert len(list(loader)) == 2
    assert torch.equal(torch.get_rng_state(), before)
