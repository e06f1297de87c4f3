"""The launcher of SLURM's arrays without SLURM: what it makes of what the queue says."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
from omegaconf import OmegaConf

from leanvit.app import grid_folder, slurm
from leanvit.app.jobs import Job
from leanvit.errors import LeanvitError


class Queue(slurm.Launcher):
    """In place of SLURM: jobs wait as long as ``held`` says, and tell in the end."""

    def __init__(self, folder: Path, held: list[set[str]]) -> None:
        super().__init__(name="leanvit-train")
        self.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}, "wait": True})
        self.folder, self.held, self.submitted = folder, held, list[int]()

    def queued(self) -> set[str]:
        return self.held.pop(0) if self.held else set()

    def submit(self, asked: Mapping[int, list[str]]) -> dict[int, str]:
        self.submitted += asked
        for number in asked:
            grid_folder.leave(self.folder / str(number), Job(self.folder, None))
        return {number: f"9_{number}" for number in asked}


@pytest.fixture(autouse=True)
def sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(slurm.subprocess, "run", lambda *given, **more: None)  # scancel


def keep(folder: Path, text: str) -> None:
    (folder / "array.json").write_text(text)


def test_only_what_is_not_queued_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    told = [{"number": 0, "overrides": ["seed=0", "wait=false"], "id": "7_0"},
            {"number": 1, "overrides": ["seed=1"], "id": "7_1"},
            {"number": 2, "overrides": ["seed=5"], "id": "7_2"}]  # fmt: skip
    keep(tmp_path, json.dumps(told))
    queue = Queue(tmp_path, held=[{"7_0", "7_2"}, set(), {"7_0"}])
    grid_folder.leave(tmp_path / "0", Job(tmp_path, None))
    queue.launch([["seed=0"], ["seed=1"], ["seed=2"]], 0)
    assert "1 jobs of an earlier call end first" in capsys.readouterr().err
    assert queue.submitted == [1, 2]  # 7_2 was another job, and is cancelled
    kept = {
        each["number"]: each["id"] for each in json.loads((tmp_path / "array.json").read_text())
    }
    assert kept == {0: "7_0", 1: "9_1", 2: "9_2"}


def test_a_job_that_told_the_earlier_call_alone_is_asked_again(tmp_path: Path) -> None:
    keep(tmp_path, json.dumps([{"number": 0, "overrides": ["seed=0"], "id": "7_0"}]))
    queue = Queue(tmp_path, held=[{"7_0"}, set()])
    queue.launch([["seed=0"]], 0)
    assert queue.submitted == [0] and grid_folder.left(tmp_path) == [Job(tmp_path, None)]


@pytest.mark.parametrize("text", ["", "[1]", "{}", '[{"id": 3}]', '[{"number": 0, "id": "7_0"}]'])
def test_a_damaged_array_file_counts_as_none(tmp_path: Path, text: str) -> None:
    keep(tmp_path, text)
    queue = Queue(tmp_path, held=[set()])
    queue.launch([["seed=0"]], 0)
    assert queue.submitted == [0]


def test_a_job_without_a_word_is_told_of(tmp_path: Path) -> None:
    queue = Queue(tmp_path, held=[set()])
    queue.submit = lambda asked: {number: f"9_{number}" for number in asked}  # type: ignore[method-assign]
    queue.launch([["seed=0"]], 4)
    (job,) = grid_folder.left(tmp_path)
    assert (
        job.error and "left the queue without a word" in job.error and ".submitit/9_4" in job.error
    )


def test_jobs_that_a_full_disk_left_out_are_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def submit(asked: Mapping[int, list[str]]) -> dict[int, str]:
        for number in (0, 1):
            grid_folder.begin(tmp_path / str(number), tmp_path / "run")
        grid_folder.leave(tmp_path / "0", Job(tmp_path, "no space left"))
        grid_folder.halt(tmp_path, "shapes")
        return {number: f"9_{number}" for number in asked}

    queue = Queue(tmp_path, held=[set()])
    queue.submit = submit  # type: ignore[method-assign]
    queue.launch([["seed=0"], ["seed=1"], ["seed=2"]], 0)
    assert "the grid stopped: 1 jobs have not begun" in capsys.readouterr().err
    first, second = grid_folder.left(tmp_path)
    assert first.error == "no space left" and "without a word" in str(second.error)
    grid_folder.forget(tmp_path)
    assert not list(tmp_path.glob("*/begun.txt"))


def test_a_refused_array_leaves_none_of_its_grid_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a user may have so many jobs, and the second array is over that."""
    asked: list[list[str]] = []

    class Executor:
        def __init__(self, *given: object, **more: object) -> None:
            self.update_parameters = lambda **values: None

        def map_array(self, job: object, numbers: list, *rest: object) -> list[SimpleNamespace]:
            if len(asked) == 1:
                raise submitit.core.utils.FailedJobError("over the limit")
            asked.append(["array"])
            return [SimpleNamespace(job_id=f"9_{number}") for number in range(len(numbers))]

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr(slurm, "largest_array", lambda: 2)
    monkeypatch.setattr(slurm.subprocess, "run", lambda words, **more: asked.append(words))
    launcher = slurm.Launcher(
        name="leanvit-train", submitit_folder=str(tmp_path), max_num_timeout=1, python=None
    )
    launcher.name = "leanvit-train-0"
    with pytest.raises(LeanvitError, match="SLURM does not take the jobs: over the limit"):
        launcher.submit({number: [f"seed={number}"] for number in range(3)})
    assert asked == [["array"], ["scancel", "9_0", "9_1"]]


def test_wait_is_true_or_false(tmp_path: Path) -> None:
    queue = Queue(tmp_path, held=[])
    queue.config.wait = "maybe"
    with pytest.raises(LeanvitError, match="wait=maybe: give true or false"):
        queue.launch([["seed=0"]], 0)
    assert not queue.submitted
