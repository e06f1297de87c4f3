"""Hydra's launcher of grids as arrays of SLURM jobs, which here never loses sight of them.

Jobs stay in the queue however the command that submitted them ends; started again, it waits for
them and submits the others alone. What became of a job is read from the folder of the grid, and
whether it still waits or runs from ``squeue``: the records that ``sacct`` reads are kept on few
small clusters.
"""

import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from leanvit.app import grid, grid_folder
from leanvit.app.jobs import Job
from leanvit.errors import LeanvitError
from leanvit.files import write_json

OF_EXECUTOR = ("max_num_timeout", "python")  # submitit takes these when it begins, not with a job


class Launcher(SlurmLauncher):
    """Hydra's, with the same config; ``wait=false`` ends the command when all is submitted."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        if not shutil.which("sbatch"):
            raise LeanvitError("hydra/launcher=slurm: there is no sbatch here, which submits jobs")
        assert self.config is not None
        if not isinstance(self.config.wait, bool):
            raise LeanvitError(f"wait={self.config.wait}: give true or false")
        folder = Path(self.config.hydra.sweep.dir).absolute()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.name = f"{self.params['name']}-{digest}"  # which tells this grid's jobs from others
        asked = {number: list(each) for number, each in enumerate(job_overrides, initial_job_idx)}
        found = self.still_queued(asked, folder / "array.json")
        ids = found | self.submit({n: each for n, each in asked.items() if n not in found})
        self.keep(asked, ids, folder)
        cancel = f"scancel --me --name={self.name}"
        if not self.config.wait:
            later = "the same command without wait=false waits for them and shows the comparison"
            print(f"{len(ids)} jobs are in the queue: {later}; {cancel} ends them", file=sys.stderr)
            sys.exit(0)
        try:
            self.wait_for(ids)
            # one that was just ending has told the earlier call: it is asked again
            silent = [number for number in found if not grid_folder.has_told(folder / str(number))]
            ids |= (again := self.submit({number: asked[number] for number in silent}))
            self.keep(asked, ids, folder)
            self.wait_for(again)
        except BaseException:
            print(f"the jobs stay in the queue: {cancel} ends them", file=sys.stderr)
            raise
        for number, job_id in ids.items():
            tell_of_lost(folder / str(number), job_id)
        if left_out := sum(not grid_folder.has_told(folder / str(number)) for number in ids):
            rest = f"{left_out} jobs have not begun, and the same command begins them"
            print(f"the grid stopped: {rest}", file=sys.stderr)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in asked]

    def keep(self, asked: Mapping[int, list[str]], ids: Mapping[int, str], folder: Path) -> None:
        """Write which job of SLURM's does what."""
        told = [{"number": number, "overrides": asked[number], "id": ids[number]} for number in ids]
        write_json(told, folder / "array.json")

    def still_queued(self, asked: Mapping[int, list[str]], kept: Path) -> dict[int, str]:
        """The jobs of an earlier call that wait or run, by number; others of its are cancelled."""
        queued = self.queued()
        try:
            told = json.loads(kept.read_text(encoding="utf-8"))
            wanted = {number: grid.what(each) for number, each in asked.items()}
            known = (each for each in told if each["id"] in queued)
            ids = {each["number"]: each["id"] for each in known
                   if grid.what(each["overrides"]) == wanted.get(each["number"])}  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one
            ids = {}
        if ids:
            print(f"{len(ids)} jobs are in the queue: they are waited for", file=sys.stderr)
        if unknown := queued - set(ids.values()):  # the call ended before it could keep them
            print(f"{len(unknown)} jobs of an earlier call end first", file=sys.stderr, flush=True)
            subprocess.run(["scancel", *unknown], check=False)
            while self.queued() & unknown:
                time.sleep(1)
        return ids

    def submit(self, asked: Mapping[int, list[str]]) -> dict[int, str]:
        """Submit jobs as arrays, as large as SLURM takes them; their ids, by number.

        Raises:
            LeanvitError: SLURM does not take them.
        """
        if not asked:
            return {}
        import submitit  # late: it is slow

        begin = {f"slurm_{key}": self.params[key] for key in OF_EXECUTOR}
        executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster="slurm", **begin)
        rest = {key: value for key, value in {**self.params, "name": self.name}.items()
                if key not in (*OF_EXECUTOR, "submitit_folder")}  # fmt: skip
        of_any = set(BaseQueueConf.__dataclass_fields__)  # names that other queues have, too
        executor.update_parameters(
            **{key if key in of_any else f"slurm_{key}": value for key, value in rest.items()}
        )
        state, ids = Singleton.get_state(), dict[int, str]()
        for numbers in batched(asked, largest_array()):
            given = ([asked[number], "hydra.sweep.dir", number, f"job_id_for_{number}", state]
                     for number in numbers)  # fmt: skip
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # what the error says, too
                    submitted = executor.map_array(self, *zip(*given, strict=True))
            except submitit.core.utils.FailedJobError as error:
                if ids:  # of a grid that is not whole none is to run unseen
                    subprocess.run(["scancel", *ids.values()], check=False)
                said = " ".join(str(error).split())
                raise LeanvitError(f"SLURM does not take the jobs: {said}") from None
            ids |= {number: job.job_id for number, job in zip(numbers, submitted, strict=True)}
        return ids

    def queued(self) -> set[str]:
        """Ids of this grid's jobs that wait or run.

        Raises:
            LeanvitError: SLURM does not answer.
        """
        asked = ["squeue", "--me", "-h", "-r", "-o", "%i", f"--name={self.name}"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LeanvitError(f"SLURM does not answer: {' '.join(done.stderr.split())}")
        return set(done.stdout.split())

    def wait_for(self, ids: Mapping[int, str]) -> None:
        """Wait until no job waits or runs, and tell how many are left."""
        before, said = len(ids) + 1 if ids else 0, None
        while before:
            try:
                left = len(self.queued() & set(ids.values()))
            except LeanvitError as error:  # it may come back, and its jobs with it
                if str(error) != said:
                    said = str(error)
                    print(said, file=sys.stderr, flush=True)
                left = before
            if left < before:
                print(f"{len(ids) - left} of {len(ids)} jobs are done", file=sys.stderr, flush=True)
            before = left
            time.sleep(min(10.0, 1 + left / 100) if left else 0)


def largest_array() -> int:
    """How many jobs SLURM takes as one array."""
    asked = ["scontrol", "show", "config"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", told)  # the largest index, and one
    return max(1, int(found[1]) - 1) if found else 1000


def batched(numbers: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    """In tuples of ``size``, as itertools of Python 3.12 do."""
    rest = iter(numbers)
    while batch := tuple(islice(rest, size)):
        yield batch


def tell_of_lost(folder: Path, job_id: str) -> None:
    """A job that left no word has failed: it was cancelled, or ended with its node. Where the grid
    was to stop, one that never began was left out."""
    if grid_folder.has_told(folder) or grid_folder.is_left_out(folder):
        return
    log = folder.parent / ".submitit" / job_id
    line = f"the job left the queue without a word (its memory or node, or scancel): see {log}"
    grid_folder.leave(folder, Job(folder, line))
