"""Asking a training to stop: the first SIGTERM or Ctrl-C is a request, which the loop grants after a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from autofocus_jax import parallel

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The run stopped when it was asked to, with everything saved.

    step: the last one that was taken. signal: what asked for it.
    """

    def __init__(self, step: int, signal: int):
        super().__init__(f"stopped after step {step}")
        self.step, self.signal = step, signal


class Request:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self, processes: int = 1):
        """processes: of several, all stop after the same step, when any of them got SIGTERM."""
        self.signal: int | None = None
        self._several = processes > 1

    def give_way(self, step: int) -> None:
        """For work after a step that may be left undone: raises StoppedError when a signal has come."""
        if self.signal is not None:
            raise StoppedError(step, self.signal)

    def __call__(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after every one."""
        if self._several and self.signal is None and parallel.asked_to_stop():
            self.signal = signal.SIGTERM
        return self.signal is not None


@contextlib.contextmanager
def requests(processes: int = 1) -> Iterator[Request]:
    """Within it SIGTERM and Ctrl-C only ask; a second one does what it always does.

    A signal that the program ignores, as Ctrl-C behind nohup, stays ignored. Of several processes SIGTERM is left to
    JAX, which tells the others, and Ctrl-C does what it always does. Signals reach a program's main thread only; in
    another thread nothing changes.
    """
    request = Request(processes)
    if processes > 1 or threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        request.signal = number
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
