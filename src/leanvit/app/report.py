"""report.py: finished runs side by side, or two choices paired by seed."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from leanvit.app import names
from leanvit.app.finished import Run, find, outputs_of
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import Sort
from leanvit.evaluation.comparison.left_out import sort_out
from leanvit.evaluation.comparison.paired_table import print_paired, write_paired
from leanvit.evaluation.comparison.published import print_published, write_published
from leanvit.evaluation.comparison.runs import find_all
from leanvit.evaluation.comparison.table import print_failed, print_table, write_comparison
from leanvit.files import check_folder


def run(
    run: str | Sequence[str] | None = None,
    against: str | Sequence[str] | None = None,
    sort: Sort = "validation",
    published: bool = False,
    output: str | None = None,
) -> None:
    """Print the comparison and write it as Markdown and CSV; the keys are those of
    conf/report.yaml."""
    if output:
        check_folder(Path(output))
    runs, failed = runs_in(run)
    folder = Path(output) if output else place_of(runs, run is None)
    check_folder(folder)
    if published:
        if against is not None:
            raise LeanvitError("published=true compares with the published tables: leave against=")
        print_published(write_published(runs, names.PUBLISHED, folder))
        print_failed(failed, Console(stderr=True))
        print(f"{folder}/published.md")
        return
    if against is not None:
        if run is None:
            raise LeanvitError("against= needs the other side too: run=<runs> against=<runs>")
        others, also_failed = runs_in(against)
        failed += also_failed
        print_paired(write_paired(runs, others, failed, folder), failed)
    else:
        if not runs and not failed:
            raise LeanvitError("no finished run yet: python src/train.py makes one")
        print_table(write_comparison(runs, failed, folder, sort), failed)
    print(f"{folder}/comparison.md")


def place_of(runs: Sequence[Path], is_all: bool) -> Path:
    """``report/`` of the outputs that the first run lies in; of all runs, of their outputs/."""
    all_lie_in = names.ROOT / "outputs"
    return (all_lie_in if is_all or not runs else outputs_of(Run(runs[0]))) / "report"


def runs_in(given: str | Sequence[str] | None) -> tuple[list[Path], list[Path]]:
    """Runs to compare, and those that failed or are damaged: those given, those in folders that are
    given, or all."""
    told = [given] if isinstance(given, str) else given
    folders = [names.ROOT / "outputs"] if told is None else [find(each).path for each in told]
    runs: list[Path] = []
    failed: list[Path] = []
    for folder in folders:
        finished, broken = find_all(folder)
        runs += [folder] if (folder / "metrics.json").exists() else finished
        failed += broken
    whole, damaged = sort_out(runs)
    return whole, failed + damaged
