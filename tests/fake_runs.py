"""Run directories as a training would leave them, made up in milliseconds."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leanvit.evaluation.measure.calibration import fit_temperature
from leanvit.evaluation.measure.metrics import classification_metrics

CLASSES = ["disc", "cross", "star"]
SHAPES = "built-in shapes, drawn by leanvit (not photographs), seed 0"


def predictions(
    num_images: int, wrong: Sequence[int], num_classes: int = 3, confidence: float = 0.8
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels (0, 1, 2, 0, ...), the images ``wrong`` given to the next class."""
    labels = np.arange(num_images) % num_classes
    guess = labels.copy()
    guess[list(wrong)] = (guess[list(wrong)] + 1) % num_classes
    rows = np.full((num_images, num_classes), (1 - confidence) / (num_classes - 1), np.float32)
    rows[np.arange(num_images), guess] = confidence
    return rows, labels


def write_fake_run(
    path: Path,
    *,
    seed: int = 0,
    model: str = "vit",
    loss: str = "cross_entropy",
    sampler: str = "shuffle",
    data: str = "shapes",
    source: str = SHAPES,
    choices: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    train_counts: Sequence[int] = (400, 300, 110),
    val_wrong: Sequence[int] = (),
    test_wrong: Sequence[int] = (),
    num_test: int = 90,
    num_epochs: int = 4,
) -> Path:
    """Write a finished run whose wrong answers are those named, and return ``path``."""
    path.mkdir(parents=True)
    metrics: dict[str, Any] = {}
    temperature = fit_temperature(*predictions(30, val_wrong))
    arrays: dict[str, np.ndarray] = {}
    for split, size, wrong in (("val", 30, val_wrong), ("test", num_test, test_wrong)):
        probabilities, labels = predictions(size, wrong)
        arrays[f"{split}_probabilities"], arrays[f"{split}_labels"] = probabilities, labels
        metrics[split] = classification_metrics(
            probabilities, labels, CLASSES, train_counts=train_counts, temperature=temperature
        )
    np.savez(path / "predictions.npz", **arrays)
    _write_history(path / "history.csv", num_epochs)
    (path / "config.yaml").write_text(f"seed: {seed}\n")
    (path / "metrics.json").write_text(
        json.dumps(
            {
                "name": f"{model}-{loss}-{sampler}-{hash_of(path.name)}",
                "choices": {
                    "data": data,
                    "model": model,
                    "loss": loss,
                    "sampler": sampler,
                    "augment": "light",
                    "experiment": None,
                    **(choices or {}),
                },
                "overrides": overrides or {},
                "choices_hash": str((model, loss, sampler, choices, overrides)),
                "seed": seed,
                "source": source,
                "classes": CLASSES,
                "train_counts": list(train_counts),
                **metrics,
                "cost": {
                    "params": 4_000_000,
                    "trainable_params": 4_000_000,
                    "weight_bytes": 16_000_000,
                    "macs": 250_000_000,
                    "thop_params": 3_900_000,
                    "thop_macs": 230_000_000,
                },
                "training": {
                    "seconds": 120.0 + seed,
                    "images_per_second": 1000.0,
                    "epochs": num_epochs,
                    "best_epoch": num_epochs - 1,
                    "device": "cpu",
                    "monitor": "val/balanced_accuracy",
                },
                "versions": {"torch": "2.13.0"},
                "git_commit": "0000000",
            }
        )
    )
    return path


def write_failed_run(path: Path, error: str = "class folder cat holds no image") -> Path:
    """Write what a run leaves that ended with an error, and return ``path``."""
    path.mkdir(parents=True)
    (path / "error.txt").write_text(f"{error}\nTraceback: ...\n")
    return path


def hash_of(name: str) -> str:
    """Eight hexadecimal digits, as at the end of the name of a run."""
    return f"{sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 16**8:08x}"


def _write_history(path: Path, num_epochs: int) -> None:
    columns = ["epoch", "lr", "train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "seconds"])
        for epoch in range(num_epochs):
            accuracy = 0.9 - 0.5 / (epoch + 1)
            writer.writerow(
                [epoch, 1e-3, 2 / (epoch + 1), 2.1 / (epoch + 1), accuracy, accuracy, 3.0]
            )
