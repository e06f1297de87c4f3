"""benchmark.py: trained nets against each other: accuracy beside measured time, MACs and size.

How it is measured: :mod:`leanvit.evaluation.cost.benchmark_times`.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor

from leanvit.app.asked_runs import in_order
from leanvit.app.build import load_splits
from leanvit.app.finished import Run, outputs_of
from leanvit.app.nets import load_run
from leanvit.app.provenance import device_name
from leanvit.device import Accelerator, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.left_out import read_error
from leanvit.evaluation.comparison.runs import read_predictions, read_run
from leanvit.evaluation.cost.benchmark import Benchmark, timed_runs
from leanvit.evaluation.cost.benchmark_table import conditions, print_benchmark, write_benchmark
from leanvit.evaluation.cost.benchmark_times import draw_images, race
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.pareto import pareto
from leanvit.files import check_folder
from leanvit.memory import keep_freed_memory
from leanvit.values import Count, Whole

Precision = Literal["own", 32, "32", "bf16"]
Rounds = Annotated[int, Ge(6)]  # the median of fewer has no interval of 95 %


def run(
    run: str | Sequence[str],
    output: str | None = None,
    precision: Precision = "own",
    rounds: Rounds = 20,
    threads: Count | None = None,
    device: Accelerator = "auto",
    seed: Whole = 0,
) -> None:
    """Print the benchmark and write it as Markdown, CSV and a picture; the keys are those of
    conf/benchmark.yaml.

    Raises:
        LeanvitError: more threads than the machine has cores; runs that cannot be compared.
    """
    if threads is not None and threads > (cores := os.cpu_count() or 1):
        raise LeanvitError(f"threads={threads}: this machine has {cores} CPU cores")
    runs = [Run(path) for path in in_order(run)]
    told = [about(each) for each in runs]
    beside = Path(output) if output else outputs_of(runs[0]) / "benchmarks"
    check_folder(beside)
    place = prepare(find_device(device), threads)
    nets = [in_precision(load_run(each), str(precision)) for each in runs]
    images = same_images(runs, nets, seed)
    print(f"{len(nets)} nets: looking for the batch at which each is fastest", file=sys.stderr)
    times = race(nets, images, place, numbers(rounds))
    paths = [each.path for each in runs]
    found = Benchmark(
        runs=timed_runs(paths, told, times, [precision_of(each) for each in nets]),
        source=told[0]["source"],
        num_test_images=told[0]["test"]["n"],
        image_size=nets[0].image_size,
        device=device_name(place),
        num_rounds=rounds,
    )
    chosen = [str(each) for each in (precision, rounds, seed)]
    text = json.dumps([*map(str, paths), *chosen, found.device])  # with the threads
    folder = beside / hashlib.sha256(text.encode()).hexdigest()[:8]
    write_benchmark(found, folder)
    pareto(found.runs, folder / "pareto.png", conditions(found))
    print_benchmark(found, Console(width=None if sys.stdout.isatty() else 160))
    print(f"{folder}/benchmark.md")


def about(run: Run) -> dict[str, Any]:
    """What metrics.json tells.

    Raises:
        LeanvitError: the run failed, or is not finished.
    """
    if (run.path / "error.txt").exists() and not run.is_evaluated:
        raise LeanvitError(
            f"{run.path} failed ({read_error(run.path)}): train it again, or leave it out"
        )
    return read_run(run.path)


def in_precision(trained: Trained, precision: str) -> Trained:
    """The net in its own precision or in another."""
    return trained if precision == "own" else replace(trained, bfloat16=precision == "bf16")


def numbers(num: int) -> Iterator[int]:
    """0, 1, 2, ...; shows how far it is."""
    if sys.stderr.isatty():  # rich takes a notebook for a terminal
        yield from track(range(num), "", console=Console(stderr=True), transient=True)
        return
    for number in range(num):
        print(f"round {number + 1} of {num}", file=sys.stderr, flush=True)
        yield number


def precision_of(trained: Trained) -> str:
    """What the net's matrix products are computed in; a net of another runtime knows it itself."""
    otherwise = "bfloat16" if trained.bfloat16 else "float32"
    return getattr(trained.net, "precision", otherwise)


def same_images(runs: Sequence[Run], nets: Sequence[Trained], seed: int) -> Tensor:
    """Test images to measure with, in random order.

    Raises:
        LeanvitError: the runs were not tested on the same ones, or not at the same size.
    """
    labels = [read_predictions(run.path)["test_labels"] for run in runs]
    for run, net, own_labels in zip(runs, nets, labels, strict=True):
        if net.image_size != nets[0].image_size:
            raise LeanvitError(
                f"{runs[0].path} has images of {nets[0].image_size} pixels, {run.path} of "
                f"{net.image_size}: compare runs of one size"
            )
        if net.classes != nets[0].classes or not np.array_equal(own_labels, labels[0]):
            raise other_images(run.path, runs[0].path)
    drawn: dict[str, Tensor] = {}  # runs of the same data need not read it again
    for run, own_labels in zip(runs, labels, strict=True):
        data = OmegaConf.to_container(run.config.data, resolve=True)
        key = json.dumps(data, sort_keys=True)
        if key in drawn:
            continue
        test = load_splits(run.config).test
        if not np.array_equal(test.labels.numpy(), own_labels):
            raise LeanvitError(
                f"the {len(test):,} test images are not the {len(own_labels):,} that {run.path} "
                "was tested on: bring the data back as it was, or train again"
            )
        drawn[key] = draw_images(test, seed=seed)
        if not torch.equal(drawn[key], next(iter(drawn.values()))):
            raise other_images(run.path, runs[0].path)
    return next(iter(drawn.values()))


def other_images(run: Path, first: Path) -> LeanvitError:
    return LeanvitError(
        f"{run} was tested on other images than {first}: compare runs of the same test images, "
        f"as run={first.parent},model=vit"
    )


def prepare(device: torch.device, threads: int | None) -> torch.device:
    """Set the process up to measure, before a net takes its threads."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        keep_freed_memory()  # as training and evaluation do
    return device
