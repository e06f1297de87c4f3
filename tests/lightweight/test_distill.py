"""Distillation against its formulas, and what it may wrap."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from image_trees import refused
from torch import Tensor, nn

from leanvit.lightweight.distill import Distill, soft_distillation
from leanvit.models.vit import ViT


def vit(readout: str = "cls") -> ViT:
    torch.manual_seed(0)
    net = ViT(8, 4, 5, dim=8, depth=2, heads=2, mlp_dim=16, readout=readout).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def images(num: int = 6) -> Tensor:
    return torch.randn(
        num, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_distillation_is_the_mean_divergence_over_images(temperature: float) -> None:
    ours, theirs = torch.randn(2, 4, 3, dtype=torch.float64)
    total = 0.0
    for mine, taught in zip(ours.tolist(), theirs.tolist(), strict=True):
        p = [math.exp(t / temperature) / sum(math.exp(s / temperature) for s in taught)
             for t in taught]  # fmt: skip
        q = [math.exp(t / temperature) / sum(math.exp(s / temperature) for s in mine) for t in mine]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = torch.tensor(temperature**2 * total / 4, dtype=torch.float64)
    torch.testing.assert_close(soft_distillation(ours, theirs, temperature), expected)
    assert soft_distillation(ours, ours, temperature).abs() < 1e-12


@pytest.mark.parametrize("kind", ["soft", "hard", "token"])
def test_the_terms_weigh_targets_and_teacher(kind: str) -> None:
    teacher = vit("mean")
    method = Distill(vit(), copy.deepcopy(teacher), kind, weight=0.3, temperature=2.0)
    method.double().train()
    terms = method.loss_terms(images(), LABELS, nn.CrossEntropyLoss())
    theirs = teacher.eval()(images())
    if kind == "token":
        own, taught = method._both(images())
    else:
        own = taught = method.net(images())
    said = theirs.argmax(1)
    expected = 0.3 * F.cross_entropy(taught, said)
    if kind == "soft":
        expected = 0.3 * soft_distillation(taught.float(), theirs.float(), 2.0)
    torch.testing.assert_close(terms["distillation"].double(), expected.double(), atol=1e-5, rtol=0)
    classification = 0.7 * F.cross_entropy(own, LABELS)
    torch.testing.assert_close(terms["classification"].double(), classification, atol=1e-5, rtol=0)
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert not any(name.startswith("teacher") for name in method.state_dict())
    assert all(parameter.grad is None for parameter in method.teacher.net.parameters())


def test_a_distilled_net_is_the_net() -> None:
    net = vit()
    method = Distill(net).eval()
    assert torch.equal(method(images()), net.eval()(images()))
    assert list(method.state_dict()) == [f"net.{name}" for name in net.state_dict()]


def test_a_second_token_that_is_the_first_says_what_the_first_says() -> None:
    net = vit().eval()
    method = Distill(net, kind="token").double().eval()
    with torch.no_grad():
        tokens = torch.cat((net.begin(images()), net.begin(images())[:, :1]), dim=1)
        method.distillation_token.copy_(net.cls_token + net.position_embedding[:, :1])
        method.head.load_state_dict(net.head.state_dict())
        for block in net.blocks:
            tokens = block(tokens)
        logits = net.head(net.norm(tokens[:, 0]))
    torch.testing.assert_close(method(images()), logits.log_softmax(1).float(), atol=1e-5, rtol=0)
    own, taught = method._both(images())
    method.head.weight.data.mul_(-1)  # now they disagree: the mean of their probabilities
    own, taught = method._both(images())
    mean = (own.softmax(1) + taught.softmax(1)) / 2
    torch.testing.assert_close(method(images()).double().exp(), mean, atol=1e-5, rtol=0)


def test_averaged_copies_share_the_teacher() -> None:
    method = Distill(vit(), vit())
    assert copy.deepcopy(method).teacher is method.teacher


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    assert "it fits model=vit and vit_b_16" in refused(Distill, vit("mean"), kind="token")
    method = Distill(vit())
    assert "wants a teacher" in refused(method.loss_terms, images(), LABELS, nn.Identity())
