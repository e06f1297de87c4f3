"""An axis of classes: how long it is, and which of them are named."""

from collections.abc import Sequence

MAX_WRITTEN_CLASSES = 20  # with more, numbers in cells and on bars would be too small to read
FEW_SIZE, MANY_SIZE = 9, 7  # points of their names: no smaller ones are read
MAX_NAMED_CLASSES = 100  # with more, figures would take minutes, and at last no memory would do


def room(num_classes: int, few: float, many: float) -> float:
    """Inches for so many classes: ``few`` for each of up to 20, ``many`` for each of up to 100, and
    as much as for 10 at least; more get no more."""
    if num_classes <= MAX_WRITTEN_CLASSES:
        return few * num_classes
    return max(many * min(num_classes, MAX_NAMED_CLASSES), 10 * few)


def name_size(num_classes: int) -> int:
    """Points of the names."""
    return FEW_SIZE if num_classes <= MAX_WRITTEN_CLASSES else MANY_SIZE


def name_ticks(names: Sequence[str]) -> tuple[Sequence[int], Sequence[str]]:
    """Where names stand along an axis, and which: of too many every second, every third, ..."""
    step = -(-len(names) // MAX_NAMED_CLASSES)
    return range(0, len(names), step), names[::step]
