"""What is inside a trained net, as arrays: filters, features, positions, tokens over depth.

Every function says ``None`` of a net that has no such thing.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import NetOfSteps
from leanvit.evaluation.pictures.attention_maps import split_tokens
from leanvit.models.order import is_pyramid


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


def word_of(net: NetOfSteps) -> str:
    """What its steps are: "block" or "stage"."""
    return "stage" if is_pyramid(net) else "block"


@torch.inference_mode()
def along(
    net: NetOfSteps, images: Float[Tensor, "batch channels height width"]
) -> list[Float[Tensor, "batch ..."]]:
    """What the first step gets, and what each gives."""
    outputs = [net.begin(images)]
    for step in net.steps:
        outputs.append(step(outputs[-1]))
    return outputs


def features(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> tuple[Float[Tensor, "batch dim side side"], list[int]] | None:
    """The map that the first step gets, positions added, and its channels, the one that varies most
    first. Where that is the image itself: the map of the first layer in the first step."""
    if not isinstance(net, NetOfSteps):
        return None
    first, *later = along(net, images)
    if first.shape == images.shape:
        with torch.inference_mode():
            first = next(net.steps[0].children())(images)
    maps = as_maps([first, *later])[0]
    return maps, maps.std(dim=(0, 2, 3)).argsort(descending=True).tolist()


def token_similarity(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> tuple[str, list[Float[Tensor, "batch _ _"]]] | None:
    """Cosine similarity of each position to what is read out of the image, along the depth.

    After each block as if the net ended there: normed by the layer that stands right after the
    steps, where that is a norm, and pooled. After the stages of a pyramid, whose channels grow,
    only pooled.

    Returns:
        "block" or "stage", and a map after each.
    """
    if not isinstance(net, NetOfSteps):
        return None
    word, outputs = word_of(net), along(net, images)[1:]
    with torch.inference_mode():
        if word == "block" and (norm := _norm_after(net, net.steps[-1])) is not None:
            outputs = [norm(output) for output in outputs]
        read = [net.pool(output).float().cpu() for output in outputs]
    pairs = zip(as_maps(outputs), read, strict=True)
    return word, [F.cosine_similarity(each, it[:, :, None, None], dim=1) for each, it in pairs]


def _norm_after(net: nn.Module, last_step: nn.Module) -> nn.Module | None:
    """The layer of ``net`` after its last step, where that is a norm."""
    ids = [{id(module) for module in child.modules()} for child in net.children()]
    after = max(index for index, found in enumerate(ids) if id(last_step) in found) + 1
    norm = dict(enumerate(net.children())).get(after)
    return norm if isinstance(norm, nn.LayerNorm | nn.BatchNorm2d) else None


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
