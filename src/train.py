"""Train one net, or with -m a grid of them, and compare.

    python src/train.py model=coatnet loss=focal
    python src/train.py -m model=vit,coatnet loss=ce,weighted_ce,focal sampler=shuffle,balanced

The same command goes on where a killed one stopped, and skips what is finished.
"""

import contextlib
import fcntl
import hashlib
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import assemble
import command_line
import processes
from leanvit.data.images import Splits
from leanvit.errors import LeanvitError
from leanvit.evaluation.compare import compare
from leanvit.evaluation.evaluate import evaluate
from leanvit.evaluation.figures import learning_curves
from leanvit.evaluation.table import print_table, write_comparison
from leanvit.files import atomic_path
from leanvit.training.fit import fit


class Job(NamedTuple):
    run_dir: Path
    error: str | None


JOBS: list[Job] = []


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """One job; errors are kept, so that Hydra goes on to the next."""
    settings = HydraConfig.get()
    run_dir = Path(settings.runtime.output_dir)
    if processes.is_rank():
        error = run_job(config, run_dir)
    elif (run_dir / "metrics.json").exists():
        print(f"{run_dir} is finished: delete it to train again", file=sys.stderr)
        error = None
    else:
        print(run_dir, file=sys.stderr, flush=True)
        if config.trainer.strategy.startswith("ddp"):
            overrides = list(settings.overrides.task)
            status = processes.run_ranks(__file__, overrides, config.trainer, run_dir)
            error = outcome(status, run_dir)
        elif settings.mode == RunMode.MULTIRUN:
            status = processes.run_in_child(lambda: run_job(config, run_dir))
            error = outcome(status, run_dir)
            if error:
                print(f"error: {error}", file=sys.stderr, flush=True)
        else:
            error = run_job(config, run_dir)
    JOBS.append(Job(run_dir, error))


def run_job(config: DictConfig, run_dir: Path) -> str | None:
    """Train and evaluate; the error in one line, also left in ``error.txt``, or None."""
    try:
        with only_process_in(run_dir) if processes.is_first_rank() else contextlib.nullcontext():
            try:
                (run_dir / "error.txt").unlink(missing_ok=True)
                train(config, run_dir)
            except Exception as error:
                leave_note(run_dir, f"{command_line.explain(error)}\n\n{traceback.format_exc()}")
                raise
    except Exception as error:
        if command_line.traceback_wanted():
            traceback.print_exc()
        return command_line.explain(error)
    return None


def train(config: DictConfig, run_dir: Path) -> None:
    """From images to a finished run directory."""
    assemble.check_choices(config)
    splits = assemble.load_splits(config)
    data = assemble.build_data(config, splits)
    classifier = assemble.build_classifier(config, data)
    keep_config(config, run_dir, splits)
    with assemble.logger(config, run_dir) as logger:
        training = fit(
            classifier,
            data,
            run_dir,
            max_epochs=config.max_epochs,
            monitor=config.monitor,
            ema_decay=config.ema_decay,
            logger=logger,
            **config.trainer,
        )
    if not processes.is_first_rank():
        return
    best_epoch = training.best_epoch
    learning_curves(training.history, run_dir / "figures" / "learning_curves.png", best_epoch)
    evaluate(
        run_dir,
        assemble.load_run(run_dir, training.precision),
        {"val": data.val, "test": data.test},
        train_counts=data.train.class_counts.tolist(),
        source=splits.source,
        device=training.device,
        memory_gib=config.memory_gib,
        about={
            **about(config, run_dir),
            "training": {
                "seconds": sum(row["seconds"] for row in training.history),
                "images_per_second": training.images_per_second,
                "epochs": len(training.history),
                "best_epoch": best_epoch,
                "device": assemble.device_name(training.device),
                "precision": training.precision,
                "monitor": config.monitor,
            },
        },
    )


def about(config: DictConfig, run_dir: Path) -> dict[str, Any]:
    """What was chosen, and with which code: to tell runs apart and to bring seeds together."""
    settings = HydraConfig.get()
    choices = settings.runtime.choices
    return {
        "name": run_dir.name,
        "choices": {k: v for k, v in choices.items() if not k.startswith("hydra/")},
        "overrides": command_line.value_overrides(settings.overrides.task, choices),
        "choices_hash": command_line.choices_hash(config, without_seed=True),
        "seed": config.seed,
        "versions": assemble.versions(),
        "git_commit": assemble.git_commit(),
    }


def keep_config(config: DictConfig, run_dir: Path, splits: Splits) -> None:
    """``config.yaml``: every resolved value, and the classes, so that the net can be rebuilt."""
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    with open_dict(kept):
        kept.classes = list(splits.train.classes)
    with atomic_path(run_dir / "config.yaml") as part:
        OmegaConf.save(kept, part)


def leave_note(run_dir: Path, text: str) -> None:
    """Write ``error.txt``; a disk too full for it is no reason to stop a grid."""
    with contextlib.suppress(OSError):
        (run_dir / "error.txt").write_text(text)


def outcome(status: int, run_dir: Path) -> str | None:
    """What became of a job that ran in another process: its error in one line, or None."""
    if (run_dir / "metrics.json").exists():
        return None
    note = run_dir / "error.txt"
    if note.exists():
        return note.read_text().splitlines()[0]
    if status == processes.BUSY:
        return f"another process is training in {run_dir}"
    line = f"the process of the job ended unexpectedly ({processes.describe(status)})"
    leave_note(run_dir, line + "\n")
    return line


@contextlib.contextmanager
def only_process_in(run_dir: Path) -> Iterator[None]:
    """Hold the run directory.

    Raises:
        LeanvitError: another process is training there.
    """
    with (run_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeanvitError(f"another process is training in {run_dir}: wait for it") from error
        yield


def program() -> None:
    """All jobs, then what came out, best first; a failed one sets the exit status."""
    main()
    finished = [job.run_dir for job in JOBS if job.error is None]
    failed = [job.run_dir for job in JOBS if job.error is not None]
    if processes.is_rank():
        sys.exit(1 if failed else 0)  # the process that started the ranks speaks for them
    if len(JOBS) == 1 and JOBS[0].error:
        if not (failed[0] / "config.yaml").exists():  # a slip of the pen, before anything began
            shutil.rmtree(failed[0], ignore_errors=True)
        raise LeanvitError(JOBS[0].error)
    if len(JOBS) == 1:
        print_table(compare(finished))
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
    command_line.run(program)
