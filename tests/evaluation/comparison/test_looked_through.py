"""What is kept of runs that were looked through: a report with it is the report without it."""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import write_fake_run
from scripts import call

from leanvit.evaluation.comparison import left_out, looked_through
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.left_out import sort_out
from leanvit.evaluation.comparison.looked_through import FEWEST, FILE, mark, marks

NUM_RUNS = FEWEST + 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs that nobody has changed for a while."""
    monkeypatch.setattr(looked_through, "SETTLED", -1e18)
    for seed in range(NUM_RUNS):
        write_fake_run(tmp_path / "shapes" / f"ce-{seed}", seed=seed, test_wrong=range(seed + 1))
    return tmp_path / "shapes"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that are looked through from now on."""
    names: list[str] = []
    look = left_out.damage
    monkeypatch.setattr(left_out, "damage", lambda path: names.append(path.name) or look(path))
    return names


def report(folder: Path) -> str:
    """All that a report says and writes: with what is kept from before, without, and with that."""
    said = []
    for number in range(4):
        if number == 1:
            (folder / FILE).unlink()
        done = call("report.py", f"run={folder}", f"output={folder.parent}/out", COLUMNS="999")
        written = [(folder.parent / "out" / f"comparison-{folder.name}.{kind}").read_text()
                   for kind in ("md", "csv")]  # fmt: skip
        said.append("\n".join([done.stdout, done.stderr, *written]))
    assert len(set(said)) == 1 and (folder / FILE).exists()
    return said[0]


def changed(path: Path) -> None:
    """One figure, with the size and the date that the file had."""
    before, text = path.stat(), path.read_text()
    other = text.replace('"n": 90', '"n": 91')
    assert len(other) == len(text) and other != text
    path.write_text(other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_report_says_the_same_with_it_whatever_happens_to_a_run(
    folder: Path, looked: list[str], tmp_path: Path
) -> None:
    run, kept = folder / "ce-3", tmp_path / "kept"
    first = report(folder)
    assert f"| {NUM_RUNS} seeds |" in first
    assert looked == 2 * sorted(path.name for path in folder.glob("ce-*"))
    shutil.copytree(run, kept)
    changed(run / "metrics.json")
    assert "predictions.npz is not of metrics.json" in report(folder)
    shutil.rmtree(run)
    assert f"| {NUM_RUNS - 1} seeds |" in report(folder)
    shutil.copytree(kept, run)
    assert report(folder) == first
    (run / "predictions.npz").write_bytes((folder / "ce-4" / "predictions.npz").read_bytes())
    assert "predictions.npz is not of metrics.json" in report(folder)
    (folder / "ce-5" / "history.csv").write_text("epoch,seconds\none,two\n")
    assert "history.csv is damaged" in report(folder)


def test_figures_are_read_and_never_kept(folder: Path, looked: list[str]) -> None:
    runs = sorted(folder.glob("ce-*"))
    sort_out(runs)
    looked.clear()
    assert sort_out(runs) == (runs, []) and looked == []
    whole = write_fake_run(folder.parent / "other", seed=3, test_wrong=range(45))
    for name in ("metrics.json", "predictions.npz"):
        (folder / "ce-3" / name).write_bytes((whole / name).read_bytes())
    assert sort_out(runs) == (runs, []) and looked == ["ce-3"]
    (table,) = compare([folder / "ce-3"])
    assert table.rows[0].accuracy == 0.5


SPOILT: list[Callable[[Path], object]] = [
    lambda path: path.unlink(),
    lambda path: path.write_text(""),
    lambda path: path.write_bytes(path.read_bytes()[:-99]),
    lambda path: path.write_bytes(b"\0\xff" * 99),
    lambda path: path.write_text("[" * 10**5),
    lambda path: path.write_text("[]"),
    lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"whole": [1]})),
    lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "older"})),
    lambda path: (path.unlink(), os.mkfifo(path)),
    lambda path: (path.unlink(), path.mkdir()),
]


@pytest.mark.parametrize("spoil", SPOILT, ids=range(len(SPOILT)))
def test_what_is_not_ours_is_done_without(
    spoil: Callable[[Path], object], folder: Path, looked: list[str]
) -> None:
    runs = sorted(folder.glob("ce-*"))
    (runs[0] / "predictions.npz").unlink()
    told = sort_out(runs)
    assert len(marks(folder)) == NUM_RUNS - 1
    spoil(folder / FILE)
    looked.clear()
    assert sort_out(runs) == told == (runs[1:], runs[:1]) and len(looked) == len(runs)
    assert not list(folder.glob(".part-*"))


def test_marks_of_other_runs_stay_as_long_as_they_do(folder: Path) -> None:
    runs = sorted(folder.glob("ce-*"))
    sort_out(runs)
    shutil.rmtree(runs[0])
    for seed in range(FEWEST):
        write_fake_run(folder / f"focal-{seed}", seed=seed, loss="focal")
    sort_out(sorted(folder.glob("focal-*")))
    assert marks(folder) == {path.name: mark(path) for path in folder.iterdir() if path.is_dir()}
    assert len(marks(folder)) == NUM_RUNS + FEWEST - 1


def test_folders_that_cannot_be_written_and_small_ones_hold_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sorted(folder.glob("ce-*"))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(30, "ro")))
        assert sort_out(runs) == (runs, [])
    assert sort_out(runs[3:]) == (runs[3:], [])
    assert {path.name for path in folder.iterdir()} == {path.name for path in runs}


def test_what_has_just_changed_is_looked_at_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick of the file system's clock it may change unseen."""
    run = folder / "ce-0"
    assert mark(run)
    monkeypatch.undo()
    assert mark(run) is None
    later = time.time_ns() + 4 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert mark(run)


def test_reports_at_the_same_time_leave_one_that_is_whole(folder: Path) -> None:
    runs = sorted(folder.glob("ce-*"))
    context = multiprocessing.get_context("fork")
    reports = [context.Process(target=sort_out, args=(runs,)) for _ in range(4)]
    for each in reports:
        each.start()
    for each in reports:
        each.join()
    assert marks(folder) == {path.name: mark(path) for path in runs}
