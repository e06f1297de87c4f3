"""Weights by name, and checkpoints, which hold them."""

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leanvit.errors import LeanvitError, first_of
from leanvit.files import atomic_path, open_regular

State = dict[str, Tensor]

NUM_NAMED = 3


def mismatch(found: State, wanted: State) -> str:
    """The first keys that differ between two state dicts, in words; "" if none does."""
    words = []
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found:
            words.append(f"it lacks {name}")
        elif name not in wanted:
            words.append(f"it has {name}, which this model lacks")
        elif found[name].shape != wanted[name].shape:
            sizes = f"{tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
            words.append(f"{name} is {sizes}")
    return first_of(words, NUM_NAMED, "; ")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU; one that an older version wrote without a checksum is read as it is.

    Raises:
        LeanvitError: missing or damaged.
    """
    if not path.exists():
        raise LeanvitError(f"no checkpoint {path}: train the run to its end first")
    try:
        with open_regular(path) as file:
            contents = file.read()
        ends_as_zip = contents[-22:-18] == b"PK\5\6"  # without a comment
        if not ends_as_zip and not _is_whole(contents):
            raise ValueError("wrong checksum")
        # a file that somebody hands on is data: nothing in it is run
        with warnings.catch_warnings(action="ignore"):  # torch warns of what it then refuses
            checkpoint = torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True)
        checkpoint["state_dict"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LeanvitError(
            f"{path} is damaged or no checkpoint; if a run left it, delete that run's folder and "
            "train again"
        ) from error
    return checkpoint


def check_match(path: Path, found: State, wanted: State) -> None:
    """See that the weights found in a checkpoint are those of a model.

    Raises:
        LeanvitError: they are another model's; the first keys that differ are named.
    """
    if words := mismatch(found, wanted):
        raise LeanvitError(f"{path} is a checkpoint of another model ({words})")


def write_checkpoint(checkpoint: dict[str, Any], path: Path, before: Path | None = None) -> None:
    """A checkpoint is whole or not there, whenever the process is killed or the disk fills.

    Args:
        before: gets what stood at ``path``, once the new one is written and as it should be.

    Raises:
        LeanvitError: it cannot be written.
    """
    buffer = io.BytesIO()  # through memory: torch.save to a full disk fails without saying why
    torch.save(checkpoint, buffer)
    archive = buffer.getbuffer()[:-2]  # a zip ends with the length of its comment
    with atomic_path(path) as part:
        with part.open("wb") as file:
            file.writelines((archive, _checksum(archive)))
        if not _is_whole(part.read_bytes()):
            raise LeanvitError(f"{path} is not what was written: the disk or the memory is faulty")
        if before is not None and path.exists():
            path.replace(before)


def _is_whole(contents: bytes) -> bool:
    return contents.endswith(_checksum(memoryview(contents)[:-NUM_CHECKED]))


def _checksum(archive: bytes | memoryview) -> bytes:
    """The comment of a zip, after its length.

    The sums that a zip has of its members leave out what tells where they are.
    """
    comment = f"crc32:{zlib.crc32(archive):08x}".encode()
    return len(comment).to_bytes(2, "little") + comment


NUM_CHECKED = len(_checksum(b""))
