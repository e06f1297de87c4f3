"""What is exported computes what the net computes, without leanvit and without torch."""

import ast
import json
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
from leanvit.compression.export import SCRIPT, export
from leanvit.compression.onnx_net import OnnxNet
from leanvit.data.images import decode
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


@pytest.mark.parametrize("size", [(16, 16), (37, 23)])
def test_the_script_classifies_as_leanvit_does(
    exported: tuple[nn.Module, Path, dict[str, Any]], size: tuple[int, int], tmp_path: Path
) -> None:
    net, folder, _ = exported
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")  # with a channel of transparency
    command = [sys.executable, "-X", "utf8", folder / "classify.py", tmp_path / "image.png"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    rgb = torch.from_numpy(decode(tmp_path / "image.png", 16)).permute(2, 0, 1)[None]
    probabilities = net(normalise(rgb, MEAN, STD)).softmax(dim=1)[0]
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    order = probabilities.argsort(descending=True).tolist()
    assert [label for _, label in lines] == [CLASSES[k] for k in order]
    found = [float(probability) for probability, _ in lines]
    assert found == pytest.approx([probabilities[k].item() for k in order], abs=1e-4)


def test_the_script_needs_neither_leanvit_nor_torch() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}


def test_the_preprocessing_is_told(exported: tuple[nn.Module, Path, dict[str, Any]]) -> None:
    about = json.loads((exported[1] / "preprocessing.json").read_text())
    assert about["image_size"] == 16 and about["labels"] == list(CLASSES)
    assert torch.equal(torch.tensor(about["mean"]), MEAN)
    assert torch.equal(torch.tensor(about["std"]), STD)


def test_refuses_a_file_that_computes_something_else(
    exported: tuple[nn.Module, Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model = ModelProto.FromString((exported[1] / "model.onnx").read_bytes())
    monkeypatch.setattr(module, "to_onnx", lambda net, image_size: model)
    other = small_net()
    with torch.no_grad():
        other[3].bias[0] += 0.01
    with pytest.raises(LeanvitError, match=r"of Sequential in ONNX are 0\.01 off, more") as error:
        export(other, 16, MEAN, STD, CLASSES, images_of(2), images_of(3), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
