"""Searches: equal budgets, the same end after a kill, and trials that stop early and can go on."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from composed import config_of, request_of
from fake_runs import write_failed_run, write_fake_run
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.storages import InMemoryStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from scripts import TINY_DATA, TINY_VIT, call, child_of, fork, no_figures, wait_until

from leanvit.app import grid, grid_folder, search
from leanvit.app.finished import STOPPED
from leanvit.app.jobs import Job, keep_config
from leanvit.app.request import MEDIANS, Request
from leanvit.app.study import Row, space_of
from leanvit.errors import LeanvitError
from leanvit.training.callbacks import write_rows
from leanvit.weights import read_checkpoint

pytestmark = pytest.mark.xdist_group("grid")
ASKED = [*TINY_DATA, *TINY_VIT, "trainer=cpu"]
NUM_EPOCHS = 10


def plain(words: Sequence[str]) -> list[str]:
    return [each for each in words if not each.startswith("+hydra")]


class FakeJobs:
    """In place of trainings: a validation that is best at a rate of 5e-3, and is known at once."""

    def __init__(self) -> None:
        self.num_left = 10**9  # jobs before somebody kills the command
        self.trained: list[str] = []

    def launch(
        self,
        sweeper: search.Search,
        jobs: Mapping[Path, Sequence[str]],
        known: bool,
        shown: bool = False,
    ) -> dict[Path, str | None]:
        errors: dict[Path, str | None] = {}
        for run_dir, words in jobs.items():
            if sweeper.request(plain(words)).is_finished or (run_dir / STOPPED).exists():
                errors[run_dir] = None
            elif not self.num_left:
                grid._held.close()  # as the end of the process does
                raise KeyboardInterrupt
            else:
                self.num_left -= 1
                errors[run_dir] = self.train(run_dir, words, sweeper)
                self.trained.append(" ".join(words))
            if shown or errors[run_dir]:
                place = sweeper.folder / str(sweeper.num_jobs)
                grid_folder.leave(place, Job(run_dir, errors[run_dir]))
            sweeper.num_jobs += 1
        return errors

    def train(self, run_dir: Path, words: Sequence[str], sweeper: search.Search) -> str | None:
        asked = sweeper.request(plain(words))
        shutil.rmtree(run_dir, ignore_errors=True)
        if asked.choices["loss"] == "ldam":
            write_failed_run(run_dir, "it always fails")
            return "it always fails"
        given = [each for each in words if each.startswith(f"+hydra.job.env_set.{MEDIANS}")]
        medians = json.loads(given[0].partition("=")[2].strip('"')) if given else []
        distance = abs(torch.tensor(asked.config.optimizer.lr / 5e-3).log10().item())
        figures = [(1 - 0.5**epoch) * (0.9 - distance / 2) for epoch in range(1, NUM_EPOCHS + 1)]
        ends = [epoch for epoch, median in enumerate(medians[:-1])
                if median is not None and figures[epoch] < median]  # fmt: skip
        if ends:
            run_dir.mkdir(parents=True)
            (run_dir / STOPPED).write_text(json.dumps({"why": "behind", "medians": medians}))
        else:
            write_fake_run(run_dir, seed=asked.config.seed, loss=str(asked.choices["loss"]))
        keep_config(asked.config, asked.choices, run_dir, ("disc", "cross", "star"))
        rows = [
            {"epoch": epoch, "val_balanced_accuracy": figure, "seconds": 1.0}
            for epoch, figure in enumerate(figures[: ends[0] + 1 if ends else None])
        ]
        write_rows(rows, run_dir / "history.csv")
        return None


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    fake = FakeJobs()
    monkeypatch.setattr(
        search.Search, "launch", lambda self, *given, **more: fake.launch(self, *given, **more)
    )
    composing, known = search.Search.request, {}

    def request(self: search.Search, words: Iterable[str]) -> Request:
        """Composed once: it takes an eighth of a second."""
        given = tuple(words)
        if given not in known:
            known[given] = composing(self, given)
        return known[given]

    monkeypatch.setattr(search.Search, "request", request)
    return fake


def trials_of(outputs: Path) -> list[dict[str, str]]:
    (path,) = outputs.glob("grids/*/search.csv")
    rows = list(csv.DictReader(path.read_text().replace(str(outputs), "").splitlines()))
    assert all(len(f"{float(row['optimizer.lr']):.3g}") >= len(row["optimizer.lr"]) - 2
               for row in rows)  # fmt: skip
    return rows


def test_rows_are_tuned_equally_and_a_search_that_is_killed_ends_as_one_that_is_not(
    jobs: FakeJobs, tmp_path: Path
) -> None:
    asked = [*ASKED, "sweep=search", "loss=ce,focal", "hydra.sweeper.n_trials=9"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = call("train.py", *asked, f"outputs={whole}")
    assert done.returncode == 0, done.stderr
    found = trials_of(whole)
    assert [row["row"] for row in found] == ["loss=ce"] * 9 + ["loss=focal"] * 9
    stopped = [row for row in found if row["state"] == "pruned"]
    assert stopped and all(1 < int(row["epochs"]) < NUM_EPOCHS for row in stopped)
    best = max(found, key=lambda row: float(row["val/balanced_accuracy"]))
    assert 2e-3 < float(best["optimizer.lr"]) < 1.2e-2

    # the table shows fresh seeds alone, and says what they were chosen from
    seeds = [line.partition(" seed=")[2][:1] for line in jobs.trained]
    assert seeds == [*[""] * 18, *"112233"]
    (table,) = whole.glob("grids/*/comparison.csv")
    rows = list(csv.DictReader(table.open()))
    assert sorted((row["loss"], row["seeds"]) for row in rows) == [("ce", "3"), ("focal", "3")]
    for text in (done.stdout, table.with_suffix(".md").read_text()):
        assert "loss=focal: 9 trials (" in text and "stopped early" in text
        assert "seed 0, trained again with seed 1, 2, 3" in text

    before = len(jobs.trained)
    for status in (130, 130, 0):
        jobs.num_left = 9
        done = call("train.py", *asked, f"outputs={killed}")
        assert done.returncode == status, done.stderr
    assert trials_of(killed) == found
    assert len(jobs.trained) == 2 * before  # none twice

    storage = JournalStorage(JournalFileBackend(str(next(killed.glob("grids/*/optuna.log")))))
    kept = optuna.load_study(study_name="loss=focal", storage=storage).trials
    assert [each.state.name.lower() for each in kept] == [row["state"] for row in found[9:]]
    assert kept[0].intermediate_values.keys() == set(range(1, NUM_EPOCHS + 1))

    # more trials: those that there are count
    more = ["hydra.sweeper.n_trials=10", "hydra.sweeper.seeds=0"]
    done = call("train.py", *asked[:-1], *more, f"outputs={killed}")
    assert done.returncode == 0 and len(jobs.trained) == 2 * before + 2


def test_what_would_stop_all_jobs_stops_the_search(tmp_path: Path) -> None:
    """A full disk: the grid leaves out jobs that have not begun, and they are no failed trials."""
    sweeper = search.Search("tpe", 4, 4, True, 1)
    sweeper.folder = tmp_path
    asked = [tmp_path / "a", tmp_path / "b"]

    def launch(jobs: Sequence[object], first: int) -> list[object]:
        grid_folder.leave(tmp_path / str(first + 1), Job(asked[1], "no space left"))
        return []

    sweeper.jobs = SimpleNamespace(launch=launch)
    with pytest.raises(LeanvitError, match="no space left"):
        sweeper.launch({run_dir: ["seed=0"] for run_dir in asked}, known=False)


def test_at_random_all_rows_have_the_same_trials_to_their_end(
    jobs: FakeJobs, tmp_path: Path
) -> None:
    asked = [*ASKED, "sweep=random", "loss=ce,focal", "hydra.sweeper.n_trials=5"]
    done = call("train.py", *asked, "hydra.sweeper.seeds=0", f"outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    found = trials_of(tmp_path)
    keys = ("optimizer.lr", "optimizer.weight_decay", "augment.padding")
    first, second = ([[row[key] for key in keys] for row in found[at : at + 5]] for at in (0, 5))
    assert first == second
    assert {(row["state"], row["epochs"]) for row in found} == {("complete", str(NUM_EPOCHS))}
    assert len(jobs.trained) == 10 and "not trained again" in done.stdout
    assert not any(MEDIANS in line for line in jobs.trained)


def test_a_value_that_only_the_rows_have_a_place_for_is_given_to_each(
    jobs: FakeJobs, tmp_path: Path
) -> None:
    asked = ["experiment=demo_vit,demo_coatnet", "data.num_train=400", "sweep=search"]
    short = ["hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=0", f"outputs={tmp_path}"]
    done = call("train.py", *asked, *short, "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert len(jobs.trained) == 4
    assert all("data.num_train=400" in line for line in jobs.trained)
    assert "data.num_train" not in trials_of(tmp_path)[0]


def test_a_row_that_always_fails_ends_alone(jobs: FakeJobs, tmp_path: Path) -> None:
    asked = [*ASKED, "sweep=search", "hydra.sweeper.n_trials=5", f"outputs={tmp_path}"]
    done = call("train.py", *asked, "loss=ldam,ce")
    assert done.returncode == 1
    assert "loss=ldam: 4 trials (4 failed): no more are made" in done.stdout
    assert "loss=ce: 5 trials" in done.stdout and done.stdout.count("failed: ") == 4
    (table,) = tmp_path.glob("grids/*/comparison.csv")
    assert [row["seeds"] for row in csv.DictReader(table.open()) if row["seeds"]] == ["3"]
    done = call("train.py", *asked, "loss=ldam")
    assert done.returncode == 1 and "No finished run." in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["hydra.sweeper.n_trials=0"],
            "hydra.sweeper.n_trials=0 must be greater than or equal to 1",
        ),
        (["hydra.sweeper.trials=9"], "there is no hydra.sweeper.trials: did you mean n_trials?"),
        (["seed=0,1"], "seed=0,1: the trials of a search have one seed"),
        (["loss=interval(0,1)"], "loss=interval(0,1): loss=ce is no number: loss=choice(a,b)"),
        (["compile=interval(0,1)"], "compile=auto is no number"),
        (["optimizer.lrr=interval(0,1)"], "there is no optimizer.lrr: did you mean lr?"),
        (
            ["optimizer.lr=interval(0,1)"],
            "optimizer.lr=interval(0,1) cannot be searched: `low > 0`",
        ),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1) cannot be searched"),
        (
            ["optimizer.lr=1e-3", "optimizer.weight_decay=0", "augment=none", "mix=none"],
            "has nothing to search: give an interval",
        ),
        (["loss=choice(ce,zzz)"], "there is no loss=zzz"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    words: list[str], line: str, jobs: FakeJobs, tmp_path: Path
) -> None:
    done = call("train.py", *ASKED, "sweep=search", f"outputs={tmp_path}", *words)
    assert done.returncode in (1, 2) and not jobs.trained, done.stderr
    assert line in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "searched"),
    [
        ([], {"optimizer.lr", "optimizer.weight_decay", "augment.padding"}),
        (["optimizer.lr=1e-3", "augment=none"], {"optimizer.weight_decay"}),
        (["augment=course", "mix=mixup", "optimizer.weight_decay=0"],
         {"optimizer.lr", "augment.magnitude", "mix.probability"}),
    ],
)  # fmt: skip
def test_each_row_searches_what_it_has(words: list[str], searched: set[str]) -> None:
    parsed = OverridesParser.create().parse_overrides
    params = config_of("sweep=search").hydra.sweeper.params
    offered = {key: parsed([f"{key}={value}"])[0] for key, value in params.items()}
    given = {each.partition("=")[0] for each in words}
    space = space_of(request_of("data=shapes", *words),
                     {k: v for k, v in offered.items() if k not in given}, offered, {})  # fmt: skip
    assert set(space) == searched


def test_intervals_mean_what_they_say() -> None:
    asked = request_of("data=shapes", "optimizer=adamw", "model=vit")
    (offered,) = OverridesParser.create().parse_overrides(
        ["optimizer.lr=tag(log,times,interval(0.5,2))"]
    )

    def space(*words: str) -> list[str]:
        parsed = {each.get_key_element(): each
                  for each in OverridesParser.create().parse_overrides(list(words))}  # fmt: skip
        return [
            str(each).replace("Distribution", "")
            for each in space_of(asked, parsed, {"optimizer.lr": offered}, parsed).values()
        ]

    assert space("optimizer.lr=tag(log,times,interval(0.5,2))") == [
        "Float(high=0.002, log=True, low=0.0005, step=None)"
    ]
    # a rate stays one of magnitude; whole numbers stay whole
    assert space("optimizer.lr=interval(1e-4,1e-2)", "batch_size=interval(64,256)") == [
        "Int(high=256, log=False, low=64, step=1)",
        "Float(high=0.01, log=True, low=0.0001, step=None)",
    ]
    assert space("mix=choice(none,cutmix)", "max_epochs=range(2,9,3)") == [
        "Int(high=8, log=False, low=2, step=3)",
        "Categorical(choices=('none', 'cutmix'))",
    ]


def test_the_median_is_of_those_that_came_as_far() -> None:
    row = Row("row", {}, {}, request_of("data=shapes"), "tpe", InMemoryStorage())
    row.curves = [[0.1, 0.2, 0.3], [0.1, 0.4, 0.5], [0.0, 0.1, 0.9], [0.2, 0.2], [0.3, 0.6, 0.6]]
    assert row.medians() == [None, 0.2, pytest.approx(0.55)]
    row.curves.pop()
    assert row.medians() == [None, 0.2, None]  # three came so far
    row.curves = row.curves[:3]
    assert row.medians() == []


def weights(run_dir: Path, name: str = "best.ckpt") -> dict[str, torch.Tensor]:
    return read_checkpoint(run_dir / "checkpoints" / name)["state_dict"]


def test_a_trial_that_stopped_early_goes_on_as_a_plain_run(tmp_path: Path, undrawn: None) -> None:
    asked = [*ASKED, "max_epochs=3"]
    given = json.dumps([None, 2.0])  # nobody reaches 2
    for _ in range(2):  # it stays stopped
        done = call("train.py", *asked, f"outputs={tmp_path / 'a'}", LEANVIT_MEDIANS=given)
        (config,) = tmp_path.glob("a/shapes/*/config.yaml")
        run_dir = config.parent
        assert done.returncode == 0 and "is behind the median of earlier trials" in done.stderr
        assert len((run_dir / "history.csv").read_text().splitlines()) == 1 + 2
        told = json.loads((run_dir / STOPPED).read_text())
        assert told["medians"] == [None, 2.0] and told["why"].startswith("stopped early after")
        assert not (run_dir / "metrics.json").exists()
    done = call("train.py", *asked, f"outputs={tmp_path / 'a'}")
    assert done.returncode == 0 and "going on from" in done.stderr
    assert not (run_dir / STOPPED).exists() and (run_dir / "metrics.json").exists()
    assert call("train.py", *asked, f"outputs={tmp_path / 'b'}").returncode == 0
    other = tmp_path / "b" / "shapes" / run_dir.name
    for name in ("best.ckpt", "last.ckpt"):
        assert all(torch.equal(value, weights(other, name)[key])
                   for key, value in weights(run_dir, name).items())  # fmt: skip
    assert (run_dir / "predictions.npz").read_bytes() == (other / "predictions.npz").read_bytes()


def test_a_search_that_dies_in_its_trials_ends_as_one_that_does_not(tmp_path: Path) -> None:
    asked = [*ASKED, "sweep=search", "max_epochs=3", "hydra.sweeper.n_trials=5",
             "hydra.sweeper.batch=2", "hydra.sweeper.seeds=1"]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with no_figures():
        process = fork(tmp_path / "log", "train.py", *asked, f"outputs={whole}")
        process.join()
        assert process.exitcode == 0, (tmp_path / "log").read_text()
        for number, line in enumerate(("epoch 2/3", "4 trials")):
            log = tmp_path / f"log-{number}"
            process = fork(log, "train.py", *asked, f"outputs={killed}")
            wait_until(process, log, line)
            for each in (process.pid, child_of(process)):
                os.kill(each or 0, signal.SIGKILL)
            process.join()
        done = call("train.py", *asked, f"outputs={killed}")
    assert done.returncode == 0, done.stderr
    assert trials_of(killed) == trials_of(whole)
    names = {path.parent.name for path in killed.glob("shapes/*/config.yaml")}
    assert names == {path.parent.name for path in whole.glob("shapes/*/config.yaml")}
    assert len(names) == 6
    states = {row["state"] for row in trials_of(whole)}
    assert states <= {"complete", "pruned"}
