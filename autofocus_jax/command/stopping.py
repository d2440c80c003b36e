"""Being asked to end - Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal - without losing finished work.

`stoppable` raises an exception wherever the program is, `whole` waits for the end of a function, and `requests` only
remembers that somebody asked.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

_OTHERS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNALS = (signal.SIGINT, *_OTHERS)


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end. It is handled like Ctrl-C.

    Attributes:
        number: of the signal.
        step: last step of a training; everything up to it is saved.
    """

    def __init__(self, number: int, step: int | None = None):
        super().__init__()
        self.number, self.step = number, step


def exit_code(error: KeyboardInterrupt) -> int:
    """Return what a shell expects of a program that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


def word(error: KeyboardInterrupt) -> str:
    """Return the name of the signal for messages."""
    number = getattr(error, "number", signal.SIGINT)
    text = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    step = getattr(error, "step", None)
    return text if step is None else f"{text} after step {step}; everything is saved"


@contextlib.contextmanager
def stoppable(always: bool = False) -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Stopped inside the block, as Ctrl-C raises KeyboardInterrupt.

    A signal that the program's user or another part of it handles (nohup ignores SIGHUP) stays as it is, unless
    `always`. Signals come to the main thread alone; in others nothing changes.
    """
    with _handled(_stop, _OTHERS, lambda before: always or before is signal.SIG_DFL):
        yield


def whole(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function that no signal stops halfway; the first that comes takes effect when it returns or fails."""

    @functools.wraps(function)
    def shielded(*arguments: Any) -> None:
        caught: list[int] = []
        try:
            with _handled(
                lambda number, _: caught.append(number),
                SIGNALS,
                lambda before: before in (signal.default_int_handler, _stop),
            ):
                function(*arguments)
        finally:  # an error of the function is then the context of the exception that a signal raises
            if caught:
                cast(Callable, signal.getsignal(caught[0]))(caught[0], None)

    return shielded


class Request:
    """Record whether, and by which signal, a training was asked to stop."""

    def __init__(self, shared: Callable[[], bool] | None = None):
        self.signal: int | None = None
        self._shared = shared

    def give_way(self, step: int) -> None:
        """Raise Stopped if a signal has come; for work after a step that may be left undone."""
        if self.signal is not None:
            raise Stopped(self.signal, step)

    def __call__(self, step: int) -> bool:
        """Return whether to stop after this step; to be asked after every one."""
        if self._shared is not None and self.signal is None and self._shared():
            self.signal = signal.SIGTERM
        return self.signal is not None


@contextlib.contextmanager
def requests(shared: Callable[[], bool] | None = None) -> Iterator[Request]:
    """Make the first SIGTERM or Ctrl-C inside the block request a stop. A second signal acts as before the block.

    A signal that the program ignores, as Ctrl-C behind nohup, stays ignored.

    Args:
        shared: for several processes, which all stop after the same step: returns True if any of them got SIGTERM.
            Every process calls it after every step. Signals are then left to JAX, which tells the other processes.
    """
    request = Request(shared)

    def ask(number: int, _: FrameType | None) -> None:
        request.signal = number
        restore()

    with _handled(ask, () if shared else SIGNALS, lambda before: before is not signal.SIG_IGN) as restore:
        yield request


@contextlib.contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], numbers: tuple[int, ...], replaces: Callable[[Any], bool]
) -> Iterator[Callable[[], None]]:
    """Give signals a handler inside the block, in place of those that `replaces` accepts; gives what restores them."""
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if replaces(signal.getsignal(number)):
                    stack.callback(signal.signal, number, signal.signal(number, handler))
        yield stack.close


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
