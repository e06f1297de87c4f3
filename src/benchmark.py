"""Run several trained nets against each other: accuracy beside measured time, MACs and size.

    python src/benchmark.py run=outputs/a,outputs/b
    python src/benchmark.py run=outputs/a,outputs/b precision=32 threads=1 rounds=40

All in this process, in turns, on the runs' own test images; ratios are to the first run. Results go
to ``outputs/benchmarks/``. How it is measured: :mod:`leanvit.evaluation.benchmark_times`.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor

import assemble
import command_line
import naming
from leanvit.errors import LeanvitError
from leanvit.evaluation.benchmark import Benchmark, rows_of
from leanvit.evaluation.benchmark_table import conditions, print_benchmark, write_benchmark
from leanvit.evaluation.benchmark_times import draw_images, race
from leanvit.evaluation.pareto import pareto
from leanvit.evaluation.predict import Trained
from leanvit.evaluation.runs import read_error, read_predictions, read_run
from leanvit.memory import keep_freed_memory
from leanvit.training.fit import find_device

PRECISIONS = ("own", "32", "bf16")
LEAST_ROUNDS = 6  # the median of fewer has no interval of 95 %


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@command_line.keep_error
def main(config: DictConfig) -> None:
    """Print the benchmark and write it as Markdown, CSV and a picture."""
    benchmark_runs(config)


def benchmark_runs(config: DictConfig) -> None:
    """All runs beside each other."""
    check_values(config)
    given = [config.run] if isinstance(config.run, str) else list(config.run)
    runs = [naming.find_run(each) for each in given]
    told = [about(run) for run in runs]
    device = prepare(find_device(config.device), config.threads)
    nets = [load(run, each, str(config.precision)) for run, each in zip(runs, told, strict=True)]
    images = same_images(runs, nets, config.seed)
    print(f"{len(nets)} nets: looking for the batch at which each is fastest", file=sys.stderr)
    times = race(nets, images, device, rounds(config.rounds))
    precisions = [precision_of(each) for each in nets]
    found = Benchmark(
        rows=rows_of(runs, told, times, precisions),
        source=told[0]["source"],
        num_test_images=told[0]["test"]["n"],
        image_size=nets[0].image_size,
        device=assemble.device_name(device),
        num_rounds=config.rounds,
    )
    folder = Path(config.output) / name_of(config, runs, found.device)
    write_benchmark(found, folder)
    pareto(found.rows, folder / "pareto.png", conditions(found))
    print_benchmark(found, Console(width=None if sys.stdout.isatty() else 160))
    print(f"{folder}/benchmark.md")


def check_values(config: DictConfig) -> None:
    """Refuse values that cannot be, before anything is read.

    Raises:
        LeanvitError: and which it is.
    """
    if str(config.precision) not in PRECISIONS:
        raise LeanvitError(f"precision={config.precision}: choose from {', '.join(PRECISIONS)}")
    for key, least in (("rounds", LEAST_ROUNDS), ("seed", 0), ("threads", 1)):
        if key != "threads" or config[key] is not None:
            command_line.check_whole(key, config[key], least)


def about(run_dir: Path) -> dict[str, Any]:
    """What metrics.json tells.

    Raises:
        LeanvitError: the run failed, or is not finished.
    """
    if (run_dir / "error.txt").exists() and not (run_dir / "metrics.json").exists():
        raise LeanvitError(
            f"{run_dir} failed ({read_error(run_dir)}): train it again, or leave it out"
        )
    return read_run(run_dir)


def load(run_dir: Path, told: dict[str, Any], precision: str) -> Trained:
    """The net of a run, in its own precision or in another."""
    trained = assemble.load_run(run_dir, told["training"]["precision"])
    return trained if precision == "own" else replace(trained, bfloat16=precision == "bf16")


def rounds(num: int) -> Iterator[int]:
    """0, 1, 2, ...; shows how far it is."""
    waiting = Console(stderr=True)
    if waiting.is_terminal:
        yield from track(range(num), "", console=waiting, transient=True)
        return
    for number in range(num):
        print(f"round {number + 1} of {num}", file=sys.stderr, flush=True)
        yield number


def precision_of(trained: Trained) -> str:
    """What the net's matrix products are computed in; a net of another runtime knows it itself."""
    otherwise = "bfloat16" if trained.bfloat16 else "float32"
    return getattr(trained.net, "precision", otherwise)


def same_images(runs: Sequence[Path], nets: Sequence[Trained], seed: int) -> Tensor:
    """Test images to measure with, in random order.

    Raises:
        LeanvitError: the runs were not tested on the same ones, or not at the same size.
    """
    labels = [read_predictions(run)["test_labels"] for run in runs]
    for run, net, own_labels in zip(runs, nets, labels, strict=True):
        if net.image_size != nets[0].image_size:
            raise LeanvitError(
                f"{runs[0]} has images of {nets[0].image_size} pixels, {run} of {net.image_size}: "
                "compare runs of one size"
            )
        if net.classes != nets[0].classes or not np.array_equal(own_labels, labels[0]):
            raise other_images(run, runs[0])
    drawn: dict[str, Tensor] = {}  # runs of the same data need not read it again
    for run, own_labels in zip(runs, labels, strict=True):
        config = assemble.load_config(run)
        key = json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True)
        if key in drawn:
            continue
        test = assemble.load_splits(config).test
        if not np.array_equal(test.labels.numpy(), own_labels):
            raise LeanvitError(
                f"the {len(test):,} test images are not the {len(own_labels):,} that {run} was "
                "tested on: bring the data back as it was, or train again"
            )
        drawn[key] = draw_images(test, seed=seed)
        if not torch.equal(drawn[key], next(iter(drawn.values()))):
            raise other_images(run, runs[0])
    return next(iter(drawn.values()))


def other_images(run: Path, first: Path) -> LeanvitError:
    return LeanvitError(
        f"{run} was tested on other images than {first}: compare runs of the same test images"
    )


def prepare(device: torch.device, threads: int | None) -> torch.device:
    """Set the process up to measure, before a net takes its threads."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        keep_freed_memory()  # as training and evaluation do
    return device


def name_of(config: DictConfig, runs: Sequence[Path], device: str) -> str:
    """Eight characters of what was compared, and how."""
    chosen = [str(config[key]) for key in ("precision", "rounds", "seed")]
    text = json.dumps([*map(str, runs), *chosen, device])  # the threads are in the device's name
    return hashlib.sha256(text.encode()).hexdigest()[:8]


if __name__ == "__main__":
    command_line.list_argument("run")
    command_line.run(main)
