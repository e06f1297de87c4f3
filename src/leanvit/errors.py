"""The one exception that carries a message for the person at the keyboard."""

from collections.abc import Collection
from itertools import islice


class LeanvitError(Exception):
    """Bad input: the message is one line that says what, where and how to mend it.

    The entry scripts print it to standard error without a traceback and exit with status 1;
    ``HYDRA_FULL_ERROR=1`` shows the traceback.
    """


class SharedError(LeanvitError):
    """As above, of what other jobs of a grid need, too: the images, room on the disk."""


def one_line(error: Exception) -> str:
    """What an exception says, for the middle of a message."""
    return " ".join(str(error).split()) or type(error).__name__


def first_of(items: Collection[object], num: int = 5, between: str = ", ") -> str:
    """``a, b and 12 more``: so many by name, for the middle of a message."""
    named = between.join(str(item) for item in islice(items, num))
    left = len(items) - num
    return f"{named}{between.strip(' ,')} and {left:,} more" if left > 0 else named
