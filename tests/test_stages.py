"""What a second stage takes over, and which runs it must not mistake for one another."""

import json
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from scripts import ROOT

import command_line
import naming
import stages
from leanvit.errors import LeanvitError


def config_of(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def first_stage(folder: Path, seed: int = 0) -> Path:
    """What of a finished run a second stage reads before its weights."""
    run_dir = folder / f"coatnet-ce-shuffle-{seed}"
    run_dir.mkdir()
    config = config_of("data=shapes", "model=coatnet", "model.drop_path_rate=0.3", f"seed={seed}")
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    kept = OmegaConf.create(OmegaConf.to_container(own, resolve=True))
    OmegaConf.save(kept, run_dir / "config.yaml")
    told = {"choices_hash": "same", "seed": seed, "overrides": {"model.drop_path_rate": 0.3}}
    (run_dir / "metrics.json").write_text(json.dumps(told))
    return run_dir


def name_of(*overrides: str) -> str:
    return naming.run_name(_root_=config_of(*overrides))


def test_a_value_that_is_the_default_is_another_run_than_the_kept_one(tmp_path: Path) -> None:
    first = f"pretrained={first_stage(tmp_path)}"
    choices = [
        [],
        ["model.drop_path_rate=0.1"],
        ["split_seed=0"],
        ["val_fraction=0.1"],
        ["data.image_size=32"],
    ]
    names = [name_of(first, *each) for each in choices]
    assert len(set(names)) == len(names)
    assert all(name.startswith("shapes/coatnet-ce-shuffle-") for name in names)


def test_first_stages_of_several_seeds_are_not_taken_for_one_run(tmp_path: Path) -> None:
    runs = [first_stage(tmp_path, seed) for seed in (0, 1)]

    def row(first: Path, seed: int) -> str:
        config = config_of(f"pretrained={first}", f"seed={seed}")
        return naming.choices_hash(config, without_seed=True)

    assert row(runs[0], 0) == row(runs[1], 1)  # each seed upon its own first stage: one row
    assert row(runs[0], 0) != row(runs[1], 0)


def test_images_that_the_first_stage_saw_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    kept = OmegaConf.load(first_stage(tmp_path) / "config.yaml")
    assert isinstance(kept, DictConfig)
    same = config_of("pretrained=first", "data=shapes")
    stages.look_for_seen_images(same, kept, "pretrained=first")
    assert capsys.readouterr().err == ""
    changes = {
        "data.imbalance=exp:3": "data.imbalance",
        "val_fraction=0.2": "val_fraction",
        "data=course": "data",
    }
    for change, word in changes.items():
        changed = config_of("pretrained=first", "data=shapes", change)
        stages.look_for_seen_images(changed, kept, "pretrained=first")
        assert f"other choices of {word}" in capsys.readouterr().err
        OmegaConf.update(changed, "classifier", {"_target_": "any"}, force_add=True)
        with pytest.raises(LeanvitError, match="validation images must stay unseen"):
            stages.look_for_seen_images(changed, kept, "pretrained=first")


def test_single_values_of_a_net_that_is_taken_over_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = f"pretrained={first_stage(tmp_path)}"
    given = [first, "model.transformer_dim_head=16", "data.num_train=200"]
    monkeypatch.setattr(naming, "IMPLIED", [])
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *given])
    command_line.imply_choices()
    assert sys.argv == ["train.py", "-m", "model=coatnet", "data=shapes", *given]
    assert naming.own_overrides(sys.argv[2:]) == given
    assert name_of(*sys.argv[2:]) != name_of(first)
    for part in ("model=vit", "data=folder"):  # what is said goes before
        monkeypatch.setattr(naming, "IMPLIED", [])
        monkeypatch.setattr(sys, "argv", ["train.py", first, part])
        command_line.imply_choices()
        assert part in sys.argv and len(naming.IMPLIED) == 1
