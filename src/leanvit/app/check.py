"""What is refused before any data is read: values, pairs that cannot be, nets that cannot be built.

Values are looked at by the annotations of those who take them, here and in
:func:`leanvit.app.build.make`; there is no list of them.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from leanvit import values
from leanvit.app import words
from leanvit.app.build import CUT, PHASED, draws_figures, late_epoch, make, target, wants_compile
from leanvit.app.loggers import check_logger
from leanvit.app.nets import build_net, take_over_method, without_file, wrap
from leanvit.app.parts import check_parts
from leanvit.app.request import Request
from leanvit.classifiers.linear import last_linear
from leanvit.contracts import plain_net
from leanvit.data.fraction import part_of_each_class
from leanvit.data.long_tail import long_tail, parse_imbalance
from leanvit.data.split import with_validation
from leanvit.device import find_device
from leanvit.errors import LeanvitError
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit
from leanvit.training.parameter_groups import parameter_groups
from leanvit.training.trainable import Trainable

# of what ``fit`` takes
TRAINER = ("accelerator", "devices", "strategy", "precision", "num_nodes", "sync_batchnorm")


def check_training(request: Request) -> None:
    """Refuse what cannot work before any data is read.

    Raises:
        LeanvitError: an impossible value or pair, or a net that cannot be built at this size.
    """
    config = request.config
    check_run(request)
    check_readout(request)
    check_values(config)
    if config.max_epochs == 0 and not (config.get("lightweight") and request.begins):
        raise LeanvitError("max_epochs=0 must be at least 1: only a net taken over may stay as is")
    check_minutes(request)
    check_phases(config)
    net = try_net(config, num_classes=config.model.get("num_classes") or 10)
    if "lightweight.threshold" in request.given and config.lightweight.get("target") is not None:
        raise LeanvitError(
            f"lightweight.threshold={config.lightweight.threshold} would be replaced by what "
            f"serves lightweight.target={config.lightweight.target}: add lightweight.target=null"
        )
    with torch.no_grad():
        net = wrap(config, net).eval()
        net(torch.zeros(1, 3, config.data.image_size, config.data.image_size))
        if hasattr(target(config.mix._target_), "beside"):
            last_linear(plain_net(net), "another mix=")
        untrained = take_over_method(request, request.begins, net)
    if getattr(net, "teacher", None) is not None and not request.begins:
        raise LeanvitError(
            "lightweight.teacher=true: a net that is not trained teaches nothing, add "
            "pretrained=<directory of a finished run>"
        )
    if config.max_epochs == 0 and untrained:
        raise LeanvitError(
            f"max_epochs=0: lightweight={request.choices['lightweight']} has weights of its own, "
            "which must be trained"
        )
    parameter_groups(net, 0.0, config.layer_decay)
    check_parts(config, "these choices")  # or the finished run could not be read


def check_pretraining(request: Request) -> None:
    """The same for what learns from images alone."""
    config = request.config
    check_values(config)
    if config.max_epochs == 0:
        raise LeanvitError("max_epochs=0 must be at least 1")
    net = try_net(config, num_classes=config.model.get("num_classes") or 10)
    images = torch.zeros(2, 3, config.data.image_size, config.data.image_size)
    with torch.no_grad():
        make(config.pretrain, "pretrain")(encoder=net)(images, images)
    make(config.sampler, "sampler")(labels=torch.arange(10))
    check_parts(config, "these choices")


def check_run(request: Request) -> None:
    """See that a run that is begun from has what is asked of it.

    Raises:
        LeanvitError: it has no trained classifier.
    """
    wanting = "classifier=" if request.classifier else request.wants_head
    if request.begins and wanting and not request.begins.is_evaluated:
        raise LeanvitError(
            f"pretrained={request.begins.path} has no trained classifier: {wanting} wants a run of "
            "train.py"
        )


def check_readout(request: Request) -> None:
    """See that a readout by its place reads what the first stage read.

    Raises:
        LeanvitError: at another image size the same number is another place.
    """
    begins, config = request.begins, request.config
    readout = str(config.model.get("readout"))
    if begins is None or not readout.startswith("token:") or readout == "token:0":
        return
    size, before = (each.model.get("input_size") or each.data.image_size
                    for each in (config, begins.config))  # fmt: skip
    if size != before and "model.readout" not in request.given:
        raise LeanvitError(
            f"model.readout={readout} of pretrained={begins.path} was chosen for {before} pixels, "
            f"of {size} it is another place: add model={request.choices['model']} model.readout="
        )


def check_values(config: DictConfig) -> None:
    """See that those who will take the values take them.

    Raises:
        LeanvitError: and which they do not.
    """
    given: Any = OmegaConf.to_container(config, resolve=True)
    for taker in (ImageDataModule, with_validation, fit, Trainable, Classifier, wants_compile,
                  draws_figures):  # fmt: skip
        single = {key: given[key] for key in values.annotations(taker) if key in given}
        values.check(taker, {k: v for k, v in single.items() if not isinstance(v, dict)})
    check_place(config)
    check_logger(config)
    data = dict(given["data"])
    taker = target(data.pop("_target_"))
    cut = {key: data.pop(key, None) for key in CUT}
    if cut["imbalance"] is not None:
        parse_imbalance(str(cut["imbalance"]))
    if cut["imbalance_seed"] is not None:
        values.check(long_tail, {"seed": cut["imbalance_seed"]}, "data.imbalance_")
    if cut["fraction"] is not None:
        values.check(part_of_each_class, {"fraction": cut["fraction"]}, "data.")
    values.check(taker, data, "data.")
    for part in ("augment", "optimizer", "scheduler"):
        make(config[part], part)


def check_place(config: DictConfig) -> None:
    """See that there are as many devices as a training wants, and how it is to use them.

    Raises:
        LeanvitError: fewer, or several for one process; a value that cannot be.
    """
    trainer = config.trainer
    for key in trainer:
        if key not in TRAINER:
            raise LeanvitError(f"there is no trainer.{key}: {values.nearest(str(key), TRAINER)}")
    values.check(fit, dict(trainer), "trainer.")
    values.check(ImageDataModule, {"memory_gib": config.memory_gib})
    device, num = find_device(trainer.accelerator), trainer.devices
    if trainer.get("sync_batchnorm") and device.type != "cuda":
        raise LeanvitError(
            "trainer.sync_batchnorm=true: torch synchronises BatchNorm on GPUs alone, leave it out"
        )
    if (num_nodes := trainer.get("num_nodes", 1)) > 1 and not trainer.strategy.startswith("ddp"):
        raise LeanvitError(f"trainer.num_nodes={num_nodes}: one process is on one, add trainer=ddp")
    cores = os.cpu_count() or 1
    if (workers := config.get("num_workers") or 0) > max(16, 4 * cores):
        raise LeanvitError(f"num_workers={workers}: this machine has {cores} CPU cores")
    if not isinstance(num, int):
        return
    found = torch.cuda.device_count() if device.type == "cuda" else cores
    if num > found:
        kind = "GPUs" if device.type == "cuda" else "CPU cores"
        raise LeanvitError(f"trainer.devices={num}: this machine has {found} {kind}")
    if num > 1 and not trainer.strategy.startswith("ddp"):
        raise LeanvitError(f"trainer.devices={num}: one process has one device, add trainer=ddp")


def check_minutes(request: Request) -> None:
    """See that nothing counts epochs where minutes choose their number.

    Raises:
        LeanvitError: and what does.
    """
    config = request.config
    if not (minutes := config.get("max_minutes")):
        return
    said = f"max_minutes={minutes} chooses the number of epochs"
    for key in ("max_epochs", "patience"):
        if key in request.given and request.given[key] is not None:
            raise LeanvitError(f"{said}: leave out {key}={request.given[key]}")
    for phase, where in ((config, ""), (config.late, "late.")):
        key = f"{where}sampler.num_epochs"
        if "num_epochs" in phase.get("sampler", {}) and key not in request.given:
            raise LeanvitError(f"{said}, which this sampler wants to know: add {key}=")


def check_phases(config: DictConfig) -> None:
    """Look at loss, sampler and mixing, of the beginning and of ``late``.

    Raises:
        LeanvitError: an impossible pair or value.
    """
    values.check(late_epoch, {"start": config.late.start}, "late.")
    first = late_epoch(config.late.start, config.max_epochs)
    is_deferred = any(key in config.late for key in PHASED)
    gradual = config.late.get("gradual", False)
    values.check(Classifier, {"gradual": gradual}, "late.")
    if gradual and "loss" not in config.late:
        raise LeanvitError("late.gradual=true: to which loss? Add loss@late.loss=")
    # an end of mixing may lie beyond a training of an epoch or two
    has_to_come = ("loss" in config.late and not gradual) or "sampler" in config.late
    if has_to_come and not config.max_minutes and not 0 < first < config.max_epochs:
        raise LeanvitError(
            f"late.start={config.late.start} of max_epochs={config.max_epochs} is epoch {first}: "
            "no epoch is left before it or after it"
        )
    drawing = []
    for phase, where in ((config, ""), (config.late, "late."))[: 1 + is_deferred]:
        parts = {key: phase.get(key) or config[key] for key in PHASED}
        num_classes = _num_classes(config.model.get("num_classes"), parts["loss"].get("alpha"))
        counts = torch.ones(num_classes, dtype=torch.int64)  # the real ones are not known yet
        offers = {"class_counts": counts, "num_classes": num_classes}
        loss = make(parts["loss"], f"{where}loss", **offers)
        mix = make(parts["mix"], f"{where}mix", **offers)
        make(parts["sampler"], f"{where}sampler")(labels=torch.arange(num_classes))
        if hasattr(mix, "beside") and "mix" in config.late:
            raise LeanvitError(
                f"{type(mix).__name__} trains weights of its own from the first step to the last: "
                "leave out mix@late.mix="
            )
        if mix.partners is not None and parts["mix"] not in drawing:
            drawing.append(parts["mix"])
        if mix.soft_targets and not loss.soft_targets:
            raise LeanvitError(
                f"{type(loss).__name__} has no meaning for the soft targets of "
                f"{type(mix).__name__}: choose mix=none or another loss"
            )
    if len(drawing) > 1:
        raise LeanvitError(
            "mix= and mix@late.mix= draw partners by other values: choose one of them"
        )


def _num_classes(given: Any, alpha: Any) -> int:
    """As the net or the weights of a loss say it, or ten: who takes these values refuses them."""
    if isinstance(given, int) and given > 0:
        return given
    return len(alpha) if isinstance(alpha, Sequence) and not isinstance(alpha, str) else 10


def try_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net of a config, after a look whether an image passes through it.

    Not without storage, which large nets would need less time for: on torch's meta device the first
    operation imports torch._dynamo, for longer than most nets take.

    Raises:
        LeanvitError: these values make no net.
    """
    size = config.data.image_size
    taker = target(config.model._target_)
    try:
        with torch.no_grad():
            net = build_net(without_file(config), num_classes).eval()
            net(torch.zeros(1, 3, size, size))
    except Exception as error:
        line = words.explain(error)
        if not isinstance(error.__cause__ or error, LeanvitError):
            line = f"{taker.__name__} cannot be built with these values: {line}"
        raise LeanvitError(line) from error
    return net
