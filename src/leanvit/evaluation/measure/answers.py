"""What becomes of images without labels: answers one by one, a table of all, and a tally."""

import csv
import heapq
import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track

from leanvit.data.images import ImageFiles, in_batches
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.predict import BATCH
from leanvit.evaluation.measure.trained_net import TrainedNet
from leanvit.evaluation.measure.tta import TTA
from leanvit.evaluation.tables import no_formula
from leanvit.files import atomic_path

TOP = 3  # classes of an image that are told
NUM_NAMED = 10  # files that cannot be read whose errors are kept


class Answer(NamedTuple):
    """What became of a file: its likeliest classes, or why it cannot be read."""

    path: Path
    ranked: list[tuple[str, float]]
    error: str = ""


def classified(net: TrainedNet, paths: Sequence[Path], tta: TTA) -> Iterator[Answer]:
    """Each file in turn; no more than two batches of images are in memory."""
    batches = in_batches(ImageFiles(tuple(paths), net.image_size, net.fit), BATCH)
    told, total, left = f"classifying {len(paths):,} images", -(-len(paths) // BATCH), iter(paths)
    progress: dict[str, Any] = {"console": Console(stderr=True), "disable": not sys.stderr.isatty()}
    for batch in track(batches, told, total, **progress):
        pixels = [each for each in batch if not isinstance(each, LeanvitError)]
        if pixels:
            best = net.probabilities(torch.stack(pixels), tta).topk(min(TOP, len(net.classes)))
            ranked = iter(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        for each in batch:
            path = next(left)
            if isinstance(each, LeanvitError):
                yield Answer(path, [], str(each))
            else:
                pairs = zip(*next(ranked), strict=True)
                yield Answer(path, [(net.classes[k], value) for k, value in pairs])


def with_one_readable(answers: Iterator[Answer]) -> Iterator[Answer]:
    """The same answers, of which one at least is none of an error.

    Raises:
        LeanvitError: all are; the first is told.
    """
    before: list[Answer] = []
    for each in answers:
        before.append(each)
        if each.ranked:
            return itertools.chain(before, answers)
    raise LeanvitError(f"none of {len(before):,} images can be read; the first: {before[0].error}")


class Tally:
    """What is kept of all answers: numbers, the least certain ones, and the first errors."""

    def __init__(self, num_kept: int) -> None:
        self.num_kept = num_kept
        self.counts: Counter[str] = Counter()
        self.certainty: dict[str, float] = defaultdict(float)  # a class's probabilities' sum
        self.errors: list[str] = []
        self.num_images = self.num_errors = 0
        self._least: list[tuple[float, int, Answer]] = []  # a heap, the most certain first

    def seen(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        """Count them as they pass."""
        for each in answers:
            if each.error:
                self.num_errors += 1
                self.errors += [each.error] if self.num_errors <= NUM_NAMED else []
            else:
                label, probability = each.ranked[0]
                self.counts[label] += 1
                self.certainty[label] += probability
                self.num_images += 1
                heapq.heappush(self._least, (-probability, -self.num_images, each))
                if len(self._least) > self.num_kept:
                    heapq.heappop(self._least)
            yield each

    def least_certain(self) -> list[Answer]:
        """The least certain first, those of the same probability in the images' order."""
        return [answer for *_, answer in sorted(self._least, reverse=True)]


def write_table(answers: Iterator[Answer], path: Path, top: int) -> None:
    """A line for each file: its likeliest classes and their probabilities, or what is wrong."""
    others = [f"{what}_{rank}" for rank in range(2, top + 1) for what in ("class", "probability")]
    # names of files may be no text
    how: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with atomic_path(path) as part, part.open("w", **how) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "class", "probability", *others, "error"])
        for each in answers:
            cells = [cell for label, value in each.ranked for cell in (label, f"{value:.6f}")]
            cells += [""] * (2 * top - len(cells))
            writer.writerow(map(no_formula, [str(each.path), *cells, each.error]))
