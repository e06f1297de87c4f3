"""Names in figures as they are written: no formula, and each letter in a font that has it.

Class names and paths come from people: ``price_$5_to_$10`` is no mathematics, and the fonts that
matplotlib brings have no Chinese. What they lack is looked for in the fonts that it knows on this
machine; a class whose letters are in none of them is shown by its number.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from leanvit.errors import first_of

if TYPE_CHECKING:
    import matplotlib.figure

GRID = "LEANVIT_GRID"  # of the environment: the folder of the grid that a job is of
SAID = ".no-font"
MAX_LETTERS = 40  # of a name beside a bar or a row: longer ones leave the panel no room


def drawable(names: Sequence[str]) -> list[str]:
    """Class names as a figure can show them; where letters are in no font, by their number, from 0,
    which one line on standard error says."""
    shown = [" ".join(name.split()) for name in names]
    nowhere = _in_no_font("".join(shown))
    lacking = [index for index, name in enumerate(shown) if nowhere & set(name)]
    for index in lacking:
        shown[index] = str(index)
    if lacking:
        which = first_of([f"{index} is {names[index]!r}" for index in lacking])
        _say_once(
            f"no font on this machine has the letters of {len(lacking)} class names: figures show "
            f"numbers, {which}; a font such as Noto Sans CJK helps"
        )
    return [name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}…" for name in shown]


@contextmanager
def as_written(figure: "matplotlib.figure.Figure") -> Iterator[None]:
    """Around the drawing of a figure: all its texts as they are."""
    import matplotlib
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    for text in texts:
        text.set_parse_math(False)
        if nowhere := _in_no_font(text.get_text()):
            text.set_text("".join("?" if each in nowhere else each for each in text.get_text()))
    found = list(dict.fromkeys(name for name in _found.values() if name))
    for text in texts if found else ():
        text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *found])))
    fonts = [*matplotlib.rcParams["font.family"], *found]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": fonts}):
        yield


_there: dict[str, set[str]] = {}  # letters that a font was seen to have, by its path
_found: dict[str, str | None] = {}  # letters that the first font lacks: the family that has them


def _in_no_font(text: str) -> set[str]:
    """The letters of a text that no font has."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    first = findfont(FontProperties())
    there = _there.setdefault(first, set())
    wanted = set(text) - _found.keys() - there - set("\n")
    there |= _letters(first, wanted) if wanted else set()
    wanted -= there
    if wanted:
        for font in fontManager.ttflist:
            if not font.name.startswith("Last Resort"):  # a box for everything
                got = _letters(font.fname, {each for each in wanted if each not in _found})
                _found.update(dict.fromkeys(got, font.name))
        _found.update({each: None for each in wanted if each not in _found})
    return {each for each in set(text) & _found.keys() if _found[each] is None}


def _letters(path: str, wanted: set[str]) -> set[str]:
    """Those that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # gone since matplotlib looked, or not drawn by it
        return set()
    return {each for each in wanted if font.get_char_index(ord(each))}


@cache
def _say_once(line: str) -> None:
    """Once in a process, and once in all jobs of a grid, which leave a mark in its folder."""
    if folder := os.environ.get(GRID):
        try:
            (Path(folder) / SAID).touch(exist_ok=False)
        except OSError:
            return
    print(line, file=sys.stderr)
