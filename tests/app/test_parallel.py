"""Jobs of a grid that run at once: the same results, each its own lines, nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, TINY_DATA, TINY_VIT, processes_at, run, start

from leanvit.app import grid
from leanvit.errors import LeanvitError

pytestmark = pytest.mark.xdist_group("grid")
TINY = [*TINY_DATA, *TINY_VIT, "max_epochs=1", "trainer=cpu"]


def test_jobs_at_once_end_as_jobs_in_turn(tmp_path: Path) -> None:
    asked = [*TINY, "model.heads=2,5,3"]  # 24 channels are not divisible by 5
    for folder, parallel in (("turn", "1"), ("once", "2")):
        outputs = tmp_path / folder
        done = run("train.py", *asked, f"outputs={outputs}", f"parallel={parallel}", "-m",
                   OMP_NUM_THREADS="1")  # fmt: skip
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert done.stdout.splitlines()[-1].endswith("comparison.md")
    names = sorted(path.parent.name for path in tmp_path.glob("turn/shapes/*/metrics.json"))
    assert len(names) == 2
    for name in names:
        turn, once = (tmp_path / folder / "shapes" / name for folder in ("turn", "once"))
        assert (turn / "predictions.npz").read_bytes() == (once / "predictions.npz").read_bytes()
        told = (once / "log.txt").read_text()
        assert "training images" in told and "epoch 1/1" in told
        assert all(f"{name}: {line}" in done.stderr for line in told.splitlines())
    assert "24 is not divisible by heads 5" in done.stderr

    # what became of one cannot be kept: its worker tells the grid all the same
    place = next(tmp_path.glob("once/grids/*/1"))
    shutil.rmtree(place)
    place.touch()
    done = run("train.py", *asked, f"outputs={outputs}", "parallel=2", "-m")
    assert done.returncode == 1 and done.stderr.count(f"error: cannot use {place}") == 1
    assert "failed: " in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_trains_on_when_the_grid_is_gone(number: int, tmp_path: Path) -> None:
    asked = [*TINY, "max_epochs=5000", f"outputs={tmp_path}", "seed=0,1", "parallel=2", "-m"]
    with start("train.py", *asked) as process:
        assert process.stderr is not None
        began = set[str]()
        while len(began) < 2:
            line = process.stderr.readline()
            assert line, "it ended"
            if "epoch 1/" in line:
                began.add(line.partition(":")[0])
        assert len(processes_at(tmp_path)) >= 3  # this grid, and its two jobs
        process.send_signal(number)
        said = process.stderr.read()  # to the end: until the last of them is gone
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert said.count("interrupted: the same command goes on where it was") == 1
    assert not processes_at(tmp_path)


def test_how_many_jobs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "num_cores", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert grid.at_once(4, "auto") == 4
    assert grid.at_once("auto", "auto") == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert grid.at_once("auto", "auto") == 2 and grid.at_once("auto", "cpu") == 3
    assert grid.at_once(1, "auto", "ddp") == 1
    with pytest.raises(LeanvitError, match="each job takes all devices"):
        grid.at_once("auto", "auto", "ddp")
    for wrong in (0, -1, True, 1.5, "two", None):
        with pytest.raises(LeanvitError, match="give a number of jobs, 1 or more, or auto"):
            grid.at_once(wrong, "auto")


PLACE = """
import os, sys
from pathlib import Path
from leanvit.app import processes

processes.take_share(3, Path(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["LEANVIT_SHARES"], flush=True)
sys.stdin.read()
"""


def test_each_job_sees_one_gpu_and_who_ends_makes_room(tmp_path: Path) -> None:
    given = {**os.environ, "CUDA_VISIBLE_DEVICES": "5,7", "PYTHONPATH": str(ROOT / "src")}

    def take() -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PLACE, str(tmp_path)],
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    held = [take() for _ in range(3)]
    assert [seen for _, seen in held] == ["5 3", "7 3", "5 3"]
    held[1][0].communicate()
    held[1] = take()
    assert held[1][1] == "7 3"
    for process, _ in held:
        process.communicate()
        assert process.returncode == 0
