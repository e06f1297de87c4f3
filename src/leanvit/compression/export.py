"""A net to take along: ONNX files and what they need, without leanvit and without torch.

In the folder ``export`` of the run:

- ``model.onnx``: normalised images (batch, 3, height, width), any number of them, to logits.
- ``model_int8.onnx``: the same, quantised as ``method=quantize`` does by default.
- ``preprocessing.json``: what makes a file an image that the net knows, and the labels' names.
- ``classify.py``: classifies an image file, by onnxruntime, numpy and Pillow alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from leanvit.compression.onnx_net import OnnxNet, to_onnx
from leanvit.compression.quantize import IMAGES_AT_ONCE, quantize_onnx
from leanvit.compression.trace import copy_of
from leanvit.errors import LeanvitError
from leanvit.files import atomic_path, write_json

TOLERANCE = 1e-3  # between the logits of torch and of ONNX Runtime, both in float32

SCRIPT = '''"""python classify.py image.jpg [model_int8.onnx]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
    sys.exit("usage: " + __doc__)
folder = Path(__file__).parent
about = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
size = (about["image_size"], about["image_size"])
image = Image.open(sys.argv[1]).convert("RGB").resize(size, Image.Resampling.BILINEAR)
pixels = (np.asarray(image) / 255 - about["mean"]) / about["std"]
batch = pixels.transpose(2, 0, 1)[None].astype(np.float32)
model = folder / (sys.argv[2] if len(sys.argv) > 2 else "model.onnx")
[logits], = onnxruntime.InferenceSession(model).run(["logits"], {"images": batch})
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for k in probabilities.argsort()[::-1][:5]:
    print(f"{probabilities[k]:.4f} {about['labels'][k]}")
'''


def export(
    net: nn.Module,
    image_size: int,
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
    classes: Sequence[str],
    calibration: Float[Tensor, "n 3 height width"],
    validation: Float[Tensor, "m 3 height width"],
    folder: Path,
) -> dict[str, dict[str, float]]:
    """Write the files into ``folder``, and compare what they compute with the net.

    Args:
        image_size: height and width of the images in pixels.
        mean, std: the normalisation that the net was trained with, per channel, in 0..1.
        classes: name of each logit.
        calibration: normalised images of the training split, for the int8.
        validation: normalised images to compare by.

    Returns:
        For ``float32`` and ``int8``: ``bytes`` of the file, ``max_difference`` of a logit from the
        net's, ``difference_99``, which 99 % of the images do not exceed, and ``agreement``, the
        share of the images that get the net's class.

    Raises:
        LeanvitError: no fixed graph holds the net's steps, or what ONNX Runtime computes in float32
            is not what the net computes.
    """
    model = to_onnx(net, image_size)
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
        "colours": "RGB",
        "layout": "batch, colours, height, width",
        "scaling": "(pixel / 255 - mean) / std",
        "mean": mean.tolist(),
        "std": std.tolist(),
        "labels": list(classes),
    }
    write_json(about, folder / "preprocessing.json")
    with atomic_path(folder / "classify.py") as part:
        part.write_text(SCRIPT, encoding="utf-8")
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
