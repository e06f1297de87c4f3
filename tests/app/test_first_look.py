"""What is refused by names alone; that torch is not imported for it is seen in test_command.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
from composed import leave_first_stage, request_of
from fake_runs import write_fake_run
from image_trees import refused, tar_of, write_image, write_tree, zip_of
from scripts import call

from leanvit.app import jobs
from leanvit.app.first_look import COURSE, FOLDER, at_images, at_question, at_request


def images(source: Path, kind: str = FOLDER) -> dict[str, str]:
    return {"_target_": kind, "source": str(source)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_tree(tmp_path / "tree" / part, {"ant": 1, "bee": 1})
    return tmp_path / "tree"


@pytest.mark.parametrize("pack", [lambda f, p: f, zip_of], ids=["folder", "zip"])
def test_all_empty_class_folders_are_one_line(tree: Path, tmp_path: Path, pack: Callable) -> None:
    at_images(images(pack(tree, tmp_path / "whole.zip")))
    for name in ("train/cow", "test/ant/deep", "test/dog"):
        (tree / name).mkdir(parents=True)
    (tree / "test" / "ant" / "0.png").rename(tree / "test" / "ant" / "0.txt")
    source = pack(tree, tmp_path / "bad.zip")
    names = ", ".join(f"{source}/{name}" for name in ("train/cow", "test/ant", "test/dog"))
    line = f"class folders {names} hold no image that Pillow reads, but 1 .txt: "
    assert line in refused(at_images, images(source))


def test_other_layouts_are_refused_and_a_good_one_says_nothing(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "notes.txt").write_text("said when the images are read")
    at_images(images(tree))
    assert capsys.readouterr().err == ""
    at_images(images(tar_of(tree / "train", tmp_path / "a.tar")))  # too slow for a look
    assert "does not exist" in refused(at_images, images(tmp_path / "none"))
    assert "CIFAR10_imbalance*/" in refused(at_images, images(tree, COURSE))
    write_tree(tree / "test", {"wasp": 1, "wolf": 1})
    assert "class 'wasp', 'wolf', which train/ lacks" in refused(at_images, images(tree))
    at_images({"_target_": "leanvit.data.shapes.shapes"})


def test_a_question_is_looked_at_with_the_classes_of_its_run(tree: Path, tmp_path: Path) -> None:
    run = leave_first_stage(tmp_path / "outputs")  # its classes are a and b
    finished = write_fake_run(tmp_path / "finished")
    for name in ("metrics.json", "predictions.npz"):
        (finished / name).replace(run / name)
    at_question("eval", {"run": str(run), "data": None})
    asked = {"run": [str(run)], "data": images(tree)}
    assert "class folder 'ant', 'bee'" in refused(at_question, "eval", asked)
    write_tree(tmp_path / "other", {"a": 1, "b": 0})
    (tmp_path / "other" / "b").mkdir()
    asked["data"] = images(tmp_path / "other")
    assert "other/b holds no image" in refused(at_question, "eval", asked)
    lost = {"run": str(run), "images": str(tmp_path / "none")}
    assert "there is no images=" in refused(at_question, "predict", lost)
    (run / "metrics.json").unlink()
    assert "is not a finished run" in refused(at_question, "predict", lost)


def test_a_run_whose_images_went_is_not_compressed(tree: Path, tmp_path: Path) -> None:
    asked = ["data=folder", f"data.source={tree}", "data.data_dir=null"]
    run = leave_first_stage(tmp_path / "outputs", *asked)
    request = request_of(f"run={run}", "method=export", command="compress")
    at_request(request)
    tree.rename(tmp_path / "elsewhere")
    assert f"{tree} does not exist" in refused(jobs.do, "compress", request)


def test_a_grid_stops_where_all_would_want_the_same_images(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "cow").mkdir()
    asked = ["data=folder", f"data.source={tree}", f"outputs={tmp_path}/o", "-m", "model=vit,swin"]
    done = call("train.py", *asked)
    assert done.returncode == 1 and done.stderr.count("error: ") == 1
    assert f"{tree}/train/cow holds no image" in done.stderr and "stops here" in done.stderr
    write_image(tree / "train" / "cow" / "0.png", 0)
    at_images(images(tree))
