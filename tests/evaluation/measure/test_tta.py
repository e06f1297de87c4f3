"""Test-time augmentation against its literal sum."""

import pytest
import torch
from torch import nn

from leanvit.data.images import ImageSet
from leanvit.evaluation.measure.predict import Trained, predict
from leanvit.evaluation.measure.tta import NUM_VIEWS, TTA, views
from leanvit.values import annotations

IMAGES = torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(0))


def moved(images: torch.Tensor, by: int) -> torch.Tensor:
    """Pixel (i, j) is what stood at (i + by, j + by), reflected at the edges."""

    def place(index: int, size: int) -> int:
        index = abs(index + by)
        return index if index < size else 2 * (size - 1) - index

    rows, columns = ([place(i, size) for i in range(size)] for size in images.shape[2:])
    return images[:, :, rows][:, :, :, columns]


def test_views_are_the_literal_ones() -> None:
    mirrored = [IMAGES, IMAGES.flip(3)]
    shifted = [view for by in (1, -1) for view in (moved(IMAGES, by), moved(IMAGES, by).flip(3))]
    for tta, expected in {"none": [IMAGES], "flip": mirrored, "crops": mirrored + shifted}.items():
        found = views(IMAGES, tta)
        assert len(found) == NUM_VIEWS[tta] and sum(weight for weight, _ in found) == 1
        for (_, view), literal in zip(found, expected, strict=True):
            assert torch.equal(view, literal)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("tta", ["none", "flip", "crops"])
def test_logits_are_averaged(tta: TTA) -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (7, 3, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(7, dtype=torch.int64), tuple("abcd"))
    net, mean, std = Linear(), torch.full((3,), 0.5), torch.full((3,), 0.25)
    trained = Trained(net, mean, std, data.classes, 8, bfloat16=False)
    found = predict(trained, data, torch.device("cpu"), tta=tta)
    normalised = (images / 255 - 0.5) / 0.25
    logits = sum(weight * net(view) for weight, view in views(normalised, tta))
    torch.testing.assert_close(found, logits.softmax(1).detach())


def test_every_choice_has_its_number_of_views() -> None:
    assert NUM_VIEWS.keys() == {"none", "flip", "crops"}
    assert annotations(predict)["tta"] == TTA
