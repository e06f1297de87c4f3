"""The page of a comparison, in a browser: what one reads, sorts, filters, compares and copies."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import predictions, write_failed_run, write_fake_run
from PIL import Image

from leanvit.errors import LeanvitError
from leanvit.evaluation.comparison.compare import compare
from leanvit.evaluation.comparison.page import curves, disagreed, write_page
from leanvit.evaluation.measure.metrics import confusion_counts

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: tests/browser/install.sh gets it"),
]
MARKUP = "<img src=x onerror=alert(1)>/*SCRIPT*/</script><b>cat"
WRONG = range(0, 36, 2)  # test images


def thumbnails(run: Path, indices: Any) -> list[bytes]:
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file := io.BytesIO(), "JPEG")
    return [file.getvalue() for _ in indices]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs and a failed one; a class and a source are called as no tag should be."""
    folder = tmp_path_factory.mktemp("page")
    runs = [
        write_fake_run(folder / "a", loss="ce", source=MARKUP, val_wrong=[1, 2], test_wrong=WRONG),
        write_fake_run(folder / "b", loss="focal", source=MARKUP, test_wrong=range(9)),
        write_fake_run(folder / "c", loss="ldam", source=MARKUP, val_wrong=[0], test_wrong=[80, 81],
                       overrides={"max_epochs": 9}),
    ]  # fmt: skip
    for run, seconds in zip(runs, (30.0, 400.0, 90.0), strict=True):
        told = json.loads((run / "metrics.json").read_text())
        told["classes"][1] = MARKUP
        told["command"] = f"python src/train.py {run.name} 'a b'"
        told["training"]["seconds"] = seconds
        (run / "metrics.json").write_text(json.dumps(told))
    failed = [write_failed_run(folder / "d", "no space left")]
    write_page(compare(runs), folder / "page.html", failed, (), thumbnails)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as here:
        started = here.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=[1280, 390])
def page(folder: Path, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opened from the disk; nothing goes wrong on it and nothing leaves the machine."""
    context = browser.new_context(viewport={"width": request.param, "height": 900},
                                  permissions=["clipboard-read", "clipboard-write"])  # fmt: skip
    opened, faults = context.new_page(), []
    opened.on("console", lambda said: faults.append(said.text))
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:", "blob:"))
              or faults.append(asked.url))  # fmt: skip
    opened.goto((folder / "page.html").as_uri())
    opened.wait_for_selector("#calibration .main-svg")
    yield opened
    assert faults == []
    context.close()


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#rows tbody tr td:nth-child({number})").all_inner_texts()


def losses(page: Any) -> list[str]:
    return re.findall(r"loss=(ce|focal|ldam)", " ".join(column(page, 2)))


def test_sort_and_filter(page: Any) -> None:
    assert losses(page) == ["focal", "ldam", "ce"]
    heading = page.locator("#rows th", has_text="time")
    heading.click()
    assert losses(page) == ["ce", "ldam", "focal"]
    heading.click()
    assert losses(page) == ["focal", "ldam", "ce"]
    assert heading.get_attribute("aria-sort") == "descending"
    for words, left in [("max_epochs=9", ["ldam"]), ("test > 85", ["focal", "ldam"]),
                        ("LDAM seconds<10", []), ("", ["focal", "ldam", "ce"])]:  # fmt: skip
        page.fill("#filter", words)
        assert losses(page) == left
    assert page.inner_text("#count") == "3 of 3 rows"


def test_names_are_text(page: Any) -> None:
    assert MARKUP in page.inner_text("#source")
    assert page.locator("#source img, #images b, #rows b, .plot img").count() == 0
    assert "no space left" in page.inner_text("#left-out")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_copy_takes_the_command(page: Any) -> None:
    page.locator("#rows tbody tr").nth(1).get_by_text("copy").click()
    page.get_by_text("copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "python src/train.py c 'a b'"


def test_hover_shows_the_command_of_a_point(page: Any) -> None:
    page.locator("#pareto").scroll_into_view_if_needed()
    page.select_option("#cost", "macs")
    page.select_option("#accuracy", "test")
    box = page.locator("#pareto .scatterlayer .trace .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#pareto .hovertext")
    assert "python src/train.py" in page.locator("#pareto .hovertext").text_content()


def counts(wrong: Any) -> list[list[int]]:
    return confusion_counts(*predictions(90, wrong)).tolist()


def test_two_rows_are_compared(page: Any) -> None:
    """The best by validation and the reference at first; then what is chosen."""
    text = "document.getElementById('confusion-{}').data[0].text"
    assert page.evaluate(text.format("a")) == counts(range(9))
    assert page.evaluate(text.format("b")) == counts(WRONG)
    only_ce, only_focal = len(set(range(9)) - set(WRONG)), len(set(WRONG) - set(range(9)))
    told = page.inner_text("#disagreed")
    assert f"A alone is right in {only_focal} of 90 test images, B alone in {only_ce};" in told
    assert page.locator("#images figure").count() == only_focal + only_ce
    page.locator("#rows tbody tr").nth(1).get_by_text("B", exact=True).click()
    assert page.evaluate(text.format("b")) == counts([80, 81])
    assert "ldam" in page.inner_text("#pair")
    y = page.evaluate("document.getElementById('calibration').data[1]")
    assert y["y"] == [pytest.approx(90.0)] and y["x"] == [pytest.approx(80.0)]


def test_several_seeds_are_shown_together(tmp_path: Path, browser: Any) -> None:
    """Their mean and each of them in the curves; all in confusion, recall and calibration."""
    wrong = {"ce": (range(9), range(30)), "focal": ([0, 3], [0, 6])}
    config = "seed: {}\nlate: {{start: {}, a: {}, b: {}, c: {}}}\n"
    runs = []
    for loss, number in (("ce", 1), ("focal", 2)):
        for seed, images in enumerate(wrong[loss]):
            runs.append(write_fake_run(tmp_path / f"{loss}{seed}", loss=loss, seed=seed,
                                       test_wrong=images, num_epochs=4 - seed))  # fmt: skip
            (runs[-1] / "config.yaml").write_text(config.format(seed, *[number] * 4))
    table = compare(runs)
    write_page(table, tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("#calibration .main-svg")
    both = np.sum([confusion_counts(*predictions(90, each)) for each in wrong["focal"]], axis=0)
    assert "focal" in page.inner_text("#pair").partition("\nB ")[2]
    assert page.evaluate("document.getElementById('confusion-b').data[0].text") == both.tolist()
    assert "sum of 2 seeds" in page.inner_text("#confusion-b")
    calibration = page.evaluate("document.getElementById('calibration').data")
    right = [share for line in calibration[1:] for share in line["y"]]
    assert right == pytest.approx([100 * (1 - 39 / 180), 100 * (1 - 4 / 180)])
    drawn = page.evaluate("document.getElementById('curves').data")
    assert [len(each["x"]) for each in drawn] == [4, 3, 3] * 2  # each seed, their mean
    assert sum(each["showlegend"] for each in drawn) == 2
    assert page.inner_text("#tied").startswith("Row 1 is tied with row 2 on validation")
    assert "means over the seeds" in page.inner_text("#seeds")
    assert page.inner_text("summary") == "also in 4 values" and "late.start=" not in column(page, 2)
    page.click("summary")
    assert "late.start=" in " ".join(column(page, 2))
    page.close()


def test_the_curves_of_a_row_have_so_many_points_together(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / str(seed), seed=seed, num_epochs=300) for seed in range(3)]
    mean, *seeds = curves(runs)
    assert len(seeds) == 3 and 300 <= sum(len(each["epoch"]) for each in seeds) <= 403
    assert mean["val_accuracy"] == pytest.approx(seeds[0]["val_accuracy"])
    assert mean["epoch"][-1] == 299 and mean["spent"][-1] == 900
    one, short = curves(runs[:1]), write_fake_run(tmp_path / "short", seed=9, num_epochs=0)
    assert len(one) == 1 and len(one[0]["epoch"]) == 300
    assert curves([short, tmp_path]) == []


def test_the_images_are_those_that_most_pairs_see_otherwise() -> None:
    said = [np.array([0, 0, 0, 0, 1]), np.array([0, 1, 0, 0, 1]), np.array([0, 2, 0, 1, 1])]
    assert (
        disagreed(said, 9) == [1, 3] and disagreed(said, 1) == [1] and disagreed(said[:1], 9) == []
    )


def test_many_runs_and_runs_without_images(tmp_path: Path, browser: Any) -> None:
    """A page of 1,000 rows is no larger than one of few; images that are gone leave the rest."""

    def gone(run: Path, indices: Any) -> list[bytes]:
        raise LeanvitError("the images are gone")

    first = write_fake_run(tmp_path / "0", loss="ce")
    told = json.loads((first / "metrics.json").read_text())
    runs = [first]
    for number in range(1, 1000):
        run = tmp_path / str(number)
        shutil.copytree(first, run)
        told["choices_hash"], told["choices"]["loss"] = str(number), f"loss{number}"
        (run / "metrics.json").write_text(json.dumps(told))
        runs.append(run)
    write_page(compare(runs), tmp_path / "page.html", thumbnails=gone)
    assert (tmp_path / "page.html").stat().st_size < 15e6
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.fill("#filter", "loss77")
    assert page.inner_text("#count") == "11 of 1000 rows"
    assert page.locator("#images figure").count() == 0
    page.close()
