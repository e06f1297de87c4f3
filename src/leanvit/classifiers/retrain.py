"""cRT: the classifier trained anew on features that stay.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020 (https://arxiv.org/abs/1910.09217).

- Features learnt from the images as they are beat those of balanced training; what suffers from
  imbalance is the linear layer upon them. So that alone is drawn anew and trained, on batches in
  which every class is as frequent (conf/classifier/retrain.yaml chooses sampler=class_aware).
- The backbone is frozen and read as in evaluation: no dropout, no moving batch statistics.
"""

from torch import nn


class Retrain:
    """Leave only the head of a trained net to be trained, from its initial weights."""

    keeps_head = False

    def __call__(self, net: nn.Module) -> None:
        net.requires_grad_(False)
        net.head.requires_grad_(True)
