"""What an evaluation leaves, with a net of one layer on images of nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure import evaluate as module
from leanvit.evaluation.measure.adjust import adjust_probabilities, choose_tau
from leanvit.evaluation.measure.calibration import fit_temperature
from leanvit.evaluation.measure.evaluate import Predicted, evaluate
from leanvit.evaluation.measure.predict import Trained, predict

CLASSES = ("cat", "dog", "eel")
COUNTS = [150, 60, 9]
CPU = torch.device("cpu")


def images(n: int, seed: int) -> ImageSet:
    """Noise, a third of it a little brighter in the channel of its class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pixels = torch.randint(0, 200, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(n), labels] += 25
    return ImageSet(pixels, labels, CLASSES)


@pytest.fixture
def trained() -> Trained:
    """Three times the mean of each channel: right more often than not, and too sure."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(3).repeat_interleave(16, dim=1) * 12 / 16)
        net[1].bias.copy_(torch.tensor([0.5, 0.0, -0.5]))  # learned that eels are rare
    half = torch.full((3,), 0.5)
    return Trained(net, half, half / 2, CLASSES, 4, bfloat16=False)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_draw", lambda *given: None)


SETS = {"val": images(60, 0), "test": images(90, 1)}


def run(folder: Path, trained: Trained, sets=SETS, counts=COUNTS, **options) -> dict:
    metrics = evaluate(folder, trained, sets, counts, "nothing", CPU, {"seed": 3}, **options)
    kept = json.loads((folder / "metrics.json").read_text())
    assert kept.keys() == metrics.keys() and kept["test"] == metrics["test"]
    return metrics


def test_the_temperature_comes_from_validation_and_is_used_on_both(trained, tmp_path):
    metrics = run(tmp_path, trained)
    val = predict(trained, SETS["val"], CPU).numpy()
    expected = fit_temperature(val, SETS["val"].labels.numpy())
    assert metrics["val"]["temperature"] == metrics["test"]["temperature"] == expected > 1.2
    assert metrics["val"]["nll_scaled"] < metrics["val"]["nll"]
    assert metrics["test"]["calibration_error_scaled"] < metrics["test"]["calibration_error"]
    assert None not in metrics["test"]["shots"].values()
    assert "logit_adjust" not in metrics
    for name in ("confusion_matrix", "recall_by_class", "reliability"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200


@pytest.mark.usefixtures("no_figures")
def test_other_images_are_scaled_by_what_validation_said_before(trained, tmp_path):
    own = Predicted(predict(trained, SETS["val"], CPU).numpy(), SETS["val"].labels.numpy())
    alone = {"test": SETS["test"]}
    whole = run(tmp_path / "whole", trained)
    assert run(tmp_path / "known", trained, alone, validation=own)["test"] == whole["test"]
    unknown = run(tmp_path / "unknown", trained, alone)["test"]
    assert unknown["temperature"] is None and unknown["nll_scaled"] is None
    assert unknown["calibration_error"] == whole["test"]["calibration_error"]


@pytest.mark.usefixtures("no_figures")
def test_logits_are_adjusted_after_the_same_predictions(trained, tmp_path):
    plain = run(tmp_path / "plain", trained)
    metrics = run(tmp_path / "tau", trained, logit_adjust=1)
    assert metrics["logit_adjust"] == {"tau": 1.0, "chosen_on_validation": False}
    with np.load(tmp_path / "plain" / "predictions.npz") as before:
        given = dict(before)
    with np.load(tmp_path / "tau" / "predictions.npz") as after:
        for name in ("val", "test"):
            expected = adjust_probabilities(given[f"{name}_probabilities"], COUNTS, 1.0)
            np.testing.assert_array_equal(after[f"{name}_probabilities"], expected)
            np.testing.assert_array_equal(after[f"{name}_labels"], given[f"{name}_labels"])
        val = after["val_probabilities"], after["val_labels"]
    assert metrics["test"]["temperature"] == fit_temperature(*val)
    assert metrics["test"]["shots"]["few"] > plain["test"]["shots"]["few"]

    same = run(tmp_path / "zero", trained, logit_adjust=0.0)
    assert {**same, "logit_adjust": None} == {**plain, "logit_adjust": None}


@pytest.mark.usefixtures("no_figures")
def test_tau_is_chosen_on_validation(trained, tmp_path):
    own = Predicted(predict(trained, SETS["val"], CPU).numpy(), SETS["val"].labels.numpy())
    metrics = run(tmp_path / "a", trained, logit_adjust="val")
    tau = choose_tau(*own, COUNTS)
    assert metrics["logit_adjust"] == {"tau": tau, "chosen_on_validation": True}
    alone = {"test": SETS["test"]}
    other = run(tmp_path / "b", trained, alone, validation=own, logit_adjust="val")
    assert other["test"] == metrics["test"]
    for counts, sets, words in [
        (COUNTS, alone, "logit_adjust=val needs the validation predictions"),
        ([5, 0, 1], SETS, "has none"),
    ]:
        with pytest.raises(LeanvitError, match=words) as error:
            run(tmp_path / "c", trained, sets, counts, logit_adjust="val")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "c" / "metrics.json").exists()


def test_a_net_that_diverged_is_one_line(trained, tmp_path):
    nn.init.constant_(trained.net[1].weight, float("nan"))
    with pytest.raises(LeanvitError, match="diverged"):
        run(tmp_path, trained, logit_adjust="val")
