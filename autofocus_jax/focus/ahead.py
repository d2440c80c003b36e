"""Work in threads ahead of its consumer, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def ahead(
    tasks: Iterable[Callable[[], Result]], threads: int, most: int, name: str = "ahead"
) -> Generator[Result, None, None]:
    """Yield the result of each task in the order of the tasks, while threads already run the next tasks.

    Tasks are taken from their iterable one by one in the consumer's thread. An error of a task is raised in its place
    and ends the generator; closing the generator ends it too.

    Args:
        tasks: functions without arguments.
        threads: number of tasks that run at once.
        most: number of results that may wait, or be in the making, beside the last yielded one.
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
