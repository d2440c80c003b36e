"""Work that runs in threads ahead of whoever asks for it, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def ahead(
    tasks: Iterable[Callable[[], Result]], threads: int, most: int, name: str = "ahead"
) -> Generator[Result, None, None]:
    """Yield what each task returns, in the order of the tasks, while threads already run the next ones.

    The tasks themselves are taken from their iterable in the thread that asks, one by one. An error of a task is raised
    in its place and ends the generator; so does closing it.

    Args:
        tasks: functions without arguments.
        threads: how many tasks run at once.
        most: how many results may wait, or be in the making, beside the one that was last yielded.
        name: prefix of the threads' names.
    """
    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max(1, min(threads, most)), thread_name_prefix=name)
    try:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) > most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
