"""The commands: help and slips are answered at once, and a traceback comes on request only."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from composed import GROUPS, config_of, request_of
from fake_runs import write_failed_run
from hydra.errors import HydraException
from scripts import ROOT, call, environment, run

from leanvit.app.check import check_pretraining
from leanvit.app.command import as_list, check_left_out

pytestmark = pytest.mark.xdist_group("command")  # one fixture for all
SCRIPTS = sorted(path.name for path in (ROOT / "src").glob("*.py"))
HEAVY = {"torch", "lightning", "torchvision", "torchmetrics", "matplotlib", "pandas", "timm"}
SLIPS = {
    "train.py model=vitt": "there is no model=vitt: did you mean vit",
    "train.py model=vit model.depht=3": "there is no model.depht: did you mean depth",
    "train.py loss=ce,focal": "gives several values: for a grid of them add -m",
    "train.py outputs=/a,b": """for one with a comma 'outputs="/a,b"'""",
    "train.py outputs=/x/a=b": """want quotes: 'outputs="/x/a=b"'""",
    "benchmark.py run=a output=/x/é": """want quotes: 'output="/x/é"'""",
    "report.py outputs=/x": "runs are named by run=..., what is written goes to output=...",
    "eval.py outputs=/x run=y": "what is written goes into the run's own folder",
    "train.py parallel=two seed=0,1 -m": "error: parallel=two: give a number of jobs, 1 or more",
    "train.py parallel=2": "parallel=2 is of the jobs of a grid: add -m",
    "train.py hydra/launcher=slurm": "hydra/launcher=slurm runs grids: add -m, also for one job",
    "train.py -m seed=0 hydra/launcher=slurm parallel=2": "leave it out with hydra/launcher=slurm",
    "pretrain.py pretrain=mea": "did you mean mae",
    "compress.py method=prune": "run must be given: run=...",
    "complexity.py --cfg": "there is no flag --cfg",
}
REFUSED = {
    "train.py data=folder data.source=none": "none does not exist: give data.source=",
    "pretrain.py data=folder data.source=docs": "no class folders in",
    "train.py data=course data.source=docs": "docs holds no folder CIFAR10_imbalance*/",
    "eval.py run=none": "no run directory none",
    "predict.py run=none images=none": "no run directory none",
}
QUICK = """
import contextlib, io, json, os, runpy, sys
answers, environ = {}, dict(os.environ)
for given in json.load(sys.stdin):
    # a grid of one's own: another worker may be asking the same, and grids lock their folder
    script, *sys.argv[1:] = given.replace("seed=0,1", f"seed=0,{os.getpid()}").split()
    sys.argv[0] = f"src/{script}"
    os.environ.clear()
    os.environ.update(environ)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            status = stop.code or 0
    from hydra.core.global_hydra import GlobalHydra
    GlobalHydra.instance().clear()
    heavy = sorted(set(sys.modules) & {heavy})
    answers[given] = out.getvalue(), err.getvalue(), status, heavy
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, str, int, list[str]]]:
    """Standard output and error, exit status, and what was imported so far: of one fresh process,
    in which one command line comes after the other."""
    program = [sys.executable, "-c", QUICK.replace("{heavy}", repr(HEAVY))]
    asked = json.dumps([*(f"{script} --help" for script in SCRIPTS), *SLIPS, *REFUSED])
    options = {"cwd": ROOT, "text": True, "capture_output": True, "check": True}
    env = environment(PYTHONPATH=str(ROOT / "src"))
    return json.loads(subprocess.run(program, input=asked, env=env, **options).stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_nothing_heavy(script: str, answers: dict) -> None:
    out, *rest = answers[f"{script} --help"]
    assert rest == ["", 0, []]
    assert f"python src/{script}" in out
    for key in config_of(command=script.removesuffix(".py")):
        if key not in ("hydra", "late"):  # in words, beside it or below it
            assert re.search(rf"^  {key}=\S* *\n? +\w.* \w", out, re.MULTILINE), key
    assert not re.search(r"^      \S+$", out, re.MULTILINE), "a choice without a word"


def test_help_lists_what_a_command_takes(answers: dict) -> None:
    def listed(script: str, group: str) -> set[str]:
        part = re.split(rf"^  {group}=.*\n", answers[f"{script}.py --help"][0], flags=re.M)[1]
        return set(re.findall(r"^      (\w+) ", re.split(r"^  \w", part, flags=re.M)[0], re.M))

    assert listed("compress", "trainer") == {"auto", "cpu", "gpu"}
    assert listed("prepare", "data") == {"course"}
    assert listed("train", "loss") == set(GROUPS["loss"])
    assert listed("train", "hydra/launcher") == {"local", "ray", "slurm"}
    models = listed("pretrain", "model")
    assert "swin" not in models
    for model in models - {"vit_b_16"}:  # a large one; of the two pretrainings the wider
        words = ["pretrain=autoencoder", f"model={model}", "data=shapes"]
        check_pretraining(request_of(*words, command="pretrain"))


def test_help_shows_what_comes_of_a_choice() -> None:
    shown = call("train.py", "loss=focal", "model.depth=3", "experiment=demo_vit", "--help").stdout
    assert "loss.gamma=2.0 " in shown and "model.depth=3 " in shown and "max_epochs=6 " in shown
    assert "batch_size=500 " in call("train.py", "--help").stdout  # what the recipe of the net says


@pytest.mark.parametrize("given", [*SLIPS, *REFUSED])
def test_a_slip_needs_nothing_heavy(given: str, answers: dict) -> None:
    out, err, status, heavy = answers[given]
    assert (out, status, heavy, err.count("\n")) == ("", 2 if given in SLIPS else 1, [], 1)
    assert err.startswith("error: ") and (SLIPS | REFUSED)[given] in err


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_entry_script_is_a_docstring_and_a_call(script: str) -> None:
    text = (ROOT / "src" / script).read_text()
    assert text.count("\n") <= 40 and text.startswith('"""')
    assert f"python src/{script}" in text


def test_what_a_command_needs_is_not_left_out() -> None:
    """By ``~``; what may be missing is, and what is not there is told of where it is composed."""
    for key in ("~logger", "~classifier=none", "~mix@late.mix", "~data.source", "~classif"):
        check_left_out([key], "train")
    for command, key in (("train", "model"), ("train", "seed"), ("compress", "method=prune")):
        with pytest.raises(HydraException, match=f"~{key[:5]}.*leaves out what {command}.py needs"):
            check_left_out(["a=1", f"~{key}"], command)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("run=outputs/a b,outputs/c", "run=['outputs/a b','outputs/c']"),
        ("against=it's", r"against=['it\'s']"),
        ("run=[a,b]", "run=[a,b]"),
        ('run="a,b"', 'run="a,b"'),
        ("device=cpu", "device=cpu"),
        ("what=tokens,filters", "what=['tokens','filters']"),
    ],
)
def test_a_comma_makes_a_list_of_runs(given: str, meant: str) -> None:
    assert as_list(given) == meant


def test_a_folder_with_a_comma_is_one(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert as_list(f"run={tmp_path}/a,b") == f"run=['{tmp_path}/a,b']"


def test_a_traceback_only_on_request() -> None:
    plain = run("train.py", "model=vitt")
    assert plain.returncode == 2
    assert plain.stderr.strip().count("\n") == 0 and plain.stdout == ""
    full = call("train.py", "model=vitt", HYDRA_FULL_ERROR="1")
    assert full.returncode == 2 and "Traceback" in full.stderr
    inner = call("train.py", "trainer=cpu", "batch_size=0", LEANVIT_TRACEBACK="1")
    assert inner.returncode == 1 and "Traceback" in inner.stderr


@pytest.mark.parametrize("script", ["eval.py", "benchmark.py", "visualize.py"])
def test_what_is_no_run_is_one_line(script: str, tmp_path: Path) -> None:
    done = call(script, f"run={tmp_path}/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no run directory") and done.stderr.count("\n") == 1


def test_a_failed_run_is_one_line(tmp_path: Path) -> None:
    failed = write_failed_run(tmp_path / "failed", "no space left")
    done = call("benchmark.py", f"run={failed}")
    line = f"error: {failed} failed (no space left): train it again, or leave it out\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize("script", ["train.py", "report.py"])
def test_ctrl_c_while_a_command_is_imported_is_one_line(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "leanvit.app.command":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "leanvit.app.command")
    monkeypatch.delattr("leanvit.app.command")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    done = call(script)
    line = "interrupted: nothing has begun\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)


def test_a_reader_that_has_enough_is_no_error() -> None:
    program = [sys.executable, str(ROOT / "src" / "complexity.py"), "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
