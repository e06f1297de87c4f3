"""From the words of a command line to what they ask for; what goes wrong is one line.

Nothing heavy is imported before the config is composed: ``--help`` and a slip of the pen are
answered at once.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from leanvit import values
from leanvit.app import (
    grid,
    grid_folder,
    help,
    jobs,
    names,
    parts,
    processes,
    ranks,
    request,
    words,
)
from leanvit.app.left_to_jobs import left_to_jobs, told_to_hydra
from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures import letters
from leanvit.files import stops_others

CONF = names.CONF
LISTS = ("run", "against", "what", "images")  # in these values of one command a comma makes a list
# what a composed config may name for Hydra to build; of nets and data see leanvit.app.parts
TRUSTED = ["leanvit.*", "lightning.pytorch.loggers.*", "hydra.*", "hydra_plugins.*"]
HELP = {"-h", "--help"}
MULTIRUN = {"-m", "--multirun"}
MAY_MISS = ("classifier", "lightweight", "logger", "experiment", "sweep")  # of choices


def train(command: str, description: str | None) -> None:
    """Run a command that makes runs, one or a grid: train, pretrain or compress."""
    read = {"train": request.training, "pretrain": request.pretraining,
            "compress": request.compression}[command]  # fmt: skip

    @hydra.main(config_path=str(CONF), config_name=command,
                execution_whitelist=TRUSTED)  # fmt: skip
    def task(composed: DictConfig) -> None:
        settings = HydraConfig.get()
        in_grid = settings.mode == RunMode.MULTIRUN
        folder = Path(settings.runtime.output_dir) / str(settings.job.num if in_grid else "")
        speaks = not ranks.is_rank() and ranks.speaks(composed)  # another process does for ranks
        if in_grid:  # W&B shows the jobs of a grid together; read by whatever process it runs in
            group = f"{command}-{Path(settings.sweep.dir).name}"
            os.environ.setdefault("WANDB_RUN_GROUP", group)
            os.environ[letters.GRID] = names.full_path(settings.sweep.dir)
            grid_folder.check_seen(Path(settings.sweep.dir))
        images = f"{composed.get('data')} {composed.get('run')}"
        if in_grid and grid_folder.is_halted(folder.parent, images):
            return
        try:
            if not in_grid:  # of a grid it was asked once
                launcher = settings.runtime.choices["hydra/launcher"]
                grid.check_counts(composed.get("parallel", 1), launcher, in_grid)
            asked = read(composed)
            if in_grid and speaks:
                grid_folder.begin(folder, asked.run_dir)
            if asked.at_once > 1:
                processes.take_share(asked.at_once, Path(settings.sweep.dir))
            job = jobs.do(command, asked)
            if speaks and not in_grid and not job.error:
                grid.show(command, [job])
        except Exception as error:
            if not in_grid:
                sys.exit(words.say(error))
            words.say(error)
            job = jobs.Job(folder, words.explain(error), stops_others(error))
        if in_grid and speaks:
            if job.stops_others:
                grid_folder.halt(folder.parent, images)
            grid_folder.leave(folder, job)
        elif speaks and job.error:
            jobs.remove_if_nothing_began(job.run_dir)
            sys.exit(words.say(LeanvitError(job.error)))
        elif job.error and not in_grid:
            sys.exit(1)

    def main() -> None:
        arguments = take_own_parts(sys.argv[1:])
        check_left_out(arguments, command)
        if HELP & set(arguments):
            return tell(command, description, arguments)
        in_grid = bool(MULTIRUN & set(arguments) or grid.mode())
        asked = left_to_jobs(command, arguments) if in_grid else arguments
        own = [f"--config-dir={folder}" for folder in parts.folders()[1:]]
        with told_to_hydra([*asked, *own]):
            task()

    spoken(main)


def spoken(main: Callable[[], None], makes_runs: bool = True) -> None:
    """Call ``main``; an error becomes a line on standard error and an exit status.

    ``HYDRA_FULL_ERROR=1`` shows the traceback.
    """
    words.speak_any_encoding()
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ["LEANVIT_TRACEBACK"] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits before we can speak
    try:
        with processes.stoppable():
            main()
    except BrokenPipeError:  # head or less read enough: no error, and nobody there to tell
        words.hush(sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Exception, KeyboardInterrupt, processes.Stopped) as error:
        if ranks.is_rank() and not isinstance(error, Exception):
            sys.exit(1)  # all were stopped; the process that started them says so
        sys.exit(words.say(error, makes_runs))


def take_own_parts(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--config-dir``: the parts that this folder names are trusted, in the
    processes of this command too.

    Raises:
        HydraException: there is no such folder.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(list(arguments))
    if known.config_dir:
        os.environ[parts.OWN] = names.full_path(known.config_dir)
    for folder in parts.folders():
        if not folder.is_dir():
            raise HydraException(f"--config-dir={folder} is no folder")
    return rest


def check_left_out(arguments: Sequence[str], command: str) -> None:
    """See that ``~key`` leaves out nothing needed.

    Raises:
        HydraException: the command cannot do without.
    """
    left_out = [each[1:].partition("=")[0] for each in arguments if each.startswith("~")]
    known = names.keys_of(command) if left_out else []  # most leave out nothing: no file is read
    for key in left_out:
        if key in known and key not in MAY_MISS and "@" not in key:
            raise HydraException(f"~{key} leaves out what {command}.py needs: give another {key}=")


def ask(command: str, description: str | None, of_train: bool = False) -> None:
    """Run a command that only reads finished runs, or measures: no grid, no run directory.

    Its keys are those of its file in conf/, and the parameters of ``run`` in its module.

    Args:
        of_train: it also takes choices and values of train.py, as a grid.
    """

    def main() -> None:
        arguments = take_own_parts(sys.argv[1:])
        if HELP & set(arguments):
            return tell(command, description, [] if of_train else map(as_list, arguments))
        rest = [each for each in arguments if not of_train or each not in MULTIRUN]
        for each in rest:
            if each.startswith("-"):
                raise HydraException(f"there is no flag {each}: --help tells what there is")
        own: Any = OmegaConf.load(CONF / f"{command}.yaml") if of_train else {}
        overrides = [each for each in rest if not of_train or each.partition("=")[0] not in own]
        asked = [as_list(each) for each in rest if not of_train or each not in overrides]
        asked += parts.search_path()
        overrides += parts.search_path()
        with initialize_config_dir(str(CONF)):
            config = compose(command, asked, return_hydra_config=True)
        choices = dict(config.hydra.runtime.choices)
        given: Any = OmegaConf.to_container(
            OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
        if command in ("eval", "predict"):
            from leanvit.app import first_look  # late: it imports Pillow

            first_look.at_question(command, given)
        run = importlib.import_module(f"leanvit.app.{command}").run
        values.check(run, given)
        run(**given, **values.offered(run, overrides=overrides, choices=choices))

    spoken(main, makes_runs=False)


def tell(command: str, description: str | None, arguments: Iterable[str]) -> None:
    """Print the help of a command, with what the choices on its command line change."""
    print(help.text(command, description or "", [e for e in arguments if not e.startswith("-")]))


def as_list(argument: str) -> str:
    """``run=a,b`` as a list, which Hydra wants in brackets; a directory may have a comma, and a
    value, as ``baseline=loss=ce``, an equals sign."""
    key, equals, value = argument.partition("=")
    if not equals or value.startswith(("[", "{", '"', "'")):
        return argument
    if key not in LISTS:  # Hydra takes no second "="
        return f"{key}={_quoted(value)}" if "=" in value else argument
    each_value = [value] if names.found(value).exists() else value.split(",")
    return f"{key}=[{','.join(map(_quoted, each_value))}]"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "\\'") + "'"
