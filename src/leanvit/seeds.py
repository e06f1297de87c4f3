"""Every random draw of a run comes from (seed, what for, when): a resumed run draws the same."""

import zlib

import numpy as np

from leanvit.errors import LeanvitError


def derive_seed(seed: int, purpose: str, *when: int) -> int:
    """A 63-bit seed for one purpose at one time.

    Args:
        seed: the seed of the run.
        purpose: what the draws are for ("shuffle", "augment", ...); streams never coincide.
        when: the epoch, the rank, ...: non-negative integers, always as many for one purpose.

    Raises:
        LeanvitError: ``seed`` is negative.
    """
    if seed < 0:
        raise LeanvitError(f"seed={seed} is negative: give 0 or more")
    words = [seed, zlib.crc32(purpose.encode()), *when]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
