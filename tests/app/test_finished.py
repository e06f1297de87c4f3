"""What is read of a run directory: its config, or one line that says what is wrong with it."""

import shutil
from pathlib import Path

import pytest
from composed import leave_first_stage, request_of
from omegaconf import OmegaConf
from scripts import ROOT, TINY_DATA, TINY_VIT, call

from leanvit.app import words
from leanvit.app.finished import Run, find, outputs_beside, outputs_of
from leanvit.app.jobs import keep_config
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_run

# as in the fixture of conftest.py
ASKED = [*TINY_DATA, *TINY_VIT, "model.depth=2", "max_epochs=1", "mix=none", "trainer=cpu",
         "batch_size=64"]  # fmt: skip
BROKEN = {
    "zeros": b"\0" * 500,
    "a list": b"- 1\n- 2\n",
    "nothing": b"",
    "a word": b"yes\n",
    "no text": b"\xff\xfe\x00",
    "half": b"model:\n  _target_: leanvit.models.vit.ViT\ndata: {_tar",
    "without a net": b"seed: 0\nclasses: [a, b]\ndata: {_target_: x, image_size: 32}\n",
    "a number of classes": b"seed: 0\nclasses: 3\nmodel: {_target_: x}\ndata: {_target_: y}\n",
    "aliases of aliases": b"seed: 0\na: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "a seed of letters": b"seed: x\nclasses: [a, b]\nmodel: {_target_: x}\n"
    b"data: {_target_: y, image_size: 32}\n",
    "no mapping": b"seed: 0\nclasses: [a, b]\nmodel: 3\ndata: {_target_: x, image_size: 32}\n",
    "no names": b"seed: 0\nclasses: [1, 2]\nmodel: {_target_: x}\ndata: {_target_: y}\n",
    "a list of choices": b"seed: 0\nclasses: [a]\nmodel: {_target_: x}\ndata: {_target_: y}\n"
    b"choices: [vit]\n",
}


@pytest.mark.parametrize("contents", BROKEN.values(), ids=BROKEN)
def test_a_damaged_config_is_one_line(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(contents)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(LeanvitError) as caught:
        _ = Run(tmp_path).config
    line = words.explain(caught.value)
    assert f"{tmp_path}/config.yaml" in line and "train again" in line and "\n" not in line
    for script, key in [("eval.py", "run"), ("compress.py", "run"), ("visualize.py", "run"),
                        ("benchmark.py", "run"), ("train.py", "pretrained")]:  # fmt: skip
        done = call(script, f"{key}={tmp_path}")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr, done.stderr


def test_a_value_that_a_kept_config_lacks_is_named(vit_run: Path) -> None:
    config = Run(vit_run).config
    with pytest.raises(Exception) as caught:
        _ = config.no_such_value
    line = words.explain(caught.value)
    assert "no no_such_value" in line and "another version: train again" in line


def test_a_value_that_no_net_has_today_is_told_of_the_run(vit_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vit_run, tmp_path / "run"))
    kept = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(kept.replace("model:\n", "model:\n  registers: 4\n"))
    done = call("eval.py", f"run={run}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{run}/config.yaml is damaged, or of another version" in done.stderr
    assert "model.registers" in done.stderr and done.stderr.endswith("train again\n")


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz", "config.yaml", "history.csv"])
def test_what_is_damaged_is_made_again(name: str, vit_run: Path, tmp_path: Path, undrawn) -> None:
    """By the command that is told to "train again": from its weights, to the same figures."""
    run = tmp_path / "shapes" / vit_run.name
    shutil.copytree(vit_run, run)
    (run / name).write_bytes(b"")
    again = call("train.py", *ASKED, f"outputs={tmp_path}")
    assert again.returncode == 0, again.stderr
    assert name in again.stderr.splitlines()[0] and "it is made again" in again.stderr
    assert read_run(run)["test"] == read_run(vit_run)["test"]
    assert "is finished" in call("train.py", *ASKED, f"outputs={tmp_path}").stderr


def test_what_is_made_of_a_run_lies_beside_it(tmp_path: Path) -> None:
    """Also its grid; a run that was handed on alone has no folder of a data set around it."""
    run = leave_first_stage(tmp_path / "o", "model=vit")
    alone = tmp_path / "handed"
    shutil.copytree(run, alone)
    assert outputs_of(Run(run)) == tmp_path / "o" and outputs_of(Run(alone)) == tmp_path
    made = request_of(f"run={run}", "method=prune", command="compress").run_dir
    assert made.parent == run.parent and made.name.startswith("vit-ce-shuffle-prune-")
    made = request_of(f"run={alone}", "method=prune", command="compress").run_dir
    assert made.parent == tmp_path and made.name.startswith("handed-prune-")
    given = ["method=prune", f"outputs={tmp_path}/b"]
    told = request_of(f"run={run}", *given, command="compress").run_dir
    assert told.parent == tmp_path / "b" / "shapes"
    for asked in ([f"run={run},/nope"], [f'run="{run}"'], [f"run='{run}',x", "method=prune"]):
        assert outputs_beside(None, asked) == str(tmp_path / "o")
    assert outputs_beside(None, ["run=/nope"]) == outputs_beside(None, []) == str(ROOT / "outputs")
    assert outputs_beside("/x", [f"run={run}"]) == "/x"


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(LeanvitError, match=r"no run directory .*notes: python src/report.py"):
        find(f"{tmp_path}/notes")


def test_an_empty_name_is_no_run() -> None:
    """Of the shell's variable that is not set, which would mean this folder."""
    for command, key in [("compress", "run"), ("train", "lightweight=distill lightweight.teacher")]:
        with pytest.raises(LeanvitError, match="empty: give its directory"):
            request_of(*f"{key}=".split(), command=command)


def test_any_name_of_a_folder_is_a_class(tmp_path: Path) -> None:
    """Also what OmegaConf would work out, what YAML reads otherwise, and what ends a line."""
    names = ("${x}", "${x", "\\${oc.env:HOME}", "???", "a\x85b", "\u2028", "b\nc", "\ufeff", "1e3",
             "null", "é 猫", "\udcff", "- a: b", "")  # fmt: skip
    asked = request_of("data=folder", "data.source='/x\u0085y'")
    keep_config(asked.config, asked.choices, tmp_path, names)
    run = Run(tmp_path)
    assert run.classes == names
    assert run.config.data == asked.config.data and run.choices == asked.choices
    with pytest.raises(LeanvitError, match="worked out when read"):
        keep_config(OmegaConf.merge(asked.config, {"outputs": "\\${x}"}), {}, tmp_path, names)
        _ = Run(tmp_path).config
