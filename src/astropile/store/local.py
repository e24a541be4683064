"""Read byte ranges of local files: `pread` into the caller's memory, on threads where it pays."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from astropile.errors import FormatError

THREADS_FROM_NBYTES: Final = 4 * 2**20
"""Less than this is read and decoded on the calling thread."""

_pools: dict[int, ThreadPoolExecutor] = {}


class LocalFile:
    """
    A file open for reading by ranges.

    Safe to use from several threads. A change of the file under the reader is noticed by
    `check`; a file that another one replaced by name is read on as it was.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        The size it must have, in bytes.

    Attributes
    ----------
    state : tuple of int
        What tells this file from another: size, time of the last change, inode, device.

    Raises
    ------
    FormatError
        If it is missing, not a regular file, or of another size.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise FormatError(str(path), "a shard of the subset", "no such file") from error
        self.state = self._stat()
        if self.state[0] != size:
            self.close()
            raise FormatError(str(path), f"{size} bytes", f"{self.state[0]} bytes")

    def _stat(self) -> tuple[int, ...]:
        stat = os.fstat(self._descriptor)
        return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def check(self) -> None:
        """
        Make sure that the file is still as it was opened.

        Raises
        ------
        FormatError
            If it was changed since.
        """
        if self._stat() != self.state:
            raise FormatError(str(self.path), "the file as it was opened", "it was changed since")

    def read_into(self, start: int, out: Any) -> None:
        """
        Read bytes from a place on.

        Parameters
        ----------
        start : int
            First byte.
        out : writable bytes-like
            Filled whole.

        Raises
        ------
        FormatError
            If the file ends before.
        """
        view = memoryview(out)
        done = os.preadv(self._descriptor, [view], start)
        while done < len(view):
            more = os.preadv(self._descriptor, [view[done:]], start + done)
            if more == 0:
                raise FormatError(
                    str(self.path),
                    f"{len(view)} bytes from byte {start}",
                    f"an end after {done} of them",
                )
            done += more


def run_all(tasks: Sequence[Callable[[], None]], n_bytes: int) -> None:
    """
    Run tasks, side by side where there is enough to do.

    Parameters
    ----------
    tasks : sequence of callable
        Independent of one another.
    n_bytes : int
        About how many bytes they read or decode together.

    Raises
    ------
    Exception
        The first that a task raised.
    """
    if n_bytes < THREADS_FROM_NBYTES or len(tasks) < 2:
        for task in tasks:
            task()
        return
    for future in [_pool().submit(task) for task in tasks]:
        future.result()


def _pool() -> ThreadPoolExecutor:
    """Give this process's threads; those of a parent do not survive a fork."""
    pool = _pools.get(os.getpid())
    if pool is None:
        _pools.clear()
        workers = min(8, len(os.sched_getaffinity(0)))
        pool = _pools[os.getpid()] = ThreadPoolExecutor(workers, "astropile-read")
    return pool
