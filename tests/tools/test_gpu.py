"""tools/gpu.py: what is trained in which order, what is not begun, what is not done twice."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import ROOT

NET = "leanvit.models.{}".format
TIME: dict[str, Any] = {"kind": "time", "compile": True, "batch_size": 128, "setup": 0.0,
                        "num_images": 1000, "done": True}  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    yield importlib.import_module("gpu")
    for name in ("gpu", "step", "book"):
        sys.modules.pop(name, None)


def timed(book: Any, name: str, model: str, rate: float) -> None:
    book.write({**TIME, "name": name}, model=NET(model), rate=rate)


def test_rows_come_cheapest_first_after_the_seeds_of_the_quickest(gpu: ModuleType) -> None:
    macs = gpu.all_macs()
    names = gpu.cheapest_first(macs)
    assert names[0] == "speedrun_88" and len(names) == len(macs) == 28
    assert macs[names[1]] == 0.09 and names[-1] == "vit_v1.7"


def test_what_does_not_fit_is_not_begun_and_what_is_done_is_not_done_again(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []

    def train(book: Any, name: str, seed: int, out: Path) -> dict[str, Any]:
        begun.append((name, seed))
        fails = seed == 1 and book.minutes == 10
        return {"status": 1} if fails else {"status": 0, "done": True}

    monkeypatch.setattr(gpu, "train", train)
    choices = ["trainer=cpu", "max_epochs=100"]
    path, names = tmp_path / "gpu.jsonl", ["speedrun_88", "vit_v1.1", "vit_v1.3", "swin_v0.1"]
    book = gpu.Book(path, choices, minutes=10)
    timed(book, "speedrun_88", "airbench.Airbench", 1000)
    # 100 epochs of 1,000 images at 250/s are 440 s; with 1.92 in place of 1.23 G MACs 687 s
    timed(book, "vit_v1.1", "vit.ViT", 250)
    gpu.train_all(book, names, tmp_path)
    seeds = [("speedrun_88", seed) for seed in range(5)]
    assert begun == [*seeds, ("vit_v1.1", 0)]
    told = {line["name"]: line.get("not_begun") for line in map(json.loads, path.open())}
    assert "707 s" in told["vit_v1.3"] and "timed" in told["swin_v0.1"]

    begun.clear()
    path.open("a").write('{"kind": "run", "na')  # cut off
    gpu.train_all(gpu.Book(path, choices, minutes=20), names, tmp_path)
    assert begun == [("speedrun_88", 1), ("vit_v1.3", 0)]
    assert len(gpu.Book(path, choices, minutes=20).found(kind="run")) == 7
    assert not gpu.Book(path, ["trainer=cpu", "max_epochs=1"], minutes=20).lines
