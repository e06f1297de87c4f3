"""What metrics.json holds, as tables for the terminal: one column a set of images."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from leanvit.evaluation.figures import MAX_WRITTEN_CLASSES
from leanvit.evaluation.metrics import SHOTS

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
    table = RichTable("", *sets, title=escape(f"{name} on {metrics['source']}"))
    for heading, *values in _rows(list(sets.values())):
        table.add_row(heading, *map(escape, values))
    if adjusted := metrics.get("logit_adjust"):
        why = ", chosen on validation" if adjusted["chosen_on_validation"] else ""
        table.add_row(f"logits adjusted, tau{why}", *[f"{adjusted['tau']:g}"] * len(sets))
    console.print(table)
    if len(metrics["classes"]) <= MAX_WRITTEN_CLASSES:
        console.print(_class_table(metrics, sets))


def _rows(blocks: list[dict[str, Any]]) -> list[list[str]]:
    rows = [[key.replace("_", " "), *(_number(each[key]) for each in blocks)] for key in MEANS]
    intervals = [each["accuracy_interval"] for each in blocks]
    rows.append(["accuracy, 95 %", *(f"[{low:.4f}, {high:.4f}]" for low, high in intervals)])
    worst = [each["worst_class"] for each in blocks]
    rows.append(["worst class", *(f"{each['name']} {each['recall']:.4f}" for each in worst)])
    groups = [name for name in SHOTS if any(each["shots"][name] is not None for each in blocks)]
    for name in groups if len(groups) > 1 else []:  # one alone says what balanced accuracy says
        rows.append([f"{name}-shot recall", *(_number(each["shots"][name]) for each in blocks)])
    for key, words in CALIBRATION.items():
        rows.append([words, *(_number(each[key]) for each in blocks)])
    return [*rows, ["images", *(f"{each['n']:,}" for each in blocks)]]


def _class_table(metrics: Mapping[str, Any], sets: Mapping[str, dict[str, Any]]) -> RichTable:
    columns = [f"{name} {what}" for name in sets for what in ("precision", "recall")]
    table = RichTable("class")
    for heading in ["training images", *columns]:
        table.add_column(heading, justify="right")
    for index, label in enumerate(metrics["classes"]):
        numbers = [
            _number(block[f"per_class_{what}"][index])
            for block in sets.values()
            for what in ("precision", "recall")
        ]
        table.add_row(escape(label), f"{metrics['train_counts'][index]:,}", *numbers)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
