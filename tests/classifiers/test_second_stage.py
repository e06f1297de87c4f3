"""The head alone: trained anew, its classes scaled, or normalised without training."""

import pytest
import torch
from image_trees import refused
from torch import Tensor, nn

from leanvit import values
from leanvit.classifiers.lws import LWS, folded
from leanvit.classifiers.mislas import MiSLAS
from leanvit.classifiers.retrain import Retrain
from leanvit.classifiers.tau_norm import TAUS, TauNorm, choose_tau, normalised


class Net(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def net_with(head: str) -> Net:
    torch.manual_seed(0)
    layer = nn.Linear(3, 5)
    return Net(layer if head == "linear" else nn.Sequential(nn.Linear(3, 3), nn.GELU(), layer))


def trained(net: nn.Module) -> list[str]:
    return [name for name, parameter in net.named_parameters() if parameter.requires_grad]


def test_retraining_leaves_the_head_to_be_trained() -> None:
    net = net_with("linear")
    Retrain()(net)
    assert trained(net) == ["head.weight", "head.bias"]


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_scaling_starts_from_the_net_and_trains_one_number_a_class(head: str) -> None:
    net, images = net_with(head), torch.randn(6, 4)
    before = net(images)
    LWS()(net)
    assert trained(net) == ["head.scale" if head == "linear" else "head.2.scale"]
    torch.testing.assert_close(net(images), before, rtol=0, atol=0)
    with torch.no_grad():
        scale = dict(net.named_parameters())[trained(net)[0]]
        scale.copy_(torch.tensor([2.0, 1, 1, 0, 1]))
    expected = before * torch.tensor([2.0, 1, 1, 0, 1])
    torch.testing.assert_close(net(images), expected)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_mislas_trains_the_scales_and_the_layer_they_are_on(head: str) -> None:
    net, plain, images = net_with(head), net_with(head), torch.randn(6, 4)
    before = net(images)
    MiSLAS()(net)
    place = "head" if head == "linear" else "head.2"
    assert trained(net) == [f"{place}.scale", f"{place}.layer.weight", f"{place}.layer.bias"]
    torch.testing.assert_close(net(images), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    plain.load_state_dict(folded(net.state_dict()))  # another stage can begin from it
    torch.testing.assert_close(plain(images), net(images))


def test_tau_0_keeps_the_weights_and_tau_1_makes_all_norms_one() -> None:
    weight = torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(normalised(weight, 0.0), weight)
    torch.testing.assert_close(normalised(weight, 1.0).norm(dim=1), torch.ones(5).double())
    for row, half in zip(weight, normalised(weight, 0.5), strict=True):
        length = sum(value**2 for value in row.tolist()) ** 0.5
        torch.testing.assert_close(half, row / length**0.5)


def test_tau_is_the_first_that_is_best_by_balanced_accuracy() -> None:
    # class 0 wins everything by its norm; only a tau near 1 gives class 1 its images back
    weight = torch.tensor([[10.0, 0.0], [0.0, 0.5]])
    features = torch.tensor([[1.0, 0.2]] * 8 + [[0.5, 1.0], [0.4, 1.0]])
    labels = torch.tensor([0] * 8 + [1] * 2)
    recalls = {}
    for tau in TAUS:
        predicted = (features @ normalised(weight, tau).T).argmax(1)
        right = predicted == labels
        recalls[tau] = (right[:8].float().mean() + right[8:].float().mean()) / 2
    best = max(recalls.values())
    assert choose_tau(weight, features, labels) == min(t for t in TAUS if recalls[t] == best)
    assert recalls[0.0] == 0.5 and best == 1.0


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_rescaling_changes_the_last_layer_and_drops_its_bias(head: str) -> None:
    net = net_with(head)
    layer = net.head if head == "linear" else net.head[2]
    before = layer.weight.detach().clone()
    tau = TauNorm(tau=0.7).rescale(net, torch.randn(4, 3), torch.tensor([0, 1, 2, 3]))
    assert tau == 0.7
    torch.testing.assert_close(layer.weight, normalised(before, 0.7))
    assert not layer.bias.any()


def test_a_head_without_a_linear_layer_is_refused() -> None:
    for method in (LWS(), MiSLAS(), TauNorm()):
        message = refused(method, Net(nn.Flatten()))
        assert message == "Net's head ends in no linear layer: choose classifier=retrain"
    message = refused(values.check, TauNorm, {"tau": -1}, "classifier.")
    assert message.startswith("classifier.tau=-1 must be")


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_learnt_scale_can_be_folded_into_the_layer(head: str) -> None:
    net, plain, images = net_with(head), net_with(head), torch.randn(6, 4)
    LWS()(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    plain.load_state_dict(folded(net.state_dict()))
    torch.testing.assert_close(plain(images), net(images))
