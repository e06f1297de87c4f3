"""Grids on Ray: one that a command starts, and a cluster of two nodes made for these tests."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from own_parts import write_own_net
from scripts import TINY_DATA, TINY_VIT, processes_at, run, start

from leanvit.app import grid_folder
from leanvit.app.jobs import Job
from leanvit.app.processes import die_with_parent
from leanvit.errors import LeanvitError

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(
        not (find_spec("ray") and find_spec("hydra_plugins.hydra_ray_launcher")),
        reason="wants Ray: leanvit[ray]",
    ),
]
TINY = [*TINY_DATA, *TINY_VIT, "trainer=cpu", "-m"]
RAY = "hydra/launcher=ray"
LONG = ["max_epochs=100", "seed=0,1"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment in which commands find it, by its address and its password."""
    given = QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a short name: those of the sockets in it have at most 107 letters
    with tempfile.TemporaryDirectory(prefix="ray") as folder, ExitStack() as nodes:
        head = ["--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
        for asked in (head, [f"--address=127.0.0.1:{port}"]):
            nodes.enter_context(node(asked, Path(folder), given))
        yield given | {"RAY_ADDRESS": f"127.0.0.1:{port}"}


@contextmanager
def node(asked: list[str], folder: Path, given: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *asked, "--block",
               "--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000"]  # fmt: skip
    log = folder / f"node{len(list(folder.glob('node*')))}"
    with log.open("w") as file:
        # not where the commands run: paths are theirs
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **given}, stdout=file, stderr=file,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        wait_until(lambda: "runtime started" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until(happens: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The predictions of two trainings without Ray, by the names of their runs."""
    outputs = tmp_path_factory.mktemp("whole")
    done = run("train.py", *TINY, *LONG, f"outputs={outputs}", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return predictions(outputs)


def predictions(outputs: Path) -> dict[str, bytes]:
    return {each.parent.name: each.read_bytes() for each in outputs.glob("*/*/predictions.npz")}


def epochs(outputs: Path) -> list[int]:
    """Finished ones of each run."""
    return [path.read_text().count("\n") - 1 for path in outputs.glob("*/*/history.csv")]


def workers(outputs: Path) -> list[int]:
    """Process ids of Ray's workers that do jobs there."""
    return [int(path.name.rpartition("-")[2]) for path in outputs.glob("grids/*/.said-*")]


def test_a_grid_is_compared_around_the_job_that_fails(tmp_path: Path) -> None:
    asked = [*TINY, "max_epochs=1", "model.heads=2,5", "outputs=here", RAY]
    done = run("train.py", *asked, cwd=tmp_path, **QUIET)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1].endswith("comparison.md")
    (metrics,) = tmp_path.glob("here/shapes/*/metrics.json")  # 24 is not divisible by 5
    assert "24 is not divisible by heads 5" in " ".join(done.stdout.split())
    told = (metrics.parent / "log.txt").read_text().splitlines()
    assert told and all(f"{metrics.parent.name}: {line}" in done.stderr for line in told)
    said = [line.partition(":")[0] for line in done.stderr.splitlines()]
    runs = [path.name for path in metrics.parents[1].iterdir()]
    assert set(said) == {*runs, *(f"here/shapes/{name}" for name in runs)}  # not a word of Ray's


def test_parts_of_a_folder_of_ones_own(cluster: dict[str, str], tmp_path: Path) -> None:
    """Whose place a cluster that ran before knows from the command alone."""
    write_own_net(tmp_path / "mine")
    path = os.pathsep.join(["mine", os.environ.get("PYTHONPATH", "")])
    asked = [*TINY_DATA, "trainer=cpu", "model=mynet", "max_epochs=1", "outputs=out", RAY, "-m"]
    done = run("train.py", "--config-dir=mine/conf", *asked, "loss=ce,focal",
               cwd=tmp_path, PYTHONPATH=path, **cluster)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("out/shapes/mynet-*/metrics.json"))) == 2


def test_a_job_whose_worker_dies_goes_on_in_another(
    cluster: dict[str, str], whole: dict[str, bytes], tmp_path: Path
) -> None:
    with start("train.py", *TINY, *LONG, f"outputs={tmp_path}", RAY, **cluster) as process:
        wait_until(lambda: process.poll() is not None or [n for n in epochs(tmp_path) if n > 3])
        for worker in workers(tmp_path):  # with the jobs, which are below them
            os.kill(worker, signal.SIGKILL)
        told, said = process.communicate()
    assert process.returncode == 0 and "going on from" in said, said
    assert "raylet" not in told + said  # what Ray says of it, in 20 lines
    assert epochs(tmp_path) == [100, 100] and predictions(tmp_path) == whole


def test_nothing_trains_on_when_the_command_is_gone_and_the_same_goes_on(
    cluster: dict[str, str], whole: dict[str, bytes], tmp_path: Path
) -> None:
    asked = [*TINY, *LONG, f"outputs={tmp_path}", RAY]
    for number in (signal.SIGINT, signal.SIGKILL):
        before = sum(epochs(tmp_path))
        with start("train.py", *asked, **cluster) as process:
            wait_until(lambda b=before: process.poll() is not None or sum(epochs(tmp_path)) > b + 4)
            assert processes_at(tmp_path / "shapes")
            process.send_signal(number)
            _, said = process.communicate()
        assert "Traceback" not in said
        if number == signal.SIGINT:
            assert process.returncode == 130 and said.count("interrupted: the same command") == 1
        wait_until(lambda: not processes_at(tmp_path / "shapes"))
    done = run("train.py", *asked, **cluster)
    assert done.returncode == 0 and "going on from" in done.stderr, done.stderr
    assert epochs(tmp_path) == [100, 100] and predictions(tmp_path) == whole


def test_what_a_job_left_whose_worker_died_once_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanvit.app import ray_jobs

    def get(ref: object) -> None:
        raise ray_jobs.ray.exceptions.WorkerCrashedError

    run_dir, folder = tmp_path / "run", tmp_path / "0"
    run_dir.mkdir()
    grid_folder.begin(folder, run_dir)
    monkeypatch.setattr(ray_jobs.ray, "get", get)
    returned = ray_jobs.result(None, folder, num_lives=4)
    assert returned.return_value is None  # no sweeper stumbles over it
    line = "its worker or node died 4 times"
    assert grid_folder.left(tmp_path) == [Job(run_dir, line)]
    assert (run_dir / "error.txt").read_text() == f"{line}\n"


def test_that_rays_own_process_was_killed_is_said_before_ray_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from leanvit.app import ray_jobs

    def get(ref: object) -> None:
        raise ray_jobs.ray.exceptions.LocalRayletDiedError

    monkeypatch.setattr(ray_jobs.ray, "get", get)
    with pytest.raises(SystemExit) as stop:
        ray_jobs.result(None, tmp_path / "0", num_lives=4)
    assert stop.value.code == 1 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err == f"error: {ray_jobs.KILLED}\n"


def test_an_address_where_nobody_listens_is_one_line() -> None:
    from leanvit.app import ray_cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(LeanvitError, match=f"no Ray at 127.0.0.1:{port}"):
            ray_cluster.check_answers(f"127.0.0.1:{port}")
