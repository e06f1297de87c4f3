"""Test images to look at a trained net with: few, of all classes, right and wrong ones."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn

from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.predict import Trained
from leanvit.evaluation.pictures.letters import drawable


@dataclass(frozen=True)
class Look:
    """A trained net in evaluation mode and the images to look at it with."""

    net: nn.Module
    images: UInt8[Tensor, "batch 3 height width"]
    inputs: Float32[Tensor, "batch 3 height width"]  # as the net takes them, on its device
    captions: tuple[str, ...]  # "true cat, predicted dog 0.83" of each, by this net
    correct: tuple[bool, ...]  # whether the prediction is right
    mean: Float32[Tensor, "3"]  # of the normalisation, per channel, in 0..1
    std: Float32[Tensor, "3"]
    block: int | None = None  # whose attention is drawn, from 0; None: one that shows something


def choose_images(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    num_images: int,
    seed: int,
) -> Int64[ndarray, " chosen"]:
    """Half correct, half wrong predictions, as many of each class as of any other.

    What one half lacks the other fills up, and a class without wrong ones is shown by correct ones.
    The same seed chooses the same images.

    The indices of the correct ones come first; all of them where ``num_images`` is more.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    class_order = random.permutation(probabilities.shape[1])
    is_correct = probabilities.argmax(axis=1) == labels
    num_images = min(num_images, len(labels))
    num_wrong = min(num_images // 2, int((~is_correct).sum()))
    num_wrong = max(num_wrong, num_images - int(is_correct.sum()))
    wanted = {False: num_wrong, True: num_images - num_wrong}
    # the half found in fewer classes chooses first, and the other one the classes that are left
    halves = sorted(wanted, key=lambda right: len(np.unique(labels[is_correct == right])))
    chosen_of_class = dict.fromkeys(class_order.tolist(), 0)
    chosen = {
        right: _alternate(order[is_correct[order] == right], labels, wanted[right], chosen_of_class)
        for right in halves
    }
    return np.array(chosen[True] + chosen[False], dtype=np.int64)


def _alternate(
    candidates: Int64[ndarray, " m"],
    labels: Int64[ndarray, " n"],
    num_images: int,
    chosen_of_class: dict[int, int],
) -> list[int]:
    """Always the next candidate of the class with the fewest chosen so far."""
    waiting = {label: candidates[labels[candidates] == label].tolist() for label in chosen_of_class}
    chosen = []
    for _ in range(num_images):
        label = min((each for each in waiting if waiting[each]), key=lambda x: chosen_of_class[x])
        chosen.append(waiting[label].pop(0))
        chosen_of_class[label] += 1
    return chosen


def look_at(
    trained: Trained,
    data: ImageSet,
    predictions: dict[str, ndarray],
    device: torch.device,
    num_images: int = 8,
    seed: int = 0,
    block: int | None = None,
) -> Look:
    """The net of a run with images of its test set, chosen by what the run predicted for them.

    Captions are what this net says in float32: of another checkpoint, it may differ.

    Raises:
        LeanvitError: the images are not those that the run was tested on.
    """
    labels = predictions["test_labels"]
    if not np.array_equal(labels, data.labels.numpy()):
        raise LeanvitError(
            f"the {len(data):,} test images are not the {len(labels):,} that the run was tested "
            "on: bring the data back as it was, or train again"
        )
    index = choose_images(predictions["test_probabilities"], labels, num_images, seed)
    return look_at_these(trained, data, index, device, block)


@torch.inference_mode()
def look_at_these(
    trained: Trained,
    data: ImageSet,
    index: Int64[ndarray, " chosen"],
    device: torch.device,
    block: int | None = None,
) -> Look:
    """The net with the images at these places; captions as in :func:`look_at`."""
    images, labels = torch.stack([data.images[i] for i in index.tolist()]), data.labels.numpy()
    net = trained.net.to(device).eval()
    inputs = trained.inputs(images, device)
    confidences, predicted = net(inputs).float().softmax(dim=1).cpu().max(dim=1)
    names = drawable(trained.classes)
    captions = tuple(
        f"true {names[true]},\npredicted {names[said]} {confidence:.2f}"
        for true, said, confidence in zip(labels[index], predicted, confidences, strict=True)
    )
    correct = tuple((predicted.numpy() == labels[index]).tolist())
    mean, std = trained.mean.cpu(), trained.std.cpu()
    return Look(net, images, inputs, captions, correct, mean, std, block)
