"""Read byte ranges of local files: `pread` into the caller's memory, on threads where it pays."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError

THREADS_FROM_NBYTES: Final = 2**20
"""Less than this is read and decoded on the calling thread."""

_O_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)

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
        self._map: mmap.mmap | None = None
        self._descriptor = -1
        try:
            # Not blocking: a pipe in a file's place would keep us waiting for ever.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _O_NONBLOCK)
        except FileNotFoundError as error:
            raise FormatError(str(path), "a shard of the subset", "no such file") from error
        self.state = self._stat()
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise FormatError(str(path), "a regular file", "something else")
        if self.state[0] != size:
            self.close()
            raise FormatError(str(path), f"{size} bytes", f"{self.state[0]} bytes")

    def _stat(self) -> tuple[int, ...]:
        return state_of(os.fstat(self._descriptor))

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
        self._descriptor = -1

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

    def view(self, start: int, length: int) -> memoryview:
        """
        Map bytes of the file into memory, to be read from when they are looked at.

        Parameters
        ----------
        start, length : int
            First byte, and how many.

        Returns
        -------
        memoryview
            The bytes; they stay when the file is closed.
        """
        return memoryview(self._mapping())[start : start + length]

    def _mapping(self) -> mmap.mmap:
        if self._map is None:
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        return self._map

    def expect(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """
        Hear which ranges will be read next, and have the disk fetch just these.

        Parameters
        ----------
        starts, lengths : ndarray, shape (n,), int64
            First byte and length of each.
        """
        if not hasattr(os, "posix_fadvise") or not len(starts):
            return
        span = int((starts + lengths).max() - starts.min())
        if lengths.sum() > span // 2:
            return
        # Rows far apart: reading ahead of each would read what nobody asked for.
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

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


def state_of(found: os.stat_result) -> tuple[int, ...]:
    """
    Give what tells a file from another.

    Parameters
    ----------
    found : os.stat_result
        What the system says of it.

    Returns
    -------
    tuple of int
        Size, time of the last change, inode, device.
    """
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def run_all(tasks: Sequence[Callable[[], None]], n_bytes: int) -> None:
    """
    Run tasks, side by side where there is enough to do.

    The calling thread works too; each thread takes the next task when it is done with one.

    Parameters
    ----------
    tasks : sequence of callable
        Independent of one another.
    n_bytes : int
        About how many bytes they read or decode together.

    Raises
    ------
    Exception
        The first that a task raised; no task runs any more when it is raised.
    """
    waiting = deque(tasks)

    def work() -> None:
        while True:
            try:
                task = waiting.popleft()
            except IndexError:
                return
            try:
                task()
            except BaseException:
                waiting.clear()
                raise

    helpers = []
    if n_bytes >= THREADS_FROM_NBYTES:
        # At the end of the interpreter there are no new threads: do without.
        with contextlib.suppress(RuntimeError):
            helpers = [_pool().submit(work) for _ in range(min(_cores(), len(tasks)) - 1)]
    try:
        work()
    finally:
        # What a busy pool did not begin is done by now; what it began must end.
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)))


def _pool() -> ThreadPoolExecutor:
    """Give this process's threads; those of a parent do not survive a fork."""
    pool = _pools.get(os.getpid())
    if pool is None:
        _pools.clear()
        pool = _pools[os.getpid()] = ThreadPoolExecutor(max(1, _cores() - 1), "astropile-read")
    return pool
