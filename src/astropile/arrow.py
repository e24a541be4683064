"""
Numpy buffers as Arrow arrays and back, without copying and without Python lists.

A `Block` is many small arrays laid flat one after another: what lies on disk, what a ragged
column gives and what Arrow's nested lists are made of. Knows nothing of surveys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Lengths: TypeAlias = "int | NDArray[np.int64]"
"""One dimension of a block's items: the same for all, or one length per item."""

MAX_VALUES = 2**31 - 1
"""Most values that Arrow's 32-bit offsets can address."""


class TooManyValuesError(Exception):
    """More values than fit in one Arrow array with 32-bit offsets; the caller takes fewer rows."""


@dataclass(frozen=True)
class Block:
    """
    Arrays of one dtype, one per item, flat in C order one after another.

    Parameters
    ----------
    n : int
        How many items.
    values : ndarray, shape (total,)
        Their values; bytes (``S``) stand for UTF-8 text padded with NUL, void (``V``) for
        no value of no type.
    dims : tuple of int or ndarray
        Shape of each item: per dimension one length, or an array of n lengths.
    null : ndarray, shape (total,), bool, optional
        True where there is no value.
    shared : bool
        The one item stands for every object.
    """

    n: int
    values: NDArray[Any]
    dims: tuple[Lengths, ...] = ()
    null: NDArray[np.bool_] | None = None
    shared: bool = False

    @property
    def sizes(self) -> Lengths:
        """Number of values of each item."""
        return product(self.dims)

    def spread(self, counts: Lengths, n: int) -> Block:
        """
        Repeat items.

        Parameters
        ----------
        counts : int or ndarray
            How often each item comes; for a shared block, ignored.
        n : int
            Number of items there will be.

        Returns
        -------
        Block
            For a shared block, its item n times.
        """
        if self.shared:
            if n == 1:
                return replace(self, shared=False)
            _guard(self.values.size * n)
            null = None if self.null is None else np.tile(self.null, n)
            return Block(n, np.tile(self.values, n), self.dims, null)
        if isinstance(counts, int):
            if counts == 1:
                return self
            counts = np.full(self.n, counts, np.int64)
        return self.take(np.repeat(np.arange(self.n), counts))

    def take(self, items: NDArray[Any]) -> Block:
        """
        Choose items.

        Parameters
        ----------
        items : ndarray of int
            Which, in what order; repeats are allowed.

        Returns
        -------
        Block
            Those items.
        """
        dims = tuple(d if isinstance(d, int) else d[items] for d in self.dims)
        if isinstance(sizes := self.sizes, int):
            _guard(sizes * len(items))
            values = self.values.reshape(self.n, sizes)[items].reshape(-1)
            null = (
                None if self.null is None else self.null.reshape(self.n, sizes)[items].reshape(-1)
            )
            return Block(len(items), values, dims, null)
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        where = ranges(offsets[items], sizes[items])
        return Block(len(items), self.values[where], dims)

    def entries(self) -> Block:
        """
        Make every entry along the items' first dimension an item of its own.

        Returns
        -------
        Block
            The same values, one dimension fewer.
        """
        first, *rest = self.dims
        if isinstance(first, int):
            dims = tuple(d if isinstance(d, int) else np.repeat(d, first) for d in rest)
            return Block(self.n * first, self.values, dims, self.null)
        dims = tuple(d if isinstance(d, int) else np.repeat(d, first) for d in rest)
        return Block(int(first.sum()), self.values, dims, self.null)


def count_values(dims: Sequence[Lengths], n: int) -> int:
    """
    Count the values of n items.

    Parameters
    ----------
    dims : sequence of int or ndarray
        Shape of each.
    n : int
        How many items.

    Returns
    -------
    int
        Their number of values.
    """
    sizes = product(dims)
    return n * sizes if isinstance(sizes, int) else int(sizes.sum())


def product(dims: Sequence[Lengths]) -> Lengths:
    """
    Multiply dimensions.

    Parameters
    ----------
    dims : sequence of int or ndarray
        Lengths.

    Returns
    -------
    int or ndarray
        Number of values of each item: an int where it is the same for all.
    """
    sizes: Lengths = math.prod(d for d in dims if isinstance(d, int))
    for d in dims:
        if not isinstance(d, int):
            sizes = sizes * d
    return sizes


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Write out runs of consecutive numbers, one after another.

    Parameters
    ----------
    starts, lengths : ndarray, shape (n,), int64
        First number and length of each run.

    Returns
    -------
    ndarray, shape (sum of lengths,), int64
        The numbers.

    Examples
    --------
    >>> ranges(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _guard(n_values: int) -> None:
    if n_values > MAX_VALUES:
        raise TooManyValuesError(n_values)


# --------------------------------------------------------------------------------------
# To Arrow


def to_arrow(block: Block) -> pa.Array:
    """
    Give a block as an Arrow array, nested lists for its dimensions.

    Parameters
    ----------
    block : Block
        Items; not shared.

    Returns
    -------
    pyarrow.Array
        One element per item, over the same memory where Arrow's layout is numpy's.

    Raises
    ------
    TooManyValuesError
        If 32-bit offsets do not reach.
    """
    _guard(block.values.size)
    array = _flat(block.values, block.null)
    for depth in reversed(range(len(block.dims))):
        array = pa.ListArray.from_arrays(_offsets(block, depth), array)
    return array


def _offsets(block: Block, depth: int) -> pa.Array:
    length, outer = block.dims[depth], product(block.dims[:depth])
    if isinstance(length, int) and isinstance(outer, int):
        n_lists = block.n * outer
        _guard(n_lists * max(length, 1))
        return _flat(np.arange(n_lists + 1, dtype=np.int32) * np.int32(length), None)
    lengths = np.repeat(np.broadcast_to(np.asarray(length, np.int64), (block.n,)), outer)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    _guard(int(offsets[-1]))
    return _flat(offsets.astype(np.int32), None)


def _flat(values: NDArray[Any], null: NDArray[np.bool_] | None) -> pa.Array:
    if values.dtype.kind == "V":
        return pa.nulls(len(values))
    if values.dtype.kind == "S":
        return _text(values, null)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if null is not None:
        return pa.array(values, mask=null)
    if values.dtype.kind == "b":
        # Twenty times as fast as pa.array.
        bits = pa.py_buffer(np.packbits(values, bitorder="little"))
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _text(values: NDArray[Any], null: NDArray[np.bool_] | None) -> pa.Array:
    """Strip the NULs that pad; Arrow checks that the rest is UTF-8."""
    n, width = len(values), values.dtype.itemsize
    lengths = np.char.str_len(values).astype(np.int64) if n else np.zeros(0, np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
    _guard(int(offsets[-1]))
    letters = np.ascontiguousarray(values).view(np.uint8).reshape(n, width)
    used = letters[np.arange(width) < lengths[:, None]]
    validity = None if null is None else pa.array(~null).buffers()[1]
    raw = pa.Array.from_buffers(
        pa.binary(), n, [validity, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(used)]
    )
    return raw.cast(pa.string())


def list_of(counts: Lengths, n: int, items: pa.Array) -> pa.Array:
    """
    Group items into one list per object.

    Parameters
    ----------
    counts : int or ndarray, shape (n,)
        Items of each object.
    n : int
        How many objects.
    items : pyarrow.Array
        All items, objects in order.

    Returns
    -------
    pyarrow.ListArray
        One list per object.
    """
    return pa.ListArray.from_arrays(_offsets(Block(n, np.empty(0), (counts,)), 0), items)


# --------------------------------------------------------------------------------------
# To numpy


def to_numpy(array: pa.Array | pa.ChunkedArray) -> Any:
    """
    Give an Arrow column as numpy values, dtype kept and null as None.

    Parameters
    ----------
    array : pyarrow.Array or ChunkedArray
        Any mixture of lists, structs, numbers, booleans and strings.

    Returns
    -------
    ndarray or list
        One number or boolean each, none missing: an array. Otherwise a list: nested lists of
        numbers become arrays (where they are not rectangular, lists of arrays), structs
        dicts, text str. Arrays lie over Arrow's memory where they can, and are then read-only.
    """
    if isinstance(array, pa.ChunkedArray):
        if array.num_chunks == 1:
            return to_numpy(array.chunk(0))
        parts = [to_numpy(chunk) for chunk in array.chunks]
        if parts and all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)
        return [value for part in parts for value in part]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if _is_number(array.type) and array.null_count == 0:
        return _numbers(array)
    return _objects(array)


_NUMBERS = frozenset(
    kind.id
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_()),
    )
)
_LISTS = frozenset(
    kind.id for kind in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 1))
)
_BOOL, _STRUCT = pa.bool_().id, pa.struct([]).id
# Looked up by number: asked of every column of every row.


def _is_number(kind: pa.DataType) -> bool:
    return kind.id in _NUMBERS


def _is_list(kind: pa.DataType) -> bool:
    return kind.id in _LISTS


def _numbers(array: pa.Array) -> NDArray[Any]:
    if array.type.id != _BOOL:
        return np.asarray(array.to_numpy(zero_copy_only=True))
    if not len(array):
        return np.empty(0, bool)
    # Twenty times as fast as to_numpy.
    first, skipped = divmod(array.offset, 8)
    octets = np.frombuffer(array.buffers()[1], np.uint8)[first:]
    bits = np.unpackbits(octets, count=skipped + len(array), bitorder="little")
    return bits[skipped:].view(bool)


def _objects(array: pa.Array) -> list[Any]:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if kind.id == _STRUCT:
        columns = {
            kind.field(i).name: list(to_numpy(array.field(i))) for i in range(kind.num_fields)
        }
        rows: list[Any] = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        return _with_nulls(rows, array)
    if _is_list(kind):
        return _with_nulls(_lists(array), array)
    if _is_number(kind):
        full = _numbers(array.fill_null(False if kind.id == _BOOL else 0))
        return _with_nulls(list(full), array)
    values: list[Any] = array.to_pylist()
    return values


def _with_nulls(values: list[Any], array: pa.Array) -> list[Any]:
    if array.null_count == 0:
        return values
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _bounds(array: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Where each list lies in its values."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return (np.arange(len(array) + 1) + array.offset) * size, array.values
    offsets = array.offsets.to_numpy(zero_copy_only=True).astype(np.int64)
    return offsets, array.values


def _lists(array: pa.Array) -> list[Any]:
    offsets, values = _bounds(array)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if _is_list(values.type):
        stacked = _rectangular(array)
        if stacked is not None:
            return list(stacked)
        if len(array) > 1:
            return [_lists(array.slice(row, 1))[0] for row in range(len(array))]
    start, stop = int(offsets[0]), int(offsets[-1])
    inner = to_numpy(values.slice(start, stop - start))
    parts = [inner[a - start : b - start] for a, b in pairwise(offsets)]
    if pa.types.is_string(values.type) and values.null_count == 0:
        return [np.array(part, dtype=np.str_) for part in parts]
    return parts


def _rectangular(array: pa.Array) -> NDArray[Any] | None:
    """All lists at once, if at every depth they are of one length: shape (n, *dims)."""
    shape = [len(array)]
    while _is_list(array.type):
        offsets, values = _bounds(array)
        lengths = np.diff(offsets)
        if array.null_count or not lengths.size or (lengths != lengths[0]).any():
            return None
        shape.append(int(lengths[0]))
        array = values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
    if not _is_number(array.type) or array.null_count:
        return None
    return _numbers(array).reshape(shape)
