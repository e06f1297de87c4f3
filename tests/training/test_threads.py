"""How many threads a training on CPU computes with."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from leanvit import cores
from leanvit.training.threads import ENOUGH, ShareCores, wanted

SPIN = "import time\nwhile time.process_time() < 0.4: pass\n"


class Told(cores.Others):
    """Others of whom a test tells."""

    def __init__(self, in_use: float, seconds: float = 5.0) -> None:
        self.told = in_use, seconds

    def look(self) -> tuple[float, float]:
        return self.told


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that are set, on eight cores."""
    found = [8]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: found[-1])
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr("leanvit.training.threads.num_cores", lambda: 8)
    monkeypatch.setattr("leanvit.training.threads.seen_cores", lambda: set(range(8)))
    return found


@pytest.mark.parametrize(
    "others, threads", [(0.0, 8), (0.4, 8), (0.7, 7), (1.0, 7), (4.1, 4), (7.8, 1), (30.0, 1)]
)
def test_others_are_left_their_cores(others: float, threads: int) -> None:
    assert wanted(8, others, at_most=8) == threads
    assert wanted(64, others, at_most=1) == 1  # a container may have fewer


def test_threads_go_and_come_with_the_others(
    numbers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    sharing = ShareCores(Told(3.0))
    sharing.share()
    assert numbers[-1] == 5
    assert "other processes use 3.0 of 8 cores: number of threads 8 -> 5" in capsys.readouterr().err
    sharing.others = Told(0.1)
    sharing.share()
    sharing.others = Told(3.0)
    sharing.share()
    assert numbers == [8, 5, 8, 5] and not capsys.readouterr().err  # said once
    again = ShareCores(Told(7.0))
    again.load_state_dict(sharing.state_dict())
    again.share()
    assert again.used == {1, 5, 8}


def test_what_a_launcher_has_set_stays(numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    sharing = ShareCores(Told(3.0))
    sharing.share()
    assert numbers == [8] and sharing.used == {8}


def test_a_look_too_soon_decides_nothing(numbers: list[int]) -> None:
    sharing = ShareCores(Told(8.0, seconds=ENOUGH / 2))
    sharing.share()
    assert numbers == [8]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_work_of_this_process_and_of_its_children_is_its_own() -> None:
    before, all_before = cores._own(), sum(cores._busy(cores.seen_cores()))
    with subprocess.Popen([sys.executable, "-c", f"{SPIN}print(flush=True)\ninput()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        alive = cores._own()
        child.communicate(b"\n")
    ended = cores._own()
    assert alive - before >= 0.38 and ended - before >= 0.38
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass
    worked = sum(cores._busy(cores.seen_cores())) - all_before
    assert worked >= 0.7  # both are of the cores' work


def test_others_are_counted_from_look_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.0, 12.0])
    busy = iter([[5.0, 5.0], [6.0, 8.0], [6.0, 8.0]])
    own = iter([3.0, 4.0, 4.0])
    monkeypatch.setattr(cores.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(cores, "_busy", lambda seen: next(busy))
    monkeypatch.setattr(cores, "_own", lambda: next(own))
    others = cores.Others()
    assert others.look() == (1.5, 2.0)  # 4 seconds were worked in 2, 1 of them by this process
    assert others.look() == (0.0, 0.0)


def test_where_nothing_tells_all_cores_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    others = cores.Others()

    def hidden(seen: set[int]) -> list[float]:
        raise PermissionError

    monkeypatch.setattr(cores, "_busy", hidden)
    assert others.look() == (0.0, 0.0)
