"""predict.py: images without labels, classified by a finished run."""

import hashlib
import sys
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from leanvit.app import names
from leanvit.app.finished import Run, find
from leanvit.app.nets import load_run
from leanvit.data.source import kinds_of
from leanvit.data.unlabelled import find_images
from leanvit.device import Accelerator, find_device
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.runs import read_run
from leanvit.evaluation.measure.answers import (
    NUM_NAMED,
    TOP,
    Tally,
    classified,
    with_one_readable,
    write_table,
)
from leanvit.evaluation.measure.trained_net import TrainedNet
from leanvit.evaluation.measure.tta import TTA
from leanvit.evaluation.pictures.contact_sheet import write_sheet
from leanvit.evaluation.tables import percent, say, show, visible
from leanvit.files import check_folder

NUM_SHOWN = 5  # of the least certain images, in the terminal
MAX_CLASSES = 20  # in the terminal


def run(
    run: str | Sequence[str],
    images: str | Sequence[str],
    output: str | None = None,
    num_images: Annotated[int, Ge(0), Le(500)] = 60,
    tta: TTA = "none",
    checkpoint: str = "best",
    device: Accelerator = "auto",
) -> None:
    """The table of all images, the page of the least certain ones, and a summary; the keys are
    those of conf/predict.yaml.

    Raises:
        LeanvitError: no finished run, no image that can be read, or no place to write to.
    """
    found = the_run(run)
    given = [images] if isinstance(images, str) else list(images)
    folder = place(found, given, output, tta, checkpoint)
    check_folder(folder)
    paths, others = find_images(given)
    net = TrainedNet(load_run(found, checkpoint))
    is_file = not list(net.parameters())  # in int8, which the CPU alone computes
    net.to("cpu" if is_file and device == "auto" else find_device(device))

    answers = with_one_readable(classified(net, paths, tta))
    tally = Tally(max(num_images, NUM_SHOWN))
    table = folder / "predictions.csv"
    write_table(tally.seen(answers), table, min(TOP, len(net.classes)))
    name_unread(tally, others)
    summarise(tally, net.classes, found.path.name)
    print(table)
    if num_images:
        page = folder / "least_certain.html"
        least = [(each.path, each.ranked) for each in tally.least_certain()[:num_images]]
        title = f"The {len(least):,} least certain of {tally.num_images:,} images"
        write_sheet(least, title, f"classified by {found.path.name}", page)
        print(page)


def the_run(given: str | Sequence[str]) -> Run:
    """The one finished run that is meant."""
    runs = [given] if isinstance(given, str) else list(given)
    if len(runs) != 1:
        raise LeanvitError(f"run={','.join(runs)}: images are classified by one run, give one")
    found = find(runs[0])
    read_run(found.path)  # refuses one that is not finished
    return found


def place(run: Run, images: Sequence[str], output: str | None, tta: TTA, checkpoint: str) -> Path:
    """The folder to write to: ``output``, or one for these images in the run's ``predicted/``."""
    if output and Path(output).suffix in (".csv", ".html"):
        raise LeanvitError(f"output={output} is a file's name: give the folder for both files")
    if output:
        return Path(output).expanduser()
    full = [names.full_path(each) for each in images]
    plain = (part for part in reversed(Path(full[0]).parts) if not has_magic(part))
    name = next(plain).strip("/")[:40] or "images"
    name += "-" + hashlib.sha256("\0".join(full).encode(errors="surrogateescape")).hexdigest()[:4]
    name += "" if tta == "none" else f"-{tta}"
    name += "" if checkpoint == "best" else f"-{Path(checkpoint).stem}"
    return run.path / "predicted" / name


def name_unread(tally: Tally, others: Sequence[Path]) -> None:
    """Say on standard error what was not classified, some by name, all by number."""
    lines = list(tally.errors)
    if (rest := tally.num_errors - len(lines)) > 0:
        lines.append(f"and {rest:,} more that cannot be read: predictions.csv has all of them")
    lines += [f"no image by its name: {path}" for path in others[:NUM_NAMED]]
    if unnamed := others[NUM_NAMED:]:
        kinds = kinds_of([path.name for path in unnamed])
        lines.append(f"and {len(unnamed):,} more that are no images by their names: {kinds}")
    for line in lines:
        print(visible(line), file=sys.stderr)


def summarise(tally: Tally, classes: Sequence[str], name: str) -> None:
    """Print how many images got each class, and which are the least certain."""
    console = Console(width=None if sys.stdout.isatty() else 80)
    plural = "" if tally.num_images == 1 else "s"
    say(console, f"{tally.num_images:,} image{plural}, classified by {name}")
    order = sorted(classes, key=lambda label: -tally.counts[label])
    rows = [
        {
            "class": beginning(label, 44),
            "images": f"{(num := tally.counts[label]):,}",
            "share %": percent(num / tally.num_images),
            "certainty %": percent(tally.certainty[label] / num if num else None),
        }
        for label in order[:MAX_CLASSES]
    ]
    rest = order[MAX_CLASSES:]
    more = sum(tally.counts[label] for label in rest)
    caption = f"and {more:,} images of {len(rest):,} other classes" if rest else ""
    show(console, "By class", rows, ("class",), caption)
    say(console, "")
    least = []
    for path, ranked, _ in tally.least_certain()[:NUM_SHOWN]:
        texts = [f"{beginning(label, 15)} {percent(value)} %" for label, value in ranked[:2]]
        cells = (beginning(str(path)[::-1], 30)[::-1], *texts)  # of a path the end
        least.append(dict(zip(("image", "likeliest", "second"), cells, strict=True)))
    show(console, "The least certain", least, tuple(least[0]))


def beginning(name: str, width: int) -> str:
    """What of a name fits so many places of the terminal."""
    name = visible(name)
    return name if cell_len(name) <= width else f"{set_cell_size(name, width - 1).rstrip()}…"
