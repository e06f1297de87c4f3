"""What a training step spends its time on, by kind of operation.

    python tools/step.py model=coatnet            # choices as for src/train.py
    python tools/step.py experiment=swin_v0.1 optimizer=adamw batch_size=512

Drawn images of the size that the choices say, and a whole training around them: data path,
augmentation, mixing, clipping, averaged weights. Time is that of the operations themselves on one
CPU thread or on the GPU, under the profiler, which makes short ones a little longer. Images per
second are those of a second training without it.
"""

import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from leanvit.app import command
from leanvit.app.build import build_classifier, build_data, initialise, load_splits, statistics
from leanvit.app.nets import build_net, wrap
from leanvit.errors import LeanvitError
from leanvit.training.fit import fit

WARM, TIMED = 6, 12  # steps
# the first that matches names the kind
KINDS = {
    "attention": r"scaled_dot_product",
    "product": r"^aten::(mm|addmm|bmm|baddbmm|linear|matmul|mkldnn_linear)|gemm",
    "norm": r"norm|rsqrt",
    "pooling": r"pool",
    "softmax and loss": r"softmax|cross_entropy|nll",
    "activation": r"gelu|relu|silu|sigmoid",
    "copy and cast": r"copy_|_to_copy|^aten::to$|contiguous|clone|cat$|stack$",
    "add and multiply": r"^aten::(add|sub|mul|div|sum|mean)",
}
OF_THE_NET = ("training_step", "backward")  # the optimizer's step calls both


def main(choices: list[str]) -> None:
    """Print images per second, and the share and milliseconds of each kind in a step."""
    config = composed("data=shapes", "data.num_test=200", *choices)
    config.data.num_train = int(1.2 * (WARM + TIMED) * config.batch_size) + 200
    seconds = time_steps(config)
    print(f"{TIMED * config.batch_size / seconds:,.0f} images/s, {1e3 * seconds / TIMED:.0f} ms a "
          f"step of {config.batch_size} images, {torch.get_num_threads()} thread(s)")  # fmt: skip
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    plan = schedule(wait=0, warmup=WARM, active=TIMED, repeat=1)
    spent: dict[str, float] = {}
    with profile(
        activities=activities,
        schedule=plan,
        record_shapes=True,
        on_trace_ready=lambda found: spent.update(by_kind(found)),
    ) as profiler:
        time_steps(config, after_step=profiler.step)
    whole = sum(spent.values())
    for kind, microseconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"{kind:24s}{microseconds / whole:6.1%}{microseconds / TIMED / 1e3:10.1f} ms")


def composed(*choices: str) -> Any:
    """The config that train.py makes of these choices, which may be changed."""
    with initialize_config_dir(str(command.CONF)):
        config = compose("train", ["logger=csv", *choices])
    OmegaConf.resolve(config)
    OmegaConf.set_struct(config, False)
    return config


class EnoughError(Exception):
    """As many steps as were wanted: what comes after them is not waited for."""


def time_steps(
    config: Any, warm: int = WARM, timed: int = TIMED, after_step: Callable[[], None] | None = None
) -> float:
    """Seconds of the timed steps of a training, which goes no further.

    Raises:
        LeanvitError: an epoch has fewer steps.
    """
    ends: list[float] = []

    def look_at_the_clock() -> None:
        is_counted = len(ends) + 1 in (warm, warm + timed)
        if is_counted and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # steps are begun long before they are done
        ends.append(time.perf_counter())
        if after_step is not None:
            after_step()
        if len(ends) == warm + timed:
            raise EnoughError

    train(config, look_at_the_clock)
    if len(ends) < warm + timed:
        raise LeanvitError(
            f"{warm + timed} steps of {config.batch_size} images are wanted, an epoch has "
            f"{len(ends)}: give more images or a smaller batch_size"
        )
    return ends[warm + timed - 1] - ends[warm - 1]


def train(config: Any, after_step: Callable[[], None]) -> None:
    """An epoch as train.py computes it: data path, net, loss, mixing, optimizer, average.

    Args:
        after_step: may raise :class:`EnoughError`.
    """
    data = build_data(config, load_splits(config))
    net = build_net(config, len(data.train.classes))
    mean, std = statistics(net, data)
    initialise(net, data, mean, std)
    classifier: Any = build_classifier(config, data, wrap(config, net), mean, std)
    classifier.on_train_batch_end = lambda *_: after_step()
    for name in OF_THE_NET:
        setattr(classifier, name, record_function(name)(getattr(classifier, name)))
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughError):
        fit(classifier, data, Path(folder), 1, ema_decay=config.ema_decay, **config.trainer)


def by_kind(profiler: Any) -> dict[str, float]:
    """Microseconds of all timed steps."""
    spent: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        time_of = event.self_device_time_total or event.self_cpu_time_total
        spent[kind_of(event)] += time_of
    return dict(spent)


def kind_of(event: Any) -> str:
    above = event
    while above is not None and above.name not in OF_THE_NET:
        above = above.cpu_parent
    if above is None:
        return "optimizer, average, data"
    if "conv" in event.name:
        return convolution(event)
    for kind, pattern in KINDS.items():
        if re.search(pattern, event.name):
            return kind
    return "other"


def convolution(event: Any) -> str:
    """ "dense", "1x1" or "depthwise", by the shape of its weight."""
    shapes = [shape for shape in event.input_shapes if len(shape) == 4]
    place = 2 if "backward" in event.name else 1
    if len(shapes) <= place:
        return "convolution"
    _, per_group, height, _ = shapes[place]
    kind = "depthwise" if per_group == 1 else "1x1" if height == 1 else "dense"
    return f"convolution, {kind}"


if __name__ == "__main__":
    command.spoken(lambda: main(sys.argv[1:]))
