"""Ray itself, started for a grid or running before; and what a job takes of its nodes."""

import contextlib
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf

from leanvit.app import processes
from leanvit.cores import num_cores
from leanvit.errors import LeanvitError, one_line


@contextlib.contextmanager
def cluster(init: Mapping[str, Any]) -> Iterator[None]:
    """Ray, until the block ends.

    Raises:
        LeanvitError: there is none at the given address, or it does not start.
    """
    if not (is_own := init["address"] == "local"):
        check_answers(init["address"])
    told: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if is_own:
        told |= {"include_dashboard": False, "num_cpus": num_cores(),
                 "object_store_memory": 100 * 2**20, "_node_ip_address": "127.0.0.1"}  # fmt: skip
    answers = {each: signal.getsignal(each) for each in (signal.SIGINT, *processes.STOPS)}
    try:
        ray.init(**{**told, **init})
    except SystemExit:  # its own answer to SIGTERM
        raise processes.Stopped(signal.SIGTERM) from None
    except Exception as error:
        where = "does not start" if is_own else f"at {init['address']} cannot be used"
        raise LeanvitError(f"Ray {where}: {one_line(error)}") from error
    finally:
        for each, answer in answers.items():
            signal.signal(each, answer)
    try:
        yield
    finally:
        ray.shutdown()


def check_answers(address: str) -> None:
    """See that somebody listens at HOST:PORT: Ray would try for minutes, and say so.

    Raises:
        LeanvitError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():  # auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise LeanvitError(
            f"no Ray at {address} ({error}): start it, or give its HOST:PORT"
        ) from error


def resources(remote: DictConfig, accelerator: str, is_own: bool) -> dict[str, Any]:
    """What a job takes of its node, and the other options of Ray's for it.

    Raises:
        LeanvitError: that is no number, or more than this machine has.
    """
    options: Any = OmegaConf.to_container(remote, resolve=True)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if options["num_gpus"] is None:
        takes_one = accelerator in ("auto", "gpu", "cuda") and any("GPU" in node for node in nodes)
        options["num_gpus"] = int(takes_one)
    for key in ("num_cpus", "num_gpus", "max_retries"):
        number = options[key]
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise LeanvitError(f"hydra.launcher.ray.remote.{key}={number}: give a number")
    wanted = {"CPU": options["num_cpus"], "GPU": options["num_gpus"]}
    if not any(all(node.get(key, 0) >= value for key, value in wanted.items()) for node in nodes):
        line = f"no node of Ray has num_cpus={wanted['CPU']} and num_gpus={wanted['GPU']} for a job"
        if is_own:
            raise LeanvitError(f"{line}: lower hydra.launcher.ray.remote.num_cpus or num_gpus")
        print(f"{line}: they wait until one joins", file=sys.stderr)
    return options
