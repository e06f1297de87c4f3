"""Run the entry scripts: in this process, or as a person does in processes of their own."""

import contextlib
import io
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# a training of seconds: small images sets, a small net
TINY_DATA = ["data=shapes", "data.num_train=400", "data.num_test=50"]
TINY_COATNET = [
    "model=coatnet",
    "model.dims=[8,12,16,24]",
    "model.depths=[1,1,1,1]",
    "model.transformer_heads=2",
    "model.transformer_dim_head=8",
]
TINY_VIT = ["model=vit", "model.dim=24", "model.depth=1", "model.heads=2", "model.mlp_dim=32"]


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "WANDB", "LEANVIT"))}
    return {**kept, **extra}


def start(script: str, *arguments: str, cwd: Path = ROOT, **extra: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env=environment(**extra),
        # not ignored, as it is in all that a shell runs in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(
    script: str, *arguments: str, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess:
    """In a process of its own, which takes seconds to start."""
    with start(script, *arguments, cwd=cwd, **extra) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def call(
    script: str, *arguments: str, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess:
    """In this process. Of the jobs of a grid, which are forked from it, nothing printed is seen."""
    out, err = io.StringIO(), io.StringIO()
    with (
        nothing_stays_changed(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = enter(script, arguments, cwd, extra)
    return subprocess.CompletedProcess([script, *arguments], status, out.getvalue(), err.getvalue())


def fork(log: Path, script: str, *arguments: str, **extra: str) -> BaseProcess:
    """In a child of this process, whose imports are done: to be killed. It prints to ``log``."""

    def work() -> None:
        with log.open("a", buffering=1) as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            sys.stdout = sys.stderr = file
            status = enter(script, arguments, ROOT, extra)
        sys.exit(status)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def enter(script: str, arguments: Sequence[str], cwd: Path, extra: Mapping[str, str]) -> int:
    """Run a script as the main program of this process; its exit status."""
    env = environment(**extra)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script, *arguments]
    GlobalHydra.instance().clear()
    try:
        with contextlib.chdir(cwd):
            runpy.run_path(str(ROOT / "src" / script), run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        assert sys.argv == [script, *arguments], "nobody rewrites the command line"
    return 0


def processes_at(folder: Path) -> set[str]:
    """Ids of those that hold a file below this folder open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):  # a file of it is closed at this moment
                    if link.readlink().is_relative_to(folder):
                        found.add(process.name)
    return found


@contextlib.contextmanager
def nothing_stays_changed() -> Iterator[None]:
    """What ends with a process, ended: Hydra's state, and what trainings set for all of torch."""
    argv, environ, hydra = sys.argv, dict(os.environ), HydraConfig.instance().cfg
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environ)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = hydra
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@contextlib.contextmanager
def no_figures() -> Iterator[None]:
    """Runs and evaluations leave no figures, which take a second: also in jobs forked from here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("evaluation.measure.evaluate._draw", "app.train.class_counts",
                     "app.train.learning_curves"):  # fmt: skip
            patch.setattr(f"leanvit.{name}", lambda *given: None)
        yield


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read standard error up to the line that holds ``text``."""
    seen = []
    assert process.stderr is not None
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} never came:\n{''.join(seen)}")


def kill_at(process: BaseProcess, log: Path, text: str) -> None:
    """Kill what was forked as soon as it has said ``text``."""
    wait_until(process, log, text)
    process.kill()
    process.join()


def wait_until(process: BaseProcess, log: Path, text: str) -> None:
    while not (log.exists() and text in log.read_text()):
        assert process.is_alive(), f"{text!r} never came:\n{log.read_text()}"
        time.sleep(0.005)


def child_of(process: BaseProcess) -> int:
    """The process id of what it has forked itself, as soon as there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.is_alive()
    return int(found[0])


def only_run(outputs: Path) -> Path:
    (config,) = outputs.glob("*/*/config.yaml")
    return config.parent


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process, and of those it starts, grows over ``size`` bytes: a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
