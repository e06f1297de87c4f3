"""report.py: finished runs side by side, or two choices paired by seed."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from leanvit.app import names
from leanvit.app.asked_runs import question, runs_in
from leanvit.app.finished import Run, outputs_of
from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.narrow_table import print_left_out, print_table
from leanvit.evaluation.comparison.paired_table import print_paired, write_paired
from leanvit.evaluation.comparison.published import print_published, write_published
from leanvit.evaluation.comparison.rows import Sort
from leanvit.evaluation.comparison.table import write_tables
from leanvit.files import check_folder


def run(
    run: str | Sequence[str] | None = None,
    against: str | Sequence[str] | None = None,
    baseline: str | int | None = None,
    sort: Sort = "validation",
    published: bool = False,
    page: bool = False,
    output: str | None = None,
) -> None:
    """Print the comparison and write it as Markdown, CSV and LaTeX; the keys are those of
    conf/report.yaml."""
    if output:
        check_folder(Path(output))
    if against is not None and run is None:
        raise LeanvitError("against= needs the other side too: run=<runs> against=<runs>")
    if page and (published or against is not None):
        raise LeanvitError("page=true is of one table: leave published= and against=")
    for key, is_given in (("against", against is not None), ("baseline", baseline is not None)):
        if published and is_given:
            raise LeanvitError(f"published=true compares with the published tables: leave {key}=")
    if against is not None and baseline is not None:
        raise LeanvitError("against= is the baseline of run=: leave baseline=")
    found = runs_in(run)
    folder = Path(output) if output else place_of(found.finished, run is None)
    check_folder(folder)
    stem = folder / question(run, against)
    if published:
        print_published(write_published(found.finished, names.PUBLISHED, folder))
        print_left_out(found.failed, found.unfinished, Console(stderr=True))
        stem = folder / "published"
    elif against is not None:
        others = runs_in(against)
        failed = found.failed + others.failed
        print_paired(*write_paired(found.finished, others.finished, failed, stem), failed)
    else:
        if not any(found):
            raise LeanvitError("no finished run yet: python src/train.py makes one")
        tables = compare(found.finished, sort, _row(baseline))
        write_tables(tables, found.failed, stem, found.unfinished)
        print_table(tables, found.failed, found.unfinished)
        if page:
            from leanvit.app.page import write_page  # late: it imports torch, for the images

            write_page(tables, found.failed, stem, found.unfinished)
            print(f"{stem}.html")
    print(f"{stem}.md")


def _row(baseline: str | int | None) -> str | int | None:
    """A run by its full path; a number or a choice as it is."""
    if isinstance(baseline, str) and names.found(baseline).is_dir():
        return str(names.found(baseline))
    return baseline


def place_of(runs: Sequence[Path], is_all: bool) -> Path:
    """``report/`` of the outputs that the first run lies in; of all runs, of their outputs/."""
    all_lie_in = names.ROOT / "outputs"
    return (all_lie_in if is_all or not runs else outputs_of(Run(runs[0]))) / "report"
