"""
Read a catalogue that lies in a store: its footers once, then just the column chunks wanted.

`_metadata` holds the footers of all files. What is wanted of which file is worked out from it,
all of that is fetched side by side, and Parquet is decoded from memory.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astropile.errors import AstroPileError, FormatError, StoreError
from astropile.hats import check_hash
from astropile.names import HEALPIX_29
from astropile.store.protocol import Pending, RemotePath, Wanted, first_line, plan_fetch

Group = tuple[int, int, int]
"""A row group: its number in the footers, its first row, its rows."""


MAX_CHUNK_NBYTES: Final = 2**31
"""A column chunk that claims to be larger is none."""


def read_columns(folder: RemotePath, columns: Sequence[str] | None, tag: str = "") -> pa.Table:
    """
    Read columns of every object.

    Parameters
    ----------
    folder : RemotePath
        The catalogue's folder.
    columns : sequence of str or None
        Which; None for all.
    tag : str
        Keep what is read in the cache, if there is one, as of this tag.

    Returns
    -------
    pyarrow.Table
        One row per object, in order.

    Raises
    ------
    FormatError
        If it is not such a catalogue.
    StoreError
        If the store fails.
    """
    footers = _footers(folder, tag)
    names = footers.schema.to_arrow_schema().names if columns is None else list(columns)
    return _read(folder, footers, _groups(folder, footers, None), names, tag)


def read_sky(
    folder: RemotePath, ranges: NDArray[np.int64], columns: Sequence[str] = (), tag: str = ""
) -> tuple[NDArray[np.int64], pa.Table]:
    """
    Read the rows whose order-29 pixels lie in ranges; only row groups that may hold some.

    Parameters
    ----------
    folder : RemotePath
        The catalogue's folder.
    ranges : ndarray, shape (n, 2), int64
        First pixel, and last pixel + 1, of each; sorted and apart.
    columns : sequence of str
        Which columns.
    tag : str
        As for `read_columns`.

    Returns
    -------
    rows : ndarray, shape (m,), int64
        Row numbers, sorted.
    table : pyarrow.Table
        Those rows.
    """
    footers = _footers(folder, tag)
    groups = _groups(folder, footers, ranges)
    table = _read(folder, footers, groups, [*columns, HEALPIX_29], tag)
    numbers = [np.empty(0, np.int64)]
    numbers += [np.arange(start, start + n_rows) for _, start, n_rows in groups]
    pixels = table[HEALPIX_29].to_numpy()
    after = np.searchsorted(ranges[:, 1], pixels, side="right")
    inside = np.zeros(len(pixels), bool)
    some = after < len(ranges)
    inside[some] = ranges[after[some], 0] <= pixels[some]
    return np.concatenate(numbers)[inside], table.filter(pa.array(inside)).select(list(columns))


def read_schema(folder: RemotePath) -> pa.Schema:
    """
    Read which columns there are.

    Parameters
    ----------
    folder : RemotePath
        The catalogue's folder.

    Returns
    -------
    pyarrow.Schema
        The columns.

    Raises
    ------
    FormatError
        If it is not such a catalogue.
    StoreError
        If the store fails.
    """
    return _footers(folder, "").schema.to_arrow_schema()


def _footers(folder: RemotePath, tag: str) -> pq.FileMetaData:
    path = folder / "dataset" / "_metadata"
    content = path.store.read(path.key, tag=tag)
    if content is None:
        raise FormatError(str(path), "the footers of a HATS catalogue", "no such file")
    # Before anything is made of it: a reader of Parquet may not survive other footers.
    check_hash(content, str(path))
    with _believing(path):
        return pq.read_metadata(pa.BufferReader(content))


@contextlib.contextmanager
def _believing(path: RemotePath) -> Iterator[None]:
    """Say of footers that lead nowhere what they are."""
    try:
        yield
    except AstroPileError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, AttributeError) as error:
        reason = first_line(error)
        raise FormatError(str(path), "the footers of a HATS catalogue", reason) from error


def _groups(
    folder: RemotePath, footers: pq.FileMetaData, ranges: NDArray[np.int64] | None
) -> list[Group]:
    """List the row groups that may hold rows in the ranges, in order of their rows."""
    found: list[tuple[int, int, int, int]] = []
    with _believing(folder / "dataset" / "_metadata"):
        column = footers.schema.names.index(HEALPIX_29)
        for number in range(footers.num_row_groups):
            facts = footers.row_group(number)
            limits = facts.column(column).statistics
            found.append((limits.min, limits.max + 1, number, facts.num_rows))
    # The rows of the catalogue are sorted along the sky, and so are the row groups.
    found.sort()
    groups: list[Group] = []
    start = 0
    for first, last, number, n_rows in found:
        if ranges is None or _overlap(ranges, first, last):
            groups.append((number, start, n_rows))
        start += n_rows
    return groups


def _overlap(ranges: NDArray[np.int64], first: int, last: int) -> bool:
    after = int(np.searchsorted(ranges[:, 1], first, side="right"))
    return after < len(ranges) and int(ranges[after, 0]) < last


def _read(
    folder: RemotePath,
    footers: pq.FileMetaData,
    groups: Sequence[Group],
    names: Sequence[str],
    tag: str,
) -> pa.Table:
    """Fetch the column chunks of row groups, and decode them in the order given."""
    schema = footers.schema.to_arrow_schema()
    numbers = {name: number for number, name in enumerate(footers.schema.names)}
    wanted: dict[str, list[tuple[int, int]]] = {}
    members: dict[str, list[int]] = {}
    ranges_of: dict[str, Wanted] = {}
    with _believing(folder / "dataset" / "_metadata"):
        for group, *_ in groups:
            facts = footers.row_group(group)
            for name in names:
                chunk = facts.column(numbers[name])
                start, size = chunk.data_page_offset, chunk.total_compressed_size
                if chunk.dictionary_page_offset:
                    start = min(start, chunk.dictionary_page_offset)
                if size > MAX_CHUNK_NBYTES:
                    raise ValueError(f"{size} bytes of column {name!r} in one row group")
                wanted.setdefault(chunk.file_path, []).append((start, size))
            if names:
                members.setdefault(facts.column(0).file_path, []).append(group)
        for relative, pieces in wanted.items():
            path = folder
            for word in _words(folder, relative):
                path /= word
            places = np.array(pieces, np.int64)
            starts, lengths = plan_fetch(places[:, 0], places[:, 1], len(pieces))
            ranges_of[relative] = Wanted(path.key, starts, lengths)
    pending = {}
    for relative, asked in ranges_of.items():
        path = RemotePath(folder.store, asked.key)
        pending[relative] = path, path.store.fetch(asked, tag=tag)
    tables = []
    try:
        for relative, (path, ranges) in pending.items():
            try:
                file = pq.ParquetFile(
                    _Sparse(ranges.finish()), metadata=footers, page_checksum_verification=True
                )
                tables.append(file.read_row_groups(members[relative], list(names)))
            except StoreError:
                raise
            except (pa.ArrowException, OSError, ValueError, LookupError) as error:
                reason = first_line(error)
                raise FormatError(str(path), "Parquet as _metadata says", reason) from error
    finally:
        for _, ranges in pending.values():
            ranges.cancel()
    empty = pa.schema([schema.field(name) for name in names]).empty_table()
    return pa.concat_tables([empty.replace_schema_metadata(), *_plain(tables)]).select(list(names))


def _plain(tables: Sequence[pa.Table]) -> list[pa.Table]:
    return [table.replace_schema_metadata() for table in tables]


def _words(folder: RemotePath, relative: str) -> list[str]:
    words = ["dataset", *relative.split("/")]
    if any(word in ("", ".", "..") for word in words) or "\\" in relative:
        raise FormatError(str(folder), "files inside the catalogue", repr(relative))
    return words


class _Sparse(io.RawIOBase):
    """A file of which only the ranges fetched are there."""

    def __init__(self, ranges: Pending) -> None:
        self._ranges, self._at = ranges, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._ranges.end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> Any:
        content = self._ranges.view(self._at, size)
        self._at += len(content)
        return content.tobytes()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
