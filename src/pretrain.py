"""Teach a net to see with images alone, before it is trained to classify them.

    python src/pretrain.py pretrain=mae model=vit
    python src/pretrain.py -m pretrain=mae,autoencoder seed=0,1,2

The folder that is printed is what ``python src/train.py pretrained=outputs/...`` takes. The same
command goes on where a killed one stopped, and skips what is finished.
"""

from leanvit.app.entry import train

if __name__ == "__main__":
    train("pretrain", __doc__)
