"""What nets cost: parameters, multiply-accumulates, where they go, and how fast the nets are here.

    python src/complexity.py [choices and values, as for src/train.py]
    python src/complexity.py model=vit,coatnet model.attention=sdpa
    python src/complexity.py experiment=vit_v1.1,swin_v0.1 measure=false format=json
    python src/complexity.py published=true

Values with commas make a grid, as in train.py -m. No data are read, no weights are loaded, and no
file is written. A net has model.num_classes classes, or 10. With lightweight=early_exit or a_vit
the MACs are those of an image that goes to the end. Besides the choices:

    format=table      a table to read; json: everything, for programs
    measure=true      speed and memory on this machine, some ten seconds for each net;
                      false: only what can be counted (the default with published=true)
    stages=false      true: what each part of a net costs (always for a single net, and in json)
    published=false   true: every experiment of the published tables, beside its published figures
"""

import csv
import itertools
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from torch import nn

import assemble
import command_line
import lightweighting
import naming
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost import Cost, cost
from leanvit.evaluation.cost_table import (
    MACS_TOLERANCE,
    PARAMS_TOLERANCE,
    Measured,
    Net,
    Published,
    failures,
    print_nets,
)
from leanvit.evaluation.speed import measure_speed
from leanvit.memory import keep_freed_memory
from leanvit.training.fit import choose_precision, find_device

CONF = naming.ROOT / "conf"
OWN_KEYS = {  # with their values, the default first
    "format": ("table", "json"),
    "measure": ("true", "false"),
    "stages": ("false", "true"),
    "published": ("false", "true"),
}


class Job(NamedTuple):
    """One net to examine; ``varied`` are the overrides that not all jobs have."""

    overrides: list[str]
    varied: list[str]
    published: Published | None = None


def main() -> None:
    """Examine each net that was asked for, then print them all."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((__doc__ or "").strip())
        return
    own, choices = take_own_keys(sys.argv[1:])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        jobs = published_jobs(choices) if own["published"] == "true" else grid(choices)
        nets = examine_all(jobs, own["measure"] == "true")
    if own["format"] == "json":
        print(json.dumps([asdict(net) for net in nets], indent=2))
        for line in failures(nets):
            print(line, file=sys.stderr)
    else:
        print_nets(nets, own["stages"] == "true")
    sys.exit(1 if any(net.error for net in nets) else 0)


def take_own_keys(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of this program's own keys, and the choices for Hydra.

    Raises:
        HydraException: a value that a key does not take, or a flag that does not exist.
    """
    given: dict[str, str] = {}
    choices = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in OWN_KEYS:
            if value not in OWN_KEYS[key]:
                raise HydraException(f"{argument}: choose from {', '.join(OWN_KEYS[key])}")
            given[key] = value
        elif not argument.startswith("-"):
            choices.append(argument)
        elif argument not in ("-m", "--multirun"):
            raise HydraException(f"there is no flag {argument}: --help tells what there is")
    own = {key: values[0] for key, values in OWN_KEYS.items()} | given
    if own["published"] == "true":
        own["measure"] = given.get("measure", "false")
    return own, choices


def grid(choices: list[str]) -> list[Job]:
    """The jobs that ``train.py -m`` would run."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    each = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parser.parse_overrides(choices)
    ]
    jobs = [list(job) for job in itertools.product(*each)]
    varied = {value for values in each if len(values) > 1 for value in values}
    return [Job(job, [value for value in job if value in varied]) for job in jobs]


def published_jobs(choices: list[str]) -> list[Job]:
    """A job for each row of the published tables.

    Raises:
        HydraException: other choices, with which nothing would be comparable.
    """
    if choices:
        raise HydraException(f"published=true takes no other choices: leave out {choices[0]}")
    jobs = []
    with (CONF / "experiment" / "published.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            params, macs = round(float(row["params_M"]) * 1e6), round(float(row["macs_G"]) * 1e9)
            published = Published(float(row["accuracy"]), params, macs, row["note"])
            jobs.append(Job([f"experiment={row['experiment']}"], [row["experiment"]], published))
    return jobs


def examine_all(jobs: Sequence[Job], measuring: bool) -> list[Net]:
    """Each in turn; where one of several is impossible, the others are still examined."""
    nets = []
    waiting = Console(stderr=True)
    for job in track(jobs, "", console=waiting, transient=True, disable=not waiting.is_terminal):
        try:
            nets.append(examine(job, measuring))
        except Exception as error:
            if len(jobs) == 1:
                raise
            if command_line.traceback_wanted():
                traceback.print_exc()
            line = command_line.explain(error)
            nets.append(Net(" ".join(job.varied), job.overrides, error=line))
    return nets


def examine(job: Job, measuring: bool) -> Net:
    """Count what a net costs, and measure it.

    Raises:
        LeanvitError: the net cannot be built, or does not fit into memory.
        HydraException, OmegaConfBaseException: a choice that does not exist.
    """
    config = compose("train", job.overrides, return_hydra_config=True)
    assemble.forget_pretraining(config)  # counting and timing need no file
    num_classes, image_size = config.model.num_classes or 10, config.data.image_size
    try:
        with torch.device("meta"):
            counted = cost(build_net(config, num_classes), image_size)
        measured = measure(config, num_classes) if measuring else None
    except Exception as error:
        raise LeanvitError(command_line.explain(error)) from error
    published = compare(job.published, counted) if job.published else None
    name = name_of(job, config.hydra.runtime.choices)
    return Net(name, job.overrides, image_size, num_classes, counted, measured, published)


def build_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net as it would train, without the weights of a teacher: they cost it nothing."""
    return lightweighting.wrap(config, assemble.build_net(config, num_classes))


def name_of(job: Job, choices: Mapping[str, str]) -> str:
    """The model or experiment, and what else sets the job apart from the others."""
    net = choices.get("experiment") or choices["model"]
    selects = (net, f"experiment={net}", f"model={net}")
    values = [value.replace("\\", "") for value in job.varied if value not in selects]
    return " ".join([net, *values])


def compare(published: Published, counted: Cost) -> Published:
    return replace(
        published,
        params_agree=abs(counted.thop_params - published.params) <= PARAMS_TOLERANCE,
        macs_agree=abs(counted.thop_macs - published.macs) <= MACS_TOLERANCE,
    )


def measure(config: DictConfig, num_classes: int) -> Measured:
    """Speed and memory where, and as precisely as, this config would train."""
    device = find_device(config.trainer.accelerator)
    if device.type == "cpu":
        keep_freed_memory()  # as a training does
    precision = config.trainer.precision
    bfloat16 = "bf16" in (choose_precision(device) if precision == "auto" else precision)
    net = build_net(config, num_classes)
    speed = measure_speed(net, config.data.image_size, device, bfloat16)
    precision = "bfloat16" if bfloat16 else "float32"
    return Measured(**asdict(speed), device=assemble.device_name(device), precision=precision)


if __name__ == "__main__":
    command_line.run(main)
