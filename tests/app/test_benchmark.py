"""The command that runs finished nets against each other."""

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch
from composed import request_of
from omegaconf import OmegaConf
from PIL import Image
from scripts import TINY_DATA, TINY_VIT, call, no_figures

from leanvit.app import benchmark, names
from leanvit.app.asked_runs import in_order
from leanvit.app.build import load_splits
from leanvit.app.finished import Run
from leanvit.app.jobs import keep_config
from leanvit.app.nets import build_net, load_run
from leanvit.evaluation.cost import benchmark_times
from leanvit.evaluation.measure.evaluate import evaluate
from leanvit.evaluation.measure.predict import Trained

pytestmark = pytest.mark.xdist_group("benchmark")


def write_run(path: Path, *choices: str) -> Path:
    """A run directory as a training leaves it, of a net that nobody trained."""
    request = request_of(*TINY_DATA, *TINY_VIT, "trainer=cpu", *choices)
    config, splits = request.config, load_splits(request.config)
    classes = splits.test.classes
    net = build_net(config, len(classes))
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    (path / "checkpoints").mkdir(parents=True)
    keep_config(config, request.choices, path, classes)
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    state = {**weights, "mean": mean, "std": std}
    torch.save({"state_dict": state, "classes": classes}, path / "checkpoints" / "best.ckpt")
    given = {key: value for key, _, value in (each.partition("=") for each in choices)}
    about = {
        "name": f"vit-ce-shuffle-{path.name}",
        "choices": {"data": "shapes", "model": "vit", "loss": "ce", "sampler": "shuffle"},
        "overrides": given,
        "choices_hash": path.name,
        "seed": 0,
        "training": {"precision": "32-true", "seconds": 1.0, "device": "cpu"},
    }
    size = config.data.image_size
    with no_figures():
        evaluate(
            path,
            Trained(net, mean, std, classes, size, bfloat16=False),
            {"test": splits.test, "val": splits.test},
            train_counts=splits.train.class_counts.tolist(),
            source=splits.source,
            device=torch.device("cpu"),
            about=about,
        )
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "one")
    write_run(folder / "deep", "model.depth=6")
    return folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Standard output of a benchmark with little to do."""
    monkeypatch.setattr(benchmark_times, "TURNS", 2)
    monkeypatch.setattr(benchmark_times, "SWEEPS", 1)
    monkeypatch.setattr(benchmark_times, "SWEEP_TURN", 0.005)
    monkeypatch.setattr(benchmark_times, "SHORTEST_TURN", 0.01)
    monkeypatch.setattr(benchmark_times, "LONGEST_PASS", 0.02)

    def told(*arguments: str) -> str:
        done = call("benchmark.py", *arguments, "device=cpu", f"output={tmp_path}/out")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return told


def refused(tmp_path: Path, *arguments: str) -> str:
    done = call("benchmark.py", *arguments, "device=cpu", f"output={tmp_path}/out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
    return done.stderr.removeprefix("error: ").rstrip()


def test_a_net_of_a_sixth_of_the_depth_is_faster(told, runs: Path, tmp_path: Path) -> None:
    out = told(f"run={runs}/deep,{runs}/one", "rounds=6", "threads=1")
    assert "model.depth=6" in out and "in float32; 6 rounds" in out
    (folder,) = (tmp_path / "out").iterdir()
    assert out.endswith(f"{folder}/benchmark.md\n")
    with (folder / "benchmark.csv").open(newline="") as file:
        deep, one = csv.DictReader(file)
    assert (deep["name"], one["name"]) == ("vit, model.depth=6", "vit")
    assert float(one["times_as_fast_single"]) > 1.2
    assert float(one["times_as_fast_batched"]) > 1.2
    assert float(deep["macs"]) > 4 * float(one["macs"]) and one["test_images"] == "50"
    assert "1 threads" in one["device"]
    assert "vit, model.depth=6" in (folder / "benchmark.md").read_text()
    with Image.open(folder / "pareto.png") as image:
        assert image.size[0] > 1500


def test_precision_can_be_given(runs: Path) -> None:
    for own, precision, expected in [
        ("bf16-mixed", "own", True),
        ("32-true", "own", False),
        ("bf16-mixed", "32", False),
        ("32-true", "bf16", True),
    ]:
        trained = load_run(Run(runs / "one"), precision=own)
        assert benchmark.in_precision(trained, precision).bfloat16 == expected


def test_results_of_other_settings_stand_in_other_folders(
    told, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "race", lambda nets, *_: [None] * len(nets))
    monkeypatch.setattr(benchmark, "timed_runs", lambda *_: [])
    for name in ("write_benchmark", "pareto", "print_benchmark"):
        monkeypatch.setattr(benchmark, name, lambda *_: None)
    monkeypatch.setattr(benchmark, "conditions", lambda *_: "")
    one, deep = runs / "one", runs / "deep"
    printed = {told(f"run={one},{deep}"), told(f"run={deep},{one}")}
    printed |= {told(f"run={one},{deep}", "precision=bf16"), told(f"run={one},{deep}", "rounds=6")}
    monkeypatch.setattr(benchmark, "device_name", lambda _: "H200")
    printed.add(told(f"run={one},{deep}"))
    assert len(printed) == 5
    assert all(len(Path(each.strip()).parent.name) == 8 for each in printed)


def test_runs_are_asked_for_as_in_a_report(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, deep = runs / "one", runs / "deep"
    assert in_order([f"{one}", f"{deep}", f"{one}"]) == [one, deep, one]  # as they are given
    assert in_order(f"{runs}") == in_order(f"{runs}/[od]*e*") == [deep, one]
    monkeypatch.setattr(names, "ROOT", runs.parent)
    (runs.parent / "outputs").symlink_to(runs)
    assert [path.name for path in in_order(["model=vit", "model.depth=6"])] == ["deep"]


def test_runs_that_are_not_finished_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, f"run={tmp_path}/empty").endswith("empty holds no finished run")
    assert "no run directory" in refused(tmp_path, f"run={tmp_path}/nowhere")


@pytest.mark.parametrize("threads", [os.cpu_count() + 1, 99999, 10**30])
def test_more_threads_than_cores_are_refused(runs: Path, tmp_path: Path, threads: int) -> None:
    line = refused(tmp_path, f"run={runs}/one", f"threads={threads}")
    assert line == f"threads={threads}: this machine has {os.cpu_count()} CPU cores"


def test_only_runs_of_the_same_images_are_compared(runs: Path, tmp_path: Path) -> None:
    small = write_run(tmp_path / "small", "data.image_size=16", "model.image_size=16")
    message = refused(tmp_path, f"run={runs}/one,{small}")
    assert message.endswith(f"of 32 pixels, {small} of 16: compare runs of one size")
    # as many images of the same classes, drawn from another seed
    other = write_run(tmp_path / "other", "data.seed=1")
    message = refused(tmp_path, f"run={runs}/one,{other}")
    assert message.startswith(f"{other} was tested on other images than {runs}/one")
    assert f"run={runs},model=" in message
    fewer = write_run(tmp_path / "fewer", "data.num_test=20")
    assert "was tested on other images" in refused(tmp_path, f"run={runs}/one,{fewer}")


def test_other_training_images_are_no_hindrance(runs: Path, tmp_path: Path) -> None:
    less = Run(write_run(tmp_path / "less", "data.num_train=200"))
    both = [Run(runs / "one"), less]
    images = benchmark.same_images(both, [load_run(each) for each in both], seed=0)
    assert images.shape == (50, 3, 32, 32)


def test_images_that_changed_since_are_told(runs: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(runs / "one", tmp_path / "changed")
    config = OmegaConf.load(changed / "config.yaml")
    config.data.num_test = 30
    OmegaConf.save(config, changed / "config.yaml")
    message = refused(tmp_path, f"run={changed}")
    assert message.startswith("the 30 test images are not the 50 that")
