"""int8 after training: a smaller file and, where the CPU has the kernels, less time.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018 (https://arxiv.org/abs/1712.05877); by ONNX Runtime
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html), whose files
OpenVINO computes, too (``backend=openvino``).

- Weights: the range of each output channel, symmetric around zero.
- ``static``: inputs of linear layers and convolutions have a fixed range, the one seen in
  calibration images from the training split. An image's logits do not depend on its batch.
- ``dynamic``: inputs of linear layers have the range that they have, that of the whole batch, so
  that an image's logits depend on its batch. Convolutions stay float32.
- ``float32``, ``bfloat16``: nothing is int8; what the backend alone gains, to compare the others
  with. ONNX Runtime has no bfloat16 on CPUs, and OpenVINO no ``dynamic``.
- Products of two activations, softmax, norms and activation functions stay float32.

Deviations:

- Weights have 7 of the 8 bits: a CPU without VNNI adds two products in 16 bits, which would
  overflow. So a file computes the same function on every CPU.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from leanvit.compression.onnx_net import OnnxNet, OpenVinoNet, openvino_core, to_onnx
from leanvit.compression.quiet import quiet
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path

Mode = Literal["static", "dynamic", "float32", "bfloat16"]
Backend = Literal["onnxruntime", "openvino"]
NETS = {
    "int8.onnx": OnnxNet,
    "float32.onnx": OnnxNet,
    "openvino-int8.onnx": OpenVinoNet,
    "openvino-float32.onnx": OpenVinoNet,
    "openvino-bfloat16.onnx": OpenVinoNet,
}
LACKS = ("onnxruntime", "bfloat16"), ("openvino", "dynamic")
IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Quantize:
    """Quantisation of a trained net into a file.

    Attributes:
        mode: see above.
        backend: what computes the file.
    """

    mode: Mode = "static"
    backend: Backend = "onnxruntime"

    def __post_init__(self) -> None:
        if (self.backend, self.mode) in LACKS:
            raise LeanvitError(
                f"method.backend={self.backend} has no method.mode={self.mode}: see "
                "conf/method/quantize.yaml"
            )

    def __call__(
        self,
        net: nn.Module,
        image_size: int,
        calibration: Float[Tensor, "n 3 height width"],
        folder: Path,
    ) -> OnnxNet:
        """Quantise ``net``, which stays as it is, write the file, and return what runs it.

        Args:
            image_size: height and width of the images in pixels.
            calibration: normalised images of the training split; only ``static`` reads them.
            folder: of the run; gets one of the files named above, in one piece.

        Raises:
            LeanvitError: see :func:`leanvit.compression.trace.copy_of` and
                :func:`leanvit.compression.onnx_net.openvino_core`; no images to calibrate by.
        """
        if self.mode == "static" and len(calibration) == 0:
            raise LeanvitError("method.mode=static takes ranges from images, and there is none")
        if self.backend == "openvino":
            openvino_core(self.mode == "bfloat16")
        model, is_float = to_onnx(net, image_size), self.mode in ("float32", "bfloat16")
        of_backend = "openvino-" if self.backend == "openvino" else ""
        with atomic_path(folder / f"{of_backend}{self.mode if is_float else 'int8'}.onnx") as part:
            if is_float:
                part.write_bytes(model.SerializeToString())
            else:
                quantize_onnx(model, self.mode, calibration, part, self.backend)
        return load(folder)


def load(folder: Path) -> OnnxNet:
    """The net that was quantised into ``folder``.

    Raises:
        LeanvitError: there is none.
    """
    for name, kind in NETS.items():
        if (folder / name).exists():
            return kind(folder / name)
    raise LeanvitError(f"{folder} has none of {', '.join(NETS)}: delete it and quantise again")


def quantize_onnx(
    model: Any,
    mode: str,
    calibration: Float[Tensor, "n 3 height width"],
    path: Path,
    backend: Backend = "onnxruntime",
) -> None:
    """Write the int8 form of an ``onnx.ModelProto`` in float32 to ``path``.

    Args:
        mode: ``static`` or ``dynamic``.
        backend: what is to compute it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    options: dict[str, Any] = {
        "per_channel": True,
        "reduce_range": True,
        "weight_type": QuantType.QInt8,
    }
    # What adds to the stream of tokens is not rounded a second time. A convolution's output is:
    # else ONNX Runtime takes float32; OpenVINO (2026.4) takes int8 and errs where it is rounded.
    unrounded = ["MatMul", "Gemm", *(["Conv"] if backend == "openvino" else [])]
    weights = {initializer.name for initializer in model.graph.initializer}
    layers = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv") and node.input[1] in weights
    ]
    with quiet():
        if mode == "dynamic":
            linear = ["MatMul", "Gemm"]  # int8 convolutions of unknown range take longer than float
            quantize_dynamic(model, path, op_types_to_quantize=linear, **options)
            return
        quantize_static(
            model,
            path,
            _Batches(calibration),
            nodes_to_quantize=layers,
            activation_type=QuantType.QUInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": unrounded},
            **options,
        )


class _Batches:
    """Calibration images as ONNX Runtime asks for them."""

    def __init__(self, images: Float[Tensor, "n 3 height width"]) -> None:
        self.batches = iter(images.float().split(IMAGES_AT_ONCE))

    def get_next(self) -> dict[str, Any] | None:
        images = next(self.batches, None)
        return None if images is None else {"images": images.contiguous().numpy()}
