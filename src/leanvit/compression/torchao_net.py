"""Nets quantised by torchao (https://github.com/pytorch/ao) and compiled by Inductor."""

import io
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from leanvit.compression.onnx_net import check_on_cpu
from leanvit.compression.quiet import quiet
from leanvit.compression.trace import copy_of, trace

IMAGES_AT_ONCE = 64


def weight_only(net: nn.Module, image_size: int) -> ExportedProgram:
    """Linear layers' weights in int8, the arithmetic in float32."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    net = copy_of(net)
    quantize_(net, Int8WeightOnlyConfig())
    return trace(net, image_size)


def dynamic(net: nn.Module, image_size: int) -> ExportedProgram:
    """Linear layers in int8, the inputs scaled by the range of each token."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    net = copy_of(net)
    quantize_(net, Int8DynamicActivationInt8WeightConfig(reduce_range=True))
    return trace(net, image_size)


def static(
    net: nn.Module, image_size: int, calibration: Float[Tensor, "n 3 height width"]
) -> ExportedProgram:
    """Linear layers and convolutions in int8; inputs scaled by the range seen in calibration."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(reduce_range=True))
    with torch.no_grad():
        graph = prepare_pt2e(trace(copy_of(net), image_size).module(), quantizer)
        for images in calibration.split(IMAGES_AT_ONCE):
            graph(images)
        graph = convert_pt2e(graph)
        used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
        for name in [name for name, _ in graph.named_parameters() if name not in used]:
            owner, _, own_name = name.rpartition(".")
            delattr(graph.get_submodule(owner), own_name)  # a float32 weight, beside its int8
        return trace(graph, image_size)


class TorchaoNet(nn.Module):
    """A net that Inductor compiles when it first runs, which takes minutes; for the CPU.

    It has no parameters for torch and no gradients.

    Args:
        path: an :class:`torch.export.ExportedProgram`, saved.

    Attributes:
        weight_bytes: size of the file.
        precision: of its weights, as the file's name says.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.contents = path.read_bytes()
        self.weight_bytes, self.precision = len(self.contents), path.stem.replace("_", " ")
        self._compiled: list[Any] = []  # not as a module: it refuses eval() and train()
        self._batch_sizes: set[int] = set()  # that it has seen

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        check_on_cpu(images, "torchao")
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            if len(images) in self._batch_sizes:
                return self._net()(images.float())
            self._batch_sizes.add(len(images))
            # constants folded: without that no layer finds its int8 kernel
            with quiet(), torch._inductor.config.patch(freezing=True):  # it may be compiled now
                return self._net()(images.float())

    def _net(self) -> Any:
        if not self._compiled:
            import torchao  # noqa: F401  # else its kinds of tensors and operations are unknown

            program = torch.export.load(io.BytesIO(self.contents))
            self._compiled.append(torch.compile(program.module(), dynamic=True))
        return self._compiled[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": [], "_batch_sizes": set()}
