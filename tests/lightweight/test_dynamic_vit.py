"""DynamicViT: masked against gathered, its terms against loops, its cost against closed forms."""

import copy
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from image_trees import refused
from nets import coatnet, images_of, linformer_vit, scattered, vit
from omegaconf import OmegaConf
from scripts import ROOT
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.alive_tokens import places_over, softmax_with_policy
from leanvit.lightweight.distill import soft_distillation
from leanvit.lightweight.dynamic_vit import DynamicViT, ratio_loss
from leanvit.lightweight.token_predictor import draw_decisions
from leanvit.lightweight.unpruned_teacher import token_distillation
from leanvit.models.attention import record_attention
from leanvit.models.vit import ViT
from leanvit.models.vit_b_16 import ViTB16

small_vit = partial(vit, depth=5)
some_images = partial(images_of, 6, dtype=torch.float64)
STAGES = {"after": [1, 3], "ratios": [0.5, 0.5], "predictor_dim": 16}


def small_method(net: ViT | None = None, **changes: object) -> DynamicViT:
    method = scattered(DynamicViT(net or small_vit(), **{**STAGES, **changes})).double()
    seen: list[Tensor] = []
    for predictor in method.predictors:  # each shall keep about half, and so of each image others
        handle = predictor.register_forward_hook(lambda _, __, output: seen.append(output))
        method.gathered(some_images())
        handle.remove()
        margin = (seen[-1][:, :, 0] - seen[-1][:, :, 1]).median()
        with torch.no_grad():
            predictor.score[-1].bias[0] -= margin + 1e-3  # no score on the threshold itself
    return method


@pytest.mark.parametrize("readout", ["cls", "mean"])
@pytest.mark.parametrize("keep", ["top_k", "threshold"])
def test_masked_and_gathered_are_one_function_of_the_decisions(keep: str, readout: str) -> None:
    method = small_method(small_vit(readout=readout), keep=keep).eval()
    images = some_images()
    gathered = method(images)
    counts = method.kept.sum(dim=2)
    if keep == "threshold":
        assert counts.unique(dim=0).shape[0] > 3  # images that differ, or nothing is shown
    else:
        assert (counts == torch.tensor([8, 4])).all()
    decisions = iter(method.kept.double().unbind(dim=1))
    scores = []

    def decide(log_probabilities: Tensor) -> Tensor:
        scores.append(log_probabilities[:, :, 0])
        return next(decisions)

    logits, _, kept = method.masked(images, decide)
    torch.testing.assert_close(logits, gathered, rtol=0, atol=1e-10)
    assert torch.equal(kept.transpose(0, 1).bool(), method.kept)
    for stage, each in enumerate(scores):  # the prediction modules saw the same in both, too
        each = each if stage == 0 else each.masked_fill(~method.kept[:, stage - 1], -torch.inf)
        for image, places in zip(each, method.kept[:, stage], strict=True):
            if keep == "top_k":
                expected = set(image.topk([8, 4][stage]).indices.tolist())
            else:
                expected = {i for i in range(16) if image[i].exp() >= 0.5} or {int(image.argmax())}
            assert set(places.nonzero()[:, 0].tolist()) == expected


def literal_softmax(scores: Tensor, policy: Tensor, eps: float = 0.0) -> Tensor:
    """Over what each query sees; with ``eps`` as the official code has it, for all scores."""
    batch, heads, tokens, _ = scores.shape
    weights = torch.zeros_like(scores)
    for b in range(batch):
        for h in range(heads):
            for i in range(tokens):
                row, largest = scores[b, h, i], scores[b, h, i].max().detach()
                seen = [1.0 if i == j else policy[b, j] for j in range(tokens)]
                shares = [(row[j] - largest).exp() * seen[j] for j in range(tokens)]
                total = sum(shares) + eps
                for j in range(tokens):
                    weights[b, h, i, j] = (shares[j] + eps / tokens) / total
    return weights


def test_softmax_sees_what_is_alive_and_gives_the_rest_a_gradient() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    alive = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 0, 0, 1.0]]).double().requires_grad_()
    values = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    found = []
    for softmax, eps in (
        (softmax_with_policy, ()),
        (literal_softmax, ()),
        (literal_softmax, (1e-6,)),
    ):
        weights = softmax(scores, alive, *eps)
        grads = torch.autograd.grad((weights @ values).sin().sum(), (scores, alive))
        found.append([weights, *grads])
    for ours, literal, official in zip(*found, strict=True):
        torch.testing.assert_close(ours, literal, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours, official, rtol=0, atol=1e-4)
    assert (found[0][0][0, :, 0, 2] == 0).all() and (found[0][0][0, :, 2, 2] > 0).all()
    assert (found[0][2] != 0).all()  # the dropped ones too
    far = scores.detach().float().clone()
    far[..., 2] = 1e4
    far.requires_grad_()
    policy = alive.detach().float().requires_grad_()
    weights = softmax_with_policy(far, policy)
    assert (weights[0, :, 0, 2] == 0).all()
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 2, 5))
    for grad in torch.autograd.grad(weights.square().sum(), (far, policy)):
        assert torch.isfinite(grad).all()


def test_decisions_are_drawn_and_pass_the_soft_gradient() -> None:
    logits = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    ours = draw_decisions(logits.log_softmax(dim=2))
    torch.manual_seed(3)
    theirs = F.gumbel_softmax(logits.log_softmax(dim=2), hard=True)[:, :, 0]
    weights = torch.randn(4, 3, dtype=torch.float64)
    grads = [torch.autograd.grad((x * weights).sum(), logits)[0] for x in (ours, theirs)]
    assert torch.equal(*grads) and grads[0].any()
    assert set(ours.unique().tolist()) <= {0.0, 1.0}  # exactly
    assert torch.equal(ours.detach().round(), theirs.detach().round())
    probability = torch.tensor([0.2, 0.8]).log().expand(1, 4000, 2)
    assert float(draw_decisions(probability).mean()) == pytest.approx(0.2, abs=0.03)


def test_terms_equal_literal_loops() -> None:
    torch.manual_seed(0)
    kept = torch.randint(0, 2, (2, 3, 4)).double()
    shares = [0.5, 0.25]
    per_image = [
        (sum(kept[s, b].tolist()) / 4 - shares[s]) ** 2 for s in range(2) for b in range(3)
    ]
    assert float(ratio_loss(kept, shares, True)) == pytest.approx(sum(per_image) / 6)
    whole = [(sum(kept[s].flatten().tolist()) / 12 - shares[s]) ** 2 for s in range(2)]
    assert float(ratio_loss(kept, shares, False)) == pytest.approx(sum(whole) / 2)

    logits, teacher = torch.randn(2, 3, 5).double().unbind()
    divergence = 0.0
    for image in range(3):
        p, q = teacher[image].softmax(0).tolist(), logits[image].softmax(0).tolist()
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(soft_distillation(logits, teacher, temperature=1.0)) == pytest.approx(
        divergence / 3
    )

    patches, theirs = torch.randn(2, 3, 4, 7).unbind()
    errors = [
        float((patches[b, i, c] - theirs[b, i, c]) ** 2)
        for b in range(3)
        for i in range(4)
        for c in range(7)
        if kept[1, b, i]
    ]
    found = token_distillation(patches, theirs, kept[1].float())
    assert float(found) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert float(token_distillation(patches, theirs, torch.zeros(3, 4))) == 0.0


def test_loss_terms_are_the_weighted_parts() -> None:
    method = small_method(teacher=True, ratio_weight=3.0, logit_weight=0.7, token_weight=0.2)
    unpruned = copy.deepcopy(method.net).eval()
    method.teacher.net.load_state_dict(unpruned.state_dict())
    method.train()
    images, labels = some_images(), torch.arange(6) % 5
    criterion = nn.CrossEntropyLoss()
    torch.manual_seed(5)
    terms = method.loss_terms(images, labels, criterion)
    torch.manual_seed(5)
    logits, patches, kept = method.masked(images, draw_decisions)
    assert (kept[1] <= kept[0]).all() and (kept[1] < kept[0]).any()  # what is gone stays gone
    tokens = unpruned.begin(images)
    for block in unpruned.blocks:
        tokens = block(tokens)
    expected = {
        "classification": criterion(logits, labels),
        "ratio": 3.0 * ratio_loss(kept, [8 / 16, 4 / 16], per_image=True),
        "logit_distillation": 0.7 * soft_distillation(logits, unpruned(images), temperature=1.0),
        "token_distillation": 0.2
        * token_distillation(patches, unpruned.norm(tokens)[:, 1:], kept[-1]),
    }
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.ndim == 0
        assert float(term.detach()) == pytest.approx(float(expected[name].detach()), abs=1e-5)
    plain = small_method().train().loss_terms(images, labels, criterion)
    assert list(plain) == ["classification", "ratio"]


def test_the_teacher_stays_what_the_net_was_and_out_of_everything() -> None:
    net = small_vit(drop_path_rate=0.5)
    method = DynamicViT(net, **STAGES, teacher=True).train()
    plain = DynamicViT(small_vit(), **STAGES)
    assert list(method.state_dict()) == list(plain.state_dict())
    assert len(list(method.parameters())) == len(list(plain.parameters()))
    images = some_images().float()
    ask = method.teacher.logits_and_patches
    before = ask(images)
    assert torch.equal(before[0], ask(images)[0])  # in evaluation mode
    assert not before[0].requires_grad
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    terms = method.loss_terms(images, torch.arange(6) % 5, nn.CrossEntropyLoss())
    sum(terms.values()).backward()
    optimizer.step()
    assert torch.equal(ask(images)[0], before[0])
    assert copy.deepcopy(method).teacher is method.teacher
    assert ask(images.double())[0].dtype == torch.float64


@pytest.mark.parametrize("readout", ["cls", "mean"])
def test_ratios_of_one_are_the_net_bit_for_bit(readout: str) -> None:
    net = scattered(small_vit(readout=readout)).eval()
    images = some_images().float()
    method = DynamicViT(net, after=[1, 3], ratios=[1.0, 1.0]).eval()
    predictors, method.predictors = method.predictors, None  # what would call them, fails
    assert torch.equal(method(images), net(images))
    assert method.kept.all()
    method.predictors = predictors
    method.keep, method.tau = "threshold", 0.0
    torch.testing.assert_close(method(images), net(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("readout", ["cls", "mean"])
def test_every_parameter_gets_a_gradient(readout: str) -> None:
    for of_forward in (True, False):
        method = small_method(small_vit(readout=readout)).train()
        if of_forward:
            method(some_images()).square().sum().backward()
        else:
            terms = method.loss_terms(some_images(), torch.arange(6) % 5, nn.CrossEntropyLoss())
            sum(terms.values()).backward()
        without = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []


@pytest.mark.parametrize("keep", ["top_k", "threshold"])
def test_logits_do_not_depend_on_the_batch(keep: str) -> None:
    method = small_method(keep=keep).float().eval()
    images = images_of(8).float()
    with torch.no_grad():
        together, kept = method(images), method.kept
        assert torch.equal(method(images), together)
        alone = []
        for index, image in enumerate(images):
            alone.append(method(image[None]))
            assert torch.equal(method.kept[0], kept[index])
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-5)


def test_places_over_a_threshold_equal_a_loop() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 7).sigmoid().log()
    scores[3] = -3.0 - torch.arange(7)  # nothing likely: the likeliest stays
    alive = torch.rand(5, 7) < 0.7
    alive[3, 0] = False
    places, is_place = places_over(scores, alive, 0.4)
    for image in range(5):
        there = [i for i in range(7) if alive[image, i]]
        expected = [i for i in there if scores[image, i].exp() >= 0.4]
        expected = expected or [max(there, key=lambda i: float(scores[image, i]))]
        assert places[image, is_place[image]].tolist() == expected
    assert is_place.sum(dim=1).max() == places.shape[1]  # padded to the longest, no further
    assert places_over(scores, None, 0.0)[1] is None


def test_macs_equal_the_closed_form() -> None:
    method = small_method().eval()
    method(images_of(2, dtype=torch.float64))
    block, predictor = 24 * 72 + 24 * 24 + 2 * 24 * 40, 24 * 16 + 16 * 8 + 8 * 4 + 4 * 2
    macs = 16 * 48 * 24 + 24 * 5 + (16 + 8) * predictor
    for tokens in (17, 9, 9, 5, 5):
        macs += tokens * block + 2 * tokens**2 * 24
    by_ratio = macs
    assert cost(method, 16).macs == by_ratio
    assert method.macs_used.tolist() == [by_ratio, by_ratio]

    method.keep = "threshold"
    method(some_images())
    for used, counts in zip(method.macs_used.tolist(), method.kept.sum(2).tolist(), strict=True):
        first, second = counts
        macs = 16 * 48 * 24 + 24 * 5 + (16 + first) * predictor
        for tokens in (17, 1 + first, 1 + first, 1 + second, 1 + second):
            macs += tokens * block + 2 * tokens**2 * 24
        assert used == macs
    # without images to look at, what the ratios aim at is counted
    assert cost(method, 16).macs == by_ratio


def test_the_published_row_is_reproduced() -> None:
    model = OmegaConf.load(ROOT / "conf" / "model" / "vit.yaml")
    model.update(OmegaConf.load(ROOT / "conf" / "experiment" / "vit_v1.4.yaml").model)
    model.update({"image_size": 32, "num_classes": 10})
    choice = OmegaConf.load(ROOT / "conf" / "lightweight" / "dynamic_vit.yaml")
    with torch.device("meta"):
        net = instantiate(model, _convert_="all")
        method = instantiate(choice, _convert_="all")(net, after=[3, 6, 9])
        wide = instantiate(choice, _convert_="all")(net, after=[3, 6, 9], predictor_dim=None)
    counted = cost(method, 32)
    assert abs(counted.thop_macs - 2.09e9) < 0.5e7
    # the published figures are without prediction modules
    narrow = 640 * 64 + 64 * 32 + 32 * 16 + 16 * 2 + 4 * 640  # and a norm, as thop counts it
    without = counted.thop_macs - (64 + 48 + 24) * narrow
    assert abs(without - 2.09e9) < 0.5e7
    assert counted.thop_params - 3 * 44946 == pytest.approx(49.26e6, abs=0.5e4)
    papers = 640 * 640 + 640 * 320 + 320 * 160 + 160 * 2 + 4 * 640
    assert cost(wide, 32).thop_macs == without + (64 + 48 + 24) * papers


def test_the_papers_cost_is_reproduced() -> None:
    """DynamicViT-384/0.7 of the official model zoo: 2.9 GFLOPs, as it calls MACs."""
    with torch.device("meta"):
        deit_s = ViT(224, 16, 1000, dim=384, depth=12, heads=6, mlp_dim=1536, qkv_bias=True)
        method = DynamicViT(deit_s, ratios=[0.7, 0.7, 0.7], predictor_dim=None)
        assert method.after == [3, 6, 9]
        assert abs(cost(method, 224).macs - 2.9e9) < 0.1e9
        assert DynamicViT(ViTB16(32, num_classes=5, weights=None)).after == [3, 6, 9]


@pytest.mark.parametrize("keep", ["top_k", "threshold"])
def test_autocast_trains_and_evaluates(keep: str) -> None:
    method = small_method(keep=keep, teacher=True).float().train()
    images, labels = some_images().float(), torch.arange(6) % 5
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.loss_terms(images, labels, nn.CrossEntropyLoss())
        logits = method.eval()(images)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
    torch.testing.assert_close(logits.float(), method(images), rtol=0, atol=2.0)


def test_weights_survive_a_checkpoint_and_an_average() -> None:
    method = small_method().eval()
    images = some_images()
    twin = DynamicViT(small_vit(), **STAGES).double().eval()
    twin.load_state_dict(method.state_dict())
    assert torch.equal(twin(images), method(images))
    names = list(method.state_dict())
    assert all(name.startswith(("net.", "predictors.")) for name in names)
    assert set(method.net.state_dict()) == {n[4:] for n in names if n.startswith("net.")}
    assert all(torch.isfinite(each).all() for each in method.buffers())
    with torch.inference_mode():
        method(images)
    assert torch.equal(copy.deepcopy(method)(images), twin(images))


def test_attention_is_recorded_over_what_is_left() -> None:
    for keep, shapes in (("top_k", [17, 9, 9, 5, 5]), ("threshold", None)):
        method = small_method(keep=keep).eval()
        expected = method(some_images())
        with record_attention() as weights:
            logits = method(some_images())
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
        sizes = [each.shape[-1] for each in weights]
        most = (1 + method.kept.sum(dim=2).amax(dim=0)).tolist()
        assert sizes == (shapes or [17, most[0], most[0], most[1], most[1]])
        for each in weights:
            torch.testing.assert_close(each.sum(dim=-1), torch.ones_like(each[..., 0]))


def test_training_learns_which_patches_tell_the_class() -> None:
    """One bright patch tells the class; all others are noise."""
    torch.manual_seed(0)
    method = DynamicViT(small_vit(depth=3), after=[1], ratios=[0.25], predictor_dim=16).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=4e-3)
    labels = torch.arange(64) % 5
    directions = torch.randn(5, 3, 4, 4)
    for _ in range(40):
        images, places = 0.3 * torch.randn(64, 3, 16, 16), torch.randint(0, 16, (64,))
        for image, label, place in zip(images, labels, places.tolist(), strict=True):
            top, left = 4 * (place // 4), 4 * (place % 4)
            image[:, top : top + 4, left : left + 4] += 2 * directions[label]
        loss = sum(method.loss_terms(images, labels, nn.CrossEntropyLoss()).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        _, _, drawn = method.masked(images, draw_decisions)
        accuracy = (method.eval()(images).argmax(dim=1) == labels).float().mean()
    assert abs(float(drawn.mean()) - 0.25) < 0.15
    assert accuracy > 0.9
    assert method.kept[torch.arange(64), 0, places].float().mean() > 0.9


def test_stages_spread_over_the_depth() -> None:
    choice = OmegaConf.load(ROOT / "conf" / "lightweight" / "dynamic_vit.yaml")
    build = instantiate(choice, _convert_="all")
    for depth, after in ((7, [2, 4, 5]), (12, [3, 6, 9]), (4, [1, 2, 3])):
        method = build(small_vit(depth=depth, readout="mean"))
        assert method.after == after
        assert method.counts == [12, 6, 2]
        assert all(a > b for a, b in pairwise([16, *method.counts]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"after": [3, 1]}, "ascending numbers from 1 to 4"),
        ({"after": [1, 5]}, "ascending numbers from 1 to 4"),
        ({"after": [0, 1]}, "ascending numbers from 1 to 4"),
        ({"after": [2]}, "does not place 2 stages"),
        ({"after": None, "ratios": []}, "does not place 0 stages"),
        ({"predictor_dim": 10}, "give a multiple of 4"),
    ],
)
def test_wrong_values_are_one_line(changes: dict[str, object], words: str) -> None:
    assert words in refused(DynamicViT, small_vit(), **{**STAGES, **changes})


def test_nets_that_it_does_not_fit_are_one_line() -> None:
    for net, words in (
        (coatnet(), "not fit CoAtNet"),
        (linformer_vit(), "wants all tokens"),
        (small_vit(readout="weighted"), "take cls or mean"),
    ):
        assert words in refused(DynamicViT, net)
