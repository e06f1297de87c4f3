"""Weights by name, and checkpoints, which hold them."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.files import atomic_path

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
    more = f"; and {len(words) - NUM_NAMED} more" if len(words) > NUM_NAMED else ""
    return "; ".join(words[:NUM_NAMED]) + more


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU.

    Raises:
        LeanvitError: missing or damaged.
    """
    if not path.exists():
        raise LeanvitError(f"no checkpoint {path}: train the run to its end first")
    try:
        # a file that somebody hands on is data: nothing in it is run
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LeanvitError(
            f"{path} is damaged or no checkpoint; if a run left it, delete it and train again"
        ) from error
    return checkpoint


def check_match(path: Path, found: State, wanted: State) -> None:
    """See that the weights found in a checkpoint are those of a model.

    Raises:
        LeanvitError: they are another model's; the first keys that differ are named.
    """
    if words := mismatch(found, wanted):
        raise LeanvitError(f"{path} is a checkpoint of another model ({words})")


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """A checkpoint is whole or not there, whenever the process is killed or the disk fills."""
    buffer = io.BytesIO()  # through memory: torch.save to a full disk fails without saying why
    torch.save(checkpoint, buffer)
    with atomic_path(path) as part:
        part.write_bytes(buffer.getvalue())
