"""The cores of this machine, and how many of them other processes use."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use: of its affinity, its container's quota, and SLURM's job."""
    from joblib import cpu_count  # late: most commands need no number of cores

    of_job = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cpu_count(), int(of_job)) if of_job.isdecimal() else cpu_count()


def seen_cores() -> set[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


class Others:
    """How many of this process's cores others use, between one look and the next.

    Linux's ``/proc/stat`` tells, also of other containers and virtual machines (its steal time);
    what this process and those below it used themselves is subtracted.
    """

    def __init__(self) -> None:
        self.look()

    def look(self) -> tuple[float, float]:
        """Cores in use since the last look, and the seconds since then; 0 where nothing tells."""
        now = time.monotonic()
        try:
            used = sum(_busy(seen_cores())) - _own()
        except (OSError, ValueError):  # no Linux, or a /proc that is hidden
            return 0.0, 0.0
        before, self._last = getattr(self, "_last", (now, used)), (now, used)
        seconds = now - before[0]
        return (max(0.0, used - before[1]) / seconds if seconds else 0.0), seconds


def _busy(cores: set[int]) -> Iterator[float]:
    """Seconds that each core has worked; for what is nicer than this process it would stop."""
    ticks, yields = os.sysconf("SC_CLK_TCK"), os.getpriority(os.PRIO_PROCESS, 0) > 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            yield (user + system + irq + softirq + steal + (nice if yields else 0)) / ticks


def _own() -> float:
    """Seconds that this process, its children and those that ended have worked."""
    total, ticks = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    children = []
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread ended meanwhile
            children += each.read_text().split()
    for child in children:
        with suppress(OSError):
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total
