"""Reading ahead: batches are read by threads while the one before is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(
    tasks: Iterable[Callable[[int], T]], *, prefetch: int, threads: int = 1
) -> Generator[T, None, None]:
    """
    Run tasks in threads and give their results in order.

    Parameters
    ----------
    tasks : iterable of callable
        Each is given the number of a room, 0 to `prefetch`, which is its own until its result
        was given and the next one is asked for.
    prefetch : int
        So many tasks are under way or done before their results are asked for; 0 runs each
        when asked for, in the caller's thread.
    threads : int
        How many run at once.

    Yields
    ------
    object
        What each gave. An error comes in the place of its result and ends it.

    Notes
    -----
    The threads end when the generator is closed or exhausted, and before Python ends. What is
    under way is waited for, what has not begun is not.
    """
    if not prefetch:
        for task in tasks:
            yield task(0)
        return
    # Threads of an executor are no daemons: Python waits for them before it takes itself apart.
    pool = ThreadPoolExecutor(min(threads, prefetch), "astropile-stream")
    waiting: deque[Future[T]] = deque()
    try:
        for number, task in enumerate(tasks):
            # The last result given is no longer in use: its room is free.
            waiting.append(pool.submit(task, number % (prefetch + 1)))
            if len(waiting) > prefetch:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
