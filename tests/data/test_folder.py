"""Any image folder: its splits, its classes, and what is said of a wrong one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_trees import refused, tar_of, write_image, write_tree, zip_of
from PIL import Image

from leanvit.data.folder import folder, images_of_classes
from leanvit.data.images import ImageFiles, Splits
from leanvit.data.pixels import Fit, decode

COUNTS = {"train": {"bee": 3, "ant": 2}, "test": {"ant": 1, "bee": 2}}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part, counts in COUNTS.items():
        write_tree(tmp_path / "tree" / part, counts)
    return tmp_path / "tree"


def load(source: Path | str | None, tmp_path: Path, **options) -> Splits:
    return folder(str(source) if source else None, str(tmp_path / "data"), 8, **options)


def test_classes_are_the_folders_of_train_by_name(tree: Path, tmp_path: Path) -> None:
    splits = load(tree, tmp_path)
    assert splits.train.classes == splits.test.classes == ("ant", "bee")
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert splits.test.labels.tolist() == [0, 1, 1]
    assert splits.val is None
    assert str(tree) in splits.source


def test_its_own_val_is_used(tree: Path, tmp_path: Path) -> None:
    write_tree(tree / "val", {"bee": 2})
    val = load(tree, tmp_path).val
    assert val is not None and val.labels.tolist() == [1, 1] and val.classes == ("ant", "bee")


@pytest.mark.parametrize("pack", [lambda f, p: f, zip_of, tar_of], ids=["folder", "zip", "tar"])
def test_one_folder_further_down(tree: Path, tmp_path: Path, pack: Callable) -> None:
    write_tree(tree / "val", {"bee": 2})
    outer = tmp_path / "outer"
    outer.mkdir()
    tree.rename(outer / "copy")
    splits = load(pack(outer, tmp_path / "archive"), tmp_path)
    assert len(splits.train) == 5 and len(splits.test) == 3
    assert splits.val is not None and len(splits.val) == 2


def test_a_class_that_training_lacks(tree: Path, tmp_path: Path) -> None:
    write_image(tree / "test" / "wasp" / "0.png", 0)
    message = refused(load, tree, tmp_path)
    assert "'wasp'" in message and "test/" in message and str(tree) in message


def test_labels_when_training_gets_another_class(tree: Path, tmp_path: Path) -> None:
    """test/ is unchanged and cached; its labels are not the ones of before."""
    assert load(tree, tmp_path).test.labels.tolist() == [0, 1, 1]
    write_image(tree / "train" / "aardvark" / "0.png", 7)
    splits = load(tree, tmp_path)
    assert splits.train.classes == ("aardvark", "ant", "bee")
    assert splits.test.labels.tolist() == [1, 2, 2]


def test_a_class_without_test_images_is_told(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    load(tree, tmp_path)
    assert "has no class" not in capsys.readouterr().err
    shutil.rmtree(tree / "test" / "bee")
    assert load(tree, tmp_path).train.classes == ("ant", "bee")
    assert "test/ has no class 'bee': no figure of it tells" in capsys.readouterr().err


def test_wrong_trees_are_refused(tree: Path, tmp_path: Path) -> None:
    assert "data.source=" in refused(load, None, tmp_path)
    assert f"{tmp_path}/nowhere" in refused(load, tmp_path / "nowhere", tmp_path)
    flat = write_tree(tmp_path / "flat", {"ant": 1, "bee": 1})
    assert f"{flat}/train/<class>/<image>" in refused(load, flat, tmp_path)
    no_test = tmp_path / "no_test"
    write_tree(no_test / "train", {"ant": 1})
    assert f"{no_test}/test/<class>/<image>" in refused(load, no_test, tmp_path)
    (tree / "train" / "cow").mkdir()
    assert f"{tree}/train/cow" in refused(load, tree, tmp_path)


def test_a_val_without_images_is_refused_not_forgotten(tree: Path, tmp_path: Path) -> None:
    (tree / "val" / "ant").mkdir(parents=True)
    assert f"{tree}/val/ant" in refused(load, tree, tmp_path)


def test_too_large_for_memory(tree: Path, tmp_path: Path) -> None:
    splits = load(tree, tmp_path, memory_gib=1e-9)
    assert isinstance(splits.train.images, ImageFiles)
    assert splits.train.class_counts.tolist() == [2, 3]


def test_skip_unreadable(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "bee" / "1.png").write_bytes(b"no image")
    assert "train/bee/1.png" in refused(load, tree, tmp_path)
    splits = load(tree, tmp_path, skip_unreadable=True)
    assert splits.train.class_counts.tolist() == [2, 2]


@pytest.mark.parametrize("nested", ["", "test", "copy"])
def test_images_to_evaluate_on(tmp_path: Path, nested: str) -> None:
    root = tmp_path / "source"
    inner = {"": "", "test": "test", "copy": "copy/test"}[nested]
    write_tree(root / inner, {"bee": 1, "ant": 3})
    if nested == "copy":
        write_tree(root / "copy" / "train", {"ant": 5})
    images = images_of_classes(str(root), ("ant", "wasp", "bee"), str(tmp_path / "data"), 8)
    assert images.classes == ("ant", "wasp", "bee")
    assert images.class_counts.tolist() == [3, 0, 1]
    other = images_of_classes(str(root), ("bee", "ant"), str(tmp_path / "data"), 8)
    assert other.class_counts.tolist() == [1, 3]


def test_images_of_no_class_of_the_net(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "source", {"cow": 1})
    message = refused(images_of_classes, str(root), ("ant", "bee"), str(tmp_path), 8)
    assert "'cow'" in message and "ant, bee" in message


@pytest.mark.parametrize("classes", [("1", "2", "3"), ("01", "02", "03"), ("class 1", "b", "c")])
def test_a_number_is_no_index_where_a_name_could_be_meant(
    tmp_path: Path, classes: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tree(tmp_path / "source", {"0": 1, "1": 2, "2": 3})
    message = refused(images_of_classes, str(root), classes, str(tmp_path / "data"), 8)
    assert "'0'" in message and ", ".join(classes) in message
    images = images_of_classes(str(root), ("a", "b", "c"), str(tmp_path / "data"), 8)
    assert images.class_counts.tolist() == [1, 2, 3]
    assert "class folder 2 is taken for class c" in capsys.readouterr().err
    write_tree(tmp_path / "source", {"b": 1})  # then "0" may be the name of something else
    message = refused(images_of_classes, str(root), ("a", "b", "c"), str(tmp_path / "data"), 8)
    assert "'0'" in message


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_training_and_evaluation_fit_images_alike(tmp_path: Path, fit: Fit) -> None:
    image = tmp_path / "tree" / "train" / "ant" / "0.png"
    write_image(image, 0)
    Image.open(image).resize((20, 8)).save(image)
    write_image(tmp_path / "tree" / "test" / "ant" / "0.png", 1)
    wanted = torch.from_numpy(decode(image, 8, fit)).permute(2, 0, 1)
    train = load(tmp_path / "tree", tmp_path, fit=fit).train
    assert torch.equal(train.images[0], wanted)
    place = str(tmp_path / "tree" / "train"), ("ant",), str(tmp_path / "data"), 8
    assert torch.equal(images_of_classes(*place, fit=fit).images[0], wanted)
