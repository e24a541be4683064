"""
Memory for what is read: large arrays are given memory that was used before, if there is any.

New memory costs more than the reading itself: the kernel clears it page by page. Arrays of
batch after batch are of the same few sizes, so the memory of those dropped serves the next.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

REUSED_FROM_NBYTES: Final = 2**18
"""Smaller arrays are numpy's own."""

KEPT_NBYTES: Final = 256 * 2**20
"""Memory that no array uses is kept up to this size; the oldest is given back first."""


class _Block:
    """Memory lent to an array; comes back when the last view of the array is gone."""

    __slots__ = ("__array_interface__", "_memory", "_store")

    def __init__(self, memory: NDArray[np.uint8], store: _Store) -> None:
        self._memory, self._store = memory, store
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._store.give_back(self._memory)


class _Store:
    """Memory of one process that no array uses. Its queue is safe to use from threads."""

    def __init__(self) -> None:
        self._idle: deque[NDArray[np.uint8]] = deque()
        self._n_bytes = 0

    def lend(self, n_bytes: int) -> NDArray[np.uint8]:
        size = _rounded(n_bytes)
        for _ in range(len(self._idle)):
            try:
                memory = self._idle.pop()
            except IndexError:
                break
            if len(memory) == size:
                self._n_bytes -= size
                return np.asarray(_Block(memory, self))
            self._idle.appendleft(memory)
        return np.asarray(_Block(np.empty(size, np.uint8), self))

    def give_back(self, memory: NDArray[np.uint8]) -> None:
        if len(memory) > KEPT_NBYTES:
            return
        self._idle.append(memory)
        self._n_bytes += len(memory)
        if self._n_bytes > KEPT_NBYTES:
            # Threads may have counted past one another: count again. No lock, since one held
            # while the process forks would never open again.
            self._n_bytes = sum(len(idle) for idle in tuple(self._idle))
            while self._n_bytes > KEPT_NBYTES and self._idle:
                self._n_bytes -= len(self._idle.popleft())


_store = _Store()


def _rounded(n_bytes: int) -> int:
    """Round up by at most an eighth, so that arrays of nearly the same size share memory."""
    step = max(4096, 1 << max(0, n_bytes.bit_length() - 4))
    return -(-n_bytes // step) * step


def new_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """
    Make an array that is about to be filled.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type.

    Returns
    -------
    ndarray
        C-contiguous, writable, with whatever values; large ones do not own their memory.

    Examples
    --------
    >>> new_array((2, 3), "<f4").shape
    (2, 3)
    """
    kind = np.dtype(dtype)
    n_bytes = math.prod(shape) * kind.itemsize
    if n_bytes < REUSED_FROM_NBYTES:
        return np.empty(shape, kind)
    return _store.lend(n_bytes)[:n_bytes].view(kind).reshape(shape)
