"""What differs between two state dicts, in words; checkpoints that are damaged or handed on."""

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from leanvit.errors import LeanvitError
from leanvit.weights import mismatch, read_checkpoint, write_checkpoint


def test_the_first_differences_are_named_and_the_rest_counted() -> None:
    a, b = {"x": torch.zeros(2)}, {"x": torch.zeros(2), "y": torch.zeros(1)}
    assert mismatch(a, a) == ""
    assert mismatch(a, b) == "it lacks y"
    assert mismatch(b, a) == "it has y, which this model lacks"
    assert mismatch({"x": torch.zeros(3)}, a) == "x is (3,), not (2,)"
    many = {f"x{i}": torch.zeros(1) for i in range(5)}
    assert mismatch({}, many) == "it lacks x0; it lacks x1; it lacks x2; and 2 more"


def small() -> dict:
    torch.manual_seed(0)
    return {"state_dict": nn.Linear(4, 3).state_dict(), "epoch": 7, "rows": [{"lr": 0.1}]}


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(small(), path)
    whole = path.read_bytes()
    assert same(read_checkpoint(path), small()) and same(torch.load(path), small())
    for place in random.Random(0).sample(range(8 * len(whole)), 400):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(LeanvitError, match="damaged"):
            read_checkpoint(path)
    for length in (0, 1, 21, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LeanvitError, match="damaged"):
            read_checkpoint(path)


def test_what_an_older_version_wrote_is_read(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "best.ckpt")
    assert same(read_checkpoint(tmp_path / "best.ckpt"), small())


def test_the_one_before_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, before = tmp_path / "last.ckpt", tmp_path / "before.ckpt"
    for epoch in range(3):
        write_checkpoint({**small(), "epoch": epoch}, last, before)
    assert [read_checkpoint(path)["epoch"] for path in (before, last)] == [1, 2]
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path)[:-1] + b"?")
    with pytest.raises(LeanvitError, match="faulty"):
        write_checkpoint({**small(), "epoch": 3}, last, before)
    monkeypatch.undo()
    assert [read_checkpoint(path)["epoch"] for path in (before, last)] == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


class Payload:
    """What runs a command where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("kind", ["zip", "with a checksum", "pickle"])
def test_a_payload_in_a_checkpoint_runs_nothing(tmp_path: Path, kind: str) -> None:
    path, proof = tmp_path / "best.ckpt", tmp_path / "proof"
    contents = {**small(), "callbacks": {"History": Payload(proof)}}
    if kind == "zip":
        torch.save(contents, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(contents))
    else:
        write_checkpoint(contents, path)
    with pytest.raises(LeanvitError, match="damaged or no checkpoint"):
        read_checkpoint(path)
    assert not proof.exists()
    if kind != "pickle":
        torch.load(path, weights_only=False)
        assert proof.exists()  # it would have


@pytest.mark.parametrize("kind", ["script", "pipe", "device", "folder"])
def test_what_is_no_checkpoint_is_refused_without_a_word_of_torch(
    tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "best.ckpt"
    if kind == "script":
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    recwarn.clear()
    with pytest.raises(LeanvitError, match="damaged or no checkpoint"):
        read_checkpoint(path)
    assert not recwarn.list
