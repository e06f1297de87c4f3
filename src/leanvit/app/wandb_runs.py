"""Runs of Weights & Biases: whole after every stop, and offline where there is no way to it."""

import functools
import http.client
import netrc
import os
import secrets
import shutil
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from leanvit.errors import LeanvitError
from leanvit.files import atomic_path

SECONDS = 5.0  # that its server has to answer in; it answers in less than one
LONGEST_TAG = 64  # in characters; W&B refuses longer ones


class WholeRun(WandbLogger):
    """A run whose epochs are told once, in whichever process they were trained."""

    known = 0  # steps that the server was told of by an earlier process

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._wandb_init.get("anonymous") is None:  # wandb warns of the word, whatever it says
            self._wandb_init.pop("anonymous", None)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None or step > self.known:
            super().log_metrics(metrics, step)


def opened(
    build: "functools.partial[WandbLogger]", run_dir: Path, tags: Sequence[str], config: Any
) -> WandbLogger:
    """A run of the chosen logger; it never asks, and what the user gave wins.

    The id is random and stays in the run directory. Offline it is one piece (``wandb sync``), of
    the last process: that one was told all epochs.

    Raises:
        LeanvitError: W&B does not take these values.
    """
    import wandb

    own: dict[str, Any] = {
        "save_dir": run_dir,
        "name": run_dir.name,
        "id": kept_id(run_dir),
        "tags": [tag for tag in tags if len(tag) <= LONGEST_TAG],
        "config": config,
        "mode": "offline" if build.keywords.get("offline") else mode(),
        # what is not uploaded in time stays on disk
        "settings": wandb.Settings(
            silent=True, console="off", init_timeout=6 * SECONDS, finish_timeout=60 * SECONDS
        ),
    }
    kind = WholeRun if build.func is WandbLogger else build.func
    given = {**own, **build.keywords}
    made = kind(**given)
    try:
        made.experiment  # noqa: B018  (opens it)
    except (wandb.Error, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        if given["mode"] != "online" or not isinstance(error, wandb.Error):
            raise LeanvitError(f"logger=wandb: {why}") from error
        print(f"W&B cannot be reached ({why}): {OFFLINE}", file=sys.stderr)
        made = kind(**{**given, "mode": "offline"})
        made.experiment  # noqa: B018
    run = made.experiment
    if run.resumed and isinstance(made, WholeRun):
        made.known = int(run.summary.get("trainer/global_step") or 0)
    if given["save_dir"] == run_dir:
        for piece in (run_dir / "wandb").glob("offline-run-*"):  # also of another id
            if piece != Path(run.dir).parent:
                shutil.rmtree(piece, ignore_errors=True)
    return made


OFFLINE = "it is logged offline, wandb sync <run directory>/wandb/offline-* uploads it later"


def close(status: int) -> None:
    import wandb

    wandb.finish(exit_code=status)


def summarise(
    made: WandbLogger, numbers: Mapping[str, float], pictures: Mapping[str, Path]
) -> None:
    """What a run ends in, as its summary."""
    import wandb

    if pictures:
        made.experiment.log({name: wandb.Image(str(path)) for name, path in pictures.items()})
    made.experiment.summary.update(dict(numbers))


def confusion(
    made: WandbLogger, labels: Sequence[int], guessed: Sequence[int], classes: Sequence[str]
) -> None:
    """The confusion matrix as a chart."""
    import wandb

    chart = wandb.plot.confusion_matrix(
        y_true=labels, preds=guessed, class_names=list(classes), title="test images"
    )
    made.experiment.log({"test/confusion_matrix": chart})


def kept_id(run_dir: Path) -> str:
    """The random id of a run, the same in all processes that train it."""
    path = run_dir / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            part.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def mode() -> str:
    """``WANDB_MODE``, else online for those who are logged in; only where there is a way there."""
    given = os.environ.get("WANDB_MODE")
    if given not in (None, "online"):
        return str(given)
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not given and not _logged_in(url):
        return "offline"
    if not answers(url):
        print(f"{url} does not answer: {OFFLINE}", file=sys.stderr)
        return "offline"
    return "online"


def _logged_in(url: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def answers(url: str, seconds: float = SECONDS) -> bool:
    """Whether a server says anything at all, in time; through a proxy where one is set."""
    heard = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                heard.append(True)
        except urllib.error.HTTPError:
            heard.append(True)
        except urllib.error.URLError as error:  # W&B knows other certificates than Python
            heard.extend([True] if isinstance(error.reason, ssl.SSLError) else [])
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # in a thread: looking up a name has no time limit
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * seconds)
    return bool(heard)
