"""The autoencoder: from tokens on their grid back to images of every size."""

import pytest
import torch
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.cct import CCT
from leanvit.models.coatnet import CoAtNet
from leanvit.models.linformer_vit import LinformerViT
from leanvit.models.vit import ViT
from leanvit.models.vit_conv import ViTConv
from leanvit.pretraining.autoencoder import Autoencoder
from leanvit.training.parameter_groups import parameter_groups

SMALL = {"num_classes": 5, "dim": 24, "depth": 1, "heads": 2, "mlp_dim": 32}


def small_autoencoder(**changes: object) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(ViT(16, 4, **SMALL), 16, **{"decoder_dim": 16, **changes})


def batch(num_images: int = 4) -> tuple[Tensor, Tensor]:
    pixels = torch.rand(num_images, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return (pixels - 0.4) / 0.3, pixels


@pytest.mark.parametrize(
    ("image_size", "patch_size", "num_steps"),
    [(32, 4, 2), (32, 8, 3), (32, 16, 4), (64, 8, 3), (224, 16, 4), (12, 6, 2), (6, 1, 1)],
)
def test_images_come_out_as_large_as_they_went_in(
    image_size: int, patch_size: int, num_steps: int
) -> None:
    with torch.device("meta"):
        net = Autoencoder(ViT(image_size, patch_size, **SMALL), image_size)
        images = torch.empty(2, 3, image_size, image_size)
        assert net.draw(images).shape == images.shape
        assert net(images, images).shape == ()
    steps = [layer for layer in net.decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert len(steps) == num_steps


@pytest.mark.parametrize("name", ["CCT", "LinformerViT"])
def test_other_nets_of_tokens_fit(name: str) -> None:
    nets = {
        "CCT": lambda: CCT(16, 5, 1, 3, dim=8, depth=1, heads=2, mlp_dim=8),
        "LinformerViT": lambda: LinformerViT(16, 4, num_projected=4, **SMALL),
    }
    net = Autoencoder(nets[name](), 16, decoder_dim=8)
    images, pixels = batch()
    net(images, pixels).backward()
    without = {n for n, p in net.named_parameters() if p.grad is None}
    assert {n.split(".")[1] for n in without} <= {"head", "readout"}


def test_values_and_loss() -> None:
    net, (images, pixels) = small_autoencoder().eval(), batch()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    drawing = net.draw(images)
    assert -1 <= drawing.min() < -0.5 and 0.5 < drawing.max() <= 1
    expected = ((drawing - (2 * pixels - 1)) ** 2).mean()
    torch.testing.assert_close(net(images, pixels), expected)
    torch.testing.assert_close(net.reconstruct(images, pixels)["reconstruction"], drawing / 2 + 0.5)
    perfect = net.reconstruct(images, pixels)["reconstruction"]
    assert net(images, perfect).item() < 1e-12


def test_a_token_is_drawn_where_its_patch_is() -> None:
    net, (images, _) = small_autoencoder().eval(), batch(1)
    net.encoder.blocks = nn.ModuleList()  # no exchange between patches
    changed = images.clone()
    changed[:, :, 4:8, 8:12] += 1  # second row of patches, third column
    difference = (net.draw(images) - net.draw(changed)).abs().sum(dim=(0, 1))
    rows, columns = (difference > 1e-6).nonzero().unbind(1)
    # the transposed convolutions reach into the neighbours, by up to half a patch and a pixel
    assert rows.min() >= 4 - 3 and rows.max() <= 7 + 3
    assert columns.min() >= 8 - 3 and columns.max() <= 11 + 3
    assert (difference[4:8, 8:12] > 1e-6).all()


def test_cls_is_left_out_of_the_drawing() -> None:
    net, (images, _) = small_autoencoder().eval(), batch(1)
    net.encoder.blocks = nn.ModuleList()
    before = net.draw(images)
    nn.init.normal_(net.encoder.cls_token)
    assert torch.equal(before, net.draw(images))


def test_a_few_steps_learn_and_the_seed_decides() -> None:
    images, pixels = batch(8)

    def train(seed: int, num_steps: int) -> list[float]:
        torch.manual_seed(seed)
        net = Autoencoder(ViT(16, 4, **SMALL), 16, decoder_dim=16)
        optimizer = torch.optim.AdamW(parameter_groups(net, 0.05), lr=5e-3)
        losses = []
        for _ in range(num_steps):
            loss = net(images, pixels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    losses = train(0, 20)
    assert losses[-1] < 0.8 * losses[0]
    assert losses[:3] == train(0, 3)
    assert losses[:3] != train(1, 3)


def test_bfloat16_autocast_gives_nearly_the_same_loss() -> None:
    net, (images, pixels) = small_autoencoder(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(images, pixels)
        loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, net(images, pixels), rtol=0.05, atol=0)


@pytest.mark.parametrize("name", ["CoAtNet", "ViTConv"])
def test_nets_without_a_row_of_tokens_are_refused(name: str) -> None:
    nets = {
        "CoAtNet": lambda: CoAtNet(
            32, 5, ["mbconv"] * 2, [8, 8], [1, 1], 1, 8, [1, 1], [3, 3], 0.25
        ),
        "ViTConv": lambda: ViTConv(16, 4, **SMALL),
    }
    with pytest.raises(LeanvitError, match=f"autoencoder does not fit {name}.*model=vit") as error:
        Autoencoder(nets[name](), 32)
    assert "\n" not in str(error.value)


def test_tokens_that_do_not_divide_the_image_and_too_narrow_decoders_are_refused() -> None:
    with pytest.raises(LeanvitError, match=r"81 tokens of CCT do not divide 17 x 17.* of 9"):
        Autoencoder(CCT(17, 5, 1, 3, dim=8, depth=1, heads=2, mlp_dim=8), 17)
    with pytest.raises(LeanvitError, match=r"decoder_dim=4 is too small for 4 steps.*take 12"):
        Autoencoder(ViT(32, 16, **SMALL), 32, decoder_dim=4)
