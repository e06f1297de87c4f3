"""The program that evaluates a finished run again: its choices, what it prints, where it writes."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from fake_runs import CLASSES, write_fake_run
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from scripts import ROOT
from torch import nn

import assemble
from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation import evaluate
from leanvit.evaluation.predict import Trained

program = importlib.import_module("eval")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Standard output and standard error of the program, run in this process with a net that sees
    brightness."""
    images = torch.arange(90, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    data = ImageSet(images, torch.arange(90) % 3, tuple(CLASSES))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    trained = Trained(net, torch.zeros(3), torch.ones(3), tuple(CLASSES), 2, bfloat16=False)
    monkeypatch.setattr(assemble, "load_run", lambda *given: trained)
    monkeypatch.setattr(assemble, "load_config", lambda run_dir: None)
    monkeypatch.setattr(program, "images", lambda *given: ({"val": data, "test": data}, "nothing"))
    monkeypatch.setattr(evaluate, "_draw", lambda *given: None)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and so it is again at the end

    def told(*arguments: str) -> tuple[str, str]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("eval", list(arguments), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        program.evaluate_runs(config)
        return capsys.readouterr()

    return told


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    run_dir = write_fake_run(tmp_path / "run", loss="ce", val_wrong=[0], train_counts=(500, 50, 5))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["training"]["precision"] = "32-true"
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    return run_dir


def test_everything_is_shown(told, finished: Path) -> None:
    out, err = told(f"run={finished}", "device=cpu")
    assert err == ""
    for words in ("balanced accuracy", "few-shot recall", "after temperature scaling",
                  "negative log-likelihood", "temperature, from validation",
                  "test precision", "star", "eval/again/metrics.json"):  # fmt: skip
        assert words in out, words
    assert "adjusted" not in out


def test_the_adjusted_results_stand_beside(told, finished: Path) -> None:
    before = (finished / "metrics.json").read_bytes()
    for given, name in [("0.5", "again-tau0.5"), ("1", "again-tau1.0"), ("val", "again-tauval")]:
        out, err = told(f"run={finished}", "device=cpu", f"logit_adjust={given}")
        assert "logits adjusted" in out and err == ""
        metrics = json.loads((finished / "eval" / name / "metrics.json").read_text())
        assert metrics["overrides"]["logit_adjust"] == (given if given == "val" else float(given))
        assert metrics["choices_hash"].endswith(name.removeprefix("again"))
        assert 0 <= metrics["logit_adjust"]["tau"] <= 2
    assert (finished / "metrics.json").read_bytes() == before


def test_correcting_twice_is_said(told, finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    metrics["choices"] |= {"sampler": "balanced", "loss@late.loss": "ldam", "mix@late.mix": "none"}
    (finished / "metrics.json").write_text(json.dumps(metrics))
    _, err = told(f"run={finished}", "device=cpu", "logit_adjust=1.0")
    assert "was trained with sampler=balanced, loss@late.loss=ldam: where that" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", ["-1", "nan", "yes", "true"])
def test_what_is_no_strength_is_one_line(told, finished: Path, given: str) -> None:
    with pytest.raises(LeanvitError, match=r"logit_adjust=.* must be a number from 0") as error:
        told(f"run={finished}", f"logit_adjust={given}")
    assert "\n" not in str(error.value)
    assert not (finished / "eval").exists()
