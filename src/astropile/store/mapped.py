"""
Read byte ranges of local files out of a mapping that is kept: no call into the kernel for each.

What is mapped is copied out, so that arrays stay what they are whatever happens to the file. Of
what is not in memory yet the kernel is asked for just the ranges that will be read; a mapping left
to itself fetches page by page, and reads around each.
"""

from __future__ import annotations

import mmap
import os
import resource
import stat
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.store.local import LocalFile, state_of

MAX_MAPPED: Final = 64
"""So many files stay mapped."""

COPIES_PER_READ: Final = 16
"""Copying is so much less work than reading and unpacking that threads pay for more bytes only."""

_CAN_ADVISE: Final = hasattr(mmap.mmap, "madvise")


class MappedFile(LocalFile):
    """
    A file open and mapped for reading by ranges, until nobody holds it.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        The size it must have, in bytes.

    Raises
    ------
    FormatError
        If it is missing, not a regular file, or of another size.

    Notes
    -----
    Reading what was cut off a file while it is mapped ends the process (SIGBUS): no exception can
    be made of it.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path, size)
        self._bytes = np.empty(0, np.uint8)
        if size:
            self._bytes = np.frombuffer(self._mapping(), np.uint8)
        if size and _CAN_ADVISE:
            self._mapping().madvise(mmap.MADV_RANDOM)
        # For each page, whether the kernel was asked for it.
        self._asked = np.zeros(-(-size // mmap.PAGESIZE), bool)
        self._n_faults = _n_faults()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __exit__(self, *_: object) -> None:
        """Stay open: it is read from again."""

    def expect(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """
        Hear which ranges will be read next, and have the disk fetch those not asked for before.

        Parameters
        ----------
        starts, lengths : ndarray, shape (n,), int64
            First byte and length of each.
        """
        if not _CAN_ADVISE:
            return
        n_faults = _n_faults()
        if n_faults != self._n_faults:
            # Something had to be fetched page by page: memory was short, pages were let go.
            self._asked, self._n_faults = np.zeros_like(self._asked), n_faults
        some = lengths > 0
        firsts = starts[some] // mmap.PAGESIZE
        lasts = (starts[some] + lengths[some] - 1) // mmap.PAGESIZE
        # Rows side by side share pages at their ends, so that one in the middle is looked at too.
        known = np.all(self._asked[[firsts, (firsts + lasts) // 2, lasts]], axis=0)
        for first, last in zip(firsts[~known].tolist(), lasts[~known].tolist(), strict=True):
            begin = first * mmap.PAGESIZE
            end = min((last + 1) * mmap.PAGESIZE, len(self._bytes))
            self._mapping().madvise(mmap.MADV_WILLNEED, begin, end - begin)
            self._asked[first : last + 1] = True

    def read_into(self, start: int, out: Any) -> None:
        """
        Copy bytes from a place on.

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
        view = np.frombuffer(out, np.uint8)
        found = self._bytes[start : start + len(view)]
        if len(found) < len(view):
            raise FormatError(
                str(self.path),
                f"{len(view)} bytes from byte {start}",
                f"an end after {len(found)} of them",
            )
        # Other threads run meanwhile.
        np.copyto(view, found)

    def gather(
        self,
        start: int,
        n_rows: int,
        rows: NDArray[np.int64],
        out: NDArray[np.uint8],
        at: NDArray[np.int64] | slice,
    ) -> None:
        """
        Copy rows of a table of bytes that lies in the file.

        Parameters
        ----------
        start : int
            First byte of the table.
        n_rows : int
            Rows it has; it lies inside the file.
        rows : ndarray, shape (n,), int64
            Which to copy.
        out : ndarray, shape (m, width), uint8
            Where they go.
        at : ndarray, shape (n,), int64, or slice
            The place in it for each.
        """
        width = out.shape[1]
        table = self._bytes[start : start + n_rows * width].reshape(n_rows, width)
        if isinstance(at, slice):
            # "raise" would go through a copy.
            np.take(table, rows, axis=0, out=out[at], mode="clip")
            return
        for row, to in zip(rows.tolist(), at.tolist(), strict=True):
            out[to] = table[row]


class MappedFiles:
    """The files of one reader that stay mapped; the oldest is let go when they are too many."""

    def __init__(self) -> None:
        self._held: dict[Path, MappedFile] = {}

    def open(self, path: Path, size: int) -> MappedFile:
        """
        Give a file, mapped now or before.

        Parameters
        ----------
        path : Path
            The file.
        size : int
            The size it must have, in bytes.

        Returns
        -------
        MappedFile
            The file that has this name now.

        Raises
        ------
        FormatError
            If it is missing, not a regular file, or of another size.
        """
        held = self._held.get(path)
        if held is not None and held.state == _state_at(path):
            return held
        opened = self._held[path] = MappedFile(path, size)
        if len(self._held) > MAX_MAPPED:
            self._held.pop(next(iter(self._held)), None)
        return opened


def _state_at(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return state_of(found) if stat.S_ISREG(found.st_mode) else None


def _n_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
