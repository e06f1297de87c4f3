"""train.py: from images to a finished run directory."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from leanvit.app import loggers, names, provenance, ranks, words
from leanvit.app.build import (
    PHASED,
    build_classifier,
    build_data,
    draws_figures,
    late_epoch,
    load_splits,
    make,
)
from leanvit.app.check import check_training
from leanvit.app.finished import STOPPED, Run
from leanvit.app.jobs import keep_config
from leanvit.app.nets import first_net, load_run
from leanvit.app.request import Request, recipe_line
from leanvit.classifiers.linear import last_linear
from leanvit.data.images import ImageSet, Splits
from leanvit.data.long_tail import class_counts_line
from leanvit.data.seen import seen_images, seen_line
from leanvit.device import choose_precision, find_device
from leanvit.evaluation.measure.evaluate import evaluate
from leanvit.evaluation.measure.predict import Trained, predict, predict_exits
from leanvit.evaluation.pictures.data_figures import class_counts
from leanvit.evaluation.pictures.figures import learning_curves
from leanvit.files import write_json
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.exit_threshold import pick_threshold
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Monitor, Training, fit
from leanvit.weights import read_checkpoint, write_checkpoint

FEW_STEPS, FEW_IMAGES = 200, 64  # of a training; of a batch


def work(request: Request) -> None:
    """Train, evaluate, and leave metrics.json last of all."""
    check_training(request)
    config, run_dir = request.config, request.run_dir
    splits = load_splits(config)
    data = build_data(config, splits)
    classifier = build_classifier(config, data, *first_net(request, data))
    keep_config(config, request.choices, run_dir, splits.train.classes)
    seen: dict[str, int] = {}
    if ranks.is_first_rank():
        counts = class_counts_line(data.train, data.val, data.test)
        print(words.seen(counts), file=sys.stderr)
        seen = seen_images(data.train, data.val, data.test)
        if line := seen_line(seen, data.val, data.test):
            print(line, file=sys.stderr)
        if line := few_steps_line(config, len(data.train)):
            print(line, file=sys.stderr)
        if line := recipe_line(request):
            print(words.seen(line), file=sys.stderr)
    with loggers.logger(request) as logger:
        if request.trains_nothing:
            training = without_training(request, classifier, data)
        else:
            training = fit_chosen(request, classifier, data, logger, monitor=config.monitor)
        if not ranks.is_first_rank():
            return
        if training.stopped:
            print(training.stopped, file=sys.stderr)
            told = {"why": training.stopped, "medians": request.medians}
            write_json(told, run_dir / STOPPED)
        else:
            finish(request, splits, data, training, logger, seen)


def finish(
    request: Request,
    splits: Splits,
    data: ImageDataModule,
    training: Training,
    logger: Logger | None,
    seen: Mapping[str, int],
) -> None:
    """Draw and evaluate what a training left."""
    config, run_dir = request.config, request.run_dir
    counts = data.train.class_counts.tolist()
    figures = run_dir / "figures"
    title = f"training images, {splits.source}"
    draws = draws_figures(config.figures, request.in_grid, training.seconds)
    if draws:
        class_counts(counts, splits.train.classes, figures / "class_counts.png", title)
        if training.history:
            learning_curves(training.history, figures / "learning_curves.png", training.best_epoch)
    run = Run(run_dir)
    serve_target(run, training.precision, data.val, training.device, config.memory_gib)
    evaluate(
        run_dir,
        load_run(run, precision=training.precision),
        {"val": data.val, "test": data.test},
        train_counts=counts,
        source=splits.source,
        device=training.device,
        memory_gib=config.memory_gib,
        figures=draws,
        tell=lambda told: loggers.log_results(logger, told, run_dir),
        about={
            **provenance.provenance(
                "train",
                request.overrides,
                name=run_dir.name,
                choices=provenance.row_choices(request),
                overrides=provenance.overrides_of(request),
                choices_hash=seedless_digest(request),
                seed=config.seed,
            ),
            "training": provenance.about_training(
                training,
                config.monitor,
                request.begins.told.get("training", {}) if request.begins else None,
            ),
            "seen_images": seen,
        },
    )


def few_steps_line(config: Any, num_images: int) -> str | None:
    """A hint for sets that are small beside a batch: BatchNorm and schedules want some steps."""
    batch = min(config.batch_size * config.accumulate, num_images)
    steps = num_images // batch * config.max_epochs
    if not 0 < steps < FEW_STEPS or config.max_minutes or batch < FEW_IMAGES:
        return None
    return (
        f"{num_images:,} training images make {steps} step{'s' * (steps > 1)} in all, in batches "
        f"of {batch}: a smaller batch_size= makes more of them"
    )


def seedless_digest(request: Request) -> str:
    """What runs of other seeds have in common with this one."""
    before = request.begins.told if request.begins else {}
    teacher = request.teacher.told.get("choices_hash") if request.teacher else None
    return names.seedless_digest(request.config, request.choices, before, teacher)


def fit_chosen(
    request: Request,
    module: Any,
    data: ImageDataModule,
    logger: Logger | None,
    monitor: Monitor = "val/loss",
) -> Training:
    """Fit with the chosen trainer."""
    config = request.config
    trainer: Mapping[str, Any] = {**config.trainer}
    if num := ranks.num_local():
        trainer = {**trainer, "devices": num}
    late = config.get("late", {})  # a pretraining has none
    is_deferred = any(key in late for key in PHASED) or hasattr(module.net, "is_late")
    return fit(
        module,
        data,
        request.run_dir,
        max_epochs=config.max_epochs,
        monitor=monitor,
        ema_decay=config.ema_decay,
        accumulate=config.accumulate,
        max_minutes=config.get("max_minutes"),
        late_start=late.get("start", 1.0),
        patience=config.patience,
        # of trainings by the clock other epochs are as far
        medians=() if config.get("max_minutes") else request.medians,
        patient_until=late_epoch(late.start, config.max_epochs) if is_deferred else 0,
        logger=logger,
        **trainer,
    )


def without_training(request: Request, classifier: Classifier, data: ImageDataModule) -> Training:
    """Keep the pretrained net as best.ckpt, with tau-normalisation after that.

    Returns:
        a training without epochs.
    """
    config = request.config
    device = find_device(config.trainer.accelerator)
    precision = config.trainer.precision
    precision = choose_precision(device) if precision == "auto" else precision
    if request.rescales:
        rescale(config, classifier, data, device, "bf16" in precision)
    contents = {
        "state_dict": classifier.state_dict(),
        "classes": list(classifier.classes),
        "epoch": -1,
    }
    write_checkpoint(contents, request.run_dir / "checkpoints" / "best.ckpt")
    return Training([], 0, device, precision)


def rescale(
    config: Any,
    classifier: Classifier,
    data: ImageDataModule,
    device: torch.device,
    bfloat16: bool,
) -> None:
    """tau-normalisation: the head rescaled by the validation images."""
    net, classes, size = classifier.net, classifier.classes, config.data.image_size
    trained = Trained(net, classifier.mean, classifier.std, classes, size, bfloat16)
    features: list[Tensor] = []
    hook = last_linear(net)[2].register_forward_pre_hook(
        lambda _, inputs: features.append(inputs[0].float().cpu())
    )
    predict(trained, data.val, device, memory_gib=config.memory_gib)
    hook.remove()
    net.to("cpu")
    method = make(config.classifier, "classifier")
    tau = method.rescale(net, torch.cat(features), data.val.labels)
    print(f"tau {tau}", file=sys.stderr)


def serve_target(
    run: Run, precision: str, val: ImageSet, device: torch.device, memory_gib: float | None
) -> None:
    """Where a run's net has exits and a target, put the threshold that serves it into
    ``best.ckpt``.

    Raises:
        LeanvitError: the target is out of reach.
    """
    if (run.config.get("lightweight") or {}).get("target") is None:
        return
    trained = load_run(run, precision=precision)
    net, path = trained.net, run.path / "checkpoints" / "best.ckpt"
    assert isinstance(net, EarlyExit) and net.target is not None  # no other method has one
    probabilities = predict_exits(trained, val, device, memory_gib=memory_gib)
    macs = net.exit_macs(trained.image_size)
    picked = pick_threshold(probabilities, val.labels, macs, net.target, net.criterion)
    contents = read_checkpoint(path)
    print(
        f"an image leaves from a confidence of {picked.threshold:.4f} on: {picked.macs_left:.3f} "
        f"of the MACs, {100 * picked.accuracy_gained:+.2f} points on validation images",
        file=sys.stderr,
    )
    contents["state_dict"]["net.threshold"].fill_(picked.threshold)
    write_checkpoint(contents, path)
