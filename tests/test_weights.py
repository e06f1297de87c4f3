"""What differs between two state dicts, in words."""

import torch

from leanvit.weights import mismatch


def test_the_first_differences_are_named_and_the_rest_counted() -> None:
    a, b = {"x": torch.zeros(2)}, {"x": torch.zeros(2), "y": torch.zeros(1)}
    assert mismatch(a, a) == ""
    assert mismatch(a, b) == "it lacks y"
    assert mismatch(b, a) == "it has y, which this model lacks"
    assert mismatch({"x": torch.zeros(3)}, a) == "x is (3,), not (2,)"
    many = {f"x{i}": torch.zeros(1) for i in range(5)}
    assert mismatch({}, many) == "it lacks x0; it lacks x1; it lacks x2; and 2 more"
