"""The published tables: one file, read by all that set something beside them."""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A row of the published tables; ``*_agree``: thop counts the same for our net."""

    accuracy: float
    params: int
    macs: int
    note: str
    params_agree: bool | None = None  # None: not counted yet
    macs_agree: bool | None = None


def read_published(path: Path) -> dict[str, Published]:
    """The rows of a CSV by their experiment, in its order."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["experiment"]: Published(
                float(row["accuracy"]),
                round(float(row["params_M"]) * 1e6),
                round(float(row["macs_G"]) * 1e9),
                row["note"],
            )
            for row in csv.DictReader(file)
        }
