"""Signals: asked to end, a process ends, wherever it is just then."""

import signal
import threading
from collections.abc import Callable

import pytest

from leanvit.app import processes


@pytest.mark.parametrize(
    ("number", "stop"),
    [(signal.SIGTERM, processes.Stopped), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_is_heard_where_nothing_can_be_raised(
    number: int, stop: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the parent of a job while it is forked; a traceback was printed, and it went on."""

    class Freed:
        def __init__(self, then: Callable[[], None]) -> None:
            self.then = then

        def __del__(self) -> None:
            self.then()

    with pytest.raises(stop), processes.stoppable():
        Freed(lambda: signal.raise_signal(number))
        threading.Event().wait(60)
    assert capsys.readouterr().err == ""
