"""eval.py: finished runs again, on their own images or on others of the same classes."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from rich.console import Console

from leanvit.app import names, provenance
from leanvit.app.build import build_data, load_splits, target
from leanvit.app.finished import Run, find
from leanvit.app.nets import changed, load_run
from leanvit.data.folder import folder, images_of_classes
from leanvit.data.images import ImageSet
from leanvit.device import Accelerator, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.result_table import print_metrics
from leanvit.evaluation.comparison.runs import read_predictions, read_run
from leanvit.evaluation.measure.evaluate import Predicted, evaluate
from leanvit.evaluation.measure.tta import TTA
from leanvit.files import check_folder
from leanvit.values import NonNegative, Positive

Tau = NonNegative | Literal["val"] | None


def run(
    overrides: Sequence[str],
    choices: Mapping[str, str | None],
    run: str | Sequence[str],
    data: dict[str, Any] | None = None,
    checkpoint: str = "best",
    logit_adjust: Tau = None,
    tta: TTA = "none",
    device: Accelerator = "auto",
    memory_gib: Positive | None = None,
) -> None:
    """One after the other, each into its own ``eval/``; the keys are those of conf/eval.yaml."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for given in [run] if isinstance(run, str) else run:
        found = find(given)
        check_folder(found.path / "eval")
        told = read_run(found.path)
        trained = load_run(found, checkpoint)
        refuse_other_fit(found, overrides)
        sets, source = images(data, found, trained.classes, memory_gib)
        own = dict(told["overrides"])
        if logit_adjust is not None:  # another row of a comparison than the run itself
            own["logit_adjust"] = logit_adjust
            warn_of_correcting_twice(told)
        if tta != "none":  # as above
            own["tta"] = tta
        changes = adjustment(logit_adjust) + ("" if tta == "none" else f"-{tta}")
        place = found.path / "eval" / (what(data, choices.get("data"), checkpoint) + changes)
        metrics = evaluate(
            place,
            trained,
            sets,
            train_counts=told["train_counts"],
            source=source,
            device=find_device(device),
            memory_gib=memory_gib,
            about={
                **provenance.provenance(
                    "eval",
                    overrides,
                    name=told["name"],
                    choices=told["choices"],
                    overrides=own,
                    choices_hash=told["choices_hash"] + changes,
                    seed=told["seed"],
                ),
                "training": told["training"],
                "checkpoint": checkpoint,
            },
            validation=own_validation(found.path)
            if checkpoint == "best" and tta == "none"
            else None,
            logit_adjust=logit_adjust,
            tta=tta,
            counted=None if list(trained.net.parameters()) else told["cost"],  # in int8
        )
        print_metrics(metrics, found.path.name, console)
        print(f"{place}/metrics.json")


def refuse_other_fit(run: Run, overrides: Sequence[str]) -> None:
    """Images become squares as the run's did, whatever the command line says."""
    own = f"data.fit={run.config.data.get('fit', 'stretch')}"
    for given in overrides:
        if given.startswith("data.fit=") and given != own:
            raise LeanvitError(f"{given}: the net was trained with {own}, leave it out")


def what(data: dict[str, Any] | None, choice: str | None, checkpoint: str) -> str:
    """The images and the checkpoint that are evaluated, as part of a folder's name."""
    name = choice or "again"
    if data and data.get("source"):
        source = names.full_path(data["source"])
        name += f"-{Path(source).name}-{hashlib.sha256(source.encode()).hexdigest()[:4]}"
    return name + ("" if checkpoint == "best" else f"-{Path(checkpoint).stem}")


def adjustment(tau: Tau) -> str:
    """``-tau1.0``, ``-tauval``, or nothing."""
    return "" if tau is None else f"-tau{tau if tau == 'val' else float(tau)}"


def own_validation(run_dir: Path) -> Predicted:
    """What the best checkpoint said of the run's validation images when the run was finished."""
    saved = read_predictions(run_dir)
    return Predicted(saved["val_probabilities"], saved["val_labels"])


def warn_of_correcting_twice(about: dict) -> None:
    """Say so where a loss or a sampler other than the plain ones was at work."""
    groups = {key: key.split("@")[0] for key in about["choices"]}  # loss@late.loss is one of loss
    plain = {"loss": ("ce", None), "sampler": ("shuffle", None)}
    others = [f"{key}={about['choices'][key]}" for key, group in groups.items()
              if group in plain and about["choices"][key] not in plain[group]]  # fmt: skip
    if others:
        print(
            f"{about['name']} was trained with {', '.join(others)}: where that corrects for class "
            "frequencies, logit_adjust corrects a second time",
            file=sys.stderr,
        )


def images(
    data: dict[str, Any] | None, run: Run, classes: tuple[str, ...], memory_gib: float | None
) -> tuple[dict[str, ImageSet], str]:
    """The images to evaluate on, by name, and the line that says where they come from."""
    if data is None:
        splits = load_splits(run.config)
        own = build_data(run.config, splits)
        return {"val": own.val, "test": own.test}, splits.source
    size = run.config.data.image_size
    if target(data["_target_"]) is folder:
        source = names.full_path(data["source"])
        fit = run.config.data.get("fit", "stretch")
        place = data["data_dir"], size, data["skip_unreadable"], memory_gib, fit
        return {"test": images_of_classes(source, classes, *place)}, f"image folder {source}"
    chosen = changed(OmegaConf.create({"data": data}), {"data.image_size": size})
    splits = load_splits(chosen)
    if splits.test.classes != classes:
        raise LeanvitError(
            f"the images have the classes {', '.join(splits.test.classes)}, the net was trained "
            f"on {', '.join(classes)}"
        )
    return {"test": splits.test}, splits.source
