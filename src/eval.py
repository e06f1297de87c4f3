"""Evaluate finished runs again, on their own images or on others of the same classes.

    python src/eval.py run=outputs/...
    python src/eval.py run=outputs/... data=folder data.source=...
    python src/eval.py run=outputs/... logit_adjust=1.0      # or val: see measure.adjust

Results go to ``eval/`` in the run directory; the run's own metrics.json stays as it is.
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("eval", __doc__)
