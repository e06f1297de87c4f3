"""Swin: a pyramid of attention inside windows that shift from block to block.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
ICCV 2021 (https://arxiv.org/abs/2103.14030).

- Tokens attend inside square windows only: the cost grows with the image's area, not its square.
- Every second block shifts its windows by half a window, so that neighbours across a border meet.
  The map is rolled, and a mask keeps apart what came round from the far edge.
- The scores get a learned bias for each head and each offset inside the window.
- Between stages patch merging makes one token of 2x2: half the map, twice the channels.
- Pre-norm blocks with a four times wider MLP; after a last LayerNorm the mean of the tokens.

Deviations:

- The mask is -inf where the original adds -100: a key across a border gets exactly nothing.
- A window shrinks to a smaller map, as in the original code, and must divide a larger one;
  torchvision's Swin pads the map in both cases.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend
from leanvit.models.convolution_parts import StochasticDepth
from leanvit.models.readout import Readout
from leanvit.models.relative_position import relative_position_bias, relative_position_index
from leanvit.values import Count, Positive, ShareBelowOne


def window_places(
    map_size: int, window_size: int, shift: int
) -> Int[Tensor, "windows window_tokens"]:
    """Where each token of each window stands in the map, which is read row by row.

    The windows are those of the map rolled up and to the left by ``shift``.
    """
    places = torch.arange(map_size**2).reshape(map_size, map_size).roll((-shift, -shift), (0, 1))
    pattern = "(rows height) (columns width) -> (rows columns) (height width)"
    return rearrange(places, pattern, height=window_size, width=window_size)


def shift_mask(
    map_size: int, window_size: int, shift: int
) -> Bool[Tensor, "windows window_tokens window_tokens"]:
    """True for two tokens of a window that only the roll brought together."""
    places = window_places(map_size, window_size, shift)
    # Rows and columns before the shift are the ones that the roll takes to the far edge.
    region = 2 * (places // map_size < shift) + (places % map_size < shift)
    return region[:, :, None] != region[:, None, :]


class WindowAttention(nn.Module):
    """Multi-head self-attention inside the windows of a map rolled by ``shift``."""

    mask: Tensor
    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        map_size: int,
        window_size: int,
        shift: int,
        heads: int,
        dropout: float,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.map_size, self.window_size, self.shift = map_size, window_size, shift
        self.heads, self.kernel = heads, attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        num_offsets = (2 * window_size - 1) ** 2
        self.relative_position_table = nn.Parameter(torch.empty(num_offsets, heads))
        index = relative_position_index(window_size, window_size)
        self.register_buffer("relative_position_index", index, persistent=False)
        # of truth values: averaging the weights of a net averages its floating buffers, too
        self.register_buffer("mask", shift_mask(map_size, window_size, shift), persistent=False)

    def position_bias(self) -> Float[Tensor, "heads tokens tokens"]:
        return relative_position_bias(self.relative_position_table, self.relative_position_index)

    def forward(
        self, features: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch height width dim"]:
        # Windows stand beside the heads: the bias of (windows, heads) then serves all images.
        query, key, value = rearrange(
            self.qkv(features.roll((-self.shift, -self.shift), (1, 2))),
            "batch (rows height) (columns width) (three heads dim_head)"
            " -> three batch (rows columns heads) (height width) dim_head",
            three=3,
            heads=self.heads,
            height=self.window_size,
            width=self.window_size,
        )
        bias = torch.where(self.mask[:, None], -torch.inf, self.position_bias()).flatten(0, 1)
        attended = rearrange(
            attend(query, key, value, bias=bias, kernel=self.kernel),
            "batch (rows columns heads) (height width) dim_head"
            " -> batch (rows height) (columns width) (heads dim_head)",
            rows=self.map_size // self.window_size,
            heads=self.heads,
            height=self.window_size,
        )
        return self.dropout(self.out(attended).roll((self.shift, self.shift), (1, 2)))

    def over_tokens(
        self, weights: Float[Tensor, "batch windows_heads window_tokens window_tokens"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """The weights of all windows as matrices over the whole map, zero between windows."""
        places = window_places(self.map_size, self.window_size, self.shift).to(weights.device)
        full = weights.new_zeros(len(weights), self.heads, self.map_size**2, self.map_size**2)
        full[:, :, places[:, :, None], places[:, None, :]] = rearrange(
            weights,
            "batch (windows heads) queries keys -> batch heads windows queries keys",
            heads=self.heads,
        )
        return full

    def units(self) -> list[Heads]:
        return [Heads(self, makers=[self.qkv], reader=self.out, tables=["relative_position_table"])]


class Block(nn.Module):
    """One pre-norm block: window attention and MLP, each skipped by a residual connection."""

    def __init__(
        self,
        dim: int,
        attention: WindowAttention,
        mlp_dim: int,
        dropout: float,
        drop_path_rate: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, norm_eps)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim, norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, dim),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, features: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch height width dim"]:
        features = features + self.drop_path(self.attention(self.attention_norm(features)))
        return features + self.drop_path(self.mlp(self.mlp_norm(features)))


class PatchMerging(nn.Module):
    """Each 2x2 tokens to one of twice the channels."""

    def __init__(self, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, norm_eps)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(
        self, features: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch new_height new_width new_dim"]:
        # column before row: the original's order, which pretrained weights expect
        pattern = "batch (height row) (width column) dim -> batch height width (column row dim)"
        return self.reduction(self.norm(rearrange(features, pattern, row=2, column=2)))


class Swin(nn.Module):
    """Swin Transformer: square images to logits; maps are (batch, height, width, channels).

    The sizes are by default Swin-T's.

    Args:
        image_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; divides ``image_size``.
        num_classes: number of logits.
        dim: channels of a token in the first stage; each later stage doubles them.
        depths: blocks of each stage; a stage after the first halves the map before its blocks.
        heads: attention heads of each stage's blocks; divide its channels.
        window_size: height and width of a window in tokens; divides every map larger than it, and
            shrinks to every smaller one; ``None``: the paper's 7, or the next smaller that does.
        mlp_ratio: channels of the MLP's hidden layer over those of its block.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each linear layer of a block, except after
            the query, key and value projections.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        norm_eps: added to the variance in every LayerNorm.
        readout: of the last map's tokens; see :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if ``image_size`` does not suit the patches and halvings, or a map the
            windows; the lists disagree in length, a stage is empty, or heads do not divide its
            channels; no such readout or attention.
    """

    def __init__(
        self,
        image_size: Count = 224,
        patch_size: Count = 4,
        num_classes: Count = 1000,
        dim: Count = 96,
        depths: Sequence[Count] = (2, 2, 6, 2),
        heads: Sequence[Count] = (3, 6, 12, 24),
        window_size: Count | None = None,
        mlp_ratio: Positive = 4.0,
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        norm_eps: Positive = 1e-5,
        readout: str = "mean",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_stages(dim, depths, heads)
        window_size = _window_size(window_size, image_size, patch_size, len(depths))
        self.patch_embedding = nn.Sequential(
            nn.Conv2d(in_channels, dim, patch_size, stride=patch_size),
            Rearrange("batch dim height width -> batch height width dim"),
            nn.LayerNorm(dim, norm_eps),
        )
        rates = iter(drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths)))
        map_size = image_size // patch_size
        stages: list[nn.Sequential] = []
        for stage, depth in enumerate(depths):
            modules: list[nn.Module] = []
            if stage > 0:
                modules.append(PatchMerging(dim, norm_eps))
                dim, map_size = 2 * dim, map_size // 2
            window = min(window_size, map_size)
            for i in range(depth):
                shift = window // 2 if i % 2 == 1 and window < map_size else 0
                sizes = (dim, map_size, window, shift, heads[stage])
                windows = WindowAttention(*sizes, dropout, attention)
                mlp_dim = int(mlp_ratio * dim)
                modules.append(Block(dim, windows, mlp_dim, dropout, next(rates), norm_eps))
            stages.append(nn.Sequential(*modules))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.readout = Readout(readout, map_size**2, has_cls=False)
        self.head = nn.Linear(dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_table, std=0.02)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.stages)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch new_height new_width dim"]:
        return self.patch_embedding(images)

    def end(
        self, features: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.norm(features)
        tokens = rearrange(features, "batch height width dim -> batch (height width) dim")
        return self.head(self.readout(tokens))

    def pool(self, features: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch dim"]:
        return features.mean(dim=(1, 2))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's ``SwinTransformer`` under the names of :class:`Swin`.

    Its windows must be no larger than its maps, as those of the pretrained nets are: ours shrink.
    """
    kept = [name for name in state if not name.endswith("relative_position_index")]  # a buffer
    return {_our_name(name): state[name] for name in kept}


def _our_name(name: str) -> str:
    if not name.startswith("features."):  # norm and head
        return name
    _, index, rest = name.split(".", 2)
    if index == "0":
        return f"patch_embedding.{rest}"
    stage, is_stage = divmod(int(index), 2)  # theirs alternate: stage, merging, stage, ...
    if not is_stage:
        return f"stages.{stage}.0.{rest}"
    block, rest = rest.split(".", 1)
    rest = rest.replace("norm1", "attention_norm").replace("norm2", "mlp_norm")
    rest = rest.replace("attn.proj", "attention.out").replace("attn.", "attention.")
    rest = rest.replace("relative_position_bias_table", "relative_position_table")
    return f"stages.{stage}.{int(block) + (stage > 0)}.{rest}"  # ours count the merging too


def _check_stages(dim: int, depths: Sequence[int], heads: Sequence[int]) -> None:
    if not len(depths) == len(heads) > 0:
        raise LeanvitError(
            f"Swin: depths {list(depths)} and heads {list(heads)} do not describe the same stages; "
            "give each one entry per stage."
        )
    for stage, num_heads in enumerate(heads):
        if dim * 2**stage % num_heads != 0:
            raise LeanvitError(
                f"Swin: heads {num_heads} do not divide the {dim * 2**stage} channels of stage "
                f"{stage + 1}; take heads that do, or dim {(dim // num_heads + 1) * num_heads}."
            )


def _window_size(given: int | None, image_size: int, patch_size: int, num_stages: int) -> int:
    """``given``, if it suits all maps; ``None``: the greatest up to 7 that does."""
    multiple = patch_size * 2 ** (num_stages - 1)
    if image_size % multiple != 0:
        raise LeanvitError(
            f"Swin: image_size {image_size} cannot be cut into patches of {patch_size} and halved "
            f"{num_stages - 1} times; take a multiple of {multiple}, such as "
            f"{(image_size // multiple + 1) * multiple}, a smaller patch_size, or fewer stages."
        )
    maps = [image_size // patch_size // 2**stage for stage in range(num_stages)]
    windows = [w for w in range(1, maps[0] + 1) if all(m <= w or m % w == 0 for m in maps)]
    if given is None:
        return max(each for each in windows if each <= 7)
    if given not in windows and given < maps[0]:
        raise LeanvitError(
            f"Swin: window_size {given} does not divide the maps of "
            f"{', '.join(map(str, maps))} tokens a side; "
            f"take a window_size from {', '.join(map(str, windows))}."
        )
    return given
