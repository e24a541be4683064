"""
Read rows of a shard by its row table: byte ranges, a bounded inflate, no HDF5 library.

First all ranges are worked out and told to the source, then they are read: small values
together and then sorted out, large ones straight to their places, chunks row by row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError, StoreError
from astropile.hdf5.codec import decode_chunk
from astropile.hdf5.rows import MOST_OF_STORED, Place, RowTable, chunk_sum
from astropile.names import COMMON_COLUMNS
from astropile.schema import Column, Ragged, Survey
from astropile.store.memory import new_array
from astropile.store.ranges import merge_ranges

GAP_NBYTES: Final = 16384
"""Pieces of a file at most this far apart are read together."""

_NARROW_NBYTES: Final = 4096
"""Values smaller than this are read together and then sorted out."""

_TASK_NBYTES: Final = 2**20
"""About how much one task reads."""

_BLOCK_NBYTES: Final = 8 * 2**20
"""So much of narrow columns is sorted out at once."""

_MAX_CHUNK_NBYTES: Final = 64 * 2**20
"""Chunks of ragged columns unpack to no more."""

_scratch = threading.local()

Task = Callable[[], None]


class RangeSource(Protocol):
    """Anything that gives bytes from a place on."""

    def expect(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """
        Hear which ranges will be read next, and get them ready if that helps.

        Parameters
        ----------
        starts, lengths : ndarray, shape (n,), int64
            First byte and length of each; every later read lies in one of them.
        """

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


@dataclass(frozen=True)
class _Contiguous:
    """A contiguous column and where its values go."""

    name: str
    start: int
    width: int
    flat: NDArray[np.uint8]
    """The values as bytes, one after another."""


@dataclass(frozen=True)
class _Chunked:
    """A column of one chunk per row and where its values go."""

    name: str
    place: Place
    values: NDArray[Any]


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

    def __init__(
        self,
        source: RangeSource,
        path: Path,
        survey: Survey,
        table: RowTable,
    ) -> None:
        self._source, self._path = source, path
        self._survey, self._table = survey, table

    def fixed_tasks(
        self,
        names: Sequence[str],
        rows: NDArray[np.int64],
        out: Mapping[str, NDArray[Any]],
        at: NDArray[np.int64],
    ) -> tuple[list[Task], int]:
        """
        Work out how to read fixed columns of some rows into arrays.

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

        Returns
        -------
        tasks : list of callable
            What is left to do, in any order, on any thread. A task raises `FormatError` where
            the file is not what the table tells.
        n_bytes : int
            How many bytes of values they give.

        Raises
        ------
        FormatError
            If the table is not what the survey declares.
        """
        narrow: list[_Contiguous] = []
        wide: list[_Contiguous] = []
        chunked: list[_Chunked] = []
        n_bytes = 0
        for name in names if len(rows) else ():
            values, place = out[name], self._place(name)
            width = values.nbytes // len(values)
            n_bytes += width * len(rows)
            if place.sizes is not None:
                chunked.append(_Chunked(name, place, values))
            elif width:
                start = self._start(name, width * self._table.n_objects)
                flat = values.reshape(-1).view(np.uint8)
                kind = narrow if width < _NARROW_NBYTES else wide
                kind.append(_Contiguous(name, start, width, flat))
        tasks: list[Task] = []
        ranges: list[NDArray[np.int64]] = []
        for plan in (
            self._narrow_tasks(narrow, rows, at),
            self._wide_tasks(wide, rows, at),
            self._chunk_tasks(chunked, rows, at),
        ):
            for some, pieces in plan:
                tasks += some
                ranges.append(pieces)
        if ranges:
            starts, lengths = ranges[0] if len(ranges) == 1 else np.concatenate(ranges, axis=1)
            self._source.expect(starts, lengths)
        return tasks, n_bytes

    def mapped(self, names: Sequence[str], start: int, stop: int) -> dict[str, NDArray[Any]]:
        """
        Give columns of consecutive rows as they lie in the mapped file.

        Parameters
        ----------
        names : sequence of str
            Native or common columns, neither shared nor ragged.
        start, stop : int
            First row, and one past the last.

        Returns
        -------
        dict of str to ndarray
            Read-only, of those columns that are contiguous and aligned in a file that can be
            mapped.

        Raises
        ------
        FormatError
            If the table is not what the survey declares.
        """
        found: dict[str, NDArray[Any]] = {}
        view: Any = getattr(self._source, "view", None)
        for name in names if view is not None else ():
            like = self.room(name, 0)
            size = math.prod(like.shape[1:])
            width = size * like.itemsize
            if self._place(name).sizes is not None or not width:
                continue
            begin = self._start(name, width * self._table.n_objects) + start * width
            if begin % like.itemsize == 0:
                try:
                    memory = view(begin, (stop - start) * width)
                except FormatError as error:
                    raise self._told(error, name, range(start, stop)) from error
                flat = np.frombuffer(memory, like.dtype)
                found[name] = flat.reshape(stop - start, *like.shape[1:])
        return found

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
        values, path = self.room(name, 1), f"shared/{name}"
        if values.nbytes:
            start = self._start(path, values.nbytes)
            self._source.expect(np.array([start]), np.array([values.nbytes]))
            self._read(path, None, start, values.reshape(-1).view(np.uint8).data)
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
            return new_array((n_rows, *_fixed_shape(column)), column.numpy_dtype)
        assert name in COMMON_COLUMNS
        if name in ("object_id", "observation_id"):
            dtype = self._survey[str(self._survey.aliases[name])].numpy_dtype
        else:
            dtype = np.dtype("<i8" if name == "healpix" else "<f8")
        return new_array((n_rows,), dtype)

    def _place(self, path: str) -> Place:
        place = self._table.places.get(path)
        if place is None:
            raise FormatError(str(self._path), f"the column {path!r}", "no such column")
        return place

    def _read(self, path: str, rows: range | None, start: int, out: Any) -> None:
        try:
            self._source.read_into(start, out)
        except (FormatError, StoreError) as error:
            raise self._told(error, path, rows) from error

    def _told(self, error: FormatError | StoreError, path: str, rows: range | None) -> Exception:
        """Tell what went wrong while bytes were read with the column and its rows."""
        where = self._where(path, rows)
        if isinstance(error, FormatError):
            return FormatError(where, error.expected, error.found)
        where = error.url + where.removeprefix(str(self._path))
        return StoreError(where, error.expected, error.found)

    def _where(self, path: str, rows: range | None) -> str:
        if not rows:
            return f"{self._path}, column {path!r}"
        last = f" to {rows[-1]}" if len(rows) > 1 else ""
        return f"{self._path}, column {path!r}, row{'s' * bool(last)} {rows[0]}{last}"

    def _outside(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pieces are not inside the file; sums of such numbers could wrap around."""
        size = self._table.file_size
        return (
            (starts < 0) | (sizes < 0) | (sizes > size) | (starts > size - np.minimum(sizes, size))
        )

    # -- contiguous columns

    def _start(self, path: str, n_bytes: int) -> int:
        """Give the first byte of a contiguous column that has so many."""
        place = self._place(path)
        start = int(place.starts[0]) if len(place.starts) == 1 else -1
        if start < 0:
            raise FormatError(self._where(path, None), "data", "none were written")
        if start + n_bytes > self._table.file_size:
            raise FormatError(
                self._where(path, None),
                f"{n_bytes} bytes from byte {start} on",
                f"a file of {self._table.file_size}",
            )
        return start

    def _narrow_tasks(
        self, columns: list[_Contiguous], rows: NDArray[np.int64], at: NDArray[np.int64]
    ) -> Iterator[tuple[list[Task], NDArray[np.int64]]]:
        """Plan to read small values together, and the columns together that lie together."""
        if not columns:
            return
        columns = sorted(columns, key=lambda column: column.start)
        if np.any(rows[1:] < rows[:-1]):
            order = np.argsort(rows, kind="stable")
            rows, at = rows[order], at[order]
        begins = np.array([column.start for column in columns])[:, None]
        widths = np.array([column.width for column in columns])[:, None]
        step = max(1, _BLOCK_NBYTES // int(widths.sum()))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            starts = (begins + widths * some).reshape(-1)
            sizes = np.repeat(widths, len(some))
            plan = merge_ranges(starts, sizes, gap=GAP_NBYTES)
            if plan.n_bytes > 4 * sizes.sum() + _TASK_NBYTES:
                plan = merge_ranges(starts, sizes, gap=512)
            bases = np.cumsum(plan.lengths) - plan.lengths
            offsets = (bases[plan.range_of] + plan.offset_of).reshape(len(columns), -1)
            ranges = np.stack([plan.starts, plan.lengths])
            places = at[first : first + step]
            yield [partial(self._sort_out, columns, some, places, ranges, offsets)], ranges

    def _sort_out(
        self,
        columns: list[_Contiguous],
        rows: NDArray[np.int64],
        at: NDArray[np.int64],
        ranges: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> None:
        """Read ranges one after another into memory, and take the values out of it."""
        whole = np.empty(int(ranges[1].sum()), np.uint8)
        done = 0
        for start, length in ranges.T.tolist():
            names = columns[0].name if len(columns) == 1 else f"{columns[0].name} and others"
            span = range(int(rows[0]), int(rows[-1]) + 1)
            self._read(names, span, start, whole.data[done : done + length])
            done += length
        in_file = bool(np.all(np.diff(rows) == 1))
        in_place = bool(np.all(np.diff(at) == 1))
        to: Any = slice(int(at[0]), int(at[0]) + len(at)) if in_place else at
        for column, offset in zip(columns, offsets, strict=True):
            width, begin = column.width, int(offset[0])
            if in_file:
                found = whole[begin : begin + len(rows) * width].reshape(-1, width)
            else:
                shape = (len(whole) - width + 1, width)
                found = np.lib.stride_tricks.as_strided(whole, shape, (1, 1))[offset]
            column.flat.reshape(-1, width)[to] = found

    def _wide_tasks(
        self, columns: list[_Contiguous], rows: NDArray[np.int64], at: NDArray[np.int64]
    ) -> Iterator[tuple[list[Task], NDArray[np.int64]]]:
        """Plan to read large values, each column's rows that follow one another at once."""
        if not columns:
            return
        if hasattr(self._source, "gather"):
            yield self._gathered(columns, rows, at)
            return
        runs: list[list[int]] = []
        next_row = next_at = -1
        for row, to in zip(rows.tolist(), at.tolist(), strict=True):
            if row == next_row and to == next_at:
                runs[-1][2] += 1
            else:
                runs.append([row, to, 1])
            next_row, next_at = row + 1, to + 1
        # Few rows are the rule: lists are several times as fast as arrays then.
        tasks: list[Task] = []
        ranges: list[tuple[int, int]] = []
        for column in columns:
            start, width = column.start, column.width
            step = max(1, _TASK_NBYTES // width)
            pieces: list[tuple[int, int, int, int]] = []
            held = 0
            for first, to, length in runs:
                for done in range(0, length, step):
                    count, row = min(step, length - done), first + done
                    piece = (start + row * width, count * width, (to + done) * width, row)
                    pieces.append(piece)
                    ranges.append(piece[:2])
                    held += count
                    if held >= step:
                        tasks.append(partial(self._to_places, column, pieces))
                        pieces, held = [], 0
            if pieces:
                tasks.append(partial(self._to_places, column, pieces))
        yield tasks, np.array(ranges, np.int64).T

    def _gathered(
        self, columns: list[_Contiguous], rows: NDArray[np.int64], at: NDArray[np.int64]
    ) -> tuple[list[Task], NDArray[np.int64]]:
        """Plan to copy large values out of a file that gives many rows of a column at once."""
        gather = self._source.gather  # type: ignore[attr-defined]
        begins = np.array([column.start for column in columns])[:, None]
        widths = np.array([column.width for column in columns])[:, None]
        first = int(at[0])
        in_place = int(at[-1]) - first == len(at) - 1 and bool(np.all(np.diff(at) == 1))
        tasks: list[Task] = []
        for column in columns:
            out = column.flat.reshape(-1, column.width)
            step = max(1, _TASK_NBYTES // column.width)
            for done in range(0, len(rows), step):
                some = rows[done : done + step]
                to: Any = at[done : done + step]
                if in_place:
                    to = slice(first + done, first + done + len(some))
                tasks.append(partial(gather, column.start, self._table.n_objects, some, out, to))
        starts = (begins + widths * rows).reshape(-1)
        return tasks, np.stack([starts, np.repeat(widths, len(rows))])

    def _to_places(self, column: _Contiguous, pieces: list[tuple[int, int, int, int]]) -> None:
        view = column.flat.data
        for start, size, to, row in pieces:
            rows = range(row, row + size // column.width)
            self._read(column.name, rows, start, view[to : to + size])

    # -- chunked columns

    def _chunk_tasks(
        self, columns: list[_Chunked], rows: NDArray[np.int64], at: NDArray[np.int64]
    ) -> Iterator[tuple[list[Task], NDArray[np.int64]]]:
        """Plan to read each row's chunks of all columns at once: they lie next to one another."""
        if not columns:
            return
        for column in columns:
            place = column.place
            if place.chunk_rows != 1 or len(place.starts) != self._table.n_objects:
                raise FormatError(
                    self._where(column.name, None),
                    "a chunk for each row",
                    f"{len(place.starts)} chunks of {place.chunk_rows} rows",
                )
        starts = np.stack([column.place.starts[rows] for column in columns], axis=1)
        sizes = np.stack([_sizes(column.place)[rows] for column in columns], axis=1)
        ends = starts + sizes
        bad = self._outside(starts, sizes)
        if bad.any():
            row, which = np.argwhere(bad)[0]
            found = f"{sizes[row, which]} bytes from byte {starts[row, which]} on"
            where = self._where(columns[which].name, range(int(rows[row]), int(rows[row]) + 1))
            raise FormatError(where, "a chunk inside the file", found)
        begin, end = starts.min(axis=1), ends.max(axis=1)
        together = end - begin <= sizes.sum(axis=1) + GAP_NBYTES
        width = sum(column.values.nbytes // len(column.values) for column in columns)
        step = max(1, _TASK_NBYTES // max(1, width))
        for first in range(0, len(rows), step):
            some = slice(first, first + step)
            pieces = [
                np.stack([begin[some], end[some] - begin[some]])[:, together[some]],
                np.stack([starts[some], sizes[some]])[:, ~together[some]].reshape(2, -1),
            ]
            numbers = list(zip(rows[some].tolist(), at[some].tolist(), strict=True))
            task = partial(self._chunk_rows, columns, numbers, starts[some], sizes[some])
            yield [task], np.concatenate(pieces, axis=1)

    def _chunk_rows(
        self,
        columns: list[_Chunked],
        numbers: list[tuple[int, int]],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
    ) -> None:
        for (row, to), begins, lengths in zip(
            numbers, starts.tolist(), sizes.tolist(), strict=True
        ):
            pieces = list(zip(columns, begins, lengths, strict=True))
            begin = min(begins)
            span = max(start + length for _, start, length in pieces) - begin
            rows = range(row, row + 1)
            if span <= sum(lengths) + GAP_NBYTES:
                packed = _scratch_room(span)
                self._read(columns[0].name, rows, begin, packed)
                for column, start, length in pieces:
                    part = packed[start - begin : start - begin + length]
                    self._decode(column.name, part, column.values[to], row, column.place, row)
                continue
            for column, start, length in pieces:
                packed = _scratch_room(length)
                self._read(column.name, rows, start, packed)
                self._decode(column.name, packed, column.values[to], row, column.place, row)

    def _decode(
        self, name: str, packed: Any, out: NDArray[Any], row: int, place: Place, number: int
    ) -> None:
        """Unpack a chunk by its number, once it is known for the one that the table describes."""
        if place.sums is not None and chunk_sum(packed) != place.sums[number]:
            where = self._where(name, range(row, row + 1))
            raise FormatError(where, "the chunk that its row table describes", "another")
        try:
            decode_chunk(packed, out)
        except ValueError as error:
            where = self._where(name, range(row, row + 1))
            raise FormatError(where, "readable data", str(error)) from error

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
        firsts, lasts = offsets[rows], offsets[rows + 1]
        width = math.prod(rest) * column.numpy_dtype.itemsize
        # Before anything is multiplied or memory is taken: no numbers that no file can hold.
        most = min(int(offsets[-1]), MOST_OF_STORED * self._table.file_size // max(1, width * step))
        bad = (firsts < 0) | (lasts < firsts) | (lasts > most)
        if not bad.any():
            sizes = shapes.astype(np.float64).prod(axis=1)
            bad = (shapes < 0).any(axis=1) | (sizes != math.prod(fixed_sizes) * (lasts - firsts))
        if bad.any():
            row = int(rows[bad][0])
            where = self._where(f"{group}.offsets", range(row, row + 1))
            raise FormatError(
                where,
                "offsets that grow, stay inside the file and fit the shapes",
                f"{offsets[row]}, {offsets[row + 1]}",
            )
        begins, ends = step * firsts, step * lasts
        total = int((ends - begins).sum())
        values = new_array((total, *rest), column.numpy_dtype)
        out_offsets = np.concatenate(([0], np.cumsum(ends - begins)))
        path = f"ragged/{column.name}"
        place = self._place(path)
        read = self._flat_ranges if place.sizes is None else self._flat_chunks
        if total:
            span = range(int(rows[0]), int(rows[-1]) + 1)
            read(path, values, begins, ends, int(step * offsets[-1]), span)
        return Ragged(values, out_offsets, shapes)

    def _flat_ranges(
        self,
        path: str,
        values: NDArray[Any],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        total: int,
        rows: range,
    ) -> None:
        width = values.nbytes // len(values)
        start = self._start(path, total * width)
        view = values.reshape(-1).view(np.uint8).data
        some = ends > begins
        begins, ends = begins[some], ends[some]
        # Objects that follow one another are read at once.
        heads = np.concatenate(([0], np.flatnonzero(begins[1:] != ends[:-1]) + 1))
        begins, ends = begins[heads], ends[np.concatenate((heads[1:] - 1, [len(ends) - 1]))]
        starts, sizes = start + begins * width, (ends - begins) * width
        self._source.expect(starts, sizes)
        at = 0
        for first, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            self._read(path, rows, first, view[at : at + size])
            at += size

    def _flat_chunks(
        self,
        path: str,
        values: NDArray[Any],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
        total: int,
        rows: range,
    ) -> None:
        place = self._place(path)
        starts, sizes = place.starts, _sizes(place)
        per_chunk = place.chunk_rows
        n_chunks = -(-total // max(1, per_chunk))
        width = values.nbytes // len(values)
        fits = 1 <= per_chunk <= _MAX_CHUNK_NBYTES // max(1, width)
        if not fits or len(starts) != n_chunks or ends.max() > total:
            raise FormatError(
                self._where(path, None), f"{n_chunks} chunks, as its offsets say", f"{len(starts)}"
            )
        if np.any(self._outside(starts, sizes)):
            raise FormatError(self._where(path, None), "chunks inside the file", "others")
        some = ends > begins
        first, last = begins[some] // per_chunk, (ends[some] - 1) // per_chunk
        edges = np.bincount(first, minlength=n_chunks + 1)
        edges -= np.bincount(last + 1, minlength=n_chunks + 1)
        needed = np.cumsum(edges[:-1]) > 0
        self._source.expect(starts[needed], sizes[needed])
        held = -1
        chunk = np.empty((per_chunk, *values.shape[1:]), values.dtype)
        at = 0
        for first_value, end in zip(begins.tolist(), ends.tolist(), strict=True):
            begin = first_value
            while begin < end:
                number = begin // per_chunk
                if number != held:
                    # Rows are sorted: a chunk once passed is not needed again.
                    packed = _scratch_room(int(sizes[number]))
                    self._read(path, rows, int(starts[number]), packed)
                    self._decode(path, packed, chunk, rows.start, place, number)
                    held = number
                inside = begin - number * per_chunk
                take = min(end - begin, per_chunk - inside)
                values[at : at + take] = chunk[inside : inside + take]
                at += take
                begin += take


def _scratch_room(n_bytes: int) -> memoryview:
    """Give memory of this thread, until it is asked for again."""
    memory = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = _scratch.memory = np.empty(n_bytes + n_bytes // 4, np.uint8)
    return memory.data[:n_bytes]


def _fixed_shape(column: Column) -> tuple[int, ...]:
    return tuple(size for size in column.shape if isinstance(size, int))


def _sizes(place: Place) -> NDArray[np.int64]:
    assert place.sizes is not None
    return place.sizes
