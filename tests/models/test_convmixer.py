"""ConvMixer against timm's."""

import pytest
import torch
from nets import convmixer, images_of, scattered
from timm.models.convmixer import ConvMixer as TimmConvMixer


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_logits_equal_timms(kernel_size: int) -> None:
    net = scattered(convmixer(kernel_size=kernel_size))
    twin = TimmConvMixer(12, 3, kernel_size, patch_size=2, num_classes=5)
    # of one structure: the same weights in the same order
    twin.load_state_dict(dict(zip(twin.state_dict(), net.state_dict().values(), strict=True)))
    images = images_of(3, dtype=torch.float64)
    net, twin = net.double().eval(), twin.double().eval()
    torch.testing.assert_close(net(images), twin(images), rtol=0, atol=1e-6)
