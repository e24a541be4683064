"""The memory of batches: used again and again, pinned where a GPU copies from it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MissingExtraError
from astropile.schema import Ragged
from astropile.streams.source import Arrays, Batch

_TENSOR_KINDS = "biufc"
"""Kinds of numpy dtypes that PyTorch has."""


class Rooms:
    """
    Arrays for some batches, made when they are first needed.

    Parameters
    ----------
    batch_size : int
        Rows of a whole batch.
    pinned : bool
        Make them of page-locked memory, where there is a GPU.
    """

    def __init__(self, batch_size: int, *, pinned: bool = False) -> None:
        self._size, self._pinned = batch_size, pinned and _can_pin()
        self._rooms: dict[int, dict[str, NDArray[Any]]] = {}

    def give(self, number: int, n: int) -> dict[str, NDArray[Any]]:
        """
        Give the arrays of a room.

        Parameters
        ----------
        number : int
            Which room.
        n : int
            Rows to be read.

        Returns
        -------
        dict of str to ndarray
            Arrays of n rows; of no column before the room was kept.
        """
        return {name: room[:n] for name, room in self._rooms.get(number, {}).items()}

    def keep(
        self, number: int, found: Arrays, names: Collection[str], *, fresh: bool = False
    ) -> Arrays:
        """
        Keep what was read as the room for what is read next.

        Parameters
        ----------
        number : int
            Which room.
        found : dict of str to ndarray or Ragged
            What was read.
        names : collection of str
            Columns that can be read right into a room.
        fresh : bool
            Pinned memory is made anew instead.

        Returns
        -------
        dict of str to ndarray or Ragged
            What is to be given out: pinned, if that is wanted.
        """
        room = {} if fresh else self._rooms.setdefault(number, {})
        given = dict(found)
        for name, values in found.items():
            if isinstance(values, Ragged) or values.dtype.kind not in _TENSOR_KINDS:
                continue
            if self._pinned and values.strides[:1] != (0,):
                given[name] = self._to_pinned(name, values, room)
            elif name in names and len(values) == self._size and values.flags.carray:
                room.setdefault(name, values)
        return given

    def _to_pinned(
        self, name: str, values: NDArray[Any], room: dict[str, NDArray[Any]]
    ) -> NDArray[Any]:
        if name not in room:
            room[name] = pinned_array((self._size, *values.shape[1:]), values.dtype)
        place = room[name][: len(values)]
        if not np.shares_memory(place, values):
            place[...] = values
        return place


def _can_pin() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def pinned_array(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """
    Make an array of page-locked memory.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its dtype.

    Returns
    -------
    ndarray
        Not yet filled.
    """
    import torch

    like = torch.from_numpy(np.empty(0, dtype))
    made: NDArray[Any] = torch.empty(shape, dtype=like.dtype, pin_memory=True).numpy()
    return made


def as_tensors(batch: Batch) -> Batch:
    """
    Make tensors of a batch's arrays, over the same memory.

    Parameters
    ----------
    batch : dict of str to ndarray or Ragged
        A batch.

    Returns
    -------
    dict
        Tensors for numbers and booleans; text and ragged values as they were.

    Raises
    ------
    MissingExtraError
        If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("tensors", "torch") from error
    made: Batch = {}
    for name, values in batch.items():
        if isinstance(values, Ragged) or values.dtype.kind not in _TENSOR_KINDS:
            made[name] = values
        elif values.flags.writeable:
            made[name] = torch.from_numpy(values)
        elif values.strides[:1] == (0,) and len(values):
            # The same for all rows: one copy, seen n times.
            made[name] = torch.from_numpy(np.array(values[0])).expand(values.shape)
        else:
            made[name] = torch.from_numpy(values.copy())
    return made
