"""What runs are called: a name is kept by whatever decides the same result, and by nothing else."""

import shutil
from pathlib import Path

import pytest
from composed import GROUPS, config_of, leave_first_stage, request_of
from omegaconf import DictConfig, OmegaConf, open_dict
from scripts import ROOT

from leanvit.app import names
from leanvit.app.finished import Run, find
from leanvit.errors import LeanvitError

# what a plain train.py trained then, which is no part of a name today
RECIPE = "model=vit optimizer=adamw scheduler=cosine augment=light max_epochs=100 batch_size=128 "
RECIPE += "ema_decay=0.999"
THEN = f"{RECIPE} ~mix@late.mix"
TOKENS = {
    "recipe": RECIPE,
    "then": THEN,
    "mixed": "mix=cutmix",
    "data": "data=shapes data.num_train=400 data.num_test=200 batch_size=64 "
    "trainer.accelerator=cpu",
    "two": "max_epochs=2 ema_decay=0.9",
    "net": "model=vit model.dim=32 model.depth=4 model.heads=2 model.mlp_dim=64 model.patch_size=4",
}
# made by the code of commit d99f170: whoever has such runs finds them, and trains none again;
# a line is what was asked for, and behind => the name
MADE_BEFORE = """
train {then} {mixed} {data} {two} {net} => shapes/vit-ce-shuffle-5405c74d
train {then} {data} {two} model=coatnet model.dims=[16,16,32,32] model.depths=[1,1,1,1] \
  model.transformer_heads=2 loss=focal sampler=balanced mix=mixup augment=course => \
  shapes/coatnet-focal-balanced-e73318c5
train {then} {mixed} {data} max_epochs=1 model=swin loss=weighted_ce augment=trivial => \
  shapes/swin-weighted_ce-shuffle-3f204175
train {then} {mixed} {data} max_epochs=1 model=pvt loss=weighted_ce augment=trivial => \
  shapes/pvt-weighted_ce-shuffle-281e7014
train {then} {data} {two} {net} loss=class_balanced mix=none seed=0 data.imbalance=exp:10 => \
  shapes/vit-class_balanced-shuffle-d175c9dd
train {then} {data} {two} {net} loss=ldam mix=none seed=1 data.imbalance=exp:10 => \
  shapes/vit-ldam-shuffle-6dc32029
train {then} {data} {two} {net} loss=ohem mix=none seed=0 data.imbalance=exp:10 => \
  shapes/vit-ohem-shuffle-1b082ae0
train {then} {data} {two} {net} loss=vs mix=none seed=1 data.imbalance=exp:10 => \
  shapes/vit-vs-shuffle-73848382
train {recipe} {data} {two} {net} loss@late.loss=ldam late.loss.beta=0.9999 late.start=0.5 mix=cmo \
  mix@late.mix=none sampler@late.sampler=class_aware optimizer=sgd data.imbalance=step:5 => \
  shapes/vit-ce-shuffle-37e5ab25
train {then} {data} {two} {net} sampler=progressive augment=strong mix=none => \
  shapes/vit-ce-progressive-7f72cf4b
train {then} {data} {two} {net} sampler=repeat_factor augment=strong mix=remix => \
  shapes/vit-ce-repeat_factor-0ab76d95
pretrain {data} {two} {net} pretrain=mae => shapes/mae-vit-d9fa7bf8
pretrain {data} {two} {net} pretrain=autoencoder => shapes/autoencoder-vit-671d78c4
train {then} {mixed} {data} {two} {net} lightweight=dynamic_vit lightweight.keep=threshold => \
  shapes/vit-dynamic_vit-ce-shuffle-024a190f
train {data} {two} experiment=coatnet_small data.num_train=300 => \
  shapes/coatnet_small-ce-shuffle-db5e1667
train {then} {mixed} \
  {data} max_epochs=1 experiment=vit_v1.8 model.readout=mean model.attention=math => \
  shapes/vit_v1.8-ce-shuffle-b1f8d21f
train {then} {mixed} data=cifar10_lt => cifar10_lt/vit-ce-shuffle-283b52c9
train {then} {mixed} data=cifar100_lt model=cct seed=2 => cifar100_lt/cct-ce-shuffle-c3c38890
train {then} {mixed} data=cifar10_lt data.imbalance=step:10 data.imbalance_seed=3 loss=ldam => \
  cifar10_lt/vit-ldam-shuffle-00836461
train {then} {mixed} => course/vit-ce-shuffle-49d6f286
train {then} {mixed} data.source=/data/course.zip model=coatnet optimizer.lr=0.0005 => \
  course/coatnet-ce-shuffle-d547d6d5
train {then} {mixed} data=cifar100 model=swin_t loss=vs sampler=repeat_factor => \
  cifar100/swin_t-vs-repeat_factor-5f00f533
train {then} {mixed} data=cifar10 model=vit_b_16 model.weights=/w/vit.pth model.finetune=head => \
  cifar10/vit_b_16-ce-shuffle-6a00d13e
train {then} {mixed} experiment=vit_v1.4 seed=1 => course/vit_v1.4-ce-shuffle-13724c23
train {then} {mixed} \
  experiment=early_exit_vit => course/early_exit_vit-early_exit-ce-shuffle-a44c5ec4
train experiment=finetune_swin_t trainer=gpu => course/finetune_swin_t-ce-shuffle-ca0fc1e6
train {then} {mixed} \
  data=folder data.source=/data/birds monitor=val/loss => folder/vit-ce-shuffle-ecd4971b
pretrain data=cifar10 pretrain.mask_ratio=0.5 => cifar10/mae-vit-4c2f5211
train {then} {mixed} lightweight=tome => course/vit-tome-ce-shuffle-6d13791c
train {then} {mixed} lightweight=evit => course/vit-evit-ce-shuffle-7c04c00b
train {then} {mixed} lightweight=a_vit => course/vit-a_vit-ce-shuffle-fe2dc9d4
train {then} {mixed} lightweight=early_exit => course/vit-early_exit-ce-shuffle-1f07bac1
train {then} {mixed} lightweight=qat => course/vit-qat-ce-shuffle-9255eac9
"""
# our own experiments, whose heads tell what came out: a plain train.py may train something else
# one day, these mean the same
OUR_OWN = """
course/cct_2_3x2-ce-shuffle-a135aedc
course/cct_6_3x1-ce-shuffle-bbcbcfce
course/cct_7_3x1-ce-shuffle-10d9b2c6
course/coatnet_small-ce-shuffle-5a3028cd
course/coatnet_tiny-ce-shuffle-a5308d44
shapes/demo_coatnet-ce-shuffle-7cca34bf
shapes/demo_vit-ce-shuffle-d11fe485
course/finetune_swin_t-ce-shuffle-6c76f80d
course/finetune_vit_b_16-ce-shuffle-53c68f45
course/speedrun_88-ce-shuffle-1ea9aa90
"""
OF_A_RUN = [
    ("method=prune", "prune-82c6f016"),
    ("method=prune method.macs=0.7", "prune-ccc2c908"),
    ("method=quantize", "quantize-d24bb783"),
]


@pytest.mark.parametrize("line", MADE_BEFORE.format(**TOKENS).strip().splitlines())
def test_finished_runs_keep_their_names(line: str) -> None:
    command, *overrides, _, name = line.split()
    request = request_of(*overrides, "outputs=/o", command=command)
    assert str(request.run_dir) == f"/o/{name}"


@pytest.mark.parametrize("name", OUR_OWN.split())
def test_our_own_experiments_lean_on_no_default(name: str) -> None:
    experiment = name.rpartition("/")[2].split("-")[0]
    assert name_of(f"experiment={experiment}") == name


def test_a_run_that_is_taught_keeps_its_name() -> None:
    taught = ["lightweight=distill", "lightweight.teacher=/runs/teacher"]
    config = config_of(*THEN.split(), "mix=cutmix", *taught)
    name = names.training_name(own(config), config.hydra.runtime.choices)
    assert name == "course/vit-distill-ce-shuffle-f2dd5aab"


@pytest.mark.parametrize(("asked", "name"), OF_A_RUN)
def test_what_was_made_of_a_run_keeps_its_name(asked: str, name: str) -> None:
    config = config_of("run=/runs/x", *asked.split(), command="compress")
    run, method = Path("/runs/shapes/vit-ce-shuffle-00000000"), config.hydra.runtime.choices.method
    assert names.compression_name(run, config, method) == f"shapes/vit-ce-shuffle-{name}"


def own(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def name_of(*overrides: str) -> str:
    return names.training_name(own(config := config_of(*overrides)), config.hydra.runtime.choices)


def hash_of(*overrides: str) -> str:
    return name_of(*overrides)[-8:]


def seedless(*overrides: str, **about: object) -> str:
    config = config_of(*overrides)
    return names.seedless_digest(own(config), config.hydra.runtime.choices, **about)


def test_a_value_that_is_typed_is_no_other_than_the_same_by_default() -> None:
    config = config_of()
    model = config.hydra.runtime.choices.model
    typed = [
        f"max_epochs={config.max_epochs}",
        f"model={model}",
        f"optimizer.lr={config.optimizer.lr}",
    ]
    assert hash_of() == hash_of(*typed)


@pytest.mark.parametrize("change", ["seed=1", "optimizer.lr=0.01", "model.depth=3", "loss=focal"])
def test_what_changes_the_result_changes_the_name(change: str) -> None:
    assert hash_of("model=vit") != hash_of("model=vit", change)


@pytest.mark.parametrize(
    "change",
    ["logger=tensorboard", "num_workers=7", "outputs=/elsewhere", "data.data_dir=/d",
     "memory_gib=2", "data.imbalance_seed=3"],
)  # fmt: skip
def test_what_changes_no_result_does_not(change: str) -> None:
    assert hash_of() == hash_of(change)


def test_seeds_of_one_choice_belong_together() -> None:
    same = {seedless(f"seed={seed}") for seed in range(3)}
    assert len(same) == 1
    assert same != {seedless("seed=0", "optimizer.lr=0.01")}
    assert same != {seedless("seed=0", "split_seed=1")}


def test_the_draw_of_a_long_tail_is_another_row_and_the_seed_is_not() -> None:
    tail = "data.imbalance=exp:10"
    draws = [seedless(f"seed={seed}", tail, f"data.imbalance_seed={draw}")
             for draw in (0, 1) for seed in (0, 1)]  # fmt: skip
    assert draws[0] == draws[1] != draws[2] == draws[3]
    assert hash_of(tail) == hash_of(tail, "data.imbalance_seed=0")
    assert hash_of(tail) != hash_of(tail, "data.imbalance_seed=1")


def test_seeds_of_what_is_taught_belong_together() -> None:
    taught = [f"lightweight.teacher=/runs/{seed}" for seed in (0, 1)]
    rows = {seedless("lightweight=distill", each, f"seed={seed}", teacher="same")
            for seed, each in enumerate(taught)}  # fmt: skip
    assert len(rows) == 1
    assert rows != {seedless("lightweight=distill", taught[0], teacher="another")}


def test_a_source_is_the_same_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = hash_of("data.source=images.zip")
    assert relative == hash_of(f"data.source={tmp_path}/images.zip")
    assert relative != hash_of("data.source=others.zip")
    weights = ["model=vit_b_16", "model.weights=vit.pth"]
    assert hash_of(*weights) == hash_of(weights[0], f"model.weights={tmp_path}/vit.pth")


def test_a_key_that_came_later_renames_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of("data=shapes")
    keys = {"model.gate": "none", "clip": 1.0, "lightweight.extra": 0}
    config, choices = own(config_of("data=shapes")), config_of().hydra.runtime.choices

    def with_new_keys(**changes: object) -> str:
        changed = config.copy()
        with open_dict(changed):
            changed.model.gate, changed.clip = "none", 1.0
            for key, value in changes.items():
                OmegaConf.update(changed, key.replace("__", "."), value)
        return names.digest(changed, choices)

    assert with_new_keys() != before
    monkeypatch.setattr(names, "CAME_LATER", {**names.CAME_LATER, **keys})
    assert with_new_keys() == before
    assert with_new_keys(model__gate="soft") != before and with_new_keys(clip=2.0) != before


def test_another_fit_is_another_run() -> None:
    folder = "data=folder", "data.source=/data/birds"
    asked = [[], *([f"data.fit={fit}"] for fit in ("stretch", "crop", "pad"))]
    plain, *each = (request_of(*folder, *fit, "outputs=/o").run_dir for fit in asked)
    assert len(set(each)) == 3 and each[0] == plain


def test_a_choice_is_called_by_its_own_name_though_its_class_moved() -> None:
    """MOVED is of choices that exist and says where they stand."""
    for (group, choice), (_, stands) in names.MOVED.items():
        assert choice in GROUPS[group], (group, choice)
        assert f"_target_: {stands}\n" in (ROOT / f"conf/{group}/{choice}.yaml").read_text()


def as_the_old_code_kept_it(config: DictConfig) -> DictConfig:
    """``config.yaml`` without the names of choices, and with the targets of that time."""
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    kept.optimizer._target_ = "torch.optim.AdamW"
    kept.classes = ["disc", "cross"]
    return kept


def test_a_second_stage_of_the_old_code_is_found_by_its_values(tmp_path: Path) -> None:
    """It was hashed with its command line, which is not kept."""
    first = leave_first_stage(tmp_path, "model=vit", "model.depth=2")
    asked = [f"pretrained={first}", "classifier=retrain", "optimizer=adamw", f"outputs={tmp_path}"]
    today = request_of(*asked)
    assert today.run_dir.parent == first.parent and not today.run_dir.exists()
    others = request_of(*asked, "max_epochs=3")
    begun = today.run_dir.name.removesuffix(today.run_dir.name[-8:])
    for name, request in (("0123abcd", today), ("4567cdef", others)):
        path = first.parent / f"{begun}{name}"
        path.mkdir()
        OmegaConf.save(as_the_old_code_kept_it(request.config), path / "config.yaml")
        (path / "metrics.json").write_text("{}")
    again = request_of(*asked)
    assert again.run_dir.name == f"{begun}0123abcd"
    assert request_of(*asked, "max_epochs=3").run_dir.name.endswith("4567cdef")
    assert request_of(*asked, "max_epochs=4").run_dir.name[-8:] not in ("0123abcd", "4567cdef")
    today.run_dir.mkdir()  # what has today's name comes first
    assert request_of(*asked).run_dir == today.run_dir
    shutil.rmtree(today.run_dir)
    with open_dict(kept := OmegaConf.load(again.run_dir / "config.yaml")):
        kept.choices = {"model": "vit"}  # a run of today has today's name
    OmegaConf.save(kept, again.run_dir / "config.yaml")
    assert request_of(*asked).run_dir == today.run_dir


def test_runs_of_the_old_code_are_read_in_todays_words(tmp_path: Path) -> None:
    asked = ["data=cifar10_lt", "model=vit", "optimizer=adamw"]
    first = leave_first_stage(tmp_path, *asked, "seed=3")
    config = as_the_old_code_kept_it(OmegaConf.load(first / "config.yaml"))
    config.data._target_ = "leanvit.data.cifar10_lt.cifar10_lt"
    del config["split_seed"], config["choices"], config.data["imbalance_seed"]
    OmegaConf.save(config, first / "config.yaml")
    run, composed = Run(first), config_of(*asked)
    assert run.config.split_seed == 3 and run.config.data.imbalance_seed == 0
    assert run.config.data._target_ == composed.data._target_
    assert run.config.optimizer._target_ == composed.optimizer._target_
    assert run.choices["model"] == "vit"


def test_a_run_is_found_from_here_and_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("mine").path == (tmp_path / "mine").resolve()
    assert find("outputs").path == ROOT / "outputs"
    with pytest.raises(LeanvitError, match="no run directory min: did you mean mine"):
        find("min")
    with pytest.raises(LeanvitError, match="no run directory nowhere"):
        find("nowhere")
    with pytest.raises(LeanvitError, match=r"is no run directory: it has no config\.yaml"):
        _ = find("mine").config
