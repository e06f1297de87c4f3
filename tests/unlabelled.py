"""Photographs that want care, and what a finished run says of images."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from leanvit.app.finished import Run
from leanvit.app.nets import load_run
from leanvit.data.images import ImageSet
from leanvit.data.pixels import decode
from leanvit.evaluation.measure.predict import predict
from leanvit.evaluation.measure.tta import TTA


def odd_images(folder: Path) -> Path:
    """A photograph of each kind that wants care, and what is none."""
    rng = np.random.default_rng(0)
    (folder / "夏 2024").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (40, 60, 4), np.uint8), "CMYK").save(folder / "cmyk.jpg")
    wide = rng.integers(0, 2**16, (40, 40)).astype(np.uint16)
    Image.fromarray(wide).save(folder / "wide.png")
    lying = Image.fromarray(rng.integers(0, 256, (30, 90, 3), np.uint8))
    lying.save(folder / "夏 2024" / "<i>a&b.webp", exif=exif)
    (folder / "cut.jpg").write_bytes((folder / "cmyk.jpg").read_bytes()[:900])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    return folder


def wanted(run: Path, paths: list[Path], tta: TTA = "none") -> Tensor:
    """What evaluation says of these images."""
    trained = load_run(Run(run))
    pixels = [torch.from_numpy(decode(path, trained.image_size)) for path in paths]
    labels = torch.zeros(len(paths), dtype=torch.long)
    data = ImageSet(torch.stack(pixels).permute(0, 3, 1, 2), labels, trained.classes)
    return predict(trained, data, torch.device("cpu"), tta=tta)
