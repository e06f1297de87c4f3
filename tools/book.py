"""Results that survive a cut: a line of JSON for each, on disk as soon as it is there."""

import gc
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from leanvit.app.words import explain


class Book:
    """A file of results and the time since it was opened.

    Args:
        choices: lines that were written with others do not count.
        minutes: how long there is.
    """

    def __init__(self, path: Path, choices: Sequence[str], minutes: float) -> None:
        self.path, self.choices, self.minutes = path, list(choices), minutes
        self.start = time.monotonic()
        text = path.read_text() if path.exists() else ""
        if text and not text.endswith("\n"):  # cut off: the next line is one of its own
            with path.open("a") as file:
                file.write("\n")
        lines = map(parsed, text.splitlines())
        self.lines = [line for line in lines if line.get("choices") == self.choices]

    @property
    def passed(self) -> float:
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        return max(0.0, 60 * self.minutes - self.passed)

    def write(self, about: Mapping[str, Any], **found: Any) -> None:
        """Keep a line on disk, whatever happens next."""
        line = {**about, **found, "choices": self.choices, "at": round(self.passed, 1)}
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(", ".join(f"{key} {value}" for key, value in {**about, **found}.items()), flush=True)

    def found(self, **about: Any) -> list[dict[str, Any]]:
        """The lines of it that tell of a success."""
        return [line for line in self.lines if about.items() <= line.items() and line.get("done")]

    def try_once(self, about: Mapping[str, Any], end: float, do: Any, *arguments: Any) -> None:
        """Write what ``do`` finds, or its error, unless it is known or too late."""
        if self.found(**about):
            return
        if self.passed > end or not self.left:
            self.write(about, left_out=f"{self.passed:.0f} s are over")
            return
        try:
            self.write(about, done=True, **do(*arguments))
        except Exception as error:
            self.write(about, error=explain(error))
        gc.collect()
        torch.cuda.empty_cache()


def parsed(line: str) -> dict[str, Any]:
    """A line of the book; one that was cut off says nothing."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return {}
