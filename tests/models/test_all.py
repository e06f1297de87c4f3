"""What one net after the other repeats, of small ones: noise in training, kernels, errors."""

from collections.abc import Callable
from functools import partial

import nets
import pytest
import torch
from image_trees import refused
from nets import images_of, scattered
from torch import Tensor, nn

from leanvit import values

Build = Callable[..., nn.Module]
NETS: dict[str, Build] = {
    "vit": nets.vit,
    "linformer_vit": nets.linformer_vit,
    "linformer_vit shared": partial(nets.linformer_vit, share_kv=True),
    "cct": nets.cct,
    "vit_conv": nets.vit_conv,
    "vit_conv of four patches": partial(nets.vit_conv, patch_size=8),
    "coatnet": nets.coatnet,
    "swin": nets.swin,
    "pvt": nets.pvt,
    "convmixer": nets.convmixer,
}
REGULARISERS = {"dropout", "emb_dropout", "attention_dropout", "drop_path_rate"}
every_net = pytest.mark.parametrize("build", NETS.values(), ids=NETS)


def taken(build: Build, names: set[str]) -> list[str]:
    """Which of these arguments the net has."""
    return sorted(names & values.annotations(type(build())).keys())


@every_net
def test_regularisation_is_random_in_training_only(build: Build) -> None:
    for regulariser in taken(build, REGULARISERS):
        torch.manual_seed(0)
        net, images = build(**{regulariser: 0.5}), images_of(4)
        assert not torch.equal(net.train()(images), net(images)), regulariser
        assert torch.equal(net.eval()(images), net(images)), regulariser


@every_net
def test_stochastic_depth_grows_linearly_over_all_blocks(build: Build) -> None:
    if taken(build, {"drop_path_rate"}):
        net = build(drop_path_rate=0.3)
        rates = [module.drop_path.p for module in net.modules() if hasattr(module, "drop_path")]
        assert rates == pytest.approx({4: [0.0, 0.1, 0.2, 0.3], 3: [0.0, 0.15, 0.3]}[len(rates)])


@every_net
def test_a_branch_that_is_left_out_learns_nothing(build: Build) -> None:
    if taken(build, {"drop_path_rate"}):
        net = build(drop_path_rate=0.3).train()
        blocks = [module for module in net.modules() if hasattr(module, "drop_path")]
        for block in blocks[1:]:
            block.drop_path.p = 1.0
        net(images_of(4)).square().sum().backward()
        branches = ("attention.", "mlp.")
        for number, block in enumerate(blocks):
            found = [p.grad for name, p in block.named_parameters() if name.startswith(branches)]
            assert all((grad is not None and bool(grad.any())) == (number == 0) for grad in found)


@every_net
def test_every_parameter_learns_and_bfloat16_stays_close(build: Build) -> None:
    torch.manual_seed(0)
    net, images = build(**dict.fromkeys(taken(build, REGULARISERS), 0.1)), images_of(16)
    for enabled in (False, True):
        net.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = net(images)
        assert logits.shape == (16, 5)
        nn.functional.cross_entropy(logits.float(), torch.arange(16) % 5).backward()
        without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = net.eval()(images).float()
    torch.testing.assert_close(low, net(images), rtol=0, atol=0.02)


@every_net
def test_kernels_agree_with_gradients_and_the_same_noise(build: Build) -> None:
    """vit_conv masks half of its scores: of four patches some queries are left without a key."""
    found = []
    for kernel in ("sdpa", "math") if taken(build, {"attention"}) else ():
        options = {"attention": kernel, **dict.fromkeys(taken(build, {"attention_dropout"}), 0.5)}
        net = scattered(build(**options, drop_path_rate=0.2)).double().train()
        logits = net(images_of(6, dtype=torch.float64))
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad for p in net.parameters())])
    for fused, literal in zip(*found, strict=True):
        torch.testing.assert_close(fused, literal, rtol=1e-10, atol=1e-10)


READOUTS = [
    *((nets.vit, each) for each in ("cls", "mean", "sum", "weighted", "token:3")),
    *((nets.linformer_vit, each) for each in ("cls", "mean", "sum", "weighted", "token:3")),
    *((nets.cct, each) for each in ("sequence_pool", "mean", "sum", "weighted", "token:15")),
    *((nets.coatnet, each) for each in ("mean", "sum", "weighted", "token:3")),
    *((nets.swin, each) for each in ("mean", "sum", "weighted", "token:3")),
    *((nets.pvt, each) for each in ("mean", "sum", "weighted", "token:3")),
]


@pytest.mark.parametrize(("build", "readout"), READOUTS)
@torch.no_grad()
def test_the_head_reads_tokens_after_the_norm_row_by_row(build: Build, readout: str) -> None:
    net, images = scattered(build(readout=readout)).eval(), images_of(2)
    features = net.begin(images)
    for step in net.steps:
        features = step(features)
    if build is nets.swin:
        tokens = net.norm(features).flatten(1, 2)
    else:
        tokens = net.norm(features.flatten(2).mT if features.ndim == 4 else features)
    own = net.readout.kind if hasattr(net.readout, "kind") else "sequence_pool"
    assert own == readout.partition(":")[0]
    if own == "token":
        assert torch.equal(net.readout(tokens), tokens[:, int(readout[6:])])
    torch.testing.assert_close(net(images), net.head(net.readout(tokens)), rtol=1e-4, atol=1e-5)


DIVISORS = "take a patch_size from 1, 2, 4, 7, 14, 28."
DIM = ({"dim": 30, "heads": 4}, "or a dim such as 32.")
MIXED = {"block_types": ["mbconv", "transformer", "mbconv"]}
WRONG: list[tuple[Build, dict[str, object], str]] = [
    *((build, {"image_size": 28, "patch_size": 8}, DIVISORS)
      for build in (nets.vit, nets.linformer_vit, nets.vit_conv)),
    *((build, *DIM) for build in (nets.vit, nets.linformer_vit, nets.vit_conv, nets.cct)),
    (nets.linformer_vit, {"num_projected": 18}, "take 1 to 17"),
    (nets.linformer_vit, {"readout": "token:17"}, "give 0 to 16"),
    (nets.cct, {"image_size": 4}, "take 5 or more, or fewer num_convolutions"),
    (nets.cct, {"readout": "cls"}, "mean, sum, weighted, token:<k>, or sequence_pool"),
    (nets.cct, {"readout": "token:16"}, "give 0 to 15, or sequence_pool"),
    (nets.coatnet, {"depths": [2, 2]}, "give each one entry per stage"),
    (nets.coatnet, {"dims": [8, 16]}, "give each one entry per stage"),
    (nets.coatnet, {"image_size": 28}, "take a multiple of 8, such as 32"),
    (nets.coatnet, MIXED, "mbconv stages first"),
    (nets.coatnet, {"mbconv_expand_ratios": [4]}, "give each 2, one per such stage"),
    (nets.coatnet, {"mbconv_kernel_sizes": [3, 3, 3]}, "give each 2, one per such stage"),
    (nets.convmixer, {"patch_size": 3}, "patch_size 3 does not divide image_size 16."),
    (nets.pvt, {"depths": [2, 2]}, "have 3, 2, 3, 3, 3, 3 entries; give each one entry per stage."),
    (nets.pvt, {"image_size": 20}, "take a multiple of 8, such as 24, or smaller strides."),
    (nets.pvt, {"sr_ratios": [2, 3, 1]}, "4 x 4 map of stage 1; take one from 1, 2, 4."),
    (nets.pvt, {"heads": [1, 5, 4]}, "or a dim such as 15."),
    (nets.pvt, {"readout": "cls"}, "no [CLS] token): choose from mean"),
    (nets.swin, {"image_size": 30}, "take a multiple of 8, such as 32"),
    (nets.swin, {"image_size": 33, "patch_size": 4}, "take a multiple of 16, such as 48"),
    (nets.swin, {"depths": [1] * 6, "heads": [1] * 6}, "such as 64, a smaller patch_size, or few"),
    (nets.swin, {"window_size": 3}, "take a window_size from 1, 2, 4, 8."),
    (nets.swin, {"image_size": 24, "window_size": 4}, "take a window_size from 1, 3, 6, 12."),
    (nets.swin, {"window_size": 0}, "take a window_size from 1, 2, 4, 8."),
    (nets.swin, {"depths": [2, 2]}, "give each one entry per stage"),
    (nets.swin, {"depths": [], "heads": []}, "give each one entry per stage"),
    (nets.swin, {"heads": [2, 3, 1]}, "do not divide the 16 channels of stage 2; take heads that"),
    (nets.swin, {"readout": "cls"}, "choose from mean"),
    (nets.swin, {"readout": "token:4"}, "give 0 to 3"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "changes", "mend"), WRONG)
def test_a_net_that_cannot_be_is_one_line_that_names_the_mend(
    build: Build, changes: dict[str, object], mend: str
) -> None:
    assert mend in refused(build, **changes)


@pytest.mark.parametrize(
    ("build", "bare"),
    [
        (nets.vit, ["cls_token", "position_embedding"]),
        (nets.cct, ["position_embedding"]),
    ],
)
def test_only_bare_parameters_say_position_or_token(build: Build, bare: list[str]) -> None:
    assert sorted(name for name, _ in build().named_parameters(recurse=False)) == bare


def changed_tokens(net: nn.Module, rows: slice, columns: slice, by: float) -> set[int]:
    """Which tokens a change of some pixels reaches."""
    images: Tensor = images_of(1)
    changed = images.clone()
    changed[:, :, rows, columns] += by
    difference = (net.begin(images) - net.begin(changed)).abs().sum(dim=2)[0]
    return set(difference.nonzero().flatten().tolist())


def test_tokens_stand_row_by_row() -> None:
    torch.manual_seed(0)
    # second row of patches, third column
    assert changed_tokens(nets.vit().eval(), slice(4, 8), slice(8, 12), 1) == {1 + 1 * 4 + 2}
    # seen by outputs 4..6 and 9..11, pooled into rows 2..3 and so on
    net = nets.cct(num_convolutions=1).eval()
    moved = changed_tokens(net, slice(5, 6), slice(10, 11), 10)
    assert moved and moved <= {row * 8 + column for row in (2, 3) for column in (4, 5, 6)}
