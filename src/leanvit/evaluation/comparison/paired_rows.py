"""Two sides of several rows each: every row with the one that is equal but for what is asked.

Asked is what all runs of a side have in common, and the other side has otherwise: the loss, with
``run=loss=focal against=loss=ce``. Then a net's row with ``focal`` is compared with its row with
``ce``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.paired import Paired, compare_paired, settings_with_data
from leanvit.evaluation.comparison.runs import read_run

Chosen = tuple[tuple[str, str], ...]


def compare_rows(runs: Sequence[Path], against: Sequence[Path]) -> tuple[list[Paired], list[Path]]:
    """The rows that both sides have, compared, and the runs of other rows.

    Raises:
        LeanvitError: see :func:`comparison.paired.compare_paired`; no row is on both sides.
    """
    told = [{run: _settings(run) for run in side} for side in (runs, against)]
    asked = _asked(*(list(each.values()) for each in told))
    sides = [_by_rest(each, asked) for each in told]
    rows = [row for row in sides[0] if row in sides[1]]
    if not asked or not rows:
        return [compare_paired(runs, against)], []  # it says what is wrong
    found: list[Paired] = []
    left_out = [run for side in sides for row in side if row not in rows for run in side[row]]
    apart = [pair for row in rows for pair in row if not all(pair in each for each in rows)]
    for row in rows:
        try:
            pair = compare_paired(*(side[row] for side in sides))
        except LeanvitError:
            if len(rows) == 1:
                raise
            left_out += [run for side in sides for run in side[row]]
            continue
        where = ", ".join(f"{key}={value}" for key, value in row if (key, value) in apart)
        found.append(replace(pair, where=where))
    if not found:
        raise LeanvitError("no row of run= has a seed and its test images in common with against=")
    return found, left_out


def _settings(run: Path) -> dict[str, str]:
    """With where its images come from: two folders are two rows."""
    told = read_run(run)
    return settings_with_data(told) | {"source": str(told["source"])}


def _asked(runs: Sequence[Mapping[str, str]], against: Sequence[Mapping[str, str]]) -> set[str]:
    """Keys with one value on each side, and not the same."""
    found = set()
    for key in {key for each in (*runs, *against) for key in each}:
        one, other = ({each.get(key) for each in side} for side in (runs, against))
        if len(one) == len(other) == 1 and one != other:
            found.add(key)
    return found


def _by_rest(told: Mapping[Path, Mapping[str, str]], asked: set[str]) -> dict[Chosen, list[Path]]:
    """The runs of a side by all that is not asked about."""
    found: dict[Chosen, list[Path]] = {}
    for run, settings in told.items():
        rest = tuple(sorted(each for each in settings.items() if each[0] not in asked))
        found.setdefault(rest, []).append(run)
    return found
