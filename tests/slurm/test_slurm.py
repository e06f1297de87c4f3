"""Grids as arrays of SLURM jobs, on a cluster of two nodes that is made for these tests."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_parts import write_own_net
from scripts import ROOT, TINY_DATA, TINY_VIT, run, start

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(
        not (shutil.which("slurmctld") and shutil.which("munged") and os.geteuid() == 0),
        reason="wants root, and Debian's slurm-wlm and munge: tests/slurm/install.sh",
    ),
]
TINY = [*TINY_DATA, *TINY_VIT, "trainer=cpu"]
SLURM = "hydra/launcher=slurm"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands find it."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 3
    script = [str(ROOT / "tests" / "slurm" / "cluster.sh"), str(folder), str(port)]
    try:
        subprocess.run(script, check=True, capture_output=True, text=True)
        given = {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
        wait_until(lambda: asked("sinfo", "-h", "-o", "%T", **given) == "idle")
        yield given
        asked("scancel", "--user=root", **given)
    finally:
        for pid in folder.glob("*.pid"):
            os.kill(int(pid.read_text()), signal.SIGTERM)


def asked(*command: str, **given: str) -> str:
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True)
    return done.stdout.strip()


def wait_until(happens: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def test_an_array_is_compared_around_the_job_that_fails(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    asked_for = [*TINY, "max_epochs=1", "model.heads=2,5", f"outputs={tmp_path}", SLURM, "-m"]
    done = run("train.py", *asked_for, **cluster)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1].endswith("comparison.md")
    assert len(list(tmp_path.glob("shapes/*/metrics.json"))) == 1  # 24 is not divisible by 5
    assert "24 is not divisible by heads 5" in " ".join(done.stdout.split())


def test_parts_of_a_folder_of_ones_own(cluster: dict[str, str], tmp_path: Path) -> None:
    write_own_net(tmp_path / "mine")
    path = os.pathsep.join(["mine", os.environ.get("PYTHONPATH", "")])
    asked_for = [*TINY_DATA, "model=mynet", "trainer=cpu", "max_epochs=1", "outputs=out", SLURM]
    done = run("train.py", "--config-dir=mine/conf", *asked_for, "-m", "loss=ce,focal",
               cwd=tmp_path, PYTHONPATH=path, **cluster)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("out/shapes/mynet-*/metrics.json"))) == 2


def test_what_slurm_does_not_take_is_one_line(cluster: dict[str, str], tmp_path: Path) -> None:
    asked_for = [*TINY, "max_epochs=1,2", f"outputs={tmp_path}", SLURM, "-m"]
    done = run("train.py", *asked_for, "hydra.launcher.partition=nope", **cluster)
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: SLURM does not take the jobs:") and "nope" in line


def ids(outputs: Path) -> list[str]:
    """What SLURM calls the jobs of the only grid there."""
    (kept,) = outputs.glob("grids/*/array.json")
    return [each["id"] for each in json.loads(kept.read_text())]


def test_a_command_that_is_killed_waits_for_its_jobs_again(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    asked_for = [*TINY, "max_epochs=100", "seed=0,1", f"outputs={tmp_path}", SLURM, "-m"]
    later = run("train.py", *asked_for, "wait=false", **cluster)
    assert later.returncode == 0 and "2 jobs are in the queue" in later.stderr and not later.stdout
    submitted = ids(tmp_path)
    with start("train.py", *asked_for, **cluster) as process:
        wait_until(lambda: len(list(tmp_path.glob("shapes/*/history.csv"))) > 0)
        process.kill()
        _, said = process.communicate()
    assert "2 jobs are in the queue: they are waited for" in said
    again = run("train.py", *asked_for, **cluster)
    assert again.returncode == 0 and ids(tmp_path) == submitted, again.stderr
    histories = [path.read_text() for path in tmp_path.glob("shapes/*/history.csv")]
    assert [each.count("\n") for each in histories] == [101, 101]
    assert "| 2 seeds |" in Path(again.stdout.split()[-1]).read_text()


def test_a_job_that_leaves_no_word_has_failed(cluster: dict[str, str], tmp_path: Path) -> None:
    asked_for = [*TINY, "max_epochs=1,100000", f"outputs={tmp_path}", SLURM, "-m"]
    with start("train.py", *asked_for, **cluster) as process:
        wait_until(lambda: len(list(tmp_path.glob("shapes/*/metrics.json"))) == 1)
        asked("scancel", "--signal=KILL", ids(tmp_path)[1], **cluster)
        out, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "left the queue without a word" in " ".join(out.split())
    assert not asked("squeue", "-h", **cluster)


def test_a_job_over_its_time_goes_on_in_another(cluster: dict[str, str], tmp_path: Path) -> None:
    """SLURM's shortest time is a minute, and it may tell of its end as much too early."""
    given = [*TINY, "max_epochs=100000", f"outputs={tmp_path}", SLURM, "-m"]
    times = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30"]

    def epochs() -> list[int]:
        (history,) = tmp_path.glob("shapes/*/history.csv")
        return [int(row["epoch"]) for row in csv.DictReader(history.read_text().splitlines())]

    with start("train.py", *given, *times, **cluster) as process:
        place = "grids/*/.submitit/*/*.err"
        wait_until(
            lambda: any("going on from" in path.read_text() for path in tmp_path.glob(place)), 600
        )
        before = len(epochs())
        wait_until(lambda: len(epochs()) > before)
        asked("scancel", *ids(tmp_path), **cluster)
        process.communicate()
    assert epochs() == list(range(1, len(epochs()) + 1))  # none is missing, none is there twice


def test_two_nodes_train_one_net(cluster: dict[str, str], tmp_path: Path) -> None:
    ddp = [*TINY, "max_epochs=2", "batch_size=32", "trainer=ddp", "trainer.accelerator=cpu"]
    here = run("train.py", *ddp, "trainer.devices=2", f"outputs={tmp_path / 'one'}", **cluster)
    assert here.returncode == 0, here.stderr
    two = ["trainer.devices=1", "trainer.num_nodes=2", f"outputs={tmp_path / 'two'}", SLURM, "-m"]
    done = run("train.py", *ddp, *two, **cluster)
    assert done.returncode == 0, done.stderr
    one, other = (path.read_bytes() for path in tmp_path.glob("*/shapes/*/predictions.npz"))
    assert one == other


@pytest.mark.skipif("LEANVIT_MANY" not in os.environ, reason="12 minutes: set LEANVIT_MANY=1")
def test_a_hundred_jobs(cluster: dict[str, str], tmp_path: Path) -> None:
    seeds = f"seed={','.join(map(str, range(100)))}"
    given = ["max_epochs=1", seeds, f"outputs={tmp_path}", "hydra.launcher.cpus_per_task=1"]
    done = run("train.py", *TINY, *given, SLURM, "-m", **cluster)
    assert done.returncode == 0, done.stderr
    assert "| 100 seeds |" in Path(done.stdout.split()[-1]).read_text()


def test_a_job_that_is_queued_again_goes_on_bit_by_bit(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    asked_for = [*TINY, "max_epochs=60", "-m"]
    whole = run("train.py", *asked_for, f"outputs={tmp_path / 'whole'}", OMP_NUM_THREADS="1")
    assert whole.returncode == 0, whole.stderr
    (predictions,) = tmp_path.glob("whole/shapes/*/predictions.npz")
    outputs = tmp_path / "again"
    history = outputs / "shapes" / predictions.parent.name / "history.csv"
    with start("train.py", *asked_for, f"outputs={outputs}", SLURM, **cluster) as process:
        wait_until(lambda: history.exists() and history.read_text().count("\n") > 5)
        number = asked("squeue", "-h", "-r", "-o", "%i", **cluster)
        asked("scontrol", "requeue", number, **cluster)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert history.read_text().count("\n") == 61  # no epoch twice
    assert (history.parent / "predictions.npz").read_bytes() == predictions.read_bytes()
