"""Say which bytes of a shard it takes to read columns of some rows: pure, nothing is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.hdf5.rows import MOST_OF_STORED, Place, RowTable
from astropile.names import COMMON_COLUMNS
from astropile.schema import Column, Survey


@dataclass(frozen=True)
class Needed:
    """
    Pieces of a file.

    Parameters
    ----------
    starts, lengths : ndarray, shape (n,), int64
        First byte and length of each, in no order; some may be empty, overlap or repeat.
    is_checked : bool
        All of them are compressed chunks whose checksums the table knows.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    is_checked: bool


def needed_ranges(
    survey: Survey, table: RowTable, names: Sequence[str], rows: NDArray[np.int64], where: str
) -> Needed:
    """
    Say which bytes reading columns of some rows takes.

    Parameters
    ----------
    survey : Survey
        The survey as the tree tells it.
    table : RowTable
        Where everything lies.
    names : sequence of str
        Native or common columns, of any kind.
    rows : ndarray, shape (n,), int64
        Rows of the shard, in any order.
    where : str
        The file, for messages.

    Returns
    -------
    Needed
        The pieces; of a shared column its one value.

    Raises
    ------
    FormatError
        If the table is not what the survey declares.
    """
    pieces: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    is_checked = True
    for name in names:
        column = survey[name] if name in survey.column_names else None
        if column is not None and column.shared:
            path, begins, ends = f"shared/{name}", np.zeros(1, np.int64), np.ones(1, np.int64)
            width = column.numpy_dtype.itemsize * _size(column)
        elif column is not None and survey.ragged_dims(column):
            path = f"ragged/{name}"
            begins, ends, width = _ragged(survey, table, column, rows, where)
        else:
            path, begins, ends = name, rows, rows + 1
            width = common_width(survey, name) if column is None else column_width(column)
        some = ends > begins
        begins, ends = begins[some], ends[some]
        if not len(begins) or not width:
            continue
        place = table.places.get(path)
        if place is None:
            raise FormatError(where, f"the column {path!r}", "no such column")
        if place.sizes is None:
            is_checked = False
            if len(place.starts) != 1:
                raise FormatError(where, f"one place of {path!r}", f"{len(place.starts)}")
            pieces.append((place.starts[0] + begins * width, (ends - begins) * width))
        else:
            numbers = _chunks(place, begins, ends, f"{where}, {path}")
            pieces.append((place.starts[numbers], place.sizes[numbers]))
            is_checked &= place.sums is not None
    none = np.empty(0, np.int64)
    starts = np.concatenate([none, *(piece[0] for piece in pieces)])
    lengths = np.concatenate([none, *(piece[1] for piece in pieces)])
    size = table.file_size
    # Sums of the numbers of a hostile table could wrap around.
    bad = (
        (starts < 0)
        | (lengths < 0)
        | (lengths > size)
        | (starts > size - np.minimum(lengths, size))
    )
    if bad.any():
        found = f"{lengths[bad][0]} bytes from byte {starts[bad][0]} on"
        raise FormatError(where, f"data inside {table.file_size} bytes", found)
    return Needed(starts, lengths, is_checked)


def _size(column: Column) -> int:
    return math.prod(size for size in column.shape if isinstance(size, int))


def column_width(column: Column) -> int:
    """
    Give the bytes of one entry of a fixed or shared column.

    Parameters
    ----------
    column : Column
        The column.

    Returns
    -------
    int
        Bytes.
    """
    return column.numpy_dtype.itemsize * _size(column)


def common_width(survey: Survey, name: str) -> int:
    """
    Give the bytes of one entry of a common column.

    Parameters
    ----------
    survey : Survey
        The survey.
    name : str
        One of `astropile.names.COMMON_COLUMNS`.

    Returns
    -------
    int
        Bytes.
    """
    assert name in COMMON_COLUMNS
    if name in ("object_id", "observation_id"):
        return survey[str(survey.aliases[name])].numpy_dtype.itemsize
    return 8


def _ragged(
    survey: Survey, table: RowTable, column: Column, rows: NDArray[np.int64], where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Find each row's part of axis 0 of a ragged column, and the bytes of one entry there."""
    dims = survey.ragged_dims(column)
    path = f"ragged/{'.'.join(dims)}.offsets"
    offsets = table.offsets.get(path)
    if offsets is None or len(offsets) != table.n_objects + 1:
        raise FormatError(where, path, "none for every object")
    step, width = ragged_step(survey, column)
    firsts, lasts = offsets[rows], offsets[rows + 1]
    most = MOST_OF_STORED * table.file_size // max(1, step * width)
    if np.any((firsts < 0) | (lasts < firsts) | (lasts > most)):
        raise FormatError(where, f"{path} that grow and stay inside the file", "others")
    return step * firsts, step * lasts, width


def ragged_step(survey: Survey, column: Column) -> tuple[int, int]:
    """
    Say how a ragged column lies along axis 0.

    Parameters
    ----------
    survey : Survey
        The survey.
    column : Column
        The column.

    Returns
    -------
    step : int
        Entries of axis 0 for each step of the offsets.
    width : int
        Bytes of one entry.
    """
    dims = survey.ragged_dims(column)
    leading = len(dims) == 1 and column.shape[0] == dims[0]
    step = 1 if leading else _size(column)
    return step, column.numpy_dtype.itemsize * (_size(column) if leading else 1)


def _chunks(
    place: Place, begins: NDArray[np.int64], ends: NDArray[np.int64], where: str
) -> NDArray[np.int64]:
    """Find the chunks that parts of axis 0 lie in."""
    per_chunk = max(1, place.chunk_rows)
    first, last = begins // per_chunk, (ends - 1) // per_chunk
    if last.max() >= len(place.starts):
        raise FormatError(where, f"at least {last.max() + 1} chunks", f"{len(place.starts)}")
    edges = np.zeros(len(place.starts) + 1, np.int64)
    np.add.at(edges, first, 1)
    np.add.at(edges, last + 1, -1)
    return np.flatnonzero(np.cumsum(edges[:-1]) > 0)
