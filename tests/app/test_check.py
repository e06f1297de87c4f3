"""What a person gets wrong is refused in one line before any data is read; nothing is left."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composed import config_of, leave_first_stage, request_of
from fake_runs import write_fake_run
from omegaconf import OmegaConf, open_dict
from scripts import TINY_COATNET, TINY_DATA, TINY_VIT, call, nothing_stays_changed

from leanvit.app import compress, jobs, pretrain, ranks, train, words
from leanvit.app.build import make
from leanvit.app.check import check_readout
from leanvit.app.names import CONF
from leanvit.app.nets import build_net
from leanvit.errors import LeanvitError

SHAPES = ["data=shapes", "model=vit", "augment=light", "trainer=cpu"]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The line that a request is refused in, before data is read; nothing is left behind."""

    def read(*given: object) -> None:
        raise AssertionError("data was read, or a process started")

    for module in (train, pretrain, compress):
        monkeypatch.setattr(module, "load_splits", read)
    monkeypatch.setattr(ranks, "run_ranks", read)

    def refused(*arguments: str, command: str = "train") -> str:
        try:
            with nothing_stays_changed(), contextlib.redirect_stderr(io.StringIO()):
                asked = request_of(*arguments, f"outputs={tmp_path}/outputs", command=command)
                job = jobs.do(command, asked)
        except Exception as error:
            line = words.explain(error)
        else:
            jobs.remove_if_nothing_began(job.run_dir)
            line = job.error or ""
        assert line and "\n" not in line and "Traceback" not in line
        assert not list(tmp_path.glob("outputs/*/*")), "it left something behind"
        return line

    return refused


@pytest.mark.parametrize(
    ("script", "given", "status"),
    [
        ("train.py", "model.depht=0", 2),
        ("train.py", "optimizer.lr=[1,2]", 1),
        ("train.py", "+model.width=4", 1),
        ("train.py", "trainer=ddp trainer.accelerator=cpu trainer.devices=99", 1),
        ("pretrain.py", "max_epochs=0", 1),
        ("compress.py", "method=prune method.macs=2", 1),
    ],
)
def test_on_the_command_line_it_is_one_line(
    script: str, given: str, status: int, tmp_path: Path
) -> None:
    if script == "compress.py":
        given += f" run={finished(tmp_path)}"
    shapes = SHAPES if script != "compress.py" else ["trainer=cpu"]
    done = call(script, *shapes, *given.split(), f"outputs={tmp_path}/outputs")
    lines = [line for line in done.stderr.splitlines() if not line.startswith(str(tmp_path))]
    assert (done.returncode, done.stdout, len(lines)) == (status, "", 1), done.stderr
    assert lines[0].startswith("error: ")
    assert not list(tmp_path.glob("outputs/*/*"))


def finished(folder: Path) -> Path:
    run = write_fake_run(folder / "before")
    shutil.copy(leave_first_stage(folder / "config") / "config.yaml", run)
    return run


@pytest.mark.parametrize(
    "given",
    [
        "gradient_clip=-1",  # was gradient ascent
        "sam=-1",
        "ema_decay=2",
        "ema_decay=nan",
        "optimizer.lr=0",
        "optimizer.lr=abc",
        "optimizer.lr=nan",
        "optimizer.lr=[1,2]",
        "optimizer.weight_decay=-1",
        "optimizer=sgd optimizer.momentum=2",
        "scheduler.warmup_fraction=2",
        "model.depth=0",
        "model.mlp_dim=0",
        "model.num_classes=nan",
        "loss=focal loss.alpha=0.25",
        "model.dropout=-1",
        "model.heads=True",
        "memory_gib=nan",
        "compile=maybe",
        "figures=maybe",
        "val_fraction=0.999",
        "val_fraction=1.5",
        "batch_size=0",
        "batch_size=1.5",
        "max_epochs=abc",
        "max_epochs=0",
        "num_workers=-1",
        "num_workers=99999",
        "seed=-1",
        "layer_decay=0",
        "backbone_lr=-1",
        "monitor=val/acuracy",
        "trainer.devices=99",
        "trainer.devices=2",
        "trainer.devices=0",
        "accumulate=0",
        "patience=0",
        "max_minutes=0",
        "max_minutes=1 max_epochs=3",
        "max_minutes=1 patience=3",
        "trainer=ddp trainer.accelerator=cpu trainer.sync_batchnorm=true",
        "trainer=ddp trainer.accelerator=cpu trainer.sync_batchnorm=3",
        "trainer.accelerator=tpu",
        "trainer.precision=b16",
        "trainer.precision=16-mixed",
        "loss=focal loss.gamma=-1",
        "loss.label_smoothing=1.5",
        "loss@late.loss=focal late.loss.gamma=-1",
        "loss@late.loss=focal late.start=2",
        "late.gradual=maybe",
        "mix=glmc mix.weight=-1",
        "augment.flip=2",
        "mix=mixup mix.alpha=0",
        "sampler=repeat_factor sampler.threshold=0",
        "data.num_train=0",
        "data.image_size=0",
        "data.imbalance=exp:0",
        "data.fraction=0",
        "data.fraction=1.5",
        "data.imbalance=exp:10 data.imbalance_seed=-1",
        "lightweight=tome lightweight.r=8.5",
        "lightweight=early_exit lightweight.after=x",
        "lightweight=evit lightweight.blocks=[1,true]",
        "lightweight=early_exit lightweight.after=[0,99]",
    ],
)
def test_a_value_that_cannot_be_is_named(given: str, refused: Callable[..., str]) -> None:
    key, _, value = given.split()[-1].partition("=")
    line = refused(*SHAPES, *given.split())
    assert key.removeprefix("late.").split(".")[-1] in line
    assert value.split(",")[0].lower() in line.lower()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("trainer.devices=2", "one process has one device, add trainer=ddp"),
        ("logger=wandb +logger.nme=x", "there is no logger.nme: did you mean logger.name"),
        ("trainer=ddp trainer.accelerator=cpu trainer.devices=99", "this machine has"),
        ("+trainer.accumulate_grad_batches=4", "no trainer.accumulate_grad_batches"),
        ("+trainer.max_epochs=3", "no trainer.max_epochs: choose from accelerator"),
        ("+model.width=4", "no model.width"),
        ("model.patch_size=5", "patch_size 5"),
        ("model.heads=7", "heads 7"),
        ("model=coatnet data.image_size=36", "36"),
        ("model.num_classes=3 loss=focal loss.alpha=[1,2]", "loss.alpha"),
        ("loss@late.loss=ldam late.start=0.999", "no epoch is left before it or after it"),
        ("sampler@late.sampler=balanced max_epochs=2", "no epoch is left before it or after it"),
        ("late.gradual=true", "to which loss? Add loss@late.loss="),
        ("mix=glmc mix@late.mix=none", "GLMC trains weights of its own from the first step"),
        ("mix=cutmix mix@late.mix=glmc", "to the last: leave out mix@late.mix="),
        ("mix=cmo mix@late.mix=cmo late.mix.exponent=0.5", "draw partners by other values"),
        ("max_epochs=0", "at least 1: only a net taken over may stay as is"),
        ("max_minutes=1 sampler=progressive", "add sampler.num_epochs="),
        ("lightweight=distill", "lightweight=distill wants a teacher: lightweight.teacher="),
        ("lightweight=deit_lt", "lightweight=deit_lt wants a teacher: lightweight.teacher="),
        ("lightweight=dynamic_vit lightweight.teacher=true", "not trained teaches nothing"),
        ("lightweight=early_exit lightweight.threshold=0.8", "add lightweight.target=null"),
        ("lightweight=tome model=coatnet", "fits model="),
        ("model._target_=os.system", "none of leanvit's own parts"),
        ("model._target_=leanvit.models.vit.Nothing", "there is no leanvit.models.vit.Nothing"),
    ],
)
def test_values_that_do_not_fit_each_other_say_the_mend(
    given: str, words: str, refused: Callable[..., str]
) -> None:
    assert words in refused(*SHAPES, *given.split())


def test_a_run_cannot_teach_a_net_that_teaches_itself(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    teacher = f"lightweight.teacher={leave_first_stage(tmp_path / 'before')}"
    assert f"{teacher} must be a valid boolean" in refused(
        *SHAPES, "lightweight=dynamic_vit", teacher
    )


def test_a_gpu_where_there_is_none(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "choose trainer=cpu" in refused("trainer=gpu", "data=shapes")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("model=linformer_vit", ["pretrain=mae", "LinformerViT", "pretrain=autoencoder"]),
        ("model=coatnet pretrain=autoencoder", ["pretrain=autoencoder", "CoAtNet", "=vit"]),
        ("pretrain.mask_ratio=1.0", ["mask_ratio=1.0"]),
        ("pretrain.decoder_dim=0", ["decoder_dim=0"]),
        ("max_epochs=0", ["max_epochs=0"]),
        ("optimizer.lr=-1", ["optimizer.lr=-1"]),
        ("gradient_clip=-1", ["gradient_clip=-1"]),
    ],
)
def test_pretraining_refuses_as_well(
    given: str, words: list[str], refused: Callable[..., str]
) -> None:
    line = refused(*SHAPES, *given.split(), command="pretrain")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "given",
    ["method=prune method.macs=2", "method=prune method.steps=0", "method=prune method.epochs=-1",
     "method=prune method.importance=luck", "method=quantize method.mode=int4",
     "method=prune trainer.devices=99"],
)  # fmt: skip
def test_compression_refuses_as_well(
    given: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    key, _, value = given.split()[-1].partition("=")
    line = refused(f"run={finished(tmp_path)}", "trainer=cpu", *given.split(), command="compress")
    assert key.split(".")[-1] in line and value in line


@pytest.mark.xdist_group("trained")  # one fixture for all
@pytest.mark.parametrize(
    "arguments",
    [
        "eval.py run={run} device=foo",
        "eval.py run={run} memory_gib=nan",
        "eval.py run={run} memory_gib=0",
        "eval.py run={run} logit_adjust=-1",
        "eval.py run={run} logit_adjust=nan",
        "eval.py run={run} logit_adjust=yes",
        "benchmark.py run={run} precision=16",
        "benchmark.py run={run} rounds=5",
        "benchmark.py run={run} threads=0",
        "visualize.py run={run} num_images=few",
        "visualize.py run={run} num_images=0",
        "visualize.py run={run} block=-1",
        "complexity.py measure=false model=vit model.dim=0",
        "complexity.py measure=false model=coatnet model.dims=[0,1]",
        "complexity.py model=vit model.depth=1 format=xml",
    ],
)
def test_what_reads_finished_runs_refuses_as_well(arguments: str, vit_run: Path) -> None:
    before = sorted(vit_run.rglob("*"))
    done = call(*arguments.format(run=vit_run).split())
    key, _, value = arguments.split()[-1].partition("=")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert key.split(".")[-1] in done.stderr and value.split(",")[0] in done.stderr
    assert sorted(vit_run.rglob("*")) == before


def test_what_is_taken_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals above are of the values, not of something else that is wrong."""

    class ReachedError(Exception):
        pass

    def read(*given: object) -> None:
        raise ReachedError

    monkeypatch.setattr(train, "load_splits", read)
    too_short_to_end_it = [*TINY_VIT, "max_epochs=1", "mix=cutmix", "mix@late.mix=none"]
    for net in (TINY_VIT, TINY_COATNET, too_short_to_end_it):
        done = call("train.py", *TINY_DATA, *net, "trainer=cpu", f"outputs={tmp_path}")
        assert done.returncode == 1 and "Reached" in done.stderr


LOSSES = {path.stem for path in (CONF / "loss").glob("*.yaml")}
LOSSES -= {"label_aware_smoothing"}  # a second stage's, with a smoothing of its own


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_takes_the_smoothing_of_a_recipe(loss: str) -> None:
    chosen = config_of("experiment=speedrun_88", f"loss={loss}").loss
    assert chosen.label_smoothing == 0.2
    make(chosen, "loss", class_counts=torch.ones(10, dtype=torch.int64), num_classes=10)


def test_what_a_yaml_leaves_out_is_offered_or_named() -> None:
    config = config_of("model=vit", "data=shapes")
    plain = build_net(config, 4)
    with open_dict(config):
        del config.model.num_classes, config.model.image_size
    given = build_net(config, 4)
    assert all(map(torch.equal, plain.parameters(), given.parameters()))
    config = config_of("model=vit_conv", "data=shapes")
    with open_dict(config):
        del config.model.depth
    with pytest.raises(LeanvitError, match=r"^ViTConv wants depth: the YAML of model gives"):
        build_net(config, 4)
    sampler = OmegaConf.create({"_target_": "leanvit.samplers.shuffle.Shuffle"})
    with pytest.raises(LeanvitError, match=r"^Shuffle wants labels: .* _partial_: true where"):
        make(sampler, "sampler")


def test_a_readout_by_its_place_is_not_taken_to_another_size(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    first = leave_first_stage(tmp_path / "first", *SHAPES, "model.readout=token:37")
    again = ["data=shapes", f"pretrained={first}", "trainer=cpu"]
    line = refused(*again, "data.image_size=64")
    assert "model.readout=token:37" in line and "32 pixels, of 64 it is another place" in line
    assert "add model=vit model.readout=" in line
    chosen = request_of(*again, "data.image_size=64", "model=vit", "model.readout=token:9")
    for asked in (chosen, request_of(*again)):
        check_readout(asked)
    at_the_front = leave_first_stage(tmp_path / "cls", *SHAPES, "model.readout=token:0")
    check_readout(request_of("data=shapes", f"pretrained={at_the_front}", "data.image_size=64"))
