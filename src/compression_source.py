"""The finished run that compress.py begins with: its net, its images, and how it was trained."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

import assemble
import naming
from leanvit.augment.normalise import normalise
from leanvit.compression.prune import Prune
from leanvit.data.images import ImageSet
from leanvit.data.loader import make_loader
from leanvit.errors import LeanvitError
from leanvit.evaluation.panels import evenly
from leanvit.evaluation.runs import read_run
from leanvit.lightweight.distill import Distill, Teacher
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.plain import plain_net
from leanvit.lightweight.unpruned_teacher import UnprunedTeacher
from leanvit.samplers.progressive import Progressive
from leanvit.training.fit import Training, find_device, fit, read_checkpoint


class Source:
    """The run that is compressed: what it tells, its net, and its images."""

    def __init__(self, config: DictConfig) -> None:
        self.run_dir = naming.find_run(config.run)
        self.told = read_run(self.run_dir)
        self.config = assemble.load_config(self.run_dir)
        if self.config.get("quantized"):
            raise LeanvitError(
                f"{self.run_dir} was quantised already: name the run that it was made of"
            )
        with open_dict(self.config):  # what is made of the run begins with its net
            self.config.pretrained = None
            self.config.trainer, self.config.memory_gib = config.trainer, config.memory_gib
        self.trained = assemble.load_run(self.run_dir, self.told["training"]["precision"])
        self.splits = assemble.load_splits(self.config)
        self.data = assemble.build_data(as_it_ended(self.config), self.splits)
        self.device = find_device(config.trainer.accelerator)

    def images(self, data: ImageSet, num_images: int) -> Tensor:
        """So many images, evenly from all of ``data``, normalised."""
        images = torch.stack([data.images[i] for i in evenly(len(data), num_images)])
        return normalise(images, self.trained.mean, self.trained.std)

    def losses(self, net: nn.Module) -> Iterator[Tensor]:
        """The run's own loss of ``net`` on training batches of its last epochs, one after the
        other."""
        data, trained = self.data, self.trained
        loss = assemble.build_classifier(self.config, data, trained).late_loss.to(self.device)
        mean, std = trained.mean.to(self.device), trained.std.to(self.device)
        sampler = data.late_sampler or data.sampler
        order = sampler(labels=data.train.labels, seed=data.seed)
        place = data.batch_size, self.device, data.memory_gib
        for images, labels in make_loader(data.train, order, data.augment, *place):
            yield loss(net(normalise(images, mean, std)), labels)


def fine_tuned(
    method: Prune, source: Source, net: nn.Module, num_epochs: int, folder: Path
) -> Training:
    """Train ``net`` in place as the run's last epochs were, at a lower rate; its best is kept."""
    chosen = as_it_ended(source.config)
    chosen.max_epochs, chosen.optimizer.lr = num_epochs, method.lr_scale * chosen.optimizer.lr
    data = assemble.build_data(chosen, source.splits)
    taught = with_teacher(net.requires_grad_(True), source.trained.net, method.teach)
    trained = replace(source.trained, net=taught)
    classifier = assemble.build_classifier(chosen, data, trained)
    training = fit(
        classifier,
        data,
        folder,
        max_epochs=num_epochs,
        monitor=chosen.monitor,
        ema_decay=chosen.ema_decay,
        **chosen.trainer,
    )
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    classifier.load_state_dict(best["state_dict"])
    return training


def as_it_ended(config: DictConfig) -> DictConfig:
    """The choices of a run's last epochs, from the first epoch on."""
    chosen = config.copy()
    chosen.late.start = 0.0
    for phase in (chosen, chosen.late):
        if "sampler" in phase and get_class(phase.sampler._target_) is Progressive:
            phase.sampler = {"_target_": "leanvit.samplers.balanced.Balanced", "_partial_": True}
    return chosen


def with_teacher(net: nn.Module, whole: nn.Module, teach: bool) -> nn.Module:
    """The pruned ``net`` as it is fine-tuned: taught by the whole one, where its method can be.

    A distilled net has no other teacher here; nets with exits or halting tokens have terms of their
    own.
    """
    if isinstance(net, Distill) and (teach or net.kind == "token"):
        net.teacher = Teacher(copy.deepcopy(whole))
    elif isinstance(net, Distill):
        return net.net
    elif isinstance(net, DynamicViT) and teach:
        net.teacher = UnprunedTeacher(plain_net(whole))  # type: ignore[arg-type]
    elif teach and not hasattr(net, "loss_terms"):
        return Distill(net, copy.deepcopy(whole))
    return net
