"""Libraries without what nobody has asked for: a training starts in half of the time.

- torchmetrics imports torchvision and matplotlib, for metrics of detection and for plots.
- Lightning imports torch._dynamo, and with it sympy, for a class that marks compiled nets; so does
  torch.optim before its first step, to keep its own methods out of what is compiled
  (:mod:`leanvit.optimizers` for the step itself).

Whoever compiles a net (``compile=true``) gets torch._dynamo from torch.compile itself. This module
is imported before whatever imports Lightning.
"""

import sys
from types import ModuleType
from typing import Any

NOT_WANTED = ("torchvision", "matplotlib")  # by torchmetrics


def import_lightning() -> None:
    """Import Lightning; what is imported already stays."""
    import torch
    from lightning_utilities.core.imports import RequirementCache

    look = RequirementCache._check_available

    def look_elsewhere(self: Any) -> None:
        if self.requirement in NOT_WANTED:
            self.available = False
        look(self)

    stub: Any = ModuleType("torch._dynamo")
    stub.OptimizedModule = type("OptimizedModule", (), {})  # no net is an instance of it
    stub.disable = lambda function, *_, **__: function  # of logging, which no net does
    is_stub = "torch._dynamo" not in sys.modules
    if is_stub:
        sys.modules["torch._dynamo"] = stub
    RequirementCache._check_available = look_elsewhere  # type: ignore[method-assign]
    try:
        import lightning.pytorch  # noqa: F401
        import torchmetrics  # noqa: F401
    finally:
        RequirementCache._check_available = look  # type: ignore[method-assign]
        if is_stub:
            del sys.modules["torch._dynamo"]
    for method in vars(torch.optim.Optimizer).values():
        code = getattr(method, "__code__", None)
        if code is not None and code.co_filename == torch._compile.__file__:
            # what torch looks for before it imports torch._dynamo
            method.__wrapped__.__dynamo_disable = method.__wrapped__


if "lightning" not in sys.modules:
    import_lightning()
