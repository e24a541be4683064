"""Say which rows of which columns lie in some bytes of a shard: pure, nothing is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astropile.hdf5.needed import column_width, common_width, ragged_step
from astropile.hdf5.rows import Place, RowTable
from astropile.names import COMMON_COLUMNS
from astropile.schema import Survey


@dataclass(frozen=True)
class Touched:
    """
    Rows of a column.

    Parameters
    ----------
    column : str
        Its name.
    first, last : int
        First row of the shard, and the last, included.
    """

    column: str
    first: int
    last: int

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first}-{self.last}"
        return f"{self.column} {rows}"


@dataclass(frozen=True)
class _Entries:
    """What lies along axis 0 of a dataset: how many, their bytes, whose object each is."""

    n: int
    width: int
    ends: NDArray[np.int64] | None = None
    """Where the entries of each object end; None where each object has one entry."""


def touched_rows(survey: Survey, table: RowTable, start: int, stop: int) -> tuple[Touched, ...]:
    """
    Say what lies in some bytes of a shard.

    Parameters
    ----------
    survey : Survey
        The survey as the tree tells it.
    table : RowTable
        Where everything lies.
    start, stop : int
        First byte, and one past the last.

    Returns
    -------
    tuple of Touched
        Columns and rows, in order of the names in the file; empty where it is nothing but what
        HDF5 itself needs.
    """
    found = []
    for path, place in table.places.items():
        kind, _, name = path.rpartition("/")
        entries = _entries(survey, table, path)
        if entries is None:
            continue
        hit = _hit(place, entries, start, stop)
        if hit is None or not table.n_objects:
            continue
        first, last = (0, table.n_objects - 1) if kind == "shared" else _objects(entries, *hit)
        found.append(Touched(name, first, min(last, table.n_objects - 1)))
    return tuple(found)


def _entries(survey: Survey, table: RowTable, path: str) -> _Entries | None:
    """Say what lies along axis 0 of a dataset; None where it is no column of the survey."""
    kind, _, name = path.rpartition("/")
    if path in table.offsets:
        values = table.offsets[path]
        return _Entries(len(values), 8 * math.prod(values.shape[1:]))
    if not kind and name in COMMON_COLUMNS and name not in survey.column_names:
        return _Entries(table.n_objects, common_width(survey, name))
    if name not in survey.column_names:
        return None
    column = survey[name]
    if kind != "ragged":
        return _Entries(1 if kind else table.n_objects, column_width(column))
    offsets = table.offsets.get(f"ragged/{'.'.join(survey.ragged_dims(column))}.offsets")
    if offsets is None or len(offsets) != table.n_objects + 1:
        return None
    step, width = ragged_step(survey, column)
    return _Entries(step * int(offsets[-1]), width, step * offsets[1:])


def _hit(place: Place, entries: _Entries, start: int, stop: int) -> tuple[int, int] | None:
    """Give the first and the last entry that lie in the bytes."""
    if not len(place.starts):
        return None
    if place.sizes is None:
        begin = int(place.starts[0])
        end = begin + entries.n * entries.width
        if begin < 0 or max(start, begin) >= min(stop, end):
            return None
        width = max(1, entries.width)
        return (max(start, begin) - begin) // width, (min(stop, end) - 1 - begin) // width
    starts = place.starts
    inside = np.flatnonzero((starts >= 0) & (starts < stop) & (starts + place.sizes > start))
    if not len(inside):
        return None
    rows = max(1, place.chunk_rows)
    return int(inside[0]) * rows, min((int(inside[-1]) + 1) * rows, entries.n) - 1


def _objects(entries: _Entries, first: int, last: int) -> tuple[int, int]:
    if entries.ends is None:
        return first, last
    objects = np.searchsorted(entries.ends, [first, last], side="right")
    return int(objects[0]), int(objects[1])
