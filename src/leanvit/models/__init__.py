"""The architectures, one a file: ``from leanvit.models import ViT, Swin, CoAtNet``.

A class is found by its name in the file that bears it, when it is asked for: ``ViTConv`` in
``vit_conv.py``. So nothing is imported for the others' sake.
"""

import importlib
from pathlib import Path
from typing import Any

FILES = {path.stem.replace("_", ""): path for path in Path(__file__).parent.glob("*.py")}


def __getattr__(name: str) -> Any:
    path = FILES.get(name.lower())
    if path is None or name == path.stem:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{path.stem}"), name)
