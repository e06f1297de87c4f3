"""What a trained net leaves: predictions, figures, and metrics.json last of all."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanvit.data.images import ImageSet
from leanvit.evaluation.cost import cost
from leanvit.evaluation.figures import confusion_matrix, recall_by_class
from leanvit.evaluation.metrics import classification_metrics
from leanvit.evaluation.predict import Trained, predict
from leanvit.files import atomic_path, write_json


def evaluate(
    folder: Path,
    trained: Trained,
    sets: dict[str, ImageSet],
    train_counts: list[int],
    source: str,
    device: torch.device,
    about: dict[str, Any],
    memory_gib: float | None = None,
) -> dict[str, Any]:
    """Predict each of ``sets`` (by name: "val", "test") and write the results into ``folder``.

    ``predictions.npz`` and ``figures/`` come first, ``metrics.json`` last: where it stands, the run
    is finished. The test set is read here and nowhere else.

    Args:
        train_counts: training images per class, for the figure of recall by frequency.
        source: where the images come from, said in every figure.
        about: what else metrics.json tells of the run.
        memory_gib: see :func:`leanvit.data.loader.make_loader`.

    Returns:
        what metrics.json holds.
    """
    classes = trained.classes
    metrics: dict[str, Any] = {**about, "source": source, "classes": list(classes)}
    metrics["train_counts"] = train_counts
    # counted first: predicting moves the net to the device
    metrics["cost"] = asdict(cost(trained.net, trained.image_size))
    arrays: dict[str, np.ndarray] = {}
    for name, data in sets.items():
        probabilities = predict(trained, data, device, memory_gib=memory_gib).numpy()
        arrays[f"{name}_probabilities"] = probabilities
        arrays[f"{name}_labels"] = data.labels.numpy()
        metrics[name] = classification_metrics(probabilities, data.labels, classes)
    with atomic_path(folder / "predictions.npz") as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
    shown = "test" if "test" in sets else next(iter(sets))
    figures = folder / "figures"
    title = f"{shown} images, {source}"
    confusion_matrix(
        arrays[f"{shown}_probabilities"],
        arrays[f"{shown}_labels"],
        classes,
        figures / "confusion_matrix.png",
        title=title,
    )
    recall_by_class(
        metrics[shown]["per_class_recall"],
        train_counts,
        classes,
        figures / "recall_by_class.png",
        title=title,
    )
    write_json(metrics, folder / "metrics.json")
    return metrics
