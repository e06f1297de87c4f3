"""Look inside finished runs: attention, patches, features, positions, tokens, filters.

    python src/visualize.py run=outputs/...
    python src/visualize.py run=outputs/... what=attention,rollout block=3
    python src/visualize.py run=outputs/... what=dynamic

Figures go to ``figures/inside/`` in the run directory, and those of what a lightweighting method
did to ``figures/dynamic/``.
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("visualize", __doc__)
