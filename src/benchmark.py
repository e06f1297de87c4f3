"""Run several trained nets against each other: accuracy beside measured time, MACs and size.

    python src/benchmark.py run=outputs/a,outputs/b
    python src/benchmark.py run=outputs/a,outputs/b precision=32 threads=1 rounds=40

All in this process, in turns, on the runs' own test images; ratios are to the first run. Results go
to ``outputs/benchmarks/``. How it is measured: :mod:`leanvit.evaluation.benchmark_times`.
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("benchmark", __doc__)
