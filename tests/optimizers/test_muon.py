"""Muon against a literal twin, torch's own, and what it must keep."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from nets import coatnet, vit
from torch import Tensor, nn

from leanvit.augment.none import NoMix
from leanvit.optimizers.muon import Muon, muon, orthogonalised
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.parameter_groups import hidden_matrices, parameter_groups

GREY = torch.full((3,), 0.5)


def muon_of(net: nn.Module, decay: float = 0.1, **values: Any) -> Muon:
    return muon(parameter_groups(net, decay), hidden_matrices(net), **{"lr": 0.02, **values})


def learn(net: nn.Module, *optimizers: Any, steps: int = 4) -> list[Tensor]:
    """From drawn gradients: those of a few images have hardly any rank."""
    draws = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in net.parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=draws)
                parameter.grad = torch.empty_like(parameter).copy_(drawn)
        for optimizer in optimizers:
            optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


class LiteralMuon:
    """One matrix after the other, in float64, as the formulas stand in the papers."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, decay: float) -> None:
        self.parameters, self.lr, self.decay = parameters, lr, decay
        self.momenta = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self) -> None:
        for parameter, momentum in zip(self.parameters, self.momenta, strict=True):
            assert parameter.grad is not None
            momentum.mul_(0.95).add_(parameter.grad)
            x = (0.95 * momentum + parameter.grad).flatten(1).double()
            rows, columns = x.shape
            x = x / x.norm()
            for _ in range(5):
                square = x @ x.T
                x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
            parameter.mul_(1 - self.lr * self.decay)
            parameter.sub_(self.lr * 0.2 * max(rows, columns) ** 0.5 * x.reshape(parameter.shape))


@pytest.mark.parametrize("rounding", [1e-4, 0.05])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("make", [vit, coatnet])
def test_a_literal_twin_goes_the_same_way(
    make: Any, layout: Any, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    ours = make().to(memory_format=layout).eval()
    if rounding < 0.01:  # bfloat16 knows two to three digits, which small singular values feel
        monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)
    theirs = copy.deepcopy(ours)
    start = [parameter.detach().clone() for parameter in ours.parameters()]
    hidden = hidden_matrices(theirs)
    chosen = {id(parameter) for parameter in hidden}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]}
            for group in parameter_groups(theirs, 0.1)]  # fmt: skip
    found = learn(ours, muon_of(ours, lr=0.002))
    expected = learn(theirs, LiteralMuon(hidden, 0.002, 0.1), torch.optim.AdamW(rest, 0.002))
    for a, b, before in zip(found, expected, start, strict=True):
        away = (b - before).norm()
        assert away > 0 and (a - b).norm() < rounding * away


def test_it_is_torchs_where_that_applies() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.Linear(32, 48), nn.Linear(48, 32))
    theirs = copy.deepcopy(ours)
    found = learn(ours, muon_of(ours, lr=0.01, adamw_lr=0.5))
    first, *inner = [layer.weight for layer in theirs[1:]]
    biases = [layer.bias for layer in theirs[1:]]
    groups = [{"params": [first]}, {"params": biases, "weight_decay": 0.0}]
    expected = learn(
        theirs,
        torch.optim.Muon(inner, 0.01, 0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, 0.005, weight_decay=0.1, fused=True),
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("shape", [(3, 16, 64), (1, 24, 24), (2, 1, 30)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.svd(orthogonalised(matrices, 5).float())
    values = found.S.flatten()
    assert values.max() < 1.3 and values.quantile(0.1) > 0.6
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    near = torch.einsum("nij,nij->n", orthogonalised(matrices, 5).float(), u @ v)
    assert (near > 0.6 * shape[1]).all()


def test_it_goes_on_bit_for_bit_from_its_state() -> None:
    torch.manual_seed(0)
    whole = coatnet().to(memory_format=torch.channels_last).eval()
    optimizer = muon_of(whole)
    learn(whole, optimizer, steps=2)
    part = copy.deepcopy(whole)
    resumed = muon_of(part)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(map(torch.equal, learn(whole, optimizer), learn(part, resumed)))


def test_many_rows_are_made_orthogonal_in_parts() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 24, bias=False))  # tall: lies as 8 rows of 24
    before = net[1].weight.detach().clone()
    net[1].weight.grad = torch.randn(24, 8)
    muon_of(net, 0.0, lr=1.0, num_rows=3).step()
    parts = (before - net[1].weight).T.detach().view(4, 2, 24) / (0.2 * 24**0.5)
    values = torch.linalg.svdvals(parts)
    assert values.max() < 1.3 and values.min() > 0.6
    assert torch.linalg.svdvals(parts.view(8, 24)).max() > 1.3


def test_what_has_no_gradient_stays() -> None:
    net = vit().eval()
    frozen = net.blocks[1].mlp[0].weight.requires_grad_(False)
    before = frozen.clone()
    learn(net, muon_of(net))
    assert torch.equal(frozen, before)
    net.zero_grad()
    muon_of(net).step()


def test_rates_of_groups_and_of_the_schedule_hold_for_both() -> None:
    net = vit()
    module = Classifier(
        net, nn.CrossEntropyLoss(), NoMix(), partial(muon, lr=0.1, adamw_lr=0.5),
        partial(Cosine, warmup_fraction=0.1), GREY, GREY, classes=tuple("abcde"), layer_decay=0.5,
    )  # fmt: skip
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 100})()
    configured = module.configure_optimizers()
    peaks = {
        (group["orthogonal"], group["initial_lr"]) for group in configured["optimizer"].param_groups
    }
    assert peaks == {(True, 0.1 * 0.5**k) for k in (4, 3, 2, 1)} | {
        (False, 0.05 * 0.5**k) for k in (5, 4, 3, 2, 1, 0)
    }
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.005)  # a tenth of it


def test_hidden_matrices_are_neither_first_nor_last_nor_depthwise() -> None:
    net = coatnet()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = {names[id(parameter)] for parameter in hidden_matrices(net)}
    left = {n for n, p in net.named_parameters() if p.ndim > 1} - found
    assert left == {
        "stem.0.weight", "head.weight", "stages.2.3.attention.relative_position_table",
        "stages.0.0.layers.4.weight", "stages.1.0.layers.4.weight", "stages.1.1.layers.4.weight",
    }  # fmt: skip
