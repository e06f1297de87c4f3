"""What a trained net leaves: predictions, figures, and metrics.json last of all."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray
from torch import Tensor

from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.evaluation.measure.adjust import adjust_probabilities, choose_tau
from leanvit.evaluation.measure.calibration import fit_temperature
from leanvit.evaluation.measure.metrics import check_predictions, classification_metrics
from leanvit.evaluation.measure.predict import Trained, predict
from leanvit.evaluation.measure.tta import NUM_VIEWS, TTA
from leanvit.evaluation.pictures.figures import confusion_matrix, recall_by_class
from leanvit.evaluation.pictures.reliability import reliability_diagram
from leanvit.files import atomic_path, write_json


class Predicted(NamedTuple):
    """What a net says of a set of images, and what they are."""

    probabilities: Float32[ndarray, "n classes"]
    labels: Int64[ndarray, " n"]


def evaluate(
    folder: Path,
    trained: Trained,
    sets: dict[str, ImageSet],
    train_counts: list[int],
    source: str,
    device: torch.device,
    about: dict[str, Any],
    memory_gib: float | None = None,
    validation: Predicted | None = None,
    logit_adjust: float | Literal["val"] | None = None,
    counted: dict[str, Any] | None = None,
    tta: TTA = "none",
    figures: bool = True,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Predict each of ``sets`` (by name: "val", "test"), write the results into ``folder``, and
    tell what metrics.json holds.

    ``predictions.npz`` and ``figures/`` come first, ``metrics.json`` last: where it stands, the run
    is finished. The test set is read here and nowhere else. Where the work of a net differs from
    image to image, ``macs_used`` of its cost is the mean over the test images, and predictions.npz
    has those of every image.

    Args:
        train_counts: training images per class, for recall by frequency and ``logit_adjust``.
        source: where the images come from, said in every figure.
        about: what else metrics.json tells of the run.
        validation: what this net says of its validation images, where ``sets`` has no "val": the
            temperature is fitted on them. None: no temperature.
        logit_adjust: tau of :mod:`measure.adjust`, "val" to choose it on the validation
            images, None for the probabilities as they are. Temperature and all figures are those of
            the adjusted probabilities.
        counted: what the net costs, where that cannot be counted (in int8). None: it is counted.
        tta: views of each image (:mod:`measure.tta`); ``macs_used`` is of all of them.
        figures: whether they are drawn.
        tell: called with what metrics.json will hold, before it is there.

    Raises:
        LeanvitError: see :func:`measure.metrics.check_predictions` and
            :func:`measure.adjust.adjust_probabilities`; or there is no validation for a tau.
    """
    classes = trained.classes
    metrics: dict[str, Any] = {**about, "source": source, "classes": list(classes)}
    metrics["train_counts"] = train_counts
    # counted first: predicting moves the net to the device
    metrics["cost"] = counted or asdict(cost(trained.net, trained.image_size))
    predicted, used = {}, {}
    for name, data in sets.items():
        macs: list[Tensor] = []
        said = predict(
            trained, data, device, memory_gib=memory_gib, told={"macs_used": macs}, tta=tta
        )
        predicted[name] = Predicted(said.numpy(), data.labels.numpy())
        check_predictions(*predicted[name], classes)
        if macs:
            used[name] = torch.cat(macs).numpy()
    shown = "test" if "test" in sets else next(iter(sets))
    if used:
        metrics["cost"]["macs_used"] = float(used[shown].mean())
    elif tta != "none":  # for each of the views
        metrics["cost"]["macs_used"] = NUM_VIEWS[tta] * metrics["cost"]["macs"]
    if tta != "none":
        metrics["tta"] = tta
    validation = predicted.get("val", validation)
    if logit_adjust is not None:
        tau = _tau(logit_adjust, validation, train_counts)
        metrics["logit_adjust"] = {"tau": tau, "chosen_on_validation": logit_adjust == "val"}
        predicted = {name: _adjusted(each, train_counts, tau) for name, each in predicted.items()}
        validation = validation and _adjusted(validation, train_counts, tau)
    temperature = fit_temperature(*validation) if validation else None
    for name, each in predicted.items():
        metrics[name] = classification_metrics(
            *each, classes, train_counts=train_counts, temperature=temperature
        )
    arrays = {f"{name}_probabilities": each.probabilities for name, each in predicted.items()}
    arrays |= {f"{name}_labels": each.labels for name, each in predicted.items()}
    arrays |= {f"{name}_macs": each for name, each in used.items()}
    with atomic_path(folder / "predictions.npz") as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
    title = f"{shown} images, {source}"
    if figures:
        _draw(folder / "figures", predicted[shown], metrics[shown], metrics, title)
    if tell:
        tell(metrics)
    write_json(metrics, folder / "metrics.json")
    return metrics


def _tau(
    given: float | Literal["val"], validation: Predicted | None, train_counts: list[int]
) -> float:
    if given != "val":
        return float(given)
    if validation is None:
        raise LeanvitError(
            "logit_adjust=val needs the validation predictions of this checkpoint, and there are "
            "none: give a number, or leave data and checkpoint out"
        )
    return choose_tau(*validation, train_counts)


def _adjusted(predicted: Predicted, train_counts: list[int], tau: float) -> Predicted:
    adjusted = adjust_probabilities(predicted.probabilities, train_counts, tau)
    return Predicted(adjusted, predicted.labels)


def _draw(
    figures: Path,
    predicted: Predicted,
    numbers: dict[str, Any],
    metrics: dict[str, Any],
    title: str,
) -> None:
    """Draw what the predictions on one set of images show."""
    classes, counts = metrics["classes"], metrics["train_counts"]
    confusion_matrix(*predicted, classes, figures / "confusion_matrix.png", title)
    recalls = numbers["per_class_recall"]
    recall_by_class(recalls, counts, classes, figures / "recall_by_class.png", title)
    reliability_diagram(*predicted, numbers["temperature"], figures / "reliability.png", title)
