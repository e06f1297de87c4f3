"""Compare finished runs: means over seeds, intervals, paired differences; best first.

python src/report.py                                  # everything under outputs/
python src/report.py run=outputs/course/a,outputs/course/b
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import command_line
from leanvit.errors import LeanvitError
from leanvit.evaluation.runs import find_failed, find_runs
from leanvit.evaluation.table import print_table, write_comparison


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
@command_line.keep_error
def main(config: DictConfig) -> None:
    """Print the comparison and write it as Markdown and CSV."""
    given = [config.run] if isinstance(config.run, str) else config.run
    folders = (
        [command_line.ROOT / "outputs"] if given is None else map(command_line.find_run, given)
    )
    runs: list[Path] = []
    failed: list[Path] = []
    for folder in folders:
        runs += [folder] if (folder / "metrics.json").exists() else find_runs(folder)
        failed += find_failed(folder)
    if not runs and not failed:
        raise LeanvitError("no finished run yet: python src/train.py makes one")
    print_table(write_comparison(runs, failed, Path(config.output)), failed)
    print(f"{config.output}/comparison.md")


if __name__ == "__main__":
    command_line.list_argument("run")
    command_line.run(main)
