"""Make of a finished run a smaller or faster one, which is again a run.

    python src/compress.py run=outputs/... method=prune
    python src/compress.py run=outputs/... method=quantize
    python src/compress.py run=outputs/... method=export       # into export/ of the run itself

The same command goes on where a killed one stopped, and skips what is finished.
"""

from leanvit.app.entry import train

if __name__ == "__main__":
    train("compress", __doc__)
