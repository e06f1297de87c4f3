"""One job in its run directory: errors kept, finished ones skipped, nobody else in it."""

import contextlib
import fcntl
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from weakref import WeakSet

import yaml
from omegaconf import DictConfig, OmegaConf

from leanvit.app import names, processes, ranks, words
from leanvit.app.finished import STOPPED, Run
from leanvit.app.request import Request
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path, stops_others

LATE = ("thop", "torch.utils.flop_counter")  # what a single job imports when its net is trained
DIED = "the process of the job ended unexpectedly"
BUSY = "another process is training in"


class Job(NamedTuple):
    """What became of one.

    Attributes:
        stops_others: what went wrong would go wrong in others of its images, too.
    """

    run_dir: Path
    error: str | None
    stops_others: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Another command does it right now."""
        return (self.error or "").startswith(BUSY)


def do(command: str, request: Request) -> Job:
    """Do a job: here, in a process of its own in a grid, or in one process per device.

    Args:
        command: the module of leanvit.app whose ``work(request)`` leaves a finished run.
    """
    run_dir = request.run_dir
    if ranks.is_rank():
        return run_job(command, request)
    if "SLURM_RESTART_COUNT" in os.environ:
        wait_for_lost(run_dir)
    if request.is_finished:
        print(f"{run_dir} is finished: delete it to make it again", file=sys.stderr)
        return Job(run_dir, None)
    if request.damage:
        print(f"{request.damage}: it is made again", file=sys.stderr)
    from leanvit.app import first_look  # late: it imports Pillow

    first_look.at_request(request)
    print(run_dir, file=sys.stderr, flush=True)
    tell_of_shorter(command, request)
    if str(request.config.trainer.strategy).startswith("ddp"):
        from leanvit.app.check import check_place  # late: it imports torch

        check_place(request.config)
        status = ranks.run_ranks(command, request.overrides, request.config.trainer)
        if status == 0 and not ranks.speaks(request.config):  # the first node is still evaluating
            return Job(run_dir, None)
        return Job(run_dir, outcome(status, request))
    if not request.in_grid:
        return run_job(command, request)
    for name in (f"leanvit.app.{command}", *LATE):  # once, for all jobs
        importlib.import_module(name)
    log = run_dir / "log.txt" if request.at_once > 1 else None
    status = processes.run_in_child(lambda: status_of(run_job(command, request)), log)
    if processes.was_stopped(status) and "SLURM_JOB_ID" in os.environ:
        os._exit(status)  # it was cancelled, or is queued again: a result would end it for good
    error = outcome(status, request)
    if error:
        where = f"{run_dir.name}: " if request.at_once > 1 else ""
        where += "" if status == processes.BUSY else "error: "
        print(f"{where}{error}", file=sys.stderr, flush=True)
    return Job(run_dir, error, stops_others=status == processes.SHARED)


def status_of(job: Job) -> int:
    """The exit status that tells of it."""
    if job.error is None:
        return 0
    if job.is_elsewhere:
        return processes.BUSY
    return processes.SHARED if job.stops_others else 1


def tell_of_shorter(command: str, request: Request) -> None:
    """More epochs are another training, whose rates fall slower: say so where one would think that
    a finished one goes on."""
    config, run_dir = request.config, request.run_dir
    if run_dir.exists() or "max_epochs" not in config or config.get("max_minutes"):
        return
    if not (found := names.shorter(run_dir, config, request.choices, request.finished)):
        return
    path, num_epochs = found
    line = (
        f"this begins anew: {path} is the same training with max_epochs={num_epochs}, and its "
        "rates have fallen to their end"
    )
    if command == "train":
        run = Run(path)
        keeps_head = run.config.get("lightweight") and not run.helped_by_teacher
        line += f". pretrained={path} begins with its weights"
        line += ", those of the head, too" if keeps_head else " and a new head"
    print(line, file=sys.stderr)


def work_of(command: str) -> Callable[[Request], None]:
    """What does the work of a command; importing it takes seconds."""
    return importlib.import_module(f"leanvit.app.{command}").work


def run_job(command: str, request: Request) -> Job:
    """Do the work; an error is also left in ``error.txt``."""
    run_dir = request.run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with only_process_in(run_dir) if ranks.is_first_rank() else contextlib.nullcontext():
            if request.is_finished and not ranks.is_rank():  # by another process, just now
                return Job(run_dir, None)
            try:
                for note in ("error.txt", STOPPED):
                    (run_dir / note).unlink(missing_ok=True)
                work_of(command)(request)
            except Exception as error:
                leave_note(run_dir, f"{words.explain(error)}\n\n{traceback.format_exc()}")
                raise
    except Exception as error:
        if words.traceback_wanted():
            traceback.print_exc()
        return Job(run_dir, words.explain(error), stops_others(error))
    return Job(run_dir, None)


def outcome(status: int, request: Request) -> str | None:
    """What became of a job that ran in another process: its error in one line, or None."""
    ends = (request.finished, STOPPED)
    if request.is_finished or (
        status == 0 and any((request.run_dir / end).exists() for end in ends)
    ):
        return None
    note = request.run_dir / "error.txt"
    if note.exists():
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[0] if lines else f"no space left even for {note}: free some, then run again"
    if status == processes.BUSY:
        return f"{BUSY} {request.run_dir}"
    line = f"{DIED} ({processes.describe(status)})"
    leave_note(request.run_dir, line + "\n")
    return line


def wait_for_lost(run_dir: Path) -> None:
    """Wait until nobody trains there: a job that SLURM began again because it lost its node may
    train on there, until it is done or SLURM, which finds the node again, ends it."""
    with contextlib.suppress(OSError), (run_dir / ".lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{BUSY} {run_dir}: it is waited for", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)


def remove_if_nothing_began(run_dir: Path) -> None:
    """Remove the directory of a slip of the pen; not what was done, nor what another does there."""
    with contextlib.suppress(LeanvitError, OSError), only_process_in(run_dir):
        if {path.name for path in run_dir.iterdir()} <= {".lock", "error.txt"}:
            shutil.rmtree(run_dir)


def keep_config(
    config: DictConfig, choices: Mapping[str, str | None], run_dir: Path, classes: tuple[str, ...]
) -> None:
    """``config.yaml``: every resolved value, what was chosen by name, and the classes, so that the
    net can be rebuilt."""
    kept: Any = OmegaConf.to_container(config, resolve=True)
    kept |= {"choices": dict(choices), "classes": list(classes)}
    text = yaml.dump(kept, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    with atomic_path(run_dir / "config.yaml") as part:
        part.write_text(text, encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Escapes what is not seen: PyYAML does not read its own plain U+0085 again."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


def leave_note(folder: Path, text: str) -> None:
    """Write ``error.txt``; a disk too full for it is no reason to stop a grid."""
    with contextlib.suppress(OSError):
        (folder / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def only_process_in(run_dir: Path) -> Iterator[None]:
    """Hold the run directory, on a file system that knows locks; some of a network know none.

    Raises:
        LeanvitError: another process is training there.
    """
    with (run_dir / ".lock").open("w") as lock:
        _locks.add(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeanvitError(f"{BUSY} {run_dir}: wait for it") from error
        except OSError as error:
            once = "start the same command only once"
            print(f"{run_dir} cannot be locked ({error.strerror}): {once}", file=sys.stderr)
        yield


_locks: WeakSet[TextIO] = WeakSet()


def _let_go() -> None:
    """In a fork: workers that load images live on for seconds after this process was killed."""
    for lock in _locks:
        lock.close()


os.register_at_fork(after_in_child=_let_go)
