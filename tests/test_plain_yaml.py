"""YAML that somebody handed on: read as quickly as any, and to an end."""

import pytest
import yaml
from scripts import ROOT

from leanvit import plain_yaml


def test_values_are_those_of_the_slow_loader() -> None:
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert plain_yaml.load(text) == yaml.load(text, yaml.SafeLoader), path


@pytest.mark.parametrize("depth", [101, 10**5])  # the latter ends libyaml's own reader
def test_what_has_no_bottom_is_refused(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, "a: " + "{a: " * depth + "}" * depth):
        with pytest.raises(yaml.YAMLError, match="more than 100 deep"):
            plain_yaml.load(text)
    plain_yaml.load("[" * 100 + "]" * 100)


def test_aliases_are_refused_unless_they_are_wanted() -> None:
    text = "a: &a [1, 2]\nb: *a\n"
    with pytest.raises(yaml.YAMLError, match="an alias"):
        plain_yaml.load(text)
    assert plain_yaml.load(text, aliases=True) == {"a": [1, 2], "b": [1, 2]}
