"""The command that compares finished runs."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_runs import write_failed_run, write_fake_run
from scripts import ROOT, call, start

from leanvit.app.report import place_of


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    for seed in range(3):
        for loss, wrong in (("focal", range(20 + seed)), ("ce", range(30 + 2 * seed))):
            path = tmp_path / loss / f"{loss}{seed}"
            write_fake_run(path, seed=seed, loss=loss, test_wrong=list(wrong))
    write_failed_run(tmp_path / "ce" / "ce3", "no space left")
    return tmp_path


def told(*arguments: str) -> str:
    """Standard output."""
    done = call("report.py", *arguments, COLUMNS="120")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_folders_and_single_runs_are_paired(sides: Path) -> None:
    given = ",".join(str(sides / "focal" / f"focal{seed}") for seed in range(3))
    out = told(f"run={given}", f"against={sides}/ce", f"output={sides}/out")
    assert "loss=focal against loss=ce" in out and "Test accuracy: better, +12.22 points" in out
    assert "no space left" in out
    stem = sides / "out" / "comparison-focal0-focal1-focal2-against-ce"
    assert out.endswith(f"{stem}.md\n")
    assert "Test accuracy: better" in stem.with_suffix(".md").read_text()
    with stem.with_suffix(".csv").open(newline="") as file:
        assert next(csv.DictReader(file))["measure"] == "accuracy"


def test_without_the_other_side_all_are_compared(sides: Path) -> None:
    out = told(f"run={sides}", f"output={sides}/out")
    assert "against" not in out and "focal" in out and "no space left" in out


def test_what_cannot_be_paired_is_one_line(sides: Path) -> None:
    for arguments, words in [
        ([f"against={sides}/ce"], "run=<runs> against=<runs>"),
        ([f"run={sides}", f"against={sides}/ce"], "several choices, which differ in loss"),
        ([f"run={sides}/ce/ce3", f"against={sides}/ce"], "run= holds no finished run"),
        ([f"run={sides}/ce/ce0", f"against={sides}/focal/focal1"], "paired by seed"),
    ]:
        done = call("report.py", *arguments, f"output={sides}/out")
        assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
        assert words in done.stderr
    assert not (sides / "out").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_shows_the_table(sides: Path, encoding: str) -> None:
    """In a process of its own: what is captured here takes every letter."""
    odd = write_fake_run(sides / "猫" / "é", loss="猫 \udcff", test_wrong=[1])
    asked = [f"run={sides}", f"output={sides}/out"]
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C", "COLUMNS": "150",
           "PYTHONCOERCECLOCALE": "0"}  # fmt: skip
    with start("report.py", *asked, **env) as process:
        assert process.wait() == 0
    for kind in ("md", "csv", "tex"):
        assert "猫" in (sides / "out" / f"comparison-{sides.name}.{kind}").read_text("utf-8")
    assert odd.exists()


def test_the_comparison_lies_beside_what_is_compared(tmp_path: Path) -> None:
    """As what benchmark.py and compress.py make of runs; wherever the command is started."""
    run = write_fake_run(tmp_path / "mine" / "shapes" / "a")
    write_fake_run(tmp_path / "alone" / "b")
    for given in ("mine", "mine/shapes", "mine/shapes/a", f"{run},alone/b"):
        done = call("report.py", f"run={given}", cwd=tmp_path)
        name = "-".join(each.rpartition("/")[2] for each in given.split(","))
        end = f"{tmp_path}/mine/report/comparison-{name}.md"
        assert done.stdout.endswith(f"{end}\n") and Path(end).exists(), done.stderr
    assert call("report.py", "run=alone/b", cwd=tmp_path).returncode == 0
    assert (tmp_path / "alone" / "report" / "comparison-b.csv").exists()
    assert place_of([], True) == place_of([run], True) == ROOT / "outputs" / "report"


def test_a_place_that_is_a_file_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every command that reads runs and writes."""
    (tmp_path / "file").touch()
    run = write_fake_run(tmp_path / "shapes" / "a")
    for name in ("eval", "figures"):
        (run / name).touch()
    for script, place, *given in [
        ("report.py", tmp_path / "file", f"output={tmp_path}/file"),
        ("benchmark.py", tmp_path / "file" / "x", f"output={tmp_path}/file/x"),
        ("eval.py", run / "eval"),
        ("visualize.py", run / "figures"),
    ]:
        done = call(script, f"run={run}", *given)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"error: cannot write {place} ("), done.stderr


def test_globs_grids_and_choices_name_runs(sides: Path) -> None:
    """From another folder; each question has files of its own."""
    for number, run in enumerate(("focal/focal0", "ce/ce0", "ce/ce3")):
        left = sides / "grids" / "g" / str(number)
        left.mkdir(parents=True)
        (left / "job.json").write_text(json.dumps({"run": str(sides / run), "error": None}))
    asked = {
        ("run=*/*[01]",): ("focal2", "ce2", 4),
        ("run=grids/g",): ("focal1", "ce1", 2),
        (f"run={sides},loss=focal",): ("loss=ce", "ce0", 3),
    }
    for arguments, (*absent, num_runs) in asked.items():
        done = call("report.py", *arguments, "output=out", cwd=sides, COLUMNS="120")
        assert done.returncode == 0, done.stderr
        told_all = (sides / done.stdout.split()[-1]).with_suffix(".csv").read_text()
        rows = csv.DictReader(told_all.splitlines())
        runs = " ".join(row["runs"] or "" for row in rows)
        assert len(runs.split()) == num_runs and not any(each in runs for each in absent)
    assert "no space left" in call("report.py", "run=grids/g", "output=out", cwd=sides).stdout
    assert len(list((sides / "out").glob("*.tex"))) == 3
    assert "best by validation" in told(f"run={sides}", f"output={sides}/out", "page=true")
    assert "focal" in (sides / "out" / f"comparison-{sides.name}.html").read_text()
    out = told(f"run={sides},loss=focal", f"against={sides},loss=ce", f"output={sides}/out")
    assert "loss=focal against loss=ce" in out


def test_the_reference_is_asked_for(sides: Path) -> None:
    for baseline in ("2", "loss=focal", str(sides / "focal" / "focal1")):
        out = told(f"run={sides}", f"output={sides}/out", f"baseline={baseline}")
        (line,) = [line for line in out.splitlines() if "  reference  2.0 min" in line]
        assert "model=vit" in line
        assert "loss=ce" in out and "worse" in out
    for given, words in [
        (["baseline=3"], "baseline=3 is no row"),
        (["baseline=loss=ldam"], "baseline=loss=ldam is no row"),
        (["baseline=1", "published=true"], "leave baseline="),
        (["page=true", "published=true"], "leave published="),
        ([f"run={sides},loss=ldam"], "no finished run has loss=ldam"),
        ([f"run={sides},los=ce"], "no run tells los=: did you mean loss?"),
        ([f"run={sides}/nowhere*"], "no directory is called"),
    ]:
        done = call("report.py", f"run={sides}", *given, f"output={sides}/out")
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1


def test_what_is_not_finished_is_named(sides: Path) -> None:
    run = sides / "ce" / "ce4"
    run.mkdir()
    (run / "config.yaml").write_text("max_epochs: 9\nseed: 4\n")
    (run / "history.csv").write_text("epoch,seconds\n1,2\n2,2\n")
    out = told(f"run={sides}", f"output={sides}/out")
    assert f"not finished: {run}: epoch 2 of 9" in " ".join(out.split())
    assert "## Not finished" in (sides / "out" / f"comparison-{sides.name}.md").read_text()


def test_a_report_reads_files_without_torch() -> None:
    """A page alone wants it, for the images."""
    program = "import sys, leanvit.app.report; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
