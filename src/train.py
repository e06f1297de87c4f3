"""Train one net, or with -m a grid of them, and compare.

    python src/train.py model=coatnet loss=focal
    python src/train.py -m model=vit,coatnet loss=ce,weighted_ce,focal sampler=shuffle,balanced

The same command goes on where a killed one stopped, and skips what is finished.
"""

from leanvit.app.entry import train

if __name__ == "__main__":
    train("train", __doc__)
