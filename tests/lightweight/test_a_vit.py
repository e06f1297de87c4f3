"""A-ViT: masked and packed against a loop over tokens; its losses, what it costs, and refusals."""

import copy
import math
import re
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from image_trees import refused
from nets import cct, images_of, linformer_vit, scattered, vit
from omegaconf import OmegaConf
from scripts import ROOT
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.a_vit import AViT, Halting, ponder_loss, prior_loss
from leanvit.models.attention import record_attention
from leanvit.models.vit import ViT
from leanvit.models.vit_b_16 import ViTB16

small_vit = partial(vit, depth=5)
NEVER, AT_ONCE = {"beta": -1e4}, {"beta": 1e4}


def small_method(net: ViT | None = None, **changes: object) -> AViT:
    """Weights away from their start, and scores that halt at every block: of few seeds."""
    method = AViT(net or small_vit(), **{"gamma": 1.2, "beta": -1.6, **changes})
    return scattered(method, seed=47).double().eval()


some_images = partial(images_of, 8, dtype=torch.float64)


def literal(method: AViT, image: Tensor) -> tuple[Tensor, list[int], list[list[Tensor]]]:
    """Logits of one image; depth and halting probabilities of each of its tokens."""
    net = method.net
    tokens = dict(enumerate(net.begin(image[None])[0]))
    summed, probabilities = dict.fromkeys(tokens, 0.0), [[] for _ in tokens]
    read = 0.0
    for index, block in enumerate(net.blocks):
        if not tokens:
            break
        after = block(torch.stack(list(tokens.values()))[None])[0]
        tokens = dict(zip(tokens, after, strict=True))
        for name, token in list(tokens.items()):
            score = torch.sigmoid(method.gamma * token[0] + method.beta)
            halts = summed[name] + score >= 0.99 or index == len(net.blocks) - 1
            probability = 1 - summed[name] if halts else score
            probabilities[name].append(torch.as_tensor(probability, dtype=torch.float64))
            if name == 0:
                read = read + probability * token
            summed[name] = summed[name] + score
            if halts:
                del tokens[name]
    return net.head(net.norm(read)), [len(each) for each in probabilities], probabilities


def test_masked_equals_a_loop_over_tokens_and_so_do_its_losses() -> None:
    method, criterion = small_method(), nn.CrossEntropyLoss()
    images, targets = images_of(5, dtype=torch.float64).requires_grad_(), torch.arange(5)
    logits, halting = method.masked(images)
    twins = [literal(method, image) for image in images]
    torch.testing.assert_close(logits, torch.stack([t[0] for t in twins]), atol=1e-10, rtol=0)
    depths = torch.tensor([t[1] for t in twins])
    assert torch.equal(halting.alive.sum(dim=0), depths)
    assert depths.unique().tolist() == [1, 2, 3, 4, 5]  # or nothing is shown
    assert depths[:, 0].min() < 5

    ponder, mass = 0.0, [0.0] * 5
    for _, _, probabilities in twins:
        for of_token in probabilities:
            ponder = ponder + (len(of_token) + of_token[-1]) / (5 * 17)
            for block, probability in enumerate(of_token):
                mass[block] = mass[block] + probability / (5 * 17)
    assert sum(mass).item() == pytest.approx(1.0)
    bell = [math.exp(-((block - 0.5 * 5) ** 2) / 2) for block in range(1, 6)]
    bell = [each / sum(bell) for each in bell]
    prior = sum(each * (each / height).log() for each, height in zip(mass, bell, strict=True))
    expected = {
        "classification": criterion(torch.stack([t[0] for t in twins]).float(), targets),
        "ponder": 5e-4 * ponder,
        "prior": 0.1 * prior,
    }
    terms = method.loss_terms(images, targets, criterion)
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.ndim == 0
        torch.testing.assert_close(term, expected[name], atol=1e-10, rtol=0)
        grads = [
            torch.autograd.grad(x, images, retain_graph=True)[0] for x in (term, expected[name])
        ]
        assert grads[0].any()
        torch.testing.assert_close(*grads, atol=1e-6 if name == "classification" else 1e-10, rtol=0)


def test_losses_of_numbers_that_can_be_checked_by_hand() -> None:
    # one token halts in block 1 of 2, the other in block 2
    alive = torch.tensor([[[True, True]], [[False, True]]])
    probabilities = torch.tensor([[[1.0, 0.25]], [[0.0, 0.75]]])
    found = ponder_loss(Halting(alive, probabilities))
    assert float(found) == pytest.approx(((1 + 1) + (2 + 0.75)) / 2)
    # the bell is as high at both, the mean is 5/8 and 3/8
    divergence = 5 / 8 * math.log(5 / 4) + 3 / 8 * math.log(3 / 4)
    assert float(prior_loss(probabilities, 1.5)) == pytest.approx(divergence, abs=1e-6)
    nobody = torch.tensor([[[1.0]], [[0.0]]], requires_grad=True)
    loss = prior_loss(nobody, 1.5)
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert torch.isfinite(torch.autograd.grad(loss, nobody)[0]).all()


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_packed_equals_masked(batch: int) -> None:
    method, images = small_method(), images_of(batch, dtype=torch.float64)
    logits, halting = method.masked(images)
    torch.testing.assert_close(method(images), logits, atol=1e-10, rtol=0)
    depths = halting.alive.sum(dim=0)
    depths = depths.minimum(depths[:, :1])  # nothing goes on when [CLS] does not
    assert torch.equal(method.depths, depths)
    expected = torch.stack([depths[:, 1:] > block for block in range(5)], dim=1)
    assert torch.equal(method.kept, expected)
    if batch == 40:
        assert depths[:, 0].unique().numel() > 2
        assert depths.sum(dim=1).unique().numel() > 10


def test_images_do_not_see_each_other() -> None:
    method, images = small_method(), images_of(12, dtype=torch.float64)
    with torch.no_grad():
        together, depths = method(images), method.depths
        assert torch.equal(method(images), together)
        for index, image in enumerate(images):
            torch.testing.assert_close(method(image[None])[0], together[index], rtol=0, atol=1e-10)
            assert torch.equal(method.depths[0], depths[index])


def test_where_nobody_halts_it_is_the_net() -> None:
    method = small_method(small_vit(dropout=0.1, drop_path_rate=0.5), **NEVER)
    for mode in (True, False):
        torch.manual_seed(3)
        expected = method.net.train(mode)(some_images())
        torch.manual_seed(3)
        torch.testing.assert_close(method.train(mode)(some_images()), expected, atol=1e-10, rtol=0)
    assert method.kept.shape == (8, 5, 16) and method.kept.all()
    assert method.macs_used.tolist() == [cost(method.net, 16).macs] * 8


def test_where_all_halt_at_once_one_block_is_read_and_paid() -> None:
    method, images = small_method(**AT_ONCE), some_images()
    expected = method.net.head(
        method.net.norm(method.net.blocks[0](method.net.begin(images))[:, 0])
    )
    for logits in (method(images), method.masked(images)[0]):
        torch.testing.assert_close(logits, expected, atol=1e-10, rtol=0)
    assert method.kept.sum(dim=(1, 2)).tolist() == [16] * 8
    block = 17 * (24 * 72 + 24 * 24 + 2 * 24 * 40) + 2 * 17**2 * 24
    assert method.macs_used.tolist() == [16 * 48 * 24 + block + 24 * 5] * 8
    terms = method.train().loss_terms(images, torch.arange(8) % 5, nn.CrossEntropyLoss())
    sum(terms.values()).backward()
    assert float(terms["ponder"].detach()) == pytest.approx(5e-4 * 2)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_macs_are_those_of_what_is_alive() -> None:
    method = small_method()
    before = cost(method, 16)
    assert before.macs == cost(method.net, 16).macs  # without images to look at: the most
    method(some_images())
    assert method.macs_used.dtype == torch.float64
    for used, depths in zip(method.macs_used.tolist(), method.depths.tolist(), strict=True):
        macs = 16 * 48 * 24 + 24 * 5
        for block in range(5):
            alive = sum(depth > block for depth in depths)
            macs += alive * (24 * 72 + 24 * 24 + 2 * 24 * 40) + 2 * alive**2 * 24
        assert used == macs < before.macs
    assert cost(method, 16) == before


def test_every_parameter_gets_a_gradient_and_keeps_its_name() -> None:
    method = small_method(small_vit(dropout=0.1, drop_path_rate=0.1), beta=-2.5).train()
    assert list(method.state_dict()) == [f"net.{name}" for name in method.net.state_dict()]
    terms = method.loss_terms(some_images(), torch.arange(8) % 5, nn.CrossEntropyLoss())
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert method.kept.shape == (0, 5, 16) and len(method.macs_used) == 0  # evaluation's


@pytest.mark.parametrize(
    ("target_depth", "low", "high", "bfloat16"), [(0.4, 0.4, 0.8, False), (0.8, 0.8, 0.97, True)]
)
def test_tokens_learn_to_halt_around_the_target_depth(
    target_depth: float, low: float, high: float, bfloat16: bool
) -> None:
    torch.manual_seed(0)
    method = AViT(small_vit(depth=4), target_depth)
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    optimizer = torch.optim.AdamW(method.parameters(), lr=8e-3)
    for step in range(24):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            terms = method.loss_terms(images, labels, nn.CrossEntropyLoss())
        if step == 0:  # at first nobody halts: 4 blocks, and a remainder of 1
            assert float(terms["ponder"].detach()) == pytest.approx(5e-4 * 5, rel=0.01)
        loss = sum(terms.values())
        assert torch.isfinite(loss) and loss.dtype == torch.float32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        share = float(method.masked(images)[1].alive.double().mean())
        logits = method.eval()(images)
    assert low < share < high
    assert torch.isfinite(logits).all()


def test_bfloat16_autocast_packs_what_it_masks() -> None:
    method, images = small_method().float(), some_images().float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        errors = (method(images) - method.masked(images)[0]).abs()
    assert errors.median() < 0.1  # a token on the threshold may halt in one and not in the other


def test_attention_kernels_agree_and_are_recorded() -> None:
    images, logits = some_images(), []
    for kernel in ("sdpa", "math"):
        method = small_method(small_vit(attention=kernel))
        logits.append((method(images), method.masked(images)[0]))
    for ours, theirs in zip(*logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    with record_attention() as records:
        method(images[:1])
    alive = (method.depths[0] > torch.arange(5)[:, None]).sum(dim=1)
    assert [each.shape for each in records] == [(1, 4, n, n) for n in alive.tolist() if n]
    with record_attention() as records:
        alive = method.masked(images)[1].alive
    for weights, seen in zip(records, alive, strict=True):
        assert not weights.masked_select(~seen[:, None, None]).any()
        there = seen.any(dim=1)
        torch.testing.assert_close(
            weights.sum(dim=3)[there], torch.ones_like(weights[there, :, :, 0])
        )


def test_a_method_that_has_predicted_can_be_copied_and_reloaded() -> None:
    method, images = small_method(), some_images()
    with torch.inference_mode():
        expected = method(images)
    assert torch.equal(copy.deepcopy(method)(images), expected)
    twin = AViT(small_vit(), gamma=1.2, beta=-1.6).double().eval()
    twin.load_state_dict(method.state_dict())
    assert torch.equal(twin(images), expected)


def test_the_choice_of_the_command_line_is_the_papers() -> None:
    choice = OmegaConf.load(ROOT / "conf" / "lightweight" / "a_vit.yaml")
    build = instantiate(choice, _convert_="all")
    method = build(small_vit())
    plain = AViT(small_vit())
    for name in ("target_depth", "gamma", "beta", "ponder_weight", "prior_weight"):
        assert getattr(method, name) == getattr(plain, name)
    with torch.device("meta"):
        assert build(ViTB16(32, num_classes=5, weights=None)).num_patches == 196


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (cct(), "does not fit CCT, .* it fits model=vit and vit_b_16"),
        (linformer_vit(), "does not fit LinformerViT, whose attention wants all tokens: it fits"),
        (AViT(small_vit()), "does not fit AViT, .* it fits model=vit"),
        (small_vit(readout="mean"), "does not fit model.readout=mean: .* take cls"),
        (small_vit(readout="token:3"), "does not fit model.readout=token: .* take cls"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_mend(net: nn.Module, line: str) -> None:
    assert re.search(line, refused(AViT, net))
