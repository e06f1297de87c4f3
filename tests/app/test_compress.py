"""compress.py: from a finished run to a smaller one, which is a run again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import request_of
from omegaconf import OmegaConf
from scripts import TINY_DATA, call, fork, kill_at, no_figures

from leanvit.app.build import build_data, load_splits
from leanvit.app.compress import as_it_ended
from leanvit.app.finished import Run
from leanvit.app.nets import load_run
from leanvit.data.shapes import shapes
from leanvit.evaluation.measure.predict import predict
from leanvit.lightweight.distill import Distill, taught
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.models.vit import ViT

pytestmark = pytest.mark.xdist_group("compress")
VIT = ["model=vit", "model.dim=24", "model.depth=2", "model.heads=3", "model.mlp_dim=32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    options = ["max_epochs=1", "batch_size=64", "trainer=cpu", f"outputs={outputs}"]
    with no_figures():
        done = call("train.py", *VIT, *TINY_DATA, *options)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def assert_says_the_same_again(run_dir: Path) -> None:
    """In the same precision, bit for bit."""
    run = Run(run_dir)
    data = build_data(run.config, load_splits(run.config))
    found = predict(load_run(run), data.test, torch.device("cpu")).numpy()
    with np.load(run_dir / "predictions.npz") as saved:
        np.testing.assert_array_equal(found, saved["test_probabilities"])


def test_pruning_goes_on_after_a_kill_and_leaves_a_run(
    base: Path, tmp_path: Path, undrawn: None
) -> None:
    command = [f"run={base}", "method=prune", "method.macs=0.7", "method.steps=2", "trainer=cpu"]
    command += ["method.epochs=2", "method.multiple=4", f"outputs={base.parents[1]}"]
    log = tmp_path / "log"
    kill_at(fork(log, "compress.py", *command), log, "step 2")
    done = call("compress.py", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stderr
    run_dir = Path(done.stdout.splitlines()[-1])
    told, before = (json.loads((each / "metrics.json").read_text()) for each in (run_dir, base))
    assert told["choices"]["method"] == "prune" and told["seed"] == before["seed"]
    assert told["compressed"]["run"] == str(base)
    assert 0.5 < told["cost"]["macs"] / before["cost"]["macs"] <= 0.7
    assert told["cost"]["weight_bytes"] < before["cost"]["weight_bytes"]
    assert told["training"]["epochs"] == 2
    assert_says_the_same_again(run_dir)
    assert list(run_dir.glob("steps/*/history.csv")) and not list(run_dir.glob("steps/*/*/*.ckpt"))

    finer = [f"pretrained={run_dir}", "lightweight=distill", f"lightweight.teacher={base}"]
    finer += ["max_epochs=1", "trainer=cpu", f"outputs={base.parents[1]}"]
    done = call("train.py", *finer)  # a chain
    assert done.returncode == 0, done.stderr
    finished = json.loads((Path(done.stdout.splitlines()[-1]) / "metrics.json").read_text())
    assert finished["cost"]["macs"] == told["cost"]["macs"]


def tiny_vit(seed: int) -> ViT:
    torch.manual_seed(seed)
    sizes = {"dim": 8, "depth": 2, "heads": 2, "mlp_dim": 8}
    return ViT(image_size=8, patch_size=4, num_classes=3, **sizes)


def test_what_is_pruned_is_taught_by_the_whole_net() -> None:
    net, whole = tiny_vit(0), tiny_vit(1).eval()
    images = torch.randn(2, 3, 8, 8)
    plain = taught(net, whole, teach=True)
    assert isinstance(plain, Distill) and torch.equal(plain.teacher(images), whole(images))
    assert taught(net, whole, teach=False) is net
    distilled, exits = Distill(net), EarlyExit(net, 8)
    assert taught(distilled, Distill(whole), teach=False) is net
    assert taught(distilled, Distill(whole), teach=True) is distilled
    assert torch.equal(distilled.teacher(images), whole(images))
    with_token = Distill(net, kind="token")  # whose token and head only a teacher can train
    assert taught(with_token, Distill(whole), teach=False).teacher is not None
    dynamic = taught(DynamicViT(net, [1], [0.5]), DynamicViT(whole, [1], [0.5]), teach=True)
    assert torch.equal(dynamic.teacher.logits_and_patches(images)[0], whole(images))
    assert taught(exits, EarlyExit(whole, 8), teach=True) is exits


def test_pruning_begins_where_the_run_ended() -> None:
    config = OmegaConf.create(request_of("data=shapes", "sampler=progressive", "mix=none").config)
    OmegaConf.set_readonly(config, False)
    data = build_data(as_it_ended(config), shapes(num_train=200, num_test=250))
    order = data.sampler(labels=torch.tensor([0] * 90 + [1] * 10), seed=0).indices()
    assert 30 < sum(int(i) >= 90 for i in order) < 70  # class-balanced, as in its last epoch
    late = request_of("data=shapes", "sampler@late.sampler=balanced").config.copy()
    OmegaConf.set_readonly(late, False)
    ended = as_it_ended(late)
    assert ended.late.start == 0 and late.late.start > 0
    late.late.gradual = True
    assert not as_it_ended(late).late.gradual
    assert ended.late.sampler == late.late.sampler and ended.sampler == late.sampler


def test_int8_and_onnx_come_from_a_finished_run(base: Path, tmp_path: Path, undrawn: None) -> None:
    own = shutil.copytree(base, tmp_path / "shapes" / base.name)
    outputs = f"outputs={tmp_path}"
    done = call("compress.py", f"run={own}", "method=quantize", "trainer=cpu", outputs)
    assert done.returncode == 0, done.stderr
    (run_dir,) = own.parent.glob("*-quantize-*")
    told, before = (json.loads((each / "metrics.json").read_text()) for each in (run_dir, base))
    assert told["cost"]["macs"] == before["cost"]["macs"]
    assert told["cost"]["weight_bytes"] == (run_dir / "int8.onnx").stat().st_size
    assert_says_the_same_again(run_dir)
    for name in (own.name, run_dir.name):  # the run it was made of is shown beside it
        assert f"{own.parent / name}" in done.stderr
    done = call("compress.py", f"run={own}", "method=export", "trainer=cpu", outputs)
    assert done.returncode == 0, done.stderr
    agreement = json.loads((own / "export" / "agreement.json").read_text())
    assert agreement["float32"]["max_difference"] < 1e-3
    for asked, words in (
        (["compress.py", f"run={run_dir}", "method=export", "trainer=cpu"], "quantised already"),
        (["train.py", f"pretrained={run_dir}", "trainer=cpu", outputs], "was quantised"),
        (["visualize.py", f"run={run_dir}", "device=cpu"], "file without layers"),
    ):
        done = call(*asked)
        assert done.returncode == 1 and words in done.stderr.splitlines()[-1]
    file = run_dir / "int8.onnx"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    done = call("eval.py", f"run={run_dir}", "device=cpu")
    assert done.returncode == 1 and "ONNX file of" in done.stderr and "is damaged" in done.stderr
