"""Every lightweighting method around every net; and from the command line to a comparison."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import GROUPS, config_of, leave_first_stage, request_of
from scripts import TINY_DATA, call
from test_contracts import small_images
from torch import Tensor, nn

from leanvit.app.check import check_training
from leanvit.app.finished import Run
from leanvit.app.nets import build_net, load_run, take_over_method, wrap
from leanvit.contracts import plain_net
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.training.parameter_groups import parameter_groups

METHODS = sorted(set(GROUPS["lightweight"]) - {"none"})
TAUGHT = ["deit_lt", "distill"]  # by another run
ROW = {"dim": 24, "depth": 4, "heads": 2, "mlp_dim": 32}
TINY = {
    "vit": ROW,
    "linformer_vit": ROW,
    "cct": {**ROW, "num_convolutions": 2},
    "vit_conv": ROW,
    "coatnet": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "transformer_heads": 2},
    "swin": {"dim": 16, "depths": [1, 1, 1], "heads": [1, 2, 2]},
    "timm": {"name": "vit_tiny_patch16_224"},  # a ResNet's branches begin with zero gradients
    "pvt": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2]},
}
LARGE = ("vit_b_16", "swin_t")  # of one size only: they are wrapped without storage
VIT = ["model=vit", *(f"model.{key}={value}" for key, value in TINY["vit"].items())]


def wrapped(method: str, model: str) -> nn.Module:
    config = config_of(f"model={model}", "data=shapes", f"lightweight={method}")
    small = {"weights": None, "input_size": 32, "window_size": 4, **TINY.get(model, {})}
    for key in small.keys() & config.model.keys():
        config.model[key] = small[key]
    if method in TAUGHT:
        config.lightweight.teacher = "given"
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    return wrap(config, build_net(config, 4), teacher)


@pytest.mark.parametrize("model", GROUPS["model"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_fits_a_net_or_refuses_it_by_name(method: str, model: str) -> None:
    try:
        with torch.device("meta" if model in LARGE else "cpu"):
            net = wrapped(method, model)
    except LeanvitError as error:
        name = config_of(f"model={model}").model._target_.rpartition(".")[2]
        assert f"does not fit {name}, " in str(error) and "\n" not in str(error)
        assert model not in str(error).partition("fits model=")[2].replace(",", " ").split()
        return
    if model in LARGE:
        return
    assert {p for group in parameter_groups(net, 0.1) for p in group["params"]} == {
        *net.parameters()
    }
    images, targets = small_images(4), torch.arange(4)
    fresh = cost(net, 32) if model == "vit" else None
    names = list(net.state_dict())
    assert [name[4:] for name in names if name.startswith("net.")] == list(net.net.state_dict())
    net.train()
    criterion = nn.CrossEntropyLoss()
    for soft in (False, True):
        given = nn.functional.one_hot(targets, 4).float() if soft else targets
        if hasattr(net, "loss_terms"):
            terms = net.loss_terms(images, given, criterion)
            loss = torch.stack(list(terms.values())).sum()
        else:
            loss = criterion(net(images), given)
        assert torch.isfinite(loss)
    loss.backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    net.eval()
    if method == "qat":  # float32's last digit may round an activation the other way
        net, images = net.double(), images.double()
    with torch.inference_mode():
        together = net(images)
        alone = torch.cat([net(image[None]) for image in images])
        assert torch.equal(net(images), together)
        assert torch.equal(copy.deepcopy(net)(images), together)
    assert together.shape == (4, 4)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)  # whoever shares the batch
    counted = cost(net, 32)
    assert counted.macs > 0
    assert fresh is None or counted.parts == fresh.parts  # whatever was predicted before
    used = getattr(net, "macs_used", None)
    if isinstance(used, Tensor):
        assert (used > 0).all() and (used <= counted.macs * (1 + 1e-9)).all()


def test_the_parts_of_a_net_that_is_wrapped_are_counted_apart() -> None:
    counted = cost(wrapped("tome", "vit"), 32)
    macs = {part.name: part.macs for part in counted.parts}
    assert all(macs[f"net.blocks.{index}"] > 0 for index in range(4))
    assert macs["net.blocks.0"] > macs["net.blocks.3"]


def test_what_a_method_adds_learns_as_fast_as_the_head() -> None:
    net = wrapped("early_exit", "vit")
    groups = parameter_groups(net, 0.1, layer_decay=0.5, backbone_lr=0.01)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert scales[id(net.heads[0][1].weight)] == scales[id(plain_net(net).head.weight)] == 1.0
    first = next(plain_net(net).blocks[0].parameters())
    assert scales[id(first)] == pytest.approx(0.01 * 0.5**4)


def finished_early_exit(folder: Path, after: list[int]) -> tuple[Path, nn.Module]:
    """The run of a net whose exits are served by another threshold than its config says."""
    asked = ["lightweight=early_exit", f"lightweight.after={after}", "lightweight.threshold=1.5"]
    run_dir = leave_first_stage(folder, *VIT, *(each.replace(" ", "") for each in asked))
    config = Run(run_dir).config
    net = wrap(config, build_net(config, 4))
    net.threshold.fill_(0.61)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    (run_dir / "checkpoints").mkdir()
    torch.save({"state_dict": state}, run_dir / "checkpoints" / "best.ckpt")
    return run_dir, net


def second_stage(run_dir: Path, *said: str) -> tuple[nn.Module, list[str]]:
    """The net that goes on from a run, and which of its method's weights begin untrained."""
    request = request_of(f"pretrained={run_dir}", "lightweight=early_exit", *said)
    net = wrap(request.config, build_net(request.config, 4))
    return net, take_over_method(request, request.begins, net)


def test_a_threshold_that_is_given_stays(tmp_path: Path) -> None:
    run_dir, net = finished_early_exit(tmp_path, after=[1, 3])
    for said, expected in (
        ([], 0.61),
        (["lightweight.threshold=1.25"], 1.25),
        (["lightweight.criterion=entropy"], 1.5),
    ):
        again, untrained = second_stage(run_dir, *said)
        assert float(again.threshold) == pytest.approx(expected) and not untrained
        assert torch.equal(again.heads[0][1].weight, net.heads[0][1].weight)


def test_a_threshold_beside_a_target_is_refused() -> None:
    asked = ["model=vit", "data=shapes", "trainer=cpu", "lightweight=early_exit"]
    check_training(request_of(*asked))
    said = [*asked, "lightweight.threshold=0.8"]
    with pytest.raises(LeanvitError, match=r"serves .*accuracy_drop:0.3: add lightweight.target=n"):
        check_training(request_of(*said))
    check_training(request_of(*said, "lightweight.target=null"))


def test_what_stands_elsewhere_is_not_taken_over(tmp_path: Path) -> None:
    run_dir, net = finished_early_exit(tmp_path, after=[2, 3])
    said = "lightweight.after=[1,2,3]"
    again, untrained = second_stage(run_dir, said)
    config = request_of(f"pretrained={run_dir}", "lightweight=early_exit", said).config
    drawn = wrap(config, build_net(config, 4))
    assert torch.equal(again.heads[0][1].weight, drawn.heads[0][1].weight)
    assert untrained and all(name.startswith("heads.0") for name in untrained)
    for ours, theirs in zip(again.heads[1:], net.heads, strict=True):
        assert torch.equal(ours[1].weight, theirs[1].weight)
    assert not second_stage(run_dir, "lightweight.after=[3]")[1]


@pytest.mark.parametrize("given", ["tome r=8.5", "early_exit after=x", "dynamic_vit teacher=a_run"])
def test_what_a_method_does_not_take_is_told(given: str) -> None:
    method, value = given.split()
    config = config_of("model=vit", "data=shapes", f"lightweight={method}", f"lightweight.{value}")
    with torch.device("meta"), pytest.raises(LeanvitError, match=f"lightweight.{value} "):
        wrap(config, build_net(config, 4))


@pytest.mark.xdist_group("trained")  # long: groups begin first
def test_every_method_trains_on_a_finished_net_and_comes_back(
    tmp_path: Path, undrawn: None
) -> None:
    common = [*TINY_DATA, "trainer=cpu", "max_epochs=1", "batch_size=64", f"outputs={tmp_path}"]
    first = call("train.py", *VIT, *common)
    assert first.returncode == 0, first.stderr
    base = Path(first.stdout.splitlines()[-1])
    others = ",".join(method for method in METHODS if method not in TAUGHT)
    second = [f"pretrained={base}", "trainer=cpu", "max_epochs=1", f"outputs={tmp_path}"]
    done = call("train.py", "-m", *second, f"lightweight={others}", "batch_size=64")
    assert done.returncode == 0, done.stderr
    taught = [f"lightweight.teacher={base}", "loss=balanced_softmax"]
    for method in TAUGHT:
        said = [f"lightweight={method}", *taught, "sampler=class_aware", "mix=mixup"]
        done = call("train.py", *second, *said)
        assert done.returncode == 0, done.stderr
    (early_exit,) = tmp_path.glob("shapes/vit-early_exit-*")
    untrained = ["max_epochs=0", "trainer=cpu", f"outputs={tmp_path}"]
    target = ["lightweight=early_exit", "lightweight.target=macs:0.6"]
    done = call("train.py", f"pretrained={early_exit}", *target, *untrained, "-m")
    assert done.returncode == 0, done.stderr
    found = {}
    for path in tmp_path.glob("shapes/*/metrics.json"):
        metrics = json.loads(path.read_text())
        method = metrics["choices"]["lightweight"]
        if metrics["overrides"].get("lightweight.target"):
            retargeted = metrics
            continue
        found[method] = metrics
        again = load_run(Run(path.parent))
        with np.load(path.parent / "predictions.npz") as saved:
            if method in ("early_exit", "a_vit"):
                assert saved["test_macs"].mean() == pytest.approx(metrics["cost"]["macs_used"])
                assert metrics["cost"]["macs_used"] <= metrics["cost"]["macs"]
            if method == "early_exit":
                assert again.net.threshold != 0.9  # the target's
    assert found.keys() == {None, *METHODS}
    assert found["tome"]["cost"]["macs"] < found[None]["cost"]["macs"]
    assert found["distill"]["cost"]["macs"] == found[None]["cost"]["macs"]
    assert found["deit_lt"]["cost"]["macs"] > found[None]["cost"]["macs"]
    assert retargeted["training"]["epochs"] == 0
    assert retargeted["val"]["n"] == found["early_exit"]["val"]["n"]
