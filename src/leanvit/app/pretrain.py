"""pretrain.py: a net that learns from images alone, before it is trained to classify them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from leanvit.app import loggers, names, provenance, ranks
from leanvit.app.build import (
    build_data,
    initialise,
    load_splits,
    make,
    of_every_training,
    statistics,
)
from leanvit.app.check import check_pretraining
from leanvit.app.jobs import keep_config
from leanvit.app.nets import build_net
from leanvit.app.request import PRETRAINING, Request
from leanvit.app.train import fit_chosen
from leanvit.data.images import ImageSet
from leanvit.evaluation.cost.cost import cost
from leanvit.evaluation.pictures.figures import learning_curves
from leanvit.evaluation.pictures.reconstructions import reconstructions, spread_images
from leanvit.files import write_json
from leanvit.seeds import derive_seed
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training
from leanvit.training.pretrainer import Pretrainer
from leanvit.weights import read_checkpoint


def work(request: Request) -> None:
    """From images to a run directory that ``pretrained=`` takes."""
    check_pretraining(request)
    config, run_dir = request.config, request.run_dir
    splits = load_splits(config)
    data = build_data(config, splits)
    pretrainer = build_pretrainer(config, data)
    keep_config(config, request.choices, run_dir, splits.train.classes)
    with loggers.logger(request) as logger:
        training = fit_chosen(request, pretrainer, data, logger)
        if ranks.is_first_rank():
            told = finish(request, pretrainer, data, training, splits.source)
            loggers.log_results(logger, told, run_dir)
            write_json(told, run_dir / PRETRAINING)


def finish(
    request: Request, pretrainer: Pretrainer, data: ImageDataModule, training: Training, source: str
) -> dict[str, Any]:
    """Draw what a pretraining left; what there is to tell of it."""
    run_dir = request.run_dir
    title, figures = f"{run_dir.name}, {source}", run_dir / "figures"
    learning_curves(training.history, figures / "learning_curves.png", training.best_epoch, title)
    best = read_checkpoint(run_dir / "checkpoints" / "best.ckpt")
    pretrainer.load_state_dict(best["state_dict"])
    draw(pretrainer, data.val, training.device, figures / "reconstructions.png", title)
    return {**summary(request, pretrainer, data, training), "source": source}


def build_pretrainer(config: DictConfig, data: ImageDataModule) -> Pretrainer:
    """The net, what surrounds it in pretraining, and the optimizer."""
    encoder = build_net(config, len(data.train.classes))
    mean, std = statistics(encoder, data)
    initialise(encoder, data, mean, std)
    return Pretrainer(
        make(config.pretrain, "pretrain")(encoder=encoder),
        make(config.optimizer, "optimizer"),
        make(config.scheduler, "scheduler"),
        mean,
        std,
        **of_every_training(config),
    )


@torch.inference_mode()
def draw(
    pretrainer: Pretrainer, data: ImageSet, device: torch.device, path: Path, title: str
) -> None:
    """``reconstructions.png`` of a few validation images."""
    images = spread_images(data, 8)
    pretrainer.to(device).eval()
    torch.manual_seed(derive_seed(pretrainer.seed, "reconstructions"))
    made = pretrainer.reconstruct(images.to(device))
    reconstructions(images, made, path, pretrainer.net.explanation, f"validation images, {title}")


def summary(
    request: Request, pretrainer: Pretrainer, data: ImageDataModule, training: Training
) -> dict[str, Any]:
    """What ``pretraining.json`` tells."""
    config = request.config
    counted = asdict(cost(OneImage(pretrainer.net), config.data.image_size))
    del counted["parts"]  # the encoder is entered block by block: all would be one part
    return {
        **provenance.provenance(
            "pretrain",
            request.overrides,
            name=request.run_dir.name,
            choices=request.choices,
            overrides=provenance.overrides_of(request),
            choices_hash=names.seedless_digest(config, request.choices),
            seed=config.seed,
        ),
        "val_loss": training.history[training.best_epoch - 1]["val_loss"],
        "images": {"train": len(data.train), "val": len(data.val)},
        "cost": counted,
        "training": provenance.about_training(training),
    }


class OneImage(nn.Module):
    """A pretraining's forward pass as a function of the image alone, for its cost."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images, images)
