"""Run the entry scripts as a person does, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# a training of seconds: small images sets, a small net
TINY_DATA = ["data=shapes", "data.num_train=400", "data.num_test=50"]
TINY_COATNET = [
    "model=coatnet",
    "model.dims=[8,12,16,24]",
    "model.depths=[1,1,1,1]",
    "model.transformer_heads=2",
    "model.transformer_dim_head=8",
]
TINY_VIT = ["model=vit", "model.dim=24", "model.depth=1", "model.heads=2", "model.mlp_dim=32"]


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "WANDB", "LEANVIT"))}
    return {**kept, **extra}


def start(script: str, *arguments: str, cwd: Path = ROOT, **extra: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env=environment(**extra),
    )


def run(
    script: str, *arguments: str, cwd: Path = ROOT, **extra: str
) -> subprocess.CompletedProcess:
    with start(script, *arguments, cwd=cwd, **extra) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read standard error up to the line that holds ``text``."""
    seen = []
    assert process.stderr is not None
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} never came:\n{''.join(seen)}")


def only_run(outputs: Path) -> Path:
    (config,) = outputs.glob("*/*/config.yaml")
    return config.parent
