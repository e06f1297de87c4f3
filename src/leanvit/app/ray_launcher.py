"""Hydra's launcher of grids on Ray, which here outlives the workers that die.

Its own way to wait for the jobs ends at the first whose worker died, see
:mod:`leanvit.app.ray_jobs`.
"""

import os
import secrets
from collections.abc import MutableMapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from leanvit.errors import LeanvitError

try:
    from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher

    if find_spec("ray") is None:
        raise ImportError
except ImportError as error:
    raise LeanvitError("hydra/launcher=ray wants Ray: pip install -e '.[ray]'") from error


class Launcher(RayLauncher):
    """Hydra's, with the same config."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        init: Any = OmegaConf.to_container(self.ray_cfg.init, resolve=True)
        init["address"] = init.get("address") or os.environ.get("RAY_ADDRESS", "local")
        prepare(os.environ, is_own=init["address"] == "local")

        from leanvit.app import ray_jobs  # late: Ray reads its environment when it is imported

        return ray_jobs.launch(self, init, job_overrides, initial_job_idx)


def prepare(environment: MutableMapping[str, str], is_own: bool) -> None:
    """Set what Ray reads: it tells nobody of its use, and its workers count as much as others."""
    environment.update(RAY_USAGE_STATS_ENABLED="0", RAY_task_oom_retries="3")
    environment.setdefault("RAY_worker_niceness", "0")  # else a busy neighbour takes all
    # its own lines, on standard output, of a worker or node that dies: the jobs go on and say so
    environment.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    if is_own and not any(key.startswith("RAY_AUTH") for key in environment):
        # nobody else sends it work, and no password is left in a file at home
        environment.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
