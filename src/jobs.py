"""Jobs of the scripts that train: one run directory each, errors kept, finished ones skipped."""

import contextlib
import fcntl
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import command_line
import naming
import processes
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path

Work = Callable[[DictConfig, Path], None]


class Job(NamedTuple):
    run_dir: Path
    error: str | None


def start(work: Work, config: DictConfig, script: str, finished: str) -> Job:
    """Do one job: here, in a process of its own in a grid, or in one process per device.

    Args:
        work: leaves a finished run in the directory; called with the config and the directory.
        script: the file to run once per device.
        finished: the file whose presence says that a run is finished.
    """
    settings = HydraConfig.get()
    run_dir = Path(settings.runtime.output_dir)
    if processes.is_rank():
        return Job(run_dir, run_job(work, config, run_dir))
    if (run_dir / finished).exists():
        print(f"{run_dir} is finished: delete it to make it again", file=sys.stderr)
        return Job(run_dir, None)
    print(run_dir, file=sys.stderr, flush=True)
    if config.trainer.strategy.startswith("ddp"):
        overrides = naming.own_overrides(settings.overrides.task)
        status = processes.run_ranks(script, overrides, config.trainer, run_dir)
        return Job(run_dir, outcome(status, run_dir, finished))
    if settings.mode == RunMode.MULTIRUN:
        status = processes.run_in_child(lambda: run_job(work, config, run_dir))
        error = outcome(status, run_dir, finished)
        if error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return Job(run_dir, error)
    return Job(run_dir, run_job(work, config, run_dir))


def run_job(work: Work, config: DictConfig, run_dir: Path) -> str | None:
    """Do the work; the error in one line, also left in ``error.txt``, or None."""
    try:
        with only_process_in(run_dir) if processes.is_first_rank() else contextlib.nullcontext():
            try:
                (run_dir / "error.txt").unlink(missing_ok=True)
                work(config, run_dir)
            except Exception as error:
                leave_note(run_dir, f"{command_line.explain(error)}\n\n{traceback.format_exc()}")
                raise
    except Exception as error:
        if command_line.traceback_wanted():
            traceback.print_exc()
        return command_line.explain(error)
    return None


def outcome(status: int, run_dir: Path, finished: str) -> str | None:
    """What became of a job that ran in another process: its error in one line, or None."""
    if (run_dir / finished).exists():
        return None
    note = run_dir / "error.txt"
    if note.exists():
        return note.read_text().splitlines()[0]
    if status == processes.BUSY:
        return f"another process is training in {run_dir}"
    line = f"the process of the job ended unexpectedly ({processes.describe(status)})"
    leave_note(run_dir, line + "\n")
    return line


def end(jobs: list[Job]) -> None:
    """What one process does when all its jobs are done, before it shows what came out.

    Raises:
        LeanvitError: the only job failed.
        SystemExit: this is one of the processes of a distributed training.
    """
    if processes.is_rank():  # the process that started the ranks speaks for them
        sys.exit(1 if any(job.error for job in jobs) else 0)
    if len(jobs) == 1 and jobs[0].error:
        remove_if_nothing_began(jobs[0].run_dir)
        raise LeanvitError(jobs[0].error)


def remove_if_nothing_began(run_dir: Path) -> None:
    """Remove the directory of a slip of the pen; not what was done, nor what another does there."""
    with contextlib.suppress(LeanvitError, OSError), only_process_in(run_dir):
        if {path.name for path in run_dir.iterdir()} <= {".lock", "error.txt"}:
            shutil.rmtree(run_dir)


def keep_config(config: DictConfig, run_dir: Path, classes: tuple[str, ...]) -> None:
    """``config.yaml``: every resolved value, and the classes, so that the net can be rebuilt."""
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    with open_dict(kept):
        kept.classes = list(classes)
    with atomic_path(run_dir / "config.yaml") as part:
        OmegaConf.save(kept, part)


def leave_note(run_dir: Path, text: str) -> None:
    """Write ``error.txt``; a disk too full for it is no reason to stop a grid."""
    with contextlib.suppress(OSError):
        (run_dir / "error.txt").write_text(text)


@contextlib.contextmanager
def only_process_in(run_dir: Path) -> Iterator[None]:
    """Hold the run directory.

    Raises:
        LeanvitError: another process is training there.
    """
    with (run_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeanvitError(f"another process is training in {run_dir}: wait for it") from error
        yield
