"""Grids as arrays of SLURM jobs, on a cluster of two nodes that is made for these tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripts import ROOT, TINY_DATA, TINY_VIT, run, start

pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(
        not (shutil.which("slurmctld") and shutil.which("munged") and os.geteuid() == 0),
        reason="wants root, and Debian's slurm-wlm and munge",
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
