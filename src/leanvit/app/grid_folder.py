"""What jobs leave in the folder of their grid, ``outputs/grids/<hash>/``, which all of them see."""

import contextlib
import hashlib
import json
import sys
from pathlib import Path

from leanvit.app import words
from leanvit.app.jobs import Job, leave_note
from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures import letters
from leanvit.files import HOST, write_json


class NotKeptError(LeanvitError):
    """What became of a job cannot be written; to the process of the grid it goes by this."""

    def __init__(self, line: str, job: Job) -> None:
        super().__init__(line, job)
        self.job = job

    def __str__(self) -> str:
        return str(self.args[0])


def check_seen(folder: Path, *others: Path) -> None:
    """See that this machine sees the folder of the grid, and others that it wants.

    Raises:
        NotKeptError: it does not; what it would leave here, nobody found.
    """
    for path, held in ((folder, folder / ".lock"), *((each, each) for each in others)):
        if not held.exists():
            line = f"{HOST} does not see {path}: all nodes must share the files of a grid"
            raise NotKeptError(line, Job(folder, line))


def begin(folder: Path, run_dir: Path) -> None:
    """Keep where the run of a job is, which may never tell."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").unlink(missing_ok=True)
        (folder / "begun.txt").write_text(str(run_dir), encoding="utf-8")


def begun(folder: Path) -> Job:
    """What is known of a job that began, and may have ended."""
    try:
        return _told(folder)
    except (OSError, ValueError):
        noted = folder / "begun.txt"
        return Job(Path(noted.read_text(encoding="utf-8")) if noted.exists() else folder, None)


def _told(folder: Path) -> Job:
    told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    return Job(Path(told["run"]), told["error"])


def leave(folder: Path, job: Job) -> None:
    """Keep what became of a job.

    Raises:
        NotKeptError: the disk is full; Hydra raises it again when all jobs are done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").unlink(missing_ok=True)
        if job.error:
            leave_note(folder, job.error + "\n")
        write_json({"run": str(job.run_dir), "error": job.error}, folder / "job.json")
    except (OSError, LeanvitError) as error:
        raise NotKeptError(words.explain(error), job) from None


def halt(folder: Path, images: str) -> None:
    """No job of these images begins any more in this call: it would end as the last one did."""
    mark = _mark(folder, images)
    _halted.add(mark)
    with contextlib.suppress(OSError):  # a disk may be too full for it; this process knows
        mark.touch()
    rest = "jobs that have not begun are left out, and the same command begins them"
    print(f"the grid stops here: {rest}", file=sys.stderr, flush=True)


def is_halted(folder: Path, images: str) -> bool:
    """Whether the job before has told that no other of these images would end well."""
    mark = _mark(folder, images)
    return mark in _halted or mark.exists()


def is_left_out(folder: Path) -> bool:
    """Whether a job has not begun in this call because an earlier one stopped the grid."""
    return not (folder / "begun.txt").exists() and any(folder.parent.glob(".halted-*"))


def _mark(folder: Path, images: str) -> Path:
    return folder / f".halted-{hashlib.sha256(images.encode()).hexdigest()[:8]}"


_halted: set[Path] = set()


def has_told(folder: Path) -> bool:
    """Whether a job has told this call what became of it."""
    return (folder / "job.json").exists()


def left(folder: Path) -> list[Job]:
    """What became of the jobs of a grid, in order."""
    found = []
    for path in sorted(folder.glob("*/job.json"), key=lambda path: int(path.parent.name)):
        job = _told(path.parent)
        noted = (job.run_dir / "error.txt").exists() or not job.error
        found.append(job if noted or job.is_elsewhere else job._replace(run_dir=path.parent))
    return found


def forget(folder: Path) -> None:
    """Remove what jobs of an earlier call told."""
    for pattern in ("*/job.json", "*/begun.txt", ".halted-*", letters.SAID):
        for path in folder.glob(pattern):
            path.unlink()
    _halted.clear()
