"""How long a command takes to answer, and how long until a net is trained.

    python tools/start.py                                  # the built-in shapes
    python tools/start.py data.source=cifar10_course.zip   # other choices, as for src/train.py

Medians over some starts of: --help; a misspelt choice; from the command to the end of the first
training step, its epoch having one step alone. The first start, which fills caches, is not counted.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STARTS = 5
# a net so small that its step takes no time
SMALL = ["data=shapes", "data.num_train=600", "data.num_test=200", "experiment=demo_vit"]


def main(choices: list[str]) -> None:
    """Print the medians and ranges, in seconds."""
    with tempfile.TemporaryDirectory() as outputs:
        step = [*(choices or SMALL), "max_epochs=1", "batch_size=512", f"outputs={outputs}"]
        commands = {
            "--help": (["--help"], "train"),
            "a misspelt choice": (["model=vitt"], "did you mean"),
            "first training step": (step, "epoch 1/"),
        }
        for name, (arguments, answer) in commands.items():
            times = []
            for number in range(STARTS + 1):
                own = [*arguments, f"seed={number}"] if arguments is step else arguments
                times.append(seconds_until(answer, own))
            spread = f"{min(times[1:]):.2f} to {max(times[1:]):.2f}"
            print(f"{name:20s} {statistics.median(times[1:]):6.2f} s   ({spread})", flush=True)


def seconds_until(answer: str, arguments: list[str]) -> float:
    """From the start of train.py to the line that holds ``answer``; then it is stopped."""
    command = [sys.executable, str(ROOT / "src" / "train.py"), *arguments]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if answer in line:
                break
        else:
            sys.exit(f"{' '.join(command)} never said {answer!r}:\n{''.join(told)}")
        found = time.perf_counter() - start
        process.kill()
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
