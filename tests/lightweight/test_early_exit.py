"""Early exit: against the full net, against one image after the other, against brute force."""

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import get_args

import nets
import pytest
import torch
from hydra.utils import instantiate
from image_trees import refused
from omegaconf import OmegaConf
from scripts import ROOT
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.exit_threshold import Criterion, confidences, pick_threshold, trade_offs
from leanvit.models.attention import record_attention
from leanvit.models.swin_t import SwinT
from leanvit.models.vit_b_16 import ViTB16

CRITERIA = get_args(Criterion)
NETS: dict[str, Callable[[], nn.Module]] = {
    "vit": nets.vit,
    "vit weighted": partial(nets.vit, readout="weighted"),
    "vit_b_16": lambda: enlarging(nets.vit(), ViTB16),
    "linformer_vit": nets.linformer_vit,
    "cct": nets.cct,
    "vit_conv": nets.vit_conv,
    "coatnet": nets.coatnet,
    "pvt": nets.pvt,
    "swin": nets.swin,
    "swin_t": lambda: enlarging(nets.swin(), SwinT),
}


def enlarging(net: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A small net that enlarges its images as the pretrained kind does, which is large."""
    net.__class__, net.input_size = kind, 16
    return net


def small_method(name: str = "vit", **options: object) -> EarlyExit:
    method = nets.scattered(EarlyExit(NETS[name](), 16, **options), seed=1).eval()
    with torch.no_grad():  # sure of something, and no class is every image's
        for head in method.heads:
            head[1].weight *= 20
        for head, logits in zip(method.heads, method.exit_logits(some_images())[:-1], strict=True):
            head[1].bias -= logits.mean(dim=0)
    return method


def half_leave(method: EarlyExit, images: Tensor) -> float:
    """A threshold between the confidences that the first exit has of the images."""
    sure = confidences(method.exit_logits(images).softmax(dim=2), method.criterion)[0].sort().values
    return float(sure[len(sure) // 2 - 1 :][:2].mean())


def some_images(batch: int = 12, size: int = 16) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def some_probabilities(exits: int, images: int, classes: int = 4) -> Tensor:
    draws = torch.Generator().manual_seed(2)
    return torch.randn(exits, images, classes, generator=draws).mul(2).softmax(dim=2)


def literal_exit(probabilities: Tensor, criterion: str, threshold: float) -> int:
    """Where one image leaves, of what each exit says of it: (exits, classes)."""
    in_a_row = 0
    for place, each in enumerate(probabilities[:-1]):
        if criterion == "max_probability":
            sure = max(each.tolist())
        elif criterion == "entropy":
            entropy = -sum(p * math.log(p) for p in each.tolist() if p > 0)
            sure = 1 - entropy / math.log(len(each))
        else:
            agrees = place > 0 and each.argmax() == probabilities[place - 1].argmax()
            in_a_row = in_a_row + 1 if agrees else 0
            sure = in_a_row
        if sure >= threshold:
            return place
    return len(probabilities) - 1


@pytest.mark.parametrize("name", NETS)
def test_above_every_threshold_it_is_the_net_bit_for_bit(name: str) -> None:
    method = small_method(name, threshold=1.1)
    images = some_images()
    with torch.no_grad():
        expected = method.net(images)
        assert torch.equal(method(images), expected)
        assert torch.equal(method.exit_logits(images)[-1], expected)
    last = len(method.after)
    assert last > 1 and method.exits.tolist() == [last] * 12


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", ["vit", "coatnet", "swin"])
def test_an_image_leaves_where_it_would_alone(name: str, criterion: str) -> None:
    method = small_method(name, criterion=criterion)
    images = some_images()
    with torch.no_grad():
        threshold = 1.0 if criterion == "patience" else half_leave(method, images)
        method.threshold.fill_(threshold)
        everything = method.exit_logits(images)
        together = method(images)
        exits = method.exits
        assert torch.equal(method(images), together)
        for index, image in enumerate(images):
            alone = method(image[None])[0]
            expected = literal_exit(everything[:, index].softmax(dim=1), criterion, threshold)
            assert int(exits[index]) == int(method.exits[0]) == expected
            torch.testing.assert_close(alone, together[index], rtol=1e-4, atol=1e-5)
            said = everything[expected, index]
            torch.testing.assert_close(together[index], said, rtol=1e-4, atol=1e-5)
    assert len(exits.unique()) > 1  # or nothing is shown


@pytest.mark.parametrize("name", NETS)
def test_later_blocks_see_only_who_stays(name: str) -> None:
    method = small_method(name)
    images = some_images()
    with torch.no_grad():
        method.threshold.fill_(half_leave(method, images))
        seen: list[int] = []
        steps = method.net.steps
        for step in steps:
            step.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        method(images)
        place = method.after[0]
        counts = torch.bincount(method.exits, minlength=len(method.after) + 1).tolist()
        assert counts[0] == 6
        expected = [12] * place
        for left, (start, stop) in zip(
            itertools.accumulate(counts[:-1]),
            itertools.pairwise([*method.after, len(steps)]),
            strict=True,
        ):
            expected += [12 - left] * (stop - start if left < 12 else 0)
        assert seen == expected
        seen.clear()
        method.threshold.fill_(0.0)  # all leave at the first exit: nothing runs after it
        assert torch.equal(method(images), method.exit_logits(images)[0])
        assert seen[:place] == [12] * place and method.exits.tolist() == [0] * 12
        assert len(seen) == place + len(steps)  # these are of exit_logits


def test_loss_terms_equal_the_literal_sums() -> None:
    options = {"after": [1, 3], "exit_weights": [0.3, 0.7], "distillation": 0.4, "temperature": 2.0}
    method = small_method(**options).train()
    images, targets = some_images(), torch.arange(12) % 5
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    terms = {k: float(v.detach()) for k, v in method.loss_terms(images, targets, criterion).items()}
    first, second, last = method.exit_logits(images).detach()
    divergence = 0.0
    for logits in (first, second):
        for ours, theirs in zip(logits, last, strict=True):
            p, q = (theirs / 2.0).softmax(0).tolist(), (ours / 2.0).softmax(0).tolist()
            divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 12
    assert terms == {
        "classification": pytest.approx(float(criterion(last, targets))),
        "exit_after_1": pytest.approx(0.3 * float(criterion(first, targets))),
        "exit_after_3": pytest.approx(0.7 * float(criterion(second, targets))),
        "distillation": pytest.approx(0.4 * 2.0**2 * divergence / 2, rel=1e-4),
    }
    plain = small_method().train()
    assert "distillation" not in plain.loss_terms(images, targets, criterion)
    assert torch.equal(plain(images), plain.net(images))  # logits of the last exit
    method.loss_terms(images, targets, criterion)["distillation"].backward()
    assert all(head[1].weight.grad.any() for head in method.heads)
    assert not method.net.head.weight.grad.any()  # the last exit teaches, and learns nothing of it


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    method = small_method(name, distillation=0.5).train()
    terms = method.loss_terms(some_images(), torch.arange(12) % 5, nn.CrossEntropyLoss())
    sum(terms.values()).backward()
    assert [n for n, p in method.named_parameters() if p.grad is None] == []
    assert all(p.grad.any() for p in method.heads.parameters())


@pytest.mark.parametrize("name", ["vit", "swin_t"])
def test_macs_are_those_of_the_parts_that_ran(name: str) -> None:
    method = small_method(name)
    size = 16 if name == "vit" else 12  # enlarged to 16
    macs = method.exit_macs(size)
    heads = [sum(p.numel() for p in head[1].parameters()) - 5 for head in method.heads]
    plain = cost(method.net, size)
    assert macs[-1] == cost(method, size).macs == plain.macs + sum(heads)
    parts = {part.name: part for part in plain.parts}
    steps = "blocks" if name == "vit" else "stages"
    running = parts["patch_embedding"].macs
    for index in range(len(getattr(method.net, steps))):
        running += parts[f"{steps}.{index}"].macs
        if index + 1 in method.after:
            exit_index = method.after.index(index + 1)
            assert macs[exit_index] == running + sum(heads[: exit_index + 1])
    assert method.macs_used.tolist() == []
    with torch.inference_mode():
        method(some_images(size=size))
    assert torch.equal(method.macs_used, macs[method.exits])


def test_macs_equal_the_closed_form() -> None:
    method = small_method(after=[1, 3])
    block = 17 * (24 * 72 + 24 * 24 + 2 * 24 * 40) + 2 * 17**2 * 24
    embedding, head = 16 * 48 * 24, 24 * 5
    expected = [
        embedding + block + head,
        embedding + 3 * block + 2 * head,
        embedding + 4 * block + 3 * head,
    ]
    assert method.exit_macs(16).tolist() == expected


def test_counting_leaves_no_trace_among_recorded_attention() -> None:
    method = small_method(threshold=2.0)
    with record_attention() as weights, torch.inference_mode():
        method(some_images())
    assert [each.shape for each in weights] == [(12, 4, 17, 17)] * 4
    assert method.macs_used.shape == (12,)
    assert len(weights) == 4


@pytest.mark.parametrize("criterion", CRITERIA)
def test_trade_offs_equal_brute_force(criterion: str) -> None:
    probabilities, labels = some_probabilities(4, 40), torch.arange(40) % 4
    macs = torch.tensor([1.0, 2.5, 4.0, 7.0])
    thresholds, accuracy, used = trade_offs(probabilities, labels, macs, criterion)
    lower = [*thresholds[1:].tolist(), -1.0]  # where the next ones leave
    different = set()
    for place, threshold in enumerate((thresholds + torch.tensor(lower)).div(2).tolist()):
        exits = [literal_exit(each, criterion, threshold) for each in probabilities.unbind(1)]
        right = [int(probabilities[e, i].argmax() == labels[i]) for i, e in enumerate(exits)]
        assert float(accuracy[place]) == pytest.approx(sum(right) / 40)
        assert float(used[place]) == pytest.approx(sum(macs[e].item() for e in exits) / 40)
        different.add(tuple(exits))
    assert len(different) == len(thresholds)
    surest = confidences(probabilities, criterion)[:-1].cummax(dim=0).values.unique()
    assert len(thresholds) == 1 + len(surest)  # every threshold that makes a difference
    assert used[0] == 7.0 and (used.diff() < 0).all()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(
    "target", ["accuracy_drop:0", "accuracy_drop:0.3", "accuracy_drop:5", "macs:0.6", "macs:0.9"]
)
def test_the_picked_threshold_serves_its_target_best(criterion: str, target: str) -> None:
    draws = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 4, (200,), generator=draws)
    logits = torch.randn(3, 200, 4, generator=draws)
    for place, strength in enumerate((1.0, 2.0, 3.0)):  # later exits know more
        logits[place, torch.arange(200), labels] += strength
    probabilities, macs = logits.softmax(dim=2), torch.tensor([1.0, 2.0, 4.0])
    picked = pick_threshold(probabilities, labels, macs, target, criterion)
    every = confidences(probabilities, criterion)

    def served(threshold: float) -> tuple[float, float]:
        sure = torch.cat((every[:-1] >= threshold, torch.ones(1, 200, dtype=torch.bool)))
        exits = sure.int().argmax(dim=0)
        said = probabilities[exits, torch.arange(200)].argmax(dim=1)
        return float((said == labels).double().mean()), float(macs[exits].double().mean())

    all_served = [served(t) for t in [9.0, *every.flatten().tolist()]]
    full = served(9.0)[0]
    accuracy, used = served(picked.threshold)
    assert picked.accuracy_gained == pytest.approx(accuracy - full)
    assert picked.macs_left == pytest.approx(used / 4.0)
    kind, _, value = target.partition(":")
    if kind == "accuracy_drop":
        allowed = [m for a, m in all_served if full - a <= float(value) / 100 + 1e-9]
        assert full - accuracy <= float(value) / 100 + 1e-9
        assert used == pytest.approx(min(allowed))
    else:
        allowed = [a for a, m in all_served if m <= float(value) * 4.0]
        assert used <= float(value) * 4.0
        assert accuracy == pytest.approx(max(allowed))


def test_a_threshold_picked_is_a_threshold_used() -> None:
    method = small_method()
    images, labels = some_images(60), torch.arange(60) % 5
    with torch.no_grad():
        probabilities = method.exit_logits(images).softmax(dim=2)
        thresholds, accuracy, used = trade_offs(probabilities, labels, method.exit_macs(16))
        for place in (0, len(thresholds) // 3, len(thresholds) // 2, len(thresholds) - 1):
            # between two that differ: the batch that is left computes in another order
            later = thresholds[min(place + 1, len(thresholds) - 1)]
            method.threshold.copy_((thresholds[place] + later) / 2)
            said = method(images).argmax(dim=1)
            assert float((said == labels).double().mean()) == pytest.approx(float(accuracy[place]))
            assert float(method.macs_used.mean()) == pytest.approx(float(used[place]))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("accuracy_drop", "accuracy_drop:0.3"),
        ("accuracy_drop:little", "macs:0.6"),
        ("accuracy_drop:-1", "macs:0.6"),
        ("accuracy_drop:nan", "macs:0.6"),
        ("macs:1.5", "at most 1"),
        ("macs:0", "macs:0.6"),
        ("time:0.5", "accuracy_drop:0.3"),
        ("macs:0.2", "out of reach: an image that leaves at the first exit has 0.250"),
    ],
)
def test_targets_that_cannot_be_are_one_line(target: str, words: str) -> None:
    macs = torch.tensor([1.0, 2.0, 4.0])
    given = some_probabilities(3, 20), torch.arange(20) % 4, macs, target
    assert words in refused(pick_threshold, *given)


def test_the_threshold_survives_a_checkpoint_and_an_average() -> None:
    method = small_method(threshold=0.4)
    images = some_images()
    twin = EarlyExit(nets.vit(), 16).eval()
    twin.load_state_dict(method.state_dict())
    assert float(twin.threshold) == pytest.approx(0.4)
    assert torch.equal(twin(images), method(images)) and torch.equal(twin.exits, method.exits)
    names = [n for n in method.state_dict() if n != "threshold"]
    assert all(name.startswith(("net.", "heads.")) for name in names)
    assert all(torch.isfinite(each).all() for each in method.buffers())
    averaged = torch.lerp(method.threshold, method.threshold, 0.1)
    assert torch.equal(averaged, method.threshold)
    with torch.inference_mode():
        method(images)
        used = method.macs_used
    copied = copy.deepcopy(method)
    assert torch.equal(copied.macs_used, used) and torch.equal(copied(images), twin(images))


@pytest.mark.parametrize("name", ["vit", "coatnet"])
def test_autocast_trains_and_evaluates(name: str) -> None:
    method = small_method(name, distillation=0.5, threshold=0.5).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.loss_terms(some_images(), torch.arange(12) % 5, nn.CrossEntropyLoss())
        logits = method.eval()(some_images())
        again = method(some_images())
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    assert logits.shape == (12, 5) and torch.isfinite(logits).all() and torch.equal(logits, again)


def test_the_choice_of_conf_builds_it() -> None:
    choice = OmegaConf.load(ROOT / "conf" / "lightweight" / "early_exit.yaml")
    build = partial(instantiate(choice, _convert_="all"), image_size=16)
    assert build(nets.vit(depth=7)).after == [2, 4, 5]
    assert build(nets.coatnet()).after == [1, 2]
    assert build(nets.vit()).threshold == pytest.approx(choice.threshold)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"after": [3, 1]}, "ascending numbers from 1 to 3"),
        ({"after": [4]}, "ascending numbers from 1 to 3"),
        ({"after": []}, "ascending numbers from 1 to 3"),
        ({"after": [1, 2], "exit_weights": [1.0]}, "one for each of the 2 exits"),
    ],
)
def test_wrong_values_are_one_line(options: dict[str, object], words: str) -> None:
    assert words in refused(EarlyExit, nets.vit(), 16, **options)


def test_a_net_that_it_does_not_fit_is_one_line() -> None:
    line = refused(EarlyExit, EarlyExit(nets.vit(), 16), 16)
    assert "does not fit EarlyExit, which has no steps" in line


@pytest.mark.parametrize(("depth", "places"), [(2, [1]), (3, [1, 2]), (4, [1, 2, 3])])
def test_shallow_nets_have_as_many_exits_as_they_can(depth: int, places: list[int]) -> None:
    assert EarlyExit(nets.vit(depth=depth), 16).after == places
    assert "two blocks or stages at least" in refused(EarlyExit, nets.vit(depth=1), 16)
