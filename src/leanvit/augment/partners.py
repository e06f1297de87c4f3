"""Batches with partners in a training that mixes with them in one phase and without in another."""

from collections.abc import Callable, Sequence

from torch import Tensor

from leanvit.contracts import Mix


class FirstHalf:
    """A mixing without partners, in batches that bring them: it is given the images alone."""

    soft_targets = True  # it may be, as the mixing has it
    partners = None

    def __init__(self, mix: Mix) -> None:
        self.mix = mix

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.mix(images.chunk(2)[0], labels.chunk(2)[0])


def with_partners(
    mixes: Sequence[Mix],
) -> tuple[list[Mix], Callable[[Tensor], Tensor] | None]:
    """The mixings of one training, and what draws the partners in all its batches.

    Batches hold partners throughout where one mixing wants them, so that an epoch's draws are the
    same whichever mixes in it.
    """
    partners = next((mix.partners for mix in mixes if mix.partners is not None), None)
    if partners is None:
        return list(mixes), None
    return [mix if mix.partners is not None else FirstHalf(mix) for mix in mixes], partners
