"""A comparison as values: a row is one choice, a table is one data set."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from leanvit.evaluation.comparison.intervals import Difference
from leanvit.evaluation.measure.metrics import SHOTS

ALWAYS_SHOWN = ("model", "loss", "sampler")
STAGES = ("classifier", "lightweight", "method")  # shown wherever a run has one: it is another net

Sort = Literal["validation", "pflop", "time"]


@dataclass(frozen=True)
class Row:
    """One choice, averaged over its seeds. Accuracies are fractions of 1."""

    name: str
    settings: dict[str, str]  # choices and overrides, as text
    runs: list[Path]  # one a seed
    validation: float
    accuracy: float
    interval: tuple[float, float]
    interval_over: str  # "3 seeds" or "images"
    balanced_accuracy: float
    worst_class: str
    worst_recall: float
    shots: dict[str, float | None]  # mean recall of the "many", "medium" and "few"-shot classes
    calibration_error: float
    calibration_error_scaled: float | None  # after temperature scaling
    params: float | None
    macs: float | None
    pflop: float | None  # of the training and of those before it
    seconds: float
    num_given: int  # single values that were given on the command line
    bases: list[Path]  # the runs whose nets its runs took over or made smaller
    # of ``validation``, over what ``interval`` is over; None: beyond NUM_JUDGED rows
    validation_interval: tuple[float, float] | None = None
    is_tied: bool = False  # validation cannot tell it from the best row, which it may be itself
    # row that it is compared with, from 0; None: the reference itself
    against: int | None = None
    # to that row. None: of the reference, beyond NUM_JUDGED rows, and where the test images differ
    difference: Difference | None = None
    # ``key=value`` of its config that differs there too, beside what ``settings`` tell
    also_differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of one data set, best first by validation."""

    data: str
    source: str
    num_val_images: str
    num_test_images: str
    monitor: str  # the validation metric, which the order is by if ``sort`` says nothing else
    sort: Sort
    devices: list[str]
    settings: list[str]  # the choices and overrides that are shown: those in which rows differ
    rows: list[Row]
    num_repeats: int  # runs left out because a newer one has the same choices and the same seed
    reference: int  # the row that others are compared with, from 0
    is_baseline: bool  # whether it was asked for, and not only the plainest

    @cached_property
    def best(self) -> int:
        """The row that is best by validation, from 0."""
        return max(range(len(self.rows)), key=lambda number: self.rows[number].validation)

    @cached_property
    def has_shots(self) -> bool:
        """Whether at least two of the groups exist: one alone says what balanced accuracy says."""
        return sum(any(row.shots[name] is not None for row in self.rows) for name in SHOTS) > 1

    @cached_property
    def has_pflop(self) -> bool:
        """Whether a row's is known."""
        return any(row.pflop is not None for row in self.rows)

    def differs(self, number: int) -> list[str]:
        """What tells a row from the one that it is compared with: ``["loss=focal", "epochs=9"]``;
        of the reference, what it is, in all in which rows differ."""
        row = self.rows[number]
        other = {} if row.against is None else self.rows[row.against].settings
        found = [f"{name}={row.settings.get(name, 'none')}" for name in self.settings
                 if row.settings.get(name) != other.get(name)]  # fmt: skip
        return found or [row.name]

    def label(self, row: Row) -> str:
        """What tells the row apart, for a legend: ``vit, focal, shuffle, model.dim=64``."""
        chosen = [row.settings[name] for name in ALWAYS_SHOWN if name in row.settings]
        rest = [name for name in self.settings if name not in ALWAYS_SHOWN and name in row.settings]
        return ", ".join([*chosen, *(f"{name}={row.settings[name]}" for name in rest)])
