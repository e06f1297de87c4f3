"""What is exported computes what the net computes, without leanvit and without torch."""

import ast
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from PIL import Image
from torch import Tensor, nn

from leanvit.augment.normalise import normalise
from leanvit.compression import export as module
from leanvit.compression.export import PIXELS, SCRIPT, export
from leanvit.compression.onnx_net import OnnxNet, to_onnx
from leanvit.data.pixels import Fit, decode
from leanvit.errors import LeanvitError

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
CLASSES = ("cat", "dög", "horse", "ship")


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(128, 4)
    return nn.Sequential(*layers)


def images_of(batch: int) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path, dict[str, Any]]:
    net, folder = small_net(), tmp_path_factory.mktemp("run") / "export"
    found = export(net, 16, MEAN, STD, CLASSES, images_of(9), images_of(70), folder)
    return net.eval(), folder, found


def test_tells_how_far_each_file_is_from_the_net(
    exported: tuple[nn.Module, Path, dict[str, Any]],
) -> None:
    net, folder, found = exported
    names = {"float32": "model.onnx", "int8": "model_int8.onnx"}
    for kind, name in names.items():
        wanted, logits = net(images_of(70)), OnnxNet(folder / name)(images_of(70))
        same = (wanted.argmax(dim=1) == logits.argmax(dim=1)).double().mean().item()
        assert found[kind]["agreement"] == pytest.approx(same)
        difference = (wanted - logits).abs().max().item()
        assert found[kind]["max_difference"] == pytest.approx(difference, abs=1e-6)
        assert found[kind]["bytes"] == (folder / name).stat().st_size
    assert found["float32"]["max_difference"] < 1e-5 < found["int8"]["max_difference"]
    assert found["float32"]["agreement"] == 1


@pytest.mark.parametrize(("num_off", "is_refused"), [(0, False), (1, False), (5, True)])
def test_a_tie_that_falls_the_other_way_in_one_image_is_told_and_not_refused(
    num_off: int, is_refused: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Chooses(OnnxNet):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            places = torch.arange(self.seen, self.seen + len(images))
            self.seen += len(images)
            return super().forward(images) + (places < num_off)[:, None]

    monkeypatch.setattr(module, "OnnxNet", Chooses)
    given = (small_net(), 16, MEAN, STD, CLASSES, images_of(9), images_of(200), tmp_path)
    if is_refused:
        with pytest.raises(LeanvitError, match="logits of Sequential in ONNX are 1 off"):
            export(*given)
        return
    found = export(*given)["float32"]
    assert found["max_difference"] == pytest.approx(num_off, abs=1e-5)
    assert found["difference_99"] < 1e-5


def run_script(folder: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "utf8", folder / "classify.py", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", **options)


def write_odd_images(folder: Path) -> list[Path]:
    """One of each kind that is not simply RGB, upright and square."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    tall = rng.integers(0, 256, (37, 23, 4), dtype=np.uint8)
    folder.mkdir()
    Image.fromarray(tall).save(folder / "alpha.png")
    Image.fromarray(tall[:16, :16]).save(folder / "square.png")
    Image.fromarray(tall[..., :3]).save(folder / "lying.webp", lossless=True, exif=exif)
    Image.fromarray(tall[..., 0].astype(np.uint16) * 200).save(folder / "wide.png")
    Image.fromarray(tall[..., 0]).save(folder / "grey.pgm")
    Image.fromarray(tall[..., 0]).save(folder / "palette.gif", transparency=3)
    return sorted(folder.iterdir())


def probabilities_of(net: nn.Module, path: Path, fit: Fit) -> Tensor:
    rgb = torch.from_numpy(decode(path, 16, fit)).permute(2, 0, 1)[None]
    return net(normalise(rgb, MEAN, STD)).softmax(dim=1)[0]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_script_classifies_as_leanvit_does(
    exported: tuple[nn.Module, Path, dict[str, Any]], fit: Fit, tmp_path: Path
) -> None:
    net, folder, _ = exported
    folder = Path(shutil.copytree(folder, tmp_path / "export"))
    about = json.loads((folder / "preprocessing.json").read_text())
    (folder / "preprocessing.json").write_text(json.dumps(about | {"fit": fit}))
    paths = write_odd_images(tmp_path / "images")

    done = run_script(folder, paths[0], check=True)
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    probabilities = probabilities_of(net, paths[0], fit)
    order = probabilities.argsort(descending=True).tolist()
    assert [label for _, label in lines] == [CLASSES[k] for k in order]
    found = [float(probability) for probability, _ in lines]
    assert found == pytest.approx([probabilities[k].item() for k in order], abs=1e-4)

    done = run_script(folder, tmp_path / "images", "--csv", tmp_path / "a.csv", check=True)
    assert done.stdout == f"{tmp_path}/a.csv: 6 of 6 images\n" and done.stderr == ""
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for path, row in zip(paths, rows, strict=True):
        probabilities = probabilities_of(net, path, fit)
        assert row["image"] == str(path)
        assert row["class"] == CLASSES[probabilities.argmax()]
        each = [float(row[label]) for label in CLASSES]
        assert each == pytest.approx(probabilities.tolist(), abs=1e-4)
        assert float(row["probability"]) == max(each)


def test_the_script_names_what_it_cannot_read(
    exported: tuple[nn.Module, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, folder, _ = exported
    images, table = tmp_path / "images", tmp_path / "a.csv"
    paths = write_odd_images(images)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(images / "floats.tif")
    (images / "broken.png").write_bytes(paths[0].read_bytes()[:90])
    os.mkfifo(images / "pipe.png")
    (images / "notes.txt").write_text("no image")
    (images / "more").symlink_to(images)  # a circle
    done = run_script(folder, images, "--csv", table)
    assert done.returncode == 1 and done.stdout == f"{table}: 6 of 8 images\n"
    assert len(done.stderr.splitlines()) == 2 and "save it as 8 or 16 bit" in done.stderr
    assert len(table.read_text().splitlines()) == 7

    (tmp_path / "empty").mkdir()
    for wrong in (["nowhere.png"], [images / "broken.png"], [images / "pipe.png"],
                  [tmp_path / "empty"], [paths[0], "other.onnx"], paths[:2],
                  [images, "--csv", tmp_path / "nowhere" / "a.csv"]):  # fmt: skip
        done = run_script(folder, *wrong)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and last.startswith("error: "), wrong
        assert "Traceback" not in done.stderr


def test_a_part_of_an_export_is_told_and_no_name_is_a_formula(
    exported: tuple[nn.Module, Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported[1], tmp_path / "export"))
    path = folder / "preprocessing.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"labels": ["=1+1", "-2", "@x", *CLASSES[3:]]}))
    (image,) = (each for each in write_odd_images(tmp_path / "images") if each.stem == "square")
    image.rename(tmp_path / "=2.png")
    run_script(folder, ".", "--csv", "a.csv", check=True, cwd=tmp_path)
    cells = [cell for row in csv.reader((tmp_path / "a.csv").open()) for cell in row]
    assert {"'=1+1", "-2", "'@x"} <= set(cells) and not {"=1+1", "@x", "=2.png"} & set(cells)
    path.write_text("")
    assert run_script(folder, tmp_path / "=2.png").stderr.startswith(f"error: {folder} is no whole")
    (folder / "model.onnx").write_bytes(b"")
    path.write_text(json.dumps(about))
    line = run_script(folder, tmp_path / "=2.png").stderr
    assert line.startswith(f"error: {folder} is no whole") and line.count("\n") == 1


@pytest.mark.parametrize("text", [SCRIPT, PIXELS])
def test_the_script_needs_neither_leanvit_nor_torch(text: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    known = {"numpy", "onnxruntime", "PIL", "pixels"}
    assert {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) <= known


def axes(model: ModelProto) -> list[str]:
    return [value.type.tensor_type.shape.dim[0].dim_param
            for value in (*model.graph.input, *model.graph.output)]  # fmt: skip


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
def test_the_axis_of_images_has_a_name(
    exported: tuple[nn.Module, Path, dict[str, Any]], name: str
) -> None:
    assert axes(ModelProto.FromString((exported[1] / name).read_bytes())) == ["batch", "batch"]


@pytest.mark.parametrize("opset", [17, 18, 23])
def test_the_opset_is_a_choice(opset: int, tmp_path: Path) -> None:
    export(small_net(), 16, MEAN, STD, CLASSES, images_of(2), images_of(3), tmp_path, opset=opset)
    for name in ("model.onnx", "model_int8.onnx"):
        model = ModelProto.FromString((tmp_path / name).read_bytes())
        assert {each.domain: each.version for each in model.opset_import}[""] == opset
        assert axes(model) == ["batch", "batch"]
    assert json.loads((tmp_path / "preprocessing.json").read_text())["opset"] == opset


def test_an_opset_that_lacks_a_step_is_refused(tmp_path: Path) -> None:
    class Normed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.layer_norm(images.flatten(1), (768,))

    with pytest.raises(LeanvitError, match=r"method.opset=16: Normed .* 18 has") as error:
        to_onnx(Normed(), 16, 16)
    assert "\n" not in str(error.value)


def test_the_preprocessing_is_told(exported: tuple[nn.Module, Path, dict[str, Any]]) -> None:
    about = json.loads((exported[1] / "preprocessing.json").read_text())
    assert about["image_size"] == 16 and about["labels"] == list(CLASSES)
    assert torch.equal(torch.tensor(about["mean"]), MEAN)
    assert torch.equal(torch.tensor(about["std"]), STD)
    assert (about["fit"], about["ground"], about["opset"]) == ("stretch", "white", 20)


def test_refuses_a_file_that_computes_something_else(
    exported: tuple[nn.Module, Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model = ModelProto.FromString((exported[1] / "model.onnx").read_bytes())
    monkeypatch.setattr(module, "to_onnx", lambda *_: model)
    other = small_net()
    with torch.no_grad():
        other[3].bias[0] += 0.01
    with pytest.raises(LeanvitError, match=r"of Sequential in ONNX are 0\.01 off, more") as error:
        export(other, 16, MEAN, STD, CLASSES, images_of(2), images_of(3), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
