"""The net of a config: before its training, and as a finished run left it."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from leanvit import values
from leanvit.app.build import initialise, make, statistics, target
from leanvit.app.finished import Run
from leanvit.app.request import Request
from leanvit.classifiers.lws import folded
from leanvit.compression.quantize import load as load_file
from leanvit.compression.resize import resize
from leanvit.contracts import plain_net
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.predict import Trained
from leanvit.lightweight.distill import Renormalised
from leanvit.lightweight.taken_over import take_over
from leanvit.models.other_size import at_other_size
from leanvit.pretraining.encoder import encoder_weights
from leanvit.seeds import derive_seed
from leanvit.training.data_module import ImageDataModule
from leanvit.weights import check_match, mismatch, read_checkpoint


def build_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net of a config, its weights drawn from the seed.

    Raises:
        LeanvitError: ``model.num_classes`` is given and differs from the data's.
    """
    given = config.model.get("num_classes")
    if given is not None and given != num_classes:
        raise LeanvitError(
            f"model.num_classes={given}, but the data has {num_classes} classes: leave it out"
        )
    torch.manual_seed(derive_seed(config.seed, "weights"))
    offers = {} if "image_size" in config.model else {"image_size": config.data.image_size}
    return make(config.model, "model", num_classes=num_classes, **offers)


def without_file(config: DictConfig) -> DictConfig:
    """The config of the same net, built without the file of its pretrained weights."""
    return changed(config, {"model.weights": None}) if config.model.get("weights") else config


def changed(config: DictConfig, others: dict[str, Any]) -> DictConfig:
    """A copy with other values."""
    config = config.copy()
    OmegaConf.set_readonly(config, False)
    for key, value in others.items():
        OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def wrap(
    config: DictConfig,
    net: nn.Module,
    teacher: nn.Module | None = None,
    class_counts: Tensor | None = None,
) -> nn.Module:
    """The net with what ``lightweight=`` puts around it.

    Args:
        teacher: in the place of the run that ``lightweight.teacher`` names; only training wants it.
        class_counts: training images per class; only training knows them.

    Raises:
        LeanvitError: the method does not fit the net.
    """
    chosen = config.get("lightweight")
    if not chosen:
        return net
    torch.manual_seed(derive_seed(config.seed, "lightweight"))
    offers: dict[str, Any] = {"image_size": config.data.image_size, "class_counts": class_counts}
    takes = values.annotations(target(chosen._target_)).get("teacher")
    if isinstance(chosen.get("teacher"), str) and takes is not bool:
        offers["teacher"] = teacher
    return make(chosen, "lightweight", **offers)(net)


def first_net(request: Request, data: ImageDataModule) -> tuple[nn.Module, Tensor, Tensor]:
    """The net before its training, and the mean and deviation of the images it will see."""
    config, classes = request.config, data.train.classes
    net = build_net(config, len(classes))
    if request.begins:
        mean, std = _load_pretrained(request, request.begins, net, classes)
    else:
        mean, std = statistics(net, data)
        initialise(net, data, mean, std)
    run = request.teacher
    teacher = _teacher(request, run, classes, mean, std) if run else None
    net = wrap(config, net, teacher, data.train.class_counts)
    if request.begins:
        take_over_method(request, request.begins, net)
    return net, mean, std


def _load_pretrained(
    request: Request, run: Run, net: nn.Module, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Load all weights; the head's only where ``classifier=`` or ``lightweight=`` keeps it.

    Returns:
        mean and standard deviation of the images that the weights were trained on.

    Raises:
        LeanvitError: the weights do not fit.
    """
    config = request.config
    path = run.path / "checkpoints" / "best.ckpt"
    contents = read_checkpoint(path)
    found = folded(encoder_weights(contents["state_dict"], net))
    method = make(config.classifier, "classifier") if request.classifier else None
    has_classes = tuple(contents.get("classes", ())) == classes
    keeps_head = bool(method and method.keeps_head)
    if config.get("lightweight"):  # the net is to do what it does, with less
        keeps_head = has_classes
        if not keeps_head and (wanting := request.wants_head):
            raise LeanvitError(
                f"pretrained={run.path} was trained for other classes than {', '.join(classes)}: "
                f"{wanting} wants its head, which does not fit"
            )
    elif keeps_head and not has_classes:
        raise LeanvitError(
            f"pretrained={run.path} was trained for the classes {', '.join(contents['classes'])}, "
            f"the data has {', '.join(classes)}: choose classifier=retrain"
        )
    found = at_other_size(found, net.state_dict(), getattr(net, "num_prefix", 0))
    if config.get("pruned"):
        resize(net, found)
    wanted = net.state_dict()
    if not keeps_head:
        own = head_names(net)
        found = {name: value for name, value in found.items() if name not in own}
        found |= {name: wanted[name] for name in own}
    size, new_size = run.config.data.image_size, config.data.image_size
    if size != new_size and (words := mismatch(found, wanted)):
        raise LeanvitError(
            f"pretrained={run.path} was trained at data.image_size={size}; its net has weights "
            f"that fit no other: {words}"
        )
    check_match(path, found, wanted)
    net.load_state_dict(found)
    if method:
        method(net)
    return contents["state_dict"]["mean"], contents["state_dict"]["std"]


def head_names(net: nn.Module) -> set[str]:
    """Of the classifier's weights in the net's state dict, whatever their names are there.

    Raises:
        LeanvitError: the net does not say which its classifier is.
    """
    head = getattr(net, "head", None)
    if head is None:
        raise LeanvitError(f"pretrained=: {type(net).__name__} has no `head`, which says what of it"
                           " is the classifier")  # fmt: skip
    own = {id(value) for value in head.state_dict(keep_vars=True).values()}
    return {name for name, value in net.state_dict(keep_vars=True).items() if id(value) in own}


def take_over_method(request: Request, run: Run | None, net: nn.Module) -> list[str]:
    """Load what a method adds to a net, where ``run`` has parts of the same meaning.

    A threshold that the command line gives stays.

    Args:
        net: may be without storage: then nothing is loaded.

    Returns:
        names of the method's own weights that no run has trained.
    """
    kept = run and run.config.get("lightweight")
    if not run or not kept:
        return take_over(net, nn.Identity(), {})
    try:
        with torch.device("meta"):
            own = {key: value for key, value in kept.items() if key != "teacher"}
            size = run.config.data.image_size
            build = make(OmegaConf.create(own), "lightweight", image_size=size)
            before = build(plain_net(net))
    except LeanvitError:  # another net, whose weights are not taken over either
        return take_over(net, nn.Identity(), {})
    state = read_checkpoint(run.path / "checkpoints" / "best.ckpt")["state_dict"]
    state = {name.removeprefix("net."): value for name, value in state.items()}
    given = ["threshold"] if "lightweight.threshold" in request.given else []
    return take_over(net, before, state, given=given)


def _teacher(
    request: Request, run: Run, classes: tuple[str, ...], mean: Tensor, std: Tensor
) -> nn.Module:
    """The net of the run that teaches, for images that are normalised by ``mean`` and ``std``.

    Raises:
        LeanvitError: no finished run, or one of other classes or of another image size.
    """
    if not run.is_evaluated:
        raise LeanvitError(f"lightweight.teacher={run.path} is no finished run of train.py")
    teacher, size = load_run(run), request.config.data.image_size
    if teacher.classes != classes or teacher.image_size != size:
        raise LeanvitError(
            f"lightweight.teacher={run.path} was trained for {len(teacher.classes)} classes of "
            f"{teacher.image_size} pixels ({', '.join(teacher.classes)}), the data has "
            f"{len(classes)} of {size} ({', '.join(classes)})"
        )
    return Renormalised(teacher.net, mean, std, teacher.mean, teacher.std)


def load_run(run: Run, checkpoint: str = "best", precision: str | None = None) -> Trained:
    """The trained net of a run, with what it needs to classify images.

    Args:
        checkpoint: "best", "last", or a file.
        precision: of the training; None: as the finished run tells it.

    Raises:
        LeanvitError: no checkpoint, or one of another model.
    """
    path = Path(checkpoint)
    if checkpoint in ("best", "last"):
        path = run.path / "checkpoints" / f"{checkpoint}.ckpt"
    contents = read_checkpoint(path)
    saved, classes = contents["state_dict"], run.classes
    found = tuple(contents.get("classes", ()))
    if found != classes:
        raise LeanvitError(
            f"{path} is a checkpoint of another model: it was trained for the classes "
            f"{', '.join(found)}, not for {', '.join(classes)}"
        )
    about = saved["mean"], saved["std"], classes, run.config.data.image_size
    fit = run.config.data.get("fit", "stretch")
    if run.config.get("quantized"):
        file = load_file(run.path)
        if contents.get("file_checksum", file.checksum) != file.checksum:
            raise LeanvitError(
                f"the ONNX file of {run.path} is damaged: delete that folder and quantise again"
            )
        return Trained(file, *about, False, fit)
    try:
        net = _as_saved(run.config, saved, len(classes))
    except LeanvitError as error:
        raise LeanvitError(
            f"{run.path}/config.yaml is damaged, or of another version ({error}): train again"
        ) from error
    weights = {k.removeprefix("net."): v for k, v in saved.items() if k.startswith("net.")}
    check_match(path, weights, net.state_dict())
    net.load_state_dict(weights)
    precision = precision or run.told.get("training", {}).get("precision", "32-true")
    return Trained(net, *about, "bf16" in precision, fit)


def _as_saved(config: DictConfig, saved: dict[str, Tensor], num_classes: int) -> nn.Module:
    """The net that a checkpoint is of, with other weights."""
    config = without_file(config)
    net = build_net(config, num_classes)
    if config.get("classifier"):
        make(config.classifier, "classifier")(net)
    if config.get("pruned"):
        resize(net, encoder_weights(saved, net))
    if (config.get("lightweight") or {}).get("teacher") is True:  # the net before training is gone
        config = changed(config, {"lightweight.teacher": False})
    return wrap(config, net)
