"""What metrics.json holds, as tables for the terminal: one column a set of images."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from leanvit.evaluation.measure.metrics import SHOTS
from leanvit.evaluation.pictures.class_axes import MAX_WRITTEN_CLASSES
from leanvit.evaluation.tables import interval, show

MEANS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
CALIBRATION = {
    "calibration_error": "calibration error",
    "calibration_error_scaled": "  after temperature scaling",
    "nll": "negative log-likelihood",
    "nll_scaled": "  after temperature scaling",
    "temperature": "temperature, from validation",
}


def print_metrics(metrics: Mapping[str, Any], name: str, console: Console | None = None) -> None:
    """Print the figures of a run, and those of each class where there are few."""
    console = console or Console()
    sets = {key: metrics[key] for key in ("val", "test") if key in metrics}
    lines = _lines(list(sets.values()))
    if adjusted := metrics.get("logit_adjust"):
        why = ", chosen on validation" if adjusted["chosen_on_validation"] else ""
        lines.append([f"logits adjusted, tau{why}", *[f"{adjusted['tau']:g}"] * len(sets)])
    if views := metrics.get("tta"):
        lines.append(["views of each image, tta", *[views] * len(sets)])
    rows = [dict(zip(("", *sets), line, strict=True)) for line in lines]
    show(console, f"{name} on {metrics['source']}", rows, ("", *sets))
    if len(metrics["classes"]) <= MAX_WRITTEN_CLASSES:
        console.print()
        show(console, "By class", _class_rows(metrics, sets), ("class",))


def _lines(blocks: Sequence[dict[str, Any]]) -> list[list[str]]:
    """What each line is of, and its number of each set of images."""
    lines = [[key.replace("_", " "), *(_number(each[key]) for each in blocks)] for key in MEANS]
    bounds = [each["accuracy_interval"] for each in blocks]
    lines.append(["accuracy, 95 %", *(interval(low, high, _number) for low, high in bounds)])
    worst = [each["worst_class"] for each in blocks]
    lines.append(["worst class", *(f"{each['name']} {_number(each['recall'])}" for each in worst)])
    groups = [name for name in SHOTS if any(each["shots"][name] is not None for each in blocks)]
    for name in groups if len(groups) > 1 else []:  # one alone says what balanced accuracy says
        lines.append([f"{name}-shot recall", *(_number(each["shots"][name]) for each in blocks)])
    for key, words in CALIBRATION.items():
        lines.append([words, *(_number(each[key]) for each in blocks)])
    return [*lines, ["images", *(f"{each['n']:,}" for each in blocks)]]


def _class_rows(
    metrics: Mapping[str, Any], sets: Mapping[str, dict[str, Any]]
) -> list[dict[str, str]]:
    return [
        {
            "class": label,
            "training images": f"{metrics['train_counts'][index]:,}",
            **{
                f"{name} {what}": _number(block[f"per_class_{what}"][index])
                for name, block in sets.items()
                for what in ("precision", "recall")
            },
        }
        for index, label in enumerate(metrics["classes"])
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
