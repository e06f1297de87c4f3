"""README.md, its translation and docs/: their commands compose, and the two READMEs keep step."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import GROUPS, config_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from scripts import ROOT

from leanvit.app.command import as_list, take_own_parts

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINS = ("train", "pretrain", "compress")
TEXT = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh.md").read_text("utf-8")
LINK = r"\]\(([^)#]+)\)"
CODE = r"(?<!`)`([^`\n]+)`"


def blocks(text: str) -> list[str]:
    """Lines of code, without what they say to people."""
    lines = re.findall(r"^    (?! )(\S.*)$", text, re.MULTILINE)
    return [line.partition("  ")[0] for line in lines]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Names and words of all that is run by ``python src/...``."""
    joined = text.replace("\\\n", " ")
    spans = re.findall(r"^    +((?:[A-Z_]+=\S+ )?python src/.*)$", joined, re.MULTILINE)
    for line in [*spans, *re.findall(r"`(python src/[^`]+)`", joined)]:
        if "$" not in line and "<" not in line.partition("  #")[0]:
            words = shlex.split(line, comments=True)
            i = words.index("python")
            yield Path(words[i + 1]).stem, words[i + 2 :]


def compose(command: str, words: list[str]) -> None:
    """As the command does, with the first value of each that commas separate."""
    if "--help" in words or any(word.startswith("--config-dir") for word in words):
        return  # the folder is the user's: tests/app/test_own_parts.py
    words = [word for word in take_own_parts(words) if word not in ("-m", "--multirun")]
    if command == "complexity":  # it takes choices of train.py
        own = OmegaConf.load(ROOT / "conf" / f"{command}.yaml")
        words, command = [w for w in words if w.partition("=")[0] not in own], "train"
    if command not in TRAINS:
        words = [as_list(word) for word in words]
    first = []
    for each in OverridesParser.create().parse_overrides(words):
        is_interval = each.is_interval_sweep()
        is_sweep = each.is_sweep_override() and not is_interval
        start = f"{each.get_key_element()}="
        value = next(each.sweep_string_iterator()) if is_sweep else None
        first += [] if is_interval else [f"{start}{value}" if is_sweep else each.input_line]
    config_of(*first, command=command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_composes(page: Path) -> None:
    text = page.read_text("utf-8")
    for command, words in commands(text):
        try:
            compose(command, words)
        except Exception as error:
            pytest.fail(f"{page.name}: {command} {' '.join(words)}: {error}")
    for target in re.findall(LINK, text):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_is_short_and_names_every_choice() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 100
    for group in ("data", "model", "loss", "sampler", "augment", "mix", "classifier",
                  "lightweight", "method", "pretrain"):  # fmt: skip
        rows = "".join(line for line in lines if line.startswith("|") and f"`{group}=`" in line)
        named = set(re.findall(CODE, rows))
        assert set(GROUPS[group]) - {"vit_small"} <= named, group


def test_the_chinese_readme_keeps_step() -> None:
    assert blocks(CHINESE) == blocks(TEXT) and len(blocks(TEXT)) >= 15
    same = {"README.md": "README.zh.md"}
    links = [same.get(each, each) for each in re.findall(LINK, CHINESE)]
    assert links == re.findall(LINK, TEXT)
    for pattern in (r"^#+ ", r"^- ", r"^\|"):
        found = [len(re.findall(pattern, text, re.MULTILINE)) for text in (TEXT, CHINESE)]
        assert found[0] == found[1], pattern
    rows, translated = ([line for line in text.splitlines() if line.startswith("|")]
                        for text in (TEXT, CHINESE))  # fmt: skip
    for row, other in zip(rows, translated, strict=True):
        digits = r"\d[\d.]*"
        assert re.findall(CODE, row) == re.findall(CODE, other)
        assert re.findall(digits, row) == re.findall(digits, other)
    assert sorted(re.findall(CODE, TEXT)) == sorted(re.findall(CODE, CHINESE))
