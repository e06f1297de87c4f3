"""compile=true: a training step of every method runs what was compiled, and gives the same loss."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from jaxtyping import config
from nets import images_of, vit
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from leanvit.augment.glmc import GLMC
from leanvit.augment.none import NoMix
from leanvit.lightweight.a_vit import AViT
from leanvit.lightweight.deit_lt import DeiTLT
from leanvit.lightweight.distill import Distill
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.evit import EViT
from leanvit.lightweight.qat import QAT
from leanvit.lightweight.tome import ToMe
from leanvit.pretraining.autoencoder import Autoencoder
from leanvit.pretraining.mae import MAE
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.pretrainer import Pretrainer

GREY = torch.full((3,), 0.5)
METHODS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "none": lambda net: net,
    "none, of two views": lambda net: net,
    "a_vit": lambda net: AViT(net, beta=-2.0),
    "deit_lt": lambda net: DeiTLT(net, vit(depth=1), torch.tensor([9, 7, 5, 3, 1])),
    "distill soft": lambda net: Distill(net, vit(depth=1)),
    "distill token": lambda net: Distill(net, vit(depth=1), kind="token"),
    "dynamic_vit": lambda net: DynamicViT(net, [1], [0.5], teacher=True),
    "dynamic_vit threshold": lambda net: DynamicViT(net, [1], [0.5], keep="threshold"),
    "early_exit": lambda net: EarlyExit(net, 16, distillation=0.5),
    "evit": EViT,
    "qat": QAT,
    "tome": lambda net: ToMe(net, 4),
}


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """Counts the graphs, and runs them as they are."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch._dynamo.reset()
    config.update("jaxtyping_disable", True)  # dynamo cannot read the checks' own code
    yield counter
    config.update("jaxtyping_disable", False)


def classifier(name: str, compile_net: bool) -> Classifier:
    torch.manual_seed(0)
    net = METHODS[name](vit(depth=2, dropout=0.1))
    loss, mix = nn.CrossEntropyLoss(), GLMC(5, dim=8) if "views" in name else NoMix()
    given = net, loss, mix, torch.optim.SGD, Cosine, GREY, GREY
    module = Classifier(*given, classes=tuple("abcde"), compile_net=compile_net)
    module.log = lambda *_, **__: None
    return module


def bytes_of(batch: int) -> Tensor:
    return images_of(batch).mul(50).add(128).to(torch.uint8)


def step(module: Classifier) -> list[Tensor]:
    """The loss of a training step, and its gradients."""
    module.on_fit_start()
    torch.manual_seed(1)
    loss = module.train().training_step((bytes_of(5), torch.arange(5)), 1)
    loss.backward()
    return [loss.detach(), *(p.grad for p in module.net.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", METHODS)
def test_a_step_runs_one_compiled_graph_to_the_same_loss(
    name: str, counter: CompileCounter
) -> None:
    eager, compiled = classifier(name, False), classifier(name, True)
    exact = 1e-3 if name == "qat" else 0.0  # a last bit may round a value the other way
    expected = step(eager)
    assert counter.frame_count == 0
    found = step(compiled)
    assert counter.frame_count == 1
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=exact)
    assert counter.op_count > 40  # blocks, not the criterion alone
    with torch.no_grad():
        logits = [module.eval()(bytes_of(3)) for module in (compiled, eager)]
    torch.testing.assert_close(*logits, rtol=0, atol=exact)
    fixed = getattr(compiled.net, "fixed_steps", True)
    assert (counter.frame_count > 1) == fixed


@pytest.mark.parametrize(
    "make", [lambda: MAE(vit(), 16, 0.75, 8, 1, 2, 8), lambda: Autoencoder(vit(), 16, 8)]
)
def test_pretraining_runs_compiled_graphs(
    make: Callable[[], nn.Module], counter: CompileCounter
) -> None:
    losses = []
    for compile_net in (False, True):
        torch.manual_seed(0)
        module = Pretrainer(make(), torch.optim.SGD, Cosine, GREY, GREY, compile_net=compile_net)
        module.log = lambda *_, **__: None
        module.on_fit_start()
        torch.manual_seed(1)
        losses.append(module.train().training_step((bytes_of(5), torch.arange(5)), 1).detach())
    assert counter.frame_count > 0 and torch.equal(*losses)
