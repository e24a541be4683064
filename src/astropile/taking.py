"""What `take` takes and gives: room for the values, their order, what errors say was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.hdf5.fetch import RowReader
from astropile.schema import Ragged


def check_out(out: Mapping[str, NDArray[Any]] | None, names: Sequence[str]) -> None:
    """
    Refuse what cannot be written into: what is no array, and columns that are not read.

    Parameters
    ----------
    out : mapping of str to ndarray, or None
        The arrays.
    names : sequence of str
        Fixed columns that are read.

    Raises
    ------
    TypeError
        If it is no mapping of arrays.
    ValueError
        If an array cannot be written into, or is of a column that is not read.
    """
    if out is None:
        return
    if not isinstance(out, Mapping):
        raise TypeError(f"out: expected a mapping of names to arrays, found {type(out).__name__}")
    for name, given in out.items():
        if name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(f"out: expected fixed columns that are read ({known}), found {name!r}")
        if not isinstance(given, np.ndarray):
            raise TypeError(f"out[{name!r}]: expected an array, found {type(given).__name__}")
        if not given.flags.writeable:
            raise ValueError(f"out[{name!r}]: expected a writable array, found a read-only one")


def make_rooms(
    reader: RowReader, names: list[str], n_rows: int, out: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """
    Make room for fixed columns, or take the room that the caller gives.

    Parameters
    ----------
    reader : RowReader
        A shard.
    names : list of str
        Fixed columns.
    n_rows : int
        Rows that are read in all.
    out : mapping of str to ndarray, or None
        What the caller gives.

    Returns
    -------
    dict of str to ndarray
        An array for each column.

    Raises
    ------
    ValueError
        If an array is not of the column's dtype and shape.
    """
    rooms: dict[str, NDArray[Any]] = {}
    for name in names:
        given = None if out is None else out.get(name)
        if given is None:
            rooms[name] = reader.room(name, n_rows)
            continue
        wanted = reader.room(name, 0)
        shape = (n_rows, *wanted.shape[1:])
        if given.shape != shape or given.dtype != wanted.dtype or not given.flags.c_contiguous:
            raise ValueError(
                f"room for column {name!r}: expected {wanted.dtype} {shape}, C-contiguous, "
                f"found {given.dtype} {given.shape}"
            )
        rooms[name] = given
    return rooms


def arrange(parts: Sequence[Ragged], places: NDArray[np.int64]) -> Ragged:
    """
    Put what the shards gave, one shard after another, in the order asked for.

    Parameters
    ----------
    parts : sequence of Ragged
        The values.
    places : ndarray, shape (n,), int64
        The place of each, one part after another.

    Returns
    -------
    Ragged
        All of them.
    """
    values = np.concatenate([part.values for part in parts])
    shapes = np.concatenate([part.shapes for part in parts])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    order = np.argsort(places)
    offsets = np.concatenate(([0], np.cumsum(lengths[order])))
    if np.all(order == np.arange(len(order))):
        return Ragged(values, offsets, shapes)
    starts = np.cumsum(lengths) - lengths
    pieces = [values[starts[row] : starts[row] + lengths[row]] for row in order]
    return Ragged(np.concatenate([values[:0], *pieces]), offsets, shapes[order])


def asked(names: Sequence[str], rows: NDArray[np.int64]) -> str:
    """
    Say in a message which columns and rows of a shard were asked for.

    Parameters
    ----------
    names : sequence of str
        Columns.
    rows : ndarray, shape (n,), int64
        Rows of the shard.

    Returns
    -------
    str
        To be put behind the name of the file.

    Examples
    --------
    >>> asked(["FLUX", "Z"], np.array([7, 3]))
    ", columns 'FLUX', 'Z', rows 3 to 7"
    """
    columns = ", ".join(repr(name) for name in names)
    said = f", column{'s' * (len(names) > 1)} {columns}"
    if not len(rows):
        return said
    first, last = int(rows.min()), int(rows.max())
    return f"{said}, row {first}" if first == last else f"{said}, rows {first} to {last}"
