"""Up and down in straight lines."""

import pytest
import torch

from leanvit.training.triangular import Triangular


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [1.0, 0.75, 0.5, 0.25, 0.0]),
        ({"warmup_fraction": 0.5}, [0.5, 1.0, 1.0, 0.5, 0.0]),
        ({"final_fraction": 0.2}, [1.0, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_rates_of_each_step(values: dict, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.0)
    schedule, found = Triangular(optimizer, num_steps=4, **values), []
    for _ in range(5):
        found.append(schedule.get_last_lr()[0] / 3.0)
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(expected)
