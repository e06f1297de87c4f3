"""A net to take along: ONNX files and what they need, without leanvit and without torch.

In the folder ``export`` of the run:

- ``model.onnx``: normalised images (batch, 3, height, width), any number of them, to logits. The
  axis of images is called ``batch``.
- ``model_int8.onnx``: the same, quantised as ``method=quantize`` does by default.
- ``preprocessing.json``: what makes a file an image that the net knows, and the labels' names.
- ``classify.py``: classifies an image or a folder of them, by onnxruntime, numpy and Pillow alone.
- ``pixels.py``: decodes images for it, as training does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Float32
from torch import Tensor, nn

from leanvit.compression.onnx_net import OnnxNet, to_onnx
from leanvit.compression.quantize import IMAGES_AT_ONCE, quantize_onnx
from leanvit.compression.trace import copy_of
from leanvit.data import pixels
from leanvit.data.pixels import Fit
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path, write_json

TOLERANCE = 1e-3  # between the logits of torch and of ONNX Runtime, both in float32

OPSET = 20

# what training decodes images by goes along, word for word
PIXELS = Path(pixels.__file__).read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("classify.py").read_text(encoding="utf-8")
SCRIPT = SCRIPT.replace("from leanvit.data.pixels import", "from pixels import")


def export(
    net: nn.Module,
    image_size: int,
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
    classes: Sequence[str],
    calibration: Float[Tensor, "n 3 height width"],
    validation: Float[Tensor, "m 3 height width"],
    folder: Path,
    fit: Fit = "stretch",
    opset: Annotated[int, Ge(17), Le(23)] = OPSET,
) -> dict[str, dict[str, float]]:
    """Write the files into ``folder``, and compare what they compute with the net.

    Args:
        image_size: height and width of the images in pixels.
        mean, std: the normalisation that the net was trained with, per channel, in 0..1.
        classes: name of each logit.
        calibration: normalised images of the training split, for the int8.
        validation: normalised images to compare by.
        fit: how images of another shape became squares in training.
        opset: version of ONNX's operators: an older one for older runtimes.

    Returns:
        For ``float32`` and ``int8``: ``bytes`` of the file, ``max_difference`` of a logit from the
        net's, ``difference_99``, which 99 % of the images do not exceed, and ``agreement``, the
        share of the images that get the net's class.

    Raises:
        LeanvitError: no fixed graph holds the net's steps, none of that opset, or what ONNX Runtime
            computes in float32 is not what the net computes.
    """
    model = to_onnx(net, image_size, opset)
    paths = {"float32": folder / "model.onnx", "int8": folder / "model_int8.onnx"}
    with atomic_path(paths["float32"]) as part:
        part.write_bytes(model.SerializeToString())
        found = {"float32": compare(net, OnnxNet(part), validation)}
        # not the greatest: where a net chooses tokens, a tie may fall the other way in one of
        # thousands of images, whose logits then differ by more
        if not found["float32"]["difference_99"] <= TOLERANCE:
            raise LeanvitError(
                f"method=export: logits of {type(net).__name__} in ONNX are "
                f"{found['float32']['difference_99']:.2g} off, more than {TOLERANCE:g}: use the "
                "run without exporting it, and report it"
            )
    with atomic_path(paths["int8"]) as part:
        quantize_onnx(model, "static", calibration, part)
        found["int8"] = compare(net, OnnxNet(part), validation)
    about: dict[str, Any] = {
        "image_size": image_size,
        "resize": "bilinear",
        "fit": fit,
        "ground": pixels.GROUND,
        "colours": "RGB",
        "layout": "batch, colours, height, width",
        "scaling": "(pixel / 255 - mean) / std",
        "mean": mean.tolist(),
        "std": std.tolist(),
        "labels": list(classes),
        "opset": opset,
    }
    write_json(about, folder / "preprocessing.json")
    for name, text in (("pixels.py", PIXELS), ("classify.py", SCRIPT)):
        with atomic_path(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return found


@torch.no_grad()
def compare(
    net: nn.Module, onnx_net: OnnxNet, images: Float[Tensor, "n 3 height width"]
) -> dict[str, float]:
    """How far logits are from those of ``net`` in float32, and how often the class is the same."""
    net, differences, num_same = copy_of(net), [], 0
    for batch in images.float().split(IMAGES_AT_ONCE):
        wanted, found = net(batch), onnx_net(batch)
        differences.append((found - wanted).abs().amax(dim=1))
        num_same += int((found.argmax(dim=1) == wanted.argmax(dim=1)).sum())
    each = torch.cat(differences)
    return {
        "bytes": onnx_net.weight_bytes,
        "max_difference": each.max().item(),
        "difference_99": each.quantile(0.99).item(),
        "agreement": num_same / len(images),
    }
