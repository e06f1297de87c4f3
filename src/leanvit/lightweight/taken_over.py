"""What a method takes over from a finished run: its own weights that mean the same there."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from leanvit.contracts import Method


@torch.no_grad()
def take_over(
    new: nn.Module, old: nn.Module, state: Mapping[str, Tensor], given: Collection[str] = ()
) -> list[str]:
    """Copy into ``new`` the weights of its parts that ``old`` has too, at whichever index.

    A part is the same where both methods say the same of it in :meth:`Method.parts`, and its
    weights have the same shapes. The net within is no part.

    Args:
        new, old: methods, or nets without one; they may be without storage.
        state: of ``old``; without storage it only tells what would be taken over.
        given: parts that stay as they are.

    Returns:
        The names of the own parameters of ``new`` that nothing was found for.
    """
    if not isinstance(new, Method):
        return []
    untrained = {name for name, _ in new.named_parameters() if not name.startswith("net.")}
    places = {means: part for part, means in old.parts().items()} if isinstance(old, Method) else {}
    for part, means in new.parts().items():
        if part in given or means not in places:
            continue
        wanted = _of(part, new.state_dict())
        found = _of(places[means], state)
        if {k: v.shape for k, v in wanted.items()} == {k: v.shape for k, v in found.items()}:
            for name, value in wanted.items():
                if not found[name].is_meta:
                    value.copy_(found[name])
            untrained -= {part + name for name in wanted}
    return sorted(untrained)


def _of(part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a part, by what follows its name."""
    return {name.removeprefix(part): value for name, value in state.items()
            if f"{name}.".startswith(f"{part}.")}  # fmt: skip
