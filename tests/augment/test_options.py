"""What is refused, and what just passes."""

from collections.abc import Callable
from functools import partial

import pytest
from image_trees import refused

from leanvit.augment.options import check_between, check_colour, check_range, check_whole


@pytest.mark.parametrize(
    ("check", "passing", "failing"),
    [
        (partial(check_between, low=0, high=1), [0, 1, 0.5], [-0.01, 1.01, float("nan")]),
        (partial(check_between, low=0), [0, 1e9], [-1]),
        (partial(check_whole, low=0, high=30), [0, 30, 9.0], [31, -1, 1.5]),
        (
            partial(check_range, high=1.0),
            [(0.1, 1), (1, 1)],
            [(0.5, 1.5), (0.2, 0.1), (0, 1), (1,)],
        ),
        (check_range, [(0.3, 3.3)], [(3.3, 0.3), (-1, 1)]),
        (check_colour, [(0, 255, 9)], [(0, 256, 9), (-1, 0, 0), (1, 2), (1, 2, 3, 4)]),
    ],
)
def test_limits(check: Callable, passing: list, failing: list) -> None:
    for value in passing:
        check("option", value)
    for value in failing:
        message = refused(partial(check, "option", value))
        shown = list(value) if isinstance(value, tuple) else value
        assert message.startswith(f"augment.option={shown} is ") and ": give " in message
