"""
Other hands: what hands work to executors of any make, and processes of our own.

A job is a function with arguments that pickle; what it returns is small.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Final

MAX_BEYOND: Final = 4
"""Jobs are handed to an executor so many times as fast as it has workers."""

KINDS: Final = "a concurrent.futures.Executor or a dask.distributed.Client"
"""What can be an executor, in words."""

_WATCH_S: Final = 1.0


def submit_of(executor: Any) -> Callable[..., Future[Any]] | None:
    """
    Give the function that hands a job to an executor.

    Parameters
    ----------
    executor : Executor or dask.distributed.Client
        Who works.

    Returns
    -------
    callable or None
        Called with a function and its arguments, gives a future; None if `executor` is neither.
    """
    if isinstance(executor, Executor):
        return executor.submit
    if hasattr(executor, "get_executor"):
        # A Dask client. Not pure: a job that failed is done again when asked again.
        client = executor.get_executor(pure=False)
        return client.submit  # type: ignore[no-any-return]
    return None


def n_workers_of(executor: Any) -> int:
    """
    Count the workers of an executor.

    Parameters
    ----------
    executor : Executor or dask.distributed.Client
        Who works.

    Returns
    -------
    int
        Jobs that it does side by side; 16 where that cannot be known.
    """
    if hasattr(executor, "nthreads"):
        return max(int(sum(executor.nthreads().values())), 1)
    return int(getattr(executor, "_max_workers", None) or 16)


def run_jobs(
    jobs: Sequence[partial[Any]], submit: Callable[..., Future[Any]], n_workers: int
) -> Iterator[tuple[int, Any]]:
    """
    Have jobs done in any order.

    Parameters
    ----------
    jobs : sequence of partial
        The jobs.
    submit : callable
        What `submit_of` gave.
    n_workers : int
        How many are done side by side; a few more are handed over.

    Yields
    ------
    tuple
        Number of a job and what it returned.

    Raises
    ------
    Exception
        The first that a job raised; those not begun are dropped.
    """
    waiting = list(range(len(jobs)))[::-1]
    running: dict[Future[Any], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < MAX_BEYOND * n_workers:
                number = waiting.pop()
                job = jobs[number]
                running[submit(job.func, *job.args, **job.keywords)] = number
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def processes(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """
    Start processes; when they are no longer needed, those at work end what they are doing.

    Parameters
    ----------
    n_workers : int
        How many.

    Yields
    ------
    ProcessPoolExecutor
        The executor.

    Raises
    ------
    OSError
        If one of them died, as for want of memory.
    """
    # Not forked: a copy of a process with threads may never get going.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, context, initializer=_begin, initargs=(os.getpid(),))
    try:
        yield pool
    except BrokenProcessPool as error:
        reason = "a worker process died, perhaps for want of memory; try fewer workers"
        raise ChildProcessError(reason) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
