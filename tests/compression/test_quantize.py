"""int8 and ONNX against the net: a literal twin of the rounding, reloading, sizes, refusals."""

import copy
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import config
from onnx import ModelProto, TensorProto
from torch import Tensor, nn

from leanvit.compression.onnx_net import OnnxNet, OpenVinoNet, openvino_core, to_onnx
from leanvit.compression.quantize import Quantize, load, quantize_onnx
from leanvit.errors import LeanvitError
from leanvit.lightweight.a_vit import AViT
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.qat import QAT
from leanvit.lightweight.tome import ToMe
from leanvit.models.coatnet import CoAtNet
from leanvit.models.swin import Swin
from leanvit.models.vit import ViT

ROW = {"image_size": 16, "patch_size": 4, "num_classes": 5, "dim": 16, "heads": 2, "mlp_dim": 32}


def vit(depth: int = 1) -> ViT:
    return ViT(**ROW, depth=depth)


def coatnet() -> CoAtNet:
    return CoAtNet(
        image_size=16,
        num_classes=5,
        block_types=["mbconv", "transformer"],
        dims=[8, 16],
        depths=[1, 1],
        transformer_heads=2,
        transformer_dim_head=8,
        mbconv_expand_ratios=[2],
        mbconv_kernel_sizes=[3],
        se_ratio=0.25,
    )


def swin() -> Swin:
    return Swin(
        image_size=16, patch_size=2, num_classes=5, dim=8, depths=[1], heads=[2], window_size=4
    )


NETS = {"vit": vit, "coatnet": coatnet, "swin": swin, "tome": lambda: ToMe(vit(), r=3)}


def filled(net: nn.Module) -> nn.Module:
    """Weights away from their start, evaluation."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


def images_of(batch: int) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))


@pytest.fixture(scope="module", params=NETS)
def exported(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, ModelProto]]:
    net = filled(NETS[request.param]())
    config.update("jaxtyping_disable", True)  # torch.export cannot read the checks' own code
    try:
        model = to_onnx(net, 16)
    finally:
        config.update("jaxtyping_disable", False)
    yield net, model


def run_onnx(model: ModelProto, folder: Path) -> OnnxNet:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return OnnxNet(folder / "net.onnx")


def test_a_net_in_onnx_is_the_net_for_any_number_of_images(
    exported: tuple[nn.Module, ModelProto], tmp_path: Path
) -> None:
    net, model = exported
    onnx_net = run_onnx(model, tmp_path)
    for batch in (1, 5):
        images = images_of(batch)
        torch.testing.assert_close(onnx_net(images), net(images), atol=1e-4, rtol=0)


def test_int8_holds_all_weights_of_layers_and_not_the_products_of_activations(
    exported: tuple[nn.Module, ModelProto], tmp_path: Path
) -> None:
    net, model = exported
    kinds = {"static": nn.Linear | nn.Conv2d, "dynamic": nn.Linear}
    for mode, kind in kinds.items():
        net_in_int8 = quantised(model, mode, images_of(8), tmp_path)
        found = ModelProto.FromString(net_in_int8.contents).graph
        sizes = [
            torch.tensor(weight.dims).prod().item()
            for weight in found.initializer
            if weight.data_type == TensorProto.INT8 and len(weight.dims) > 1
        ]
        layers = [layer for layer in net.modules() if isinstance(layer, kind)]
        assert sorted(sizes) == sorted(layer.weight.numel() for layer in layers)
        logits, wanted = net_in_int8(images_of(6)), net(images_of(6))
        assert 0 < (logits - wanted).square().mean().sqrt() < 0.2 * wanted.std()


@pytest.mark.parametrize("mode", ["float32", "static"])
def test_openvino_computes_what_onnxruntime_computes(
    mode: str, exported: tuple[nn.Module, ModelProto], tmp_path: Path
) -> None:
    """The same file; int8 differs where a value lies on the edge between two."""
    pytest.importorskip("openvino")
    _, model = exported
    path, images = tmp_path / "openvino-net.onnx", images_of(6)
    if mode == "static":
        quantize_onnx(copy.deepcopy(model), mode, images_of(8), path, "openvino")
    else:
        path.write_bytes(model.SerializeToString())
    wanted, found = OnnxNet(path)(images), OpenVinoNet(path)(images)
    error = (found - wanted).square().mean().sqrt() / wanted.std()
    assert error < (0.03 if mode == "static" else 1e-4)
    torch.testing.assert_close(OpenVinoNet(path)(images[2:3]), found[2:3], atol=1e-3, rtol=0)


def linear() -> nn.Module:
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 5)))


@pytest.fixture(scope="module")
def linear_onnx() -> ModelProto:
    return to_onnx(linear(), 16)


def quantised(model: ModelProto, mode: str, calibration: Tensor, folder: Path) -> OnnxNet:
    quantize_onnx(copy.deepcopy(model), mode, calibration, folder / "int8.onnx")
    return OnnxNet(folder / "int8.onnx")


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_onnxruntime_rounds_one_image_as_quantisation_aware_training_does(
    mode: str, linear_onnx: ModelProto, tmp_path: Path
) -> None:
    net, image = linear(), images_of(1)  # the range of which is the range of calibration
    found = quantised(linear_onnx, mode, image, tmp_path)(image)
    torch.testing.assert_close(found, QAT(net)(image), atol=2e-4, rtol=0)
    assert (found - net(image)).abs().max() > 0.02


def test_static_ranges_are_those_of_calibration_and_know_no_batch(
    linear_onnx: ModelProto, tmp_path: Path
) -> None:
    net, images = linear(), images_of(70)  # more than calibration reads at once
    images[-1] *= 3
    whole = quantised(linear_onnx, "static", images, tmp_path)
    torch.testing.assert_close(whole(images)[3:4], whole(images[3:4]), atol=1e-5, rtol=0)
    narrow = quantised(linear_onnx, "static", images[:64], tmp_path)  # clips the last
    error, clipped = ((found(images) - net(images)).abs().max() for found in (whole, narrow))
    assert clipped > 5 * error


def convolutional() -> nn.Module:
    layers = nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(128, 2048), nn.GELU()
    return filled(nn.Sequential(*layers, nn.Linear(2048, 5)))


def test_float32_is_the_net_by_the_runtime_alone(tmp_path: Path) -> None:
    net = convolutional().eval()
    found = Quantize("float32")(net, 16, images_of(0), tmp_path)
    torch.testing.assert_close(found(images_of(3)), net(images_of(3)), atol=1e-4, rtol=0)
    assert (found.precision, load(tmp_path).precision) == ("float32", "float32")
    Quantize("static")(net, 16, images_of(9), tmp_path / "int8")
    assert load(tmp_path / "int8").precision == "int8"


def test_bfloat16_is_openvinos_and_only_where_the_cpu_has_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        pytest.skip("OpenVINO looks for bfloat16 past what this hides, and finds no kernels")
    net, images = convolutional().eval(), images_of(6)
    try:
        openvino_core(in_bfloat16=True)
    except LeanvitError as error:
        pytest.skip(str(error))
    found = Quantize("bfloat16", "openvino")(net, 16, images_of(0), tmp_path)
    wanted, kept = net(images), load(tmp_path)
    assert (kept.precision, kept.runtime) == ("bfloat16", "OpenVINO")
    assert torch.equal(kept(images), found(images))
    assert 1e-4 < (found(images) - wanted).square().mean().sqrt() / wanted.std() < 0.05


def test_refuses_what_a_backend_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for backend, mode in (("onnxruntime", "bfloat16"), ("openvino", "dynamic")):
        with pytest.raises(LeanvitError, match=f"backend={backend} has no method.mode={mode}"):
            Quantize(mode, backend)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LeanvitError, match="wants OpenVINO: pip install"):
        Quantize("float32", "openvino")(linear(), 16, images_of(0), tmp_path)
    assert not list(tmp_path.iterdir())


def test_reloads_to_the_same_logits_and_leaves_the_net_as_it_was(
    tmp_path: Path,
) -> None:
    net = convolutional().train()
    before = copy.deepcopy(net.state_dict())
    handlers = list(logging.getLogger().handlers)
    net_in_int8 = Quantize()(net, 16, images_of(9), tmp_path)
    assert net.training
    torch.testing.assert_close(net.state_dict(), before, atol=0, rtol=0)
    assert logging.getLogger().handlers == handlers
    copied = copy.deepcopy(net_in_int8), pickle.loads(pickle.dumps(net_in_int8)), load(tmp_path)
    logits = net_in_int8(images_of(6))
    for other in copied:
        assert torch.equal(other.eval()(images_of(6)), logits)
    wanted = net.eval()(images_of(6))
    assert 0 < (logits - wanted).square().mean().sqrt() < 0.1 * wanted.std()
    [file] = tmp_path.iterdir()
    assert net_in_int8.weight_bytes == file.stat().st_size
    assert net_in_int8.weight_bytes < 0.45 * sum(4 * value.numel() for value in before.values())


def test_an_onnx_net_has_as_many_threads_as_torch(
    linear_onnx: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = run_onnx(linear_onnx, tmp_path)
    for num_threads in (2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda num=num_threads: num)
        net(images_of(2))
        [session] = net._sessions.values()
        assert session.get_session_options().intra_op_num_threads == num_threads


def test_refuses_images_on_another_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LeanvitError, match="on meta: run with device=cpu") as error:
        OnnxNet(tmp_path / "file")(images_of(1).to("meta"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrap",
    [lambda net: EarlyExit(net, 16), AViT, lambda net: QAT(DynamicViT(net, keep="threshold"))],
)
def test_refuses_nets_of_other_steps_for_each_image(wrap: Any, tmp_path: Path) -> None:
    with pytest.raises(LeanvitError, match="takes other steps for each image") as error:
        Quantize()(wrap(vit(depth=4)), 16, images_of(2), tmp_path)
    assert "\n" not in str(error.value) and "keep=top_k" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_refuses_to_calibrate_by_nothing_and_to_load_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LeanvitError, match="takes ranges from images, and there is none"):
        Quantize()(linear(), 16, torch.empty(0, 3, 16, 16), tmp_path)
    with pytest.raises(LeanvitError, match="has none of int8"):
        load(tmp_path)
