"""The command that tells what nets cost: its choices, its errors, and the published tables."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composed import config_of
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from jaxtyping import config
from rich.console import Console
from scripts import ROOT, TINY_COATNET, TINY_VIT, call

from leanvit.app import complexity
from leanvit.evaluation.cost import speed
from leanvit.evaluation.cost.cost_table import Net, print_nets

WIDTH = 80


def told(*arguments: str, cwd: Path = ROOT) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    done = call("complexity.py", *arguments, cwd=cwd, COLUMNS=str(WIDTH))
    return done.returncode, done.stdout, done.stderr


def as_json(*arguments: str) -> list[dict[str, Any]]:
    status, out, err = told("format=json", "measure=false", *arguments)
    assert (status, err) == (0, "")
    return json.loads(out)


def test_several_nets_for_programs_with_one_that_cannot_be(tmp_path: Path) -> None:
    """One that fails leaves a hole that is named; nothing is left behind."""
    asked = ["format=json", "measure=false", "model=vit,coatnet", "model.num_classes=7", "-m"]
    asked += ["data=shapes", "data.image_size=16,18", f"outputs={tmp_path}/outputs"]
    status, out, err = told(*asked, cwd=tmp_path)
    assert status == 1
    first, second, third, fourth = json.loads(out)
    assert first["name"] == "vit data.image_size=16" and first["error"] is None
    assert (first["image_size"], first["num_classes"]) == (16, 7)
    assert sum(part["macs"] for part in first["cost"]["parts"]) == first["cost"]["macs"]
    assert third["name"] == "coatnet data.image_size=16" and third["cost"]["params"] > 8e6
    for failed, reason in ((second, "patch_size 4"), (fourth, "image_size 18")):
        assert failed["cost"] is None and reason in failed["error"]
    lines = err.splitlines()
    assert len(lines) == 2 and all("data.image_size=18" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_net_is_measured_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "NUM_TIMED", 1)
    monkeypatch.setattr(speed, "LARGEST_BATCH", 2)
    monkeypatch.setattr(complexity, "device_name", lambda device: f"a {device.type} of 3 GHz")
    status, out, err = told(*TINY_VIT, "trainer=cpu", "trainer.precision=bf16-mixed")
    assert (status, err) == (0, "")
    assert "a cpu of 3 GHz, in bfloat16" in out and "10 classes" in out
    for heading in ("latency", "images", "memory", "blocks.0", "position_embedding"):
        assert heading in out
    assert all(len(line) <= WIDTH for line in out.splitlines())


def test_nets_are_named_by_what_sets_them_apart() -> None:
    nets = as_json("model=coatnet", *TINY_COATNET[1:], "model.attention=sdpa,math")
    assert [net["name"] for net in nets] == [
        "coatnet model.attention=sdpa",
        "coatnet model.attention=math",
    ]
    assert nets[0]["cost"] == nets[1]["cost"]
    (net,) = as_json()
    assert net["name"] == config_of().hydra.runtime.choices.model and net["measured"] is None
    nets = as_json("experiment=vit_v1.1,coatnet_v0.4")
    assert [net["name"] for net in nets] == ["vit_v1.1", "coatnet_v0.4"]
    nets = as_json(*TINY_VIT, "model.depth=range(1,4)")
    params = [net["cost"]["params"] for net in nets]
    assert params[2] - params[1] == params[1] - params[0] > 0
    nets = as_json(*TINY_VIT, "loss=glob(*ce)")
    losses = "balanced_bce", "ce", "weighted_ce"
    assert [net["name"] for net in nets] == [f"vit loss={loss}" for loss in losses]


def test_parts_of_several_nets_are_shown_when_asked_for() -> None:
    arguments = (*TINY_VIT, "model.depth=1,2", "measure=false")
    assert "blocks.0" not in told(*arguments)[1]
    assert told(*arguments, "parts=true")[1].count("blocks.0") == 2


def test_pretrained_nets_need_no_weights() -> None:
    (net,) = as_json("model=vit_b_16", "model.finetune=head")
    assert net["image_size"] == 32 and net["cost"]["macs"] > 16e9  # at 224 pixels
    assert net["cost"]["trainable_params"] < 1e5 < net["cost"]["params"]


def test_what_fails_stands_below_the_table() -> None:
    status, out, _ = told("model=vit,nosuch", "measure=false")
    assert status == 1
    lines = out.splitlines()
    assert lines[-1].startswith("failed: model=nosuch: there is no model=nosuch: choose from")
    assert any(line.startswith("vit ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["model=vit", "model.patch_size=5"], 1, "patch_size 5"),
        (["model=nosuch"], 2, "there is no model=nosuch"),
        (["model=vit", "model.depht=3"], 2, "did you mean depth"),
        (["format=xml"], 1, "format=xml must be 'table' or 'json'"),
        (["measure=true,false"], 2, "measure=true,false gives several values"),
        (["--cfg"], 2, "there is no flag --cfg"),
        (["published=true", "model=vit"], 2, "leave out model=vit"),
        (["model=vit", "model.depth="], 1, ""),
        (["seed=interval(0,1)"], 2, "INTERVAL"),
    ],
)
def test_one_wrong_choice_is_one_line(arguments: list[str], status: int, words: str) -> None:
    code, out, err = told(*arguments)
    assert (code, out) == (status, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


@pytest.fixture(scope="module")
def published() -> Iterator[list[Net]]:
    GlobalHydra.instance().clear()
    config.update("jaxtyping_disable", True)  # signatures are checked of smaller nets
    try:
        with initialize_config_dir(str(ROOT / "conf")):
            yield complexity.examine_all(complexity.published_jobs([]), measuring=False)
    finally:
        config.update("jaxtyping_disable", False)


@pytest.mark.xdist_group("published")
def test_two_published_figures_are_wrong(published: list[Net]) -> None:
    rows = {net.name: net.published for net in published}
    assert len(published) == 27 and all(net.cost for net in published)
    differ = [name for name, row in rows.items() if not row.params_agree]
    assert differ == ["coatnet_v0.1", "dynamic_vit", "early_exit_vit"]  # vit_v1.4's stand there
    differ = [name for name, row in rows.items() if not row.macs_agree]
    assert differ == ["coatnet_v0.1", "early_exit_vit"]  # an average over images stands there


@pytest.mark.xdist_group("published")
def test_the_published_table_can_be_read(published: list[Net]) -> None:
    file = io.StringIO()
    print_nets(published, parts=False, console=Console(file=file, width=WIDTH))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    rows = {line.split()[0]: line.split() for line in lines if line}
    figures = ["85.65", "49.26", "3.20", "49.26", "3.200", "49.30", "3.251", "1.7"]
    assert rows["vit_v1.4"][1:] == figures
    assert rows["coatnet_v0.1"][1:7] == ["87.63", "8.85", "0.10", "10.42", "0.126", "both"]
    assert sum(" both " in line for line in lines) == 2
    assert "…" not in file.getvalue()
    text = " ".join(file.getvalue().split())
    assert "published params and MACs are those of depths [2,2,2,2]" in text


def test_what_lightens_a_net_is_counted() -> None:
    nets = as_json("model=vit", "lightweight=none,tome,distill,deit_lt")
    plain, tome, distill, deit_lt = (net["cost"]["macs"] for net in nets)
    assert tome < 0.6 * plain and distill == plain < deit_lt < 1.05 * plain
