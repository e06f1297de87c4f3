"""Grids: they end around what fails, and their comparison comes from disk, whoever ran the jobs."""

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from composed import config_of, request_of
from fake_runs import write_failed_run, write_fake_run
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf
from scripts import (
    ROOT,
    TINY_COATNET,
    TINY_DATA,
    TINY_VIT,
    call,
    child_of,
    file_size_limit,
    fork,
    run,
    wait_until,
)

from leanvit.app import grid as grids
from leanvit.app import grid_folder, jobs
from leanvit.app.jobs import Job, only_process_in
from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures import letters

pytestmark = pytest.mark.xdist_group("grid")
TINY = [*TINY_DATA, *TINY_VIT, "max_epochs=1", "trainer=cpu"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A grid of four jobs, two of them impossible, one killed; its command, and what it said."""
    outputs = tmp_path_factory.mktemp("grid")
    arguments = [*TINY, f"outputs={outputs}", "loss=ce,focal", "model.heads=2,5", "-m"]
    log = tmp_path_factory.mktemp("log") / "log"
    process = fork(log, "train.py", *arguments)
    # the first job dies as under the kernel's memory killer: its process is gone at once
    wait_until(process, log, "vit-ce-shuffle")
    os.kill(child_of(process), signal.SIGKILL)
    process.join()
    assert process.exitcode == 1
    return outputs, arguments, log.read_text()


def test_a_grid_finishes_around_failing_jobs(
    grid: tuple[Path, list[str], str], undrawn: None
) -> None:
    outputs, arguments, said = grid
    errors = {path.parent: path.read_text() for path in outputs.glob("grids/*/*/error.txt")}
    assert len(errors) == 3  # one was killed, dim 24 is not divisible by 5 in two
    assert sum("SIGKILL" in text for text in errors.values()) == 1
    assert sum("24 is not divisible by heads 5" in text for text in errors.values()) == 2
    assert "Traceback" not in said and "not photographs" in said
    assert not list(outputs.glob("multirun.yaml"))  # Hydra's record is beside the comparison
    (finished,) = outputs.rglob("metrics.json")
    assert not (finished.parent / "figures").exists()  # figures=auto: the page has them
    for name in ("comparison.md", "comparison.csv", "comparison.html"):
        (table,) = outputs.glob(f"grids/*/{name}")
        text = table.read_text()
        assert "not divisible" in text and "focal" in text

    before = finished.stat().st_mtime_ns  # again: finished jobs are skipped, the killed one runs
    again = call("train.py", *arguments)
    assert again.returncode == 1
    assert "is finished" in again.stderr
    assert finished.stat().st_mtime_ns == before
    assert len(list(outputs.rglob("metrics.json"))) == 2
    assert len(list(outputs.glob("shapes/*/error.txt"))) == 2
    (table,) = outputs.glob("grids/*/comparison.csv")
    rows = list(csv.DictReader(table.open()))
    scores = [float(row["validation"]) for row in rows if row["validation"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_grid_stops_where_every_job_would_fail(tmp_path: Path, parallel: int) -> None:
    sources = f"data.source={tmp_path / 'none'},{tmp_path / 'gone'}"
    asked = ["data=folder", sources, "loss=ce,focal,ohem", f"outputs={tmp_path}", "-m"]
    done = run("train.py", *asked, f"parallel={parallel}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    # one of each source, or two that had begun at once; three losses of each are asked for
    failed = len(list(tmp_path.glob("grids/*/*/error.txt")))
    assert failed == 2 if parallel == 1 else 2 <= failed < 5
    assert done.stderr.count("the grid stops here") == failed
    assert "does not exist" in done.stderr


def test_a_full_disk_stops_a_grid(tmp_path: Path, undrawn: None) -> None:
    asked = [*TINY_DATA, *TINY_COATNET, "max_epochs=1", "trainer=cpu", "loss=ce,focal,ohem", "-m"]
    asked.append(f"outputs={tmp_path}")
    with file_size_limit(100_000):  # a checkpoint cannot be written
        done = call("train.py", *asked)
    assert done.returncode == 1 and done.stderr.count("no space left") == 1
    assert len(list(tmp_path.glob("shapes/*"))) == 1
    assert call("train.py", *asked).returncode == 0  # what had not begun, too
    assert len(list(tmp_path.glob("shapes/*/metrics.json"))) == 3


def test_report_over_the_grid(grid: tuple[Path, list[str], str], tmp_path: Path) -> None:
    done = call("report.py", f"run={grid[0]}", f"output={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "focal" in next(tmp_path.glob("comparison-*.md")).read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_grid_that_is_stopped_says_so_once(number: int, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to all processes at once."""
    asked = [*TINY, "max_epochs=5000", f"outputs={tmp_path}", "loss=ce,focal", "-m"]
    log = tmp_path / "log"
    process = fork(log, "train.py", *asked)
    wait_until(process, log, "epoch 1/")
    if number == signal.SIGINT:
        os.kill(child_of(process), number)
    os.kill(process.pid, number)
    process.join()
    said = log.read_text()
    assert process.exitcode == 128 + number and "Traceback" not in said
    word = "interrupted" if number == signal.SIGINT else f"by {signal.Signals(number).name}"
    assert said.splitlines()[-1].endswith(f"{word}: the same command goes on where it was")
    assert said.count("goes on where") == 1 and "focal" not in said
    assert not list(tmp_path.rglob(".part-*"))


def test_a_job_that_is_stopped_alone_is_no_end_of_the_grid(tmp_path: Path, undrawn: None) -> None:
    asked = [*TINY, "max_epochs=range(4999,0,-4998)", f"outputs={tmp_path}", "-m"]
    log = tmp_path / "log"
    process = fork(log, "train.py", *asked)
    wait_until(process, log, "training images")
    os.kill(child_of(process), signal.SIGTERM)
    process.join()
    assert process.exitcode == 1 and "killed by SIGTERM" in log.read_text()
    assert len(list(tmp_path.glob("shapes/*/metrics.json"))) == 1


LAUNCHER = '''
"""Each job in a forked process of this plugin, as on a cluster: its return value is lost."""
import os
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher

class Elsewhere(Launcher):
    def setup(self, *, hydra_context, task_function, config):
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides, initial_job_idx):
        found = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            child = os.fork()
            if child == 0:
                loaded = self.context.config_loader.load_sweep_config(self.config, list(overrides))
                with __import__("omegaconf").open_dict(loaded):
                    loaded.hydra.job.id, loaded.hydra.job.num = str(number), number
                try:
                    run_job(hydra_context=self.context, task_function=self.task, config=loaded,
                            job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir")
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            result = JobReturn()
            result.status, result.return_value = JobStatus.COMPLETED, None
            found.append(result)
        return found
'''


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The choice of a launcher that is none of Hydra's own."""
    package = tmp_path / "plugins" / "hydra_plugins"
    package.mkdir(parents=True)
    (package / "elsewhere.py").write_text(LAUNCHER)
    choice = tmp_path / "conf" / "hydra" / "launcher"
    choice.mkdir(parents=True)
    (choice / "elsewhere.yaml").write_text("_target_: hydra_plugins.elsewhere.Elsewhere\n")
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Plugins.instance()._initialize()
    return ["--config-dir", str(tmp_path / "conf"), "hydra/launcher=elsewhere"]


def test_another_launchers_grid_is_compared_as_well(
    launcher: list[str], tmp_path: Path, undrawn: None
) -> None:
    outputs = tmp_path / "outputs"
    asked = [*TINY, f"outputs={outputs}", "loss=ce,focal", "model.heads=2,5", "-m"]
    done = call("train.py", *launcher[:2], *asked[:-1], launcher[2], "-m")
    assert done.returncode == 1, done.stderr  # two jobs are impossible
    assert len(list(outputs.glob("shapes/*/metrics.json"))) == 2
    (table,) = outputs.glob("grids/*/comparison.md")
    for text in (table.read_text(), done.stdout):
        assert "focal" in text and "not divisible" in text
    assert done.stdout.splitlines()[-1] == str(table)


def leave_jobs(folder: Path) -> Path:
    """What two jobs of a grid leave, one of them without its directory of a run."""
    run_dir = write_fake_run(folder / "shapes" / "vit-ce-shuffle-01234567")
    (run_dir / "config.yaml").write_text("seed: 0\npretrained: null\n")
    failed = write_failed_run(folder / "shapes" / "b", "no space left")
    sweep = folder / "grids" / "01234567"
    grid_folder.leave(sweep / "0", Job(run_dir, None))
    grid_folder.leave(sweep / "10", Job(sweep / "10", "there is no loss=zzz"))
    grid_folder.leave(sweep / "2", Job(failed, "no space left"))
    return sweep


def test_jobs_are_read_in_their_order(tmp_path: Path) -> None:
    found = grid_folder.left(leave_jobs(tmp_path))
    assert [job.run_dir.name for job in found] == ["vit-ce-shuffle-01234567", "b", "10"]
    assert [job.error for job in found] == [None, "no space left", "there is no loss=zzz"]
    assert (tmp_path / "grids" / "01234567" / "10" / "error.txt").exists()


def test_a_job_that_cannot_be_kept_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """On a full disk: the jobs after it run, and the exit status tells of it."""

    def write_text(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sweep = leave_jobs(tmp_path)
    failed = Job(tmp_path / "c", "no space left for it")
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises(grid_folder.NotKeptError, match="no space left to write") as lost:
            grid_folder.leave(sweep / "11", failed)
    try:
        raise lost.value  # as Hydra does, around its callbacks
    except grid_folder.NotKeptError:
        assert ended(sweep) == 1
    assert str(failed.run_dir) in "".join(capsys.readouterr().out.split())
    monkeypatch.setattr(Path, "write_text", write_text)
    ended(sweep)
    assert "cross_entropy" in capsys.readouterr().out  # shown, though it cannot be written


def ended(sweep: Path) -> int:
    """The exit status of a grid whose jobs have left what is in a folder."""
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
    try:
        grids.Comparison().on_multirun_end(config, config_name="train")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_exit_status_of_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sweep = leave_jobs(tmp_path)
    assert ended(sweep) == 1  # a job failed
    assert "no space left" in capsys.readouterr().out
    for number in ("10", "2"):
        (sweep / number / "job.json").unlink()
    assert ended(sweep) == 0
    assert (sweep / "comparison.md").exists()

    def full(*given: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(grids, "show", full)
    assert ended(sweep) == 1  # of the callback itself: Hydra would have warned, with status 0
    assert "the disk is full" in capsys.readouterr().err
    monkeypatch.undo()
    (sweep / "0" / "job.json").unlink()
    assert ended(sweep) == 1  # no job left anything: whatever ran them did not


def test_a_run_that_another_command_trains_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sweep = leave_jobs(tmp_path)
    for number in ("10", "2"):
        (sweep / number / "job.json").unlink()
    request = request_of(*TINY, "loss=focal", f"outputs={tmp_path}")
    other = request.run_dir
    other.mkdir()
    with only_process_in(other):
        job = jobs.do("train", replace(request, in_grid=True))
        assert capsys.readouterr().err.splitlines()[-1] == f"another process is training in {other}"
    grid_folder.leave(sweep / "3", job)
    assert ended(sweep) == 1
    out, err = capsys.readouterr()
    assert f"being trained by another command: {other}; the same command takes it" in err
    assert "failed" not in out and f"not finished: {other}" in "".join(out.split("\n"))
    shutil.rmtree(other)
    write_fake_run(other)
    (other / "config.yaml").write_text("seed: 0\npretrained: null\n")
    assert ended(sweep) == 0
    assert "being trained" not in capsys.readouterr().err


def test_a_table_is_kept_also_where_its_reader_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``| head -1``: Rich ends the process then."""

    def gone(*given: object) -> None:
        raise SystemExit(1)

    sweep = leave_jobs(tmp_path)
    (sweep / grids.SEARCHED).write_text("two trials")
    monkeypatch.setattr("leanvit.evaluation.comparison.narrow_table.print_table", gone)
    assert ended(sweep) == 1
    assert "two trials" in (sweep / "comparison.md").read_text()


def test_what_an_earlier_call_left_is_no_job_of_this_one(tmp_path: Path) -> None:
    sweep = leave_jobs(tmp_path)
    (sweep / letters.SAID).touch()
    asked = {"task": ["loss=ce,focal", "seed=0,1", "model=vit"]}
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}, "overrides": asked}})
    with warnings.catch_warnings(record=True) as said:
        grids.Comparison().on_multirun_start(config, config_name="train")
        warnings.warn("A worker stopped while some jobs were given to the executor.", stacklevel=1)
    assert grid_folder.left(sweep) == [] and not (sweep / letters.SAID).exists() and not said
    # what stands first varies slowest
    assert config.hydra.overrides.task == ["seed=0,1", "loss=ce,focal", "model=vit"]
    with pytest.raises(LeanvitError, match="another process"), only_process_in(sweep):
        pass
    ended(sweep)
    with only_process_in(sweep):
        pass


def test_no_config_of_a_job_is_kept_when_it_is_done() -> None:
    """Hydra would keep those of all, a third of a megabyte each."""
    done = JobReturn(cfg=OmegaConf.create(), hydra_cfg=OmegaConf.create())
    grids.Comparison().on_job_end(OmegaConf.create(), done)
    assert done.cfg is done.hydra_cfg is None


def test_a_grid_is_named_by_what_was_asked_for() -> None:
    def name(*overrides: str) -> str:
        return Path(config_of(*overrides, "outputs=/o").hydra.sweep.dir).name

    assert name("loss=ce", "seed=1") == name("seed=1", "loss=ce") != name("loss=ce", "seed=2")
    assert name("loss=ce", "parallel=2") == name("loss=ce")


@pytest.mark.parametrize("command", ["train", "pretrain", "compress"])
def test_every_command_that_makes_runs_compares_them(command: str) -> None:
    config = config_of(*(["run=x"] if command == "compress" else []), command=command)
    assert config.hydra.callbacks.comparison._target_ == "leanvit.app.grid.Comparison"


def test_a_slip_in_one_job_is_told_beside_the_others(tmp_path: Path) -> None:
    """Composed by Hydra before a job begins: nothing is trained."""
    done = call("train.py", "-m", "data=shapes", "model=vit", "model.depth=1",
                "loss=ce,zzz", f"outputs={tmp_path}")  # fmt: skip
    assert done.returncode in (1, 2) and "there is no loss=zzz" in done.stderr


def test_a_fresh_process_of_a_launcher_resolves_what_a_job_needs() -> None:
    """It imports what the pickled task names, and not the module of the commands."""
    program = (
        "from leanvit.app import grid, jobs, processes, request, words\n"
        "from omegaconf import OmegaConf\n"
        "config = {'a': '${root:}', 'b': '${grid:train,[x],${c}}', 'c': {'d': 1}}\n"
        "print(*list(OmegaConf.create(config).values())[:2])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True
    )
    assert told.stdout.startswith(f"{ROOT} "), told.stderr


def test_a_grid_that_runs_already_is_left_alone(
    grid: tuple[Path, list[str], str], capsys: pytest.CaptureFixture
) -> None:
    outputs, arguments, _ = grid
    (folder,) = outputs.glob("grids/*")
    before = sorted(folder.glob("*/job.json"))
    with only_process_in(folder):
        again = call("train.py", *arguments)
    assert again.returncode == 1 and f"another process is training in {folder}" in again.stderr
    assert sorted(folder.glob("*/job.json")) == before


def test_a_machine_that_does_not_see_the_grid_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "grids" / "0"
    folder.mkdir(parents=True)  # Hydra makes it wherever a job begins
    with pytest.raises(
        grid_folder.NotKeptError, match=f"does not see {folder}: all nodes must share"
    ):
        grid_folder.check_seen(folder)
    with only_process_in(folder):
        grid_folder.check_seen(folder, tmp_path)
        with pytest.raises(grid_folder.NotKeptError, match="elsewhere: all nodes"):
            grid_folder.check_seen(folder, tmp_path / "elsewhere")
