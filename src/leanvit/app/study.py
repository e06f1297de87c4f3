"""The trials of one row of a comparison, and what is searched in it: an Optuna study.

Trials are stopped early by the median rule (Golovin et al. 2017, Google Vizier), here of the best
so far.
"""

import itertools
import json
import statistics
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from hydra.core.override_parser.types import Override
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from leanvit.app.finished import STOPPED
from leanvit.app.request import Request
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_history

STARTUP = 4  # trials before which there is no median, and after which a row that only fails ends
WARM_UP = 0.2  # share of the epochs in which nothing is judged: rates still rise

Sampler = Literal["tpe", "random"]
Medians = list[float | None]  # of each epoch; None: it is not judged


class _ShortNumbers(optuna.samplers.BaseSampler):
    """Proposes numbers of three digits: they stand in commands and tables."""

    def sample_independent(
        self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = super().sample_independent(study, trial, param_name, param_distribution)  # type: ignore[safe-super]
        if not isinstance(param_distribution, FloatDistribution):
            return value
        return min(max(float(f"{value:.3g}"), param_distribution.low), param_distribution.high)


class _Tpe(_ShortNumbers, optuna.samplers.TPESampler):
    pass


class _Random(_ShortNumbers, optuna.samplers.RandomSampler):
    pass


class Row:
    """What is the same in all trials of a row, and their study.

    Args:
        words: of the command line, by key.
        request: of the row without a trial's values.
        storage: where each trial that has ended is kept for whoever wants to look.

    Raises:
        LeanvitError: a row of that name is kept already.
    """

    def __init__(
        self,
        name: str,
        words: Mapping[str, str],
        space: Mapping[str, BaseDistribution],
        request: Request,
        sampler: Sampler,
        storage: BaseStorage,
    ) -> None:
        self.name, self.words, self.space = name, dict(words), dict(space)
        self.monitor, self.seed = str(request.config.monitor), int(request.config.seed)
        self.better = min if self.monitor.endswith("loss") else max
        self.curves: list[list[float]] = []  # the best validation up to each epoch
        self.study = optuna.create_study(
            sampler=(
                _Tpe(
                    seed=self.seed,
                    n_startup_trials=2 * STARTUP,
                    multivariate=False,  # or numbers are not shortened
                    constant_liar=True,  # those of a batch keep apart
                )
                if sampler == "tpe"
                else _Random(seed=self.seed)
            ),
            direction="minimize" if self.better is min else "maximize",
        )
        self.kept = optuna.create_study(
            study_name=name, storage=storage, direction=self.study.direction
        )

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def best(self) -> FrozenTrial | None:
        """By validation, of those that were trained to their end; of equals the first."""
        return self.study.best_trial if self.of(TrialState.COMPLETE) else None

    @property
    def is_hopeless(self) -> bool:
        """Nothing but failures."""
        return len(self.trials) >= STARTUP and self.of(TrialState.FAIL) == self.trials

    def of(self, state: TrialState) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == state]

    def words_of(self, values: Mapping[str, Any]) -> list[str]:
        """The command line of a trial."""
        given = {key: f"{key}={value}" for key, value in values.items()}
        return [*(self.words | given).values()]

    def medians(self) -> Medians:
        """Of the best validation up to each epoch, over trials that came as far."""
        num_epochs = max(map(len, self.curves), default=0)
        found: Medians = []
        for epoch in range(num_epochs):
            reached = [curve[epoch] for curve in self.curves if len(curve) > epoch]
            is_judged = epoch >= WARM_UP * num_epochs and len(reached) >= STARTUP
            found.append(statistics.median(reached) if is_judged else None)
        return found if any(each is not None for each in found) else []

    def found(self, request: Request, medians: Medians) -> tuple[TrialState, list[float]] | None:
        """What the directory of a trial says: how it ended, and the best validation up to each
        epoch; None: it is to be trained, or trained on."""
        state = TrialState.COMPLETE
        if not request.is_finished:
            note = request.run_dir / STOPPED
            if not note.exists() or json.loads(note.read_text())["medians"] != medians:
                return None  # it was stopped by another measure
            state = TrialState.PRUNED
        column = self.monitor.replace("/", "_")
        figures = [float(row[column]) for row in read_history(request.run_dir)]
        return state, list(itertools.accumulate(figures, self.better))

    def tell(self, trial: Trial, request: Request, medians: Medians, error: str | None) -> None:
        """Take in what came of a trial."""
        trial.set_user_attr("run", str(request.run_dir))
        found = self.found(request, medians)
        if found is None:
            trial.set_user_attr("error", error)
            self.study.tell(trial, state=TrialState.FAIL)
            return
        state, curve = found
        self.curves.append(curve)
        for epoch, figure in enumerate(curve, start=1):
            trial.report(figure, epoch)
        is_whole = state == TrialState.COMPLETE
        self.study.tell(trial, curve[-1] if is_whole else None, state=state)

    def keep(self) -> None:
        """Put the trials that have ended since into the storage."""
        self.kept.add_trials(self.trials[len(self.kept.get_trials(deepcopy=False)) :])

    def __str__(self) -> str:
        """What came of its trials so far."""
        counts = []
        if stopped := self.of(TrialState.PRUNED):
            top = self.better(trial.value for trial in stopped if trial.value is not None)
            counts.append(f"{len(stopped)} stopped early, the best of them at {top:.4f}")
        if failed := self.of(TrialState.FAIL):
            counts.append(f"{len(failed)} failed")
        found = f"{self.name}: {len(self.trials)} trials"
        found += f" ({', '.join(counts)})" if counts else ""
        if self.best is None:
            return f"{found}: no more are made" if self.is_hopeless else found
        values = " ".join(f"{key}={value}" for key, value in self.best.params.items())
        return f"{found}, best {self.monitor} {self.best.value:.4f} with {values}"

    def lines(self) -> list[dict[str, Any]]:
        """A line of a table for each trial."""
        return [
            {"row": self.name, "trial": trial.number, "state": trial.state.name.lower(),
             "epochs": len(trial.intermediate_values) or None, self.monitor: trial.value,
             **trial.params, **trial.user_attrs}
            for trial in self.trials
        ]  # fmt: skip


def space_of(
    request: Request,
    searched: Mapping[str, Override],
    offered: Mapping[str, Override],
    given: Mapping[str, Override],
) -> dict[str, BaseDistribution]:
    """What is searched in a row, in an order that does not depend on how it was said.

    Args:
        offered: by the sweep: of these, what the row does not have is left out.
        given: on the command line.

    Raises:
        LeanvitError: an interval of what is no number.
    """
    space = {}
    for key, override in sorted(searched.items()):
        own = OmegaConf.select(request.config, key)
        is_number = isinstance(own, int | float) and not isinstance(own, bool)
        if key not in given and (not own or not is_number or key.partition(".")[0] in searched):
            continue
        if not override.is_choice_sweep() and not (is_number or own is None):
            raise LeanvitError(
                f"{override.input_line}: {key}={request.choices.get(key, own)} is no number: "
                f"{key}=choice(a,b) searches among names, {key}=a,b makes a row of each"
            )
        try:
            space[key] = _distribution(override, own, offered.get(key, override))
        except (ValueError, TypeError) as error:
            line = " ".join(str(error).split())
            raise LeanvitError(f"{override.input_line} cannot be searched: {line}") from error
    return space


def _distribution(override: Override, own: Any, offered: Override) -> BaseDistribution:
    if override.is_choice_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if not override.is_interval_sweep():
        return create_optuna_distribution_from_override(override)
    interval: Any = override.value()
    # a rate is searched by its magnitude, in whatever interval
    log = "log" in (*interval.tags, *getattr(offered.value(), "tags", ()))
    low, high = interval.start, interval.end
    if "times" in interval.tags:
        return FloatDistribution(own * low, own * high, log=log)
    if isinstance(own, int) and low == int(low) and high == int(high):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)
