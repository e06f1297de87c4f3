"""complexity.py: what nets cost, counted and measured; no data are read, no weights are loaded."""

import itertools
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Literal, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import nn

from leanvit.app import names, words
from leanvit.app.nets import build_net, changed, without_file, wrap
from leanvit.app.provenance import device_name
from leanvit.device import choose_precision, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import Cost, cost
from leanvit.evaluation.cost.cost_table import (
    MACS_TOLERANCE,
    PARAMS_TOLERANCE,
    Measured,
    Net,
    failures,
    print_nets,
)
from leanvit.evaluation.cost.speed import measure_speed
from leanvit.evaluation.published import Published, read_published
from leanvit.memory import keep_freed_memory

CONF = names.CONF


class Job(NamedTuple):
    """One net to examine; ``varied`` are the overrides that not all jobs have."""

    overrides: list[str]
    varied: list[str]
    published: Published | None = None


def run(
    overrides: Sequence[str],
    format: Literal["table", "json"] = "table",
    measure: bool | None = None,
    parts: bool = False,
    published: bool = False,
) -> None:
    """Examine each net that was asked for, then print them all; the keys are those of
    conf/complexity.yaml.

    Args:
        overrides: choices and values, as for train.py.
    """
    with initialize_config_dir(str(CONF)):
        jobs = published_jobs(overrides) if published else grid(overrides)
        nets = examine_all(jobs, not published if measure is None else measure)
    if format == "json":
        print(json.dumps([asdict(net) for net in nets], indent=2))
        for line in failures(nets):
            print(line, file=sys.stderr)
    else:
        print_nets(nets, parts)
    if any(net.error for net in nets):
        sys.exit(1)


def grid(choices: Sequence[str]) -> list[Job]:
    """The jobs that ``train.py -m`` would run."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    each = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parser.parse_overrides(list(choices))
    ]
    jobs = [list(job) for job in itertools.product(*each)]
    varied = {value for values in each if len(values) > 1 for value in values}
    return [Job(job, [value for value in job if value in varied]) for job in jobs]


def published_jobs(choices: Sequence[str]) -> list[Job]:
    """A job for each row of the published tables.

    Raises:
        HydraException: other choices, with which nothing would be comparable.
    """
    if choices:
        raise HydraException(f"published=true takes no other choices: leave out {choices[0]}")
    rows = read_published(names.PUBLISHED).items()
    return [Job([f"experiment={name}"], [name], published) for name, published in rows]


def examine_all(jobs: Sequence[Job], measuring: bool) -> list[Net]:
    """Each in turn; where one of several is impossible, the others are still examined."""
    nets = []
    waiting, shown = Console(stderr=True), sys.stderr.isatty()
    for job in track(jobs, "", console=waiting, transient=True, disable=not shown):
        try:
            nets.append(examine(job, measuring))
        except Exception as error:
            if len(jobs) == 1:
                raise
            if words.traceback_wanted():
                traceback.print_exc()
            line = words.explain(error)
            nets.append(Net(" ".join(job.varied), job.overrides, error=line))
    return nets


def examine(job: Job, measuring: bool) -> Net:
    """Count what a net costs, and measure it.

    Raises:
        LeanvitError: the net cannot be built, or does not fit into memory.
        HydraException, OmegaConfBaseException: a choice that does not exist.
    """
    composed = compose("train", job.overrides, return_hydra_config=True)
    config = without_file(composed)  # counting and timing need no file
    num_classes, image_size = config.model.get("num_classes") or 10, config.data.image_size
    try:
        with torch.device("meta"):
            counted = cost(whole_net(config, num_classes), image_size)
        measured = measured_here(config, num_classes) if measuring else None
    except Exception as error:
        raise LeanvitError(words.explain(error)) from error
    published = compare(job.published, counted) if job.published else None
    name = name_of(job, composed.hydra.runtime.choices)
    return Net(name, job.overrides, image_size, num_classes, counted, measured, published)


def whole_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net as it would train, without a teacher, which costs it nothing."""
    if config.get("lightweight") and OmegaConf.is_missing(config.lightweight, "teacher"):
        config = changed(config, {"lightweight.teacher": None})
    return wrap(config, build_net(config, num_classes))


def name_of(job: Job, choices: Mapping[str, str | None]) -> str:
    """The model or experiment, and what else sets the job apart from the others."""
    net = str(choices.get("experiment") or choices["model"])
    selects = (net, f"experiment={net}", f"model={net}")
    values = [value.replace("\\", "") for value in job.varied if value not in selects]
    return " ".join([net, *values])


def compare(published: Published, counted: Cost) -> Published:
    return replace(
        published,
        params_agree=abs(counted.thop_params - published.params) <= PARAMS_TOLERANCE,
        macs_agree=abs(counted.thop_macs - published.macs) <= MACS_TOLERANCE,
    )


def measured_here(config: DictConfig, num_classes: int) -> Measured:
    """Speed and memory where, and as precisely as, this config would train."""
    device = find_device(config.trainer.accelerator)
    if device.type == "cpu":
        keep_freed_memory()  # as a training does
    precision = config.trainer.precision
    bfloat16 = "bf16" in (choose_precision(device) if precision == "auto" else precision)
    net = whole_net(config, num_classes)
    speed = measure_speed(net, config.data.image_size, device, bfloat16)
    precision = "bfloat16" if bfloat16 else "float32"
    return Measured(**asdict(speed), device=device_name(device), precision=precision)
