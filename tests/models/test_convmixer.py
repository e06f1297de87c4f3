"""ConvMixer against timm's, and its error line."""

import pytest
import torch
from timm.models.convmixer import ConvMixer as TimmConvMixer
from torch import nn

from leanvit.errors import LeanvitError
from leanvit.models.convmixer import ConvMixer


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_logits_equal_timms(kernel_size: int) -> None:
    torch.manual_seed(0)
    net = ConvMixer(16, 5, patch_size=2, dim=12, depth=3, kernel_size=kernel_size)
    twin = TimmConvMixer(12, 3, kernel_size, patch_size=2, num_classes=5)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(buffer, 0.5, 1.5)
    # of one structure: the same weights in the same order
    twin.load_state_dict(dict(zip(twin.state_dict(), net.state_dict().values(), strict=True)))
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    net, twin = net.double().eval(), twin.double().eval()
    torch.testing.assert_close(net(images), twin(images), rtol=0, atol=1e-6)


def test_a_patch_that_does_not_divide_is_one_line() -> None:
    with pytest.raises(LeanvitError, match=r"patch_size 3 does not divide image_size 16\.$"):
        ConvMixer(16, 5, patch_size=3, dim=8, depth=1, kernel_size=3)
