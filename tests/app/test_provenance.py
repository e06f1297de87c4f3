"""What a result was made with is told by the same keys, whatever made it."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from scripts import TINY_DATA, TINY_VIT, call

from leanvit.app import provenance as module
from leanvit.app.names import CONF
from leanvit.app.provenance import PACKAGES, command_line, provenance, versions

pytestmark = pytest.mark.xdist_group("trained")
KEYS = {"name", "choices", "overrides", "choices_hash", "seed", "versions", "git_commit", "machine",
        "command"}  # fmt: skip


@pytest.fixture
def told(vit_run: Path, tmp_path: Path, undrawn: None) -> dict[str, dict]:
    """What a training, a pretraining, a compression and an evaluation tell."""
    run = shutil.copytree(vit_run, tmp_path / "shapes" / vit_run.name)
    place = ["trainer=cpu", f"outputs={tmp_path}"]
    small = [*TINY_DATA, *TINY_VIT, "data.image_size=16", "pretrain.decoder_dim=16", "max_epochs=1"]
    tiny = ["method=prune", "method.epochs=0", "method.steps=1", "method.multiple=1",
            "method.importance=magnitude", "method.macs=0.9"]  # fmt: skip
    for script, arguments in {
        "pretrain.py": [*small, *place],
        "compress.py": [f"run={run}", *tiny, *place],
        "eval.py": [f"run={run}", "device=cpu"],
    }.items():
        done = call(script, *arguments)
        assert done.returncode == 0, done.stderr
    (pretraining,) = tmp_path.glob("shapes/*/pretraining.json")
    (compressed,) = tmp_path.glob("shapes/*-prune-*/metrics.json")
    files = {"train": run / "metrics.json", "pretrain": pretraining, "compress": compressed,
             "eval": run / "eval" / "again" / "metrics.json"}  # fmt: skip
    return {command: json.loads(path.read_text()) for command, path in files.items()}


def test_every_command_tells_the_same_keys(told: dict[str, dict]) -> None:
    keywords = set(inspect.signature(provenance).parameters)
    assert keywords - {"command", "words"} <= KEYS
    for command, about in told.items():
        assert about.keys() >= KEYS, (command, KEYS - about.keys())
        assert about["versions"].keys() == {"python", *PACKAGES}
        assert about["machine"]["cores"] >= 1 and about["machine"]["cpu"]
        assert about["command"].startswith(f"python src/{command}.py ")
        assert about["choices"]["model"] == "vit" and about["choices"]["data"] == "shapes"
        assert about["overrides"]["model.dim"] == 24 and about["seed"] == 0
        assert len(about["choices_hash"]) >= 8
        assert set(about["training"]) >= {"seconds", "images_per_second", "epochs", "best_epoch",
                                          "device", "precision", "pflop"}  # fmt: skip
    train, again = told["train"], told["eval"]
    assert again["choices"] == train["choices"] and again["name"] == train["name"]
    assert told["compress"]["choices"] == train["choices"] | {"method": "prune"}
    assert told["compress"]["choices_hash"].startswith(train["choices_hash"])
    # what was computed is counted through all stages
    pruned = told["compress"]["training"]
    images = train["training"]["images_per_second"] * train["training"]["seconds"]
    expected = 6 * train["cost"]["macs"] * images / 1e15
    assert train["training"]["pflop"] == pytest.approx(expected)
    assert train["training"]["pflop_before"] == 0 and told["eval"]["training"] == train["training"]
    assert pruned["pflop_before"] == train["training"]["pflop"]
    assert told["pretrain"]["training"]["pflop"] > 0


def test_a_checkout_that_is_on_pythons_path_alone_costs_no_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("leanvit that nobody installed", "torch"))
    assert set(versions()) == {"python", "torch"}


def test_the_command_of_a_run_of_a_sweep_makes_that_run_alone() -> None:
    words = ["sweep=random", "loss=ce", "seed=1"]
    line = command_line("train", words)
    assert line == "python src/train.py sweep=random loss=ce seed=1 hydra.mode=RUN"
    assert command_line("train", [*words, "hydra.mode=RUN"]) == line
    assert command_line("train", words[1:]) == "python src/train.py loss=ce seed=1"
    with initialize_config_dir(str(CONF)):
        modes = [compose("train", given, return_hydra_config=True).hydra.mode
                 for given in (words, line.split()[2:])]  # fmt: skip
    assert modes == [RunMode.MULTIRUN, RunMode.RUN]
