"""visualize.py: a look inside finished runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from leanvit.app.build import load_splits
from leanvit.app.finished import Run, find
from leanvit.app.nets import load_run
from leanvit.contracts import plain_net
from leanvit.data.images import ImageSet
from leanvit.device import Accelerator, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_predictions, read_run
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.dynamic_figures import draw_dynamic
from leanvit.evaluation.pictures.figures import save_figure
from leanvit.evaluation.pictures.inside_figures import DYNAMIC, check_names, draw
from leanvit.evaluation.pictures.look import look_at
from leanvit.values import Count, Whole


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
        read_run(found.path)  # refuses one that is not finished
        trained = replace(load_run(found, checkpoint), bfloat16=False)
        if not list(trained.net.parameters()):
            raise LeanvitError(
                f"{found.path} is a file without layers to look into: take the run that it was "
                "made of"
            )
        test = load_splits(found.config).test
        if not kinds or DYNAMIC in kinds:
            for path in of_method(found, trained, test, device, num_images, seed, bool(kinds)):
                print(path)
        inside = [name for name in kinds if name != DYNAMIC]
        if inside or not kinds:
            for path in of_net(found, trained, test, device, num_images, seed, block, inside):
                print(path)


def of_method(
    run: Run,
    trained: Trained,
    test: ImageSet,
    device: Accelerator,
    num_images: int,
    seed: int,
    is_asked_for: bool,
) -> list[Path]:
    """What a lightweighting method does to images, in ``figures/dynamic/``."""
    counts, folder = read_run(run.path)["train_counts"], run.path / "figures" / "dynamic"
    place = folder, title(run), find_device(device)
    files = draw_dynamic(trained, test, counts, *place, num_images, seed)
    if is_asked_for and not files:
        raise LeanvitError(
            f"what={DYNAMIC}: {type(trained.net).__name__} does the same to all tokens and images"
        )
    return files


def of_net(
    run: Run,
    trained: Trained,
    test: ImageSet,
    device: Accelerator,
    num_images: int,
    seed: int,
    block: int | None,
    kinds: list[str],
) -> Iterator[Path]:
    """Attention, patches and so on, in ``figures/inside/``; of the net alone that a method stands
    around."""
    net, words = plain_net(trained.net), title(run)
    if net is not trained.net:
        words = f"{words}; the net without its {type(trained.net).__name__}"
    predictions = read_predictions(run.path)
    alone = replace(trained, net=net)
    look = look_at(alone, test, predictions, find_device(device), num_images, seed, block)
    for name, figure in draw(look, kinds).items():
        path = run.path / "figures" / "inside" / f"{name}.png"
        save_figure(figure, path, words)
        yield path


def title(run: Run) -> str:
    return f"{run.path.name}, test images, {run.told['source']}"
