"""What a command line asks for, and what a second stage takes over from the run it begins from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from composed import leave_first_stage, request_of
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from leanvit.app.finished import find
from leanvit.app.names import ROOT
from leanvit.app.provenance import overrides_of, row_choices
from leanvit.app.request import parse
from leanvit.app.train import seedless_digest
from leanvit.app.words import explain
from leanvit.errors import LeanvitError

COATNET = ["model=coatnet", "model.drop_path_rate=0.3"]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A CoAtNet's run."""
    return leave_first_stage(tmp_path, *COATNET, overrides={"model.drop_path_rate": 0.3})


def refusal(*overrides: str) -> str:
    """The one line that a request is refused in."""
    with pytest.raises(LeanvitError) as caught:
        request_of(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_request_is_one_value_that_nobody_changes() -> None:
    asked = ["data=shapes", "model=vit", "model.depth=3", "loss@late.loss=ldam"]
    request = request_of(*asked)
    given = {"data": "shapes", "model": "vit", "model.depth": 3, "loss@late.loss": "ldam"}
    assert request.given == given and request.overrides == asked
    assert request.choices["model"] == "vit" and request.choices["loss@late.loss"] == "ldam"
    assert request.choices["sampler"] == "shuffle"  # by default
    assert not any(key.startswith("hydra") for key in request.choices)
    assert request.begins is request.teacher is request.classifier is request.wants_head is None
    assert not (request.in_grid or request.is_finished or request.trains_nothing)
    with pytest.raises(ReadonlyConfigError):
        request.config.seed = 1
    with pytest.raises(AttributeError):
        request.in_grid = True  # type: ignore[misc]


def test_a_net_is_trained_by_its_own_recipe_unless_something_else_says_how(tmp_path: Path) -> None:
    recipe = OmegaConf.load(ROOT / "conf" / "recipe" / "muon_airbench.yaml")
    own = ["data=shapes", "model=airbench", "optimizer=muon"]
    asked = request_of(*own).config
    told = OmegaConf.masked_copy(asked, list(recipe))
    assert OmegaConf.merge(told, recipe) == told
    given = request_of(*own, "optimizer.lr=0.5", "max_epochs=3", "loss=focal").config
    assert given.optimizer.lr == 0.5 and given.max_epochs == 3
    assert given.optimizer.momentum == recipe.optimizer.momentum
    for others in (["model=vit"], ["optimizer=adamw"], ["experiment=demo_vit"]):
        plain = request_of("data=shapes", *others).config
        assert plain.batch_size != recipe.batch_size
    first = leave_first_stage(tmp_path, "model=vit")  # its net is another than the default one
    assert request_of(*own[:1], f"pretrained={first}").config.gradient_clip == 1.0
    short = request_of("data=shapes", "experiment=speedrun_88").config
    assert short.optimizer == asked.optimizer and short.max_epochs == 8


def test_overrides_leave_out_groups_seeds_and_places() -> None:
    asked = ["model=vit", "~mix@late.mix", "model.depth=3", "model.readout=mean", "seed=4"]
    request = request_of(*asked, "data.source=x", "+a.b=c", "outputs=o", "num_workers=3")
    assert overrides_of(request) == {"model.depth": 3, "model.readout": "mean", "a.b": "c"}


def test_values_are_read_as_hydra_reads_them() -> None:
    assert parse(["model.dims=[1,2]", "data=null", "x='a,b'"]) == {
        "model.dims": [1, 2],
        "data": None,
        "x": "a,b",
    }


def test_the_net_the_images_the_split_and_the_seed_are_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    values = ["data.num_train=300", "seed=3", "split_seed=1", "val_fraction=0.2"]
    first = leave_first_stage(tmp_path, *COATNET, *values)
    second = request_of(f"pretrained={first}", "loss=focal")
    kept = OmegaConf.load(first / "config.yaml")
    for key in ("model", "data", "lightweight", "seed", "split_seed", "val_fraction"):
        assert second.config[key] == kept[key], key
    assert second.begins is not None and second.begins.path == first
    assert (second.choices["model"], second.choices["data"]) == ("coatnet", "shapes")
    assert second.run_dir.parent.name == "shapes"
    assert second.run_dir.name.startswith("coatnet-focal-shuffle-")
    assert "loss" not in kept or second.config.loss != kept.loss
    assert capsys.readouterr().err == ""


def test_single_values_of_what_is_taken_over_can_be_given(first: Path) -> None:
    begin = f"pretrained={first}"
    second = request_of(begin, "model.attention=math", "data.image_size=64", "seed=5")
    assert second.config.model.attention == "math" and second.config.seed == 5
    assert second.config.model._target_.endswith(".CoAtNet")
    assert second.config.data.image_size == second.config.model.image_size == 64
    with pytest.raises(Exception, match="transformer_dim_head") as caught:  # no default net has it
        request_of(begin, "model.transformer_dim_head=16")
    assert "there is no model.transformer_dim_head" in explain(caught.value)
    second = request_of(begin, "model=coatnet", "model.transformer_dim_head=16")
    assert second.config.model.transformer_dim_head == 16
    assert second.config.model.drop_path_rate == 0.3  # the rest is still the run's
    assert f"there is no model.heads in pretrained={first}" in refusal(begin, "++model.heads=4")


def test_another_name_is_taken_as_composed(first: Path, capsys: pytest.CaptureFixture) -> None:
    begin = f"pretrained={first}"
    second = request_of(begin, "model=vit")
    assert second.config.model._target_.endswith(".ViT") and second.choices["data"] == "shapes"
    second = request_of(begin, "data=cifar10")
    assert second.choices["data"] == "cifar10" and second.choices["model"] == "coatnet"
    assert request_of(begin, "model=coatnet").run_dir == request_of(begin).run_dir
    capsys.readouterr()


def test_a_second_stage_is_named_by_the_values_it_took_over(
    first: Path, capsys: pytest.CaptureFixture
) -> None:
    begin = f"pretrained={first}"
    plain = request_of(begin).run_dir
    for same in (
        "model=coatnet model.drop_path_rate=0.3",
        "split_seed=0",
        "val_fraction=0.1",
        "seed=0",
    ):
        assert request_of(begin, *same.split()).run_dir == plain, same
    changes = ["model=coatnet model.drop_path_rate=0.1", "split_seed=1", "val_fraction=0.2",
               "data.image_size=64", "seed=1", "max_epochs=3"]  # fmt: skip
    dirs = [request_of(begin, *change.split()).run_dir for change in changes]
    assert len({plain, *dirs}) == len(changes) + 1
    assert all(path.name.startswith("coatnet-ce-shuffle-") for path in dirs)
    capsys.readouterr()


def test_first_stages_of_several_seeds_are_not_taken_for_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runs = [leave_first_stage(tmp_path, *COATNET, f"seed={seed}") for seed in (0, 1)]

    def row(first: Path, seed: int) -> str:
        return seedless_digest(request_of(f"pretrained={first}", f"seed={seed}"))

    assert row(runs[0], 0) == row(runs[1], 1)  # each seed upon its own first stage: one row
    assert row(runs[0], 0) != row(runs[1], 0)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("data.imbalance=exp:3", "data.imbalance"),
        ("val_fraction=0.2", "val_fraction"),
        ("split_seed=4", "split_seed"),
        ("data=cifar10", "data"),
    ],
)
def test_images_that_the_first_stage_saw_are_told_of(
    first: Path, capsys: pytest.CaptureFixture, change: str, word: str
) -> None:
    request_of(f"pretrained={first}", "data.image_size=64", "seed=2")  # no other images
    assert capsys.readouterr().err == ""
    request_of(f"pretrained={first}", change)
    line = capsys.readouterr().err
    assert line.startswith(f"pretrained={first} was trained on other choices of")
    assert word in line and line.count("\n") == 1
    refused = refusal(f"pretrained={first}", "classifier=retrain", change)
    assert "validation images must stay unseen" in refused
    request_of("data=shapes", "lightweight=distill", f"lightweight.teacher={first}", change)
    assert f"lightweight.teacher={first} was trained on other" in capsys.readouterr().err


def test_the_row_of_a_second_stage_tells_what_it_brings(first: Path) -> None:
    second = request_of(f"pretrained={first}", "classifier=retrain", "model.attention=math")
    told = row_choices(second)
    assert (told["model"], told["classifier"], told["lightweight"]) == ("coatnet", "retrain", None)
    assert told["pretrained"] == "coatnet-ce-shuffle"
    assert overrides_of(request_of(f"pretrained={first}")) == {"model.drop_path_rate": 0.3}
    assert overrides_of(second) == {"model.drop_path_rate": 0.3, "model.attention": "math"}
    own_name = request_of(f"pretrained={first}", "model=coatnet")  # means the run's own values
    assert overrides_of(own_name) == {"model.drop_path_rate": 0.3}
    assert overrides_of(request_of(f"pretrained={first}", "model=vit")) == {}


def test_a_method_that_only_taught_is_not_taken_over(tmp_path: Path) -> None:
    teacher = leave_first_stage(tmp_path / "teacher")
    distill = ["lightweight=distill", f"lightweight.teacher={teacher}"]
    taught = leave_first_stage(tmp_path, *distill)
    assert request_of(f"pretrained={taught}").config.lightweight == {}
    again = request_of(f"pretrained={taught}", *distill)
    assert again.teacher is not None and again.teacher.path == teacher
    assert again.config.lightweight.teacher == str(teacher)
    named = request_of(f"pretrained={taught}", "lightweight=distill")  # by the same teacher
    assert named.choices["lightweight"] == "distill" and named.teacher.path == teacher
    with_token = leave_first_stage(tmp_path, *distill, "lightweight.kind=token")
    assert request_of(f"pretrained={with_token}").config.lightweight.kind == "token"
    with_token = leave_first_stage(tmp_path, "lightweight=deit_lt", distill[1])
    assert request_of(f"pretrained={with_token}").choices["lightweight"] == "deit_lt"


def test_a_preset_of_a_classifier_that_is_computed_trains_nothing(first: Path) -> None:
    request = request_of(f"pretrained={first}", "classifier=tau_norm")
    preset = replace(request, choices={**request.choices, "classifier": "my_tau"})
    assert preset.rescales and preset.trains_nothing
    assert not request_of(f"pretrained={first}", "classifier=retrain").trains_nothing


def test_runs_of_older_versions_are_read_in_todays_words(tmp_path: Path) -> None:
    first = leave_first_stage(tmp_path, "model=vit", choices={"data": "cifar10_lt", "loss": "ce"})
    kept = OmegaConf.load(first / "config.yaml")
    del kept.choices, kept.split_seed
    kept.data = {"_target_": "leanvit.data.cifar10_lt.cifar10_lt", "source": None}
    kept.model.attention, kept.optimizer._target_ = "flex", "torch.optim.AdamW"
    OmegaConf.save(kept, first / "config.yaml")
    run = find(str(first))
    assert (run.choices["data"], run.choices["model"], run.choices["loss"]) == (
        "cifar10_lt",
        "vit",
        "ce",
    )
    assert run.config.data._target_ == "leanvit.data.cifar10.cifar10"
    assert run.config.data.imbalance is None and run.config.split_seed == run.config.seed
    assert run.config.model.attention == "sdpa"
    assert run.config.optimizer._target_ == "leanvit.optimizers.adamw.adamw"


def test_weights_of_a_file_give_way_to_the_runs_own(tmp_path: Path) -> None:
    first = leave_first_stage(tmp_path, "model=vit_b_16", "model.finetune=head")
    second = request_of(f"pretrained={first}").config.model
    assert second.weights is None and second.finetune == "head"


def test_what_cannot_be_begun_from_is_one_line(tmp_path: Path, first: Path) -> None:
    begin = f"pretrained={first}"
    assert "pretrained= is empty" in refusal("pretrained=")
    assert "classifier= is a second stage: add pretrained=" in refusal("classifier=lws")
    assert "no run directory" in refusal(f"{begin}x")
    assert "leave experiment= out" in refusal(begin, "experiment=vit_v1.4")
    request_of(begin, "experiment=demo_vit", "model=vit", "data=shapes")
    line = refusal(begin, "classifier=lws", "lightweight=tome")
    assert "classifier= does not fit lightweight=tome" in line
    config = OmegaConf.load(first / "config.yaml")
    config.quantized = True
    OmegaConf.save(config, first / "config.yaml")
    assert f"{begin} was quantised" in refusal(begin)
    (first / "metrics.json").unlink()
    assert f"{begin} is not finished" in refusal(begin)
    (first / "pretraining.json").write_text(json.dumps({"seed": 0}))
    (first / "config.yaml").unlink()
    assert "no config.yaml" in refusal(begin)


def test_what_is_made_of_a_run(first: Path) -> None:
    asked = [f"run={first}", "outputs=/o"]
    for method in ("prune", "quantize"):
        request = request_of(*asked, f"method={method}", command="compress")
        name = f"coatnet-ce-shuffle-{method}-"
        assert str(request.run_dir).startswith(f"/o/shapes/{name}") and not request.is_finished
        assert request.begins is not None and request.begins.path == first
    export = request_of(*asked, "method=export", command="compress")
    assert export.run_dir == first / "export" and export.finished == "agreement.json"
    older = request_of(*asked, "method=export", "method.opset=17", command="compress")
    assert older.run_dir == first / "export-opset17"
    with pytest.raises(LeanvitError, match="works in one process"):
        request_of(*asked, "trainer=ddp", command="compress")
    pretraining = request_of("data=shapes", "outputs=/o", command="pretrain")
    assert str(pretraining.run_dir).startswith("/o/shapes/mae-vit-")
