"""python classify.py <image or folder> [model_int8.onnx] [--csv predictions.csv]

Prints the likeliest classes of an image, or writes those of all images in a folder to a CSV file.
Needs onnxruntime, numpy and Pillow, and the files beside it.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from leanvit.data.pixels import decode, endings

HERE = Path(__file__).resolve().parent
AT_ONCE = 32  # images


def main() -> None:
    """What the command line asks for; status 1 where an image could not be read."""
    parser = argparse.ArgumentParser(usage=str(__doc__).splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("model", nargs="?", default="model.onnx")
    parser.add_argument("--csv", type=Path, default=Path("predictions.csv"))
    given = parser.parse_args()
    if not given.images.exists():
        sys.exit(f"error: there is no {given.images}")
    models = sorted(path.name for path in HERE.glob("*.onnx"))
    if given.model not in models:  # as the second of several images
        sys.exit(f"error: {given.model} is none of {', '.join(models)}: one image or folder a call")
    try:
        about = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))
        session = onnxruntime.InferenceSession(HERE / given.model)
    except Exception as error:  # onnxruntime has a kind of its own for each fault
        sys.exit(f"error: {HERE} is no whole export ({' '.join(str(error).split())}): export again")
    if given.images.is_dir():
        write_csv(given.images, given.csv, session, about)
        return
    if not (found := list(classified([given.images], session, about))):
        sys.exit(1)
    probabilities = found[0][1]
    for k in probabilities.argsort()[::-1][:5]:
        print(f"{probabilities[k]:.4f} {about['labels'][k]}")


def write_csv(folder: Path, path: Path, session: Any, about: dict[str, Any]) -> None:
    """A line for each image: its path, its class, and the probability of every class."""
    images, labels, num = images_in(folder), about["labels"], 0
    if not images:
        sys.exit(f"error: {folder} holds no image that Pillow reads")
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        # names of files may be no text
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "class", "probability", *map(as_text, labels)])
            for image, probabilities in classified(images, session, about):
                best = probabilities.argmax()
                each = (f"{value:.6f}" for value in (probabilities[best], *probabilities))
                writer.writerow([as_text(str(image)), as_text(labels[best]), *each])
                num += 1
        part.replace(path)
    except OSError as error:
        sys.exit(f"error: cannot write {path} ({error.strerror}): choose another --csv")
    finally:
        part.unlink(missing_ok=True)
    print(f"{path}: {num} of {len(images)} images")
    if num < len(images):
        sys.exit(1)


def as_text(name: str) -> str:
    """A name that a spreadsheet would compute, with the mark that makes it text."""
    is_formula = name.lstrip()[:1] in ("=", "+", "-", "@") and not name[1:].isdecimal()
    return f"'{name}" if is_formula else name


def images_in(folder: Path) -> list[Path]:
    """All below it, sorted; links are followed, each folder is seen once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if name[0] not in ".@"]
        if real not in seen:
            found += [Path(place, name) for name in names if name[0] != "."]
        seen.add(real)
    return sorted(path for path in found if path.suffix.lower() in endings() and path.is_file())


def classified(
    paths: list[Path], session: Any, about: dict[str, Any]
) -> Iterator[tuple[Path, np.ndarray]]:
    """Each image that can be read, with the probability of each class; others are named."""
    for start in range(0, len(paths), AT_ONCE):
        read = [(path, image) for path in paths[start : start + AT_ONCE]
                if (image := read_image(path, about)) is not None]  # fmt: skip
        if not read:
            continue
        pixels = (np.stack([image for _, image in read]) / 255 - about["mean"]) / about["std"]
        batch = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        logits = session.run(["logits"], {"images": batch})[0]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        yield from zip([path for path, _ in read], probabilities, strict=True)


def read_image(path: Path, about: dict[str, Any]) -> np.ndarray | None:
    """Its pixels as in training, or None and a line that says why not."""
    try:
        if not path.is_file():
            raise OSError("it is no regular file")
        with path.open("rb") as file:
            return decode(file, about["image_size"], about["fit"])
    except Exception as error:  # Pillow raises many kinds for a damaged file
        print(f"error: cannot read image {path} ({error})", file=sys.stderr)
        return None


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):  # a label may have letters that the terminal lacks
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    main()
