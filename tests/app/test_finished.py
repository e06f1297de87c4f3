"""What is read of a run directory: its config, or one line that says what is wrong with it."""

import shutil
from pathlib import Path

import pytest
from scripts import TINY_DATA, TINY_VIT, call

from leanvit.app import words
from leanvit.app.finished import Run
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
    "no mapping": b"seed: 0\nclasses: [a, b]\nmodel: 3\ndata: {_target_: x, image_size: 32}\n",
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
