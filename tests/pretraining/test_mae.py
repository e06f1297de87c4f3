"""MAE against a loop over images and patches: what enters the encoder, and what the loss."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.models.cct import CCT
from leanvit.models.linformer_vit import LinformerViT
from leanvit.models.vit import ViT
from leanvit.models.vit_b_16 import ViTB16
from leanvit.models.vit_conv import ViTConv
from leanvit.pretraining.mae import MAE, grid_positions
from leanvit.training.parameter_groups import parameter_groups

SIZES = {"image_size": 16, "patch_size": 4, "num_classes": 5, "dim": 24, "heads": 2, "mlp_dim": 32}
DECODER = {"decoder_dim": 12, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 20}


def small_mae(**changes: object) -> MAE:
    torch.manual_seed(0)
    net = MAE(ViT(depth=2, **SIZES), 16, **{**DECODER, **changes})
    for parameter in net.parameters():  # away from what initialisation hides
        nn.init.normal_(parameter, std=0.3)
    return net.double()


def batch(num_images: int = 3) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    pixels = torch.rand(num_images, 3, 16, 16, generator=draws, dtype=torch.float64)
    return (pixels - 0.4) / 0.3, pixels


def drawn(net: MAE, images: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return net.draw_visible(images)


def loss_of(net: MAE, images: Tensor, pixels: Tensor, seed: int = 5) -> Tensor:
    torch.manual_seed(seed)
    return net(images, pixels)


def literal_patch(image: Tensor, place: int) -> Tensor:
    top, left = 4 * (place // 4), 4 * (place % 4)
    return image[:, top : top + 4, left : left + 4]


def literal_position(place: int, dim: int) -> Tensor:
    """Of the published function, with each sine beside its cosine."""
    values = []
    for coordinate in (place % 4, place // 4):
        for pair in range(dim // 4):
            angle = coordinate / 10000 ** (pair / (dim / 4))
            values += [math.sin(angle), math.cos(angle)]
    return torch.tensor(values, dtype=torch.float64)


def literal_errors(net: MAE, image: Tensor, pixels: Tensor, order: list[int]) -> list[float]:
    """The square error of each masked patch of one image; the first of ``order`` are visible."""
    encoder, visible = net.encoder, order[: net.num_visible]
    tokens = [encoder.cls_token[0, 0] + encoder.position_embedding[0, 0]]
    for place in visible:  # in the order of the shuffle, as published
        weight, bias = encoder.patch_embedding.weight, encoder.patch_embedding.bias
        token = (weight * literal_patch(image, place)).sum((1, 2, 3)) + bias
        tokens.append(token + encoder.position_embedding[0, 1 + place])
    encoded = torch.stack(tokens)[None]
    for block in encoder.blocks:
        encoded = block(encoded)
    narrow = net.decoder_embedding(encoder.norm(encoded))[0]
    patches = []
    for place in range(16):
        is_visible = place in visible
        token = narrow[1 + visible.index(place)] if is_visible else net.mask_token[0, 0]
        patches.append(token + literal_position(place, 12))
    decoded = torch.stack([narrow[0], *patches])[None]
    for block in net.decoder_blocks:
        decoded = block(decoded)
    predicted = net.decoder_head(net.decoder_norm(decoded))[0]
    errors = []
    for place in order[net.num_visible :]:
        patch = literal_patch(pixels, place)
        values = [patch[c, y, x].item() for y in range(4) for x in range(4) for c in range(3)]
        if net.norm_pix_loss:
            mean = sum(values) / 48
            variance = sum((value - mean) ** 2 for value in values) / 47
            values = [(value - mean) / (variance + 1e-6) ** 0.5 for value in values]
        said = predicted[1 + place].tolist()
        errors.append(sum((a - b) ** 2 for a, b in zip(said, values, strict=True)) / 48)
    return errors


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_equals_a_loop_over_images_and_patches(norm_pix_loss: bool) -> None:
    net, (images, pixels) = small_mae(norm_pix_loss=norm_pix_loss), batch()
    loss = loss_of(net, images, pixels)
    torch.manual_seed(5)
    noise = torch.rand(3, 16)
    errors = []
    for image, target, of_image in zip(images, pixels, noise, strict=True):
        errors += literal_errors(net, image, target, of_image.argsort().tolist())
    assert len(errors) == 3 * 12
    torch.testing.assert_close(loss.item(), sum(errors) / len(errors), rtol=0, atol=1e-6)


def test_each_image_has_its_own_quarter_and_every_patch_its_chance() -> None:
    net = small_mae()
    visible = drawn(net, torch.zeros(2000, 3, 16, 16), 0)
    assert visible.shape == (2000, 4)
    assert (visible.diff(dim=1) > 0).all()  # each once, in order
    assert len({tuple(each) for each in visible.tolist()}) > 1000  # of 1,820
    share = torch.bincount(visible.flatten(), minlength=16) / 2000
    torch.testing.assert_close(share, torch.full((16,), 0.25), rtol=0, atol=0.05)
    assert torch.equal(visible, drawn(net, torch.zeros(2000, 3, 16, 16), 0))


@pytest.mark.parametrize(("ratio", "num_visible"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.1, 14)])
def test_the_ratio_is_exact(ratio: float, num_visible: int) -> None:
    assert small_mae(mask_ratio=ratio).num_visible == num_visible


def test_with_every_patch_visible_the_encoder_is_the_net_itself() -> None:
    net, (images, _) = small_mae(), batch()
    tokens = net.encoder.begin(images)
    for block in net.encoder.blocks:
        tokens = block(tokens)
    everything = torch.arange(16).expand(3, -1)
    assert torch.equal(net.encode(images, everything), net.encoder.norm(tokens))


def in_patches(net: MAE, images: Tensor, chosen: Tensor, value: float) -> Tensor:
    """``images`` with ``value`` added in the chosen patches (batch, patches)."""
    where = net._to_images(chosen[:, :, None].expand(-1, -1, 48))
    return images + value * where


def test_masked_patches_are_not_seen_and_visible_ones_not_judged() -> None:
    net, (images, pixels) = small_mae(norm_pix_loss=False), batch()
    visible = torch.zeros(3, 16, dtype=torch.bool).scatter(1, drawn(net, images, 5), True)
    loss = loss_of(net, images, pixels)
    assert torch.equal(loss, loss_of(net, in_patches(net, images, ~visible, 9.0), pixels))
    assert torch.equal(loss, loss_of(net, images, in_patches(net, pixels, visible, 9.0)))
    one = torch.zeros_like(visible)
    one[0, visible[0].nonzero()[0]] = True
    assert not torch.equal(loss, loss_of(net, in_patches(net, images, one, 0.1), pixels))
    one = torch.zeros_like(visible)
    one[0, (~visible[0]).nonzero()[0]] = True
    assert not torch.equal(loss, loss_of(net, images, in_patches(net, pixels, one, 0.1)))


def test_tokens_go_back_to_their_places_among_mask_tokens() -> None:
    net, (images, _) = small_mae(decoder_depth=0), batch()
    visible = drawn(net, images, 3)
    encoded = net.encode(images, visible)
    predicted = net.decode(encoded, visible)
    tokens = net.decoder_embedding(encoded)
    for image in range(3):
        for place in range(16):
            token = net.mask_token[0, 0]
            if place in visible[image]:
                token = tokens[image, 1 + visible[image].tolist().index(place)]
            token = net.decoder_norm(token + net.decoder_position[place])
            torch.testing.assert_close(predicted[image, place], net.decoder_head(token))


def test_positions_differ_by_row_and_by_column() -> None:
    positions = grid_positions(3, 8)
    assert positions.shape == (9, 8)
    assert torch.equal(positions[3][:4], positions[0][:4])  # below it: the same column
    assert torch.equal(positions[1][4:], positions[0][4:])  # beside it: the same row
    assert len({tuple(each) for each in positions.tolist()}) == 9


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_a_perfect_decoder_reconstructs_the_image(
    norm_pix_loss: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, (images, pixels) = small_mae(norm_pix_loss=norm_pix_loss), batch()
    visible = drawn(net, images, 7)
    seen = torch.zeros(3, 16, dtype=torch.bool).scatter(1, visible, True)
    seen_pixels = in_patches(net, torch.zeros_like(pixels), seen, 1.0).bool()
    torch.manual_seed(7)
    found = net.reconstruct(images, pixels)
    assert torch.equal(found["masked"], torch.where(seen_pixels, pixels, 0.5))
    assert torch.equal(found["reconstruction"][seen_pixels], pixels[seen_pixels])
    assert not torch.isclose(found["reconstruction"][~seen_pixels], pixels[~seen_pixels]).all()
    monkeypatch.setattr(net, "decode", lambda *_: net.targets(pixels)[0])
    torch.manual_seed(7)
    torch.testing.assert_close(net.reconstruct(images, pixels)["reconstruction"], pixels)


class OneArgument(nn.Module):
    def __init__(self, net: MAE) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images, images)


def test_blocks_see_a_quarter_and_cost_so() -> None:
    net = small_mae()

    def block(tokens: int, dim: int, mlp_dim: int) -> int:
        return tokens * (4 * dim**2 + 2 * dim * mlp_dim) + 2 * tokens**2 * dim

    encoder = 16 * 48 * 24 + 2 * block(1 + 4, 24, 32)
    decoder = 5 * 24 * 12 + block(1 + 16, 12, 20) + 16 * 12 * 48
    assert cost(OneArgument(net), 16).macs == encoder + decoder


def test_what_is_trained_gets_a_gradient_and_the_head_none() -> None:
    net, (images, pixels) = small_mae(), batch()
    head = net.encoder.head.weight.clone()
    net(images, pixels).backward()
    for name, parameter in net.named_parameters():
        is_unused = name.startswith(("encoder.head.", "encoder.readout."))
        assert (parameter.grad is None) == is_unused, name
        assert parameter.requires_grad != is_unused
    assert torch.equal(net.encoder.head.weight, head)
    decayed, spared = parameter_groups(net, 0.05)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    spared_names = {names[id(p)] for p in spared["params"]}
    assert {"mask_token", "encoder.cls_token", "encoder.position_embedding"} <= spared_names
    assert "decoder_head.weight" in {names[id(p)] for p in decayed["params"]}


def test_masked_patches_are_learnt_from_visible_ones_and_the_seed_decides() -> None:
    levels = torch.linspace(0, 1, 16)  # each image is of one grey, so that any patch tells all
    pixels = levels[:, None, None, None].expand(-1, 3, 16, 16)

    def train(seed: int, num_steps: int) -> list[float]:
        torch.manual_seed(seed)
        net = MAE(ViT(depth=2, **SIZES), 16, **DECODER, norm_pix_loss=False)
        optimizer = torch.optim.AdamW(parameter_groups(net, 0.05), lr=1e-2)
        losses = []
        for _ in range(num_steps):
            loss = net((pixels - 0.5) / 0.3, pixels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    losses = train(0, 40)
    assert losses[-1] < 0.3 * levels.var()  # what the best constant would leave
    assert losses[:3] == train(0, 3)
    assert losses[:3] != train(1, 3)


def test_bfloat16_autocast_gives_nearly_the_same_loss() -> None:
    net = small_mae().float()
    images, pixels = (each.float() for each in batch())
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(net, images, pixels)
        loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(net, images, pixels), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("build", "image_size", "words"),
    [
        (lambda: LinformerViT(depth=1, num_projected=4, **SIZES), 16, "LinformerViT.*all tokens"),
        (
            lambda: CCT(16, 5, 1, 3, dim=8, depth=1, heads=2, mlp_dim=8),
            16,
            "does not fit CCT, whose tokens see.*vit_b_16.*pretrain=autoencoder",
        ),
        (lambda: ViTConv(depth=1, **SIZES), 16, "does not fit ViTConv, which has no row of tokens"),
        (lambda: ViTB16(32, 5, weights=None), 32, "196 tokens of ViTB16.*multiple of 14"),
        (lambda: ViTB16(28, 5, weights=None), 28, "enlarges images of 28 pixels to 224"),
    ],
    ids=["linformer", "cct", "vit_conv", "vit_b_16 at 32", "vit_b_16 at 28"],
)
def test_what_does_not_fit_is_refused(
    build: Callable[[], nn.Module], image_size: int, words: str
) -> None:
    with torch.device("meta"), pytest.raises(LeanvitError, match=words) as error:
        MAE(build(), image_size)
    assert "\n" not in str(error.value)


def test_a_vit_b_16_fits_at_its_own_size() -> None:
    with torch.device("meta"):
        net = MAE(ViTB16(224, 5, weights=None), 224)
    assert (net.patch_size, net.num_visible) == (16, 49)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio=0.0 of 16 patches"),
        ({"mask_ratio": 0.99}, "mask_ratio=0.99"),
        ({"decoder_dim": 13}, "decoder_dim=13 .* such as 16"),
    ],
)
def test_wrong_values_are_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(LeanvitError, match=words) as error:
        small_mae(**changes)
    assert "\n" not in str(error.value)
