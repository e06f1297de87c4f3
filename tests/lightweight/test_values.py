"""What the constructors of methods take: their annotations, through the one check of values."""

from typing import Any

import pytest

from leanvit.classifiers.tau_norm import TauNorm
from leanvit.compression.prune import Prune
from leanvit.compression.quantize import Quantize
from leanvit.errors import LeanvitError
from leanvit.lightweight.a_vit import AViT
from leanvit.lightweight.deit_lt import DeiTLT
from leanvit.lightweight.distill import Distill
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.evit import EViT
from leanvit.lightweight.tome import ToMe
from leanvit.pretraining.autoencoder import Autoencoder
from leanvit.pretraining.mae import MAE
from leanvit.values import check

REFUSED: list[tuple[type, str, list[Any]]] = [
    (AViT, "target_depth", [0.0, 4, "half"]),
    (AViT, "gamma", [0.0, float("nan")]),
    (AViT, "beta", [float("inf"), None]),
    (DeiTLT, "beta", [1, -0.1]),
    (DeiTLT, "weight", [2, -0.1]),
    (DynamicViT, "after", [[0, 1], [1.5], "x", [True]]),
    (DynamicViT, "ratios", [[0.5, 1.5], [0], None]),
    (DynamicViT, "keep", ["best"]),
    (DynamicViT, "tau", [1.5, -0.1]),
    (DynamicViT, "predictor_dim", [0, 2.5]),
    (DynamicViT, "teacher", ["outputs/a_run", 1]),
    (DynamicViT, "ratio_weight", [-1]),
    (Distill, "kind", ["fast"]),
    (Distill, "weight", [2, -0.1]),
    (Distill, "temperature", [0, float("inf")]),
    (EarlyExit, "after", [[0], ["x"]]),
    (EarlyExit, "exit_weights", [[-1.0], ["x"]]),
    (EarlyExit, "criterion", ["luck"]),
    (EarlyExit, "threshold", [float("inf"), "high"]),
    (EarlyExit, "temperature", [0]),
    (EViT, "keep_rate", [0.0, 1.5]),
    (EViT, "blocks", [[-1], [1, True]]),
    (ToMe, "r", [-1, 8.5, [1, -1], True]),
    (Prune, "macs", [0, 1, 1.5]),
    (Prune, "steps", [0]),
    (Prune, "epochs", [-1]),
    (Prune, "lr_scale", [0]),
    (Prune, "batches", [0]),
    (Prune, "multiple", [0]),
    (Prune, "importance", ["hessian"]),
    (Quantize, "mode", ["int8", "weight_only"]),
    (MAE, "mask_ratio", [0.0, 1.0]),
    (MAE, "decoder_dim", [0]),
    (Autoencoder, "decoder_dim", [0, 1.5]),
    (TauNorm, "tau", [-0.5]),
]
TAKEN: list[tuple[type, dict[str, Any]]] = [
    (ToMe, {"r": 8}),
    (ToMe, {"r": [0, 4]}),
    (DynamicViT, {"after": None, "ratios": [0.5, 1], "predictor_dim": None, "teacher": True}),
    (EarlyExit, {"after": [1, 2], "exit_weights": None, "threshold": 2}),
    (EViT, {"keep_rate": 1, "blocks": [0]}),
    (TauNorm, {"tau": None}),
]


@pytest.mark.parametrize(("taker", "name", "values"), REFUSED)
def test_refused(taker: type, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(LeanvitError, match=rf"^lightweight\.{name}=.* (must|not)") as error:
            check(taker, {name: value}, "lightweight.")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("taker", "values"), TAKEN)
def test_taken(taker: type, values: dict[str, Any]) -> None:
    check(taker, values)
