"""What is inside a trained net, as arrays: filters, features, positions, tokens over depth.

Every function says ``None`` of a net that has no such thing.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.evaluation.attention_maps import split_tokens


def first_convolution(net: nn.Module) -> nn.Conv2d | None:
    """The one that reads the image's colours."""
    convolutions = (module for module in net.modules() if isinstance(module, nn.Conv2d))
    return next((each for each in convolutions if each.in_channels == 3), None)


def filters(net: nn.Module) -> Float[Tensor, "filters 3 height width"] | None:
    """Kernels of the first convolution, the one of the greatest norm first."""
    convolution = first_convolution(net)
    if convolution is None or convolution.kernel_size == (1, 1):
        return None
    kernels = convolution.weight.detach().float().cpu()
    return kernels[kernels.flatten(1).norm(dim=1).argsort(descending=True)]


@torch.inference_mode()
def outputs_of(
    net: nn.Module, modules: list[nn.Module], images: Float[Tensor, "batch channels height width"]
) -> list[Tensor]:
    """What each of ``modules`` gives for the images, in their order."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs[module] = output

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return [outputs[module] for module in modules]


def patches(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> tuple[Float[Tensor, "batch channels new_height new_width"], int] | None:
    """The images as the first layer sees them, which may be enlarged, and its patch size in pixels;
    only where patches lie side by side."""
    convolution = first_convolution(net)
    if convolution is None or convolution.kernel_size != convolution.stride:
        return None
    size = int(convolution.kernel_size[0])
    seen: list[Tensor] = []
    handle = convolution.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.inference_mode():
            net(images)
    finally:
        handle.remove()
    return (seen[0].float().cpu(), size) if size > 1 else None


def as_maps(outputs: list[Tensor]) -> list[Float[Tensor, "batch _ _ _"]]:
    """Tokens or maps of one net as maps with the channels first; [CLS] is left out.

    A map of as many channels as rows is laid out as the net's other maps are.
    """
    four = [each.shape[1:] for each in outputs if each.ndim == 4]
    channels_last = any(rows == columns != last for rows, columns, last in four)
    maps = []
    for output in outputs:
        if output.ndim == 3:
            prefix, side = split_tokens(output.shape[1])
            output = rearrange(
                output[:, prefix:], "batch (rows columns) dim -> batch dim rows columns", rows=side
            )
        elif channels_last:
            output = output.permute(0, 3, 1, 2)
        maps.append(output.float().cpu())
    return maps


def depths(net: nn.Module) -> tuple[str, list[nn.Module]]:
    """What the net is a row of: "block" or "stage", and these modules, first to last."""
    for word in ("block", "stage"):
        if isinstance(row := getattr(net, f"{word}s", None), nn.ModuleList | nn.Sequential):
            return word, list(row)
    return "block", []


def features(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> tuple[Float[Tensor, "batch dim side side"], list[int]] | None:
    """The map of the patch embedding or stem, and its channels, the one that varies most first.

    From ``embed`` where there is one, so with the positions added.
    """
    if callable(embed := getattr(net, "embed", None)):
        with torch.inference_mode():
            outputs = [embed(images)]
    else:
        stages = depths(net)[1]
        stem = next(net.children())
        if stem is getattr(net, "stages", None):  # a net without a stem: the first stage's first
            stem = stages[0].get_submodule("0")
        outputs = outputs_of(net, [stem, *stages], images)
    if outputs[0].ndim not in (3, 4):
        return None
    maps = as_maps(outputs)[0]
    return maps, maps.std(dim=(0, 2, 3)).argsort(descending=True).tolist()


def token_similarity(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> tuple[str, list[Float[Tensor, "batch _ _"]]] | None:
    """Cosine similarity of each position to what is read out of the image, along the depth.

    After each block as if the net ended there: its norm, then its readout. After the stages of a
    pyramid, whose channels grow, and where a net has no readout: to the mean of all positions.

    Returns:
        "block" or "stage", and a map after each.
    """
    word, modules = depths(net)
    if not modules:
        return None
    outputs = outputs_of(net, modules, images)
    readout = getattr(net, "readout", None) if word == "block" else None
    with torch.inference_mode():
        if word == "block" and hasattr(net, "norm"):
            norm: nn.Module = net.norm  # type: ignore[assignment]
            outputs = [norm(output) for output in outputs]
        maps = as_maps(outputs)
        read = (
            [readout(each).float().cpu() for each in outputs]
            if readout
            else [each.mean(dim=(2, 3)) for each in maps]
        )
    pairs = zip(maps, read, strict=True)
    return word, [F.cosine_similarity(each, it[:, :, None, None], dim=1) for each, it in pairs]


def position_similarity(net: nn.Module) -> Float[Tensor, "rows columns rows columns"] | None:
    """Cosine similarity of each place's position embedding to that of every place."""
    embedding = getattr(net, "position_embedding", None)
    if not isinstance(embedding, Tensor) or embedding.ndim not in (3, 4):
        return None
    maps = as_maps([embedding.detach()])[0][0]
    vectors = F.normalize(rearrange(maps, "dim rows columns -> rows columns dim"), dim=-1)
    return torch.einsum("ijd,kld->ijkl", vectors, vectors)


def bias_tables(net: nn.Module) -> dict[str, Float[Tensor, "_ _ _"]]:
    """Learned biases of relative attention by module, (heads, rows, columns): where the key lies,
    seen from a query in the middle."""
    tables = {}
    for name, module in net.named_modules():
        table = getattr(module, "relative_position_table", None)
        if isinstance(table, Tensor) and table.ndim == 2:
            side = math.isqrt(len(table))
            heads = rearrange(
                table.detach(), "(rows columns) heads -> heads rows columns", rows=side
            )
            # the rows of a table go by query minus key
            tables[name] = heads.flip(1, 2).float().cpu()
    return tables
