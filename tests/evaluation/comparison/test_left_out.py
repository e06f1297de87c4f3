"""A damaged run is named and left out; the others are compared."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_runs import write_failed_run, write_fake_run
from scripts import call

from leanvit.app.finished import Run
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.left_out import damage, read_error, sort_out
from leanvit.evaluation.comparison.runs import (
    ALSO,
    FIELDS,
    find_all,
    read_config,
    read_run,
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    """One bit in the middle, as a bad disk does."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def without_test(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test": None}))


def another_digit(path: Path) -> None:
    text = path.read_text().replace('"balanced_accuracy": 1.0', '"balanced_accuracy": 1.4', 1)
    assert text != path.read_text()
    path.write_text(text)


def other_kinds(path: Path) -> Iterator[str]:
    """Makes one figure after the other of a metrics.json something else, and names it."""
    whole = json.loads(path.read_text())
    for field in whole:
        for value in (None, "<b>", [["a"]], {"a": 1}):
            if type(value) is not type(whole[field]):
                path.write_text(json.dumps(whole | {field: value}))
                yield field


def one_image_less(path: Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{name: values[1:] for name, values in arrays.items()})


def fewer(path: Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["test_labels"]
    np.savez(path, **arrays)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("metrics.json", lambda path: path.write_text("")),
    ("metrics.json", lambda path: path.write_text("[]")),
    ("metrics.json", lambda path: path.write_bytes(b"\0" * 999)),
    ("metrics.json", lambda path: path.write_bytes(b"\xff\xfe{")),
    ("metrics.json", without_test),
    ("metrics.json", cut),
    ("metrics.json", another_digit),
    ("predictions.npz", cut),
    ("predictions.npz", flip),
    ("predictions.npz", fewer),
    ("predictions.npz", one_image_less),
    ("predictions.npz", lambda path: path.write_bytes(b"")),
    ("predictions.npz", lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 99)),
    ("predictions.npz", lambda path: path.unlink()),
    ("predictions.npz", pipe),
    ("metrics.json", pipe),
    ("metrics.json", lambda path: path.write_text("[" * 10**5 + "]" * 10**5)),
    ("config.yaml", pipe),
    ("config.yaml", lambda path: path.write_bytes(b"\0" * 99)),
    ("config.yaml", lambda path: path.write_text("- 1\n- 2\n")),
    ("config.yaml", lambda path: path.write_text("a: [")),
    ("config.yaml", lambda path: path.write_text("")),
    ("history.csv", lambda path: path.write_bytes(b"\0" * 99)),
    ("history.csv", lambda path: path.write_text("epoch,seconds\none,two\n")),
]


@pytest.mark.parametrize(("name", "spoil"), DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_run_is_told_from_a_whole_one(
    name: str, spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    whole, other = (write_fake_run(tmp_path / loss, loss=loss) for loss in ("ce", "focal"))
    spoil(other / name)
    assert sort_out([whole, other]) == ([whole], [other])
    line = damage(other)
    assert line and line == read_error(other) and str(other) in line and "\n" not in line
    assert ("again" in line or "same command" in line) and damage(whole) is None


def test_figures_of_another_kind_are_damage_to_whoever_reads_them(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run")
    for field in other_kinds(run / "metrics.json"):
        if field not in {*FIELDS, *ALSO}:
            continue
        for read in (read_run, lambda path: Run(path).told):
            with pytest.raises(LeanvitError, match=f"json is damaged .its {field} is"):
                read(run)


def test_the_report_shows_the_rest(tmp_path: Path) -> None:
    for loss in ("ce", "focal", "poly"):
        write_fake_run(tmp_path / loss, loss=loss)
    write_failed_run(tmp_path / "ldam", "no space left")
    (tmp_path / "vs").mkdir()
    (tmp_path / "vs" / "error.txt").touch()  # the disk was full
    (tmp_path / "focal" / "metrics.json").write_text("")
    cut(tmp_path / "poly" / "predictions.npz")
    for more in ([], ["published=true"], [f"against={tmp_path}/ce"]):
        done = call("report.py", f"run={tmp_path}", f"output={tmp_path}/out", *more, COLUMNS="999")
        assert done.returncode == 0, done.stderr
        said = done.stdout + done.stderr
        for loss, why in [("focal", "metrics.json is damaged"), ("poly", "npz cannot be read"),
                          ("ldam", "no space left"), ("vs", "was the disk full?")]:  # fmt: skip
            (line,) = [line for line in said.splitlines() if f"failed: {tmp_path}/{loss}" in line]
            assert why in line


def test_a_failed_job_of_a_grid_is_listed_once_and_not_when_it_was_finished(tmp_path: Path) -> None:
    """By its run, where it began one; how to be rid of the line is said, and works."""
    failed = write_failed_run(tmp_path / "shapes" / "ldam", "no space left")
    finished = write_fake_run(tmp_path / "shapes" / "ce")
    runs = failed, finished, tmp_path / "shapes" / "deleted", tmp_path / "grids" / "a" / "3"
    for grid in "ab":
        for number, run in enumerate(runs):
            job = write_failed_run(tmp_path / "grids" / grid / str(number), "out of memory")
            (job / "job.json").write_text(json.dumps({"run": str(run), "error": "no space left"}))
    assert find_all(tmp_path) == ([finished], [runs[3], failed], [])
    assert find_all(tmp_path / "grids") == ([], [runs[3], failed], [])
    for asked in (tmp_path, tmp_path / "grids" / "a"):
        out = call("report.py", f"run={asked}", f"output={tmp_path}/out", COLUMNS="999").stdout
        assert out.count("failed:") == 2 and f"failed: {failed}: no space left" in out
        assert "best by validation: 1" in out and out.count("without their folders") == 1
    shutil.rmtree(failed)
    shutil.rmtree(tmp_path / "grids" / "a")
    assert "failed:" not in call("report.py", f"run={tmp_path}", f"output={tmp_path}/out").stdout


def test_runs_behind_links_are_found_once(tmp_path: Path) -> None:
    """As of a folder of outputs that lies on another disk; also where links lead round."""
    write_fake_run(tmp_path / "disk" / "cifar10" / "ce")
    write_failed_run(tmp_path / "disk" / "cifar10" / "ldam")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for name, place in (("cifar10", "disk/cifar10"), ("again", "disk/cifar10"), ("up", "outputs")):
        (outputs / name).symlink_to(tmp_path / place)
    (run,), (failed,), _ = find_all(outputs)
    assert run.samefile(tmp_path / "disk/cifar10/ce") and failed.name == "ldam"


def test_a_config_is_what_its_parts_are(tmp_path: Path) -> None:
    """Also where they do not stand for themselves."""
    for text in (
        "seed: 1\nmodel:\n  dim: 3\nclasses:\n- a\n- 'b: c'\nx: {}\n",
        'a: "one\n  two"\nb: |\n  c: d\n\n  e\nf: g\n',
        "a: &x [1]\nb: *x\nc: 1\n",
        "{a: 1,\nb: 2}\n",
        "# no value\na: 1\na: 2\n",
        "? a\n: 1\nb: 2\n",
        "---\na: 1\n",
    ):
        (tmp_path / "config.yaml").write_text(text)
        assert read_config(tmp_path) == yaml.safe_load(text), text
