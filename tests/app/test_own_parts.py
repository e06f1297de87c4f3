"""Parts that a user keeps in a folder of his own."""

import json
import os
from pathlib import Path

import pytest
from own_parts import write_own_net
from scripts import TINY_DATA, call, only_run

from leanvit import load
from leanvit.app import parts
from leanvit.app.build import target
from leanvit.errors import LeanvitError


def test_a_net_of_ones_own(tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, evaluated and loaded by whoever names its folder, and by nobody else."""
    conf = write_own_net(tmp_path / "my_parts")
    monkeypatch.syspath_prepend(tmp_path / "my_parts")
    paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(tmp_path / "my_parts")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    own, outputs = f"--config-dir={conf}", f"outputs={tmp_path}/out"
    words = [*TINY_DATA, "model=mynet", "max_epochs=1", "mix=none", "trainer=cpu", outputs]
    done = call("train.py", own, *words)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "out")
    assert run.name.startswith("mynet-ce-") and "lr: 0.001\n" in (run / "config.yaml").read_text()
    told = json.loads((run / "metrics.json").read_text())["command"]
    assert f"python src/train.py --config-dir={conf} data=shapes" in told
    assert told.startswith("PYTHONPATH=") and f"{tmp_path}/my_parts" in told.partition(" ")[0]
    again = ["max_epochs=2", "trainer=cpu", outputs, f"pretrained={run}"]
    done = call("train.py", "-m", own, *again, "seed=0,1")
    assert done.returncode == 0 and f"src/train.py --config-dir={conf} seed=" in done.stdout
    told = call("train.py", "--config-dir", str(conf), "model=mynet", "--help").stdout
    assert "model=mynet" in told and "model.width=4" in told
    assert call("eval.py", own, f"run={run}", "device=cpu").returncode == 0
    assert call("report.py", f"run={run}").returncode == 0  # runs no net
    refused = call("eval.py", f"run={run}", "device=cpu")
    assert refused.returncode == 1
    assert "model._target_=mynet.MyNet is no class that a file of conf/ names" in refused.stderr
    nowhere = call("eval.py", f"--config-dir={tmp_path}/nowhere", f"run={run}")
    assert "nowhere is no folder" in nowhere.stderr
    monkeypatch.setenv(parts.OWN, str(conf))
    assert type(load(run).net).__name__ == "MyNet"
    for path in ("mynet.nn.Linear", "os.getcwd"):  # the folder names one class of that module
        with pytest.raises(LeanvitError, match="none of leanvit's own parts"):
            target(path)
