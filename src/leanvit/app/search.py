"""A search for values by validation: a Hydra sweeper with an Optuna study for each row.

Commas make rows, as in every grid; what stands in ``interval()``, ``range()`` or ``choice()`` is
searched in each of them by the same number of trials ("tuned equally"). A trial is a run as any
other, and what came of it is read from its directory. A study is therefore not taken up but
replayed: the same seeded proposals, of which only those are trained that no directory answers yet.
At last the best trial of each row, whose luck was chosen as well, is trained again with fresh
seeds, and these are compared.
"""

import itertools
import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import Trial

from leanvit import values
from leanvit.app import grid_folder
from leanvit.app.jobs import Job
from leanvit.app.request import MEDIANS, Request, training
from leanvit.app.study import Medians, Row, Sampler, space_of
from leanvit.errors import LeanvitError
from leanvit.evaluation.tables import csv_text, write_texts
from leanvit.values import Count, Whole

MAKE_ROWS = (ValueType.SIMPLE_CHOICE_SWEEP, ValueType.GLOB_CHOICE_SWEEP)


class _Asked(NamedTuple):
    """A trial that is proposed, and the job that would answer it."""

    row: Row
    trial: Trial
    words: list[str]
    request: Request
    medians: Medians


class Search(Sweeper):
    """Its values are those of conf/hydra/sweeper/search.yaml."""

    def __init__(
        self,
        sampler: Sampler,
        n_trials: Count,
        batch: Count,
        stop_early: bool,
        seeds: Whole,
        params: Any = None,
    ) -> None:
        given = {"sampler": sampler, "n_trials": n_trials, "batch": batch,
                 "stop_early": stop_early, "seeds": seeds}  # fmt: skip
        values.check(Search, given, "hydra.sweeper.")
        self.sampler, self.n_trials, self.batch = sampler, n_trials, batch
        self.stop_early, self.seeds, self.params = stop_early, seeds, params or {}
        self.num_jobs = 0
        self.why: str | None = None  # the last job that failed did so

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        self.composed: Any = config
        self.loader = hydra_context.config_loader
        self.folder = Path(config.hydra.sweep.dir)
        self.jobs = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Try, choose, and train again what was chosen.

        Raises:
            LeanvitError: there is nothing to search, or the words make no job.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        rows = self.rows(arguments)
        while asked := [each for row in rows for each in self.ask(row)]:
            self.answer(asked)
            for row in rows:
                row.keep()
                print(row, file=sys.stderr, flush=True)
        self.tell(rows)
        self.train_again([row for row in rows if row.best])

    def rows(self, arguments: Sequence[str]) -> list[Row]:
        """The rows of the comparison: one for each set of what commas separate."""
        parser = OverridesParser.create(config_loader=self.loader)
        offered, given = (
            {each.get_key_element(): _settled(each, parser)
             for each in parser.parse_overrides(list(words))}
            for words in ([f"{key}={value}" for key, value in self.params.items()], arguments)
        )  # fmt: skip
        known = offered | given
        if "seed" in known and known["seed"].is_sweep_override():
            raise LeanvitError(
                f"{known['seed'].input_line}: the trials of a search have one seed, and the best "
                "is trained again with others, hydra.sweeper.seeds= of them"
            )
        fixed = {key: each.input_line or "" for key, each in known.items()
                 if not each.is_sweep_override()}  # fmt: skip
        commas = [[(key, f"{key}={value}") for value in each.sweep_string_iterator()]
                  for key, each in known.items() if each.value_type in MAKE_ROWS]  # fmt: skip
        searched = {key: each for key, each in known.items()
                    if each.is_sweep_override() and each.value_type not in MAKE_ROWS}  # fmt: skip
        found = {}
        for chosen in itertools.product(*commas):
            words = fixed | dict(chosen)
            request = self.request(words.values())
            name = " ".join(dict(chosen).values()) or request.run_dir.name.rpartition("-")[0]
            space = space_of(request, searched, offered, given)
            if not space:
                raise LeanvitError(
                    f"{name} has nothing to search: give an interval, as in "
                    "'optimizer.lr=interval(1e-4,1e-2)'"
                )
            found[name] = words, space, request
        storage = self.storage()
        return [Row(name, *each, self.sampler, storage) for name, each in found.items()]

    def storage(self) -> JournalStorage:
        """A new file for whoever wants to look: ``optuna-dashboard .../optuna.log``."""
        path = self.folder / "optuna.log"
        for old in self.folder.glob(f"{path.name}*"):  # also the lock of a process that was killed
            old.unlink()
        return JournalStorage(JournalFileBackend(str(path)))

    def request(self, words: Iterable[str]) -> Request:
        """What a job will make of these words."""
        config: Any = self.loader.load_sweep_config(self.composed, list(words))
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, config
        try:
            return training(own)
        finally:
            HydraConfig.instance().cfg = before

    def ask(self, row: Row) -> Iterator[_Asked]:
        """The next trials of a row; none where it has had its number."""
        medians = row.medians() if self.stop_early else []
        num = 0 if row.is_hopeless else min(self.batch, self.n_trials - len(row.trials))
        for _ in range(num):
            trial = row.study.ask(row.space)
            words = row.words_of(trial.params)
            yield _Asked(row, trial, words, self.request(words), medians)

    def answer(self, asked: Sequence[_Asked]) -> None:
        """Train what no directory answers yet, and tell the studies."""
        jobs, known = {}, True
        for row, _, words, request, medians in asked:
            told = f'+hydra.job.env_set.{MEDIANS}="{json.dumps(medians)}"'
            jobs[request.run_dir] = [*words, *([told] if medians else [])]
            known &= row.found(request, medians) is not None
        errors = self.launch(jobs, known)
        for row, trial, _, request, medians in asked:
            row.tell(trial, request, medians, errors.get(request.run_dir))

    def launch(
        self, jobs: Mapping[Path, Sequence[str]], known: bool, shown: bool = False
    ) -> dict[Path, str | None]:
        """Run jobs, which have the same numbers in every call, and what went wrong in each.

        Args:
            known: all are done.
            shown: in the comparison, as what fails always is.

        Raises:
            LeanvitError: one failed by what would stop the others, too.
        """
        first, errors = self.num_jobs, dict[Path, str | None]()
        self.num_jobs += len(jobs)
        for result in () if known else self.jobs.launch([*jobs.values()], first):
            _ = result.return_value  # raises what a job could not even leave
        for number, run_dir in enumerate(jobs, start=first):
            place = self.folder / str(number) / "job.json"
            if known and shown:
                grid_folder.leave(place.parent, Job(run_dir, None))
            if place.exists():
                errors[run_dir] = json.loads(place.read_text(encoding="utf-8"))["error"]
                self.why = errors[run_dir] or self.why
                if not errors[run_dir] and not shown:
                    place.unlink()
        if not known and len(errors) < len(jobs):
            raise LeanvitError(self.why or f"a job left nothing in {self.folder}")
        return errors

    def train_again(self, rows: Sequence[Row]) -> None:
        """The best trial of each row with fresh seeds, without which it stands as it is."""
        jobs, known = {}, True
        for number in range(1, self.seeds + 1) if self.seeds else (0,):
            for row in rows:
                assert row.best
                words = row.words_of({**row.best.params, "seed": row.seed + number})
                request = self.request(words)
                jobs[request.run_dir] = words
                known &= request.is_finished
        self.launch(jobs, known, shown=True)

    def tell(self, rows: Sequence[Row]) -> None:
        """Write ``search.csv``, a line for each trial, and ``search.md``, one for each row."""
        seeds = ", ".join(str(rows[0].seed + number) for number in range(1, self.seeds + 1))
        then = f"trained again with seed {seeds}" if seeds else "not trained again"
        head = f"Each row is the best of its trials by validation, at seed {rows[0].seed}, {then}."
        text = "".join([f"{head}\n\n", *(f"- {row}\n" for row in rows)])
        lines = [line for row in rows for line in row.lines()]
        write_texts(self.folder / "search", text, csv_text(lines))


def _settled(override: Override, parser: OverridesParser) -> Override:
    """A choice of one is no search: so are the values told that only some of the rows have, see
    :mod:`leanvit.app.left_to_jobs`."""
    if not override.is_choice_sweep() or override.value_type in MAKE_ROWS:
        return override
    values = list(override.sweep_string_iterator())
    key = override.get_key_element()
    return parser.parse_override(f"{key}={values[0]}") if len(values) == 1 else override
