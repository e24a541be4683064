"""Read rows of a shard by its row table: byte ranges, a bounded inflate, no HDF5 library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

    def read_columns(
        self,
        names: Sequence[str],
        rows: NDArray[np.int64],
        out: dict[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any] | Ragged]:
        """
        Read columns of some rows.

        Parameters
        ----------
        names : sequence of str
            Native or common columns.
        rows : ndarray, shape (n,), int64
            Rows of the shard, sorted, each once.
        out : dict of str to ndarray, optional
            Where the values of fixed columns go: C-contiguous, shape ``(n, *shape)``.

        Returns
        -------
        dict of str to ndarray or Ragged
            The values, in the order of `rows`. A shared column: its one value.

        Raises
        ------
        FormatError
            If the table or the file is not what the survey declares.
        """
        found: dict[str, NDArray[Any] | Ragged] = {}
        tasks: list[Callable[[], None]] = []
        chunked: list[tuple[str, Place, NDArray[Any]]] = []
        n_bytes = 0
        for name in names:
            column = self._column(name)
            ragged = () if column is None else self._survey.ragged_dims(column)
            if column is not None and column.shared:
                values = np.empty(self._fixed_shape(column), column.numpy_dtype)
                self._contiguous(f"shared/{name}", values[None], np.zeros(1, np.int64))
                found[name] = values
            elif column is not None and ragged:
                found[name] = self._ragged(column, ragged, rows)
            else:
                values = self._room(name, column, len(rows), out)
                found[name] = values
                place = self._place(name)
                n_bytes += values.nbytes
                if place.sizes is None:
                    tasks += self._contiguous_tasks(name, values, rows)
                else:
                    chunked.append((name, place, values))
        tasks += self._chunk_tasks(chunked, rows)
        run_all(tasks, n_bytes)
        return found

    # -- what the survey says

    def _column(self, name: str) -> Column | None:
        return self._survey[name] if name in self._survey.column_names else None

    def _dtype(self, name: str, column: Column | None) -> np.dtype[Any]:
        if column is not None:
            return column.numpy_dtype
        if name in ("object_id", "observation_id"):
            return self._survey[str(self._survey.aliases[name])].numpy_dtype
        return np.dtype("<i8" if name == "healpix" else "<f8")

    def _fixed_shape(self, column: Column) -> tuple[int, ...]:
        return tuple(size for size in column.shape if isinstance(size, int))

    def _room(
        self, name: str, column: Column | None, n_rows: int, out: dict[str, NDArray[Any]] | None
    ) -> NDArray[Any]:
        assert column is not None or name in COMMON_COLUMNS
        shape = (n_rows, *(() if column is None else self._fixed_shape(column)))
        dtype = self._dtype(name, column)
        given = None if out is None else out.get(name)
        if given is None:
            return np.empty(shape, dtype)
        if given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous:
            raise ValueError(
                f"room for column {name!r}: expected {dtype} {shape}, C-contiguous, "
                f"found {given.dtype} {given.shape}"
            )
        return given

    def _place(self, path: str) -> Place:
        place = self._table.places.get(path)
        if place is None:
            raise FormatError(str(self._path), f"the column {path!r}", "no such column")
        return place

    # -- contiguous columns

    def _contiguous_tasks(
        self, path: str, values: NDArray[Any], rows: NDArray[np.int64]
    ) -> list[Callable[[], None]]:
        nbytes = values.nbytes // max(1, len(rows))
        if nbytes * len(rows) < 4 * _WHOLE_SPAN_NBYTES:
            return [partial(self._contiguous, path, values, rows)]
        step = max(1, 2**20 // max(1, nbytes))
        return [
            partial(self._contiguous, path, values[i : i + step], rows[i : i + step])
            for i in range(0, len(rows), step)
        ]

    def _contiguous(self, path: str, values: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """Read rows of a contiguous dataset into an array."""
        if not values.nbytes:
            return
        begin = self._start(path)
        width = values.nbytes // len(rows)
        flat = values.reshape(-1).view(np.uint8)
        first, last = int(rows[0]), int(rows[-1])
        span = (last - first + 1) * width
        if last - first + 1 == len(rows):
            self._source.read_into(begin + first * width, flat.data)
            return
        if span <= _WHOLE_SPAN_NBYTES:
            whole = np.empty(span, np.uint8)
            self._source.read_into(begin + first * width, whole.data)
            np.take(whole.reshape(-1, width), rows - first, axis=0, out=flat.reshape(-1, width))
            return
        view = flat.data
        breaks = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        read, numbers = self._source.read_into, rows.tolist()
        for at, end in pairwise(breaks):
            read(begin + numbers[at] * width, view[at * width : end * width])

    def _start(self, path: str) -> int:
        start = int(self._place(path).starts[0])
        if start < 0:
            raise FormatError(str(self._path), f"data of column {path!r}", "none were written")
        return start

    # -- chunked columns

    def _chunk_tasks(
        self, chunked: list[tuple[str, Place, NDArray[Any]]], rows: NDArray[np.int64]
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
            partial(self._one_row, chunked, starts[at], sizes[at], at, int(rows[at]))
            for at in range(len(rows))
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

    def _ragged(self, column: Column, ragged: tuple[str, ...], rows: NDArray[np.int64]) -> Ragged:
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
        fixed_sizes = self._fixed_shape(column)
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


def _sizes(place: Place) -> NDArray[np.int64]:
    assert place.sizes is not None
    return place.sizes
