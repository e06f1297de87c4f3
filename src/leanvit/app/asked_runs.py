"""What ``run=`` and ``against=`` mean: run directories, folders of them, grids, globs, choices."""

import hashlib
import re
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from leanvit.app import names
from leanvit.app.finished import find
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import settings_of, with_defaults
from leanvit.evaluation.comparison.left_out import sort_out
from leanvit.evaluation.comparison.reference import chosen
from leanvit.evaluation.comparison.runs import Found, find_all, read_run, run_of
from leanvit.values import nearest

OF_A_RUN = ("config.yaml", "metrics.json", "error.txt")
MAX_LETTERS = 80  # of the name of a file


def runs_in(given: str | Sequence[str] | None) -> Found:
    """The finished runs that are meant, those that failed or are damaged, and those that are not
    finished.

    Args:
        given: what is meant: directories of runs, folders of them, folders of grids, and globs of
            these; and ``key=value``, all of which must have been chosen. None: all of outputs/.

    Raises:
        LeanvitError: there is no such directory, or none where that was chosen.
    """
    told = [given] if isinstance(given, str) else list(given or ())
    wanted = dict(each.partition("=")[::2] for each in told if is_choice(each))
    places = [path for each in told if not is_choice(each) for path in _paths(each)]
    lists: tuple[list[Path], ...] = ([], [], [])
    for place in places or [names.ROOT / "outputs"]:
        for paths, more in zip(lists, _lying_in(place), strict=True):
            paths += more
    finished, failed, unfinished = (list(dict.fromkeys(each)) for each in lists)
    whole, damaged = sort_out(finished)
    if wanted:
        return Found(_chosen(whole, wanted), damaged, [])
    return Found(whole, failed + damaged, unfinished)


def in_order(given: str | Sequence[str]) -> list[Path]:
    """Run directories in the order in which they are meant, finished or not; and the finished runs
    of folders, globs and choices.

    Raises:
        LeanvitError: there is no such directory, or no finished run in it.
    """
    told = [given] if isinstance(given, str) else list(given)
    if any(is_choice(each) for each in told if each):
        return runs_in(told).finished
    runs: list[Path] = []
    for each in told:
        if not has_magic(each) and any((find(each).path / file).exists() for file in OF_A_RUN):
            runs.append(find(each).path)  # twice is twice
        elif finished := runs_in(each).finished:
            runs += [path for path in finished if path not in runs]
        else:
            raise LeanvitError(f"{each} holds no finished run")
    return runs


def is_choice(given: str) -> bool:
    """Whether it is ``key=value``, and no directory that is called so."""
    return "=" in given and not names.found(given).is_dir() and not _matches(given)


def question(run: str | Sequence[str] | None, against: str | Sequence[str] | None) -> str:
    """What the files of a comparison are called: each question has its own."""
    asked = [_name(each) for each in (run, against) if each]
    name = "-".join(["comparison", *(["-against-".join(asked)] if asked else [])])
    if len(name) <= MAX_LETTERS:
        return name
    digest = hashlib.sha256(repr((run, against)).encode(errors="replace")).hexdigest()[:6]
    return f"{name[: MAX_LETTERS - 7]}-{digest}"


def _name(given: str | Sequence[str]) -> str:
    told = [given] if isinstance(given, str) else given
    short = [each if is_choice(each) else names.found(each).name for each in told]
    return re.sub(r"[^\w=.@+-]+", "_", "-".join(short))


def _paths(given: str) -> list[Path]:
    if not has_magic(given) or names.found(given).is_dir():
        return [find(given).path]
    if found := _matches(given):
        return found
    raise LeanvitError(f"no directory is called {given}: python src/report.py lists the runs")


def _matches(given: str) -> list[Path]:
    """Directories that a glob means, from here or from the repository's root."""
    pattern = Path(given).expanduser()
    roots = [Path(pattern.anchor)] if pattern.is_absolute() else [Path(), names.ROOT]
    for root in roots if has_magic(given) else ():
        found = root.glob(str(pattern.relative_to(pattern.anchor)))
        if folders := sorted(path.resolve() for path in found if path.is_dir()):
            return folders
    return []


def _lying_in(place: Path) -> Found:
    if (place / "metrics.json").exists():
        return Found([place], [], [])
    jobs = sorted(place.glob("*/job.json"), key=lambda path: int(path.parent.name))
    if not jobs:
        return find_all(place)
    lists: tuple[list[Path], ...] = ([], [], [])  # a folder of a grid tells where its runs lie
    for job in jobs:
        if (run := run_of(job.parent)).is_dir():
            for paths, more in zip(lists, find_all(run), strict=True):
                paths += more
    return Found(*lists)


def _chosen(runs: Sequence[Path], wanted: dict[str, str]) -> list[Path]:
    if not runs:
        raise LeanvitError("no finished run yet: python src/train.py makes one")
    told = {path: with_defaults(settings_of(read_run(path)), path, wanted) for path in runs}
    known = {key for settings in told.values() for key in settings}
    if missing := next((key for key in wanted if key not in known), None):
        raise LeanvitError(f"no run tells {missing}=: {nearest(missing, known)}")
    if found := [path for path, settings in told.items() if chosen(settings, wanted)]:
        return found
    raise LeanvitError(
        f"no finished run has {', '.join(f'{key}={value}' for key, value in wanted.items())}"
    )
