"""Evaluate finished runs again, on their own images or on others of the same classes.

    python src/eval.py run=outputs/...
    python src/eval.py run=outputs/... data=folder data.source=...

Results go to ``eval/`` in the run directory; the run's own metrics.json stays as it is.
"""

import hashlib
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

import assemble
import command_line
from leanvit.data.folder import folder, images_of_classes
from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.evaluate import evaluate
from leanvit.evaluation.runs import read_run
from leanvit.training.fit import find_device


@hydra.main(version_base="1.3", config_path="../conf", config_name="eval")
@command_line.keep_error
def main(config: DictConfig) -> None:
    """Evaluate each run and print its figures."""
    for given in [config.run] if isinstance(config.run, str) else config.run:
        run_dir = command_line.find_run(given)
        place = run_dir / "eval" / what(config)
        show(run_dir, evaluate_run(config, run_dir, place))
        print(f"{place}/metrics.json")


def what(config: DictConfig) -> str:
    """A folder name for the images and the checkpoint that are evaluated."""
    name = HydraConfig.get().runtime.choices.get("data") or "again"
    if config.get("data") and config.data.get("source"):
        source = command_line.full_path(config.data.source)
        name += f"-{Path(source).name}-{hashlib.sha256(source.encode()).hexdigest()[:4]}"
    return name if config.checkpoint == "best" else f"{name}-{Path(config.checkpoint).stem}"


def evaluate_run(config: DictConfig, run_dir: Path, place: Path) -> dict:
    """Metrics of one run on its own images, or on those of ``config.data``."""
    about = read_run(run_dir)
    trained = assemble.load_run(run_dir, about["training"]["precision"], config.checkpoint)
    sets, source = images(config, assemble.load_config(run_dir), trained.classes)
    kept = ("name", "choices", "overrides", "choices_hash", "seed", "training")
    return evaluate(
        place,
        trained,
        sets,
        train_counts=about["train_counts"],
        source=source,
        device=find_device(config.device),
        memory_gib=config.memory_gib,
        about={
            **{key: about[key] for key in kept},
            "checkpoint": config.checkpoint,
            "versions": assemble.versions(),
            "git_commit": assemble.git_commit(),
        },
    )


def images(
    config: DictConfig, trained: DictConfig, classes: tuple[str, ...]
) -> tuple[dict[str, ImageSet], str]:
    """The images to evaluate on, by name, and the line that says where they come from."""
    if config.get("data") is None:
        splits = assemble.load_splits(trained)
        data = assemble.build_data(trained, splits)
        return {"val": data.val, "test": data.test}, splits.source
    if get_method(config.data._target_) is folder:
        source = command_line.full_path(config.data.source)
        found = images_of_classes(
            source,
            classes,
            config.data.data_dir,
            trained.data.image_size,
            config.data.skip_unreadable,
            config.memory_gib,
        )
        return {"test": found}, f"image folder {source}"
    config.data.image_size = trained.data.image_size
    splits = assemble.load_splits(config)
    if splits.test.classes != classes:
        raise LeanvitError(
            f"the images have the classes {', '.join(splits.test.classes)}, the net was trained "
            f"on {', '.join(classes)}"
        )
    return {"test": splits.test}, splits.source


def show(run_dir: Path, metrics: dict) -> None:
    """One column per set of images."""
    sets = [name for name in ("val", "test") if name in metrics]
    table = Table("", *sets, title=f"{run_dir.name} on {metrics['source']}")
    for key in ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "calibration_error"):
        table.add_row(key.replace("_", " "), *(f"{metrics[name][key]:.4f}" for name in sets))
    intervals = (metrics[name]["accuracy_interval"] for name in sets)
    table.add_row("accuracy, 95 %", *(f"[{low:.4f}, {high:.4f}]" for low, high in intervals))
    worst = (metrics[name]["worst_class"] for name in sets)
    table.add_row("worst class", *(f"{each['name']} {each['recall']:.4f}" for each in worst))
    table.add_row("images", *(f"{metrics[name]['n']:,}" for name in sets))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    command_line.list_argument("run")
    command_line.run(main)
