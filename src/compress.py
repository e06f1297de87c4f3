"""Make of a finished run a smaller or faster one, which is again a run.

    python src/compress.py run=outputs/... method=prune
    python src/compress.py run=outputs/... method=quantize
    python src/compress.py run=outputs/... method=export       # into export/ of the run itself

The same command goes on where a killed one stopped, and skips what is finished.
"""

import copy
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import assemble
import command_line
import jobs
import lightweighting
import naming
from compression_source import Source, fine_tuned
from leanvit.errors import LeanvitError
from leanvit.evaluation.compare import compare
from leanvit.evaluation.evaluate import evaluate
from leanvit.evaluation.predict import Trained
from leanvit.evaluation.runs import read_run
from leanvit.evaluation.table import print_table
from leanvit.files import write_json
from leanvit.lightweight.plain import plain_net
from leanvit.training.callbacks import AtomicCheckpoints
from leanvit.training.fit import Training

JOBS: list[jobs.Job] = []
NUM_IMAGES = 512  # that int8 ranges are taken from, and that an export is compared by


def method_hash(config: DictConfig, run: str = "") -> str:
    """Eight characters of what decides what becomes of a run."""
    values = OmegaConf.to_container(config.method, resolve=True)
    text = json.dumps({"method": values, "run": run}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def compression_dir(*, _root_: DictConfig) -> str:
    """``<outputs>/<data>/<run>-<method>-<hash>``; of an export ``export`` in the run itself."""
    run_dir, method = naming.found_run(_root_.run), _root_.hydra.runtime.choices.method
    if method == "export":
        return str(run_dir / "export")
    name = f"{run_dir.name.rpartition('-')[0]}-{method}-{method_hash(_root_, str(run_dir))}"
    return str(Path(_root_.outputs) / run_dir.parent.name / name)


OmegaConf.register_new_resolver("compression_dir", compression_dir, replace=True)


@hydra.main(version_base="1.3", config_path="../conf", config_name="compress")
def main(config: DictConfig) -> None:
    """One job; errors are kept, so that Hydra goes on to the next."""
    naming.find_run(config.run)  # before anything is said of a folder that would be made of it
    if config.trainer.strategy.startswith("ddp"):
        raise LeanvitError("trainer=ddp: compress.py works in one process, choose auto, cpu or gpu")
    finished = "agreement.json" if chosen_method() == "export" else "metrics.json"
    JOBS.append(jobs.start(compress, config, __file__, finished))


def compress(config: DictConfig, run_dir: Path) -> None:
    """From a finished run to another one."""
    method = instantiate(config.method)  # refuses its values before anything is read
    source = Source(config)
    WORK[chosen_method()](config, method, source, run_dir)


def chosen_method() -> str:
    return HydraConfig.get().runtime.choices["method"]


def prune(config: DictConfig, method: Any, source: Source, run_dir: Path) -> None:
    """Heads and channels leave in steps, with fine-tuning after each."""
    net = copy.deepcopy(source.trained.net).to(source.device)
    trainings: list[Training] = []

    def fine_tune(_: nn.Module, num_epochs: int) -> None:
        folder = run_dir / "steps" / str(len(trainings) + 1)
        print(f"step {len(trainings) + 1}: {num_epochs} epochs", file=sys.stderr)
        trainings.append(fine_tuned(method, source, net, num_epochs, folder))
        net.to(source.device)

    method(plain_net(net), source.trained.image_size, source.losses, fine_tune)
    source.config.pruned = True
    jobs.keep_config(source.config, run_dir, source.trained.classes)
    keep_weights(source.trained, net, run_dir)
    precision = trainings[-1].precision if trainings else source.told["training"]["precision"]
    place = source.device, config.memory_gib
    lightweighting.serve_target(run_dir, precision, source.data.val, *place)
    finish(config, source, run_dir, trainings)
    for checkpoints in run_dir.glob("steps/*/checkpoints"):  # a killed run goes on from them
        shutil.rmtree(checkpoints)


def quantize(config: DictConfig, method: Any, source: Source, run_dir: Path) -> None:
    """The net in int8, a file that takes the place of its weights."""
    trained = source.trained
    images = source.images(source.data.train, NUM_IMAGES)
    net = method(trained.net, trained.image_size, images, run_dir)
    source.config.quantized, source.device = True, torch.device("cpu")
    jobs.keep_config(source.config, run_dir, trained.classes)
    keep_weights(trained, nn.Module(), run_dir)
    counted = source.told["cost"] | {"weight_bytes": net.weight_bytes}
    finish(config, source, run_dir, [], counted)


def export(config: DictConfig, method: Any, source: Source, run_dir: Path) -> None:
    """ONNX files of the run, and how far they agree with it."""
    trained = source.trained
    found = method(
        trained.net,
        trained.image_size,
        trained.mean,
        trained.std,
        trained.classes,
        source.images(source.data.train, NUM_IMAGES),
        source.images(source.data.val, NUM_IMAGES),
        run_dir,
    )
    for name, told in found.items():
        print(
            f"{name}: {told['bytes'] / 1e6:.2f} MB, {100 * told['agreement']:.2f} % of the "
            f"validation images get the net's class, logits differ by {told['max_difference']:.2g}",
            file=sys.stderr,
        )
    write_json(found, run_dir / "agreement.json")


def keep_weights(trained: Trained, net: nn.Module, run_dir: Path) -> None:
    """``best.ckpt`` of a net, as a training leaves it."""
    state: dict[str, Tensor] = {
        f"net.{name}": value.cpu() for name, value in net.state_dict().items()
    }
    state |= {"mean": trained.mean, "std": trained.std}
    contents = {"state_dict": state, "classes": list(trained.classes), "epoch": -1}
    AtomicCheckpoints().save_checkpoint(contents, run_dir / "checkpoints" / "best.ckpt")


def finish(
    config: DictConfig,
    source: Source,
    run_dir: Path,
    trainings: list[Training],
    counted: dict[str, Any] | None = None,
) -> None:
    """Evaluate what became of the run, and tell of it as a training does."""
    told, data, settings = source.told, source.data, HydraConfig.get()
    training = Training(
        history=[row for each in trainings for row in each.history],
        best_epoch=trainings[-1].best_epoch if trainings else 0,
        device=source.device,
        precision=trainings[-1].precision if trainings else told["training"]["precision"],
    )
    methods = [told["choices"].get("method"), settings.runtime.choices["method"]]
    overrides = command_line.value_overrides(
        naming.own_overrides(settings.overrides.task), settings.runtime.choices
    )
    overrides.pop("run")
    evaluate(
        run_dir,
        assemble.load_run(run_dir, training.precision),
        {"val": data.val, "test": data.test},
        train_counts=data.train.class_counts.tolist(),
        source=source.splits.source,
        device=source.device,
        memory_gib=data.memory_gib,
        counted=counted,
        about={
            "name": run_dir.name,
            "choices": told["choices"] | {"method": "+".join(filter(None, methods))},
            "overrides": told["overrides"] | overrides,
            "choices_hash": f"{told['choices_hash']}-{method_hash(config)}",
            "seed": told["seed"],
            "versions": assemble.versions(),
            "git_commit": assemble.git_commit(),
            "compressed": {"run": str(source.run_dir), "accuracy": told["test"]["accuracy"]},
            "training": assemble.about_training(training, source.config.monitor),
        },
    )


WORK = {"prune": prune, "quantize": quantize, "export": export}


def program() -> None:
    """All jobs, each beside the run that it began with; a failed one sets the exit status."""
    main()
    jobs.end(JOBS)
    finished = [job.run_dir for job in JOBS if job.error is None]
    shown = []
    for run_dir in finished:
        if (run_dir / "metrics.json").exists():
            shown += [Path(read_run(run_dir)["compressed"]["run"]), run_dir]
    if shown:
        print_table(compare(list(dict.fromkeys(shown))))
        names = ",".join(map(str, dict.fromkeys(shown)))
        print(f"by the clock: python src/benchmark.py run={names}", file=sys.stderr)
    for run_dir in finished:
        print(run_dir)
    sys.exit(0 if len(finished) == len(JOBS) else 1)


if __name__ == "__main__":
    command_line.flag_first("-m", "--multirun")
    command_line.run(program)
