"""Which values of a grid are left to its jobs: those that a swept choice alone has a place for."""

import pytest

from leanvit.app import command as _resolvers  # noqa: F401
from leanvit.app.left_to_jobs import left_to_jobs

EXPERIMENTS = "experiment=demo_vit,demo_coatnet"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (f"-m {EXPERIMENTS} data.num_train=500 seed=1", {"data.num_train=500"}),
        ("-m model=vit,coatnet model.depths=[1,2] model.depth=2",
         {"model.depth=2", "model.depths=[1,2]"}),
        (f"-m {EXPERIMENTS} data.num_trian=500", set()),  # a slip, which Hydra tells at once
        ("-m loss=ce,focal optimizer.lr=1 data.nothing=1", set()),
        (f"-m {EXPERIMENTS} data=shapes data.num_train=500", set()),  # its place is there
        ("sweep=imbalance model.depths=[1,1,1,1]", {"model.depths=[1,1,1,1]"}),
        (f"sweep=search {EXPERIMENTS} data.num_train=500", {"data.num_train=500"}),
        ("-m run=a,b method=prune,quantize method.macs=0.5", {"method.macs=0.5"}),
        ("-m model=vitt,vit model.depth=1", set()),
        ("-m lightweight=distill,deit_lt lightweight.teacher=a/b", {"lightweight.teacher=a/b"}),
    ],
)  # fmt: skip
def test_values_that_a_swept_choice_brings_a_place_for(words: str, left: set[str]) -> None:
    given = words.split()
    made = left_to_jobs("compress" if "method=" in words else "train", given)
    changed = {word for word, now in zip(given, made, strict=True) if word != now}
    assert changed == left
    assert {now for now in made if now not in given} == {
        f"{key}=choice({value})" for key, value in (word.split("=") for word in left)
    }


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [("500", True), ("[1,2]", True), ("'a b'", True), ("'/a=b,c'", True), ("{c:1}", True),
     ("null", False), ("", False), ("'1'", False), ("str(5)", False), ("'null'", False)],
)  # fmt: skip
def test_no_value_becomes_another(value: str, is_kept: bool) -> None:
    word = f"data.num_train={value}"
    made = left_to_jobs("train", ["-m", EXPERIMENTS, word])[-1]
    assert made == (f"data.num_train=choice({value})" if is_kept else word)
    forced = f"++data.num_train={value}"  # Hydra takes it anywhere
    assert left_to_jobs("train", ["-m", EXPERIMENTS, forced])[-1] == forced
