"""Fake quantisation against loops over numbers; gradients, names, independence of a batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nets import coatnet, images_of, vit
from torch import nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.qat import QAT, round_inputs, round_weight


def literal(value: float, low: float, high: float, num_steps: int) -> float:
    """The number nearest to ``value`` of those that int8 can hold between ``low`` and ``high``."""
    step = (high - low) / num_steps
    held = [(k - round(-low / step)) * step for k in range(num_steps + 1)]
    return min(held, key=lambda number: abs(number - value))


def test_rounds_to_what_int8_holds() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 2, 2)
    for row, rounded in zip(weight, round_weight(weight), strict=True):
        largest = row.abs().max().item()
        wanted = [literal(value, -largest, largest, 128) for value in row.flatten().tolist()]
        assert rounded.flatten().tolist() == pytest.approx(wanted, abs=1e-6)
    inputs = torch.randn(4, 5, 6)
    inputs[1], inputs[2] = inputs[1].abs() + 1, -inputs[2].abs() - 1  # zero is always held
    for image, rounded in zip(inputs, round_inputs(inputs), strict=True):
        low, high = min(0.0, image.min().item()), max(0.0, image.max().item())
        wanted = [literal(value, low, high, 255) for value in image.flatten().tolist()]
        assert rounded.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(round_weight(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert torch.equal(round_inputs(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_rounds_each_linear_layer_and_convolution_and_nothing_else() -> None:
    net, images = vit().eval(), images_of(3)
    wanted = copy.deepcopy(net)
    for layer in wanted.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.data = round_weight(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, inputs: (round_inputs(inputs[0]),))
    torch.testing.assert_close(QAT(net)(images), wanted(images), atol=1e-6, rtol=0)
    assert (QAT(net)(images) - net(images)).abs().max() > 1e-4


def test_gradients_pass_the_rounding() -> None:
    torch.manual_seed(0)
    inputs, weight = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    given = torch.randn(4, 5)
    F.linear(round_inputs(inputs), round_weight(weight)).backward(given)
    # of the product of rounded values, as if the rounding itself were the identity
    torch.testing.assert_close(inputs.grad, given @ round_weight(weight).detach())
    torch.testing.assert_close(weight.grad, given.T @ round_inputs(inputs).detach())


@pytest.mark.parametrize("make", [vit, coatnet])
def test_every_weight_learns_and_keeps_its_name(make: type[nn.Module]) -> None:
    net = make()
    names = {f"net.{name}" for name in net.state_dict()}
    method = QAT(net).train()
    assert set(method.state_dict()) == names
    with torch.autocast("cpu", torch.bfloat16):
        logits = method(images_of(4))
    logits.float().square().sum().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    before = net.head.weight.detach().clone()
    torch.optim.SGD(method.parameters(), lr=1e-3).step()
    assert not torch.equal(method.net.head.weight, before)  # in full precision: no step is lost


@pytest.mark.parametrize("make", [vit, coatnet])
def test_an_image_does_not_know_its_batch(make: type[nn.Module]) -> None:
    # in float64: the last bit of a float32 may round a value the other way
    method, images = QAT(make()).eval().double(), images_of(5).double()
    images[0] *= 10
    alone = torch.cat([method(image[None]) for image in images])
    torch.testing.assert_close(method(images), alone, atol=1e-9, rtol=0)


def test_costs_what_the_net_costs() -> None:
    method, net = cost(QAT(vit()), 16), cost(vit(), 16)
    for name in ("params", "macs", "attention_macs", "thop_params", "thop_macs"):
        assert getattr(method, name) == getattr(net, name)
