"""What the tests of pictures look at: nets that are small, and images of noise."""

import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor, nn

from leanvit.evaluation.pictures.look import Look
from leanvit.models.coatnet import CoAtNet
from leanvit.models.vit import ViT


def images(batch: int = 3, size: int = 8) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def look(
    net: nn.Module | None = None,
    batch: int = 3,
    size: int = 8,
    block: int | None = None,
    name: str = "cat",
) -> Look:
    """Right and wrong predictions in turn."""
    given = images(batch, size)
    return Look(
        net or nn.Identity(),
        (given * 40 + 128).clamp(0, 255).to(torch.uint8),
        given,
        tuple(f"true {name},\npredicted dog 0.{index}" for index in range(batch)),
        tuple(index % 2 == 0 for index in range(batch)),
        torch.full((3,), 0.5),
        torch.full((3,), 0.2),
        block,
    )


def vit(**changes: object) -> ViT:
    """16 patches of 2 pixels, and [CLS]."""
    torch.manual_seed(0)
    sizes = {"patch_size": 2, "num_classes": 3, "dim": 8, "depth": 2, "heads": 2, "mlp_dim": 8}
    return ViT(8, **{**sizes, **changes}).eval()


def pyramid() -> CoAtNet:
    """Of images of 32 pixels: maps of 16, 8 and 4."""
    torch.manual_seed(0)
    kinds = ("mbconv", "transformer", "transformer")
    heads = {"transformer_heads": 2, "transformer_dim_head": 4}
    mbconv = {"mbconv_expand_ratios": (1,), "mbconv_kernel_sizes": (3,), "se_ratio": 0.5}
    return CoAtNet(32, 3, kinds, dims=(16, 6, 4), depths=(1, 1, 2), **heads, **mbconv).eval()


def check_is_read(figure: Figure, least_share: float) -> None:
    """See that a figure that was saved is read at its own size: no letters below 7 points, no text
    upon another, and panels on so much of its ground."""
    unseen = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                unseen |= {tick.label1, tick.label2}
    texts = [each for each in figure.findobj(Text) if each not in unseen]
    texts = [each for each in texts if each.get_visible() and each.get_text().strip()]
    assert texts and min(each.get_fontsize() for each in texts) >= 7
    # of what stands aslant the box says nothing
    boxes = [(each.get_window_extent(), each.get_text()) for each in texts
             if each.get_rotation() % 90 == 0]  # fmt: skip
    for index, (one, word) in enumerate(boxes):
        for other, other_word in boxes[index + 1 :]:
            assert not one.padded(-1).overlaps(other.padded(-1)), (word, other_word)
    panels = sum(axes.bbox.width * axes.bbox.height for axes in figure.axes)
    ground = figure.get_tightbbox().width * figure.get_tightbbox().height * figure.dpi**2
    assert panels > least_share * ground, panels / ground
