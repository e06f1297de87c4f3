"""Train one net, or with -m a grid of them, and compare.

    python src/train.py model=coatnet loss=focal
    python src/train.py -m model=vit,coatnet loss=ce,weighted_ce,focal sampler=shuffle,balanced

The same command goes on where a killed one stopped, and skips what is finished.
"""

import fcntl
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

import assemble
import command_line
from leanvit.data.images import Splits
from leanvit.errors import LeanvitError
from leanvit.evaluation.compare import compare
from leanvit.evaluation.evaluate import evaluate
from leanvit.evaluation.figures import learning_curves
from leanvit.evaluation.table import print_table, write_comparison
from leanvit.files import atomic_path
from leanvit.training.fit import fit, read_checkpoint


class Job(NamedTuple):
    run_dir: Path
    error: str | None


JOBS: list[Job] = []


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    """One job; errors are kept, so that Hydra goes on to the next."""
    settings = HydraConfig.get()
    run_dir = Path(settings.runtime.output_dir)
    if (run_dir / "metrics.json").exists():
        print(f"{run_dir} is finished: delete it to train again", file=sys.stderr)
        JOBS.append(Job(run_dir, None))
        return
    if "LOCAL_RANK" not in os.environ:
        print(run_dir, file=sys.stderr, flush=True)
    if config.trainer.strategy.startswith("ddp") and "LOCAL_RANK" not in os.environ:
        error = run_distributed(config, run_dir)
    elif settings.mode == RunMode.MULTIRUN:
        error = run_in_child(config, run_dir)
    else:
        error = run_job(config, run_dir)
    JOBS.append(Job(run_dir, error))


def run_job(config: DictConfig, run_dir: Path) -> str | None:
    """Train and evaluate; the error in one line, also left in ``error.txt``, or None."""
    note = run_dir / "error.txt"
    is_first_rank = os.environ.get("RANK", "0") == "0"
    try:
        with only_process_in(run_dir) if is_first_rank else nothing():
            note.unlink(missing_ok=True)
            train(config, run_dir)
    except Exception as error:
        line = command_line.explain(error)
        if is_first_rank:
            note.write_text(f"{line}\n\n{traceback.format_exc()}")
        if command_line.traceback_wanted():
            traceback.print_exc()
        return line
    return None


def train(config: DictConfig, run_dir: Path) -> None:
    """From images to a finished run directory."""
    assemble.check_choices(config)
    splits = assemble.load_splits(config)
    data = assemble.build_data(config, splits)
    classifier = assemble.build_classifier(config, data)
    keep_config(config, run_dir, splits)
    try:
        trainer = fit(
            classifier,
            data,
            run_dir,
            max_epochs=config.max_epochs,
            monitor=config.monitor,
            ema_decay=config.ema_decay,
            logger=assemble.build_logger(config, run_dir),
            **config.trainer,
        )
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()
    if not trainer.is_global_zero:
        return
    best = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    _, net, mean, std, _ = assemble.load_run(run_dir)
    history = trainer.callbacks[0].rows  # type: ignore[attr-defined]
    seconds = sum(row["seconds"] for row in history)
    num_images = len(data.train_dataloader()) * config.batch_size * trainer.world_size
    device = trainer.strategy.root_device
    learning_curves(history, run_dir / "figures" / "learning_curves.png", int(best["epoch"]))
    choices = HydraConfig.get().runtime.choices
    about = {
        "name": run_dir.name,
        "choices": {k: v for k, v in choices.items() if not k.startswith("hydra/")},
        "overrides": command_line.value_overrides(HydraConfig.get().overrides.task, choices),
        "seed": config.seed,
        "training": {
            "seconds": seconds,
            "images_per_second": num_images * len(history) / seconds,
            "epochs": len(history),
            "best_epoch": int(best["epoch"]),
            "device": assemble.device_name(device),
            "precision": str(trainer.precision),
            "monitor": config.monitor,
        },
        "versions": assemble.versions(),
        "git_commit": assemble.git_commit(),
    }
    evaluate(
        run_dir,
        net,
        mean,
        std,
        {"val": data.val, "test": data.test},
        train_counts=data.train.class_counts.tolist(),
        source=splits.source,
        image_size=config.data.image_size,
        device=device,
        bfloat16="bf16" in str(trainer.precision),
        about=about,
    )


def keep_config(config: DictConfig, run_dir: Path, splits: Splits) -> None:
    """``config.yaml``: every resolved value, and the classes, so that the net can be rebuilt."""
    kept = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    with open_dict(kept):
        kept.classes = list(splits.train.classes)
        if kept.data.get("source"):
            kept.data.source = str(Path(kept.data.source).expanduser().resolve())
    with atomic_path(run_dir / "config.yaml") as part:
        OmegaConf.save(kept, part)


def run_in_child(config: DictConfig, run_dir: Path) -> str | None:
    """A job of a grid in a process of its own: what it held is freed, and if it dies, it alone."""
    fork = multiprocessing.get_context("fork")  # imports are done, nothing was computed yet

    def work() -> None:
        die_with_parent()
        error = run_job(config, run_dir)
        if error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if error else 0)

    child = fork.Process(target=work)
    child.start()
    child.join()
    return outcome(child.exitcode or 0, run_dir)


def run_distributed(config: DictConfig, run_dir: Path) -> str | None:
    """The same job once per device, through torchrun."""
    devices = config.trainer.devices
    if not isinstance(devices, int) or devices < 1:
        devices = max(1, torch.cuda.device_count())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={devices}", str(Path(__file__).resolve())]
    threads = max(1, (os.cpu_count() or 1) // devices)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    overrides = list(HydraConfig.get().overrides.task)
    return outcome(subprocess.run([*command, *overrides], env=environment).returncode, run_dir)


def outcome(status: int, run_dir: Path) -> str | None:
    """What became of a job that ran in another process."""
    note = run_dir / "error.txt"
    if status == 0:
        return None
    if not note.exists():
        killed = f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        note.write_text(f"the process ended: {killed} (SIGKILL: most often out of memory)\n")
    return note.read_text().splitlines()[0]


def die_with_parent() -> None:
    """Ask Linux to end this process when the grid is killed, so that no job trains on unseen."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextmanager
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


@contextmanager
def nothing() -> Iterator[None]:
    yield


def close() -> None:
    """Show what came out, best first; a failed job sets the exit status."""
    finished = [job.run_dir for job in JOBS if job.error is None]
    failed = [job.run_dir for job in JOBS if job.error is not None]
    if len(JOBS) == 1 and failed:
        sys.exit(f"error: {JOBS[0].error}")
    if "LOCAL_RANK" in os.environ or not JOBS:
        return
    if len(JOBS) == 1:
        print_table(compare(finished))
        print(f"{finished[0]}")
        return
    names = sorted(str(job.run_dir) for job in JOBS)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    folder = JOBS[0].run_dir.parents[1] / "grids" / digest
    print_table(write_comparison(finished, failed, folder), failed)
    print(f"{folder}/comparison.md")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main)
    close()
