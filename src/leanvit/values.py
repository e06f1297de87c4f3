"""The values that a choice takes: its constructor's annotations say them, and are checked here.

``depth: Count`` is a type for readers and for mypy, and the range that ``model.depth=0`` is refused
by. There is no other list of keys and ranges.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from leanvit.errors import LeanvitError

Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]  # a probability, a part of a whole
Between = Annotated[float, Gt(0), Lt(1)]  # neither nothing nor all
PositiveShare = Annotated[float, Gt(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]

# 1 is a float, true is no number; inf and nan are none that a file or a loss could have
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def check(taker: Callable[..., Any], values: Mapping[str, Any], where: str = "") -> None:
    """See that ``taker`` would take these values.

    Args:
        taker: a class or a function; parameters without an annotation take anything.
        values: plain ones (numbers, words, lists, ``None``), by parameter.
        where: what stands before a name in the message, such as ``"model."``.

    Raises:
        LeanvitError: a name that it does not have, or a value outside its annotation.
    """
    hints = annotations(taker)
    for name, value in values.items():
        if name not in hints:
            raise LeanvitError(f"there is no {where}{name}: {nearest(name, hints, where)}")
        try:
            TypeAdapter(hints[name], config=STRICT).validate_python(value)
        except ValidationError as error:
            raise LeanvitError(f"{where}{name}={_told(value)} {_words(error)}") from None


def annotations(taker: Callable[..., Any]) -> dict[str, Any]:
    """What each parameter takes, by name."""
    function = taker.__init__ if inspect.isclass(taker) else taker
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    names = [name for name in inspect.signature(taker).parameters if name != "self"]
    return {name: hints.get(name, Any) for name in names}


def offered(taker: Callable[..., Any], **offers: Any) -> dict[str, Any]:
    """Those of the offers that ``taker`` names among its parameters."""
    names = inspect.signature(taker).parameters
    return {name: value for name, value in offers.items() if name in names}


def nearest(name: str, names: Iterable[str], where: str = "") -> str:
    """Names that are like one that does not exist, as advice."""
    known = sorted(names)
    close = [where + each for each in get_close_matches(name, known, n=3, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(where + each for each in known)}"


def _told(value: Any) -> str:
    """As it is written on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_told, value))}]"
    return "null" if value is None else str(value).lower() if value in (True, False) else str(value)


def _words(error: ValidationError) -> str:
    """Pydantic's sentences as the end of one."""
    told = [each["msg"].removeprefix("Input ").replace("should be", "must be")
            for each in error.errors()]  # fmt: skip
    told = ["must be a list" if each.endswith("instance of Sequence") else each for each in told]
    return " or ".join(dict.fromkeys(told))
