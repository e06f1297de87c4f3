"""DeiT-LT against a literal loop of its formulas, its limits, and when its weights hold."""

import copy
import math

import pytest
import torch
from image_trees import refused
from nets import images_of, scattered, vit
from torch import Tensor, nn

from leanvit.augment.none import NoMix
from leanvit.lightweight.deit_lt import DeiTLT
from leanvit.lightweight.distill import Distill
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine

COUNTS = torch.tensor([5000, 500, 50, 20, 5])
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 0, 1])


def teacher() -> nn.Module:
    """It says several classes."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))


def method(**values: object) -> DeiTLT:
    made = DeiTLT(scattered(vit(), 1), teacher(), **{"class_counts": COUNTS, **values})
    for parameter in (made.distillation_token, *made.head.parameters()):
        nn.init.normal_(parameter, std=0.5)
    return made


def terms_of(net: nn.Module) -> dict[str, Tensor]:
    return net.loss_terms(images_of(8), LABELS, nn.CrossEntropyLoss())


@pytest.mark.parametrize("is_late", [False, True])
def test_a_step_is_the_papers_image_by_image(is_late: bool) -> None:
    beta, weight = 0.999, 0.3
    net = method(beta=beta, weight=weight)
    net.is_late = is_late
    inverse = [(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()]
    scale = sum(inverse) / len(inverse)
    by_label = by_teacher = 0.0
    said = []
    for image, label in zip(images_of(8), LABELS.tolist(), strict=True):
        own, taught = (each[0].tolist() for each in net._both(image[None]))
        answer = net.teacher.net(image[None])[0].tolist()
        said.append(answer.index(max(answer)))
        by_label -= math.log(math.exp(own[label]) / sum(map(math.exp, own)))
        p = math.exp(taught[said[-1]]) / sum(map(math.exp, taught))
        by_teacher -= (inverse[said[-1]] / scale if is_late else 1) * math.log(p)
    assert len(set(said)) > 1 and said != LABELS.tolist()
    found = {name: value.item() for name, value in terms_of(net).items()}
    expected = {
        "classification": (1 - weight) * by_label / 8,
        "distillation": weight * by_teacher / 8,
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_weights_it_is_distillation_by_a_token() -> None:
    plain = Distill(vit(), teacher(), kind="token")
    for late, values in (
        (False, {}),
        (True, {"beta": 0.0}),
        (True, {"class_counts": torch.full((5,), 70)}),
    ):
        net = method(**values)
        net.is_late = late
        plain.load_state_dict({k: v for k, v in net.state_dict().items() if k != "class_weight"})
        expected = terms_of(plain)
        for name, value in terms_of(net).items():
            torch.testing.assert_close(value, expected[name])
        assert torch.equal(net.eval()(images_of(4)), plain.eval()(images_of(4)))
        plain.train()


def test_weights_are_those_of_the_class_balanced_loss_and_stay_with_the_net() -> None:
    net = method()
    assert torch.equal(net.class_weight, ClassBalanced(COUNTS).weight)
    served = DeiTLT(vit())  # as a finished run is built, which knows of no images
    served.load_state_dict(net.state_dict())
    assert torch.equal(served.class_weight, net.class_weight)
    lacking = DeiTLT(vit(), class_counts=torch.tensor([9, 3, 0, 4, 2]))
    assert torch.isfinite(lacking.class_weight).all()


def test_its_weights_hold_with_the_late_choices() -> None:
    class AtEpoch(Classifier):
        current_epoch = 0

    net, grey = method(), torch.full((3,), 0.5)
    loss = nn.CrossEntropyLoss()
    module = AtEpoch(net, loss, NoMix(), torch.optim.SGD, Cosine, grey, grey,
                     classes=tuple("abcde"), late_epoch=2)  # fmt: skip
    assert module.is_deferred
    module.log = lambda *_, **__: None
    pixels = images_of(8).mul(50).add(128).to(torch.uint8)
    losses = []
    for epoch in (0, 1, 2, 3, 1):  # a resumed training may begin in any
        module.current_epoch = epoch
        losses.append(module.training_step((pixels, LABELS), 1).item())
        assert net.is_late is (epoch >= 2)
    assert losses[0] == losses[1] == losses[4] != losses[2] == losses[3]


def test_every_weight_learns_and_the_teacher_does_not() -> None:
    net = method()
    sum(terms_of(net).values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in net.teacher.net.parameters())
    assert not any(name.startswith("teacher") for name in net.state_dict())
    assert copy.deepcopy(net).teacher is net.teacher


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    line = refused(DeiTLT, vit(readout="mean"))
    assert line.startswith("lightweight=deit_lt does not fit ViT, ")
    untaught = refused(DeiTLT(vit()).loss_terms, images_of(8), LABELS, nn.Identity())
    assert "wants a teacher: lightweight.teacher=" in untaught
