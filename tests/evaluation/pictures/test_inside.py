"""What is found inside small nets whose weights are known, and how it is drawn."""

import pytest
import torch
import torch.nn.functional as F
from looks import check_is_read, images, look, pyramid, vit
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures import inside
from leanvit.evaluation.pictures.figures import save_figure
from leanvit.evaluation.pictures.inside_figures import FIGURES, check_names, draw
from leanvit.evaluation.pictures.panels import draw_map, evenly, mosaic
from leanvit.models.coatnet import RelativeAttention


class Enlarged(nn.Module):
    """A net that doubles its images before it cuts them, and is nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, given: Tensor) -> Tensor:
        return self.patch_embedding(F.interpolate(given, scale_factor=2)).mean(dim=(2, 3))


class Pooled(nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        colours = torch.cat((given, given[:, :1]), dim=1)
        return F.avg_pool2d(colours, 2).permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """A pyramid of (batch, height, width, channels), the first map as wide as its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(nn.Sequential(Pooled()), nn.Sequential(nn.Linear(4, 6)))

    def begin(self, given: Tensor) -> Tensor:
        return given

    def end(self, features: Tensor) -> Tensor:
        return self.pool(features)

    def pool(self, features: Tensor) -> Tensor:
        return features.mean(dim=(1, 2))


def test_filters_are_sorted_by_their_norm():
    net = vit()
    with torch.no_grad():
        net.patch_embedding.weight.mul_(torch.tensor([1.0, 9, 2, 8, 3, 7, 4, 6]).view(8, 1, 1, 1))
    norms = inside.filters(net).flatten(1).norm(dim=1)
    assert norms.tolist() == sorted(norms.tolist(), reverse=True)
    assert inside.filters(nn.Conv2d(3, 4, 1)) is None
    assert inside.filters(nn.Linear(3, 4)) is None


def test_patches_are_cut_from_what_the_first_layer_sees():
    seen, size = inside.patches(vit(), images())
    assert size == 2
    torch.testing.assert_close(seen, images())
    seen, size = inside.patches(Enlarged(), images())
    assert size == 4
    torch.testing.assert_close(seen, F.interpolate(images(), scale_factor=2))
    assert inside.patches(pyramid(), images(size=32)) is None  # its stem's kernels overlap


def test_a_map_as_wide_as_its_channels_is_laid_out_as_the_others():
    first, last = torch.randn(2, 4, 4, 4), torch.randn(2, 2, 2, 8)
    maps = inside.as_maps([first, last])
    torch.testing.assert_close(maps[0], first.permute(0, 3, 1, 2))
    torch.testing.assert_close(maps[1], last.permute(0, 3, 1, 2))
    torch.testing.assert_close(inside.as_maps([first, torch.randn(2, 8, 2, 2)])[0], first)
    tokens = torch.randn(2, 5, 3)
    torch.testing.assert_close(inside.as_maps([tokens])[0][1, :, 1, 0], tokens[1, 3])


def test_features_of_tokens_and_of_a_stem():
    net = vit()
    maps, channels = inside.features(net, images())
    with torch.no_grad():
        torch.testing.assert_close(maps[:, :, 1, 2], net.begin(images())[:, 1 + 4 + 2])
        stem = pyramid().stem(images(size=32))
    spreads = [maps[:, channel].std().item() for channel in channels]
    assert spreads == sorted(spreads, reverse=True) and sorted(channels) == list(range(8))
    torch.testing.assert_close(inside.features(pyramid(), images(size=32))[0], stem)
    pooled = F.avg_pool2d(images(), 2)
    found = inside.features(ChannelsLast(), images())[0]  # no stem: the first stage's first module
    torch.testing.assert_close(found[:, :3], pooled)


@pytest.mark.parametrize("readout", ["cls", "mean"])
def test_tokens_are_compared_to_what_would_be_read_out(readout):
    net = vit(readout=readout)
    word, maps = inside.token_similarity(net, images())
    assert word == "block" and len(maps) == 2
    with torch.no_grad():
        tokens = net.norm(net.blocks[0](net.begin(images())))
        read = tokens[:, 0] if readout == "cls" else tokens[:, 1:].mean(dim=1)
    expected = F.cosine_similarity(tokens[:, 1:], read[:, None], dim=2)
    torch.testing.assert_close(maps[0], expected.view(3, 4, 4))


def test_positions_of_a_pyramid_are_compared_to_their_mean():
    word, maps = inside.token_similarity(pyramid(), images(size=32))
    assert word == "stage" and [each.shape[-1] for each in maps] == [16, 8, 4]
    with torch.no_grad():
        net = pyramid()
        features = net.stages[0](net.stem(images(size=32)))
    expected = F.cosine_similarity(features, features.mean(dim=(2, 3), keepdim=True), dim=1)
    torch.testing.assert_close(maps[0], expected)
    assert inside.token_similarity(nn.Conv2d(3, 4, 1), images()) is None


def test_position_similarity_of_tokens_and_of_a_map():
    net = vit()
    similarity = inside.position_similarity(net)
    vectors = net.position_embedding.detach()[0, 1:]
    expected = F.cosine_similarity(vectors[1 * 4 + 2], vectors[3 * 4 + 0], dim=0)
    torch.testing.assert_close(similarity[1, 2, 3, 0], expected)
    net.position_embedding = nn.Parameter(vectors.T.reshape(1, 8, 4, 4))
    torch.testing.assert_close(inside.position_similarity(net), similarity)
    assert inside.position_similarity(pyramid()) is None


def test_a_bias_table_shows_the_key_from_the_query():
    attention = RelativeAttention(8, 3, 2, 4, 0.0, "sdpa")
    nn.init.normal_(attention.relative_position_table)
    (table,) = inside.bias_tables(attention).values()
    centre, right_of_it, below_it = 4, 5, 7
    assert table.shape == (2, 5, 5)
    bias = attention.position_bias().detach()
    torch.testing.assert_close(table[:, 2, 3], bias[:, centre, right_of_it])
    torch.testing.assert_close(table[:, 3, 2], bias[:, centre, below_it])
    assert len(inside.bias_tables(pyramid())) == 3


def test_evenly_keeps_the_ends():
    assert evenly(12, 8) == [0, 2, 3, 5, 6, 8, 9, 11]
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(1, 8) == [0]


def test_mosaic_leaves_gaps():
    tiles = torch.arange(3.0).view(3, 1, 1).expand(3, 2, 2).numpy()
    whole = torch.from_numpy(mosaic(tiles, 2))
    assert whole.shape == (5, 5)
    torch.testing.assert_close(whole[0], torch.tensor([0, 0, torch.nan, 1, 1]), equal_nan=True)
    assert whole[3, 0] == 2 and whole[2].isnan().all() and whole[3:, 3:].isnan().all()


def test_a_map_tells_its_range_and_does_not_blow_up_rounding():
    axes = Figure().subplots()
    draw_map(axes, torch.tensor([[0.5, -1.25]]))
    assert axes.get_xlabel() == "−1.25 to 0.50"
    flat = draw_map(axes, torch.tensor([[1.0, 1.0 + 1e-7]]))
    low, high = flat.get_clim()
    assert high - low >= 1e-3
    assert draw_map(axes, torch.zeros(2, 2)).get_clim() == (0, 1)


def colours(path) -> int:
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 300
        small = image.convert("RGB").resize((200, 200), Image.Resampling.NEAREST)
        return len(small.getcolors(40000))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("net", "size", "missing"),
    [(vit(), 8, set()), (pyramid(), 32, {"patches"})],
    ids=["vit", "pyramid"],
)
def test_all_that_fit_is_drawn(net, size, missing, tmp_path):
    figures = draw(look(net, size=size), [])
    assert set(figures) == set(FIGURES) - missing
    for name, figure in figures.items():
        save_figure(figure, tmp_path / f"{name}.png", "a run, test images, a source")
        assert colours(tmp_path / f"{name}.png") > 30, name


def test_right_and_wrong_differ_in_more_than_colour():
    figure = draw(look(vit(depth=9, heads=1), batch=2), ["tokens"])["tokens"]
    grid = [axes for axes in figure.axes if axes.get_images()]
    assert len(grid) == 2 * (1 + 6)  # of nine blocks six are shown
    right, wrong = grid[0], grid[7]
    assert right.get_ylabel() == "✓ true cat,\npredicted dog 0.0"
    assert wrong.get_ylabel() == "✗ true cat,\npredicted dog 0.1"
    assert right.spines["top"].get_linestyle() != wrong.spines["top"].get_linestyle()


def test_long_names_of_classes_leave_room_for_each_other(tmp_path):
    names = ["attention", "rollout", "patches", "tokens"]
    for figure in draw(look(vit(), batch=8, name="a long name of thirty letters"), names).values():
        save_figure(figure, tmp_path / "figure.png", "a run, test images, a source")
        check_is_read(figure, 0.35)


def test_attention_names_its_block_and_heads():
    figure = draw(look(vit(), batch=1, block=0), ["attention"])["attention"]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "head 0", "head 1", "mean of all"]
    told = " ".join(figure.get_supxlabel().split())
    assert "[CLS] to each position in block 0 of 0–1, on a map of 4x4" in told


def test_what_does_not_fit_names_what_does():
    with pytest.raises(LeanvitError, match="what=attentoin: choose from all, attention, rollout"):
        check_names(["rollout", "attentoin"])
    assert check_names(["all"]) == [] and check_names(["dynamic"]) == ["dynamic"]
    with pytest.raises(LeanvitError, match=r"what=rollout: Enlarged has .* patches, filters$"):
        draw(look(Enlarged()), ["filters", "rollout"])
