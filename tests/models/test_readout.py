"""Readouts against what they say."""

import pytest
import torch

from leanvit.errors import LeanvitError
from leanvit.models.readout import Readout

TOKENS = torch.randn(3, 1 + 9, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        ("cls", TOKENS[:, 0]),
        ("mean", TOKENS[:, 1:].mean(1)),
        ("sum", TOKENS[:, 1:].sum(1)),
        ("token:0", TOKENS[:, 0]),
        ("token:4", TOKENS[:, 4]),
        ("token:9", TOKENS[:, 9]),
        ("weighted", TOKENS[:, 0] + TOKENS[:, 1:].mean(1)),
    ],
)
def test_after_a_cls_token(readout: str, expected: torch.Tensor) -> None:
    torch.testing.assert_close(Readout(readout, 9, has_cls=True)(TOKENS), expected)


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        ("mean", TOKENS.mean(1)),
        ("sum", TOKENS.sum(1)),
        ("token:9", TOKENS[:, 9]),
        ("weighted", TOKENS.mean(1)),
    ],
)
def test_without_one(readout: str, expected: torch.Tensor) -> None:
    torch.testing.assert_close(Readout(readout, 10, has_cls=False)(TOKENS), expected)


def test_weights_are_those_of_the_patches() -> None:
    readout = Readout("weighted", 9, has_cls=True)
    with torch.no_grad():
        readout.token_weights.copy_(torch.arange(9))
    expected = TOKENS[:, 0] + sum(i * TOKENS[:, 1 + i] for i in range(9))
    torch.testing.assert_close(readout(TOKENS), expected)


@pytest.mark.parametrize(
    ("readout", "has_cls", "words"),
    [
        ("token:10", True, r"readout=token:10 is beyond the sequence of 10 tokens: give 0 to 9"),
        ("token:9", False, "beyond the sequence of 9 tokens: give 0 to 8$"),
        ("token:-1", True, "choose from cls, mean, sum, weighted, token:<k>"),
        ("token", True, "choose from"),
        ("mean:3", True, "choose from"),
        ("cls", False, r"no \[CLS\] token\): choose from mean, sum"),
        ("max", True, "choose from cls, mean"),
    ],
)
def test_a_wrong_readout_is_one_line(readout: str, has_cls: bool, words: str) -> None:
    with pytest.raises(LeanvitError, match=words) as error:
        Readout(readout, 9, has_cls)
    assert "\n" not in str(error.value)
