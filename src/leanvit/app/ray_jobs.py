"""Jobs on Ray: each in one of its workers, whatever becomes of that.

A job whose worker died is begun again by Ray, elsewhere, and goes on where it was; one that dies
again and again is a line of the comparison. What the jobs say goes by files in the folder of the
grid, which all nodes must see.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from leanvit.app import grid_folder, jobs, words
from leanvit.app.ray_cluster import cluster, resources
from leanvit.app.ray_launcher import Launcher
from leanvit.errors import LeanvitError, one_line
from leanvit.files import HOST

# of the environment of the command
SENT = ("WANDB", "LEANVIT", "HYDRA_FULL_ERROR", "OMP_", "MKL_", "PYTHONPATH")
SAID = ".said-"  # files of what the jobs of one worker say
KILLED = (
    "Ray's own process here was killed, most often for want of memory: the same command goes on"
)
PATIENCE = 100  # seconds in which the lock of a job that died with its machine is let go of


@dataclass(frozen=True)
class Grid:
    """What all jobs of a grid have in common."""

    context: HydraContext
    config: DictConfig
    task: Any
    state: Any
    folder: Path
    here: Path
    environment: dict[str, str]
    num_jobs: int


def launch(
    launcher: Launcher, init: Mapping[str, Any], job_overrides: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Run the jobs of a grid, which are numbered from ``first``."""
    config, context, task = launcher.config, launcher.hydra_context, launcher.task_function
    assert config is not None and context is not None and task is not None
    setup_globals()
    folder = Path(config.hydra.sweep.dir).absolute()
    environment = {k: v for k, v in os.environ.items() if k.startswith(SENT)}
    given = Grid(context, config, task, Singleton.get_state(), folder, Path.cwd(),
                 environment, len(job_overrides))  # fmt: skip
    with cluster(init):
        is_own = init["address"] == "local"
        options = resources(launcher.ray_cfg.remote, config.trainer.accelerator, is_own)
        job, sent = ray.remote(**options)(run), ray.put(given)
        with Lines(folder) as lines:
            running = {
                job.remote(sent, list(overrides), number): number
                for number, overrides in enumerate(job_overrides, first)
            }
            returned = finish(running, folder, lines, 1 + options["max_retries"])
    return [returned[number] for number in sorted(returned)]


class Lines:
    """What the jobs say, said here: each worker appends to a file in the folder of the grid."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.read = folder, dict[Path, int]()

    def __enter__(self) -> "Lines":
        self._remove()
        return self

    def __exit__(self, *error: object) -> None:
        self.tell()
        self._remove()

    def tell(self) -> None:
        """Print the whole lines that are new."""
        for path in sorted(self.folder.glob(f"{SAID}*")):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self.read.get(path, 0))
                new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                self.read[path] = self.read.get(path, 0) + len(whole)
                sys.stderr.write(whole.decode(errors="replace"))
        sys.stderr.flush()

    def _remove(self) -> None:
        for path in self.folder.glob(f"{SAID}*"):
            path.unlink(missing_ok=True)


def finish(
    running: dict[Any, int], folder: Path, lines: Lines, num_lives: int
) -> dict[int, JobReturn]:
    """Wait for the jobs, whatever becomes of them; where this is stopped, they are, too.

    Returns:
        what each returned, by its number.
    """
    returned = {}
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=0.5)
            lines.tell()
            for each in done:
                number = running.pop(each)
                returned[number] = result(each, folder / str(number), num_lives)
    except BaseException:
        for each in running:
            ray.cancel(each)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=15)
        raise
    return returned


def result(done: Any, folder: Path, num_lives: int) -> JobReturn:
    """What a job returned; one that could not tell what became of it has failed."""
    returned, job = JobReturn(status=JobStatus.COMPLETED), grid_folder.begun(folder)
    try:
        returned = ray.get(done)
        error = returned._return_value
    except ray.exceptions.RayTaskError as raised:
        error = raised.cause
    except ray.exceptions.LocalRayletDiedError:  # said at once: Ray ends this process in a moment
        sys.exit(words.say(LeanvitError(KILLED)))
    except ray.exceptions.RayError as raised:
        error = LeanvitError(lost(raised, job, num_lives))
        jobs.leave_note(job.run_dir, f"{error}\n")
    if isinstance(error, Exception):
        line = words.explain(error)
        print(f"error: {line}", file=sys.stderr)
        with contextlib.suppress(grid_folder.NotKeptError):  # the grid tells of it all the same
            grid_folder.leave(folder, jobs.Job(job.run_dir, line))
            returned.status, returned.return_value = JobStatus.COMPLETED, None
    return returned


def lost(error: Exception, job: jobs.Job, num_lives: int) -> str:
    """Why a job never returned, in one line."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "the memory of its node was not enough, again and again: lower batch_size"
    if not isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError):
        return f"Ray could not run it: {one_line(error)}"
    times = "once" if num_lives == 1 else f"{num_lives} times"
    return f"its worker or node died {times}" + (f": {job.error}" if job.error else "")


def run(given: Grid, overrides: Sequence[str], number: int) -> JobReturn:
    """Do a job, in a worker of Ray's.

    Raises:
        NotKeptError: the files of the grid are not seen here.
    """
    os.environ.update(given.environment)
    os.environ["LEANVIT_SHARES"] = str(min(given.num_jobs, num_places()))
    # Ray stops a job by this, and what waits for a process takes notice when a signal comes
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    grid_folder.check_seen(given.folder, given.here)
    os.chdir(given.here)
    for place in filter(None, given.environment.get("PYTHONPATH", "").split(os.pathsep)):
        if (path := str(given.here / place)) not in sys.path:
            sys.path.append(path)  # of the user's own parts: a cluster began without it
    with said_in(given.folder / f"{SAID}{HOST}-{os.getpid()}"):
        until = time.monotonic() + PATIENCE
        while True:
            returned = composed_and_run(given, overrides, number)
            error = grid_folder.begun(given.folder / str(number)).error or ""
            if error.startswith(f"{jobs.DIED} (killed"):
                os._exit(1)  # as if this worker had died: Ray begins again, in another
            if not error.startswith(jobs.BUSY) or time.monotonic() > until:
                return returned
            time.sleep(2)  # the one that died before it may not be gone yet


def composed_and_run(given: Grid, overrides: Sequence[str], number: int) -> JobReturn:
    """What Hydra's launchers do in a process of their own."""
    setup_globals()
    Singleton.set_state(given.state)
    config = given.context.config_loader.load_sweep_config(given.config, list(overrides))
    with open_dict(config.hydra):
        config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        config.hydra.launcher.n_jobs = given.num_jobs
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=given.context,
        task_function=given.task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def num_places() -> int:
    """How many such jobs this node has room for."""
    here = ray.get_runtime_context()
    (has,) = [node["Resources"] for node in ray.nodes() if node["NodeID"] == here.get_node_id()]
    takes = here.get_assigned_resources()
    return min((int(has[key] / takes[key]) for key in takes if takes[key]), default=1) or 1


@contextlib.contextmanager
def said_in(path: Path) -> Iterator[None]:
    """Let all that this process says go to the end of a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    words.speak_any_encoding()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
