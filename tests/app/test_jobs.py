"""A job in its directory: what it finds there, who else is there, and what an error leaves."""

import contextlib
import errno
import fcntl
import io
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import torch
from composed import leave_first_stage, request_of
from image_trees import write_image, write_tree
from omegaconf import OmegaConf
from scripts import (
    TINY_COATNET,
    TINY_DATA,
    TINY_VIT,
    call,
    file_size_limit,
    nothing_stays_changed,
)

from leanvit.app import jobs
from leanvit.errors import LeanvitError

SMALL = [*TINY_DATA, *TINY_VIT, "max_epochs=1", "batch_size=64", "trainer=cpu"]


def failed(outputs: Path, *overrides: str) -> str:
    """The line a training that must fail ends with; it leaves nothing that looks finished."""
    request = request_of("trainer=cpu", *overrides, f"outputs={outputs}")
    with nothing_stays_changed(), contextlib.redirect_stderr(io.StringIO()):
        line = jobs.run_job("train", request).error
    assert line is not None
    assert "\n" not in line and "Traceback" not in line
    note = (request.run_dir / "error.txt").read_text()
    assert note.splitlines()[0] == line and "Traceback" in note
    assert not request.is_finished
    return line


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_tree(tmp_path / "images" / part, {"cat": 4, "dog": 4})
    return tmp_path / "images"


def test_wrong_image_folders(tmp_path: Path, tree: Path) -> None:
    choices = ["data=folder", f"data.source={tree}", f"data.data_dir={tmp_path}"]
    (tree / "train" / "eel").mkdir()
    assert "train/eel holds no image" in failed(tmp_path, *choices)
    (tree / "train" / "eel").rmdir()
    write_image(tree / "test" / "emu" / "0.png", 0)
    assert "'emu', which train/ lacks" in failed(tmp_path, *choices)
    (tree / "test" / "emu" / "0.png").unlink()
    (tree / "test" / "emu").rmdir()
    (tree / "train" / "cat" / "broken.png").write_bytes(b"no image")
    line = failed(tmp_path, *choices)
    assert "train/cat/broken.png" in line and "data.skip_unreadable=true" in line
    (tree / "train" / "cat" / "broken.png").unlink()
    for part in ("train", "test"):
        shutil.rmtree(tree / part / "dog")
    assert "one class alone, cat" in failed(tmp_path, *choices)


def test_a_source_that_is_nowhere_leaves_nothing(tmp_path: Path) -> None:
    asked = ["data.source=nowhere.zip", "trainer=cpu", f"outputs={tmp_path}"]
    done = call("train.py", *asked)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert all(word in line for word in ("nowhere.zip", "does not exist", "data.source="))
    assert not list(tmp_path.glob("*/*"))


def test_other_classes_than_the_net_was_told(tmp_path: Path) -> None:
    line = failed(tmp_path, *TINY_DATA, "model.num_classes=3")
    assert "num_classes=3" in line and "10" in line


def test_an_exploding_loss_is_named_and_not_saved(tmp_path: Path) -> None:
    explode = ["optimizer=sgd", "optimizer.lr=1e30", "gradient_clip=null", "max_epochs=2"]
    line = failed(tmp_path, *SMALL, *explode)
    assert "loss became" in line and "optimizer.lr" in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_checkpoints_that_are_damaged_or_of_another_model(tmp_path: Path) -> None:
    last = request_of(*SMALL, f"outputs={tmp_path}").run_dir / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    other = {"state_dict": {"net.cls_token": torch.zeros(1, 1, 99)}}
    torch.save(other, last)
    line = failed(tmp_path, *SMALL)
    assert "another model" in line and "last.ckpt" in line
    last.write_bytes(last.read_bytes()[:-200])
    assert "last.ckpt is damaged" in failed(tmp_path, *SMALL)


def test_a_second_process_waits_outside(tmp_path: Path) -> None:
    request = request_of(*SMALL, f"outputs={tmp_path}")
    request.run_dir.mkdir(parents=True)
    with jobs.only_process_in(request.run_dir):
        line = jobs.run_job("train", request).error
    assert line is not None and "another process" in line
    assert not (request.run_dir / "error.txt").exists()  # the other process is well


def test_what_another_process_has_just_finished_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at the directory and its lock lie seconds of imports."""
    request = replace(request_of(*SMALL, f"outputs={tmp_path}"), finished="done.json")
    request.run_dir.mkdir(parents=True)
    (request.run_dir / "done.json").write_text("{}")
    monkeypatch.setattr(jobs, "work_of", lambda command: pytest.fail("it was done again"))
    assert jobs.run_job("train", request) == jobs.Job(request.run_dir, None)


def test_a_job_that_slurm_began_again_waits_for_the_one_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its node did not answer, but lives on."""
    request = replace(request_of(*SMALL, f"outputs={tmp_path}"), finished="done.json")
    request.run_dir.mkdir(parents=True)
    lost, flock = contextlib.ExitStack(), fcntl.flock
    lost.enter_context(jobs.only_process_in(request.run_dir))

    def waits(lock: IO[str], how: int) -> None:
        if how == fcntl.LOCK_EX:
            (request.run_dir / "done.json").write_text("{}")
            lost.close()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", waits)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert jobs.do("train", request) == jobs.Job(request.run_dir, None)
    said = capsys.readouterr().err
    assert "it is waited for" in said and "is finished" in said


def test_what_was_forked_holds_no_lock(tmp_path: Path) -> None:
    """Workers that load images outlive a killed training by seconds: it goes on at once."""
    context = multiprocessing.get_context("fork")
    began, end = context.Event(), context.Event()

    def work() -> None:
        began.set()
        end.wait()

    child = context.Process(target=work, daemon=True)
    with jobs.only_process_in(tmp_path):
        child.start()
        assert began.wait(60)
        with (
            pytest.raises(LeanvitError, match="another process"),
            jobs.only_process_in(tmp_path),
        ):
            pass
    with jobs.only_process_in(tmp_path):
        end.set()
    child.join()


def test_a_full_disk_while_saving(tmp_path: Path) -> None:
    with file_size_limit(100_000):  # a checkpoint cannot be written
        line = failed(tmp_path, *TINY_DATA, *TINY_COATNET, "max_epochs=1")
    assert "no space left to write" in line and "best.ckpt" in line
    (folder,) = tmp_path.rglob("checkpoints")
    assert not list(folder.iterdir())


def test_only_a_folder_in_which_nothing_began_is_removed(tmp_path: Path) -> None:
    empty, begun, held = (tmp_path / name for name in ("empty", "begun", "held"))
    for folder in (empty, begun, held):
        folder.mkdir()
        (folder / "error.txt").write_text("a slip")
    (begun / "steps").mkdir()
    jobs.remove_if_nothing_began(empty)
    jobs.remove_if_nothing_began(begun)
    with jobs.only_process_in(held):
        jobs.remove_if_nothing_began(held)
    assert not empty.exists() and begun.exists() and held.exists()


def test_a_job_whose_note_found_no_room_is_told(tmp_path: Path) -> None:
    """And the jobs after it run: see test_grid."""
    request = request_of(*SMALL, f"outputs={tmp_path}")
    request.run_dir.mkdir(parents=True)
    (request.run_dir / "error.txt").touch()
    line = jobs.outcome(1, request)
    assert line and "no space left" in line and str(request.run_dir) in line
    (request.run_dir / "error.txt").write_bytes(b"\xff\xfe\n")
    assert jobs.outcome(1, request) == "\ufffd\ufffd"


def test_a_file_system_without_locks_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """NFS, for one."""

    def flock(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with jobs.only_process_in(tmp_path):
        pass
    said = capsys.readouterr().err
    assert f"{tmp_path} cannot be locked (No locks available)" in said and said.count("\n") == 1


@pytest.mark.parametrize("grid", [[], ["-m"]])
def test_a_place_that_cannot_be_written(grid: list[str], tmp_path: Path) -> None:
    """A file where a folder is to be: the root user may write anywhere else."""
    (tmp_path / "outputs").write_text("")
    done = call("train.py", *SMALL, f"outputs={tmp_path}/outputs", *grid)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert f"cannot use {tmp_path}/outputs" in done.stderr, done.stderr
    assert "choose another folder" in done.stderr


def test_no_space_while_hydra_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*given: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OmegaConf, "save", save)
    done = call("train.py", *SMALL, f"outputs={tmp_path}", "-m")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no space left") and done.stderr.count("\n") == 1


def test_more_epochs_than_a_finished_run_are_said_to_begin_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["data=shapes", "trainer=cpu", f"outputs={tmp_path}"]
    first = leave_first_stage(tmp_path, "trainer=cpu", "max_epochs=10")
    damaged = first.with_name(f"{first.name[:-8]}00000000")
    damaged.mkdir()
    for name in ("config.yaml", "metrics.json"):
        (damaged / name).write_bytes(b"\0" * 99)
    told = {}
    others = ("max_epochs=5", "max_epochs=20 seed=1", "max_epochs=20 optimizer.lr=0.1")
    for words in ("max_epochs=20", *others):
        jobs.tell_of_shorter("train", request_of(*asked, *words.split()))
        told[words] = capsys.readouterr().err
    line = told.pop("max_epochs=20")
    assert f"{first} is the same training with max_epochs=10" in line
    assert f"pretrained={first} begins with its weights and a new head" in line
    assert set(told.values()) == {""}
    lighter = ["trainer=cpu", "model=vit", "lightweight=tome"]
    leave_first_stage(tmp_path, *lighter, "max_epochs=10")
    jobs.tell_of_shorter("train", request_of(*asked, *lighter, "max_epochs=20"))
    assert "begins with its weights, those of the head, too\n" in capsys.readouterr().err
