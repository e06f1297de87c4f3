"""What a grid of jobs ends in, read from what the jobs left on disk, whatever launcher ran them.

Each job leaves ``job.json`` in ``outputs/grids/<hash>/<number>/``: where its run is and what went
wrong. The callback reads them when the last job is done, and prints and keeps the comparison.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write

from leanvit.app import grid_folder, names, processes, words
from leanvit.app.finished import METRICS, Run
from leanvit.app.jobs import Job, only_process_in
from leanvit.app.order import ordered, planned_macs
from leanvit.app.request import AGREEMENT, PRETRAINING
from leanvit.cores import num_cores
from leanvit.errors import LeanvitError


def grid_name(command: str, overrides: ListConfig, sweeper: DictConfig) -> str:
    """Eight characters of what the grid was asked for."""
    asked = [command, sorted(what(overrides)), OmegaConf.to_container(sweeper)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def what(overrides: Iterable[Any]) -> list[str]:
    """What a command line asks for, without how it is to be done."""
    return [str(each) for each in overrides if not str(each).startswith(("parallel=", "wait="))]


# cached: a job, wherever it runs, gets what was resolved for its grid
OmegaConf.register_resolver("grid", grid_name, use_cache=True, replace=True)


def at_once(parallel: Any, accelerator: str, strategy: str = "auto") -> int:
    """How many jobs of a grid run at the same time.

    Raises:
        LeanvitError: ``parallel`` is neither a number of jobs nor ``auto``, or each job takes all
            devices.
    """
    if parallel != 1 and strategy.startswith("ddp"):
        raise LeanvitError(f"parallel={parallel}: with trainer=ddp each job takes all devices")
    if parallel == "auto":
        gpus = processes.gpus() if accelerator in ("auto", "gpu", "cuda") else []
        return len(gpus) or num_cores()
    if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel > 0:
        return parallel
    raise LeanvitError(f"parallel={parallel}: give a number of jobs, 1 or more, or auto")


OmegaConf.register_resolver("at_once", at_once, replace=True)


def check_counts(parallel: Any, launcher: str, in_grid: bool) -> None:
    """See that what is said of how jobs are run is heard.

    Raises:
        HydraException: there is no grid, or its jobs run elsewhere.
    """
    if not in_grid and launcher != "local":
        raise HydraException(f"hydra/launcher={launcher} runs grids: add -m, also for one job")
    if parallel in (1, "auto"):
        return
    if not in_grid:
        raise HydraException(f"parallel={parallel} is of the jobs of a grid: add -m")
    if launcher != "local":
        raise HydraException(
            f"parallel={parallel} is of jobs on this machine: leave it out with "
            f"hydra/launcher={launcher}"
        )


def mode() -> str | None:
    """What the command line makes of ``hydra.mode`` without ``-m``."""
    given = [each for each in sys.argv if each.startswith("sweep=")]
    return None if not given or given[-1] in ("sweep=", "sweep=null") else "MULTIRUN"


OmegaConf.register_resolver("mode", mode, replace=True)


def in_order(config: DictConfig, command: str) -> list[str]:
    """The words of a grid, as its jobs are to be done, see :mod:`leanvit.app.order`."""

    def cost(words: list[str]) -> float:
        if command != "train":
            return 0.0
        loader = GlobalHydra.instance().config_loader()
        return planned_macs(loader.load_sweep_config(config, words))

    return ordered(config.hydra.overrides.task, cost)


SEARCHED = "search.md"  # what a search tells of its trials

_held = contextlib.ExitStack()  # the folder of this process's grid; no launcher can pass it on


class Comparison(Callback):
    """Hydra's callback around a grid; the exit status is 1 where a job failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        launcher = OmegaConf.select(config, "hydra.runtime.choices.hydra/launcher", default="local")
        try:
            check_counts(config.get("parallel", 1), launcher, in_grid=True)
            folder.mkdir(parents=True, exist_ok=True)
            _held.enter_context(only_process_in(folder))
            grid_folder.forget(folder)
            for part in (config.hydra.get(name) or {} for name in ("launcher", "sweeper")):
                module, _, name = str(part.get("_target_")).rpartition(".")
                if module.startswith("leanvit."):  # Hydra looks among plugins alone
                    Plugins.instance().register(getattr(importlib.import_module(module), name))
        except (LeanvitError, HydraException, OSError) as error:  # Hydra would make a warning of it
            sys.exit(words.say(error))
        # joblib begins a new process where one has grown, as by what its first training imports
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        # jobs of fresh processes find leanvit, also where it is not installed
        paths = [str(names.ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        asked = config.hydra.overrides
        with read_write(asked):
            asked.task = in_order(config, kwargs["config_name"])

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        # Hydra keeps the configs of all jobs to the end: of ten thousand, gigabytes
        job_return.cfg = job_return.hydra_cfg = None
        error = job_return._return_value
        if isinstance(error, Exception):  # where the command could not even be asked
            words.say(error)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        stop = sys.exc_info()[1]
        not_kept = [stop.job] if isinstance(stop, grid_folder.NotKeptError) else []
        if stop and not not_kept:  # the launcher itself failed, or was stopped
            return
        folder = Path(config.hydra.sweep.dir)
        with _held:
            try:
                jobs = [*map(as_it_is_now, grid_folder.left(folder)), *not_kept]
                show(kwargs["config_name"], jobs, folder)
            except Exception as error:  # as above
                sys.exit(words.say(error))
        if not_kept or not jobs or any(job.error for job in jobs):
            sys.exit(1)


def as_it_is_now(job: Job) -> Job:
    """A run that another command was training may be finished by now."""
    is_finished = any((job.run_dir / name).exists() for name in (METRICS, PRETRAINING, AGREEMENT))
    return job._replace(error=None) if job.is_elsewhere and is_finished else job


def show(command: str, jobs: Sequence[Job], grid: Path | None = None) -> None:
    """Print what came of one job, or of the jobs of a grid; that of a grid is also written."""
    # late: a comparison reads files and needs no torch, but takes a second to import
    from leanvit.evaluation.comparison.compare import compare
    from leanvit.evaluation.comparison.left_out import sort_out
    from leanvit.evaluation.comparison.narrow_table import print_table
    from leanvit.evaluation.comparison.table import write_tables

    finished = [job.run_dir for job in jobs if job.error is None]
    elsewhere = [job.run_dir for job in jobs if job.is_elsewhere]
    failed = [job.run_dir for job in jobs if job.error is not None and not job.is_elsewhere]
    for path in elsewhere:
        then = "the same command takes it when it is finished"
        print(f"being trained by another command: {path}; {then}", file=sys.stderr)
    evaluated, damaged = sort_out([path for path in finished if Run(path).is_evaluated])
    failed += damaged
    if command == "train" and grid:
        tables, told = compare(evaluated), grid / SEARCHED
        text = told.read_text(encoding="utf-8") if told.exists() else ""
        try:
            print_table(tables, failed, elsewhere)  # also where the disk has no room for it
            print(text, end="")
        finally:  # also where head has read enough
            write_tables(tables, failed, grid / "comparison", elsewhere)
            if text:
                with (grid / "comparison.md").open("a", encoding="utf-8") as table:
                    table.write(f"\n## Search\n\n{text}")
            if tables:
                from leanvit.app.page import write_page

                write_page(tables, failed, grid / "comparison", elsewhere)
        if tables:
            print(f"{grid}/comparison.html")
        print(f"{grid}/comparison.md")
        return
    beside = list(dict.fromkeys(each for path in evaluated for each in (*before(path), path)))
    if beside:
        print_table(compare(beside), failed)
    if command == "compress" and beside:
        runs = ",".join(map(str, beside))
        asked = shlex.quote(f"run={runs}")
        print(f"by the clock: python src/benchmark.py {asked}", file=sys.stderr)
    for path in finished:
        print(path)
    if failed and not beside:
        print(f"{len(failed)} of {len(jobs)} failed: see their error.txt", file=sys.stderr)


def before(path: Path) -> list[Path]:
    """The evaluated run that a run was made of, to be shown beside it."""
    from leanvit.evaluation.comparison.left_out import damage

    run = Run(path)
    given = run.told.get("compressed", {}).get("run") or run.config.get("pretrained")
    first = Run(names.found(given)) if given else None
    return [first.path] if first and first.is_evaluated and not damage(first.path) else []
