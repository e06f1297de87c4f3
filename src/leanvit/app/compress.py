"""compress.py: of a finished run a smaller or faster one, which is again a run."""

import copy
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

from leanvit.app import names, provenance
from leanvit.app.build import build_classifier, build_data, load_splits, make
from leanvit.app.check import check_place
from leanvit.app.finished import Run
from leanvit.app.jobs import keep_config
from leanvit.app.nets import changed, load_run
from leanvit.app.request import Request
from leanvit.app.train import serve_target
from leanvit.augment.normalise import normalise
from leanvit.compression.prune import Prune
from leanvit.contracts import plain_net
from leanvit.data.images import ImageSet
from leanvit.data.loader import make_loader
from leanvit.device import find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.measure.evaluate import evaluate
from leanvit.evaluation.pictures.panels import evenly
from leanvit.files import write_json
from leanvit.lightweight.distill import taught
from leanvit.training.fit import Training, fit
from leanvit.weights import read_checkpoint, write_checkpoint

NUM_IMAGES = 512  # that int8 ranges are taken from, and that an export is compared by


class Compression:
    """One job: the run that is compressed, its net, and its images."""

    def __init__(self, request: Request) -> None:
        run = request.begins
        assert run is not None
        self.request, self.run, self.told = request, run, read_run(run.path)
        if run.config.get("quantized"):
            raise LeanvitError(
                f"{run.path} was quantised already: name the run that it was made of"
            )
        check_place(request.config)
        own = {"pretrained": None, "trainer": request.config.trainer,
               "memory_gib": request.config.memory_gib}  # fmt: skip
        self.config = changed(run.config, own)  # what is made of the run begins with its net
        self.method = make(request.config.method, "method")  # refuses before anything is read
        self.trained = load_run(run)
        self.splits = load_splits(self.config)
        self.data = build_data(as_it_ended(self.config), self.splits)
        self.device = find_device(self.config.trainer.accelerator)
        self.trainings: list[Training] = []

    def images(self, data: ImageSet) -> Tensor:
        """Some images, evenly from all of ``data``, normalised."""
        images = torch.stack([data.images[i] for i in evenly(len(data), NUM_IMAGES)])
        return normalise(images, self.trained.mean, self.trained.std)

    def losses(self, net: nn.Module) -> Iterator[Tensor]:
        """The run's own loss of ``net`` on training batches of its last epochs, one after the
        other."""
        data, trained = self.data, self.trained
        given = trained.net, trained.mean, trained.std
        loss = build_classifier(self.config, data, *given).late_loss.to(self.device)
        mean, std = trained.mean.to(self.device), trained.std.to(self.device)
        sampler = data.late_sampler or data.sampler
        order = sampler(labels=data.train.labels, seed=data.seed)
        place = data.batch_size, self.device, data.memory_gib
        for images, labels in make_loader(data.train, order, data.augment, *place):
            yield loss(net(normalise(images, mean, std)), labels)

    def fine_tune(self, net: nn.Module, num_epochs: int) -> None:
        """Train ``net`` in place as the run's last epochs were, at a lower rate; its best is
        kept."""
        step = len(self.trainings) + 1
        print(f"step {step}: {num_epochs} epochs", file=sys.stderr)
        method: Prune = self.method
        chosen = as_it_ended(self.config)
        chosen.max_epochs, chosen.optimizer.lr = num_epochs, method.lr_scale * chosen.optimizer.lr
        learner = taught(net.requires_grad_(True), self.trained.net, method.teach)
        data = build_data(chosen, self.splits)
        classifier = build_classifier(chosen, data, learner, self.trained.mean, self.trained.std)
        folder = self.request.run_dir / "steps" / str(step)
        training = fit(
            classifier,
            data,
            folder,
            max_epochs=num_epochs,
            monitor=chosen.monitor,
            ema_decay=chosen.ema_decay,
            accumulate=chosen.get("accumulate", 1),
            **chosen.trainer,
        )
        best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
        classifier.load_state_dict(best["state_dict"])
        self.trainings.append(training)
        net.to(self.device)


def work(request: Request) -> None:
    """From a finished run to another one."""
    WORK[str(request.choices["method"])](Compression(request))


def prune(job: Compression) -> None:
    """Heads and channels leave in steps, with fine-tuning after each."""
    net, run_dir = copy.deepcopy(job.trained.net).to(job.device), job.request.run_dir
    within = plain_net(net)
    job.method(within, job.trained.image_size, job.losses, lambda _, n: job.fine_tune(net, n))
    keep(job, net, pruned=True)
    precision = precision_of(job)
    run, place = Run(run_dir), (job.device, job.config.memory_gib)
    serve_target(run, precision, job.data.val, *place)
    finish(job)
    for checkpoints in run_dir.glob("steps/*/checkpoints"):  # a killed run goes on from them
        shutil.rmtree(checkpoints)


def quantize(job: Compression) -> None:
    """The net in int8, a file that takes the place of its weights."""
    trained, run_dir = job.trained, job.request.run_dir
    net = job.method(trained.net, trained.image_size, job.images(job.data.train), run_dir)
    job.device = torch.device("cpu")
    keep(job, nn.Module(), {"file_checksum": net.checksum}, quantized=True)
    finish(job, counted=job.told["cost"] | {"weight_bytes": net.weight_bytes})


def export(job: Compression) -> None:
    """ONNX files of the run, and how far they agree with it."""
    trained = job.trained
    found = job.method(
        trained.net,
        trained.image_size,
        trained.mean,
        trained.std,
        trained.classes,
        job.images(job.data.train),
        job.images(job.data.val),
        job.request.run_dir,
        job.config.data.get("fit", "stretch"),
    )
    for name, told in found.items():
        print(
            f"{name}: {told['bytes'] / 1e6:.2f} MB, {100 * told['agreement']:.2f} % of the "
            f"validation images get the net's class, logits differ by {told['max_difference']:.2g}",
            file=sys.stderr,
        )
    write_json(found, job.request.run_dir / "agreement.json")


WORK = {"prune": prune, "quantize": quantize, "export": export}


def keep(
    job: Compression, net: nn.Module, told: Mapping[str, int] | None = None, **marks: bool
) -> None:
    """``config.yaml``, marked with what was done, and ``best.ckpt``, as a training leaves them.

    Args:
        told: what else ``best.ckpt`` tells.
    """
    with open_dict(job.config):
        job.config.update(marks)
    choices = {**job.run.choices, "method": methods_of(job)}
    keep_config(job.config, choices, job.request.run_dir, job.trained.classes)
    state: dict[str, Tensor] = {
        f"net.{name}": value.cpu() for name, value in net.state_dict().items()
    }
    state |= {"mean": job.trained.mean, "std": job.trained.std}
    contents = {"state_dict": state, "classes": list(job.trained.classes), "epoch": -1}
    contents |= told or {}
    path = job.request.run_dir / "checkpoints" / "best.ckpt"
    write_checkpoint(contents, path)


def methods_of(job: Compression) -> str:
    """All that was done to the run, one after the other: ``prune+quantize``."""
    done = [job.told["choices"].get("method"), job.request.choices["method"]]
    return "+".join(filter(None, done))


def precision_of(job: Compression) -> str:
    if job.trainings:
        return job.trainings[-1].precision
    return str(job.told["training"]["precision"])


def finish(job: Compression, counted: dict[str, Any] | None = None) -> None:
    """Evaluate what became of the run, and tell of it as a training does."""
    request, told, data = job.request, job.told, job.data
    training = Training(
        history=[row for each in job.trainings for row in each.history],
        best_epoch=job.trainings[-1].best_epoch if job.trainings else 0,
        device=job.device,
        precision=precision_of(job),
        pflop=sum(each.pflop for each in job.trainings),
    )
    method = str(request.choices["method"])
    digest = names.method_digest(request.config, method)
    evaluate(
        request.run_dir,
        load_run(Run(request.run_dir), precision=training.precision),
        {"val": data.val, "test": data.test},
        train_counts=data.train.class_counts.tolist(),
        source=job.splits.source,
        device=job.device,
        memory_gib=data.memory_gib,
        counted=counted,
        about={
            **provenance.provenance(
                "compress",
                request.overrides,
                name=request.run_dir.name,
                choices=told["choices"] | {"method": methods_of(job)},
                overrides=told["overrides"] | provenance.overrides_of(request),
                choices_hash=f"{told['choices_hash']}-{digest}",
                seed=told["seed"],
            ),
            "compressed": {"run": str(job.run.path), "accuracy": told["test"]["accuracy"]},
            "training": provenance.about_training(training, job.config.monitor, told["training"]),
        },
    )


def as_it_ended(config: DictConfig) -> DictConfig:
    """The choices of a run's last epochs, from the first epoch on."""
    chosen = config.copy()
    chosen.late.start, chosen.late.gradual, chosen.max_minutes = 0.0, False, None
    for phase in (chosen, chosen.late):
        if "sampler" in phase and phase.sampler["_target_"].endswith(".Progressive"):
            phase.sampler = {"_target_": "leanvit.samplers.balanced.Balanced", "_partial_": True}
    return chosen
