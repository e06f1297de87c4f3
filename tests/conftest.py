"""Shapes and types in signatures are checked while tests run; small nets are trained once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# before torch is imported: a child that is forked from here would wait for its threads for ever
os.environ["OMP_NUM_THREADS"] = "1"
# a shell that starts tests in the background lets them, and all that they start, ignore these
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("leanvit", "type_checks.checked")

import torch  # noqa: E402

# torch.export makes the first backward pass after it start threads, after which no fork can train;
# that first one is this
torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]

from scripts import TINY_COATNET, TINY_DATA, TINY_VIT, call, no_figures  # noqa: E402


def trained(outputs: Path, *net: str) -> Path:
    asked = [*TINY_DATA, *net, "trainer=cpu", "batch_size=64", f"outputs={outputs}"]
    with no_figures():
        done = call("train.py", *asked)
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
def undrawn() -> Iterator[None]:
    """See :func:`scripts.no_figures`."""
    with no_figures():
        yield
