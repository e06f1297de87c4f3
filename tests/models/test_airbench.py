"""Airbench's net: what its first weights do, and where attention stands."""

import pytest
import torch
from torch import nn

from leanvit.contracts import InitialisedByImages
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.models.airbench import Airbench, Residual, WhitenedPatches
from leanvit.models.coatnet import TransformerBlock


def images_like_photographs(num: int = 64) -> torch.Tensor:
    """Neighbours and colours are alike."""
    drawn = torch.randn(num, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(drawn, size=(17, 17), mode="bicubic")
    return smooth * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1) + 0.1 * torch.randn(
        num, 3, 17, 17
    )


def test_the_stem_whitens_patches() -> None:
    stem, images = WhitenedPatches(3), images_like_photographs()
    stem.whiten(images)
    with torch.no_grad():
        found = stem(images)
    assert found.shape == (64, 24, 16, 16)
    values = found[:, :12].permute(1, 0, 2, 3).flatten(1)
    second_moments = values @ values.T / values.shape[1]
    torch.testing.assert_close(second_moments, torch.eye(12), atol=0.1, rtol=0)
    assert torch.equal(found[:, :12], -found[:, 12:])
    assert [name for name, _ in stem.named_parameters()] == ["bias"]  # the filters stay


def test_the_published_size_costs_what_was_published() -> None:
    net = Airbench(32, 10, [64, 256, 256])
    assert cost(net, 32).macs / 1e9 == pytest.approx(0.118, abs=5e-4)
    features, sizes = net.begin(torch.zeros(2, 3, 32, 32)), []
    for step in net.steps:
        sizes.append(features.shape[-1])
        features = step(features)
    assert sizes == [31, 15, 7] and features.shape == (2, 256, 3, 3)


def test_a_stage_begins_as_the_identity_on_what_it_takes() -> None:
    net = Airbench(32, 10, [64, 96, 128])
    for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        weight = layer.weight.detach()
        taken = weight[: layer.in_channels]
        centre = taken[:, :, 1, 1].diagonal()
        assert (centre > 0).all() and taken.count_nonzero() == len(centre)
        assert float(weight.square().mean().sqrt()) == pytest.approx(0.03, rel=1e-4)


def test_three_convolutions_add_a_branch_beside_a_skip() -> None:
    net = Airbench(32, 10, [64, 256, 256], stage_depth=3)
    third_ones = 9 * (15**2 * 64**2 + 7**2 * 256**2 + 3**2 * 256**2)
    added = cost(net, 32).macs - cost(Airbench(32, 10, [64, 256, 256]), 32).macs
    assert added == third_ones
    branch = next(layer for layer in net.steps[0] if isinstance(layer, Residual))
    for norm in (layer for layer in branch if isinstance(layer, nn.BatchNorm2d)):
        nn.init.zeros_(norm.weight)
    features = torch.randn(2, 64, 5, 5)
    assert torch.equal(branch(features), features)  # a branch that gives nothing leaves the skip


def test_attention_follows_the_second_stage() -> None:
    net = Airbench(32, 10, [16, 32, 48], attention_depth=2, dim_head=16)
    assert isinstance(net, InitialisedByImages)
    kinds = [[type(layer) for layer in stage] for stage in net.steps]
    assert [kind.count(TransformerBlock) for kind in kinds] == [0, 2, 0]
    assert net.steps[1](torch.zeros(2, 16, 15, 15)).shape == (2, 32, 7, 7)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LeanvitError, match="cannot be halved by 3 stages"):
        Airbench(8, 10, [16, 16, 16])
    with pytest.raises(LeanvitError, match="dim_head 32 divides"):
        Airbench(32, 10, [16, 24, 16], attention_depth=1)
