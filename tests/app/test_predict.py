"""The command that classifies images without labels, and a trained net in Python."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import write_failed_run
from image_trees import tar_of, write_image, zip_of
from rich.cells import cell_len
from scripts import ROOT, call
from unlabelled import odd_images, wanted

from leanvit.app.finished import Run
from leanvit.app.predict import summarise
from leanvit.evaluation.measure.answers import Answer, Tally

pytestmark = pytest.mark.xdist_group("trained")  # one fixture for all


@pytest.fixture
def run(vit_run: Path, tmp_path: Path) -> Path:
    """A run of one's own, in a folder whose name has signs of its own."""
    return shutil.copytree(vit_run, tmp_path / "出 a=b" / "run")


def told(*arguments: str, cwd: Path = ROOT) -> tuple[str, str]:
    """Standard output and standard error."""
    done = call("predict.py", *arguments, "device=cpu", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def refused(*arguments: str, cwd: Path = ROOT) -> str:
    """The one line that it is refused by."""
    done = call("predict.py", *arguments, "device=cpu", cwd=cwd)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_is_answered(run: Path, tmp_path: Path) -> None:
    odd_images(tmp_path / "照片 a=b")
    out, err = told(f"run=出 a=b/{run.name}", "images=照片 a=b", "tta=flip", cwd=tmp_path)
    assert len(err.splitlines()) == 3 and "no image by its name: 照片 a=b/notes.txt" in err
    assert "3 images, classified by run" in out and max(map(len, out.splitlines()[:-2])) <= 80
    (folder,) = (run / "predicted").iterdir()
    assert folder.name.startswith("照片 a=b-") and folder.name.endswith("-flip")
    assert out.splitlines()[-2:] == [f"{folder}/predictions.csv", f"{folder}/least_certain.html"]
    rows = rows_of(folder)
    read = [row for row in rows if row["class"]]
    assert {Path(row["image"]).name for row in rows if row["error"]} == {"cut.jpg", "empty.png"}
    assert len(rows) == 5 and len(read) == 3
    found = wanted(run, [tmp_path / row["image"] for row in read], "flip")
    classes = Run(run).classes
    for row, probabilities in zip(read, found, strict=True):
        values, places = probabilities.topk(3)
        assert [row["class"], row["class_2"], row["class_3"]] == [classes[k] for k in places]
        three = [row["probability"], row["probability_2"], row["probability_3"]]
        assert list(map(float, three)) == pytest.approx(values.tolist(), abs=2e-3)


def test_the_page_is_one_file_and_names_are_text(run: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    config = run / "config.yaml"
    best = run / "checkpoints" / "best.ckpt"
    classes = [hostile, *Run(run).classes[1:]]
    config.write_text(config.read_text().replace(f"- {Run(run).classes[0]}", f"- '{hostile}'", 1))
    contents = torch.load(best)
    contents["state_dict"]["net.head.bias"][0] += 50  # its answer to all
    torch.save({**contents, "classes": classes}, best)
    photos = zip_of(odd_images(tmp_path / "photos"), tmp_path / "photos.zip")
    told(f"run={run}", f"images={photos}", f"output={tmp_path}/out", "num_images=2")
    page = (tmp_path / "out" / "least_certain.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert "The 2 least certain of 3 images" in page and page.count("<figure>") == 2
    assert page.count("data:image/jpeg;base64,") == 2 and "http:" not in page
    assert rows_of(tmp_path / "out")[0]["class"] == hostile


def test_folders_globs_files_and_lists(run: Path, tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.png", "c[1].png", "d,e.png", "f.dat"):
        write_image(tmp_path / name.replace(".dat", ".png"), seed=0)
    (tmp_path / "f.png").rename(tmp_path / "f.dat")
    zip_of(tmp_path / "a", tmp_path / "a.zip")
    for given, names in {
        "a.zip": ["a.zip/1.png", "a.zip/b/2.png"],
        "a": ["a/1.png", "a/b/2.png"],
        "*.png": ["c[1].png", "d,e.png"],
        "**/*.png": ["a/1.png", "a/b/2.png", "c[1].png", "d,e.png"],
        "c[1].png": ["c[1].png"],
        "d,e.png": ["d,e.png"],
        "f.dat,a/1.png,a": ["f.dat", "a/1.png", "a/b/2.png"],
    }.items():
        asked = [f"run={run}", f"images={given}", "output=out", "num_images=0"]
        _, err = told(*asked, cwd=tmp_path)
        assert [row["image"] for row in rows_of(tmp_path / "out")] == names and err == ""
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]


def test_many_are_classified_batch_by_batch(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanvit.evaluation.measure.answers.BATCH", 3)
    for place in range(10):
        write_image(tmp_path / "many" / f"{place}.png", seed=place, size=32)
    for place in range(15):
        (tmp_path / "many" / f"{place}.jpg").touch()
        (tmp_path / "many" / f"{place}.xml").touch()
    _, err = told(f"run={run}", f"images={tmp_path}/many", f"output={tmp_path}/out")
    lines = err.splitlines()
    assert len(lines) == 22 and lines[10].startswith("and 5 more that cannot be read")
    assert lines[-1] == "and 5 more that are no images by their names: 5 .xml"
    rows = [row for row in rows_of(tmp_path / "out") if row["class"]]
    found = wanted(run, [Path(row["image"]) for row in rows]).amax(dim=1)
    said = [float(row["probability"]) for row in rows]
    assert said == pytest.approx(found.tolist(), abs=2e-3)
    page = (tmp_path / "out" / "least_certain.html").read_text()
    shown = [page.index(f">{Path(rows[k]['image']).name}<") for k in np.argsort(said)]
    assert shown == sorted(shown)


def test_what_cannot_be_is_one_line(run: Path, tmp_path: Path, monkeypatch) -> None:
    write_image(tmp_path / "a.png", seed=0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").touch()
    failed, image = write_failed_run(tmp_path / "failed"), f"images={tmp_path}/a.png"
    for arguments, words in [
        ([f"run={run}", f"images={tmp_path}/empty"], "empty holds no image that Pillow reads: "),
        ([f"run={run}", f"images={tmp_path}/text"], "no image that Pillow reads, but 1 .txt"),
        ([f"run={run}", f"images={tmp_path}/broken"], "none of 1 images can be read; the first: "),
        ([f"run={run}", f"images={tmp_path}/*.gif"], "no file matches images="),
        ([f"run={run}", f"images={tmp_path}/none"], "there is no images="),
        ([f"run={run}", "images="], "images= is empty"),
        ([f"run={run}", image, f"output={tmp_path}/a.png/x"], "a.png is a file"),
        ([f"run={run}", image, "output=x.csv"], "output=x.csv is a file's name"),
        ([f"run={run}", image, "num_images=501"], "num_images=501 must be less than"),
        ([f"run={run},{run}", image], "classified by one run"),
        ([f"run={failed}", image], "failed is not a finished run"),
        ([f"run={tmp_path}/nowhere", image], "no run directory"),
    ]:
        assert words in refused(*arguments), words
    assert "a.tar is a tar: unpack it" in refused(
        f"run={run}", f"images={tar_of(tmp_path / 'broken', tmp_path / 'a.tar')}"
    )
    (run / "metrics.json").rename(run / "pretraining.json")
    assert "was pretrained and classifies nothing yet" in refused(f"run={run}", image)
    assert not (run / "predicted").exists()


def test_long_names_fit_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    classes = ["长" * 60, "w" * 90, "[red]x[/red]", *map(str, range(30))]
    tally = Tally(3)
    ranked = [[(classes[k], 0.5), (classes[k + 1], 0.4)] for k in (0, 1, 2, 25)]
    answers = (Answer(Path("图" * 50, f"{k}.jpg"), each) for k, each in enumerate(ranked))
    assert len(list(tally.seen(answers))) == 4 and len(tally.least_certain()) == 3
    summarise(tally, classes, "run")
    out = capsys.readouterr().out
    assert max(map(cell_len, out.splitlines())) <= 80
    for words in ("长…", "w…", "[red]x[/red]", "图/0.jpg", "and 0 images of 13 other classes"):
        assert words in out, words
