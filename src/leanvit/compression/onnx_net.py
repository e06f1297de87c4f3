"""Nets as ONNX (https://onnx.ai), and run by ONNX Runtime (https://onnxruntime.ai) or by OpenVINO
(https://docs.openvino.ai)."""

import zlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from torch import Tensor, nn

from leanvit.compression.quiet import quiet
from leanvit.compression.trace import copy_of, trace
from leanvit.errors import LeanvitError


def to_onnx(net: nn.Module, image_size: int, opset: int | None = None) -> Any:
    """The net as an ``onnx.ModelProto``: ``images`` (batch, 3, height, width), any number of them,
    to ``logits`` (batch, classes).

    Args:
        opset: version of the operators; ``None``: torch's choice.

    Raises:
        LeanvitError: see :func:`leanvit.compression.trace.copy_of`; or no graph of that opset.
    """
    program = trace(copy_of(net), image_size)
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
        )
    assert exported is not None
    model = exported.model_proto
    versions = {each.domain: each.version for each in model.opset_import}
    if opset and versions[""] != opset:  # it could not be brought to it, and stays as it was
        raise LeanvitError(
            f"method.opset={opset}: {type(net).__name__} has steps that it lacks, {versions['']} "
            "has them"
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]  # shapes of tensors that the exporter's own folding turned round
    for node in model.graph.node:
        del node.metadata_props[:]  # the lines of source that it came from, and paths to them
    return model


def _stable_sort(
    self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    """torch's stable sort, for which torch.onnx has no translation; of equal values TopK takes the
    first first."""
    from onnxscript import opset20 as operators

    size = operators.Shape(self, start=dim, end=dim + 1 if dim != -1 else None)
    return operators.TopK(self, size, axis=dim, largest=int(descending), sorted=1)


class OnnxNet(nn.Module):
    """A net that ONNX Runtime computes, on the CPU, with as many threads as torch.

    It has no parameters for torch and no gradients. Copies and pickles carry the file's contents.

    Args:
        path: an ONNX file, as :func:`to_onnx` or the quantisation of its result leaves it.

    Attributes:
        runtime: what computes it.
        weight_bytes: size of the file.
        precision: of its matrix products, as the end of the file's name says.
        checksum: of the file's contents.

    Raises:
        LeanvitError: when called with images on another device.
    """

    runtime = "ONNX Runtime"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.contents = path.read_bytes()
        self.weight_bytes, self.precision = len(self.contents), path.stem.rpartition("-")[2]
        self.checksum = zlib.crc32(self.contents)
        self._sessions: dict[int, Any] = {}  # by the number of threads

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        if images.device.type != "cpu":
            raise LeanvitError(
                f"this net computes by {self.runtime} on the CPU, its images are on "
                f"{images.device}: run with device=cpu or trainer=cpu"
            )
        num_threads = torch.get_num_threads()
        if num_threads not in self._sessions:
            self._sessions = {num_threads: self._open(num_threads)}
        pixels = images.detach().float().contiguous().numpy()
        return torch.from_numpy(self._run(self._sessions[num_threads], pixels))

    def _open(self, num_threads: int) -> Any:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors
        # its threads would go on spinning beside whatever torch computes next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return InferenceSession(self.contents, options, providers=["CPUExecutionProvider"])

    def _run(
        self, session: Any, pixels: Float32[ndarray, "batch channels height width"]
    ) -> Float32[ndarray, "batch classes"]:
        return session.run(["logits"], {"images": pixels})[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": {}}


class OpenVinoNet(OnnxNet):
    """The same by OpenVINO, in float32 or, as its file's name says, in bfloat16.

    Raises:
        LeanvitError: when called, see :func:`openvino_core`.
    """

    runtime = "OpenVINO"

    def _open(self, num_threads: int) -> Any:
        in_bfloat16 = self.precision == "bfloat16"
        core = openvino_core(in_bfloat16)
        options = {
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # to cores that others may use
            # else it rounds to bfloat16 by itself on some CPUs
            "INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32",
        }
        model = core.read_model(self.contents)
        return core.compile_model(model, "CPU", options).create_infer_request()

    def _run(
        self, session: Any, pixels: Float32[ndarray, "batch channels height width"]
    ) -> Float32[ndarray, "batch classes"]:
        return session.infer({0: pixels}, share_inputs=True)[0]


def openvino_core(in_bfloat16: bool) -> Any:
    """What reads and compiles files.

    Raises:
        LeanvitError: OpenVINO is not installed, or has no bfloat16 on this CPU.
    """
    try:
        from openvino import Core
    except ImportError as error:
        raise LeanvitError(
            "method.backend=openvino wants OpenVINO: pip install -e '.[openvino]'"
        ) from error
    core = Core()
    if in_bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise LeanvitError("OpenVINO has no bfloat16 on this CPU: take method.mode=float32")
    return core
