"""The order of a grid's jobs: one seed of all before the next, and cheap jobs before dear ones."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType

# what makes a job dear, besides the values of a net and of a method
DEAR = ("experiment", "model", "lightweight", "max_epochs", "data.image_size")


def ordered(overrides: Sequence[str], cost: Callable[[list[str]], float]) -> list[str]:
    """The words of a grid as Hydra is to have them: the first varies slowest, from left to right.

    Seeds stand first, then what makes jobs dear, the cheapest of its values first; the rest stays
    as it is. Of ``range()``, ``sort()`` and the like the user has said the order.

    Args:
        cost: of a job; one that it cannot tell, by an exception, comes last.
    """
    parsed = _last_of_each(OverridesParser.create().parse_overrides(list(overrides)))
    plain = [_values(each)[:1] or [each.input_line or ""] for each in parsed]

    def dear(number: int, word: str) -> float:
        others = [one for (one,) in (*plain[:number], *plain[number + 1 :])]
        with suppress(Exception):  # the job itself will tell
            return cost([*others, word])
        return float("inf")

    found = []
    for number, each in enumerate(parsed):
        key, values, word = each.get_key_element(), _values(each), each.input_line or ""
        is_dear = key in DEAR or key.startswith(("model.", "lightweight."))
        if is_dear and each.value_type == ValueType.SIMPLE_CHOICE_SWEEP and len(values) > 1:
            costs = {value: dear(number, value) for value in values}
            values.sort(key=costs.__getitem__)
            told = ",".join(value.partition("=")[2] for value in values)
            found.append((1, f"{key}={told}"))
        else:
            found.append((0 if key == "seed" else 2, word))
    return [word for _, word in sorted(found, key=lambda each: each[0])]


def _last_of_each(parsed: Sequence[Override]) -> list[Override]:
    """Of several values of a key the last counts, which may come first in the new order."""
    last = {each.get_key_element(): each for each in parsed}
    return [each for each in parsed if each.is_delete() or each is last[each.get_key_element()]]


def _values(each: Override) -> list[str]:
    """``key=value`` of each value that can be counted out."""
    if not each.is_sweep_override():
        return []
    with suppress(Exception):  # an interval of a search, a glob
        return [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
    return []


def planned_macs(composed: Any) -> float:
    """Multiply-accumulates of the net of a config, times its epochs; torch is imported for it."""
    import torch

    from leanvit.app.complexity import whole_net
    from leanvit.app.nets import without_file
    from leanvit.evaluation.cost.cost import cost

    config, threads = without_file(composed), torch.get_num_threads()
    torch.set_num_threads(1)  # jobs are forked from here, and OpenMP's threads do not come along
    try:
        with torch.device("meta"):
            net = whole_net(config, config.model.get("num_classes") or 10)
            return cost(net, config.data.image_size).macs * config.max_epochs
    finally:
        torch.set_num_threads(threads)
