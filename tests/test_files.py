"""A file is whole or not there."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leanvit.errors import LeanvitError
from leanvit.files import atomic_path, check_folder, write_json

SRC = Path(__file__).parents[1] / "src"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_appears_at_the_end_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "figure.png"
    with atomic_path(path) as part:
        assert part.parent == path.parent and part.suffix == ".png"
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and names(path.parent) == ["figure.png"]
    with atomic_path(path) as part:
        part.write_text("newer")
        assert path.read_text() == "new"
    assert path.read_text() == "newer" and names(path.parent) == ["figure.png"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), FileNotFoundError("y")])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_path(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def fails_with(error: OSError, path: Path) -> str:
    with pytest.raises(LeanvitError) as caught, atomic_path(path) as part:
        part.write_text("half")
        raise error
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_no_space_and_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert "no space left" in fails_with(OSError(number, "full"), path)
    for number in (errno.EACCES, errno.EROFS):
        assert "another folder" in fails_with(OSError(number, "refused"), path)
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_other_errors_of_the_system_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="input/output"), atomic_path(tmp_path / "file.txt"):
        raise OSError(errno.EIO, "input/output")


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    for path in (tmp_path / "file" / "new.txt", tmp_path / "folder"):
        with (
            pytest.raises(LeanvitError, match=f"{path}.*another folder"),
            atomic_path(path) as part,
        ):
            part.write_text("new")
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearing away the temporary file fails there too, and must not hide the message."""

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(LeanvitError, match="another folder"):
        write_json({}, tmp_path / "a.json")


SCRIPT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {src!r})
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path
"""


def run(script: str, *arguments: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(src=str(SRC)) + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_a_file_that_grows_too_large_for_the_system(tmp_path: Path) -> None:
    process = run(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with atomic_path(Path(sys.argv[1])) as part, part.open("wb") as file:
        for _ in range(100):
            file.write(bytes(1000))
except LeanvitError as error:
    print(error)
""",
        tmp_path / "large.bin",
    )
    message, _ = process.communicate()
    assert process.returncode == 0
    assert message.startswith("no space left") and message.count("\n") == 1
    assert names(tmp_path) == []


def test_killed_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    process = run(
        """
with atomic_path(Path(sys.argv[1])) as part, part.open("w") as file:
    file.write("half")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
""",
        path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (left,) = set(names(tmp_path)) - {"file.txt"}
    assert left.startswith(".part-")
    with atomic_path(tmp_path / "other.txt") as part:  # and what is left goes with the next file
        part.write_text("new")
    assert names(tmp_path) == ["file.txt", "other.txt"]


def test_what_somebody_may_be_writing_stays(tmp_path: Path) -> None:
    """This process, another machine or an older version; not if it has been silent for long."""
    with atomic_path(tmp_path / "first.txt") as own:
        own.write_text("half")
        own.with_name(".part-1-elsewhere-x.txt").write_text("half")
        own.with_name(".part-99999999-x.txt").write_text("half")
        silent = own.with_name(".part-99999998-x.txt")
        silent.write_text("half")
        os.utime(silent, (0, 0))
        with atomic_path(tmp_path / "second.txt") as part:
            part.write_text("new")
        assert names(tmp_path) == sorted(
            [own.name, ".part-1-elsewhere-x.txt", ".part-99999999-x.txt", "second.txt"]
        )


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    value = {"accuracy": 0.5, "classes": ["a", "ä"], "none": None}
    write_json(value, path)
    assert json.loads(path.read_text()) == value and path.read_text().endswith("}\n")
    with pytest.raises(TypeError, match="JSON"):
        write_json({"accuracy": tmp_path}, path)
    assert json.loads(path.read_text()) == value and names(tmp_path) == ["metrics.json"]
    write_json({"a": math.nan, "b": [1.5, (-math.inf, {"c": np.float64("inf")})]}, path)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    told = json.loads(path.read_text(), parse_constant=refuse)
    assert told == {"a": None, "b": [1.5, [None, {"c": None}]]}


def test_a_place_that_cannot_be_written_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_folder(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(LeanvitError, match=rf"cannot write {place} \(.*file is a file\)"):
            check_folder(place)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(LeanvitError, match="read-only here"):
        check_folder(tmp_path / "x")
