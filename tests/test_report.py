"""The program that compares finished runs, run in this process."""

import csv
from pathlib import Path

import pytest
from fake_runs import write_failed_run, write_fake_run
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from scripts import ROOT

import report
from leanvit.errors import LeanvitError


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Standard output."""
    monkeypatch.setenv("COLUMNS", "120")

    def told(*arguments: str) -> str:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            report.report(compose("report", list(arguments)))
        return capsys.readouterr().out

    return told


@pytest.fixture
def sides(tmp_path: Path) -> Path:
    for seed in range(3):
        for loss, wrong in (("focal", range(20 + seed)), ("ce", range(30 + 2 * seed))):
            path = tmp_path / loss / f"{loss}{seed}"
            write_fake_run(path, seed=seed, loss=loss, test_wrong=list(wrong))
    write_failed_run(tmp_path / "ce" / "ce3", "no space left")
    return tmp_path


def test_folders_and_single_runs_are_paired(told, sides: Path) -> None:
    given = ",".join(str(sides / "focal" / f"focal{seed}") for seed in range(3))
    out = told(f"run=[{given}]", f"against={sides}/ce", f"output={sides}/out")
    assert "loss=focal against loss=ce" in out and "Test accuracy: better, +12.22 points" in out
    assert "no space left" in out
    assert out.endswith(f"{sides}/out/comparison.md\n")
    assert "Test accuracy: better" in (sides / "out" / "comparison.md").read_text()
    with (sides / "out" / "comparison.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["measure"] == "accuracy"


def test_without_the_other_side_all_are_compared(told, sides: Path) -> None:
    out = told(f"run={sides}", f"output={sides}/out")
    assert "against" not in out and "focal" in out and "no space left" in out


def test_what_cannot_be_paired_is_one_line(told, sides: Path) -> None:
    for arguments, words in [
        ([f"against={sides}/ce"], "run=<runs> against=<runs>"),
        ([f"run={sides}", f"against={sides}/ce"], "several choices, which differ in loss"),
        ([f"run={sides}/ce/ce3", f"against={sides}/ce"], "run= holds no finished run"),
        ([f"run={sides}/ce/ce0", f"against={sides}/focal/focal1"], "paired by seed"),
    ]:
        with pytest.raises(LeanvitError, match=words) as error:
            told(*arguments, f"output={sides}/out")
        assert "\n" not in str(error.value)
    assert not (sides / "out").exists()
