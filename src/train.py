"""Train one net, or with -m a grid of them, and compare.

    python src/train.py model=coatnet loss=focal
    python src/train.py -m model=vit,coatnet loss=ce,weighted_ce,focal sampler=shuffle,balanced

The same command goes on where a killed one stopped, and skips what is finished.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import assemble
import checks
import command_line
import jobs
import lightweighting
import loggers
import naming
import processes
import stages
from leanvit.data.long_tail import class_counts_line
from leanvit.evaluation.compare import compare
from leanvit.evaluation.data_figures import class_counts
from leanvit.evaluation.evaluate import evaluate
from leanvit.evaluation.figures import learning_curves
from leanvit.evaluation.table import print_table, write_comparison
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training, fit

JOBS: list[jobs.Job] = []


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """One job; errors are kept, so that Hydra goes on to the next."""
    JOBS.append(jobs.start(train, config, __file__, "metrics.json"))


def train(config: DictConfig, run_dir: Path) -> None:
    """From images to a finished run directory."""
    stages.take_over(config)
    checks.check_choices(config)
    splits = assemble.load_splits(config)
    data = assemble.build_data(config, splits)
    classifier = assemble.build_classifier(config, data)
    jobs.keep_config(config, run_dir, splits.train.classes)
    counts = data.train.class_counts.tolist()
    if processes.is_first_rank():
        print(class_counts_line(data.train, data.val, data.test), file=sys.stderr)
        title = f"training images, {splits.source}"
        class_counts(counts, splits.train.classes, run_dir / "figures" / "class_counts.png", title)
    training = (
        stages.without_training(config, classifier, data, run_dir)
        if stages.trains_nothing(config)
        else fit_logged(config, classifier, data, run_dir)
    )
    if not processes.is_first_rank():
        return
    best_epoch = training.best_epoch
    if training.history:
        learning_curves(training.history, run_dir / "figures" / "learning_curves.png", best_epoch)
    place = training.device, config.memory_gib
    lightweighting.serve_target(run_dir, training.precision, data.val, *place)
    evaluate(
        run_dir,
        assemble.load_run(run_dir, training.precision),
        {"val": data.val, "test": data.test},
        train_counts=counts,
        source=splits.source,
        device=training.device,
        memory_gib=config.memory_gib,
        about={
            **about(config, run_dir),
            "training": assemble.about_training(training, config.monitor),
        },
    )


def fit_logged(
    config: DictConfig, classifier: Classifier, data: ImageDataModule, run_dir: Path
) -> Training:
    """Fit with the chosen logger and trainer."""
    with loggers.logger(config, run_dir) as logger:
        return fit(
            classifier,
            data,
            run_dir,
            max_epochs=config.max_epochs,
            monitor=config.monitor,
            ema_decay=config.ema_decay,
            logger=logger,
            **config.trainer,
        )


def about(config: DictConfig, run_dir: Path) -> dict[str, Any]:
    """What was chosen, and with which code: to tell runs apart and to bring seeds together."""
    settings = HydraConfig.get()
    choices, overrides = settings.runtime.choices, list(settings.overrides.task)
    taken_over = {
        "data": naming.module_name(config.data),
        "model": naming.module_name(config.model),
        "pretrained": stages.pretrained_name(config),
        "lightweight": naming.module_name(config.get("lightweight")) or None,
        "classifier": None if choices["classifier"] == "none" else choices["classifier"],
        **stages.kept_choices(config),
    }
    return {
        "name": run_dir.name,
        "choices": {k: v for k, v in choices.items() if not k.startswith("hydra/")} | taken_over,
        "overrides": {
            **stages.kept_overrides(config, overrides),
            **command_line.value_overrides(overrides, choices),
        },
        "choices_hash": naming.choices_hash(config, without_seed=True),
        "seed": config.seed,
        "versions": assemble.versions(),
        "git_commit": assemble.git_commit(),
    }


def program() -> None:
    """All jobs, then what came out, best first; a failed one sets the exit status."""
    main()
    jobs.end(JOBS)
    finished = [job.run_dir for job in JOBS if job.error is None]
    failed = [job.run_dir for job in JOBS if job.error is not None]
    if len(JOBS) == 1:
        print_table(compare([*stages.evaluated_before(finished[0]), *finished]))
        print(finished[0])
    elif JOBS:
        names = sorted(str(job.run_dir) for job in JOBS)
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
        folder = JOBS[0].run_dir.parents[1] / "grids" / digest
        print_table(write_comparison(finished, failed, folder), failed)
        print(f"{folder}/comparison.md")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    command_line.flag_first("-m", "--multirun")
    command_line.imply_choices()
    command_line.run(program)
