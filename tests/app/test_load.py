"""A trained net in Python."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_trees import write_image
from PIL import Image
from scripts import ROOT
from unlabelled import odd_images, wanted

import leanvit
from leanvit.app.finished import Run
from leanvit.app.nets import load_run
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.trained_net import TrainedNet

pytestmark = pytest.mark.xdist_group("trained")  # one fixture for all


def test_a_net_in_python(vit_run: Path, tmp_path: Path) -> None:
    odd_images(tmp_path / "photos")
    paths = [tmp_path / "photos" / name for name in ("cmyk.jpg", "wide.png", "夏 2024/<i>a&b.webp")]
    net = leanvit.load(vit_run)
    assert not any(module.training for module in net.modules())
    assert net.classes == Run(vit_run).classes and net.image_size == 32
    found = net.probabilities(paths)
    assert torch.equal(found, wanted(vit_run, paths))
    assert torch.equal(net.probabilities(map(Image.open, map(str, paths))), found)
    best = found.max(dim=1)
    assert net.predict([str(path) for path in paths]) == [
        (net.classes[k], p) for k, p in zip(best.indices, best.values.tolist(), strict=True)
    ]
    assert net.predict(paths[0]) == net.predict(paths)[:1] and net.predict([]) == []


def test_a_net_is_called_with_images(vit_run: Path) -> None:
    net = leanvit.load(vit_run)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    logits = net(images)
    normalised = load_run(Run(vit_run)).inputs(images, torch.device("cpu"))
    torch.testing.assert_close(logits, net.net(normalised))
    torch.testing.assert_close(net(images / 255), logits)
    torch.testing.assert_close(net.probabilities(images), logits.softmax(1), atol=0.01, rtol=0.05)
    logits.sum().backward()
    net.train()
    net.predict(Image.new("RGB", (9, 9)))
    assert net.training and net.net.training
    assert net.double()(images.double() / 255).dtype == torch.float64


def wrong(net: TrainedNet) -> dict[str, Callable[[], object]]:
    images = torch.rand(1, 3, 32, 32)
    return {
        r"images are \(3, 32, 32\), the net takes \(n, 3, 32, 32\)": lambda: net(images[0]),
        r"images are \(1, 3, 40, 40\)": lambda: net(torch.rand(1, 3, 40, 40)),
        "float32 in -2.5 to .* net.net takes normalised": lambda: net(5 * images - 2.5),
        "float32 in .* to 255": lambda: net(torch.full_like(images, 255)),
        "images are torch.float32: give uint8": lambda: net.predict(images),
        "cannot read image nowhere.png": lambda: net.predict("nowhere.png"),
        "cannot read .*mode=F.* no known range": lambda: net.predict(Image.new("F", (4, 4))),
    }


def test_what_was_pretrained_classifies_nothing(vit_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(vit_run, tmp_path / "run")
    (run / "metrics.json").rename(run / "pretraining.json")
    with pytest.raises(LeanvitError, match="was pretrained and classifies nothing yet"):
        leanvit.load(run)


def test_what_is_no_image_is_said(vit_run: Path) -> None:
    for words, ask in wrong(leanvit.load(vit_run)).items():
        with pytest.raises(LeanvitError, match=words):
            ask()


def test_the_readme_in_python(vit_run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Its example, with a run and images that there are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.partition("    import leanvit\n")[2].partition("\n\n")[0]
    program = "import leanvit\n" + "\n".join(line[4:] for line in lines.splitlines())
    assert program.count("\n") <= 6 and "outputs/..." in program
    for name in ("cat.jpg", "dog.png"):
        write_image(tmp_path / name, seed=0)
    monkeypatch.chdir(tmp_path)
    exec(program.replace("outputs/...", str(vit_run)), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[0].split()[0] in Run(vit_run).classes
