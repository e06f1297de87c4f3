"""Checks of what a user may write behind ``augment.``, each one line that says what will do."""

from collections.abc import Sequence

from leanvit.errors import LeanvitError


def check_between(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse a number outside ``low`` to ``high``."""
    if not low <= value <= high:
        allowed = f"{low} or more" if high == float("inf") else f"{low} to {high}"
        raise LeanvitError(f"augment.{name}={value} is out of range: give {allowed}")


def check_whole(name: str, value: float, low: int, high: float = float("inf")) -> None:
    """Refuse what is no whole number from ``low`` to ``high``."""
    if value % 1 != 0:
        raise LeanvitError(f"augment.{name}={value} is no whole number: give one")
    check_between(name, value, low, high)


def check_range(name: str, values: Sequence[float], high: float = float("inf")) -> None:
    """Refuse what is not two positive numbers in ascending order, at most ``high``."""
    if len(values) != 2 or not 0 < values[0] <= values[1] <= high:
        limit = "" if high == float("inf") else f", at most {high}"
        raise LeanvitError(
            f"augment.{name}={list(values)} is no range: give two positive numbers, the smaller "
            f"one first{limit}"
        )


def check_colour(name: str, values: Sequence[int]) -> None:
    """Refuse what is not red, green and blue."""
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise LeanvitError(
            f"augment.{name}={list(values)} is no colour: give red, green and blue, each 0 to 255"
        )
