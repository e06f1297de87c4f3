"""The studies of conf/sweep: each is a grid of jobs that compose, and says how large it is."""

import math
from itertools import zip_longest
from pathlib import Path

import pytest
from composed import check_without_memory, config_of, request_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from scripts import ROOT, call

from leanvit.app import names
from leanvit.app.request import Request

SEARCHES = {"search", "random"}  # tests/app/test_search.py
SWEEPS = sorted({path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml")} - SEARCHES)
SEEDS = ["seed=0", "seed=1", "seed=2"]


def values_of(name: str) -> list[list[str]]:
    """The overrides that each parameter of a sweep stands for, as Hydra's own sweeper has them."""
    params = config_of(f"sweep={name}").hydra.sweeper.params
    lines = [f"{key}={value}" for key, value in params.items()]
    return [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line or ""]
        for each in OverridesParser.create().parse_overrides(lines)
    ]


@pytest.mark.parametrize("name", SWEEPS)
def test_the_head_of_a_sweep_tells_its_command_and_its_runs(name: str) -> None:
    assert config_of(f"sweep={name}").hydra.mode == RunMode.MULTIRUN  # needs no -m
    values = values_of(name)
    assert SEEDS in values
    num_runs = math.prod(len(each) for each in values)
    lines = (ROOT / "conf" / "sweep" / f"{name}.yaml").read_text().splitlines()
    assert f"python src/train.py sweep={name}" in lines[2]
    head = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    assert f" {num_runs} runs" in head and f"seed=0 leaves {num_runs // 3} runs" in head


def test_a_sweep_needs_no_m(tmp_path: Path) -> None:
    """Hydra wants to know whether it is a grid before it has read the sweep."""
    asked = ["data=shapes", "max_epochs=0", "seed=0", "trainer=cpu", f"outputs={tmp_path}"]
    done = call("train.py", "sweep=imbalance", "loss=ce", "sampler=shuffle", *asked)
    assert done.returncode == 1 and "failed: " in done.stdout, done.stderr
    assert call("train.py", "sweep=null", *asked).stdout == ""


@pytest.mark.parametrize("name", SWEEPS)
def test_every_value_of_a_sweep_composes(name: str) -> None:
    """A grid is a product of independent choices: jobs that have each value once stand for it."""
    values = [each for each in values_of(name) if each != SEEDS]
    for job in zip_longest(*values):
        overrides = [value or each[0] for value, each in zip(job, values, strict=True)]
        request = request_of(f"sweep={name}", *overrides, "trainer=cpu")
    check_without_memory(request)  # builds the net of the last


@pytest.mark.parametrize(
    ("name", "value", "experiment"),
    [
        ("ablation_depth", "model.depth=4", "vit_v1.11"),
        ("ablation_depth", "model.depth=12", "vit_v1.10"),
        ("ablation_heads", "model.heads=16", "vit_v1.2"),
    ],
)
def test_a_study_is_made_of_published_rows(name: str, value: str, experiment: str) -> None:
    base, _, values = values_of(name)
    assert value in values
    job = request_of(f"sweep={name}", *base, value)
    assert digest_of(job) == digest_of(request_of(f"experiment={experiment}"))


def test_a_job_of_a_study_is_the_run_that_is_asked_for_singly() -> None:
    """What the study has trained is finished, and conversely."""
    assert request_of("sweep=ablation_heads").run_dir == request_of().run_dir


def digest_of(request: Request) -> str:
    return names.digest(request.config, request.choices)
