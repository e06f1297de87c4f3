"""What ``--help`` says: a script's docstring, then its choices and values in the words of conf/.

What a value means stands in the comment behind it, or above or below it; what a choice is, in the
first sentence of its file; those that a command takes of a group, if not all, behind ``; only`` in
the comment of its own file.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from leanvit.app import names, parts, request

OF_HYDRA = ("_target_", "_partial_")
MANY = 20  # choices of a group; more are named only
LAUNCHER = "hydra/launcher"


def text(command: str, description: str, arguments: Sequence[str] = ()) -> str:
    """The help of a command.

    Args:
        arguments: choices and values, of which is told what comes of them.
    """
    with initialize_config_dir(str(names.CONF)):
        config = compose(command, [*parts.search_path(), *arguments], return_hydra_config=True)
    choices = {str(key): value for key, value in config.hydra.runtime.choices.items()}
    if command == "train" and not choices["experiment"]:
        request.follow_recipe(config, choices, request.parse(arguments))
    said = meanings(names.CONF / f"{command}.yaml")
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    values: Any = OmegaConf.to_container(own, resolve=True)
    sections = ["\n".join(lines(choices, said))] if said.keys() & choices.keys() else []
    plain = {k: v for k, v in values.items() if k not in choices}
    sections.append("\n".join(["values:", *value_lines(plain, said)]))
    for group in (each for each in said if each in choices):
        place = group.rpartition("@")[2]
        if own_values := visible(values.get(place)):
            sections.append("\n".join(of_choice(group, choices[group], own_values)))
    return "\n\n".join([description.strip(), *sections])


def of_choice(group: str, choice: str | None, values: Mapping[str, Any]) -> Iterator[str]:
    """What was chosen of a group, and its values."""
    folder, _, place = group.partition("@")
    files = [each / folder / f"{choice}.yaml" for each in parts.folders()]
    path, place = next(each for each in files if each.is_file()), f"{place or folder}."
    yield textwrap.fill(f"{group}={choice}: {about(path)}", width())
    said = meanings(path)  # a file for all of the config has whole names
    said = {key if key.startswith(place) else place + key: word for key, word in said.items()}
    yield from value_lines(values, said, place)


def lines(choices: Mapping[str, str | None], said: Mapping[str, str]) -> Iterator[str]:
    """Each group that a command takes, what it is for, and what can be chosen."""
    yield "choices; what comes of one is shown with it: <choice>=<name> --help"
    for group in (each for each in said if each in choices and not each.endswith("_logging")):
        meaning, _, only = said[group].partition("; only ")
        yield from entry(f"{group}={choices[group] or ''}", meaning)
        paths = listed(group, re.findall(r"\w+", only))
        if len(paths) > MANY:
            yield from entry("", ", ".join(path.stem for path in paths))
        else:
            for path in paths:
                yield from entry(f"    {path.stem}", about(path))
    if LAUNCHER in said:
        yield from entry("-m", "a grid of all values that commas separate")


def listed(group: str, only: Sequence[str] = ()) -> list[Path]:
    """The files of a group, of which one is chosen; those of ``group@place`` are known by then."""
    paths = sorted(path for each in parts.folders() for path in (each / group).glob("*.yaml"))
    return [path for path in paths if not only or path.stem in only]


def about(path: Path) -> str:
    """The first sentence of a file of conf/, without its source."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "#   ")):
            words.append(line.removeprefix("#").strip())
    whole = re.sub(r" \([^()]*https?:[^()]*\)", "", " ".join(words)).strip()
    return re.split(r"(?<! al)\. ", whole)[0].rstrip(".:")


def visible(values: Any) -> dict[str, Any]:
    """What of a choice's values, if there are any, is for a person to give."""
    return {key: value for key, value in (values or {}).items() if key not in OF_HYDRA}


def value_lines(
    values: Mapping[str, Any], said: Mapping[str, str], where: str = ""
) -> Iterator[str]:
    """``key=value`` and its meaning, of all values but those of another choice."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from value_lines(value, said, f"{where}{key}.")
        else:
            yield from entry(f"{where}{key}={word(value)}", said.get(f"{where}{key}", ""))


def word(value: Any) -> str:
    """A value as a command line has it."""
    if isinstance(value, list):
        return f"[{','.join(map(word, value))}]"
    plain = {None: "null", True: "true", False: "false", "???": "..."}
    return (
        plain[value] if value is None or isinstance(value, bool) or value == "???" else str(value)
    )


def width() -> int:
    """Of the terminal, or where there is none, of what is read well."""
    return min(shutil.get_terminal_size((100, 24)).columns, 100)


def entry(name: str, meaning: str) -> Iterator[str]:
    """A name and, beside it, what it means, in as many lines as it takes."""
    room = 30 if width() > 80 else 26
    first = f"  {name:<{room}}  "
    if len(name) > room:
        yield f"  {name}"
        first = " " * (room + 4)
    for line in textwrap.wrap(meaning, max(width() - room - 4, 30)) or [""]:
        yield (first + line).rstrip()
        first = " " * (room + 4)


def meanings(path: Path) -> dict[str, str]:
    """What the comments of a file say of each key: those above it, behind it, and below it if they
    are indented. The choices of its defaults are keys, too; its first lines are of the file."""
    said: dict[str, list[str]] = {}
    above: list[str] = []
    parent = key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if comment := re.match(r"( *)# ?(.*)", line):
            (said[key] if comment[1] and key else above).append(comment[2])
        elif found := re.match(r"( *)(- )?(?:override )?([\w./@]+):(.*?)(?: +# ?(.*))?$", line):
            indent, is_choice, name, value, behind = found.groups()
            if not indent:
                parent = "" if value else f"{name}."
            above = above if key else []
            key = name if is_choice or not indent else f"{parent}{name}"
            said[key], above = [*above, behind or ""], []
    return {key: " ".join(words).strip() for key, words in said.items()}
