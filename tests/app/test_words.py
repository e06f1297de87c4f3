"""What went wrong, as one line that names the thing and the mend."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from composed import config_of, request_of
from hydra.errors import HydraException
from omegaconf import OmegaConf
from scripts import ROOT

from leanvit.app import request, words
from leanvit.errors import LeanvitError


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=vitt"], ["no model=vitt", "did you mean vit"]),
        (["loss=zzz"], ["no loss=zzz", "ce, class_balanced, focal"]),
        (["model.hedas=4", "model=vit"], ["model.hedas", "did you mean heads"]),
        (["lightweight.r=8"], ["without a lightweight", "lightweight=..."]),
        (["experiment=vit_v1.4444"], ["did you mean vit_v1.4"]),
        (["max_epochs"], ["max_epochs"]),
    ],
    ids=lambda value: value[0],
)
def test_an_unknown_word_is_answered_with_its_neighbours(
    overrides: list[str], expected: list[str]
) -> None:
    with pytest.raises(Exception) as caught:
        config_of(*overrides)
    line = words.explain(caught.value)
    assert "\n" not in line
    for word in expected:
        assert word in line, line


def test_a_choice_that_a_command_lacks() -> None:
    with pytest.raises(Exception) as caught:
        config_of("logger=wandb", command="compress")
    assert words.explain(caught.value) == (
        "there is no choice of logger here: --help tells what there is"
    )


@pytest.mark.parametrize("word", ["mix@late.mix=null", "model=5", "loss=ce,null"])
def test_a_choice_without_a_name_is_named(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "seed=1", word])
    key, value = word.replace("ce,", "").split("=")
    with pytest.raises(Exception) as caught:
        config_of(f"{key}={value}")
    line = words.explain(caught.value)
    assert line.startswith(f"there is no {key}={value}: ") and f"~{key} leaves" in line


def test_names_of_odd_signs_stay_one_line() -> None:
    """Line breaks, what a terminal obeys, what turns the rest round, what is no UTF-8."""
    line = words.explain(LeanvitError("class 'a\nb', '\x1b[31m', '\u202e', '\udcff' of 猫 é 🐶"))
    assert line == r"class 'a\nb', '\x1b[31m', '\u202e', '\udcff' of 猫 é 🐶"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError("x"), RuntimeError("Can't allocate memory: 9 GB")],
)
def test_out_of_memory_says_what_to_lower(error: Exception) -> None:
    assert "batch_size" in words.explain(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left to write to disk: free"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a"), "no space left to write /a: free"),
        (PermissionError(errno.EACCES, "Permission denied", "/b"), "cannot use /b (Permission"),
        (OSError(errno.EROFS, "Read-only file system", "/c"), "cannot use /c (Read-only"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/d"), "cannot use /d (File name"),
        (RuntimeError("unable to allocate shared memory(shm) for file </x>"), "num_workers=0"),
        (RuntimeError("worker is killed: Bus error, out of shared memory."), "/dev/shm"),
    ],
)
def test_what_the_disk_says_has_a_mend(error: Exception, expected: str) -> None:
    line = words.explain(error)
    assert expected in line and "HYDRA_FULL_ERROR" not in line


def test_what_nobody_foresaw_says_where_to_look() -> None:
    line = words.explain(ValueError("two\nlines"))
    assert line == "ValueError: two lines (HYDRA_FULL_ERROR=1 shows where)"


def test_the_cause_is_told_and_not_what_hydra_made_of_it() -> None:
    outer = HydraException("Error instantiating")
    outer.__cause__ = LeanvitError("the mend")
    assert words.explain(outer) == "the mend"


@pytest.mark.parametrize(
    ("error", "status"),
    [(LeanvitError("x"), 1), (HydraException("x"), 2), (KeyboardInterrupt(), 130)],
)
def test_an_error_has_an_exit_status(
    error: BaseException, status: int, capsys: pytest.CaptureFixture
) -> None:
    assert words.say(error) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1


ODD = ["/x/a=b", "/x/it's", "/x/a(1)", "/x/é", "/x/猫", "a#b", "{a}", 'a"b', 'a\\"b', "a=\\",
       "a\\\\=\\\\", "a%b&c@d", "~/a;b", "^!", "'x", " a=b ", "a\\'b="]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_a_path_that_wants_quotes_is_shown_in_them(value: str) -> None:
    """In the form that a shell and Hydra make the path of again."""
    with pytest.raises(Exception) as caught:
        request.parse([f"data.source={value}"])
    line = words.explain(caught.value)
    assert line.startswith(f"data.source= cannot be read: {value} has signs")
    (word,) = shlex.split(line.partition(" want quotes: ")[2])
    assert request.parse([word]) == {"data.source": value}


def test_what_is_no_choice_at_all() -> None:
    for given in ("run", "'outputs=/x'", "=a=b"):
        with pytest.raises(Exception) as caught:
            request.parse([given])
        assert words.explain(caught.value).startswith(f"{given} is no choice: write key=value")


def test_a_value_that_refers_to_nothing_names_its_key() -> None:
    with pytest.raises(Exception) as caught:
        OmegaConf.to_container(config_of("outputs=/x/${5}"), resolve=True)
    assert words.explain(caught.value).startswith("outputs: ")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("~classif", "did you mean classifier"),
        ("~mix@late.mi", "did you mean mix@late.mix"),
        ("~model.dimm", "no choice here has it"),
        ("~loss=focal", "loss= is not focal here, ~loss leaves out whatever it is"),
    ],
)
def test_a_slip_in_what_is_left_out(word: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/train.py", word])
    with pytest.raises(Exception) as caught:
        config_of(word)
    line = words.explain(caught.value)
    assert line.startswith(word) and hint in line and "\n" not in line


def test_a_classifier_that_is_left_out_is_none() -> None:
    assert request_of("~classifier").classifier is None


@pytest.mark.parametrize("value", ["/a/${x}", '"/a/${x}"', "'/a/\\${x}'", '"/a/${x"', "${x:1}"])
def test_a_path_with_what_stands_for_a_value(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is escaped: what a run keeps is plain."""
    for data, key in (("folder", "data.source"), ("shapes", "outputs")):
        word = f"{key}={value}"
        monkeypatch.setattr("sys.argv", ["train.py", "seed=1", word])
        with pytest.raises(Exception) as caught:
            request_of(f"data={data}", word)
        line = words.explain(caught.value)
        assert line.startswith(f"{key}= cannot be {value}: ${{...}} stands for another value")


def test_a_path_that_one_line_cannot_show_is_quoted_for_a_shell() -> None:
    value = "/x\n\u0085y\t'\\n = é\udcff"
    with pytest.raises(Exception) as caught:
        request.parse([f"data.source={value}"])
    shown = words.explain(caught.value).partition(" want quotes: ")[2]
    said = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert request.parse([os.fsdecode(said.stdout)]) == {"data.source": value}


CLOSED = """
import subprocess, sys
from leanvit.app import words

words.speak_any_encoding()
with open(sys.argv[1], "w") as kept:
    print("lost")
    subprocess.run(["sh", "-c", "echo lost; echo lost >&2"], check=True)
    print("kept", file=kept)
"""


def test_what_nobody_can_read_goes_into_no_file(tmp_path: Path) -> None:
    """Standard output and error were closed, as some that run commands by the clock do."""
    kept = tmp_path / "kept"
    given = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, "-c", CLOSED, str(kept)]
    subprocess.run(given, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert kept.read_text() == "kept\n"
