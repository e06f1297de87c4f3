"""Look inside finished runs: attention, patches, features, positions, tokens, filters.

    python src/visualize.py run=outputs/...
    python src/visualize.py run=outputs/... what=attention,rollout block=3
    python src/visualize.py run=outputs/... what=dynamic

Figures go to ``figures/inside/`` in the run directory, and those of what a lightweighting method
did to ``figures/dynamic/``.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hydra
from omegaconf import DictConfig

import assemble
import command_line
import naming
from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.dynamic_figures import draw_dynamic
from leanvit.evaluation.figures import save_figure
from leanvit.evaluation.inside_figures import DYNAMIC, check_names, draw
from leanvit.evaluation.look import look_at
from leanvit.evaluation.predict import Trained
from leanvit.evaluation.runs import read_predictions, read_run
from leanvit.lightweight.plain import plain_net
from leanvit.training.fit import find_device


@hydra.main(version_base="1.3", config_path="../conf", config_name="visualize")
@command_line.keep_error
def main(config: DictConfig) -> None:
    """Draw the figures of each run and print where they are."""
    check_numbers(config)
    names = check_names([config.what] if isinstance(config.what, str) else list(config.what))
    for given in [config.run] if isinstance(config.run, str) else config.run:
        run_dir = naming.find_run(given)
        for path in visualize(config, run_dir, names):
            print(path)


def visualize(config: DictConfig, run_dir: Path, names: list[str]) -> Iterator[Path]:
    """The figures of one run, as they are written; without names all that fit the net.

    Raises:
        LeanvitError: a figure does not fit the net.
    """
    told, device = read_run(run_dir), find_device(config.device)
    title, counts = f"{run_dir.name}, test images, {told['source']}", told["train_counts"]
    trained, test = net_and_images(config, run_dir)
    if not names or DYNAMIC in names:
        folder, chosen = run_dir / "figures" / "dynamic", (config.num_images, config.seed)
        files = draw_dynamic(trained, test, counts, folder, title, device, *chosen)
        if names and not files:
            raise LeanvitError(
                f"what={DYNAMIC}: {type(trained.net).__name__} does the same to all tokens and "
                "images"
            )
        yield from files
    inside = [name for name in names if name != DYNAMIC]
    if inside or not names:
        yield from look_inside(config, run_dir, trained, test, title, inside)


def look_inside(
    config: DictConfig,
    run_dir: Path,
    trained: Trained,
    test: ImageSet,
    title: str,
    names: list[str],
) -> Iterator[Path]:
    """The figures of attention, patches and so on; of the net alone that a method stands around."""
    net = plain_net(trained.net)
    if net is not trained.net:
        title = f"{title}; the net without its {type(trained.net).__name__}"
    look = look_at(
        replace(trained, net=net),
        test,
        read_predictions(run_dir),
        find_device(config.device),
        config.num_images,
        config.seed,
        config.block,
    )
    for name, figure in draw(look, names).items():
        path = run_dir / "figures" / "inside" / f"{name}.png"
        save_figure(figure, path, title)
        yield path


def check_numbers(config: DictConfig) -> None:
    """Refuse what is no whole number.

    Raises:
        LeanvitError: and which it is.
    """
    for key, least in (("num_images", 1), ("seed", 0), ("block", 0)):
        if key != "block" or config[key] is not None:
            command_line.check_whole(key, config[key], least)


def net_and_images(config: DictConfig, run_dir: Path) -> tuple[Trained, ImageSet]:
    """The net of a run and its test images.

    Raises:
        LeanvitError: a net that is only a file.
    """
    trained = assemble.load_run(run_dir, "32-true", config.checkpoint)
    if not list(trained.net.parameters()):
        raise LeanvitError(
            f"{run_dir} is a file without layers to look into: take the run that it was made of"
        )
    return trained, assemble.load_splits(assemble.load_config(run_dir)).test


if __name__ == "__main__":
    command_line.list_argument("run")
    command_line.list_argument("what")
    command_line.run(main)
