"""Everything that is wanted of a CUDA machine, for a quarter of an hour at it: checks, times, runs.

    python tools/gpu.py out=<folder> data.source=cifar10_course.zip
    python tools/gpu.py out=<folder> minutes=9 only=coatnet_v0.4,swin_v0.1 max_epochs=50
    python tools/gpu.py out=<folder> device=cpu only=demo_vit max_epochs=1      # to try the script

First, for five minutes at most: do the nets compute in bfloat16 there what they compute in float32
on the CPU; how many images/s has a training, eager and compiled; what share of it is the loader's.
Then src/train.py trains speedrun_88 with five seeds, and the rows of the published tables, those of
fewest MACs first; a run that would not be done in ``minutes`` is not begun. All other choices are
train.py's, and hold for all runs.

Each result is a line of <folder>/gpu.jsonl as soon as it is there. The same command goes on after a
stop: what has its line is not done again, an unfinished run goes on after its last epoch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from book import Book
from step import composed, time_steps
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.app.build import build_data, load_splits, wants_compile
from leanvit.app.command import CONF, spoken
from leanvit.app.names import PUBLISHED
from leanvit.app.nets import build_net
from leanvit.augment.normalise import normalise
from leanvit.data.loader import make_loader
from leanvit.evaluation.published import read_published
from leanvit.training.data_module import ImageDataModule

TRAIN = CONF.parent / "src" / "train.py"
FIRST, SEEDS = "speedrun_88", 5
TIMED = [FIRST, "coatnet_v0.4", "swin_v0.1", "vit_v1.1"]
BATCH_SIZES = (128, 500)
CHECKS_END, TIMES_END = 90.0, 300.0  # seconds after the start: none is begun after that
# norm of the difference to that of the exact: rounding to 8 bits gives 0.01, where the largest of a
# pool is another one then, 0.06
TOLERANCE = 0.1
START = 20.0  # seconds: imports, the test images, figures


def main() -> None:
    own = {"out": "", "minutes": "14", "only": "", "device": "cuda"}
    given = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
    own |= {key: given.pop(key) for key in own if key in given}
    if not own["out"] or any("=" not in each for each in sys.argv[1:]):
        sys.exit("out=<folder> is wanted, and key=value alone: see the top of tools/gpu.py")
    if own["device"] == "cuda" and not torch.cuda.is_available():
        sys.exit("this machine has no usable CUDA device; device=cpu tries the script without one")
    out = Path(own["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    choices = [f"trainer={'gpu' if own['device'] == 'cuda' else 'cpu'}"]
    choices += [f"{key}={value}" for key, value in given.items()]
    book = Book(out / "gpu.jsonl", choices, float(own["minutes"]))
    names, device = own["only"].split(",") if own["only"] else [], torch.device(own["device"])
    timed, names = names or TIMED, names or cheapest_first(all_macs())
    load_splits(composed(f"experiment={names[0]}", *choices))  # images that lack are told at once
    for name in names:
        book.try_once({"kind": "check", "name": name}, CHECKS_END, check, name, choices, device)
    for about in to_be_timed(timed, given.get("compile")):
        book.try_once({"kind": "time", **about}, TIMES_END, time_one, about, choices, device)
    train_all(book, names, out)


def all_macs() -> dict[str, float]:
    """G MACs of each published row, and 0 for what is trained before them."""
    rows = read_published(PUBLISHED).items()
    return {FIRST: 0.0, **{name: row.macs / 1e9 for name, row in rows}}


def cheapest_first(macs: Mapping[str, float]) -> list[str]:
    return sorted(macs, key=lambda name: macs[name])


def check(name: str, choices: Sequence[str], device: torch.device) -> dict[str, Any]:
    """How far logits and gradient of 8 images are from those of float32 on the CPU.

    Of the net without the method around it: a token that is dropped or not is no rounding error.
    """
    config = composed(f"experiment={name}", *choices)
    data = build_data(config, load_splits(config))
    images = normalise(data.sample(8)[:8], *data.statistics())
    net = build_net(config, len(data.train.classes)).eval()  # nothing is drawn
    labels = torch.arange(len(images)) % len(data.train.classes)
    exact = logits_and_gradient(net, images, labels, bfloat16=False)
    rounded = logits_and_gradient(net.to(device), images.to(device), labels.to(device), True)
    logits, gradient = (
        float((mine.cpu() - true).norm() / true.norm())
        for mine, true in zip(rounded, exact, strict=True)
    )
    within = logits < TOLERANCE and gradient < TOLERANCE  # not so where one is NaN
    return {"within": within, "logits": round(logits, 4), "gradient": round(gradient, 4)}


def logits_and_gradient(
    net: nn.Module, images: Tensor, labels: Tensor, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """The gradient is that of the cross entropy to all weights, as one vector."""
    net.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        logits = net(images).float()
    cross_entropy(logits, labels).backward()
    gradients = [each.grad.flatten() for each in net.parameters() if each.grad is not None]
    return logits.detach(), torch.cat(gradients).clone()


def to_be_timed(names: Sequence[str], compile: str | None) -> Iterator[dict[str, Any]]:
    """What runs take first: a five minutes' end cuts the rest."""
    kinds = [True, False] if compile in (None, "auto") else [compile == "true"]
    for batch_size, compiled, name in product(BATCH_SIZES, kinds, names):
        yield {"name": name, "batch_size": batch_size, "compile": compiled}


def time_one(
    about: Mapping[str, Any], choices: Sequence[str], device: torch.device
) -> dict[str, Any]:
    """Images/s of a training, seconds until its steps are timed, the loader's share of a step."""
    batch_size, start = about["batch_size"], time.perf_counter()
    config = composed(f"experiment={about['name']}", *choices, f"batch_size={batch_size}")
    config.compile = about["compile"]
    if config.compile:
        torch.compiler.reset()  # else a second net of a class is compiled for both sizes
    warm, timed = (10, 20_000 // batch_size) if device.type == "cuda" else (1, 2)
    seconds = time_steps(config, warm, timed) / timed
    setup = time.perf_counter() - start - timed * seconds
    data = build_data(config, load_splits(config))
    share = loader_seconds(config, data, device) / seconds
    return {
        "rate": round(batch_size / seconds, 1),
        "loader": round(share, 4),
        "setup": round(setup, 1),
        "model": config.model._target_,
        "num_images": len(data.train),
    }


def loader_seconds(config: Any, data: ImageDataModule, device: torch.device) -> float:
    """Seconds for a batch as it comes to the net, alone."""
    sampler = data.sampler(labels=data.train.labels, seed=0, rank=0, num_ranks=1)
    size, memory = config.batch_size, config.memory_gib
    loader = make_loader(data.train, sampler, data.augment, size, device, memory, drop_last=True)
    mean, std = (each.to(device) for each in data.statistics())
    start = time.perf_counter()
    for images, _ in loader:
        normalise(images, mean, std)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(loader)


def train_all(book: Book, names: Sequence[str], out: Path) -> None:
    """Train what fits into the time that is left, in this order."""
    for name in names:
        for seed in range(SEEDS if name == FIRST else 1):
            about = {"kind": "run", "name": name, "seed": seed}
            if book.found(**about):
                continue
            estimate = estimated_seconds(book, name)
            if estimate is None:
                book.write(about, not_begun="no net of its kind was timed")
            elif estimate > book.left:
                why = f"it wants {estimate:.0f} s, {book.left:.0f} s are left"
                book.write(about, not_begun=why)
            else:
                book.write(about, estimate=round(estimate), **train(book, name, seed, out))


def estimated_seconds(book: Book, name: str) -> float | None:
    """Of a whole run, by the times of this net or of the nearest of its kind.

    A net of more MACs is taken to be slower by as much, and one of fewer no faster.
    """
    config, macs = composed(f"experiment={name}", *book.choices), all_macs()
    compiled = wants_compile(config.compile, config.max_epochs, config.trainer)

    def distance(line: Mapping[str, Any]) -> tuple[bool, bool, int]:
        size = abs(line["batch_size"] - config.batch_size)
        return line["name"] != name, line["compile"] != compiled, size

    lines = [line for line in book.found(kind="time") if line["model"] == config.model._target_]
    if not lines:
        return None
    nearest = min(lines, key=distance)
    slower = 1.0
    if nearest["name"] != name and macs.get(nearest["name"]):
        slower = max(1.0, macs.get(name, 0.0) / macs[nearest["name"]])
    num_images = config.max_epochs * nearest["num_images"]
    # a tenth for the validation images
    return 1.1 * slower * num_images / nearest["rate"] + nearest["setup"] + START


def train(book: Book, name: str, seed: int, out: Path) -> dict[str, Any]:
    """Run train.py, and stop it where the time is over: it then goes on another day."""
    asked = [f"experiment={name}", f"seed={seed}", *book.choices, f"outputs={out}"]
    log, start = out / f"{name}-{seed}.log", time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, str(TRAIN), *asked], stdout=file, stderr=file)
        try:
            status = process.wait(timeout=max(book.left, 1))
        except subprocess.TimeoutExpired:
            process.terminate()  # a whole epoch is kept
            status = process.wait()
    found: dict[str, Any] = {"status": status, "seconds": round(time.perf_counter() - start, 1)}
    said = [line.split(" is finished:")[0] for line in log.read_text().splitlines()]
    folders = [Path(line) for line in said if line.startswith(str(out))]
    if status == 0 and folders:
        told = json.loads((folders[0] / "metrics.json").read_text())
        found |= {"done": True, "run": folders[0].name, "test": told["test"]["accuracy"],
                  "training": told["training"]["seconds"]}  # fmt: skip
    else:
        found["said"] = said[-1] if said else ""
    return found


if __name__ == "__main__":
    spoken(main)
