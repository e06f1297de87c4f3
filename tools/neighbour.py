"""Seconds that a grid takes, alone and beside a busy process, in one run.

    python tools/neighbour.py                            # four jobs of a small CoAtNet
    python tools/neighbour.py jobs=12 experiment=coatnet_tiny

Compared are all cores for one job after the other (``OMP_NUM_THREADS``), as many threads as other
processes leave cores, which is the default, and jobs at once of one thread each. The busy process
is a loop in Python. Images are drawn. It wants a machine that does nothing else, and some minutes.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZE = ["data=shapes", "data.num_train=4000", "max_epochs=2", "batch_size=128", "trainer=cpu"]


def main(arguments: list[str]) -> None:
    """Print the table."""
    given = dict(each.split("=", 1) for each in arguments if "=" in each)
    num, name = int(given.pop("jobs", 4)), given.pop("experiment", "coatnet_small")
    if given or not all("=" in each for each in arguments):
        sys.exit("these are known: jobs= and experiment=")
    ways = {
        "all threads, one job after the other": (1, {"OMP_NUM_THREADS": str(os.cpu_count())}),
        "parallel=1": (1, {}),
        "parallel=auto": ("auto", {}),
    }
    print(
        f"seconds of {num} jobs of {name}, {os.cpu_count()} cores\n{'':38s} alone  beside another"
    )
    for way, (parallel, threads) in ways.items():
        print(f"{way:36s}", end="", flush=True)
        for neighbours in (0, 1):
            asked = [f"experiment={name}", *SIZE, f"seed=range(0,{num})", f"parallel={parallel}"]
            print(f" {timed(asked, threads, neighbours):8.1f}", end="", flush=True)
        print()


def timed(asked: list[str], threads: dict[str, str], neighbours: int) -> float:
    """Seconds of one grid."""
    kept = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    with ExitStack() as stack:
        outputs = stack.enter_context(tempfile.TemporaryDirectory())
        for _ in range(neighbours):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        command = [sys.executable, str(ROOT / "src" / "train.py"), "-m", *asked]
        start = time.perf_counter()
        subprocess.run([*command, f"outputs={outputs}"], env={**kept, **threads}, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
