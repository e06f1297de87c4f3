"""Costs and speeds of nets as tables for the terminal, beside the figures of published tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from leanvit.evaluation.cost.cost import Cost
from leanvit.evaluation.cost.speed import Speed
from leanvit.evaluation.published import Published
from leanvit.evaluation.tables import say, show

WORDS = ("net", "part", "differs")  # columns that are no numbers

# published figures have two decimals, in millions and billions, and not all were rounded alike
PARAMS_TOLERANCE, MACS_TOLERANCE = 1e4, 1e7

PUBLISHED_CAPTION = (
    "table: as published. thop: what thop counts for leanvit's net, without attention products and "
    "bare parameters; 'differs' says where these two do, by more than rounding. Then all "
    "parameters, all MACs, and the share of these MACs that attention's products have."
)
COST_CAPTION = (
    "attention: share of the MACs that attention's products have. thop: as published tables count, "
    "without these products and without bare parameters."
)
SPEED_CAPTION = (
    "Medians of warm forward passes; latency of one image, images/s and memory (weights, images "
    "and activations) at the best batch size found."
)


@dataclass(frozen=True)
class Measured(Speed):
    """Speed, and on what."""

    device: str
    precision: str


@dataclass(frozen=True)
class Net:
    """What was found out about a net; without ``cost`` it failed."""

    name: str
    overrides: list[str]
    image_size: int | None = None
    num_classes: int | None = None
    cost: Cost | None = None
    measured: Measured | None = None
    published: Published | None = None
    error: str | None = None


def print_nets(nets: Sequence[Net], parts: bool, console: Console | None = None) -> None:
    """Print to the terminal, as wide as it is.

    Args:
        parts: what each part of a net costs, too; for a single net it is always there.
    """
    console = console or Console()
    counted = [(net, net.cost) for net in nets if net.cost]
    published = [(net, of, net.published) for net, of in counted if net.published]
    if published:
        cells = [_published_cells(net.name, row, each) for net, each, row in published]
        show(console, "The published tables", cells, WORDS, PUBLISHED_CAPTION)
        for net, _, row in published:
            if row.note:
                say(console, f"{net.name}: {row.note}")
    elif counted:
        classes = sorted({net.num_classes for net, _ in counted if net.num_classes})
        said = f"{' or '.join(map(str, classes))} classes. {COST_CAPTION}"
        show(console, "Cost of one image", _cost_cells(counted), WORDS, said)
    measured = [(net.name, net.measured) for net in nets if net.measured]
    if measured:
        on = sorted({f"On {how.device}, in {how.precision}." for _, how in measured})
        said = " ".join([*on, SPEED_CAPTION])
        console.print()
        show(console, "Speed", [_speed_cells(name, how) for name, how in measured], WORDS, said)
    for net, each in counted if parts or len(nets) == 1 else []:
        console.print()
        show(console, f"Parts of {net.name}", _part_cells(each), WORDS)
    for line in failures(nets):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def failures(nets: Sequence[Net]) -> list[str]:
    """A line for each net that failed."""
    return [f"failed: {net.name}: {net.error}" for net in nets if net.error]


def _cost_cells(counted: Sequence[tuple[Net, Cost]]) -> list[dict[str, str]]:
    """A row for each net; trainable parameters only where some net has others."""
    has_frozen = any(each.trainable_params < each.params for _, each in counted)
    return [
        {
            "net": net.name,
            "pixels": str(net.image_size),
            "params M": _rounded(each.params / 1e6, 2),
            **({"trainable M": _rounded(each.trainable_params / 1e6, 2)} if has_frozen else {}),
            "weights MB": _rounded(each.weight_bytes / 1e6, 1),
            "MACs G": _rounded(each.macs / 1e9, 3),
            "attention %": _share(each.attention_macs, each.macs),
            "thop params M": _rounded(each.thop_params / 1e6, 2),
            "thop MACs G": _rounded(each.thop_macs / 1e9, 3),
        }
        for net, each in counted
    ]


def _published_cells(name: str, row: Published, each: Cost) -> dict[str, str]:
    differing: dict[tuple[bool | None, bool | None], str]
    differing = {(True, False): "MACs", (False, True): "params", (False, False): "both"}
    return {
        "net": name,
        "test %": f"{100 * row.accuracy:.2f}",
        "table params M": f"{row.params / 1e6:.2f}",
        "table MACs G": f"{row.macs / 1e9:.2f}",
        "thop params M": _rounded(each.thop_params / 1e6, 2),
        "thop MACs G": _rounded(each.thop_macs / 1e9, 3),
        "differs": differing.get((row.params_agree, row.macs_agree), ""),
        "params M": _rounded(each.params / 1e6, 2),
        "MACs G": _rounded(each.macs / 1e9, 3),
        "attention %": _share(each.attention_macs, each.macs),
    }


def _speed_cells(name: str, measured: Measured) -> dict[str, str]:
    return {
        "net": name,
        "latency ms": _rounded(1e3 * measured.latency_seconds, 2),
        "images /s": _rounded(measured.images_per_second, 0),
        "at batch": str(measured.batch_size),
        "memory MB": _rounded(measured.peak_bytes / 1e6, 1),
    }


def _part_cells(cost: Cost) -> list[dict[str, str]]:
    """Whole numbers, which sum to the totals."""
    return [
        {
            "part": part.name,
            "params": f"{part.params:,}",
            "params %": _share(part.params, cost.params),
            "MACs": f"{part.macs:,}",
            "MACs %": _share(part.macs, cost.macs),
        }
        for part in cost.parts
    ]


def _rounded(value: float, decimals: int) -> str:
    """Rounded, but never so far that nothing is left."""
    is_shown = not value or value >= 10 ** (1 - decimals)
    return f"{value:,.{decimals}f}" if is_shown else f"{value:.2g}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"
