"""A run directory that somebody hands you is data: reading it runs nothing."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from scripts import ROOT, call

from leanvit import load
from leanvit.app.finished import Run
from leanvit.app.parts import classes_of
from leanvit.errors import LeanvitError

pytestmark = pytest.mark.xdist_group("trained")  # one fixture for all

COMMANDS = [
    ("eval.py", "run={run}", "device=cpu"),
    ("train.py", "pretrained={run}", "max_epochs=1", "trainer=cpu", "outputs={run}/out"),
    ("train.py", "data=shapes", "lightweight=distill", "lightweight.teacher={run}", "max_epochs=1",
     "data.num_train=400", "data.num_test=50", "trainer=cpu", "outputs={run}/out"),
    ("compress.py", "run={run}", "method=export", "trainer=cpu"),
    ("benchmark.py", "run={run}", "device=cpu", "output={run}/out"),
    ("visualize.py", "run={run}", "device=cpu"),
    ("predict.py", "run={run}", "images={run}/config.yaml", "device=cpu"),
]  # fmt: skip
PROOF = "proof"


class Payload:
    """What makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (PROOF,)


@pytest.fixture
def handed(vit_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(vit_run, tmp_path / vit_run.name)


def refused(handed: Path, command: Sequence[str]) -> str:
    done = call(*(word.format(run=handed) for word in command), cwd=handed.parent)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert not (handed.parent / PROOF).exists()
    return done.stderr.splitlines()[-1]


def test_a_payload_among_the_weights(handed: Path, undrawn: None) -> None:
    best = handed / "checkpoints" / "best.ckpt"
    torch.save({**torch.load(best), "callbacks": Payload()}, best)
    for command in COMMANDS:
        assert "best.ckpt is damaged or no checkpoint" in refused(handed, command)
    with pytest.raises(LeanvitError, match="damaged or no checkpoint"):
        load(str(handed))
    assert not Path(PROOF).exists()


CALL: dict[str, Any] = {"_target_": "os.mkdir", "path": PROOF}
HOSTILE = [
    ("model", CALL),
    ("model.dim", CALL),
    ("model.readout", [{"deeper": CALL}]),
    ("data.source", CALL),
    ("late.loss", CALL),
    ("late.anything.loss", {"_target_": "leanvit.losses.ce.CrossEntropy"}),
    ("lightweight", {"_target_": "leanvit.lightweight.tome.ToMe", "_partial_": True, "r": CALL}),
    ("trainer._target_", "os.getcwd"),
    ("_target_", "os.getcwd"),
    ("model._target_", {"_target_": "os.getcwd"}),
    # leanvit's own, but not of that place: the first writes a file
    ("model", {"_target_": "leanvit.files.write_json", "value": 1, "path": PROOF}),
    ("model._target_", "leanvit.losses.ce.CrossEntropy"),
    ("model._target_", "leanvit.app.grid.Comparison"),
    ("data.data_dir", "${oc.env:HOME}"),
    ("model.dim", "${oc.decode:'{_target_: os.mkdir, path: proof}'}"),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_a_call_in_the_config(handed: Path, key: str, value: object) -> None:
    config = OmegaConf.load(handed / "config.yaml")
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    OmegaConf.save(config, handed / "config.yaml")
    with pytest.raises(LeanvitError, match=r"config\.yaml: ") as caught:
        load(str(handed))
    assert "\n" not in str(caught.value) and not Path(PROOF).exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_command_calls_it(handed: Path, command: Sequence[str], undrawn: None) -> None:
    config = OmegaConf.load(handed / "config.yaml")
    config.model.dim = CALL
    OmegaConf.save(config, handed / "config.yaml")
    assert "model.dim._target_=os.mkdir is no class that" in refused(handed, command)


def test_every_choice_may_be_kept() -> None:
    for path in (ROOT / "conf").glob("*/*.yaml"):
        chosen = OmegaConf.to_container(OmegaConf.load(path))
        inner = chosen.get(path.parent.name) or chosen
        if "_target_" in inner:
            assert inner["_target_"] in classes_of(path.parent.name), path
    assert not classes_of("../conf/model") and not classes_of("")


def test_the_run_itself_is_read(handed: Path) -> None:
    assert Run(handed).config.model.dim == 24
    assert load(str(handed)).net.training is False
