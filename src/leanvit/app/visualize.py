"""visualize.py: a look inside finished runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from leanvit.app.build import load_splits
from leanvit.app.finished import Run, find
from leanvit.app.nets import load_run
from leanvit.contracts import plain_net
from leanvit.device import Accelerator, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_predictions, read_run
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.dynamic_figures import draw_dynamic
from leanvit.evaluation.pictures.figures import save_figure
from leanvit.evaluation.pictures.inside_figures import DYNAMIC, check_names, draw
from leanvit.evaluation.pictures.look import look_at
from leanvit.files import check_folder
from leanvit.values import Count, Whole

OF_WEIGHTS = ("positions", "filters")  # no image was looked at


def run(
    run: str | Sequence[str],
    what: str | Sequence[str] = "all",
    num_images: Count = 8,
    block: Whole | None = None,
    seed: Whole = 0,
    checkpoint: str = "best",
    device: Accelerator = "auto",
) -> None:
    """Draw the figures of each run and print where they are; the keys are those of
    conf/visualize.yaml.

    Raises:
        LeanvitError: a figure does not fit the net, or a net is only a file.
    """
    kinds = check_names([what] if isinstance(what, str) else list(what))
    for given in [run] if isinstance(run, str) else run:
        found = find(given)
        check_folder(found.path / "figures")
        read_run(found.path)  # refuses one that is not finished
        trained = replace(load_run(found, checkpoint), bfloat16=False)
        if not list(trained.net.parameters()):
            raise LeanvitError(
                f"{found.path} is a file without layers to look into: take the run that it was "
                "made of"
            )
        for path in drawn(found, trained, kinds, find_device(device), num_images, seed, block):
            print(path)


def drawn(
    run: Run,
    trained: Trained,
    kinds: list[str],
    device: torch.device,
    num_images: int,
    seed: int,
    block: int | None,
) -> Iterator[Path]:
    """What a lightweighting method does to images, in ``figures/dynamic/``; attention, patches and
    so on of the net alone that it stands around, in ``figures/inside/``."""
    net, test, figures = plain_net(trained.net), load_splits(run.config).test, run.path / "figures"
    wrapper = type(trained.net).__name__
    title = f"{run.path.name}, test images, {run.told['source']}"
    if not kinds or DYNAMIC in kinds:
        counts, place = run.told["train_counts"], (figures / "dynamic", title, device)
        files = draw_dynamic(trained, test, counts, *place, num_images, seed)
        if kinds and not files:
            raise LeanvitError(f"what={DYNAMIC}: {wrapper} does the same to all tokens and images")
        yield from files
    inside = [name for name in kinds if name != DYNAMIC]
    if kinds and not inside:
        return
    alone, predictions = replace(trained, net=net), read_predictions(run.path)
    look = look_at(alone, test, predictions, device, num_images, seed, block)
    for name, figure in draw(look, inside).items():
        path = figures / "inside" / f"{name}.png"
        of_weights = f"{run.path.name}, trained on {run.told['source']}"
        whose = of_weights if name in OF_WEIGHTS else title
        bare = "" if net is trained.net else f"; the net without its {wrapper}"
        save_figure(figure, path, whose + bare)
        yield path
