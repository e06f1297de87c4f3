"""A training by GLMC against a literal loop of the paper; its limits, its cost, and its weights."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import GROUPS
from image_trees import refused
from nets import vit
from test_contracts import net_of
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn.functional import cosine_similarity, one_hot

from leanvit.augment.glmc import GLMC
from leanvit.augment.none import NoAugment, NoMix
from leanvit.augment.normalise import normalise
from leanvit.classifiers.linear import last_linear
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import with_validation
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.losses.ce import CrossEntropy
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.optimizers.sgd import sgd
from leanvit.samplers.shuffle import Shuffle
from leanvit.seeds import derive_seed
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training, fit
from leanvit.training.flops import training_flops
from leanvit.training.triangular import Triangular
from leanvit.weights import read_checkpoint

EPOCHS, BATCH_SIZE = 3, 16
IMAGES = torch.randint(256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(4).repeat_interleave(torch.tensor([40, 12, 8, 4]))


def data() -> ImageDataModule:
    everything = ImageSet(IMAGES, LABELS, tuple("abcd"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    return ImageDataModule(splits, Shuffle, NoAugment(), BATCH_SIZE)


COUNTS = data().train.class_counts


def batches(epoch: int) -> list[Tensor]:
    order = Shuffle(data().train.labels, seed=0, rank=0, num_ranks=1)
    order.set_epoch(epoch)
    assert len(order) % BATCH_SIZE == 0
    return list(order.indices().split(BATCH_SIZE))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Tanh())
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def module_of(mix: Any, net: Any = None, kind: type = Classifier, **options: Any) -> Classifier:
    late = ClassBalanced(COUNTS, beta=1 - 1e-9)  # inverse frequencies
    mean, std = data().statistics()
    given = {"late_loss": late, "gradual": True, "gradient_clip": 0.5, "weight_decay": 0.1}
    return kind(
        net or Net(), CrossEntropy(), mix, partial(sgd, lr=0.05), Triangular, mean, std,
        tuple("abcd"), **{**given, **options},
    )  # fmt: skip


def train(run_dir: Path, *given: Any, **options: Any) -> tuple[dict[str, Tensor], Training]:
    module = module_of(*given, **options)
    told = fit(module, data(), run_dir, EPOCHS, accelerator="cpu", precision="32-true")
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"], told


def mixed(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Both views, the draws in the order in which mix=mixup and mix=cutmix make them."""
    alpha, num = torch.ones(len(images)), len(images)
    targets, partner = one_hot(labels, 4).float(), range(num)[::-1]
    torch.rand(())
    shares = Beta(alpha, alpha).sample()
    torch.rand(())
    boxes = Beta(alpha, alpha).sample()
    middles = (torch.rand(2, num) * 16).floor()
    views: list[list[tuple[Tensor, Tensor]]] = [[], []]
    for i, j in enumerate(partner):
        share = shares[i]
        both = images[i] * share + images[j] * (1 - share)
        views[0].append((both, targets[i] * share + targets[j] * (1 - share)))
        side = int((16 * (1 - boxes[i]).sqrt()).floor())
        top, left = (int(middle[i]) - side // 2 for middle in middles)
        pasted = images[i].clone()
        rows, columns = (slice(max(0, low), max(0, low + side)) for low in (top, left))
        pasted[:, rows, columns] = images[j][:, rows, columns]
        area = pasted[0, rows, columns].numel() / 256
        views[1].append((pasted, targets[i] * (1 - area) + targets[j] * area))
    return [
        (torch.stack(x), torch.stack(p)) for x, p in (zip(*each, strict=True) for each in views)
    ]


def test_a_literal_loop_of_the_paper_goes_the_same_way(tmp_path: Path) -> None:
    mix = GLMC(4, weight=2.0, dim=8)
    module = module_of(mix)
    net, beside = copy.deepcopy(module.net), copy.deepcopy(module.beside)
    found, _ = train(tmp_path, mix)
    images, parts = data(), [*net.parameters(), *beside.parameters()]
    groups = [{"params": [each for each in parts if each.ndim == 1], "weight_decay": 0.0},
              {"params": [each for each in parts if each.ndim == 2]}]  # fmt: skip
    optimizer = torch.optim.SGD(groups, 0.05, 0.9, weight_decay=0.1, nesterov=True)
    weights = 4 / COUNTS / (1 / COUNTS).sum()
    scheduler = Triangular(optimizer, num_steps=EPOCHS * len(batches(0)))
    for epoch in range(EPOCHS):
        torch.manual_seed(derive_seed(0, "train", epoch, 0))
        alpha = 1 - (epoch / EPOCHS) ** 2
        for part in batches(epoch):
            seen = normalise(images.train.images[part], *images.statistics())
            (x_g, p_g), (x_l, p_l) = mixed(seen, images.train.labels[part])
            plain = balanced = torch.tensor(0.0)
            h, u = [], []
            for x, p in ((x_g, p_g), (x_l, p_l)):
                features = net.body(x)
                log_f = net.head(features).log_softmax(1)
                plain = plain - (p * log_f).sum() / (2 * len(part))
                balanced = balanced - (weights * p * log_f).sum() / (2 * len(part))
                h.append(beside.projector(features))
                u.append(beside.predictor(h[-1]))
            agreement = sum(cosine_similarity(u[i], h[1 - i].detach()).mean() for i in (0, 1)) / 2
            loss = alpha * plain + (1 - alpha) * balanced - 2.0 * agreement
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parts, 0.5)
            optimizer.step()
            scheduler.step()
    for name, value in (*net.named_parameters(prefix="net"), *beside.named_parameters()):
        name = name if name.startswith("net.") else f"beside.{name}"
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_loss_that_moves_to_itself_stays(tmp_path: Path) -> None:
    still, _ = train(tmp_path / "still", NoMix(), late_loss=None, gradual=False)
    moving, _ = train(tmp_path / "moving", NoMix(), late_loss=CrossEntropy())
    gone, _ = train(tmp_path / "gone", NoMix())
    for name, value in still.items():
        torch.testing.assert_close(moving[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gone["net.head.weight"], still["net.head.weight"], rtol=1e-3)


def test_a_step_costs_two_and_what_is_trained_beside_the_net(tmp_path: Path) -> None:
    _, plain = train(tmp_path / "plain", NoMix())
    _, cost = train(tmp_path / "twice", GLMC(4, dim=16))
    beside = 6 * (8 * 16 + 16 * 16 + 16 * 4 + 4 * 16)
    images = sum(row["images"] for row in plain.history)
    assert sum(row["images"] for row in cost.history) == 2 * images
    flops = training_flops(Net(), 16)
    assert cost.pflop == pytest.approx(2 * images * (flops + beside) / 1e15)
    assert plain.pflop == pytest.approx(images * flops / 1e15)
    told = cost.history[-1]
    assert told["train_loss"] == pytest.approx(
        told["train_classification"] + told["train_consistency"], rel=1e-5
    )


class Stops(Classifier):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 1:
            raise RuntimeError("killed")


def test_a_stopped_training_ends_with_the_same_bits_around_a_method_with_sam(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    net = EarlyExit(vit(num_classes=4), 16, after=[1])
    options: dict[str, Any] = {"sam": 0.5, "net": net}

    def trained(name: str, **more: Any) -> dict[str, Tensor]:
        given = {**options, **more, "net": copy.deepcopy(net)}
        return train(tmp_path / name, GLMC(4, dim=8), **given)[0]

    whole = trained("whole")
    with pytest.raises(RuntimeError, match="killed"):
        trained("stopped", kind=Stops)
    stopped = trained("stopped")
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    assert not torch.equal(whole["beside.predictor.0.weight"],
                           module_of(GLMC(4, dim=8), net).beside.predictor[0].weight)  # fmt: skip
    names = {name.partition(".")[0] for name in whole}
    assert names == {"net", "beside", "mean", "std"}  # the net itself has nothing of it


@pytest.mark.parametrize("name", [each for each in GROUPS["model"] if each != "vit_b_16"])
def test_it_fits_every_net(name: str) -> None:
    net = net_of(name)
    module = module_of(GLMC(4, dim=8), net)
    module.log = lambda *_, **__: None
    batch = torch.randint(256, (4, 3, 32, 32)).byte(), LABELS[:4]
    module.train().training_step(batch, 1).backward()
    assert all(each.grad is not None for each in module.beside.parameters())
    assert not module.read
    net.eval()(torch.zeros(2, 3, 32, 32))
    assert not module.read  # nothing is held but what a training step needs


def test_a_head_without_a_linear_layer_is_refused() -> None:
    net = nn.Sequential(nn.Flatten())
    assert refused(last_linear, net, "another mix=") == (
        "Sequential's head ends in no linear layer: choose another mix="
    )
