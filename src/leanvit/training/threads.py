"""As many threads as other processes leave cores."""

import os
import sys
import time
from typing import Any

import lightning as L
import torch

from leanvit.cores import Others, num_cores, seen_cores

SECONDS = 5.0  # between two looks
ENOUGH = 0.2  # seconds that a look must tell of


def wanted(cores: int, others: float, at_most: int) -> int:
    """Threads to compute with where other processes use ``others`` of the ``cores``."""
    return min(at_most, max(1, cores - round(others)))


class ShareCores(L.Callback):
    """Computes with as many threads as other processes leave cores, while a net trains on CPU.

    OpenMP's threads wait for each other at the end of every operation. Where another process runs
    on a core of theirs, all wait until it is free again: an epoch of two threads beside one busy
    process took 2.5 times as long as of a single one here, a whole grid 1.5 times (`make bench`).
    ``OMP_NUM_THREADS``, which launchers set for jobs that share a machine, is the last word:
    nothing is changed then. Sums in other numbers of threads differ in their last bits.

    Attributes:
        used: every number of threads that the training, in all its lives, was computed with.
    """

    def __init__(self, others: Others | None = None) -> None:
        self.others = others or _since_start
        self.at_most = torch.get_num_threads()
        self.used: set[int] = set()

    def state_dict(self) -> dict[str, Any]:
        return {"used": sorted(self.used)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.used = set(state_dict["used"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.share()

    def on_train_batch_start(self, *batch: Any) -> None:
        if time.monotonic() > self.next:
            self.share()

    def share(self) -> None:
        """Look what others use, and leave it to them."""
        in_use, seconds = self.others.look()
        self.next = time.monotonic() + SECONDS
        cores, before = len(seen_cores()), torch.get_num_threads()
        if seconds >= ENOUGH and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(wanted(cores, in_use, min(self.at_most, num_cores())))
        threads = torch.get_num_threads()
        if threads < before and threads not in self.used:
            share = f"other processes use {in_use:.1f} of {cores} cores"
            print(f"{share}: number of threads {before} -> {threads}", file=sys.stderr, flush=True)
        self.used.add(threads)


_since_start = Others()
if hasattr(os, "register_at_fork"):  # a job of a grid counts from its own start
    os.register_at_fork(after_in_child=_since_start.look)
