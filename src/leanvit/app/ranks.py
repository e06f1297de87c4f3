"""The processes of a distributed training, one a device, on one node or on several."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from leanvit.app import names, words
from leanvit.app.processes import die_with_parent
from leanvit.cores import num_cores
from leanvit.errors import LeanvitError


def is_rank() -> bool:
    """Whether this is one of the processes of a distributed training."""
    return "LOCAL_RANK" in os.environ


def num_local() -> int | None:
    """Processes of this distributed training on this node; None: it is none."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_rank() else None


def is_first_rank() -> bool:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def node() -> int:
    """The number of this node among those of a training, as torchrun or SLURM tell it."""
    return int(os.environ.get("NODE_RANK") or os.environ.get("SLURM_NODEID") or 0)


def speaks(config: DictConfig) -> bool:
    """Whether this node tells what became of a job: of a training on several the first does."""
    return config.get("trainer", {}).get("num_nodes", 1) == 1 or node() == 0


def meeting_place(num_nodes: int) -> dict[str, str]:
    """Where the processes find each other.

    Raises:
        LeanvitError: nothing tells where that is, of several nodes.
    """
    told = os.environ
    if num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    if "SLURM_LAUNCH_NODE_IPADDR" in told:  # the first node's; each job of an array has its number
        port = 20_000 + int(told["SLURM_JOB_ID"]) % 10_000
        return {"MASTER_ADDR": told["SLURM_LAUNCH_NODE_IPADDR"], "MASTER_PORT": str(port)}
    if not {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= told.keys():
        raise LeanvitError(
            f"trainer.num_nodes={num_nodes}: add -m hydra/launcher=slurm, or give the command on "
            "each node, with NODE_RANK, MASTER_ADDR and MASTER_PORT in its environment"
        )
    return {key: told[key] for key in ("MASTER_ADDR", "MASTER_PORT")}


def run_ranks(command: str, overrides: Sequence[str], trainer: DictConfig) -> int:
    """Run a command once per device of this node; the first exit status that is not 0, or 0.

    Lightning's own launcher would start the ranks by Hydra's files, which no run has here.
    """
    import torch

    devices = trainer.devices
    num = devices if isinstance(devices, int) else max(1, torch.cuda.device_count())
    num_nodes = trainer.get("num_nodes", 1)
    here = node() if num_nodes > 1 else 0
    # not SLURM's: Lightning would count its tasks, one a node, as ranks
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment = {
        "OMP_NUM_THREADS": str(max(1, num_cores() // num)),
        **kept,
        **meeting_place(num_nodes),
        "WORLD_SIZE": str(num_nodes * num),
        "LOCAL_WORLD_SIZE": str(num),
        "NODE_RANK": str(here),
        "HYDRA_FULL_ERROR": "1" if words.traceback_wanted() else "0",
    }
    # a sweep among the overrides would begin anew in every rank
    words_of_it = [str(names.ROOT / "src" / f"{command}.py"), *overrides, "hydra.mode=RUN"]
    ranks = [
        subprocess.Popen(
            [sys.executable, *words_of_it],
            env={**environment, "LOCAL_RANK": str(rank), "RANK": str(here * num + rank)},
            preexec_fn=die_with_parent,
        )
        for rank in range(num)
    ]
    try:
        return _wait(ranks)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def _wait(ranks: list[subprocess.Popen]) -> int:
    """Until all are done or one fails: the others would wait for it for ever."""
    running = {rank.pid: rank for rank in ranks}
    while running:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        status = running.pop(ended.si_pid).wait()
        if status:
            return status
    return 0
