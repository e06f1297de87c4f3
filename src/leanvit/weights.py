"""Weights by name: what differs between those that are found and those that are wanted."""

from torch import Tensor

NUM_NAMED = 3


def mismatch(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
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
