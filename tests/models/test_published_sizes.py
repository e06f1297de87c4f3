"""What the constructors build by themselves: the nets that their papers name."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import swin_t, vit_b_16

import leanvit
from leanvit.models import CCT, PVT, Airbench, CoAtNet, Swin, ViT

BIASES = 12 * 3 * 768  # of ViT-B's queries, keys and values, which ours leaves out
PUBLISHED = {ViT: 86.6, Swin: 28.3, CoAtNet: 25, PVT: 3.7, CCT: 3.76, Airbench: 1.97}  # million


def num_weights(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_sizes_are_the_papers(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        num = num_weights(kind())
        if kind is ViT:
            assert num == num_weights(vit_b_16()) - BIASES
        if kind is Swin:
            assert num == num_weights(swin_t())
    assert num / 1e6 == pytest.approx(PUBLISHED[kind], abs=0.1)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_an_image_size_is_enough(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        net, images = kind(image_size=32, num_classes=7), torch.empty(2, 3, 32, 32)
        assert net(images).shape == (2, 7)


def test_a_window_of_its_own_suits_all_maps() -> None:
    sizes = {224: 7, 32: 4, 160: 5, 96: 6}  # first maps of 56, 8, 40 and 24
    for image_size, wanted in sizes.items():
        net = leanvit.models.Swin(image_size=image_size, dim=8, depths=(1, 1), heads=(1, 1))
        num_offsets = net.stages[0][0].attention.relative_position_table.shape[0]
        assert num_offsets == (2 * wanted - 1) ** 2


def test_a_class_is_found_in_its_file() -> None:
    from leanvit.models.vit_conv import ViTConv

    assert leanvit.models.ViTConv is ViTConv
    for name in ("ViTx", "vitconv", "Attention", "attention2"):
        with pytest.raises(AttributeError, match=name):
            getattr(leanvit.models, name)


def test_importing_leanvit_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'hydra', 'PIL', 'pydantic'}"
    program = f"import sys, leanvit, leanvit.models; print(sorted(set(sys.modules) & {heavy}))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
