"""Weights of places at another image size, against timm's functions and against nets."""

import pytest
import torch
from composed import config_of
from omegaconf import DictConfig
from torch import nn

from leanvit.app.nets import build_net
from leanvit.models.other_size import at_other_size, positions, relative_table
from leanvit.weights import mismatch


def test_positions_are_those_of_timm() -> None:
    layers = pytest.importorskip("timm.layers")
    for num_prefix, old, new in ((1, 8, 14), (0, 4, 6), (1, 6, 3)):
        given = torch.randn(1, num_prefix + old**2, 5)
        expected = layers.resample_abs_pos_embed(given, [new, new], num_prefix_tokens=num_prefix)
        found = positions(given, num_prefix + new**2, num_prefix)
        torch.testing.assert_close(found, expected)


def test_relative_tables_are_those_of_timm() -> None:
    theirs = pytest.importorskip("timm.layers.pos_embed_rel").resize_rel_pos_bias_table_simple
    for old, new in ((4, 7), (8, 3)):
        given = torch.randn((2 * old - 1) ** 2, 3)
        shape = ((2 * new - 1) ** 2, 3)
        expected = theirs(given, (new, new), shape)
        torch.testing.assert_close(relative_table(given, shape[0]), expected)


def net_at(size: int, *model: str) -> nn.Module:
    config: DictConfig = config_of("data=shapes", f"data.image_size={size}", *model)
    return build_net(config, 10)


@pytest.mark.parametrize(
    "model",
    [
        ["model=vit", "model.readout=weighted"],
        ["model=cct", "model.readout=weighted"],
        ["model=cct", "model.positions=sinusoidal"],
        ["model=swin", "model.window_size=8"],
        ["model=coatnet"],
        ["model=pvt"],
        ["model=convmixer"],
        ["model=airbench", "model.attention_depth=1"],
    ],
    ids=lambda words: "-".join(words),
)
def test_a_net_takes_its_weights_from_images_of_another_size(model: list[str]) -> None:
    small, large = net_at(32, *model), net_at(64, *model)
    found = at_other_size(small.state_dict(), large.state_dict(), getattr(small, "num_prefix", 0))
    assert not mismatch(found, large.state_dict())
    back = at_other_size(small.state_dict(), small.state_dict(), 1)
    for name, value in small.state_dict().items():
        assert torch.equal(back[name], value)
    if "model.readout=weighted" in model:
        sums = [each["readout.token_weights"].sum() for each in (small.state_dict(), found)]
        torch.testing.assert_close(*sums)


def test_a_map_of_positions_keeps_what_is_constant() -> None:
    small, large = net_at(32, "model=vit_conv"), net_at(64, "model=vit_conv")
    nn.init.constant_(small.position_embedding, 0.5)  # type: ignore[arg-type]
    found = at_other_size(small.state_dict(), large.state_dict(), 0)["position_embedding"]
    torch.testing.assert_close(found, torch.full_like(large.position_embedding, 0.5))  # type: ignore
