"""Jobs in processes of their own: what one held is freed, and if it dies, it dies alone."""

import contextlib
import ctypes
import fcntl
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

STOPS = (signal.SIGTERM, signal.SIGHUP)  # besides Ctrl-C: of kill, a queue, a closed terminal
BUSY = 75  # EX_TEMPFAIL: another process holds the run directory
SHARED = 74  # EX_IOERR: what stopped a job would stop others, too


class Stopped(SystemExit):
    """A signal asked this process to end; it does so like Ctrl-C, with nothing half-written."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)

    def __str__(self) -> str:
        return signal.Signals(int(self.code or 0) - 128).name


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let signals raise :class:`Stopped`, also in what is forked; the ignored stay ignored."""
    taken = [each for each in STOPS if signal.getsignal(each) == signal.SIG_DFL]
    for each in taken:
        signal.signal(each, _stop)
    tell, sys.unraisablehook = sys.unraisablehook, _stop_again
    try:
        yield
    finally:
        sys.unraisablehook = tell
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


def _stop_again(lost: "sys.UnraisableHookArgs") -> None:
    """Where Python cannot raise, as while it forks or frees, it would drop the exception of a
    signal: that comes once more, a little later."""
    error = lost.exc_value
    if not isinstance(error, Stopped | KeyboardInterrupt):
        return sys.__unraisablehook__(lost)
    number = int(error.code or 0) - 128 if isinstance(error, Stopped) else signal.SIGINT
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def gpus() -> list[str]:
    """The GPUs that this process may use, by number or name; no driver is asked: it takes long."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each for each in visible.split(",") if each]
    return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def take_share(at_once: int, folder: Path) -> None:
    """Take one of ``at_once`` places on this machine, until this process or its parent ends.

    Its jobs then use one GPU, and that part of the free memory; the launcher shares the cores.

    Args:
        folder: where the places are files, which are locked.
    """
    if "LEANVIT_SHARES" in os.environ:  # taken, or given: by Ray, as it gives GPUs
        return
    die_with_parent()
    os.environ["LEANVIT_SHARES"] = str(at_once)  # read by leanvit.data.decode
    if not (seen := gpus()):
        return
    for number in range(at_once):
        place = (folder / f".place-{number}").open("w")
        with contextlib.suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.environ["CUDA_VISIBLE_DEVICES"] = seen[number % len(seen)]
            _places.append(place)
            return
        place.close()


_places: list[IO[str]] = []


def run_in_child(job: Callable[[], int], log: Path | None = None) -> int:
    """Run ``job``, which returns its exit status, in a forked process; the status of that.

    Args:
        log: a file for what the job says, which is also said here, behind the name of its folder.
    """
    reader, writer = os.pipe() if log else (-1, -1)

    def work() -> None:
        gc.freeze()  # else all that is imported is looked through for garbage again and again
        die_with_parent()
        for each in STOPS:
            if signal.getsignal(each) != signal.SIG_IGN:
                signal.signal(each, _stop)
        for each in (signal.SIGUSR1, signal.SIGUSR2):  # of a queue, which this process's parent
            signal.signal(each, signal.SIG_IGN)  # answers, and then ends this one
        if log:
            os.close(reader)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
        try:
            status = job()
        except KeyboardInterrupt:  # the process that forked this one speaks for it
            status = 128 + signal.SIGINT
        sys.exit(status)

    # forked: imports are done, and nothing was computed here that a child must not inherit
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    if log:
        os.close(writer)
        # a thread: what a job left running may hold its end of the pipe for ever
        telling = threading.Thread(target=_tell, args=(reader, log), daemon=True)
        telling.start()
    try:
        child.join()
        if log:
            telling.join(1)
    except BaseException as stop:
        if isinstance(stop, KeyboardInterrupt):
            child.join(2)  # a terminal tells it, too: a second signal would stop its tidying up
        child.terminate()
        child.join()
        raise
    return child.exitcode or 0


def _tell(reader: int, log: Path) -> None:
    """Pass on the lines of a job, and keep them while there is room."""
    with open(reader, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as kept:
                kept.write(line)
            with contextlib.suppress(OSError):  # or the job waits for ever to be read
                print(f"{log.parent.name}: {line}", end="", file=sys.stderr, flush=True)


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent is killed, so that no job trains on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def was_stopped(status: int) -> bool:
    """Whether a process ended by :class:`Stopped`."""
    return status in [128 + each for each in STOPS]


def describe(status: int) -> str:
    """An exit status in words."""
    if was_stopped(status):
        status = 128 - status
    if status == -signal.SIGKILL:
        return "killed by SIGKILL: most often the memory was not enough, lower batch_size"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
