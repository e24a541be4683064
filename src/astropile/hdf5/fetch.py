"""Read rows of a shard by its row table: byte ranges, a bounded inflate, no HDF5 library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.hdf5.codec import decode_chunk
from astropile.hdf5.rows import Place, RowTable
from astropile.names import COMMON_COLUMNS
from astropile.schema import Column, Ragged, Survey
from astropile.store.local import run_all
from astropile.store.ranges import merge_ranges

GAP_NBYTES: Final = 16384
"""Pieces of a local file at most this far apart are read together."""

_WHOLE_SPAN_NBYTES: Final = 65536
"""A span of narrow rows up to this size is read whole, and the rows taken out of it."""


class RangeSource(Protocol):
    """Anything that gives bytes from a place on."""

    def read_into(self, start: int, out: Any) -> None:
        """
        Read bytes from a place on.

        Parameters
        ----------
        start : int
            First byte.
        out : writable bytes-like
            Filled whole.
        """


class RowReader:
    """
    One shard, read through its row table.

    Parameters
    ----------
    source : RangeSource
        The file's bytes.
    path : Path
        The file, for messages.
    survey : Survey
        The survey as the tree tells it.
    table : RowTable
        Where everything lies.
    """

    def __init__(self, source: RangeSource, path: Path, survey: Survey, table: RowTable) -> None:
        self._source, self._path = source, path
        self._survey, self._table = survey, table

    def read_fixed(
        self,
        names: Sequence[str],
        rows: NDArray[np.int64],
        out: Mapping[str, NDArray[Any]],
        at: NDArray[np.int64],
    ) -> None:
        """
        Read fixed columns of some rows into arrays.

        Parameters
        ----------
        names : sequence of str
            Native or common columns, neither shared nor ragged.
        rows : ndarray, shape (n,), int64
            Rows of the shard, in any order.
        out : mapping of str to ndarray
            Where the values go: for each name an array as `room` gives it.
        at : ndarray, shape (n,), int64
            The place in the arrays for each row.

        Raises
        ------
        FormatError
            If the table or the file is not what the survey declares.
        """
        tasks: list[Callable[[], None]] = []
        chunked: list[tuple[str, Place, NDArray[Any]]] = []
        n_bytes = 0
        for name in names:
            values = out[name]
            place = self._place(name)
            width = values.nbytes // max(1, len(values))
            n_bytes += width * len(rows)
            if place.sizes is not None:
                chunked.append((name, place, values))
            elif width:
                # Large pieces go to several threads, small ones are not worth it.
                step = max(1, 2**20 // width)
                tasks += [
                    partial(self._contiguous, name, values, rows[i : i + step], at[i : i + step])
                    for i in range(0, len(rows), step)
                ]
        tasks += self._chunk_tasks(chunked, rows, at)
        run_all(tasks, n_bytes)

    def read_shared(self, name: str) -> NDArray[Any]:
        """
        Read a shared column.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        ndarray
            Its one value.
        """
        values = self.room(name, 1)
        self._contiguous(f"shared/{name}", values, np.zeros(1, np.int64), np.zeros(1, np.int64))
        return values[0]  # type: ignore[no-any-return]

    # -- what the survey says

    def room(self, name: str, n_rows: int) -> NDArray[Any]:
        """
        Make room for a fixed or shared column.

        Parameters
        ----------
        name : str
            A native or common column.
        n_rows : int
            Rows there shall be.

        Returns
        -------
        ndarray, shape ``(n_rows, *shape)``
            Not yet filled.
        """
        if name in self._survey.column_names:
            column = self._survey[name]
            return np.empty((n_rows, *_fixed_shape(column)), column.numpy_dtype)
        assert name in COMMON_COLUMNS
        if name in ("object_id", "observation_id"):
            dtype = self._survey[str(self._survey.aliases[name])].numpy_dtype
        else:
            dtype = np.dtype("<i8" if name == "healpix" else "<f8")
        return np.empty(n_rows, dtype)

    def _place(self, path: str) -> Place:
        place = self._table.places.get(path)
        if place is None:
            raise FormatError(str(self._path), f"the column {path!r}", "no such column")
        return place

    # -- contiguous columns

    def _contiguous(
        self,
        path: str,
        values: NDArray[Any],
        rows: NDArray[np.int64],
        at: NDArray[np.int64],
    ) -> None:
        """Read rows of a contiguous dataset into places of an array."""
        if not values.nbytes or not len(rows):
            return
        begin = self._start(path)
        width = values.nbytes // len(values)
        flat = values.reshape(-1).view(np.uint8)
        first, last = int(rows.min()), int(rows.max())
        span = (last - first + 1) * width
        if len(rows) > 1 and span <= _WHOLE_SPAN_NBYTES:
            whole = np.empty(span, np.uint8)
            self._source.read_into(begin + first * width, whole.data)
            flat.reshape(-1, width)[at] = whole.reshape(-1, width)[rows - first]
            return
        # Rows that follow one another, in the file and in the array, are read at once.
        follows = (np.diff(rows) == 1) & (np.diff(at) == 1)
        breaks = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(rows)]
        view, read = flat.data, self._source.read_into
        numbers, places = rows.tolist(), at.tolist()
        for here, there in pairwise(breaks):
            to = places[here] * width
            read(begin + numbers[here] * width, view[to : to + (there - here) * width])

    def _start(self, path: str) -> int:
        start = int(self._place(path).starts[0])
        if start < 0:
            raise FormatError(str(self._path), f"data of column {path!r}", "none were written")
        return start

    # -- chunked columns

    def _chunk_tasks(
        self,
        chunked: list[tuple[str, Place, NDArray[Any]]],
        rows: NDArray[np.int64],
        at: NDArray[np.int64],
    ) -> list[Callable[[], None]]:
        """Read each row's chunks of all columns in one go: they lie next to one another."""
        if not chunked or not len(rows):
            return []
        for name, place, _ in chunked:
            if place.chunk_rows != 1 or len(place.starts) != self._table.n_objects:
                raise FormatError(
                    f"{self._path}, column {name!r}",
                    "a chunk for each row",
                    f"{len(place.starts)} chunks of {place.chunk_rows} rows",
                )
        starts = np.stack([place.starts[rows] for _, place, _ in chunked], axis=1)
        if starts.min() < 0:
            raise FormatError(str(self._path), "a chunk for each row", "rows without one")
        sizes = np.stack([_sizes(place)[rows] for _, place, _ in chunked], axis=1)
        return [
            partial(self._one_row, chunked, starts[i], sizes[i], int(at[i]), int(rows[i]))
            for i in range(len(rows))
        ]

    def _one_row(
        self,
        chunked: list[tuple[str, Place, NDArray[Any]]],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        at: int,
        row: int,
    ) -> None:
        plan = merge_ranges(starts, sizes, gap=GAP_NBYTES)
        buffers = []
        for start, length in zip(plan.starts.tolist(), plan.lengths.tolist(), strict=True):
            buffer = np.empty(length, np.uint8)
            self._source.read_into(start, buffer.data)
            buffers.append(buffer)
        for piece, (name, _, values) in enumerate(chunked):
            begin = int(plan.offset_of[piece])
            packed = buffers[plan.range_of[piece]][begin : begin + int(sizes[piece])]
            self._decode(name, packed, values[at], row)

    def _decode(self, name: str, packed: NDArray[np.uint8], out: NDArray[Any], row: int) -> None:
        try:
            decode_chunk(packed.data, out)
        except ValueError as error:
            raise FormatError(
                f"{self._path}, column {name!r}, row {row}", "readable data", str(error)
            ) from error

    # -- ragged columns

    def read_ragged(self, name: str, rows: NDArray[np.int64]) -> Ragged:
        """
        Read a ragged column of some rows.

        Parameters
        ----------
        name : str
            The column.
        rows : ndarray, shape (n,), int64
            Rows of the shard, sorted.

        Returns
        -------
        Ragged
            The values, in the order of `rows`.

        Raises
        ------
        FormatError
            If the table or the file is not what the survey declares.
        """
        column = self._survey[name]
        ragged = self._survey.ragged_dims(column)
        group = f"ragged/{'.'.join(ragged)}"
        offsets = self._table.offsets.get(f"{group}.offsets")
        if offsets is None or len(offsets) != self._table.n_objects + 1:
            raise FormatError(str(self._path), f"{group}.offsets", "none for every object")
        lengths = (
            np.diff(offsets)[:, None] if len(ragged) == 1 else self._table.offsets[f"{group}.shape"]
        )
        shapes = np.empty((len(rows), len(column.shape)), np.int64)
        for axis, dim in enumerate(column.shape):
            fixed = isinstance(dim, int)
            shapes[:, axis] = dim if fixed else lengths[rows, ragged.index(str(dim))]
        fixed_sizes = _fixed_shape(column)
        leading = len(ragged) == 1 and column.shape[0] == ragged[0]
        rest = fixed_sizes if leading else ()
        step = 1 if leading else math.prod(fixed_sizes)
        begins, ends = step * offsets[rows], step * offsets[rows + 1]
        total = int((ends - begins).sum())
        values = np.empty((total, *rest), column.numpy_dtype)
        out_offsets = np.concatenate(([0], np.cumsum(ends - begins)))
        path = f"ragged/{column.name}"
        place = self._place(path)
        read = self._flat_ranges if place.sizes is None else self._flat_chunks
        if total:
            read(path, values, begins, ends, int(step * offsets[-1]))
        return Ragged(values, out_offsets, shapes)

    def _flat_ranges(
        self,
        path: str,
        values: NDArray[Any],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        _: int,
    ) -> None:
        start = self._start(path)
        width = values.nbytes // len(values)
        view = values.reshape(-1).view(np.uint8).data
        at = 0
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            size = (end - begin) * width
            if size:
                self._source.read_into(start + begin * width, view[at : at + size])
                at += size

    def _flat_chunks(
        self,
        path: str,
        values: NDArray[Any],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        total: int,
    ) -> None:
        place = self._place(path)
        sizes = _sizes(place)
        per_chunk = place.chunk_rows
        if len(place.starts) != -(-total // per_chunk):
            raise FormatError(
                f"{self._path}, {path}",
                f"{-(-total // per_chunk)} chunks, as its offsets say",
                f"{len(place.starts)}",
            )
        decoded: dict[int, NDArray[Any]] = {}
        chunk = np.empty((per_chunk, *values.shape[1:]), values.dtype)
        at = 0
        for first, end in zip(begins.tolist(), ends.tolist(), strict=True):
            begin = first
            while begin < end:
                number = begin // per_chunk
                if number not in decoded:
                    # Rows are sorted: a chunk once passed is not needed again.
                    decoded = {number: chunk}
                    packed = np.empty(int(sizes[number]), np.uint8)
                    self._source.read_into(int(place.starts[number]), packed.data)
                    self._decode(path, packed, chunk, number * per_chunk)
                inside = begin - number * per_chunk
                take = min(end - begin, per_chunk - inside)
                values[at : at + take] = chunk[inside : inside + take]
                at += take
                begin += take


def _fixed_shape(column: Column) -> tuple[int, ...]:
    return tuple(size for size in column.shape if isinstance(size, int))


def _sizes(place: Place) -> NDArray[np.int64]:
    assert place.sizes is not None
    return place.sizes
