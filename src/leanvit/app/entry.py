"""What the entry scripts call. Nothing is imported here before Ctrl-C is one line."""

import sys


def train(command: str, description: str | None) -> None:
    """:func:`leanvit.app.command.train`."""
    _call("train", command, description)


def ask(command: str, description: str | None, of_train: bool = False) -> None:
    """:func:`leanvit.app.command.ask`."""
    _call("ask", command, description, of_train)


def _call(name: str, *given: object) -> None:
    try:
        from leanvit.app import command

        getattr(command, name)(*given)
    except KeyboardInterrupt:  # while that is imported; afterwards it answers itself
        print("interrupted: nothing has begun", file=sys.stderr)
        sys.exit(130)
