"""What a reader must know of the numbers of a comparison, in sentences; docs/report.md has more."""

from leanvit.errors import first_of
from leanvit.evaluation.comparison.reference import NUM_JUDGED
from leanvit.evaluation.comparison.rows import Table
from leanvit.evaluation.tables import interval, percent

NUM_TIED = 12  # row numbers in one line


def sentences(table: Table) -> list[str]:
    """What is said of every form of a table."""
    several = any(len(row.runs) > 1 for row in table.rows)
    over = "over seeds (of one: over test images)" if several else "over test images"
    said = [f"In order of {order(table)} (the test set chose nothing).",
            f"In brackets 95 % intervals, {over}."]  # fmt: skip
    if len(table.rows) > 1:
        said.append(
            f"Difference: test accuracy minus that of row {table.reference + 1} (or of the row "
            f"that is named), in points, {_luck(several)}."
        )
    if len(table.rows) > NUM_JUDGED:
        said.append(f"Differences are told of the first {NUM_JUDGED} rows.")
    if table.num_repeats:
        said.append(f"{table.num_repeats} older run(s) with the same seed left out.")
    return [*said, "More: docs/report.md."]


def order(table: Table) -> str:
    """What put the rows in order, in words."""
    words = {"pflop": "PFLOP of training", "time": "training time"}
    return words.get(table.sort, f"validation {table.monitor.replace('_', ' ')}")


def ties(table: Table) -> str:
    """Which rows validation cannot tell from the best; "" of a single row."""
    if len(table.rows) == 1:
        return ""
    bounds = table.rows[table.best].validation_interval
    sure = f", 95 % interval {interval(*bounds, percent)}" if bounds else ""
    about = f"on validation ({table.num_val_images} images{sure})"
    tied = [str(number + 1) for number, row in enumerate(table.rows)
            if row.is_tied and number != table.best]  # fmt: skip
    if not tied:
        return f"Row {table.best + 1} is tied with no other row {about}."
    rows = f"row{'s' * (len(tied) > 1)} {first_of(tied, NUM_TIED)}"
    return f"Row {table.best + 1} is tied with {rows} {about}."


def _luck(several: bool) -> str:
    """What the interval of a difference holds."""
    said = "by a paired bootstrap over test images"
    if several:
        return f"{said}, and over the seeds that both rows have, if several (the wider end)"
    return f"{said}; the luck of training is not in it"
