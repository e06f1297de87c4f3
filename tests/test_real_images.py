"""A few training steps of every model on the real images."""

import pytest
import torch
from composed import GROUPS
from scripts import SHARED
from test_contracts import net_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.augment.normalise import channel_statistics, normalise
from leanvit.data.course import course
from leanvit.device import choose_precision
from leanvit.models.attention import fastest_attention
from leanvit.training.parameter_groups import parameter_groups

ARCHIVE = SHARED / "data" / "cifar10_course.zip"
BATCH, STEPS = 16, 8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor]:
    """Normalised images and their labels, one batch a step."""
    train = course(str(ARCHIVE), str(tmp_path_factory.mktemp("course"))).train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    chosen = order[: STEPS * BATCH]
    found = train.images[chosen]
    return normalise(found, *channel_statistics(found)), train.labels[chosen]


def loss_of(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    cpu = torch.device("cpu")
    bfloat16 = choose_precision(cpu) == "bf16-mixed"
    with torch.autocast("cpu", torch.bfloat16, bfloat16), fastest_attention(cpu, bfloat16):
        return cross_entropy(net(images).float(), labels)


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the real archive does not stand beside")
@pytest.mark.parametrize("name", GROUPS["model"])
def test_a_few_steps_lower_the_loss(name: str, images: tuple[Tensor, Tensor]) -> None:
    net = net_of(name, num_classes=10).train()
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(net, 0.05), lr=2e-4, fused=True)
    with torch.no_grad():
        before = loss_of(net, *images).item()
    for step in range(STEPS):
        batch = [each[step * BATCH : (step + 1) * BATCH] for each in images]
        loss = loss_of(net, *batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        after = loss_of(net, *images).item()
    assert after < before - 0.05, (before, after)
