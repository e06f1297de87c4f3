"""Every lightweighting method around every net; and from the command line to a comparison."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from scripts import TINY_DATA, run
from test_contracts import GROUPS, LABELS, config_of, small_images
from torch import Tensor, nn

import assemble
import lightweighting
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost import cost
from leanvit.lightweight.plain import plain_net
from leanvit.training.parameter_groups import parameter_groups

METHODS = sorted(set(GROUPS["lightweight"]) - {"none"})
ROW = {"dim": 24, "depth": 4, "heads": 2, "mlp_dim": 32}
TINY = {
    "vit": ROW,
    "linformer_vit": ROW,
    "cct": {**ROW, "num_convolutions": 2},
    "vit_conv": ROW,
    "coatnet": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "transformer_heads": 2},
    "swin": {"dim": 16, "depths": [1, 1, 1], "heads": [1, 2, 2]},
    "pvt": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2]},
}
LARGE = ("vit_b_16", "swin_t")  # of one size only: they are wrapped without storage
VIT = ["model=vit", *(f"model.{key}={value}" for key, value in TINY["vit"].items())]


def wrapped(method: str, model: str) -> nn.Module:
    config = config_of(f"model={model}", "data=shapes", f"lightweight={method}")
    small = {"weights": None, "input_size": 32, "window_size": 4, **TINY.get(model, {})}
    for key in small.keys() & config.model.keys():
        config.model[key] = small[key]
    if method == "distill":
        config.lightweight.teacher = "given"
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    return lightweighting.wrap(config, assemble.build_net(config, 4), teacher)


@pytest.mark.parametrize("model", GROUPS["model"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_fits_a_net_or_names_what_it_fits(method: str, model: str) -> None:
    try:
        with torch.device("meta" if model in LARGE else "cpu"):
            net = wrapped(method, model)
    except LeanvitError as error:
        assert "\n" not in str(error)
        fitting = str(error).partition("fits model=")[2].replace(",", " ").split()
        assert "vit" in fitting and model not in fitting
        return
    if model in LARGE:
        return
    assert {p for group in parameter_groups(net, 0.1) for p in group["params"]} == {
        *net.parameters()
    }
    images, targets = small_images(4), LABELS[:4]
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
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.eval()
    if method == "qat":  # float32's last digit may round an activation the other way
        net, images = net.double(), images.double()
    with torch.inference_mode():
        together = net(images)
        alone = torch.cat([net(image[None]) for image in images])
    assert together.shape == (4, 4)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)  # whoever shares the batch
    counted = cost(net, 32)
    assert counted.macs > 0
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


def test_a_run_cannot_teach_a_net_that_teaches_itself() -> None:
    config = config_of("model=vit", "lightweight=dynamic_vit")
    config.lightweight.teacher = "outputs/a_run"
    with pytest.raises(LeanvitError, match="teacher=outputs/a_run: give true or false"):
        lightweighting.wrap(config, assemble.build_net(config, 4))


def test_a_threshold_that_is_given_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = finished_early_exit(tmp_path, after=[1, 3])
    config = early_exit_config(tmp_path, after=[1, 3])
    for said, expected in (
        ([], 0.61),
        (["lightweight.threshold=1.5"], 1.5),
        (["lightweight.criterion=entropy"], 1.5),
    ):
        again = lightweighting.wrap(config, plain_net(wrapped("early_exit", "vit")))
        monkeypatch.setattr(lightweighting, "command_line_says", lambda said=said: said)
        lightweighting.load_method(config, again)
        assert float(again.threshold) == pytest.approx(expected)
        assert torch.equal(again.heads[0][1].weight, net.heads[0][1].weight)


def test_a_threshold_beside_a_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("model=vit", "lightweight=early_exit")
    lightweighting.check_threshold(config)
    said = ["lightweight.threshold=0.8"]
    monkeypatch.setattr(lightweighting, "command_line_says", lambda: said)
    with pytest.raises(LeanvitError, match=r"serves .*accuracy_drop:0.3: add lightweight.target=n"):
        lightweighting.check_threshold(config)
    config.lightweight.target = None
    lightweighting.check_threshold(config)


def test_what_stands_elsewhere_is_not_taken_over(tmp_path: Path) -> None:
    finished_early_exit(tmp_path, after=[2, 3])
    config = early_exit_config(tmp_path, after=[1, 2, 3])
    again = lightweighting.wrap(config, plain_net(wrapped("early_exit", "vit")))
    drawn = again.heads[0][1].weight.clone()
    lightweighting.load_method(config, again)
    assert torch.equal(again.heads[0][1].weight, drawn)
    assert lightweighting.begins_untrained(config, again)


def early_exit_config(run_dir: Path, after: list[int]) -> DictConfig:
    config = config_of(
        "model=vit", "data=shapes", "lightweight=early_exit", f"pretrained={run_dir}"
    )
    config.lightweight.after, config.lightweight.threshold = after, 1.5
    return config


def finished_early_exit(run_dir: Path, after: list[int]) -> nn.Module:
    config = early_exit_config(run_dir, after)
    net = lightweighting.wrap(config, plain_net(wrapped("early_exit", "vit")))
    net.threshold.fill_(0.61)
    (run_dir / "checkpoints").mkdir()
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state}, run_dir / "checkpoints" / "best.ckpt")
    OmegaConf.save(OmegaConf.create({"lightweight": config.lightweight}), run_dir / "config.yaml")
    return net


@pytest.mark.parametrize("given", ["ratios=[0.5,0.5,0.5]", "after=3", "ratios=0.5 after=2"])
def test_one_number_is_a_list_of_one(given: str) -> None:
    method = "early_exit" if given == "after=3" else "dynamic_vit"
    options = [f"lightweight.{each}" for each in given.split()]
    config = config_of("model=vit", "data=shapes", f"lightweight={method}", *options)
    with torch.device("meta"):
        net = lightweighting.wrap(config, assemble.build_net(config, 4))
    assert len(net.after) == (3 if "[" in given else 1)


@pytest.mark.parametrize("given", ["tome r=8.5", "early_exit after=x", "evit blocks=[1,true]"])
def test_what_is_no_number_is_told(given: str) -> None:
    method, value = given.split()
    config = config_of("model=vit", "data=shapes", f"lightweight={method}", f"lightweight.{value}")
    with torch.device("meta"), pytest.raises(LeanvitError, match="give whole numbers"):
        lightweighting.wrap(config, assemble.build_net(config, 4))


def test_every_method_trains_on_a_finished_net_and_comes_back(tmp_path: Path) -> None:
    common = [*TINY_DATA, "trainer=cpu", "max_epochs=1", "batch_size=64", f"outputs={tmp_path}"]
    first = run("train.py", *VIT, *common)
    assert first.returncode == 0, first.stderr
    base = Path(first.stdout.splitlines()[-1])
    others = ",".join(method for method in METHODS if method != "distill")
    second = [f"pretrained={base}", "trainer=cpu", "max_epochs=1", f"outputs={tmp_path}"]
    done = run("train.py", "-m", *second, f"lightweight={others}", "batch_size=64")
    assert done.returncode == 0, done.stderr
    taught = ["lightweight=distill", f"lightweight.teacher={base}", "loss=balanced_softmax"]
    done = run("train.py", *second, *taught, "sampler=class_aware", "mix=mixup")
    assert done.returncode == 0, done.stderr
    (early_exit,) = tmp_path.glob("shapes/vit-early_exit-*")
    untrained = ["-m", "max_epochs=0", "trainer=cpu", f"outputs={tmp_path}"]
    target = "lightweight.target=macs:0.6"
    done = run("train.py", f"pretrained={early_exit}", target, *untrained)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in tmp_path.glob("shapes/*/metrics.json"):
        metrics = json.loads(path.read_text())
        method = metrics["choices"]["lightweight"]
        if metrics["overrides"].get("lightweight.target"):
            retargeted = metrics
            continue
        found[method] = metrics
        again = assemble.load_run(path.parent, "32-true")
        with np.load(path.parent / "predictions.npz") as saved:
            if method in ("early_exit", "a_vit"):
                assert saved["test_macs"].mean() == pytest.approx(metrics["cost"]["macs_used"])
                assert metrics["cost"]["macs_used"] <= metrics["cost"]["macs"]
            if method == "early_exit":
                assert again.net.threshold != 0.9  # the target's
    assert found.keys() == {None, *METHODS}
    assert found["tome"]["cost"]["macs"] < found[None]["cost"]["macs"]
    assert found["distill"]["cost"]["macs"] == found[None]["cost"]["macs"]
    assert retargeted["training"]["epochs"] == 0
    assert retargeted["val"]["n"] == found["early_exit"]["val"]["n"]
