"""Being asked to end - Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal - without losing finished work."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_ASKED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C's asks the program to end; what handles an interrupt handles it too."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number  # of the signal


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Stopped inside the block, as Ctrl-C raises KeyboardInterrupt.

    Not where the program's user or another part of it decided otherwise (nohup ignores SIGHUP), and not outside of the
    main thread, where signals do not come.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in _ASKED:
                if signal.getsignal(number) is signal.SIG_DFL:
                    stack.callback(signal.signal, number, signal.signal(number, _stop))
        yield


def exit_code(error: KeyboardInterrupt) -> int:
    """What a shell expects of a program that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


def word(error: KeyboardInterrupt) -> str:
    """How a message calls it."""
    return f"stopped by {signal.Signals(error.number).name}" if isinstance(error, Stopped) else "interrupted"


def whole(function: Callable[..., None]) -> Callable[..., None]:
    """A function that none of these can stop halfway; the first that comes takes effect when it returns or fails.

    It is the function itself where signals do not come, or do something else.
    """
    if threading.current_thread() is not threading.main_thread():
        return function
    held = [number for number in (signal.SIGINT, *_ASKED)
            if signal.getsignal(number) in (signal.default_int_handler, _stop)]  # fmt: skip
    if not held:
        return function

    @functools.wraps(function)
    def shielded(*arguments: Any) -> None:
        caught: list[int] = []
        try:
            with contextlib.ExitStack() as stack:
                for number in held:
                    stack.callback(signal.signal, number, signal.signal(number, lambda came, _: caught.append(came)))
                function(*arguments)
        finally:  # an error of the function is then the context of the exception that a signal raises
            if caught:
                signal.getsignal(caught[0])(caught[0], None)

    return shielded


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
