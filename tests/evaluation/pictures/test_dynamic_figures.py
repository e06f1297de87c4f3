"""Figures of dynamic nets: what is pale, which colours a group has, whose share a bar is."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from looks import look
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor, nn

from leanvit.data.images import ImageSet
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.class_costs import (
    NO_RELATION,
    cost_by_class,
    exits_by_class,
    rank_correlation,
    relation,
)
from leanvit.evaluation.pictures.dynamic_figures import draw_dynamic, observe
from leanvit.evaluation.pictures.figures import RED
from leanvit.evaluation.pictures.token_pictures import (
    enlarged,
    group_means,
    kept_tokens,
    merged_tokens,
)
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.tome import ToMe
from leanvit.models.vit import ViT

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cat", "doe")


def pixels(num: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (num, 3, 8, 8), dtype=torch.uint8, generator=draws)


def panels(figure, title: str) -> list:
    """The panels of one column, top to bottom; where rows stand beside each other, of both."""
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    grid = [axes for axes in figure.axes if axes.axison]
    width = len(set(titles))
    return [axes for place, axes in enumerate(grid) if place % width == titles.index(title)]


class TestPictures:
    @pytest.mark.parametrize("num", [2, 7])
    def test_dropped_patches_are_pale_and_the_others_as_they_are(self, num: int) -> None:
        shown, random = look(batch=num), np.random.default_rng(0)
        kept = random.random((num, 2, 16)) < 0.5
        figure = kept_tokens(shown, kept, ["one", "two"])
        pictures = panels(figure, "two")
        assert len(pictures) == num
        blocks = 2 if num > 5 else 1
        rows = -(-num // blocks)
        for place, axes in enumerate(pictures):
            index = place // blocks + rows * (place % blocks)
            drawn = axes.images[0].get_array()
            original = shown.images[index].permute(1, 2, 0).numpy()
            for patch, (row, column) in enumerate(itertools.product(range(4), range(4))):
                here = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                if kept[index, 1, patch]:
                    assert np.array_equal(drawn[here], original[here])
                else:
                    assert drawn[here].min() > 185 and np.ptp(drawn[here], axis=2).max() == 0
            assert axes.get_xlabel() == f"{kept[index, 1].sum()} of 16"

    def test_a_line_runs_between_kept_and_dropped(self) -> None:
        kept = np.zeros((1, 1, 16), dtype=bool)
        kept[0, 0, 5] = True  # second row, second column
        (axes,) = panels(kept_tokens(look(batch=1), kept, ["one"]), "one")
        (lines,) = axes.collections
        across = {((0.5, y), (1.5, y)) for y in (0.5, 1.5)}
        down = {((x, 0.5), (x, 1.5)) for x in (0.5, 1.5)}
        assert {tuple(map(tuple, each)) for each in lines.get_segments()} == across | down
        assert to_hex(lines.get_edgecolor()[0]).upper() == RED

    def test_patches_of_a_group_have_its_mean_colour(self) -> None:
        patches, groups = np.random.default_rng(0).random((2, 6, 3)), [[0, 1, 0, 2, 1, 0]] * 2
        found = group_means(patches, np.array(groups))
        for image, group in itertools.product(range(2), range(3)):
            members = np.array(groups[image]) == group
            np.testing.assert_allclose(
                found[image, members] - patches[image, members].mean(axis=0), 0, atol=1e-12
            )

    def test_merged_tokens_are_counted_and_parted(self) -> None:
        groups = np.tile(np.arange(16), (1, 2, 1))
        groups[0, 1] = [0] * 8 + [1] * 8
        figure = merged_tokens(look(batch=1), groups)
        apart, halves = panels(figure, "after block 0")[0], panels(figure, "after block 1")[0]
        assert (apart.get_xlabel(), halves.get_xlabel()) == ("16 of 16", "2 of 16")
        assert len(apart.collections[0].get_segments()) == 24
        assert len(halves.collections[0].get_segments()) == 4
        colours = halves.images[0].get_array().reshape(16, 3)
        half = look(batch=1).images[0, :, :4].float().mean(dim=(1, 2)).numpy()
        assert np.abs(colours[:8] - half).max() < 1

    def test_an_image_that_patches_do_not_divide_is_enlarged(self) -> None:
        small = pixels(2).permute(0, 2, 3, 1).numpy()
        assert enlarged(small, 4) is small
        larger = enlarged(small, 3)
        assert larger.shape[1] == larger.shape[2] and larger.shape[1] % 3 == 0
        assert np.array_equal(np.unique(larger), np.unique(small))
        kept_tokens(look(batch=2), np.ones((2, 1, 9), dtype=bool), ["one"])


class TestCharts:
    def test_rank_correlation_is_spearmans(self) -> None:
        assert rank_correlation([1, 2, 3, 4], [10, 30, 900, 901])[0] == pytest.approx(1)
        assert rank_correlation([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])[0] == pytest.approx(0.8207826817)
        assert rank_correlation([1, 2], [3, 4]) is None
        assert rank_correlation([1, 1, 1], [3, 4, 5]) is None

    def test_its_p_value_is_that_of_all_permutations(self) -> None:
        first, second = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
        found, p = rank_correlation(first, second)
        others = [np.corrcoef(first, each)[0, 1] for each in itertools.permutations(second)]
        assert found == pytest.approx(0.8)
        assert p == pytest.approx(np.mean(np.abs(others) >= 0.8 - 1e-9), abs=0.015)

    def test_relation_is_said_in_words(self) -> None:
        counts = [900, 700, 500, 300, 100, 50]
        assert "−1.00" in (more := relation(counts, [1, 2, 3, 4, 5, 6], "MACs"))
        assert more.endswith("rarer classes cost more.")
        assert relation(counts, [6, 5, 4, 3, 2, 1], "MACs").endswith("rarer classes cost less.")
        assert NO_RELATION in relation(counts, [2, 5, 1, 6, 3, 4], "MACs")
        assert "cannot be said" in relation([5, 5, 5], [1, 2, 3], "MACs")

    def test_costs_stand_by_training_frequency_with_intervals(self) -> None:
        labels = np.array([0] * 5 + [1] * 5 + [3] * 1)
        costs = np.array([1, 2, 3, 4, 5, 7, 7, 7, 7, 7, 9]) * 1e6
        figure, means = cost_by_class(costs, labels, CLASSES, [10, 400, 30, 200])
        assert means == {"ant": 3e6, "bee": 7e6, "doe": 9e6}
        left, right = figure.axes
        assert [tick.get_text() for tick in left.get_yticklabels()] == ["bee", "doe", "cat", "ant"]
        assert [bar.get_width() for bar in left.patches] == [400, 200, 30, 10]
        (dots,) = (line for line in right.lines if line.get_marker() == "o")
        points = dict(zip(dots.get_ydata(), dots.get_xdata(), strict=True))
        assert points == {0: 7, 1: 9, 3: 3}
        spans = [np.ptp(each[:, 0]) for each in right.collections[0].get_segments()]
        assert spans == pytest.approx([0, 0, 2 * 2.776 * np.sqrt(2.5 / 5)])  # Student's t

    def test_exits_are_stacked_to_the_whole_of_each_class(self) -> None:
        labels = np.repeat([0, 1, 3], 4)
        exits = np.array([0, 0, 1, 2, 0, 0, 0, 0, 2, 2, 2, 1])
        (axes,) = exits_by_class(exits, labels, CLASSES, ["early", "later", "at the end"]).axes
        ticks = [tick.get_text() for tick in axes.get_yticklabels()]
        assert ticks == ["all", "ant", "bee", "doe"]
        widths = np.array([bar.get_width() for bar in axes.patches]).reshape(3, 4)
        np.testing.assert_allclose(widths.sum(axis=0), 100)
        np.testing.assert_allclose(widths[:, 1:], [[50, 100, 0], [25, 0, 25], [25, 0, 75]])
        np.testing.assert_allclose(widths[:, 0], [50, 100 / 6, 100 / 3])
        names = [text.get_text() for text in axes.get_legend().texts]
        assert names == ["early (50 %)", "later (17 %)", "at the end (33 %)"]

    @pytest.mark.parametrize("num_classes", [2, 40])
    def test_any_number_of_classes_can_be_drawn(self, num_classes: int) -> None:
        labels = np.arange(300) % num_classes
        names = [f"class {number}" for number in range(num_classes)]
        figure, _ = cost_by_class(labels * 1.0, labels, names, list(range(num_classes)))
        (intervals,) = figure.axes[1].collections  # one for all: of 1,000 it is seconds, not many
        assert len(intervals.get_segments()) == num_classes
        exits_by_class(labels % 2, labels, names, ["a", "b"]).draw_without_rendering()


def net() -> ViT:
    return ViT(8, 2, 4, 8, depth=3, heads=2, mlp_dim=16, readout="mean")


def early_exit() -> EarlyExit:
    """Half of the test images leave at the first exit."""
    torch.manual_seed(0)
    wrapped = EarlyExit(net(), 8, [1, 2]).eval()
    with torch.no_grad():
        for parameter in wrapped.parameters():
            parameter.normal_(std=0.5)
        confidences = wrapped.exit_logits((pixels(30) / 255 - 0.5) / 0.25).softmax(2).amax(2)
        # between two images: not within rounding of one
        wrapped.threshold.fill_(confidences[0].sort().values[14:16].mean())
    return wrapped


class Brightest(nn.Module):
    """Keeps the patches that are brighter than the mean, as a method of dynamic tokens would."""

    kept = torch.empty(0, 2, 16, dtype=torch.bool)
    macs_used = torch.empty(0, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        bright = nn.functional.avg_pool2d(images, 2).mean(dim=1).flatten(1)
        self.kept = torch.stack((bright > 0, bright > 0.1), dim=1)
        self.macs_used = 1000.0 * self.kept.sum(dim=(1, 2)).double()
        return bright[:, :4]


def trained(wrapped: nn.Module) -> Trained:
    return Trained(wrapped, torch.full((3,), 0.5), torch.full((3,), 0.25), CLASSES, 8, False)


def data(num: int = 30) -> ImageSet:
    return ImageSet(pixels(num), torch.arange(num) % 4, CLASSES)


class TestDrawDynamic:
    @pytest.mark.parametrize(
        ("build", "names"),
        [
            (lambda: net(), []),
            (lambda: ToMe(net(), 3), ["groups"]),
            (lambda: DynamicViT(net(), ratios=[0.5]), ["kept"]),
            (Brightest, ["cost_by_class", "kept", "cost_by_class", "tokens_by_class"]),
            (early_exit, ["cost_by_class", "exits", "cost_by_class"]),
        ],
        ids=["ViT", "ToMe", "DynamicViT", "Brightest", "EarlyExit"],
    )
    def test_what_a_net_has_is_drawn(self, build, names: list[str], tmp_path: Path) -> None:
        files = draw_dynamic(trained(build()), data(), [40, 30, 20, 10], tmp_path, "a run", CPU, 2)
        assert [path.stem for path in files] == names
        assert sorted(tmp_path.glob("*")) == sorted(files)
        for path in files:
            if path.suffix == ".png":
                with Image.open(path) as image:
                    assert min(image.size) > 200
            else:
                found = json.loads(path.read_text())
                assert list(found["mean_macs"]) == list(CLASSES)
                assert found["p"] > 0 and abs(found["rank_correlation_to_training_images"]) <= 1

    @torch.inference_mode()
    def test_what_is_observed_is_in_the_order_of_the_images(self) -> None:
        wrapped = early_exit()
        seen = observe(trained(wrapped), data(), CPU)
        inputs = (pixels(30) / 255 - 0.5) / 0.25
        for index in range(30):
            wrapped(inputs[index : index + 1])
            assert wrapped.exits.item() == seen.exits[index]
            assert wrapped.macs_used.item() == seen.macs[index]
        assert seen.tokens is None and (seen.exits == 0).sum() in range(10, 20)
        assert not wrapped._forward_hooks
