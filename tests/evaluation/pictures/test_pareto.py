"""The picture of a benchmark: who is on the front, and which point is whose."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from leanvit.evaluation.cost.benchmark import Spread, TimedRun
from leanvit.evaluation.pictures import pareto as pareto_module
from leanvit.evaluation.pictures.pareto import LETTERS, front, pareto


def run(name: str, accuracy: float, rate: float, macs: float, half: float = 0.01) -> TimedRun:
    return TimedRun(
        name=name,
        path=Path(name),
        precision="float32",
        accuracy=accuracy,
        interval=(accuracy - half, accuracy + half),
        difference=None,
        balanced_accuracy=accuracy,
        macs=macs,
        size=1000,
        latency=Spread(1e-3, 0.9e-3, 2e-3),
        batch_size=8,
        images_per_second=Spread(rate, 0.9 * rate, 1.1 * rate),
        faster=None,
        faster_in_batches=None,
    )


def dominated(index: int, values: np.ndarray, accuracies: np.ndarray, sign: int) -> bool:
    """The literal definition."""
    better = [
        sign * values[other] >= sign * values[index]
        and accuracies[other] >= accuracies[index]
        and (values[other], accuracies[other]) != (values[index], accuracies[index])
        for other in range(len(values))
    ]
    return any(better)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("more_is_better", [True, False])
def test_on_the_front_is_what_nothing_dominates(seed: int, more_is_better: bool) -> None:
    random = np.random.default_rng(seed)
    values, accuracies = random.integers(1, 6, 12) * 1.0, random.integers(1, 6, 12) / 10
    chosen = front(values, accuracies, more_is_better)
    sign = 1 if more_is_better else -1
    expected = {
        (values[i], accuracies[i]) for i in range(12) if not dominated(i, values, accuracies, sign)
    }
    assert {(values[i], accuracies[i]) for i in chosen} == expected
    assert len(chosen) == len(expected)  # of equal ones one
    assert np.all(np.diff(sign * values[chosen]) < 0) and np.all(np.diff(accuracies[chosen]) > 0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The figure instead of a file."""
    figures: list[Figure] = []
    monkeypatch.setattr(pareto_module, "save_figure", lambda figure, *_: figures.append(figure))

    def drawn(runs: list[TimedRun]) -> Figure:
        pareto(runs, tmp_path / "pareto.png", "what it is of")
        return figures[-1]

    return drawn


def test_each_point_has_its_number_and_its_name(drawn) -> None:
    names = [f"vit, method={i}, " + i * "value=1, " for i in range(9)]
    runs = [run(name, 0.8 + i / 100, 400 + i, 1e8 + i) for i, name in enumerate(names)]
    figure = drawn(runs)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told[0].startswith("front") and told[1] == "1: vit, method=0,"
    assert [name[:16] for name in told[1:]] == [f"{i + 1}: vit, method={i}" for i in range(9)]
    assert max(map(len, told[1:])) <= LETTERS
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == [str(i) for i in range(1, 10)]
        assert [text.xy[1] for text in axes.texts] == pytest.approx([80.0 + i for i in range(9)])
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())


def test_bars_are_intervals_and_the_front_runs_in_steps(drawn) -> None:
    runs = [run("a", 0.80, 100, 4e8), run("b", 0.70, 400, 1e8), run("c", 0.69, 200, 2e8)]
    for axes, values in zip(drawn(runs).axes, ([100, 400, 200], [400, 100, 200]), strict=True):
        (steps,) = (line for line in axes.lines if line.get_drawstyle() == "steps-post")
        x, y = steps.get_xdata(), steps.get_ydata()
        assert list(x[:2]) == [values[1], values[0]] and list(y) == pytest.approx([70, 80, 80])
        assert x[2] in axes.get_xlim() and axes.get_xscale() == "log"
        bars = [each.get_segments()[0] for each in axes.collections]
        upright = [bar for bar in bars if bar[0, 0] == bar[1, 0]]
        assert [np.ptp(bar[:, 1]) for bar in upright] == pytest.approx([2, 2, 2])
    flat = [bar for bar in bars if bar[0, 1] == bar[1, 1]]
    assert not flat  # MACs are counted


def test_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "pareto.png"
    pareto([run("a", 0.8, 100, 4e8)], path, "what it is of")
    with Image.open(path) as image:
        assert image.size[0] > 1.5 * image.size[1] > 900


def test_ticks_are_plain_numbers(drawn) -> None:
    for rates in ([5_000, 9_500], [20_000, 400_000], [0.5, 0.7]):
        figure = drawn([run("a", 0.8, rates[0], 1e8), run("b", 0.7, rates[1], 2.5e6)])
        figure.draw_without_rendering()
        for axes in figure.axes:
            told = [text.get_text() for text in axes.get_xticklabels()]
            places = axes.get_xticks()
            assert len(told) > 1 and not any("e" in text for text in told)
            assert [float(text.replace(",", "")) for text in told] == pytest.approx(list(places))
