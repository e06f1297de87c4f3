"""What a person gets wrong: one line that names the thing and the mend, and nothing lost."""

import resource
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from image_trees import write_image, write_tree
from omegaconf import DictConfig
from scripts import ROOT, TINY_COATNET, TINY_DATA, TINY_VIT, run

import command_line
import jobs
import train


def config_of(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["trainer=cpu", *overrides])


def refusal(tmp_path: Path, *overrides: str) -> str:
    """The line a training that must fail ends with; it leaves nothing that looks finished."""
    run_dir = tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    line = jobs.run_job(train.train, config_of(*overrides), run_dir)
    assert line is not None
    assert "\n" not in line and "Traceback" not in line
    assert (run_dir / "error.txt").read_text().splitlines()[0] == line
    assert not (run_dir / "metrics.json").exists()
    return line


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_tree(tmp_path / "images" / part, {"cat": 4, "dog": 4})
    return tmp_path / "images"


def folder(tmp_path: Path, tree: Path) -> list[str]:
    return ["data=folder", f"data.source={tree}", f"data.data_dir={tmp_path}"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.source=nowhere.zip"], ["nowhere.zip", "does not exist", "data.source="]),
        (["data=shapes", "model.patch_size=5"], ["patch_size 5", "image_size 32", "4"]),
        (["data=shapes", "model.heads=7"], ["256", "heads 7"]),
        (["data=shapes", "model=coatnet", "data.image_size=36"], ["36"]),
        (["data=shapes", "model.num_classes=3"], ["num_classes=3", "10"]),
        (["data=shapes", "loss=focal", "loss.gamma=-1"], ["loss.gamma=-1"]),
        (["data=shapes", "loss=focal", "loss.alpha=[1,2]"], ["loss.alpha", "2", "10"]),
        (["data=shapes", "val_fraction=1.5"], ["val_fraction=1.5"]),
        (["data=shapes", "batch_size=0"], ["batch_size=0"]),
        (["data=shapes", "max_epochs=abc"], ["max_epochs=abc", "whole number"]),
        (["data=shapes", "monitor=val/acuracy", *TINY_VIT, "max_epochs=1"], ["val/acuracy"]),
        (["data=shapes", "trainer.precision=b16"], ["precision", "b16"]),
        (["data=shapes", "trainer.precision=16-mixed"], ["16-mixed", "bf16-mixed"]),
        (["data=shapes", "pretrained="], ["pretrained= is empty"]),
    ],
    ids=lambda value: value[-1] if isinstance(value[0], str) and "=" in value[0] else "",
)
def test_a_wrong_choice_is_one_line(tmp_path: Path, overrides: list[str], words: list[str]) -> None:
    small = TINY_DATA[1:] if "data=shapes" in overrides else []
    line = refusal(tmp_path, *overrides, *small)
    for word in words:
        assert word in line, line


def test_a_gpu_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "trainer=cpu" in refusal(tmp_path, "trainer=gpu", *TINY_DATA)


def test_wrong_image_folders(tmp_path: Path, tree: Path) -> None:
    choices = folder(tmp_path, tree)
    (tree / "train" / "eel").mkdir()
    assert "train/eel holds no image" in refusal(tmp_path, *choices)
    (tree / "train" / "eel").rmdir()
    write_image(tree / "test" / "emu" / "0.png", 0)
    assert "'emu', which train/ lacks" in refusal(tmp_path, *choices)
    (tree / "test" / "emu" / "0.png").unlink()
    (tree / "test" / "emu").rmdir()
    (tree / "train" / "cat" / "broken.png").write_bytes(b"no image")
    line = refusal(tmp_path, *choices)
    assert "train/cat/broken.png" in line and "data.skip_unreadable=true" in line


def test_an_exploding_loss_is_named_and_not_saved(tmp_path: Path) -> None:
    explode = ["optimizer=sgd", "optimizer.lr=1e30", "gradient_clip=null", "max_epochs=2"]
    line = refusal(tmp_path, *TINY_DATA, *TINY_VIT, *explode)
    assert "loss became" in line and "optimizer.lr" in line
    assert not list(tmp_path.rglob("*.ckpt"))


def test_checkpoints_that_are_damaged_or_of_another_model(tmp_path: Path) -> None:
    small = [*TINY_DATA, *TINY_VIT, "max_epochs=1"]
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    other = {"state_dict": {"net.cls_token": torch.zeros(1, 1, 99)}}
    torch.save(other, last)
    line = refusal(tmp_path, *small)
    assert "another model" in line and "last.ckpt" in line
    last.write_bytes(last.read_bytes()[:-200])
    assert "last.ckpt is damaged" in refusal(tmp_path, *small)


def test_a_second_process_waits_outside(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with jobs.only_process_in(run_dir):
        line = jobs.run_job(train.train, config_of(*TINY_DATA), run_dir)
    assert line is not None and "another process" in line
    assert not (run_dir / "error.txt").exists()  # the other process is well


def test_a_full_disk_while_saving(tmp_path: Path) -> None:
    # files of this process may not grow over 40 kB: a checkpoint cannot be written
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        line = refusal(tmp_path, *TINY_DATA, *TINY_COATNET, "max_epochs=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "no space left to write" in line and "best.ckpt" in line
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=vitt"], ["no model=vitt", "did you mean vit"]),
        (["loss=zzz"], ["no loss=zzz", "ce, class_balanced, focal"]),
        (["model.hedas=4"], ["model.hedas", "did you mean heads"]),
        (["lightweight.r=8"], ["without a lightweight", "lightweight=..."]),
        (["experiment=vit_v1.4444"], ["did you mean vit_v1.4"]),
        (["max_epochs"], ["max_epochs"]),
    ],
    ids=lambda value: value[0],
)
def test_an_unknown_word_is_answered_with_its_neighbours(
    overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(Exception) as caught:
        config_of(*overrides)
    line = command_line.explain(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("error", [MemoryError(), torch.cuda.OutOfMemoryError("x")])
def test_out_of_memory_says_what_to_lower(error: Exception) -> None:
    assert "batch_size" in command_line.explain(error)


def test_a_traceback_only_on_request() -> None:
    plain = run("train.py", "model=vitt")
    assert plain.returncode == 2
    assert plain.stderr.strip().count("\n") == 0 and plain.stdout == ""
    full = run("train.py", "model=vitt", HYDRA_FULL_ERROR="1")
    assert full.returncode == 2 and "Traceback" in full.stderr


def test_eval_of_what_is_no_run(tmp_path: Path) -> None:
    done = run("eval.py", f"run={tmp_path}/none")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no run directory") and done.stderr.count("\n") == 1


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
