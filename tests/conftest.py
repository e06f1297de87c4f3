"""Shapes and types in signatures are checked while tests run; small nets are trained once."""

import os
from pathlib import Path

import pytest

# before torch is imported: a child that is forked from here would wait for its threads for ever
os.environ["OMP_NUM_THREADS"] = "1"

from jaxtyping import install_import_hook

install_import_hook("leanvit", "type_checks.checked")

from scripts import TINY_COATNET, TINY_DATA, TINY_VIT, call  # noqa: E402


def trained(outputs: Path, *net: str) -> Path:
    done = call("train.py", *TINY_DATA, *net, "trainer=cpu", "batch_size=64", f"outputs={outputs}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def vit_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of two blocks, trained for an epoch; who writes into it takes a copy."""
    deep = ["model.depth=2", "max_epochs=1", "mix=none"]
    return trained(tmp_path_factory.mktemp("vit"), *TINY_VIT, *deep)


@pytest.fixture(scope="session")
def coatnet_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CoAtNet, trained for an epoch; who writes into it takes a copy."""
    return trained(tmp_path_factory.mktemp("coatnet"), *TINY_COATNET, "max_epochs=1", "mix=none")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and evaluations leave no figures, which take a second: also in jobs forked from here."""
    for name in ("evaluation.measure.evaluate._draw", "app.train.class_counts",
                 "app.train.learning_curves"):  # fmt: skip
        monkeypatch.setattr(f"leanvit.{name}", lambda *given: None)
